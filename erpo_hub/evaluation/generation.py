"""Batched generation that also measures the entropy of every token, and leaves no trace on the model.

Left out: vLLM and other engines (they return no full-vocabulary entropy), images, tools, assisted decoding.
May import torch, transformers and train.capture.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..errors import UserError
from ..train.capture import DecodeCapture

__all__ = ["Completion", "Decoding", "generate_completions", "undisturbed"]


@dataclass(frozen=True)
class Decoding:
    """How completions are drawn. temperature 0 is greedy; nothing else (top-k, penalties) is in play."""

    temperature: float
    top_p: float
    max_new_tokens: int
    pad_id: int
    eos_ids: tuple[int, ...]

    def generation_config(self) -> Any:
        from transformers import GenerationConfig

        drawn = {"temperature": self.temperature, "top_p": self.top_p, "top_k": 0} if self.temperature else {}
        return GenerationConfig(
            max_new_tokens=self.max_new_tokens,
            do_sample=bool(self.temperature),
            pad_token_id=self.pad_id,
            eos_token_id=list(self.eos_ids),
            use_cache=True,
            disable_compile=True,
            **drawn,
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
    """Evaluation mode and a bare generation config inside; then model and torch's generators as before."""
    inner = _inner(model)
    modes = [(module, module.training) for module in model.modules()]
    holders = [m for m in {id(m): m for m in (model, inner)}.values() if hasattr(m, "generation_config")]
    configs = [m.generation_config for m in holders]
    device = next(model.parameters()).device
    accelerated = device.type in ("cuda", "xpu")
    devices = [device.index or 0] if accelerated else []
    with torch.random.fork_rng(devices, device_type=device.type if accelerated else "cuda"):
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


def generate_completions(
    model: Any, prompts: list[list[int]], decoding: Decoding, seed: int
) -> list[Completion]:
    """One completion for each prompt (token ids), in one padded batch; the same seed gives the same ones.

    The entropy is that of the full next-token distribution at the sampling temperature (1 when greedy),
    before top-p. Call it inside `undisturbed`. Raises UserError for logits that are not finite.
    """
    device = next(model.parameters()).device
    width = max(len(ids) for ids in prompts)
    ids = torch.full((len(prompts), width), decoding.pad_id)  # (B, P)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)  # the left is padded: all end together
        mask[row, width - len(prompt) :] = 1

    torch.manual_seed(seed)
    with torch.no_grad(), DecodeCapture(_inner(model), decoding.temperature or 1.0) as capture:
        sequences = model.generate(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            generation_config=decoding.generation_config(),
        )  # (B, P + T)
    rows = [_until_end(row, decoding.eos_ids) for row in sequences[:, width:].tolist()]
    captured = capture.result(rows)
    if captured is None:
        raise RuntimeError("the forward passes do not match the generated tokens: no entropy can be assigned")
    entropies, logps = ([x[: len(row)] for x, row in zip(part.tolist(), rows)] for part in captured)
    if not all(math.isfinite(h) for row in entropies for h in row):
        raise UserError(
            "the model's logits are not finite: its weights are broken or its precision is too low; "
            "load it in float32 or go back to an earlier checkpoint"
        )
    return [
        Completion(row, h, row[-1] not in decoding.eos_ids, p) for row, h, p in zip(rows, entropies, logps)
    ]


def _until_end(ids: list[int], eos_ids: tuple[int, ...]) -> list[int]:
    """Up to and with the first end token."""
    return ids[: next((t + 1 for t, token in enumerate(ids) if token in eos_ids), None)]


def _inner(model: Any) -> Any:
    """The causal LM whose forward `generate` calls: below PEFT's wrapper, where there is one."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _bare(config: Any) -> Any:
    """A model's own sampling defaults (top-k, repetition penalty, ...) would otherwise leak into ours."""
    from transformers import GenerationConfig

    return GenerationConfig(
        bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id
    )
