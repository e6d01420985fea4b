"""A run on disk or on the Hub, as the app reads it: run.json, checked, and where the rest of it lies.

Left out: weights, and which runs the app has (load.py).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from ...errors import UserError
from ...text import one_line

_NUMBER, _TEXT = {"type": "number"}, {"type": "string"}
_INTERVAL = {"type": "array", "items": _NUMBER, "minItems": 2, "maxItems": 2}


def _object(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    return {"type": ["object", "null"], "required": list(required), "properties": required | optional}


_SUMMARY = _object(
    {"accuracy": _NUMBER, "interval": _INTERVAL, "n": _NUMBER, "k": _NUMBER, "mean_length": _NUMBER},
    mean_entropy={"type": ["number", "null"]},
    temperature=_NUMBER,
    max_new_tokens=_NUMBER,
)
_COMPARISON = _object({"difference": _NUMBER, "interval": _INTERVAL, "p_value": _NUMBER, "test": _TEXT})
_VALIDATOR = Draft202012Validator(
    _object(
        {"algorithm": _TEXT},
        history={"type": "array", "items": {"type": "object"}},
        results=_object({}, baseline=_SUMMARY, final=_SUMMARY),
        paired_run=_object({"name": _TEXT}, comparison=_COMPARISON),
        dataset=_object({}, spec=_TEXT, samples={"type": "array", "items": {"type": "object"}}),
        base_model=_object({}),
        arguments=_object({}, changed={"type": "object"}),
        settings=_object({}),
        cost=_object({}),
    )
    | {"type": "object"}
)


@dataclass(frozen=True)
class RunFolder:
    """A run on disk. folder: holds run.json; bundle: what is published, None while it trains."""

    label: str
    folder: Path

    @property
    def bundle(self) -> Path | None:
        """The published folder: the run folder's `bundle/`, or the folder itself when it is one."""
        for candidate in (self.folder / "bundle", self.folder):
            if (candidate / "config.json").is_file() or (candidate / "adapter_config.json").is_file():
                return candidate
        return None

    @property
    def published(self) -> Path:
        """Where its card, figures and traces are: the bundle, or the folder of a run on the Hub."""
        return self.bundle or self.folder

    def record(self) -> dict[str, Any]:
        """The run's run.json as it is now. Raises UserError."""
        return read_record(self.folder)


class NotOnTheHub(UserError):
    """There is no such repository for this visitor."""


def read_record(folder: Path) -> dict[str, Any]:
    """run.json of a folder, with what the app reads in it checked: it may come from anyone on the Hub.

    Raises UserError for one that is missing, half-written or no run's.
    """
    try:
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{folder}: has no run.json ({error.strerror}); give the folder of a run") from None
    except ValueError as error:
        raise UserError(f"{folder / 'run.json'}: not valid JSON ({error}); is it cut?") from None
    wrong = next(iter(_VALIDATOR.iter_errors(record)), None)
    if wrong is not None:
        raise UserError(
            f"{folder / 'run.json'}: not a run record ({wrong.json_path}); give the folder of a run"
        )
    return record


def hub_run(repo_id: str) -> RunFolder:
    """A run published on the Hub: its run.json, card, figures and traces, without the weights.

    Raises UserError: `NotOnTheHub` for a repository that is not there, plain for one that can't be read or
    holds no run.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError

    wanted = ["run.json", "README.md", "figures/*", "traces/*.json"]
    try:
        folder = Path(snapshot_download(repo_id, allow_patterns=wanted))
    except RepositoryNotFoundError:
        raise NotOnTheHub(f"{repo_id}: not on the Hub, or not open to you; check the name") from None
    except hub_errors() as error:
        raise UserError(f"{repo_id}: not readable on the Hub ({one_line(error)}); check the name") from None
    if not (folder / "run.json").is_file():
        raise UserError(f"{repo_id}: has no run.json, so it is no run; give a model that erpo-hub published")
    read_record(folder)
    return RunFolder(repo_id, folder)


def hub_errors() -> tuple[type[Exception], ...]:
    """What huggingface_hub raises for a repository or a file that can't be read."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    return HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError
