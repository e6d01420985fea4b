"""What a file says: every text in it, decoded, and whether it is what its name claims.

JSON, YAML, Parquet, safetensors headers and GGUF metadata are read by their formats, with limits; any file is
also read as raw text. Works on files of anybody: what is wrong with one is a sentence, never an exception.
Left out: what the texts may not say (check.py, secrets.py). Imports no torch.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from ..card.metadata import from_yaml
from ..errors import UserError
from ..parquet_file import open_parquet
from ..text import lines_of
from .named import is_secret_name
from .readings import as_texts

MAX_TEXT = 128 << 20  # bytes of a file that is read as a whole; tokenizers have up to 35 MB
MAX_HEADER = 100_000_000  # bytes of a safetensors header, as the format says
MAX_VALUES = 5_000_000  # strings and arrays of GGUF metadata
MAX_GROUP = 1 << 30  # bytes of a Parquet row group, uncompressed, as its footer states
PART, LONGEST_PART = 8, 200  # characters of a half of a secret
SPELLED = 20  # numbers of a list that may spell one
PIECE = 8 << 20  # of a large file that is searched raw
ARCHIVES = {
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "a gzip file",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"\x28\xb5\x2f\xfd": "a zstandard file",
    b"7z\xbc\xaf": "a 7z archive",
}
BINARY = {  # kinds that are not text, and how each begins
    **dict.fromkeys((".jpg", ".jpeg"), b"\xff\xd8\xff"),
    ".png": b"\x89PNG\r\n\x1a\n",
    ".gif": b"GIF8",
    ".webp": b"RIFF",
    ".model": b"\n",
    ".whl": b"PK\x03\x04",
}


@dataclass
class Contents:
    """texts: what to search, the raw text first. value: of a JSON or YAML file. named: other values under
    their names, as {name: text} or the value of a JSON line. columns: of the texts, those of a Parquet file's
    columns, each with its name. problem: what is wrong."""

    texts: list[str] = field(default_factory=list)
    value: Any = None
    named: list[Any] = field(default_factory=list)
    columns: list[tuple[str, str]] = field(default_factory=list)
    problem: str | None = None


def read_contents(path: Path) -> Contents:
    """Every text of one regular file. `problem` says in one clause why the file can't be published."""
    found = Contents()
    try:
        with path.open("rb") as file:
            start = file.read(8)
            kind = next((what for sign, what in ARCHIVES.items() if start.startswith(sign)), None)
            if kind and path.suffix != ".whl":
                found.problem = f"is {kind}, which can't be searched for secrets; give the files themselves"
            elif path.suffix == ".safetensors":
                _read_safetensors(path, file, found)
            elif path.suffix == ".parquet" or start.startswith(b"PAR1"):
                _read_parquet(path, found)
            elif start.startswith(b"GGUF"):
                file.seek(0)
                _read_gguf(file, found)
            elif path.stat().st_size > MAX_TEXT:
                if path.suffix not in BINARY:
                    found.problem = f"is larger than {MAX_TEXT >> 20} MiB, too large for a text"
            else:
                _read_text(path, start + file.read(), found)
    except OSError as error:
        found.problem = f"can't be read ({error.strerror or type(error).__name__})"
    except (ValueError, struct.error, OverflowError, MemoryError) as error:
        found.problem = f"is damaged ({' '.join(str(error).split())[:120]})"
    return found


def pieces(path: Path) -> Iterator[bytes]:
    """The raw bytes of a file in overlapping pieces, and once more without zero bytes where it has some:
    that is how UTF-16 and UTF-32 read."""
    with path.open("rb") as file:
        tail = b""
        while piece := file.read(PIECE):
            yield tail + piece
            if path.stat().st_size <= PIECE and b"\0" in piece:
                yield piece.replace(b"\0", b"")
            tail = piece[-4096:]


# --- texts ---


def _read_text(path: Path, data: bytes, found: Contents) -> None:
    found.texts = as_texts(data)
    if path.suffix in BINARY and data.startswith(BINARY[path.suffix]):
        if path.suffix == ".png":
            found.problem = _read_png(data, found.texts)
        elif path.suffix == ".whl":
            _read_wheel(path, found)
        return
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        found.problem = "is not UTF-8 text"
        return
    if path.suffix in BINARY and path.suffix != ".model":  # tiktoken's are text
        found.problem = f"is not a {path.suffix[1:]} file"
        return
    if "\0" in text:
        found.problem = "is not text: it contains zero bytes"
    elif path.suffix == ".json":
        found.value, found.problem = read_json(text)
    elif path.suffix == ".jsonl":
        for line in filter(str.strip, lines_of(text)):
            value, found.problem = read_json(line)
            found.texts += strings(value)
            found.named.append(value)
            if found.problem:
                return
    elif path.suffix in {".yaml", ".yml"}:
        try:
            found.value = from_yaml(text)
        except UserError as error:
            found.problem = f"is not valid YAML ({error})"
    elif text.lstrip()[:1] in ("{", "["):  # JSON by another name
        found.value, _ = read_json(text)
    found.texts += strings(found.value)


def read_json(text: str) -> tuple[Any, str | None]:
    """A JSON value, or None and what is wrong: syntax, nesting, numbers that no reader takes."""
    try:
        return json.loads(text, parse_constant=_no_constant), None
    except json.JSONDecodeError as error:
        return None, f"is not valid JSON (line {error.lineno}: {error.msg})"
    except RecursionError:
        return None, "is not valid JSON (nested too deeply)"
    except ValueError as error:  # NaN, or a number of thousands of digits
        return None, f"is not valid JSON ({str(error).partition(';')[0]})"


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def strings(value: Any, without: Collection[str] = ()) -> list[str]:
    """All keys and texts of a JSON or YAML value: one text, and one of those in parts or in numbers.

    without: names of keys under which nothing is read.
    """
    found: list[str] = []
    hidden: list[str] = []
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            found.append(item)
        elif isinstance(item, dict):
            read = {key: inner for key, inner in item.items() if key not in without}
            found += [str(key) for key in read]
            waiting += read.values()
            hidden += _in_parts(list(read.values()))
        elif isinstance(item, list | tuple | set):
            waiting += item
            hidden += _in_parts(list(item))
            hidden += _as_numbers(item) if isinstance(item, list) else []
    return ["\n".join(part) for part in (found, hidden) if part]


def _in_parts(items: list[Any]) -> list[str]:
    """Neighbouring texts, two and two, as one: a secret cut in half. Short ones are a vocabulary's."""
    parts = [item if isinstance(item, str) and PART <= len(item) <= LONGEST_PART else "" for item in items]
    return [a + b for a, b in zip(parts, parts[1:]) if a and b and not (a + b).isalpha()]


def _as_numbers(items: list[Any]) -> list[str]:
    """A list of the codes of printable characters, as the text that it spells."""
    spelled = len(items) >= SPELLED and all(isinstance(i, int) and 9 <= i < 127 for i in items)
    return [bytes(items).decode("ascii")] if spelled else []


# --- binary formats ---


def _read_png(data: bytes, texts: list[str]) -> str | None:
    """Adds what the chunks say that are not pixels; returns what is wrong."""
    at = 8
    while at + 12 <= len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        chunk = data[at + 8 : at + 8 + size]
        at += size + 12
        if kind == b"IEND":
            return "contains more than its picture" if at < len(data) else None
        if kind in (b"zTXt", b"iTXt", b"iCCP"):  # a keyword, flags, and text that may be compressed
            for start in islice(re.finditer(rb"x[\x01\x5e\x9c\xda]", chunk), 3):
                texts += as_texts(chunk[start.start() :])
    return "is a PNG that was cut off"


def _read_wheel(path: Path, found: Contents) -> None:
    from zipfile import BadZipFile, ZipFile

    try:
        with ZipFile(path) as wheel:
            if sum(part.file_size for part in wheel.infolist()) > MAX_TEXT:
                raise ValueError(f"it unpacks to more than {MAX_TEXT >> 20} MiB")
            for part in wheel.infolist():
                found.texts += as_texts(wheel.read(part))
    # zipfile raises NotImplementedError for a way of packing that it does not know
    except (BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error) as error:
        raise ValueError(str(error)) from error


def _read_safetensors(path: Path, file: BinaryIO, found: Contents) -> None:
    size = path.stat().st_size
    file.seek(0)
    raw = file.read(8)
    length = struct.unpack("<Q", raw)[0] if len(raw) == 8 else 0
    if not 2 <= length <= min(size - 8, MAX_HEADER):
        found.problem = "is not a safetensors file, or was cut off"
        return
    header = file.read(length).decode("utf-8", "replace")
    found.texts = [header]
    value, problem = read_json(header)
    found.texts += strings(value)
    found.problem = _tensor_problem(path) if problem is None else "has no readable safetensors header"


def _tensor_problem(path: Path) -> str | None:
    """What safetensors' own reader finds wrong with header and sizes."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as weights:
            return None if list(weights.keys()) else "contains no tensors"
    except (SafetensorError, ValueError, OverflowError) as error:
        cut = "MetadataIncompleteBuffer" in str(error)
        what = "was cut off, or its header lies about sizes" if cut else "has a wrong safetensors header"
        return f"{what} ({' '.join(str(error).split())[:120]})"


def tensor_names(path: Path) -> set[str]:
    """Names of the tensors of a file that `read_contents` found sound."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as weights:
        return set(weights.keys())


def _read_parquet(path: Path, found: Contents) -> None:
    import pyarrow as pa

    try:
        with open_parquet(path, MAX_GROUP) as source:
            found.texts = ["\n".join(_schema_texts(source.schema_arrow))]
            for group in range(source.metadata.num_row_groups):
                table = source.read_row_group(group)
                for name, column in zip(table.column_names, table.columns):
                    for chunk in column.chunks:
                        if texts := list(_column(chunk)):  # those that are stored once are searched once
                            found.columns.append((name, "\n".join(texts)))
                            found.texts.append(found.columns[-1][1])
                        found.named += _named(name, chunk)
    # Arrow raises NotImplementedError for a type or an encoding that it does not know
    except (pa.ArrowException, NotImplementedError, UserError) as error:
        why = " ".join(str(error).split()).removeprefix(f"{path}: ")[:120]
        found.problem = f"is not a readable Parquet file ({why})"


def _schema_texts(part: Any) -> Iterator[str]:
    """Names and metadata of an Arrow schema, and of its fields within fields."""
    for key, value in (part.metadata or {}).items():
        yield from (f"{key.decode('utf-8', 'replace')}={text}" for text in as_texts(value))
    if hasattr(part, "names"):
        yield from (text for field in part for text in _schema_texts(field))
        return
    yield part.name
    kind = part.type
    yield from (text for n in range(kind.num_fields) for text in _schema_texts(kind.field(n)))


def _column(array: Any) -> Iterator[str]:
    """The texts of an Arrow array of any type, bytes that are not UTF-8 shown as �."""
    import pyarrow as pa

    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        yield from _column(array.storage)
    elif pa.types.is_dictionary(kind):
        yield from _column(array.dictionary)
    elif pa.types.is_struct(kind):
        for part in array.flatten():
            yield from _column(part)
    elif pa.types.is_map(kind):
        yield from _column(array.keys)
        yield from _column(array.items)
    elif pa.types.is_nested(kind):
        if (values := getattr(kind, "value_type", None)) is not None and pa.types.is_integer(values):
            yield from (text for row in array for text in _as_numbers(row.as_py() or []))
        yield from _column(array.flatten())
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        wide = array.cast(pa.binary_view() if pa.types.is_string_view(kind) else pa.large_binary())
        yield from (item.decode("utf-8", "replace") for item in wide.to_pylist() if item)
    elif (
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or (pa.types.is_fixed_size_binary(kind))
    ):
        yield from (text for item in array.to_pylist() if item for text in as_texts(item))


def _named(name: str, array: Any) -> Iterator[dict[str, str]]:
    """The texts of an Arrow array that stand under the name of a secret."""
    import pyarrow as pa

    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        yield from _named(name, array.storage)
    elif pa.types.is_struct(kind):
        for part, inner in zip(kind, array.flatten()):
            yield from _named(part.name, inner)
    elif pa.types.is_map(kind):
        for key, item in zip(array.keys.to_pylist(), array.items.to_pylist()):
            if isinstance(key, str) and isinstance(item, str):
                yield {key: item}
    elif pa.types.is_nested(kind):
        yield from _named(name, array.flatten())
    elif is_secret_name(name):
        yield from ({name: text} for text in _column(array))


_GGUF_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_GGUF_STRING, _GGUF_ARRAY = 8, 9


def _read_gguf(file: BinaryIO, found: Contents) -> None:
    """Keys and texts of a GGUF file's metadata. Raises ValueError for a file that is not sound."""
    _, version, _, count = struct.unpack("<4sIQQ", _take(file, 24))
    if not 2 <= version <= 3 or count > MAX_VALUES:
        raise ValueError("its GGUF header cannot be true")
    left = [MAX_VALUES]
    for _ in range(count):
        key = _gguf_text(file, left)
        values = list(_gguf_value(file, struct.unpack("<I", _take(file, 4))[0], left))
        found.texts += [key, *values]
        found.named += [{key: value} for value in values] if is_secret_name(key) else []


def _gguf_value(file: BinaryIO, kind: int, left: list[int], depth: int = 0) -> Iterator[str]:
    if kind == _GGUF_STRING:
        yield _gguf_text(file, left)
    elif kind in _GGUF_SIZES:
        _take(file, _GGUF_SIZES[kind])
    elif kind == _GGUF_ARRAY and depth < 4:
        inner, length = struct.unpack("<IQ", _take(file, 12))
        if inner in _GGUF_SIZES:
            _take(file, _GGUF_SIZES[inner] * length)
            return
        for _ in range(length):
            yield from _gguf_value(file, inner, left, depth + 1)
    else:
        raise ValueError(f"its GGUF metadata has a value of unknown type {kind}")


def _gguf_text(file: BinaryIO, left: list[int]) -> str:
    left[0] -= 1
    if left[0] < 0:
        raise ValueError("its GGUF metadata has too many values")
    return _take(file, struct.unpack("<Q", _take(file, 8))[0]).decode("utf-8", "replace")


def _take(file: BinaryIO, size: int) -> bytes:
    if size > MAX_TEXT:
        raise ValueError("its GGUF metadata states a size that cannot be true")
    data = file.read(size)
    if len(data) != size:
        raise ValueError("it was cut off")
    return data
