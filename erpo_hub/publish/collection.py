"""A collection on the Hub that holds what belongs together: a pair of runs, their traces and their Space.

Every push adds its own part, so that the collection is whole when all parts are published. The commit comes
first: a collection that fails leaves it standing. Left out: taking things out of a collection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..errors import UserError
from ..record.format import RunRecord
from ..text import percent
from .failures import explain
from .patience import FAILURES, retried

if TYPE_CHECKING:
    from huggingface_hub import Collection, HfApi

LONGEST_TITLE, LONGEST_NOTE = 59, 500  # characters, of the Hub
DESCRIPTION = "Models, traces and a Space made with erpo-hub."


class Item(NamedTuple):
    """One thing of a collection. kind: "model", "dataset" or "space"."""

    repo_id: str
    kind: str
    note: str | None = None


def add_to_collection(
    api: HfApi, title: str, items: Sequence[Item], owner: str, *, private: bool | None = None
) -> str:
    """The address of `owner`'s collection of that title, made where it is missing, with every item in it.

    Harmless when repeated: what is in it stays as it is. Raises UserError; the commits stand.
    """
    if not title.strip() or len(title) > LONGEST_TITLE:
        raise UserError(f"--collection: give a title of 1 to {LONGEST_TITLE} characters")
    try:
        found = _of_title(api, title, owner) or retried(
            lambda: api.create_collection(
                title, namespace=owner, description=DESCRIPTION, private=bool(private), exists_ok=True
            )
        )
        for item in items:
            retried(_adding(api, found.slug, item))
    except FAILURES as error:
        raise UserError(
            f"the collection {title!r} of {owner} is not complete: {explain(error, title)}; what was pushed "
            "stays, and the same command goes on from here"
        ) from error
    return f"{api.endpoint}/collections/{found.slug}"


def note_of(run: RunRecord) -> str:
    """What a collection says of a run beside its name."""
    final = run.results.final
    judged = "" if final is None else f", {percent(final.accuracy)} of {final.n} held-out questions"
    return f"{run.algorithm}, {run.cost.steps} steps{judged}"[:LONGEST_NOTE]


def _of_title(api: HfApi, title: str, owner: str) -> Collection | None:
    owned = retried(lambda: list(api.list_collections(owner=owner, limit=100)))
    return next((found for found in owned if found.title == title), None)


def _adding(api: HfApi, slug: str, item: Item) -> Callable[[], Collection]:
    return lambda: api.add_collection_item(
        slug,
        item_id=item.repo_id,
        item_type=item.kind,  # type: ignore[arg-type]
        note=item.note,
        exists_ok=True,
    )
