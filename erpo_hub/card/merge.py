"""A card that people edit: generated blocks, marked and hashed, inside a text that belongs to its author.

    <!-- erpo-hub:begin results 1a2b3c4d5e6f -->
    ...generated...
    <!-- erpo-hub:end results -->

Everything outside the blocks survives a re-render. A block whose text no longer has the hash of its marker
was edited by hand: re-rendering then shows the difference and asks for `force`. A block marked `yours` was
given from Python and stays until it is given anew. The comment after the metadata lists what was generated
there. Works on text alone; knows nothing of runs.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..errors import UserError
from .metadata import from_yaml, to_yaml

_MARK = re.compile(
    r"^<!-- erpo-hub:begin (?P<name>[a-z0-9-]+) (?P<hash>[0-9a-f]{12})(?P<yours> yours)? -->\n"
    r"|<!-- erpo-hub:end (?P<end>[a-z0-9-]+) -->$",
    re.MULTILINE,
)
_MANIFEST = re.compile(r"^<!-- erpo-hub:card (?P<json>\{.*\}) -->$", re.MULTILINE)
_FRONT = re.compile(r"\A---[ \t]*\n(.*?)^---[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    name: str
    text: str
    yours: bool = False
    edited: bool = False

    def __str__(self) -> str:
        mark = " yours" if self.yours else ""
        return (
            f"<!-- erpo-hub:begin {self.name} {digest(self.text)}{mark} -->\n{self.text}\n"
            f"<!-- erpo-hub:end {self.name} -->"
        )


def digest(text: str) -> str:
    return hashlib.sha256(text.strip().encode()).hexdigest()[:12]


def split_front_matter(card: str) -> tuple[str, str]:
    """YAML text between the first two `---` lines (empty without any) and the rest."""
    card = card.replace("\r\n", "\n")
    match = _FRONT.match(card)
    return (match.group(1), card[match.end() :]) if match else ("", card)


def compose(metadata: dict[str, Any], blocks: list[Block]) -> str:
    """A whole card, fresh."""
    manifest = {
        "blocks": [b.name for b in blocks],
        "keys": {k: digest(to_yaml(v)) for k, v in metadata.items()},
    }
    body = "\n\n".join(str(b) for b in blocks)
    return f"---\n{to_yaml(metadata)}\n---\n{_manifest_line(manifest)}\n\n{body}\n"


def _manifest_line(manifest: dict[str, Any]) -> str:
    return f"<!-- erpo-hub:card {json.dumps(manifest, separators=(',', ':'))} -->"


def _parts(card: str) -> Iterator[str | Block]:
    """The card's text and its marked blocks in their order, in linear time whatever stands there."""
    ends: dict[str, deque[re.Match[str]]] = {}
    marks = list(_MARK.finditer(card))
    for mark in marks:
        if mark["end"]:
            ends.setdefault(mark["end"], deque()).append(mark)
    at = 0
    for mark in marks:
        waiting = ends.get(mark["name"] or "", deque())
        while waiting and waiting[0].start() < mark.end():
            waiting.popleft()
        if mark["name"] and mark.start() >= at and waiting:
            yield card[at : mark.start()]
            text = card[mark.end() : waiting[0].start()].removesuffix("\n")
            yield Block(mark["name"], text, bool(mark["yours"]), digest(text) != mark["hash"])
            at = waiting[0].end()
    yield card[at:]


def blocks_of(card: str) -> dict[str, Block]:
    """The marked blocks of a card in their order; `edited` where the text has lost its hash."""
    return {part.name: part for part in _parts(card.replace("\r\n", "\n")) if isinstance(part, Block)}


def outside_of(card: str) -> str:
    """The author's own text: the body without generated blocks and without the manifest."""
    _, body = split_front_matter(card)
    return "".join(part for part in _parts(_MANIFEST.sub("", body)) if isinstance(part, str)).strip()


def is_ours(card: str) -> bool:
    return bool(_MANIFEST.search(card)) or bool(blocks_of(card))


def merge_cards(existing: str, fresh: str, *, force: bool = False) -> str:
    """`existing` with its generated blocks and metadata brought up to `fresh`.

    Kept: text outside the blocks, `yours` blocks that `fresh` does not give anew, metadata keys added or
    changed by hand, and the absence of blocks that were deleted by hand. Raises UserError, with the
    difference, for a block edited by hand unless `force`; and for a card without any of our marks unless
    `force`.
    """
    existing = existing.replace("\r\n", "\n")
    if not is_ours(existing):
        front, body = split_front_matter(existing)
        if not body.strip():  # what the Hub's page for a new repository writes: metadata alone
            ours, text = split_front_matter(fresh)
            return f"---\n{to_yaml(_merge_metadata(front, ours, {}))}\n---\n{text}"
        if not force:
            raise UserError(
                "the card there was not written by erpo-hub: keep it, or replace it with force (--force)"
            )
        return fresh
    old, new = blocks_of(existing), blocks_of(fresh)
    if not force:
        _refuse_edits(old, new)
    front, body = split_front_matter(existing)
    manifest = _read_manifest(body)
    body = "".join(p if isinstance(p, str) else _replacement(old[p.name], new) for p in _parts(body))
    body = _insert_missing(body, old, new, set(manifest["blocks"]))
    fresh_manifest = _read_manifest(fresh)
    metadata = _merge_metadata(front, split_front_matter(fresh)[0], manifest["keys"])
    line = _manifest_line({"blocks": fresh_manifest["blocks"], "keys": fresh_manifest["keys"]})
    body = _MANIFEST.sub(lambda _: line, body, count=1) if _MANIFEST.search(body) else f"{line}\n\n{body}"
    return f"---\n{to_yaml(metadata)}\n---\n{body.rstrip()}\n"


def _refuse_edits(old: dict[str, Block], new: dict[str, Block]) -> None:
    for block in old.values():
        fresh = new.get(block.name)
        if block.edited and (fresh is None or fresh.text.strip() != block.text.strip()):
            raise HandEdited(block.name, difference(block.text, fresh.text if fresh else "", block.name))


class HandEdited(UserError):
    """A generated block was edited by hand; `diff` shows by what it would be replaced."""

    def __init__(self, name: str, diff: str):
        super().__init__(
            f"README.md: the generated block {name!r} was edited by hand; move your text outside the markers,"
            " or overwrite it with force (--force)"
        )
        self.block, self.diff = name, diff


def difference(before: str, after: str, name: str = "README.md") -> str:
    """A unified diff."""
    lines = difflib.unified_diff(
        before.splitlines(),
        after.splitlines(),
        f"{name} (in the card)",
        f"{name} (from run.json)",
        lineterm="",
        n=1,
    )
    return "\n".join(lines)


def _replacement(block: Block, new: dict[str, Block]) -> str:
    fresh = new.get(block.name)
    if block.yours and (fresh is None or not fresh.yours):
        return str(block) if not block.edited else str(Block(block.name, block.text, True))
    return str(fresh) if fresh else ""


def _insert_missing(body: str, old: dict[str, Block], new: dict[str, Block], known: set[str]) -> str:
    """Blocks that did not exist when the card was made go behind the block before them."""
    before: str | None = None
    for name, block in new.items():
        if name not in old and name not in known:
            anchor = f"<!-- erpo-hub:end {before} -->" if before else ""
            at = body.find(anchor) + len(anchor) if anchor and anchor in body else len(body)
            body = f"{body[:at]}\n\n{block}\n\n{body[at:]}"
        if name in old or name not in known:
            before = name
    return body


def _read_manifest(body: str) -> dict[str, Any]:
    match = _MANIFEST.search(body)
    try:
        manifest = json.loads(match["json"]) if match else {}
    except (ValueError, RecursionError):
        manifest = {}
    blocks, keys = manifest.get("blocks"), manifest.get("keys")
    return {
        "blocks": [b for b in blocks if isinstance(b, str)] if isinstance(blocks, list) else [],
        "keys": keys if isinstance(keys, dict) else {},
    }


def read_metadata(front: str) -> dict[str, Any]:
    """A card's metadata from the text between its `---` lines. Raises UserError."""
    try:
        found = from_yaml(front) or {}
    except UserError as error:
        raise UserError(f"README.md: its metadata is not valid YAML ({error})") from error
    if not isinstance(found, dict):
        raise UserError("README.md: its metadata is not a list of keys and values")
    return {str(key): value for key, value in found.items()}


def _merge_metadata(existing: str, fresh: str, generated: dict[str, str]) -> dict[str, Any]:
    old, new = (read_metadata(text) for text in (existing, fresh))
    kept = {
        k: v for k, v in old.items() if digest(to_yaml(v)) != generated.get(k)
    }  # added or changed by hand
    deleted = {k for k in generated if k not in old}
    return {k: v for k, v in {**new, **kept}.items() if k not in deleted}
