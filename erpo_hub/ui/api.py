"""Typed endpoints for programs: /trace, /score, /fork, /compare. The same queue and limits as the page.

Traces go in and out in the JSON form of `Trace` (docs/trace-format.md). The functions' docstrings are what
the API page and an MCP client show. May import gradio.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from ..traces.trace import Trace
from .context import Context
from .models import runner
from .models.pairs import first_difference
from .models.pool import Engines
from .models.requests import Answer, Fork, SamplingSettings, Score, fork_tokens, number, whole
from .tabs.controls import ASKS


def build(context: Context) -> None:
    """Adds the endpoints to the Blocks that is being built."""
    limits = context.limits

    def answered(engines: Engines, model: str, prompt: str, gold: str, sampling: SamplingSettings) -> Trace:
        limits.check_prompt(prompt)
        limits.check_gold(gold)
        trace = runner.trace(engines, model, Answer(prompt, sampling))
        return engines.grade(trace, gold)

    def trace(
        prompt: str,
        model: str = "builtin:tiny-reasoner",
        gold: str = "",
        temperature: float = 0.7,
        top_p: float = 1.0,
        max_new_tokens: int = 256,
        seed: int = 0,
        request: gr.Request | None = None,
    ) -> dict[str, Any]:
        """Answer a question and return the trace: every token with its entropy, alternatives and pivots.

        Args:
            prompt: the question.
            model: a name from the app's list of models.
            gold: the right answer, to grade against; empty if unknown.
            temperature: 0 is greedy.
            top_p: nucleus sampling.
            max_new_tokens: at most this many tokens.
            seed: the same seed gives the same completion.
        """
        sampling = SamplingSettings.within(limits, temperature, top_p, max_new_tokens, seed)
        return answered(context.seen_by(request).engines, model, prompt, gold, sampling).to_dict()

    def score(
        prompt: str,
        completion: str,
        model: str = "builtin:tiny-reasoner",
        temperature: float = 1.0,
        request: gr.Request | None = None,
    ) -> dict[str, Any]:
        """Score a given completion: the trace that the model would have had, had it written this text.

        Args:
            prompt: the question.
            completion: the text to score.
            model: a name from the app's list of models.
            temperature: the temperature at which probabilities and entropies are taken.
        """

        limits.check_prompt(prompt)
        limits.check_solution(completion)
        wanted = Score(prompt, completion, number("temperature", temperature, 0, 100))
        return runner.trace(context.seen_by(request).engines, model, wanted).to_dict()

    def fork(
        trace: dict[str, Any],
        index: int,
        token_id: int,
        model: str = "builtin:tiny-reasoner",
        seed: int = 0,
        request: gr.Request | None = None,
    ) -> dict[str, Any]:
        """Continue a trace with another token at one position and return the new trace.

        Args:
            trace: a trace as /trace returns it.
            index: position of the token to replace, from 0.
            token_id: the token to put there; the trace's topk_ids name the likely ones.
            model: the model that made the trace.
            seed: of the tokens that follow.
        """

        place, other, engines = (
            whole("index", index),
            whole("token_id", token_id),
            context.seen_by(request).engines,
        )
        origin = Trace.from_dict(trace)
        name, _ = engines.for_trace(origin, model)
        wanted = Fork(origin, place, other, fork_tokens(limits, origin, place), whole("seed", seed))
        branch = runner.trace(engines, name, wanted)
        return engines.grade(branch, origin.gold).to_dict()

    def compare(
        prompt: str,
        model_a: str,
        model_b: str,
        gold: str = "",
        temperature: float = 0.7,
        top_p: float = 1.0,
        max_new_tokens: int = 256,
        seed: int = 0,
        request: gr.Request | None = None,
    ) -> dict[str, Any]:
        """Ask two models the same question with the same seed; return both traces and where they part.

        Args:
            prompt: the question.
            model_a: the first model, a name from the app's list.
            model_b: the second model.
            gold: the right answer, to grade against; empty if unknown.
            temperature: 0 is greedy.
            top_p: nucleus sampling.
            max_new_tokens: at most this many tokens.
            seed: of both.
        """

        engines = context.seen_by(request).engines
        sampling = SamplingSettings.within(limits, temperature, top_p, max_new_tokens, seed)
        a, b = (answered(engines, name, prompt, gold, sampling) for name in (model_a, model_b))
        return {"a": a.to_dict(), "b": b.to_dict(), "first_difference": first_difference(a, b)}

    for function in (trace, score, fork, compare):
        gr.api(function, api_name=function.__name__, **ASKS)
