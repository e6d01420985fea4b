"""Publishing a bundle: one commit in one repository of the Hub.

`push_bundle` checks the folder, keeps what people wrote into the repository's card, and sends everything as a
single commit (see commit.py). Left out: building the bundle (bundle.py). Imports no torch.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..card.card import load_run, with_address
from ..card.merge import is_ours, merge_cards, split_front_matter
from ..errors import UsageError, UserError
from ..version import __version__
from . import commit
from .check import check_bundle, published_files
from .failures import no_commit_on_failure

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo, HfApi

_REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_OURS = re.compile(r"(figures|traces|\.eval_results)/.+|[^/]+\.safetensors|[^/]+\.safetensors\.index\.json")


def push_bundle(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    create_pr: bool = False,
    revision: str | None = None,
    message: str | None = None,
    force: bool = False,
    space: str | None = None,
    endpoint: str | None = None,
    report: Callable[[str], None] | None = None,
) -> CommitInfo:
    """Publishes a bundle as exactly one commit; as none when the repository holds it already.

    Args:
        folder: what `build_bundle` wrote. Left as it is, whatever happens.
        private: of a repository that is made; an existing one keeps its setting.
        create_pr: propose the commit as a pull request, for a repository you can't write to.
        revision: a branch, made from main where it is missing.
        force: replace a card that people have edited inside its generated blocks, or did not get from
        erpo-hub.
        space: a Space that shows this model; the card's worked example links to it.
        endpoint: the Hub's address; default HF_ENDPOINT, else https://huggingface.co.
        report: is told in one line what happened; default: stderr.

    Returns the commit (`.pr_url` for a pull request). Raises UserError in one line: what, where, what to do.
    """
    folder, report = Path(folder), report or to_stderr
    check_repo_id(repo_id)
    if space:
        check_repo_id(space)
    if create_pr and revision not in (None, "main"):
        raise UsageError("create_pr proposes a change to main: leave revision out")
    if problems := check_bundle(folder, token=token):
        more = f" (and {len(problems) - 1} more: `erpo-hub push --check-only`)" if len(problems) > 1 else ""
        raise UserError(f"{folder} can't be published: {problems[0]}{more}")
    api = hub_api(token, endpoint)
    again = f"erpo-hub push {folder} {repo_id}"
    with no_commit_on_failure(repo_id, kept=f"the bundle is kept in {folder}", again=again):
        prepare_repo(api, repo_id, private=private, revision=revision, create_pr=create_pr)
        head = commit.head_of(api, repo_id, revision=revision)
        outcome = commit.commit_once(
            api,
            repo_id,
            _content(api, folder, repo_id, head, force, space),
            head=head,
            message=message or _message(folder),
            revision=revision,
            create_pr=create_pr,
        )
    report(what_happened(outcome, repo_id))
    return outcome.info


def hub_api(token: str | None, endpoint: str | None) -> HfApi:
    """A client that names us, with the token it was given or the saved one. Raises UserError without any."""
    from huggingface_hub import HfApi, get_token, is_offline_mode

    if is_offline_mode():
        raise UserError(
            "offline mode is on: unset HF_HUB_OFFLINE to reach the Hub; nothing was sent, nothing is lost"
        )
    token = token or get_token()
    if token is None:
        raise UserError(
            "no Hub token: run `hf auth login`, or set HF_TOKEN; nothing was sent, nothing is lost"
        )
    return HfApi(endpoint=endpoint, token=token, library_name="erpo-hub", library_version=__version__)


def check_repo_id(repo_id: str) -> None:
    """Raises UsageError for anything that can't be the name of a repository."""
    if not _REPO_ID.fullmatch(repo_id) or "--" in repo_id or ".." in repo_id or len(repo_id) > 96:
        raise UsageError(
            f"{repo_id!r} is no repository name: write it as user/name, of letters, digits, - _ and ."
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

    # `create_repo(exist_ok=True)` alone hides a refusal where the repository exists already
    if not create_pr and not commit.retried(lambda: api.repo_exists(repo_id, repo_type=repo_type)):
        commit.retried(
            lambda: api.create_repo(repo_id, repo_type=repo_type, private=private, exist_ok=True, **space)
        )
    if revision is None:
        return
    try:
        commit.retried(lambda: api.repo_info(repo_id, repo_type=repo_type, revision=revision))
    except RevisionNotFoundError:
        commit.retried(
            lambda: api.create_branch(repo_id, repo_type=repo_type, branch=revision, exist_ok=True)
        )


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
    run = load_run(folder)
    steps = run["cost"]["steps"]
    return f"Publish {run['name']}: {run['algorithm'].upper()}, {steps} steps (erpo-hub {__version__})"


def _content(
    api: HfApi, folder: Path, repo_id: str, head: str, force: bool, space: str | None
) -> commit.Content:
    """The bundle's files, its card merged with the Hub's, and what an earlier bundle left there to delete."""
    files: dict[str, Path | bytes] = {**published_files(folder, include)}
    remote = commit.remote_files(api, repo_id, "model", head)
    card = with_address((folder / "README.md").read_text(encoding="utf-8"), load_run(folder), repo_id, space)
    files["README.md"] = keep_edits(api, repo_id, card, head, force).encode()
    stale = [path for path in remote if _OURS.fullmatch(path) and path not in files]
    return commit.Content(files, tuple(sorted(stale)) if "run.json" in remote else ())


def keep_edits(api: HfApi, repo_id: str, ours: str, head: str, force: bool, repo_type: str = "model") -> str:
    """The card to publish: ours, with what people wrote into the one on the Hub.

    A card that a trainer generated is no edit. Raises UserError for edits inside blocks, unless `force`.
    """
    if "README.md" not in commit.remote_files(api, repo_id, repo_type, head):
        return ours
    local = commit.retried(
        lambda: api.hf_hub_download(repo_id, "README.md", repo_type=repo_type, revision=head)
    )
    there = Path(os.fspath(local)).read_text(encoding="utf-8")
    if not is_ours(there) and "generated_from_trainer" in split_front_matter(there)[0]:
        return ours
    return merge_cards(there, ours, force=force)
