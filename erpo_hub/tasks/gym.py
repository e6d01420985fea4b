r"""What runs inside a grading process: math-verify and reasoning-gym's own scorers.

Such a process can hang or die on a hostile answer; `grading` kills it and counts. So nothing here has a time
limit of its own (math-verify's alarm is off), and nothing here may import torch. Heavy imports happen in
`warm_up`, before the clock of the first answer starts.
"""

from __future__ import annotations

import json
import logging
from fractions import Fraction
from functools import lru_cache
from typing import Any

from ..errors import UsageError

MEMORY_LIMIT = 4 << 30  # bytes of address space: a runaway power ends in MemoryError, not in the machine


def warm_up(kind: str) -> None:
    """Import and exercise the scorer once, and cap the memory of this process where the system can."""
    for name in ("math_verify.parser", "math_verify.grader"):
        logging.getLogger(name).setLevel(logging.ERROR)  # "timeout is disabled": that is the intention
    if kind == "math":
        score_math(r"\frac{1}{2}", "0.5")
    else:
        reasoning_gym_dataset(kind)
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))


def ready() -> None:
    """The first job of a pool: comes back once `warm_up` is done."""


def score_math(candidate: str, gold: str) -> float:
    """1.0 where math-verify finds the two answers equal, else 0.0."""
    from math_verify import verify

    return float(verify(_parse(gold), _parse(candidate), timeout_seconds=None))


def _parse(answer: str) -> list[Any]:
    """What math-verify reads in an answer, as LaTeX first: only so is `\frac12` a half."""
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse

    bare = answer.strip().strip("$").strip()
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
    """A reasoning-gym entry as JSON, with tags for tuples, sets, fractions and keys that are no strings.

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
