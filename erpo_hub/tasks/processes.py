"""A pool of grading processes that hostile answers cannot hold up, and that never outlives its owner.

Every process is forked from a small template (multiprocessing's fork server) that has math-verify loaded, so
that one that was killed is replaced at once. The template ends when its owner does, and the kernel ends its
processes with it. Leaves out what is scored (`gym`) and what a score means (`grading`). Imports no torch.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
import types
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, TimeoutError, wait
from typing import Any, TypeVar

from ..children import strange_folder
from ..errors import UserError
from ..text import one_line
from . import gym as scoring

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
Job = tuple[Any, ...]  # a function of a module and its arguments; gives a score

START_LIMIT = 120.0  # seconds for the first grading process to import its scorer
HANGING = 5  # answers of one batch that ran into the limit; those after them get a quarter of it
FAILURES = ("timeouts", "errors", "crashes")
_CPU_SIGNALS = {-getattr(signal, name) for name in ("SIGPROF", "SIGXCPU") if hasattr(signal, name)}
_FORKS = "forkserver" in multiprocessing.get_all_start_methods()


class Processes:
    """Runs scoring calls in processes; counts the calls that failed.

    One whose process died is made once more: it may have been ended from outside.

    Args:
        kind: the scorer that a process loads, see `gym.prepare`.
        timeout: seconds of CPU time a call may take.
        workers: processes at once; None: one a core, four at most.
    """

    def __init__(self, kind: str, timeout: float, workers: int | None = None):
        self.kind, self.timeout = kind, timeout
        self.workers = workers or min(4, os.cpu_count() or 1)
        self.failures = dict.fromkeys(FAILURES, 0)
        self.pool: Any = None
        self._lock = threading.Lock()

    def close(self) -> None:
        with self._lock:
            pool, self.pool = self.pool, None
        if pool is not None:
            pool.stop()
            pool.join()

    def run(self, calls: Mapping[Job, int]) -> dict[Job, float]:
        """The score of every call; the value in `calls` says how many answers a failure of it counts for."""
        waiting, running = deque(calls), dict[Future, Job]()
        scores: dict[Job, float] = {}
        died = set[Job]()
        hung = 0
        while waiting or running:
            # A call's limit is settled here: with few in the pool the shorter one comes into force soon.
            while waiting and len(running) < (2 if hung else 4) * self.workers:
                job = waiting.popleft()
                limit = self.timeout if hung < HANGING else self.timeout / 4
                running[self._schedule(job, limit)] = job
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job = running.pop(future)
                failure, problem = self._failure(future)
                if failure == "crashes" and job not in died:  # a cluster's SIGTERM goes to every process
                    died.add(job)
                    waiting.append(job)
                    continue
                if failure:
                    hung += failure == "timeouts"
                    self.failures[failure] += calls[job]
                    logger.warning("grading an answer %s; it scores 0: %.80r", problem, job[1])
                scores[job] = 0.0 if failure else future.result()
        return scores

    def _schedule(self, job: Job, limit: float) -> Future:
        """The wall clock is a last resort, far above the CPU limit, where the kernel counts CPU time."""
        wall = 20 * limit + 30 if hasattr(signal, "setitimer") else limit
        return self._started().schedule(scoring.limited, args=[limit, *job], timeout=wall)

    def _failure(self, future: Future) -> tuple[str | None, str]:
        from pebble import ProcessExpired

        error = future.exception()
        if error is None:
            return None, ""
        cpu = isinstance(error, ProcessExpired) and error.exitcode in _CPU_SIGNALS
        if cpu or isinstance(error, TimeoutError):
            return "timeouts", f"took more than {self.timeout:g} s"
        if isinstance(error, ProcessExpired):
            return "crashes", f"ended its process ({error})"
        return "errors", f"made the scorer raise {type(error).__name__}: {error}"

    def _started(self) -> Any:
        from pebble import ProcessPool

        with self._lock:
            if self.pool is None:
                if _FORKS:
                    multiprocessing.set_forkserver_preload(["erpo_hub.tasks.template"])
                pool = ProcessPool(
                    max_workers=self.workers,
                    initializer=scoring.prepare,
                    initargs=[self.kind],
                    context=_clean_context(),
                )
                ready = pool.schedule(scoring.ready)
                if not wait([ready], timeout=START_LIMIT).done or ready.exception() is not None:
                    pool.stop()
                    pool.join()
                    raise RuntimeError("no grading process could start; its own message is above")
                self.pool = pool
            return self.pool


def confined(function: Callable[..., Result], *args: Any, seconds: float, **options: Any) -> Result:
    """`function(*args, **options)` in a process of its own with little memory: a stranger sets what it costs.

    Raises UserError where it takes more than `seconds` or `gym.MEMORY_LIMIT`, or fails.
    """
    from pebble import ProcessExpired, ProcessPool

    pool = ProcessPool(max_workers=1, initializer=scoring.confine, context=_clean_context())
    try:
        return pool.schedule(function, args=args, kwargs=options, timeout=seconds).result()
    except UserError:
        raise
    except (TimeoutError, ProcessExpired, MemoryError) as error:
        limits = f"{seconds:g} s and {scoring.MEMORY_LIMIT >> 30} GiB"
        raise UserError(f"making it takes more than {limits}") from error
    except Exception as error:  # whatever a library makes of a stranger's options
        raise UserError(one_line(error, 120)) from error
    finally:
        pool.stop()
        pool.join()


_Context: Any = type(multiprocessing.get_context("forkserver" if _FORKS else "spawn"))
_MAIN_LOCK = threading.Lock()


class _CleanProcess(_Context.Process):
    """A process that does not run the caller's script again.

    Forking the caller is unsafe once torch has threads. The other ways import `__main__` in the child, so a
    training script without an `if __name__ == "__main__"` guard would train again there.
    """

    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802 - multiprocessing's name
        with _MAIN_LOCK:
            main = sys.modules["__main__"]
            sys.modules["__main__"] = types.ModuleType("__main__")
            try:
                with strange_folder():
                    return _Context.Process._Popen(process_obj)
            finally:
                sys.modules["__main__"] = main


class _CleanContext(_Context):
    Process = _CleanProcess


def _clean_context() -> _CleanContext:
    if _FORKS:
        from multiprocessing import resource_tracker

        with strange_folder():  # a lock would start it
            resource_tracker.ensure_running()
    return _CleanContext()
