"""One process at a time on a folder or a file of results: the second one is refused."""

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
    it, or where no folder can be, naming the `option` that gives another folder.
    """
    if ranks and os.environ.get("RANK", "0") != "0":
        yield
        return
    try:
        made = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"no folder can be at {folder} ({error.strerror}): choose another {option}"
        ) from error
    lock = _taken(folder / LOCK, f"in {folder}", option)
    try:
        yield
    finally:
        if made and [p.name for p in folder.iterdir()] == [LOCK]:
            shutil.rmtree(folder)
        lock.release()


@contextmanager
def locked_file(file: Path, option: str) -> Iterator[None]:
    """The same for a file that is being made, whose folder others may use: the lock lies beside it and goes
    in the end."""
    path = file.with_name(f".{file.name}{LOCK}")
    lock = _taken(path, f"on {file}", option)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # before it is let go: nobody else's is removed
        lock.release()


def _taken(path: Path, where: str, option: str) -> FileLock:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"another process is at work {where}: wait for it, or give another {option}"
        ) from None
    except OSError as error:  # a folder or a link in the lock's place, or nothing may be written there
        raise UserError(f"{path} can't be locked ({error.strerror}): give another {option}") from error
    return lock


def wait_until_free(folder: Path) -> None:
    """Returns once no process is at work in the folder."""
    if (folder / LOCK).is_file():
        with FileLock(folder / LOCK):
            pass
