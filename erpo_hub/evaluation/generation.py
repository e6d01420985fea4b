"""Batched generation that also measures the entropy of every token, and leaves no trace on the model.

`generate` computes a row to the end of the batch's longest one. Here it is stopped whenever a quarter of the
rows have ended, and goes on with the others: a row's numbers are its own, so nothing else changes. Each
completion has random numbers of its own too, so that an answer does not depend on what is drawn beside it.

Left out: vLLM and other engines (they return no full-vocabulary entropy), images, tools, assisted decoding.
May import torch, transformers, traces and train.capture.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, LogitsProcessor, StoppingCriteria

from ..errors import UserError
from ..traces.decoding import filters, penalized, row_seed
from ..train.capture import DecodeCapture

__all__ = [
    "Completion",
    "Decoding",
    "generate_completions",
    "in_halves",
    "in_memory",
    "row_seed",
    "rows_at_once",
    "undisturbed",
]

FEWEST = 16  # rows that stay: a product of fewer rows may be added up in another order, another last digit
LEFT = 0.75  # share of the rows still going at which the ended ones are dropped
ROWS, MOST_ROWS, ROOM = 64, 512, 2**28  # completions at once, at least and at most; bytes for all of them
T = TypeVar("T")


@dataclass(frozen=True)
class Decoding:
    """How completions are drawn. temperature 0 is greedy. shaping: top_k, min_p and repetition_penalty."""

    temperature: float
    top_p: float
    max_new_tokens: int
    pad_id: int
    eos_ids: tuple[int, ...]
    shaping: dict[str, float] = field(default_factory=dict)

    def generation_config(self, done: int) -> GenerationConfig:
        """For what is left after `done` tokens. The draw is `_Draw`'s: what it chose is the largest score."""
        return GenerationConfig(
            max_new_tokens=self.max_new_tokens - done,
            do_sample=False,
            pad_token_id=self.pad_id,
            eos_token_id=list(self.eos_ids),
            use_cache=True,
            disable_compile=True,
            return_dict_in_generate=True,
        )


@dataclass(frozen=True)
class Completion:
    """ids: up to and with the first end token. entropy, logprob: nats, one a token, of the same distribution.
    truncated: no end token came."""

    ids: list[int]
    entropy: list[float]
    truncated: bool
    logprob: list[float]


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode and a bare generation config inside; then the model as before."""
    inner = _inner(model)
    modes = [(module, module.training) for module in model.modules()]
    holders = [m for m in {id(m): m for m in (model, inner)}.values() if hasattr(m, "generation_config")]
    configs = [m.generation_config for m in holders]
    try:
        model.eval()
        for m in holders:
            m.generation_config = _bare(m.generation_config)
        yield
    finally:
        for m, config in zip(holders, configs):
            m.generation_config = config
        for module, training in modes:
            module.training = training


def rows_at_once(model: Any, tokens: int) -> int:
    """How many completions are made at once where nobody says: 64, more where keys and values are small.

    tokens: of a prompt and its completion together.
    """
    config = model.config.get_text_config(decoder=True)
    heads = getattr(config, "num_attention_heads", None) or 1
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    kept = getattr(config, "num_key_value_heads", None) or heads
    width = next(model.parameters()).element_size()
    row = 2 * config.num_hidden_layers * kept * size * width * tokens + 12 * config.vocab_size  # bytes
    return max(ROWS, min(MOST_ROWS, ROOM // row))


def generate_completions(
    model: Any, prompts: list[list[int]], decoding: Decoding, seeds: Sequence[int]
) -> list[Completion]:
    """One completion for each prompt (token ids), in one padded batch; the same seed gives the same one.

    The entropy is that of the full next-token distribution at the sampling temperature (1 when greedy),
    before top-p. Call it inside `undisturbed`. Raises UserError for logits that are not finite.
    """
    batch = _Batch(model, prompts, decoding, seeds)
    while batch.going():
        batch.advance()
    if not all(math.isfinite(h) for row in batch.entropy for h in row):
        raise UserError(
            "the model's logits are not finite: its weights are broken or its precision is too low; "
            "load it in float32 or go back to an earlier checkpoint"
        )
    ends = decoding.eos_ids
    return [
        Completion(ids, h, ids[-1] not in ends, p)
        for ids, h, p in zip(batch.tokens, batch.entropy, batch.logps)
    ]


class _Batch:
    """Completions on their way. `rows`: the number of each row that is still computed."""

    def __init__(self, model: Any, prompts: list[list[int]], decoding: Decoding, seeds: Sequence[int]):
        self.model, self.decoding = model, decoding
        device = next(model.parameters()).device
        width = max(len(ids) for ids in prompts)
        ids = torch.full((len(prompts), width), decoding.pad_id)  # (B, P)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt) :] = torch.tensor(prompt)  # the left is padded: all end together
            mask[row, width - len(prompt) :] = 1
        self.ids, self.mask = ids.to(device), mask.to(device)
        self.noise = _noise(seeds, decoding.max_new_tokens).to(device) if decoding.temperature else None
        self.rows = torch.arange(len(prompts), device=device)
        self.ended = torch.zeros(len(prompts), dtype=torch.bool, device=device)
        self.cache: Any = None
        self.done = 0  # tokens of every row
        self.tokens: list[list[int]] = [[] for _ in prompts]  # up to and with the first end token
        self.entropy: list[list[float]] = [[] for _ in prompts]  # nats
        self.logps: list[list[float]] = [[] for _ in prompts]  # nats

    def going(self) -> bool:
        return self.done < self.decoding.max_new_tokens and not bool(self.ended.all())

    def advance(self) -> None:
        """Generate until enough rows have ended to drop them, or all have."""
        decoding, before = self.decoding, self.ids.shape[1]
        stop = _EnoughEnded(self.ended, decoding.eos_ids)
        draw: list[LogitsProcessor] = []
        if (penalty := decoding.shaping.get("repetition_penalty", 1.0)) != 1:
            draw.append(_Penalty(penalty, self.mask))
        if self.noise is not None:
            draw.append(_Draw(decoding, self.noise[self.rows, self.done :]))
        with torch.no_grad(), DecodeCapture(_inner(self.model), decoding.temperature or 1.0) as capture:
            out = self.model.generate(
                input_ids=self.ids,
                attention_mask=self.mask,
                past_key_values=self.cache,
                logits_processor=draw,
                stopping_criteria=[stop],
                generation_config=decoding.generation_config(self.done),
            )
        made = out.sequences[:, before:].tolist()  # (B, t)
        captured = capture.result(made)
        if captured is None:
            raise RuntimeError(
                "the forward passes do not match the generated tokens: no entropy can be assigned"
            )
        entropy, logps = (part.tolist() for part in captured)
        for b, (row, ended) in enumerate(zip(self.rows.tolist(), self.ended.tolist())):
            if not ended:
                ids = _until_end(made[b], decoding.eos_ids)
                self.tokens[row] += ids
                self.entropy[row] += entropy[b][: len(ids)]
                self.logps[row] += logps[b][: len(ids)]
        self.ended, self.done = stop.ended, self.done + len(made[0])
        if self.going():
            self._drop(out, len(made[0]))

    def _drop(self, out: Any, steps: int) -> None:
        """Go on without the rows that have ended, but for the fewest that stay."""
        count = max(FEWEST, int((~self.ended).sum()))
        kept = self.ended.int().argsort(stable=True)[:count].sort().values
        self.cache = getattr(out, "past_key_values", None)  # without one the rows are read again
        if self.cache is not None:
            self.cache.reorder_cache(kept)
        ones = self.mask.new_ones(len(self.mask), steps)
        self.ids, self.mask = out.sequences[kept], torch.cat([self.mask, ones], 1)[kept]
        self.rows, self.ended = self.rows[kept], self.ended[kept]


class _EnoughEnded(StoppingCriteria):
    """Stops `generate` where rows can be dropped; `ended` (B,) says which have met an end token."""

    def __init__(self, ended: Tensor, eos_ids: tuple[int, ...]):
        self.ended = ended
        self.eos = torch.tensor(eos_ids, device=ended.device)
        self.enough = LEFT * len(ended) if len(ended) > FEWEST else 0

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        self.ended = self.ended | torch.isin(input_ids[:, -1], self.eos)
        left = (~self.ended).sum()
        return self.ended | (left <= self.enough)


class _Draw(LogitsProcessor):
    """Draws a token for every row by the row's own number, and leaves it the only possible one."""

    def __init__(self, decoding: Decoding, noise: Tensor):
        self.temperature, self.noise, self.step = decoding.temperature, noise, 0
        self.filters = filters({**decoding.shaping, "top_p": decoding.top_p})

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        scores = scores / self.temperature  # (B, V)
        for keep in self.filters:
            scores = keep(input_ids, scores)
        reached = scores.softmax(-1).cumsum(-1, dtype=self.noise.dtype)
        wanted = self.noise[:, self.step, None] * reached[:, -1:]
        self.step += 1
        token = torch.searchsorted(reached, wanted, right=True).clamp(max=scores.shape[1] - 1)
        return torch.full_like(scores, -torch.inf).scatter_(1, token, 0.0)


class _Penalty(LogitsProcessor):
    """transformers' repetition penalty, without the padding that it would count as repeated."""

    def __init__(self, penalty: float, mask: Tensor):
        self.penalty, self.mask = penalty, mask  # (B, P) of the text before this call of `generate`

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        real = self.mask.new_ones(input_ids.shape)
        real[:, : self.mask.shape[1]] = self.mask
        return penalized(scores, input_ids, real, self.penalty)


def _noise(seeds: Sequence[int], steps: int) -> Tensor:
    """A number from 0 up to 1 for every token, (B, steps): drawn on the CPU, the same for every device."""
    mps = torch.backends.mps.is_available()  # which has no float64
    rows = [torch.rand(steps, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(rows).to(torch.float32 if mps else torch.float64)


def in_memory(
    model: Any, prompts: list[list[int]], decoding: Decoding, seeds: Sequence[int]
) -> list[Completion]:
    """As `generate_completions`, `in_halves` where need be."""
    return in_halves(
        lambda part: generate_completions(model, prompts[part], decoding, seeds[part]), len(prompts)
    )


def in_halves(draw: Callable[[slice], list[T]], count: int) -> list[T]:
    """What `draw` makes of all `count` rows; where they do not fit into memory, of two halves, and says so.

    Raises UserError where a half does not fit either.
    """
    try:
        return draw(slice(None))
    except RuntimeError as error:
        if not _is_of_memory(error):
            raise
    size = (count + 1) // 2  # here the error is gone, which holds on to the tensors
    print(f"out of memory with {count} completions at once: drawing {size}", file=sys.stderr)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    try:
        halves = [slice(None, size), slice(size, None)] if count > 1 else [slice(None)]
        return [row for half in halves for row in draw(half)]
    except RuntimeError as error:
        if not _is_of_memory(error):
            raise
        raise UserError(
            f"out of memory with {size} completions at once too: give a smaller batch_size"
        ) from error


def _is_of_memory(error: RuntimeError) -> bool:
    """CUDA's refusal has a class of its own; those of a Mac's GPU and of the machine only their words."""
    words = ("can't allocate memory", "not enough memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError) or any(said in str(error) for said in words)


def _until_end(ids: list[int], eos_ids: tuple[int, ...]) -> list[int]:
    """Up to and with the first end token."""
    return ids[: next((t + 1 for t, token in enumerate(ids) if token in eos_ids), None)]


def _inner(model: Any) -> Any:
    """The causal LM whose forward `generate` calls: below PEFT's wrapper, where there is one."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _bare(config: Any) -> Any:
    """A model's own sampling defaults (top-k, repetition penalty, ...) would otherwise leak into ours."""
    return GenerationConfig(
        bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id
    )
