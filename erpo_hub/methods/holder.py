"""HölderPO's aggregation of importance ratios (arXiv 2605.12058): a power mean over a completion's tokens.

    rho_p = (mean_t r_t^p)^(1/p),    r_t = pi(o_t) / pi_old(o_t)

p = 1 is the arithmetic mean, p -> 0 the geometric one (GSPO); p is annealed linearly over the run, from 2 to
-2. The clip of rho_p (0.2) and the mean over completions are the paper's, too (eqs. 1 and 2, sec. 3.4), and
its authors' code's (github.com/YihangChen9/HolderPO). Where a batch is used once, every r_t is 1 and its
gradient is the same for every p: the aggregation only acts with several updates a batch (`num_iterations` or
`steps_per_generation`; theirs takes eight updates from each batch, every completion once).

Imports only torch.
"""

from __future__ import annotations

import torch
from torch import Tensor

GEOMETRIC = 1e-6  # |p| below it: the limit, the geometric mean


def annealed_p(start: float, end: float, step: int, max_steps: int) -> float:
    """p of an optimizer step: linear from `start` at step 0 to `end` at the last of `max_steps`."""
    return start + (end - start) * min(step / max(max_steps - 1, 1), 1.0)


def holder_log_ratio(log_ratio: Tensor, mask: Tensor, p: float) -> Tensor:
    """log rho_p of each completion, (B,), from the log-ratios of its tokens, (B, T), where `mask` is 1.

    A completion without a token has ratio 1. The gradient is the definition's: token t weighs
    r_t^p / sum_u r_u^p.
    """
    valid = mask.bool()
    count = valid.sum(1).clamp(min=1).to(log_ratio.dtype)  # (B,)
    if abs(p) < GEOMETRIC:
        return log_ratio.masked_fill(~valid, 0).sum(1) / count
    empty = ~valid.any(1, keepdim=True)
    scaled = (p * log_ratio).masked_fill(~valid & ~empty, -torch.inf).masked_fill(empty, 0)  # (B, T)
    terms = count.masked_fill(empty[:, 0], log_ratio.shape[1])
    return (torch.logsumexp(scaled, 1) - terms.log()) / p


def with_holder_mean(logps: Tensor, old_logps: Tensor | None, mask: Tensor, p: float) -> Tensor:
    """Log-probs (B, T) whose mean log-ratio to `old_logps` is log rho_p of `logps`.

    TRL's loss with `importance_sampling_level="sequence"` takes that mean as the completion's log-ratio, and
    so clips and weighs rho_p. Without `old_logps` the loss compares what is returned here with itself,
    detached: ratio 1, with the gradient of rho_p.
    """
    old = logps.detach() if old_logps is None else old_logps
    return old + holder_log_ratio(logps - old, mask, p)[:, None]
