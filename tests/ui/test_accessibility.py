"""axe-core on every tab, light and dark, desktop and phone: no serious violation."""

from __future__ import annotations

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
    return page.evaluate(RUN)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_tab_at_desktop_width(browser, server, scheme):
    with watched(browser, server, f"?__theme={scheme}") as page:
        expect(page.locator("#curve .js-plotly-plot")).to_be_visible()
        tokens(page).nth(3).click()
        assert violations(page) == []
        for tab, landmark in (("Compare", "#compare-run"), ("Runs", "#runs-plot"), ("Card", "#card-preview")):
            page.get_by_role("tab", name=tab).click()
            expect(page.locator(landmark)).to_be_visible()
            assert violations(page) == [], tab


def test_inspect_on_a_phone(phone):
    expect(phone.locator("#curve .js-plotly-plot")).to_be_visible()
    tokens(phone).nth(3).tap()
    assert violations(phone) == []
