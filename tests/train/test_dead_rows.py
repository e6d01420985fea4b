"""Rows whose advantages are all 0 are left out of the training forwards: the same gradient, less work."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig
from training import config, sums, trainer
from transformers import TrainerCallback

from erpo_hub.errors import UsageError
from erpo_hub.train.config import ERPOConfig

LOSSES = ["grpo", "bnpo", "dr_grpo", "dapo", "luspo", "cispo", "sapo", "vespo"]

ROUNDING = 5e-6  # of a gradient in float32, relative; TRL before 1.15, with whole logits, needs 3e-6


def half_dead(completions, prompts, **_):
    """Every second question is answered alike by all, as if all were right."""
    return [
        1.0 if int(prompt.partition("+")[0]) % 2 else sum(ch.isdigit() for ch in text) / 8
        for prompt, text in zip(prompts, completions)
    ]


class Gradients(TrainerCallback):
    def __init__(self):
        self.steps = []

    def on_pre_optimizer_step(self, args, state, control, model=None, **_):
        named = model.named_parameters()
        self.steps.append({n: p.grad.clone() for n, p in named if p.requires_grad and p.grad is not None})


def gradients(folder, model, *, reward=half_dead, peft_config=None, **changes):
    """The gradient of each step, learning rate 0 so that both trainings see the same completions."""
    made = trainer(
        model,
        config(folder, learning_rate=0.0, max_grad_norm=0.0, max_steps=3, **changes),
        reward_funcs=reward,
        dataset=sums(24),
        peft_config=peft_config,
    )
    kept = Gradients()
    made.add_callback(kept)
    made.train()
    return kept.steps, made


def assert_alike(one, other):
    assert len(one) == len(other) > 0
    assert any(g.abs().max() > 0 for step in one for g in step.values())
    for a, b in zip(one, other):
        assert a.keys() == b.keys()
        for name in a:
            scale = b[name].norm().clamp(min=1e-12)
            assert (a[name] - b[name]).norm() / scale < ROUNDING or (a[name] - b[name]).abs().max() < 1e-9, (
                name
            )


def both(tmp_path, model, **changes):
    skipped, made = gradients(tmp_path / "skip", model, skip_dead_rows=True, **changes)
    whole, _ = gradients(tmp_path / "whole", model, skip_dead_rows=False, **changes)
    shares = [h["erpo/computed_rows"] for h in made.state.log_history if "erpo/computed_rows" in h]
    assert min(shares) < 1
    assert_alike(skipped, whole)
    return shares


@pytest.mark.parametrize("loss_type", LOSSES)
def test_the_gradient_is_the_same(tmp_path, tiny_model, loss_type):
    level = {"importance_sampling_level": "sequence"} if loss_type == "luspo" else {}
    both(tmp_path, tiny_model, loss_type=loss_type, **level)


@pytest.mark.parametrize("loss_type", ["grpo", "dapo", "bnpo"])
def test_small_micro_batches_some_of_them_dead(tmp_path, tiny_model, loss_type):
    size = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 8}
    shares = both(tmp_path, tiny_model, loss_type=loss_type, **size)
    assert min(shares) < 0.8


def test_batches_used_twice(tmp_path, tiny_model):
    both(tmp_path, tiny_model, num_iterations=2, gradient_accumulation_steps=1)


def test_with_an_adapter(tmp_path, tiny_model):
    both(tmp_path, tiny_model, peft_config=LoraConfig(r=2, init_lora_weights=False, task_type="CAUSAL_LM"))


def test_plain_grpo_on_demand(tmp_path, tiny_model):
    grpo = {"entropy_gate": False, "progress_eta": 0.0}
    both(tmp_path, tiny_model, **grpo)
    assert not gradients(tmp_path / "off", tiny_model, **grpo)[1]._skips_dead_rows


def test_a_whole_step_of_dead_rows_moves_nothing_but_what_it_moved_before(tmp_path, tiny_model):
    """Adam goes on by its momentum where the gradient is 0, and would not where there is none."""

    def weights(skip):
        calls = []

        def reward(completions, **_):
            calls.append(1)
            return [1.0] * len(completions) if len(calls) == 2 else [float(len(c) % 3) for c in completions]

        made = trainer(
            tiny_model,
            config(tmp_path / f"adam-{skip}", learning_rate=1e-2, max_steps=3, skip_dead_rows=skip),
            reward_funcs=reward,
        )
        made.train()
        return {n: p.detach().clone() for n, p in made.model.named_parameters()}

    skipped, whole = weights(True), weights(False)
    for name in whole:
        torch.testing.assert_close(skipped[name], whole[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"beta": 0.1}, "the KL term"), ({"entropy_coef": 0.01}, "the entropy bonus")],
)
def test_what_needs_every_row(tmp_path, tiny_model, changes, reason):
    with pytest.raises(UsageError, match=reason):
        trainer(tiny_model, config(tmp_path, skip_dead_rows=True, **changes))
    assert not trainer(tiny_model, config(tmp_path, **changes))._skips_dead_rows


def test_the_default(tmp_path):
    assert ERPOConfig(str(tmp_path), use_cpu=True, bf16=False).skip_dead_rows is None
