"""All the work of `erpo-hub trace MODEL DATASET -n N`: many traces into one Parquet file, resumable."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..lock import locked_file
from ..traces.trace import Trace
from .trace import Request, check_file

if TYPE_CHECKING:
    from rich.console import Console

    from ..traces.engine import Engine


def trace_many(
    engine: Callable[[], Engine],
    model: str,
    dataset: str,
    n: int,
    request: Request,
    out: Path,
    *,
    console: Console | None = None,
) -> Path:
    """Solve n held-out questions of a task, or score the n first solutions of a file. Returns `out`.

    What is done stands in a file beside `out` until all is, so that the same command goes on where it was
    stopped. Raises UserError: nothing to trace, a place that can't be written, another command at work on
    `out`, an unfinished file of another model, task or setting.
    """
    from rich.console import Console
    from rich.progress import Progress

    check_file("--parquet", out)
    screen = console or Console()
    rows, kind = _rows(dataset, n)
    how = asdict(request) | {"question": None, "completion": None}
    header = {"model": model, "dataset": dataset, "how": how, "rows": _digest(rows)}
    partial = out.with_name(f".{out.name}.partial")
    if partial.is_symlink():  # its name can be guessed, and in a stranger's folder it may lead anywhere
        raise UserError(f"{partial} is a link: remove it, or give another --parquet")
    with locked_file(out, "--parquet"), Progress(console=screen, transient=True) as progress:
        done = _done(partial, json.loads(json.dumps(header)))
        if done:
            screen.print(f"{len(done)} of {len(rows)} were traced before", style="dim", highlight=False)
        task = progress.add_task("loading the model", total=len(rows), completed=len(done))
        loaded = engine() if len(done) < len(rows) else None
        with partial.open("a", encoding="utf-8") as file:
            if not done:
                file.write(json.dumps(header) + "\n")
            for made in _made(loaded, rows[len(done) :], kind, request):
                file.write(made.to_json() + "\n")
                file.flush()
                done.append(made)
                progress.update(task, advance=1, description="tracing")
        Trace.to_parquet(done, out)
        partial.unlink()
    graded = [trace for trace in done if trace.correct is not None]
    right = f", {sum(bool(t.correct) for t in graded)} of {len(graded)} right" if graded else ""
    screen.print(f"wrote {out}: {len(done)} traces{right}", markup=False, highlight=False)
    return out


def _rows(dataset: str, n: int) -> tuple[list[dict[str, Any]], str]:
    """Questions, with solutions where it is a file of such; and the kind of grader."""
    from ..tasks.tasks import load_task
    from ..ui.library.texts import has_solutions, read_solutions

    if Path(dataset).is_file() and has_solutions(dataset):
        return [asdict(s) | {"answer": s.gold} for s in read_solutions(dataset)[:n]], "math"
    task = load_task(dataset)
    return [dict(row) for row in task.test.select(range(min(n, len(task.test))))], task.grader


def _made(engine: Engine | None, rows: list[dict[str, Any]], kind: str, request: Request) -> Iterator[Trace]:
    from ..tasks.grading import Grader, extract_answer

    if engine is None:
        return
    sampling = request.sampling
    with Grader(kind) as grader:
        for row in rows:
            if row.get("completion") is not None:
                text, heat = row["completion"], sampling.temperature or 1.0
                made = engine.score(row["prompt"], text, temperature=heat, chat=request.chat)
            else:
                made = engine.trace(row["prompt"], chat=request.chat, **sampling.settings())
            if request.sensitivity and len(made):
                made = engine.with_sensitivity(made)
            made = made.with_pivots(request.rule.quantile, request.rule.min_entropy)
            gold, known = row["answer"] or None, {"prompt", "answer", "completion", "gold"}
            extra = {key: [value] for key, value in row.items() if key not in known}
            score = grader.grade([made.completion], [gold], **extra)[0] if gold else None
            right = None if score is None else score >= 1.0 and len(made) > 0
            yield made.replace(gold=gold, correct=right, answer=extract_answer(made.completion))


def _done(partial: Path, header: dict[str, Any]) -> list[Trace]:
    """What an earlier command left; a last line that was cut by a kill is made again."""
    try:
        data = partial.read_bytes()
    except FileNotFoundError:
        return []
    kept = data.rfind(b"\n") + 1  # in bytes: a kill may cut inside of a character
    first, *lines = data[:kept].split(b"\n")  # there alone: the texts hold other line ends, such as U+2028
    cut = not kept and b'{"model": '.startswith(data[:10])  # killed before its first line was whole
    if not cut and _header(first) != header:
        raise UserError(
            f"{partial}: of another model, task or settings; delete it, or give another --parquet"
        )
    traces = [_trace(partial, number, line) for number, line in enumerate(lines[:-1], start=2)]
    with partial.open("r+b") as file:
        file.truncate(kept if traces else 0)  # the header is written again before the first trace
    return traces


def _header(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _trace(partial: Path, number: int, line: bytes) -> Trace:
    try:
        return Trace.from_json(line.decode("utf-8"))
    except (UserError, ValueError) as error:
        raise UserError(
            f"{partial}, line {number}: is no trace ({error}); delete the file to start over"
        ) from error


def _digest(rows: list[dict[str, Any]]) -> str:
    text = json.dumps(rows, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
