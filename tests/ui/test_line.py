"""The line for the models: places, fairness, refusals, stopping. No server."""

from __future__ import annotations

import threading

import pytest

from erpo_hub.errors import UserError
from erpo_hub.ui.models.line import Line, TooMany, Turn, Visitor


def running(turns: list[Turn]) -> list[int]:
    return [i for i, turn in enumerate(turns) if turn.ticket.running]


def test_two_run_at_once_and_everybody_knows_his_place():
    line = Line(at_once=2)
    turns = [line.turn(Visitor(f"s{i}", f"a{i}")) for i in range(5)]
    assert running(turns) == [0, 1]
    said = [next(turn.waits()) for turn in turns[2:]]
    assert "next" in said[0]
    assert "1 question" in said[1]
    assert "2 questions" in said[2]
    turns[0].leave()
    assert running(turns[1:]) == [0, 1]
    assert list(turns[2].waits()) == []


def test_who_asks_much_waits_behind_those_who_ask_little():
    line = Line(at_once=1)
    one = [line.turn(Visitor("greedy", "a")) for _ in range(2)]
    many = [line.turn(Visitor(f"new-{i}", "b")) for i in range(5)]  # a session for each, one address
    late = line.turn(Visitor("late", "c"))
    order = line._order()
    assert order.index(late.ticket) < order.index(many[1].ticket)
    assert order[-1] is one[1].ticket  # the second of a session comes after every first
    with pytest.raises(TooMany, match="one waits"):
        line.turn(Visitor("greedy", "a"))
    one[0].leave()
    line.turn(Visitor("greedy", "a")).leave()


def test_a_full_line_refuses_and_an_address_has_three_quarters_of_it():
    line = Line(size=8, at_once=1)
    for i in range(6):
        line.turn(Visitor(f"s{i}", "same"))
    with pytest.raises(TooMany, match="full"):
        line.turn(Visitor("s9", "same"))
    for i in range(3):
        line.turn(Visitor(f"t{i}", f"other{i}"))
    with pytest.raises(TooMany, match="full"):
        line.turn(Visitor("u", "else"))
    with pytest.raises(TooMany, match="full"):
        line.turn(Visitor())  # the owner, too


def test_who_stops_leaves_and_the_next_one_comes():
    line, stopped = Line(at_once=1), threading.Event()
    first, second = line.turn(Visitor("a", "a")), line.turn(Visitor("b", "b"), stopped)
    third = line.turn(Visitor("c", "c"))
    stopped.set()
    with pytest.raises(UserError, match="Stopped"):
        list(second.waits())
    second.leave()
    first.leave()
    assert third.ticket.running
