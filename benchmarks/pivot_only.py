"""Is it enough to learn at the uncertain positions of the base model's own answers, without RL?

    python benchmarks/pivot_only.py search --out runs/pivot-only    # validation seeds: which settings
    python benchmarks/pivot_only.py fresh --out runs/pivot-only     # eight others with those, beside GRPO
    python benchmarks/evidence.py pack runs/pivot-only/search --name pivot-only-search
    python benchmarks/evidence.py pack runs/pivot-only/fresh --name pivot-only

The idea is that of arXiv 2605.06241 (ReasonMaxxer); only its abstract was at hand, so the loss is ours. The
base answers 240 training questions eight times: 1,920 completions, a tenth of what GRPO's 300 steps draw.
They are graded once. A position is *gated* where the base's entropy is above its group's mean (ERPO's gate
at a half). There a token of a right completion is to become likelier than under the base, of a wrong one less
likely:

    loss = mean over gated positions of |A| softplus(-sgn(A) (log pi - log pi_base))
         + anchor * mean over all other positions of KL(pi_base || pi)

with A GRPO's advantage; groups without variance are left out. The controls are the same loss at as many
random positions of each completion, the same loss everywhere, and supervised training (mean negative
log-likelihood) on the same right completions. `search` tries settings, `fresh` takes those with the best
greedy accuracy. Each cell is kept as it ends, in the layout that `erpo-hub compare` reports on; the same
command goes on after a stop.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from cells import is_kept, judge_and_keep
from evidence import EVIDENCE, read_cells
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, softplus

from erpo_hub.evaluation.generation import Decoding, generate_completions, row_seed, undisturbed
from erpo_hub.evaluation.sampling import load_model
from erpo_hub.study.cell import COMPLETION_LENGTH
from erpo_hub.study.compare import cell_folder
from erpo_hub.study.report import build_report
from erpo_hub.tasks.grading import Grader
from erpo_hub.tasks.tasks import Task, load_task
from erpo_hub.text import write_json

MODEL, TASK = "builtin:tiny-reasoner", "builtin:expressions?operands=4"
GROUP = 8  # completions of a question
VALIDATION, FRESH = (102, 103), tuple(range(8, 16))  # GRPO's cells of 8 to 15 are in default-expressions
PIVOTS, RANDOM, EVERYWHERE, RIGHT = "pivots", "random positions", "everywhere", "right completions"
FORMS = (PIVOTS, RANDOM, EVERYWHERE, RIGHT)
EPOCHS, GROUPS_A_STEP = 6, 8  # over the groups with variance


@dataclass(frozen=True)
class Settings:
    learning_rate: float
    anchor: float = 0.0


# What `search` tries; the two controls of the same loss take what is best for the pivots.
TRIED = {
    # 30 was added when the first validation seed had its best at 3, the largest until then.
    PIVOTS: [Settings(rate, anchor) for rate, anchor in product((2e-4, 1e-3), (0.0, 0.3, 3.0, 30.0))],
    RIGHT: [Settings(rate) for rate in (5e-5, 2e-4, 1e-3)],
}


@dataclass(frozen=True)
class Rollout:
    """A completion of the base: token ids, entropies in nats, GRPO's advantage, and its gated positions."""

    prompt: list[int]
    ids: list[int]
    entropy: list[float]
    advantage: float
    gated: list[bool]


# --- the data ---


def rollouts(
    base: Any, tokenizer: Any, task: Task, grader: Grader, seed: int, questions: int
) -> list[list[Rollout]]:
    """The groups with variance among `questions` training questions, eight completions each."""
    rows = task.train.select(random.Random(f"pivot-only/{seed}").sample(range(len(task.train)), questions))
    prompts = [tokenizer(row["prompt"])["input_ids"] for row in rows for _ in range(GROUP)]
    eos = tokenizer.eos_token_id
    decoding = Decoding(1.0, 1.0, COMPLETION_LENGTH, tokenizer.pad_token_id, (eos,))
    drawn: list[Any] = []
    with undisturbed(base):
        for start in range(0, len(prompts), 256):
            part = prompts[start : start + 256]
            drawn += generate_completions(
                base, part, decoding, [row_seed(seed, start + i) for i in range(len(part))]
            )
    texts = tokenizer.batch_decode([completion.ids for completion in drawn], skip_special_tokens=True)
    scores = grader.grade(texts, [row["answer"] for row in rows for _ in range(GROUP)])
    groups = []
    for start in range(0, len(drawn), GROUP):
        here = slice(start, start + GROUP)
        rewards = [float((score or 0) >= 1) for score in scores[here]]
        if min(rewards) < max(rewards):
            groups.append(_group(prompts[start], drawn[here], rewards))
    return groups


def _group(prompt: list[int], drawn: Sequence[Any], rewards: list[float]) -> list[Rollout]:
    mean, spread = statistics.fmean(rewards), statistics.stdev(rewards)
    threshold = statistics.fmean([h for completion in drawn for h in completion.entropy])
    return [
        Rollout(
            prompt, c.ids, c.entropy, (reward - mean) / (spread + 1e-4), [h > threshold for h in c.entropy]
        )
        for c, reward in zip(drawn, rewards)
    ]


def at_positions(rollout: Rollout, form: str, rng: random.Random) -> Rollout:
    """The rollout with the positions at which a form of the loss acts."""
    if form == EVERYWHERE:
        return replace(rollout, gated=[True] * len(rollout.ids))
    if form == RANDOM:
        chosen = set(rng.sample(range(len(rollout.ids)), sum(rollout.gated)))
        return replace(rollout, gated=[t in chosen for t in range(len(rollout.ids))])
    return rollout


# --- the loss ---


@dataclass(frozen=True)
class Batch:
    """`ids` (B, P + T) padded on the right; the rest (B, T'), T' = P + T - 1, says of each next token ..."""

    ids: Tensor
    valid: Tensor  # whether it belongs to the completion
    gated: Tensor
    advantage: Tensor

    @classmethod
    def of(cls, rows: Sequence[Rollout], pad: int) -> Batch:
        width = max(len(row.prompt) + len(row.ids) for row in rows)
        ids = torch.full((len(rows), width), pad)
        valid, gated = torch.zeros(2, len(rows), width - 1, dtype=torch.bool)
        for b, row in enumerate(rows):
            start, end = len(row.prompt), len(row.prompt) + len(row.ids)
            ids[b, :end] = torch.tensor([*row.prompt, *row.ids])
            valid[b, start - 1 : end - 1] = True
            gated[b, start - 1 : end - 1] = torch.tensor(row.gated)
        advantage = torch.tensor([[row.advantage] for row in rows])
        return cls(ids, valid, gated, advantage.expand(len(rows), width - 1))


def contrast(logits: Tensor, base_logits: Tensor, batch: Batch, anchor: float) -> Tensor:
    """The loss of the module's head, nats; logits (B, P + T, V)."""
    logps, base = (x[:, :-1].log_softmax(-1) for x in (logits, base_logits))  # (B, T', V)
    moved = (logps - base).gather(2, batch.ids[:, 1:, None])[..., 0]  # (B, T')
    pulled = batch.advantage.abs() * softplus(-batch.advantage.sign() * moved)
    loss = pulled[batch.gated].mean() if batch.gated.any() else pulled.sum() * 0
    rest = batch.valid & ~batch.gated
    if anchor and rest.any():
        loss = loss + anchor * kl_div(logps[rest], base[rest], reduction="batchmean", log_target=True)
    return loss


def likelihood(logits: Tensor, batch: Batch) -> Tensor:
    """Mean negative log-likelihood of the completions, nats a token."""
    return cross_entropy(logits[:, :-1][batch.valid], batch.ids[:, 1:][batch.valid])


# --- a training ---


def batches(groups: list[list[Rollout]], form: str, rng: random.Random) -> Iterator[list[Rollout]]:
    """Whole groups in random order, EPOCHS times; random positions are drawn anew each time."""
    for _ in range(EPOCHS):
        order = rng.sample(groups, len(groups))
        for start in range(0, len(order), GROUPS_A_STEP):
            rows = [
                at_positions(row, form, rng)
                for group in order[start : start + GROUPS_A_STEP]
                for row in group
            ]
            yield [row for row in rows if row.advantage > 0] if form == RIGHT else rows


def train(
    groups: list[list[Rollout]], form: str, settings: Settings, base: Any, seed: int
) -> tuple[Any, dict[str, Any]]:
    """The trained model and what it cost."""
    started, processor = time.perf_counter(), time.process_time()
    torch.manual_seed(seed)
    model, tokenizer, _ = load_model(MODEL)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=0.0)
    steps = list(batches(groups, form, random.Random(f"{form}/{seed}")))
    model.train()
    for step, rows in enumerate(steps):
        batch = Batch.of(rows, tokenizer.pad_token_id)
        logits = model(input_ids=batch.ids).logits  # padding is on the right, so no mask is needed
        if form == RIGHT:
            loss = likelihood(logits, batch)
        else:
            with torch.no_grad():
                base_logits = base(input_ids=batch.ids).logits
            loss = contrast(logits, base_logits, batch, settings.anchor)
        optimizer.param_groups[0]["lr"] = settings.learning_rate * (1 - step / len(steps))  # as GRPO's
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    gated = [g for group in groups for row in group for g in row.gated]
    cost = {"train_seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - processor}
    cost |= {"steps": len(steps), "groups": len(groups), "gated": sum(gated) / len(gated)}
    return model.eval(), cost


# --- the study ---


def cell_of(args: argparse.Namespace, form: str, settings: Settings, seed: int) -> dict[str, Any]:
    name = f"{form}, {in_words(settings)}" if args.part == "search" else form
    return {
        "name": name, "preset": form, "control": None,
        "overrides": asdict(settings), "seed": seed, "model": MODEL, "task": TASK, "steps": 300,
        "n_sampled": args.sampled, "k_sampled": 4, "n_greedy": args.greedy, "train_size": None,
    }  # fmt: skip


def in_words(settings: Settings) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in asdict(settings).items())


def chosen(cells: Sequence[dict[str, Any]]) -> dict[str, Settings]:
    """The settings of each form with the best greedy accuracy over the validation seeds."""
    best: dict[str, Settings] = {}
    for form, tried in TRIED.items():

        def greedy(settings: Settings, form: str = form) -> float:
            same = [
                c for c in cells if c["cell"]["preset"] == form and c["cell"]["overrides"] == asdict(settings)
            ]
            if len(same) < len(VALIDATION):
                raise SystemExit("the search is not finished: pivot_only.py search")
            return statistics.fmean(c["greedy"]["accuracy"] for c in same)

        best[form] = max(tried, key=greedy)
    return best | {RANDOM: best[PIVOTS], EVERYWHERE: best[PIVOTS]}


def plan(args: argparse.Namespace) -> list[dict[str, Any]]:
    if args.part == "search":
        found = [(form, tried) for form, every in TRIED.items() for tried in every]
    else:
        files = (args.out / "search").glob("cells/*/seed-*/cell.json")
        best = chosen([json.loads(file.read_text(encoding="utf-8")) for file in files])
        found = [(form, best[form]) for form in FORMS]
    return [cell_of(args, form, settings, seed) for seed in args.seeds for form, settings in found]


def run(args: argparse.Namespace, out: Path, cells: list[dict[str, Any]]) -> None:
    task = load_task(TASK, test_size=max(args.greedy, args.sampled))
    base, tokenizer, _ = load_model(MODEL)
    with Grader(task.grader) as grader:
        for seed in args.seeds:
            missing = [cell for cell in cells if cell["seed"] == seed and not is_kept(out, cell)]
            groups = rollouts(base, tokenizer, task, grader, seed, args.questions) if missing else []
            for cell in missing:
                settings = Settings(**cell["overrides"])
                model, cost = train(groups, cell["preset"], settings, base, seed)
                cost |= {"completions": GROUP * args.questions}
                judge_and_keep(out, cell, model, tokenizer, task, grader, cost)


def copy_grpo(out: Path, seeds: Sequence[int]) -> list[Path]:
    """GRPO's cells of these seeds, and the untrained model's, from the study of ERPO as it ships."""
    folders = []
    for found in read_cells(EVIDENCE / "default-expressions.parquet"):
        cell = found["cell"]
        if cell["name"] == "untrained" or (cell["name"] == "grpo" and cell["seed"] in seeds):
            folders.append(cell_folder(out, cell))
            folders[-1].mkdir(parents=True, exist_ok=True)
            write_json(folders[-1] / "cell.json", found)
    return folders


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=("search", "fresh"))
    parser.add_argument("--out", type=Path, default=Path("runs/pivot-only"))
    parser.add_argument("--seeds", type=int, nargs="+", help="default: two of validation, or eight others")
    parser.add_argument(
        "--questions", type=int, default=240, help="training questions, eight completions each"
    )
    parser.add_argument("--greedy", type=int, help="held-out questions; default 1,000, for `fresh` 2,000")
    parser.add_argument("--sampled", type=int, help="of them sampled four times; default 250, 2,000")
    parser.add_argument("--report", action="store_true", help="train nothing")
    args = parser.parse_args(argv)
    search = args.part == "search"
    args.seeds = args.seeds or list(VALIDATION if search else FRESH)
    args.greedy = args.greedy or (1000 if search else 2000)
    args.sampled = args.sampled or (250 if search else 2000)
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    torch.set_num_threads(1)  # a second one gains nothing at this size
    out, cells = args.out / args.part, plan(args)
    if not args.report:
        run(args, out, cells)
    folders = [] if args.part == "search" else copy_grpo(out, args.seeds)
    folders += [
        cell_folder(out, cell) for cell in sorted(cells, key=lambda cell: FORMS.index(cell["preset"]))
    ]
    baseline = cells[0]["name"] if args.part == "search" else "grpo"
    print(build_report(out, baseline=baseline, cells=folders).table())


if __name__ == "__main__":
    sys.exit(main())
