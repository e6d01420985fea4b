"""What an address opens in a tab: which components it fills, and with what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

SEPARATOR = "|"  # between names of one list


@dataclass(frozen=True)
class Opener:
    """A tab's part of the address.

    outputs: components that `fill` returns a value for, each, from the address's names and values: a
    stranger's text, of which what is unknown is passed over.
    """

    outputs: list[Any]
    fill: Callable[[dict[str, str]], list[Any]]
