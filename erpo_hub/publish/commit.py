"""One commit, whatever the network does: the retry that huggingface_hub does not have around `create_commit`.

A lost answer may hide a commit that landed. Every attempt starts from the head it expects (`parent_commit`)
with fresh operations, and after every failure, of whatever kind, the files at the branch tell "it had landed"
from "it had not" and from "somebody else pushed". Works for models, datasets and Spaces. Left out: which
files to send (hub.py, space.py, traces_dataset.py), how long to wait (patience.py).
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..errors import UserError
from . import patience
from .patience import TOLD, OddAnswer, call_hub, client_gave_up, may_pass, retried, status_of, wait_after

_COMMIT_ID = re.compile(r"[0-9a-f]{7,64}")
MAX_FILES = 100_000  # of a repository; a listing that goes on is not one


@dataclass(frozen=True)
class Content:
    """Files by their path in the repository, as a local path or as bytes, and paths to delete."""

    files: Mapping[str, Path | bytes]
    deleted: tuple[str, ...] = ()
    digests: dict[tuple[str, bool], str] = field(default_factory=dict)  # weights are hashed once

    def digest(self, path: str, *, large: bool) -> str:
        """The id under which the Hub holds a file."""
        if (path, large) not in self.digests:
            self.digests[path, large] = file_oid(self.files[path], large=large)
        return self.digests[path, large]

    def operations(self) -> list[Any]:
        """Fresh operations: the client changes them, so they serve one attempt only."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        added: list[Any] = [
            CommitOperationAdd(path, data if isinstance(data, bytes) else str(data))
            for path, data in sorted(self.files.items())
        ]
        return added + [CommitOperationDelete(path) for path in self.deleted]


@dataclass(frozen=True)
class Outcome:
    """What a push came to. `made` is False where the repository held these very files already."""

    info: Any  # huggingface_hub.CommitInfo
    made: bool
    recovered: bool = False  # the answer was lost, and the head showed that the commit had landed


def commit_once(
    api: Any,
    repo_id: str,
    content: Content,
    *,
    head: str,
    message: str,
    repo_type: str = "model",
    revision: str | None = None,
    create_pr: bool = False,
) -> Outcome:
    """Sends `content` as exactly one commit on top of `head`, or as none where nothing would change.

    head: the commit that `content` was made against (`head_of`). Raises UserError when somebody else pushes
    meanwhile, and the client's own errors (patience.FAILURES) when retries are used up.
    """
    push = _Push(
        api, {"repo_id": repo_id, "repo_type": repo_type}, content, head, message, revision, create_pr
    )
    if same_files(api, content, revision=head, **push.where) and push.is_the_tip(head):
        return Outcome(push.as_commit(head), made=False)
    if create_pr and (found := push.open_pull()):
        return Outcome(found, made=False)
    for attempt in range(len(patience.WAITS) + 1):
        try:
            info = call_hub(push.send)
            push.check(info)
            return Outcome(info, made=info.oid != head)
        except (*TOLD, UserError) as error:  # a refused card too: an earlier attempt may have landed since
            if landed := push.landed(error):
                return Outcome(landed, made=True, recovered=True)
            again = (may_pass(error, attempt) or status_of(error) == 412) and not client_gave_up(error)
            if attempt == len(patience.WAITS) or not again:
                raise
            patience.pause(wait_after(error, attempt))
    raise AssertionError("unreachable: the last attempt returns or raises")


def head_of(api: Any, repo_id: str, *, repo_type: str = "model", revision: str | None = None) -> str:
    """The commit at the tip of a branch."""

    def read() -> str:
        head = api.repo_info(repo_id, repo_type=repo_type, revision=revision).sha
        if not isinstance(head, str) or not _COMMIT_ID.fullmatch(head):
            raise OddAnswer(f"no commit id in the answer about {repo_id}")
        return head

    return retried(read)


@dataclass(frozen=True)
class _Push:
    """One push under way."""

    api: Any
    where: dict[str, Any]
    content: Content
    head: str
    message: str
    revision: str | None
    create_pr: bool

    def reach_xet(self) -> None:
        """Asks for leave to upload as hf_xet will. Its own request, in Rust, knows no deadline."""
        from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, http_backoff

        kind, repo_id = self.where["repo_type"], self.where["repo_id"]
        place = "None?create_pr=1" if self.create_pr else quote(self.revision or "main", safe="")
        url = f"{self.api.endpoint}/api/{kind}s/{repo_id}/xet-write-token/{place}"
        answer = http_backoff("GET", url, headers=build_hf_headers(token=self.api.token))
        hf_raise_for_status(answer)
        if not isinstance(answer.json()["casUrl"], str):
            raise OddAnswer("no address to upload to")

    def send(self) -> Any:
        from huggingface_hub.utils._runtime import is_xet_available

        if is_xet_available():
            self.reach_xet()
        size = sum(map(_size, self.content.files.values()))
        with warnings.catch_warnings(), patience.xet_deadline(size):
            warnings.filterwarnings("ignore", message=".*data file.*")
            return self.api.create_commit(
                operations=self.content.operations(),
                commit_message=self.message,
                parent_commit=self.head,
                revision=self.revision,
                create_pr=self.create_pr,
                **self.where,
            )

    def check(self, info: Any) -> None:
        """Raises OddAnswer where the Hub names a commit that does not hold the files, or an old one."""
        oid = info.oid
        try:
            if self.create_pr:
                held = bool(info.pr_revision) and self.holds(info.pr_revision)
            else:
                held = isinstance(oid, str) and self.holds(oid)
                held = held and (oid == self.head or bool(self.since_head(oid)))
        except TOLD as error:
            if status_of(error) != 404:
                return  # not to be seen now: the Hub's word stands
            held = False
        if not held:
            raise OddAnswer("the commit that it names does not hold the files")

    def holds(self, revision: str) -> bool:
        return same_files(self.api, self.content, revision=revision, waits=patience.WAITS[:1], **self.where)

    def tips(self) -> list[str]:
        """The branch's head as two parts of the Hub tell it: one of them may lag behind the other."""
        branch = self.revision or "main"

        def refs() -> list[str]:
            found = self.api.list_repo_refs(self.where["repo_id"], repo_type=self.where["repo_type"])
            told = [str(b.target_commit) for b in found.branches if b.name == branch]
            if not told:  # then nobody vouches for what the other part says
                raise OddAnswer(f"no branch {branch} among those of {self.where['repo_id']}")
            return told

        told = [head_of(self.api, revision=self.revision, **self.where), *retried(refs, patience.WAITS[:1])]
        return list(dict.fromkeys(told))

    def is_the_tip(self, head: str) -> bool:
        """Whether `head` is where the branch stands; a stale answer is given some time."""
        for wait in (*patience.WAITS, 0.0):
            if self.create_pr or self.tips() == [head]:
                return True
            patience.pause(wait)
        raise UserError(
            f"the Hub's answers about {self.where['repo_id']} differ on its newest commit, so one is old:"
            " wait some minutes"
        )

    def landed(self, error: BaseException) -> Any | None:
        """The commit that a failed attempt made after all, or None. Raises UserError for somebody else's."""
        try:
            if self.create_pr:
                return self.open_pull()
            moved = [tip for tip in self.tips() if tip != self.head]
            for tip in moved:
                if ours := self.ours(tip):
                    return self.as_commit(ours)
        except TOLD:  # nothing to be seen: the failure itself is told
            if self.create_pr:  # the Hub refuses a commit made twice, and takes a second proposal
                raise error from None
            return None
        if moved and (may_pass(error) or status_of(error) == 412):
            raise UserError(
                f"somebody else pushed to {self.where['repo_id']} meanwhile (head is {moved[0][:12]}):"
                " nothing of yours was committed; look at their change, then commit on top of it"
            )
        return None

    def since_head(self, tip: str) -> list[Any]:
        """The commits on top of `head` up to `tip`, newest first; none where `tip` is older than `head`."""
        commits = retried(
            lambda: list(islice(self.api.list_repo_commits(revision=tip, **self.where), 50)), ()
        )
        ids = [commit.commit_id for commit in commits]
        return commits[: ids.index(self.head)] if self.head in ids else []

    def ours(self, tip: str) -> str | None:
        """Our commit at a tip or under what somebody made on top of it."""
        for commit in self.since_head(tip):
            if (commit.commit_id == tip or commit.title == self.message) and self.holds(commit.commit_id):
                return str(commit.commit_id)
        return None

    def open_pull(self) -> Any | None:
        """An open pull request of this user that holds exactly these files."""
        author = retried(lambda: self.api.whoami()["name"])
        query = {"author": author, "discussion_type": "pull_request", "discussion_status": "open"}
        pulls = retried(lambda: list(islice(self.api.get_repo_discussions(**self.where, **query), 1000)))
        for pull in pulls:
            revision = f"refs/pr/{pull.num}"
            if pull.title == self.message and same_files(
                self.api, self.content, revision=revision, **self.where
            ):
                return self.as_commit(head_of(self.api, revision=revision, **self.where), pull.num)
        return None

    def as_commit(self, oid: str, pull: int | None = None) -> Any:
        from huggingface_hub import CommitInfo

        prefix = "" if self.where["repo_type"] == "model" else f"{self.where['repo_type']}s/"
        base = f"{self.api.endpoint}/{prefix}{self.where['repo_id']}"
        url = f"{base}/discussions/{pull}" if pull else None
        return CommitInfo(
            commit_url=f"{base}/commit/{oid}",
            commit_message=self.message,
            commit_description="",
            oid=oid,
            _endpoint=self.api.endpoint,
            pr_url=url,
        )


# --- comparing --------------------------------------------------------------------------------------------


def same_files(
    api: Any,
    content: Content,
    *,
    repo_id: str,
    repo_type: str,
    revision: str,
    waits: Sequence[float] | None = None,
) -> bool:
    """Whether every file of `content` stands at `revision` as it is here, and every deleted one is gone.

    Sizes are compared first, so that a large file is hashed only where it could be the same.
    """
    remote = remote_files(api, repo_id, repo_type, revision, waits)
    if not set(content.files) <= set(remote) or set(content.deleted) & set(remote):
        return False
    pairs = [(path, remote[path]) for path in content.files]
    if any(_size(content.files[path]) != known.size for path, known in pairs):
        return False
    return all(content.digest(path, large=known.lfs is not None) == _oid(known) for path, known in pairs)


def remote_files(
    api: Any, repo_id: str, repo_type: str, revision: str, waits: Sequence[float] | None = None
) -> dict[str, Any]:
    """Path -> RepoFile of everything at a revision."""

    def read() -> dict[str, Any]:
        listing = api.list_repo_tree(repo_id, repo_type=repo_type, revision=revision, recursive=True)
        items = list(islice(listing, MAX_FILES + 1))
        found = {item.path: item for item in items if hasattr(item, "size")}
        if len(items) > MAX_FILES or not all(isinstance(_oid(item), str) for item in found.values()):
            raise OddAnswer(f"the list of {repo_id}'s files is not one")
        return found

    return retried(read, waits)


def _oid(known: Any) -> str:
    return known.lfs.sha256 if known.lfs is not None else known.blob_id


def _size(data: Path | bytes) -> int:
    return len(data) if isinstance(data, bytes) else data.stat().st_size


def file_oid(data: Path | bytes, *, large: bool = False) -> str:
    """The SHA-256 of a large file, git's blob id of a regular one."""
    digest = hashlib.sha256() if large else hashlib.sha1(b"blob %d\0" % _size(data))
    if isinstance(data, bytes):
        digest.update(data)
        return digest.hexdigest()
    with data.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
