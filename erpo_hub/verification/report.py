"""A verification told to the model's repository: a discussion, or a pull request with the file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

from ..errors import UserError
from ..publish import commit, patience
from ..publish.failures import explain
from ..publish.hub import check_repo_id, hub_api
from ..publish.patience import FAILURES, TOLD, call_hub, pause, retried
from ..publish.places import without_places
from ..publish.secrets import Secrets
from .claims import FILE, Verification


def report(
    found: Verification,
    repo_id: str,
    *,
    pull_request: bool = False,
    token: str | None = None,
    endpoint: str | None = None,
) -> str:
    """The address of a discussion with the result, or of a pull request with the file.

    An open discussion of this user that tells the same of the same revision is not opened again. Nothing is
    told of where files lie on this machine. Raises UserError in one line, which says whether it was posted.
    """
    check_repo_id(repo_id)
    api, redact = hub_api(token, endpoint), Secrets(token).redact
    found = _public(found, redact)
    try:
        if pull_request:
            return _pull_request(api, repo_id, found, redact)
        return _discussion(api, repo_id, found, redact)
    except FAILURES as error:
        raise UserError(f"nothing was posted: {explain(error, repo_id)}") from error


def _public(found: Verification, redact: Callable[[str], str]) -> Verification:
    """The same without secrets and paths of this machine; done before Markdown's escapes hide them."""

    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: clean(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [clean(inner) for inner in value]
        return without_places(redact(value)) if isinstance(value, str) else value

    claims = [replace(c, name=clean(c.name), detail=clean(c.detail)) for c in found.claims]
    changes = {name: clean(getattr(found, name)) for name in ("model", "asked", "versions", "hardware")}
    return replace(found, claims=claims, **changes)


def _discussion(api: Any, repo_id: str, found: Verification, redact: Callable[[str], str]) -> str:
    title = redact(f"erpo-hub verify: {found.verdict}"[:120]).strip()
    author = retried(lambda: str(api.whoami()["name"]))
    if there := _opened(api, repo_id, title, author, found):
        return there
    try:
        posted = call_hub(lambda: api.create_discussion(repo_id, title, description=redact(found.markdown())))
        return str(posted.url)
    except TOLD as error:  # the answer may be lost, or the client's own look at what it had opened
        for wait in (0.0, *patience.WAITS[:2]):
            pause(wait)
            try:
                there = _opened(api, repo_id, title, author, found)
            except TOLD:
                raise UserError(
                    f"{explain(error, repo_id)}; the discussion may have been opened: look at"
                    f" {api.endpoint}/{repo_id}/discussions before you try again"
                ) from error
            if there:
                return there
        raise


def _opened(api: Any, repo_id: str, title: str, author: str, found: Verification) -> str | None:
    """The address of this user's open discussion of that title about the same revision."""
    query = {"author": author, "discussion_type": "discussion", "discussion_status": "open"}
    talks = retried(lambda: list(islice(api.get_repo_discussions(repo_id, **query), 1000)))
    for talk in talks:
        if talk.title == title and not talk.is_pull_request:
            events = retried(partial(api.get_discussion_details, repo_id, talk.num)).events
            first = next((str(event.content) for event in events if event.type == "comment"), "")
            if found.revision is None or found.revision[:12] in first:
                return str(talk.url)
    return None


def _pull_request(api: Any, repo_id: str, found: Verification, redact: Callable[[str], str]) -> str:
    text = redact(json.dumps(found.to_dict(), ensure_ascii=False, indent=1, allow_nan=False))
    outcome = commit.commit_once(
        api,
        repo_id,
        commit.Content({FILE: f"{text}\n".encode()}),
        head=commit.head_of(api, repo_id),
        message=redact(f"Add {FILE}: {found.verdict}"[:120]),
        create_pr=True,
    )
    return str(outcome.info.pr_url)
