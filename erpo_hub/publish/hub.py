"""Publishing a bundle: one commit in one repository of the Hub.

`push_bundle` checks the folder, keeps what people wrote into the repository's card, and sends everything as a
single commit (see commit.py). Left out: building the bundle (bundle.py). Imports no torch.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..card.card import with_address
from ..card.merge import is_ours, merge_cards, split_front_matter
from ..card.metadata import with_source
from ..errors import UsageError, UserError
from ..methods.catalog import title_of
from ..record.format import FILE, MAX_BYTES, read_record
from ..version import __version__
from . import commit
from .base import rebased, refuse_unknown_base
from .check import MAX_CARD, check_bundle, published_files
from .collection import Item, add_to_collection, note_of
from .failures import no_commit_on_failure
from .patience import TOLD, OddAnswer, retried
from .secrets import refuse_secrets

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo, HfApi

_REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
# Where a bundle's files lie; what an earlier one made there goes, see `_content`.
_OURS = re.compile(r"(figures|traces|\.eval_results)/.+|[^/]+\.safetensors|[^/]+\.safetensors\.index\.json")


@dataclass(frozen=True)
class Publishing:
    """How a bundle is published, beside where and by whom.

    revision: a branch, made from main where it is missing. message: of the commit.
    force: replace a card that people have edited inside its generated blocks, or did not get from erpo-hub.
    base_model: the Hub id of an adapter's base that the run had from a folder or from this package; it is put
        into adapter_config.json, the record and the card.
    include: names of files in the folder that erpo-hub did not make and that are to be published too.
    space: a Space that shows this model; the card's worked example links to it.
    evidence: a dataset of traces on the Hub; `.eval_results` name it as their source, else the traces in the
        model's own repository.
    collection: title of a collection of the repository's owner that gets the model, `evidence` and `space`;
        made where it is missing.
    """

    revision: str | None = None
    message: str | None = None
    force: bool = False
    base_model: str | None = None
    include: Collection[str] = ()
    space: str | None = None
    evidence: str | None = None
    collection: str | None = None

    def flags(self) -> list[str]:
        """The same as options of `erpo-hub push`."""
        given = {"--revision": self.revision, "--message": self.message, "--space": self.space}
        given |= {"--base-model": self.base_model, "--evidence": self.evidence}
        given |= {"--collection": self.collection}
        flags = [part for option, value in given.items() if value for part in (option, value)]
        flags += [part for name in self.include for part in ("--include", name)]
        return [*flags, *(["--force"] if self.force else [])]


def push_bundle(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    create_pr: bool = False,
    publishing: Publishing | None = None,
    endpoint: str | None = None,
    report: Callable[[str], None] | None = None,
) -> CommitInfo:
    """Publishes a bundle as exactly one commit; as none when the repository holds it already.

    The commit deletes what the run.json on the Hub lists and this bundle lacks; other files stay.

    Args:
        folder: what `build_bundle` wrote. Left as it is, whatever happens.
        private: of a repository that is made; an existing one keeps its setting.
        create_pr: propose the commit as a pull request, for a repository you can't write to.
        endpoint: the Hub's address; default HF_ENDPOINT, else https://huggingface.co.
        report: is told in one line what happened; default: stderr.

    Returns the commit (`.pr_url` for a pull request). Raises UserError in one line: what, where, what to do.
    """
    folder, report, how = Path(folder), report or to_stderr, publishing or Publishing()
    check_repo_id(repo_id)
    for other in filter(None, (how.space, how.base_model, how.evidence)):
        check_repo_id(other)
    refuse_secrets({"--message": how.message, "--collection": how.collection}, token, "leave it out")
    if create_pr and how.revision not in (None, "main"):
        raise UsageError("create_pr proposes a change to main: leave revision out")
    if problems := check_bundle(folder, token=token, include=how.include):
        more = f" (and {len(problems) - 1} more: `erpo-hub push --check-only`)" if len(problems) > 1 else ""
        raise UserError(f"{folder} can't be published: {problems[0]}{more}")
    files: dict[str, Path | bytes] = {**published_files(folder, how.include)}
    files |= rebased(folder, how.base_model, force=how.force)
    options = how.flags() + (["--private" if private else "--public"] if private is not None else [])
    options += ["--create-pr"] if create_pr else []
    again = shlex.join(["erpo-hub", "push", str(folder), repo_id, *options])
    with no_commit_on_failure(repo_id, kept=f"the bundle is kept in {folder}", again=again):
        api = hub_api(token, endpoint)
        if how.base_model:
            refuse_unknown_base(api, how.base_model)
        prepare_repo(api, repo_id, private=private, revision=how.revision, create_pr=create_pr)
        repo_id = full_name(api, repo_id)
        shown = f"datasets/{how.evidence}" if how.evidence else repo_id
        files |= with_source(files, f"{api.endpoint}/{shown}")
        head = commit.head_of(api, repo_id, revision=how.revision)
        content, left = _content(api, files, repo_id, head, how)
        outcome = commit.commit_once(
            api,
            repo_id,
            content,
            head=head,
            message=how.message or _message(folder),
            revision=how.revision,
            create_pr=create_pr,
        )
    report(what_happened(outcome, repo_id))
    if left and outcome.made:
        report(_what_was_left(left, repo_id))
    if how.collection:
        parts = [Item(repo_id, "model", note_of(read_record(folder)))]
        others: list[tuple[str | None, str]] = [(how.evidence, "dataset"), (how.space, "space")]
        parts += [Item(name, kind) for name, kind in others if name]
        owner = repo_id.partition("/")[0]
        report(f"in the collection {add_to_collection(api, how.collection, parts, owner, private=private)}")
    return outcome.info


def full_name(api: HfApi, repo_id: str) -> str:
    """The repository's name with its owner, who is the token's where none is given."""
    if "/" in repo_id:
        return repo_id
    return f"{retried(lambda: str(api.whoami()['name']))}/{repo_id}"


def hub_api(token: str | None, endpoint: str | None) -> HfApi:
    """A client that names us, with the token it was given or the saved one. Raises UserError without any."""
    from huggingface_hub import HfApi, get_token, is_offline_mode

    if is_offline_mode():
        raise UserError("offline mode is on: unset HF_HUB_OFFLINE to reach the Hub; nothing was sent")
    token = token or get_token()
    if token is None:
        raise UserError("no Hub token: run `hf auth login`, or set HF_TOKEN; nothing was sent")
    return HfApi(endpoint=endpoint, token=token, library_name="erpo-hub", library_version=__version__)


def check_repo_id(repo_id: str) -> None:
    """Raises UsageError for anything that can't be the name of a repository."""
    if not _REPO_ID.fullmatch(repo_id) or "--" in repo_id or ".." in repo_id or len(repo_id) > 96:
        raise UsageError(
            f"{repo_id!r} is not a repository name: write it as user/name, of letters, digits, - _ and ."
        )


def prepare_repo(
    api: HfApi,
    repo_id: str,
    *,
    repo_type: str = "model",
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    **space: Any,
) -> None:
    """Makes the repository and the branch where they are missing. Harmless when repeated."""
    from huggingface_hub.errors import RevisionNotFoundError

    def exists() -> bool:
        return retried(lambda: api.repo_exists(repo_id, repo_type=repo_type))

    # `create_repo(exist_ok=True)` alone hides a refusal where the repository exists already
    if not create_pr and not exists():
        try:
            retried(
                lambda: api.create_repo(repo_id, repo_type=repo_type, private=private, exist_ok=True, **space)
            )
        except TOLD:
            if not exists():  # made after all, or by somebody else at the same moment
                raise
    if revision is None:
        return
    try:
        retried(lambda: api.repo_info(repo_id, repo_type=repo_type, revision=revision))
    except RevisionNotFoundError:
        retried(lambda: api.create_branch(repo_id, repo_type=repo_type, branch=revision, exist_ok=True))


def what_happened(outcome: commit.Outcome, repo_id: str) -> str:
    info = outcome.info
    if info.pr_url:
        how = "proposed in" if outcome.made else "unchanged: already proposed in"
        return f"{how} {info.pr_url}"
    if not outcome.made:
        return f"unchanged: {repo_id} holds exactly these files at {info.oid[:12]}; no commit made"
    lost = " (the answer was lost on the way, the commit was not)" if outcome.recovered else ""
    return f"published in one commit: {info.commit_url}{lost}"


def to_stderr(line: str) -> None:
    print(line, file=sys.stderr)


def _message(folder: Path) -> str:
    run = read_record(folder)
    method = title_of(run.algorithm)
    steps = "" if run.cost.steps is None else f", {run.cost.steps} steps"
    return f"Publish {run.name}: {method}{steps} (erpo-hub {__version__})"


def _content(
    api: HfApi,
    files: dict[str, Path | bytes],
    repo_id: str,
    head: str,
    how: Publishing,
) -> tuple[commit.Content, list[str]]:
    """The bundle's files, its card merged with the Hub's, and what an earlier bundle left there to delete.

    Also what looks like an earlier bundle's, and stays.
    """
    remote = commit.remote_files(api, repo_id, "model", head)
    text, record = (_bytes(files[name]).decode("utf-8") for name in ("README.md", FILE))
    card = with_address(text, json.loads(record), repo_id, how.space)
    files = files | {"README.md": keep_edits(api, repo_id, card, head, how.force).encode()}
    old = sorted(path for path in remote if _OURS.fullmatch(path) and path not in files)
    made = _made_there(api, repo_id, remote[FILE], head) if old and FILE in remote else {}
    stale = [path for path in old if _is_as_made(remote[path], made.get(path))]
    left = [path for path in old if path not in stale] if FILE in remote else []
    return commit.Content(files, tuple(stale)), left


def _made_there(api: HfApi, repo_id: str, there: Any, head: str) -> dict[str, str]:
    """Name -> sha256 of what the bundle at `head` made; nothing where its run.json does not say.

    there: run.json in the listing. Anybody may have written it.
    """
    if there.size > MAX_BYTES:
        return {}
    record = retried(lambda: _fetched(api, repo_id, there, head))
    try:
        return read_record(record).files
    except UserError:  # odd, or of another version
        return {}


def _is_as_made(there: Any, digest: str | None) -> bool:
    """Whether a file is still the bundle's. The Hub tells the digests of large and binary ones alone."""
    return digest is not None and (there.lfs is None or bool(there.lfs.sha256 == digest))


def _what_was_left(left: list[str], repo_id: str) -> str:
    named = ", ".join(f"{path!r:.100}" for path in left[:3])
    more = f" and {len(left) - 3} more" if len(left) > 3 else ""
    return f"left in {repo_id}, as its run.json did not list them: {named}{more}; delete what is old"


def _bytes(content: Path | bytes) -> bytes:
    return content if isinstance(content, bytes) else content.read_bytes()


def keep_edits(api: HfApi, repo_id: str, ours: str, head: str, force: bool, repo_type: str = "model") -> str:
    """The card to publish: ours, with what people wrote into the one on the Hub.

    A card that a trainer generated does not count as an edited one. Raises UserError for edits inside blocks,
    unless `force`.
    """
    there = commit.remote_files(api, repo_id, repo_type, head).get("README.md")
    if there is None:
        return ours

    if there.size > MAX_CARD:
        raise UserError(f"README.md in {repo_id} is larger than {MAX_CARD >> 20} MiB: make it smaller")
    try:
        card = retried(lambda: _fetched(api, repo_id, there, head, repo_type))
        text = card.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        if force:
            return ours
        raise UserError(
            f"README.md in {repo_id} is not UTF-8 text: mend it, or replace it (--force)"
        ) from error
    if not is_ours(text) and "generated_from_trainer" in split_front_matter(text)[0]:
        return ours
    return merge_cards(text, ours, force=force)


def _fetched(api: HfApi, repo_id: str, there: Any, head: str, repo_type: str = "model") -> Path:
    """One file of a listing, in the client's cache. Raises OddAnswer for what is not that file."""
    local = Path(os.fspath(api.hf_hub_download(repo_id, there.path, repo_type=repo_type, revision=head)))
    known, large = (there.blob_id, False) if there.lfs is None else (there.lfs.sha256, True)
    if commit.file_oid(local, large=large) != known:
        local.unlink()  # out of the cache
        raise OddAnswer(f"{there.path} is not the file that the listing names")
    return local
