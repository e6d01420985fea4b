"""How much each position matters: the spread of its next-token logits under noise at that position only.

Done for every position at once. A copy of position t that attends to the clean positions before t and to
itself computes exactly what the model computes at t, so n noisy copies of each position, queued behind the
clean text under a 4-D attention mask, replace n forward passes a position. Left out: models that take no such
mask (linear attention, flash attention kernels); they get an error. May import torch only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ..errors import UsageError, UserError

LOGITS_AT_ONCE = 2**24  # of one chunk: 64 MB in float32
COPIES_AT_ONCE = 512  # more would cost: every copy is compared with every other, in vain


@torch.inference_mode()
def sensitivity(
    model: Any,
    input_ids: Tensor,
    prompt_length: int,
    *,
    layer: int | None = None,
    noise: float = 0.1,
    samples: int = 8,
    seed: int = 0,
    chunk: int | None = None,
) -> Tensor:
    """(T,) logit², one value a completion token.

    Noise N(0, (noise * rms(h_t))² I) is added to the input h_t of decoder layer `layer` (default: the middle
    one) at one position; logits are centered over the vocabulary; population variance over `samples` draws,
    mean over the vocabulary. The value of completion token t belongs to position prompt_length + t - 1, whose
    logits predicted it. Noise above the last layer would give every position the same value.

    Args:
        model: a transformers causal LM with eager or sdpa attention.
        input_ids: (L,) or (1, L), prompt and completion, without padding.
        prompt_length: 1 <= prompt_length < L.
        seed: the same seed gives the same noise for any `chunk`.
        chunk: positions measured at a time; default: what keeps a chunk's logits near 64 MB.

    Raises UsageError for arguments out of range, UserError for a model that does not take a 4-D mask.
    """
    ids = input_ids.reshape(-1)
    length = len(ids) - 1  # the last token predicts nothing here
    layers = decoder_layers(model)
    layer = len(layers) // 2 if layer is None else layer
    _check_arguments(input_ids, length, prompt_length, layer, len(layers), noise, samples, chunk)
    vocab = model.get_output_embeddings().weight.shape[0]
    if chunk is None:
        chunk = max(1, min(LOGITS_AT_ONCE // (samples * vocab), COPIES_AT_ONCE // samples))
    text = _Text(model, ids[:length])
    text.check_mask()
    width = model.config.get_text_config(decoder=True).hidden_size
    generator = torch.Generator().manual_seed(seed)
    positions = torch.arange(prompt_length - 1, length, device=ids.device)  # (T,)
    values = []
    for part in positions.split(chunk):
        draws = torch.stack([position_noise(generator, samples, width) for _ in part])  # (c, n, d)
        with noise_into(layers[layer], draws.flatten(0, 1).to(ids.device), noise):
            logits = text.logits_of_copies(part.repeat_interleave(samples))  # (c·n, V)
        values.append(spread(logits.unflatten(0, (len(part), samples))))
    return torch.cat(values)


def spread(logits: Tensor) -> Tensor:
    """(c,) logit² of (c, n, V): population variance over n of centered logits, mean over the vocabulary."""
    x = logits.to(torch.promote_types(logits.dtype, torch.float32))
    x = x - x.mean(-1, keepdim=True)  # softmax ignores a shift
    return x.var(dim=1, correction=0).mean(-1)


def position_noise(generator: torch.Generator, samples: int, width: int) -> Tensor:
    """(n, d) standard normal draws of one position, on the CPU: the same on every device."""
    return torch.randn(samples, width, generator=generator)


@contextmanager
def noise_into(layer: torch.nn.Module, draws: Tensor, noise: float) -> Iterator[None]:
    """While open, the layer's input (1, N, d) gets draws (N, d) times `noise` times each row's rms."""

    def disturb(_module: Any, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        hidden = args[0] if args else kwargs["hidden_states"]
        h = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
        rms = h.pow(2).mean(-1, keepdim=True).sqrt()  # (1, N, 1)
        hidden = (h + noise * rms * draws.to(h.dtype)).to(hidden.dtype)
        return ((hidden, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": hidden})

    hook = layer.register_forward_pre_hook(disturb, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


def decoder_layers(model: Any) -> torch.nn.ModuleList:
    """The stack of decoder layers, in whatever attribute the family keeps it."""
    count = model.config.get_text_config(decoder=True).num_hidden_layers
    for module in model.get_decoder().modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == count:
            return module
    raise UserError(
        f"{type(model).__name__}: no stack of {count} decoder layers found; sensitivity needs one"
    )


class _Text:
    """The clean text, read once into a KV cache, with copies of its positions computed behind it."""

    def __init__(self, model: Any, ids: Tensor):
        from transformers import DynamicCache

        config = model.config.get_text_config(decoder=True)
        kinds = set(getattr(config, "layer_types", None) or [])
        window = getattr(config, "sliding_window", None)
        if not kinds:
            kinds = {"sliding_attention"} if window else {"full_attention"}
        if not kinds <= {"full_attention", "sliding_attention"}:
            raise UserError(
                f"{type(model).__name__}: its {', '.join(sorted(kinds))} layers take no 4-D attention mask;"
                " sensitivity cannot be measured for it"
            )
        attention = getattr(model.config, "_attn_implementation", "eager")
        if attention not in ("eager", "sdpa"):
            raise UserError(
                f"{type(model).__name__}: {attention} takes no 4-D attention mask; load the model with"
                " attn_implementation='sdpa'"
            )
        self.model, self.ids, self.kinds, self.window = model, ids, kinds, window
        self.cache = DynamicCache()
        self.last = model(
            input_ids=ids[None], past_key_values=self.cache, use_cache=True, logits_to_keep=1
        ).logits[0, -1]  # (V,)

    def logits_of_copies(self, positions: Tensor) -> Tensor:
        """(N, V) logits of one more copy of each of these positions, (N,)."""
        from transformers import DynamicCache

        cache = DynamicCache()  # over the clean keys: concatenation leaves them as they are
        clean: list[Any] = list(self.cache.layers)
        for i, layer in enumerate(clean):
            cache.update(layer.keys, layer.values, i)
        masks = {kind: self._mask(positions, kind) for kind in self.kinds}
        output = self.model(
            input_ids=self.ids[positions][None],
            position_ids=positions[None],
            attention_mask=masks if len(masks) > 1 else next(iter(masks.values())),
            past_key_values=cache,
            use_cache=True,
        )
        return output.logits[0]

    def _mask(self, positions: Tensor, kind: str) -> Tensor:
        """(1, 1, N, L + N) additive: a copy of t sees the clean positions before t, and itself."""
        at = positions[:, None]  # (N, 1)
        clean = torch.arange(len(self.ids), device=at.device)[None]  # (1, L)
        seen = clean < at
        if kind == "sliding_attention" and self.window:
            seen &= clean > at - self.window
        itself = torch.eye(len(positions), dtype=torch.bool, device=at.device)
        allowed = torch.cat([seen, itself], dim=1)  # (N, L + N)
        dtype = self.model.dtype
        mask = torch.zeros(allowed.shape, dtype=dtype, device=at.device)
        return mask.masked_fill_(~allowed, torch.finfo(dtype).min)[None, None]

    def check_mask(self) -> None:
        """A copy without noise must give the clean logits; a model that ignores the mask does not."""
        end = len(self.ids) - 1
        copy = self.logits_of_copies(torch.tensor([end, 0], device=self.ids.device))[0]
        tolerance = 1e-3 if self.model.dtype in (torch.float32, torch.float64) else 5e-2
        if not torch.isfinite(self.last).all():
            raise UserError(f"{type(self.model).__name__}: its logits are not finite; the weights are broken")
        if (copy - self.last).abs().max() > tolerance * (self.last.abs().max() + 1e-6):
            raise UserError(
                f"{type(self.model).__name__} does not follow a 4-D attention mask and position ids;"
                " sensitivity cannot be measured for it"
            )


def _check_arguments(
    input_ids: Tensor,
    length: int,
    prompt_length: int,
    layer: int,
    layers: int,
    noise: float,
    samples: int,
    chunk: int | None,
) -> None:
    for text, good in (
        (
            f"input_ids of shape {tuple(input_ids.shape)}: one text, (L,) or (1, L)",
            input_ids.numel() == length + 1,
        ),
        (f"prompt_length={prompt_length} of {length + 1} ids: 1 .. {length}", 1 <= prompt_length <= length),
        (f"layer={layer}: 0 .. {layers - 1}", 0 <= layer < layers),
        (f"noise={noise}: above 0", noise > 0),
        (f"samples={samples}: at least 2", samples >= 2),
        (f"chunk={chunk}: at least 1", chunk is None or chunk >= 1),
    ):
        if not good:
            raise UsageError(f"{text} is what sensitivity takes")
