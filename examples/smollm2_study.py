"""GRPO, ERPO and EP-GRPO on a real language model, on a CPU: SmolLM2-135M with LoRA on short sums.

    python examples/smollm2.py runs/smollm2-135m
    python examples/smollm2_study.py runs/smollm2-135m --out runs/smollm2-study --seeds 5 --steps 60

The questions are those of `reasoning-gym:chain_sum` in a short form (`Sum: 4 + 3 - 2 =`), the answers are
graded by the library's own scorer. Every step leaves a file and is skipped where that exists, so the same
command goes on after a stop: (1) the model as shipped is judged; (2) it learns the form of an answer (` 4 +
3 = 7`, then `7 - 2 = 5`) from worked ones, until its sampled accuracy on training questions reaches
`--target`, and is judged; (3) seed by seed the methods train a fresh adapter on it and are judged on the
same held-out questions, greedily and sampled at T = 1; (4) report.md, report.json and figures/, as `erpo-hub
compare` writes them, after every seed; (5) traces of the same questions. float32, one thread.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import random
import shutil
import time
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from erpo_hub import Engine, Trace, train_and_push
from erpo_hub.errors import UserError
from erpo_hub.evaluation.results import Evaluation
from erpo_hub.evaluation.sampling import evaluate, load_model
from erpo_hub.evaluation.statistics import crossed_comparison, paired_comparison
from erpo_hub.record.format import read_record
from erpo_hub.study.report import build_report
from erpo_hub.tasks.grading import Grader
from erpo_hub.tasks.tasks import Task, load_task
from erpo_hub.text import write_json
from erpo_hub.traces.loading import load
from erpo_hub.train.config import CHECKPOINTING

METHODS = dict.fromkeys(("grpo", "erpo", "ep-grpo"), {"skip_dead_rows": True})  # the same gradient, sooner
SHIPPED, WARM = "as shipped", "after warm-up"
GROUP = 8  # completions of a question
PROBE = 64  # training questions that decide when the warm-up ends; they are not used to learn from
WORKED = ("in-order", "any-order", "own-words")  # the last two leave choices, so entropy
OPENINGS = ("First", "Now", "Then", "Next", "So", "Well", "Here", "OK")
COMPARED = ("torch", "transformers", "trl", "peft", "reasoning-gym")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="folder made by examples/smollm2.py")
    parser.add_argument("--out", type=Path, default=Path("runs/smollm2-study"))
    parser.add_argument("--task", default="min_terms=3&max_terms=3&min_digits=1&max_digits=1")
    parser.add_argument("--seeds", type=int, default=2, help="trainings of each method (default 2)")
    parser.add_argument("--steps", type=int, default=60, help="optimizer steps a training (default 60)")
    parser.add_argument("--groups", type=int, default=2, help=f"questions a step, {GROUP} completions each")
    parser.add_argument("--learning-rate", type=float, default=3e-4, help="of the adapter")
    parser.add_argument("--lora-r", type=int, default=16)
    parser.add_argument("--max-completion-length", type=int, default=24, help="tokens")
    parser.add_argument("--questions", type=int, default=128, help="held-out questions (default 128)")
    parser.add_argument("-k", type=int, default=4, help="sampled completions of each (default 4)")
    parser.add_argument("--target", type=float, default=0.4, help="sampled accuracy that ends the warm-up")
    parser.add_argument("--warm-steps", type=int, default=200, help="at most so many supervised steps")
    parser.add_argument("--warm-rate", type=float, default=1e-4, help="their learning rate")
    parser.add_argument("--worked", choices=WORKED, default="in-order", help="how the worked answers go")
    parser.add_argument("--traces", type=int, default=12, help="traces of each method (default 12)")
    return parser.parse_args(argv)


# -- the questions ----------------------------------------------------------------------------------


def short_task(options: str, questions: int) -> Task:
    """chain_sum with `Sum: 4 + 3 - 2 =` as prompt: the library's sentence of 11 tokens would double the cost.

    Something has to stand before the sum: of the very first token the model cannot tell which it was.
    """
    task = load_task(f"reasoning-gym:chain_sum?{options}", test_size=2 * questions)

    def short(row: dict[str, Any]) -> dict[str, Any]:
        return {"prompt": "Sum: " + row["prompt"].rpartition(": ")[2]}

    return dataclasses.replace(
        task, spec=f"{task.spec} (short prompt)", train=task.train.map(short), test=task.test.map(short)
    )


def worked(prompt: str) -> str:
    """`Sum: 4 + 3 - 2 =` -> ` 4 + 3 = 7`, `7 - 2 = 5`: one operation a line, in a form the model knows."""
    first, *rest = prompt.removeprefix("Sum: ").removesuffix(" =").split()
    lines, value = [], int(first)
    for sign, term in zip(rest[::2], rest[1::2]):
        result = value + int(sign + term)
        lines.append(f"{value} {sign} {term} = {result}")
        value = result
    return " " + "\n".join(lines)


def worked_in_any_order(prompt: str, rng: random.Random, words: bool = False) -> str:
    """`Sum: 4 + 3 - 2 =` -> ` 3 - 2 = 1`, `4 + 1 = 5`: two terms at a time, whichever.

    words: each line begins with one of eight words (`Now, 3 - 2 = 1`).
    """
    first, *rest = prompt.removeprefix("Sum: ").removesuffix(" =").split()
    terms = [int(first), *(int(sign + term) for sign, term in zip(rest[::2], rest[1::2]))]
    lines = []
    while len(terms) > 1:
        i, j = sorted(rng.sample(range(len(terms)), 2))
        a, b = terms[i], terms.pop(j)
        terms[i] = a + b
        opening = f"{rng.choice(OPENINGS)}, " if words else ""
        lines.append(f"{opening}{a} {'-' if b < 0 else '+'} {abs(b)} = {a + b}")
    return " " + "\n".join(lines)


# -- the warm-up ------------------------------------------------------------------------------------


def warm_up(args: argparse.Namespace, task: Task, grader: Grader, folder: Path) -> None:
    """All weights learn from worked answers; the model is saved when the probe reaches the target."""
    model, tokenizer, _ = load_model(str(args.model))
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.warm_rate, weight_decay=0.0)
    probe = dataclasses.replace(task, test=task.train.select(range(PROBE)))
    prompts = task.train["prompt"][PROBE:]
    log: list[dict[str, float]] = []
    rng = random.Random(0)
    for step in range(1, args.warm_steps + 1):
        batch = [prompts[i] for i in torch.randint(len(prompts), (16,))]
        model.train()
        answers = [
            worked(prompt)
            if args.worked == "in-order"
            else worked_in_any_order(prompt, rng, args.worked == "own-words")
            for prompt in batch
        ]
        loss = _supervised_loss(model, tokenizer, batch, answers)
        optimizer.param_groups[0]["lr"] = args.warm_rate * min(1.0, step / 10)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 5 and step < args.warm_steps:
            continue
        result = evaluate(model, probe, tokenizer=tokenizer, grader=grader, temperature=1.0, **decoding(args))
        found = {name: result.summary()[name] for name in ("accuracy", "mean_entropy")}  # nats a token
        log.append({"step": step, "loss": loss.item(), **found})
        print(f"warm-up {log[-1]}", flush=True)
        if log[-1]["accuracy"] >= args.target:
            break
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    write_json(partial / "warm_up.json", log)
    partial.rename(folder)


def _supervised_loss(model: Any, tokenizer: Any, prompts: list[str], answers: list[str]) -> torch.Tensor:
    """Mean negative log-likelihood (nats a token) of the answers."""
    rows = [
        (tokenizer(p)["input_ids"], [*tokenizer(answer)["input_ids"], tokenizer.eos_token_id])
        for p, answer in zip(prompts, answers)
    ]
    width = max(len(p) + len(c) for p, c in rows)
    ids = torch.full(
        (len(rows), width), tokenizer.pad_token_id
    )  # (B, T), padded on the right: no mask needed
    labels = torch.full_like(ids, -100)
    for i, (prompt, completion) in enumerate(rows):
        end = len(prompt) + len(completion)
        ids[i, :end] = torch.tensor([*prompt, *completion])
        labels[i, len(prompt) : end] = torch.tensor(completion)
    logits = model(input_ids=ids).logits  # (B, T, V)
    return cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


# -- judging ----------------------------------------------------------------------------------------


def decoding(args: argparse.Namespace) -> dict[str, Any]:
    asked = {"max_new_tokens": args.max_completion_length, "plain": True}  # as the warm-up asks
    return asked | {"batch_size": 64, "progress": False}


def judge(
    args: argparse.Namespace, task: Task, grader: Grader, model: Path, name: str, *, sampled: bool
) -> Evaluation:
    """The evaluation kept in evaluation/<name>-<how>.json, made where it is missing."""
    how, settings = (
        ("sampled", {"k": args.k, "temperature": 1.0})
        if sampled
        else ("greedy", {"k": 1, "temperature": 0.0})
    )
    path = args.out / "evaluation" / f"{name.replace(' ', '-')}-{how}.json"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        lm, tokenizer = load(str(model), dtype=torch.float32)
        result = evaluate(
            lm, task, tokenizer=tokenizer, grader=grader, n=args.questions,
            resume_path=path.with_suffix(".jsonl"), **settings, **decoding(args),
        )  # fmt: skip
        result.model = name
        result.to_json(path)
        path.with_suffix(".jsonl").unlink()
        print(f"{result.table()}\n  {result.seconds:.0f} s", flush=True)
    return Evaluation.from_json(path)


# -- training ---------------------------------------------------------------------------------------


def train(args: argparse.Namespace, task: Task, method: str, seed: int) -> Path:
    """A run folder of `train_and_push`, finished now or before."""
    from peft import LoraConfig

    folder = args.out / "runs" / f"{method}-{seed}"
    begun = (folder / "run.json").exists()
    if begun and read_record(folder).status == "finished":
        return folder
    print(f"training {method}, seed {seed}", flush=True)
    train_and_push(
        str(args.out / "warm"),
        task,
        algorithm=method,
        push=False,
        plain=True,
        peft_config=LoraConfig(
            r=args.lora_r, lora_alpha=2 * args.lora_r, target_modules="all-linear", task_type="CAUSAL_LM"
        ),
        output_dir=folder,
        resume=begun,
        paired_run=args.out / "runs" / f"grpo-{seed}" if method != "grpo" else None,
        evaluation={"n": args.questions, "batch_size": 64},
        seed=seed,
        max_steps=args.steps,
        save_steps=10,
        per_device_train_batch_size=args.groups * GROUP,
        num_generations=GROUP,
        max_completion_length=args.max_completion_length,
        learning_rate=args.learning_rate,
        **{CHECKPOINTING: False},
        **METHODS[method],
    )
    gc.collect()
    return folder


def cell(args: argparse.Namespace, task: Task, name: str, seed: int, **results: Any) -> Path:
    """A finished cell in the layout that `erpo-hub compare` reports on."""
    folder = args.out / "cells" / name.replace(" ", "-") / f"seed-{seed}"
    described = {
        "name": name, "seed": seed, "preset": name if name in METHODS else None, "control": None,
        "model": "SmolLM2-135M-Instruct after the warm-up, LoRA", "task": task.spec, "steps": args.steps,
        "n_sampled": args.questions, "k_sampled": args.k, "n_greedy": args.questions, "train_size": None,
        "overrides": METHODS[name] | _settings(args) if name in METHODS else {},
    }  # fmt: skip
    data = {"schema_version": 1, "cell": described, "history": [], "cost": {}, "dataset": task.describe()}
    data |= {"versions": {package: version(package) for package in COMPARED}} | results
    write_json(folder / "cell.json", data)
    return folder


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    names = ("groups", "learning_rate", "lora_r", "max_completion_length")
    return {name: getattr(args, name) for name in names}


def trained_cell(args: argparse.Namespace, task: Task, grader: Grader, method: str, seed: int) -> Path:
    record = read_record(train(args, task, method, seed))
    model = args.out / "runs" / f"{method}-{seed}" / "model"
    sampled = judge(args, task, grader, model, f"{method}-{seed}", sampled=True)
    seconds = record.cost.train_seconds or 0.0  # spread evenly over the steps: the record keeps no clock
    history = [{**row, "elapsed": seconds * row["step"] / args.steps} for row in record.history]
    return cell(
        args, task, method, seed, history=history, cost=dataclasses.asdict(record.cost),
        sampled=sampled.summary(), greedy=dataclasses.asdict(record.results.final),
    )  # fmt: skip


# -- the end ----------------------------------------------------------------------------------------


def summarise(args: argparse.Namespace, cells: list[Path], started: float) -> None:
    """The comparison's report, and what it leaves out: each seed by itself and against the start."""
    report = build_report(args.out, baseline="grpo", cells=cells)
    found = {(c["cell"]["name"], c["cell"]["seed"]): c for c in map(_read, cells)}
    seeds = sorted(seed for name, seed in found if name == "grpo")
    data: dict[str, Any] = {"settings": _plain(args), "seconds_this_call": time.perf_counter() - started}
    data |= {"warm_up": _read(args.out / "warm", "warm_up.json"), "pairs": [], "against_warm_up": []}
    for measure in ("sampled", "greedy"):
        scores = {key: c[measure]["per_question"] for key, c in found.items()}
        for name, seed in product([name for name in METHODS if name != "grpo"], seeds):
            pair = paired_comparison(scores["grpo", seed], scores[name, seed])
            data["pairs"].append({"measure": measure, "name": name, "seed": seed, **pair})
        for method in METHODS:
            moved = [
                [b - a for a, b in zip(scores[WARM, 0], scores[method, seed], strict=True)] for seed in seeds
            ]
            data["against_warm_up"].append({"measure": measure, "name": method, **crossed_comparison(moved)})
    write_json(args.out / "summary.json", data)
    section = pairs_section(data)
    (args.out / "report.md").write_text(report.markdown() + section, encoding="utf-8")
    print(report.table() + "\n" + section, flush=True)


def pairs_section(data: dict[str, Any]) -> str:
    """What summary.json adds to the report."""
    rows = [
        (f"{p.get('name', 'erpo').upper()} minus GRPO, seed {p['seed']} ({p['test']})", p)
        for p in data["pairs"]
    ]
    rows += [(f"{p['name'].upper()} minus the warmed-up model", p) for p in data["against_warm_up"]]
    return "\n## Each pair, and each method against the start\n\n" + "".join(
        f"- {what}, {p['measure']}: {100 * p['difference']:+.1f} points "
        f"[{100 * p['interval'][0]:+.1f}, {100 * p['interval'][1]:+.1f}], p = {p['p_value']:.3f}\n"
        for what, p in rows
    )


def store_traces(args: argparse.Namespace, task: Task, grader: Grader) -> None:
    """The same held-out questions, the longest sums first, drawn with the same seeds by each model."""
    path = args.out / "traces.parquet"
    if path.exists():
        return
    rows = sorted(task.test.select(range(args.questions)), key=lambda row: -len(row["prompt"].split()))
    models = {"warm-up": args.out / "warm"}
    models |= {method: args.out / "runs" / f"{method}-0" / "model" for method in METHODS}
    traces = []
    for name, folder in models.items():
        engine = Engine(*load(str(folder), dtype=torch.float32), name=f"SmolLM2-135M, {name}")
        for number, row in enumerate(rows[: args.traces], 1):
            trace = engine.trace(
                row["prompt"], chat=False, temperature=1.0, seed=number,
                max_new_tokens=args.max_completion_length,
            )  # fmt: skip
            score = grader.grade([trace.completion], [row["answer"]], entry=[row["entry"]])[0]
            traces.append(engine.with_sensitivity(trace).replace(gold=row["answer"], correct=score >= 1.0))
    Trace.to_parquet(traces, path)


def _read(folder: Path, name: str = "cell.json") -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def _plain(args: argparse.Namespace) -> dict[str, Any]:
    return {k: v for k, v in vars(args).items() if k not in ("model", "out", "traces")}


def check_settings(args: argparse.Namespace) -> None:
    """More seeds may be added to a study; everything else stays as it was."""
    path, now = args.out / "settings.json", _plain(args)
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else now
    if different := [name for name in now if name != "seeds" and before.get(name) != now[name]]:
        raise UserError(f"{args.out} holds a study with another {', '.join(different)}: give another --out")
    write_json(path, now)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    args.out = args.out.resolve()
    torch.set_num_threads(1)
    check_settings(args)
    started = time.perf_counter()
    task = short_task(args.task, args.questions)
    with Grader(task.grader) as grader:

        def untrained(name: str, folder: Path) -> Path:
            both = {
                how: judge(args, task, grader, folder, name, sampled=how == "sampled").summary()
                for how in ("sampled", "greedy")
            }
            return cell(args, task, name, 0, **both)

        cells = [untrained(SHIPPED, args.model)]
        if not (args.out / "warm").exists():
            warm_up(args, task, grader, args.out / "warm")
        cells.append(untrained(WARM, args.out / "warm"))
        for seed in range(args.seeds):
            cells += [trained_cell(args, task, grader, method, seed) for method in METHODS]
            summarise(args, cells, started)
            store_traces(args, task, grader)


if __name__ == "__main__":
    main()
