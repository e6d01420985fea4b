"""Parquet files of anybody, read without unpacking a text that is stored once into all the rows that name it.

A file of ten kilobytes can state one text and a million rows of it. So texts stay in their dictionaries until
it is known what they come to; and equal numbers are counted by their pages' headers (parquet_pages), since a
kilobyte can also hold a list of a billion. Left out: Arrow's own memory safety.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import UserError
from .parquet_pages import Damaged, stated

if TYPE_CHECKING:
    import pyarrow.parquet as pq

LONGEST_FIXED = 4096  # bytes of one value of a type of fixed size
WIDEST = 8  # bytes of a number
MOST_IN_ALL = 4 << 30  # bytes of all row groups
FREE_VALUES, VALUES_A_BYTE = 8_000_000, 8  # of a file: as Python's objects a value takes 30 bytes and more


@contextmanager
def open_parquet(path: Path, most: int) -> Iterator[pq.ParquetFile]:
    """The file, its texts read as dictionaries. most: bytes that a row group may come to.

    Raises UserError where the footer states sizes that cannot be true, and what Arrow raises for other files.
    """
    import pyarrow.parquet as pq

    leaves = check_parquet(path, most)
    texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
    with pq.ParquetFile(path, read_dictionary=texts) as source:
        yield source


def check_parquet(path: Path, most: int) -> list[Any]:
    """The columns of a file, looked over before anything of it is decoded. Raises as `open_parquet`."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as source:
        footer, schema = source.metadata, source.schema
        leaves = [schema.column(i) for i in range(len(schema))]
    if any(leaf.physical_type == "FIXED_LEN_BYTE_ARRAY" and leaf.length > LONGEST_FIXED for leaf in leaves):
        raise UserError(f"{path}: has values of more than {LONGEST_FIXED} bytes each; refused")
    # not column by column: Arrow ends the process where a column's own statistics are damaged
    _check_pages(path, [footer.row_group(number) for number in range(footer.num_row_groups)], leaves, most)
    return leaves


def _check_pages(path: Path, groups: list[Any], leaves: list[Any], most: int) -> None:
    """Raises UserError where a row group or the file would come to more than it may."""
    widths = [
        max(WIDEST, leaf.length if leaf.physical_type == "FIXED_LEN_BYTE_ARRAY" else 0) for leaf in leaves
    ]
    allowed, in_all = FREE_VALUES + VALUES_A_BYTE * path.stat().st_size, 0
    try:
        pages = list(stated(path))
    except Damaged as error:
        raise UserError(f"{path}: is not a readable Parquet file ({error})") from None
    if len(pages) != len(groups) or any(len(columns) != len(leaves) for columns in pages):
        raise UserError(f"{path}: is not a readable Parquet file (a row group lacks columns)")
    for number, (group, columns) in enumerate(zip(groups, pages)):
        unpacked = sum(c.values * width for c, width in zip(columns, widths))
        sizes = (group.total_byte_size, WIDEST * group.num_rows, unpacked, sum(c.size for c in columns))
        if min(sizes) < 0 or max(sizes) > most:
            raise UserError(f"{path}: row group {number} states sizes that cannot be true; refused")
        in_all += max(sizes)
        if in_all > MOST_IN_ALL:
            raise UserError(f"{path}: comes to more than {MOST_IN_ALL >> 30} GiB; give it in parts")
        if any(c.delta for c in columns):
            raise UserError(f"{path}: has texts in the encoding DELTA_BYTE_ARRAY; write it with another one")
        allowed -= max(group.num_rows, sum(c.values for c in columns))
        if allowed < 0:
            raise UserError(f"{path}: a file of its size with so many equal values is refused")


def unpacked_bytes(table: Any) -> int:
    """Bytes that a table or batch comes to once every row holds its own texts."""
    return sum(_bytes(chunk) for column in table.columns for chunk in getattr(column, "chunks", [column]))


def _texts() -> tuple[Any, ...]:
    from pyarrow import types

    return types.is_string, types.is_large_string, types.is_binary, types.is_large_binary


def _bytes(array: Any) -> int:
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return _bytes(array.storage)
    if pa.types.is_dictionary(kind):
        if not any(is_kind(kind.value_type) for is_kind in _texts()):
            return WIDEST * len(array)
        longest = pc.binary_length(array.dictionary.cast(pa.large_binary()))
        return array.indices.nbytes + (pc.sum(longest.take(array.indices)).as_py() or 0)
    if pa.types.is_struct(kind):
        return sum(map(_bytes, array.flatten()))
    if pa.types.is_map(kind):
        return _bytes(array.keys) + _bytes(array.items)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _bytes(array.flatten())
    return int(array.nbytes)
