"""Dataclasses from JSON that anyone may have written, and the JSON Schema of those classes.

A field with a default may be missing or null, unknown fields are ignored, everything else has to have its
type. Needs the standard library only.
"""

from __future__ import annotations

import json
import types
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

MAX_DEPTH = 32
MAX_DIGITS = 40  # of a number as it is written
MAX_INTEGER = 2**63
MAX_ITEMS = 1_000_000  # of one list or object


class Misfit(Exception):
    """Which field does not fit, and what it should be."""


def parse(text: str, finite: bool = True) -> Any:
    """A JSON value, without endless numbers and, unless told so, NaN and infinity, which Python writes.

    Raises ValueError, RecursionError.
    """
    constant = _number(None if finite else float)
    return json.loads(text, parse_int=_number(int), parse_float=_number(float), parse_constant=constant)


def _number(read: Any) -> Any:
    def checked(text: str) -> Any:
        if read is None:
            raise ValueError(f"{text} is not a JSON number")
        if len(text) > MAX_DIGITS:
            raise ValueError(f"a number of {len(text):,} digits")
        return read(text)

    return checked


def check_limits(data: Any, finite: bool = True) -> None:
    """Depth, length and numbers of any JSON value, without recursion. finite: as in `parse`."""
    level = [data]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict | list | tuple):
                if len(value) > MAX_ITEMS:
                    raise Misfit(f"it has a list of more than {MAX_ITEMS:,} items")
                below += [*value, *value.values()] if isinstance(value, dict) else value
            elif isinstance(value, int | float):
                if not -MAX_INTEGER < value < MAX_INTEGER and not (
                    isinstance(value, float) and (abs(value) < float("inf") or not finite)
                ):
                    raise Misfit("it has a number that is too large or not finite")
            elif isinstance(value, str) and not value.isascii():
                try:
                    value.encode()
                except UnicodeEncodeError:
                    raise Misfit("it has text with half a surrogate pair") from None
        level = below
        if not level:
            return
    raise Misfit(f"nested more than {MAX_DEPTH} levels deep")


_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false", type(None): "null"}
_JSON_NAMES = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def from_json(kind: Any, data: Any, where: str = "") -> Any:
    """`data` as a value of the annotated type `kind`. Raises Misfit."""
    if kind is Any:
        return data
    if kind in _NAMES:
        wanted = (int, float) if kind is float else kind
        if not isinstance(data, wanted) or (isinstance(data, bool) and kind is not bool):
            raise Misfit(f"{where or 'it'} is not {_NAMES[kind]}")
        return data
    if is_dataclass(kind):
        return _object(kind, data, where)
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _one_of(inner, data, where)
    if origin is dict:
        if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
            raise Misfit(f"{where} is not an object")
        return {key: from_json(inner[1], item, f"{where}.{key}"[:80]) for key, item in data.items()}
    if not isinstance(data, list | tuple) or (origin is tuple and len(data) != len(inner)):
        raise Misfit(f"{where} is not a list" + (f" of {len(inner)}" if origin is tuple else ""))
    read = [from_json(inner[0], item, f"{where}[{i}]") for i, item in enumerate(data)]
    return tuple(read) if origin is tuple else read


def _one_of(kinds: tuple[Any, ...], data: Any, where: str) -> Any:
    if data is None and type(None) in kinds:
        return None
    tried = [kind for kind in kinds if kind is not type(None)]
    for kind in tried[:-1]:
        try:
            return from_json(kind, data, where)
        except Misfit:
            continue
    return from_json(tried[-1], data, where)


def _object(kind: Any, data: Any, where: str) -> Any:
    if not isinstance(data, dict):
        raise Misfit(f"{where or 'it'} is not an object")
    found = {}
    for item in fields(kind):
        place = f"{where}.{item.name}".lstrip(".")
        needed = item.default is MISSING and item.default_factory is MISSING
        if data.get(item.name) is not None:
            found[item.name] = from_json(_hints(kind)[item.name], data[item.name], place)
        elif needed:
            raise Misfit(f"{place} is missing")
    return kind(**found)


def schema_of(kind: Any, parts: dict[str, Any]) -> dict[str, Any]:
    """The JSON Schema of an annotated type; that of each dataclass is added to `parts` by its name."""
    if kind is Any:
        return {}
    if kind in _JSON_NAMES:
        return {"type": _JSON_NAMES[kind]}
    if is_dataclass(kind):
        name = kind.__name__  # type: ignore[union-attr]
        if name not in parts:
            parts[name] = {}
            hints = _hints(kind)  # type: ignore[arg-type]
            needed = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
            properties = {f.name: schema_of(hints[f.name], parts) for f in fields(kind)}
            parts[name] = {"type": "object", "required": needed, "properties": properties}
        return {"$ref": f"#/$defs/{name}"}
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return {"anyOf": [schema_of(one, parts) for one in inner]}
    if origin is dict:
        return {"type": "object", "additionalProperties": schema_of(inner[1], parts)}
    sized = {"minItems": len(inner), "maxItems": len(inner)} if origin is tuple else {}
    return {"type": "array", "items": schema_of(inner[0], parts), **sized}
