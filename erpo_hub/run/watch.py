"""The same held-out questions again and again while a run trains: where entropy goes, when an answer flips.

Each is answered greedily and by one sample with a seed of its own. The model's state and torch's generators
are as before afterwards, so the training is the same with it and without.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from ..errors import UserError
from ..traces.decoding import logged_trace
from ..traces.logged import FOLDER, LoggedSteps, said
from .steps import Run

SAMPLE = 1.0  # the sample's temperature


class WatchCallback(TrainerCallback):
    """Before the first step, every `log_completions_every` steps, and after the last one.

    Raises UserError: several processes, whose model may be split up, or fewer held-out questions than that.
    """

    def __init__(self, run: Run):
        self.run, args = run, run.trainer.args
        if run.trainer.accelerator.num_processes > 1:
            raise UserError("watch_questions works in one process: leave it at 0")
        if len(run.task.test) < args.watch_questions:
            raise UserError(
                f"watch_questions={args.watch_questions}: there are {len(run.task.test)} held out"
            )
        self.rows = list(run.task.test.select(range(args.watch_questions)))
        self.logged = LoggedSteps(Path(args.output_dir) / FOLDER, "watch", args.log_completions_every)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.on_step_end(args, state, control)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.logged.due(state.global_step) or (self.logged.every and state.global_step == state.max_steps):
            self.logged.write(state.global_step, self.answers(state.global_step))

    def answers(self, step: int) -> list[Any]:
        """Traces of all questions, each greedy, then sampled; graded."""
        from ..evaluation.generation import Decoding, in_memory, row_seed, undisturbed
        from ..evaluation.sampling import encode_prompts
        from ..traces.asked import asked_as

        trainer, tokenizer = self.run.trainer, self.run.trainer.processing_class
        model = trainer.accelerator.unwrap_model(trainer.model)
        asked = asked_as(tokenizer)
        prompts = encode_prompts(tokenizer, [row["prompt"] for row in self.rows], asked)
        found: list[list[Any]] = []
        for temperature in (0.0, SAMPLE):
            decoding = Decoding(
                temperature,
                asked.shaping.get("top_p", 1.0),
                trainer.args.max_completion_length,
                tokenizer.pad_token_id,
                tuple(trainer.eos_token_ids),
                asked.shaping,
            )
            with undisturbed(model):
                seeds = [row_seed(trainer.args.seed, number) for number in range(len(prompts))]
                drawn = in_memory(model, prompts, decoding, seeds)
            texts = [tokenizer.decode(c.ids, skip_special_tokens=True) for c in drawn]
            found.append(self._traces(prompts, drawn, self._scores(texts), (step, temperature)))
        return [trace for pair in zip(*found) for trace in pair if trace is not None]

    def _scores(self, texts: list[str]) -> list[float | None]:
        others = [name for name in self.rows[0] if name not in ("prompt", "answer")]
        extra = {name: [row[name] for row in self.rows] for name in others}
        return self.run.grader.grade(texts, [row["answer"] for row in self.rows], **extra)

    def _traces(self, prompts: list, drawn: list, scores: list, how: tuple[int, float]) -> list[Any]:
        trainer, (step, temperature) = self.run.trainer, how
        model = trainer.accelerator.unwrap_model(trainer.model)
        rows = [
            {
                "model": self.run.record.name,
                "vocab_size": model.config.get_text_config().vocab_size,
                "prompt": said(row["prompt"]),
                "prompt_tokens": prompt,
                "tokens": completion.ids,
                "entropy": completion.entropy,
                "logprob": completion.logprob,
                "gold": str(row["answer"]),
                "correct": (score or 0) >= 1.0,
                "generation": {"step": step, "group": number, "temperature": temperature},
            }
            for number, (row, prompt, completion, score) in enumerate(
                zip(self.rows, prompts, drawn, scores, strict=True)
            )
        ]
        return [logged_trace(trainer.processing_class, row) for row in rows]
