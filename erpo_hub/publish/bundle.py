"""The bundle: the folder that a push publishes, complete and readable without the Hub.

Weights in safetensors with tokenizer (or the adapter), README.md, run.json, .eval_results/, figures/,
traces/. It is built in a temporary sibling folder and moved into place by a rename, so a full disk or a kill
leaves the old bundle or the new one, never half of one. Left out: training state, and all that `check.py`
refuses. Imports no torch: it works from what `save_pretrained` wrote.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from ..card.card import CARD_ERRORS, fallback_card, render_card, update_card
from ..card.example import shown_tokens
from ..card.metadata import eval_result_files
from ..errors import UserError
from ..record.format import (
    Figure,
    RunRecord,
    TraceRow,
    load_record,
    record_digest,
    write_record,
)
from ..text import beside, text_beside, write_json
from ..traces.logged import FOLDER
from ..traces.trace import Trace
from .check import UNLISTED, check_bundle, file_digest, traces_problems
from .paths import FREE_TEXT, looks_like_path, machine_paths

WEIGHTS_AND_TOKENIZER = (
    *(
        "*.safetensors",
        "*.safetensors.index.json",
        "config.json",
        "generation_config.json",
        "adapter_config.json",
    ),
    *(
        "tokenizer.json",
        "tokenizer_config.json",
        "tokenizer.model",
        "special_tokens_map.json",
        "added_tokens.json",
    ),
    *(
        "vocab.json",
        "vocab.txt",
        "merges.txt",
        "chat_template.jinja",
        "chat_template.json",
        "preprocessor_config.json",
    ),
)
JSON_TRACES = 8  # traces also written as JSON, for a reader with a browser; the Parquet file holds all


@dataclass(frozen=True)
class Bundle:
    """A bundle that was built, and the record that is published in it."""

    folder: Path
    record: RunRecord


def build_bundle(
    run: RunRecord | dict[str, Any],
    weights_dir: str | Path,
    out_dir: str | Path,
    *,
    traces: Sequence[Trace] = (),
    logged: Path | None = None,
    figures: bool = True,
    sections: dict[str, str | None] | None = None,
) -> Bundle:
    """Writes the bundle of `run` to `out_dir`.

    run: the record, typed or as JSON; not changed. weights_dir: what `save_pretrained` wrote, of which only
    an allow-list is copied. An older bundle at `out_dir` is replaced; any other folder there is refused.
    logged: folder of the completions that the training logged; a file of them that may not leave this
    machine is left out with a warning. sections: see `card.render_card`. A card or figure that fails gives a
    plain card and a warning, never a lost run. Raises UserError: nothing to publish, `out_dir` taken, disk
    full, or a bundle that fails
    `check_bundle`.
    """
    weights_dir, out_dir = Path(weights_dir), Path(os.path.abspath(out_dir))
    if not any(weights_dir.glob("*.safetensors")):
        raise UserError(f"{weights_dir} contains no *.safetensors: save the model with save_pretrained first")
    if out_dir.exists() and not (out_dir.is_dir() and (_is_bundle(out_dir) or not any(out_dir.iterdir()))):
        raise UserError(f"{out_dir} exists and is not a bundle: choose another folder or move it away")
    clean_leftovers(out_dir)
    building = out_dir.with_name(f".{out_dir.name}.building-{os.getpid()}")
    try:
        building.mkdir(parents=True)
        public = publishable_run(run)
        _copy_weights(weights_dir, building, public)
        if traces:
            public.traces = _write_traces(traces, building)
        if logged is not None and logged.is_dir():
            _copy_logged(logged, building / "traces" / FOLDER)
        if figures:
            _draw(public, traces, building)
        _write_texts(public, building, sections)
        if problems := check_bundle(building):
            raise UserError(f"the bundle can't be published: {problems[0]}")
        _move_into_place(building, out_dir)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise UserError(f"disk full while building {out_dir}: free some space and run again") from error
        raise UserError(f"can't build {out_dir}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return Bundle(out_dir, public)


def _is_bundle(folder: Path) -> bool:
    return (folder / "run.json").is_file() and (folder / "README.md").is_file()


# --- what goes in -----------------------------------------------------------------------------------------


def publishable_run(run: RunRecord | dict[str, Any]) -> RunRecord:
    """A copy of the run record without absolute paths: a path keeps its last part only. Raises UserError."""
    content = _without_paths(run.to_dict() if isinstance(run, RunRecord) else run)
    return load_record(json.loads(json.dumps(content, allow_nan=False, default=str)))


def _without_paths(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: v if k in FREE_TEXT else _without_paths(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_paths(v) for v in value]
    if isinstance(value, float) and value != value:
        return None  # JSON has no NaN; a metric that was not measured in this step
    return last_part(value) if isinstance(value, str | Path) else value


def last_part(value: str | Path) -> str:
    """The last part of an absolute path or of one into a folder of this machine; any other text as it is."""
    text = str(value)
    if looks_like_path(text) or any(text.startswith(root) for root in machine_paths()):
        return PureWindowsPath(text).name if "\\" in text else PurePosixPath(text).name
    return text


def _copy_weights(source: Path, target: Path, run: RunRecord) -> None:
    names = {path.name for pattern in WEIGHTS_AND_TOKENIZER for path in source.glob(pattern)}
    base = run.base_model.id if run.base_model else ""
    for name in sorted(names):
        if name.endswith("config.json"):
            content = json.loads((source / name).read_text(encoding="utf-8"))
            write_json(target / name, _with_base_id(content, base))
        else:
            shutil.copyfile(source / name, target / name)


def _with_base_id(content: Any, base: str) -> Any:
    """A model or tokenizer config in which every local path has become the base model's id."""
    if isinstance(content, dict):
        return {k: v if k in FREE_TEXT else _with_base_id(v, base) for k, v in content.items()}
    if isinstance(content, list):
        return [_with_base_id(v, base) for v in content]
    if isinstance(content, str) and last_part(content) != content:
        return base
    return content


def _write_traces(traces: Sequence[Trace], folder: Path) -> list[TraceRow]:
    """Writes traces/ and returns what the record says of them; one of them is the card's worked example."""
    (folder / "traces").mkdir()
    public = [trace.replace(model=last_part(trace.model)) for trace in traces]
    Trace.to_parquet(public, folder / "traces" / "traces.parquet")
    rows = []
    for number, trace in enumerate(public[:JSON_TRACES], 1):
        name = f"traces/{number:04d}.json"
        trace.to_json(folder / name)
        rows.append(TraceRow(name, trace.prompt, trace.correct, trace.answer))
    example = worked_example(public)
    rows[example].completion = shown_tokens(public[example])
    return rows


def _copy_logged(source: Path, target: Path) -> None:
    """What the training logged, named anew; a training prompt may hold what must not be published."""
    target.mkdir(parents=True)
    for file in sorted(source.glob("*.parquet")):
        if problems := traces_problems(file):
            warnings.warn(f"{file.name} is not published: {problems[0]}", stacklevel=4)
        else:
            shutil.copyfile(file, target / file.name)


def worked_example(traces: Sequence[Trace]) -> int:
    """Which trace the card shows: the first correct one that is written as JSON, else the first."""
    return next((i for i, trace in enumerate(traces[:JSON_TRACES]) if trace.correct), 0)


def _draw(run: RunRecord, traces: Sequence[Trace], folder: Path) -> None:
    from ..card import plots

    (folder / "figures").mkdir(exist_ok=True)
    run.figures = []
    example = traces[worked_example(traces)] if traces else None
    try:
        run.figures = plots.draw_all(run, example, folder / "figures")
    except CARD_ERRORS as error:
        warnings.warn(f"a figure could not be drawn ({error!r}); the card goes without it", stacklevel=3)


def _write_texts(run: RunRecord, folder: Path, sections: dict[str, str | None] | None) -> None:
    for name, text in eval_result_files(run).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    made = {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()}
    run.files = {name: file_digest(path) for name, path in made.items() if name not in UNLISTED}
    run.digest = record_digest(run.to_dict())
    write_record(run, folder)
    try:
        card = render_card(run, sections=sections)
    except CARD_ERRORS as error:
        warnings.warn(
            f"the card could not be rendered ({error!r}); a plain one is in its place", stacklevel=3
        )
        card = fallback_card(run)
    (folder / "README.md").write_text(card, encoding="utf-8")


def check_place(folder: Path, name: str) -> None:
    """Raises UserError unless a file of this name can be put into a bundle, and stays in it: in a stranger's
    a folder may be a link that leads anywhere."""
    for place in map(folder.joinpath, PurePosixPath(name).parents[:-1]):
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            raise UserError(f"{place} is a link or a file: put a folder in its place, for {name}")
    if (folder / name).is_dir() and not (folder / name).is_symlink():
        raise UserError(f"{folder / name} is a folder: remove it, for the file of that name")


def draw_into(folder: Path, name: str, draw: Callable[[Path], Any]) -> None:
    """A picture of a bundle: whole in its place, or not at all, and never through a link."""
    check_place(folder, name)
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    with beside(path, path.suffix) as fresh:
        draw(fresh)


def add_figure(folder: Path, figure: Figure, draw: Callable[[Path], Any] | None = None) -> None:
    """Take a picture into run.json and onto the card of a finished bundle; it replaces one of its kind.

    draw: makes it at the path that it is given; without, it lies in the bundle. Edits outside the card's
    generated blocks are kept. Raises UserError where the folder is no bundle, its place is taken, or a
    generated block of its card was edited.
    """
    run, readme = load_record(folder), folder / "README.md"
    run.figures = [other for other in run.figures if other.kind != figure.kind] + [figure]
    card = update_card(readme.read_text(encoding="utf-8") if readme.is_file() else "", run)
    if draw is not None:
        draw_into(folder, figure.file, draw)
    run.files[figure.file] = file_digest(folder / figure.file)
    with text_beside(readme, card):  # a full disk leaves both as they were
        write_record(run, folder)


# --- into place -------------------------------------------------------------------------------------------


def clean_leftovers(out_dir: Path) -> None:
    """Removes what a killed build left beside `out_dir`; puts an old bundle back if the kill hit the swap."""
    old = out_dir.with_name(f".{out_dir.name}.old")
    if old.is_dir() and not out_dir.exists():
        old.rename(out_dir)
    shutil.rmtree(old, ignore_errors=True)
    for leftover in out_dir.parent.glob(f".{out_dir.name}.building-*"):
        if not _is_running(leftover.name.rpartition("-")[2]):
            shutil.rmtree(leftover, ignore_errors=True)


def _is_running(pid: str) -> bool:
    if not pid.isdigit() or int(pid) == os.getpid():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _move_into_place(building: Path, out_dir: Path) -> None:
    if not out_dir.exists() or not any(out_dir.iterdir()):
        os.replace(building, out_dir)
        return
    old = out_dir.with_name(f".{out_dir.name}.old")
    os.replace(out_dir, old)
    os.replace(building, out_dir)
    shutil.rmtree(old, ignore_errors=True)
