"""Groups without variance are replaced by new questions; order, resume and what is logged stay exact."""

from __future__ import annotations

import pytest
import torch
from training import Batches, config, digits_reward, sums, trainer, weights
from transformers import TrainerCallback

from erpo_hub import Trace
from erpo_hub.errors import UsageError
from erpo_hub.traces.logged import steps_in
from erpo_hub.train.config import ERPOConfig


def half_dead(prompts, completions, **_):
    """Every second question is answered alike by all, as if all were right."""
    odd = [int(prompt.partition("+")[0]) % 2 for prompt in prompts]
    return [1.0 if dead else reward for dead, reward in zip(odd, digits_reward(completions))]


class Asked:
    """A reward function that keeps the questions of every round."""

    def __init__(self, reward=half_dead):
        self.reward, self.rounds, self.__name__ = reward, [], "asked"

    def __call__(self, prompts, completions, **columns):
        self.rounds.append(prompts[::4])
        return self.reward(prompts, completions, **columns)


def made_with(folder, model, reward=half_dead, rows=24, **changes):
    changes = {"dynamic_sampling": 3, "per_device_train_batch_size": 16, "max_steps": 3, **changes}
    return trainer(model, config(folder, **changes), reward_funcs=reward, dataset=sums(rows))


@pytest.mark.parametrize("algorithm", ["erpo", "grpo"])
def test_the_batch_is_filled_and_its_rows_belong_together(tmp_path, tiny_model, algorithm):
    off = {} if algorithm == "erpo" else {"entropy_gate": False, "progress_eta": 0.0}
    asked = Asked()
    made = made_with(tmp_path, tiny_model, asked, learning_rate=0.0, log_completions=True, **off)
    batches = Batches(made)
    made.train()
    read = made.processing_class.batch_decode
    history = [entry for entry in made.state.log_history if "loss" in entry]
    for out, entry in zip(batches.seen, history, strict=True):
        prompts = read(out["prompt_ids"], skip_special_tokens=True)
        texts = read(out["completion_ids"], skip_special_tokens=True)
        live = [int(p.partition("+")[0]) % 2 == 0 for p in prompts]
        assert sum(live) >= 12, "of 16 rows"
        assert all(prompts[i] == prompts[i - i % 4] for i in range(16)), "groups stay together"
        rewards = torch.tensor(half_dead(prompts, texts)).view(-1, 4)
        outcome = (rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + 1e-4)
        if algorithm == "grpo":
            torch.testing.assert_close(out["advantages"], outcome.flatten(), atol=1e-5, rtol=1e-4)
        assert out["num_items_in_batch"] == out["completion_mask"].sum()
        assert 1 <= entry["erpo/sampling_rounds"] <= 3
        assert entry["erpo/sampling_discarded"] % 4 == 0 < entry["erpo/sampling_discarded_tokens"]
        assert entry["frac_reward_zero_std"] > 0, "means are over all that was generated"
    assert list(made._logs["prompt"]) == prompts
    assert list(made._logs["completion"]) == texts
    if algorithm == "erpo":
        logged = [row["ids"] for row in made._logs["extra"]["erpo/tokens"]]
        mask = out["completion_mask"].bool()
        assert logged == [ids[m].tolist() for ids, m in zip(out["completion_ids"], mask)]
        entropy, logps = made._score(made.model, out)
        captured = made._captured[0]
        for kept, scored in zip(captured, (entropy, logps)):
            assert (kept - scored)[mask].abs().max() < 1e-4, "the numbers moved with their rows"
    first = [len(prompts) for prompts in asked.rounds]
    assert first[0] == 4
    assert all(count < 4 for count in first[1:2]), "only as many new questions as there are places"


def test_the_own_questions_keep_their_order(tmp_path, tiny_model):
    with_, without = Asked(), Asked()
    made_with(tmp_path / "with", tiny_model, with_).train()
    made_with(tmp_path / "without", tiny_model, without, dynamic_sampling=0).train()
    full = [prompts for prompts in with_.rounds if len(prompts) == 4]
    assert full == without.rounds
    once = with_.rounds[: with_.rounds.index(full[1])]
    assert len({q for prompts in once for q in prompts}) == sum(map(len, once)), "no question twice"


@pytest.mark.parametrize("off", [{}, {"entropy_gate": False, "progress_eta": 0.0}], ids=["erpo", "grpo"])
def test_what_is_recorded_belongs_to_the_question_that_took_the_place(tmp_path, tiny_model, off):
    """Prompt, tokens, reward and advantage of a record are of one completion; weights stay the same."""
    plain = made_with(tmp_path / "plain", tiny_model, **off)
    plain.train()
    made = made_with(tmp_path / "kept", tiny_model, log_completions_every=1, **off)
    batches = Batches(made)
    made.train()
    assert all(torch.equal(a, b) for a, b in zip(weights(plain).values(), weights(made).values()))
    steps = steps_in(tmp_path / "kept" / "groups", "group")
    assert list(steps) == [0, 1, 2]
    replaced = 0
    for file, out in zip(steps.values(), batches.seen, strict=True):
        traces = Trace.from_parquet(file)
        rewards = torch.tensor([trace.generation["reward"] for trace in traces]).view(-1, 4)
        for i, trace in enumerate(traces):
            mask = out["completion_mask"][i].bool()
            assert trace.tokens == out["completion_ids"][i][mask].tolist()
            assert made.processing_class.decode(trace.prompt_tokens) == trace.prompt
            (reward,) = half_dead([trace.prompt], [trace.completion])
            assert trace.generation["reward"] == pytest.approx(reward)
        replaced += int((rewards.std(1) > 0).sum()) > 2
    assert replaced, "of four questions two are alike: more than two that differ came in later rounds"


class _StopAt(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **_):
        control.should_training_stop = state.global_step == self.step
        return control


def test_a_resumed_run_draws_the_same(tmp_path, tiny_model):
    def run(folder, stop=None, resume=None):
        asked = Asked()
        made = made_with(folder, tiny_model, asked, max_steps=4, save_strategy="steps", save_steps=2)
        made.add_callback(_StopAt(stop))
        made.train(resume_from_checkpoint=resume)
        return asked.rounds, weights(made)

    straight, expected = run(tmp_path / "straight")
    first, _ = run(tmp_path / "broken", stop=2)
    rest, found = run(tmp_path / "broken", resume=True)
    assert first + rest == straight
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_nothing_but_dead_groups_ends_and_is_said(tmp_path, tiny_model, monkeypatch):
    warned = []
    monkeypatch.setattr("erpo_hub.train.dynamic_sampling.logger.warning", warned.append)
    asked = Asked(lambda prompts, completions, **_: [1.0] * len(completions))
    made = made_with(tmp_path, tiny_model, asked, rows=6, max_steps=1)
    made.train()
    assert [len(prompts) for prompts in asked.rounds] == [4, 4, 4, 4], (
        "three rounds more, of questions asked too"
    )
    (entry,) = [e for e in made.state.log_history if "loss" in e]
    assert entry["erpo/sampling_dead_groups"] == 1.0
    assert entry["erpo/sampling_discarded"] == 48
    assert "all 4 groups have equal rewards" in warned[0]
    assert "step 0" in warned[0]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"scale_rewards": "batch"}, "scale_rewards='batch'"),
        ({"multi_objective_aggregation": "normalize_then_sum"}, "normalize_then_sum"),
    ],
)
def test_what_it_does_not_go_with(tmp_path, tiny_model, changes, reason):
    with pytest.raises(UsageError, match=reason):
        made_with(tmp_path, tiny_model, **changes)
    with pytest.raises(UsageError, match="dynamic_sampling=-1"):
        ERPOConfig(str(tmp_path), use_cpu=True, bf16=False, dynamic_sampling=-1)
