"""A trace as a session in the Hub's own format: JSON lines that its trace viewer opens.

Format: https://huggingface.co/docs/hub/session-traces-format (a header line, then a line a message). It
has no place for values of single tokens; what is known of the whole completion goes into the header.
"""

from __future__ import annotations

import json
import re
from typing import Any

from .trace import Trace

HARNESS = "erpo-hub"
_THINKING = re.compile(r"\s*<think>(.*?)</think>\s*(.*)", re.DOTALL)


def to_session(trace: Trace, session_id: str) -> str:
    """The session's lines, the last one ended. session_id: unique within the dataset."""
    entropy = sum(trace.entropy) / len(trace) if len(trace) else None
    facts = {
        "gold": trace.gold,
        "answer": trace.answer,
        "correct": trace.correct,
        "tokens": len(trace),
        "pivots": len(trace.pivots),
        "mean_entropy_nats": entropy,
        "generation": trace.generation,
        "finish_reason": trace.finish_reason,
    }
    name = " ".join(trace.prompt.split())[:80]
    header = {"type": "session", "harness": HARNESS, "id": session_id, "name": name, **facts}
    messages = [{"role": "user", "content": trace.prompt}, _answer(trace)]
    lines = [header, *({"type": "message", "message": message} for message in messages)]
    return "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines)


def _answer(trace: Trace) -> dict[str, Any]:
    thinking = _THINKING.fullmatch(trace.completion)
    if thinking is None:
        return {"role": "assistant", "content": trace.completion, "model": trace.model}
    return {
        "role": "assistant",
        "content": thinking[2],
        "reasoningContent": thinking[1].strip(),
        "model": trace.model,
    }
