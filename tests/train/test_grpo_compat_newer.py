"""Compatibility: what TRL's GRPO tests gained in 1.15 and 1.16, and how older releases stand to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from compat import EOS, ERPO, GRPO, KINDS, build, older, run
from peft import LoraConfig
from transformers import AutoModelForCausalLM

OLDER = older("1.15")
STOP = 7  # another token that ends a completion


def lora(**changes: Any) -> LoraConfig:
    return LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=2, **changes)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_dora(kind, tiny_model: str, tmp_path: Path) -> None:
    """Its magnitudes, too small for bfloat16 to follow, are trained like the rest."""
    made = build(kind, tmp_path, tiny_model, peft_config=lora(use_dora=True))
    start = {n: p.detach().clone() for n, p in made.model.named_parameters() if "magnitude" in n}
    run(made)
    assert start
    assert any(not torch.equal(p, start[n]) for n, p in made.model.named_parameters() if n in start)


@pytest.mark.parametrize("kind", [ERPO] if OLDER else [GRPO, ERPO], ids=str)
def test_one_seed_one_adapter(kind, tiny_model: str, tmp_path: Path) -> None:
    """TRL sets the seed before it draws an adapter from 1.15 on; ERPOTrainer does with every release."""
    drawn = []
    for _ in range(2):
        torch.rand(3)  # whatever was drawn before
        made = build(kind, tmp_path, tiny_model, peft_config=lora(init_lora_weights=False))
        drawn.append(torch.cat([p.flatten() for n, p in made.model.named_parameters() if "lora_" in n]))
    assert torch.equal(*drawn)


@pytest.mark.skipif(OLDER, reason="older TRL ends a completion at the tokenizer's end token alone")
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_end_token_of_the_model_ends_a_completion(kind, tiny_model: str, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    model.generation_config.eos_token_id = [EOS, STOP]
    made = run(build(kind, tmp_path, model, max_completion_length=24))
    ended = 0
    for ids, mask in zip(made.batches[0]["completion_ids"], made.batches[0]["completion_mask"]):
        said = ids[mask.bool()].tolist()
        assert STOP not in said[:-1]
        ended += said[-1] == STOP
    assert ended
