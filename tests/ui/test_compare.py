"""Compare: two models on one question, and over a task's held-out questions."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from .conftest import choose, tokens


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
    compare.locator("#compare-tokens input[type=number]").fill("12")
    compare.locator("#compare-run").click()
    for view in ("#view-a", "#view-b"):
        expect(compare.locator(f"{view} .tv-badge")).to_have_text(
            re.compile("✓ correct|✗ wrong"), timeout=30_000
        )
        expect(compare.locator(f"{view} .tv-diverge")).to_have_count(1)
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
    compare.locator("#batch-n input[type=number]").fill("40")
    compare.locator("#batch-n input[type=number]").press("Enter")
    compare.locator("#batch-run").click()
    facts = compare.locator("#batch-totals")
    expect(facts.locator(".facts-text")).to_have_text("Finished: 40 questions.", timeout=60_000)
    expect(facts.locator("tbody tr")).to_have_count(2)
    expect(facts).to_contain_text("%")
    expect(facts.locator(".facts-note")).to_contain_text("p = 1")
    note = facts.locator(".facts-note").text_content()
    right = int(re.search(r"both right (\d+)", note).group(1))
    compare.locator("#batch-kind label", has_text="both right").click()
    expect(compare.locator("#batch-kind label", has_text="both right")).to_contain_text(f"({right})")
    table = compare.locator("#batch-table")
    expect(table.get_by_text("neither")).to_have_count(0)
    table.get_by_text("both right").locator("visible=true").first.click()
    for view in ("#view-a", "#view-b"):
        expect(compare.locator(f"{view} .tv-badge")).to_have_text("✓ correct", timeout=20_000)
    expect(compare.locator("#view-a .tv-status")).to_contain_text("same, token by token")
    question = compare.locator("#view-a .tv-prompt-text").text_content()
    expect(compare.locator("#compare-prompt textarea")).to_have_value(question)


def test_a_task_that_is_none_is_named(compare):
    compare.locator("#batch-task input").fill("reasoning-gym:no_such_task")
    compare.locator("#batch-task input").press("Enter")
    compare.locator("#batch-run").click()
    expect(compare.locator("#batch-totals .facts-text[role=alert]")).to_contain_text(
        "no_such_task", timeout=20_000
    )
