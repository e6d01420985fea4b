"""RecordingTrainer: keeps what the trainer saw of a few groups, where it has the values anyway.

With a method they are there when it has given its advantages. Plain GRPO learns entropy and log-probs of the
sampling policy later: from TRL's old-log-prob forward where it makes one, else from the forward of the loss,
which comes before the update. Nothing is computed a second time, nothing is drawn, and no tensor that the
loss reads is changed, so weights are the same bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor
from transformers.utils import logging
from trl import GRPOTrainer

from ..methods.credit import Credit, CreditBatch
from ..traces.decoding import logged_trace
from ..traces.logged import FOLDER, LoggedSteps, said
from . import dead_rows
from .to_trackio import log_to_trackio

logger = logging.get_logger(__name__)
COMPLETIONS = 16  # of a step, rounded to whole groups, at least one
_ROW = "recorded_row"  # in a micro-batch: which rows of the generation batch it holds


@dataclass
class Sheet:
    """One generation batch that is being recorded; only its first `count` rows of all processes."""

    step: int
    inputs: list[dict[str, Any]]  # this process's rows of the data
    scores: Tensor | None = None  # (B of all processes, functions)
    out: dict[str, Any] = field(default_factory=dict)  # TRL's batch; kept only where values are still to come
    advantages: Tensor | None = None  # (B,)
    entropy: Tensor | None = None  # (B, T), filled row by row
    logps: Tensor | None = None
    rows: Tensor | None = None  # (b,) of the micro-batch whose loss is under way
    parts: int = 0  # micro-batches seen


class RecordingTrainer(GRPOTrainer):
    """[`~trl.GRPOTrainer`] that keeps `log_completions_every`'s completions; without it, exactly that."""

    # TRL's own annotations leave these optional or too narrow.
    model: Any
    args: Any
    processing_class: Any
    num_generations: int
    num_generations_eval: int

    _sheet: Sheet | None = None
    _credit: Any
    _skips_dead_rows: bool
    _is_own_credit: bool

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        every = getattr(self.args, "log_completions_every", 0)
        self._logged = LoggedSteps(Path(self.args.output_dir) / FOLDER, "group", every)
        self._scored: list[tuple[Tensor, Tensor]] = []

    # --- where the values pass by ---

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self._sheet = None
        if self.model.training and self._logged.due(self.state.global_step):
            self._sheet = Sheet(self.state.global_step, inputs)
            self._keep_tokenizer()
        out = self._filled(inputs, super()._generate_and_score_completions)
        if self._sheet is not None and self._credit is None:
            self._sheet.advantages = out["advantages"]
            if "old_per_token_logps" in out and self._scored:
                self._finish(out, *self._scored[0], _reference(out))
            else:
                width = out["completion_ids"].shape
                device = out["completion_ids"].device
                self._sheet.out = dict(out)
                self._sheet.entropy, self._sheet.logps = (
                    torch.full(width, math.nan, device=device) for _ in range(2)
                )
                out[_ROW] = torch.arange(width[0], device=device)
        if self._credit is None:  # a method takes its values from here
            self._scored = []
        return out

    def _filled(self, inputs: list[dict[str, Any]], generate: Callable[[list], dict]) -> dict[str, Any]:
        """TRL's generation batch."""
        return generate(inputs)

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Tensor:
        scores = super()._calculate_rewards(*args, **kwargs)  # (B of all processes, functions)
        if self._sheet is not None:
            self._sheet.scores = scores
        return scores

    def compute_loss(self, model: Any, inputs: dict, *args: Any, **kwargs: Any) -> Tensor:
        rows = inputs.get(_ROW)
        if self._sheet is not None and rows is not None:
            self._sheet.rows = rows
            inputs = {name: value for name, value in inputs.items() if name != _ROW}
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        if self._sheet is not None:
            self._sheet.rows = None
        return loss

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        loss = super().training_step(*args, **kwargs)
        sheet = self._sheet
        if sheet is not None and sheet.entropy is not None and sheet.logps is not None:
            sheet.parts += 1
            if sheet.parts == self.args.steps_per_generation:
                self._finish(sheet.out, sheet.entropy, sheet.logps, _reference(sheet.out))
        return loss

    def _note(self, entropy: Tensor | None, logps: Tensor) -> None:
        """A forward of the loss: where plain GRPO is recorded, its values are the sampling policy's."""
        sheet = self._sheet
        if sheet is None or sheet.rows is None or sheet.entropy is None or sheet.logps is None:
            return
        if entropy is not None:
            sheet.entropy[sheet.rows, : entropy.shape[1]] = entropy.detach().float()
            sheet.logps[sheet.rows, : logps.shape[1]] = logps.detach().float()

    def _record(self, batch_out: dict, batch: CreditBatch, credit: Credit) -> None:
        """What a method was given and what it made of it."""
        if self._sheet is None:
            return
        self._sheet.advantages = batch.advantages
        columns = {"advantage": credit.advantages, **credit.columns}
        if batch.ref_logps is not None:
            columns["ref_logprob"] = batch.ref_logps
            if self._skips_dead_rows and not self._is_own_credit and dead_rows.drops_whole_groups(self.args):
                alive = batch.group_sums(batch.advantages.abs()[:, None])[batch.group_index]  # (B, 1)
                columns["ref_logprob"] = batch.ref_logps.masked_fill(alive == 0, math.nan)
        self._finish(batch_out, batch.entropy, batch.logps, columns)

    # --- onto the disk ---

    def _keep_tokenizer(self) -> None:
        folder = Path(self.args.output_dir)
        if self.accelerator.is_main_process and not (folder / "tokenizer_config.json").is_file():
            self.processing_class.save_pretrained(folder)

    def _finish(self, out: dict, entropy: Tensor, logps: Tensor, columns: dict[str, Tensor]) -> None:
        """Every process gives its rows, the first one writes them."""
        sheet: Any = self._sheet
        self._sheet = None
        rows = gather_object(self._rows(sheet, out, {"entropy": entropy, "logprob": logps, **columns}))
        if not self.accelerator.is_main_process:
            return
        tokenizer = getattr(self.processing_class, "tokenizer", self.processing_class)
        traces = [trace for row in rows if (trace := logged_trace(tokenizer, row)) is not None]
        if not traces:
            logger.warning(f"step {sheet.step}: nothing to log: the loss computed no entropies")
            return
        self._logged.write(sheet.step, traces)
        if "trackio" in self.args.report_to:
            log_to_trackio(traces)

    def _rows(self, sheet: Any, out: dict, values: dict[str, Tensor]) -> list[dict[str, Any]]:
        """This process's share of the completions, as fields of a Trace."""
        local, group = len(out["completion_ids"]), self.num_generations
        first = self.accelerator.process_index * local
        wanted = max(1, COMPLETIONS // group) * group - first
        folder = Path(self.args.output_dir)
        name = folder.parent.name if folder.name == "checkpoints" else folder.name
        vocabulary = self.accelerator.unwrap_model(self.model).config.get_text_config().vocab_size
        same = {"model": name or "model", "vocab_size": vocabulary}
        rows = []
        for i in range(max(0, min(wanted, local))):
            mask = out["completion_mask"][i].bool()
            columns = {key: x[i][mask].tolist() for key, x in values.items()}
            tokens = out["completion_ids"][i][mask].tolist()
            row = same | self._facts(sheet, i, first + i) | {"tokens": tokens}
            row["prompt_tokens"] = out["prompt_ids"][i][out["prompt_mask"][i].bool()].tolist()
            row |= {key: columns.pop(key) for key in ("entropy", "logprob")}
            if all(map(math.isfinite, row["entropy"])):  # a row that the loss left out has none
                row["columns"] = {k: v for k, v in columns.items() if all(map(math.isfinite, v))}
                rows.append(row)
        return rows

    def _facts(self, sheet: Sheet, row: int, number: int) -> dict[str, Any]:
        """Question, gold answer, rewards and advantage; `number` counts completions over all processes."""
        question, scores = sheet.inputs[row], {}
        if sheet.scores is not None:
            scores = dict(zip(self.reward_func_names, sheet.scores[number].tolist()))
            weighted = (sheet.scores[number] * self.reward_weights.to(sheet.scores.device)).nansum().item()
            scores = {f"reward/{name}": v for name, v in scores.items() if math.isfinite(v)} | {
                "reward": weighted
            }
        right, gold = scores.get("reward/correctness"), question.get("answer")
        advantage: Any = sheet.advantages
        return {
            "prompt": said(question["prompt"]),
            "gold": None if gold is None else str(gold),
            "correct": None if right is None else right >= 1.0,
            "generation": {
                "step": sheet.step,
                "group": number // self.num_generations,
                "temperature": self.temperature,
                **scores,
                "advantage": advantage[row].item(),
            },
        }


def _reference(out: dict) -> dict[str, Tensor]:
    """The reference's log-probs, where a KL term had TRL compute them."""
    return {"ref_logprob": out["ref_per_token_logps"]} if "ref_per_token_logps" in out else {}
