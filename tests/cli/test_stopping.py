"""What a cluster and a full disk do to the command line: SIGTERM, places that cannot be written."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "erpo_hub.cli"]
EVALUATE = [*COMMAND, "evaluate", "builtin:tiny-reasoner", "builtin:expressions?operands=5"]


def test_sigterm_keeps_what_was_judged_and_the_same_command_goes_on(tmp_path):
    command = [*EVALUATE, "-n", "96", "--batch-size", "8", "--out", str(tmp_path)]
    log = tmp_path / "questions.jsonl"
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not (log.is_file() and len(log.read_text().splitlines()) > 1):
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate()
    assert process.returncode == 1, errors
    assert errors.strip().splitlines()[-1] == "stopped; what was finished is kept"
    assert "Traceback" not in errors
    assert not (tmp_path / "results.json").exists()
    done = log.read_text().splitlines()
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert log.read_text().splitlines()[: len(done) - 1] == done[:-1]  # the last line may have been cut off
    assert (tmp_path / "results.json").is_file()


@pytest.mark.parametrize("place", ["/proc/nowhere", "/dev/null/under-a-file"])
def test_a_place_that_cannot_be_written(place):
    done = subprocess.run([*EVALUATE, "-n", "4", "--out", place], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {Path(place)}")
    assert len(done.stderr.splitlines()) == 1
