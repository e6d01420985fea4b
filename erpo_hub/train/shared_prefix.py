"""A group's prompt is computed once: one packed row for all completions of the same prompt.

    [ prompt, its last token left out | last token, completion 1 | last token, completion 2 | ... ]

A 4-D attention mask lets every token see the prompt and its own completion, position ids repeat, and each
completion brings its own copy of the prompt's last token, so that a label still stands one place behind the
state that predicts it. The numbers are those of TRL's own forward up to rounding. A token of a packed row
attends over the whole row, so packing loses where completions are long beside their prompt: how many share a
row, and whether any do, is decided for each batch by counting operations (`completions_a_row`). Left out, by
name (`cannot_pack`): flash attention kernels, which take no such mask, absolute positions, recurrent layers,
images.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import UsageError
from . import compat

MAX_LENGTH = 4096  # of a packed row: its mask has the square of that; longer groups are cut into several rows
GAIN = 0.9  # a packed batch must cost at most this share of the plain one: making its mask costs too
_FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gemma3_text", "phi3")


def wanted(trainer: Any) -> bool:
    """Whether this training packs. Raises UsageError where it is asked to and its model cannot."""
    if not getattr(trainer.args, "shared_prefix", False):
        return False
    if not compat.has_fused_head():
        raise UsageError(
            f"shared_prefix needs trl >= {compat.FUSED_HEAD}, whose head scores packed rows; leave it out"
        )
    if reason := cannot_pack(trainer.accelerator.unwrap_model(trainer.model)):
        raise UsageError(f"shared_prefix: {reason}; leave it out")
    return True


def forward(
    trainer: Any,
    model: Any,
    input_ids: Tensor,
    attention_mask: Tensor,
    completion: int,
    batch_size: int | None,
) -> tuple[Tensor, Tensor | None] | None:
    """Log-probs and entropies (nats), each (B, C), `batch_size` rows at a time; None where that costs more.

    A reference gives no entropies: None in their place.
    """
    size, pair = batch_size or len(input_ids), pair_cost(trainer.accelerator.unwrap_model(model))
    parts = [pack(i, m, completion, pair) for i, m in zip(input_ids.split(size), attention_mask.split(size))]
    if any(part is None for part in parts):
        return None
    found = [packed_forward(model, part, completion, trainer.accelerator) for part in parts if part]
    entropies = [entropy for _, entropy in found if entropy is not None]
    return torch.cat([logps for logps, _ in found]), torch.cat(entropies) if entropies else None


def cannot_pack(model: Any) -> str | None:
    """Why this model's forward takes no packed rows, None where it does."""
    config = model.config.get_text_config(decoder=True)
    kinds = set(getattr(config, "layer_types", None) or ())
    if config.model_type not in _FAMILIES:
        return f"{config.model_type} was not tried with packed rows (tried: {', '.join(_FAMILIES)})"
    if not kinds <= {"full_attention", "sliding_attention"}:
        return f"its {', '.join(sorted(kinds))} layers take no 4-D attention mask"
    attention = getattr(config, "_attn_implementation", "eager")
    if attention not in ("eager", "sdpa"):
        return f"{attention} takes no 4-D attention mask: use attn_implementation='sdpa'"
    return None


def pair_cost(model: Any) -> float:
    """Multiplications of a query with a key, and of their weight with a value, in those of a token."""
    config = model.config.get_text_config(decoder=True)
    return 2 * config.hidden_size * config.num_hidden_layers / sum(p.numel() for p in model.parameters())


def completions_a_row(sizes: list[int], prompt: int, completion: int, pair: float) -> int:
    """How many completions of a group share a packed row where that costs least; 1: packing does not pay.

    A row of L tokens costs L tokens and L x L pairs. sizes: rows of each prompt. pair: see `pair_cost`.
    """

    def cost(rows: int, length: int) -> float:
        return rows * (length + pair * length**2)

    def packed(share: int) -> float:
        return cost(sum(-(-size // share) for size in sizes), prompt - 1 + share * (completion + 1))

    most = min(max(sizes), (MAX_LENGTH - prompt) // (completion + 1))
    best = min(range(2, most + 1), key=packed, default=1)
    plain = cost(sum(sizes), prompt + completion)
    return best if best > 1 and packed(best) <= GAIN * plain else 1


@dataclass(frozen=True)
class Packed:
    """Rows of a batch (B, P + C) as G packed rows of length L; where each completion token stands in them."""

    input_ids: Tensor  # (G, L)
    position_ids: Tensor  # (G, L)
    labels: Tensor  # (G, L), -100 where nothing is scored
    owner: Tensor  # (G, L): 0 prompt, j completion j of the row, -1 nothing
    row: Tensor  # (B,) the packed row of each row
    start: Tensor  # (B,) the place of its first completion token

    def logits_of(self, values: Tensor, length: int) -> Tensor:
        """(B, C) of the packed (G, L - 1), whose entry i belongs to token i + 1."""
        places = self.start[:, None] - 1 + torch.arange(length, device=values.device)  # (B, C)
        return values[self.row[:, None], places]


def pack(input_ids: Tensor, attention_mask: Tensor, completion: int, pair: float) -> Packed | None:
    """Rows with equal prompts side by side; None where that saves nothing.

    input_ids, attention_mask: (B, P + C), prompts padded on the left. completion: C. pair: see `pair_cost`.
    """
    rows, width = input_ids.shape
    prompt = width - completion
    if prompt < 2:
        return None
    key = torch.where(attention_mask[:, :prompt].bool(), input_ids[:, :prompt], -1)  # (B, P)
    group = torch.unique(key, dim=0, return_inverse=True)[1].tolist()
    room = completions_a_row(list(Counter(group).values()), prompt, completion, pair)
    if room == 1:
        return None
    members: list[list[int]] = []
    open_rows: dict[int, list[int]] = {}
    for i, g in enumerate(group):
        if g not in open_rows or len(open_rows[g]) == room:
            open_rows[g] = []
            members.append(open_rows[g])
        open_rows[g].append(i)
    block, most = completion + 1, max(map(len, members))
    first = torch.tensor([m[0] for m in members], device=input_ids.device)
    at = torch.full((len(members), most), -1, device=input_ids.device)
    for g, m in enumerate(members):
        at[g, : len(m)] = torch.tensor(m, device=input_ids.device)
    there = at >= 0  # (G, most)
    blocks = torch.arange(prompt - 1, width, device=input_ids.device)  # a block's columns in its own row
    ids, mask = input_ids[at.clamp(min=0)][..., blocks], attention_mask[at.clamp(min=0)][..., blocks]
    mask = mask.bool() & there[..., None]  # (G, most, C + 1)
    labels = ids.masked_fill(~mask, -100)
    labels[..., 0] = -100
    number = torch.arange(1, most + 1, device=input_ids.device)[None, :, None]
    head = attention_mask[first][:, : prompt - 1].bool()  # (G, P - 1)
    positions = torch.arange(prompt - 1, device=input_ids.device).expand(len(members), -1)
    row = torch.empty(rows, dtype=torch.long, device=input_ids.device)
    start = torch.empty_like(row)
    for g, m in enumerate(members):
        row[m] = g
        start[m] = prompt - 1 + torch.arange(len(m), device=row.device) * block + 1
    return Packed(
        input_ids=torch.cat([input_ids[first][:, : prompt - 1], ids.flatten(1)], 1),
        position_ids=torch.cat([positions, blocks.repeat(most).expand(len(members), -1)], 1),
        labels=torch.cat([torch.full_like(positions, -100), labels.flatten(1)], 1),
        owner=torch.cat([head.long() - 1, torch.where(mask, number, -1).flatten(1)], 1),
        row=row,
        start=start,
    )


def attention(packed: Packed, model: Any) -> Tensor | dict[str, Tensor]:
    """The additive mask (G, 1, L, L) in the model's dtype; one for each kind of layer where it has two."""
    config = model.config.get_text_config(decoder=True)
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ())
    if not kinds:
        kinds = {"sliding_attention"} if window else {"full_attention"}
    owner, length = packed.owner, packed.owner.shape[1]
    place = torch.arange(length, device=owner.device)
    mine, theirs = owner[:, :, None], owner[:, None, :]  # (G, L, 1), (G, 1, L)
    seen = (theirs == 0) | (theirs == mine)
    seen &= (theirs >= 0) & (place[None, :] <= place[:, None])
    distance = packed.position_ids[:, :, None] - packed.position_ids[:, None, :]
    itself = torch.eye(length, dtype=torch.bool, device=owner.device)  # padding must see something
    masks = {}
    for kind in kinds:
        allowed = seen & (distance < window) if kind == "sliding_attention" and window else seen
        blocked = ~(allowed | itself)
        mask = torch.zeros(blocked.shape, dtype=model.dtype, device=owner.device)
        masks[kind] = mask.masked_fill_(blocked, torch.finfo(model.dtype).min)[:, None]
    return masks if len(masks) > 1 else next(iter(masks.values()))


def packed_forward(
    model: Any, packed: Packed, completion: int, accelerator: Any
) -> tuple[Tensor, Tensor | None]:
    """Log-probs and entropies (nats), each (B, C), by TRL's fused head; 0 where a label is padding."""
    with accelerator.autocast():
        outputs = model(
            input_ids=packed.input_ids,
            attention_mask=attention(packed, accelerator.unwrap_model(model)),
            position_ids=packed.position_ids,
            labels=packed.labels,
            fused_lm_head=True,
        )
    entropy = None if outputs.entropy is None else packed.logits_of(outputs.entropy, completion)
    return packed.logits_of(outputs.log_probs, completion), entropy
