"""What a trace is called in a list, and a run or model in a sentence."""

from __future__ import annotations

from ...methods.catalog import title_of
from ...traces.trace import Trace


def label_of(trace: Trace) -> str:
    """Verdict, question, and what a training logged of it."""
    verdict = {True: "✓ ", False: "✗ ", None: ""}[verdict_of(trace)]
    facts = facts_of(trace)
    return verdict + shortened(trace.prompt) + (f" ({facts})" if facts else "")


def verdict_of(trace: Trace) -> bool | None:
    """Whether it is right; a completion without any token is not, whatever its record says."""
    return trace.correct if trace.correct is None or len(trace) else False


def shortened(text: str, length: int = 60) -> str:
    """One line of at most so many characters."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"


def facts_of(trace: Trace) -> str:
    """What tells logged completions of one prompt apart: step, reward and advantage; "" for others."""
    known = trace.generation
    scores = [(k.removeprefix("reward/"), k) for k in known if k.startswith("reward/")] or [
        (k, k) for k in ("reward", "correctness") if k in known
    ]
    shown = [f"step {known['step']}"] if "step" in known else []
    for name, key in [*scores, ("advantage", "advantage")]:
        if isinstance(value := known.get(key), int | float) and not isinstance(value, bool):
            shown.append(f"{name} {value:.3g}".replace("-", "−"))
    return ", ".join(shown)


def titled(name: str) -> str:
    """A run or model as a heading or a sentence calls it: a part that is a method's name, by its title.

    Lists and addresses keep the name itself: a folder's, which the user types.
    """
    return ", ".join(title_of(part) for part in name.split(", "))
