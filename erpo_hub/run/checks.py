"""What would stop a run after its baseline was paid for, said in one line before anything is loaded.

Only what TRL and transformers find late, or not at all: settings of sampling, packages that are not
installed, arguments that mean something else here.
"""

from __future__ import annotations

import inspect
import math
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..lock import LOCK
from ..text import one_line
from ..traces.decoding import COLDEST
from ..train.config import ERPOConfig

_PACKAGES = {"azure_ml": "azureml-mlflow", "comet_ml": "comet-ml"}  # where the package's name is another

_COUNTS = (
    "per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps",
    "steps_per_generation", "num_iterations",
)  # fmt: skip


def check_arguments(config: ERPOConfig) -> None:
    """Raises UsageError for arguments with which the run could not end well."""
    _check_numbers(config)
    _check_dictionaries(config)
    _check_sampling(config)
    _check_reporting(config)
    if config.resume_from_checkpoint:
        raise UsageError(
            f"resume_from_checkpoint={config.resume_from_checkpoint!r}: a run goes on from the last complete "
            "checkpoint of its own folder, with --resume"
        )
    _check_loss(config)
    if config.use_vllm:
        from trl.import_utils import is_vllm_available

        if not is_vllm_available():
            raise UsageError("use_vllm: vLLM is not installed here: `pip install trl[vllm]`, or leave it off")


def _check_numbers(config: ERPOConfig) -> None:
    """No nan and no infinity anywhere, and no number with which torch or numpy stop in the middle."""
    for field in fields(config):
        value = getattr(config, field.name)
        numbers = [x for x in (value if isinstance(value, list) else [value]) if isinstance(x, float)]
        if not all(map(math.isfinite, numbers)) and value != field.default:
            raise UsageError(f"{field.name}={value}: give a finite number")
    _check_ranges(
        {
            "learning_rate": (config.learning_rate, lambda x: x >= 0, "0 or more"),
            "weight_decay": (config.weight_decay, lambda x: x >= 0, "0 or more"),
            "adam_beta1": (config.adam_beta1, lambda x: 0 <= x < 1, "from 0 to below 1"),
            "adam_beta2": (config.adam_beta2, lambda x: 0 <= x < 1, "from 0 to below 1"),
            "adam_epsilon": (config.adam_epsilon, lambda x: x >= 0, "0 or more"),
            "max_steps": (config.max_steps, lambda x: x == -1 or x >= 1, "1 or more (-1: as epochs say)"),
            "num_train_epochs": (config.num_train_epochs, lambda x: x >= 0, "0 or more"),
            "beta": (config.beta, lambda x: x >= 0, "0 or more"),
            "epsilon": (config.epsilon, lambda x: x >= 0, "0 or more"),
            "dataloader_num_workers": (config.dataloader_num_workers, lambda x: x >= 0, "0 or more"),
            "max_grad_norm": (config.max_grad_norm, lambda x: x is None or x >= 0, "0 (off) or more"),
            "save_steps": (config.save_steps, lambda x: x >= 0, "0 (at the end alone) or more"),
            **{name: (getattr(config, name), lambda x: x is None or x >= 1, "1 or more") for name in _COUNTS},
            "seed": (config.seed, lambda x: 0 <= x < 2**32, "from 0 to 4294967295"),
        }
    )


def _check_dictionaries(config: ERPOConfig) -> None:
    """JSON that is no object stays text, and a misspelt setting of generation would act nowhere."""
    from transformers import GenerationConfig

    for name in ("chat_template_kwargs", "generation_kwargs", "model_init_kwargs"):
        value = getattr(config, name)
        if not isinstance(value, dict | None):
            raise UsageError(f"{name}={value!r}: give a JSON object")
    if config.use_vllm:  # has settings of its own
        return
    known = vars(GenerationConfig())
    for name in config.generation_kwargs or {}:
        if name not in known:
            raise UsageError(f"generation_kwargs: {name!r} is no setting of transformers' generate")


def _check_ranges(ranges: Mapping[str, tuple[Any, Callable[[Any], bool], str]]) -> None:
    """Raises UsageError for the first value (value, test, what to give) that fails its test."""
    for name, (value, allowed, wanted) in ranges.items():
        if not allowed(value):
            raise UsageError(f"{name}={value}: give a number {wanted}")


def _check_loss(config: ERPOConfig) -> None:
    """TRL names its losses only where it computes them, so they are read there, whatever its version."""
    from transformers.utils import is_liger_kernel_available
    from trl import GRPOTrainer

    source = inspect.getsource(GRPOTrainer._compute_loss)
    levels = sorted(set(re.findall(r'importance_sampling_level == "(\w+)"', source)))
    if levels and config.importance_sampling_level not in levels:
        raise UsageError(
            f"importance_sampling_level={config.importance_sampling_level!r}: choose {' or '.join(levels)}"
        )
    if config.scale_rewards not in (True, False, "group", "batch", "none"):
        raise UsageError(f"scale_rewards={config.scale_rewards!r}: choose group, batch or none")
    if f'"{config.loss_type}"' not in source:
        known = sorted(set(re.findall(r'loss_type == "(\w+)"', source)) | {"grpo", "dapo"})
        raise UsageError(f"loss_type={config.loss_type!r}: choose one of {', '.join(known)}")
    if config.use_liger_kernel and not is_liger_kernel_available():
        raise UsageError("use_liger_kernel: not installed here: `pip install liger-kernel`, or leave it off")


def _check_sampling(config: ERPOConfig) -> None:
    if "stop_strings" in (config.generation_kwargs or {}):
        raise UsageError(
            "generation_kwargs: stop_strings can't be judged or published alike: give eos_token_id, the ids "
            "of the tokens that end a completion"
        )
    ranges: dict[str, tuple[Any, Callable[[Any], bool], str]] = {
        "temperature": (
            config.temperature,
            lambda x: x >= COLDEST,
            f"above 0, from {COLDEST}: training must sample",
        ),
        "top_p": (config.top_p, lambda x: 0 < x <= 1, "above 0 and at most 1"),
        "min_p": (config.min_p, lambda x: x is None or 0 <= x <= 1, "from 0 to 1"),
        "top_k": (config.top_k, lambda x: x is None or x >= 0, "0 (off) or more"),
        "repetition_penalty": (config.repetition_penalty, lambda x: 0 < x < math.inf, "above 0"),
        "max_completion_length": (config.max_completion_length, lambda x: x is None or x >= 1, "1 or more"),
    }
    _check_ranges(ranges)


def _check_reporting(config: ERPOConfig) -> None:
    from transformers.integrations import get_available_reporting_integrations

    wanted = [config.report_to] if isinstance(config.report_to, str) else list(config.report_to or [])
    missing = set(wanted) - {"none", "all", *get_available_reporting_integrations()}
    for name in sorted(missing):
        package = _PACKAGES.get(name, name)
        raise UsageError(f"report_to={name}: not installed here: `pip install {package}`, or leave it out")


def check_optimizer(trainer: Any) -> None:
    """Raises UsageError where the optimizer's package is missing, which transformers finds as it begins."""
    try:
        type(trainer).get_optimizer_cls_and_kwargs(trainer.args, trainer.model)
    except (ImportError, ValueError) as error:
        raise UsageError(f"optim={trainer.args.optim.value}: {one_line(error)}") from error
    _check_schedule(trainer.args)


def _check_schedule(args: Any) -> None:
    """Raises UsageError for a schedule that cannot be made: tried with an optimizer of nothing."""
    import torch
    from transformers import get_scheduler

    idle = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=args.learning_rate)
    further = args.lr_scheduler_kwargs or {}
    try:
        get_scheduler(args.lr_scheduler_type, idle, 0, 1, scheduler_specific_kwargs=dict(further))
    except (ValueError, TypeError) as error:
        kind = getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type)
        raise UsageError(f"lr_scheduler_type={kind}: {one_line(error)}") from error


def check_evaluation(settings: Mapping[str, Any]) -> None:
    """Raises UsageError for settings of `evaluate` that it would refuse after the model is loaded."""
    for name in ("n", "k", "batch_size", "max_new_tokens"):
        value = settings.get(name)
        if value is not None and value < 1:
            raise UsageError(f"evaluation: {name}={value}: give 1 or more")


@contextmanager
def no_half_made_folder(folder: Path) -> Iterator[None]:
    """Takes away a folder that came into being inside and holds no file at the end: what is inside failed."""
    there = folder.exists()
    try:
        yield
    finally:
        files = (p for p in folder.rglob("*") if p.is_file() and p.name != LOCK)
        if not there and folder.is_dir() and not any(files):
            shutil.rmtree(folder)
