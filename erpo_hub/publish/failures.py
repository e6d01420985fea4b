"""What the Hub's refusals mean to a user: one line that says what, where, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import UserError
from .commit import retryable_errors, status_of


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
        raise type(error)(f"{error}; {kept}") if type(error) is UserError else error from error.__cause__
    except retryable_errors() + (ValueError,) as error:
        reason = explain(error, repo_id)
        if hardware and status_of(error) in (402, 403):
            reason = _explain_hardware(status_of(error), repo_id, hardware)
        if reason is None:
            raise
        raise UserError(f"{reason}; {kept}; try again with: {again}") from error


def explain(error: BaseException, repo_id: str) -> str | None:
    """One clause about an error of the Hub or the network; None for any other error."""
    import httpx2
    from huggingface_hub.errors import OfflineModeIsEnabled, RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(error, RuntimeError) and error.__cause__ is not None:
        return explain(error.__cause__, repo_id)
    if isinstance(error, OfflineModeIsEnabled):
        return "offline mode is on: unset HF_HUB_OFFLINE to reach the Hub"
    if isinstance(error, RevisionNotFoundError):
        return f"{repo_id} has no such revision"
    if isinstance(error, RepositoryNotFoundError):
        return f"{repo_id} does not exist, or your token may not see it"
    if isinstance(error, httpx2.TransportError):
        return f"the connection to the Hub failed ({type(error).__name__}: {error})"
    if isinstance(error, OSError) and error.filename:
        return f"can't read {error.filename} ({error.strerror})"
    if isinstance(error, ValueError) and "metadata" in str(error).lower():
        return f"the Hub refuses the card's metadata: {' '.join(str(error).split())}"
    status = status_of(error)
    if status is None and isinstance(error, ConnectionError | TimeoutError):
        return f"the upload to the Hub failed ({' '.join(str(error).split())})"
    return None if status is None else _explain_status(status, error, repo_id)


def _explain_hardware(status: int | None, repo_id: str, hardware: str) -> str:
    if status == 402:
        free = " (a free account has up to two ZeroGPU Spaces)" if hardware.startswith("zero") else ""
        return (
            f"the Hub asks for credit or a paid plan to run {repo_id} on {hardware}{free}:"
            " get it, or choose other hardware"
        )
    return f"your token may not run {repo_id} on {hardware}: use your own name and a token that may write"


def _explain_status(status: int, error: BaseException, repo_id: str) -> str:
    said = getattr(error, "server_message", None) or ""
    told = f" ({' '.join(said.split())})" if said else ""
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
