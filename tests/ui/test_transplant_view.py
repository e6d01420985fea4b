"""Compare's swapped tokens: base beside trained, a slider that rewrites the answer, both distributions."""

from __future__ import annotations

import copy
import json
import os

import pytest
import torch
from playwright.sync_api import expect

from erpo_hub.ui.view.transplant_view import swaps_message

from .conftest import HOSTILE, OWNER, watched
from .test_accessibility import SIZES, violations

QUESTION = "7-2*3+4="


@pytest.fixture(scope="module")
def trained(engine):
    """The embedded model with its weights shaken, so that it wants other tokens here and there."""
    from erpo_hub.traces.engine import Engine

    model, noise = copy.deepcopy(engine.model), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1 * weight.std() * torch.randn(weight.shape, generator=noise)
    return Engine(model, engine.tokenizer, name="trained")


@pytest.fixture(scope="module")
def app(engine, trained):
    from erpo_hub.ui import build_demo, launch_kwargs

    engines = {"builtin:tiny-reasoner": engine, "trained": trained}
    demo = build_demo(engines=engines, door=OWNER)
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, **launch_kwargs(OWNER))
    yield url
    demo.close()


def opened(page):
    page.get_by_role("tab", name="Compare").click()
    page.get_by_text("Which tokens did training change?").click()
    expect(page.locator("#swaps-run")).to_be_visible()
    return page


def swapped(page):
    opened(page).locator("#compare-prompt textarea").fill(QUESTION)
    page.locator("#compare-gold textarea").fill("5")
    page.locator("#swaps-run").click()
    expect(page.locator("#swaps-view .sv-all")).to_be_visible(timeout=30_000)
    return page


def pieces(page, side: int) -> str:
    return page.locator("#swaps-view .sv-text").nth(side).inner_text()


def slide(page, k: int) -> None:
    page.locator("#swaps-view .sv-swaps").evaluate(
        "(e, k) => { e.value = k; e.dispatchEvent(new Event('input', { bubbles: true })); }", k
    )


def test_the_slider_rewrites_the_answer_until_it_is_the_trained_models(browser, app, engine, trained):
    with watched(browser, app) as page:
        swapped(page)
        ours, theirs = (e.trace(QUESTION, temperature=0.0, max_new_tokens=256) for e in (engine, trained))
        assert ours.completion != theirs.completion  # the shaken weights do differ on this question
        at = next(t for t, (a, b) in enumerate(zip(ours.tokens, theirs.tokens)) if a != b)
        left = page.locator("#swaps-view .sv-text").first
        assert pieces(page, 0).removesuffix("(end)") == ours.completion
        assert pieces(page, 1).removesuffix("(end)") == theirs.completion
        expect(left.locator(".sv-differs").first).to_have_attribute("data-t", str(at))
        slide(page, 1)
        fork = engine.fork_trace(ours, at, theirs.tokens[at])
        assert pieces(page, 0).removesuffix("(end)") == fork.completion
        expect(left.locator(".sv-swap")).to_have_attribute("data-t", str(at))
        expect(page.locator("#swaps-view .sv-count")).to_contain_text("1 of ")
        expect(page.locator("#swaps-view .sv-token")).to_contain_text("taken from the trained model")
        slide(page, int(page.locator("#swaps-view .sv-swaps").get_attribute("max")))
        assert pieces(page, 0) == pieces(page, 1)
        expect(page.locator("#swaps-view .sv-status")).to_contain_text("writes the trained model's answer")


def test_hover_and_keys_show_both_distributions(browser, app, engine, trained):
    with watched(browser, app) as page:
        swapped(page)
        ours = engine.trace(QUESTION, temperature=0.0, max_new_tokens=256)
        read = trained.score(QUESTION, ours.tokens)
        page.locator("#swaps-view .sv-text").first.locator(".sv-tok").nth(2).hover()
        for i, trace in enumerate((ours, read)):
            first = page.locator("#swaps-view .sv-dist").nth(i).locator("li").first
            expect(first).to_contain_text(f"{100 * round(trace.topk_probs[2][0], 4):.1f} %")
        page.locator("#swaps-view .sv-text").first.focus()
        page.keyboard.press("ArrowRight")
        expect(page.locator("#swaps-view .sv-token")).to_contain_text("Token 4:")
        page.keyboard.press("Home")
        page.keyboard.press("n")
        expect(page.locator("#swaps-view .sv-token")).to_contain_text("disagree")
        page.locator("#swaps-view .sv-swaps").focus()
        page.keyboard.press("ArrowRight")
        expect(page.locator("#swaps-view .sv-count")).to_contain_text("1 of ")


@pytest.mark.parametrize(("size", "scheme"), [("desktop", "light"), ("phone", "dark")])
def test_nothing_seriously_inaccessible_and_nothing_wider_than_the_page(browser, app, size, scheme):
    with watched(browser, app, f"?__theme={scheme}", **SIZES[size]) as page:
        swapped(page)
        slide(page, 1)
        if shots := os.environ.get("SHOTS"):  # to look at
            page.locator("#swaps").scroll_into_view_if_needed()
            page.screenshot(path=f"{shots}/{size}-{scheme}.png")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert violations(page) == []


def test_what_a_model_writes_stays_text_and_what_fails_is_said(browser, app):
    row = {"pieces": HOSTILE, "correct": None, "ended": True, "swaps": [1], "differ": [0]}
    row |= {name: [[[text, 0.5]] for text in HOSTILE] for name in ("base", "trained")}
    message = swaps_message("<b>x</b>", HOSTILE[:2], HOSTILE[2], HOSTILE[3], [row, row], row)
    with watched(browser, app) as page:
        opened(page)
        page.evaluate("(m) => document.querySelector('#swaps-view .sv').__view.receive(m)", message)
        shown = page.evaluate(
            "[...document.querySelectorAll('#swaps-view .sv-text')[0].children].map((n) => n.textContent)"
        )
        assert shown == json.loads(message)["steps"][0]["pieces"]
        expect(page.locator("#swaps-view .sv-dist li").first).to_be_visible()
        page.locator("#compare-prompt textarea").fill(" ")
        page.locator("#swaps-run").click()
        expect(page.locator("#swaps-view .sv-status[role=alert]")).to_contain_text("empty", timeout=20_000)
