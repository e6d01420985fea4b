"""Logged completions in Trackio, beside the metrics: a trace each, and one as its page."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ..traces.html import to_html
from ..traces.trace import Trace

logger = logging.getLogger(__name__)


def log_to_trackio(traces: Sequence[Trace]) -> None:
    """Into the run that transformers' own callback has begun; a failure is one line and no more."""
    try:
        import trackio
    except ImportError:
        logger.warning("report_to has trackio, which is not installed: pip install trackio")
        return
    logged: dict[str, object] = {"completions/page": trackio.Html(to_html(traces[0]), data_is_not_path=True)}
    for number, trace in enumerate(traces):
        messages = [
            {"role": "user", "content": trace.prompt},
            {"role": "assistant", "content": trace.completion},
        ]
        facts = {**trace.generation, "gold": trace.gold, "correct": trace.correct, "tokens": len(trace)}
        entropy = sum(trace.entropy) / len(trace)
        logged[f"completions/{number:02d}"] = trackio.Trace(messages, {**facts, "mean_entropy": entropy})
    try:
        trackio.log({**logged, "train/global_step": traces[0].generation["step"]})
    except (RuntimeError, OSError) as error:
        logger.warning("trackio does not take the completions (%s)", error)
