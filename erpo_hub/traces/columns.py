"""The columns of given text in one forward pass, without ever holding (T, V) logits.

The hidden states are computed once; the output matrix is applied to a few rows of them at a time and each
tile of logits is reduced to its numbers at once. For a vocabulary of 150,000 and 8,192 tokens the logits
alone would take 5 GB.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import UserError

TILE = 2**22  # logits computed at a time: 16 MB in float32


@torch.inference_mode()
def token_columns(
    model: Any, ids: Tensor, prompt_length: int, temperature: float = 1.0, num_alternatives: int = 5
) -> dict[str, Tensor]:
    """entropy, logprob (T,) in nats, topk_ids, topk_probs (T, k) of the tokens ids[prompt_length:].

    ids: (L,) prompt and completion, 1 <= prompt_length < L. Token t is predicted at position t - 1.
    """
    hidden = hidden_states(model, ids)[prompt_length - 1 : -1]  # (T, d)
    targets = ids[prompt_length:]  # (T,)
    vocab = model.get_output_embeddings().weight.shape[0]
    k = min(num_alternatives, vocab)
    # The columns exist before the loop: a small result kept from every turn would lie between the freed
    # tiles and keep the allocator from using their place again (5 GB instead of 0.1 on glibc).
    entropy, logprob = (torch.empty(len(targets), device=ids.device) for _ in range(2))
    topk_ids = torch.empty(len(targets), k, dtype=torch.long, device=ids.device)
    topk_probs = torch.empty(len(targets), k, device=ids.device)
    rows = max(1, TILE // vocab)
    for start in range(0, len(targets), rows):
        tile = slice(start, start + rows)
        entropy[tile], logprob[tile], topk_ids[tile], topk_probs[tile] = _reduce(
            output_logits(model, hidden[tile]), targets[tile], temperature, k
        )
    return {"entropy": entropy, "logprob": logprob, "topk_ids": topk_ids, "topk_probs": topk_probs}


def _reduce(logits: Tensor, target: Tensor, temperature: float, k: int) -> tuple[Tensor, ...]:
    """One tile, (C, V) logits, reduced to its numbers; in place, so that one copy and one buffer exist.

    With e = exp(x - max x) and Z = sum e: entropy = log Z - sum(e x) / Z, x counted from its maximum.
    """
    x = logits.float()
    if temperature != 1.0:
        x = x / temperature
    top = x.topk(max(k, 1), dim=-1)  # (C, k)
    peak = top.values[:, :1]
    x = x.sub_(peak).clamp_(min=-1e4)  # (C, V) at most 0; a logit of -inf has no weight
    chosen = x.gather(-1, target[:, None]).squeeze(-1)
    e = x.exp()
    z = e.sum(-1)  # (C,)
    entropy = z.log() - torch.linalg.vecdot(e, x) / z
    probs = (top.values[:, :k] - peak - z.log()[:, None]).exp()
    return entropy.clamp(min=0), chosen - z.log(), top.indices[:, :k], probs


def hidden_states(model: Any, ids: Tensor) -> Tensor:
    """(L, d) inputs of the output layer for ids (L,), from one forward pass.

    The model's own logits of the last position, which that pass gives anyway, must agree with ours:
    a model that does something else to its logits is refused instead of scored wrongly.
    """
    seen: list[Tensor] = []
    decoder = model.get_decoder()
    hook = decoder.register_forward_hook(lambda _m, _i, output: seen.append(output[0]))
    try:
        last = model(input_ids=ids[None], use_cache=False, logits_to_keep=1).logits[0, -1].float()  # (V,)
    finally:
        hook.remove()
    if not seen:
        raise UserError(f"{type(model).__name__}: its decoder is not where `get_decoder` says; cannot score")
    hidden = seen[-1][0]  # (L, d)
    ours = output_logits(model, hidden[-1:])[0].float()
    scale = last.abs().nan_to_num(posinf=0.0).max() + 1e-6
    if torch.isfinite(last).all() and (ours - last).abs().max() > 2e-2 * scale:
        raise UserError(f"{type(model).__name__}: it changes its logits in a way unknown here; cannot score")
    return hidden


def output_logits(model: Any, hidden: Tensor) -> Tensor:
    """(C, V) logits of (C, d) hidden states: the output matrix and what some families do after it."""
    config = model.config.get_text_config(decoder=True)
    logits = model.get_output_embeddings()(hidden)
    if scale := getattr(config, "logit_scale", None):  # Cohere
        logits = logits * scale
    if scaling := getattr(config, "logits_scaling", None):  # Granite
        logits = logits / scaling
    if cap := getattr(config, "final_logit_softcapping", None):  # Gemma
        logits = cap * torch.tanh(logits / cap)
    return logits
