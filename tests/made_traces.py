"""A trace whose numbers fit together, made without a model."""

from __future__ import annotations

import math
import random

from erpo_hub.traces.trace import Trace


def make_trace(pieces: list[str], *, seed: int = 0, **changes: object) -> Trace:
    """A trace whose numbers fit together and whose entropies differ."""
    rng = random.Random(seed)
    vocab = max(64, len(set(pieces)) + 8)
    ids = {piece: 8 + n for n, piece in enumerate(dict.fromkeys(pieces))}
    tokens = [ids[piece] for piece in pieces]
    p = [0.999 - 0.9 * rng.random() ** 2 for _ in pieces]
    entropy = [round(min(-math.log(q) * 2 + rng.random() * 0.05, math.log(vocab)), 6) for q in p]
    others = {4: "alt", 5: "<b>", 6: " other"}
    return Trace(
        prompt=str(changes.pop("prompt", "What is it?")),
        completion="".join(pieces),
        prompt_tokens=[1, 2, 3],
        tokens=tokens,
        pieces=pieces,
        entropy=entropy,
        logprob=[round(math.log(q), 6) for q in p],
        topk_ids=[[t, 4, 5, 6] if q > 0.5 else [4, t, 5, 6] for t, q in zip(tokens, p)],
        topk_probs=[sorted((q, (1 - q) * 0.9, (1 - q) * 0.06, (1 - q) * 0.04), reverse=True) for q in p],
        vocab_size=vocab,
        model=str(changes.pop("model", "made")),
        strings={**others, **{i: s for s, i in ids.items()}},
        **changes,  # type: ignore[arg-type]
    ).with_pivots(min_entropy=0.1)
