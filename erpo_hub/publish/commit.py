"""One commit, whatever the network does: the retry that huggingface_hub does not have around `create_commit`.

Uploads are retried by the client itself; its commit request is not, because a lost answer may hide a commit
that landed. Here every attempt starts from the head it expects (`parent_commit`) with fresh operations, and
after each failure the files at the head tell "it had landed" from "it had not" and from "somebody else
pushed". Works for models, datasets and Spaces. Left out: which files to send (hub.py, space.py,
traces_dataset.py).
"""

from __future__ import annotations

import hashlib
import re
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError

WAITS = (1.0, 2.0, 4.0, 8.0, 8.0)  # seconds before each retry
LONGEST_WAIT = 300.0  # of a Retry-After that is honoured
SILENCE = 120.0  # seconds without a byte after which a request counts as lost
RETRIED = {408, 429, 500, 502, 503, 504}
_XET_STATUS = re.compile(r"HTTP status \w+ error \((\d{3})")
_CLIENT_RETRIES = re.compile(r"/(preupload|tree|xet-write-token|resolve)/|/info/lfs/")


@dataclass(frozen=True)
class Content:
    """Files by their path in the repository, as a local path or as bytes, and paths to delete."""

    files: Mapping[str, Path | bytes]
    deleted: tuple[str, ...] = ()

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
    meanwhile, and the client's own errors when retries are used up.
    """
    where: dict[str, Any] = {"repo_id": repo_id, "repo_type": repo_type}
    if same_files(api, content, revision=head, **where):
        return Outcome(_as_commit(api, head, message, **where), made=False)
    if create_pr and (found := _open_pull(api, content, message, **where)):
        return Outcome(found, made=False)
    for attempt in range(len(WAITS) + 1):
        try:
            with patience(), warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*data file.*")
                info = api.create_commit(
                    operations=content.operations(),
                    commit_message=message,
                    parent_commit=head,
                    revision=revision,
                    create_pr=create_pr,
                    **where,
                )
            return Outcome(info, made=info.oid != head)
        except retryable_errors() as error:
            if not (may_pass(error) or status_of(error) == 412) or client_gave_up(error):
                raise
            if landed := _landed(api, content, head, message, revision, create_pr, where):
                return Outcome(landed, made=True, recovered=True)
            if attempt == len(WAITS):
                raise
            time.sleep(wait_after(error, attempt))
    raise AssertionError("unreachable: the last attempt returns or raises")


def head_of(api: Any, repo_id: str, *, repo_type: str = "model", revision: str | None = None) -> str:
    """The commit at the tip of a branch."""
    return retried(lambda: api.repo_info(repo_id, repo_type=repo_type, revision=revision).sha)


def _landed(
    api: Any,
    content: Content,
    head: str,
    message: str,
    revision: str | None,
    create_pr: bool,
    where: dict[str, Any],
) -> Any | None:
    """The commit that a failed attempt made after all, or None. Raises UserError for somebody else's."""
    if create_pr:
        return _open_pull(api, content, message, **where)
    now = head_of(api, revision=revision, **where)
    if now == head:
        return None
    if same_files(api, content, revision=now, **where):
        return _as_commit(api, now, message, **where)
    raise UserError(
        f"somebody else pushed to {where['repo_id']} meanwhile (head is {now[:12]}): nothing of yours was"
        " committed; look at their change and run the same command again to commit on top of it"
    )


def _open_pull(api: Any, content: Content, message: str, *, repo_id: str, repo_type: str) -> Any | None:
    """An open pull request of this user that holds exactly these files."""
    author = retried(lambda: api.whoami()["name"])
    query = {"author": author, "discussion_type": "pull_request", "discussion_status": "open"}
    pulls = retried(lambda: list(api.get_repo_discussions(repo_id, repo_type=repo_type, **query)))
    for pull in pulls:
        if pull.title != message:
            continue
        revision = f"refs/pr/{pull.num}"
        if same_files(api, content, revision=revision, repo_id=repo_id, repo_type=repo_type):
            head = head_of(api, repo_id=repo_id, repo_type=repo_type, revision=revision)
            return _as_commit(api, head, message, repo_id=repo_id, repo_type=repo_type, pull=pull.num)
    return None


def _as_commit(
    api: Any, oid: str, message: str, *, repo_id: str, repo_type: str, pull: int | None = None
) -> Any:
    from huggingface_hub import CommitInfo

    prefix = "" if repo_type == "model" else f"{repo_type}s/"
    base = f"{api.endpoint}/{prefix}{repo_id}"
    url = f"{base}/discussions/{pull}" if pull else None
    return CommitInfo(f"{base}/commit/{oid}", message, "", oid, _endpoint=api.endpoint, pr_url=url)


# --- comparing --------------------------------------------------------------------------------------------


def same_files(api: Any, content: Content, *, repo_id: str, repo_type: str, revision: str) -> bool:
    """Whether every file of `content` stands at `revision` as it is here, and every deleted one is gone.

    Sizes are compared first, so that a large file is hashed only where it could be the same.
    """
    remote = remote_files(api, repo_id, repo_type, revision)
    if not set(content.files) <= set(remote) or set(content.deleted) & set(remote):
        return False
    pairs = [(data, remote[path]) for path, data in content.files.items()]
    if any(_size(data) != known.size for data, known in pairs):
        return False
    return all(_digest(data, large=known.lfs is not None) == _oid(known) for data, known in pairs)


def remote_files(api: Any, repo_id: str, repo_type: str, revision: str) -> dict[str, Any]:
    """Path -> RepoFile of everything at a revision."""
    listing = retried(
        lambda: list(api.list_repo_tree(repo_id, repo_type=repo_type, revision=revision, recursive=True))
    )
    return {item.path: item for item in listing if hasattr(item, "size")}


def _oid(known: Any) -> str:
    return known.lfs.sha256 if known.lfs is not None else known.blob_id


def _size(data: Path | bytes) -> int:
    return len(data) if isinstance(data, bytes) else data.stat().st_size


def _digest(data: Path | bytes, *, large: bool) -> str:
    """The SHA-256 of a large file, git's blob id of a regular one."""
    digest = hashlib.sha256() if large else hashlib.sha1(b"blob %d\0" % _size(data))
    if isinstance(data, bytes):
        digest.update(data)
        return digest.hexdigest()
    with data.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


# --- patience ---------------------------------------------------------------------------------------------


def retryable_errors() -> tuple[type[Exception], ...]:
    """What a request that may be repeated raises: an HTTP status, or a connection that broke or went silent.

    The client wraps a failed LFS upload in RuntimeError; its cause is judged.
    """
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

    return (HfHubHTTPError, httpx2.TransportError, RuntimeError, OSError)


def may_pass(error: BaseException) -> bool:
    """Whether the same request could succeed later."""
    import httpx2

    if isinstance(error, RuntimeError) and error.__cause__ is not None:
        return may_pass(error.__cause__)
    status = status_of(error)
    return status in RETRIED if status is not None else isinstance(error, httpx2.TransportError)


def client_gave_up(error: BaseException) -> bool:
    """Whether the client has repeated this request itself, six times in half a minute: uploads, listings."""
    if isinstance(error, RuntimeError | ConnectionError):  # a failed LFS upload, wrapped; a failed Xet upload
        return True
    request = getattr(error, "_request", None) or getattr(getattr(error, "response", None), "request", None)
    return request is not None and _CLIENT_RETRIES.search(request.url.path) is not None


def status_of(error: BaseException) -> int | None:
    """The HTTP status behind an error; hf_xet's errors name it in their text alone."""
    told = _XET_STATUS.search(str(error)) if isinstance(error, ConnectionError) else None
    return int(told[1]) if told else getattr(getattr(error, "response", None), "status_code", None)


def wait_after(error: BaseException, attempt: int) -> float:
    """Seconds before the next attempt: Retry-After where the server gave one, else the usual back-off."""
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    asked = headers.get("retry-after", "")
    return min(float(asked), LONGEST_WAIT) if asked.isdigit() else WAITS[attempt]


def retried(call: Any) -> Any:
    """The result of a request that changes nothing, repeated while its failure may pass."""
    for attempt in range(len(WAITS) + 1):
        try:
            with patience():
                return call()
        except retryable_errors() as error:
            if attempt == len(WAITS) or not may_pass(error) or client_gave_up(error):
                raise
            time.sleep(wait_after(error, attempt))
    raise AssertionError("unreachable: the last attempt returns or raises")


@contextmanager
def patience() -> Iterator[None]:
    """Within it, a request of huggingface_hub fails when it hears nothing for SILENCE seconds."""
    from huggingface_hub.utils import get_session

    client = get_session()
    before, client.timeout = client.timeout, SILENCE
    try:
        yield
    finally:
        client.timeout = before
