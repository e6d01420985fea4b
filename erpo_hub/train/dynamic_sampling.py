"""Groups without variance are replaced: further rounds of new questions until the batch is full.

A group of equal rewards teaches nothing. With `dynamic_sampling=N` TRL generates and grades a batch as ever;
then up to N further rounds ask as many new questions as there are such groups, and the new groups that have
variance take their places. Which questions are new depends on seed, step and round alone: the order of the
batches' own questions stays what it is, and a resumed run draws what it would have drawn. TRL's metrics are
then means over all completions that were generated; its table holds the batch.

Left out, by name (`wanted`): images, tools, environments, and advantages that mix groups.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from torch import Tensor
from transformers.utils import logging

from ..errors import UsageError

logger = logging.get_logger(__name__)

_IN_PROMPT = ("prompt_ids", "prompt_mask")  # padded on the left; all else on the right
_CAPTURED, _SCORED = ("captured entropy", "captured logps"), ("scored entropy", "scored logps")


@dataclass
class Place:
    """The optimizer step that the last generation batch was for, and its number among that step's."""

    step: int = -1
    number: int = 0

    def at(self, step: int) -> Place:
        self.step, self.number = step, self.number + 1 if step == self.step else 0
        return self


def wanted(trainer: Any) -> Place | None:
    """Not None where this training replaces groups. Raises UsageError where it is asked to and cannot."""
    if not getattr(trainer.args, "dynamic_sampling", 0):
        return None
    data = trainer.train_dataset
    columns = set(getattr(data, "column_names", None) or ())
    reasons = {
        "a data set that is streamed": not isinstance(data, Dataset),
        "tools": bool(trainer.tools),
        "an environment": trainer.environment_factories is not None,
        "rollout_func": trainer.rollout_func is not None,
        "images": bool(columns & {"image", "images"}),
        f"scale_rewards={trainer.scale_rewards!r}": trainer.scale_rewards == "batch",
        "multi_objective_aggregation='normalize_then_sum'": trainer.multi_objective_aggregation
        != "sum_then_normalize",
    }
    if reason := next((name for name, there in reasons.items() if there), None):
        raise UsageError(f"dynamic_sampling does not go together with {reason}: leave one of the two out")
    return Place()


def equal_rewards(rewards: Tensor, num_generations: int) -> Tensor:
    """(groups,) bool: all rewards of the group are equal, or nobody scored any, from rewards (B,)."""
    groups = rewards.view(-1, num_generations)
    low = groups.nan_to_num(nan=math.inf).amin(1)
    high = groups.nan_to_num(nan=-math.inf).amax(1)
    return (high - low) <= 1e-6 * high.abs().clamp(min=1)  # -inf where nobody scored


@dataclass
class _Round:
    """What TRL made of some questions."""

    out: dict[str, Any]  # tensors (rows here, ...) and numbers
    rewards: Tensor  # (rows of all processes,)
    logs: dict[tuple, list]  # columns of the completions table, a value a row of all processes
    inputs: list[dict[str, Any]]  # this process's rows of the data
    scores: Any  # Tensor (rows of all processes, functions), where the step is recorded


def fill(trainer: Any, inputs: list[dict[str, Any]], generate: Callable[[list], dict]) -> dict[str, Any]:
    """TRL's generation batch for `inputs`, with other questions in the places of groups without variance.

    generate: TRL's `_generate_and_score_completions`. Every process makes the same number of rows in a round;
    the rows of the further rounds are sent to all of them, for a place may be in another process.
    """
    size, world = trainer.num_generations, trainer.accelerator.num_processes
    sampling = _Sampling(trainer, generate)
    first = sampling.round(inputs)
    dead = equal_rewards(first.rewards, size).nonzero()[:, 0].tolist()  # places
    taken: list[tuple[int, int, int]] = []  # place, round, group in it
    source = _Questions(trainer, inputs)
    while dead and len(sampling.rounds) <= trainer.args.dynamic_sampling:
        step = size // math.gcd(size, world)  # rows of each process come in multiples of it
        rows = -(-len(dead) * size // (world * step)) * step
        made = sampling.round(source.draw(len(sampling.rounds), rows))
        alive = (~equal_rewards(made.rewards, size)).nonzero()[:, 0].tolist()
        taken += [(dead.pop(0), len(sampling.rounds) - 1, group) for group in alive[: len(dead)]]
    batch = sampling.merged(taken)
    sampling.report(batch, len(dead), len(first.rewards) // size)
    return batch


class _Questions:
    """New questions for one generation batch, the same ones in a resumed run and in every process."""

    def __init__(self, trainer: Any, inputs: list[dict[str, Any]]):
        self.trainer, self.columns = trainer, list(inputs[0])
        self.place = trainer._replaces.at(trainer.state.global_step)
        self.asked = set(gather_object([repr(row["prompt"]) for row in inputs]))

    def draw(self, turn: int, rows: int) -> list[dict[str, Any]]:
        """This process's `rows` of a round: questions that the batch has not asked, while there are any."""
        trainer, accelerator = self.trainer, self.trainer.accelerator
        size, data = trainer.num_generations, trainer.train_dataset
        count = rows * accelerator.num_processes // size
        place = (trainer.args.seed, self.place.step, self.place.number, turn)
        order = random.Random(repr(place)).sample(range(len(data)), len(data))
        chosen: list[dict[str, Any]] = []
        for index in order:
            if len(chosen) == count:
                break
            row = data[index]
            if repr(row["prompt"]) not in self.asked:
                self.asked.add(repr(row["prompt"]))
                chosen.append(row)
        spare = iter(order * count)
        while len(chosen) < count:  # all have been asked: ask some again
            chosen.append(data[next(spare)])
        repeated = [row for row in chosen for _ in range(size)]
        start = accelerator.process_index * rows
        return [{name: row[name] for name in self.columns} for row in repeated[start : start + rows]]


class _Sampling:
    """The rounds of one generation batch."""

    def __init__(self, trainer: Any, generate: Callable[[list], dict]):
        self.trainer, self.generate = trainer, generate
        self.rounds: list[_Round] = []
        self.kept = {place: list(column) for place, column in _columns(trainer._logs)}
        self.before = {name: len(values) for name, values in trainer._metrics["train"].items()}

    def round(self, inputs: list[dict[str, Any]]) -> _Round:
        """Generate and grade; what the trainer noted on the way goes into the round."""
        trainer = self.trainer
        trainer._captured, trainer._scored, trainer._rewards = [], [], None
        for _, column in _columns(trainer._logs):
            column.clear()
        out = dict(self.generate(inputs))
        width = out["completion_ids"].shape[1]
        if len(trainer._captured) == 1 and trainer._captured[0] is not None:
            out |= zip(_CAPTURED, (_wide(x, width) for x in trainer._captured[0]))
        if trainer._scored:
            out |= zip(_SCORED, trainer._scored[0])
        logs = {place: list(column) for place, column in _columns(trainer._logs)}
        scores = None if trainer._sheet is None else trainer._sheet.scores
        self.rounds.append(_Round(out, trainer._rewards, logs, inputs, scores))
        return self.rounds[-1]

    def merged(self, taken: list[tuple[int, int, int]]) -> dict[str, Any]:
        """The batch: the first round's rows, but for the places that other groups have taken."""
        trainer, first = self.trainer, self.rounds[0]
        size = trainer.num_generations
        moves = {
            place * size + j: (turn, group * size + j) for place, turn, group in taken for j in range(size)
        }
        rows = len(first.out["completion_ids"])
        start = trainer.accelerator.process_index * rows
        everywhere = [self._everywhere(made) for made in self.rounds[1:]]
        shared = set(first.out).intersection(*(made.out for made in self.rounds[1:]))
        out = {}
        for name, value in first.out.items():
            if name not in shared:
                continue
            out[name] = value
            if isinstance(value, Tensor) and value.dim() and len(value) == rows:
                parts = list(value)
                for row, (turn, source) in moves.items():
                    if start <= row < start + rows:
                        parts[row - start] = everywhere[turn - 1][source][name].to(value.device)
                out[name] = self._padded(name, parts)
        self._restore(moves, out)
        loss_mask = out["completion_mask"] * out.get("tool_mask", 1)
        out["num_items_in_batch"] = trainer.accelerator.gather(loss_mask.sum()).sum()
        return out

    def _everywhere(self, made: _Round) -> list[dict[str, Tensor]]:
        """The rows of all processes."""
        rows = len(made.out["completion_ids"])
        tensors = {
            name: value.cpu()
            for name, value in made.out.items()
            if isinstance(value, Tensor) and value.dim() and len(value) == rows
        }
        return gather_object([{name: value[i] for name, value in tensors.items()} for i in range(rows)])

    def _padded(self, name: str, parts: list[Tensor]) -> Tensor:
        if parts[0].dim() == 0:
            return torch.stack(parts)
        width = max(len(part) for part in parts)
        fill = self.trainer._tokenizer.pad_token_id if name in ("prompt_ids", "completion_ids") else 0
        left = name in _IN_PROMPT
        sides = [(width - len(part), 0) if left else (0, width - len(part)) for part in parts]
        return torch.stack(
            [torch.nn.functional.pad(part, side, value=fill) for part, side in zip(parts, sides)]
        )

    def _restore(self, moves: dict[int, tuple[int, int]], out: dict[str, Any]) -> None:
        """What the trainer knows of the batch besides its tensors, as after one round of these questions."""
        trainer, first = self.trainer, self.rounds[0]
        trainer._captured = [tuple(out.pop(name) for name in _CAPTURED)] if _CAPTURED[0] in out else [None]
        trainer._scored = [tuple(out.pop(name) for name in _SCORED)] if _SCORED[0] in out else []
        trainer._rewards = first.rewards.clone()
        for row, (turn, source) in moves.items():
            trainer._rewards[row] = self.rounds[turn].rewards[source]
        self._restore_sheet(moves)
        for place, column in _columns(trainer._logs):
            values = first.logs.get(place, [])
            for row, (turn, source) in moves.items():
                found = self.rounds[turn].logs.get(place, [])
                if row < len(values) and source < len(found):
                    values[row] = found[source]
            column.clear()
            column.extend(self.kept.get(place, []) + values)
        weights = [len(made.rewards) for made in self.rounds]
        for name, values in trainer._metrics["train"].items():
            begun = self.before.get(name, 0)
            if len(values) - begun == len(weights) > 1:
                values[begun:] = [_mean(values[begun:], weights)]

    def _restore_sheet(self, moves: dict[int, tuple[int, int]]) -> None:
        """Where the step is recorded: the questions and scores of the rows as they are now."""
        sheet, first = self.trainer._sheet, self.rounds[0]
        if sheet is None:
            return
        start = self.trainer.accelerator.process_index * len(first.inputs)
        asked = [first.inputs, *(gather_object(made.inputs) for made in self.rounds[1:])]
        sheet.inputs, sheet.scores = list(first.inputs), first.scores.clone()
        for row, (turn, source) in moves.items():
            sheet.scores[row] = self.rounds[turn].scores[source]
            if start <= row < start + len(first.inputs):
                sheet.inputs[row - start] = asked[turn][source]

    def report(self, batch: dict[str, Any], dead: int, groups: int) -> None:
        """Metrics of the batch, and a warning where it is empty of signal. Counts are of all processes."""
        trainer, metrics, more = self.trainer, self.trainer._metrics["train"], self.rounds[1:]
        masks = torch.stack([made.out["completion_mask"].sum() for made in self.rounds])
        spare = (masks.sum() - batch["completion_mask"].sum()).view(1)
        for name, value in {
            "rounds": len(more),
            "discarded": sum(len(made.rewards) for made in more),  # completions that are not trained on
            "discarded_tokens": float(trainer.accelerator.gather(spare).sum()),
            "dead_groups": dead / groups,  # share of the batch that stays without variance
        }.items():
            metrics[f"erpo/sampling_{name}"].append(float(value))
        if dead == groups:
            logger.warning(
                f"step {trainer.state.global_step}: all {groups} groups have equal rewards, after "
                f"{len(more)} further rounds too: nothing can be learned from them; the questions are "
                "too easy or too hard for this model, or the reward function gives one value"
            )


def _columns(logs: dict[str, Any]) -> list[tuple[tuple, Any]]:
    """The columns of TRL's completions table, those in its nested parts too, each with its place."""
    found: list[tuple[tuple, Any]] = []
    for name, value in logs.items():
        if isinstance(value, dict):
            found += [((name, inner), column) for inner, column in value.items()]
        else:
            found.append(((name,), value))
    return found


def _wide(x: Tensor, width: int) -> Tensor:
    return torch.nn.functional.pad(x, (0, width - x.shape[1]))


def _mean(values: list[float], weights: list[int]) -> float:
    pairs = [(value, weight) for value, weight in zip(values, weights) if value == value]
    return sum(v * w for v, w in pairs) / sum(w for _, w in pairs) if pairs else math.nan
