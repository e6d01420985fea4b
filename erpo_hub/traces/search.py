"""More than the greedy answer: look at several branches, take the answer that most of the probability is on,
say how sure it is, and withhold it where that is too little.

`search_prompts` is what `Engine.search` and evaluations call; `search_generate` is the same for transformers'
`model.generate(custom_generate=search_generate)`. Left out: penalties and other logits processors (a
branch's probability would no longer be the model's).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from .decoding import decode
from .strategies import run
from .tree import STRATEGIES, Answer, Branch, Search, Tree

__all__ = ["STRATEGIES", "Branch", "Found", "Search", "search_generate", "search_prompts"]


@dataclass(frozen=True)
class Found:
    """What a search came to.

    ids: the chosen branch, the end token included, the likeliest one of the chosen answer. text: its text;
    empty where no tokenizer was at hand. answer: what told it from others. mass: probability of all branches
    found with this answer together (votes: their share). probability: of the chosen branch alone.
    abstained: mass or probability is below what the settings ask for. settled: no unseen branch can change
    the answer. branches, answers: all that came to an end. tokens: the cost, see `Tree.tokens`.
    """

    ids: list[int]
    text: str
    answer: Hashable
    mass: float
    probability: float
    abstained: bool
    settled: bool
    branches: list[Branch]
    answers: list[Hashable]
    tokens: int


def search_prompts(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[list[int]],
    search: Search,
    *,
    pad: int,
    eos: Sequence[int],
    answers: Sequence[Callable[[str], Hashable]] | None = None,
    context: int | None = None,
    batch_size: int = 64,
) -> list[Found]:
    """Search each prompt (token ids), their branches in batches of `batch_size` texts.

    answers: one a prompt, from text to what tells answers apart, None for a text that states none; default:
    every text is its own answer. context: tokens that the model reads at most. A found answer does not
    depend on the other prompts, but for rounding. Raises UserError: a prompt as long as the context, logits
    that are not finite.
    """
    longest = max(map(len, prompts))
    if context and longest >= context:
        raise UserError(f"the prompt has {longest} tokens and the model reads at most {context}: shorten it")
    trees = []
    for number, prompt in enumerate(prompts):
        limit = min(search.max_new_tokens, context - len(prompt)) if context else search.max_new_tokens
        told_by = answers[number] if answers else _whole
        trees.append(Tree(prompt, limit, number, search, _of_text(tokenizer, told_by)))
    run(model, trees, pad, set(eos), batch_size)
    return [found(tree, decode(tokenizer, tree.winner().ids)) for tree in trees]


def found(tree: Tree, text: str = "") -> Found:
    """What a searched tree says."""
    chosen, masses = tree.winner(), tree.masses()
    answer = tree.answers[next(i for i, branch in enumerate(tree.branches) if branch is chosen)]
    mass = masses[answer]
    if tree.search.strategy == "votes":
        mass /= sum(masses.values())  # it may have stopped before the last vote
    probability = min(1.0, torch.tensor(chosen.logprob, dtype=torch.float64).exp().item())
    abstained = mass < tree.search.min_mass or probability < tree.search.min_probability
    return Found(
        chosen.ids, text, answer, min(1.0, mass), probability, abstained, tree.settled(),
        tree.branches, tree.answers, tree.tokens,
    )  # fmt: skip


def search_generate(
    model: Any,
    input_ids: Tensor,
    logits_processor: Any,
    stopping_criteria: Any,
    generation_config: Any,
    synced_gpus: bool = False,
    streamer: Any = None,
    search: Search | None = None,
    answer: Answer | None = None,
    **model_kwargs: Any,
) -> Any:
    """For transformers: `generate(**inputs, custom_generate=search_generate, search=Search("beam", 4))`.

    input_ids: (B, P), padded on the left. answer: token ids of a completion -> what tells answers apart;
    default: each text is its own. max_new_tokens and end tokens are the generation config's.
    Returns prompts and chosen completions (B, P + T), padded on the right; a `GenerateDecoderOnlyOutput` of
    them with return_dict_in_generate. Raises UserError for what a search cannot honor: logits processors,
    criteria other than length and end tokens, several sequences a prompt, a streamer.
    """
    from transformers.generation.stopping_criteria import EosTokenCriteria, MaxLengthCriteria
    from transformers.generation.utils import GenerateDecoderOnlyOutput

    others = [c for c in stopping_criteria if not isinstance(c, EosTokenCriteria | MaxLengthCriteria)]
    refused = [type(x).__name__ for x in (*logits_processor, *others, *([streamer] if streamer else []))]
    if generation_config.num_return_sequences > 1 or generation_config.num_beams > 1:
        refused.append("num_return_sequences or num_beams")
    if refused:
        raise UserError(
            f"a search reads the model's own distribution and returns one answer: leave out {refused[0]}"
        )
    width = input_ids.shape[1]
    mask = model_kwargs.get("attention_mask")
    mask = torch.ones_like(input_ids) if mask is None else mask
    limit = generation_config.max_length - width
    ends = generation_config.eos_token_id
    eos = {ends} if isinstance(ends, int) else set(ends or ())
    pad = generation_config.pad_token_id
    pad = next(iter(eos), 0) if pad is None else pad
    trees = [
        Tree(ids[keep.bool()].tolist(), limit, number, search or Search(), answer or tuple)
        for number, (ids, keep) in enumerate(zip(input_ids, mask))
    ]
    run(model, trees, pad, eos, batch_size=64)
    rows = [found(tree).ids for tree in trees]
    longest = max(map(len, rows))
    made = torch.tensor([ids + [pad] * (longest - len(ids)) for ids in rows], device=input_ids.device)
    sequences: Any = torch.cat([input_ids, made], dim=-1)
    return GenerateDecoderOnlyOutput(sequences) if generation_config.return_dict_in_generate else sequences


def _whole(text: str) -> Hashable:
    return text.strip() or None


def _of_text(tokenizer: Any, told_by: Callable[[str], Hashable]) -> Answer:
    return lambda ids: told_by(decode(tokenizer, ids))
