"""What an event is sent beside its inputs, of every wrong type: its sender is told, the log has no fault."""

from __future__ import annotations

import asyncio
import json
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from .conftest import OWNER

DEEP: Any = 1
for _ in range(50):
    DEEP = [DEEP] if isinstance(DEEP, dict) else {"index": DEEP}
WRONG: list[Any] = [
    *(
        1,
        2**70,
        1e308,
        float("nan"),
        float("inf"),
        True,
        "x",
        "\ud800",
        "a\0\u202e",
        [],
        {},
        [[]],
        [None],
        DEEP,
    ),
    *({"index": []}, {"index": {}, "value": []}, {"index": "x", "value": None}, {"index": [2**70, -1]}),
    *({"index": [0], "value": 1}, {"index": float("nan"), "value": {}}, {"index": -5, "value": "x"}),
    *(
        {"index": True, "token": "x", "branch": []},
        {"index": 0, "token": 2**70},
        {"index": 1e308, "token": -1},
    ),
    *({"row": 2**70}, {"row": "x"}, {"row": float("nan")}, {"row": [1]}, {"row": -9, "label": {}}),
    {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}},
]
FIELDS = {  # of a request to the queue
    "trigger_id": [2**70, -1, "x", [1], {}, 1e308, True],
    "session_hash": [None, 5, [], {}, "", "x" * 10_000, "\ud800"],
    "fn_index": [2**70, -1, "x", [1], {}, 1e308, None, True],
    "data": [None, "x", {}, 5, [[]] * 5000, {"a": DEEP}],
    "api_name": [5, [], "/none", "../x"],
    "simple_format": ["x", 5],
    "event_id": [5, [], {}],
}


async def _said(client: httpx.AsyncClient, url: str, body: dict[str, Any]) -> str:
    """The answer to one request, and all that comes of it through the queue."""
    joined = await client.post(url + "gradio_api/queue/join", content=json.dumps(body))
    if joined.status_code != 200:
        return f"{joined.status_code} {joined.text}"
    said = []
    where = httpx.QueryParams({"session_hash": str(body["session_hash"]).encode("utf-8", "replace").decode()})
    try:
        async with client.stream("GET", f"{url}gradio_api/queue/data?{where}", timeout=5) as stream:
            async for line in stream.aiter_lines():
                said.append(line)
                if "process_completed" in line or "close_stream" in line or len(said) > 40:
                    break
    except httpx.HTTPError as error:
        said.append(f"{type(error).__name__}")
    return "\n".join(said) or str(stream.status_code)


def _all_of(server: str, bodies: list[dict[str, Any]], cookies: dict[str, str]) -> list[str]:
    async def ask() -> list[str]:
        headers = {"content-type": "application/json"}
        async with httpx.AsyncClient(headers=headers, cookies=cookies, timeout=60) as client:
            few = asyncio.Semaphore(16)

            async def one(body: dict[str, Any]) -> str:
                async with few:
                    return await _said(client, server, body)

            return list(await asyncio.gather(*map(one, bodies)))

    with ThreadPoolExecutor(1) as elsewhere:  # a browser's fixture may keep this thread's event loop
        return elsewhere.submit(asyncio.run, ask()).result()


def _check(told: list[str], bodies: list[dict[str, Any]], log: str, server: str) -> None:
    for text, body in zip(told, bodies, strict=True):
        assert text, body
        for fault in ("Traceback", "Internal Server Error", str(Path.cwd()), "root:"):
            assert fault not in text, (body, text)
    assert "Traceback" not in log, log[-3000:]
    assert httpx.get(server).status_code == 200


def _events(server: str) -> list[tuple[int, int]]:
    """Those that take event data: number, how many inputs."""
    config = httpx.get(server + "config").json()
    found = [(d["id"], len(d["inputs"])) for d in config["dependencies"] if d.get("collects_event_data")]
    assert len(found) >= 6
    return found


def test_event_data_of_every_wrong_type(server, capfd, caplog):
    events = _events(server)
    bodies = [
        {"data": [None] * inputs, "fn_index": event, "session_hash": f"data-{event}-{n}", "event_data": wrong}
        for event, inputs in events
        for n, wrong in enumerate(WRONG)
    ]
    with caplog.at_level(logging.WARNING):
        told = _all_of(server, bodies, {OWNER.cookie: str(OWNER.key)})
    _check(told, bodies, "".join(capfd.readouterr()) + caplog.text, server)


def test_half_a_character_for_a_session_does_not_break_the_events_of_others(server, capfd, caplog):
    """Gradio's table of events, made anew after each, could not hold it: each later event was a traceback."""
    (event, inputs), *_ = _events(server)
    bodies = [
        {"data": ["x"] * inputs, "fn_index": event, "session_hash": name} for name in ("\ud800", "next")
    ]
    with caplog.at_level(logging.WARNING):
        told = [_all_of(server, [body], {})[0] for body in bodies]
    assert told[0].startswith("422 The request's session_hash")
    assert "process_completed" in told[1]
    _check(told, bodies, "".join(capfd.readouterr()) + caplog.text, server)


def test_fields_of_a_request_of_every_wrong_type(server, capfd, caplog):
    (event, inputs), *_ = _events(server)
    sound = {"data": ["x"] * inputs, "fn_index": event, "session_hash": "fields", "event_data": None}
    bodies = [
        sound | {"session_hash": f"{key}-{n}"} | {key: value}
        for key, all_of in FIELDS.items()
        for n, value in enumerate(all_of)
    ]
    with caplog.at_level(logging.WARNING):
        told = _all_of(server, bodies, {OWNER.cookie: str(OWNER.key)})
    _check(told, bodies, "".join(capfd.readouterr()) + caplog.text, server)
