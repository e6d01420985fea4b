"""The planted faults and healthy runs of benchmarks/doctor.py: short trainings, each made by a function."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.doctor_rewards import (  # noqa: E402
    by_value,
    closeness,
    everything,
    longer,
    nothing,
    shorter,
    text,
)
from erpo_hub import ERPOConfig, ERPOTrainer  # noqa: E402
from erpo_hub.tasks.expressions import solution  # noqa: E402
from erpo_hub.tasks.grading import Grader, correctness_reward  # noqa: E402
from erpo_hub.tasks.tasks import load_task  # noqa: E402
from erpo_hub.traces.loading import EMBEDDED_MODEL, resolve_model  # noqa: E402

STEPS = 26
LONG = 100_000  # steps planned, so that what grows slowly would fill the memory and no rate falls
DEFAULT_BATCH = {"per_device_train_batch_size": 64, "num_generations": 8, "max_completion_length": 64}


@dataclass(frozen=True)
class Case:
    """A training. `kind`: what should be found, None where healthy. `visible`: from its log, since when."""

    name: str
    make: Callable[[Bench], Any]
    kind: str | None = None
    visible: Callable[[list[dict]], int] = lambda log: 1
    steps: int = STEPS
    chat: bool = False


class Bench:
    """What the cases are made of. Seeds count up from `seed`, one a case."""

    def __init__(self, out: Path, smollm2: str | None, seed: int):
        self.out, self.smollm2, self.seed = out, smollm2, seed
        self.embedded = str(resolve_model(EMBEDDED_MODEL))
        self.grader = Grader("math", workers=1)
        self.steps = STEPS

    def rows(self, spec: str = "builtin:expressions?operands=4", size: int = 2048) -> Dataset:
        return load_task(spec, seed=self.seed, train_size=size, test_size=64).train

    @property
    def correctness(self) -> Any:
        return correctness_reward(self.grader)

    def config(self, cls: Any = GRPOConfig, **changes: Any) -> Any:
        values = {
            "output_dir": str(self.out / "trainer"), "max_steps": self.steps, "seed": self.seed,
            "per_device_train_batch_size": 16, "num_generations": 4, "max_completion_length": 48,
            "learning_rate": 2e-4, "use_cpu": True, "bf16": False, "gradient_checkpointing": False,
            "report_to": "none", "logging_steps": 1, "save_strategy": "no", "disable_tqdm": True,
        }  # fmt: skip
        return cls(**values | changes)

    def trainer(
        self, rewards: Any = None, *, rows: Any = None, model: Any = None, cls: Any = GRPOTrainer,
        preset: str | None = None, trainer: dict[str, Any] | None = None, **changes: Any,
    ) -> Any:  # fmt: skip
        if preset:
            cls, args = ERPOTrainer, self.config(lambda **kw: ERPOConfig.preset(preset, **kw), **changes)
        else:
            args = self.config(**changes)
        return cls(
            model or self.embedded, rewards or self.correctness, args,
            train_dataset=self.rows() if rows is None else rows, **(trainer or {}),
        )  # fmt: skip

    def chat(self, rewards: Any, rows: Any, **changes: Any) -> Any:
        sizes = {"per_device_train_batch_size": 8, "num_generations": 4, "max_completion_length": 24}
        settings = {"learning_rate": 1e-5, "temperature": 0.7, "model_init_kwargs": {"dtype": "float32"}}
        return self.trainer(rewards, rows=rows, model=self.smollm2, **sizes | settings | changes)

    def sums(self, words: str = "{}", chat: bool = True, size: int = 256) -> Dataset:
        found = []
        for i in range(size):
            a, b = i % 16, i // 16
            text = words.format(f"What is {a} + {b}?")
            prompt: Any = [{"role": "user", "content": text}] if chat else text
            found.append({"prompt": prompt, "answer": str(a + b)})
        return Dataset.from_list(found)

    def lora(self, **changes: Any) -> Any:
        from peft import LoraConfig

        return LoraConfig(
            **{"r": 8, "lora_alpha": 16, "target_modules": "all-linear", "task_type": "CAUSAL_LM"} | changes
        )

    def taught(self, target: Callable[[str], str], steps: int = 60) -> Any:
        """The embedded model after it has been shown to answer questions in that way."""
        tokenizer = AutoTokenizer.from_pretrained(self.embedded, padding_side="right")
        model = AutoModelForCausalLM.from_pretrained(self.embedded, dtype=torch.float32)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        rows = self.rows()["prompt"]
        for step in range(steps):
            asked = [rows[(step * 32 + i) % len(rows)] for i in range(32)]
            batch = tokenizer(
                [q + target(q) + tokenizer.eos_token for q in asked], return_tensors="pt", padding=True
            )
            labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
            for row, question in enumerate(asked):
                labels[row, : len(tokenizer(question)["input_ids"])] = -100
            model(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels
            ).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        return model


# --- graders -----------------------------------------------------------------------------------------------


def giving_out(bench: Bench) -> Any:
    inner = bench.correctness

    def correctness(completions: list, answer: list, **columns: Any) -> list[float | None]:
        scores = inner(completions, answer, **columns)
        return [None if len(text(c)) % 3 == 0 else s for c, s in zip(completions, scores)]  # timed out

    return correctness


def leaking(bench: Bench) -> Any:
    inner, kept = bench.correctness, []

    def correctness(completions: list, answer: list, **columns: Any) -> list[float | None]:
        kept.append(torch.ones(2**21))  # 8 MiB a call
        return inner(completions, answer, **columns)

    return correctness


# --- the faults -------------------------------------------------------------------------------------------


class InOrder(GRPOTrainer):
    """A sampler that forgot that a group is one question."""

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        return torch.utils.data.SequentialSampler(dataset if dataset is not None else self.train_dataset)


class FewQuestions(GRPOTrainer):
    """A sampler that begins anew with every batch."""

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        return [i // self.num_generations for _ in range(1000) for i in range(16)]


def easy() -> Dataset:
    """Questions that the model gets right."""
    return Dataset.from_list(
        [{"prompt": f"{a}+{b}=", "answer": str(a + b)} for a in range(1, 10) for b in range(1, 10)]
    )


def hard() -> Dataset:
    """Questions far beyond what the model was made for."""
    asked = [(i % 899 + 100, i * 7 % 899 + 100, i * 31 % 899 + 100) for i in range(1024)]
    return Dataset.from_list([{"prompt": f"{a}*{b}-{c}=", "answer": str(a * b - c)} for a, b, c in asked])


def other_optimizer(bench: Bench) -> Any:
    """The optimizer was made before the adapter was added, so it holds the frozen weights only."""
    from peft import get_peft_model

    model = AutoModelForCausalLM.from_pretrained(bench.embedded, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    adapted = get_peft_model(model, bench.lora())
    tokenizer = AutoTokenizer.from_pretrained(bench.embedded, padding_side="left")
    return bench.trainer(
        model=adapted, trainer={"optimizers": (optimizer, None), "processing_class": tokenizer}
    )


def other_evaluation(bench: Bench) -> Any:
    rows = bench.rows()
    asked = Dataset.from_list(
        [row | {"prompt": f"Calculate this with care: {row['prompt']}"} for row in rows.select(range(64))]
    )
    return bench.trainer(rows=rows, trainer={"eval_dataset": asked})


def taught(bench: Bench, target: Callable[[str], str]) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(bench.embedded, padding_side="left")
    return bench.trainer(by_value, model=bench.taught(target), trainer={"processing_class": tokenizer})


def crossing(name: str, holds: Callable[[float, float], bool]) -> Callable[[list[dict]], int]:
    """The first step at which a logged number stands in that relation to its start; 0: never."""

    def found(log: list[dict]) -> int:
        values = [(row["step"], row[name]) for row in log if row.get(name) is not None]
        start = sum(value for _, value in values[:3]) / 3
        return next((step for step, value in values[3:] if holds(value, start)), 0)

    return found


FAULTS = (
    Case(
        "plain prompts to a chat model",
        lambda b: b.chat(closeness, b.sums(chat=False)),
        "no-chat-template",
        steps=2,
        chat=True,
    ),
    Case(
        "evaluation with an instruction, training without",
        other_evaluation,
        "other-evaluation-prompt",
        steps=2,
    ),
    Case("10 tokens where 17 are needed", lambda b: b.trainer(max_completion_length=10), "cut-off"),
    Case("sums of two digits", lambda b: b.trainer(rows=easy(), temperature=0.3), "groups-all-right"),
    Case("operands of three digits", lambda b: b.trainer(rows=hard()), "groups-all-wrong"),
    Case(
        "a reward function that always says 1", lambda b: b.trainer(everything), "grader-accepts-everything"
    ),
    Case("a reward function with a space too many", lambda b: b.trainer(nothing), "grader-accepts-nothing"),
    Case("no verdict on every third length", lambda b: b.trainer(giving_out(b)), "grader-gives-out"),
    Case(
        "correctness against a prize for brevity",
        lambda b: b.trainer(
            [b.correctness, shorter], reward_weights=[0.2, 2.0], learning_rate=3e-4, **DEFAULT_BATCH
        ),
        "rewards-in-conflict",
        crossing("rewards/correctness/mean", lambda x, start: x <= 0.5 * start),
    ),
    Case(
        "a bonus for entropy with the wrong sign",
        lambda b: b.trainer(entropy_coef=-3.0, learning_rate=1e-3, max_steps=LONG),
        "entropy-gone",
        crossing("entropy", lambda x, start: x <= 0.2 * start),
    ),
    Case(
        "a bonus for entropy, too large",
        lambda b: b.trainer(entropy_coef=0.3, learning_rate=5e-4),
        "entropy-explodes",
        crossing("entropy", lambda x, start: x >= 2 * start and x >= start + 0.3),
    ),
    Case(
        "a prize for length",
        lambda b: b.trainer(longer, learning_rate=5e-4, max_completion_length=128),
        "length-explodes",
        crossing("completions/mean_length", lambda x, start: x >= 2 * start),
    ),
    Case("lr 3e-2", lambda b: b.trainer(learning_rate=3e-2, beta=0.01), "learning-rate-too-high"),
    Case("lr 1e-9", lambda b: b.trainer(learning_rate=1e-9), "learning-rate-too-low"),
    Case("an optimizer made before the adapter", other_optimizer, "lora-trains-nothing"),
    Case(
        "an adapter that does not start at 0",
        lambda b: b.trainer(beta=0.04, trainer={"peft_config": b.lora(init_lora_weights=False)}),
        "reference-differs",
    ),
    Case("groups of different questions", lambda b: b.trainer(cls=InOrder), "prompts-repeated"),
    Case(
        "the same four questions again and again", lambda b: b.trainer(cls=FewQuestions), "prompts-repeated"
    ),
    Case(
        "a box is asked for and never made",
        lambda b: b.chat(closeness, b.sums("{} Put the result in \\boxed{{}}, say nothing else.")),
        "mark-missing",
        steps=7,
        chat=True,
    ),
    Case(
        "the grader evaluates expressions, found by the policy",
        lambda b: taught(b, lambda q: solution(q)[0]),
        "arithmetic-undone",
    ),
    Case(
        "the grader takes the question for the answer",
        lambda b: taught(b, lambda q: q.rstrip("=")),
        "question-echoed",
    ),
    Case(
        "a reward function that keeps 8 MiB a step",
        lambda b: b.trainer(leaking(b), max_steps=LONG),
        "memory-grows",
    ),
)

# --- healthy runs -----------------------------------------------------------------------------------------

HEALTHY = (
    Case("GRPO", lambda b: b.trainer()),
    Case(
        "GRPO, 64 completions of 64 tokens, a long run's beginning",
        lambda b: b.trainer(max_steps=LONG, **DEFAULT_BATCH),
    ),
    Case(
        "GRPO, KL term, lr 4e-4, a long run's beginning",
        lambda b: b.trainer(beta=0.04, learning_rate=4e-4, max_steps=LONG),
    ),
    Case("ERPO", lambda b: b.trainer(preset="erpo")),
    Case("EP-GRPO", lambda b: b.trainer(preset="ep-grpo")),
    Case("GTPO", lambda b: b.trainer(preset="gtpo")),
    Case(
        "LoRA of rank 8, lr 1e-3",
        lambda b: b.trainer(beta=0.02, learning_rate=1e-3, trainer={"peft_config": b.lora()}),
    ),
    Case(
        "two updates a batch, a long run's beginning",
        lambda b: b.trainer(num_iterations=2, max_steps=LONG),
    ),
    Case(
        "two micro-batches, warm-up",
        lambda b: b.trainer(per_device_train_batch_size=8, gradient_accumulation_steps=2, warmup_steps=10),
    ),
    Case("three operands", lambda b: b.trainer(rows=b.rows("builtin:expressions?operands=3"))),
    Case(
        "five operands",
        lambda b: b.trainer(rows=b.rows("builtin:expressions?operands=5"), max_completion_length=64),
    ),
    Case(
        "groups of 8, T = 0.8, dr_grpo",
        lambda b: b.trainer(num_generations=8, temperature=0.8, loss_type="dr_grpo"),
    ),
    Case(
        "two rewards, 300 questions, an evaluation set",
        lambda b: b.trainer(
            [b.correctness, closeness], rows=b.rows(size=300), trainer={"eval_dataset": b.rows(size=40)}
        ),
    ),
    Case(
        "40 steps, lr 1e-4, logged every 5",
        lambda b: b.trainer(learning_rate=1e-4, logging_steps=5),
        steps=40,
    ),
    Case(
        "SmolLM2, chat, 64 tokens",  # 24 cut most of its answers off: no healthy run
        lambda b: b.chat(closeness, b.sums(), max_completion_length=64),
        steps=8,
        chat=True,
    ),
)
