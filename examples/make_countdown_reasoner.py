"""Make a model for reasoning-gym's countdown: 0.8 M parameters that are careless at reaching a target.

    python examples/make_countdown_reasoner.py countdown-reasoner

It is the second task of the comparison (`examples/compare/countdown.yaml`): another kind of question than the
embedded model's sums, and a scorer that is not ours. The model copies noisy solutions ("34+38=72", then
`#### (34+38)*2`) of questions drawn as the library draws them; no question of the test split is among them,
in any wording or order of its numbers. Each sentence of the library's long prompt is one token, so a question
is a dozen tokens. Around ten minutes on one core; a killed run goes on from its checkpoint. Writes the model,
its tokenizer and `scores.json`.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
import time
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from make_tiny_reasoner import collate, make_model, wilson
from make_tiny_reasoner import make_tokenizer as make_character_tokenizer
from tokenizers import AddedToken
from torch.nn.functional import cross_entropy
from transformers import Qwen2ForCausalLM, Qwen2Tokenizer

from erpo_hub.evaluation.sampling import evaluate
from erpo_hub.tasks.gym import load_entry
from erpo_hub.tasks.tasks import Task, load_task

VALUES, TARGETS = (1, 20), (10, 99)  # both ends included
SPEC = (
    "reasoning-gym:countdown?min_numbers=3&max_numbers=3"
    f"&min_value={VALUES[0]}&max_value={VALUES[1]}&min_target={TARGETS[0]}&max_target={TARGETS[1]}"
    '&operators=["+","-","*"]'
)
ROWS = {"train_size": 2048, "test_size": 2000}  # as the comparison loads them: the same test questions
MAX_NEW_TOKENS = 64
APPLY = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b}


class Question(NamedTuple):
    numbers: tuple[int, ...]
    target: int

    @property
    def key(self) -> tuple[tuple[int, ...], int]:
        """Equal for questions that differ in the order of their numbers only."""
        return tuple(sorted(self.numbers)), self.target


@dataclass(frozen=True)
class Noise:
    """How careless a warm-up solution is. Probabilities.

    wander: it begins with a step from which the target cannot be reached. detour: it writes one more first
    step, of no use, before. slip: a result is off by one, and the solution goes on from there.
    """

    wander: float = 0.35
    detour: float = 0.2
    slip: float = 0.03


class Step(NamedTuple):
    a: int
    op: str
    b: int

    @property
    def value(self) -> int:
        return APPLY[self.op](self.a, self.b)

    def __str__(self) -> str:
        return f"{self.a}{self.op}{self.b}"


def steps_between(a: int, b: int) -> list[Step]:
    """a and b combined by each operator; a difference is never negative, which loses no solution."""
    return [Step(a, "+", b), Step(a, "*", b), Step(max(a, b), "-", min(a, b))]


def first_steps(numbers: Collection[int]) -> list[tuple[Step, int]]:
    """Every way to combine two of three numbers, larger first, with the number that is left."""
    ordered = sorted(numbers, reverse=True)
    pairs = [(ordered[i], ordered[j], ordered[3 - i - j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    return list(dict.fromkeys((step, rest) for a, b, rest in pairs for step in steps_between(a, b)))


def solution(question: Question, rng: random.Random, noise: Noise) -> str:
    """Two step lines and `#### expression`; right where neither `wander` nor `slip` strikes."""
    firsts = first_steps(question.numbers)
    good, bad = [], []
    for first in firsts:
        ends = [second.value for second in steps_between(first[0].value, first[1])]
        (good if question.target in ends else bad).append(first)
    lines = []
    if rng.random() < noise.detour:
        detour = rng.choice(firsts)[0]
        lines.append(f"{detour}={detour.value}")
    step, rest = rng.choice(bad if bad and rng.random() < noise.wander else good)
    value = step.value + _slip(rng, noise)
    second = min(steps_between(value, rest), key=lambda second: abs(second.value - question.target))
    lines += [f"{step}={value}", f"{second}={second.value + _slip(rng, noise)}"]
    swapped = second.op == "-" and rest > value
    return "\n".join([*lines, f"#### {rest}-({step})" if swapped else f"#### ({step}){second.op}{rest}"])


def _slip(rng: random.Random, noise: Noise) -> int:
    return rng.choice((-1, 1)) if rng.random() < noise.slip else 0


def draw_question(rng: random.Random, held_out: Collection[tuple]) -> Question:
    """As the library draws: three numbers, two operators from left to right, a target within bounds."""
    while True:
        numbers = [rng.randint(*VALUES) for _ in range(3)]
        target = numbers[0]
        for number in numbers[1:]:
            target = APPLY[rng.choice("+-*")](target, number)
        rng.shuffle(numbers)
        question = Question(tuple(numbers), target)
        if TARGETS[0] <= target <= TARGETS[1] and question.key not in held_out:
            return question


def question_of(entry: str) -> Question:
    """The question of a task row's `entry` column."""
    metadata = load_entry(entry)["metadata"]
    return Question(tuple(metadata["numbers"]), metadata["target"])


def wordings(prompts: Iterable[str]) -> list[str]:
    """The library's prompts as format strings of {numbers} and {target}."""
    found = set()
    for prompt in prompts:
        sentence, blank, rules = prompt.partition("\n\n")
        sentence = re.sub(r"\d+(?:, \d+)+", "{numbers}", sentence)
        found.add(re.sub(r"\d+", "{target}", sentence) + blank + rules)
    return sorted(found)


def write_prompt(wording: str, question: Question) -> str:
    return wording.format(numbers=", ".join(map(str, question.numbers)), target=question.target)


def make_tokenizer(wordings: Iterable[str]) -> Qwen2Tokenizer:
    """One token a character, and one for each piece of the prompt between its numbers.

    The pieces are ordinary added tokens, which Qwen2's tokenizer class (AutoTokenizer takes no other for a
    Qwen2 model) finds before it splits a text; decoding gives them back as they were.
    """
    tokenizer = make_character_tokenizer()
    pieces = {piece for wording in wordings for piece in re.split(r"\{\w+\}", wording)} | {", ", "#### "}
    tokenizer.add_tokens([AddedToken(piece, normalized=False) for piece in sorted(pieces - {""})])
    return tokenizer


def draw_batch(
    seed: str, batch: int, words: list[str], held_out: Collection[tuple], noise: Noise
) -> list[tuple[str, str]]:
    """(prompt, completion) pairs of one warm-up step; the same seed gives the same."""
    rng = random.Random(seed)
    pairs = []
    for _ in range(batch):
        question = draw_question(rng, held_out)
        pairs.append((write_prompt(rng.choice(words), question), solution(question, rng, noise)))
    return pairs


def warm_up(
    model: Qwen2ForCausalLM,
    tokenizer: Qwen2Tokenizer,
    words: list[str],
    held_out: Collection[tuple],
    args: argparse.Namespace,
) -> list[float]:
    """Supervised training, saved every 250 steps; returns the loss (nats a token) of every step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.01, betas=(0.9, 0.98))
    checkpoint = args.out / "warm_up.pt"
    settings = {name: str(value) for name, value in vars(args).items() if name != "out"}
    losses: list[float] = []
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        if saved["settings"] != settings:
            raise SystemExit(
                f"{checkpoint} is of a run with other settings; delete it or name another folder"
            )
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        losses = saved["losses"]
    model.train()
    ramp, start = min(100, args.steps // 10 + 1), time.monotonic()
    for step in range(len(losses), args.steps):
        cosine = 0.05 + 0.475 * (1 + math.cos(math.pi * step / args.steps))
        optimizer.param_groups[0]["lr"] = args.lr * min((step + 1) / ramp, cosine)
        pairs = draw_batch(f"{args.seed}/{step}", args.batch, words, held_out, args.noise)
        ids, labels = collate(tokenizer, pairs)
        logits = model(input_ids=ids).logits  # (B, T, V); padding is on the right, so no mask is needed
        loss = cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        if (step + 1) % 250 == 0 or step + 1 == args.steps:
            mean, seconds = sum(losses[-100:]) / len(losses[-100:]), time.monotonic() - start
            print(f"step {step + 1}/{args.steps}  loss {mean:.4f} nats  {seconds:.0f} s", flush=True)
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save({**state, "losses": losses, "settings": settings}, checkpoint.with_suffix(".new"))
            checkpoint.with_suffix(".new").replace(checkpoint)
    model.eval()
    return losses


def measure(model: Qwen2ForCausalLM, tokenizer: Qwen2Tokenizer, task: Task, *, n: int) -> dict:
    """Accuracy on `n` held-out questions, sampled once at T = 1 and greedy, by the library's scorer."""
    scores: dict = {"task": task.spec, "max_new_tokens": MAX_NEW_TOKENS}
    for name, temperature in (("sampled", 1.0), ("greedy", 0.0)):
        summary = evaluate(
            model,
            task,
            tokenizer=tokenizer,
            n=n,
            temperature=temperature,
            max_new_tokens=MAX_NEW_TOKENS,
            batch_size=256,
        ).summary()
        correct = sum(map(round, summary["per_question"]))
        scores[name] = {
            "accuracy": round(summary["accuracy"], 4),
            "interval": wilson(correct, len(summary["per_question"])),
            "mean_length": round(summary["mean_length"], 1),
            "mean_entropy": round(summary["mean_entropy"], 4),
        }
    return scores


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, metavar="OUT_FOLDER", help="folder to write")
    parser.add_argument("--steps", type=int, default=2000, help="supervised steps (default 2000)")
    parser.add_argument("--batch", type=int, default=64, help="solutions a step (default 64)")
    parser.add_argument("--lr", type=float, default=2e-3, help="peak learning rate (default 2e-3)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--n", type=int, default=ROWS["test_size"], help="held-out questions to score (default 2000)"
    )
    for name, value in asdict(Noise()).items():
        parser.add_argument(f"--{name}", type=float, default=value, help=f"probability (default {value})")
    args = parser.parse_args(argv)
    args.noise = Noise(args.wander, args.detour, args.slip)
    return args


def main(argv: list[str] | None = None) -> dict:
    """Train, measure, write; returns what `scores.json` holds."""
    args = parse_args(argv)
    torch.set_num_threads(1)  # a second one gains nothing at this size
    torch.manual_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    task = load_task(SPEC, **ROWS)
    held_out = {question_of(entry).key for entry in task.test["entry"]}
    words = wordings(task.train["prompt"])
    tokenizer = make_tokenizer(words)
    model = make_model(tokenizer)
    losses = warm_up(model, tokenizer, words, held_out, args)
    scores = measure(model, tokenizer, task, n=args.n)
    tail = losses[-50:]
    scores["recipe"] = {"steps": args.steps, "batch": args.batch, "lr": args.lr, "seed": args.seed}
    scores["recipe"] |= {**asdict(args.noise), "parameters": model.num_parameters()}
    scores["recipe"] |= {"final_loss": round(sum(tail) / len(tail), 4)}
    model.save_pretrained(args.out)
    tokenizer.save_pretrained(args.out)
    (args.out / "scores.json").write_text(json.dumps(scores, indent=2) + "\n")
    (args.out / "warm_up.pt").unlink()
    print(json.dumps(scores, indent=2))
    return {**scores, "losses": losses}


if __name__ == "__main__":
    main()
