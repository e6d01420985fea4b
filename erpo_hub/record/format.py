"""The run record, run.json: its typed form, its one reader and writer, and its JSON Schema.

All that shows or publishes a run works from it. Records come from anyone on the Hub, so the reader checks
type, size, depth and numbers, and refuses in one line. A field with a default may be missing or null; fields
of a newer version are ignored. Needs the standard library only."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ..errors import UserError
from ..text import write_json
from .recovery import TransplantResult
from .typed import Misfit, check_limits, from_json, parse, schema_of

SCHEMA_VERSION = 1
FILE = "run.json"
SCHEMA_FILE = Path(__file__).with_name("run.schema.json")
MAX_BYTES = 64 * 1024 * 1024

Interval = tuple[float, float]
T = TypeVar("T")


@dataclass
class BaseModel:
    """The model that training started from; `id` is a Hub id, a folder's name or the embedded model's."""

    id: str
    revision: str | None = None
    source: str = "local"  # "hub", "local" or "embedded"
    license: str | list[str] | None = None
    language: list[str] | None = None
    parameters: int | None = None
    architecture: str | None = None


@dataclass
class Adapter:
    type: str
    r: int | None = None
    lora_alpha: float | None = None
    lora_dropout: float | None = None
    target_modules: list[str] | str | None = None
    parameters: int | None = None


@dataclass
class Sample:
    prompt: str
    answer: str | None = None


@dataclass
class Spread:
    min: float
    mean: float
    max: float


@dataclass
class Dataset:
    spec: str
    source: str = ""
    id: str | None = None  # on the Hub
    revision: str | None = None
    license: str | list[str] | None = None
    fingerprint: str | None = None  # of all rows
    seed: int | None = None  # of what was drawn of it
    held_out: str | None = None  # the spec of the questions judged, where they are another task's
    train_rows: int | None = None
    test_rows: int | None = None
    overlap: int | None = None  # rows left out of training because the held-out ones ask the same
    prompt_characters: Spread | None = None
    samples: list[Sample] = field(default_factory=list)


@dataclass
class Arguments:
    changed: dict[str, Any] = field(default_factory=dict)  # those that differ from their defaults
    all: dict[str, Any] = field(default_factory=dict)


@dataclass
class Hardware:
    platform: str | None = None
    cpu: str | None = None
    cores: int | None = None
    memory_gb: float | None = None
    gpus: list[str] = field(default_factory=list)


@dataclass
class Cost:
    wall_seconds: float | None = None
    train_seconds: float | None = None
    steps: int | None = None
    completions: int | None = None  # generated, those included that dynamic sampling discarded
    tokens_generated: int | None = None
    discarded_completions: int | None = None
    discarded_tokens: int | None = None


@dataclass
class Grading:
    kind: str | None = None
    version: str | None = None  # see `tasks.grading.grader_version`
    timeout_s: float | None = None
    timeouts: int | None = None
    errors: int | None = None
    crashes: int | None = None
    reward_functions: list[str] = field(default_factory=list)


@dataclass
class Prompt:
    chat_template: bool = False
    system: str | None = None
    example: str | None = None  # the literal text fed to the model
    chat_template_kwargs: dict[str, Any] | None = None
    dtype: str | None = None  # of the weights in training, such as "float32"
    stop_token_ids: list[int] | None = None
    shaping: dict[str, float] | None = None  # of drawn tokens: top_p, top_k, min_p, repetition_penalty


@dataclass
class Summary:
    """What one evaluation found. Entropies in nats, lengths in tokens, shares in [0, 1]."""

    accuracy: float
    interval: Interval
    n: int  # questions
    k: int  # completions a question
    mean_length: float
    median_length: float | None = None
    correct: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    max_new_tokens: int | None = None
    truncated: float | None = None
    mean_entropy: float | None = None
    pivot_entropy: float | None = None
    grader_timeouts: int = 0
    grader_errors: int = 0
    grader_crashes: int = 0
    pass_at_k: dict[str, float] | None = None
    mean_score: float | None = None
    seed: int | None = None  # of the sampled answers
    weights: str | None = None  # digest of the weights that were judged
    per_question: list[float] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)  # digest of each question's completions
    lengths: list[float] = field(default_factory=list)  # mean of each question's completions
    entropies: list[float] = field(default_factory=list)  # of each question's tokens; 0 without one


@dataclass
class Comparison:
    """This model minus another, on the same questions (see `evaluation.statistics.paired_comparison`)."""

    difference: float
    interval: Interval
    p_value: float
    test: str
    n: int = 0
    bootstrap_interval: Interval | None = None


@dataclass
class Results:
    baseline: Summary | None = None
    final: Summary | None = None
    comparison: Comparison | None = None
    question_set: str | None = None  # digest of all questions judged, in any order
    questions: list[str] = field(default_factory=list)  # digest of each, in the order of `per_question`


@dataclass
class Finding:
    """What the run doctor found wrong (see `train.findings`); `step`: since which one, 0 before the first."""

    kind: str
    step: int
    certainty: str = ""  # "sure" or "likely"
    what: str = ""
    change: str = ""
    found_at: int | None = None


@dataclass
class Earlier:
    """What the same run had come to before it was trained on."""

    steps: int
    finished_at: str | None = None
    final: Summary | None = None
    comparison: Comparison | None = None


@dataclass
class Averaged:
    """The weights are base + alpha (trained - base), see `run.averaging`."""

    alpha: float
    trained: Summary | None = None  # of the weights that training came to
    comparison: Comparison | None = None  # the averaged ones minus these


@dataclass
class PairedRun:
    name: str
    algorithm: str = ""
    final: Summary | None = None
    history: list[dict[str, float | None]] = field(default_factory=list)
    comparison: Comparison | None = None


@dataclass
class ShownRule:
    """See `traces.pivots.PivotRule`."""

    quantile: float
    min_entropy: float = 0.0


@dataclass
class Choice:
    """A token, as text, and its probability."""

    text: str
    probability: float


@dataclass
class ShownPivot:
    """A place where the model was uncertain: the token it chose, and the most probable others."""

    position: int
    chosen: Choice
    others: list[Choice] = field(default_factory=list)


@dataclass
class ShownTokens:
    """What the card needs of the trace that it shows whole: T pieces and entropies in nats."""

    pieces: list[str]
    pivots: list[int]
    entropy: list[float] = field(default_factory=list)
    gold: str | None = None
    pivot_rule: ShownRule | None = None  # the trace's own; None where it is not recorded
    choices: list[ShownPivot] = field(default_factory=list)  # of the most uncertain pivots


@dataclass
class TraceRow:
    file: str  # relative to the bundle
    prompt: str
    correct: bool | None = None
    answer: str | None = None
    completion: ShownTokens | None = None


@dataclass
class Figure:
    kind: str  # "headline", "training", "trace", "transplant" or "decode"
    file: str  # relative to the bundle
    alt: str = ""
    caption: str = ""


@dataclass
class RunRecord:
    algorithm: str
    schema_version: int = SCHEMA_VERSION
    erpo_hub_version: str = ""
    name: str = ""
    status: str = ""  # "running", "trained", "interrupted", "failed" or "finished"
    created_at: str | None = None  # UTC, ISO 8601
    finished_at: str | None = None
    base_model: BaseModel | None = None
    adapter: Adapter | None = None
    dataset: Dataset | None = None
    arguments: Arguments = field(default_factory=Arguments)
    settings: dict[str, Any] = field(default_factory=dict)  # of the method, see `methods/catalog.py`
    seed: int | None = None
    versions: dict[str, str] = field(default_factory=dict)
    hardware: Hardware = field(default_factory=Hardware)
    cost: Cost = field(default_factory=Cost)
    history: list[dict[str, float | None]] = field(default_factory=list)  # a row for each logged step
    grader: Grading = field(default_factory=Grading)
    prompt: Prompt = field(default_factory=Prompt)
    results: Results = field(default_factory=Results)
    paired_run: PairedRun | None = None
    averaged: Averaged | None = None
    earlier: list[Earlier] = field(default_factory=list)
    transplant: TransplantResult | None = None
    findings: list[Finding] | None = None  # None: the doctor was off
    traces: list[TraceRow] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)  # of a bundle: name -> sha256
    digest: str | None = None  # of a bundle's record: see `record_digest`

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return asdict(self)


# --- read and write ---


def load_record(run: RunRecord | dict[str, Any] | str | Path) -> RunRecord:
    """A record from its typed or JSON form, from run.json or from the folder of one. Raises UserError."""
    if isinstance(run, RunRecord):
        return run
    return _checked(run, "the run") if isinstance(run, dict) else read_record(run)


def read_record(place: str | Path) -> RunRecord:
    """run.json, or that of a folder. Raises UserError, in one line, for whatever is not a run record."""
    path = Path(place)
    try:
        path = path / FILE if path.is_dir() else path
        if path.exists() and not path.is_file():
            raise UserError(f"{path} is not a file: give the folder of a run or a bundle")
        if path.exists() and path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path} is larger than {MAX_BYTES >> 20} MiB: it is not a run record")
        with path.open("rb") as file:
            text = file.read(MAX_BYTES).decode("utf-8")
        data = parse(text)
    except FileNotFoundError:
        raise UserError(f"{place}: no {FILE} there; give the folder of a run or a bundle") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a run record: not UTF-8 text") from None
    except RecursionError:
        raise UserError(f"{path} is not a run record: nested too deeply") from None
    except OSError as error:
        raise UserError(f"can't read {path} ({error.strerror}): give the folder of a run") from None
    except ValueError as error:
        raise UserError(f"{path} is not a run record: not valid JSON ({error}); is it cut off?") from None
    return _checked(data, str(path))


def record_digest(data: dict[str, Any]) -> str:
    """SHA-256 of a record in its JSON form, whatever its spacing and order, without its own `digest`."""
    content = {name: value for name, value in data.items() if name != "digest"}
    text = json.dumps(content, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def has_its_digest(folder: Path) -> bool:
    """Whether run.json is as the bundler, or a command that adds to it, wrote it."""
    data = parse((folder / FILE).read_text(encoding="utf-8"))
    return data.get("digest") == record_digest(data)


def write_record(record: RunRecord, folder: Path) -> None:
    """Write run.json whole or not at all: a reader of a live run never sees half a file."""
    if record.digest:  # a bundle's: it was changed on purpose
        record.digest = record_digest(record.to_dict())
    write_json(folder / FILE, record.to_dict())


def read_as(kind: type[T], data: Any) -> T:
    """One part of a record from its JSON form. Raises UserError naming the field that does not fit."""
    try:
        return from_json(kind, data)
    except Misfit as error:
        raise UserError(f"not a {kind.__name__}: {error}") from None


def _checked(data: Any, where: str) -> RunRecord:
    try:
        check_limits(data)
        version = data.get("schema_version", SCHEMA_VERSION) if isinstance(data, dict) else SCHEMA_VERSION
        if version != SCHEMA_VERSION or isinstance(version, bool):
            raise Misfit(f"its schema_version is {version!r:.40}, and only {SCHEMA_VERSION} is read")
        return from_json(RunRecord, data)
    except Misfit as error:
        raise UserError(f"{where} is not a run record: {error}") from None


def json_schema() -> dict[str, Any]:
    """The JSON Schema of what is written, made from the classes."""
    parts: dict[str, Any] = {}
    top = schema_of(RunRecord, parts)["$ref"].rpartition("/")[2]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "erpo-hub run record",
        **parts.pop(top),
        "$defs": parts,
    }


def write_schema() -> None:
    """Write run.schema.json anew: after a change of the classes."""
    SCHEMA_FILE.write_text(json.dumps(json_schema(), indent=1) + "\n", encoding="utf-8")
