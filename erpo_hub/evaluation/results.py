"""What an evaluation found, question by question, and the forms it is handed on in.

`Evaluation` is the record, `QuestionLog` the file that lets a killed evaluation go on. Left out: rendering
for the model card (publish/ does that from the summary). May import numpy-level code of this package only.
"""

from __future__ import annotations

import json
import math
import os
import statistics as basic
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from ..errors import UserError
from ..text import percent, short_digest, write_json
from .statistics import accuracy_interval, mean_and_error, pass_at_k

__all__ = ["Evaluation", "QuestionLog"]


@dataclass
class Evaluation:
    """One model on one task.

    Each entry of `questions`, in the task's order, has: index, prompt, answer, and lists with one entry a
    completion: completions (text), scores (the grader's), correct (score ≥ 1), lengths (tokens, the end token
    counted), truncated, entropies (mean over the tokens, nats), pivots (how many) and pivot_entropies (mean
    over the pivots, nats; None without one).
    """

    model: str
    task: str
    settings: dict[str, Any]
    questions: list[dict[str, Any]]
    grader_timeouts: int = 0
    grader_errors: int = 0
    grader_crashes: int = 0
    seconds: float = 0.0
    prompt_example: str = ""  # the literal text fed to the model for the first question
    weights: str = ""  # digest of the weights, see `sampling.weights_digest`

    @property
    def per_question(self) -> list[float]:
        """Fraction of right completions of each question."""
        return [sum(q["correct"]) / len(q["correct"]) for q in self.questions]

    @property
    def entropies(self) -> list[float]:
        """Nats a token of each question's completions; 0 where they have none."""
        return [_weighted(q["entropies"], q["lengths"]) or 0.0 for q in self.questions]

    def add_failures(self, failures: dict[str, int]) -> None:
        """Count grader failures by name ("timeouts", "errors", "crashes"); each scored 0."""
        for name, count in failures.items():
            setattr(self, f"grader_{name}", getattr(self, f"grader_{name}") + count)

    def summary(self) -> dict[str, Any]:
        """The numbers everything else (run.json, card, app) shows; entropies in nats, lengths in tokens."""
        k, per_question = self.settings["k"], self.per_question
        lengths = self._flat("lengths")
        counts = [sum(q["correct"]) for q in self.questions]
        return {
            "accuracy": sum(counts) / (k * len(counts)),
            "correct": sum(counts),
            "n": len(counts),
            "k": k,
            "interval": accuracy_interval(per_question),
            "temperature": self.settings["temperature"],
            "top_p": self.settings["top_p"],
            "max_new_tokens": self.settings["max_new_tokens"],
            "mean_length": basic.fmean(lengths),
            "median_length": float(basic.median(lengths)),
            "truncated": basic.fmean(self._flat("truncated")),
            "mean_entropy": _weighted(self._flat("entropies"), lengths),
            "pivot_entropy": _weighted(self._flat("pivot_entropies"), self._flat("pivots")),
            "grader_timeouts": self.grader_timeouts,
            "grader_errors": self.grader_errors,
            "grader_crashes": self.grader_crashes,
            "pass_at_k": {str(i): v for i, v in pass_at_k(counts, k).items()} if k > 1 else None,
            "mean_score": basic.fmean(self._flat("scores")),
            "seed": self.settings.get("seed"),
            "weights": self.weights or None,
            "per_question": per_question,
            "answers": [short_digest(q["completions"]) for q in self.questions],
            "lengths": [basic.fmean(q["lengths"]) for q in self.questions],
            "entropies": [round(h, 6) for h in self.entropies],
        }

    def to_json(self, path: str | os.PathLike) -> Path:
        """Write everything to `path` (results.json), in one rename."""
        return write_json(path, {"schema_version": 1, **asdict(self), "summary": self.summary()})

    @classmethod
    def from_json(cls, path: str | os.PathLike) -> Evaluation:
        """Read what `to_json` wrote. Raises UserError for any other file."""
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
            later = {
                "grader_errors": 0,
                "grader_crashes": 0,
                "weights": "",
            }  # not in the files of earlier versions
            found = cls(**{name: (later | data)[name] for name in cls.__dataclass_fields__})
            for question in found.questions:
                check_question(question, found.settings["k"])
            found.table()
            return found
        except (OSError, ValueError, LookupError, TypeError, ArithmeticError, RecursionError) as error:
            raise UserError(
                f"{path} is not an evaluation that erpo-hub wrote ({error!r}): give a results.json"
            ) from error

    def table(self) -> str:
        """The summary as a small text table."""
        s = self.summary()
        how = "greedy" if not s["temperature"] else f"T = {s['temperature']:g}, top-p {s['top_p']:g}"
        how += "".join(f", {name} {value:g}" for name, value in self.settings.get("shaping", {}).items())
        rows = [
            (
                "accuracy",
                f"{percent(s['accuracy'])}  [{100 * s['interval'][0]:.1f}, {100 * s['interval'][1]:.1f}]",
            ),
            ("questions", f"{s['n']} × {s['k']} completion{'s' if s['k'] > 1 else ''}, {how}"),
            (
                "length",
                f"mean {s['mean_length']:.1f}, median {s['median_length']:g} tokens of {s['max_new_tokens']}",
            ),
            ("truncated", percent(s["truncated"])),
            ("entropy", f"{_nats(s['mean_entropy'])}, at pivots {_nats(s['pivot_entropy'])}"),
        ]
        if s["pass_at_k"]:
            rows.insert(1, ("pass@k", "  ".join(f"{k}: {percent(v)}" for k, v in s["pass_at_k"].items())))
        failures = {name: s[f"grader_{name}"] for name in ("timeouts", "errors", "crashes")}
        if any(failures.values()):
            failed = ", ".join(f"{count} {name}" for name, count in failures.items())
            rows.append(("grader", f"{failed}, counted as wrong"))
        lines = [f"{self.model} on {self.task}", *(f"  {name:<10} {value}" for name, value in rows)]
        return "\n".join(lines)

    def lighteval(self) -> dict[str, Any]:
        """The summary in the layout of lighteval's results files (the keys its readers look up)."""
        s, (_, error) = self.summary(), mean_and_error(self.per_question)
        metric = "extractive_match" if s["k"] == 1 else f"avg@{s['k']}"
        scores = {metric: s["accuracy"], f"{metric}_stderr": error}
        scores |= {f"pass@{k}": v for k, v in (s["pass_at_k"] or {}).items()}
        name = f"erpo-hub|{self.task}|0"
        return {
            "config_general": {
                "model_name": self.model,
                "max_samples": s["n"],
                "total_evaluation_time_secondes": str(self.seconds),  # sic
                "generation_parameters": {key: s[key] for key in ("temperature", "top_p", "max_new_tokens")}
                | self.settings.get("shaping", {}),
            },
            "results": {name: scores, "all": scores},
            "versions": {name: 1},
        }

    def _flat(self, column: str) -> list:
        return [value for q in self.questions for value in q[column]]


class QuestionLog:
    """A JSONL file with a line for each finished question below a header that says what is being evaluated.

    Opening it again under the same header gives back what is `done`; a last line cut by a kill is dropped.
    Raises UserError where the header differs or the file is something else.
    """

    def __init__(self, path: str | os.PathLike, header: dict[str, Any]):
        self.path = Path(path)
        self.done: dict[int, dict] = {}
        self.failures: dict[str, int] = {}  # of the grader, by name
        self._problem = ""  # for which nothing more is written
        self.header = header = json.loads(json.dumps(header))  # as it will be read back
        kept = self._read(header)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.truncate(kept)
            self._file: TextIO = self.path.open("a", encoding="utf-8")
        except OSError as error:
            raise UserError(f"cannot write {path} ({error.strerror}): choose another resume_path") from error
        if not kept:
            self._write([header])

    def add(self, questions: list[dict], failures: dict[str, int]) -> None:
        """Append finished questions, and the grader's failures on them."""
        self._write([{"grader_failures": failures}] * any(failures.values()) + questions)

    def close(self) -> None:
        self._file.close()

    def _write(self, records: list[dict]) -> None:
        if not self._problem:
            try:
                self._file.write("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records))
                self._file.flush()
                return
            except OSError as error:  # a full disk
                self._problem = (
                    f"cannot write {self.path} ({error.strerror}), the questions in it are kept: make room, "
                    "then the same command goes on (of a training, with --resume)"
                )
                with suppress(OSError):  # it tries to write once more
                    self._file.close()
        raise UserError(self._problem)

    def _read(self, header: dict[str, Any]) -> int:
        """Fill `done`; the number of bytes that hold whole lines."""
        if not self.path.exists():
            return 0
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise UserError(
                f"cannot read {self.path} ({error.strerror}): choose another resume_path"
            ) from error
        kept = data.rfind(b"\n") + 1
        if not kept and not (
            data[:13] == b'{"evaluation"'[: len(data)]
        ):  # not the header that a kill cut off
            raise UserError(
                f"{self.path} is not an evaluation's log: delete it or choose another resume_path"
            )
        for number, line in enumerate(data[:kept].splitlines(), start=1):
            try:
                record = json.loads(line)
                if number == 1:
                    self._check_header(record, header)
                elif "index" in record:
                    check_question(record, self.header["evaluation"]["k"])
                    self.done[record["index"]] = record
                else:
                    for name in ("timeouts", "errors", "crashes"):
                        count = record["grader_failures"].get(name, 0)
                        self.failures[name] = self.failures.get(name, 0) + int(count)
            except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
                raise UserError(
                    f"{self.path}, line {number}: not a line of an evaluation ({error!r}); "
                    "delete the file to start over or choose another resume_path"
                ) from error
        return kept

    def _check_header(self, found: Any, wanted: dict[str, Any]) -> None:
        if not isinstance(found, dict) or "evaluation" not in found:
            raise ValueError("no header")
        theirs, ours = found["evaluation"], wanted["evaluation"]
        other = [
            f"{key}: {theirs.get(key)} there, {ours[key]} now" for key in ours if theirs.get(key) != ours[key]
        ]
        if other:
            raise UserError(
                f"{self.path} belongs to another evaluation ({'; '.join(other)}): "
                "repeat its settings, delete it, or choose another resume_path"
            )


LARGEST = 1e15  # of a number in a question: sums of many such stay finite, and exact where they are whole
_COLUMNS: dict[str, tuple[type, ...]] = {  # of a question: what each completion's entry is
    "completions": (str,),
    "scores": (int, float),
    "correct": (bool,),
    "truncated": (bool,),
    "lengths": (int,),
    "pivots": (int,),
    **dict.fromkeys(("entropies", "pivot_entropies"), (int, float, type(None))),
}


def check_question(question: dict[str, Any], k: int) -> None:
    """Raises ValueError, KeyError or TypeError where a question that was read is not one of k completions."""
    if not isinstance(question["index"], int) or abs(question["index"]) > LARGEST:
        raise ValueError("a question whose index is not a number of one")
    if "prompt" not in question or "answer" not in question:
        raise ValueError("a question without index, prompt or answer")
    for name, kinds in _COLUMNS.items():
        values = question[name]
        if not isinstance(values, list) or len(values) != k or not all(isinstance(v, kinds) for v in values):
            raise ValueError(f"{name} is not a list of {k} values")
        if any(not isinstance(v, str | None) and abs(v) > LARGEST for v in values):  # NaN is not
            raise ValueError(f"{name} holds a number beyond {LARGEST:g}")


def _weighted(values: list, weights: list) -> float | None:
    """Mean over tokens from means over completions; None where there is no token to speak of."""
    pairs = [(v, w) for v, w in zip(values, weights) if v is not None and w > 0]
    total = sum(w for _, w in pairs)
    return math.fsum(v * w for v, w in pairs) / total if total else None


def _nats(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f} nats"
