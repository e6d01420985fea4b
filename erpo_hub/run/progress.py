"""One quiet line that shows how a training is doing, instead of a dictionary a step."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback

_SHOWN = (("reward", "reward"), ("length", "completions/mean_length"), ("entropy", "entropy"))


class TrainingProgress(TrainerCallback):
    """A bar with reward, mean length (tokens) and entropy (nats); a line every tenth where no one watches."""

    def __init__(self, title: str):
        self.title = title
        self.console = Console(stderr=True, highlight=False)
        self.bar: Progress | None = None
        self.task: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not state.is_world_process_zero or not self.console.is_terminal:
            return
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[values]}"),
            console=self.console,
        )
        self.task = self.bar.add_task(
            self.title, total=state.max_steps, completed=state.global_step, values=""
        )
        self.bar.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.bar:
            self.bar.update(self.task, completed=state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict | None = None, **kwargs: Any) -> None:
        if not state.is_world_process_zero or not logs or "loss" not in logs:
            return
        values = "  ".join(
            f"{name} {logs[key]:.3g}" for name, key in _SHOWN if isinstance(logs.get(key), (int, float))
        )
        if self.bar:
            self.bar.update(self.task, values=values)
        elif state.global_step % max(1, state.max_steps // 10) == 0:
            print(f"{self.title}  step {state.global_step}/{state.max_steps}  {values}", file=sys.stderr)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.bar:
            self.bar.stop()
            self.bar = None
