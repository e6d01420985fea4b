"""The run doctor: planted faults in real short trainings, silence on a healthy one, untouched weights."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from training import config, sums, trainer, weights
from transformers import AutoModelForCausalLM
from trl import GRPOConfig, GRPOTrainer

from erpo_hub import ERPOConfig, ERPOTrainer, RunDoctor, load_task, train_and_push
from erpo_hub.record.format import read_record
from erpo_hub.tasks.grading import Grader, correctness_reward
from erpo_hub.traces.loading import EMBEDDED_MODEL, resolve_model
from erpo_hub.train.examined import Texts, no_chat_template, other_evaluation_prompt
from erpo_hub.train.findings import CHANGES
from erpo_hub.train.history import Facts, History
from erpo_hub.train.rules import RULES

SMALL = {"per_device_train_batch_size": 8, "num_generations": 4, "max_steps": 12}
KINDS = {  # of trainer and config
    "TRL": (GRPOTrainer, GRPOConfig),
    "ours": (ERPOTrainer, ERPOConfig),
}


def everything(completions: list, **_: Any) -> list[float]:
    return [1.0] * len(completions)


def doctored(model: Any, folder: Path, kind: str = "TRL", rewards: Any = None, **changes: Any) -> Any:
    """(doctor, trainer) after the training; keyword arguments of the trainer under `more`."""
    cls, args = KINDS[kind]
    more = changes.pop("more", {})
    made = trainer(
        model,
        config(folder, args, **{**SMALL, "learning_rate": 1e-3, **changes}),
        cls,
        **({"reward_funcs": rewards} if rewards else {}),
        **more,
    )
    doctor = RunDoctor(made)
    made.add_callback(doctor)
    made.train()
    return doctor, made


def kinds(doctor: RunDoctor) -> set[str]:
    return {finding.kind for finding in doctor.findings}


@pytest.mark.parametrize("kind", KINDS)
def test_a_grader_that_accepts_everything_and_answers_cut_off(
    tiny_model: str, tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "erpo_hub"):
        doctor, _ = doctored(tiny_model, tmp_path, kind, everything)
    found = {finding.kind: finding for finding in doctor.findings}
    assert set(found) == {
        "grader-accepts-everything",
        "cut-off",
    }  # not that all groups are right, which follows
    accepts = found["grader-accepts-everything"]
    assert (accepts.step, accepts.found_at, accepts.certainty) == (1, 5, "sure")
    told = [line for line in caplog.messages if line.startswith("doctor: ")]
    assert len(told) == 2
    assert all(f.what in " ".join(told) and f.change in " ".join(told) for f in doctor.findings)


@pytest.mark.parametrize("kind", KINDS)
def test_a_rate_at_which_nothing_moves(tiny_model: str, tmp_path: Path, kind: str) -> None:
    doctor, _ = doctored(tiny_model, tmp_path, kind, learning_rate=1e-11)
    assert "learning-rate-too-low" in kinds(doctor)
    assert "lora-trains-nothing" not in kinds(doctor)


def test_an_adapter_that_no_optimizer_holds(tiny_model: str, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoTokenizer

    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    optimizer = torch.optim.AdamW(base.parameters(), lr=1e-3)
    adapter = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model, padding_side="left")
    more = {"optimizers": (optimizer, None), "processing_class": tokenizer}
    doctor, _ = doctored(get_peft_model(base, adapter), tmp_path, max_steps=4, more=more)
    assert "lora-trains-nothing" in kinds(doctor)


def test_a_reference_that_is_another_model(tiny_model: str, tmp_path: Path) -> None:
    from peft import LoraConfig

    adapter = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    doctor, _ = doctored(tiny_model, tmp_path, max_steps=2, beta=0.1, more={"peft_config": adapter})
    found = next(finding for finding in doctor.findings if finding.kind == "reference-differs")
    assert (found.step, found.found_at) == (0, 1)


def test_groups_of_different_questions(tiny_model: str, tmp_path: Path) -> None:
    class InOrder(GRPOTrainer):
        def _get_train_sampler(self, dataset: Any = None) -> Any:
            return torch.utils.data.SequentialSampler(dataset)

    made = trainer(tiny_model, config(tmp_path, GRPOConfig, **SMALL), InOrder)
    doctor = RunDoctor(made)
    made.add_callback(doctor)
    made.train()
    assert "prompts-repeated" in kinds(doctor)


def test_nothing_is_found_in_a_healthy_run(tmp_path: Path) -> None:
    task = load_task("builtin:expressions?operands=4", train_size=400, test_size=32)
    with Grader("math", workers=1) as grader:
        doctor, _ = doctored(
            str(resolve_model(EMBEDDED_MODEL)),
            tmp_path,
            rewards=correctness_reward(grader),
            more={"dataset": task.train, "eval_dataset": task.test},
            per_device_train_batch_size=16,
            max_completion_length=48,
            learning_rate=2e-4,
            logging_steps=3,
        )
    assert doctor.findings == []


def test_what_it_cannot_read_does_not_end_a_run(
    tiny_model: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(*_: Any) -> dict:
        raise ValueError("what is this?")

    monkeypatch.setattr(Texts, "numbers", unreadable)
    with caplog.at_level(logging.WARNING, "erpo_hub"):
        _, made = doctored(tiny_model, tmp_path, max_steps=3)
    assert made.state.global_step == 3
    told = [line for line in caplog.messages if line.startswith("doctor: ")]
    assert told == ["doctor: step 1: could not go on (ValueError: what is this?)"]


def test_a_resumed_run_does_not_tell_it_again(
    tiny_model: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    saving = {"save_strategy": "steps", "save_steps": 6, "rewards": everything}
    first, _ = doctored(tiny_model, tmp_path, max_steps=6, **saving)
    made = trainer(
        tiny_model,
        config(tmp_path, GRPOConfig, **SMALL | {"max_steps": 9}),
        GRPOTrainer,
        reward_funcs=everything,
    )
    second = RunDoctor(made)
    made.add_callback(second)
    caplog.clear()
    with caplog.at_level(logging.WARNING, "erpo_hub"):
        made.train(resume_from_checkpoint=True)
    assert first.findings
    assert second.findings == first.findings
    assert not [line for line in caplog.messages if line.startswith("doctor: ")]
    assert len(second._history.begun["entropy"]) == 9  # the beginning is the run's, not the resumption's


def test_the_record_holds_the_findings(tiny_model: str, tmp_path: Path) -> None:
    def run(folder: str, **more: Any) -> Any:
        train_and_push(
            tiny_model, sums(), push=False, output_dir=tmp_path / folder, reward_funcs=everything,
            evaluation={"n": 2}, max_completion_length=8, **SMALL | {"max_steps": 6} | more,
        )  # fmt: skip
        return read_record(tmp_path / folder).findings

    found = {finding.kind: finding for finding in run("on")}
    assert found["grader-accepts-everything"].change == CHANGES["grader-accepts-everything"]
    card = (tmp_path / "on" / "bundle" / "README.md").read_text(encoding="utf-8")
    assert "accepts everything" not in card
    assert run("off", doctor=False) is None


def test_the_weights_are_the_same_with_it_and_without(tiny_model: str, tmp_path: Path) -> None:
    grpo = ERPOConfig.preset("grpo", output_dir="unused", use_cpu=True, bf16=False)
    off = {"entropy_gate": grpo.entropy_gate, "progress_eta": grpo.progress_eta}
    _, trl = doctored(tiny_model, tmp_path, "TRL", max_steps=4)
    _, ours = doctored(tiny_model, tmp_path, "ours", max_steps=4, **off)
    args = config(tmp_path, GRPOConfig, **SMALL | {"max_steps": 4, "learning_rate": 1e-3})
    without = trainer(tiny_model, args, GRPOTrainer)
    without.train()
    for name, weight in weights(without).items():
        assert torch.equal(weight, weights(trl)[name])
        assert torch.equal(weight, weights(ours)[name])


# --- the parts that a short training does not reach --------------------------------------------------------


def filled(**series: list[float]) -> History:
    history = History()
    for step in range(1, max(map(len, series.values())) + 1):
        row = {name.replace("__", "/"): values[step - 1] for name, values in series.items()}
        history.add(step, row)
    return history


MIB = 2.0**20
WITH_MEMORY = Facts(max_steps=1000, memory_limit=1e4 * MIB)
LEAK = [2000 * MIB + 10 * MIB * step for step in range(40)]
LEVEL = [2000 * MIB + (step % 3) * MIB for step in range(40)]


def line(start: float, pace: float, wiggle: int = 2) -> list[float]:
    return [start + pace * i + i % wiggle / 50 for i in range(24)]


CONFLICT = filled(rewards__a__mean=line(0.5, -1 / 60), rewards__b__mean=line(0.1, 1 / 40, 3))
NO_CONFLICT = filled(rewards__a__mean=line(0.5, 1 / 60), rewards__b__mean=line(0.1, 0, 3))
LEAKING = filled(memory__used=LEAK, memory__peak=LEAK)
LONGER = filled(completions__mean_length=[20.0] * 5 + [70.0] * 5)
HOTTER = filled(entropy=[0.4] * 5 + [1.8] * 5, reward=[0.4, 0.5] * 5)


@pytest.mark.parametrize(
    ("kind", "history", "facts", "found"),
    [
        ("memory-grows", LEAKING, WITH_MEMORY, True),
        ("memory-grows", filled(memory__used=LEVEL, memory__peak=LEVEL), WITH_MEMORY, False),
        ("memory-grows", LEAKING, Facts(100, memory_limit=1e4 * MIB), False),  # it ends before
        ("rewards-in-conflict", CONFLICT, Facts(100), True),
        ("rewards-in-conflict", NO_CONFLICT, Facts(100), False),
        ("entropy-gone", filled(entropy=[0.3] * 5 + [0.03] * 5), Facts(400), True),
        (
            "entropy-gone",
            filled(entropy=[0.3] * 60 + [0.03] * 5),
            Facts(400),
            False,
        ),  # not in the first tenth
        ("entropy-explodes", HOTTER, Facts(400), True),
        ("length-explodes", LONGER, Facts(400), True),
        ("learning-rate-too-high", filled(kl=[0.0, 1.5, 2.0, 3.0]), Facts(400), True),
        ("learning-rate-too-high", filled(kl=[0.0, 0.1, 0.2, 0.1]), Facts(400), False),
        ("learning-rate-too-high", filled(grad_norm=[1.0, float("inf"), 1.0]), Facts(400), True),
    ],
)
def test_rules_over_numbers(kind: str, history: History, facts: Facts, found: bool) -> None:
    assert (RULES[kind](history, facts) is not None) == found


def test_what_a_batch_of_texts_says() -> None:
    rows = Dataset.from_list([{"prompt": f"{i}+1=", "answer": str(i + 1)} for i in range(64)])
    texts = Texts(rows, 2)
    prompts = [p for i in range(4) for p in [f"{i}+1="] * 2]
    said = ["0+1", "0+1", "1+1", "2", "1+2", "4-1+0", "4", "4"]
    found = texts.numbers(prompts, said, [1.0] * 8)
    assert (found["texts/echoed"], found["texts/undone"], found["texts/rewarded"]) == (3, 2, 8)
    assert texts.numbers(prompts, said, [0.0] * 8)["texts/gold_refused"] == 3 / 8
    assert texts.numbers(prompts, said, [float("nan")] * 4 + [0.0] * 4)["texts/unscored"] == 0.5
    nearness = [0.1 * i for i in range(8)]  # who pays for nearness or length has no hole for that
    assert "texts/rewarded" not in Texts(rows, 2).numbers(prompts, said, nearness)
    boxed = [f"{p} Put it in \\boxed{{}}." for p in prompts]
    assert Texts(rows, 2).numbers(boxed, said, [0.0] * 8)["texts/marked"] == 0


def test_steps_are_noted_and_looked_at_together(
    tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[tuple[int, int]] = []
    look = RunDoctor._look

    def counted(self: RunDoctor, state: Any) -> None:
        noted = len({note.step for note in self._noted})
        look(self, state)
        looks.append((state.global_step, noted))

    monkeypatch.setattr(RunDoctor, "_look", counted)
    doctor, made = doctored(tiny_model, tmp_path, max_steps=7, logging_steps=3)
    assert looks == [(1, 1), (5, 4), (7, 2)]  # the last at the end
    reward = [row["reward"] for row in made.state.log_history if "reward" in row]
    noted = [value for _, value in doctor._history.late["reward"]]
    assert len(noted) == 7
    assert sum(noted[:3]) / 3 == pytest.approx(reward[0])
    assert [step for step, _ in doctor._history.late["memory/used"]] == [3, 5, 7]


def test_a_resumed_run_forgets_the_memory_of_the_other_process() -> None:
    kept = History.load(LEAKING.dump())
    assert RULES["memory-grows"](kept, WITH_MEMORY)
    kept.forget("memory/")
    kept.add(41, {"memory/used": 9000 * MIB, "memory/peak": 9000 * MIB})
    assert RULES["memory-grows"](kept, WITH_MEMORY) is None
    assert len(kept.begun["memory/used"]) == 1


def test_an_expression_is_no_hole_where_the_gold_answer_is_one() -> None:
    rows = Dataset.from_list([{"prompt": f"make {i}", "answer": f"{i}+0"} for i in range(64)])
    assert Texts(rows, 2).numbers(["make 5"] * 2, ["4+1", "5*1"], [1.0] * 2)["texts/undone"] == 0


def test_prompts_of_a_chat_model_and_of_the_evaluation(tmp_path: Path) -> None:
    from tiny_models import save_tiny_model, save_tool_caller
    from transformers import AutoTokenizer

    plain, asked = sums(32), sums(32).map(lambda row: {"prompt": "Say the result of this: " + row["prompt"]})
    chat = asked.map(lambda row: {"prompt": [{"role": "user", "content": row["prompt"]}]})

    def loaded(folder: Path) -> Any:
        return AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)

    tuned = loaded(save_tool_caller(tmp_path / "tuned"))  # Qwen3's template, which names its end token
    assert no_chat_template(*tuned, plain)
    assert no_chat_template(*tuned, chat) is None
    assert no_chat_template(*loaded(save_tiny_model(tmp_path / "base")), plain) is None
    assert other_evaluation_prompt(plain, asked)
    assert other_evaluation_prompt(asked, {"test": plain})
    assert other_evaluation_prompt(asked, chat)
    assert other_evaluation_prompt(asked, asked.select(range(20))) is None
    assert other_evaluation_prompt(plain, None) is None


def test_every_kind_is_explained() -> None:
    page = (Path(__file__).parents[2] / "docs" / "doctor.md").read_text(encoding="utf-8")
    assert set(RULES) | {"no-chat-template", "other-evaluation-prompt"} == set(CHANGES)
    assert set(re.findall(r"^\| `([a-z-]+)` \|", page, re.MULTILINE)) == set(CHANGES)
