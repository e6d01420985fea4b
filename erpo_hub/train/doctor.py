"""RunDoctor: says while a GRPO training runs what is wrong with it, since when, how sure, and what to change.

    trainer = GRPOTrainer(...)
    trainer.add_callback(RunDoctor(trainer))

Works with any GRPOTrainer of TRL's; `train_and_push` and `erpo-hub train` have it on. It reads what the
trainer logs anyway (`rules`), a few completions of each batch and a thousand weights now and then
(`examined`); it computes nothing on the model and draws nothing, so the weights are the same with it and
without. It does not stop a run, and it does not promise to see reward hacking. Each step is only noted and
every eighth looks at what was noted, in the beginning every fourth: several at a time cost half of what they
do one by one, as the code that looks is out of the processor's caches after a step of the model.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from transformers import TrainerCallback

from ..text import one_line
from . import examined
from .findings import CHANGES, Finding
from .history import Facts, History, Sign
from .replay import new_findings

logger = logging.getLogger(__name__)

_STATE = "erpo_hub.RunDoctor"  # in a checkpoint's trainer_state.json
_EVERY, _BEGINNING = 8, (1, 5, 9)  # steps from one look to the next, and the first looks
_WEIGHED = (3, 10)  # steps after which the weights are looked at
_WARM = 2  # steps in which memory is taken for the first time
_FAILURES = ("grader/timeouts", "grader/errors", "grader/crashes")  # logged by `correctness_reward`
_READ = frozenset((
    "entropy", "kl", "clip_ratio/region_mean", "reward", "frac_reward_zero_std", "completions/mean_length",
    "completions/clipped_ratio", "erpo/progress_std", *_FAILURES,
))  # fmt: skip


@dataclass
class _Note:
    """A step as it was, until the next look: new values of the metrics; prompts, completions, scores."""

    step: int
    numbers: dict[str, float | None]
    metrics: dict[str, list[float]] = field(default_factory=dict)
    batch: tuple[list, list, list] | None = None


class RunDoctor(TrainerCallback):
    """A callback for one trainer; each finding is told once, by the logger `erpo_hub`, and kept.

    Args:
        trainer: the [`~trl.GRPOTrainer`] that it is added to.
        held_out: rows with `prompt` that the model will be judged on; default: the trainer's eval_dataset.

    Attributes:
        findings: what was found so far, in order. Kept in checkpoints: a resumed run does not tell it again.
    """

    def __init__(self, trainer: Any, held_out: Any = None):
        self.trainer, self.held_out = trainer, held_out
        self.findings: list[Finding] = []
        self._history, self._facts = History(), Facts()
        self._broken = False
        self._seen: dict[str, int] = {}  # values of TRL's metrics that were noted, by name
        self._noted: list[_Note] = []

    # --- the trainer's events ---

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        trainer = self.trainer
        self._history, self.findings[:], self._seen, self._noted = History(), [], {}, []
        if kept := (state.stateful_callbacks or {}).get(_STATE):  # resumed
            self._history = History.load(kept["history"])
            self._history.forget("memory/")  # another process
            self.findings[:] = [Finding(**finding) for finding in kept["findings"]]
        model = trainer.accelerator.unwrap_model(trainer.model)
        self._first_step = state.global_step
        self._weights = examined.Weights(model)
        self._memory = examined.Memory(trainer.accelerator.device)
        self._facts = Facts(
            max_steps=state.max_steps,
            learning_rate=args.learning_rate,
            lora=hasattr(model, "peft_config"),
            half=self._weights.half,
            autocast=args.bf16 or args.fp16,
            completion_limit=args.max_completion_length,
            memory_limit=self._memory.limit(),
        )
        self._texts = examined.Texts(trainer.train_dataset, trainer.num_generations)
        self._shares = trainer.reward_weights.tolist()
        tokenizer = getattr(trainer.processing_class, "tokenizer", trainer.processing_class)
        held_out = trainer.eval_dataset if self.held_out is None else self.held_out
        rows = trainer.train_dataset
        self._tell("no-chat-template", examined.no_chat_template(tokenizer, model, rows), state)
        self._tell("other-evaluation-prompt", examined.other_evaluation_prompt(rows, held_out), state)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._guarded(self._note, state)
        step = state.global_step
        if step in _BEGINNING or step % _EVERY == 1 or control.should_save:
            self._guarded(self._look, state)
        if control.should_save:
            found = [asdict(finding) for finding in self.findings]
            state.stateful_callbacks[_STATE] = {"history": self._history.dump(), "findings": found}

    def on_log(self, args: Any, state: Any, control: Any, logs: dict | None = None, **kwargs: Any) -> None:
        if self._broken or not self.trainer.model.training or not logs:
            return
        self._seen.clear()  # TRL empties its metrics after this
        numbers = {name: logs.get(name) for name in ("grad_norm", "learning_rate")}
        self._noted.append(_Note(state.global_step, numbers))

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._guarded(self._look, state)
        self._memory.close()

    def _guarded(self, act: Callable[[Any], None], state: Any) -> None:
        if self._broken:
            return
        try:
            act(state)
        except Exception as error:  # noqa: BLE001 (whatever a trainer holds: a look at a run must not end it)
            self._broken = True
            self._noted.clear()
            logger.warning(
                "doctor: step %d: could not go on (%s: %s)",
                state.global_step,
                type(error).__name__,
                one_line(error),
            )

    # --- what it reads ---

    def _note(self, state: Any) -> None:
        """What has come since the last step, and what will be gone at the next look."""
        step, trainer = state.global_step, self.trainer
        metrics: dict[str, list[float]] = {}
        for name, values in trainer._metrics["train"].items():
            if name in _READ or name.startswith("rewards/"):
                metrics[name] = values[self._seen.get(name, 0) :]
                self._seen[name] = len(values)
        numbers: dict[str, float | None] = {}
        done = step - self._first_step
        if done > _WARM and step % 2:
            numbers |= self._memory.numbers()
        if done in _WEIGHED:
            numbers |= self._weights.numbers() | {"weights/steps": float(done)}
        batch = None
        if metrics.get("reward"):  # one value a generation batch
            logs = trainer._logs
            batch = list(logs["prompt"]), list(logs["completion"]), list(zip(*logs["rewards"].values()))
        self._noted.append(_Note(step, numbers, metrics, batch))

    def _read(self, note: _Note) -> dict[str, float | None]:
        """Means of TRL's metrics, readings of the batch if it is new, and what is a number already."""
        numbers = note.numbers | {name: sum(v) / len(v) for name, v in note.metrics.items() if v}
        prompts, completions, scores = note.batch or ([], [], [])
        rewards = [_total(row, self._shares) for row in scores]
        if rewards and len(prompts) == len(completions) == len(rewards):
            numbers |= self._texts.numbers(prompts, completions, rewards)
            if failures := sum(numbers.get(name) or 0.0 for name in _FAILURES):
                numbers["texts/unscored"] = (numbers.get("texts/unscored") or 0.0) + failures / len(rewards)
        return numbers

    # --- what it says ---

    def _look(self, state: Any) -> None:
        for note in self._noted:
            self._history.add(note.step, self._read(note))
        self._noted.clear()
        for finding in new_findings(self._history, self._facts, [one.kind for one in self.findings]):
            self._say(replace(finding, found_at=state.global_step), state)

    def _tell(self, kind: str, sign: Sign | None, state: Any) -> None:
        if sign is not None and all(finding.kind != kind for finding in self.findings):
            step = state.global_step
            self._say(Finding(kind, sign.step, sign.certainty, sign.what, CHANGES[kind], step), state)

    def _say(self, finding: Finding, state: Any) -> None:
        self.findings.append(finding)
        if state.is_world_process_zero:
            logger.warning("doctor: step %d: %s", state.global_step, finding)


def _total(scores: tuple[float, ...], weights: list[float]) -> float:
    """The weighted sum, NaN where no function scored; as TRL makes it."""
    given = [score * weight for score, weight in zip(scores, weights) if score == score]
    return sum(given) if given else float("nan")
