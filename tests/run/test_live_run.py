"""A run in progress opens in the app: its record, and the completions it logged last as traces."""

from __future__ import annotations

import json
from pathlib import Path

from training import config, trainer

from erpo_hub.ui.library.library import Limits, open_library


def test_logged_completions_of_a_training_in_progress(tiny_model: str, tmp_path: Path) -> None:
    folder = tmp_path / "live"
    args = config(
        folder / "checkpoints",
        max_steps=2,
        log_completions=True,
        num_completions_to_print=1,
        save_strategy="steps",
        save_steps=1,
    )
    trainer(tiny_model, args).train()
    (folder / "run.json").write_text(json.dumps({"algorithm": "erpo", "status": "running", "history": []}))
    library = open_library([folder], Limits())
    assert list(library.runs) == ["live"]
    shown = [trace for label, trace in library.traces.items() if label.startswith("live, completions_00002")]
    assert len(shown) == 8
    assert all(len(trace.entropy) == len(trace) for trace in shown)
    # A completion of one token has no token above the others.
    assert all(trace.pivots for trace in shown if len(trace) > 1)
    assert sum(len(trace) > 1 for trace in shown) >= 4

    (file,) = (folder / "checkpoints" / "completions").glob("completions_00001.parquet")
    alone = open_library([file], Limits())
    assert len(alone.traces) == 8

    for checkpoint in (folder / "checkpoints").glob("checkpoint-*"):  # no tokenizer: the run is still shown
        (checkpoint / "tokenizer.json").unlink()
        (checkpoint / "tokenizer_config.json").unlink()
    assert list(open_library([folder], Limits()).runs) == ["live"]
