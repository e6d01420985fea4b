"""Two models read one text together: one of them leads, both say at every position which token they want.

Greedy, in batches, each model with its own cache. Left out: sampling, models with different vocabularies.
May import torch, traces and generation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from ..traces.rows import Rows
from .generation import Decoding, in_halves, undisturbed

__all__ = ["Walk", "walk"]


@dataclass(frozen=True)
class Walk:
    """One completion, T tokens, and what both models would have said at each of them.

    ids: the tokens taken, the end token included. leads, follows: the greedy token of the leader and of the
    follower after the same text. lead_entropy, follow_entropy, divergence (Jensen-Shannon): nats.
    lead_rank: place of the leader's token in the follower's distribution, 0 the first; follow_rank the other
    way round.
    """

    ids: list[int]
    leads: list[int]
    follows: list[int]
    lead_entropy: list[float]
    follow_entropy: list[float]
    divergence: list[float]
    lead_rank: list[int]
    follow_rank: list[int]

    def disagreements(self) -> list[int]:
        """Positions where the two want different tokens."""
        return [t for t, (a, b) in enumerate(zip(self.leads, self.follows)) if a != b]

    def swapped(self, index: int) -> Walk:
        """The text up to `index` with the follower's token there, open at its end."""
        kept = {f.name: getattr(self, f.name)[: index + 1] for f in fields(self)}
        return Walk(**kept | {"ids": [*self.ids[:index], self.follows[index]]})


EMPTY = Walk(*([] for _ in fields(Walk)))


def walk(
    leader: Any,
    follower: Any,
    prompts: Sequence[list[int]],
    decoding: Decoding,
    begun: Sequence[Walk] | None = None,
    *,
    batch_size: int = 64,
    advance: Callable[[int], None] = lambda count: None,
) -> list[Walk]:
    """The leader's greedy completion of each prompt (token ids), seen by both.

    begun: completions to go on from, one a prompt. Raises UserError for logits that are not finite.
    """
    begun = list(begun) if begun is not None else [EMPTY] * len(prompts)
    done = dict(enumerate(begun))
    order = [q for q in done if not _ended(begun[q].ids, decoding)]
    order.sort(key=lambda q: -len(prompts[q]) - len(begun[q].ids))
    with undisturbed(leader), undisturbed(follower), torch.inference_mode():
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]

            def part(half: slice, rows: list[int] = rows) -> list[Walk]:
                texts, so_far = [prompts[q] for q in rows[half]], [begun[q] for q in rows[half]]
                return _batch((leader, follower), texts, so_far, decoding)

            found = in_halves(part, len(rows))
            done.update(zip(rows, found))
            advance(len(rows))
    return [done[q] for q in range(len(prompts))]


def _batch(
    models: tuple[Any, Any], prompts: list[list[int]], begun: list[Walk], decoding: Decoding
) -> list[Walk]:
    """What is left of each completion; none of them has ended."""
    rows = Rows(models, [prompt + one.ids for prompt, one in zip(prompts, begun)], decoding.pad_id)
    ends = torch.tensor(decoding.eos_ids, device=rows.device)
    left = torch.tensor([decoding.max_new_tokens - len(one.ids) for one in begun], device=rows.device)
    live = torch.arange(len(begun), device=rows.device)
    seen: list[tuple[Tensor, dict[str, Tensor]]] = []  # a step each: which rows, and their columns
    while True:
        seen.append((live, _columns(*rows.logits())))
        ids = seen[-1][1]["ids"]  # (B,)
        keep = (~torch.isin(ids, ends) & (left[live] > len(seen))).nonzero()[:, 0]
        if not len(keep):
            return _joined(begun, seen)
        live = live[keep]
        rows.go_on(keep.tolist(), ids[keep].tolist())


def _joined(begun: list[Walk], seen: list[tuple[Tensor, dict[str, Tensor]]]) -> list[Walk]:
    """Each completion with the steps that its row took part in, which are the first ones."""
    steps = torch.stack([live.new_zeros(len(begun)).index_fill(0, live, 1) for live, _ in seen]).sum(0)
    whole = {}
    for f in fields(Walk):
        first = seen[0][1][f.name]
        table = first.new_zeros(len(seen), len(begun))
        for t, (live, columns) in enumerate(seen):
            table[t, live] = columns[f.name]
        whole[f.name] = table.T.tolist()
    return [
        Walk(**{name: getattr(one, name) + rows[q][:count] for name, rows in whole.items()})
        for q, (one, count) in enumerate(zip(begun, steps.tolist()))
    ]


def _ended(ids: list[int], decoding: Decoding) -> bool:
    return len(ids) >= decoding.max_new_tokens or bool(ids and ids[-1] in decoding.eos_ids)


def _columns(lead: Tensor, follow: Tensor) -> dict[str, Tensor]:
    """What a `Walk` records of one position, (B,) each; lead, follow: logits (B, V)."""
    logp, logq = (torch.log_softmax(x.float(), dim=-1) for x in (lead, follow.to(lead.device)))
    if not (torch.isfinite(logp.exp()).all() and torch.isfinite(logq.exp()).all()):
        raise UserError("a model's logits are not finite: its weights are broken or its precision too low")
    p, q = logp.exp(), logq.exp()
    logm = torch.log(((p + q) / 2).clamp(min=1e-38))
    wants, other = logp.argmax(-1), logq.argmax(-1)
    return {
        "ids": wants,
        "leads": wants,
        "follows": other,
        "lead_entropy": -(p * logp.clamp(min=-1e4)).sum(-1),
        "follow_entropy": -(q * logq.clamp(min=-1e4)).sum(-1),
        "divergence": (
            (p * (logp.clamp(min=-1e4) - logm)).sum(-1) + (q * (logq.clamp(min=-1e4) - logm)).sum(-1)
        )
        / 2,
        "lead_rank": (logq > logq.gather(-1, wants[:, None])).sum(-1),
        "follow_rank": (logp > logp.gather(-1, other[:, None])).sum(-1),
    }
