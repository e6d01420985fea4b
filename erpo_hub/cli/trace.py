"""All the work of `erpo-hub trace`: answer or score a question, print it, write the files asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..text import percent
from ..traces.pivots import MIN_ENTROPY, QUANTILE
from ..traces.trace import Trace

if TYPE_CHECKING:
    from rich.console import Console

    from ..traces.engine import Engine


def run_trace(
    model: str | Engine,
    question: str,
    *,
    json: str | Path | None = None,
    parquet: str | Path | None = None,
    png: str | Path | None = None,
    html: str | Path | None = None,
    gold: str | None = None,
    grade: Callable[[str], float] | None = None,
    extract: Callable[[str], str | None] | None = None,
    completion: str | None = None,
    sensitivity: bool = False,
    audit: int = 0,
    quantile: float = QUANTILE,
    min_entropy: float = MIN_ENTROPY,
    revision: str | None = None,
    adapter: str | Path | None = None,
    chat: bool | None = None,
    max_new_tokens: int = 256,
    temperature: float = 0.7,
    top_p: float = 1.0,
    top_k: int | None = None,
    seed: int = 0,
    console: Console | None = None,
    quiet: bool = False,
) -> Trace:
    """Trace one question in the terminal and in files; returns the trace.

    Args:
        model: Hub id, folder, GGUF file, adapter, or a loaded engine.
        json, parquet, png, html: files to write.
        gold: the right answer, stored in the trace. grade: score of a completion, right when above one half.
        extract: final answer of a completion. The caller brings both: this room grades nothing.
        completion: score this text instead of sampling one.
        sensitivity: measure that column too.
        audit: continuations of each choice at the strongest pivots, 0 for no audit.
        quantile, min_entropy: the pivot rule (nats). The other parameters are those of `Engine.stream`.
        quiet: print nothing.

    Raises UserError, before the model is loaded where a path cannot be written.
    """
    from rich.console import Console

    from ..traces.engine import Engine

    files = {"json": json, "parquet": parquet, "png": png, "html": html}
    _check_files(files)
    if audit and grade is None:
        raise UserError("an audit needs a way to grade: give the right answer")
    screen = Console(quiet=True) if quiet else console or Console()
    with screen.status(f"loading {model}") as status:
        engine = model if isinstance(model, Engine) else Engine.load(model, revision, adapter=adapter)
        if completion is not None:
            trace = engine.score(question, completion, temperature=temperature, chat=chat)
        else:
            options: dict[str, Any] = {"max_new_tokens": max_new_tokens, "temperature": temperature}
            for delta in engine.stream(question, **options, top_p=top_p, top_k=top_k, seed=seed, chat=chat):
                status.update(f"token {delta.start + 1} of at most {max_new_tokens}")
                if delta.trace is not None:
                    trace = delta.trace
        if sensitivity and len(trace):
            status.update("measuring sensitivity")
            trace = engine.with_sensitivity(trace)
        trace = trace.with_pivots(quantile, min_entropy).replace(
            gold=gold,
            answer=extract(trace.completion) if extract else None,
            correct=grade(trace.completion) > 0.5 if grade else None,
        )
        roads = None
        if audit and grade is not None and trace.pivots:
            status.update("auditing pivots")
            roads = engine.audit(trace, audit, grade=grade, extract=extract)
    _print(trace, roads, screen)
    for path in _write(trace, files):
        screen.print(f"wrote {path}", style="dim", markup=False, highlight=False)
    return trace


def _check_files(files: dict[str, str | Path | None]) -> None:
    for kind, path in files.items():
        if path is not None and not Path(path).parent.is_dir():
            raise UserError(f"--{kind} {path}: its folder does not exist; make it first")


def _write(trace: Trace, files: dict[str, str | Path | None]) -> list[Path]:
    from ..traces.figures import entropy_png
    from ..traces.html import write_html

    writers: dict[str, Callable[[Path], Any]] = {
        "json": trace.to_json,
        "parquet": lambda path: Trace.to_parquet([trace], path),
        "png": lambda path: entropy_png(trace, path),
        "html": lambda path: write_html(trace, path),
    }
    written = []
    for kind, path in files.items():
        if path is not None:
            try:
                writers[kind](Path(path))
            except OSError as e:
                raise UserError(f"--{kind} {path}: cannot be written ({e.strerror or e})") from e
            written.append(Path(path))
    return written


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
