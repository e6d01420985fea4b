"""The strategies of `Search`: who goes on next, and the batches in which they go on.

Each strategy but beam is a generator for one question: it asks for texts to be continued and gets them back.
The asked-for texts of all questions are read together. Beam search keeps its rows and reorders their caches.
May import torch; reads no text.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from .decoding import row_seed
from .pivots import find_pivots
from .rows import Rows
from .tree import Branch, Tree

CHOICES = 5  # tokens weighed at a position
Options = list[tuple[int, float]]  # token id and log-probability in nats, the likeliest first
Proceed = Callable[[list[int], float, Options], bool]


@dataclass
class Text:
    """A branch of a question that goes on, in place, greedily or (with `seed`) by its own random numbers.

    ids, logprob: of all of it. fresh: tokens of it that no other branch has paid for. proceed: asked before
    each token with ids, logprob and options; False stops here. entropy, options: of the tokens added here.
    """

    ids: list[int] = field(default_factory=list)
    logprob: float = 0.0
    fresh: int = 0
    seed: int | None = None
    proceed: Proceed | None = None
    entropy: list[float] = field(default_factory=list)  # nats
    options: list[Options] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)  # nats


Strategy = Generator[list[Text], None, None]


def run(model: Any, trees: Sequence[Tree], pad: int, eos: set[int], batch_size: int) -> None:
    """Search every question to its end; results are in the trees. All have the same settings.

    Raises UserError for logits that are not finite.
    """
    if trees[0].search.strategy == "beam":
        size = max(1, batch_size // trees[0].search.width)
        order = sorted(trees, key=lambda tree: -len(tree.prompt))
        for start in range(0, len(order), size):
            beams(model, order[start : start + size], pad, eos)
        return
    going = [(tree, ROUNDS[tree.search.strategy](tree, eos)) for tree in trees]
    while going:
        asked = [(tree, rounds, texts) for tree, rounds in going for texts in [next(rounds, None)] if texts]
        parts = [(tree, text) for tree, _, texts in asked for text in texts]
        parts.sort(key=lambda part: -len(part[0].prompt) - len(part[1].ids))
        for start in range(0, len(parts), batch_size):
            continue_all(model, parts[start : start + batch_size], pad, eos)
        for tree, text in parts:
            tree.tokens += text.fresh
        going = [(tree, rounds) for tree, rounds, _ in asked]


# -- one question ---------------------------------------------------------------------------------------


def greedy(tree: Tree, eos: set[int]) -> Strategy:
    """The likeliest token each time."""
    text = Text()
    yield [text]
    tree.end(_branch(text, eos))


def forks(tree: Tree, eos: set[int]) -> Strategy:
    """The greedy answer, and the second choices at its strongest pivots (or random positions)."""
    search, base = tree.search, Text()
    yield [base]
    tree.end(_branch(base, eos))
    if search.strategy == "random":
        draw = random.Random(f"{search.seed} {tree.number}")
        places = draw.sample(range(len(base.ids)), min(search.width, len(base.ids)))
    else:
        places = sorted(find_pivots(base.entropy), key=lambda t: -base.entropy[t])[: search.width]
    forked = []
    for t in places:
        second = [option for option in base.options[t] if option[0] != base.ids[t]][:1]
        for token, logprob in second:
            before = math.fsum(base.logprobs[:t])
            forked.append(Text([*base.ids[:t], token], before + logprob, fresh=1))
    at_once = 1 if search.stop else max(1, len(forked))
    for start in range(0, len(forked), at_once):
        if tree.settled():
            return
        yield forked[start : start + at_once]
        for text in forked[start : start + at_once]:
            tree.end(_branch(text, eos))


def best_first(tree: Tree, eos: set[int]) -> Strategy:
    """The likeliest partial answer goes on until another one is likelier.

    At most width * limit tokens are spent on it; then the likeliest partial answer is brought to its end, so
    that there is one.
    """
    search, number = tree.search, count()
    waiting: list[tuple[float, int, list[int], int]] = [(0.0, next(number), [], 0)]

    def put(ids: list[int], logprob: float, fresh: int) -> None:
        heapq.heappush(waiting, (-logprob, next(number), ids, fresh))

    def proceed(ids: list[int], logprob: float, options: Options) -> bool:
        if options[0][1] >= math.log(search.certain or 1e-9):
            return True
        for token, more in options[1:]:
            put([*ids, token], logprob + more, 1)
        mine = logprob + options[0][1]
        if -waiting[0][0] <= mine:
            return True
        put([*ids, options[0][0]], mine, 1)
        return False

    while waiting and len(tree.branches) < search.width and not tree.settled():
        last = tree.tokens >= search.width * tree.limit
        if last and tree.branches:
            return
        cost, _, ids, fresh = heapq.heappop(waiting)
        text = Text(ids, -cost, fresh, proceed=None if last else proceed)
        yield [text]
        if _over(tree, text.ids, eos):
            tree.end(_branch(text, eos))


def votes(tree: Tree, eos: set[int]) -> Strategy:
    """Sampled answers; as many at a time as the leader needs at least to be out of reach."""
    search, drawn = tree.search, 0
    while drawn < search.width and not tree.settled():
        need = left = search.width - drawn
        if search.stop:
            masses = [m * search.width for a, m in tree.masses().items() if a is not None]
            best, second = sorted([*masses, 0.0, 0.0])[-1:-3:-1]
            need = min(left, max(1, math.floor((left - best + second) / 2 + 1e-9) + 1))
        texts = [Text(seed=row_seed(search.seed, tree.number, drawn + i)) for i in range(need)]
        yield texts
        drawn += need
        for text in texts:
            tree.end(_branch(text, eos))


ROUNDS: dict[str, Callable[[Tree, set[int]], Strategy]] = {
    "greedy": greedy, "pivots": forks, "random": forks, "best-first": best_first, "votes": votes,
}  # fmt: skip


# -- many questions -------------------------------------------------------------------------------------


def continue_all(model: Any, parts: Sequence[tuple[Tree, Text]], pad: int, eos: set[int]) -> None:
    """Bring every text to its end, or to where it does not want to proceed."""
    live = [(tree, text) for tree, text in parts if not _over(tree, text.ids, eos)]
    if not live:
        return
    noise = {id(text): _noise(text.seed, tree.limit) for tree, text in live if text.seed is not None}
    rows = Rows([model], [tree.prompt + text.ids for tree, text in live], pad)
    while live:
        [logits] = rows.logits()
        logp, entropy, options = weigh(logits, CHOICES)
        tokens = [row[0][0] for row in options]
        if noise:
            drawn = [noise[id(text)][len(text.ids)] for _, text in live]
            tokens = _draw(logits, live[0][0].search.temperature, drawn)
        taken = logp.gather(-1, torch.tensor(tokens, device=logp.device)[:, None])[:, 0].tolist()
        still = []
        for b, (tree, text) in enumerate(live):
            if text.proceed and not text.proceed(text.ids, text.logprob, options[b]):
                continue
            text.ids = [*text.ids, tokens[b]]
            text.logprob += taken[b]
            text.fresh += 1
            text.logprobs.append(taken[b])
            text.entropy.append(entropy[b])
            text.options.append(options[b])
            if not _over(tree, text.ids, eos):
                still.append(b)
        live = [live[b] for b in still]
        if live:
            rows.go_on(still, [text.ids[-1] for _, text in live])


def beams(model: Any, trees: Sequence[Tree], pad: int, eos: set[int]) -> None:
    """Beam search as transformers' with length_penalty 0, every finished beam kept.

    A beam that ends counts where it is among the `width` best continuations. A question is over when `width`
    finished beams are likelier than any that is still open, or its answer is settled.
    """
    live: list[tuple[Tree, list[Branch]]] = [(tree, [Branch([], 0.0, False)]) for tree in trees]
    rows = Rows([model], [tree.prompt for tree in trees], pad)
    while live:
        options = weigh(rows.logits()[0], trees[0].search.width + len(eos))[2]
        still: list[tuple[Tree, list[Branch]]] = []
        came_from: list[int] = []
        row = 0
        for tree, open_ones in live:
            continued = [
                (one.logprob + more, row + i, Branch([*one.ids, token], one.logprob + more, token in eos))
                for i, one in enumerate(open_ones)
                for token, more in options[row + i]
            ]
            row += len(open_ones)
            kept = _next_beams(tree, sorted(continued, key=lambda c: -c[0]), eos)
            if kept:
                tree.tokens += len(kept)
                still.append((tree, [branch for _, branch in kept]))
                came_from += [parent for parent, _ in kept]
        live = still
        if live:
            rows.go_on(came_from, [branch.ids[-1] for _, ones in live for branch in ones])


def _next_beams(
    tree: Tree, continued: list[tuple[float, int, Branch]], eos: set[int]
) -> list[tuple[int, Branch]]:
    """(parent row, beam) of those that go on; ends the finished ones. Nothing: the question is over."""
    width = tree.search.width
    for _, _, branch in continued[:width]:
        if _over(tree, branch.ids, eos):
            tree.end(branch)
            tree.tokens += 1
    kept = [(parent, branch) for _, parent, branch in continued if not _over(tree, branch.ids, eos)][:width]
    best = sorted((branch.logprob for branch in tree.branches), reverse=True)[:width]
    if len(best) == width and kept and kept[0][1].logprob <= best[-1]:
        return []
    return [] if tree.branches and tree.settled() else kept


def weigh(logits: Tensor, choices: int) -> tuple[Tensor, list[float], list[Options]]:
    """Log-probabilities (B, V), entropy in nats and the likeliest tokens of each row; logits: (B, V)."""
    logp = torch.log_softmax(logits.float(), dim=-1)
    entropy = -(logp.exp() * logp.clamp(min=-1e4)).sum(-1)
    if not bool(torch.isfinite(entropy).all()):
        raise UserError(
            "the model's logits are not finite: its weights are broken or its precision is too low; "
            "load it in float32"
        )
    top = logp.topk(min(choices, logp.shape[-1]), dim=-1)
    pairs = zip(top.indices.tolist(), top.values.clamp(min=-1e4).tolist())
    return logp, entropy.tolist(), [list(zip(*row)) for row in pairs]


def _draw(logits: Tensor, temperature: float, numbers: list[float]) -> list[int]:
    """A token a row by the row's own number in 0 .. 1: an answer does not depend on those beside it."""
    reached = (logits.float() / temperature).softmax(-1).cpu().double().cumsum(-1)
    wanted = torch.tensor(numbers, dtype=torch.float64)[:, None] * reached[:, -1:]
    return torch.searchsorted(reached, wanted, right=True).clamp(max=logits.shape[-1] - 1)[:, 0].tolist()


def _noise(seed: int | None, steps: int) -> list[float]:
    return torch.rand(steps, generator=torch.Generator().manual_seed(seed or 0)).tolist()


def _over(tree: Tree, ids: list[int], eos: set[int]) -> bool:
    return len(ids) >= tree.limit or bool(ids and ids[-1] in eos)


def _branch(text: Text, eos: set[int]) -> Branch:
    return Branch(text.ids, text.logprob, bool(text.ids) and text.ids[-1] in eos)
