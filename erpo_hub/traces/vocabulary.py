"""What a model and its tokenizer say of token ids: their text, and whether a trace means the same by them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..errors import UserError
from .trace import Trace


@dataclass(eq=False)
class Vocabulary:
    """A tokenizer with the number of logits of its model, and the name and revision that traces state."""

    tokenizer: Any
    vocab_size: int
    name: str
    revision: str | None = None
    _strings: dict[int, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self._anchor = self.tokenizer("a", add_special_tokens=False).input_ids[-1:]

    def string(self, token: int) -> str:
        """Text of one token for display, special tokens by their name, a leading space kept."""
        if token not in self._strings:
            both = self.tokenizer.decode([*self._anchor, token], clean_up_tokenization_spaces=False)
            alone = self.tokenizer.decode(self._anchor, clean_up_tokenization_spaces=False)
            self._strings[token] = both[len(alone) :] if both.startswith(alone) else both
        return self._strings[token]

    def check(self, trace: Trace) -> None:
        """Raises UserError when the trace's ids do not mean the same text here."""
        if trace.vocab_size != self.vocab_size:
            raise UserError(
                f"the trace has a vocabulary of {trace.vocab_size} ({trace.model}) and {self.name} one of"
                f" {self.vocab_size}: use the model that made the trace"
            )
        for token in set(trace.tokens) & set(trace.strings):
            if self.string(token) != trace.strings[token]:
                raise UserError(
                    f"token {token} is {trace.strings[token]!r} in the trace ({trace.model}) and"
                    f" {self.string(token)!r} in {self.name}: use the tokenizer that made the trace"
                )
