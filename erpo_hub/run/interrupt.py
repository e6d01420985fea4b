"""Ctrl-C in the middle of training: finish the step, keep a checkpoint, stop. A second one stops at once."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType
from typing import Any

from transformers import TrainerCallback


class StopAfterStep(TrainerCallback):
    """As a context manager it takes SIGINT and SIGTERM over; as a callback it saves and stops when a
    step ends.

    `stopped` is true once it has done so. Only the main thread can take signals over: elsewhere nothing
    changes.
    """

    def __init__(self) -> None:
        self.requested = self.stopped = False
        self.signal: int = signal.SIGINT
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopAfterStep:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._request)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested, self.signal = True, number
        print("\nstopping after this step; press Ctrl-C again to stop at once", file=sys.stderr, flush=True)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        if self.requested and state.global_step < state.max_steps:
            self.stopped = True
            control.should_save = control.should_training_stop = True
        return control
