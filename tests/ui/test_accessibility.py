"""axe-core on every tab, light and dark, desktop and phone: no serious violation."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from .axe import axe_source
from .conftest import tokens, watched

RUN = """async () => (await axe.run(document, { resultTypes: ["violations"] })).violations
  .filter((v) => v.impact === "serious" || v.impact === "critical")
  .map((v) => v.id + ": " + v.nodes.slice(0, 4).map((n) => n.html.slice(0, 160)).join(" ;; "))"""


def violations(page) -> list[str]:
    if not page.evaluate("typeof axe === 'object'"):
        page.evaluate(axe_source())
    expect(page.locator("[aria-label='Empty value']:visible")).to_have_count(
        0
    )  # a plot that Gradio still loads
    page.wait_for_timeout(250)  # page.js mends what Gradio has just drawn
    return page.evaluate(RUN)


SIZES = {
    "desktop": {"viewport": {"width": 1360, "height": 950}},
    "phone": {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True},
}
TABS = (("Compare", "#compare-run"), ("Group", "#group"), ("Runs", "#runs-plot"), ("Card", "#card-preview"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_every_tab(browser, server, size, scheme):
    with watched(browser, server, f"?__theme={scheme}", **SIZES[size]) as page:
        expect(page.locator("#view .tv-canvas")).to_be_visible()
        tokens(page).nth(3).click()
        assert violations(page) == []
        page.locator("#view .tv-card .tv-close").click()
        for tab, landmark in TABS:
            open_tab(page, tab)
            expect(page.locator(landmark)).to_be_visible()
            assert violations(page) == [], tab
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth + 1"), tab


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_comparison_with_its_table_on_a_phone(browser, server, scheme):
    with watched(browser, server, f"?__theme={scheme}", **SIZES["phone"]) as page:
        open_tab(page, "Compare")
        page.locator("#task-n input[type=number]").fill("8")
        page.locator("#task-n input[type=number]").press("Enter")
        page.locator("#task-run").tap()
        expect(page.locator("#task-totals .facts-text")).to_contain_text("Finished", timeout=60_000)
        page.locator("#task-table").get_by_text(re.compile("both right|neither")).locator(
            "visible=true"
        ).first.tap()
        expect(page.locator("#view-b .tv-badge")).to_be_visible(timeout=30_000)
        assert violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth + 1")


def test_words_stay_whole_on_a_phone_and_what_is_wider_scrolls_by_keyboard(browser, server):
    with watched(browser, server, **SIZES["phone"]) as page:
        for tab, box, cells in (
            ("Runs", "#runs-results .facts-box", "#runs-results th, #runs-results td"),
            ("Card", "#card-preview table", "#card-preview th, #card-preview td"),
        ):
            open_tab(page, tab)
            expect(page.locator(box).first).to_have_attribute("tabindex", "0")
            narrow = page.locator(cells).evaluate_all(
                "(cells) => cells.filter((c) => c.innerText.length > 3 && c.offsetWidth < 40).length"
            )
            assert narrow == 0, tab
        open_tab(page, "Runs")
        expect(page.locator("#runs-plot")).to_have_attribute("tabindex", "0")


def open_tab(page, name: str) -> None:
    """Open a tab; on a narrow page it may be in the menu of those that have no room."""
    tab = page.get_by_role("tab", name=name)
    if not tab.is_visible():
        page.locator(".overflow-menu > button").click()
        tab = page.locator(".overflow-dropdown").get_by_text(name)
    tab.click()
