"""Patience with the Hub and its limits: what is asked again, how long a request may take, what an answer is.

Uploads and listings are repeated by huggingface_hub itself; here are a deadline for every request (a server
that sends a byte a second never runs into the client's own timeout; a file that arrives steadily may take
as long as it needs), the repetition of what the client does not repeat, and one name for answers that are
not the Hub's (the page of a captive portal, cut-off JSON).
Left out: what to do about a commit whose fate is unknown (commit.py). May import httpx and httpcore.
"""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from huggingface_hub.errors import EntryNotFoundError

from ..client_http import httpcore, httpx
from ..errors import UserError

WAITS = (1.0, 2.0, 4.0, 8.0, 8.0)  # seconds before each retry
LONGEST_WAIT = 300.0  # of a Retry-After that is honoured
DEADLINE = 25.0  # seconds for one request from its first byte to its answer's last, and one more for
SLOWEST = 32 * 1024  # every so many bytes that it sends or gets
LARGEST = 50_000_000_000  # bytes of an answer that earn time: what the client fetches by plain HTTP at most
UNTOLD = 16 << 20  # of an answer without a length: text, which the Hub packs; over 10 MB it would be LFS
REPEATS = 40  # of one request within one call: more is a loop, of pages or of the client
CLIENT_TRIES = 6  # of one request, before the client gives up
CLIENT_RETRIES = {None, 408, 429, 500, 502, 503, 504}  # statuses, and a connection that broke
PASSING = {408, 429}  # and every status from 500 on
CARD_REFUSED = "Invalid metadata in README.md"  # the client's words for the Hub's verdict on a card
_XET_STATUS = re.compile(r"HTTP status \w+ error \((\d{3})")
T = TypeVar("T")


class TooSlow(Exception):
    """A request that did not end within its deadline."""


class OddAnswer(Exception):
    """An answer that is not of the Hub's protocol."""


TOLD = (httpx.HTTPError, OSError, RuntimeError, EntryNotFoundError, TooSlow, OddAnswer)
ODD = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, httpx.InvalidURL)
FAILURES = (*TOLD, *ODD)  # whatever a request of the client raises


def call_hub(call: Callable[[], T]) -> T:
    """The result of one call of the client under the deadlines. Raises one of `TOLD`, or UserError."""
    try:
        with patience():
            return call()
    except TOLD as error:
        found: BaseException = error
        while isinstance(found, RuntimeError) and isinstance(found.__cause__, FAILURES):
            found = found.__cause__  # the client wraps a failed LFS upload
        raise (found if isinstance(found, TOLD) else odd(found)) from error.__cause__
    except ODD as error:
        raise odd(error) from error


def odd(error: BaseException) -> Exception:
    """One of `ODD` under its one name, or a UserError for a card that the Hub refuses."""
    said = " ".join(str(error).split())
    if isinstance(error, ValueError) and said.startswith(CARD_REFUSED):  # other errors may quote a name
        return UserError(f"the Hub refuses the card's metadata: {said[:300]}")
    return OddAnswer(f"{type(error).__name__}: {said[:120]}")


def retried(call: Callable[[], T], waits: Sequence[float] | None = None) -> T:
    """The result of a request that changes nothing, repeated while its failure may pass."""
    pauses = WAITS if waits is None else waits
    for attempt in range(len(pauses) + 1):
        try:
            return call_hub(call)
        except TOLD as error:
            if attempt == len(pauses) or not may_pass(error, attempt) or client_gave_up(error):
                raise
            pause(wait_after(error, attempt))
    raise AssertionError("unreachable: the last attempt returns or raises")


def pause(seconds: float) -> None:
    time.sleep(seconds)


def may_pass(error: BaseException, attempt: int = 0) -> bool:
    """Whether the same request could succeed later; after a slow or odd answer it is tried once more."""
    if isinstance(error, TooSlow | OddAnswer):
        return attempt == 0
    status = status_of(error)
    if status is not None:
        return status in PASSING or status >= 500
    return isinstance(error, httpx.TransportError | httpx.DecodingError)


def client_gave_up(error: BaseException) -> bool:
    """Whether the client has repeated this request itself, six times in half a minute.

    Counted, because which requests and errors it repeats differs between its versions.
    """
    if isinstance(error, ConnectionError):  # a failed Xet upload
        return True
    if status_of(error) not in CLIENT_RETRIES or isinstance(error, TooSlow | OddAnswer):
        return False
    request = getattr(error, "_request", None) or getattr(getattr(error, "response", None), "request", None)
    return request is not None and _asked[_named(request)] >= CLIENT_TRIES


def status_of(error: BaseException) -> int | None:
    """The HTTP status behind an error; hf_xet's errors name it in their text alone."""
    told = _XET_STATUS.search(str(error)) if isinstance(error, ConnectionError) else None
    return int(told[1]) if told else getattr(getattr(error, "response", None), "status_code", None)


def wait_after(error: BaseException, attempt: int) -> float:
    """Seconds before the next attempt: Retry-After where the server gave one, else the usual back-off."""
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    asked = seconds_to_wait(headers.get("retry-after", ""))
    return WAITS[min(attempt, len(WAITS) - 1)] if asked is None else asked


def seconds_to_wait(text: str) -> float | None:
    """A Retry-After header, seconds or a date, at most LONGEST_WAIT; None where it is neither."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), LONGEST_WAIT)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return min(max((moment - datetime.now(UTC)).total_seconds(), 0.0), LONGEST_WAIT)


# --- deadlines ---

# .until: when the request that this thread makes must have ended; .coming: bytes of its answer that may still
# move that; .quiet: since when none of its own runs
_request = threading.local()
_asked: Counter[str] = Counter()
_lock, _users, _uploading = threading.Lock(), [0], threading.Lock()


@contextmanager
def patience() -> Iterator[None]:
    """Within it, every request of huggingface_hub has a deadline, and its Retry-After is one to live with."""
    with _lock:
        _users[0] += 1
        if _users[0] == 1:
            _asked.clear()
        _watch_clients()
    try:
        yield
    finally:
        with _lock:
            _users[0] -= 1


@contextmanager
def xet_deadline(size: int) -> Iterator[None]:
    """hf_xet's own requests, made in Rust, know no deadline: an upload of `size` bytes is ended at its own.

    The time counts from the last answer that this thread got by itself, with the wait that it asked for. One
    upload at a time: all of a process are ended together. Raises TooSlow. A client of before 2.0 has no way
    to end one.
    """
    from huggingface_hub.utils import _xet

    abort = getattr(_xet, "abort_xet_session", lambda: None)
    over, late = threading.Event(), threading.Event()

    def watch(quiet: list[float]) -> None:
        while not over.wait(0.5):
            if time.monotonic() > quiet[0] + DEADLINE + size / SLOWEST:
                late.set()
                abort()  # what is under way, if anything is

    with _uploading:
        _request.quiet = [time.monotonic()]
        threading.Thread(target=watch, args=(_request.quiet,), daemon=True).start()
        try:
            yield
        except RuntimeError as error:
            if late.is_set() and "cancelled" in str(error).lower():
                raise TooSlow from error
            raise
        finally:
            over.set()
            _request.quiet = None


@dataclass(frozen=True)
class _Watched:
    """Makes clients whose requests have a deadline: one whose connection was refused is dropped."""

    make: Callable[[], Any]

    def __call__(self) -> Any:
        client = self.make()
        _watch(client)
        return client


def _watch_clients() -> None:
    """The client that there is, which others may be using, and those made after it."""
    from huggingface_hub.utils import _http, get_session

    if not isinstance(_http._GLOBAL_CLIENT_FACTORY, _Watched):
        _http._GLOBAL_CLIENT_FACTORY = _Watched(_http._GLOBAL_CLIENT_FACTORY)
    _watch(get_session())


def _watch(client: Any) -> None:
    if _begin in client.event_hooks["request"]:
        return
    hooks = client.event_hooks
    client.event_hooks = {
        "request": [*hooks["request"], _begin],
        "response": [*hooks["response"], _end],
    }
    for transport in (client._transport, *client._mounts.values()):
        if pool := getattr(transport, "_pool", None):
            pool._network_backend = _Backend(pool._network_backend)
            _forget_connections(pool)


def _forget_connections(pool: Any) -> None:
    """Takes from a pool the connections that were opened before it was watched: they know no deadline.

    Those in use serve their request to its end, and are not used again.
    """
    with pool._optional_thread_lock:
        in_use = [request.connection for request in pool._requests]
        idle = [one for one in pool._connections if one.is_idle() and one not in in_use]
        pool._connections = []
    for connection in idle:
        connection.close()


def _named(request: httpx.Request) -> str:
    return f"{request.method} {request.url}"


def _begin(request: httpx.Request) -> None:
    _request.coming = 0
    if not _users[0]:
        _request.until = None
        return
    _asked[_named(request)] += 1
    if max(_asked.values()) > REPEATS:
        raise OddAnswer(f"{request.method} {request.url.path} is asked for again without end")
    size = request.headers.get("content-length", "0")
    _request.until = time.monotonic() + DEADLINE + int(size) / SLOWEST


def _end(response: httpx.Response) -> None:
    headers, seconds = response.headers, None
    if response.request.method == "GET":  # what follows is its body
        told = headers.get("content-length", "")
        _request.coming = min(int(told), LARGEST) if told.isascii() and told.isdigit() else UNTOLD
    if "retry-after" in headers:  # the client sleeps whatever number stands there
        seconds = seconds_to_wait(headers["retry-after"])
        headers["retry-after"] = "" if seconds is None else str(round(seconds))
    if "ratelimit" in headers:
        headers["ratelimit"] = re.sub(
            r"\bt=(\d+)", lambda m: f"t={min(int(m[1][:9]), int(LONGEST_WAIT))}", headers["ratelimit"]
        )
        seconds = LONGEST_WAIT if response.status_code == 429 else seconds
    if quiet := getattr(_request, "quiet", None):
        quiet[0] = time.monotonic() + (seconds or 0.0)


class _Backend(httpcore.NetworkBackend):
    """Opens connections that keep the deadline of the request they serve."""

    def __init__(self, inner: httpcore.NetworkBackend):
        self.inner = inner

    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, *options: Any, **named: Any
    ) -> httpcore.NetworkStream:
        return _Stream(
            _within(lambda left: self.inner.connect_tcp(host, port, left, *options, **named), timeout)
        )

    def sleep(self, seconds: float) -> None:
        self.inner.sleep(seconds)


class _Stream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream):
        self.inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        found = _within(lambda left: self.inner.read(max_bytes, left), timeout)
        _earn(len(found))
        return found

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        _within(lambda left: self.inner.write(buffer, left), timeout)

    def close(self) -> None:
        self.inner.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> Any:
        return _Stream(
            _within(lambda left: self.inner.start_tls(ssl_context, server_hostname, left), timeout)
        )

    def get_extra_info(self, info: str) -> Any:
        return self.inner.get_extra_info(info)


def _within(act: Callable[[float | None], T], timeout: float | None) -> T:
    """`act` with the time that is left to the request. Raises TooSlow, which the client does not repeat."""
    until = getattr(_request, "until", None)
    if until is None:  # not a request of a push
        return act(timeout)
    left = until - time.monotonic()
    if left <= 0:
        raise TooSlow
    try:
        return act(left if timeout is None else min(left, timeout))
    except httpcore.TimeoutException as error:
        raise TooSlow from error


def _earn(size: int) -> None:
    """Moves the deadline with what has arrived of an answer's body, so that a large file may take its time.

    Never further than DEADLINE from now, so that nobody starts fast and dawdles on what that has saved.
    """
    until, earned = getattr(_request, "until", None), min(size, getattr(_request, "coming", 0))
    if until is None or not earned:
        return
    _request.coming -= earned
    _request.until = max(until, min(until + earned / SLOWEST, time.monotonic() + DEADLINE))
