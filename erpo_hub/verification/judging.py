"""Recorded models judged again: with the recorded prompt, decoding and weights, on some of the questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..evaluation.results import Evaluation
from ..evaluation.sampling import evaluate
from ..publish.places import without_places
from ..record.format import RunRecord, Summary
from ..tasks.tasks import Task
from ..text import one_line, short_digest
from ..traces.loading import EMBEDDED_MODEL, load
from .claims import UNKNOWN
from .fetch import Source

MOST_TOKENS = 131_072  # that a stranger's record may ask of one completion
MOST_COMPLETIONS = 1024  # of one question


@dataclass(frozen=True)
class Judged:
    """A recorded result beside the same one measured now. places: of the questions asked again."""

    name: str
    recorded: Summary
    now: Evaluation
    places: list[int]

    @property
    def claimed(self) -> list[float]:
        """The recorded verdicts on the questions asked again; empty where only totals are recorded."""
        each = self.recorded.per_question
        return [each[place] for place in self.places] if len(each) == self.recorded.n else []

    @property
    def found(self) -> list[float]:
        return self.now.per_question

    @property
    def same_answers(self) -> list[int] | None:
        """Which of the questions (their number in `places`) got the very answers that were recorded.

        None where no answers are recorded.
        """
        digests = self.recorded.answers
        if len(digests) != self.recorded.n:
            return None
        now = [short_digest(q["completions"]) for q in self.now.questions]
        return [i for i, place in enumerate(self.places) if digests[place] == now[i]]


@dataclass(frozen=True)
class NotJudged:
    """Why a result could not be measured again."""

    name: str
    recorded: Summary
    reason: str
    status: str = UNKNOWN


Result = Judged | NotJudged


@dataclass(frozen=True)
class Judge:
    """Asks models the same questions again. task: all questions judged. places: of those to ask.

    log: see `evaluate`'s `resume_path`.
    """

    task: Task
    places: Sequence[int]
    grader: Any
    batch_size: int | None = None
    progress: bool = True
    log: Path | None = None

    def __call__(self, name: str, recorded: Summary, model: Any, tokenizer: Any) -> Result:
        if recorded.n != len(self.task.test):
            return NotJudged(name, recorded, "it was judged on another number of questions")
        if not all(0 <= share <= 1 for share in (recorded.accuracy, *recorded.per_question)):
            return NotJudged(name, recorded, "its verdicts are not shares of right completions")
        if (recorded.max_new_tokens or 0) > MOST_TOKENS or recorded.k > MOST_COMPLETIONS:
            return NotJudged(name, recorded, "its completions are too long or too many to ask again")
        places = list(self.places)
        try:
            now = evaluate(
                model,
                replace(self.task, test=self.task.test.select(places)),
                tokenizer=tokenizer,
                k=recorded.k,
                temperature=recorded.temperature,
                top_p=recorded.top_p,
                max_new_tokens=recorded.max_new_tokens,
                seed=recorded.seed or 0,
                batch_size=self.batch_size,
                grader=self.grader,
                progress=self.progress,
                resume_path=self.log,
                places=places,
            )
        except UserError as error:
            return NotJudged(name, recorded, why(error))
        except (RuntimeError, LookupError, ValueError) as error:  # weights and a tokenizer that do not fit
            said = UserError(f"it can't be asked ({one_line(error)})")
            return NotJudged(name, recorded, why(said))
        return Judged(name, recorded, now, places)


def why(error: UserError, *folders: str | Path) -> str:
    """What an error says to others, who may read it: models by their names, no path of this machine.

    folders: of the models that it may name.
    """
    said = str(error)
    for folder in filter(lambda folder: len(Path(folder).parts) > 1, folders):
        for place in (Path(folder).resolve(), folder):
            said = said.replace(str(place), _name_of(Path(folder)))
    return without_places(said)


def _name_of(folder: Path) -> str:
    """The repository whose copy in the Hub client's cache this is, or the last part of the path."""
    cached = folder.parent.parent.name
    if folder.parent.name == "snapshots" and cached.startswith("models--"):
        return cached.removeprefix("models--").replace("--", "/")
    return folder.resolve().name


def base_folder(record: RunRecord, source: Source, given: str | None) -> str:
    """The model that training started from, on this machine. Raises UserError where nobody else has it."""
    base = record.base_model
    if given:
        return str(source.get(given).folder) if given != EMBEDDED_MODEL else given
    if base is None or base.source not in ("embedded", "hub"):
        raise UserError("its base is a folder of the author's: give it with --base")
    if base.source == "embedded":
        return EMBEDDED_MODEL
    return str(source.download(base.id, base.revision, public=True).folder)


def load_trained(folder: Path, record: RunRecord, base: str | None) -> tuple[Any, Any]:
    """The published model and its tokenizer; an adapter on the base that its record names, and no other."""
    if (folder / "adapter_config.json").is_file():
        if base is None:
            raise UserError("it is an adapter, and its base is not here")
        return load(base, adapter=folder, dtype=record.prompt.dtype)
    return load(folder)


def load_base(base: str, tokenizer: Any, record: RunRecord) -> tuple[Any, Any]:
    """The base as it was judged: asked as the trained model is, ended by the recorded tokens."""
    model, _ = load(base, dtype=record.prompt.dtype)
    if record.prompt.stop_token_ids:
        model.generation_config.eos_token_id = list(record.prompt.stop_token_ids)
    return model, tokenizer
