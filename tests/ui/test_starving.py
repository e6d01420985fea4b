"""What one visitor can't take from the others: memory beside the budget, places in the line, kept answers."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections import OrderedDict
from types import SimpleNamespace

import httpx
import pytest
from gradio import routes

from erpo_hub.tasks.grading import _golds, math_job
from erpo_hub.ui import build_demo, launch_kwargs
from erpo_hub.ui.budget import (
    SESSIONS,
    UNREAD,
    UNREAD_SHARE,
    UPLOAD_NAMES,
    Budget,
    EventIds,
    Listeners,
    Sessions,
    Unread,
)
from erpo_hub.ui.context import Context
from erpo_hub.ui.guard import MOST_TEXTS, body_problem
from erpo_hub.ui.library.library import EMBEDDED, Limits, open_library
from erpo_hub.ui.models import answers, line
from erpo_hub.ui.models.asking import stream_answer
from erpo_hub.ui.models.line import Visitor
from erpo_hub.ui.models.pairs import stream_pair
from erpo_hub.ui.models.pool import Engines
from erpo_hub.ui.models.requests import SamplingSettings
from erpo_hub.ui.models.scoring import stream_score
from erpo_hub.ui.models.streaming import StopSignals

from .conftest import long_trace


@pytest.mark.parametrize("kind", ["application/json", "APPLICATION/JSON", "text/plain", None])
def test_a_body_is_looked_over_whatever_it_is_called(server, kind):
    deep = b'{"data":' + b"[" * 1000 + b"]" * 1000 + b"}"
    for route in ("run/trace", "component_server"):  # the second one reads any body as JSON
        headers = {"content-type": kind} if kind else {}
        sent = httpx.post(f"{server}gradio_api/{route}", content=deep, headers=headers)
        assert (sent.status_code, "levels deep" in sent.text) == (422, True)


def test_messages_that_nobody_fetches_are_bounded_and_who_reads_loses_none():
    waiting: OrderedDict[str, asyncio.Queue] = OrderedDict((name, asyncio.Queue()) for name in "ab")
    for number in range(3 * UNREAD):
        waiting["a"].put_nowait(number)
    waiting["b"].put_nowait("mine")
    Unread(Budget(1 << 30, 0)).drop(SimpleNamespace(pending_messages_per_session=waiting))
    assert waiting["b"].qsize() == 1
    assert waiting["a"].qsize() == UNREAD - 1
    assert waiting["a"].get_nowait() == 2 * UNREAD + 1  # the oldest went
    assert launch_kwargs()["state_session_capacity"] == SESSIONS  # Gradio's own would be 10,000


def test_long_messages_that_nobody_fetches_are_bounded():
    """A few of many megabytes: whoever holds most loses his oldest, whoever is sent little loses none."""
    waiting: OrderedDict[str, asyncio.Queue] = OrderedDict((name, asyncio.Queue()) for name in "abc")
    for number in range(8):
        for name, text in {"a": "x" * 1000, "b": "x" * 400, "c": "x" * 10}.items():
            message = SimpleNamespace(output={"data": [{"value": text}, number]})
            waiting[name].put_nowait(message)
    unread, queue = (
        Unread(Budget(UNREAD_SHARE * 6000, 0)),
        SimpleNamespace(pending_messages_per_session=waiting),
    )
    unread.drop(queue)
    unread.drop(queue)  # nothing more to do
    left = {name: [message.output["data"][1] for message in row._queue] for name, row in waiting.items()}
    assert left["c"] == list(range(8))
    assert left["a"] == [6, 7]
    assert left["b"] == list(range(1, 8))


def test_a_flood_of_sessions_ends_the_stream_of_nobody_who_listens():
    """A page that listens looks at its queue every 10 s or sooner; benchmarks/load.py is the flood."""
    assert isinstance(build_demo()._queue.pending_messages_per_session, Listeners)
    kept = Listeners(50)
    kept["mine"] = queue = asyncio.Queue()
    for number in range(500):
        kept[f"new-{number}"] = asyncio.Queue()
        if number % 40 == 0:
            assert kept["mine"] is queue
    assert len(kept) == 50
    assert "mine" in kept


def test_a_new_session_has_no_copy_of_what_every_component_is():
    demo = build_demo()
    holder = routes.App.create_app(demo).state_holder
    assert isinstance(holder, Sessions)
    session = holder["new"]
    assert session.config_values == {}
    title = next(number for number, block in demo.blocks.items() if getattr(block, "elem_id", "") == "ask")
    session._update_value_in_config(title, "Ask again")
    assert session.config_values[title]["props"]["value"] == "Ask again"


def test_ids_of_events_are_forgotten_with_their_listeners_and_never_before_them():
    """Gradio's own table kept a session for every question that somebody asked and never listened for."""
    queue = build_demo()._queue
    assert isinstance(queue.pending_event_ids_session, EventIds)
    listeners = Listeners(50)
    ids = EventIds(listeners)
    for number in range(500):
        for session in ("mine", f"new-{number}"):  # in the order that Gradio's `push` has
            if session not in listeners:
                listeners[session] = asyncio.Queue()
            if session not in ids:
                ids[session] = set()
            ids[session].add(f"event-{number}")
            listeners["mine"]
    assert len(ids) == 50
    assert len(ids["mine"]) == 500
    assert set(listeners) <= set(ids)


def test_the_id_of_an_event_whose_end_nobody_heard_goes_with_its_messages():
    """One session asked without end, and listened never."""
    messages: asyncio.Queue = asyncio.Queue()
    ids = {f"event-{number}" for number in range(2 * UNREAD)}
    for event in sorted(ids):
        messages.put_nowait(SimpleNamespace(msg="process_starts", event_id=event))
        messages.put_nowait(SimpleNamespace(msg="process_completed", event_id=event))
    queue = SimpleNamespace(
        pending_messages_per_session={"s": messages}, pending_event_ids_session={"s": set(ids) | {"running"}}
    )
    Unread(Budget(1 << 30, 0)).drop(queue)
    left = {message.event_id for message in messages._queue}
    assert queue.pending_event_ids_session["s"] == left | {"running"}
    assert len(left) == UNREAD // 2


PROGRESS = routes.file_upload_statuses


@pytest.mark.parametrize("name", ["u" * 60_000, "u" * 257, "", "a b", "%ff", "%0A", "a&upload_id=%22"])
def test_an_upload_is_called_by_a_short_name(server, name):
    """Gradio keeps the names of all uploads: sixty thousand characters of each filled the memory."""
    before = len(PROGRESS._statuses), len(PROGRESS._signals)
    files = [("files", ("a.json", b"{}"))]
    sent = httpx.post(f"{server}gradio_api/upload?upload_id={name}", files=files, timeout=60)
    asked = httpx.get(f"{server}gradio_api/upload_progress?upload_id={name}", timeout=60)
    assert (sent.status_code, asked.status_code) == (422, 422)
    assert "upload_id is not a name" in asked.text
    assert before == (len(PROGRESS._statuses), len(PROGRESS._signals))


def test_names_of_uploads_are_forgotten_and_the_progress_of_one_is_told(server):
    files = [("files", ("a.json", b"{}"))]
    sent = httpx.post(f"{server}gradio_api/upload?upload_id=0k2x9_mine", files=files, timeout=60)
    assert sent.status_code == 200
    kept = PROGRESS._statuses["0k2x9_mine"]
    for number in range(3 * UPLOAD_NAMES):
        PROGRESS.append(f"new-{number}", "a.json", b"{}")
        PROGRESS._signals[f"asked-{number}"].is_set()
        if number % 40 == 0:
            assert PROGRESS._statuses["0k2x9_mine"] is kept
            assert PROGRESS._signals["0k2x9_mine"].is_set()
    assert len(PROGRESS._statuses) == len(PROGRESS._signals) == UPLOAD_NAMES
    told = httpx.get(f"{server}gradio_api/upload_progress?upload_id=0k2x9_mine", timeout=60)
    assert told.text == 'data: {"msg": "done"}\n\n'
    assert "0k2x9_mine" not in PROGRESS._statuses
    asked = httpx.get(f"{server}gradio_api/upload_progress?upload_id=nobodys", timeout=60)
    assert asked.status_code == 404


def test_an_address_is_not_what_a_visitor_says_it_is(server, monkeypatch):
    seen, own = [], Visitor.of
    monkeypatch.setattr(line.Visitor, "of", lambda request: seen.append(own(request)) or own(request))
    call = {"data": ["1+1=", "builtin:tiny-reasoner", "", 0.7, 1.0, 2, 0]}
    for forged in ("6.6.6.6", "7.7.7.7"):
        sent = httpx.post(server + "gradio_api/run/trace", json=call, headers={"x-forwarded-for": forged})
        assert sent.status_code == 200
    assert {visitor.address for visitor in seen} == {"127.0.0.1"}


def test_all_addresses_of_one_connection_count_as_one():
    def address(text: str) -> str:
        return Visitor.of(SimpleNamespace(client=SimpleNamespace(host=text), session_hash="s")).address

    assert address("2001:db8:1:2::3") == address("2001:db8:1:2:ffff::9") != address("2001:db8:1:3::3")
    assert address("::ffff:192.0.2.1") == address("192.0.2.1") == "192.0.2.1"
    assert address("testclient") == "testclient"


def test_an_answer_kept_again_takes_no_second_place():
    budget = Budget(memory=1 << 30, disk=1 << 30)
    trace = long_trace(20)
    number = answers.keep(trace, budget)
    assert answers.keep(trace, budget) == number != answers.keep(long_trace(21), budget)
    assert answers.find(number) == trace


def test_swapping_tokens_waits_in_the_line_as_every_other_question(paired_runs):
    from erpo_hub.ui import build_demo

    demo = build_demo(runs=[paired_runs])
    swap = next(f for f in demo.fns.values() if getattr(f.fn, "__name__", "") == "swap")
    assert swap.concurrency_id == "line"


def test_the_signal_of_a_stream_that_ended_is_not_kept():
    signals = StopSignals()
    running = signals.start("mine")
    for number in range(1000):
        signals.start(f"made-up-{number}")
    gc.collect()
    assert len(signals._events) == 1
    signals.stop("mine")
    assert running.is_set()


@pytest.mark.parametrize("fill", [b'""', b'"a",'])
def test_a_body_of_nothing_but_texts_is_refused(fill):
    body = b'{"data":[' + fill * (MOST_TEXTS + 1) + b'""]}'
    assert "texts" in (body_problem(body) or "")


def test_a_long_right_answer_is_refused_and_not_kept(server):
    gold = "1 " * 20_000
    sent = httpx.post(
        server + "gradio_api/run/trace", json={"data": ["1+1=", EMBEDDED, gold, 0.7, 1.0, 2, 0]}
    )
    assert "The right answer has" in sent.text
    before = _golds.cache_info().currsize
    math_job("1", gold)
    assert _golds.cache_info().currsize == before


@pytest.mark.parametrize("what", ["answer", "pair", "score"])
def test_a_long_right_answer_is_not_sent_back(what):
    library = open_library([], Limits.from_environment({}, public=True))
    context, stopped = Context(library, Engines(library)), threading.Event()
    gold, sampling = "1 " * 2000, SamplingSettings(0.0, 1.0, 2, 0)
    streams = {
        "answer": lambda: stream_answer(context, EMBEDDED, "1+1=", gold, sampling, stopped),
        "pair": lambda: stream_pair(context, (EMBEDDED, EMBEDDED), "1+1=", gold, sampling, stopped),
        "score": lambda: stream_score(context, EMBEDDED, "1+1=", gold, "2", 1.0, stopped),
    }
    told = str(list(streams[what]()))
    assert "The right answer has 4,000 characters" in told
    assert len(told) < 2000
