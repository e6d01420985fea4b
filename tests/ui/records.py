"""A pair of finished runs on disk, with the embedded model as both of their weights: nothing is trained."""

from __future__ import annotations

import json
from pathlib import Path

from tests.hub_server.sample_run import example_run


def write_pair(root: Path) -> Path:
    """root/grpo and root/erpo, each a run folder with its bundle."""
    from erpo_hub.publish.bundle import build_bundle
    from erpo_hub.traces.loading import EMBEDDED_MODEL, resolve_model

    erpo = example_run()
    grpo = example_run(name="grpo", algorithm="grpo", paired_run=None)
    grpo["history"] = erpo["paired_run"]["history"]
    grpo["results"]["final"] = erpo["paired_run"]["final"]
    grpo["arguments"]["changed"]["learning_rate"] = 0.0001
    for run in (grpo, erpo):
        folder = root / run["name"]
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps(run), encoding="utf-8")
        build_bundle(run, Path(resolve_model(EMBEDDED_MODEL)), folder / "bundle")
    return root
