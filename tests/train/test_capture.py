"""Entropy and log-prob taken while generating, against a plain forward over the finished text."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from erpo_hub.train.capture import DecodeCapture, entropy_and_log_z

SIZE = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "initializer_range": 0.4,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 2,
}


def make(kind: str):
    torch.manual_seed(0)
    if kind == "tied":
        return Qwen2ForCausalLM(Qwen2Config(**SIZE, num_key_value_heads=2, tie_word_embeddings=True))
    if kind == "untied":
        return LlamaForCausalLM(LlamaConfig(**SIZE, num_key_value_heads=2, tie_word_embeddings=False))
    if kind == "soft-cap":
        config = Gemma2Config(
            **SIZE, num_key_value_heads=2, head_dim=8, final_logit_softcapping=3.0, sliding_window=8
        )
        return Gemma2ForCausalLM(config)
    config = GPT2Config(
        vocab_size=60, n_embd=32, n_layer=2, n_head=4, initializer_range=0.4, pad_token_id=0, eos_token_id=1
    )
    return GPT2LMHeadModel(config)


def left_padded_prompts(vocabulary: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(3, vocabulary, (6, 7), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    for row in range(6):
        ids[row, :row], mask[row, :row] = 0, 0
    return ids, mask


def generate(model, temperature: float, ends: tuple[int, ...] = (1,), **options):
    """Completions (lists, cut after their end), the capture, and the padded ids."""
    ids, mask = left_padded_prompts(model.config.vocab_size)
    base = model.get_base_model() if hasattr(model, "peft_config") else model
    torch.manual_seed(2)
    with torch.no_grad(), DecodeCapture(base, temperature) as capture:
        out = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=14,
            do_sample=True,
            temperature=temperature,
            disable_compile=True,
            eos_token_id=list(ends),
            **options,
        )
    new = out[:, ids.shape[1] :]
    completions = []
    for row in new.tolist():
        end = next((t + 1 for t, token in enumerate(row) if token in ends), len(row))
        completions.append(row[:end])
    return completions, capture, ids, mask


def scored(model, ids, mask, completions, temperature):
    """(entropy, logps) of each completion from one plain forward a row."""
    rows = []
    for i, completion in enumerate(completions):
        prompt = ids[i][mask[i].bool()]
        full = torch.cat([prompt, torch.tensor(completion)])[None]
        with torch.no_grad():
            logits = model(input_ids=full).logits[0, len(prompt) - 1 : -1].float() / temperature
        log_probs = torch.log_softmax(logits, -1)
        rows.append((-(log_probs.exp() * log_probs).sum(-1), log_probs[range(len(completion)), completion]))
    return rows


def assert_agrees(model, temperature: float, tolerance: float = 1e-4, **options) -> float:
    model.eval()
    completions, capture, ids, mask = generate(model, temperature, **options)
    result = capture.result(completions)
    assert result is not None
    entropy, logps = result
    assert entropy.shape == logps.shape == (6, max(map(len, completions)))
    worst = 0.0
    for i, (h, p) in enumerate(scored(model, ids, mask, completions, temperature)):
        n = len(completions[i])
        worst = max(worst, (entropy[i, :n] - h).abs().max().item(), (logps[i, :n] - p).abs().max().item())
    assert worst < tolerance
    return worst


@pytest.mark.parametrize("kind", ["tied", "untied", "soft-cap", "absolute positions"])
@pytest.mark.parametrize("temperature", [1.0, 0.6, 1.4])
def test_agrees_with_the_scoring_forward(kind: str, temperature: float) -> None:
    assert_agrees(make(kind), temperature)


@pytest.mark.parametrize(
    "options",
    [
        {"top_k": 5},
        {"top_p": 0.7},
        {"min_p": 0.2},
        {"repetition_penalty": 1.5},
        {"suppress_tokens": [5, 6, 7]},
        {"use_cache": False},
        {"cache_implementation": "static"},
    ],
    ids=str,
)
def test_sampling_filters_leave_no_trace_in_it(options: dict) -> None:
    """Entropy is the policy's own, before top-k, top-p and penalties; so is the log-prob."""
    assert_agrees(make("tied"), 0.8, **options)


def test_rows_end_at_different_places() -> None:
    model, ends = make("tied"), tuple(range(1, 12))
    completions, *_ = generate(model.eval(), 1.0, ends)
    assert len({len(c) for c in completions}) > 2
    assert_agrees(model, 1.0, ends=ends)


def test_peft_adapter() -> None:
    from peft import LoraConfig, get_peft_model

    adapter = LoraConfig(
        r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM"
    )
    assert_agrees(get_peft_model(make("tied"), adapter), 0.9)


def test_bfloat16_is_reported_and_bounded() -> None:
    """Decode steps and a whole forward round 8 bits differently: held within its order of magnitude here."""
    worst = assert_agrees(make("tied").to(torch.bfloat16), 1.0, tolerance=0.5)
    assert worst > 1e-4


def test_nothing_stays_on_the_model() -> None:
    model = make("tied")
    generate(model, 1.0)
    assert not model._forward_hooks
    assert not model._forward_pre_hooks
    with pytest.raises(KeyError), DecodeCapture(model, 1.0):
        raise KeyError
    assert not model._forward_hooks


def test_steps_that_are_not_tokens_give_none() -> None:
    completions, capture, *_ = generate(make("tied"), 1.0, num_beams=2)
    assert capture.result(completions) is None
    assert DecodeCapture(make("tied"), 1.0).result([[1, 2]]) is None
    assert DecodeCapture(make("tied"), 1.0).result([]) is None


def test_broken_logits_do_not_stop_the_sampling_but_stay_visible() -> None:
    model = make("tied")

    def poison(module, args, output):
        output = output.clone()
        output[2] = math.nan
        output[3, ..., 7] = math.inf
        return output

    model.lm_head.register_forward_hook(poison)
    completions, capture, *_ = generate(model.eval(), 1.0)
    entropy, _ = capture.result(completions)
    finite = torch.isfinite(entropy)
    assert finite[[0, 1, 4, 5]].all()
    assert not finite[[2, 3]].any()


def test_entropy_of_known_distributions() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25, 0.0], [1.0, 0.0, 0.0, 0.0], [0.25] * 4]))
    entropy, log_z = entropy_and_log_z(logits)
    expected = torch.tensor([1.5 * math.log(2), 0.0, 2 * math.log(2)])
    torch.testing.assert_close(entropy, expected)
    torch.testing.assert_close(log_z, torch.zeros(3))


def test_agrees_with_trls_fused_head(tiny_model: str) -> None:
    """The forward that TRL's loss makes: the two must be interchangeable."""
    from trl.trainer import utils

    if not hasattr(utils, "add_fused_lm_head"):
        pytest.skip("the fused head came with TRL 1.15")
    add_fused_lm_head = utils.add_fused_lm_head
    model = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    completions, capture, ids, mask = generate(model, 0.7)
    entropy, logps = capture.result(completions)
    add_fused_lm_head(model, temperature=0.7, outputs=("log_probs", "entropy"))
    width = entropy.shape[1]
    padded = torch.tensor([c + [0] * (width - len(c)) for c in completions])
    valid = torch.tensor([[t < len(c) for t in range(width)] for c in completions])
    full, attention = torch.cat([ids, padded], 1), torch.cat([mask, valid.long()], 1)
    with torch.no_grad():
        out = model(
            input_ids=full,
            attention_mask=attention,
            labels=full.masked_fill(attention == 0, -100),
            fused_lm_head=True,
        )
    assert ((out.entropy[:, -width:] - entropy)[valid]).abs().max() < 1e-4
    assert ((out.log_probs[:, -width:] - logps)[valid]).abs().max() < 1e-4
