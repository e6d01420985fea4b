"""Entropy and log-prob of every sampled token, taken while `generate` runs.

ERPO needs the sampling policy's entropy and log-probs (eqs. 1 and 3). The decode steps of `generate` compute
the logits they follow from, so reading them there saves the scoring forward that would otherwise be needed.
The hooks sit on the causal LM itself rather than on its output matrix: what a model does to its logits after
that matrix (soft-cap, logit scale) is then included. Temperature is applied here; top-k, top-p and penalties
are not, exactly as in the scoring forward of the loss.

Not for generation outside this process (vLLM), for beams or for assisted decoding: there one decode step is
not one token of one row.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def entropy_and_log_z(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Eq. 1: entropy in nats and log-normalizer of each row of float32 `logits` (..., V).

    Tokens of probability zero (logit -inf) add nothing; NaN and +inf give a non-finite entropy.
    """
    log_z = torch.logsumexp(logits, dim=-1)
    probabilities = torch.exp(logits - log_z.unsqueeze(-1))
    return torch.special.entr(probabilities).sum(-1), log_z


class DecodeCapture:
    """Context manager: while it is open, every decode step of `model.generate` is read.

    ```python
    with DecodeCapture(model, temperature=0.7) as capture:
        ids = model.generate(**inputs)
    entropy, logps = capture.result(completions)  # lists of token ids, each cut after its end of sequence
    ```

    Non-finite logits are replaced by zeros so that sampling does not crash (on a GPU it would take the whole
    process down); the entropy of that token stays NaN, and whoever uses it must look.

    Args:
        model: the causal LM whose forward `generate` calls (the base model under a PEFT wrapper).
        temperature: what the logits are divided by before the softmax.
    """

    def __init__(self, model: nn.Module, temperature: float):
        self.model, self.temperature = model, temperature
        self._entropy: list[Tensor] = []  # (B,) a step
        self._logps: list[Tensor] = []
        self._pending: tuple[Tensor, Tensor] | None = None  # logits (B, V) and log Z (B,) of the last step
        self._hooks: list[Any] = []

    def __enter__(self) -> DecodeCapture:
        self._hooks = [
            self.model.register_forward_pre_hook(self._before, with_kwargs=True),
            self.model.register_forward_hook(self._after),
        ]
        return self

    def __exit__(self, *exc: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _before(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        """The token sampled after the last step arrives with the next one."""
        input_ids = kwargs.get("input_ids", args[0] if args else None)
        if input_ids is not None:
            self._take(input_ids[:, -1])

    def _after(self, module: nn.Module, args: tuple, output: Any) -> None:
        raw = output.logits[:, -1]  # (B, V)
        logits = raw.float() / self.temperature
        entropy, log_z = entropy_and_log_z(logits)
        raw.masked_fill_(~torch.isfinite(entropy)[:, None], 0)
        self._entropy.append(entropy)
        self._pending = (logits, log_z)

    def _take(self, tokens: Tensor) -> None:
        if self._pending is not None:
            logits, log_z = self._pending
            chosen = logits.gather(1, tokens.to(logits.device)[:, None])[:, 0]
            self._logps.append(chosen - log_z)
            self._pending = None

    def result(self, completions: list[list[int]]) -> tuple[Tensor, Tensor] | None:
        """Entropy (nats) and log-prob of every token of `completions`, (B, T), T the longest one's length.

        Both at the sampling temperature and before top-k, top-p and penalties. What stands after a row's end
        has no meaning. None where decode steps and tokens do not match one to one.
        """
        steps = max((len(row) for row in completions), default=0)
        if not steps or len(self._entropy) != steps or len(self._entropy[0]) != len(completions):
            return None
        if self._pending is not None:  # the very last token: no step came after it
            device = self._entropy[0].device
            self._take(
                torch.tensor([row[-1] if len(row) == steps else 0 for row in completions], device=device)
            )
        if len(self._logps) != steps:
            return None
        return torch.stack(self._entropy, dim=1), torch.stack(self._logps, dim=1)


def fit(x: Tensor, width: int) -> Tensor:
    """Cut or pad with zeros to `width` columns (TRL pads completions to a multiple where asked)."""
    return torch.nn.functional.pad(x, (0, width - x.shape[1]))
