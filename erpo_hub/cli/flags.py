"""Every field of ERPOConfig as a command-line flag and as a YAML key, through TRL's own parser.

Only what the user gave comes back, so that presets and defaults for the model can fill in the rest.
"""

from __future__ import annotations

import argparse
import difflib
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any, NoReturn

import yaml
from trl import TrlParser

from ..errors import UsageError
from ..train.config import ERPOConfig

_FIELDS: Any = ERPOConfig  # the parser's annotation does not know classes


class _Parser(TrlParser):
    """TRL's parser, with errors in one line instead of two screens of usage."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (`erpo-hub train --flags` lists every flag)")


def _parser() -> _Parser:
    parser = _Parser(_FIELDS, usage="erpo-hub train MODEL DATASET [FLAGS]", allow_abbrev=False)
    for action in parser._actions:
        action.default = argparse.SUPPRESS  # what is not given is not in the result
        action.required = False
    return parser


def parse_flags(
    arguments: list[str], config: Path | None = None, *, own: Collection[str] = ()
) -> dict[str, Any]:
    """ERPOConfig fields from a YAML file and from flags; flags win. A YAML `env:` block sets variables.

    own: further keys that the file may hold; they come back as they stand there.

    Raises UsageError: unknown flag or key, a value of the wrong type, a file that is no YAML mapping.
    """
    content = _read_yaml(config)
    known = {*ERPOConfig.__dataclass_fields__, *own}
    if unknown := sorted(str(key) for key in set(content) - known):
        near = difflib.get_close_matches(unknown[0], sorted(known), n=1)
        hint = f"did you mean {near[0]!r}?" if near else "`erpo-hub train --flags` lists every one"
        raise UsageError(f"{config}: unknown key {unknown[0]!r}; {hint}")
    parser = _parser()
    given = dict(content)
    for key, value in content.items():
        if key not in own and isinstance(value, (str, int, float)):  # typed as on the command line: 1e-6 too
            given |= vars(_parse(parser, [f"--{key}={value}"], config))
    return given | vars(parser.parse_args(arguments))


def _parse(parser: _Parser, arguments: list[str], config: Path | None) -> argparse.Namespace:
    try:
        return parser.parse_args(arguments)
    except UsageError as error:
        raise UsageError(f"{config}: {error}") from error


def _read_yaml(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"no such file: {path}") from error
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:  # an impossible date, too
        raise UsageError(f"{path} can't be read as YAML: {error}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path} is not a list of settings: write `name: value` lines")
    variables = content.pop("env", None) or {}
    if not isinstance(variables, dict) or not all(isinstance(name, str) for name in variables):
        raise UsageError(f"{path}: env is not a list of variables: write `NAME: value` lines below it")
    for name, value in variables.items():
        try:
            os.environ[name] = str(value)
        except (OSError, ValueError) as error:  # a name with "=", a zero byte
            raise UsageError(f"{path}: env: {name!r} can't be set: {error}") from error
    return content


def flags_help() -> str:
    """All flags with their help, as argparse prints them."""
    return _Parser(_FIELDS, usage="erpo-hub train MODEL DATASET [FLAGS]", add_help=False).format_help()
