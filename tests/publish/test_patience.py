"""A Hub that dawdles: after a refused connection, or in the store of hf_xet, whose requests are its own."""

from __future__ import annotations

import os
import socket
import threading
import time
import types

import httpx
import pytest
from fastapi.responses import JSONResponse
from huggingface_hub import HfApi, constants
from huggingface_hub.utils import _xet

from erpo_hub.errors import UserError
from erpo_hub.publish import patience
from erpo_hub.publish.commit import Content, commit_once, head_of
from erpo_hub.verification.fetch import Source
from tests.hub_server import xet as store
from tests.hub_server.fixtures import hub, no_xet  # noqa: F401
from tests.hub_server.server import ALICE, HubServer

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


@pytest.mark.skipif(not hasattr(_xet, "abort_xet_session"), reason="this client cannot end an upload")
def test_an_upload_by_xet_ends_at_its_deadline(
    hub: HubServer,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
):
    """The store's server sends a byte now and then, which the client would wait for without end."""
    server = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def dawdle(line: socket.socket) -> None:
        with line:
            line.recv(4096)
            line.sendall(DAWDLING)
            while not over.wait(0.2):
                try:
                    line.sendall(b"a")
                except OSError:
                    break

    def serve() -> None:
        while not over.is_set():
            threading.Thread(target=dawdle, args=(server.accept()[0],), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    address = f"http://127.0.0.1:{server.getsockname()[1]}"
    given = {"accessToken": "xet", "exp": int(time.time()) + 3600, "casUrl": address}
    headers = {"X-Xet-Access-Token": "xet", "X-Xet-Cas-Url": address}
    headers |= {"X-Xet-Token-Expiration": str(given["exp"])}
    monkeypatch.setattr(store, "token", lambda folder: JSONResponse(given, headers=headers))
    monkeypatch.setattr(patience, "DEADLINE", 3.0)
    monkeypatch.setattr(patience, "SLOWEST", 10 << 20)
    monkeypatch.setattr(patience, "pause", lambda seconds: None)
    api = HfApi(endpoint=hub.url, token=ALICE)
    hub.state.create("models", "alice/slow", "alice")
    head = head_of(api, "alice/slow")
    content = Content({"model.safetensors": os.urandom(1 << 20)})
    started = time.monotonic()
    with pytest.raises(patience.TooSlow):
        commit_once(api, "alice/slow", content, head=head, message="weights")
    over.set()
    assert time.monotonic() - started < 40  # twice the deadline, and what was asked before and after
    assert head_of(api, "alice/slow") == head  # no half of it, and no later one


def test_a_connection_from_before_has_the_deadline_too(
    hub: HubServer,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
):
    from huggingface_hub.utils import _http

    monkeypatch.setattr(_http, "_GLOBAL_CLIENT_FACTORY", _http.default_client_factory)
    _http.close_session()
    api = HfApi(endpoint=hub.url, token=ALICE)
    api.whoami()  # leaves a connection that is kept alive
    hub.fail("GET /api/whoami-v2", "trickle", seconds=0.02)  # 20 s in all
    monkeypatch.setattr(patience, "DEADLINE", 0.5)
    with pytest.raises(patience.TooSlow):
        patience.call_hub(api.whoami)


@pytest.mark.parametrize(("piece", "arrives"), [(40_000, True), (1, False)])
def test_a_download_may_last_as_long_as_it_gets_on(
    hub: HubServer,  # noqa: F811
    no_xet: None,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    piece: int,
    arrives: bool,
):
    api, size = HfApi(endpoint=hub.url, token=ALICE), 800_000
    hub.state.create("models", "alice/big", "alice")
    api.upload_file(path_or_fileobj=b"x" * size, path_in_repo="model.safetensors", repo_id="alice/big")
    hub.fail("GET .*/resolve/.*safetensors", "slow", times=99, piece=piece, seconds=0.1)
    monkeypatch.setattr(patience, "DEADLINE", 1.0)
    monkeypatch.setattr(patience, "pause", lambda seconds: None)
    if arrives:  # twice the deadline
        found = Source(ALICE, hub.url).get("alice/big")
        assert (found.folder / "model.safetensors").stat().st_size == size
    else:  # it would last for a day
        with pytest.raises(UserError, match=r"alice/big can't be fetched: .* too slow"):
            Source(ALICE, hub.url).get("alice/big")


def test_a_wait_that_the_hub_asks_for_is_not_the_uploads(monkeypatch: pytest.MonkeyPatch):
    """The clock of an upload runs from the last answer, and stands while the client waits as it was told."""
    ended: list[float] = []
    monkeypatch.setattr(_xet, "abort_xet_session", lambda: ended.append(time.monotonic()), raising=False)
    monkeypatch.setattr(patience, "DEADLINE", 0.5)
    request = httpx.Request("GET", "http://127.0.0.1/")
    with patience.xet_deadline(0):
        patience._end(httpx.Response(429, headers={"retry-after": "2"}, request=request))
        time.sleep(1.5)
        assert not ended
        time.sleep(2.5)
        assert ended
    assert not patience._uploading.locked()


def test_one_upload_by_xet_at_a_time():
    """What ends one ends all of a process."""
    entered = threading.Event()

    def second() -> None:
        with patience.xet_deadline(0):
            entered.set()

    with patience.xet_deadline(0):
        other = threading.Thread(target=second)
        other.start()
        assert not entered.wait(0.3)
    other.join(10)
    assert entered.is_set()
