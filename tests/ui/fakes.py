"""Engines that are slow or break, around a real one."""

from __future__ import annotations

import time


class _Around:
    def __init__(self, engine):
        self._engine = engine

    def __getattr__(self, name):
        return getattr(self._engine, name)


class SlowEngine(_Around):
    """Twenty tokens a second, for as many as are asked; counts the streams that are running."""

    running = 0

    def stream(self, prompt, *, cancel=None, **options):
        from erpo_hub.traces.draft import Delta

        SlowEngine.running += 1
        try:
            trace = self._engine.trace(prompt, **{**options, "max_new_tokens": 1})
            n = options["max_new_tokens"]
            for i in range(n):
                stopped = cancel is not None and cancel.is_set()
                done = stopped or i == n - 1
                piece = trace.pieces[0] or "x"
                whole = _repeated(trace, i if stopped else i + 1, piece, "cancelled" if stopped else "length")
                row = [] if stopped else [0]
                yield Delta(
                    start=i,
                    tokens=[trace.tokens[0] for _ in row],
                    pieces=[piece for _ in row],
                    entropy=[trace.entropy[0] for _ in row],
                    logprob=[trace.logprob[0] for _ in row],
                    sampling_logprob=[0.0 for _ in row],
                    topk_ids=[trace.topk_ids[0] for _ in row],
                    topk_probs=[trace.topk_probs[0] for _ in row],
                    strings=trace.strings,
                    done=done,
                    trace=whole if done else None,
                )
                if done:
                    return
                time.sleep(0.05)
        finally:
            SlowEngine.running -= 1


def _repeated(trace, n, piece, reason):
    return trace.replace(
        tokens=trace.tokens[:1] * n,
        pieces=[piece] * n,
        completion=piece * n,
        entropy=trace.entropy[:1] * n,
        logprob=trace.logprob[:1] * n,
        sampling_logprob=[0.0] * n,
        topk_ids=trace.topk_ids[:1] * n,
        topk_probs=trace.topk_probs[:1] * n,
        pivots=[],
        finish_reason=reason,
    )


class BreakingEngine(_Around):
    """Fails after three tokens, as a GPU that runs out of memory does."""

    def stream(self, prompt, **options):
        for n, delta in enumerate(self._engine.stream(prompt, **{**options, "max_new_tokens": 50})):
            if n == 3:
                raise RuntimeError("CUDA out of memory <img src=x onerror=alert(1)>\nsecond line")
            yield delta
