"""Batches with nothing to learn from: no token, no reward, no difference. Training goes on, unharmed.

Broken logits, another vocabulary and wrong settings are in test_trainer.py; what GRPO refuses as well, such
as num_generations=1, in test_grpo_compat_rewards.py.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from training import METRICS, Batches, config, digits_reward, moved, sums, trainer, weights

from erpo_hub.methods.catalog import METHODS

EOS, VOCABULARY = 1, 47
SHAPED = ["erpo", "ep-grpo"]


def loud(folder: Path, model: str, reward_funcs: Any = digits_reward, **changes: Any) -> tuple[Any, list]:
    """A trainer whose policy is away from its reference, so that a stray token signal would show."""
    adapter = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=4, init_lora_weights=False)
    args = config(folder, **changes)
    made = trainer(model, args, reward_funcs=reward_funcs, peft_config=adapter)
    return made, Batches(made).seen


def train_unharmed(made: Any) -> bool:
    """Train; every weight and metric stays finite. Whether anything was learnt."""
    before = weights(made)
    made.train()
    after = weights(made)
    assert all(torch.isfinite(w).all() for w in after.values())
    for entry in made.state.log_history[:-1]:
        assert all(math.isfinite(entry[name]) for name in ("loss", *METRICS))
    return moved(before, after)


@pytest.mark.parametrize("preset", SHAPED)
def test_every_completion_is_empty(tiny_model: str, tmp_path: Path, preset: str) -> None:
    """The model ends at once: one token each, and equal rewards."""
    others = [token for token in range(VOCABULARY) if token != EOS]
    made, seen = loud(
        tmp_path, tiny_model, generation_kwargs={"suppress_tokens": others}, **METHODS[preset].preset
    )
    train_unharmed(made)
    assert (seen[0]["completion_ids"] == EOS).all()
    assert seen[0]["completion_ids"].shape == (8, 1)
    if preset == "erpo":  # a group of equal rewards is dropped
        assert all((batch["advantages"] == 0).all() for batch in seen)


@pytest.mark.parametrize("preset", SHAPED)
@pytest.mark.parametrize("masked", [False, True])
def test_every_completion_is_truncated(tiny_model: str, tmp_path: Path, preset: str, masked: bool) -> None:
    endless = {"suppress_tokens": [EOS]}
    changes = {"mask_truncated_completions": masked, "generation_kwargs": endless, **METHODS[preset].preset}
    made, seen = loud(tmp_path, tiny_model, **changes)
    assert train_unharmed(made) == (not masked)
    assert (seen[0]["completion_mask"].sum() == 0) == masked
    if masked:
        assert made.state.log_history[0]["erpo/gate_mean"] == 0
        assert made.state.log_history[0]["loss"] == 0


@pytest.mark.parametrize("preset", SHAPED)
@pytest.mark.parametrize("nothing", [None, math.nan])
def test_a_group_that_nobody_scored(tiny_model: str, tmp_path: Path, preset: str, nothing: Any) -> None:
    """It gets no direction, not even that of a failure; the other group is trained as ever."""

    def first_group_only(completions: list, **kwargs: Any) -> list:
        return [*digits_reward(completions)[:4], *[nothing] * 4]

    made, seen = loud(tmp_path, tiny_model, first_group_only, max_steps=1, **METHODS[preset].preset)
    assert train_unharmed(made)
    assert (seen[0]["advantages"][4:] == 0).all()
    assert seen[0]["advantages"][:4].abs().max() > 0
    assert made.state.log_history[0]["erpo/zero_variance_groups"] == 0.5


@pytest.mark.parametrize("preset", SHAPED)
def test_no_group_was_scored(tiny_model: str, tmp_path: Path, preset: str) -> None:
    made, seen = loud(tmp_path, tiny_model, lambda completions, **kw: [None] * 8, **METHODS[preset].preset)
    assert not train_unharmed(made)
    assert all((batch["advantages"] == 0).all() for batch in seen)


@pytest.mark.parametrize("reward", [math.inf, -math.inf, 1e30])
def test_a_reward_out_of_bounds(tiny_model: str, tmp_path: Path, reward: float) -> None:
    made, seen = loud(
        tmp_path, tiny_model, lambda completions, **kw: [reward, *digits_reward(completions)[1:]]
    )
    train_unharmed(made)
    assert all(torch.isfinite(batch["advantages"]).all() for batch in seen)


def test_evaluation_of_what_nobody_scores(tiny_model: str, tmp_path: Path) -> None:
    made = trainer(
        tiny_model,
        config(tmp_path, num_generations_eval=1),
        reward_funcs=lambda completions, **kw: [None] * len(completions),
        eval_dataset=sums(8),
    )
    metrics = made.evaluate()
    assert metrics["eval_loss"] == 0
    assert metrics["eval_erpo/zero_variance_groups"] == 1.0
