"""One process at a time on a folder of results: the second one is refused."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from .errors import UserError

LOCK = ".lock"


@contextmanager
def locked(folder: Path, option: str = "--output-dir", *, ranks: bool = False) -> Iterator[None]:
    """Holds the folder (made where it is missing) until the end; the system lets go when a process dies.

    The lock is the system's on a file, not a note about a process: a copied folder is free. ranks: of
    several processes that make one run only the first takes it. Raises UserError where another process holds
    it, naming the `option` that gives another folder.
    """
    if ranks and os.environ.get("RANK", "0") != "0":
        yield
        return
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"another process is at work in {folder}: wait for it, or give another {option}"
        ) from None
    try:
        yield
    finally:
        if made and [p.name for p in folder.iterdir()] == [LOCK]:
            shutil.rmtree(folder)
        lock.release()


def wait_until_free(folder: Path) -> None:
    """Returns once no process is at work in the folder."""
    if (folder / LOCK).is_file():
        with FileLock(folder / LOCK):
            pass
