"""A trace in the making: takes decoding steps in, gives deltas out, and the whole trace at the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..errors import UserError
from .decoding import Detokenizer, Sampling, Step
from .pivots import PivotRule
from .trace import Trace
from .vocabulary import Vocabulary

Prompt = str | list[dict[str, str]]  # a question, or chat messages


@dataclass(frozen=True)
class Delta:
    """What a stream adds: usually one token, none in the last one of a cancelled stream.

    The columns are those of `Trace`, for tokens `start` .. `start + len(tokens) - 1`. `strings` holds the
    texts of ids not named before. The last delta has `done` and the whole `trace`.
    """

    start: int
    tokens: list[int]
    pieces: list[str]
    entropy: list[float]
    logprob: list[float]
    sampling_logprob: list[float]
    topk_ids: list[list[int]]
    topk_probs: list[list[float]]
    strings: dict[int, str]
    done: bool = False
    trace: Trace | None = None


@dataclass
class Draft:
    """A trace in the making."""

    vocabulary: Vocabulary
    prompt: str
    prompt_tokens: list[int]
    sampling: Sampling
    origin: Trace | None = None
    tokens: list[int] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)
    entropy: list[float] = field(default_factory=list)
    logprob: list[float] = field(default_factory=list)
    sampling_logprob: list[float] = field(default_factory=list)
    topk_ids: list[list[int]] = field(default_factory=list)
    topk_probs: list[list[float]] = field(default_factory=list)
    strings: dict[int, str] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.detokenizer = Detokenizer(self.vocabulary.tokenizer)

    def copy(self, trace: Trace, n: int) -> None:
        """Begin with the first n tokens of another trace."""
        k = self.sampling.num_alternatives
        self.tokens = trace.tokens[:n]
        self.pieces = [self.detokenizer.add(token) for token in self.tokens]
        self.entropy, self.logprob = trace.entropy[:n], trace.logprob[:n]
        self.sampling_logprob = (trace.sampling_logprob or [0.0] * n)[:n]
        if n and trace.num_alternatives < k:
            raise UserError(f"the trace has {trace.num_alternatives} alternatives a token; ask for no more")
        self.topk_ids = [row[:k] for row in trace.topk_ids[:n]]
        self.topk_probs = [row[:k] for row in trace.topk_probs[:n]]
        self._name([*self.tokens, *(i for row in self.topk_ids for i in row)])

    def add(self, step: Step, reason: str | None) -> Delta:
        """Take one step in; with a reason it is the last."""
        start, token = len(self.tokens), step.token[0]
        piece = self.detokenizer.add(token)
        if reason:
            piece += self.detokenizer.flush()
        new = self._name([token, *step.topk_ids[0]])
        self.tokens += step.token
        self.pieces += [piece]
        self.entropy += step.entropy
        self.logprob += step.logprob
        self.sampling_logprob += step.sampling_logprob
        self.topk_ids += step.topk_ids
        self.topk_probs += step.topk_probs
        return Delta(
            start=start,
            tokens=step.token,
            pieces=[piece],
            entropy=step.entropy,
            logprob=step.logprob,
            sampling_logprob=step.sampling_logprob,
            topk_ids=step.topk_ids,
            topk_probs=step.topk_probs,
            strings=new,
            done=bool(reason),
            trace=self.trace(reason) if reason else None,
        )

    def end(self, reason: str) -> Delta:
        """The last delta of a stream that stops between two tokens."""
        return Delta(len(self.tokens), [], [], [], [], [], [], [], {}, True, self.trace(reason))

    def trace(self, reason: str) -> Trace:
        return Trace(
            prompt=self.prompt,
            completion="".join(self.pieces),
            prompt_tokens=self.prompt_tokens,
            tokens=list(self.tokens),
            pieces=list(self.pieces),
            entropy=list(self.entropy),
            logprob=list(self.logprob),
            sampling_logprob=list(self.sampling_logprob),
            topk_ids=list(self.topk_ids),
            topk_probs=list(self.topk_probs),
            vocab_size=self.vocabulary.vocab_size,
            model=self.vocabulary.name,
            revision=self.vocabulary.revision,
            strings=dict(self.strings),
            pivots=PivotRule().find(self.entropy),
            pivot_rule=PivotRule(),
            gold=self.origin.gold if self.origin else None,
            generation={**self.sampling.settings(), **self.extra},
            finish_reason=reason,
        )

    def _name(self, ids: list[int]) -> dict[int, str]:
        """Texts of the ids not named yet."""
        new = {i: self.vocabulary.string(i) for i in ids if i not in self.strings}
        self.strings.update(new)
        return new


def shown_prompt(prompt: Prompt) -> str:
    """A prompt as a reader sees it: the question, or the last thing the user said."""
    if isinstance(prompt, str):
        return prompt
    said = [m["content"] for m in prompt if m.get("role") == "user"] or [m["content"] for m in prompt]
    return said[-1]
