"""Which TRL this package was written against, and which of its private names it relies on."""

from __future__ import annotations

import trl
from packaging.version import Version

from ..errors import UserError

OLDEST, NEXT = Version("1.16.0"), Version("1.17.0")

# tests/cli/test_package.py looks each of these up in the installed TRL.
PRIVATE_METHODS = (
    "_generate_and_score_completions",
    "_generate_single_turn",
    "_get_per_token_logps_and_entropies",
    "_calculate_rewards",
    "_compute_loss",
)
PRIVATE_ATTRIBUTES = ("_metrics", "_logs", "_tag_names", "_name", "_paper", "_template_file")


def check_trl() -> None:
    """Raises UserError where the installed TRL is outside the tested range."""
    if not OLDEST <= Version(trl.__version__) < NEXT:
        raise UserError(
            f"erpo-hub works with trl >= {OLDEST}, < {NEXT}, but {trl.__version__} is installed: "
            f'run pip install "trl>={OLDEST},<{NEXT}"'
        )
