"""Rows of a local .jsonl, .json, .parquet or .csv as dictionaries. Leaves out what the columns mean.

Read plainly, not through `datasets`, which would keep a second copy in its cache and cannot name a bad line.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from ..errors import UserError


def read_file(path: Path) -> list[dict[str, Any]]:
    """All rows of a file. Raises UserError where it is empty or not what its name says."""
    if path.stat().st_size == 0:
        raise UserError(f"{path}: the file is empty; give rows with prompt and answer")
    try:
        if path.suffix == ".parquet":
            return _parquet(path)
        with path.open(encoding="utf-8-sig", newline="") as stream:
            if path.suffix == ".csv":
                rows = list(csv.DictReader(stream))
            elif path.suffix == ".json":
                rows = json.load(stream)
            else:
                rows = [
                    _json_line(path, number, line) for number, line in enumerate(stream, 1) if line.strip()
                ]
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as {path.suffix[1:]} ({error}); correct the file") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{path}: is not a list of rows; give objects with prompt and answer")
    return rows


def _parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path).to_pylist()
    except pa.ArrowException as error:
        raise UserError(f"{path}: cannot be read as parquet ({error}); correct the file") from error


def _json_line(path: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: line {number} is not JSON ({error}); correct it") from error
