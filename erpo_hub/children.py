"""Processes that work for this one: what they find around them, and that they never outlive it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SAFE_PATH = "PYTHONSAFEPATH"  # Python's own: no folder that was not named is looked in for modules
_CHANGING = threading.RLock()


def child_environment(threads: int) -> dict[str, str]:
    """For a process with a share of the cores: this package on its path, `threads` threads unless set."""
    root = str(Path(__file__).resolve().parents[1])
    return os.environ | {
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads)),
        "OMP_WAIT_POLICY": "PASSIVE",  # waiting threads leave the core to the others
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
        SAFE_PATH: "1",  # else `python -m` imports from the working folder, which may be a stranger's model
        "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])),
    }


@contextmanager
def strange_folder() -> Iterator[None]:
    """What multiprocessing starts within it, by `python -c`, imports nothing from the working folder."""
    with _CHANGING:
        before = os.environ.get(SAFE_PATH)
        os.environ[SAFE_PATH] = "1"
        try:
            yield
        finally:
            if before is None:
                del os.environ[SAFE_PATH]
            else:
                os.environ[SAFE_PATH] = before


def end_with_the_parent() -> None:
    """The parent holds our stdin open; when that ends, so do we: nobody is left to want what we make."""

    def watch() -> None:
        while os.read(0, 4096):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
