"""ERPOConfig: what the methods here add to TRL's GRPOConfig, and the presets."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from trl import GRPOConfig

from ..errors import UsageError
from ..methods.catalog import METHODS

_SETTINGS = {setting.name: setting for row in METHODS.values() for setting in row.settings}
_CHOICES = {
    "bucket_axis": ("position", "entropy"),
    "synthesis": ("additive", "gated"),
    "zero_variance": ("drop", "reward_sign"),
    "on_nonfinite": ("stop", "skip"),
    "credit": tuple(dict.fromkeys(row.preset.get("credit", "erpo") for row in METHODS.values())),
}

_CLIPPED_LOSSES = ("grpo", "bnpo", "dr_grpo", "dapo", "luspo")


def _setting(name: str, default: Any) -> Any:
    """A field that `--flags` explains in the catalog's words."""
    setting = _SETTINGS[name]
    where = f"Eq. {setting.equation}: " if setting.equation else ""
    choices = f" One of: {', '.join(_CHOICES[name])}." if name in _CHOICES else ""
    return field(default=default, metadata={"help": f"{where}{setting.meaning}.{choices}"})


@dataclass
class ERPOConfig(GRPOConfig):
    r"""
    Configuration of [`ERPOTrainer`]: [`~trl.GRPOConfig`] and the settings of the methods in the catalog.

    Args:
        credit (`str`, *optional*, defaults to `"erpo"`):
            The file in `methods/` that turns a batch into token advantages. A function of one's own is passed
            to the trainer instead.
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
            Eq. 4. Windows of relative progress inside which progress is normalized.
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
        log_completions_every (`int`, *optional*, defaults to `0`):
            Keep what the trainer saw of up to 16 completions, whole groups, at most every so many steps: in
            `<output_dir>/groups`, 24 MiB in all (docs/group.md). 0: not at all; `train_and_push` has 10.
        watch_questions (`int`, *optional*, defaults to `0`):
            So many held-out questions are answered as often, greedily and by one sample. `train_and_push`
            only, in one process; 8 MiB in all.
        holder_start, holder_end (`float`, *optional*):
            HölderPO (arXiv 2605.12058): weigh a completion by the power mean of its tokens' importance
            ratios, whose power goes linearly from the one to the other over the run. Needs
            `importance_sampling_level="sequence"`; acts only where a batch is used for several updates.
    """

    entropy_gate: bool = _setting("entropy_gate", True)
    gate_gamma: float = _setting("gate_gamma", 5.0)
    progress_eta: float = _setting("progress_eta", 0.2)
    progress_beta: float = _setting("progress_beta", 0.1)
    num_buckets: int = _setting("num_buckets", 10)
    bucket_axis: str = _setting("bucket_axis", "position")
    synthesis: str = _setting("synthesis", "gated")
    zero_variance: str = _setting("zero_variance", "drop")
    reward_threshold: float = _setting("reward_threshold", 0.5)
    eps: float = _setting("eps", 1e-4)
    holder_start: float | None = _setting("holder_start", None)
    holder_end: float | None = _setting("holder_end", None)
    credit: str = field(default="erpo", metadata={"help": "Method that gives each token its advantage."})
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
    log_completions_every: int = field(
        default=0,
        metadata={
            "help": "Keep groups of completions with what the trainer saw of each token, at most every N "
            "steps, 24 MiB in all, for the app's Group tab; 0 keeps none."
        },
    )
    watch_questions: int = field(
        default=0,
        metadata={
            "help": "Answer so many held-out questions every --log-completions-every steps, greedily and by "
            "one sample, for the app's Group tab."
        },
    )
    shared_prefix: bool = field(
        default=False,
        metadata={"help": "Compute a group's prompt once where that costs less (sdpa or eager)."},
    )

    dynamic_sampling: int = field(
        default=0,
        metadata={"help": "Further rounds, at most, of new questions for groups of equal rewards. 0: none."},
    )

    def __post_init__(self) -> None:
        if self.num_generations is not None and self.num_generations < 1:  # 0 makes TRL divide by it
            raise UsageError(f"num_generations={self.num_generations}: give 2 or more, a group to compare in")
        super().__post_init__()
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise UsageError(f"{name}={getattr(self, name)!r}: choose one of {', '.join(choices)}")
        if self.dynamic_sampling < 0:
            raise UsageError(f"dynamic_sampling={self.dynamic_sampling}: give 0 (off) or more rounds")
        if self.num_buckets < 1:
            raise UsageError(f"num_buckets={self.num_buckets}: at least 1 is needed")
        for name in ("log_completions_every", "watch_questions"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name}={getattr(self, name)}: give 0 or more")
        if self.watch_questions and not self.log_completions_every:
            raise UsageError("watch_questions needs log_completions_every: say every how many steps")
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
        """The settings of a published method, by its name in the catalog: "grpo", "erpo", "ep-grpo", ...

        `overrides` are further fields and win over the preset's. Raises UsageError for an unknown name.
        """
        if name not in METHODS:
            raise UsageError(f"unknown preset {name!r}: choose one of {', '.join(METHODS)}")
        return cls(**{**METHODS[name].preset, **overrides})

    @property
    def uses_reference(self) -> bool:
        """Whether the method compares with a reference model: eq. 3 does, unless its signal is off."""
        return METHODS[self.credit].needs_reference and self.progress_eta != 0

    @property
    def reshapes_advantages(self) -> bool:
        """False where eqs. 2-7 reduce to GRPO's own advantages, which then stay untouched, bit for bit."""
        gated = self.entropy_gate and self.synthesis == "gated"
        return self.credit != "erpo" or self.progress_eta != 0 or gated


# transformers renamed the argument; older releases know the first name only.
CHECKPOINTING = next(
    name
    for name in ("activation_checkpointing", "gradient_checkpointing")
    if name in ERPOConfig.__dataclass_fields__
)
