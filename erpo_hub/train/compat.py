"""Which TRL this package runs with, and every private name of it that it relies on.

The range is declared in pyproject.toml. A newer TRL may still work: what decides is whether the names below
are there, which `check_trl` looks up as the trainer is imported.
"""

from __future__ import annotations

import inspect
import warnings
from dataclasses import dataclass
from importlib.util import find_spec

import trl
from packaging.version import Version
from transformers import set_seed
from trl import GRPOTrainer, models
from trl import trainer as trl_trainer

from ..errors import UserError

OLDEST, NEWEST_TESTED = Version("1.8.0"), Version("1.16.0")
NEEDS_TRITON = Version("1.15.0")  # its own GRPO trainer fails where Triton is not installed
FUSED_HEAD = Version("1.15.0")  # the first with `add_fused_lm_head`, which `shared_prefix` scores with
SEEDS_ADAPTER = Version("1.15.0")  # the first that sets the seed before it makes an adapter


@dataclass(frozen=True)
class PrivateName:
    """A name outside TRL's public interface, and where it is looked up.

    `since` is the first TRL of our range that has it; a name that came later than `OLDEST` is asked for only
    from that version on.
    """

    name: str
    place: str  # "method", "attribute", or the module that defines it
    since: Version = OLDEST


PRIVATE = (
    PrivateName("_generate_and_score_completions", "method"),
    PrivateName("_generate_single_turn", "method"),
    PrivateName("_get_per_token_logps_and_entropies", "method"),
    PrivateName("_calculate_rewards", "method"),
    PrivateName("_compute_loss", "method"),
    PrivateName("_metrics", "attribute"),
    PrivateName("_logs", "attribute"),
    PrivateName("_tokenizer", "attribute"),
    PrivateName("_tag_names", "attribute"),
    PrivateName("_name", "attribute"),
    PrivateName("_paper", "attribute"),
    PrivateName("RepeatSampler", "trainer.utils"),
    PrivateName("create_model_from_path", "trainer.utils"),
    PrivateName("use_adapter", "trainer.utils"),
    PrivateName("add_fused_lm_head", "trainer.utils", since=FUSED_HEAD),
    PrivateName("disable_gradient_checkpointing", "models.utils"),
)


def _is_there(private: PrivateName, source: str) -> bool:
    if private.place == "method":
        return callable(getattr(GRPOTrainer, private.name, None))
    if private.place == "attribute":  # of the class, or set on the instance by TRL's __init__
        return hasattr(GRPOTrainer, private.name) or f"self.{private.name} = " in source
    module = {"trainer.utils": trl_trainer.utils, "models.utils": models.utils}[private.place]
    return hasattr(module, private.name)


def has_fused_head() -> bool:
    """Whether this TRL's forward can be asked for log-probs and entropies instead of logits."""
    return Version(trl.__version__) >= FUSED_HEAD


def seed_adapter(seed: int) -> None:
    """Sets the seed where this TRL would draw an adapter's weights before it does so itself.

    Without it two trainings with one seed start from different adapters, and so would a policy and the
    completions that were recorded for it.
    """
    if Version(trl.__version__) < SEEDS_ADAPTER:
        set_seed(seed)


def name_end_tokens(trainer: GRPOTrainer) -> None:
    """Sets `eos_token_ids` where this TRL has none and ends a completion at the tokenizer's alone."""
    if not hasattr(trainer, "eos_token_ids"):
        trainer.eos_token_ids = [trainer._tokenizer.eos_token_id]


def missing_names(installed: Version) -> list[str]:
    """The private names that this TRL should have by its version and has not."""
    source = inspect.getsource(GRPOTrainer)
    return [row.name for row in PRIVATE if row.since <= installed and not _is_there(row, source)]


def check_trl() -> None:
    """Raises UserError for a TRL that cannot work here: too old, broken, or without a name that we rely on.

    Above the newest tested version it warns, once in a process, and goes on.
    """
    installed = Version(trl.__version__)
    if installed < OLDEST:
        raise UserError(
            f"erpo-hub works with trl >= {OLDEST}, but {installed} is installed: "
            f'run pip install "trl>={OLDEST},<2"'
        )
    if installed == NEEDS_TRITON and find_spec("triton") is None:
        raise UserError(
            f"trl {installed} cannot train without Triton, which is not installed here: "
            f'run pip install "trl=={NEWEST_TESTED}"'
        )
    if missing := missing_names(installed):
        raise UserError(
            f"trl {installed} no longer has {', '.join(missing)}, which erpo-hub relies on: "
            f'run pip install "trl=={NEWEST_TESTED}"'
        )
    if installed > Version(f"{NEWEST_TESTED.major}.{NEWEST_TESTED.minor}.9999"):
        warnings.warn(
            f"erpo-hub was tested with trl up to {NEWEST_TESTED}; {installed} is installed and has not been "
            "tried. Every name that it relies on is there, so it goes on",
            stacklevel=2,
        )
