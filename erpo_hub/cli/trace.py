"""All the work of `erpo-hub trace`: answer or score a question, print it, write the files asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..text import percent
from ..traces.decoding import Sampling
from ..traces.pivots import PivotRule
from ..traces.trace import Trace

if TYPE_CHECKING:
    from rich.console import Console

    from ..traces.engine import Engine


@dataclass(frozen=True)
class Outputs:
    """The files to write, each None for none."""

    json: Path | None = None
    parquet: Path | None = None
    png: Path | None = None
    html: Path | None = None

    def given(self) -> dict[str, Path]:
        return {kind: Path(path) for kind, path in vars(self).items() if path is not None}


@dataclass(frozen=True)
class Grading:
    """How the answer is judged. gold: the right one, stored in the trace. grade: score of a completion, right
    when above one half. extract: final answer of a completion.
    """

    gold: str | None = None
    grade: Callable[[str], float] | None = None
    extract: Callable[[str], str | None] | None = None


@dataclass(frozen=True)
class Request:
    """What is traced. completion: score this text instead of sampling one. chat: through the chat template;
    None as trained. sensitivity: measure that column too. audit: continuations of each choice at the
    strongest pivots, 0 for no audit.
    """

    question: str
    completion: str | None = None
    chat: bool | None = None
    sensitivity: bool = False
    audit: int = 0
    sampling: Sampling = field(default_factory=lambda: Sampling(temperature=0.7))
    rule: PivotRule = field(default_factory=PivotRule)


def run_trace(
    engine: Engine | Callable[[], Engine],
    request: Request,
    *,
    grading: Grading = Grading(),  # noqa: B008
    outputs: Outputs = Outputs(),  # noqa: B008
    console: Console | None = None,
) -> Trace:
    """Trace one question in the terminal and in files; returns the trace. `engine`: loaded, or what loads it.

    Raises UserError, before the model is loaded where a path cannot be written.
    """
    from rich.console import Console

    _check_files(outputs)
    grade, extract = grading.grade, grading.extract
    if request.audit and grade is None:
        raise UserError("an audit needs a way to grade: give the right answer")
    screen = console or Console()
    with screen.status("loading the model") as status:
        loaded = engine() if callable(engine) else engine
        trace = _made(loaded, request, status.update)
        trace = trace.with_pivots(request.rule.quantile, request.rule.min_entropy).replace(
            gold=grading.gold,
            answer=extract(trace.completion) if extract else None,
            correct=grade(trace.completion) > 0.5 if grade else None,
        )
        roads = None
        if request.audit and grade is not None and trace.pivots:
            status.update("auditing pivots")
            roads = loaded.audit(trace, request.audit, grade=grade, extract=extract)
    _print(trace, roads, screen)
    for path in _write(trace, outputs):
        screen.print(f"wrote {path}", style="dim", markup=False, highlight=False)
    return trace


def _made(engine: Engine, request: Request, say: Callable[[str], None]) -> Trace:
    """The trace before it is judged: scored or sampled, with its sensitivity where that is asked for."""
    how = request.sampling
    if request.completion is not None:
        trace = engine.score(
            request.question, request.completion, temperature=how.temperature, chat=request.chat
        )
    else:
        for delta in engine.stream(request.question, chat=request.chat, **how.settings()):
            say(f"token {delta.start + 1} of at most {how.max_new_tokens}")
            if delta.trace is not None:
                trace = delta.trace
    if request.sensitivity and len(trace):
        say("measuring sensitivity")
        trace = engine.with_sensitivity(trace)
    return trace


def _check_files(outputs: Outputs) -> None:
    for kind, path in outputs.given().items():
        check_file(f"--{kind}", path)
    if outputs.png is not None and outputs.png.suffix.lower() != ".png":  # matplotlib goes by the ending
        raise UserError(f"--png {outputs.png}: give a name that ends in .png")


def check_file(option: str, path: Path) -> None:
    """Raises UserError where a file can't be made, before the work whose result it is to hold."""
    if path.is_dir():
        raise UserError(f"{option} {path}: is a folder; give a file")
    if not path.parent.is_dir():
        raise UserError(f"{option} {path}: its folder does not exist; make it first")


def _write(trace: Trace, outputs: Outputs) -> list[Path]:
    from ..traces.figures import entropy_png
    from ..traces.html import write_html

    writers: dict[str, Callable[[Path], Any]] = {
        "json": trace.to_json,
        "parquet": lambda path: Trace.to_parquet([trace], path),
        "png": lambda path: entropy_png(trace, path),
        "html": lambda path: write_html(trace, path),
    }
    for kind, path in outputs.given().items():
        try:
            writers[kind](path)
        except OSError as e:
            raise UserError(f"--{kind} {path}: cannot be written ({e.strerror or e})") from e
    return list(outputs.given().values())


def _print(trace: Trace, roads: Any, screen: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    from ..traces.terminal import harmless, show

    show(trace, screen)
    if roads is None:
        return
    table = Table(title=f"Audit: {roads.n} continuations a choice", title_justify="left", title_style="bold")
    for name in ("token", "choice", "right", "95 % interval"):
        table.add_column(name)
    for position in roads.positions:
        for choice in position.choices:
            low, high = choice.interval
            cells = (
                str(position.index),
                choice.text,
                f"{choice.right} of {choice.n}",
                f"{percent(low, 0)} - {percent(high, 0)}",
            )
            table.add_row(*(Text(harmless(cell)) for cell in cells))
        table.add_section()
    screen.print(table)
