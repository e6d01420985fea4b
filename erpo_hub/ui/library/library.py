"""What the app shows: runs, models and traces found under the paths it was given; and its limits.

Reads run records and trace files; loads no model. May import traces' torch-free part and task names.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...paths import expanded
from ...record.format import RunRecord
from ...text import one_line
from ...traces.on_hub import NotOnTheHub
from ...traces.trace import Trace
from ..budget import Budget
from .completions import traces_from_completions
from .labels import label_of
from .run_folder import NoRun, RunFolder, hub_errors, hub_run

logger = logging.getLogger(__name__)
EMBEDDED = "builtin:tiny-reasoner"
MAX_TRACES = 200  # offered in a list
MAX_LOGGED = 16  # completions of a run in progress
SHIPPED = Path(__file__).with_name("examples.parquet")
_OPERANDS = "builtin:expressions?operands=4"
EXAMPLES = [("7-2*3+4=", "5"), ("8*2-9+1=", "8"), ("3+4*2-6=", "5"), ("9-3-2*2=", "2")]


@dataclass(frozen=True)
class Limits:
    """What a visitor may ask for. models: the only ones allowed beside the app's own; None allows any."""

    max_new_tokens: int = 2048
    prompt_characters: int = 20_000
    queue: int = 64
    questions: int = 512  # held-out questions of a comparison
    models: tuple[str, ...] | None = None
    budget: Budget = Budget(memory=2 << 30, disk=2 << 30)  # of all visitors together
    solution_characters: int = 200_000  # of a solution to be scored, which a model reads in one pass

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ, *, public: bool = False) -> Limits:
        """From ERPO_MAX_NEW_TOKENS, ERPO_MAX_PROMPT, ERPO_MAX_QUEUE, ERPO_MAX_BATCH and ERPO_MODELS,
        and, in MiB for all visitors together, ERPO_MAX_MEMORY and ERPO_MAX_DISK.

        ERPO_MAX_PROMPT is of a question, and of a solution to be scored where it is more than the default.
        ERPO_MODELS is a list separated by commas. On a Space (SPACE_ID is set), and wherever the
        app is public, the defaults are small and only the app's own models are allowed. Raises UserError for
        a limit that is not a number.
        """
        public = public or bool(environment.get("SPACE_ID"))
        base = cls(512, 2000, 32, 64, (), Budget(1 << 30, 512 << 20), 2000) if public else cls()
        names = environment.get("ERPO_MODELS")
        listed = tuple(n.strip() for n in names.split(",") if n.strip()) if names is not None else base.models
        question = _number(environment, "ERPO_MAX_PROMPT", base.prompt_characters)
        return cls(
            _number(environment, "ERPO_MAX_NEW_TOKENS", base.max_new_tokens),
            question,
            _number(environment, "ERPO_MAX_QUEUE", base.queue),
            _number(environment, "ERPO_MAX_BATCH", base.questions),
            listed,
            Budget(
                _number(environment, "ERPO_MAX_MEMORY", base.budget.memory >> 20) << 20,
                _number(environment, "ERPO_MAX_DISK", base.budget.disk >> 20) << 20,
            ),
            max(question, base.solution_characters),
        )

    def check_prompt(self, prompt: str) -> None:
        """Raises UserError for what is not text, an empty prompt, and one that is too long."""
        _check_length("The question", prompt, self.prompt_characters)
        check_text("The question", prompt)
        if not prompt.strip():
            raise UserError("The question is empty: write one, or take an example.")

    def check_gold(self, text: Any) -> None:
        """Raises UserError for a right answer that is not text, or longer than a question may be."""
        _check_length("The right answer", text, self.prompt_characters)
        if text is not None:
            check_text("The right answer", text)

    def check_solution(self, text: str) -> None:
        """Raises UserError for a solution to be scored that is not text, empty or too long."""
        _check_length("The solution", text, self.solution_characters)
        check_text("The solution", text)
        if not text.strip():
            raise UserError("There is no solution to score: give one.")

    def tokens(self, wanted: float) -> int:
        """How many tokens may be generated: what is wanted, within 1 and the limit."""
        return int(max(1, min(wanted, self.max_new_tokens)))


def _check_length(name: str, text: Any, most: int) -> None:
    if isinstance(text, str) and len(text) > most:  # first: what comes next reads it all
        raise UserError(f"{name} has {len(text):,} characters; {most:,} are allowed here: shorten it.")


def check_text(name: str, text: Any) -> None:
    """Raises UserError for what is not text, and for half a surrogate pair, which no encoding has."""
    if not isinstance(text, str):
        raise UserError(f"{name} is not text.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UserError(f"{name} contains half a character (a lone surrogate): leave it out.") from None


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, "")
    if not text:
        return default
    if not text.isdigit() or int(text) < 1:
        raise UserError(f"{name}={text!r} is not a number of 1 or more")
    return int(text)


@dataclass
class Library:
    """Everything the app offers, by label."""

    models: dict[str, str] = field(default_factory=dict)  # label -> id or folder
    runs: dict[str, RunFolder] = field(default_factory=dict)
    traces: dict[str, Trace] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    welcome: str | None = None  # the trace that a page opens on, with its strongest pivot

    def records(self) -> list[tuple[str, RunRecord]]:
        """The runs' records as they are now; one that became unreadable hides none of the others."""
        found = []
        for label, run in self.runs.items():
            try:
                found.append((label, run.record()))
            except UserError as error:
                logger.warning("left out: %s", one_line(error))
        return found

    def examples(self) -> list[tuple[str, str]]:
        """(question, answer) pairs to try: of the runs' data, else of the embedded task."""
        found = []
        for _, record in self.records():
            data = record.dataset
            for row in data.samples if data else []:
                pair = (row.prompt, row.answer or "")
                if pair[0] and pair not in found:
                    found.append(pair)
        return found + [pair for pair in EXAMPLES if pair not in found]

    def pair(self) -> tuple[str, str] | None:
        """Labels of a GRPO run and an ERPO run of one comparison: the same data, else the first of each."""
        by_kind: dict[str, list[tuple[str, Any]]] = {"grpo": [], "erpo": []}
        for label, record in self.records():
            data = record.dataset
            by_kind.get(record.algorithm, []).append((label, data.fingerprint if data else None))
        for b, fingerprint in by_kind["erpo"]:
            for a, other in by_kind["grpo"]:
                if fingerprint == other:
                    return a, b
        return None

    def run_of(self, label: str) -> str | None:
        """The run that a trace belongs to."""
        name = label.split(": ")[0].split(", completions_")[0]
        return name if name in self.runs else None

    def trace_pairs(self) -> dict[str, tuple[str, str]]:
        """Traces of two runs or models on one prompt: heading -> labels. Samples of one model are no pair."""
        by_prompt: dict[str, dict[str, str]] = {}
        for label, trace in self.traces.items():
            by_prompt.setdefault(trace.prompt, {}).setdefault(self.run_of(label) or trace.model, label)
        pairs = {}
        for prompt, found in by_prompt.items():
            names = sorted(found, key=lambda name: ("erpo" in name.lower(), "grpo" not in name.lower()))
            if len(names) > 1:
                pairs[" ".join(prompt.split())[:80]] = (found[names[0]], found[names[-1]])
        return pairs


def open_library(paths: Iterable[str | Path | RunFolder], limits: Limits | None = None) -> Library:
    """Sort paths into runs, traces and models; anything that is not a path is taken for a Hub model id.

    A folder with run.json is a run; one that holds such folders, all of them; one of trace files, those; one
    with config.json or adapter_config.json, a model. A model on the Hub that has a run.json is a run too.
    Raises UserError for a path that is none of these, and for a repository that the Hub does not know.
    """
    library = Library(limits=limits or Limits.from_environment())
    for given in paths:
        if isinstance(given, RunFolder):
            _add_run_or_say(library, given)
            continue
        path = expanded(given)
        if path.is_dir():
            _add_folder(library, path)
        elif path.is_file():
            _add_file(library, path)
        elif _looks_like_id(str(given)):
            _add_hub_id(library, str(given))
        else:
            raise UserError(f"{given}: no such run, model or trace; give a folder, a file or a Hub id")
    for name in library.limits.models or ():
        library.models.setdefault(name, name)
    library.models.setdefault(EMBEDDED, EMBEDDED)
    return library


def add_examples(library: Library) -> None:
    """The traces of the package (examples/make_examples.py), before those that are there."""
    others, library.traces = library.traces, {}
    for trace in Trace.from_parquet(SHIPPED):
        _add_trace(library, f"{trace.model}: ", trace)
    library.welcome = next(iter(library.traces))
    for label, trace in list(others.items())[: MAX_TRACES - len(library.traces)]:
        library.traces[_fresh(library.traces, label)] = trace


def add_runs(library: Library, given: str) -> list[str]:
    """Labels of the runs in a folder, or of the one in a Hub repository; new ones join the library.

    Raises UserError where there is none.
    """
    path = expanded(given)
    folders = _run_folders(path)
    if folders:
        return [_add_run(library, RunFolder(_fresh(library.runs, f.name), f)) for f in folders]
    if path.exists() or not _looks_like_id(given):
        raise UserError(f"{given}: contains no run; give the folder of one, or name/model on the Hub")
    library.models.setdefault(given, given)
    return [_add_run(library, hub_run(given))]


def traces_from_environment(environment: Mapping[str, str] = os.environ) -> list[Path]:
    """The folder of the trace dataset that ERPO_TRACES names on the Hub, fetched; empty without one.

    A Space must open without it too: a dataset that can't be read is a line in the log.
    """
    repo_id = environment.get("ERPO_TRACES", "").strip()
    if not repo_id:
        return []
    from huggingface_hub import snapshot_download

    unreadable: tuple[type[Exception], ...] = (UserError, *hub_errors())
    try:
        found = snapshot_download(repo_id, repo_type="dataset", allow_patterns=["*.parquet", "*.json"])
        _add_folder(Library(), Path(found))
    except unreadable as error:
        logger.warning("%s: its traces can't be read (%s)", repo_id, one_line(error))
        return []
    return [Path(found)]


def runs_from_environment(environment: Mapping[str, str] = os.environ) -> list[RunFolder]:
    """The run records of the models that ERPO_MODELS names on the Hub; a model without one is passed over."""
    found = []
    for name in Limits.from_environment(environment).models or ():
        try:
            found.append(hub_run(name))
        except UserError as error:
            logger.warning("%s", error)
    return found


def _add_folder(library: Library, path: Path) -> None:
    runs = _run_folders(path)
    for folder in runs:
        _add_run_or_say(library, RunFolder(_fresh(library.runs, folder.name), folder))
    if runs:
        return
    if (path / "config.json").is_file() or (path / "adapter_config.json").is_file():
        library.models[_fresh(library.models, path.name)] = str(path)
        return
    files = sorted(
        [*path.glob("*.json"), *path.glob("*.parquet"), *path.glob("*/*.json"), *path.glob("*/*.parquet")]
    )
    if not files:
        raise UserError(f"{path}: contains no run, model or trace")
    for file in files:
        _add_file(library, file)


def _run_folders(path: Path) -> list[Path]:
    """The folder, if it is a run's; else those of the runs in it."""
    return [path] if (path / "run.json").is_file() else sorted(p.parent for p in path.glob("*/run.json"))


def _add_hub_id(library: Library, name: str) -> None:
    """A model of the Hub, and the run that made it where its record is published with it."""
    library.models[name] = name
    if name == EMBEDDED:
        return
    try:
        _add_run(library, hub_run(name))
    except NotOnTheHub:
        raise
    except NoRun as error:  # a model that something else made
        logger.info("%s", error)
    except UserError as error:  # offline, or an odd record: the model can be asked all the same
        logger.warning("%s", error)


def _add_run_or_say(library: Library, run: RunFolder) -> None:
    """A run with an odd record is left out, in one line: anyone may have written it."""
    try:
        _add_run(library, run)
    except UserError as error:
        logger.warning("left out: %s", one_line(error))


def _add_run(library: Library, run: RunFolder) -> str:
    """Its label; a folder that is there already keeps the one it has. Raises UserError."""
    for known in library.runs.values():
        if known.folder.resolve() == run.folder.resolve():
            return known.label
    run.record()
    library.runs[run.label] = run
    if run.bundle:
        library.models[run.label] = str(run.bundle)
    for file in sorted((run.published / "traces").glob("*.json")):
        try:
            _add_trace(library, f"{run.label}: ", Trace.from_json(file))
        except UserError as error:  # the run itself can be looked at all the same
            logger.warning("%s", error)
    if not run.bundle:
        _add_newest_completions(library, run.label, run.folder)
    return run.label


def _add_newest_completions(library: Library, label: str, folder: Path) -> None:
    """A run that still trains: what it logged last, where it logs completions."""
    files = sorted((folder / "checkpoints" / "completions").glob("completions_*.parquet"))
    if not files:
        return
    try:
        for trace in traces_from_completions(files[-1], model=label)[:MAX_LOGGED]:
            _add_trace(library, f"{label}, {files[-1].stem}: ", trace)
    except UserError as error:  # the run itself can be followed all the same
        logger.warning("%s: its logged completions can't be shown (%s)", label, error)


def _add_file(library: Library, path: Path) -> None:
    if path.suffix == ".parquet":
        logged = path.name.startswith("completions_")  # by a training, see traces.completions
        found = traces_from_completions(path) if logged else Trace.from_parquet(path)
        for trace in found[:MAX_TRACES]:
            _add_trace(library, f"{path.stem}: ", trace)
    elif path.suffix == ".json":
        prefix = path.parent.name if path.parent.name not in ("traces", "") else path.stem
        _add_trace(library, f"{prefix}: ", Trace.from_json(path))
    elif path.suffix == ".gguf":
        library.models[_fresh(library.models, path.name)] = str(path)
    else:
        raise UserError(f"{path}: not a trace; traces end in .json or .parquet")


def _add_trace(library: Library, prefix: str, trace: Trace) -> None:
    if len(library.traces) >= MAX_TRACES:
        return
    library.traces[_fresh(library.traces, prefix + label_of(trace))] = trace


def _fresh(taken: Mapping[str, Any], label: str) -> str:
    """The label, numbered where it is taken."""
    number, name = 1, label
    while name in taken:
        number += 1
        name = f"{label} ({number})"
    return name


def _looks_like_id(name: str) -> bool:
    parts = name.split("/")
    return name == EMBEDDED or (len(parts) == 2 and all(p and p[0] not in ".~" for p in parts))
