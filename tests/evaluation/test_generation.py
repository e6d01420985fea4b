"""Completions made together are those made alone: dropped rows, padding and random numbers change nothing."""

import pytest
import torch
from tiny_models import EOS, VOCAB, tiny_model
from transformers import Lfm2Config, Lfm2ForCausalLM, MambaConfig, MambaForCausalLM

from erpo_hub.evaluation import generation
from erpo_hub.evaluation.generation import Decoding, generate_completions, row_seed, rows_at_once, undisturbed

PROMPTS = [[5 + i % 7, 60 + i, 3, 9 * i % 200][: 1 + i % 4] for i in range(24)]


def recurrent(family):
    torch.manual_seed(0)
    shape = {
        "vocab_size": VOCAB,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "eos_token_id": EOS,
        "pad_token_id": 257,
    }
    if family == "mamba":
        return MambaForCausalLM(MambaConfig(**shape, state_size=4)).eval()
    layers = ["conv", "full_attention"]
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 32}
    return Lfm2ForCausalLM(Lfm2Config(**shape, **heads, layer_types=layers)).eval()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("family", ["qwen2", "gemma2", "gpt2", "lfm2", "mamba"])
def test_a_completion_does_not_depend_on_the_others(family, temperature, monkeypatch):
    """Ends come early and late, so that rows are dropped again and again; gemma's window is 8 tokens."""
    model = recurrent(family) if family in ("lfm2", "mamba") else tiny_model(family, sharp=3.0)
    monkeypatch.setattr(generation, "FEWEST", 2)
    calls = []
    generate = model.generate
    monkeypatch.setattr(model, "generate", lambda **k: calls.append(len(k["input_ids"])) or generate(**k))
    with undisturbed(model):
        ends = (EOS, *range(0, 256, 16)) if temperature else tuple(_common(model))
        decoding = Decoding(temperature, 0.95, 12, 257, ends)
        seeds = [row_seed(3, i) for i in range(len(PROMPTS))]
        together = generate_completions(model, PROMPTS, decoding, seeds)
        assert len(calls) > 1, "nothing was dropped"
        assert calls == sorted(calls, reverse=True)
        for prompt, seed, found in zip(PROMPTS, seeds, together):
            alone = generate_completions(model, [prompt], decoding, [seed])[0]
            assert found.ids == alone.ids
            assert found.entropy == pytest.approx(alone.entropy, abs=1e-4)
            assert found.truncated == alone.truncated == (len(found.ids) == 12 and found.ids[-1] not in ends)
    assert len({len(c.ids) for c in together}) > 1


def _common(model) -> list[int]:
    """Tokens that end some greedy completions early and others late."""
    free = generate_completions(model, PROMPTS, Decoding(0.0, 1.0, 12, 257, (EOS,)), [0] * len(PROMPTS))
    return [EOS, *{c.ids[min(1 + i % 9, len(c.ids) - 1)] for i, c in enumerate(free) if i % 3 == 0}]


@pytest.mark.parametrize("rows", [20, 64])
def test_dropping_rows_changes_no_bit(rows, monkeypatch):
    """What is left of a batch is never fewer rows than a matrix product adds up in the same order."""
    model = tiny_model("qwen2", sharp=3.0)
    prompts, seeds = [PROMPTS[i % len(PROMPTS)] for i in range(rows)], list(range(rows))
    decoding = Decoding(1.0, 1.0, 12, 257, (EOS, *range(0, 256, 16)))
    with undisturbed(model):
        dropped = generate_completions(model, prompts, decoding, seeds)
        monkeypatch.setattr(generation, "FEWEST", rows)
        assert generate_completions(model, prompts, decoding, seeds) == dropped


def test_draws_follow_the_probabilities_and_top_p():
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05, 0.0]).log()
    noise = (torch.arange(4000, dtype=torch.float64)[:, None] + 0.5) / 4000
    for top_p, kept in ((1.0, [0.5, 0.3, 0.15, 0.05, 0.0]), (0.79, [0.625, 0.375, 0.0, 0.0, 0.0])):
        draw = generation._Draw(Decoding(1.0, top_p, 1, 0, (1,)), noise)
        tokens = draw(None, logits.expand(4000, -1)).argmax(-1)
        assert (torch.bincount(tokens, minlength=5) / 4000).tolist() == pytest.approx(kept, abs=1e-3)
    hot = generation._Draw(Decoding(1e-3, 1.0, 1, 0, (1,)), noise)
    assert set(hot(None, logits.expand(4000, -1)).argmax(-1).tolist()) == {0}


def test_small_models_make_more_at_once():
    model = tiny_model("qwen2")
    assert rows_at_once(model, 100) == 512
    model.config.num_hidden_layers = 400
    assert 64 < rows_at_once(model, 100) < 512
    assert rows_at_once(model, 10_000) == 64
