"""Paths as they were typed, or as a record or a config names them."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import UserError


def expanded(name: str | os.PathLike[str]) -> Path:
    """The path with `~` or `~user` worked out. Raises UserError where there is no such user."""
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        raise UserError(f"{str(name)[:200]!r}: there is no such user on this machine") from error
