"""What a run needs before it can start: its folder, its data, its arguments, its trainer.

Everything that can be wrong about a call is found here, in one line, before anything is written or loaded
for long.
"""

from __future__ import annotations

import copy
import functools
import inspect
import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import UsageError, UserError
from ..methods.catalog import METHODS
from ..tasks.grading import completion_text
from ..tasks.prompts import through_chat
from ..tasks.tasks import Task
from ..text import one_line
from ..traces.asked import SHAPING, Asked, acting, encode, remember
from ..traces.loading import EMBEDDED_MODEL, load_tokenizer, model_source, one_error
from ..train.checks import check_room, longest_in_characters
from ..train.config import CHECKPOINTING, ERPOConfig

logger = logging.getLogger(__name__)

# The embedded model is so small that a step of 64 completions costs well under a second on one core.
EMBEDDED_DEFAULTS: dict[str, Any] = {
    "learning_rate": 2e-4,
    "per_device_train_batch_size": 64,
    "num_generations": 8,
    "max_completion_length": 64,
    "max_steps": 300,
    CHECKPOINTING: False,
    "save_steps": 100,
}
RUN_DEFAULTS: dict[str, Any] = {
    "logging_steps": 1,
    "log_completions_every": 10,
    "report_to": "none",
    "save_strategy": "steps",
    "save_total_limit": 2,
    "disable_tqdm": True,  # progress.TrainingProgress shows one line instead of a dictionary a step
}
_MIRRORED = (
    "eos_token_id",
    "pad_token_id",
    "bos_token_id",
    "temperature",
    "max_new_tokens",
    "cache_implementation",
)


def prepare_folder(output_dir: str | Path, resume: bool) -> Path:
    """The run's folder, not yet made. Raises UserError where it holds another run or can't be written."""
    folder = Path(output_dir)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: give a folder for the run")
    if resume and not (folder / "run.json").is_file():
        raise UserError(f"nothing to resume: {folder} has no run.json")
    first = os.environ.get("RANK", "0") == "0"  # the others may come when it has begun to write
    if not resume and first and folder.is_dir() and any(folder.iterdir()):
        what = "another run" if (folder / "run.json").is_file() else "other files"
        raise UserError(f"{folder} holds {what}: give another --output-dir, or --resume to go on with a run")
    nearest = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise UserError(f"{folder} can't be written to: give another --output-dir")
    return folder


def make_arguments(
    algorithm: str, args: ERPOConfig | None, overrides: dict[str, Any], model: Any, folder: Path
) -> ERPOConfig:
    """The run's ERPOConfig: a copy of `args`, or the preset with defaults for this model and machine."""
    checkpoints = str(folder / "checkpoints")
    if args is not None:
        if not isinstance(args, ERPOConfig):
            raise UsageError(f"args is a {type(args).__name__}: give an ERPOConfig")
        if overrides:
            raise UsageError(f"give args or {', '.join(sorted(overrides))}, not both")
        config = copy.copy(args)
        config.output_dir = checkpoints
    else:
        config = _from_preset(algorithm, overrides, model, checkpoints)
    if config.load_best_model_at_end:
        raise UsageError(
            "load_best_model_at_end picks the best of several looks at held-out data: the last model is "
            "judged and published, so leave it off"
        )
    kept_apart = config.hub_model_id and "checkpoint" in str(getattr(config.hub_strategy, "value", ""))
    if config.push_to_hub and not (kept_apart and config.hub_private_repo):
        raise UsageError(
            "push_to_hub makes a second repository, with a commit at every save: give repo_id (--push-to "
            "NAME/MODEL) instead, which publishes once at the end; checkpoints can be kept on the Hub by "
            "hub_strategy='checkpoint' with a hub_model_id of their own and hub_private_repo=True"
        )
    if config.max_steps <= 0 and config.num_train_epochs <= 0:
        raise UsageError("max_steps and num_train_epochs are both 0: there is nothing to train")
    return config


def _from_preset(algorithm: str, overrides: dict[str, Any], model: Any, checkpoints: str) -> ERPOConfig:
    if algorithm not in METHODS:
        raise UsageError(f"unknown algorithm {algorithm!r}: choose one of {', '.join(METHODS)}")
    known = ERPOConfig.__dataclass_fields__
    if unknown := sorted(set(overrides) - set(known)):
        raise UsageError(f"unknown argument {unknown[0]!r}: ERPOConfig has no such field")
    values = {**RUN_DEFAULTS, **_machine_defaults()}
    if model == EMBEDDED_MODEL:
        values |= EMBEDDED_DEFAULTS
        if "num_train_epochs" in overrides and "max_steps" not in overrides:
            values.pop("max_steps")
    try:
        return ERPOConfig.preset(algorithm, **{**values, **overrides, "output_dir": checkpoints})
    except (ValueError, TypeError, ImportError, OSError, ZeroDivisionError) as error:
        raise UsageError(f"these arguments do not go together: {one_line(error)}") from error


def _machine_defaults() -> dict[str, Any]:
    import torch

    if torch.cuda.is_available():
        return {}
    if torch.backends.mps.is_available():
        return {"bf16": False}
    return {"use_cpu": True, "bf16": False}


def make_trainer(
    model: Any, config: ERPOConfig, task: Task, grader: Any, reward_funcs: Any, peft_config: Any, plain: bool
) -> tuple[Any, str, Task]:
    """The trainer with its model loaded, the model's name for the record, and the task as it is asked."""
    from ..tasks.grading import correctness_reward
    from ..train.trainer import ERPOTrainer

    model_id = model if isinstance(model, str) else getattr(model.config, "_name_or_path", "") or "unnamed"
    if isinstance(model, str):
        model, tokenizer = load_policy(model, config)
    else:
        tokenizer = load_tokenizer(model_id)
    tokenizer.padding_side = tokenizer.truncation_side = "left"
    _check_peft(peft_config)
    if len(task.train) == 0:
        raise UserError(f"{task.spec}: there is no row to train on")
    chat = _asks_text(task) and bool(getattr(tokenizer, "chat_template", None)) and not plain
    if chat:
        logger.warning(
            "the tokenizer has a chat template: text prompts are asked through it, as what a user says "
            "(--plain or plain=True keeps them bare)"
        )
        task = replace(task, train=through_chat(task.train), test=through_chat(task.test))
    if reward_funcs is None:
        reward_funcs = [correctness_reward(grader)]
    elif chat:
        several = isinstance(reward_funcs, list | tuple)
        reward_funcs = [_on_text(f) for f in (reward_funcs if several else [reward_funcs])]
    try:
        trainer = ERPOTrainer(
            model,
            reward_funcs,
            config,
            train_dataset=task.train,
            eval_dataset=task.test if config.eval_strategy != "no" else None,
            processing_class=tokenizer,
            peft_config=peft_config,
        )
    except ValueError as error:
        raise UsageError(f"TRL refuses these arguments: {error}") from error
    _ask_alike(trainer, plain=_asks_text(task) and plain, system=_system(task))
    return trainer, model_id, task


def _asks_text(task: Task) -> bool:
    return isinstance(task.train[0]["prompt"], str)


def _system(task: Task) -> str | None:
    """The system turn that all questions share, where they do."""
    turns = {
        next((m["content"] for m in prompt if m["role"] == "system"), None)
        for prompt in task.train["prompt"]
        if not isinstance(prompt, str)
    }
    return turns.pop() if len(turns) == 1 else None


def _on_text(reward: Any) -> Any:
    """A reward function written for text prompts, given their text though they are asked as chat."""
    if isinstance(reward, str) or not callable(reward) or hasattr(reward, "config"):
        return reward

    def as_text(prompts: list, completions: list) -> dict[str, list[str]]:
        return {
            "prompts": [p[-1]["content"] for p in prompts],
            "completions": [completion_text(c) for c in completions],
        }

    if inspect.iscoroutinefunction(reward):

        @functools.wraps(reward)
        async def later(prompts: list, completions: list, **columns: Any) -> Any:
            return await reward(**as_text(prompts, completions), **columns)

        return later

    @functools.wraps(reward)
    def call(prompts: list, completions: list, **columns: Any) -> Any:
        return reward(**as_text(prompts, completions), **columns)

    return call


def _ask_alike(trainer: Any, *, plain: bool, system: str | None) -> None:
    """Leave in tokenizer and generation config how the model is asked and what ends a completion.

    The evaluation, the traces and whoever loads the published model read it there. Raises UserError where a
    prompt with a completion of full length does not fit the context.
    """
    args, tokenizer = trainer.args, trainer.processing_class
    policy = trainer.accelerator.unwrap_model(trainer.model)
    asked = Asked(
        plain=plain,
        system=system,
        chat_template_kwargs=dict(args.chat_template_kwargs or {}),
        dtype=str(policy.dtype).removeprefix("torch."),
        max_new_tokens=args.max_completion_length,
        shaping=_shaping(args),
    )
    remember(tokenizer, asked)
    inner = policy.get_base_model() if hasattr(policy, "get_base_model") else policy
    stops = (args.generation_kwargs or {}).get("eos_token_id")  # TRL generates to them, and reads past them
    stops = stops if isinstance(stops, list) else [] if stops is None else [stops]
    trainer.eos_token_ids = list(dict.fromkeys([*trainer.eos_token_ids, *stops]))
    inner.generation_config.eos_token_id = list(trainer.eos_token_ids)
    # A base's own penalty would act in greedy answers of whoever loads the published model.
    inner.generation_config.repetition_penalty = asked.shaping.get("repetition_penalty", 1.0)
    prompts = longest_in_characters([*trainer.train_dataset["prompt"]])
    longest = max(len(ids) for ids in encode(tokenizer, prompts, asked))
    check_room(policy, longest, args.max_completion_length)


def _shaping(args: ERPOConfig) -> dict[str, float]:
    """What shapes the training's draws beside temperature and length, and can be mirrored in judging."""
    further: dict[str, Any] = args.generation_kwargs or {}  # type: ignore[assignment]
    given = {name: getattr(args, name) for name in SHAPING} | further
    if left := sorted(set(further) - {*SHAPING, *_MIRRORED}):
        logger.warning(
            "generation_kwargs: %s shapes the training's completions only; the evaluation and the traces are "
            "made without it", ", ".join(left)
        )  # fmt: skip
    return acting(given)


def load_policy(name: str, config: ERPOConfig) -> tuple[Any, Any]:
    """Model (float32 unless model_init_kwargs say otherwise) and tokenizer; safetensors only.

    By TRL's own function, which knows how its trainer wants the weights placed and typed; the refusals are
    our loader's.
    """
    from trl.trainer.utils import create_model_from_path

    kwargs: dict[str, Any] = dict(config.model_init_kwargs or {})  # type: ignore[arg-type]
    if kwargs.pop("trust_remote_code", False) or config.trust_remote_code:
        raise UsageError("trust_remote_code runs a stranger's code: it stays off")
    if config.distributed_state.distributed_type in ("MULTI_GPU", "DEEPSPEED"):  # as TRL's own trainer does
        kwargs["device_map"] = None  # by default every process would spread its copy over all GPUs
    kwargs |= {"use_safetensors": True, "trust_remote_code": False}
    path = model_source(name, kwargs.get("revision"))
    with one_error(name):
        model = create_model_from_path(path, **kwargs)
    return model, load_tokenizer(name, kwargs.get("revision"))


def _check_peft(peft_config: Any) -> None:
    from peft import PeftConfig

    if peft_config is not None and not isinstance(peft_config, PeftConfig):
        raise UsageError(
            f"peft_config is a {type(peft_config).__name__}: give a PeftConfig such as peft.LoraConfig(...)"
        )
