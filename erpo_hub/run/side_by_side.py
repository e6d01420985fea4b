"""Several runs at the same time, each in a process of its own.

    python -m erpo_hub.run.side_by_side      # such a process; its call comes as a line on standard input

A run that is paired with another one of them begins once that one has judged the starting model, takes over
those answers, and ends when both have (`outcome.Pair`). Their lines come as they are written. Ctrl-C, SIGTERM
and the failure of one stop all. Left out: several machines, and one GPU each (`study.compare` does that).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..children import child_environment, end_with_the_parent
from ..errors import UserError
from ..record.format import read_record

COMMAND = [sys.executable, "-m", "erpo_hub.run.side_by_side"]
_ERROR = "error: "


def train_side_by_side(
    calls: Mapping[str, Mapping[str, Any]], show: Callable[[str], None], *, threads: int = 1
) -> None:
    """Calls `train_and_push` with each of `calls`, {name: keyword arguments that JSON can hold}.

    show: gets every line that a run writes. Raises UserError, in one line, where a run fails or all are
    stopped; each then keeps what `train_and_push` keeps.
    """
    runs = [_Run(name, dict(call), show, threads) for name, call in calls.items()]
    folders = {str(call["output_dir"]) for call in calls.values()}
    try:
        while any(run.process.poll() is None for run in runs):
            _raise_failure(runs)
            for run in runs:
                if not run.begun and _may_begin(run.call, folders):
                    run.begin()
            time.sleep(0.05)
        _raise_failure(runs)
    except KeyboardInterrupt:
        _stop(runs)
        kept = ", ".join(str(run.call["output_dir"]) for run in runs)
        raise UserError(
            f"stopped, {kept} are not finished: the same command begins anew", exit_code=130
        ) from None
    finally:
        _stop(runs)


def _may_begin(call: Mapping[str, Any], folders: set[str]) -> bool:
    """Whether the run that it is paired with, if that is one of ours, has judged the starting model."""
    paired = call.get("paired_run")
    if paired is None or str(paired) not in folders:
        return True
    try:
        return read_record(paired).results.baseline is not None
    except UserError:  # not there yet
        return False


@dataclass
class _Run:
    """One process. Its interpreter and packages load at once; `begin` sends it what to do."""

    name: str
    call: dict[str, Any]
    show: Callable[[str], None]
    threads: int
    begun: bool = False
    last: str = ""  # line that it wrote
    process: subprocess.Popen = field(init=False)

    def __post_init__(self) -> None:
        self.process = subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE,  # stays open as long as this process lives: the run ends with it
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=child_environment(self.threads),
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C is for this process to answer
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def begin(self) -> None:
        self.begun = True
        try:
            self.process.stdin.write(json.dumps(self.call, default=str) + "\n")  # type: ignore[union-attr]
            self.process.stdin.flush()  # type: ignore[union-attr]
        except BrokenPipeError:  # it has ended: its last line says why
            pass

    def _read(self) -> None:
        for line in self.process.stdout:  # type: ignore[union-attr]
            if not (line := line.rstrip()):
                continue
            self.last = line
            if not line.startswith(_ERROR):
                self.show(line if line.startswith(self.name) else f"{self.name}  {line}")


def _raise_failure(runs: list[_Run]) -> None:
    for run in runs:
        if code := run.process.poll():
            run.reader.join(5)
            reason = run.last.removeprefix(_ERROR) or "no output"
            raise UserError(f"{run.name}: {reason}", exit_code=code if code in (1, 2) else 1)


def _stop(runs: list[_Run]) -> None:
    """Ask all to stop after their step; a second Ctrl-C ends them at once. Waits until all have ended."""
    try:
        for run in runs:
            if run.process.poll() is None:
                run.process.send_signal(signal.SIGTERM)
        for run in runs:
            run.process.wait()
    finally:
        for run in runs:
            run.process.kill()
        for run in runs:
            run.process.wait()
            run.reader.join(5)


def main() -> int:
    """The process of one run. Exit codes and the one line of an error are the command line's."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        from .conductor import train_and_push
        from .quiet import quiet

        quiet()
        call = sys.stdin.readline()
        if not call:  # the parent has ended
            return 1
        end_with_the_parent()
        train_and_push(**json.loads(call))
    except UserError as error:
        if os.environ.get("ERPO_HUB_DEBUG"):
            raise
        print(f"{_ERROR}{error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"{_ERROR}{error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{_ERROR}stopped", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
