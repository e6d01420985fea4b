"""A published model on this machine: a folder as it is, or a repository at one revision within a limit.

Only what a check reads is fetched: weights in safetensors, tokenizer, card, record and pictures; never a
pickle or code. Imports no torch.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from fnmatch import fnmatch
from itertools import islice
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..paths import expanded
from ..publish import commit
from ..publish.bundle import WEIGHTS_AND_TOKENIZER
from ..publish.failures import explain
from ..publish.hub import check_repo_id
from ..publish.patience import FAILURES, retried
from ..version import __version__

WANTED = (*WEIGHTS_AND_TOKENIZER, "README.md", "run.json", ".eval_results/*.yaml", "figures/*.png")


@dataclass(frozen=True)
class Fetched:
    folder: Path
    repo_id: str | None = None
    revision: str | None = None  # the commit


@dataclass(frozen=True)
class Source:
    """Where models are fetched from. max_gb: of one repository."""

    token: str | None = None
    endpoint: str | None = None
    max_gb: float = 40.0

    def get(self, where: str, revision: str | None = None) -> Fetched:
        """A folder as it stands, a bundle inside a run's folder, or a repository. Raises UserError."""
        path = expanded(where)
        if os.path.isdir(path):  # False for a name that is too long as well
            inner = path / "bundle"
            folder = inner if (inner / "run.json").is_file() else path
            _check_links(folder)
            return Fetched(folder)
        if (
            path.is_absolute()
            or where.startswith((".", "~"))
            or where.count("/") != 1
            or os.path.isfile(path)
        ):
            raise UserError(f"no such folder: {where}; give a bundle or NAME/MODEL")
        return self.download(where, revision)

    def download(self, repo_id: str, revision: str | None = None, *, public: bool = False) -> Fetched:
        """A repository, whatever folders there are here; with `public`, no private one. Raises UserError."""
        from huggingface_hub import HfApi, snapshot_download

        check_repo_id(repo_id)
        api = HfApi(
            endpoint=self.endpoint, token=self.token, library_name="erpo-hub", library_version=__version__
        )
        try:
            if public and retried(lambda: api.model_info(repo_id)).private:
                raise UserError(f"{repo_id} is private: give it with --base, if you mean it")
            head = commit.head_of(api, repo_id, revision=revision)
            listing = commit.remote_files(api, repo_id, "model", head)
            self._check_size(repo_id, listing)
            folder = retried(
                lambda: snapshot_download(
                    repo_id,
                    revision=head,
                    allow_patterns=list(WANTED),
                    token=self.token,
                    endpoint=self.endpoint,
                )
            )
        except FAILURES as error:
            raise UserError(f"{repo_id} can't be fetched: {explain(error, repo_id)}") from error
        return Fetched(Path(folder), repo_id, head)

    def _check_size(self, repo_id: str, listing: dict[str, Any]) -> None:
        wanted = [f for path, f in listing.items() if any(fnmatch(path, pattern) for pattern in WANTED)]
        size = sum(int(f.size or 0) for f in wanted) / 1e9
        if size > self.max_gb:
            raise UserError(
                f"{repo_id} has {size:.1f} GB to fetch, more than {self.max_gb:g}: raise --max-gb"
            )


def _check_links(folder: Path) -> None:
    """Raises UserError for a link that leads out of the folder, or out of the Hub client's cache of it."""
    home = folder.resolve()
    home = home.parent.parent if home.parent.name == "snapshots" else home
    for path in islice(folder.rglob("*"), 100_000):
        if path.is_symlink() and not path.resolve().is_relative_to(home):
            raise UserError(f"{folder}: {path.name!r} is a link out of it; put the file itself there")
