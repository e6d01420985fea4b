"""Parquet files of a kilobyte with millions of equal values: counted by their pages and refused unread."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from erpo_hub import parquet_file
from erpo_hub.errors import UserError
from erpo_hub.parquet_file import open_parquet
from erpo_hub.parquet_pages import stated
from erpo_hub.publish.contents import read_contents
from erpo_hub.tasks.files import read_file
from erpo_hub.traces import parquet
from erpo_hub.traces.trace import Trace
from erpo_hub.ui.library.completions import COLUMN, traces_from_completions

MANY = 9_000_000
TRACE = Trace("1+1=", "2", [1], [2], ["2"], [0.0], [0.0], [[]], [[]], 10, "m")


def equal(kind: pa.DataType, rows: int = 1, many: int = MANY) -> pa.Array:
    """Rows that are lists of so many zeros."""
    values = pa.array(np.zeros(rows * many), kind)
    return pa.ListArray.from_arrays(pa.array(range(0, rows * many + 1, many), pa.int32()), values)


def write(path: Path, columns: dict[str, pa.Array], **how: object) -> Path:
    pq.write_table(pa.table(columns), path, compression="zstd", store_schema=False, **how)
    assert path.stat().st_size < 50_000
    return path


def trace_bomb(path: Path, **how: object) -> Path:
    rows = pa.Table.from_pylist([parquet._packed(TRACE.to_dict())], schema=parquet.SCHEMA)
    columns = {name: rows[name].combine_chunks() for name in rows.column_names}
    return write(path, columns | {"entropy": equal(pa.float64())}, **how)


def understate(path: Path, many: int, said: int) -> Path:
    """Change the number of values in the footer, in a varint of the same length; the pages keep theirs."""
    data = path.read_bytes()
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    true = varint(2 * many)
    path.write_bytes(data[:footer] + data[footer:].replace(true, varint(2 * said, len(true))))
    return path


def varint(value: int, length: int = 0) -> bytes:
    parts = []
    while value or len(parts) < length or not parts:
        parts.append(value & 127)
        value >>= 7
    return bytes(part | 128 for part in parts[:-1]) + bytes(parts[-1:])


@pytest.mark.parametrize("how", [{}, {"data_page_version": "2.0"}, {"use_dictionary": False}])
@pytest.mark.parametrize("read", [Trace.from_parquet, read_file, lambda f: Trace.from_parquet(f, [0])])
def test_a_list_of_equal_numbers_is_not_read(read: Callable, how: dict, tmp_path: Path):
    file = trace_bomb(tmp_path / "bomb.parquet", **how)
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    with pytest.raises(UserError, match="so many equal values is refused"):
        read(file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20
    assert pa.default_memory_pool().bytes_allocated() - before < 8 << 20


def test_a_footer_that_says_less_than_the_pages_is_not_believed(tmp_path: Path):
    small = understate(write(tmp_path / "a.parquet", {"n": equal(pa.int32(), many=300_000)}), 300_000, 7)
    assert len(pq.ParquetFile(small).read_row_group(0)["n"][0]) == 300_000  # what Arrow does with it
    assert [[column.values for column in group] for group in stated(small)] == [[300_000]]
    large = understate(write(tmp_path / "b.parquet", {"n": equal(pa.int32())}), MANY, 7)
    with pytest.raises(UserError, match="so many equal values"):
        read_file(large)
    assert "so many equal values" in str(read_contents(large).problem)


@pytest.mark.parametrize(
    "columns",
    [
        {"n": pa.array(np.zeros(MANY), pa.int8())},  # no list: rows, each of them a dictionary in Python
        {"n": pa.array([None] * MANY, pa.int8())},
        {"n": pa.DictionaryArray.from_arrays(pa.array(np.zeros(MANY), pa.int32()), pa.array(["x"]))},
    ],
    ids=["numbers", "nulls", "a text"],
)
def test_millions_of_equal_rows_are_refused(columns: dict, tmp_path: Path):
    with pytest.raises(UserError, match="so many equal values"):
        read_file(write(tmp_path / "rows.parquet", columns))


def test_logged_completions_are_bounded_too(tmp_path: Path):
    logged = pa.StructArray.from_arrays([equal(pa.int32())], ["ids"])
    file = write(tmp_path / "completions_1.parquet", {COLUMN: logged})
    with pytest.raises(UserError, match="so many equal values"):
        traces_from_completions(file, tokenizer=object())


def test_wide_values_of_fixed_size_are_counted_by_their_size(tmp_path: Path):
    wide = pa.array([b"x" * 4096], pa.binary(4096)).take(pa.array(np.zeros(20_000, np.int32)))
    file = write(tmp_path / "wide.parquet", {"n": wide})
    with pytest.raises(UserError, match="cannot be true"), open_parquet(file, 64 << 20):
        pass


def test_texts_stored_as_differences_are_refused(tmp_path: Path):
    texts = pa.array(["x" * n for n in range(3000)])  # 3 KB that come to 4.5 MB; a megabyte to a terabyte
    how = {"use_dictionary": False, "column_encoding": {"n": "DELTA_BYTE_ARRAY"}}
    with pytest.raises(UserError, match="DELTA_BYTE_ARRAY"):
        read_file(write(tmp_path / "delta.parquet", {"n": texts}, **how))


def test_a_page_that_unpacks_to_gigabytes_is_refused(tmp_path: Path):
    file = write(tmp_path / "zeros.parquet", {"n": pa.array([b"\0" * (40 << 20)])}, use_dictionary=False)
    with pytest.raises(UserError, match="cannot be true"), open_parquet(file, 32 << 20):
        pass


def test_a_header_that_many_chunks_lead_to_is_not_read_again_and_again(tmp_path: Path):
    """A file of 40 KB: 300 row groups, each of them with the same page, and its header of 30,000 fields."""
    count, footer = 300, pq_footer
    header = number(1, 0) + number(1, 4) + number(1, 4)  # a data page, its sizes
    header += b"\x2c" + number(1, 1) + number(1, 0) + number(1, 3) + number(1, 3) + b"\0"
    header += (
        b"\x01" + varint(200) + b"\x11" * 30_000 + b"\0"
    )  # fields from the hundredth on that nobody knows, each of them true
    file = tmp_path / "a.parquet"
    page = header + (7).to_bytes(4, "little")
    tail = footer(count, len(page))
    file.write_bytes(b"PAR1" + page + tail + len(tail).to_bytes(4, "little") + b"PAR1")
    assert file.stat().st_size < 50_000
    assert pq.ParquetFile(file).read().to_pydict() == {"a": [7] * count}  # what Arrow does with it
    for read in (read_file, Trace.from_parquet):
        with pytest.raises(UserError, match="too many pages, or headers that are too long"):
            read(file)
    assert "too many" in str(read_contents(file).problem)


def pq_footer(groups: int, length: int) -> bytes:
    """Of a file with one column of whole numbers, every row group of which is the page at 4."""
    schema = b"\x48\x01s\x15\x02\0" + b"\x15\x02\x25\0\x18\x01a\0"
    column = number(1, 1) + b"\x19\x15\0" + b"\x19\x18\x01a" + number(1, 0)
    column += number(1, 1, 6) + number(1, length, 6) + number(1, length, 6) + number(2, 4, 6) + b"\0"
    group = b"\x19\x1c" + number(2, 4, 6) + b"\x1c" + column + b"\0" + number(1, length, 6)
    group += number(1, 1, 6) + b"\0"
    return (
        number(1, 1) + b"\x19\x2c" + schema + number(1, groups, 6)
        + b"\x19\xfc" + varint(groups) + group * groups + b"\0"
    )  # fmt: skip


def number(step: int, value: int, kind: int = 5) -> bytes:
    """A field of Thrift: so many after the one before, a whole number that is not negative."""
    return bytes([step << 4 | kind]) + varint(2 * value)


def test_all_row_groups_together_are_bounded_whatever_the_footer_says(tmp_path: Path, monkeypatch):
    size = 1 << 20
    file = tmp_path / "a.parquet"
    with pq.ParquetWriter(
        file, pa.schema({"n": pa.string()}), compression="zstd", use_dictionary=False
    ) as to:
        for _ in range(5):
            to.write_table(pa.table({"n": ["x" * size]}))
    true = pq.ParquetFile(file).metadata.row_group(0).total_byte_size
    understate(file, true, 7)
    assert pq.ParquetFile(file).metadata.row_group(0).total_byte_size == 7
    assert read_contents(file).problem is None
    monkeypatch.setattr(parquet_file, "MOST_IN_ALL", 3 * size)
    assert "comes to more than" in str(read_contents(file).problem)


def test_all_traces_together_are_bounded(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(parquet, "ROWS_PER_GROUP", 1)
    file = TRACE.to_parquet([TRACE.replace(prompt="x" * 1000)] * 8, tmp_path / "a.parquet")
    monkeypatch.setattr(parquet, "MAX_BYTES", 6000)
    assert len(Trace.from_parquet(file, [1, 7])) == 2
    with pytest.raises(UserError, match="come to more than"):
        Trace.from_parquet(file)


def test_a_damaged_page_or_footer_is_one_line(tmp_path: Path):
    """Bytes of a real file changed: it is read or refused, and Arrow does not end the process."""
    script = """if True:
        import sys
        from pathlib import Path
        from erpo_hub.errors import UserError
        from erpo_hub.traces.trace import Trace
        file = Path(sys.argv[1])
        sound = file.read_bytes()
        for at in range(4, len(sound), 13):
            for byte in (0, 255):
                file.write_bytes(sound[:at] + bytes([byte]) + sound[at + 1:])
                try:
                    Trace.from_parquet(file)
                except UserError as error:
                    assert "\\n" not in str(error)
        print("done")
    """
    file = TRACE.to_parquet([TRACE], tmp_path / "a.parquet")
    done = subprocess.run([sys.executable, "-c", script, file], capture_output=True, text=True, check=False)
    assert done.stdout == "done\n", done.stderr[-500:]


@pytest.mark.parametrize("rows", [0, 1, 1000])
def test_sound_files_state_what_the_footer_states(rows: int, tmp_path: Path):
    columns = {
        "a": pa.array([["x", None]] * rows, pa.list_(pa.string())),
        "b": pa.array(
            [{"c": 1.5, "d": [[1], []]}] * rows,
            pa.struct({"c": pa.float64(), "d": pa.list_(pa.list_(pa.int8()))}),
        ),
        "e": pa.array([[("k", b"v")]] * rows, pa.map_(pa.string(), pa.binary())),
    }
    for number, how in enumerate(
        ({}, {"data_page_version": "2.0"}, {"data_page_size": 64, "row_group_size": 300})
    ):
        file = tmp_path / f"{number}.parquet"
        pq.write_table(pa.table(columns), file, **how)
        footer = pq.ParquetFile(file).metadata
        groups = [footer.row_group(g) for g in range(footer.num_row_groups)]
        wanted = [[group.column(c).num_values for c in range(group.num_columns)] for group in groups]
        assert [[column.values for column in group] for group in stated(file)] == wanted
        assert read_file(file) == pa.table(columns).to_pylist()
