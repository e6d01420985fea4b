"""What a user types to name a task, taken apart and checked: no data is read here.

    openai/gsm8k?config=main        a Hub dataset
    data/train.jsonl?prompt=q       a local file (see `files`) or a folder that save_to_disk wrote
    reasoning-gym:chain_sum?max_terms=3
    builtin:expressions?operands=4

Every source also takes `chat`, `system` and `append`, which shape the prompt. Imports reasoning-gym where
asked for, otherwise the standard library only.
"""

from __future__ import annotations

import difflib
import json
import re
import types
import typing
from collections.abc import Collection
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from ..errors import UsageError, UserError
from ..paths import expanded
from .files import KINDS, is_saved_dataset, kind_of

EXAMPLES = "openai/gsm8k, data/train.jsonl, reasoning-gym:chain_sum or builtin:expressions"
PROMPT_OPTIONS = ("chat", "system", "append")
FILE_OPTIONS = ("prompt", "answer")
HUB_OPTIONS = ("config", "split", "test_split", "prompt", "answer", "revision")


@dataclass(frozen=True)
class Spec:
    """A task spec in parts. options: as typed, still text."""

    text: str
    source: str  # "builtin" | "reasoning-gym" | "file" | "hub"
    name: str
    options: dict[str, str]

    def own_options(self) -> dict[str, str]:
        """The options that are the source's own, without those that shape the prompt."""
        return {key: value for key, value in self.options.items() if key not in PROMPT_OPTIONS}


def parse_spec(text: str) -> Spec:
    """Take `[source:]name[?key=value&...]` apart.

    Raises UsageError for a malformed spec, UserError for a file that is not there.
    """
    if not isinstance(text, str) or not text.strip():
        raise UsageError(f"dataset {text!r}: give a task such as {EXAMPLES}")
    name, _, query = text.strip().partition("?")
    options = _parse_options(query, text)
    for source in ("builtin", "reasoning-gym"):
        if name.startswith(f"{source}:"):
            spec = Spec(text, source, name.removeprefix(f"{source}:"), options)
            if source == "builtin" and spec.name != "expressions":
                raise UsageError(
                    f"{text}: there is no such builtin task; the one there is: builtin:expressions"
                )
            return spec
    path = expanded(name)
    if kind_of(path) or path.exists() or name.startswith((".", "/", "~")):
        return _file_spec(text, path, options)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        check_names(text, options, HUB_OPTIONS)
        return Spec(text, "hub", name, options)
    near = difflib.get_close_matches(name.partition(":")[0], ["builtin", "reasoning-gym"], n=1)
    hint = f"did you mean {near[0]}:...?" if near else f"give {EXAMPLES}"
    raise UsageError(f"dataset {text!r}: not a Hub id (owner/name), a file or a known source; {hint}")


def names_a_file(text: str) -> bool:
    """Whether a spec is, or is taken for, a path of this machine; a malformed one counts as one."""
    try:
        return parse_spec(text).source == "file"
    except (UserError, OSError):  # the system's own refusal of a name
        return True


def _file_spec(text: str, path: Path, options: dict[str, str]) -> Spec:
    if not path.exists():
        raise UserError(f"{path}: no such file; check the path")
    if not is_saved_dataset(path) and not (path.is_file() and kind_of(path)):
        raise UsageError(
            f"{path}: not a dataset file; give one of {', '.join(KINDS)}, packed as .gz or not, or a folder "
            "that save_to_disk wrote"
        )
    check_names(text, options, FILE_OPTIONS)
    return Spec(text, "file", str(path), options)


def _parse_options(query: str, text: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for part in filter(None, query.split("&")):
        key, equals, value = part.partition("=")
        if not key or not equals:
            raise UsageError(f"{text}: option {part!r} is not of the form name=value")
        if key in options:
            raise UsageError(f"{text}: option {key!r} is given twice")
        options[key] = unquote(value)
    return options


def check_names(text: str, options: Collection[str], known: Collection[str]) -> None:
    """Raise UsageError, with the nearest name, for an option that is not known."""
    everything = [*known, *PROMPT_OPTIONS]
    for key in options:
        if key not in everything:
            near = difflib.get_close_matches(key, everything, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(everything))}"
            raise UsageError(f"{text}: unknown option {key!r}; {hint}")


def typed_options(text: str, options: dict[str, str], config_class: type) -> dict[str, Any]:
    """Options as the types that the fields of a config dataclass declare. Raises UsageError."""
    names = [field.name for field in fields(config_class) if field.name not in ("seed", "size")]
    check_names(text, options, names)
    hints = typing.get_type_hints(config_class)
    return {key: convert(text, key, value, hints[key]) for key, value in options.items()}


def convert(text: str, key: str, value: str, wanted: Any) -> Any:
    """One option's text as `wanted` (int, float, bool, str, a list or tuple, or an optional of these)."""
    origin = typing.get_origin(wanted)
    if origin in (typing.Union, types.UnionType):
        wanted = next(arg for arg in typing.get_args(wanted) if arg is not type(None))
        origin = typing.get_origin(wanted)
    kind = origin or wanted
    try:
        if kind is bool:
            return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[
                value.lower()
            ]
        if kind in (int, float, str):
            return kind(value)
        if kind in (list, tuple):
            parsed = json.loads(value if value.startswith("[") else f"[{value}]")
            return kind(parsed)
        return json.loads(value)
    except (KeyError, ValueError) as error:
        shape = getattr(kind, "__name__", str(kind))
        raise UsageError(f"{text}: option {key}={value!r} is not of type {shape}") from error


def reasoning_gym_config(spec: Spec, *, seed: int, size: int) -> tuple[str, Any]:
    """The registered name of a reasoning-gym task and its config object.

    Raises UserError where the package is missing, UsageError for an unknown task or option.
    """
    try:
        from reasoning_gym.factory import DATASETS
    except ImportError as error:
        raise UserError(f"{spec.text}: needs the reasoning-gym package: pip install reasoning-gym") from error
    import reasoning_gym  # noqa: F401 - registers the tasks

    if spec.name not in DATASETS:
        near = difflib.get_close_matches(spec.name, DATASETS, n=3, cutoff=0.5)
        hint = (
            f"did you mean {', '.join(near)}?" if near else f"it has {len(DATASETS)}, for instance chain_sum"
        )
        raise UsageError(f"{spec.text}: reasoning-gym has no task {spec.name!r}; {hint}")
    config_class = DATASETS[spec.name][1]
    options = typed_options(spec.text, spec.own_options(), config_class)
    return spec.name, config_class(**options, seed=seed, size=size)
