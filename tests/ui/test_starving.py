"""What one visitor can't take from the others: memory beside the budget, places in the line, kept answers."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from types import SimpleNamespace

import httpx
import pytest

from erpo_hub.ui import build_demo, launch_kwargs
from erpo_hub.ui.budget import SESSIONS, UNREAD, Budget, Listeners, drop_unread
from erpo_hub.ui.models import answers, line
from erpo_hub.ui.models.line import Visitor

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
    drop_unread(SimpleNamespace(pending_messages_per_session=waiting))
    assert waiting["b"].qsize() == 1
    assert waiting["a"].qsize() == UNREAD - 1
    assert waiting["a"].get_nowait() == 2 * UNREAD + 1  # the oldest went
    assert launch_kwargs()["state_session_capacity"] == SESSIONS  # Gradio's own would be 10,000


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
