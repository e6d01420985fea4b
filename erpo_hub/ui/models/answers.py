"""Computed answers, kept so that a link to one opens it: as files of the app's one disk budget.

The number in the link is all that opens it, so it can't be guessed. The oldest files go first when the budget
is spent; after `HOURS` an answer is not given out any more, and none outlives the process.
"""

from __future__ import annotations

import base64
import hmac
import re
import secrets
import time
from pathlib import Path

from ...errors import UserError
from ...traces.trace import Trace
from ..budget import Budget, folder, make_room

HOURS = 24
MAX_BYTES = 8 << 20  # of one answer
_SECRET = secrets.token_bytes(32)  # of this process: nobody can work out the number of another's answer
_NUMBER = re.compile(r"[A-Za-z0-9_-]{22}")


def keep(trace: Trace, budget: Budget) -> str:
    """The number under which the answer is found again; "" for one that is too long to be kept."""
    text = trace.to_json().encode()
    if len(text) > min(MAX_BYTES, budget.disk // 8):
        return ""
    made = hmac.digest(_SECRET, text, "sha256")[:16]  # the same answer, kept again, takes no second place
    number = base64.urlsafe_b64encode(made).decode().rstrip("=")
    path = _path(number)
    make_room(budget, 0 if path.is_file() else len(text))
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text)
    return number


def find(number: str) -> Trace | None:
    """The answer of this number, if it is still kept. The number is a stranger's text."""
    if not _NUMBER.fullmatch(number):
        return None
    path = _path(number)
    try:
        if time.time() - path.stat().st_mtime > HOURS * 3600:
            path.unlink(missing_ok=True)
            return None
        return Trace.from_json(path)
    except (OSError, UserError):  # gone, or deleted while it was read
        return None


def _path(number: str) -> Path:
    return folder() / "answers" / f"{number}.json"
