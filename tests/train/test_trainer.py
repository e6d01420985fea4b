"""ERPOTrainer: what it changes in GRPO, and that it changes nothing else."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from training import METRICS, Batches, config, digits_reward, sums, train_and_check, trainer, weights
from trl import GRPOConfig, GRPOTrainer

from erpo_hub import ERPOConfig, ERPOTrainer
from erpo_hub.errors import UsageError, UserError
from erpo_hub.methods.credit import NonFiniteError
from erpo_hub.methods.erpo import credit, token_advantages
from erpo_hub.train.metrics import pivot_mask

LOSSES = ["grpo", "bnpo", "dr_grpo", "dapo", "luspo", "cispo", "sapo", "vespo"]


def grpo_preset(folder: Path, **changes):
    return config(folder, entropy_gate=False, progress_eta=0.0, **changes)


@pytest.mark.parametrize("loss_type", LOSSES)
def test_preset_grpo_trains_bit_identically_to_trl(tiny_model: str, tmp_path: Path, loss_type: str) -> None:
    changes = {"max_steps": 3, "loss_type": loss_type}
    theirs = trainer(tiny_model, config(tmp_path, GRPOConfig, **changes), cls=GRPOTrainer)
    theirs.train()
    ours = trainer(tiny_model, grpo_preset(tmp_path, **changes))
    ours.train()
    assert all(torch.equal(a, b) for a, b in zip(weights(theirs).values(), weights(ours).values()))
    losses = [[e["loss"] for e in t.state.log_history if "loss" in e] for t in (theirs, ours)]
    assert losses[0] == losses[1]
    assert not any(key.startswith("erpo/") for e in ours.state.log_history for key in e)


def test_grpo_preset_fields() -> None:
    made = ERPOConfig.preset("grpo", output_dir="x", use_cpu=True, bf16=False)
    assert not made.reshapes_advantages
    assert not made.uses_reference


def test_erpo_differs_from_grpo_only_in_the_advantages(tiny_model: str, tmp_path: Path) -> None:
    """Same seed: the first batch has the same completions, and advantages that are additive eq. 7's."""
    seen = []
    for args in (
        grpo_preset(tmp_path, max_steps=1),
        config(tmp_path, max_steps=1, synthesis="additive", progress_eta=1.0),
    ):
        made = trainer(tiny_model, args)
        batches = Batches(made)
        made.train()
        seen += batches.seen
    plain, shaped = seen
    assert torch.equal(plain["completion_ids"], shaped["completion_ids"])
    assert shaped["advantages"].shape == shaped["completion_ids"].shape
    hidden = shaped["completion_mask"] == 0
    assert (shaped["advantages"][hidden] == 0).all()
    # At step 0 policy and reference agree, so the token signal is silent.
    expected = plain["advantages"][:, None] * shaped["completion_mask"]
    torch.testing.assert_close(shaped["advantages"], expected, atol=0.05, rtol=0)


@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_token_advantages_are_those_of_a_literal_recomputation(
    tiny_model: str, tmp_path: Path, beta: float
) -> None:
    """Policy and reference log-probs from two plain forwards of two models, outside the trainer."""
    made = trainer(tiny_model, config(tmp_path, max_steps=3, beta=beta, progress_eta=1.0))
    reference = made.ref_model
    assert reference is not None
    assert made.beta == made.args.beta == beta
    inner = made._generate_and_score_completions
    checked = []

    def check(inputs: list) -> dict:
        out = inner(inputs)
        ids = torch.cat([out["prompt_ids"], out["completion_ids"]], 1)
        attention = torch.cat([out["prompt_mask"], out["completion_mask"]], 1)
        keep = out["completion_ids"].shape[1]
        columns = []
        for model in (made.model, reference):
            with torch.no_grad():
                logits = model(input_ids=ids, attention_mask=attention).logits[:, -keep - 1 : -1]
            log_probs = torch.log_softmax(logits, -1)
            columns.append(log_probs.gather(-1, out["completion_ids"][..., None])[..., 0])
            columns.append(-(log_probs.exp() * log_probs).sum(-1))
        groups = made._rewards.view(-1, 4)
        outcome = ((groups - groups.mean(1, keepdim=True)) / (groups.std(1, keepdim=True) + 1e-4)).flatten()
        expected = token_advantages(
            columns[1],
            columns[0],
            columns[2],
            outcome,
            out["completion_mask"],
            torch.arange(8) // 4,
            num_groups=2,
            settings=made.args,
        )
        torch.testing.assert_close(out["advantages"], expected.advantages, atol=2e-2, rtol=1e-2)
        checked.append((columns[0] - columns[2]).abs().max())
        return out

    made._generate_and_score_completions = check
    made.train()
    assert len(checked) == 3
    assert checked[-1] > 1e-2  # the policy has left its reference: the comparison was not of zeros


@pytest.mark.parametrize("loss_type", LOSSES)
@pytest.mark.parametrize("preset", ["erpo", "ep-grpo"])
def test_every_loss_type_takes_token_advantages(
    tiny_model: str, tmp_path: Path, loss_type: str, preset: str
) -> None:
    from erpo_hub.methods.catalog import METHODS

    changes = {"importance_sampling_level": "sequence"} if loss_type == "luspo" else {}
    train_and_check(
        trainer(tiny_model, config(tmp_path, loss_type=loss_type, **METHODS[preset].preset, **changes))
    )


def test_logs_its_metrics(tiny_model: str, tmp_path: Path) -> None:
    made = train_and_check(trainer(tiny_model, config(tmp_path, max_steps=2)))
    for entry in made.state.log_history[:2]:
        for name in METRICS:
            assert math.isfinite(entry[name]), name
        assert 0 < entry["erpo/gate_mean"] < 1
        assert entry["erpo/pivot_fraction"] <= 0.35
        assert entry["erpo/pivot_entropy"] >= entry["entropy"]


def test_evaluation_and_one_generation_a_prompt(tiny_model: str, tmp_path: Path) -> None:
    args = config(tmp_path, eval_strategy="steps", eval_steps=1, num_generations_eval=1, max_steps=1)
    made = trainer(tiny_model, args, eval_dataset=sums(8))
    made.train()
    entry = next(e for e in made.state.log_history if "eval_loss" in e)
    assert math.isfinite(entry["eval_loss"])
    assert "eval_erpo/gate_mean" in entry


def test_evaluation_whose_last_batch_is_short(tiny_model: str, tmp_path: Path) -> None:
    """Five prompts of four completions in batches of eight: the last batch holds one group."""
    args = config(tmp_path, eval_strategy="steps", eval_steps=1, num_generations_eval=4, max_steps=1)
    made = trainer(tiny_model, args, eval_dataset=sums(5))
    batches = Batches(made)
    made.train()
    assert [len(b["advantages"]) for b in batches.seen] == [8, 8, 8, 4]
    assert all(torch.isfinite(b["advantages"]).all() for b in batches.seen)


@pytest.mark.parametrize(
    ("changes", "source"),
    [
        ({}, "the decode steps of generate"),
        ({"num_iterations": 2}, "TRL's old-log-prob forward"),
        ({"gradient_accumulation_steps": 2}, "the decode steps of generate"),
        ({"steps_per_generation": 4}, "TRL's old-log-prob forward"),
        ({"generation_kwargs": {"num_beams": 2}}, "one extra forward"),
        ({"mask_truncated_completions": True}, "the decode steps of generate"),
        ({"pad_to_multiple_of": 16}, "the decode steps of generate"),
        ({"beta": 0.04}, "the decode steps of generate"),
        ({"temperature": 0.7, "top_p": 0.9, "top_k": 20}, "the decode steps of generate"),
        ({"bf16": True}, "one extra forward"),
        ({"bf16": True, "progress_eta": 0.0, "synthesis": "gated"}, "the decode steps of generate"),
    ],
)
def test_where_the_sampling_policy_is_read(
    tiny_model: str, tmp_path: Path, changes: dict, source: str
) -> None:
    made = train_and_check(trainer(tiny_model, config(tmp_path, **changes)))
    assert made._source_logged == source


@pytest.mark.parametrize("changes", [{}, {"num_iterations": 2}, {"beta": 0.1}])
def test_lora_uses_the_model_without_its_adapter_as_reference(
    tiny_model: str, tmp_path: Path, changes: dict
) -> None:
    adapter = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=4, init_lora_weights=False)
    made = trainer(tiny_model, config(tmp_path, max_steps=1, **changes), peft_config=adapter)
    assert made.ref_model is None
    batches = Batches(made)
    made.train()
    # init_lora_weights=False starts away from the base model: the progress signal is loud at once.
    entry = made.state.log_history[0]
    assert entry["erpo/progress_std"] > 0.5
    spread = batches.seen[0]["advantages"].std(1)
    assert (spread > 0).any()


def test_step_0_is_silent_in_bfloat16_too(tiny_model: str, tmp_path: Path) -> None:
    """Decode steps round differently from a forward: their difference must not pass for progress."""
    made = trainer(tiny_model, config(tmp_path, max_steps=1, bf16=True))
    made.train()
    assert made.state.log_history[0]["erpo/progress_std"] < 0.01


def test_a_group_of_equal_rewards_is_silent_in_spite_of_rounding(tiny_model: str, tmp_path: Path) -> None:
    """The mean of eight times 0.7 is not 0.7 in float32: its sign must not become a signal."""
    adapter = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=4, init_lora_weights=False)
    made = trainer(
        tiny_model,
        config(tmp_path, max_steps=1, num_generations=8),
        peft_config=adapter,
        reward_funcs=lambda completions, **kw: [0.7] * len(completions),
    )
    batches = Batches(made)
    made.train()
    assert (batches.seen[0]["advantages"] == 0).all()
    assert made.state.log_history[0]["erpo/zero_variance_groups"] == 1.0


def test_a_completion_nobody_scored_gets_no_advantage(tiny_model: str, tmp_path: Path) -> None:
    def sometimes(completions, **kwargs):
        rewards = digits_reward(completions)
        return [None if i % 3 == 0 else r for i, r in enumerate(rewards)]

    made = trainer(
        tiny_model,
        config(tmp_path, max_steps=1, zero_variance="reward_sign", progress_eta=1.0),
        reward_funcs=sometimes,
    )
    batches = Batches(made)
    made.train()
    assert (batches.seen[0]["advantages"][::3] == 0).all()
    assert batches.seen[0]["advantages"].abs().max() > 0


def break_model(made, where: str) -> None:
    """From the second batch on, one row of logits in four is NaN."""
    model = made.model if where == "policy" else made.ref_model
    calls = {"n": 0}

    def poison(module, args, output):
        calls["n"] += 1
        if made.state.global_step >= 1:
            output = output.clone()
            output[::4] = math.nan
        return output

    model.model.register_forward_hook(
        lambda m, a, out: setattr(out, "last_hidden_state", poison(m, a, out.last_hidden_state))
    )


@pytest.mark.parametrize(
    ("where", "name", "changes"),
    [
        ("policy", "entropy", {}),
        ("reference", "ref_logps", {}),
        ("policy", "the loss or its entropy", {"num_iterations": 2}),  # it breaks between two uses of a batch
    ],
)
def test_broken_logits_stop_the_training_before_the_update(
    tiny_model: str, tmp_path: Path, where: str, name: str, changes: dict
) -> None:
    made = trainer(tiny_model, config(tmp_path, max_steps=4, **changes))
    break_model(made, where)
    with pytest.raises(NonFiniteError, match=f"step 1: {name} holds NaN or infinity at row 0"):
        made.train()
    assert all(torch.isfinite(w).all() for w in weights(made).values())


def test_a_policy_that_breaks_between_two_uses_of_a_batch_can_be_skipped(
    tiny_model: str, tmp_path: Path
) -> None:
    made = trainer(tiny_model, config(tmp_path, max_steps=2, num_iterations=2, on_nonfinite="skip"))
    break_model(made, "policy")
    made.train()
    assert all(torch.isfinite(w).all() for w in weights(made).values())


@pytest.mark.parametrize("where", ["policy", "reference"])
def test_broken_logits_can_be_skipped(tiny_model: str, tmp_path: Path, where: str) -> None:
    made = trainer(tiny_model, config(tmp_path, max_steps=3, on_nonfinite="skip"))
    break_model(made, where)
    made.train()
    assert all(torch.isfinite(w).all() for w in weights(made).values())
    skipped = [entry.get("erpo/skipped_batches") for entry in made.state.log_history]
    assert skipped[:3] == [None, 1.0, 1.0]
    assert [entry["loss"] for entry in made.state.log_history[1:3]] == [0.0, 0.0]


def test_reference_with_another_vocabulary(tiny_model: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    model.resize_token_embeddings(80)
    with pytest.raises(UserError, match="80 tokens and its reference 47"):
        trainer(model, config(tmp_path), processing_class=AutoTokenizer.from_pretrained(tiny_model))


def test_all_completions_truncated_and_masked(tiny_model: str, tmp_path: Path) -> None:
    """No token counts at all: no update, no NaN."""
    args = config(tmp_path, mask_truncated_completions=True, max_completion_length=1, max_steps=1, seed=5)
    made = trainer(tiny_model, args)
    batches = Batches(made)
    made.train()
    mask = batches.seen[0]["completion_mask"]
    assert mask.sum() < mask.numel()
    assert torch.isfinite(batches.seen[0]["advantages"]).all()
    assert all(torch.isfinite(w).all() for w in weights(made).values())


def test_tokens_reach_the_completions_table(tiny_model: str, tmp_path: Path) -> None:
    import pandas as pd

    made = trainer(tiny_model, config(tmp_path, log_completions=True, num_completions_to_print=1))
    made.train()
    table = pd.read_parquet(tmp_path / "completions" / "completions_00001.parquet")
    for row, completion in zip(table["erpo/tokens"], table["completion"]):
        assert len(row["ids"]) == len(row["entropy"]) == len(row["logprob"])
        edge = torch.quantile(torch.tensor(row["entropy"]), 0.75)
        above = [t for t, h in enumerate(row["entropy"]) if h > edge + 1e-3]
        assert set(above) <= set(row["pivots"])
        assert made.processing_class.decode(row["ids"], skip_special_tokens=True) == completion


def test_pivots_of_a_batch_are_those_of_each_completion() -> None:
    from erpo_hub.traces.pivots import find_pivots

    generator = torch.Generator().manual_seed(0)
    for width in (1, 2, 7, 40):
        entropy = torch.rand(16, width, generator=generator, dtype=torch.float64)
        lengths = torch.randint(0, width + 1, (16, 1), generator=generator)
        mask = torch.arange(width)[None] < lengths
        got = pivot_mask(entropy, mask)
        for row, valid, found in zip(entropy, mask, got):
            assert find_pivots(row[valid].tolist()) == found.nonzero()[:, 0].tolist()


def test_card_says_erpo(tiny_model: str, tmp_path: Path) -> None:
    made = trainer(tiny_model, config(tmp_path))
    made.create_model_card(model_name="demo")
    card = (tmp_path / "README.md").read_text()
    for text in ("2603.28204", "ERPO", "- erpo", "- trl"):
        assert text in card
    assert ERPOTrainer._name == "ERPO"
    assert set(ERPOTrainer._paper) == {"title", "id", "citation"}


@pytest.mark.parametrize(
    ("changes", "own", "paper"), [({"credit": "gtpo"}, None, "2508.04349"), ({}, credit, "2402.03300")]
)
def test_card_of_another_method_does_not_cite_erpo(
    tiny_model: str, tmp_path: Path, changes, own, paper
) -> None:
    trainer(tiny_model, config(tmp_path, **changes), credit=own).create_model_card(model_name="demo")
    card = (tmp_path / "README.md").read_text()
    assert paper in card
    assert "2603.28204" not in card


def test_plain_grpo_config_and_no_config(tiny_model: str, tmp_path: Path, monkeypatch) -> None:
    train_and_check(trainer(tiny_model, config(tmp_path, GRPOConfig)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bucket_axis": "time"}, "bucket_axis='time': choose one of position, entropy"),
        ({"synthesis": "sum"}, "synthesis='sum'"),
        ({"zero_variance": "x"}, "zero_variance='x'"),
        ({"num_buckets": 0}, "num_buckets=0"),
        ({"progress_eta": -1.0}, "progress_eta=-1.0"),
        ({"eps": 0.0}, "eps=0.0"),
        ({"gate_gamma": math.inf}, "gate_gamma=inf"),
    ],
)
def test_wrong_settings_are_one_line(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message.replace("(", r"\(")) as caught:
        config(tmp_path, **changes)
    assert "\n" not in str(caught.value)


def test_unknown_preset() -> None:
    with pytest.raises(UsageError, match="unknown preset 'gropo': choose one of grpo, erpo"):
        ERPOConfig.preset("gropo", output_dir="x")
