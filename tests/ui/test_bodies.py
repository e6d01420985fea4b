"""Requests too large, too many at once, or without end: they cost others no memory, disk or place."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from erpo_hub.ui import bodies
from erpo_hub.ui.bodies import BODY, Incoming, Places, Refused
from erpo_hub.ui.budget import folder
from erpo_hub.ui.guard import MOST_LISTS, MOST_VALUES, body_problem


def run(work: Coroutine) -> None:
    """In a thread of its own: in this one the browser of other tests has a loop."""
    with ThreadPoolExecutor(1) as elsewhere:
        elsewhere.submit(asyncio.run, work).result()


SCOPE = {"type": "http", "headers": [], "client": ("10.0.0.1", 5)}
OTHER = {**SCOPE, "client": ("10.0.0.2", 5)}


def parts(*sent: bytes, ends: bool = True):
    """`receive` of a body in these parts; one that does not end comes to a stop."""
    waiting = [{"type": "http.request", "body": part, "more_body": True} for part in sent]
    if ends and waiting:
        waiting[-1]["more_body"] = False

    async def receive():
        if not waiting:
            await asyncio.sleep(3600)
        return waiting.pop(0)

    return receive


@pytest.mark.parametrize("route", ["queue/join", "run/trace", "component_server", "process_recording"])
def test_files_are_taken_for_an_upload_alone(server, route):
    """Other routes read a body called multipart without end, or leave its files beside the budget."""
    before = set(folder().rglob("*"))
    sent = httpx.post(
        f"{server}gradio_api/{route}", files={"video": ("a.mp4", b"\0" * 3_000_000)}, timeout=60
    )
    assert (sent.status_code, "not JSON" in sent.text) == (422, True)
    form = {"content-type": "multipart/form-data; boundary=x"}
    large = httpx.post(f"{server}gradio_api/{route}", content=b" " * (BODY + 1), headers=form, timeout=60)
    assert large.status_code == 413
    assert {path for path in folder().rglob("*") if path.is_file()} <= before


def test_many_files_in_one_upload_come_to_no_more_than_one(server):
    files = [("files", (f"{n}.json", b"\0" * (22 << 20))) for n in range(3)]
    held = sum(path.stat().st_size for path in folder().rglob("*") if path.is_file())
    sent = httpx.post(f"{server}gradio_api/upload", files=files, timeout=60)
    assert (sent.status_code, "at most 64 MiB" in sent.text) == (413, True)
    after = sum(path.stat().st_size for path in folder().rglob("*") if path.is_file())
    assert after - held < 1 << 20
    sent = httpx.post(f"{server}gradio_api/upload", files=[("files", ("a.json", b"{}"))], timeout=60)
    assert Path(sent.json()[0]).read_bytes() == b"{}"


def test_uploads_that_never_end_leave_a_place_for_others():
    async def both():
        places = Places()
        with places.upload(SCOPE), places.upload(SCOPE), places.upload(SCOPE):
            with pytest.raises(Refused, match="uploads of yours"), places.upload(SCOPE):
                pass
            with places.upload(OTHER):
                pass
        with places.upload(SCOPE):
            pass

    run(both())


def test_who_dawdles_is_refused(monkeypatch):
    monkeypatch.setattr(bodies, "GRACE", 0.2)

    async def slow():
        incoming = Incoming(parts(b"a", ends=False))
        await incoming()
        with pytest.raises(Refused) as refused:
            await incoming()
        assert refused.value.status == 408
        steady = Incoming(parts(b"x" * bodies.PACE, b"y"))  # a second more
        for _ in range(2):
            await asyncio.sleep(0.15)
            await steady()
        assert steady.whole

    run(slow())


def test_a_dawdler_at_the_app_is_answered(server, monkeypatch):
    monkeypatch.setattr(bodies, "GRACE", 0.5)
    where = httpx.URL(server)
    for route, kind in (("upload", "multipart/form-data; boundary=x"), ("queue/join", "application/json")):
        with socket.create_connection((where.host, where.port), timeout=30) as line:
            head = f"POST /gradio_api/{route} HTTP/1.1\r\nHost: {where.host}:{where.port}\r\n"
            line.sendall(f"{head}Content-Type: {kind}\r\nContent-Length: 1000\r\n\r\n--x\r\n".encode())
            assert b"408" in line.recv(64)


def test_bodies_under_way_have_a_limit_in_all_and_of_one_address(monkeypatch):
    monkeypatch.setattr(bodies, "HELD", 8)

    async def held():
        places = Places()
        waiting = [asyncio.create_task(places.read(SCOPE, parts(b"1234", ends=False))) for _ in range(1)]
        await asyncio.sleep(0)
        with pytest.raises(Refused, match="Too much"):
            await places.read(SCOPE, parts(b"5"))
        assert await places.read(OTHER, parts(b"ab", b"c")) == b"abc"
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert await places.read(SCOPE, parts(b"5")) == b"5"
        assert not places._held

    run(held())


def test_a_body_of_millions_of_lists_or_values_is_refused_unread(server):
    """Three million lists in 9 MB held up everybody for twenty seconds."""
    for data in ("[]," * MOST_LISTS, "{}," * MOST_LISTS, "0," * (MOST_VALUES + 1)):
        assert "has more than" in str(body_problem(f'{{"data":[{data}0]}}'.encode()))
    assert body_problem(json.dumps({"data": ["[" * MOST_LISTS * 2 + ","]}).encode()) is None
    assert body_problem(json.dumps({"data": [[0]] * (MOST_LISTS - 2)}).encode()) is None
    started = time.monotonic()
    sent = httpx.post(
        f"{server}gradio_api/queue/join", content=b'{"data":[' + b"[]," * 3_000_000 + b"0]}", timeout=60
    )
    assert (sent.status_code, time.monotonic() - started < 10) == (422, True)


def test_a_body_of_quotes_or_brackets_without_an_end_is_read_once(server):
    """Every quote was read on from to the end, and nobody else was answered: 32 kB took three seconds."""
    started = time.process_time()
    for body in (b'"\\' * 1_000_000, b"]" * 8_000_000):
        assert body_problem(body)
    assert time.process_time() - started < 5
    sent = httpx.post(f"{server}gradio_api/queue/join", content=b'"\\' * 1_000_000, timeout=60)
    assert (sent.status_code, "not JSON" in sent.text) == (422, True)
    assert body_problem(rb'{"data": ["a\"[[", "\\", "]"]}') is None


def test_a_telephone_with_a_slow_connection_is_not_taken_for_a_dawdler():
    """Half a megabit a second: ten MiB come in 160 seconds."""
    size, rate, now = 10 << 20, 64 << 10, [0.0]

    async def comes():
        loop = asyncio.get_running_loop()
        start = loop.time()
        incoming = Incoming(parts(*[b"x" * (1 << 20)] * (size >> 20)))
        while not incoming.whole:
            now[0] += (1 << 20) / rate
            assert start + now[0] < incoming._until
            await incoming()

    run(comes())
