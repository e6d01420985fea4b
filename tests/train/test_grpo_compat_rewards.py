"""Compatibility, continued: rewards, the loop around the training, and what both trainers refuse."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import trl
from compat import EOS, ERPO, GRPO, KINDS, OF_TRAINER, build, check_batches, logged, run
from packaging.version import Version
from peft import LoraConfig
from tiny_models import chat_tokenizer, save_reward_model
from training import chat_sums, config, digits_reward, moved, sums, weights
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from erpo_hub.methods.catalog import METHODS
from erpo_hub.train.compat import NEWEST_TESTED


@pytest.fixture(params=KINDS, ids=str)
def make(request: pytest.FixtureRequest, tiny_model: str, tmp_path: Path):
    def made(model: Any = tiny_model, **options: Any) -> Any:
        return build(request.param, tmp_path, model, **options)

    return made


# --- rewards ---


def half(completions: list, **kwargs: Any) -> list:
    return [x if i % 2 else None for i, x in enumerate(digits_reward(completions))]


def nothing(completions: list, **kwargs: Any) -> list:
    return [None] * len(completions)


async def later(completions: list, **kwargs: Any) -> list:
    return digits_reward(completions)


@pytest.mark.parametrize(
    "funcs",
    [[digits_reward, half], [later], [later, digits_reward], [digits_reward, nothing]],
    ids=lambda funcs: "+".join(f.__name__ for f in funcs),
)
@pytest.mark.parametrize("aggregation", ["sum_then_normalize", "normalize_then_sum"])
def test_reward_functions(make, funcs: list, aggregation: str) -> None:
    made = run(make(reward_funcs=list(funcs), multi_objective_aggregation=aggregation))
    mean = logged(made, f"rewards/{funcs[0].__name__}/mean")[0]
    assert math.isfinite(mean)
    if nothing in funcs:
        assert logged(made, "rewards/nothing/mean") == [None]


def test_nobody_scores_anything(make) -> None:
    made = make(reward_funcs=nothing, max_steps=2)
    before = weights(made)
    made.train()
    check_batches(made)
    assert not moved(before, weights(made))
    assert all((batch["advantages"] == 0).all() for batch in made.batches)


def test_reward_weights(make) -> None:
    made = run(make(reward_funcs=[digits_reward, later], reward_weights=[0.5, 2.0]))
    one, two, total = (
        logged(made, k)[0] for k in ("rewards/digits_reward/mean", "rewards/later/mean", "reward")
    )
    assert total == pytest.approx(0.5 * one + 2.0 * two, abs=1e-5)


@pytest.mark.parametrize("given", ["path", "model", "among functions", "conversational"])
def test_reward_model(make, tiny_model: str, tmp_path: Path, given: str) -> None:
    folder = str(save_reward_model(tmp_path / "judge"))
    judge = folder if given == "path" else AutoModelForSequenceClassification.from_pretrained(folder)
    options: dict[str, Any] = {}
    if given == "conversational":
        tokenizer = chat_tokenizer(tiny_model)
        options = {
            "dataset": chat_sums(),
            "processing_class": tokenizer,
            "reward_processing_classes": chat_tokenizer(tiny_model),
        }
    made = run(make(reward_funcs=[judge, later] if given == "among functions" else judge, **options))
    assert logged(made, "rewards/judge/std")[0] > 0


def test_log_hooks(make) -> None:
    def talkative(completions, log_extra, log_metric, trainer_state, **kwargs):
        log_extra("first", [c[:1] for c in completions])
        log_metric("mine/length", sum(map(len, completions)) / len(completions))
        assert trainer_state.global_step in (0, 1)
        return digits_reward(completions)

    made = run(make(reward_funcs=talkative, max_steps=2))
    assert len(logged(made, "mine/length")) == 2
    assert list(made._logs["extra"]["first"]) == [c[:1] for c in made._logs["completion"]]


@pytest.mark.parametrize("unique", [False, True])
def test_log_completions(make, tmp_path: Path, capsys, monkeypatch, unique: bool) -> None:
    import pandas as pd

    monkeypatch.setenv("COLUMNS", "160")
    options = {"eval_dataset": sums(2), "eval_strategy": "steps", "eval_steps": 1}
    run(make(log_completions=True, num_completions_to_print=2, log_unique_prompts=unique, **options))
    table = pd.read_parquet(tmp_path / "completions" / "completions_00001.parquet")
    assert {"step", "prompt", "completion", "digits_reward", "advantage"} <= set(table.columns)
    assert len(table) == 8
    assert "Completion" in capsys.readouterr().out


# --- the loop around ---


@pytest.mark.parametrize("mixup", [0.6, 1.0])
def test_sync_ref_model(make, mixup: float) -> None:
    made = make(beta=0.1, sync_ref_model=True, ref_model_sync_steps=1, ref_model_mixup_alpha=mixup)
    before = {n: p.detach().clone() for n, p in made.ref_model.named_parameters()}
    run(made)
    after = dict(made.ref_model.named_parameters())
    for name, policy in made.model.named_parameters():
        expected = before[name] * (1 - mixup) + policy * mixup
        torch.testing.assert_close(after[name], expected, atol=1e-6, rtol=0)


def test_resume_from_checkpoint(make, tmp_path: Path) -> None:
    options = {"save_strategy": "steps", "save_steps": 2, "lr_scheduler_type": "constant"}
    run(make(max_steps=2, **options))
    made = make(max_steps=3, **options)
    made.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert made.state.global_step == 3
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "checkpoint-2")
    change = [(p - saved.get_parameter(n)).abs().max().item() for n, p in made.model.named_parameters()]
    assert 0 < max(change) < 0.05  # one step of learning rate 1e-2 away from the checkpoint


def test_callbacks_and_optimizers(make, tiny_model: str) -> None:
    from transformers import TrainerCallback

    steps = []

    class Count(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            steps.append(state.global_step)

    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    made = run(make(model, callbacks=[Count()], optimizers=(optimizer, None), max_steps=2))
    assert steps == [1, 2]
    assert made.optimizer.optimizer is optimizer


@pytest.mark.parametrize("mask", [False, True])
def test_rollout_func(make, tiny_model: str, mask: bool) -> None:
    """What it returns is trained on as it is; `env_mask` marks tokens that an environment wrote."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    texts = ["12", "3a\n", "999", "b", "c", "44", "5d", "e"]
    completions = [[*tokenizer(text)["input_ids"], EOS] for text in texts]
    scored: list = []

    def rollout(prompts, trainer):
        out = {
            "prompt_ids": tokenizer(prompts)["input_ids"],
            "completion_ids": [list(ids) for ids in completions],
            "logprobs": [[-1.0] * len(ids) for ids in completions],
            "length": [len(ids) for ids in completions],
        }
        return out | ({"env_mask": [[0] + [1] * (len(ids) - 1) for ids in completions]} if mask else {})

    def reward(completions, length, **kwargs):
        scored.extend(length)
        return digits_reward(completions)

    made = run(make(rollout_func=rollout, reward_funcs=reward))
    assert scored == [len(ids) for ids in completions]
    for row, ids in zip(made.batches[0]["completion_ids"].tolist(), completions):
        assert row[: len(ids)] == ids
    if mask:
        assert (made.batches[0]["tool_mask"][:, 0] == 0).all()


# --- what GRPOTrainer refuses ---

REFUSED: dict[str, tuple[type[Exception], dict[str, Any]]] = {
    "no dataset": (ValueError, {"train_dataset": None}),
    "a list for a dataset": (TypeError, {"train_dataset": [{"prompt": "1+1="}]}),
    "no prompt": (KeyError, {"train_dataset": sums().rename_column("prompt", "question")}),
    "no rewards": (ValueError, {"reward_funcs": []}),
    "weights of other functions": (ValueError, {"reward_weights": [1.0, 2.0]}),
    "too few rewards": (ValueError, {"reward_funcs": lambda completions, **kw: [1.0]}),
    "one generation a prompt": (ValueError, {"num_generations": 1}),
    "a batch that holds no whole group": (ValueError, {"num_generations": 5}),
    "both batch settings": (ValueError, {"generation_batch_size": 16, "steps_per_generation": 2}),
    "unknown loss": (ValueError, {"loss_type": "nothing"}),
    "unknown scale": (ValueError, {"scale_rewards": "never"}),
    "unknown aggregation": (ValueError, {"multi_objective_aggregation": "none"}),
    "unknown level": (ValueError, {"importance_sampling_level": "page"}),
    "an adapter on the head": (ValueError, {"peft_config": LoraConfig(target_modules=["lm_head"])}),
    "not an adapter": (TypeError, {"peft_config": {"r": 2}}),
    "tools without a template": (ValueError, {"tools": [print]}),
    "a router where there is none": (ValueError, {"router_aux_loss_coef": 0.1}),
    "vLLM without vLLM": (ImportError, {"use_vllm": True}),
    "outputs of the loss": (ValueError, {"return_outputs": True}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_both(tiny_model: str, tmp_path: Path, case: str) -> None:
    expected, options = REFUSED[case]
    options = {"train_dataset": sums(), "reward_funcs": digits_reward, **options}
    outputs = options.pop("return_outputs", False)
    of_trainer = {k: v for k, v in options.items() if k in {*OF_TRAINER, "train_dataset"}}
    settings = {k: v for k, v in options.items() if k not in of_trainer}
    messages = []

    def attempt(kind) -> None:
        args = config(tmp_path, kind.config, max_steps=1, **settings)
        made = kind.trainer(tiny_model, args=args, **of_trainer)
        if outputs:
            made.compute_loss(made.model, {}, return_outputs=True)
        made.train()

    if Version(trl.__version__) < NEWEST_TESTED:
        try:
            attempt(GRPO)
        except expected:
            pass
        else:
            pytest.skip(f"TRL {trl.__version__} does not refuse it yet")
    for kind in KINDS:
        with pytest.raises(expected) as caught:
            attempt(kind)
        assert caught.type is expected
        messages.append(str(caught.value).replace("ERPOTrainer", "GRPOTrainer"))
    assert messages[0] == messages[1]


def test_sync_ref_model_without_kl_is_allowed_on_purpose(tiny_model: str, tmp_path: Path) -> None:
    """GRPO has no reference at beta = 0; ERPO's token signal needs one, and it may follow the policy."""
    options = {"sync_ref_model": True, "ref_model_sync_steps": 1, "ref_model_mixup_alpha": 1.0}
    with pytest.raises(ValueError, match="sync_ref_model"):
        build(GRPO, tmp_path, tiny_model, **options)
    made = run(build(ERPO, tmp_path, tiny_model, **options))
    policy, reference = dict(made.model.named_parameters()), dict(made.ref_model.named_parameters())
    assert all(torch.equal(policy[name], reference[name]) for name in policy)
    with pytest.raises(ValueError, match="sync_ref_model"):
        build(ERPO, tmp_path, tiny_model, **options, **METHODS["grpo"].preset)


def test_no_configuration_at_all(tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`args=None` means bfloat16, which transformers refuses on a machine without a GPU: so do both."""
    monkeypatch.chdir(tmp_path)
    ends = []
    for kind in KINDS:
        try:
            made = kind.trainer(tiny_model, digits_reward, train_dataset=sums())
            ends.append((type(made.args).__name__[1:], made.args.output_dir.rsplit("-", 1)[0]))
            assert isinstance(made.args, kind.config)
        except ValueError as error:
            ends.append((type(error).__name__, str(error)))
    assert ends[0] == ends[1]
