"""One step of decoding with everything a trace records about it, and text out of tokens as they come.

Filters are transformers' own warpers; only the loop around them (engine.py) is ours, because `generate`
shows neither the full distribution nor its numbers while it runs. A repetition penalty changes which token is
chosen, never what is recorded of the model's own distribution. Left out: beam search and other processors.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import UsageError, UserError
from .pivots import PivotRule
from .trace import MAX_ALTERNATIVES, MAX_TOKENS, Trace

logger = logging.getLogger(__name__)

COLDEST = 1e-6  # the lowest temperature but 0: logits divided by less may overflow float32


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen. temperature 0 is greedy; top_k None or 0 and top_p 1 filter nothing."""

    max_new_tokens: int = 256
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None
    seed: int = 0
    num_alternatives: int = 5
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not isinstance(value, int | float) and (name, value) != ("top_k", None):
                raise UsageError(f"{name}={value!r} is not a number")
        heat, top_k = self.temperature, self.top_k or 0
        for name, good, wanted in (
            ("max_new_tokens", 1 <= self.max_new_tokens <= MAX_TOKENS, f"from 1 to {MAX_TOKENS}"),
            (
                "temperature",
                heat == 0 or COLDEST <= heat < 100,
                f"that is 0 (greedy), or from {COLDEST} to 100",
            ),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("top_k", top_k >= 0 and top_k % 1 == 0, "that is whole, 0 (off) or more"),
            ("min_p", 0 <= self.min_p <= 1, "from 0 to 1"),
            ("repetition_penalty", 1e-3 <= self.repetition_penalty <= 1e3, "from 0.001 to 1000"),
            (
                "num_alternatives",
                0 <= self.num_alternatives <= MAX_ALTERNATIVES,
                f"from 0 to {MAX_ALTERNATIVES}",
            ),
            ("seed", self.seed % 1 == 0 and abs(self.seed) < 2**63, "that is whole and below 2^63"),
        ):
            if not good:
                raise UsageError(f"{name}={getattr(self, name)!r}: give a number {wanted}")

    def settings(self) -> dict[str, Any]:
        """The parameters as a trace stores them."""
        found = {name: value for name, value in asdict(self).items() if name != "num_alternatives"}
        if not self.min_p:
            del found["min_p"]
        if self.repetition_penalty == 1:
            del found["repetition_penalty"]
        return found

    def generator(self, device: torch.device) -> torch.Generator:
        """A private random stream: the process's own is neither read nor moved."""
        return torch.Generator(device=device).manual_seed(self.seed)


@dataclass(frozen=True)
class Step:
    """What one step chose and saw, B rows, on the host; numbers rounded to 1e-6."""

    token: list[int]  # (B,)
    entropy: list[float]  # (B,) nats
    logprob: list[float]  # (B,) nats
    sampling_logprob: list[float]  # (B,) nats
    topk_ids: list[list[int]]  # (B, k)
    topk_probs: list[list[float]]  # (B, k)


class Chooser:
    """Chooses the next token of every row from its logits, one random stream for all of them."""

    def __init__(self, sampling: Sampling, device: torch.device):
        self.sampling = sampling
        self.generator = sampling.generator(device)
        self.filters = filters(asdict(sampling)) if sampling.temperature > 0 else []

    @torch.inference_mode()
    def __call__(
        self, logits: Tensor, forced: list[int] | None = None, *, text: list[list[int]] | None = None
    ) -> Step:
        """logits: (B, V). `forced` chooses the tokens instead (a fork), with sampling log-prob 0.

        text: (B, any) the ids before, prompt and completion; a repetition penalty needs them.
        """
        s = self.sampling
        chosen_by = logits if s.repetition_penalty == 1 else self._penalized(logits, text)
        x = logits.float() / (s.temperature or 1.0)  # (B, V)
        logp = torch.log_softmax(x, dim=-1)  # (B, V)
        p = logp.exp()
        entropy = -(p * logp.clamp(min=-1e4)).sum(-1)  # (B,) a logit of -inf has p = 0 and adds 0
        after = torch.zeros_like(entropy)
        if forced is not None:
            token = torch.tensor(forced, device=logits.device)  # (B,)
        elif s.temperature == 0:
            token = chosen_by.argmax(-1)
        else:
            filtered = logp
            if self.filters or chosen_by is not logits:
                x = chosen_by.float() / s.temperature
                for keep in self.filters:
                    x = keep(None, x)
                filtered = torch.log_softmax(x, dim=-1)
                p = filtered.exp()
            if torch.isfinite(entropy).all():  # else the caller reports the broken logits
                token = torch.multinomial(p, 1, generator=self.generator).squeeze(-1)
            else:
                token = torch.zeros_like(entropy, dtype=torch.long)
            after = filtered.gather(-1, token[:, None]).squeeze(-1)
        top = logp.topk(min(s.num_alternatives, logp.shape[-1]), dim=-1)
        chosen = logp.gather(-1, token[:, None]).squeeze(-1).clamp(min=-1e4)
        numbers = torch.cat(
            [entropy.clamp(min=0)[:, None], chosen[:, None], after[:, None], top.values.exp()], dim=-1
        )  # (B, 3 + k)
        rows = torch.round(numbers.double(), decimals=6).tolist()  # one transfer, one for the ids
        ids = torch.cat([token[:, None], top.indices], dim=-1).tolist()
        return Step(
            token=[row[0] for row in ids],
            entropy=[row[0] for row in rows],
            logprob=[row[1] for row in rows],
            sampling_logprob=[row[2] for row in rows],
            topk_ids=[row[1:] for row in ids],
            topk_probs=[row[3:] for row in rows],
        )

    def _penalized(self, logits: Tensor, text: list[list[int]] | None) -> Tensor:
        if text is None:
            raise UsageError("a repetition penalty needs the text before the token")
        rows = [torch.tensor(ids, device=logits.device) for ids in text]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)  # (B, n)
        real = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
        return penalized(logits, ids, real, self.sampling.repetition_penalty)


def filters(shaping: dict[str, Any]) -> list[Any]:
    """transformers' warpers for top_k, top_p and min_p, in the order in which `generate` takes them."""
    from transformers.generation import logits_process as warpers

    found: list[Any] = []
    if top_k := shaping.get("top_k"):
        found.append(warpers.TopKLogitsWarper(int(top_k)))
    if (top_p := shaping.get("top_p", 1.0)) < 1:
        found.append(warpers.TopPLogitsWarper(top_p))
    if min_p := shaping.get("min_p"):
        found.append(warpers.MinPLogitsWarper(min_p))
    return found


def penalized(scores: Tensor, ids: Tensor, real: Tensor, penalty: float) -> Tensor:
    """Scores (B, V) with those of tokens that stand in ids (B, n) made less likely, as `generate` does it.

    real: (B, n), 0 where an id is padding: unlike `generate`, what a row is padded with is not penalized, so
    that an answer does not depend on the rows beside it.
    """
    seen = torch.zeros_like(scores).scatter_add_(1, ids, real.to(scores.dtype)) > 0  # (B, V)
    return torch.where(seen, torch.where(scores > 0, scores / penalty, scores * penalty), scores)


class Detokenizer:
    """Text piece of every token as it comes; `"".join(pieces)` is the decoded text.

    The bytes of a split character are held together: its first tokens give "", its last one the character.
    A short window of tokens is decoded twice at each step, because a tokenizer may join or drop the space
    between two tokens (SentencePiece) and only decoding them together shows it. Special tokens give "".
    """

    def __init__(self, tokenizer: Any):
        self.tokenizer = tokenizer
        self.special = set(tokenizer.all_special_ids)
        self.ids: list[int] = []
        self.start = 0  # first token of the window
        self.shown = 0  # tokens before this one have given their text

    def add(self, token: int) -> str:
        """The text that this token completes."""
        if token in self.special:
            return ""
        self.ids.append(token)
        text = self._window(len(self.ids))
        if text.endswith("\ufffd") and len(self.ids) - self.shown < 8:  # more bytes may follow
            return ""
        piece = text[len(self._window(self.shown)) :]
        self.start, self.shown = self.shown, len(self.ids)
        return piece

    def flush(self) -> str:
        """What is still held when the text ends inside a character."""
        held = self._window(len(self.ids))[len(self._window(self.shown)) :]
        self.start = self.shown = len(self.ids)
        return held

    def _window(self, end: int) -> str:
        return decode(self.tokenizer, self.ids[self.start : end])


def decode(tokenizer: Any, ids: list[int]) -> str:
    """Text of the tokens, special ones left out, spaces exactly as they are."""
    return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def pieces_of(tokenizer: Any, ids: list[int]) -> list[str]:
    """(T,) pieces of given tokens, the same as `Detokenizer` gives one by one."""
    detokenizer = Detokenizer(tokenizer)
    pieces = [detokenizer.add(token) for token in ids]
    if pieces:
        pieces[-1] += detokenizer.flush()
    return pieces


def logged_trace(tokenizer: Any, row: dict[str, Any]) -> Trace | None:
    """A trace of one logged completion; None where a number of it is not finite or no token counted.

    row: fields of a Trace by their names; text and pieces are made here, alternatives are not recorded.
    """
    ids = row["tokens"]
    if not ids:
        return None
    pieces = pieces_of(tokenizer, ids)
    try:
        return Trace(
            **row,
            completion="".join(pieces),
            pieces=pieces,
            topk_ids=[[] for _ in ids],
            topk_probs=[[] for _ in ids],
            strings={i: tokenizer.decode([i]) for i in sorted(set(ids))},
            pivots=PivotRule().find(row["entropy"]),
            pivot_rule=PivotRule(),
            finish_reason="eos" if ids[-1] in tokenizer.all_special_ids else "length",
        )
    except UserError as error:
        logger.warning("a completion is not logged: %s", error)
        return None


def end_tokens(model: Any, tokenizer: Any) -> tuple[int, ...]:
    """Ids that end a completion, as in TRL's training: the tokenizer's and the generation config's."""
    of_model = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    of_model = of_model if isinstance(of_model, (list, tuple)) else [of_model]
    ids = [t for t in (tokenizer.eos_token_id, *of_model) if isinstance(t, int) and 0 <= t < 2**31]
    return tuple(dict.fromkeys(ids))


def row_seed(*of: int) -> int:
    """The seed of one completion, from the numbers that tell it from all others."""
    return int.from_bytes(hashlib.sha256(repr(of).encode()).digest()[:8]) >> 1
