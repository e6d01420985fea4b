"""The method's curves where people look for them: TensorBoard's files, and what W&B and Trackio are handed.

transformers' own callbacks run here. W&B's and Trackio's clients are stood in for by a recorder: what they do
with what they get is theirs, and nothing of it is tested.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from training import METRICS, config, trainer

STEPS = 2


class Client:
    """What transformers' callbacks use of `wandb` and `trackio`."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.run = SimpleNamespace(summary={})
        self.summary: dict[str, Any] = {}
        self.config: dict[str, Any] = {}

    def log(self, row: dict[str, Any], **_: Any) -> None:
        self.rows.append(row)


def scalars(rows: list[dict[str, Any]], key: str) -> list[float]:
    return [row[key] for row in rows if key in row]


def test_wandb_and_tensorboard_get_what_is_in_the_log(
    tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.integrations import WandbCallback

    wandb = Client()
    callback = WandbCallback.__new__(WandbCallback)
    callback._wandb, callback._initialized, callback._log_model = (
        wandb,
        True,
        SimpleNamespace(is_enabled=False),
    )
    for hook in ("on_train_begin", "on_train_end", "on_predict"):
        monkeypatch.setattr(callback, hook, lambda *args, **kwargs: None, raising=False)
    made = trainer(tiny_model, config(tmp_path, max_steps=STEPS))
    made.add_callback(callback)
    folder = tmp_path / "board"
    if tensorboard := tensorboard_there():
        from torch.utils.tensorboard import SummaryWriter
        from transformers.integrations import TensorBoardCallback

        made.add_callback(TensorBoardCallback(SummaryWriter(str(folder))))
    made.train()
    kept = [row for row in made.state.log_history if "loss" in row]
    for key in (*METRICS, "reward", "entropy"):
        expected = [row[key] for row in kept]
        assert len(expected) == STEPS, key
        assert scalars(wandb.rows, f"train/{key}") == expected
        if tensorboard:
            assert in_files(folder, f"train/{key}") == pytest.approx(expected, rel=1e-5, abs=1e-6)


def tensorboard_there() -> bool:
    from importlib.util import find_spec

    return find_spec("tensorboard") is not None


def in_files(folder: Path, key: str) -> list[float]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder))
    read.Reload()
    return [event.value for event in read.Scalars(key)]


def test_trackio_gets_curves_traces_and_a_page(
    tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trackio = pytest.importorskip("trackio")
    from transformers.integrations import TrackioCallback

    client = Client()
    monkeypatch.setattr(trackio, "log", client.log)
    made = trainer(tiny_model, config(tmp_path, max_steps=STEPS, log_completions_every=1))
    callback = TrackioCallback.__new__(TrackioCallback)
    callback._trackio, callback._initialized = client, True
    for hook in ("on_train_begin", "on_train_end"):
        monkeypatch.setattr(callback, hook, lambda *args, **kwargs: None)
    made.add_callback(callback)
    made.args.report_to = ["trackio"]
    made.train()
    kept = [row for row in made.state.log_history if "loss" in row]
    for key in METRICS:
        assert scalars(client.rows, f"train/{key}") == [row[key] for row in kept]
    pages = [row for row in client.rows if "completions/page" in row]
    assert [row["train/global_step"] for row in pages] == [0, 1]  # updates before they were written
    traces = [value for name, value in pages[0].items() if isinstance(value, trackio.Trace)]
    assert len(traces) == 8
    assert isinstance(pages[0]["completions/page"], trackio.Html)
