"""What ERPO adds to a GRPO step: time by stage and peak memory, as ratios measured in one process.

    python benchmarks/step_overhead.py                      # the embedded model, a minute
    python benchmarks/step_overhead.py --smollm2 FOLDER     # and SmolLM2-135M (see examples/smollm2.py)
    python benchmarks/step_overhead.py --growth             # 256 to 4,096 tokens, 8 to 64 completions
    python benchmarks/step_overhead.py --smollm2 FOLDER --growth --write docs/performance.md

Four trainers take turns, round by round, on the same data and seeds: TRL's GRPOTrainer with and without a
KL term, and ERPOTrainer with the same. The learning rate is 0, so that all of them generate the very same
completions and only the work differs. Medians over all steps but each training's first. Without a GPU,
seconds are the process's own CPU seconds: whatever else the machine does stretches the wall clock only.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from pages import write_between
from transformers import AutoModelForCausalLM, PrinterCallback
from trl import GRPOConfig, GRPOTrainer

from erpo_hub import ERPOConfig, ERPOTrainer
from erpo_hub.tasks.expressions import ExpressionOptions, prompts
from erpo_hub.traces.loading import EMBEDDED_MODEL, load, resolve_model
from erpo_hub.train.capture import DecodeCapture

METHODS: dict[str, tuple[type, type, float]] = {
    "GRPO, KL": (GRPOTrainer, GRPOConfig, 0.02),
    "ERPO, KL": (ERPOTrainer, ERPOConfig, 0.02),
    "GRPO": (GRPOTrainer, GRPOConfig, 0.0),
    "ERPO": (ERPOTrainer, ERPOConfig, 0.0),
}


def now() -> float:
    if not torch.cuda.is_available():
        return time.process_time()
    torch.cuda.synchronize()  # kernels run on after the call that started them
    return time.perf_counter()


class Stopwatch:
    """Seconds of each step by stage, by wrapping what the trainer calls."""

    def __init__(self, trainer: Any):
        self.steps: list[dict[str, float]] = []
        self.now: dict[str, float] = defaultdict(float)
        self._replaced: list[tuple[Any, str, Any]] = []
        self._wrap(trainer, "_generate_single_turn", "generate")
        self._wrap(trainer, "_calculate_rewards", "reward")
        inner = trainer._get_per_token_logps_and_entropies

        def scored(model: Any, *args: Any, **kwargs: Any) -> Any:
            if torch.is_grad_enabled():
                return inner(model, *args, **kwargs)
            with self._timed("reference" if model is trainer.ref_model else "score"):
                return inner(model, *args, **kwargs)

        trainer._get_per_token_logps_and_entropies = scored
        if isinstance(trainer, ERPOTrainer):
            self._wrap(trainer, "_credit_of", "advantages and metrics")
            score = trainer._score

            def rescored(model: Any, out: dict) -> Any:
                with self._timed("reference" if model is trainer.ref_model else "score"):
                    return score(model, out)

            trainer._score = rescored
            for name in ("_before", "_after", "result"):
                self._wrap(DecodeCapture, name, "capture")
        step = trainer.training_step

        def stepped(*args: Any, **kwargs: Any) -> Any:
            self.now = defaultdict(float)
            started = now()
            result = step(*args, **kwargs)
            self.now["step"] = now() - started
            self.steps.append(dict(self.now))
            return result

        trainer.training_step = stepped

    def _wrap(self, owner: Any, name: str, stage: str) -> None:
        inner: Callable = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self._timed(stage):
                return inner(*args, **kwargs)

        self._replaced.append((owner, name, inner))
        setattr(owner, name, timed)

    def stop(self) -> None:
        for owner, name, inner in self._replaced:
            setattr(owner, name, inner)

    def _timed(self, stage: str) -> Any:
        return _Timer(self.now, stage)


class _Timer:
    def __init__(self, into: dict[str, float], stage: str):
        self.into, self.stage = into, stage

    def __enter__(self) -> None:
        self.started = now()

    def __exit__(self, *exc: object) -> None:
        self.into[self.stage] += now() - self.started


def length_reward(completions: list, **kwargs: Any) -> list[float]:
    """Costs nothing, and differs from completion to completion."""
    return [(sum(map(ord, c if isinstance(c, str) else c[0]["content"])) % 101) / 101 for c in completions]


def reset_peak() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak of the resident set starts anew


def peak_mb() -> float:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def train(
    method: str, model: str, dataset: Dataset, folder: str, steps: int, **changes: Any
) -> dict[str, Any]:
    trainer_class, config_class, beta = METHODS[method]
    values: dict[str, Any] = {
        "output_dir": folder,
        "beta": beta,
        "learning_rate": 0.0,
        "max_steps": steps,
        "num_generations": 8,
        "use_cpu": not torch.cuda.is_available(),
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": "none",
        "save_strategy": "no",
        "logging_steps": steps,
        "disable_tqdm": True,
        "seed": 0,
        **changes,
    }
    reset_peak()
    made = trainer_class(model, length_reward, config_class(**values), train_dataset=dataset)
    made.remove_callback(PrinterCallback)
    watch = Stopwatch(made)
    try:
        made.train()
    finally:
        watch.stop()
    result = {"steps": watch.steps[1:], "peak_mb": peak_mb()}
    del made, watch
    return result


def measure(
    name: str, model: str, dataset: Dataset, rounds: int, steps: int, **changes: Any
) -> dict[str, Any]:
    """All methods in turn, `rounds` times; medians, and ratios of methods taken round by round."""
    found: dict[str, list[dict]] = {method: [] for method in METHODS}
    with tempfile.TemporaryDirectory() as folder:
        train("ERPO, KL", model, dataset, folder, 2, **changes)  # warm-up: imports, caches, first allocations
        for _ in range(rounds):
            for method in METHODS:
                found[method].append(train(method, model, dataset, folder, steps + 1, **changes))
    row: dict[str, Any] = {
        "setting": name,
        **{k: v for k, v in changes.items() if isinstance(v, (int, float))},
    }
    for method, runs in found.items():
        every = [step for run in runs for step in run["steps"]]
        stages = {stage for step in every for stage in step}
        row[method] = {stage: statistics.median(s.get(stage, 0.0) for s in every) for stage in sorted(stages)}
        row[method]["peak_mb"] = statistics.median(run["peak_mb"] for run in runs)
    row["ratios"] = {
        "step, KL": _ratio(found, "ERPO, KL", "GRPO, KL"),
        "peak, KL": row["ERPO, KL"]["peak_mb"] / row["GRPO, KL"]["peak_mb"],
        "step": _ratio(found, "ERPO", "GRPO"),
        "peak": row["ERPO"]["peak_mb"] / row["GRPO"]["peak_mb"],
        "reference forward / GRPO step": row["ERPO"]["reference"] / row["GRPO"]["step"],
        "own work, KL": statistics.median(own_work(s) for run in found["ERPO, KL"] for s in run["steps"]),
        "advantages and metrics / step": row["ERPO, KL"]["advantages and metrics"] / row["ERPO, KL"]["step"],
    }
    print(json.dumps({"setting": name, **row["ratios"]}), flush=True)
    return row


def own_work(step: dict[str, float]) -> float:
    """What ERPO adds to a step whose reference forward is made anyway, timed, as a share of the rest.

    Reading the decode steps and making the advantages. The ratio of two trainings has the noise of both.
    """
    own = step.get("capture", 0.0) + step["advantages and metrics"]
    return own / (step["step"] - own)


def _ratio(found: dict[str, list[dict]], a: str, b: str) -> float:
    """Median over rounds of the ratio of fastest-half step times: what shares the machine only adds time."""

    def typical(run: dict) -> float:
        times = sorted(step["step"] for step in run["steps"])
        return statistics.median(times[: max(1, len(times) // 2)])

    return statistics.median(typical(x) / typical(y) for x, y in zip(found[a], found[b]))


def expressions(rows: int = 512) -> Dataset:
    made = prompts(ExpressionOptions(operands=4), "train", 0)
    return Dataset.from_list([{"prompt": next(made)} for _ in range(rows)])


def questions(rows: int = 64) -> Dataset:
    text = "What is {} + {}? Think step by step, then give the answer."
    return Dataset.from_list(
        [{"prompt": [{"role": "user", "content": text.format(i, 3 * i + 1)}]} for i in range(rows)]
    )


def long_model(folder: str) -> str:
    """The embedded architecture at random, with room for long completions."""
    model, tokenizer = load(EMBEDDED_MODEL)
    config = model.config
    config.max_position_embeddings = 8192
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


# Completions and tokens a step, and how often the methods take turns: shorter steps scatter more.
GROWTH = [(8, 256, 4), (8, 1024, 3), (8, 4096, 2), (32, 256, 3), (64, 256, 3)]


def run(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    yield measure(
        "embedded model, 64 completions of at most 64 tokens",
        resolve_model(EMBEDDED_MODEL),
        expressions(),
        arguments.rounds,
        arguments.steps,
        per_device_train_batch_size=64,
        max_completion_length=64,
    )
    if arguments.smollm2:
        yield measure(
            "SmolLM2-135M, 8 completions of 32 tokens",
            arguments.smollm2,
            questions(),
            max(1, arguments.rounds // 2),
            2,
            per_device_train_batch_size=8,
            max_completion_length=32,
            generation_kwargs={"min_new_tokens": 32},
        )
    if arguments.growth:
        with tempfile.TemporaryDirectory() as folder:
            model = long_model(folder)
            for batch, length, rounds in GROWTH:
                yield measure(
                    f"embedded architecture, {batch} completions of {length} tokens",
                    model,
                    expressions(64),
                    rounds,
                    2,
                    per_device_train_batch_size=batch,
                    max_completion_length=length,
                    generation_kwargs={"min_new_tokens": length},
                )


def as_markdown(rows: list[dict[str, Any]], command: str) -> str:
    lines = [
        f"Made by `{command}` (torch {torch.__version__}, {torch.get_num_threads()} threads, "
        f"{'GPU' if torch.cuda.is_available() else 'CPU'}).",
        "",
        "| setting | ERPO / GRPO, with KL | ERPO's own work, timed | peak | ERPO / GRPO, no KL | peak | "
        "floor: 1 + reference forward | advantages and metrics |",
        "|:--|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        r = row["ratios"]
        lines.append(
            f"| {row['setting']} | {r['step, KL']:.3f} | +{r['own work, KL']:.3f} | {r['peak, KL']:.3f} "
            f"| {r['step']:.3f} | {r['peak']:.3f} | {1 + r['reference forward / GRPO step']:.3f} "
            f"| {r['advantages and metrics / step']:.2%} |"
        )
    clock = "" if torch.cuda.is_available() else "CPU "
    lines += ["", f"Median {clock}seconds of a step by stage:", ""]
    stages = ["generate", "capture", "reward", "score", "reference", "advantages and metrics", "step"]
    lines += [f"| setting | method | {' | '.join(stages)} |", "|:--|:--|" + "--:|" * len(stages)]
    for row in rows:
        for method in METHODS:
            found = [row[method].get(stage) for stage in stages]  # capture is a part of generate
            cells = " | ".join("–" if seconds is None else f"{seconds:.4f}" for seconds in found)
            lines.append(f"| {row['setting']} | {method} | {cells} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=6, help="steps of one training")
    parser.add_argument("--smollm2", help="model folder made by examples/smollm2.py")
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--write", type=Path, help="Markdown page whose marked table is replaced")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = []
    for row in run(arguments):
        rows.append(row)
        if arguments.json:  # an hour's run keeps what it has
            arguments.json.write_text(json.dumps(rows, indent=1))
    command = "python benchmarks/step_overhead.py"
    command += " --smollm2 FOLDER" if arguments.smollm2 else ""
    command += " --growth" if arguments.growth else ""
    table = as_markdown(rows, command)
    print("\n" + table)
    if arguments.write:
        write_between(arguments.write, "step_overhead", table)


if __name__ == "__main__":
    main()
