"""A short training that reports to real dashboards offline: tests/train/test_dashboards.py reads their files.

python tests/dashboards_run.py MODEL OUT tensorboard,wandb,trackio

Where each writes is in its own variable: TENSORBOARD_LOGGING_DIR, WANDB_DIR, TRACKIO_DIR. OUT/log.json gets
the trainer's own log.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from training import config, trainer

STEPS = 3


def main(model: str, out: str, backends: str) -> None:
    settings = {"report_to": backends.split(","), "run_name": "curves", "project": "dashboards"}
    made = trainer(model, config(out, max_steps=STEPS, log_completions_every=1, **settings))
    made.train()
    Path(out, "log.json").write_text(json.dumps(made.state.log_history))
    if "wandb" in settings["report_to"]:
        import wandb

        wandb.finish()


if __name__ == "__main__":
    main(*sys.argv[1:])
