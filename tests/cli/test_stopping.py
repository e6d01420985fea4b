"""What a cluster and a full disk do to the command line: SIGTERM, places that cannot be written."""

# ruff: noqa: F811 (pytest fixtures are imported by name)
from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from erpo_hub.cli.demo import run_demo
from erpo_hub.errors import UserError
from erpo_hub.lock import locked
from erpo_hub.publish.bundle import build_bundle
from tests.hub_server.fixtures import hub  # noqa: F401
from tests.hub_server.sample_run import example_run, fake_weights

COMMAND = [sys.executable, "-m", "erpo_hub.cli"]
EVALUATE = [*COMMAND, "evaluate", "builtin:tiny-reasoner", "builtin:expressions?operands=5"]


def test_a_second_evaluation_into_the_folder_is_refused(tmp_path):
    command = [*EVALUATE, "-n", "4", "--out", str(tmp_path)]
    with locked(tmp_path):
        ended = subprocess.run(command, capture_output=True, text=True)
    line = f"error: another process is at work in {tmp_path}: wait for it, or give another --out"
    assert (ended.returncode, ended.stderr.strip()) == (1, line)
    assert not (tmp_path / "questions.jsonl").exists()


@pytest.mark.parametrize("where", ["", "grpo"])
def test_a_second_demo_leaves_the_first_ones_runs(tmp_path, where):
    (tmp_path / "grpo").mkdir()
    (tmp_path / "grpo" / "run.json").write_text("{}")
    with locked(tmp_path / where), pytest.raises(UserError, match="another process is at work in .*--out"):
        run_demo(tmp_path, quick=True)
    assert (tmp_path / "grpo" / "run.json").is_file()


def test_sigterm_keeps_what_was_judged_and_the_same_command_goes_on(tmp_path):
    command = [*EVALUATE, "-n", "96", "--batch-size", "8", "--out", str(tmp_path)]
    log = tmp_path / "questions.jsonl"
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not (log.is_file() and len(log.read_text().splitlines()) > 1):
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate()
    assert process.returncode == 143, errors
    assert errors.strip().splitlines()[-1] == "stopped; what was finished is kept"
    assert "Traceback" not in errors
    assert not (tmp_path / "results.json").exists()
    done = log.read_text().splitlines()
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert log.read_text().splitlines()[: len(done) - 1] == done[:-1]  # the last line may have been cut off
    assert (tmp_path / "results.json").is_file()


@pytest.mark.parametrize(
    "command",
    [
        [*EVALUATE, "-n", "4", "--out", "/proc/nowhere"],
        [*EVALUATE, "-n", "4", "--out", "/dev/null/under-a-file"],
        [*COMMAND, "compare", "--quick", "--presets", "grpo", "--seeds", "1", "--out", "/dev/null/x"],
        [*COMMAND, "card", "BUNDLE", "--out", "/proc/nowhere/card.md"],
    ],
)
def test_a_place_that_cannot_be_written(command, tmp_path):
    if "BUNDLE" in command:
        build_bundle(example_run(), fake_weights(tmp_path / "weights"), tmp_path / "bundle", figures=False)
        command = [str(tmp_path / "bundle") if part == "BUNDLE" else part for part in command]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert command[-1].removesuffix("/card.md") in done.stderr
    assert len(done.stderr.splitlines()) == 1


def stopped(command: list[str], ready: Callable[[], bool], number: int, **how: Any) -> tuple[int, list[str]]:
    """The exit code and the lines on stderr of a command that gets a signal once it is ready."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **how
    ) as process:
        while process.poll() is None and not ready():
            time.sleep(0.02)
        process.send_signal(number)
        _, errors = process.communicate()
    assert "Traceback" not in errors, errors
    return process.returncode, [line for line in errors.splitlines() if line.strip()]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_push_that_is_stopped_commits_nothing(hub, tmp_path, number, code):
    bundle = build_bundle(
        example_run(), fake_weights(tmp_path / "weights"), tmp_path / "bundle", figures=False
    ).folder
    hub.fail("POST .*/commit/", "stall", seconds=20)

    def asked() -> bool:
        return any("/commit/" in line for line in hub.requests)

    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    found = stopped([*COMMAND, "push", str(bundle), "alice/stopped"], asked, number, env=environment)
    assert (found[0], found[1][-1]) == (code, "stopped; what was finished is kept")
    assert hub.commits("alice/stopped") == []


def test_a_comparison_that_is_terminated_keeps_its_finished_cells(tmp_path):
    command = [*COMMAND, "compare", "--quick", "--presets", "grpo", "--seeds", "1", "--out", str(tmp_path)]
    code, errors = stopped(command, lambda: any(tmp_path.rglob("log.txt")), signal.SIGTERM)
    assert (code, len(errors)) == (143, 1)
    assert errors[0].startswith("error: stopped with 0 of 2 cells finished")
    assert not any(tmp_path.rglob("cell.json"))


def test_the_app_is_terminated(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def serves() -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    command = [*COMMAND, "app", "--no-browser", "--port", str(port)]
    code, errors = stopped(command, serves, signal.SIGTERM)
    assert code == 143
    assert errors[-1] == "stopped; what was finished is kept"
