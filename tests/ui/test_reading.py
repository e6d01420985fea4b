"""Reading a solution in Inspect: first screen, map, strong pivots, steps, find, reading mode, figures."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from erpo_hub.traces.pivots import find_pivots
from erpo_hub.ui.view.formulas import drawn
from erpo_hub.ui.view.reading import read_nodes
from erpo_hub.ui.view.token_view import trace_message

from .conftest import HOSTILE, long_trace, make_trace, open_trace, receive, tokens, traces, watched

PEAK = 2899
# where the first visible character of a node stands
INK = """node => {
  const text = document.createTreeWalker(node, NodeFilter.SHOW_TEXT).nextNode();
  const range = document.createRange();
  range.setStart(text, text.data.search(/\\S/));
  range.setEnd(text, text.data.search(/\\S/) + 1);
  return range.getBoundingClientRect().left;
}"""
SIZES = {
    "desktop": {"viewport": {"width": 1440, "height": 900}},
    "phone": {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True},
}


def peaked(n: int = 3000):
    """n tokens, the strongest pivot far down."""
    trace = long_trace(n)
    entropy = [0.9 * h for h in trace.entropy]
    entropy[PEAK] = max(trace.entropy)
    return trace.replace(entropy=entropy, prompt="peaked").with_pivots()


@pytest.mark.parametrize("size", SIZES)
def test_the_first_screen_is_for_reading(browser, server, size):
    with watched(browser, server, **SIZES[size]) as page:
        height = SIZES[size]["viewport"]["height"]
        for part in ("#prompt textarea", "#view .tv-badge", "#view .tv-canvas"):
            box = page.locator(part).bounding_box()
            assert box["y"] >= 0
            assert box["y"] + box["height"] <= height, part
        assert page.locator("#view .tv-tokens").bounding_box()["y"] < height - 120
        # the box scrolls away under a sheet
        expect(page.locator("#view .tv-asked")).to_be_visible(visible=size == "phone")
        expect(page.locator("#gold")).to_be_hidden()
        page.locator("#drawer-open").click()
        expect(page.locator("#gold textarea")).to_be_visible()
        expect(page.locator("#drawer-open")).to_have_attribute("aria-expanded", "true")
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth + 1")


def test_a_long_solution_opens_with_its_strongest_pivots(page):
    trace = peaked()
    receive(page, trace_message(trace))
    strongest = sorted(trace.pivots, key=lambda t: (-trace.entropy[t], t))
    expect(page.locator("#view .tv-strong")).to_have_count(12)
    expect(page.locator("#view .tv-pivot")).to_have_count(len(trace.pivots))  # the rule's, told apart
    expect(page.locator("#view .tv-pivot-count")).to_contain_text("entropy above the 0.75-quantile")
    expect(page.locator("#view .tv-marked-count")).to_contain_text("12 strongest by entropy")
    expect(page.locator("#view .tv-rank-item").first).to_contain_text(f"token {PEAK + 1}")
    chosen = page.locator("#view .tv")
    page.locator("#view .tv-strongest").click()
    expect(chosen).to_have_attribute("data-selected", str(PEAK))
    expect(page.locator("#view .tv-selected")).to_be_in_viewport()
    expect(page.locator("#view .tv-card")).to_contain_text("number 1 by entropy")
    for _ in range(2):
        page.locator("#view .tv-weaker").click()
    expect(chosen).to_have_attribute("data-selected", str(strongest[2]))
    page.locator("#view .tv-stronger").click()
    expect(chosen).to_have_attribute("data-selected", str(strongest[1]))
    page.locator("#view .tv-display summary").click()
    page.locator("#view .tv-k").fill("3")
    expect(page.locator("#view .tv-strong")).to_have_count(3)
    page.locator("#view .tv-marks").select_option("rule")
    expect(page.locator("#view .tv-strong")).to_have_count(len(find_pivots(trace.entropy)))


def test_pivots_are_ranked_by_what_was_measured(page):
    open_trace(page, "measured")
    trace = traces()[3]
    page.locator("#view .tv-display summary").click()
    page.locator("#view .tv-by").select_option("sensitivity")
    page.locator("#view .tv-strongest").click()
    wanted = max(trace.pivots, key=lambda t: trace.sensitivity[t])
    expect(page.locator("#view .tv")).to_have_attribute("data-selected", str(wanted))
    page.locator("#view .tv-close").click()
    expect(page.locator("#view .tv-side-title")).to_have_text("Strongest pivots, by sensitivity")


def test_the_map_goes_to_the_peak_moves_the_window_and_zooms(page):
    receive(page, trace_message(peaked()))
    canvas = page.locator("#view .tv-canvas")
    box = canvas.bounding_box()
    near = box["width"] * (PEAK + 0.5) / 3000 + 2  # beside it: the peak is found
    canvas.click(position={"x": near, "y": 40})
    expect(page.locator("#view .tv")).to_have_attribute("data-selected", str(PEAK))
    page.keyboard.press("Escape")
    page.mouse.move(box["x"] + 10, box["y"] + 30)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 30, steps=8)
    page.mouse.up()
    first, last = page.evaluate("document.querySelector('#view .tv').__view.map.seen")
    assert first - 120 <= 1500 <= last + 120, (first, last)
    page.locator("#view .tv-zoom-in").click()
    expect(page.locator("#view .tv-map-text")).to_contain_text("of 3,000")
    page.locator("#view .tv-zoom-all").click()
    expect(page.locator("#view .tv-map-text")).to_contain_text("3,000 tokens, highest entropy")
    canvas.focus()
    page.keyboard.press("End")
    page.wait_for_function("document.querySelector('#view .tv').__view.map.seen[1] > 2900")
    assert canvas.get_attribute("aria-valuetext").startswith("tokens ")


# The picture and the text of each frame: a text that was ever seen with two pictures is a fault.
FRAMES = """async (messages) => {
  const view = document.querySelector('#view .tv').__view, seen = {}, canvas = view.parts.canvas;
  const look = () => {
    const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
    let hash = 0;
    for (let i = 0; i < data.length; i += 4) hash = (hash * 31 + data[i] + 7 * data[i + 3]) | 0;
    const text = view.parts.tokens.firstChild?.textContent.slice(0, 40);
    (seen[text] = seen[text] || new Set()).add(hash);
  };
  for (let i = 0; i < 24; i++) {
    view.receive(messages[i % messages.length]);
    look();
    await new Promise((r) => requestAnimationFrame(() => (look(), r())));
  }
  return Object.values(seen).map((s) => s.size);
}"""


def test_map_and_text_never_show_two_traces(page):
    made = [trace_message(make_trace([f"{k}-{i} " for i in range(300)], seed=k)) for k in range(3)]
    assert page.evaluate(FRAMES, made) == [1, 1, 1]


def test_steps_folds_and_find(page):
    certain = [" and"] * 59 + [".\n"]
    pieces = ["Let", " us", " see", ".", " It", " is", " 7", ".\n", *certain, "1", ".", " So", " 7", "\n"]
    made = make_trace(pieces)
    entropy = [1.0 + 0.01 * i for i in range(8)] + [0.01] * 60 + [1.2] * 5
    receive(page, trace_message(made.replace(entropy=entropy).with_pivots()))
    page.locator("#view .tv-modes button", has_text="Steps").click()
    steps = page.locator("#view .tv-step")
    expect(steps).to_have_count(3)
    expect(steps.first).to_contain_text("Let us see.")
    expect(steps.first).to_contain_text("1.03")  # its peak
    expect(steps.last).to_contain_text("1. So 7")  # "1." is no sentence
    page.locator("#view .tv-steps .tv-unfold", has_text="60 certain tokens").click()
    expect(steps).to_have_count(4)
    steps.last.click()  # to its peak, in the text
    expect(page.locator("#view .tv-tokens")).to_be_visible()
    page.locator("#view .tv-fold").check()
    fold = page.locator("#view .tv-tokens .tv-unfold")
    expect(fold).to_have_text("▸ 60 certain tokens")
    expect(tokens(page).nth(20)).to_be_hidden()
    page.locator("#view .tv-find").fill("SO 7")
    expect(page.locator("#view .tv-hits")).to_have_text("1 place")
    expect(page.locator("#view .tv-tok.tv-found")).to_have_count(2)
    page.locator("#view .tv-find").fill("and.")
    page.locator("#view .tv-find").press("Enter")
    expect(page.locator("#view .tv-hits")).to_have_text("1 of 1")
    expect(tokens(page).nth(20)).to_be_visible()  # what is found is not folded away
    page.locator("#view .tv-find").press("Escape")
    page.locator("#view .tv-words summary").click()
    expect(page.locator("#view .tv-word", has_text="7").first).to_contain_text("of 2")
    receive(page, trace_message(make_trace(pieces[:8])))
    page.locator("#view .tv-fold").uncheck()
    page.locator("#view .tv-fold").check()
    expect(page.locator("#view .tv-status")).to_contain_text("Nothing to fold")


def test_markdown_becomes_names_and_texts_only():
    nodes = read_nodes(
        "# A *b*\n\n- x_1\n- y\n\n$$x_1 * y_1$$ and \\(a_b\\) for $5 or $6\n\n```py\nif $x$:\n```\n"
    )
    assert nodes[0] == ["h1", "", "A ", ["em", "", "b"]]
    assert nodes[1] == ["ul", "", ["li", "", "x_1"], ["li", "", "y"]]
    assert nodes[2][2][:3] == ["svg", "tv-math tv-display-math", "$$x_1 * y_1$$"]
    assert nodes[2][4][:3] == ["svg", "tv-math", "\\(a_b\\)"]
    assert nodes[2][5] == " for $5 or $6"
    assert nodes[3] == ["pre", "", "if $x$:"]
    assert read_nodes("<img src=x onerror=alert(1)> [a](javascript:x) ![b](http://c)") == [
        ["p", "", "<img src=x onerror=alert(1)> [a](javascript:x) ![b](http://c)"]
    ]
    assert read_nodes(["x"]) is None
    assert read_nodes("x" * 100_001) is None


def test_reading_keeps_the_spaces_that_lines_begin_with():
    br = ["br", ""]
    code = " Code:\n\ndef f(x):\n    if x:\n\treturn *1*\n\n    return 2\n\n```\ndef g():\n    pass\n```\n"
    assert read_nodes(code) == [
        ["p", "", "Code:"],  # a completion begins with the space before its first word
        ["p", "", "def f(x):", br, "    ", "if x:", br, "\t", "return ", ["em", "", "1"]],
        ["pre", "", "    return 2"],
        ["pre", "", "def g():\n    pass"],
    ]
    listed = read_nodes("1. one\n   two\n     three\n\n> a\n>   b\n")
    assert listed[0] == ["ol", "", ["li", "", "one", br, "two", br, "  ", "three"]]
    assert listed[1] == ["blockquote", "", ["p", "", "a", br, "  ", "b"]]
    assert read_nodes("a `b\n   c` d") == [["p", "", "a ", ["code", "", "b    c"], " d"]]


def test_steps_and_reading_show_the_indentation_of_code(page):
    pieces = ["def", " f", "():\n   ", " if", " x", ":", "\n        ", "return", " 1", "\n"]
    pieces += ["    pass\n", "f()"]
    receive(page, trace_message(make_trace(pieces).replace(entropy=[1.0] * 12).with_pivots()))
    page.locator("#view .tv-modes button", has_text="Steps").click()
    steps = page.locator("#view .tv-step-text")
    expect(steps).to_have_count(5)
    code = ["def f():", "    if x:", "        return 1", "    pass", "f()"]
    assert [step.rstrip() for step in steps.all_text_contents()] == code
    first, second = (steps.nth(i).evaluate(INK) for i in (0, 1))
    assert second > first + 8
    page.locator("#view .tv-modes button", has_text="Reading").click()
    expect(page.locator("#view .tv-reading p").first).to_have_text(re.compile("^def f"))
    assert "        return 1" in page.locator("#view .tv-reading").evaluate("node => node.innerText")


@pytest.mark.parametrize("size", SIZES)
def test_a_long_question_can_be_read_to_its_end(browser, server, size):
    with watched(browser, server, **SIZES[size]) as page:
        for words, shown in ((60, True), (30, size == "phone"), (6, False)):
            trace = make_trace([" 7"], prompt="apples " * words + "and the end?")
            receive(page, trace_message(trace))
            name = page.locator("#view .tv-prompt-name")
            expect(name).to_be_visible(visible=shown)
            if shown:
                expect(name).to_have_text(f"The whole question ({len(trace.prompt)} characters)")
        receive(page, trace_message(make_trace([" 7"], prompt="apples and pears " * 60 + "and the end?")))
        page.locator("#view .tv-prompt-name").click()
        text = page.locator("#view .tv-prompt-text")
        expect(text).to_contain_text("and the end?")
        text.evaluate("node => (node.scrollTop = node.scrollHeight)")
        assert text.evaluate("node => node.scrollHeight - node.scrollTop - node.clientHeight") < 2
        # what says that there is more below
        assert "linear-gradient" in text.evaluate("node => getComputedStyle(node).backgroundImage")


def test_formulas_are_outlines_of_numbers_or_stay_source():
    assert [boxed for boxed, *_ in drawn(r"$x = \boxed{\frac12} \le 1$")] == [False, True, False]
    for source in (r"\(a \implies b \pmod 5\)", r"\[\sqrt{x_1} \cdot \text{so} \tfrac{3}{4}\]", r"$\$5$"):
        for boxed, *lengths, path in drawn(source):
            assert re.fullmatch(r"[MLQCZ\d .-]+", path)
            assert (boxed, all(isinstance(n, int) and n < 6000 for n in lengths)) == (False, True)
    deep = "$" + r"\frac{1}{" * 40 + "x" + "}" * 40 + "$"
    for source in (
        r"$\begin{align}a&=b\end{align}$",
        r"$\boxed{$",
        r"$\hspace{1e9}x$",
        "$é$",
        "$$",
        "x",
        deep,
    ):
        assert drawn(source) is None


def test_reading_mode_draws_markdown_and_runs_nothing(page):
    pieces = [
        "# Title\n",
        "\n**bold** and $x^2$ and $\\begin{a}$\n\n",
        *HOSTILE,
        "\n\n    def f():\n        pass\n",
    ]
    receive(page, trace_message(make_trace(pieces)))
    page.locator("#view .tv-modes button", has_text="Reading").click()
    reading = page.locator("#view .tv-reading")
    expect(reading.locator("h1")).to_have_text("Title")
    expect(reading.locator("strong")).to_have_text("bold")
    expect(reading.get_by_role("img", name="$x^2$").locator("path")).to_have_attribute("d", re.compile("^M"))
    expect(reading.locator("code.tv-math").first).to_have_text("$\\begin{a}$")
    expect(reading).to_contain_text("<script>alert(1)</script>")
    assert reading.locator("img, script, a").count() == 0
    page.locator("#view .tv-strongest").click()
    expect(page.locator("#view .tv-tokens")).to_be_visible()


def test_what_the_trainer_did_is_in_the_panel(page):
    trace = traces()[0]
    n = len(trace)
    columns = {"advantage": [-1.5] * n, "gate": [0.25] * n, "bucket": [3.0] * n, "ref_logprob": [-0.5] * n}
    receive(page, trace_message(trace.replace(columns=columns, generation={"advantage": -1.0, "step": 10})))
    tokens(page).nth(2).click()
    trained = page.locator("#view .tv-trained")
    for said in (
        "GRPO's advantage",
        "−1.000",
        "the method's advantage",
        "−1.500",
        "gate",
        "0.250",
        "bucket",
        "3",
    ):
        expect(trained).to_contain_text(said)


def test_figures_are_saved(page, tmp_path):
    open_trace(page, "alert(1)")
    expect(tokens(page)).to_have_count(len(HOSTILE))
    for kind, magic in (("svg", b"<svg"), ("png", b"\x89PNG")):
        with page.expect_download() as saved:
            page.locator(f"#save-{kind}").click()
        path = tmp_path / saved.value.suggested_filename
        saved.value.save_as(path)
        assert path.read_bytes().startswith(magic)
    text = (tmp_path / path.with_suffix(".svg").name).read_text()
    assert "<img" not in text
    assert "&lt;img src=x" in text
