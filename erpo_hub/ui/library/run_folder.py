"""A run on disk or on the Hub, as the app reads it: its record, and where the rest of it lies.

Left out: weights, and which runs the app has (library.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...errors import UserError
from ...record.format import RunRecord, read_record
from ...text import one_line


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

    def record(self) -> RunRecord:
        """The run's run.json as it is now. Raises UserError."""
        return read_record(self.folder)


class NotOnTheHub(UserError):
    """There is no such repository for this visitor."""


class NoRun(UserError):
    """A repository without a run's record."""


def hub_run(repo_id: str) -> RunFolder:
    """A run published on the Hub: its run.json, card, figures and traces, without the weights.

    Raises UserError: `NotOnTheHub` for a repository that is not there, plain for one that can't be read or
    contains no run.
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
        raise NoRun(f"{repo_id}: has no run.json, so it is not a run; give a model that erpo-hub published")
    read_record(folder)
    return RunFolder(repo_id, folder)


def hub_errors() -> tuple[type[Exception], ...]:
    """What huggingface_hub raises for a repository or a file that can't be read."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    return HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError
