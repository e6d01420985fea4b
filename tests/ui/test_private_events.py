"""Every event of the page, also without a public name, answers wrong data to its sender, without a fault."""

from __future__ import annotations

import asyncio
import json
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from .conftest import OWNER

WRONG = (
    None,
    "abc\x00\u202e",
    2**70,
    [[None]],
    {"path": "README.md"},
    {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}},
    {"__type__": "update", "value": 1},
)


async def _ask(client: httpx.AsyncClient, url: str, number: int, data: list) -> str:
    """The event's whole answer, through the queue as a browser asks."""
    session = f"fuzz-{number}"
    body = {"data": data, "fn_index": number, "session_hash": session, "event_data": None}
    joined = await client.post(url + "gradio_api/queue/join", content=json.dumps(body))
    if joined.status_code != 200:
        return joined.text
    said = []
    async with client.stream("GET", url + f"gradio_api/queue/data?session_hash={session}") as stream:
        async for line in stream.aiter_lines():
            said.append(line)
            if "process_completed" in line or "close_stream" in line or len(said) > 40:
                break
    return "\n".join(said)


@pytest.mark.parametrize("owner", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_wrong_data_for_every_event(server, owner, capfd, caplog):
    config = httpx.get(server + "config").json()
    events = [(d["id"], len(d["inputs"])) for d in config["dependencies"] if d.get("backend_fn", True)]
    assert len(events) > 40  # those with a public name are four
    cookies = {OWNER.cookie: str(OWNER.key)} if owner else {}

    async def all_of_them() -> list[tuple[int, str]]:
        headers = {"content-type": "application/json"}
        async with httpx.AsyncClient(headers=headers, cookies=cookies, timeout=60) as client:

            async def each(number: int, inputs: int) -> list[tuple[int, str]]:
                datas = [[value] * inputs for value in WRONG] + [["x"] * (inputs + 3)]
                return [(number, await _ask(client, server, number, data)) for data in datas]

            return [told for part in await asyncio.gather(*(each(*e) for e in events)) for told in part]

    # Elsewhere, since a browser's fixture may keep this thread's event loop.
    with caplog.at_level(logging.WARNING), ThreadPoolExecutor(1) as elsewhere:
        told = elsewhere.submit(asyncio.run, all_of_them()).result()
    assert len(told) == len(events) * (len(WRONG) + 1)
    assert sum('"success":false' in text for _, text in told) > 100  # a fault is told, not swallowed
    for number, text in told:
        assert text, number
        assert "Traceback" not in text, (number, text)
        assert "Internal Server Error" not in text, (number, text)
        assert "root:" not in text, (number, text)
        assert str(Path.cwd()) not in text, (number, text)
    assert "Traceback" not in "".join(capfd.readouterr()) + caplog.text
    assert httpx.get(server).status_code == 200
