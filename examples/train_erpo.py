# /// script
# requires-python = ">=3.11"
# dependencies = []
# ///
"""Train with ERPO and publish, as one script that runs anywhere.

    uv run --with dist/erpo_hub-*.whl examples/train_erpo.py MODEL DATASET --push-to NAME/MODEL
    erpo-hub job NAME/MODEL --timeout 6h --script examples/train_erpo.py -- MODEL DATASET
    python examples/train_erpo.py builtin:tiny-reasoner builtin:expressions --max_steps 20

erpo-hub comes by `--with`, which a job sets itself: the same commit, wheel or release that you have. Every
flag of `erpo-hub train` works here: copy the script where a job needs its own reward or data preparation.
"""

from __future__ import annotations

import sys

from erpo_hub.cli.main import main

if __name__ == "__main__":
    sys.argv.insert(1, "train")
    main()
