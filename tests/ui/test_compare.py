"""Compare: two models on one question, and over a task's held-out questions."""

from __future__ import annotations

import re
import threading

import pytest
from playwright.sync_api import expect

from erpo_hub.errors import UserError
from erpo_hub.ui.context import Context
from erpo_hub.ui.library.library import Limits, open_library
from erpo_hub.ui.models import task_comparison
from erpo_hub.ui.models.pool import Engines
from erpo_hub.ui.models.task_comparison import compare_over_task

from .conftest import choose, returned, set_number, tokens

TASK = "builtin:expressions?operands=4"


@pytest.fixture
def compare(page):
    page.get_by_role("tab", name="Compare").click()
    expect(page.locator("#compare-run")).to_be_visible()
    return page


def test_the_paired_run_is_chosen_and_two_solutions_are_marked_where_they_part(compare):
    expect(compare.locator("#model-a input")).to_have_value("grpo")
    expect(compare.locator("#model-b input")).to_have_value("erpo")
    choose(compare, "#model-b", "slow")  # the same weights, one token over and over: they part
    compare.locator("#compare-prompt textarea").fill("7-2*3+4=")
    compare.get_by_text("Sampling (the same seed").click()
    set_number(compare, "#compare-tokens", "12")
    compare.locator("#compare-run").click()
    for view in ("#view-a", "#view-b"):
        expect(compare.locator(f"{view} .tv-badge")).to_have_text(
            re.compile("✓ correct|✗ wrong"), timeout=30_000
        )
        # Once the slow one has come as far as where they part.
        expect(compare.locator(f"{view} .tv-diverge")).to_have_count(1, timeout=60_000)
        expect(compare.locator(f"{view} .tv-stats")).to_contain_text("≠ differs from token")
        expect(compare.locator(f"{view} .tv-stats")).to_contain_text("mean entropy")
    places = [compare.locator(f"{v} .tv-diverge").get_attribute("data-c") for v in ("#view-a", "#view-b")]
    assert places[0] == places[1]
    curve = "document.querySelector('#compare-curve .js-plotly-plot')"
    compare.wait_for_function(f"{curve}.dataset.tokens.split(' ').length === 2")
    assert compare.evaluate(f"Math.max(...{curve}.data[0].x) <= 1")
    assert compare.locator("#view-a .tv-legend, #view-b .tv-legend").first.is_hidden()


def test_one_set_of_controls_steers_both(compare):
    compare.locator("#compare-run").click()
    expect(compare.locator("#view-b .tv-badge")).to_be_visible(timeout=30_000)
    compare.locator("#compare-tools .tv-quantile").evaluate(
        "(e) => { e.value = 0; e.dispatchEvent(new Event('input', { bubbles: true })); }"
    )
    compare.locator("#compare-tools .tv-floor").evaluate(
        "(e) => { e.value = 0; e.dispatchEvent(new Event('input', { bubbles: true })); }"
    )
    for view in ("#view-a", "#view-b"):
        count = tokens(compare, view).count()
        expect(compare.locator(f"{view} .tv-tok.tv-pivot")).to_have_count(count - 1)  # all but the lowest


def test_a_task_is_compared_filtered_and_a_row_opens_the_pair(compare):
    choose(compare, "#model-b", "builtin:tiny-reasoner")
    compare.locator("#task-n input[type=number]").fill("40")
    compare.locator("#task-n input[type=number]").press("Enter")
    compare.locator("#task-run").click()
    facts = compare.locator("#task-totals")
    expect(facts.locator(".facts-text")).to_have_text("Finished: 40 questions.", timeout=60_000)
    expect(facts.locator("tbody tr")).to_have_count(2)
    expect(facts).to_contain_text("%")
    expect(facts.locator(".facts-note")).to_contain_text("p = 1")
    note = facts.locator(".facts-note").text_content()
    right = int(re.search(r"both right (\d+)", note).group(1))
    assert right
    compare.locator("#task-kind label", has_text="both right").click()
    expect(compare.locator("#task-kind label", has_text="both right")).to_contain_text(f"({right})")
    table = compare.locator("#task-table")
    expect(table.get_by_text("neither")).to_have_count(0)
    table.get_by_text("both right").locator("visible=true").first.click()
    for view in ("#view-a", "#view-b"):
        expect(compare.locator(f"{view} .tv-badge")).to_have_text("✓ correct", timeout=20_000)
    expect(compare.locator("#view-a .tv-status")).to_contain_text("same, token by token")
    question = compare.locator("#view-a .tv-prompt-text").text_content()
    expect(compare.locator("#compare-prompt textarea")).to_have_value(question)


def test_a_task_that_is_none_is_named(compare):
    compare.locator("#task-spec input").fill("reasoning-gym:no_such_task")
    compare.locator("#task-spec input").press("Enter")
    compare.locator("#task-run").click()
    expect(compare.locator("#task-totals .facts-text[role=alert]")).to_contain_text(
        "no_such_task", timeout=20_000
    )


def test_the_seed_of_a_sampled_comparison_is_the_readers(compare):
    choose(compare, "#model-b", "builtin:tiny-reasoner")
    for control, value in (("n", "6"), ("temperature", "1.5")):
        box = compare.locator(f"#task-{control} input[type=number]")
        box.fill(value)
        box.press("Enter")
    found = []
    for seed in ("0", "1", "0"):
        compare.locator("#task-seed input").fill(seed)
        compare.locator("#task-seed input").press("Tab")
        status = compare.locator("#task-totals .facts-text")
        if found:  # six questions may be done before anybody sees them begin
            status.evaluate("element => { element.textContent = '' }")
        compare.locator("#task-run").click()
        expect(status).to_have_text("Finished: 6 questions.", timeout=60_000)
        found.append(compare.locator("#task-totals tbody").text_content())
    assert found[0] == found[2] != found[1]


def test_an_opened_row_is_what_the_model_wrote_with_its_end(engine):
    from erpo_hub.ui.tabs import over_task

    context = a_context({"model": engine})
    settings = {"temperature": 0.0, "max_new_tokens": 24, "seed": 0}
    *_, (_, batch) = compare_over_task(context, ("model", "model"), TASK, 40, settings, threading.Event())
    assert {True, False} == {row["truncated"][0] for row in batch.rows}  # both kinds of end
    for row in batch.rows[:12]:
        shown = returned(over_task._scored(context, batch, row, 0, threading.Event()))
        written = engine.trace(row["prompt"], temperature=0.0, max_new_tokens=24)
        assert shown.tokens == written.tokens
        assert len(shown) == row["lengths"][0]
        assert shown.finish_reason == written.finish_reason


def test_a_task_of_a_record_that_costs_too_much_is_one_line(engine, monkeypatch):
    monkeypatch.setattr(task_comparison, "MAKING", 2.0)
    spec = "reasoning-gym:chain_sum?min_terms=300000&max_terms=300000"
    asked = compare_over_task(
        a_context({"model": engine}), ("model", "model"), spec, 1, {}, threading.Event()
    )
    with pytest.raises(UserError, match="making it takes more than 2 s"):
        list(asked)


def test_a_runs_own_answers_are_taken_where_they_fit(engine, tmp_path):
    from erpo_hub.evaluation.sampling import evaluate

    folder = tmp_path / "erpo"
    folder.mkdir()
    (folder / "run.json").write_text('{"algorithm": "erpo", "status": "finished"}')
    settings = {"temperature": 0.0, "max_new_tokens": 24, "seed": 0}
    log = folder / "evaluation" / "final.jsonl"
    made = evaluate(engine.model, TASK, tokenizer=engine.tokenizer, n=8, resume_path=log, **settings)
    context = a_context({}, folder)

    def compared(n: int, **changes: object) -> tuple[str, object]:
        *_, last = compare_over_task(
            context, ("erpo", "erpo"), TASK, n, settings | changes, threading.Event()
        )
        return last

    text, batch = compared(6, seed=5)  # greedy: no seed matters, and there is no model at all
    assert text == "Finished: 6 questions. From the evaluation after training: erpo and erpo."
    assert [row["completions"][0] for row in batch.rows] == [q["completions"][0] for q in made.questions[:6]]
    assert [row["number"] for row in batch.rows] == [1, 2, 3, 4, 5, 6]
    _, whole = compared(8)
    side, summary = whole.totals()["sides"][0], made.summary()
    for ours, theirs in (("entropy", "mean_entropy"), ("length", "mean_length"), ("accuracy", "accuracy")):
        assert side[ours] == pytest.approx(summary[theirs])  # the same number as under Runs
    for n, changes in ((9, {}), (6, {"max_new_tokens": 25}), (6, {"temperature": 0.5})):
        # it would have to ask the model, and there is none
        with pytest.raises(UserError, match="not among the models"):
            compared(n, **changes)
    lines = log.read_text().splitlines()
    log.write_text(
        "\n".join([lines[0], *(line.replace('"prompt": "', '"prompt": "1+') for line in lines[1:])])
    )
    with pytest.raises(UserError, match="not among the models"):
        compared(6)
    log.write_text("half a li")
    with pytest.raises(UserError, match="not among the models"):
        compared(6)


def a_context(engines: dict, *paths) -> Context:
    library = open_library(paths, Limits(models=()))
    return Context(library, Engines(library, engines))


QUESTION = {
    "index": 0,
    "prompt": "a\u2028b\u0085c",
    "answer": "7",
    "completions": ["7\u2029"],
    "scores": [1.0],
    "correct": [True],
    "lengths": [2],
    "truncated": [False],
    "entropies": [0.1],
    "pivots": [0],
    "pivot_entropies": [None],
}
ASKED = {"k": 1, "top_p": 1.0, "temperature": 0.0, "max_new_tokens": 24}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_log_is_read_line_by_line_whatever_its_texts_hold(tmp_path, end):
    from erpo_hub.evaluation.results import QuestionLog
    from erpo_hub.ui.library import answers, sides

    log = QuestionLog(tmp_path / "evaluation" / "final.jsonl", {"evaluation": ASKED})
    log.add([QUESTION], {})
    log.close()
    log.path.write_bytes(log.path.read_bytes().replace(b"\n", end.encode()))
    assert sides._parsed(log.path, 0) == [QUESTION]
    settings = {"temperature": 0.0, "max_new_tokens": 24, "seed": 0}
    assert answers.recorded_answers(tmp_path, [QUESTION], settings) == [QUESTION]


@pytest.mark.parametrize(
    "text", ['{"evaluation": [1]}', '{"evaluation": ' + "[" * 100_000, "[]", "", '{"evaluation": {}}\n[1]']
)
def test_a_file_that_is_no_log_holds_no_answers(tmp_path, text):
    from erpo_hub.ui.library.answers import recorded_answers

    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation" / "final.jsonl").write_text(text)
    assert recorded_answers(tmp_path, [QUESTION], {"temperature": 0.0, "seed": 0}) is None
