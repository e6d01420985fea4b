"""What the test Hub remembers: repositories, branches, commits, blobs, pull requests, jobs. No HTTP here."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

GITATTRIBUTES = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"
LFS_SUFFIXES = (".safetensors", ".parquet", ".png", ".whl", ".gguf", ".bin", ".pt")


@dataclass(frozen=True)
class StoredFile:
    """One file of a commit. `sha256` is set for large files, `data` for regular ones."""

    oid: str
    size: int
    sha256: str | None = None
    data: bytes | None = None


def regular_file(data: bytes) -> StoredFile:
    oid = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    return StoredFile(oid=oid, size=len(data), data=data)


def large_file(sha256: str, size: int) -> StoredFile:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()
    return replace(regular_file(pointer), size=size, sha256=sha256, data=None)


@dataclass(frozen=True)
class Commit:
    oid: str
    parent: str | None
    title: str
    author: str
    files: dict[str, StoredFile]


@dataclass
class PullRequest:
    num: int
    title: str
    author: str
    status: str = "open"


@dataclass
class Repo:
    """A repository; its first commit holds `.gitattributes` only, as on the real Hub."""

    kind: str  # "models" | "datasets" | "spaces"
    repo_id: str
    private: bool = False
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)
    pulls: list[PullRequest] = field(default_factory=list)
    space: dict[str, Any] = field(default_factory=dict)

    def add_commit(self, branch: str, files: dict[str, StoredFile], title: str, author: str) -> Commit:
        parent = self.branches.get(branch)
        listing = sorted((path, stored.oid) for path, stored in files.items())
        seed = f"{self.kind}/{self.repo_id}/{branch}/{parent}/{title}/{listing}"
        commit = Commit(hashlib.sha1(seed.encode()).hexdigest(), parent, title, author, files)
        self.commits[commit.oid] = commit
        self.branches[branch] = commit.oid
        return commit

    def resolve(self, revision: str) -> Commit | None:
        return self.commits.get(self.branches.get(revision, revision))

    def history(self, revision: str = "main") -> list[Commit]:
        """Commits of a branch, newest first."""
        found, commit = [], self.resolve(revision)
        while commit is not None:
            found.append(commit)
            commit = self.commits.get(commit.parent) if commit.parent else None
        return found


class HubState:
    """Everything one test Hub holds. `lock` serialises commits, as a git server does."""

    def __init__(self, xet_dir: Path):
        self.url = ""
        self.lock = threading.RLock()
        self.repos: dict[tuple[str, str], Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.xet_dir = xet_dir
        self.jobs: dict[str, dict[str, Any]] = {}
        self.collections: dict[str, dict[str, Any]] = {}  # by slug
        self.bucket_files: list[str] = []  # namespace/bucket/path
        self.tokens: dict[str, dict[str, Any]] = {}
        self.denied_spaces: dict[str, int] = {}  # hardware -> status, e.g. {"zero-a10g": 402}
        self.job_stage = "COMPLETED"
        self.space_stage = "RUNNING"
        self.space_log: list[str] = ["===== Build =====\n"]

    def create(self, kind: str, repo_id: str, author: str, private: bool = False) -> Repo:
        repo = Repo(kind, repo_id, private)
        repo.add_commit("main", {".gitattributes": regular_file(GITATTRIBUTES)}, "initial commit", author)
        self.repos[kind, repo_id] = repo
        return repo

    def pushed(self, repo_id: str, kind: str = "models", revision: str = "main") -> list[Commit]:
        """Commits on a branch without the initial one, newest first: what a client has pushed."""
        repo = self.repos.get((kind, repo_id))
        return repo.history(revision)[:-1] if repo else []
