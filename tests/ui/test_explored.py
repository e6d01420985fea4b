"""What a session keeps of one solution: forks as a tree, audits, and what they weigh."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from erpo_hub.errors import UserError
from erpo_hub.ui.budget import _size
from erpo_hub.ui.library.library import Limits
from erpo_hub.ui.models import asking
from erpo_hub.ui.models.auditing import stream_audit
from erpo_hub.ui.models.explored import Branch, Explored

from .conftest import make_trace


def test_forks_belong_to_the_text_that_they_left():
    origin = make_trace(["a", " b", " c"])
    fork = make_trace(["a", " x", " y"], seed=1).replace(answer="y", correct=False)
    explored = Explored.of(origin, None).with_branch(Branch(fork, None, 1)).with_branch(Branch(fork, 0, 2))
    assert Explored.of(origin.replace(sensitivity=[0.0] * 3), explored) is explored  # measured since
    assert Explored.of(fork, explored).branches == ()
    rows = explored.tree(running=(1, 2, " z"))
    assert [(r["parent"], r["at"], r["was"], r["text"]) for r in rows] == [
        (None, 1, " b", " x"),
        (0, 2, " y", " y"),
        (1, 2, " y", " z"),
    ]
    assert rows[0]["answer"] == "y"
    assert rows[2]["running"]
    for number in (2, -1, "0", True):
        with pytest.raises(UserError, match="not there any more"):
            explored.parent(number)
    assert _size(explored) == 2 * _size(fork) > 0


def test_an_audit_of_what_is_not_there_is_refused_in_words():
    trace = make_trace(["a", " b"])
    for index in (None, 2, -1, "0", True, 0.0):
        (message, found), *rest = stream_audit(None, "m", trace, "", index, None, None)  # type: ignore[arg-type]
        assert "no such token" in message
        assert (found, rest) == (None, [])


def test_a_fork_that_was_stopped_before_its_token_is_no_branch(monkeypatch):
    trace = make_trace(["a", " b", " c"])
    cut = trace.replace(
        **{name: getattr(trace, name)[:1] for name in ("tokens", "pieces", "entropy", "logprob")},
        topk_ids=trace.topk_ids[:1], topk_probs=trace.topk_probs[:1], completion="a", pivots=[],
    )  # fmt: skip
    engine = SimpleNamespace(string=str)
    engines = SimpleNamespace(for_trace=lambda *_: ("m", engine), grade=lambda branch, gold: branch)
    monkeypatch.setattr(asking.runner, "stream", lambda *_: iter([("", cut)]))
    context = SimpleNamespace(engines=engines, limits=Limits())
    event = SimpleNamespace(index=1, token=4, branch=None)
    *_, (message, found) = asking.stream_fork(context, "m", trace, "", event, None, None)  # type: ignore[arg-type]
    assert "Stopped before the branch began" in message
    assert found is None
