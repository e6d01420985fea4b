"""Scoring in tiles against the full logits, on four families; and what it never holds."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_models import CONTEXT, FAMILIES, VOCAB, byte_tokenizer, tiny_model

from erpo_hub.errors import UserError
from erpo_hub.traces import columns
from erpo_hub.traces.engine import Engine

TEXT = "so 12 + 3 = 15, hé. "


def engine_of(family="qwen2"):
    return Engine(tiny_model(family), byte_tokenizer(), name="tiny")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_agrees_with_full_logits(family, temperature, monkeypatch):
    monkeypatch.setattr(columns, "TILE", 5 * VOCAB)  # five rows a tile: the last one is short
    engine = engine_of(family)
    trace = engine.score("12 + 3?", TEXT, temperature=temperature, num_alternatives=4)
    ids = torch.tensor([trace.prompt_tokens + trace.tokens])
    with torch.no_grad():
        logits = engine.model(ids).logits[0, len(trace.prompt_tokens) - 1 : -1].double()
    logp = torch.log_softmax(logits / temperature, -1)
    chosen = logp.gather(-1, torch.tensor(trace.tokens)[:, None]).squeeze(-1)
    top = logp.topk(4, -1)
    assert trace.completion == TEXT
    assert torch.tensor(trace.entropy).double() == pytest.approx(-(logp.exp() * logp).sum(-1), abs=2e-5)
    assert torch.tensor(trace.logprob).double() == pytest.approx(chosen, abs=1e-4)
    assert torch.tensor(trace.topk_probs).double() == pytest.approx(top.values.exp(), abs=1e-5)
    assert trace.topk_ids == top.indices.tolist()
    assert trace.sampling_logprob is None
    assert trace.finish_reason == "scored"


def test_a_streamed_completion_scores_to_the_same_columns():
    engine = engine_of()
    trace = engine.trace("1+1", max_new_tokens=30, temperature=0.8, seed=3)
    again = engine.score("1+1", trace.tokens, temperature=0.8)
    assert torch.tensor(again.entropy) == pytest.approx(torch.tensor(trace.entropy), abs=2e-5)
    assert again.pieces == trace.pieces
    assert again.pivots == trace.pivots


def test_never_holds_more_than_a_tile_of_logits(monkeypatch):
    monkeypatch.setattr(columns, "TILE", 8 * VOCAB)
    engine, rows = engine_of(), []
    engine.model.lm_head.register_forward_hook(lambda _m, _i, out: rows.append(out[..., 0].numel()))
    engine.score("1", "a" * 90)
    assert max(rows) == 8
    assert sum(rows) == 90 + 2  # and once for the check of the output layer: the model's row and ours


def test_texts_that_cannot_be_scored():
    engine = engine_of()
    with pytest.raises(UserError, match="the completion is empty"):
        engine.score("a", "")
    with pytest.raises(UserError, match="outside the vocabulary"):
        engine.score("a", [VOCAB])
    with pytest.raises(UserError, match=f"reads at most {CONTEXT}"):
        engine.score("a", "b" * CONTEXT)
    assert len(engine.score("a", "b")) == 1
    assert len(engine.score("a", "b" * (CONTEXT - 1))) == CONTEXT - 1


def test_broken_logits_are_reported():
    engine = engine_of()
    with torch.no_grad():
        engine.model.lm_head.weight[5] = float("nan")
    with pytest.raises(UserError, match="its logits at token 0 are not finite"):
        engine.score("a", "bcd")


def test_an_output_layer_of_an_unknown_kind_is_refused():
    engine = engine_of()
    engine.model.register_forward_hook(lambda _m, _i, out: out.__class__(logits=out.logits * 1.5))
    with pytest.raises(UserError, match="changes its logits in a way unknown here"):
        engine.score("a", "bcd")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the memory of a Linux process")
def test_memory_stays_far_below_the_full_logits():
    """A large vocabulary, in a process of its own: the benchmark's tiled way on 1,024 tokens."""
    script = Path(__file__).parents[2] / "benchmarks" / "score.py"
    call = [sys.executable, str(script), "--child", "tiled", "--tokens", "1024"]
    found = json.loads(subprocess.run(call, check=True, capture_output=True, text=True).stdout)
    logits = 1024 * 151_936 * 4
    assert found["bytes"] < 0.15 * 2 * logits  # the naive way holds logits and log-probabilities
