"""Traces in Parquet: one row a trace, lists as list columns, small row groups.

A reader takes the footer and the row groups that it needs, never the file: see benchmarks/trace_io.py.
A row is a trace's JSON form (`Trace.to_dict`); what it means is trace.py's, which is the only caller.
May import pyarrow.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import UserError
from ..parquet_file import open_parquet, unpacked_bytes
from ..text import beside

T = TypeVar("T")
Row = dict[str, Any]
ROWS_PER_GROUP = 128
TOKENS_PER_GROUP = 250_000  # long traces make smaller groups, so that reading one stays cheap
MAX_GROUP_BYTES = 1 << 30  # unpacked: a larger group is refused
MAX_BYTES = 4 << 30  # of all rows that are asked for

_IDS, _NUMBERS, _TEXTS = pa.list_(pa.int32()), pa.list_(pa.float64()), pa.list_(pa.string())
SCHEMA = pa.schema(
    {
        "schema_version": pa.int32(),
        "model": pa.string(),
        "revision": pa.string(),
        "prompt": pa.string(),
        "completion": pa.string(),
        "answer": pa.string(),
        "gold": pa.string(),
        "correct": pa.bool_(),
        "finish_reason": pa.string(),
        "generation": pa.string(),  # JSON: settings differ from trace to trace
        "vocab_size": pa.int32(),
        "prompt_tokens": _IDS,
        "tokens": _IDS,
        "pieces": _TEXTS,
        "entropy": _NUMBERS,
        "logprob": _NUMBERS,
        "sampling_logprob": _NUMBERS,
        "topk_ids": pa.list_(_IDS),
        "topk_probs": pa.list_(_NUMBERS),
        "pivots": _IDS,
        "pivot_rule": pa.struct({"quantile": pa.float64(), "min_entropy": pa.float64()}),
        "sensitivity": _NUMBERS,
        # not Arrow's map type: `datasets` and the Hub's dataset viewer can't read it
        "strings": pa.list_(pa.struct({"id": pa.int32(), "text": pa.string()})),
        "columns": pa.list_(pa.struct({"name": pa.string(), "values": _NUMBERS})),
    }
)
_NEW = {"pivot_rule", "columns"}  # columns that older files do not have


def write_rows(rows: Iterable[Row], path: Path) -> Path:
    """Write the rows, streamed group by group; the file appears under its name only when complete."""
    with (
        beside(path) as fresh,
        pq.ParquetWriter(fresh, SCHEMA, compression="zstd", store_schema=False) as writer,
    ):
        for group in _groups(rows):
            writer.write_table(pa.Table.from_pylist([_packed(row) for row in group], schema=SCHEMA))
    return path


def _groups(rows: Iterable[Row]) -> Iterator[list[Row]]:
    group: list[Row] = []
    tokens = 0
    for row in rows:
        group.append(row)
        tokens += len(row["prompt_tokens"]) + len(row["tokens"])
        if len(group) == ROWS_PER_GROUP or tokens >= TOKENS_PER_GROUP:
            yield group
            group, tokens = [], 0
    if group:
        yield group


def read_rows(path: Path, make: Callable[[Row], T], rows: Sequence[int] | None = None) -> list[T]:
    """`make` of every row, or of the `rows` asked for, of a file or of a folder of them in order of names.

    Raises UserError, which names the file and the row, also for what `make` refuses.
    """
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise UserError(f"{path}: contains no *.parquet file")
    found: dict[int, T] = {}
    order: list[int] = []
    first, left = 0, [MAX_BYTES]
    for file in files:
        with _open(file) as source:
            count = source.metadata.num_rows
            wanted = range(count) if rows is None else [r - first for r in rows if first <= r < first + count]
            for number, made in _read(file, source, wanted, make, left):
                found[first + number] = made
        order += range(first, first + count) if rows is None else []
        first += count
    order = order if rows is None else list(rows)
    if outside := [r for r in order if r not in found]:
        raise UserError(f"{path}: trace {outside[0]} is out of range; it has 0 .. {first - 1}")
    return [found[r] for r in order]


@contextmanager
def _open(file: Path) -> Iterator[pq.ParquetFile]:
    """Open by the footer, after checking that the footer's sizes can be true."""
    try:
        opened = open_parquet(file, MAX_GROUP_BYTES)
        source = opened.__enter__()
    except (OSError, ValueError, pa.ArrowException) as e:
        raise UserError(f"{file}: not a readable Parquet file ({e})") from None
    try:
        if missing := [n for n in SCHEMA.names if n not in source.schema_arrow.names and n not in _NEW]:
            raise UserError(f"{file}: not a file of traces: column {missing[0]!r} is missing")
        yield source
    finally:
        opened.__exit__(None, None, None)


def _read(
    file: Path, source: pq.ParquetFile, wanted: Sequence[int], make: Callable[[Row], T], left: list[int]
) -> Iterable[tuple[int, T]]:
    schema = pa.schema([column for column in SCHEMA if column.name in source.schema_arrow.names])
    starts = [0]
    for g in range(source.metadata.num_row_groups):
        starts.append(starts[-1] + source.metadata.row_group(g).num_rows)
    for g in range(source.metadata.num_row_groups):
        inside = [r for r in wanted if starts[g] <= r < starts[g + 1]]
        if not inside:
            continue
        try:
            table = source.read_row_group(g, columns=schema.names)
            size = unpacked_bytes(table)
            left[0] -= size * len(inside) // max(1, len(table))
            if left[0] < 0:
                raise UserError(f"{file}: its traces come to more than {MAX_BYTES >> 30} GiB; refused")
            if size > MAX_GROUP_BYTES:
                raise UserError(
                    f"{file}: row group {g} comes to more than {MAX_GROUP_BYTES >> 30} GiB; refused"
                )
            table = table.cast(schema)
        except (OSError, pa.ArrowException) as e:
            raise UserError(f"{file}: row group {g} is damaged ({e})") from None
        except ValueError as e:  # columns of the right names and the wrong types
            raise UserError(f"{file}: not a file of traces ({e})") from None
        for r in inside:
            try:
                yield r, make(_unpacked(table.slice(r - starts[g], 1).to_pylist()[0]))
            except (UserError, ValueError, KeyError, TypeError, RecursionError) as e:
                raise UserError(f"{file}: trace {r}: {e}") from None


def _packed(row: Row) -> Row:
    generation = json.dumps(row["generation"], ensure_ascii=False, allow_nan=False)
    strings = [{"id": int(i), "text": text} for i, text in row["strings"].items()]
    columns = [{"name": name, "values": values} for name, values in row.get("columns", {}).items()]
    return {**row, "generation": generation, "strings": strings, "columns": columns}


def _unpacked(row: Row) -> Row:
    row["generation"] = json.loads(row["generation"] or "{}")
    if columns := row.pop("columns", None):
        row["columns"] = {entry["name"]: entry["values"] for entry in columns}
    row["strings"] = {str(entry["id"]): entry["text"] for entry in row["strings"] or []}
    return row
