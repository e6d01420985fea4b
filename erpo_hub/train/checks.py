"""What can make a training worthless without an error: looked for before the first step, or set right.

Works on any trainer of TRL's and on any causal LM. Leaves out data and arguments, which are checked earlier.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from transformers.utils import logging

from ..errors import UserError
from .reference import check_vocabulary

logger = logging.get_logger(__name__)

LONGEST = 64  # prompts whose tokens are counted, the longest in characters
# Above it the reference is not the model that samples: equal models leave rounding noise, silenced by eps.
FAR_FROM_ZERO = 0.1
PROGRESS = "erpo/progress_std"
_POSITION_TABLES = ("wpe", "positions_embed", "position_embeddings", "embed_positions")


def check_trainable(model: nn.Module) -> None:
    """Raises UserError for a model without a trainable parameter: every step would leave it as it is."""
    if any(p.requires_grad for p in model.parameters()):
        return
    cause = "its parameters are frozen: set requires_grad"
    if hasattr(model, "peft_config"):
        cause = "its adapter was loaded for inference: PeftModel.from_pretrained(..., is_trainable=True)"
    raise UserError(f"the model has no trainable parameter, training would change nothing; {cause}")


def check_models(accelerator: Any, policy: Any, reference: Any, *, compared: bool) -> None:
    """Refuse a policy that cannot learn, or be compared; set right how both models count positions."""
    check_trainable(policy)
    models = [accelerator.unwrap_model(model) for model in (policy, reference) if model is not None]
    for model in models:
        count_positions_from_the_prompt(model)
    if compared and reference is not None:
        check_vocabulary(*models)


def check_room(model: Any, longest_prompt: int, completion: int) -> None:
    """Raises UserError where a prompt and a completion of full length do not fit the model's context."""
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if context and longest_prompt + completion > context:
        raise UserError(
            f"the longest prompt has {longest_prompt} tokens, max_completion_length is {completion} and the "
            f"model's context {context}: give a max_completion_length of at most "
            f"{max(context - longest_prompt, 0)} or drop long prompts"
        )


@contextmanager
def still(model: nn.Module) -> Iterator[None]:
    """No dropout inside, though the model itself goes on saying that it trains.

    Eq. 3 compares log-probs of two models token by token; a different dropout mask in each would drown the
    difference. The root keeps its flag because TRL tells training from evaluation by it.
    """
    parts = [module for module in model.modules() if module is not model and module.training]
    for module in parts:
        module.training = False
    try:
        yield
    finally:
        for module in parts:
            module.training = True


def count_positions_from_the_prompt(model: Any) -> None:
    """Let a table of absolute positions (GPT-2, GPT-Neo) start at a row's first token, not at its padding.

    `generate` does so by itself, TRL's scoring forward does not: on left-padded prompts the two would be
    different models. Rotary positions are relative and left alone.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    if any(
        type(part) is nn.Embedding and name.rpartition(".")[2] in _POSITION_TABLES
        for name, part in inner.named_modules()
    ):
        inner.register_forward_pre_hook(_with_positions, with_kwargs=True)


def _with_positions(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    mask, cache = kwargs.get("attention_mask"), kwargs.get("past_key_values")
    fresh = cache is None or cache.get_seq_length() == 0
    if kwargs.get("position_ids") is None and isinstance(mask, Tensor) and mask.dim() == 2 and fresh:
        kwargs["position_ids"] = (mask.long().cumsum(-1) - 1).clamp(min=0)  # (B, S)
    return args, kwargs


def warn_of_first_progress(trainer: Any, mode: str, values: dict[str, float]) -> None:
    """Before the first update policy and reference are one model: say so where eq. 3 sees two."""
    spread = values.get(PROGRESS, 0.0)
    before = trainer._metrics[mode][PROGRESS]
    if mode != "train" or trainer.state.global_step or before or spread <= FAR_FROM_ZERO:
        return
    causes = "a reference that is not the starting model, an adapter that was trained before, or a model "
    causes += "whose forward depends on the batch"
    if not trainer._full_precision():
        causes = "rounding in bf16 or fp16, " + causes
    logger.warning(
        f"erpo/progress_std is {spread:.2g} before the first update, where policy and reference should agree "
        f"and it should be 0: the token signal of eq. 3 starts as noise. Likely causes: {causes}"
    )


def longest_in_characters(prompts: list[Any]) -> list[Any]:
    """At most LONGEST prompts to count the tokens of; counting all would take minutes on large data."""
    return sorted(prompts, key=lambda prompt: len(str(prompt)), reverse=True)[:LONGEST]
