"""A resumed run asks the questions that the uninterrupted one asks, in every epoch."""

from __future__ import annotations

import pytest
from training import config, digits_reward, sums, trainer
from transformers import TrainerCallback


class _StopAt(TrainerCallback):
    def __init__(self, step: int | None):
        self.step = step

    def on_step_end(self, args, state, control, **_):
        control.should_training_stop = state.global_step == self.step
        return control


def _asked(folder, model, *, stop=None, resume=None, **changes):
    """The questions of each generation batch, in order."""
    seen = []

    def reward(prompts, completions, **_):
        seen.append(prompts[::4])
        return digits_reward(completions)

    made = trainer(
        model,
        config(folder, max_steps=8, save_strategy="steps", save_steps=1, **changes),
        reward_funcs=reward,
        dataset=sums(8),
    )
    made.add_callback(_StopAt(stop))
    made.train(resume_from_checkpoint=resume)
    return seen


@pytest.mark.parametrize("stop", [3, 4, 5])  # in the first epoch, between two, in the second
def test_the_order_goes_on(tiny_model, tmp_path, stop):
    straight = _asked(tmp_path / "straight", tiny_model)
    first = _asked(tmp_path / "stopped", tiny_model, stop=stop)
    rest = _asked(tmp_path / "stopped", tiny_model, resume=True)
    assert first + rest == straight
    assert straight[4:] != straight[:4]  # each epoch has an order of its own


def test_batches_used_twice(tiny_model, tmp_path):
    straight = _asked(tmp_path / "straight", tiny_model, num_iterations=2)
    first = _asked(tmp_path / "stopped", tiny_model, num_iterations=2, stop=6)
    rest = _asked(tmp_path / "stopped", tiny_model, num_iterations=2, resume=True)
    assert first + rest == straight
