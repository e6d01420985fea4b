"""A verification told to the model's repository: a discussion, or a pull request with the file."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from ..errors import UserError
from ..publish import commit
from ..publish.failures import explain
from ..publish.hub import check_repo_id, hub_api
from ..publish.patience import FAILURES, call_hub
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
    """The address of a new discussion with the result, or of a pull request with the file.

    Raises UserError in one line; then nothing was posted.
    """
    check_repo_id(repo_id)
    api, redact = hub_api(token, endpoint), Secrets(token).redact
    try:
        if pull_request:
            return _pull_request(api, repo_id, found, redact)
        title = f"erpo-hub verify: {found.verdict}"[:120]
        posted = call_hub(
            lambda: api.create_discussion(repo_id, redact(title), description=redact(found.markdown()))
        )
        return str(posted.url)
    except FAILURES as error:
        raise UserError(f"nothing was posted: {explain(error, repo_id)}") from error


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
