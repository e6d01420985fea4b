"""Weights between a base and a model trained from it, judged on the questions that both have answered.

`average` makes a run's folder of them: weights, record and bundle. What the training came to stays in the
record beside it. Left out: choosing alpha (docs/evidence/averaging.md measures several), and averaging more
than two models.
"""

from __future__ import annotations

import copy
import gc
import json
import shutil
from pathlib import Path
from typing import Any

import torch

from ..errors import UsageError, UserError
from ..evaluation.sampling import weights_digest
from ..lock import LOCK, locked
from ..publish.bundle import WEIGHTS_AND_TOKENIZER, build_bundle
from ..record import facts
from ..record.format import FILE, Averaged, Comparison, RunRecord, Summary, read_as, read_record, write_record
from ..tasks.grading import Grader, grader_version
from ..tasks.tasks import Task
from ..text import one_line
from ..traces.loading import EMBEDDED_MODEL, load
from ..verification.claims import REPRODUCED
from ..verification.fetch import Source
from ..verification.judging import Judge, NotJudged, load_trained
from ..verification.questions import find_questions
from ..version import __version__
from .outcome import compared, graded_traces
from .steps import told_of_the_disk

ADAPTER = "adapter_config.json"
PARTIAL = "model.partial"


def average(
    base: str | Path,
    trained: str | Path,
    *,
    alpha: float = 0.75,
    out: str | Path,
    task: str | None = None,
    token: str | None = None,
    batch_size: int | None = None,
    progress: bool = True,
) -> RunRecord | None:
    """Save base + alpha (trained - base), judge it as the trained model was judged, and build its bundle.

    Args:
        base: the model that training started from: a Hub id, a folder, "builtin:tiny-reasoner".
        trained: a bundle, a run's folder, NAME/MODEL on the Hub, or any folder of weights.
        alpha: the trained model's share, between 0 and 1. A LoRA adapter stays one, its update scaled.
        out: folder for model/, run.json and bundle/. The same call goes on after a stop.
        task: the questions, where the record does not lead to them.
        token: of the Hub. batch_size: completions at once.

    Returns the record; None where `trained` has none, so that there are only weights. Raises UsageError for
    an alpha outside of (0, 1), UserError for models that do not belong together, an `out` in use, and for
    questions or a grader that are not those of the trained model (the weights are kept).
    """
    if not 0 < alpha < 1:
        raise UsageError(
            f"alpha {alpha:g}: give a number between 0 and 1; 0 is the base, 1 the trained model"
        )
    folder, source = Path(out), Source(token)
    there = source.get(str(trained)).folder
    known = read_record(there) if (there / FILE).is_file() else None
    if known is not None and known.averaged is not None:
        raise UserError(f"{trained}: its weights are averaged already; give the run that it was made from")
    try:
        _check_free(folder, alpha, known)
    except OSError as error:  # a name that is too long, a folder that may not be read
        raise UserError(f"{folder} can't be used ({error.strerror}): choose another --out") from error
    before = _base(str(base), there, known, source)
    with (
        locked(folder, "--out"),
        told_of_the_disk(folder, lambda: "make room, then the same command goes on"),
    ):
        fresh = not (folder / "model").is_dir()
        if fresh:
            _save_between(before, there, known, alpha, folder / PARTIAL)
        record = _begun(known, folder, alpha) if known else None
        if fresh:  # last, so that whole weights never stand there without the record that they belong to
            (folder / PARTIAL).rename(folder / "model")
        if known is None or record is None:
            return None
        questions = _questions(known, task, folder)
        gc.collect()  # two models were in memory
        model, tokenizer = load_trained(folder / "model", known, before)
        with Grader(questions.grader) as grader:
            log = folder / "evaluation" / "final.jsonl"
            judge = Judge(questions, range(len(questions.test)), grader, batch_size, progress, log)
            final = _judged(known, judge, model, tokenizer, folder)
            _complete(record, final)
            budget = final.max_new_tokens or 256
            traces = graded_traces(model, tokenizer, record.name, questions, grader, budget)
        write_record(record, folder)
        record.traces = build_bundle(record, folder / "model", folder / "bundle", traces=traces).record.traces
        write_record(record, folder)
        return record


# --- the weights ---


def _base(given: str, trained: Path, known: RunRecord | None, source: Source) -> str:
    """The starting model on this machine, at the recorded revision where its id was given."""
    started = known.base_model if known else None
    public = started is not None and started.source in ("embedded", "hub")
    if started and public and (trained / ADAPTER).is_file() and given != started.id:
        raise UserError(f"{trained} is an adapter of {started.id}: give that as BASE")
    if given == EMBEDDED_MODEL:
        return given
    revision = started.revision if started and public and given == started.id else None
    return str(source.get(given, revision).folder)


def _save_between(base: str, trained: Path, known: RunRecord | None, alpha: float, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    if (trained / ADAPTER).is_file():
        _scale_adapter(trained, alpha, target)
    else:
        before = load(base, dtype=known.prompt.dtype if known else None)[0]
        _check_start(before, known, base)
        after, tokenizer = load(trained)
        _mix(before, after, alpha, base, trained)
        after.save_pretrained(target)
        tokenizer.save_pretrained(target)


def _check_start(model: Any, known: RunRecord | None, base: str) -> None:
    """Raises UserError where the record holds the digest of another starting model."""
    baseline = known.results.baseline if known else None
    if baseline is not None and baseline.weights and baseline.weights != weights_digest(model):
        named = f": it started from {known.base_model.id}" if known and known.base_model else ""
        raise UserError(f"{base} is not the model that training started from{named}")


@torch.no_grad()
def _mix(before: Any, after: Any, alpha: float, base: str, trained: Path) -> None:
    """after <- before + alpha (after - before), in float32, parameter by parameter; buffers stay."""
    started = dict(before.named_parameters())
    parameters = dict(after.named_parameters())
    if {n: p.shape for n, p in started.items()} != {n: p.shape for n, p in parameters.items()}:
        raise UserError(
            f"{base} and {trained} are not of one shape: give the model that training started from"
        )
    for name, parameter in parameters.items():
        parameter.copy_(torch.lerp(started[name].float(), parameter.float(), alpha))


def _scale_adapter(trained: Path, alpha: float, target: Path) -> None:
    """A LoRA adds scaling · B A to a weight: alpha times B is the average of base and trained, exactly."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save_file

    try:
        config = json.loads((trained / ADAPTER).read_text(encoding="utf-8"))
        weights = load_file(trained / "adapter_model.safetensors")
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        raise UserError(f"{trained}: its adapter can't be read ({one_line(error)})") from error
    whole = ("modules_to_save", "use_dora", "trainable_token_indices")
    plain = isinstance(config, dict) and config.get("peft_type") == "LORA" and config.get("bias") == "none"
    if not plain or any(map(config.get, whole)):
        raise UserError(
            f"{trained}: only a LoRA that does nothing but add to weights can be scaled; merge the adapter "
            "into its base and give the merged folder"
        )
    files = {file for pattern in WEIGHTS_AND_TOKENIZER for file in trained.glob(pattern)}
    if odd := sorted(file.name for file in files if not file.is_file()):
        raise UserError(f"{trained}: its {odd[0]} is no file")
    try:
        scaled = {name: _times(alpha, value) if "lora_B" in name or "embedding_B" in name else value
                  for name, value in weights.items()}  # fmt: skip
    except RuntimeError as error:  # a type for storage alone
        raise UserError(f"{trained}: its adapter can't be scaled ({one_line(error)})") from error
    target.mkdir(parents=True)
    for file in files:
        if file.suffix != ".safetensors":
            shutil.copyfile(file, target / file.name)
    save_file(scaled, target / "adapter_model.safetensors", metadata={"format": "pt"})


def _times(alpha: float, value: torch.Tensor) -> torch.Tensor:
    """In float32 where the type is narrower: torch multiplies no float8."""
    if value.is_floating_point() and value.element_size() < 4:
        return (alpha * value.float()).to(value.dtype)
    return alpha * value


# --- the record ---


def _begun(known: RunRecord, folder: Path, alpha: float) -> RunRecord:
    """The trained model's record as far as it holds for the averaged weights, written."""
    record = copy.deepcopy(known)
    record.name, record.status = folder.resolve().name, "running"
    record.created_at, record.finished_at = facts.now(), None
    record.averaged = Averaged(alpha, known.results.final)
    record.results.final = record.results.comparison = record.transplant = None
    record.traces, record.figures, record.files, record.digest = [], [], {}, None
    write_record(record, folder)
    return record


def _complete(record: RunRecord, final: Summary) -> None:
    """What was measured on the averaged weights; cost, versions and hardware stay those of the training."""
    record.results.final = final
    record.results.comparison = _against(record.results.baseline, final)
    assert record.averaged is not None
    record.averaged.comparison = _against(record.averaged.trained, final)
    if record.paired_run is not None:
        record.paired_run.comparison = _against(record.paired_run.final, final)
    record.erpo_hub_version = __version__
    record.status, record.finished_at = "finished", facts.now()


def _against(other: Summary | None, final: Summary) -> Comparison | None:
    """None where the other was not judged on as many questions, or its scores are none: a record may be
    a stranger's, and hold only totals."""
    if other is None or len(other.per_question) != len(final.per_question):
        return None
    return compared(other, final) if all(0 <= score <= 1 for score in other.per_question) else None


def _check_free(folder: Path, alpha: float, known: RunRecord | None) -> None:
    """Raises UserError unless the folder is empty or holds what a call like this one has begun."""
    if not folder.exists() or (folder.is_dir() and {p.name for p in folder.iterdir()} <= {LOCK, PARTIAL}):
        return
    if folder.is_dir() and known is not None and (folder / FILE).is_file():
        begun = read_record(folder)
        mine = begun.averaged
        if mine is not None and mine.alpha == alpha and mine.trained == known.results.final:
            return
    raise UserError(f"{folder} is not empty: choose another --out")


# --- judging ---


def _questions(known: RunRecord, task: str | None, folder: Path) -> Task:
    """The very questions that the trained model answered, judged by the same grader. Raises UserError."""
    kept = _kept(folder)
    if known.results.final is None or not known.results.final.per_question:
        raise UserError(f"{kept}: the trained model was not either, or not question by question")
    if known.grader.version and known.grader.version != grader_version():
        raise UserError(
            f"{kept}: the trained model was graded by version {known.grader.version}, here is "
            f"{grader_version()}, so that the two could not be compared"
        )
    asked = find_questions(known, task)
    if asked.task is None or asked.claim.status != REPRODUCED:
        raise UserError(f"{kept}: {asked.claim.detail}")
    return asked.task


def _judged(known: RunRecord, judge: Judge, model: Any, tokenizer: Any, folder: Path) -> Summary:
    """As the trained model was asked, question by question in the judge's log."""
    assert known.results.final is not None
    found = judge("accuracy", known.results.final, model, tokenizer)
    if isinstance(found, NotJudged):
        raise UserError(f"{_kept(folder)}: {found.reason}")
    return read_as(Summary, found.now.summary())


def _kept(folder: Path) -> str:
    return f"the averaged weights are in {folder / 'model'}, and not judged"
