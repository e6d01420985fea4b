"""Parquet files of some kilobytes that would come to gigabytes: refused before they do."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from erpo_hub.errors import UserError
from erpo_hub.parquet_file import open_parquet, unpacked_bytes
from erpo_hub.publish.contents import read_contents
from erpo_hub.tasks.files import read_file
from erpo_hub.traces import parquet
from erpo_hub.traces.trace import Trace
from erpo_hub.ui.library.completions import COLUMN, traces_from_completions

TEXT, ROWS = "x" * (1 << 20), 3000  # as if of 3 GB


def repeated(value: pa.Array, rows: int = ROWS) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), value)


def write(path: Path, columns: dict[str, pa.Array]) -> Path:
    pq.write_table(
        pa.table(columns), path, compression="zstd", store_schema=False, dictionary_pagesize_limit=8 << 20
    )
    assert path.stat().st_size < 100_000
    return path


def bomb(path: Path) -> Path:
    """A trace, so many times, whose prompt is stored once."""
    trace = Trace("1+1=", "2", [1], [2], ["2"], [0.0], [0.0], [[]], [[]], 10, "m")
    rows = pa.Table.from_pylist([parquet._packed(trace.to_dict())], schema=parquet.SCHEMA)
    columns = {name: rows[name].combine_chunks().take(pa.array([0] * ROWS)) for name in rows.column_names}
    return write(path, columns | {"prompt": repeated(pa.array([TEXT]))})


@pytest.mark.parametrize("read", [Trace.from_parquet, read_file, lambda f: Trace.from_parquet(f, [0])])
def test_a_text_stored_once_is_not_unpacked_a_thousand_times(read: Callable, tmp_path: Path):
    before = pa.total_allocated_bytes()
    with pytest.raises(UserError, match="comes to more than"):
        read(bomb(tmp_path / "bomb.parquet"))
    assert pa.default_memory_pool().max_memory() - before < 1 << 30


def test_logged_completions_are_bounded_too(tmp_path: Path):
    logged = pa.array([{"ids": []}] * ROWS)
    file = write(tmp_path / "completions_1.parquet", {COLUMN: logged, "prompt": repeated(pa.array([TEXT]))})
    with pytest.raises(UserError, match="comes to more than"):
        traces_from_completions(file, tokenizer=object())


def test_a_text_stored_once_is_searched_once(tmp_path: Path):
    tracemalloc.start()
    found = read_contents(bomb(tmp_path / "bomb.parquet"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sum(text.count(TEXT) for text in found.texts) == 1
    assert peak < 64 << 20


def test_more_rows_than_a_group_can_hold_are_refused(tmp_path: Path):
    file = write(tmp_path / "rows.parquet", {"n": repeated(pa.array([7]), 1_000_000)})
    with pytest.raises(UserError, match="cannot be true"), open_parquet(file, 1 << 20):
        pass


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["ab", None, "ab"]),
        pa.array([["ab", "c"], None, ["ab"]]),
        pa.array([{"a": "ab"}, {"a": None}, {"a": "ab"}]),
        pa.array([[("k", "ab")], [], [("k", "ab")]], pa.map_(pa.string(), pa.string())),
        pa.array([b"ab", None, b"ab"]),
        pa.DictionaryArray.from_arrays(pa.array([0, None, 0], pa.int8()), pa.array([5])),
        pa.array([1.5, None, 2.5]),
        pa.array([b"abcd", None, b"abcd"], pa.binary(4)),
    ],
)
def test_every_type_is_counted_and_read_as_before(column: pa.Array, tmp_path: Path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"c": column}), path)
    with open_parquet(path, 1 << 20) as source:
        table = source.read()
        assert table.to_pylist() == [{"c": value} for value in column.to_pylist()]
        assert 4 <= unpacked_bytes(table) < 200
