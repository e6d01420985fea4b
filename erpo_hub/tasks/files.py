"""Rows of a local file or of a `save_to_disk` folder as dictionaries. Leaves out what the columns mean.

Files are read plainly, not through `datasets`, which would keep a second copy in its cache and cannot name a
bad line.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO

from ..errors import UserError
from ..parquet_file import open_parquet, unpacked_bytes
from ..text import lines_of

MAX_UNPACKED = 1 << 30  # bytes that a packed file or a Parquet file may come to
KINDS = (".jsonl", ".ndjson", ".json", ".parquet", ".csv", ".tsv")  # all but .parquet may end in .gz too


def kind_of(path: Path) -> str | None:
    """The format that a file's name states, one of KINDS; None for any other name."""
    name = path.name.lower()
    packed = name.endswith(".gz")
    kind = Path(name.removesuffix(".gz")).suffix
    return kind if kind in KINDS and not (packed and kind == ".parquet") else None


def is_saved_dataset(path: Path) -> bool:
    """Whether `save_to_disk` of a Dataset or a DatasetDict wrote this folder."""
    return any((path / name).is_file() for name in ("dataset_info.json", "dataset_dict.json"))


def read_file(path: Path) -> list[dict[str, Any]]:
    """All rows of a file. Raises UserError where it is empty or not what its name says."""
    if path.stat().st_size == 0:
        raise UserError(f"{path}: the file is empty; give rows with prompt and answer")
    kind = kind_of(path) or ".jsonl"
    try:
        if kind == ".parquet":
            return _parquet(path)
        with _text(path) as stream:
            if kind in (".csv", ".tsv"):
                rows = _table(path, stream, "\t" if kind == ".tsv" else ",")
            elif kind == ".json":
                rows = _json(path, stream.read())
            else:
                rows = _json_lines(path, stream)
    except (OSError, EOFError, ValueError, RecursionError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as {kind[1:]} ({error}); correct the file") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{path}: is not a list of rows; give objects with prompt and answer")
    return rows


def read_saved(path: Path) -> Any:
    """The Dataset or DatasetDict of a `save_to_disk` folder. Raises UserError for a damaged one."""
    import pyarrow as pa
    from datasets import load_from_disk

    try:
        return load_from_disk(str(path))
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{path}: cannot be read as a saved dataset ({reason}); save it again") from error


@contextmanager
def _text(path: Path) -> Iterator[TextIO]:
    if path.suffix.lower() == ".gz":
        with _Unpacked(path) as data, TextIOWrapper(data, encoding="utf-8-sig", newline="") as stream:
            yield stream
    else:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            yield stream


class _Unpacked(gzip.GzipFile):
    """A packed file that is not a bomb. Raises UserError where more comes out of it."""

    left = MAX_UNPACKED

    def read(self, size: int | None = -1) -> bytes:
        return self._counted(super().read(self.left + 1 if size is None or size < 0 else size))

    def read1(self, size: int = -1) -> bytes:
        return self._counted(super().read1(size))

    def _counted(self, data: bytes) -> bytes:
        self.left -= len(data)
        if self.left < 0:
            raise _too_large(Path(self.name))
        return data


def _too_large(path: Path) -> UserError:
    return UserError(f"{path}: comes to more than {MAX_UNPACKED >> 30} GiB; give it in parts")


def _table(path: Path, stream: TextIO, delimiter: str) -> list[dict[str, Any]]:
    rows = list(csv.DictReader(stream, delimiter=delimiter))
    if long := next((number for number, row in enumerate(rows, 2) if None in row), None):
        raise UserError(
            f"{path}: row {long} has more cells than the header; quote cells with a {delimiter!r}"
        )
    return rows


def _json(path: Path, text: str) -> Any:
    """A JSON document; where that fails after its first value, JSON lines under a .json name."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        lines = lines_of(text)
        if not error.msg.startswith("Extra data") or not lines[0].rstrip().endswith("}"):
            raise
        return _json_lines(path, lines)


def _json_lines(path: Path, lines: Any) -> list[Any]:
    return [_json_line(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]


def _parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow as pa

    rows: list[dict[str, Any]] = []
    size = 0
    try:
        with open_parquet(path, MAX_UNPACKED) as file:
            for group in range(file.num_row_groups):  # Arrow joins no nested texts of two groups
                for batch in file.iter_batches(batch_size=1000, row_groups=[group]):
                    size += unpacked_bytes(batch)
                    if size > MAX_UNPACKED:
                        raise _too_large(path)
                    rows += batch.to_pylist()
        return rows
    except pa.ArrowException as error:
        raise UserError(f"{path}: cannot be read as parquet ({error}); correct the file") from error


def _json_line(path: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: line {number} is not JSON ({error}); correct it") from error
