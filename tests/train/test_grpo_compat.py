"""Compatibility: ERPOTrainer passes wherever trl.GRPOTrainer does. Here: data, losses, models.

Every scenario runs for both, and checks that training moved the parameters or the scenario's own effect;
see compat.check_batches for what is asked of every batch. Rewards, the training loop and what both refuse are
in test_grpo_compat_rewards.py, tools and environments in test_grpo_compat_tools.py, vLLM in test_vllm.py.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from compat import EOS, KINDS, Kind, build, check_batches, logged, older, run
from datasets import IterableDataset
from peft import LoraConfig, PrefixTuningConfig, get_peft_model
from tiny_models import chat_tokenizer, save_moe, save_tiny_model
from training import chat_sums, config, digits_reward, moved, sums, train_and_check, weights
from transformers import AutoModelForCausalLM, AutoTokenizer

from erpo_hub import ERPOConfig, ERPOTrainer
from erpo_hub.methods.catalog import METHODS


@pytest.fixture(params=KINDS, ids=str)
def make(request: pytest.FixtureRequest, tiny_model: str, tmp_path: Path):
    def made(model: Any = tiny_model, **options: Any) -> Any:
        return build(request.param, tmp_path, model, **options)

    return made


# --- data ---


@pytest.mark.parametrize("columns", ["prompt only", "extra columns"])
@pytest.mark.parametrize("conversational", [False, True])
def test_dataset_formats(make, tiny_model: str, columns: str, conversational: bool) -> None:
    seen: list[dict] = []

    def reward(prompts, completions, **rest):
        seen.append({"prompts": prompts, "completions": completions, **rest})
        return digits_reward(completions)

    data = chat_sums() if conversational else sums()
    data = data.remove_columns("answer") if columns == "prompt only" else data
    options = {"processing_class": chat_tokenizer(tiny_model)} if conversational else {}
    made = run(make(dataset=data, reward_funcs=reward, **options))
    assert ("answer" in seen[0]) == (columns == "extra columns")
    if columns == "extra columns":
        questions = [p[0]["content"] if conversational else p for p in seen[0]["prompts"]]
        assert [str(eval(q.rstrip("="))) for q in questions] == seen[0]["answer"]
    assert isinstance(seen[0]["completions"][0], list if conversational else str)
    assert len(made.batches[0]["prompt_ids"]) == 8


@pytest.mark.skipif(
    older("1.9"),
    reason="TRL 1.8's own trainer refuses streams: 'Iterable datasets are not yet supported in GRPOTrainer'",
)
def test_iterable_datasets(make) -> None:
    def stream():
        yield from sums(32)

    made = run(
        make(
            dataset=IterableDataset.from_generator(stream),
            eval_dataset={"a": IterableDataset.from_generator(lambda: iter(sums(2))), "b": sums(2)},
            eval_strategy="steps",
            eval_steps=1,
            max_steps=2,
        )
    )
    for name in ("eval_a_loss", "eval_b_loss"):
        assert all(math.isfinite(x) for x in logged(made, name))
        assert len(logged(made, name)) == 2
    # a group is one prompt, streamed or not
    for batch in made.batches:
        assert (batch["prompt_ids"].view(2, 4, -1) == batch["prompt_ids"].view(2, 4, -1)[:, :1]).all()


@pytest.mark.parametrize("num_generations_eval", [None, 1, 8])
def test_num_generations_eval(make, num_generations_eval: int | None) -> None:
    made = make(
        eval_dataset=sums(8), eval_strategy="steps", eval_steps=1, num_generations_eval=num_generations_eval
    )
    run(made)
    assert math.isfinite(logged(made, "eval_loss")[0])
    count = num_generations_eval or 4
    evaluated = made.batches[1:]
    assert sum(len(b["prompt_ids"]) for b in evaluated) == 8 * count
    prompts = torch.cat([b["prompt_ids"][:, -4:] for b in evaluated]).view(-1, count, 4)
    assert (prompts == prompts[:, :1]).all()


def test_evaluate_before_any_training(make) -> None:
    made = make(eval_dataset=sums(4))
    metrics = made.evaluate()
    assert math.isfinite(metrics["eval_loss"])
    check_batches(made)


def test_chat_template_kwargs(make, tiny_model: str) -> None:
    options = {"processing_class": chat_tokenizer(tiny_model), "chat_template_kwargs": {"prefix": "zzz"}}
    made = run(make(dataset=chat_sums(), **options))
    for ids in made.batches[0]["prompt_ids"]:
        assert made.processing_class.decode(ids).endswith("zzz")


# --- losses ---

LOSSES = ["grpo", "bnpo", "dr_grpo", "dapo", "luspo", "cispo", "sapo", "vespo"]
SETTINGS: list[dict[str, Any]] = [
    *({"loss_type": loss} for loss in LOSSES),
    {"beta": 0.1},
    {"beta": 0.1, "use_bias_correction_kl": True, "num_iterations": 2, "max_steps": 2},
    {"importance_sampling_level": "sequence", "loss_type": "grpo"},
    {"importance_sampling_level": "sequence", "loss_type": "luspo", "num_iterations": 2, "max_steps": 2},
    {"off_policy_mask_threshold": 0.5, "num_iterations": 2, "max_steps": 2},
    {"delta": 2.0, "epsilon": 0.1, "epsilon_high": 0.3},
    {"top_entropy_quantile": 0.2},
    {"scale_rewards": "group"},
    {"scale_rewards": "batch"},
    {"scale_rewards": "none"},
    {"multi_objective_aggregation": "normalize_then_sum"},
    {"num_iterations": 2, "max_steps": 3},
    {"gradient_accumulation_steps": 2},
    {"steps_per_generation": 4, "max_steps": 5},
    {"generation_batch_size": 16},
    {"temperature": 0.7, "top_p": 0.9, "top_k": 20, "min_p": 0.02, "repetition_penalty": 1.1},
    {"bf16": True},
    {"gradient_checkpointing": True},
    {"shuffle_dataset": False},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_settings(make, settings: dict) -> None:
    run(make(**settings))


@pytest.mark.parametrize("preset", sorted(set(METHODS) - {"erpo"}))
def test_presets_of_the_settings_that_touch_advantages(tiny_model: str, tmp_path: Path, preset: str) -> None:
    """GRPO's own settings under the other presets, once each."""
    kind = Kind(ERPOTrainer, ERPOConfig, METHODS[preset].preset)
    masked = {} if preset == "holder" else {"off_policy_mask_threshold": 0.5}  # the Hölder mean refuses it
    for settings in (masked, {"scale_rewards": "batch"}):
        train_and_check(build(kind, tmp_path, tiny_model, **settings))


def test_beta_logs_kl(make) -> None:
    """Before the first update the policy is its reference; after it, not any more."""
    first, second = logged(run(make(beta=0.1, max_steps=2)), "kl")
    assert first == pytest.approx(0, abs=1e-5)
    assert second > 1e-5


def test_entropy_bonus(make) -> None:
    made = run(make(entropy_coef=0.05))
    assert logged(made, "entropy_coef") == [0.05]
    loss, policy, entropy = (logged(made, k)[0] for k in ("loss", "policy_loss", "entropy"))
    assert loss == pytest.approx(policy - 0.05 * entropy, abs=1e-3)


def test_adaptive_entropy_bonus(make) -> None:
    made = run(make(use_adaptive_entropy=True, entropy_target=100.0, entropy_coef_delta=0.01, max_steps=3))
    assert logged(made, "entropy_coef") == pytest.approx([0.01, 0.02, 0.03])  # entropy is always too low


def test_top_entropy_quantile_changes_the_gradient(make) -> None:
    grads = []
    for quantile in (1.0, 0.2):
        made = make(top_entropy_quantile=quantile)
        run(made)
        grads.append(logged(made, "grad_norm")[0])
    assert grads[0] != grads[1]


def test_steps_per_generation_reuses_a_batch(make) -> None:
    made = run(make(steps_per_generation=2, num_iterations=2, max_steps=4))
    assert [len(batch["prompt_ids"]) for batch in made.batches] == [16]


def test_pad_to_multiple_of(make) -> None:
    made = run(make(pad_to_multiple_of=16))
    for batch in made.batches:
        assert batch["prompt_ids"].shape[1] % 16 == batch["completion_ids"].shape[1] % 16 == 0


def test_generation_kwargs(make) -> None:
    made = run(make(generation_kwargs={"suppress_tokens": [EOS, 5, 6, 7]}))
    assert not torch.isin(made.batches[0]["completion_ids"], torch.tensor([EOS, 5, 6, 7])).any()


def test_all_rows_truncated_and_masked(make) -> None:
    """No token counts: training goes on and changes nothing."""
    made = make(mask_truncated_completions=True, generation_kwargs={"suppress_tokens": [EOS]}, max_steps=2)
    before = weights(made)
    made.train()
    check_batches(made)
    assert all(batch["completion_mask"].sum() == 0 for batch in made.batches)
    assert not moved(before, weights(made))
    assert logged(made, "loss") == [0.0, 0.0]


def test_some_rows_truncated_and_masked(make) -> None:
    made = run(make(mask_truncated_completions=True, max_completion_length=24, max_steps=2))
    kept = torch.cat([batch["completion_mask"].any(1) for batch in made.batches])
    assert 0 < kept.sum() < len(kept)


# --- models ---


def test_model_given_as_an_object(make, tiny_model: str) -> None:
    run(make(AutoModelForCausalLM.from_pretrained(tiny_model)))


def test_model_made_in_memory(make, tiny_model: str) -> None:
    """It has no folder that a reference could be read from."""
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    model = type(model)(model.config)
    model.config._name_or_path = ""
    made = run(make(model, processing_class=AutoTokenizer.from_pretrained(tiny_model), max_steps=2))
    assert made.model.config._name_or_path == ""
    if isinstance(made, ERPOTrainer):
        assert logged(made, "erpo/progress_std")[1] > logged(made, "erpo/progress_std")[0]


def test_arguments_by_position(tiny_model: str, tmp_path: Path) -> None:
    for kind in KINDS:
        args = config(tmp_path, kind.config, max_steps=1)
        train_and_check(kind.trainer(tiny_model, digits_reward, args, sums(), sums(4)))


def test_model_init_kwargs(make) -> None:
    made = run(make(model_init_kwargs={"dtype": "bfloat16", "attn_implementation": "eager"}, bf16=True))
    assert made.model.dtype == torch.bfloat16
    assert made.model.config._attn_implementation == "eager"


@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_cast_lm_head_to_fp32(make, tmp_path: Path, beta: float) -> None:
    untied = str(save_tiny_model(tmp_path / "untied", tied=False))
    made = run(make(untied, cast_lm_head_to_fp32=True, model_init_kwargs={"dtype": "bfloat16"}, beta=beta))
    assert made.model.lm_head.weight.dtype == torch.float32
    assert made.model.model.embed_tokens.weight.dtype == torch.bfloat16


def test_disable_dropout(make, tmp_path: Path) -> None:
    dropped = str(save_tiny_model(tmp_path / "dropout", attention_dropout=0.5))
    adapter = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=2, lora_dropout=0.5)
    made = run(make(dropped, disable_dropout=True, peft_config=adapter))
    assert all(m.p == 0 for m in made.model.modules() if isinstance(m, torch.nn.Dropout))


def test_mixture_of_experts(make, tmp_path: Path) -> None:
    made = run(make(str(save_moe(tmp_path / "moe"))))
    assert logged(made, "aux_loss")[0] > 0


def lora(**changes: Any) -> LoraConfig:
    return LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=2, **changes)


@pytest.mark.parametrize("checkpointing", [None, True, False], ids=["off", "reentrant", "not reentrant"])
@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_peft_config(make, checkpointing: bool | None, beta: float) -> None:
    options: dict[str, Any] = {"beta": beta, "peft_config": lora()}
    if checkpointing is not None:
        options |= {"gradient_checkpointing": True}
        options |= {"gradient_checkpointing_kwargs": {"use_reentrant": checkpointing}}
    made = make(**options)
    frozen = {n: p.detach().clone() for n, p in made.model.named_parameters() if not p.requires_grad}
    run(made)
    assert frozen
    assert all(torch.equal(frozen[n], p) for n, p in made.model.named_parameters() if n in frozen)


@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_peft_model_given(make, tiny_model: str, beta: float) -> None:
    """Its reference is the adapter as it was given, not the model without it."""
    made = make(
        get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_model), lora(init_lora_weights=False)),
        beta=beta,
    )
    start = {n: p.detach().clone() for n, p in made.model.named_parameters() if ".default." in n}
    run(made)
    for name, value in start.items():
        if beta or isinstance(made, ERPOTrainer):
            assert torch.equal(made.model.get_parameter(name.replace(".default.", ".ref.")), value)
    if isinstance(made, ERPOTrainer):
        assert logged(made, "erpo/progress_std")[0] < 0.01


def test_prefix_tuning(make) -> None:
    made = make(peft_config=PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4), max_steps=2)
    run(made)
