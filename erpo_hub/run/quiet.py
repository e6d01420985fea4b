"""What the libraries below print, which would bury our own lines."""

from __future__ import annotations

import logging
import os
import warnings


def quiet() -> None:
    """No loading bars and no deprecation notes, unless ERPO_HUB_DEBUG is set."""
    from transformers.utils import logging as transformers_logging

    if os.environ.get("ERPO_HUB_DEBUG"):
        return
    warnings.filterwarnings("ignore", category=FutureWarning)
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    logging.getLogger("trl").setLevel(logging.ERROR)
