"""Solutions of other programs in the page: a file is scored, listed and opened; and who waits is told."""

from __future__ import annotations

import json
import threading
from functools import partial

import pytest
from playwright.sync_api import expect

from erpo_hub.errors import UserError
from erpo_hub.traces.trace import Trace
from erpo_hub.ui.budget import _size
from erpo_hub.ui.context import Context
from erpo_hub.ui.library.library import Limits, open_library
from erpo_hub.ui.library.texts import read_solutions
from erpo_hub.ui.models import scoring
from erpo_hub.ui.models.line import AT_ONCE
from erpo_hub.ui.models.pairs import score_answer
from erpo_hub.ui.models.pool import Engines
from erpo_hub.ui.models.swapping import stream_swaps
from erpo_hub.ui.models.task_comparison import compare_over_task
from erpo_hub.ui.tabs.over_task import open_row

from .conftest import open_drawer, returned, tokens

MODEL = "builtin:tiny-reasoner"
SUMS = "builtin:expressions?operands=4"
ROWS = [
    {"prompt": "3+4=", "completion": "7", "answer": "7"},
    {"prompt": "5+4=", "outputs": [{"text": "9", "logprobs": []}, {"text": "8"}]},  # vLLM
    {"prompt": "2+2=", "choices": [{"text": "4", "logprobs": {"tokens": ["4"]}}], "answer": "5"},  # OpenAI
    {"prompt": "1+1=", "completion": "9" * 400_000},
]


@pytest.fixture
def context(engine):
    library = open_library([], Limits())
    context = Context(library, Engines(library, {MODEL: engine}))
    yield context
    context.engines.close()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "other.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def scored(context, path, stopped=None):
    found = list(scoring.stream_file(context, MODEL, str(path), 0.7, stopped or threading.Event()))
    return [json.loads(message) for message, _ in found], found[-1][1]


def test_a_file_is_scored_with_its_verdicts_and_what_does_not_fit_is_said(context, file, monkeypatch):
    messages, found = scored(context, file)
    assert [label for label, _ in found.entries()] == ["1: ✓ 3+4=", "2: 5+4=", "3: 5+4=", "4: ✗ 2+2="]
    assert [m["text"] for m in messages if "scoring" in m["text"]][2] == (
        "other.jsonl: scoring solution 3 of 5…"
    )
    assert "4 of the 5 solutions" in messages[-1]["text"]
    assert "solution 5: The solution has 400,000 characters" in messages[-1]["text"]
    assert messages[-1]["meta"]["name"] == f"Solution 1 of other.jsonl, scored by {MODEL}"
    assert _size(found) == sum(map(_size, found.traces)) > 0  # the session's share of the budget
    monkeypatch.setattr(scoring, "MOST", 2)
    messages, found = scored(context, file)
    assert (len(found.traces), "the first 2" in messages[-1]["text"]) == (2, True)
    stopped = threading.Event()
    stopped.set()
    messages, found = scored(context, file, stopped)
    assert (found, messages[-1]["kind"]) == (None, "error")


def test_a_file_of_traces_is_graded_by_its_gold_answer_and_not_by_its_own(context, tmp_path):
    wrong = context.engines.get(MODEL).score("3+4=", "9").replace(answer="9", gold="7", correct=False)
    Trace.to_parquet([wrong], tmp_path / "many.parquet")
    assert [s.gold for s in read_solutions(tmp_path / "many.parquet")] == ["7"]
    _, found = scored(context, tmp_path / "many.parquet")
    assert found.traces[0].correct is False
    (tmp_path / "lines.json").write_text('{"prompt": "3+4=", "completion": "7"}\n' * 2)
    assert len(read_solutions(tmp_path / "lines.json")) == 2
    (tmp_path / "odd.json").write_text("[1, 2]")
    messages, _ = scored(context, tmp_path / "odd.json")
    assert "odd.json: entry 1: is not an object" in messages[-1]["text"]
    assert str(tmp_path) not in messages[-1]["text"]


def test_an_opened_answer_in_words_is_read_beside_the_right_one(context):
    opened = partial(
        score_answer, context, MODEL, "3+4=", "so\nyes", truncated=False, temperature=1.0, say=str
    )
    assert returned(opened(gold="yes")).answer == "yes"
    assert returned(opened()).answer is None


def test_a_row_that_is_opened_waits_in_the_line_and_says_so(context):
    greedy = {"temperature": 0.0, "max_new_tokens": 32, "seed": 0}
    asked = compare_over_task(context, (MODEL, MODEL), SUMS, 1, greedy, threading.Event())
    *_, (_, comparison) = asked
    row = comparison.rows[0]
    ahead = [context.engines.turn() for _ in range(AT_ONCE)]
    steps = open_row(context, comparison, row, threading.Event())
    assert json.loads(next(steps)[0])["text"] == "Waiting: yours is the next question."
    for turn in ahead:
        turn.leave()
    *_, (left, right, question, gold, _) = steps
    verdicts = [json.loads(message)["meta"]["correct"] for message in (left, right)]
    assert verdicts == list(row["correct"])
    assert (question, gold) == (row["prompt"], row["gold"])
    context.engines.turn().leave()  # nobody is left in the line


def test_swapped_tokens_a_file_and_a_task_wait_in_the_line_and_leave_it_when_stopped(context, file):
    ahead = [context.engines.turn() for _ in range(AT_ONCE)]
    stopped = threading.Event()
    swaps = stream_swaps(context, (MODEL, MODEL), "7-2*3+4=", "5", 16, "first disagreement", stopped)
    read = scoring.stream_file(context, MODEL, str(file), 0.7, stopped)
    assert any("next question" in json.loads(next(swaps))["text"] for _ in range(2))
    assert any("before yours come" in json.loads(next(read)[0])["text"] for _ in range(4))
    greedy = {"temperature": 0.0, "max_new_tokens": 8, "seed": 0}
    names = (MODEL, MODEL)
    task = compare_over_task(context, names, SUMS, 2, greedy, stopped)
    assert [next(task)[0][:7] for _ in range(2)] == ["Loading", "Waiting"]
    stopped.set()
    with pytest.raises(UserError, match="Stopped"):
        list(task)
    assert [json.loads(m)["text"] for m in swaps][-1] == "Stopped."
    assert "Stopped" in json.loads(list(read)[-1][0])["text"]
    assert len(context.engines._line._tickets) == AT_ONCE
    for turn in ahead:
        turn.leave()
    again = stream_swaps(
        context, (MODEL, MODEL), "7-2*3+4=", "5", 16, "random disagreement", threading.Event()
    )
    assert json.loads(list(again)[-1])["steps"]
    with pytest.raises(UserError, match="no solution"):
        context.limits.check_solution("  ")


def choose_file(page, path) -> None:
    open_drawer(page)
    with page.expect_file_chooser() as chooser:
        page.locator("#score-file").click()
    chooser.value.set_files(path)


def test_an_uploaded_file_is_listed_and_its_solutions_open(page, file):
    choose_file(page, file)
    expect(page.locator("#view .tv-title")).to_contain_text("Solution 1 of other.jsonl", timeout=30_000)
    expect(page.locator("#prompt textarea")).to_have_value("3+4=")
    expect(page.locator("#view .tv-badge")).to_contain_text("correct")
    page.locator("#scored input").click()
    page.get_by_role("option", name="4: ✗ 2+2=").click()
    expect(page.locator("#view .tv-title")).to_contain_text("Solution 4 of other.jsonl")
    expect(page.locator("#view .tv-badge")).to_contain_text("wrong")
    expect(page.locator("#gold textarea")).to_have_value("5")
    expect(tokens(page)).to_have_count(1)
    page.locator("#measure").click()  # it is a solution like any other
    expect(page.locator("#view .tv-status")).to_contain_text("Sensitivity measured", timeout=30_000)


def test_a_file_is_read_for_the_owner_only(browser, server, file):
    page = browser.new_context(
        viewport={"width": 1360, "height": 950}
    ).new_page()  # without the link's cookie
    page.goto(server)
    page.wait_for_selector("#view .tv")
    choose_file(page, file)
    expect(page.locator("#view .tv-status[role=alert]")).to_contain_text("Only the link", timeout=15_000)
    page.close()
