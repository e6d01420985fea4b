"""What the Hub's refusals mean to a user: one line that says what, where, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..client_http import httpx
from ..errors import UserError
from .patience import FAILURES, OddAnswer, TooSlow, status_of


@contextmanager
def no_commit_on_failure(
    repo_id: str, *, kept: str, again: str, hardware: str | None = None
) -> Iterator[None]:
    """Turns the client's errors into UserError: the reason, what is kept, what to run again.

    hardware: of a Space, which the Hub may refuse apart from the repository.
    """
    try:
        yield
    except UserError as error:
        if type(error) is not UserError:
            raise
        raise UserError(f"{error}; {kept}; run again: {again}") from error.__cause__
    except FAILURES as error:
        reason = explain(error, repo_id)
        if hardware and status_of(error) in (402, 403):
            reason = _explain_hardware(status_of(error), repo_id, hardware)
        raise UserError(f"{reason}; {kept}; try again with: {again}") from error


def explain(error: BaseException, repo_id: str) -> str:
    """One clause about an error of the Hub or the network."""
    from huggingface_hub.errors import (
        HFValidationError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    said = " ".join(str(error).split())[:200]
    if isinstance(error, OfflineModeIsEnabled):
        return "offline mode is on: unset HF_HUB_OFFLINE to reach the Hub"
    if isinstance(error, RevisionNotFoundError):
        return f"{repo_id} has no such revision"
    if isinstance(error, RepositoryNotFoundError):
        return f"{repo_id} does not exist, or your token may not see it"
    if isinstance(error, TooSlow):
        return "the Hub did not finish an answer in time: the connection or the Hub is too slow"
    if isinstance(error, httpx.TooManyRedirects):
        return "the Hub's address leads in a circle: is a proxy or a login page in between?"
    if isinstance(error, HFValidationError):
        return f"the Hub's client refuses the request ({said})"
    if isinstance(error, OddAnswer | httpx.DecodingError | httpx.InvalidURL):
        return f"what answered is not the Hub: is a proxy or a login page in between? ({said})"
    if (status := status_of(error)) is not None:
        return _explain_status(status, error, repo_id)
    if isinstance(error, httpx.TransportError):
        return f"the connection to the Hub failed ({type(error).__name__}: {said})"
    if isinstance(error, OSError) and error.filename:
        return f"can't read {error.filename} ({error.strerror})"
    return f"the transfer to or from the Hub failed ({type(error).__name__}: {said})"


def _explain_hardware(status: int | None, repo_id: str, hardware: str) -> str:
    if status == 402:
        free = " (a free account has up to two ZeroGPU Spaces)" if hardware.startswith("zero") else ""
        return (
            f"the Hub asks for credit or a paid plan to run {repo_id} on {hardware}{free}:"
            " get it, or choose other hardware"
        )
    return f"your token may not run {repo_id} on {hardware}: use your own name and a token that may write"


def _explain_status(status: int, error: BaseException, repo_id: str) -> str:
    said = " ".join((getattr(error, "server_message", None) or "").split())[:200]
    told = f" ({said})" if said else ""
    known = {
        401: "your token is not valid or has expired: make a new one and run `hf auth login`",
        402: f"the Hub asks for a paid plan for {repo_id}{told}",
        403: f"your token may not write to {repo_id}: choose another name, or propose it with --create-pr",
        409: f"{repo_id} is in conflict with something on the Hub{told}",
        412: f"somebody else pushed to {repo_id} meanwhile",
        413: f"a file is too large for {repo_id}{told}",
        429: "the Hub limits your requests: wait some minutes",
    }
    if status in known:
        return known[status]
    side = "has a problem" if status >= 500 else "refused the request"
    return f"the Hub {side} (HTTP {status}){told}"
