"""How a model was asked while it trained, kept in its tokenizer's config so that it travels with the weights.

Whoever loads the tokenizer again (evaluation, traces, the app, `erpo-hub evaluate`) asks in the same way. The
values may come from a stranger's repository: what does not have its type is ignored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ..errors import UserError
from ..text import one_line
from .rendering import is_jinja, render

KEY = "erpo_hub"
Messages = list[dict[str, Any]]


@dataclass(frozen=True)
class Asked:
    """plain: text prompts stay bare although there is a chat template. system: the system turn of a text
    prompt. chat_template_kwargs: for the template, such as Qwen3's `enable_thinking`. dtype: of the weights
    in training, such as "float32". max_new_tokens: of a completion. shaping: what else changed which token
    was drawn, the names in `SHAPING`; only what acts is in it.
    """

    plain: bool = False
    system: str | None = None
    chat_template_kwargs: dict[str, Any] = field(default_factory=dict)
    dtype: str | None = None
    max_new_tokens: int | None = None
    shaping: dict[str, float] = field(default_factory=dict)


# What changes which token is drawn, beside the temperature: name -> (idle, least, most).
SHAPING = {
    "top_p": (1, 1e-9, 1),
    "top_k": (0, 0, 10**9),
    "min_p": (0, 0, 1),
    "repetition_penalty": (1, 1e-3, 1e3),
}
_TYPES = {
    "plain": bool,
    "system": str,
    "chat_template_kwargs": dict,
    "dtype": str,
    "max_new_tokens": int,
    "shaping": dict,
}


def acting(shaping: dict[str, Any]) -> dict[str, float]:
    """Of sampling settings those that change something. What is no number in its range is left out."""
    return {
        name: shaping[name]
        for name, (idle, low, high) in SHAPING.items()
        if isinstance(shaping.get(name), int | float)
        and not isinstance(shaping[name], bool)
        and low <= shaping[name] <= high
        and shaping[name] != idle
        and (name != "top_k" or shaping[name] % 1 == 0)  # a count
    }


def asked_as(tokenizer: Any) -> Asked:
    """What `remember` left in a tokenizer or processor; the defaults where it left nothing."""
    kept = _tokenizer(tokenizer).init_kwargs.get(KEY)
    prompt = kept.get("prompt") if isinstance(kept, dict) else None
    if not isinstance(prompt, dict):
        return Asked()
    kept = {f.name: prompt[f.name] for f in fields(Asked) if isinstance(prompt.get(f.name), _TYPES[f.name])}
    if not 0 < kept.get("max_new_tokens", 1) < 2**31:
        del kept["max_new_tokens"]
    return Asked(**{**kept, "shaping": acting(kept.get("shaping", {}))})


def remember(tokenizer: Any, asked: Asked) -> None:
    """Keep it in the tokenizer, and with `save_pretrained` in its tokenizer_config.json."""
    _tokenizer(tokenizer).init_kwargs[KEY] = {"prompt": asdict(asked)}


def _tokenizer(processing_class: Any) -> Any:
    return getattr(processing_class, "tokenizer", processing_class)


def as_messages(tokenizer: Any, prompt: str | Messages, asked: Asked) -> str | Messages:
    """A text prompt as the chat it is asked in, where the model is chat-tuned; other prompts as given."""
    if not isinstance(prompt, str) or asked.plain or not getattr(tokenizer, "chat_template", None):
        return prompt
    lead = [{"role": "system", "content": asked.system}] if asked.system else []
    return [*lead, {"role": "user", "content": prompt}]


def encode(tokenizer: Any, prompts: Sequence[str | Messages], asked: Asked) -> list[list[int]]:
    """Token ids as TRL's trainer feeds them: text as it stands, chat messages through the chat template.

    Raises UserError for messages where the tokenizer has no chat template, and for what the template refuses.
    """
    if isinstance(prompts[0], str):
        with _one_error("the tokenizer refuses this text"):
            return tokenizer(list(prompts))["input_ids"]
    if not getattr(tokenizer, "chat_template", None):
        raise UserError(
            "the prompts are chat messages and the tokenizer has no chat template: "
            "use an instruction-tuned model or a task with plain prompts"
        )
    with _one_error("the chat template refuses these prompts or settings"):
        if is_jinja(tokenizer):
            texts = render(tokenizer, list(prompts), asked.chat_template_kwargs)
            return tokenizer(texts, add_special_tokens=False)["input_ids"]  # the template has them
        return tokenizer.apply_chat_template(
            list(prompts),
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            **asked.chat_template_kwargs,
        )["input_ids"]


def check_ids(ids: Sequence[int], size: int, name: str = "the model") -> None:
    """Raises UserError for an id that a model of `size` tokens has no embedding for."""
    if max(ids) >= size:
        raise UserError(
            f"the tokenizer gives id {max(ids)} and {name} has {size} tokens; they do not belong together"
        )


@contextmanager
def _one_error(what: str) -> Iterator[None]:
    """A tokenizer and its template are a stranger's: whatever they raise is one line."""
    from jinja2 import TemplateError

    faults = (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError)
    try:
        yield
    except (*faults, RecursionError, MemoryError) as error:
        raise UserError(f"{what} ({one_line(error)}): change them") from error
