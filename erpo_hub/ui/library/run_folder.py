"""A run on disk or on the Hub, as the app reads it: its record, and where the rest of it lies.

Left out: weights, and which runs the app has (library.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ...errors import UserError
from ...record.format import RunRecord, read_record
from ...text import one_line
from ...traces.logged import FOLDER
from ...traces.on_hub import NotOnTheHub


@dataclass(frozen=True)
class RunFolder:
    """A run on disk, or what was fetched of one on the Hub.

    folder: holds run.json; bundle: what is published, None while it trains.
    """

    label: str
    folder: Path
    repo: str | None = None  # on the Hub, where it is one of those

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

    @property
    def logged(self) -> Path | None:
        """Where its logged completions are: those of a training under way, else the published ones.

        A Hub run's are fetched when they are first asked for; None where there are none. Raises UserError.
        """
        if self.repo:
            return _fetch_logged(self.repo)
        candidates = self.folder / "checkpoints" / FOLDER, self.published / "traces" / FOLDER
        return next((folder for folder in candidates if folder.is_dir()), None)

    def record(self) -> RunRecord:
        """The run's run.json as it is now. Raises UserError."""
        return read_record(self.folder)


class NoRun(UserError):
    """A repository without a run's record."""


def hub_run(repo_id: str) -> RunFolder:
    """A run published on the Hub: its run.json, card, figures and traces, without the weights.

    Raises UserError: `NotOnTheHub` for a repository that is not there, plain for one that can't be read or
    contains no run.
    """
    folder = _fetch(repo_id, ["run.json", "README.md", "figures/*", "traces/*.json"])
    if not (folder / "run.json").is_file():
        raise NoRun(f"{repo_id}: has no run.json, so it is not a run; give a model that erpo-hub published")
    read_record(folder)
    return RunFolder(repo_id, folder, repo_id)


@cache
def _fetch_logged(repo_id: str) -> Path | None:
    folder = _fetch(repo_id, [f"traces/{FOLDER}/*.parquet"]) / "traces" / FOLDER
    return folder if folder.is_dir() else None


def _fetch(repo_id: str, wanted: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return Path(snapshot_download(repo_id, allow_patterns=wanted))
    except RepositoryNotFoundError:
        raise NotOnTheHub(f"{repo_id}: not on the Hub, or not open to you; check the name") from None
    except hub_errors() as error:
        raise UserError(f"{repo_id}: not readable on the Hub ({one_line(error)}); check the name") from None


def hub_errors() -> tuple[type[Exception], ...]:
    """What huggingface_hub raises for a repository or a file that can't be read."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    return HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError
