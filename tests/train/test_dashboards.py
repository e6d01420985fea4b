"""The method's curves where people look for them: the files that TensorBoard, W&B and Trackio write offline.

A training in a process of its own reports through transformers' own callbacks to the real clients; read back
is what lies on the disk afterwards.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from dashboards_run import STEPS
from training import METRICS

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[1] / "dashboards_run.py"
SHOWN = (*METRICS, "reward", "entropy", "loss")
Curves = dict[str, list[float]]


def in_tensorboard(folder: Path) -> Curves:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder / "tensorboard"))
    read.Reload()
    return {key: [event.value for event in read.Scalars(key)] for key in read.Tags()["scalars"]}


def in_wandb(folder: Path) -> Curves:
    from wandb.proto import wandb_internal_pb2

    (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    curves: Curves = {}
    for data in wandb_records(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        for item in record.history.item:
            value = json.loads(item.value_json)
            if isinstance(value, int | float):
                curves.setdefault(item.key or "/".join(item.nested_key), []).append(value)
    return curves


def wandb_records(raw: bytes) -> Iterator[bytes]:
    """The records of a .wandb file: LevelDB's log format behind 7 bytes of W&B's own.

    A block has 32 KiB; a piece of a record has 4 bytes of checksum, 2 of length and one that says whether it
    is whole (1), first (2), middle (3) or last (4).
    """
    assert raw[:4] == b":W&B"
    at, record = 7, b""
    while at + 7 <= len(raw):
        if (left := 32768 - at % 32768) < 7:  # no room for a piece: the block was filled up
            at += left
            continue
        length, kind = int.from_bytes(raw[at + 4 : at + 6], "little"), raw[at + 6]
        if kind == 0:  # room that was never written
            return
        record += raw[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield record
            record = b""


def in_trackio(folder: Path) -> Curves:
    from trackio.sqlite_storage import SQLiteStorage

    curves: Curves = {}
    for row in SQLiteStorage.get_logs("dashboards", "curves", scalar_only=True):
        for key, value in row.items():
            if isinstance(value, int | float):
                curves.setdefault(key, []).append(value)
    return curves


READERS: dict[str, Callable[[Path], Curves]] = {
    "tensorboard": in_tensorboard,
    "wandb": in_wandb,
    "trackio": in_trackio,
}


def missing(what: str) -> None:
    """Skip the test, or fail it where CI promises the whole `test` extra."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"not installed: {what}")
    pytest.skip(f"not installed: {what}")


@pytest.fixture(scope="module")
def reported(tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The folder that one training's dashboards wrote to, and which of them are installed."""
    there = [name for name in READERS if find_spec(name)]
    if not there:
        missing(", ".join(READERS))
    folder = tmp_path_factory.mktemp("dashboards")
    places = {"WANDB_DIR": folder, "TRACKIO_DIR": folder / "trackio"}
    places["TENSORBOARD_LOGGING_DIR"] = folder / "tensorboard"
    environment = {
        **os.environ,
        **{name: str(place) for name, place in places.items()},
        "WANDB_MODE": "offline",
        "PYTHONPATH": os.pathsep.join([str(SCRIPT.parent), *filter(None, sys.path)]),
    }
    command = [sys.executable, str(SCRIPT), tiny_model, str(folder), ",".join(there)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder, there


@pytest.mark.parametrize("backend", READERS)
def test_a_dashboard_has_the_curves_of_the_log(
    reported: tuple[Path, list[str]], backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, there = reported
    if backend not in there:
        missing(backend)
    rows = [row for row in json.loads((folder / "log.json").read_text()) if "loss" in row]
    if backend == "trackio":
        import trackio.sqlite_storage

        monkeypatch.setattr(trackio.sqlite_storage, "TRACKIO_DIR", folder / "trackio")
    curves = READERS[backend](folder)
    for key in SHOWN:
        expected = [row[key] for row in rows]
        assert len(expected) == STEPS, key
        assert curves[f"train/{key}"] == pytest.approx(expected, rel=1e-6, abs=1e-7), key  # float32 in files
    assert any(x != 0 for x in curves["train/erpo/progress_std"])


def test_trackio_has_the_completions_as_traces_and_one_as_a_page(
    reported: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, there = reported
    if "trackio" not in there:
        missing("trackio")
    import trackio.sqlite_storage

    monkeypatch.setattr(trackio.sqlite_storage, "TRACKIO_DIR", folder / "trackio")
    traces = trackio.sqlite_storage.SQLiteStorage.get_traces("dashboards", "curves")
    assert len(traces) == 8 * STEPS
    logs = trackio.sqlite_storage.SQLiteStorage.get_logs("dashboards", "curves")
    assert len([row for row in logs if "completions/page" in row]) == STEPS
