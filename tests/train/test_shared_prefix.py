"""A group's prompt computed once: the numbers and gradients of TRL's own forward, family by family."""

from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator
from peft import LoraConfig
from training import config, sums, trainer
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
)
from trl.trainer import utils as trl_utils

from erpo_hub.errors import UsageError
from erpo_hub.train import shared_prefix
from erpo_hub.train.shared_prefix import cannot_pack, completions_a_row, pack, packed_forward

if not hasattr(trl_utils, "add_fused_lm_head"):
    pytest.skip("packed rows are scored by the fused head of TRL 1.15 and later", allow_module_level=True)
add_fused_lm_head = trl_utils.add_fused_lm_head

SHAPE = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 2,
}
FAMILIES = {
    "llama": LlamaConfig(**SHAPE),
    "mistral": MistralConfig(**SHAPE, sliding_window=5),
    "qwen2": Qwen2Config(**SHAPE),
    "qwen3": Qwen3Config(**SHAPE, head_dim=8),
    "gemma3": Gemma3TextConfig(
        **SHAPE, head_dim=8, sliding_window=6, layer_types=["sliding_attention", "full_attention"] * 2
    ),
    "phi3": Phi3Config(**SHAPE, sliding_window=7),
}
ROWS, PROMPT, COMPLETION = 6, 20, 7


def batch():
    """Three rows of one prompt (padded), two of another, one alone; completions of several lengths."""
    ids = torch.randint(3, 64, (ROWS, PROMPT + COMPLETION), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    ids[1:3, :PROMPT] = ids[0, :PROMPT]
    ids[4, :PROMPT] = ids[3, :PROMPT]
    mask[:3, :3] = 0
    mask[1, -3:] = mask[4, -5:] = mask[2, -7:] = 0
    return ids, mask


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_numbers(family, implementation):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(FAMILIES[family], attn_implementation=implementation)
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    assert cannot_pack(model) is None
    ids, mask = batch()
    labels = ids.masked_fill(mask == 0, -100)
    labels[:, :-COMPLETION] = -100
    valid = mask[:, -COMPLETION:].bool()
    weights = torch.linspace(0.5, 1.5, COMPLETION)

    def plain():
        out = model(input_ids=ids, attention_mask=mask, labels=labels, fused_lm_head=True)
        return out.log_probs[:, -COMPLETION:], out.entropy[:, -COMPLETION:]

    def packed():
        return packed_forward(model, pack(ids, mask, COMPLETION, 0.0), COMPLETION, Accelerator(cpu=True))

    found = []
    for forward in (plain, packed):
        model.zero_grad()
        logps, entropy = forward()
        (logps * valid * weights).sum().backward()
        gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        found.append((logps.detach()[valid], entropy.detach()[valid], gradient))
    (logps, entropy, gradient), (logps2, entropy2, gradient2) = found
    torch.testing.assert_close(logps2, logps, atol=5e-5, rtol=0)
    torch.testing.assert_close(entropy2, entropy, atol=5e-5, rtol=0)
    assert (gradient2 - gradient).norm() / gradient.norm() < 1e-4


def test_nothing_to_share_and_long_groups(monkeypatch):
    ids, mask = batch()
    assert pack(ids[[0, 3, 5]], mask[[0, 3, 5]], COMPLETION, 0.0) is None
    monkeypatch.setattr("erpo_hub.train.shared_prefix.MAX_LENGTH", PROMPT + 2 * (COMPLETION + 1))
    packed = pack(ids, mask, COMPLETION, 0.0)
    assert packed.input_ids.shape == (4, PROMPT - 1 + 2 * (COMPLETION + 1))  # three rows of a prompt: 2 and 1
    picked = packed.input_ids[packed.row[:, None], packed.start[:, None] + torch.arange(COMPLETION)]
    assert torch.equal(picked, ids[:, PROMPT:])


@pytest.mark.parametrize("changes", [{}, {"beta": 0.05}, {"gradient_checkpointing": True}, {"lora": True}])
def test_a_training_ends_in_the_same_weights(tmp_path, tiny_model, changes, monkeypatch):
    monkeypatch.setattr(shared_prefix, "pair_cost", lambda model: 0.0)  # so small a model would not be packed
    changes = dict(changes)
    peft = LoraConfig(r=2, init_lora_weights=False, task_type="CAUSAL_LM") if changes.pop("lora", 0) else None

    packed = []
    real = shared_prefix.packed_forward
    monkeypatch.setattr(shared_prefix, "packed_forward", lambda *a: packed.append(1) or real(*a))

    def weights(shared):
        torch.manual_seed(0)
        made = trainer(
            tiny_model,
            config(tmp_path / str(shared), shared_prefix=shared, max_steps=3, optim="sgd", **changes),
            dataset=sums(16),
            peft_config=peft,
        )
        made.train()
        return torch.cat([p.detach().flatten() for p in made.model.parameters() if p.requires_grad]), made

    (one, _), (other, made) = weights(False), weights(True)
    assert made._packs
    assert packed
    assert (one - other).norm() / one.norm() < 1e-5


def test_long_completions_share_a_row_with_fewer_or_none():
    """Groups of 8 on the embedded model, whose measured costs the rule was held against."""
    pair = 2 * 128 * 4 / 838_528
    rows = {c: completions_a_row([8, 8], 192, c, pair) for c in (8, 48, 128, 256, 1024)}
    assert rows == {8: 8, 48: 8, 128: 4, 256: 1, 1024: 1}
    assert completions_a_row([1, 1], 192, 8, pair) == 1
    assert completions_a_row([8], 192, 4000, 0.0) == 1  # two do not fit a packed row


def test_refused_by_name(tmp_path, tiny_model):
    gpt2 = AutoModelForCausalLM.from_config(GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=64))
    assert "gpt2" in cannot_pack(gpt2)
    model = AutoModelForCausalLM.from_config(FAMILIES["llama"])
    model.config._attn_implementation = "flash_attention_2"
    assert "flash_attention_2" in cannot_pack(model)
    made = AutoModelForCausalLM.from_pretrained(tiny_model)
    made.config.model_type = "other"
    with pytest.raises(UsageError, match="shared_prefix: other was not tried"):
        trainer(made, config(tmp_path, shared_prefix=True, progress_eta=0.0))
