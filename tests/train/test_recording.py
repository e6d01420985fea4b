"""The group record: what a real training leaves of its completions, and that the weights stay."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from training import Batches, config, trainer, weights

from erpo_hub import Trace
from erpo_hub.tasks.grading import Grader, correctness_reward
from erpo_hub.traces.logged import MAX_BYTES, LoggedSteps, steps_in

GRPO = {"entropy_gate": False, "progress_eta": 0.0}


def train(model: str, folder: Path, **changes):
    """(trainer, its generation batches, traces by step)."""
    made = trainer(model, config(folder, **changes))
    batches = Batches(made)
    made.train()
    found = {step: Trace.from_parquet(file) for step, file in steps_in(folder / "groups", "group").items()}
    return made, batches.seen, found


@pytest.mark.parametrize(
    "changes",
    [{}, GRPO, {**GRPO, "gradient_accumulation_steps": 2}, {**GRPO, "num_iterations": 2, "max_steps": 4}],
    ids=["erpo", "grpo", "grpo, two micro-batches", "grpo, old log-probs"],
)
def test_weights_are_the_same_bit_for_bit_and_the_record_is_the_batchs(
    tiny_model: str, tmp_path: Path, changes: dict
) -> None:
    changes = {"max_steps": 3, "per_device_train_batch_size": 4, "num_generations": 4} | changes
    without, _, nothing = train(tiny_model, tmp_path / "off", **changes)
    made, batches, found = train(tiny_model, tmp_path / "on", log_completions_every=1, **changes)
    assert all(torch.equal(a, b) for a, b in zip(weights(without).values(), weights(made).values()))
    assert not nothing
    assert list(found) == list(range(0, changes["max_steps"], changes.get("num_iterations", 1)))
    for traces, batch in zip(found.values(), batches):
        assert len(traces) == min(16, len(batch["completion_ids"]))
        for trace, ids, mask, advantage in zip(
            traces, batch["completion_ids"], batch["completion_mask"].bool(), batch["advantages"]
        ):
            assert trace.tokens == ids[mask].tolist()
            if "bucket" in trace.columns:
                assert trace.columns["advantage"] == advantage[mask].tolist()
                assert set(trace.columns) >= {"gate", "progress", "bucket"}
            else:
                assert trace.generation["advantage"] == advantage.item()


def test_values_are_those_of_a_forward_of_the_policy_that_sampled(tiny_model: str, tmp_path: Path) -> None:
    """At step 0 the policy is the model on disk: score the recorded tokens with it, method or none."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    for name, changes in (("erpo", {}), ("grpo", GRPO)):
        _, _, found = train(tiny_model, tmp_path / name, log_completions_every=1, max_steps=1, **changes)
        for trace in found[0]:
            ids = torch.tensor([trace.prompt_tokens + trace.tokens])
            with torch.no_grad():
                logits = model(ids).logits[0, len(trace.prompt_tokens) - 1 : -1]
            p = (logits / trace.generation["temperature"]).log_softmax(-1)
            entropy = torch.special.entr(p.exp()).sum(-1)
            assert trace.entropy == pytest.approx(entropy.tolist(), abs=1e-4)
            assert trace.logprob == pytest.approx(p[range(len(trace)), trace.tokens].tolist(), abs=1e-4)
            assert all(map(math.isfinite, trace.columns.get("ref_logprob", [])))


def test_gold_verdict_rewards_and_groups_are_in_the_record(tiny_model: str, tmp_path: Path) -> None:
    from erpo_hub.tasks.tasks import load_task

    task = load_task("builtin:expressions?operands=2")
    with Grader(task.grader) as grader:
        args = config(tmp_path, max_steps=1, log_completions_every=5)
        made = trainer(tiny_model, args, reward_funcs=[correctness_reward(grader)], dataset=task.train)
        made.train()
    (traces,) = [Trace.from_parquet(file) for file in steps_in(tmp_path / "groups", "group").values()]
    assert [trace.generation["group"] for trace in traces] == [0] * 4 + [1] * 4
    for trace in traces:
        asked = {row["prompt"]: row["answer"] for row in task.train}
        assert trace.gold == asked[trace.prompt]
        assert trace.correct == (trace.generation["reward/correctness"] >= 1)
        assert trace.generation["reward"] == trace.generation["reward/correctness"]
        assert len({t.prompt for t in traces if t.generation["group"] == trace.generation["group"]}) == 1
    assert (tmp_path / "tokenizer_config.json").is_file()


def test_the_record_stays_under_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    from made_traces import make_trace

    trace = make_trace(["a", "b"])
    log = LoggedSteps(tmp_path, "group", 2)
    assert [step for step in range(6) if log.due(step)] == [0, 2, 4]
    log.write(0, [trace])
    size = steps_in(tmp_path, "group")[0].stat().st_size
    monkeypatch.setitem(MAX_BYTES, "group", 3 * size)
    for step in range(2, 13):
        if log.due(step):
            log.write(step, [trace])
    assert list(steps_in(tmp_path, "group")) == [0, 8, 12]  # 6 and 10 went when 10 came
    assert "every second one is dropped" in caplog.text
    assert log.every == 4
