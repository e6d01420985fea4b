"""The base of an adapter, as its readers find it: an id on the Hub, recorded by the run or given at the push.

An adapter is worth nothing without its base. A run that started from a folder or from the embedded model
names a base that nobody else has; `rebased` puts the id under which that base was published in every place
that names it. Left out: whether the model there is the one that was trained on, which only its owner knows.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..card.card import update_card
from ..errors import UsageError, UserError
from ..record.format import FILE, RunRecord, read_record, record_digest
from .patience import retried

if TYPE_CHECKING:
    from huggingface_hub import HfApi

CONFIG = "adapter_config.json"


def refuse_unreachable_base(run: RunRecord, what: str) -> None:
    """Raises UserError for an adapter whose base nobody else could load: a folder, or the embedded model."""
    base = run.base_model
    if run.adapter is not None and base is not None and base.source in ("local", "embedded"):
        raise UserError(
            f"{what}: an adapter of {base.id!r}, which is not on the Hub: nobody else could load it; train "
            "on a Hub id or train all weights, or push the base, then the bundle with --base-model ID"
        )


def refuse_unknown_base(api: HfApi, base_model: str) -> None:
    """Raises UsageError where the Hub has no such model, or none that this token may see."""
    if not retried(lambda: api.repo_exists(base_model)):
        raise UsageError(
            f"--base-model: the Hub has no model {base_model!r} that your token may see; push the base first"
        )


def rebased(folder: Path, base_model: str | None, *, force: bool = False) -> dict[str, bytes]:
    """What of a bundle is published otherwise than it stands in its folder, so that its base can be found.

    Nothing where no `base_model` is given: raises UserError as `refuse_unreachable_base` does. Otherwise an
    adapter's adapter_config.json, run.json with the new digest, and the card, by name, with `base_model` in
    them. No revision is named where the run had the base from elsewhere. Raises UsageError for a whole model
    and for another base on the Hub, HandEdited for a card with an edited block, unless `force`.
    """
    run = read_record(folder)
    if not base_model:
        refuse_unreachable_base(run, str(folder))
        return {}
    base = run.base_model
    if run.adapter is None or base is None:
        raise UsageError(f"--base-model: {folder} is a whole model, which needs no base: leave it out")
    if base.source == "hub" and base.id != base_model:
        raise UsageError(f"--base-model: {folder} was trained from {base.id} on the Hub: leave it out")
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    pinned = base.revision if base.source == "hub" else None
    config |= {"base_model_name_or_path": base_model, "revision": pinned}
    changed = _json(config)
    run.base_model = replace(base, id=base_model, source="hub", revision=pinned)
    run.files[CONFIG] = hashlib.sha256(changed).hexdigest()
    run.digest = record_digest(run.to_dict())
    card = update_card((folder / "README.md").read_text(encoding="utf-8"), run, force=force)
    return {CONFIG: changed, FILE: _json(run.to_dict()), "README.md": card.encode()}


def _json(data: Any) -> bytes:
    return (json.dumps(data, ensure_ascii=False, indent=1, allow_nan=False) + "\n").encode()
