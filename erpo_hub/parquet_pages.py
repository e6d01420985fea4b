"""How many values the pages of a Parquet file hold, read from their headers before anything is decoded.

A page of some bytes can hold a billion equal numbers (run lengths), and a footer may say otherwise. The
headers themselves can't lie: a decoder takes from a page the number of values that its header states. They
are read as Arrow reads them: from a chunk's first page on, until as many values were met as the footer states
for it. Thrift's compact protocol; of it, what is not asked for is skipped. Imports the standard library only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

MOST_FOOTER = 16 << 20  # bytes
HEADERS = (4096, 1 << 20)  # bytes tried for a page's header, which has its least and greatest value in it
MOST_PAGES = 1_000_000  # of a file
MOST_STEPS = 1 << 24  # bytes of all headers that are looked at one by one, at most those that a file has
MOST_LEVELS = 32  # of structs within structs
PADDING = 100  # bytes that Arrow reads beyond a chunk of some old writers
DELTA_BYTE_ARRAY = 7  # texts that begin as the one before: a million of them from a megabyte

# The fields that are asked for, by number: int, a struct with its own, or a list of such structs.
_FOOTER = {4: [{1: [{3: {5: int, 7: int, 9: int, 11: int}}]}]}
_PAGE = {1: int, 2: int, 3: int, 5: {1: int, 2: int}, 8: {1: int, 4: int}}
_VALUES, _LENGTH, _DATA, _DICTIONARY = 5, 7, 9, 11  # of a chunk
_V1, _V2 = (0, 5, 2), (3, 8, 4)  # kinds of a data page: its type, its header's field, its encoding's


class Damaged(ValueError):
    """It is not Parquet, or was changed."""


@dataclass
class Stated:
    """What the pages of one column in one row group state. size: bytes once unpacked."""

    values: int = 0
    size: int = 0
    delta: bool = False  # whether texts are stored as differences


def stated(path: Path) -> Iterator[list[Stated]]:
    """For each row group what its columns state, in the order of its leaves. Raises Damaged, OSError."""
    with path.open("rb") as file:
        end = file.seek(0, 2)
        file.seek(max(0, end - 8))
        tail = file.read(8)
        length = int.from_bytes(tail[:4], "little")
        if tail[4:] != b"PAR1" or not 0 < length <= min(end - 8, MOST_FOOTER):
            raise Damaged("it has no footer, or one that is too long")
        file.seek(end - 8 - length)
        groups = _Thrift(file.read(length)).struct(_FOOTER).get(4, [])
        left = _Left(steps=min(end, MOST_STEPS))  # many chunks of a footer can lead to one and the same page
        for group in groups:
            yield [_chunk(file, chunk.get(3, {}), left) for chunk in group.get(1, [])]


@dataclass
class _Left:
    """What may still be read of a file."""

    steps: int
    pages: int = MOST_PAGES

    def take(self, steps: int) -> None:
        self.pages -= 1
        self.steps -= steps
        if min(self.pages, self.steps) < 0:
            raise Damaged("it has too many pages, or headers that are too long")


def _chunk(file: BinaryIO, chunk: dict[int, Any], left: _Left) -> Stated:
    found = Stated()
    at, dictionary = chunk.get(_DATA, -1), chunk.get(_DICTIONARY, 0)
    at = dictionary if 0 < dictionary < at else at
    wanted, length = chunk.get(_VALUES, -1), chunk.get(_LENGTH, -1)
    if min(at, wanted, length) < 0:
        raise Damaged("a column has a negative size")
    end = at + length + PADDING
    while found.values < wanted and at < end:
        page, read, steps = _header(file, at)
        left.take(steps)
        unpacked, packed = page.get(2, -1), page.get(3, -1)
        if unpacked < 0 or packed < 0:
            raise Damaged("a page has a negative size")
        for kind, field, encoding in (_V1, _V2):
            if page.get(1) == kind:
                values = page.get(field, {}).get(1, -1)
                if values < 0:
                    raise Damaged("a page has a negative number of values")
                found.values += values
                found.delta |= page[field].get(encoding) == DELTA_BYTE_ARRAY
        found.size += unpacked
        at += read + packed
    return found


def _header(file: BinaryIO, at: int) -> tuple[dict[int, Any], int, int]:
    """A page's header, its length, and how much of that is not skipped."""
    for size in HEADERS:
        file.seek(at)
        header = _Thrift(file.read(size))
        try:
            return header.struct(_PAGE), header.at, header.at - header.skipped
        except Damaged:
            if size == HEADERS[-1] or len(header.data) < size:
                raise
    raise AssertionError  # not reached


class _Thrift:
    """Reads Thrift's compact protocol from bytes; keeps the wanted fields, skips the others."""

    def __init__(self, data: bytes):
        self.data, self.at, self.skipped = data, 0, 0

    def struct(self, wanted: Mapping[int, Any], depth: int = 0) -> dict[int, Any]:
        if depth > MOST_LEVELS:
            raise Damaged("it is nested too deeply")
        found: dict[int, Any] = {}
        field = 0
        while head := self._byte():
            kind, step = head & 15, head >> 4
            field = field + step if step else self._zigzag()
            inner = wanted.get(field)
            value = self._value(kind, inner, depth)
            if inner is not None:
                if not isinstance(value, inner if inner is int else type(inner)):
                    raise Damaged("it has a field of a wrong kind")
                found[field] = value
        return found

    def _value(self, kind: int, wanted: Any, depth: int) -> Any:
        if kind in (1, 2):  # true and false, which are in the type
            return kind == 1
        if kind == 3:
            return self._byte()
        if kind in (4, 5, 6):
            return self._zigzag()
        if kind in (7, 8):
            return self._skip(8 if kind == 7 else self._varint())
        if kind in (9, 10):
            return self._items(wanted, depth)
        if kind == 11:
            return self._map(depth)
        if kind == 12:
            return self.struct(wanted if isinstance(wanted, dict) else {}, depth + 1)
        raise Damaged(f"it has a value of unknown kind {kind}")

    def _items(self, wanted: Any, depth: int) -> list[Any]:
        head = self._byte()
        kind, count = head & 15, head >> 4
        count = self._varint() if count == 15 else count
        self._has(count)
        keep, found = isinstance(wanted, list), []
        if keep and count and kind != 12:
            raise Damaged("it has a field of a wrong kind")
        for _ in range(count):
            item = self._item(kind, wanted[0] if keep else None, depth)
            if keep:
                found.append(item)
        return found

    def _map(self, depth: int) -> None:
        count = self._varint()
        self._has(count)
        kinds = self._byte() if count else 0
        for _ in range(count):
            self._item(kinds >> 4, None, depth)
            self._item(kinds & 15, None, depth)

    def _item(self, kind: int, wanted: Any, depth: int) -> Any:
        if kind in (1, 2):  # in a list, a byte each
            return self._byte()
        if depth > MOST_LEVELS:
            raise Damaged("it is nested too deeply")
        return self._value(kind, wanted, depth + 1)

    def _byte(self) -> int:
        if self.at >= len(self.data):
            raise Damaged("it was cut off")
        self.at += 1
        return self.data[self.at - 1]

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
            if shift > 63:
                raise Damaged("it has a number that is too long")

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _skip(self, size: int) -> None:
        self._has(size)
        self.at += size
        self.skipped += size

    def _has(self, size: int) -> None:
        if size > len(self.data) - self.at:
            raise Damaged("it was cut off")
