"""A Hub that refuses the connection first and dawdles then: the client begins anew, the limits stay."""

from __future__ import annotations

import socket
import threading
import time
import types

import pytest
from huggingface_hub import constants

from erpo_hub.publish import patience

DAWDLING = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
LIMITING = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 999999999\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize("answer", [DAWDLING, LIMITING])
def test_a_refused_connection_does_not_lift_the_limits(answer: bytes, monkeypatch: pytest.MonkeyPatch):
    from huggingface_hub.utils import _http, http_backoff

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(patience, "DEADLINE", 1.0)
    slept: list[float] = []
    server = socket.socket()
    server.bind(("127.0.0.1", 0))  # refuses until it listens
    over = threading.Event()

    def serve() -> None:
        server.listen()
        while not over.is_set():
            line, _ = server.accept()
            with line:
                line.recv(4096)
                line.sendall(answer)
                while answer is DAWDLING and not over.wait(0.2):
                    try:
                        line.sendall(b"a")
                    except OSError:
                        break

    def sleep(seconds: float) -> None:
        if not slept:
            threading.Thread(target=serve, daemon=True).start()
            while socket.socket().connect_ex(server.getsockname()):
                time.sleep(0.01)
        slept.append(seconds)

    monkeypatch.setattr(_http, "time", types.SimpleNamespace(sleep=sleep, monotonic=time.monotonic))
    url = f"http://127.0.0.1:{server.getsockname()[1]}/x"
    started = time.monotonic()
    with pytest.raises(patience.TOLD) as failed:
        patience.call_hub(lambda: http_backoff("GET", url, max_retries=2))
    over.set()
    assert len(slept) > 0  # the first connection was refused
    assert time.monotonic() - started < 10
    assert max(slept) <= patience.LONGEST_WAIT + 1  # of a Retry-After of 30 years
    assert isinstance(failed.value, patience.TooSlow) == (answer is DAWDLING)
