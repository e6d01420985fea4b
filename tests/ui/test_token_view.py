"""The token view as a reader uses it: what is drawn, pointed at, pressed; and that no text becomes code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from erpo_hub.traces.pivots import describe, find_pivots
from erpo_hub.traces.trace import Trace
from erpo_hub.ui.view.token_view import status_message, trace_message

from .conftest import HOSTILE, long_trace, make_trace, open_trace, receive, tokens, traces, watched


def expect(page):
    from playwright.sync_api import expect

    return expect(page)


def test_the_first_screen_is_full(page):
    assert tokens(page).count() == len(traces()[0])
    expect(page.locator("#view .tv-stats")).to_contain_text("✓ correct")
    expect(page.locator("#view .tv-legend")).to_contain_text("0.10–0.50")
    assert page.locator("#view .tv-tok.tv-pivot").count() == len(traces()[0].pivots)


def test_hostile_text_is_shown_and_does_nothing(page):
    open_trace(page, "alert(1)")
    expect(tokens(page)).to_have_count(len(HOSTILE))
    shown = tokens(page).all_text_contents()
    assert shown[:5] == [HOSTILE[0], HOSTILE[1], HOSTILE[2], HOSTILE[3], HOSTILE[4]]
    assert shown[6] == "⟨U+202E⟩evil⟨U+202C⟩"
    assert shown[-1] == "⟨U+200F⟩"
    assert page.locator("#view img, #view script").count() == 0
    tokens(page).nth(2).click()
    expect(page.locator("#view .tv-card-token")).to_have_text(HOSTILE[2])
    page.locator("#view .tv-canvas").hover(position={"x": 200, "y": 30})
    expect(page.locator("#view .tv-prompt-text")).to_contain_text("<img src=x onerror=alert(2)>")


def test_a_token_of_a_megabyte_is_cut_and_counted(page):
    receive(page, trace_message(make_trace(["x" * 1_000_000, " end"])))
    text = tokens(page).first.text_content()
    assert len(text) < 2100
    assert "(1,000,000 characters)" in text


def test_a_split_character_is_one_cell_and_white_space_is_visible(page):
    open_trace(page, "Smile")
    expect(tokens(page)).to_have_count(5)
    assert tokens(page).all_text_contents() == ["a·", "🙂", "··", "end↵↵", "z"]
    tokens(page).nth(1).click()
    expect(page.locator("#view .tv-card")).to_contain_text("3 tokens make this character")


def test_what_follows_a_line_break_heads_the_next_line(page):
    pieces = ["if", " x", ":\n\t", "y", "\n\n  ", "z = 1\n    w", " = 2", "\n"]
    receive(page, trace_message(make_trace(pieces)))
    lines = page.locator("#view .tv-line").all_text_contents()
    assert lines == ["if x:↵", "⇥y↵↵", "··z = 1↵", "····w = 2↵"]
    assert tokens(page).count() == len(pieces)
    page.locator("#view .tv-tail").first.click()
    expect(page.locator("#view .tv-card.tv-pinned")).to_contain_text("token 3 of")


def test_the_table_begins_with_the_strongest_pivot_and_sorts(page):
    trace = long_trace(4_000)
    peak = 3_901
    entropy = [0.9 * h for h in trace.entropy]
    entropy[peak] = max(trace.entropy)
    receive(page, trace_message(trace.replace(entropy=entropy).with_pivots()))
    page.locator("#view .tv-table summary").click()
    rows = page.locator("#view .tv-grid tbody tr")
    expect(rows).to_have_count(500)
    expect(rows.first.locator("td").first).to_have_text(str(peak + 1))
    page.locator("#view .tv-sort", has_text="token").click()
    places = [int(text) for text in rows.locator("td:first-child").all_text_contents()]
    assert places == sorted(places)
    expect(page.locator("#view th[aria-sort=ascending]")).to_have_text("token ▴")


def test_hovering_shows_what_is_known_and_a_click_pins_it(page):
    tokens(page).nth(2).hover()
    card = page.locator("#view .tv-card")
    expect(card).to_contain_text("token 3 of")
    for word in ("entropy", "nats", "bits", "choices", "probability", "alt"):
        expect(card).to_contain_text(word)
    assert card.locator(".tv-fork").count() == 0
    tokens(page).nth(2).click()
    page.mouse.move(5, 5)
    expect(card).to_be_visible()
    assert card.locator(".tv-fork").count() == 3
    card.locator(".tv-close").click()
    expect(card).to_be_hidden()


def test_sensitivity_is_shown_where_it_was_measured(page):
    open_trace(page, "measured")
    expect(page.locator("#view .tv-stats")).to_contain_text("✗ wrong")
    tokens(page).nth(4).click()
    expect(page.locator("#view .tv-card")).to_contain_text("0.4 logit²")
    page.locator("#view .tv-display summary").click()
    page.locator("#view .tv-scale").select_option("sensitivity")
    expect(page.locator("#view .tv-legend")).to_contain_text("logit²")


def test_the_sliders_move_the_pivots_without_the_server(page, server):
    trace = traces()[0]
    page.wait_for_function("performance.getEntriesByType('resource').some((r) => /queue.data/.test(r.name))")
    calls = []
    page.on("request", lambda r: calls.append(r.url))
    for quantile, floor in ((0.5, 0.1), (0.9, 0.0), (0.2, 1.0)):
        set_slider(page, ".tv-quantile", quantile)
        set_slider(page, ".tv-floor", floor)
        wanted = find_pivots(trace.entropy, quantile, floor)
        expect(page.locator("#view .tv-tok.tv-pivot")).to_have_count(len(wanted))
        assert page.evaluate("document.querySelector('#view .tv').__view.pivots") == wanted
    page.locator("#view .tv-table summary").click()
    expect(page.locator("#view .tv-grid tbody tr")).to_have_count(len(wanted))
    assert not [c for c in calls if "queue" in c or "/run/" in c]


SHIPPED = Path(__file__).parents[2] / "spaces" / "inspector" / "traces" / "smollm2-sum-1-right.json"
MARKED = "document.querySelector('#view .tv').__view.pivots"


def test_the_pivots_are_those_of_the_record_until_a_slider_moves(page):
    trace = Trace.from_json(SHIPPED)
    with_floor = find_pivots(trace.entropy, 0.75, 0.1)
    assert trace.pivots != with_floor  # else this test would show nothing
    receive(page, trace_message(trace))
    count = page.locator("#view .tv-pivot-count")
    expect(count).to_have_text(f"{len(trace.pivots)} pivots ({describe(trace.pivot_rule)})")
    assert page.evaluate(MARKED) == trace.pivots
    expect(page.locator("#view .tv-floor")).to_have_js_property("value", "0")
    expect(page.locator("#view .tv-recorded")).to_be_hidden()
    set_slider(page, ".tv-floor", 0.1)
    expect(count).to_contain_text("as the sliders are set")
    assert page.evaluate(MARKED) == with_floor
    page.locator("#view .tv-display summary").click()
    page.locator("#view .tv-recorded").click()
    assert page.evaluate(MARKED) == trace.pivots
    expect(page.locator("#view .tv-recorded")).to_be_hidden()


def test_pivots_of_another_or_of_an_unknown_rule_are_shown_and_said(page):
    trace = Trace.from_json(SHIPPED).with_pivots(0.5, 0.05)
    receive(page, trace_message(trace))
    count = page.locator("#view .tv-pivot-count")
    expect(count).to_contain_text("entropy above the 0.5-quantile and at least 0.05 nats")
    assert page.evaluate(MARKED) == trace.pivots
    expect(page.locator("#view .tv-quantile")).to_have_js_property("value", "0.5")
    receive(page, trace_message(trace.replace(pivots=[1, 3], pivot_rule=None)))
    expect(count).to_have_text("2 pivots (by a rule that is not recorded)")
    assert page.evaluate(MARKED) == [1, 3]
    receive(page, trace_message(trace.replace(pivots=[], pivot_rule=None)))  # nobody looked for any
    expect(count).to_contain_text("entropy above the 0.75-quantile")
    assert page.evaluate(MARKED) == find_pivots(trace.entropy)


def set_slider(page, name: str, value: float) -> None:
    page.locator(f"#view {name}").evaluate(
        "(e, v) => { e.value = v; e.dispatchEvent(new Event('input', { bubbles: true })); }", value
    )


def test_units_and_percentiles(page):
    page.locator("#view .tv-display summary").click()
    page.locator("#view .tv-unit").select_option("bits")
    expect(page.locator("#view .tv-legend")).to_contain_text("0.72–1.44")
    expect(page.locator("#view .tv-stats")).to_contain_text("bits")
    page.locator("#view .tv-unit").select_option("choices")
    expect(page.locator("#view .tv-legend")).to_contain_text("1.1")
    before = page.locator("#view .tv-h5").count()
    page.locator("#view .tv-scale").select_option("percentile")
    assert page.locator("#view .tv-tok.tv-h5").count() != before
    page.locator("#view .tv-spaces").check()
    expect(tokens(page).first).to_have_text("·Let")


def test_map_and_text_point_at_each_other(page):
    canvas = page.locator("#view .tv-canvas")
    box = canvas.bounding_box()
    n = len(traces()[0])
    at = {"x": box["width"] * 7.5 / n, "y": 40}
    canvas.hover(position=at)
    expect(page.locator("#view .tv-card")).to_contain_text("token 8 of")
    canvas.click(position=at)
    expect(tokens(page).nth(7)).to_have_attribute("aria-selected", "true")
    expect(page.locator("#view .tv-card.tv-pinned")).to_contain_text("token 8 of")


def test_keyboard_alone_reads_a_trace(page):
    page.locator("#view .tv-display summary").focus()
    page.keyboard.press("Tab")
    focused = "document.activeElement.dataset.c"
    assert page.evaluate("document.activeElement.classList.contains('tv-tok')")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.evaluate(focused) == "2"
    expect(page.locator("#view .tv-card")).to_contain_text("token 3 of")
    page.keyboard.press("n")
    pivots = traces()[0].pivots
    assert int(page.evaluate(focused)) == next(p for p in pivots if p > 2)
    page.keyboard.press("End")
    page.keyboard.press("p")
    assert int(page.evaluate(focused)) == [p for p in pivots if p < len(traces()[0]) - 1][-1]
    page.keyboard.press("ArrowUp")
    assert int(page.evaluate(focused)) < pivots[-1]
    page.keyboard.press("Enter")
    expect(page.locator("#view .tv-card.tv-pinned")).to_be_visible()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('.tv-card') !== null")
    page.keyboard.press("Escape")
    expect(page.locator("#view .tv-card")).to_be_hidden()
    assert page.evaluate("document.activeElement.classList.contains('tv-tok')")
    assert page.locator("#view .tv-tok[tabindex='0']").count() == 1


def test_every_token_says_what_it_is(page):
    label = tokens(page).nth(1).get_attribute("aria-label")
    for word in ("token 2", "entropy", "probability"):
        assert word in label
    assert ", pivot" in page.locator("#view .tv-tok.tv-pivot").first.get_attribute("aria-label")


def test_ten_thousand_tokens_are_drawn_quickly(page):
    message = trace_message(long_trace(10_000))
    took = page.evaluate(
        "(m) => { const v = document.querySelector('#view .tv').__view, t = performance.now(); v.receive(m);"
        " v.parts.tokens.getBoundingClientRect(); return performance.now() - t; }",
        message,
    )
    assert tokens(page).count() == 10_000
    assert took < 1000, took


def test_deltas_add_up_even_when_a_message_is_lost(page):
    message = json.loads(trace_message(make_trace([f"{i} " for i in range(12)])))
    part = ("tokens", "pieces", "entropy", "logprob", "topk_ids", "topk_probs")
    empty = {**message, "run": "r", "running": True, **{name: [] for name in part}}
    receive(page, json.dumps(empty))

    def delta(start: int, end: int) -> str:
        columns = {name: message[name][start:end] for name in part}
        return json.dumps({"op": "delta", "run": "r", "start": start, "strings": {}, "text": "…"} | columns)

    receive(page, delta(0, 4))
    receive(page, delta(2, 8))  # overlaps
    assert tokens(page).count() == 8
    receive(page, delta(10, 12))  # a hole
    assert tokens(page).count() == 8
    expect(page.locator("#view .tv-status")).to_have_text("Catching up…")
    receive(page, json.dumps({**message, "run": "r", "text": "Finished."}))
    assert tokens(page).count() == 12
    expect(page.locator("#view .tv-status")).to_have_text("Finished.")


def test_errors_are_announced(page):
    receive(page, status_message("No <b>such</b> model", error=True))
    expect(page.locator("#view .tv-status[role=alert]")).to_have_text("No <b>such</b> model")


def contrast(page, selector: str) -> float:
    return page.locator(selector).first.evaluate(
        """(e) => {
          const lum = (c) => c.map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
            .reduce((s, v, i) => s + v * [0.2126, 0.7152, 0.0722][i], 0);
          const rgb = (s) => s.match(/[\\d.]+/g).slice(0, 3).map(Number), style = getComputedStyle(e);
          const a = lum(rgb(style.color)), b = lum(rgb(style.backgroundColor));
          return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05); }"""
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_on_every_heat(browser, server, scheme):
    with watched(browser, server, f"?__theme={scheme}") as page:
        for level in range(1, 6):
            assert contrast(page, f"#view .tv-swatch.tv-h{level}") >= 4.5


def test_on_a_phone_the_card_is_a_sheet_and_nothing_overflows(phone):
    assert phone.evaluate("document.documentElement.scrollWidth <= window.innerWidth + 1")
    tokens(phone).nth(3).tap()
    box = phone.locator("#view .tv-card.tv-pinned").bounding_box()
    assert box["x"] <= 1
    assert abs(box["y"] + box["height"] - 844) < 3
