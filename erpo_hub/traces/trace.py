"""The trace: what a model did on one prompt, token by token, as a validated columnar record.

Kept here: the columns, their validation and the JSON form. Parquet, for many traces, is in `parquet.py`;
the format is documented in docs/trace-format.md and in trace.schema.json beside this file.
Deliberately not here: making a trace (engine.py), drawing one (figures.py), grading one (the caller's).
May import: numpy and the standard library. Never torch: the card and the app read traces without it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..text import write_text
from .pivots import MIN_ENTROPY, QUANTILE, PivotRule

SCHEMA_VERSION = 2  # 1 had no pivot_rule; still read
MAX_TOKENS = 262_144  # of a completion, and of a prompt
MAX_ALTERNATIVES = 100
MAX_COLUMNS = 32
MAX_TEXT = 8 * 1024 * 1024  # characters of any one text
MAX_JSON_BYTES = 64 * 1024 * 1024
FINISH_REASONS = ("eos", "length", "cancelled", "scored")
_SLACK = 1e-4  # float32 sums to 1 + 1e-6; a record is not broken for that


@dataclass(frozen=True)
class Trace:
    """One completion with its columns. T is the number of completion tokens, k of alternatives.

    Every column has one entry a token of the completion; the end-of-sequence token, where the model chose
    it, is one of them (its piece is ""). Raises UserError when the columns do not fit together.

    Attributes:
        prompt: what the user asked. `prompt_tokens` is what the model was fed, chat template included.
        completion: the text, always `"".join(pieces)`, special tokens left out.
        tokens: (T,) ids.
        pieces: (T,) text that each token adds; the bytes of a split character arrive with its last token.
        entropy: (T,) nats, over the full vocabulary at the sampling temperature, before top-k and top-p.
        logprob: (T,) nats, of the chosen token, under that same distribution ("raw").
        sampling_logprob: (T,) nats, of the chosen token after top-k and top-p, the probability with which it
            was really drawn; 0 under greedy decoding; None where nothing was sampled (a scored text).
        topk_ids, topk_probs: (T, k) the most probable tokens of the same distribution as `entropy`.
        vocab_size: number of logits; every id is below it.
        strings: text of every id named in the record, for display.
        pivots: sorted positions of the critical decision pivots. pivot_rule: the rule that found them; None
            where it is not known.
        sensitivity: (T,) logit², or None where it was not measured.
        columns: (T,) each, by name: what a training made of the token (`advantage`, `gate`,
            `ref_logprob`, ...); empty for a trace that was not logged by one.
        answer, gold, correct: the answer read from the completion, the right one, the verdict; all optional.
        generation: the sampling parameters, flat, JSON values only.
        finish_reason: "eos", "length", "cancelled", or "scored" for given text.
    """

    prompt: str
    completion: str
    prompt_tokens: list[int]
    tokens: list[int]
    pieces: list[str]
    entropy: list[float]
    logprob: list[float]
    topk_ids: list[list[int]]
    topk_probs: list[list[float]]
    vocab_size: int
    model: str
    sampling_logprob: list[float] | None = None
    strings: dict[int, str] = field(default_factory=dict)
    pivots: list[int] = field(default_factory=list)
    pivot_rule: PivotRule | None = None
    sensitivity: list[float] | None = None
    answer: str | None = None
    gold: str | None = None
    correct: bool | None = None
    revision: str | None = None
    generation: dict[str, Any] = field(default_factory=dict)
    finish_reason: str = "eos"
    columns: dict[str, list[float]] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        _check(self)

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def num_alternatives(self) -> int:
        """k, the width of the top-k columns."""
        return len(self.topk_ids[0]) if self.topk_ids else 0

    def replace(self, **changes: Any) -> Trace:
        """A validated copy with some fields changed: `trace.replace(gold="12", correct=True)`."""
        return replace(self, **changes)

    def with_pivots(self, quantile: float = QUANTILE, min_entropy: float = MIN_ENTROPY) -> Trace:
        """A copy whose pivots are found anew (see `pivots.find_pivots`)."""
        rule = PivotRule(quantile, min_entropy)
        return replace(self, pivots=rule.find(self.entropy), pivot_rule=rule)

    # -- JSON ---------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """The JSON form: the fields by name, ids of `strings` as JSON's text keys; `columns` only if any."""
        data = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "columns" or self.columns}
        data["pivot_rule"] = None if self.pivot_rule is None else asdict(self.pivot_rule)
        data["strings"] = {str(i): text for i, text in self.strings.items()}
        return {"schema_version": data.pop("schema_version"), **data}

    def to_json(self, path: str | Path | None = None) -> str:
        """Columnar JSON text; also written to `path` when given (UTF-8)."""
        text = json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        if path is not None:
            write_text(Path(path), text)
        return text

    @classmethod
    def from_dict(cls, data: Any) -> Trace:
        """The inverse of `to_dict`. Raises UserError for anything that is not a trace.

        A version-1 trace does not say its rule: it is the default one where that finds the same pivots.
        """
        if not isinstance(data, dict):
            raise UserError("not a trace: a JSON object is expected")
        version = data.get("schema_version")
        if version not in (1, SCHEMA_VERSION) or isinstance(version, bool):
            raise UserError(
                f"schema_version {_short(version)} is not readable here (1 and {SCHEMA_VERSION} are);"
                " upgrade erpo-hub or make the trace again"
            )
        known = {f.name for f in fields(cls)}
        if extra := sorted(set(data) - known):
            raise UserError(f"unknown field {_short(extra[0])}: see docs/trace-format.md for the fields")
        values = {**data, "schema_version": SCHEMA_VERSION}
        if "strings" in values:
            values["strings"] = _string_map(values["strings"])
        missing = [f.name for f in fields(cls) if f.name not in values and f.name in _REQUIRED]
        if missing:
            raise UserError(f"field {missing[0]!r} is missing")
        if values.get("pivot_rule") is not None:
            values["pivot_rule"] = _pivot_rule(values["pivot_rule"])
        trace = cls(**values)
        if version == 1 and PivotRule().find(trace.entropy) == trace.pivots:
            trace = replace(trace, pivot_rule=PivotRule())
        return trace

    @classmethod
    def from_json(cls, source: str | Path) -> Trace:
        """Read one trace from a file, or from JSON text (a str that begins with "{").

        Raises UserError for a missing, truncated, oversized or hostile file; nothing in it is executed, and
        memory stays proportional to the bytes that are really there.
        """
        if isinstance(source, str) and source.lstrip().startswith("{"):
            where, text = "trace text", source
            if len(text) > MAX_JSON_BYTES:
                raise UserError(f"{where}: over {MAX_JSON_BYTES >> 20} MiB; a trace of that size is refused")
        else:
            where, text = str(source), _read_text(Path(source))
        try:
            return cls.from_dict(json.loads(text, parse_constant=_no_constant))
        except UserError as e:
            raise UserError(f"{where}: {e}") from None
        except (ValueError, RecursionError) as e:  # JSONDecodeError is a ValueError
            reason = "nested too deeply" if isinstance(e, RecursionError) else str(e)
            raise UserError(f"{where}: not valid JSON ({reason}); is the file truncated?") from None

    # -- Parquet ------------------------------------------------------------------------------------

    @staticmethod
    def to_parquet(traces: Iterable[Trace], path: str | Path) -> Path:
        """Many traces in one Parquet file, one row a trace (see `parquet.py`)."""
        from .parquet import write_rows

        return write_rows((trace.to_dict() for trace in traces), Path(path))

    @classmethod
    def from_parquet(cls, path: str | Path, rows: Sequence[int] | None = None) -> list[Trace]:
        """Traces of a Parquet file or of a folder of them: all, or only the `rows` asked for.

        Only the footers and the row groups that hold the rows are read. Raises UserError.
        """
        from .parquet import read_rows

        return read_rows(Path(path), cls.from_dict, rows)


_REQUIRED = {
    *("prompt", "completion", "prompt_tokens", "tokens", "pieces", "entropy", "logprob"),
    *("topk_ids", "topk_probs", "vocab_size", "model"),
}

# -- validation: each check names the field and says what is wrong -------------------------------------


def _check(t: Trace) -> None:
    for name in ("prompt", "completion", "model"):
        _check_text(name, getattr(t, name))
    for name in ("answer", "gold", "revision"):
        if getattr(t, name) is not None:
            _check_text(name, getattr(t, name))
    if t.correct is not None and not isinstance(t.correct, bool):
        raise UserError("correct is neither true, false nor null")
    if t.finish_reason not in FINISH_REASONS:
        raise UserError(f"finish_reason {_short(t.finish_reason)} is not one of {', '.join(FINISH_REASONS)}")
    if type(t.vocab_size) is not int or not 0 < t.vocab_size < 2**31:
        raise UserError(f"vocab_size {_short(t.vocab_size)} is not a positive number below 2^31")
    if t.schema_version != SCHEMA_VERSION:
        raise UserError(f"schema_version must be {SCHEMA_VERSION}")
    _check_ids("prompt_tokens", t.prompt_tokens, t.vocab_size)
    _check_ids("tokens", t.tokens, t.vocab_size)
    _check_columns(t)
    _check_alternatives(t)
    _check_generation(t.generation)
    _check_strings(t)


def _check_columns(t: Trace) -> None:
    n = len(t.tokens)
    if not isinstance(t.pieces, list) or not set(map(type, t.pieces)) <= {str}:
        raise UserError("pieces is not a list of texts")
    _check_length("pieces", t.pieces, n)
    if "".join(t.pieces) != t.completion:
        raise UserError("pieces do not add up to the completion")
    _check_floats("entropy", t.entropy, n, 0.0, math.log(t.vocab_size))
    _check_floats("logprob", t.logprob, n, -math.inf, 0.0)
    if t.sampling_logprob is not None:
        _check_floats("sampling_logprob", t.sampling_logprob, n, -math.inf, 0.0)
    if t.sensitivity is not None:
        _check_floats("sensitivity", t.sensitivity, n, 0.0, math.inf)
    _check_ids("pivots", t.pivots, n)
    if any(a >= b for a, b in zip(t.pivots, t.pivots[1:])):
        raise UserError("pivots are not sorted or not distinct")
    if not isinstance(t.columns, dict) or len(t.columns) > MAX_COLUMNS:
        raise UserError(f"columns is not a map of at most {MAX_COLUMNS} names to lists of numbers")
    for name, values in t.columns.items():
        _check_text("columns", name)
        _check_floats(f"columns[{_short(name)}]", values, n, -math.inf, math.inf)
    if not isinstance(t.pivot_rule, PivotRule | None):
        raise UserError("pivot_rule is not a PivotRule")


def _check_alternatives(t: Trace) -> None:
    for name in ("topk_ids", "topk_probs"):
        rows = getattr(t, name)
        if not isinstance(rows, list) or not set(map(type, rows)) <= {list}:
            raise UserError(f"{name} is not a list of lists")
        _check_length(name, rows, len(t.tokens))
    widths = {len(row) for rows in (t.topk_ids, t.topk_probs) for row in rows}
    if len(widths) > 1 or max(widths, default=0) > MAX_ALTERNATIVES:
        raise UserError(f"topk_ids and topk_probs must share one width, at most {MAX_ALTERNATIVES}")
    width = max(widths, default=0)
    flat_ids = [i for row in t.topk_ids for i in row]
    _check_ids("topk_ids", flat_ids, t.vocab_size, limit=MAX_TOKENS * MAX_ALTERNATIVES)
    flat = [p for row in t.topk_probs for p in row]
    _check_floats("topk_probs", flat, len(flat), 0.0, 1.0)
    if width:
        probs = np.asarray(flat, dtype=np.float64).reshape(-1, width)
        if (np.diff(probs, axis=1) > _SLACK).any():
            raise UserError("topk_probs must fall from left to right")
        if (probs.sum(axis=1) > 1 + _SLACK).any():
            raise UserError("topk_probs of a token add up to more than 1")


def _check_strings(t: Trace) -> None:
    if not isinstance(t.strings, dict) or not set(map(type, t.strings)) <= {int}:
        raise UserError("strings is not a map from ids to texts")
    if t.strings and not (min(t.strings) >= 0 and max(t.strings) < t.vocab_size):
        raise UserError("strings names an id outside the vocabulary")
    if not set(map(type, t.strings.values())) <= {str}:
        raise UserError("strings is not a map from ids to texts")
    _check_text("strings", "".join(t.strings.values()))


def _check_generation(generation: Any) -> None:
    if not isinstance(generation, dict) or len(generation) > 64:
        raise UserError("generation is not a flat map of at most 64 settings")
    for key, value in generation.items():
        if not isinstance(key, str) or not isinstance(value, str | int | float | bool | None):
            raise UserError(f"generation setting {_short(key)} is not a plain value")
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"generation setting {_short(key)} is not finite")
        _check_text("generation", key + (value if isinstance(value, str) else ""))


def _check_text(name: str, text: Any) -> None:
    if not isinstance(text, str):
        raise UserError(f"{name} is not text")
    if len(text) > MAX_TEXT:
        raise UserError(f"{name} is longer than {MAX_TEXT >> 20} Mi characters")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise UserError(f"{name} contains half a surrogate pair, which is not valid text") from None


def _check_length(name: str, column: list, n: int) -> None:
    if len(column) != n:
        raise UserError(f"{name} has {len(column)} entries for {n} tokens")


def _check_ids(name: str, ids: Any, below: int, limit: int = MAX_TOKENS) -> None:
    if not isinstance(ids, list) or not set(map(type, ids)) <= {int}:
        raise UserError(f"{name} is not a list of whole numbers")
    if len(ids) > limit:
        raise UserError(f"{name} has {len(ids)} entries, more than the {limit} that a trace may hold")
    if ids and not (min(ids) >= 0 and max(ids) < below):
        raise UserError(f"{name} contains {min(ids) if min(ids) < 0 else max(ids)}, outside 0 .. {below - 1}")


def _check_floats(name: str, values: Any, n: int, low: float, high: float) -> None:
    if not isinstance(values, list) or not set(map(type, values)) <= {float, int}:
        raise UserError(f"{name} is not a list of numbers")
    _check_length(name, values, n)
    try:
        array = np.asarray(values, dtype=np.float64)
    except OverflowError:
        raise UserError(f"{name} contains a number that is not finite") from None
    if not np.isfinite(array).all():
        raise UserError(
            f"{name} contains a number that is not finite (token {int((~np.isfinite(array)).argmax())})"
        )
    if n and not (array.min() >= low - _SLACK and array.max() <= high + _SLACK):
        at = int(array.argmin()) if array.min() < low - _SLACK else int(array.argmax())
        raise UserError(f"{name} contains {array[at]:.6g} at token {at}, outside {low:.6g} .. {high:.6g}")


# -- reading -------------------------------------------------------------------------------------------


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise UserError(f"{path}: over {MAX_JSON_BYTES >> 20} MiB; a trace of that size is refused")
        return path.read_bytes().decode("utf-8")
    except OSError as e:
        raise UserError(
            f"{path}: cannot be read ({e.strerror or e}); give the path of a trace file"
        ) from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text, so not a JSON trace") from None


def _string_map(strings: Any) -> dict[int, str]:
    if not isinstance(strings, dict):
        raise UserError("strings is not a map from ids to texts")
    if not all(len(key) <= 10 and key.isascii() and key.isdigit() for key in strings):
        raise UserError("strings has a key that is not a token id")
    return {int(key): text for key, text in strings.items()}


def _pivot_rule(rule: Any) -> PivotRule:
    if not isinstance(rule, dict) or set(rule) != {"quantile", "min_entropy"}:
        raise UserError("pivot_rule is not a map of quantile and min_entropy")
    try:
        return PivotRule(**rule)
    except UserError as e:
        raise UserError(f"pivot_rule: {e}") from None


def _no_constant(name: str) -> float:
    raise UserError(f"contains {name}, which is not a finite number")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
