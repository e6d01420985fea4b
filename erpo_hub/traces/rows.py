"""Texts of different lengths that one or several models read side by side, each model with its own cache.

The one place that pads, keeps positions and reorders caches for whoever looks at every step's logits.
Left out: choosing tokens. May import torch and transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class Rows:
    """B rows. A row's numbers are its own: the others only stand beside it."""

    def __init__(self, models: Sequence[Any], ids: Sequence[Sequence[int]], pad: int):
        """ids: (B, n_b) token ids, at least one a row; pad: any id, it is masked."""
        from transformers import DynamicCache

        self.models, self.device = models, models[0].device
        width = max(map(len, ids))
        padded = [[pad] * (width - len(row)) + list(row) for row in ids]
        masked = [[0] * (width - len(row)) + [1] * len(row) for row in ids]
        self.feed = torch.tensor(padded, device=self.device)  # (B, n) what is read next
        self.mask = torch.tensor(masked, device=self.device)  # (B, P) all that was and will be read
        self.caches = [DynamicCache(config=m.config.get_text_config(decoder=True)) for m in models]

    @torch.inference_mode()
    def logits(self) -> list[Tensor]:
        """Read on; the next token's logits (B, V), one a model."""
        places = (self.mask.cumsum(-1) - 1).clamp(min=0)[:, -self.feed.shape[1] :]  # (B, n)
        return [
            model(
                input_ids=self.feed, attention_mask=self.mask, position_ids=places, past_key_values=cache,
                use_cache=True, logits_to_keep=1,
            ).logits[:, -1]
            for model, cache in zip(self.models, self.caches)
        ]  # fmt: skip

    @torch.inference_mode()
    def go_on(self, rows: Sequence[int], tokens: Sequence[int]) -> None:
        """The next rows: row rows[i] of now and tokens[i] behind it. One may go on twice, or not at all."""
        if list(rows) != list(range(len(self.mask))):
            kept = torch.tensor(rows, device=self.device, dtype=torch.long)
            self.mask = self.mask[kept]
            for cache in self.caches:
                cache.batch_select_indices(kept)
        self.feed = torch.tensor(tokens, device=self.device)[:, None]  # (B', 1)
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(tokens), 1)], dim=-1)
