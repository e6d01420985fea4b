"""Generation outside the model: vLLM (a stand-in at TRL's seam, no GPU) and continuous batching.

ERPO's side must come out as if `generate` had sampled the same tokens here: same token advantages, whatever
vLLM says about its own log-probs, NaN included.
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from compat import ERPO, GRPO, KINDS, build, check_batches, logged, older, run
from peft import LoraConfig
from test_grpo_compat_tools import call, multiply, questions
from tiny_models import save_tool_caller
from training import sums
from transformers import AutoModelForCausalLM, AutoTokenizer
from vllm_stand_in import Recording, install

MODES = ["server", "colocate"]
IS_MODES = ["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"]
NO_HOLES = older("1.11")  # TRL's own trainer dies there of a token without a log-prob: None is no number
HOLES = [
    "none",
    *(
        pytest.param(
            holes,
            marks=pytest.mark.skipif(NO_HOLES, reason="TRL's own trainer, before 1.11, needs every log-prob"),
        )
        for holes in ("some", "all")
    ),
]
FORWARD, EXTRA = "TRL's old-log-prob forward", "one extra forward"
# Options of every training here: two prompts, so that every batch asks for what was recorded.
FEW: dict[str, Any] = {"dataset": sums(2), "learning_rate": 1e-3}


def moved_away(folder: str) -> Any:
    """A policy that has left its reference (which TRL reads from the folder): the token signal is loud."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.05 * torch.randn(weight.shape, generator=generator))
    return model


@pytest.fixture(scope="module")
def sampled(tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """A batch that `generate` sampled here, with ERPO's advantages."""
    folder = tmp_path_factory.mktemp("sampled")
    made = run(build(ERPO, folder, moved_away(tiny_model), **FEW))
    assert made._source_logged == "the decode steps of generate"
    batch = made.batches[0]
    assert batch["advantages"].std(1).max() > 0.05
    return batch


def recorded(batch: dict, *, noise: float = 0.05, holes: str = "none" if NO_HOLES else "some") -> Recording:
    """The batch as vLLM would hand it out, with log-probs of its own that differ by `noise` nats."""
    generator = torch.Generator().manual_seed(1)
    rows = []
    for i in range(len(batch["prompt_ids"])):
        prompt = batch["prompt_ids"][i][batch["prompt_mask"][i].bool()].tolist()
        ids = batch["completion_ids"][i][batch["completion_mask"][i].bool()].tolist()
        logprobs = (-2 + noise * torch.randn(len(ids), generator=generator)).tolist()
        if holes == "all" or (holes == "some" and i == 0):
            logprobs = [math.nan] * len(ids)
        elif holes == "some":
            logprobs[-1] = math.nan
        rows.append((prompt, ids, logprobs))
    return Recording(rows)


def with_vllm(kind: Any, folder: Path, model: Any, recording: Recording, monkeypatch, **options: Any) -> Any:
    install(monkeypatch, recording)
    return build(kind, folder, model, **{**FEW, "use_vllm": True, **options})


def assert_same_advantages(got: dict, expected: dict) -> None:
    """Rows arrive in the same order: the same prompts, in the order of the same seed."""
    assert torch.equal(got["completion_ids"], expected["completion_ids"])
    torch.testing.assert_close(got["advantages"], expected["advantages"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("correction", "source"), [(True, FORWARD), (False, EXTRA)])
@pytest.mark.parametrize("holes", HOLES)
def test_advantages_are_those_of_generate(
    tiny_model: str, tmp_path: Path, monkeypatch, sampled: dict, mode, correction, source, holes
) -> None:
    recording = recorded(sampled, holes=holes)
    options = {"vllm_mode": mode, "vllm_importance_sampling_correction": correction}
    made = run(
        with_vllm(ERPO, tmp_path, moved_away(tiny_model), recording, monkeypatch, **options, max_steps=2)
    )
    assert made._source_logged == source
    assert_same_advantages(made.batches[0], sampled)
    assert torch.isnan(made.batches[0]["sampling_per_token_logps"]).any() == (holes != "none")


@pytest.mark.parametrize("mode", MODES)
def test_the_weights_that_sample_are_the_policys(
    tiny_model: str, tmp_path: Path, monkeypatch, sampled: dict, mode: str
) -> None:
    """One synchronisation a generation batch, before it; ERPO's reference never gets there."""
    recording = recorded(sampled)
    made = with_vllm(
        ERPO, tmp_path, moved_away(tiny_model), recording, monkeypatch, vllm_mode=mode, max_steps=2
    )
    start = {name: p.detach().clone() for name, p in made.model.named_parameters()}
    run(made)
    assert len(recording.synced) == len(recording.calls) == 2
    first, second = recording.synced
    assert set(first) == set(start)
    assert all(torch.equal(first[name], start[name]) for name in start)
    assert any(not torch.equal(first[name], second[name]) for name in start)
    assert recording.calls[0].n == (4 if mode == "server" else 1)
    assert recording.calls[0].logprobs == 0


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("is_mode", IS_MODES)
def test_importance_sampling_modes(
    tiny_model: str, tmp_path: Path, monkeypatch, sampled: dict, kind, is_mode: str
) -> None:
    """The correction stays TRL's: it multiplies the loss and never enters ERPO's advantages."""
    recording = recorded(sampled)
    options = {"vllm_mode": "colocate", "vllm_importance_sampling_mode": is_mode}
    options |= {"vllm_importance_sampling_clip_max": 3.0, "loss_type": "grpo", "max_steps": 2}
    made = run(with_vllm(kind, tmp_path, moved_away(tiny_model), recording, monkeypatch, **options))
    batch = made.batches[0]
    ratio = batch["importance_sampling_ratio"]
    assert ratio.shape == (8, 1 if is_mode.startswith("sequence") else batch["completion_ids"].shape[1])
    assert ratio.max() <= 3.0
    assert NO_HOLES or (ratio[0] == 1).all()  # vLLM knew nothing about the first row
    assert ratio[1:].std() > 0
    if kind is ERPO:
        assert_same_advantages(batch, sampled)
    assert math.isfinite(logged(made, "sampling/sampling_logp_difference/mean")[0])


@pytest.mark.parametrize("loss", ["dapo", "cispo", "sapo", "vespo", "luspo"])
def test_losses_with_correction(tiny_model: str, tmp_path: Path, monkeypatch, sampled: dict, loss) -> None:
    options = {"vllm_mode": "colocate", "vllm_importance_sampling_mode": "token_truncate"}
    options |= {"loss_type": loss, "off_policy_mask_threshold": 2.0, "num_iterations": 2, "max_steps": 2}
    run(with_vllm(ERPO, tmp_path, moved_away(tiny_model), recorded(sampled), monkeypatch, **options))


def test_reused_batches_without_correction(tiny_model: str, tmp_path: Path, monkeypatch, sampled) -> None:
    """Then TRL scores the tokens anyway, and no forward is added."""
    options = {"vllm_importance_sampling_correction": False, "num_iterations": 2, "vllm_mode": "server"}
    made = run(with_vllm(ERPO, tmp_path, moved_away(tiny_model), recorded(sampled), monkeypatch, **options))
    assert made._source_logged == FORWARD
    assert_same_advantages(made.batches[0], sampled)


@pytest.mark.parametrize("mode", MODES)
def test_lora(tiny_model: str, tmp_path: Path, monkeypatch, mode: str) -> None:
    """Merged weights go to vLLM; the reference is the model without its adapter."""
    adapter = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=4, init_lora_weights=False)
    here = run(build(ERPO, tmp_path, tiny_model, **FEW, peft_config=adapter))
    recording = recorded(here.batches[0])
    made = run(
        with_vllm(ERPO, tmp_path, tiny_model, recording, monkeypatch, vllm_mode=mode, peft_config=adapter)
    )
    assert_same_advantages(made.batches[0], here.batches[0])
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    synced = recording.synced[0]
    assert set(synced) == {name for name, _ in base.named_parameters()}
    name = "model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(synced[name], base.get_parameter(name))


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_completions_of_no_token_at_all(
    tiny_model: str, tmp_path: Path, monkeypatch, sampled: dict, kind, mode: str
) -> None:
    """TRL 1.16 looks at the last token of every completion and so refuses one without tokens: so do we."""
    recording = recorded(sampled)
    for prompt in recording.left:
        recording.left[prompt] = iter([([], [])] * 8)
    made = with_vllm(kind, tmp_path, tiny_model, recording, monkeypatch, vllm_mode=mode)
    with pytest.raises(IndexError, match="list index out of range"):
        made.train()


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_sequence_correction_of_vespo_is_refused(
    tiny_model: str, tmp_path: Path, monkeypatch, sampled: dict, kind
) -> None:
    options = {"vllm_importance_sampling_mode": "sequence_mask", "loss_type": "vespo"}
    with pytest.raises(ValueError, match="VESPO loss requires"):
        with_vllm(kind, tmp_path, tiny_model, recorded(sampled), monkeypatch, **options)


def test_evaluation(tiny_model: str, tmp_path: Path, monkeypatch, sampled: dict) -> None:
    options = {"eval_strategy": "steps", "eval_steps": 1, "num_generations_eval": 2, "vllm_mode": "server"}
    made = run(
        with_vllm(ERPO, tmp_path, tiny_model, recorded(sampled), monkeypatch, **options, eval_dataset=sums(2))
    )
    assert math.isfinite(logged(made, "eval_loss")[0])
    assert "eval_erpo/gate_mean" in made.state.log_history[1]


@pytest.mark.parametrize("kind", [GRPO, ERPO], ids=str)
def test_continuous_batching(tiny_model: str, tmp_path: Path, kind) -> None:
    """Real, on the CPU: the scheduler packs rows, so decode steps are no columns and one forward is made."""
    small = {"num_blocks": 64, "block_size": 16, "max_batch_tokens": 64}
    made = build(
        kind,
        tmp_path,
        tiny_model,
        use_transformers_continuous_batching=True,
        transformers_continuous_batching_config=small,
    )
    run(made)
    check_batches(made)
    if kind is ERPO:
        assert made._source_logged == EXTRA


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("correction", "source"), [(True, FORWARD), (False, EXTRA)])
def test_tools(tmp_path: Path, monkeypatch, mode: str, correction: bool, source: str) -> None:
    """Two turns: TRL gives the tool's tokens the log-prob 0, and they count for nobody."""
    folder = save_tool_caller(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder)

    class Dialogue(Recording):
        def next(self, prompt: list[int]) -> tuple[list[int], list[float]]:
            asked = "tool_response" not in tokenizer.decode(prompt)
            text = call("multiply", a=3, b=4) if asked else f"it is {len(self.calls)}{'!' * next(count)}"
            ids = tokenizer(text)["input_ids"]
            return ids, [-1.0 if NO_HOLES else math.nan, *[-1.0] * (len(ids) - 1)]

    count = itertools.count()
    options = {"vllm_mode": mode, "vllm_importance_sampling_correction": correction, "tools": [multiply]}
    options |= {"dataset": questions(2), "reward_funcs": lengths, "max_completion_length": 200}
    options |= {"vllm_importance_sampling_mode": "token_truncate"}  # these texts are unlikely for the model
    made = run(with_vllm(ERPO, tmp_path, str(folder), Dialogue([]), monkeypatch, **options))
    batch = made.batches[0]
    hidden = (batch["tool_mask"] == 0) & batch["completion_mask"].bool()
    assert hidden.any(1).all()
    assert (batch["advantages"][hidden] == 0).all()
    assert (batch["sampling_per_token_logps"][hidden] == 0).all()
    assert made._source_logged == source


def lengths(completions: list, **kwargs: Any) -> list[float]:
    return [float(len(completion[-1]["content"])) for completion in completions]
