"""ERPOConfig: only what ERPO adds to TRL's GRPOConfig, and the presets."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from trl import GRPOConfig

from ..errors import UsageError

PRESETS: dict[str, dict[str, Any]] = {
    "grpo": {"entropy_gate": False, "progress_eta": 0.0},
    "erpo": {},
    "ep-grpo": {"bucket_axis": "entropy", "synthesis": "gated", "zero_variance": "reward_sign"},
    "forking-tokens": {"entropy_gate": False, "progress_eta": 0.0, "top_entropy_quantile": 0.2},
    "holder": {
        "entropy_gate": False,
        "progress_eta": 0.0,
        "holder_start": 2.0,
        "holder_end": -2.0,
        "importance_sampling_level": "sequence",
        "loss_type": "grpo",
    },
}

_CHOICES = {
    "bucket_axis": ("position", "entropy"),
    "synthesis": ("additive", "gated"),
    "zero_variance": ("drop", "reward_sign"),
    "on_nonfinite": ("stop", "skip"),
}

_CLIPPED_LOSSES = ("grpo", "bnpo", "dr_grpo", "dapo", "luspo")


@dataclass
class ERPOConfig(GRPOConfig):
    r"""
    Configuration of [`ERPOTrainer`]: [`~trl.GRPOConfig`] and the settings of equations 2-7.

    Args:
        entropy_gate (`bool`, *optional*, defaults to `True`):
            Eq. 2. Weight a token's progress signal, and with gated synthesis its outcome advantage, by how
            uncertain the policy was there.
        gate_gamma (`float`, *optional*, defaults to `5.0`):
            Eq. 2. Slope of the gate: at 5, a token one deviation above its group's mean entropy weighs 0.993.
        progress_eta (`float`, *optional*, defaults to `0.2`):
            Eq. 7. Size of the token signal beside the outcome advantage; 0 switches it off (the gate of gated
            synthesis stays).
        progress_beta (`float`, *optional*, defaults to `0.1`):
            Eq. 3. Scale of the implicit progress; matters only beside `eps`.
        num_buckets (`int`, *optional*, defaults to `10`):
            Eq. 4. Windows of relative progress inside which progress is normalised.
        bucket_axis (`str`, *optional*, defaults to `"position"`):
            Eq. 4. `"position"` (ERPO) or `"entropy"` (EP-GRPO).
        synthesis (`str`, *optional*, defaults to `"gated"`):
            Eq. 7. `"additive"`: the token signal is added to the outcome advantage. `"gated"`: the gate also
            weighs the outcome advantage (EP-GRPO's form). Public sources read ERPO both ways; the default is
            the one that did better in docs/evidence.md.
        zero_variance (`str`, *optional*, defaults to `"drop"`):
            Eq. 6. A group whose rewards are all equal: `"drop"` it, or take `"reward_sign"` as direction.
        reward_threshold (`float`, *optional*, defaults to `0.5`):
            Eq. 6. Rewards above it count as success where `zero_variance="reward_sign"`.
        eps (`float`, *optional*, defaults to `1e-4`):
            Added to every deviation. It also silences float noise while policy and reference still agree.
        on_nonfinite (`str`, *optional*, defaults to `"stop"`):
            NaN or infinite logits: `"stop"` before the update, or `"skip"` the generation batch.
        holder_start, holder_end (`float`, *optional*):
            HölderPO (arXiv 2605.12058): weigh a completion by the power mean of its tokens' importance
            ratios, whose power goes linearly from the one to the other over the run. Needs
            `importance_sampling_level="sequence"`; acts only where a batch is used for several updates.
    """

    entropy_gate: bool = field(
        default=True, metadata={"help": "Eq. 2: weight the token signal by the policy's entropy."}
    )
    gate_gamma: float = field(default=5.0, metadata={"help": "Eq. 2: slope of the entropy gate."})
    progress_eta: float = field(
        default=0.2, metadata={"help": "Eq. 7: size of the token signal beside the outcome advantage."}
    )
    progress_beta: float = field(default=0.1, metadata={"help": "Eq. 3: scale of the implicit progress."})
    num_buckets: int = field(default=10, metadata={"help": "Eq. 4: windows of relative progress."})
    bucket_axis: str = field(
        default="position", metadata={"help": "Eq. 4: 'position' (ERPO) or 'entropy' (EP-GRPO)."}
    )
    synthesis: str = field(
        default="gated", metadata={"help": "Eq. 7: 'gated' (the gate weighs the outcome too) or 'additive'."}
    )
    zero_variance: str = field(
        default="drop", metadata={"help": "Eq. 6, groups with equal rewards: 'drop' or 'reward_sign'."}
    )
    reward_threshold: float = field(
        default=0.5, metadata={"help": "Eq. 6: rewards above it are successes for 'reward_sign'."}
    )
    eps: float = field(default=1e-4, metadata={"help": "Added to every standard deviation."})
    on_nonfinite: str = field(
        default="stop",
        metadata={"help": "NaN or infinite logits: 'stop' before the update or 'skip' the generation batch."},
    )
    skip_dead_rows: bool | None = field(
        default=None,
        metadata={
            "help": "Leave completions whose advantages are all 0 out of the training forwards: the same "
            "gradient. Default: where the method reshapes advantages and no KL term or bonus needs them."
        },
    )
    shared_prefix: bool = field(
        default=False,
        metadata={"help": "Compute a group's prompt once where it is scored and trained (sdpa or eager)."},
    )
    holder_start: float | None = field(
        default=None, metadata={"help": "HölderPO: power of the mean of importance ratios at the first step."}
    )
    holder_end: float | None = field(
        default=None, metadata={"help": "HölderPO: the power at the last step, reached linearly."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise UsageError(f"{name}={getattr(self, name)!r}: choose one of {', '.join(choices)}")
        if self.num_buckets < 1:
            raise UsageError(f"num_buckets={self.num_buckets}: at least 1 is needed")
        for name in ("gate_gamma", "progress_eta", "progress_beta"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UsageError(f"{name}={getattr(self, name)}: give a finite number that is not negative")
        if not 0 < self.eps < float("inf"):
            raise UsageError(f"eps={self.eps}: give a finite number above 0")
        self._check_holder()

    def _check_holder(self) -> None:
        """The power mean reaches TRL's loss as a completion's mean log-ratio: refuse what reads more."""
        powers = (self.holder_start, self.holder_end)
        if powers == (None, None):
            return
        if not all(p is not None and math.isfinite(p) for p in powers):
            raise UsageError(f"holder_start={powers[0]}, holder_end={powers[1]}: give two finite numbers")
        wanted = {"importance_sampling_level": "sequence", "beta": 0.0, "off_policy_mask_threshold": None}
        for name, value in wanted.items():
            if getattr(self, name) != value:
                raise UsageError(f"{name}={getattr(self, name)!r}: the Hölder mean needs {name}={value!r}")
        if self.use_liger_kernel or self.loss_type not in _CLIPPED_LOSSES:
            raise UsageError(
                f"the Hölder mean needs TRL's own loss, one of {', '.join(_CLIPPED_LOSSES)}: this is "
                + ("the Liger kernel's" if self.use_liger_kernel else repr(self.loss_type))
            )

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> ERPOConfig:
        """The settings of a published method: "grpo", "erpo", "ep-grpo", "forking-tokens" or "holder".

        `overrides` are further fields and win over the preset's. Raises UsageError for an unknown name.
        """
        if name not in PRESETS:
            raise UsageError(f"unknown preset {name!r}: choose one of {', '.join(PRESETS)}")
        return cls(**{**PRESETS[name], **overrides})

    @property
    def uses_reference(self) -> bool:
        """Eq. 3 compares with a reference model; without the progress signal none is needed."""
        return self.progress_eta != 0

    @property
    def reshapes_advantages(self) -> bool:
        """False where eqs. 2-7 reduce to GRPO's own advantages, which then stay untouched, bit for bit."""
        return self.progress_eta != 0 or (self.entropy_gate and self.synthesis == "gated")
