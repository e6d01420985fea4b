"""What is measured after a run and added to its bundle: the record, a figure and the card together.

The weights stay as they are. Everything is worked out before the first file changes. Left out: pushing it
(hub.py). Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..card.card import update_card
from ..errors import UsageError, UserError
from ..record.format import FILE, Figure, RunRecord, load_record, read_record, write_record
from ..record.recovery import FIRST, RANDOM, TransplantResult, shown
from ..text import text_beside
from .bundle import check_place, draw_into, publishable_run
from .check import file_digest

CARD, PICTURE = "README.md", "figures/transplant.png"


def check_addition(bundle: Path, weights: str | Path) -> None:
    """Raises UsageError where `bundle` is no bundle, or holds other weights than the folder `weights`, and
    UserError where it has no place for the figure."""
    if not all((bundle / name).is_file() for name in (FILE, CARD)):
        raise UsageError(f"{bundle} is not a bundle: it has no {FILE} or no {CARD}")
    mine, given = (
        {file.name: file_digest(file) for file in Path(folder).glob("*.safetensors")}
        for folder in (bundle, weights)
    )
    if not mine or mine != given:
        raise UsageError(
            f"{bundle} does not hold the weights of {weights}: give the bundle of the trained model"
        )
    check_place(bundle, PICTURE)


def add_transplant(bundle: Path, found: TransplantResult, draw: Callable[[Path], Any]) -> RunRecord:
    """Put a result into a bundle's record and card; `draw` makes its figure at the path that it is given.

    What people wrote into the card stays. Raises UserError where a generated block was edited.
    """
    record = load_record(publishable_run(read_record(bundle)))
    record.transplant = load_record(publishable_run(RunRecord(record.algorithm, transplant=found))).transplant
    figure = _figure(found)
    record.figures = [old for old in record.figures if old.kind != figure.kind] + [figure]
    try:
        card = update_card((bundle / CARD).read_text(encoding="utf-8"), record)
        draw_into(bundle, figure.file, draw)
        record.files[figure.file] = file_digest(bundle / figure.file)
        with text_beside(bundle / CARD, card):  # a full disk leaves both as they were
            write_record(record, bundle)
    except UnicodeDecodeError as error:
        raise UserError(f"{bundle / CARD} is not UTF-8 text: mend it first") from error
    except OSError as error:
        raise UserError(f"can't change {bundle} ({error.strerror or error})") from error
    return record


def _figure(found: TransplantResult) -> Figure:
    said = "; ".join(
        f"{row.swaps} by {row.rule} {shown(row.share, row.interval)}"
        for row in found.recovered
        if row.rule in (FIRST, RANDOM)
    )
    alt = f"Accuracy against tokens an answer taken from the trained model. Share of the gain: {said}."
    caption = (
        "Accuracy of the base with so many tokens an answer taken from this model; dashed: the controls."
    )
    return Figure("transplant", PICTURE, alt, caption)
