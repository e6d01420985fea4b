r"""What runs inside a grading process: math-verify and reasoning-gym's own scorers.

Such a process can hang or die on a hostile answer. The kernel ends it when it has used its CPU time
(`limited`), refuses it memory (`prepare`), and ends it when the process that started it is gone. Importing
this module, as the grading processes' template does, loads nothing heavy; `warm_up` does. Nothing here may
import torch.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any

from ..errors import UsageError
from .notation import MAX_ANSWER, plain_characters, tidy
from .scorers import no_way_out, without_eval
from .sets import as_set, both_signs

MEMORY_LIMIT = 4 << 30  # bytes of address space: a runaway power ends in MemoryError, not in the machine
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux's prctl


def warm_up() -> None:
    """Import and exercise math-verify once, so that a process forked from this one starts at once."""
    for name in ("math_verify.parser", "math_verify.grader"):
        logging.getLogger(name).setLevel(logging.ERROR)  # "timeout is disabled": that is the intention
    score_math(r"\frac{1}{2}", [r"\frac{\sqrt{4}}{3}", r"x+\pi"])


def prepare(kind: str) -> None:
    """What a grading process does first: end with its parent, cap its memory, load its scorer."""
    _end_with_parent()
    warm_up()
    if kind != "math":
        reasoning_gym_dataset(kind)
        without_eval()
    _cap_memory()
    no_way_out()


def confine() -> None:
    """The same for a process that is to make something and not to grade."""
    _end_with_parent()
    _cap_memory()


def _cap_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _end_with_parent() -> None:
    """No grading process outlives the one that started it: the kernel's doing on Linux, a watch elsewhere."""
    _let_go_of_template()
    parent = os.getppid()
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
        if os.getppid() != parent:  # it died in between
            os._exit(1)
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _let_go_of_template() -> None:
    """Close this process's end of the pipe by which the fork server sees that its owner is gone.

    multiprocessing hands it to every forked process, for grandchildren; a hanging one would keep it open.
    """
    from multiprocessing import forkserver

    server: Any = forkserver._forkserver
    if (pipe := getattr(server, "_forkserver_alive_fd", None)) is not None:
        os.close(pipe)
        server._forkserver_alive_fd = None


def ready() -> None:
    """The first job of a pool: comes back once `prepare` is done."""


def limited(limit: float, function: Callable[..., float], *args: Any) -> float:
    """`function(*args)`, its process ended by the kernel after `limit` seconds of CPU time.

    CPU time, not wall-clock: the verdict is the same on a busy machine. The signal has no handler, so that a
    power worked out inside one C call ends too. Systems without this timer rely on the caller's clock.
    """
    if not hasattr(signal, "setitimer"):
        return function(*args)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, limit)
    try:
        return function(*args)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def score_math(candidate: str, golds: Sequence[str]) -> float:
    """1.0 where math-verify finds the answer equal to one of the gold answers, else 0.0."""
    tried: set[tuple[str, str]] = set()
    for spell in (str, tidy, _spelled_set):
        for pair in ((spell(candidate), spell(gold)) for gold in golds):
            if pair not in tried and _equal(_parse(pair[1]), _parse(pair[0])):
                return 1.0
            tried.add(pair)
    return 0.0


def _spelled_set(answer: str) -> str:
    return both_signs(as_set(tidy(answer)))


def _equal(gold: list[Any], found: list[Any]) -> bool:
    from math_verify import verify

    return verify(gold, found, allow_set_relation_comp=True, timeout_seconds=None) and not (
        gold and found and _apart(gold[0], found[0])
    )


def _apart(gold: Any, found: Any) -> bool:
    """Whether two small numbers, equal at six decimal places, differ all the same: 2^{-98}, 2^{-99}."""
    if not (getattr(gold, "is_number", False) and getattr(found, "is_number", False)):
        return False
    a, b = (complex(value.evalf(15)) for value in (gold, found))
    return max(abs(a), abs(b)) < 0.01 and abs(a - b) > 5e-5 * max(abs(a), abs(b))


@lru_cache(maxsize=256)
def _parse(answer: str) -> list[Any]:
    """What math-verify reads in an answer, as LaTeX first: only so is `\frac12` a half."""
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse

    bare = plain_characters(answer[:MAX_ANSWER]).strip().strip("$").strip()
    configs = [LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig()]
    return parse(f"${bare}$", extraction_config=configs, parsing_timeout=None)


def score_reasoning_gym(candidate: str, entry: str, kind: str) -> float:
    """The library's own score, usually 0 to 1, of `candidate` for the row whose `entry` column this is."""
    return float(reasoning_gym_dataset(kind).score_answer(candidate, load_entry(entry)))


@lru_cache(maxsize=4)
def reasoning_gym_dataset(kind: str, seed: int = 0, size: int = 1) -> Any:
    """The library's dataset object for `reasoning-gym:<task>[?options]`.

    Raises UsageError for an unknown task or option, or where the package is missing.
    """
    from .specs import parse_spec, reasoning_gym_config

    task, config = reasoning_gym_config(parse_spec(kind), seed=seed, size=size)
    from reasoning_gym.factory import DATASETS

    try:
        return DATASETS[task][0](config=config)
    except (AssertionError, ValueError, TypeError) as error:
        raise UsageError(f"{kind}: {error or type(error).__name__}; correct the options") from error


def dump_entry(entry: dict[str, Any]) -> str:
    """A reasoning-gym entry as JSON, with tags for tuples, sets, fractions and keys that are not strings.

    Raises TypeError for a value that JSON cannot hold.
    """
    return json.dumps(_tag(entry))


def load_entry(text: str) -> dict[str, Any]:
    return json.loads(text, object_hook=_untag)


def _tag(value: Any) -> Any:
    if isinstance(value, tuple | set | frozenset):
        items = sorted(value, key=repr) if isinstance(value, set | frozenset) else value
        kind = "tuple" if isinstance(value, tuple) else "set"
        return {"__kind__": kind, "items": [_tag(item) for item in items]}
    if isinstance(value, list):
        return [_tag(item) for item in value]
    if isinstance(value, dict):
        if all(isinstance(key, str) for key in value):
            return {key: _tag(item) for key, item in value.items()}
        return {"__kind__": "dict", "items": [[_tag(key), _tag(item)] for key, item in value.items()]}
    if isinstance(value, Fraction):
        return {"__kind__": "fraction", "items": str(value)}
    return value


def _untag(value: dict[str, Any]) -> Any:
    kind = value.get("__kind__")
    if kind is None:
        return value
    items = value["items"]
    if kind == "dict":
        return dict(items)
    return {"tuple": tuple, "set": set, "fraction": Fraction}[kind](items)
