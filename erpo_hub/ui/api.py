"""Typed endpoints for programs: /trace, /score, /fork, /compare. The same queue and limits as the page.

Traces go in and out in the JSON form of `Trace` (docs/trace-format.md). The functions' docstrings are what
the API page and an MCP client show. May import gradio.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from ..errors import UserError
from ..traces.trace import Trace
from .context import Context
from .models import runner
from .models.asking import explain
from .models.pairs import first_difference
from .models.requests import Answer, Fork, SamplingSettings, Score
from .models.streaming import MODEL_ERRORS


def build(context: Context) -> None:
    """Adds the endpoints to the Blocks that is being built."""
    engines, limits = context.engines, context.limits

    def answered(model: str, prompt: str, gold: str, sampling: SamplingSettings) -> Trace:
        limits.check_prompt(prompt)
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
        return _in_one_line(lambda: answered(model, prompt, gold, sampling).to_dict())

    def score(
        prompt: str, completion: str, model: str = "builtin:tiny-reasoner", temperature: float = 1.0
    ) -> dict[str, Any]:
        """Score a given completion: the trace that the model would have had, had it written this text.

        Args:
            prompt: the question.
            completion: the text to score.
            model: a name from the app's list of models.
            temperature: the temperature at which probabilities and entropies are taken.
        """

        def work() -> dict[str, Any]:
            limits.check_prompt(prompt)
            limits.check_prompt(completion)
            return runner.trace(engines, model, Score(prompt, completion, temperature)).to_dict()

        return _in_one_line(work)

    def fork(
        trace: dict[str, Any], index: int, token_id: int, model: str = "builtin:tiny-reasoner", seed: int = 0
    ) -> dict[str, Any]:
        """Continue a trace with another token at one position and return the new trace.

        Args:
            trace: a trace as /trace returns it.
            index: position of the token to replace, from 0.
            token_id: the token to put there; the trace's topk_ids name the likely ones.
            model: the model that made the trace.
            seed: of the tokens that follow.
        """

        def work() -> dict[str, Any]:
            origin = Trace.from_dict(trace)
            room = limits.tokens(origin.generation.get("max_new_tokens") or 256)
            name, _ = engines.for_trace(origin, model)
            request = Fork(origin, index, token_id, max(room, index + 1), seed)
            branch = runner.trace(engines, name, request)
            return engines.grade(branch, origin.gold).to_dict()

        return _in_one_line(work)

    def compare(
        prompt: str,
        model_a: str,
        model_b: str,
        gold: str = "",
        temperature: float = 0.7,
        top_p: float = 1.0,
        max_new_tokens: int = 256,
        seed: int = 0,
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

        def work() -> dict[str, Any]:
            sampling = SamplingSettings.within(limits, temperature, top_p, max_new_tokens, seed)
            a, b = (answered(name, prompt, gold, sampling) for name in (model_a, model_b))
            return {"a": a.to_dict(), "b": b.to_dict(), "first_difference": first_difference(a, b)}

        return _in_one_line(work)

    for function in (trace, score, fork, compare):
        gr.api(function, api_name=function.__name__, concurrency_id="model", concurrency_limit=1)


def _in_one_line(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The work's result; what goes wrong reaches the caller as one line."""
    try:
        return work()
    except (UserError, *MODEL_ERRORS) as error:
        raise gr.Error(explain(error), print_exception=False) from None
