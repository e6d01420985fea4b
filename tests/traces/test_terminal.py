"""A trace in the terminal, as a standalone page, and the command that makes both."""

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console
from test_trace import make_trace
from tiny_models import byte_tokenizer, tiny_model

from erpo_hub.cli.trace import Grading, Outputs, Request, run_trace
from erpo_hub.errors import UserError
from erpo_hub.traces import terminal
from erpo_hub.traces.decoding import Sampling
from erpo_hub.traces.engine import Engine
from erpo_hub.traces.html import to_html, write_html
from erpo_hub.traces.pivots import PivotRule
from erpo_hub.traces.trace import MAX_TOKENS, Trace

HOSTILE = [
    "</script><script>alert(1)</script>",
    "${alert(1)}",
    "[red]x[/red]",
    "<img onerror=alert(1)>",
    "`\\u2028 ",
]
CHROMIUM = Path("/usr/bin/chromium")


def hostile_trace(**changes):
    pieces = [*HOSTILE, "\n", " end"]
    n = len(pieces)
    values = {
        "prompt": "".join(HOSTILE),
        "pieces": pieces,
        "completion": "".join(pieces),
        "tokens": list(range(n)),
        "strings": dict(enumerate(pieces)),
        "entropy": [0.05, 0.2, 0.7, 1.2, 2.0, 0.0, 2.2],
        "pivots": [4, 6],
        "topk_ids": [[0, 1]] * n,
    }
    return make_trace(n, **{**values, **changes})


def printed(trace, **options):
    console = Console(file=io.StringIO(), width=100, **options)
    terminal.show(trace, console)
    return console.file.getvalue()


def test_the_terminal_shows_the_text_the_pivots_and_their_table():
    out = printed(hostile_trace(correct=False, gold="4", sensitivity=[0.5] * 7))
    for text in HOSTILE[:4]:
        assert text in out
    assert out.count("▾") == 3  # two pivots and the legend
    assert re.search(r"│\s+6 │ ␣end\s+│\s+2\.200 │\s+9\.0 │", out)
    assert "✗ wrong" in out
    assert "gold 4" in out
    assert "logit²" in out
    assert "\x1b" not in out  # no colour where there is no terminal


def test_shades_follow_the_entropy():
    spans = {span.start: str(span.style) for span in terminal.shaded(hostile_trace()).spans}
    styles = list(spans.values())
    assert styles[0].startswith("black on #feedde")  # the certain first token has none
    assert any("#fd8d3c" in style and "underline" in style for style in styles)
    assert "48;2;253;141;60" in printed(hostile_trace(), force_terminal=True, color_system="truecolor")


def test_a_trace_cannot_command_the_terminal():
    nasty = ["\x1b[2J", "\x9b31m", "\u202eabc", "\r", "\a"]
    trace = make_trace(
        5, pieces=nasty, completion="".join(nasty), strings=dict(enumerate(nasty)), pivots=[0, 1, 2]
    )
    out = printed(trace)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", out)
    assert "␛[2J" in out


@pytest.mark.parametrize("n", [0, 1])
def test_short_traces_print_and_become_pages(n, tmp_path):
    assert f"{n} tokens" in printed(make_trace(n))
    assert write_html(make_trace(n), tmp_path / "t.html").stat().st_size > 5000


# -- the standalone page ----------------------------------------------------------------------------------


def test_the_page_holds_the_trace_and_nothing_ends_its_block_early():
    trace = hostile_trace()
    page = to_html(trace)
    block = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1]
    assert Trace.from_dict(json.loads(block)) == trace
    assert page.count("</script>") == 2
    assert "__" not in re.sub(r"__proto__", "", page.replace(block, ""))


def test_the_page_asks_for_nothing():
    page = to_html(make_trace())
    assert "default-src 'none'" in page
    assert set(re.findall(r"https?://[^\"' ]+", page)) == {
        "http://www.w3.org/2000/svg"
    }  # a name, not an address
    for way_out in (
        "innerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        " src=",
        " href=",
        "fetch(",
    ):
        assert way_out not in page


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        yield play.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_read_and_steered_by_keyboard(browser, tmp_path, scheme):
    file = write_html(hostile_trace(correct=True), tmp_path / "t.html")
    page = browser.new_page(color_scheme=scheme)
    seen = []
    page.on("console", lambda m: seen.append(m.text))
    page.on("pageerror", lambda e: seen.append(str(e)))
    page.on("dialog", lambda d: seen.append("dialog") or d.dismiss())
    page.on("request", lambda r: seen.append(r.url) if r.url != file.as_uri() else None)
    page.goto(file.as_uri())
    tokens = page.locator("#tokens .t")
    assert tokens.count() == 7
    assert [tokens.nth(i).text_content() for i in range(5)] == HOSTILE
    assert page.locator("#prompt").text_content() == "".join(HOSTILE)
    assert page.locator("#tokens .pivot").count() == 2
    focused = "document.activeElement.dataset.i"
    page.keyboard.press("n")
    assert page.evaluate(focused) == "4"
    page.keyboard.press("n")
    assert page.evaluate(focused) == "6"
    assert "2.200 nats, as many as 9.0 equal choices, pivot" in page.locator("#detail").text_content()
    page.keyboard.press("p")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate(focused) == "3"
    page.keyboard.press("End")
    page.keyboard.press("ArrowRight")
    assert page.evaluate(focused) == "6"
    assert page.locator("#tokens [tabindex='0']").count() == 1
    page.keyboard.press("Escape")
    assert page.locator("#detail").text_content() == "Choose a token."
    assert not page.locator("#pivots").is_visible()  # folded
    page.locator("#pivot-table summary").click()
    assert page.locator("#pivots button").all_text_contents() == ["6", "4"]  # the strongest first
    page.locator("#pivots button").last.click()
    assert page.evaluate(focused) == "4"
    page.locator("#strongest").click()
    assert page.evaluate(focused) == "6"
    assert page.title().startswith("✓ </script><script>alert(1)</script>${alert(1)}")
    box = page.locator("#curve").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.02, box["y"] + 20)
    assert page.evaluate(focused) == "0"
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(24, 24, 27)")
    assert seen == []
    page.close()


def test_the_page_fits_a_phone(browser, tmp_path):
    words = [f" word{i % 37}" for i in range(300)]
    file = write_html(
        make_trace(
            300,
            pieces=words,
            completion="".join(words),
            strings={i: f" alternative{i}" for i in range(10)},
            pivots=list(range(0, 300, 3)),
        ),
        tmp_path / "phone.html",
    )
    page = browser.new_page(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page.goto(file.as_uri())
    assert page.locator("#tokens .strong").count() == 12
    assert page.locator("#curve text, #curve circle").count() == 0  # they would be squeezed with the curve
    assert page.locator("#top").text_content().endswith(" nats")
    page.locator("#tokens .t").nth(5).tap()
    page.locator("#pivot-table summary").tap()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth + 1")
    assert page.locator("#detail").bounding_box()["height"] <= 844 / 2
    page.close()


@pytest.mark.parametrize("n", [10_000, pytest.param(MAX_TOKENS, marks=pytest.mark.slow)])
def test_a_long_page_opens(browser, tmp_path, n):
    file = write_html(make_trace(n, pivots=list(range(6, n, 7))), tmp_path / "long.html")
    page = browser.new_page()
    page.set_default_timeout(120_000)
    failed = []
    page.on("pageerror", lambda e: failed.append(str(e)))
    page.goto(file.as_uri())
    page.keyboard.press("n")
    assert page.locator("#tokens .t").count() == n
    assert page.evaluate("document.activeElement.dataset.i") == "6"
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.dataset.i") == str(n - 1)
    assert failed == []
    page.close()


# -- the command ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def engine():
    return Engine(tiny_model(), byte_tokenizer(), name="tiny")


def test_the_command_traces_prints_and_writes(engine, tmp_path):
    files = {kind: tmp_path / f"t.{kind}" for kind in ("json", "parquet", "png", "html")}
    console = Console(file=io.StringIO(), width=100)
    trace = run_trace(
        engine,
        Request("12 + 3?", sensitivity=True, audit=2, sampling=Sampling(12, 0.7)),
        grading=Grading("15", lambda text: 1.0, lambda text: "15"),
        outputs=Outputs(**files),
        console=console,
    )
    assert (trace.gold, trace.answer, trace.correct) == ("15", "15", True)
    assert trace.sensitivity is not None
    assert Trace.from_json(files["json"]) == trace
    assert Trace.from_parquet(files["parquet"]) == [trace]
    assert files["png"].read_bytes().startswith(b"\x89PNG")
    assert "application/json" in files["html"].read_text()
    out = console.file.getvalue()
    for said in ("▾", "Pivots", "✓ correct", "Audit: 2 continuations", "2 of 2", "wrote", "t.html"):
        assert said in out


def test_the_command_scores_given_text(engine, tmp_path):
    console = Console(file=io.StringIO())
    trace = run_trace(engine, Request("12 + 3?", "is 15", rule=PivotRule(min_entropy=0.1)), console=console)
    assert trace.completion == "is 15"
    assert trace.finish_reason == "scored"


def never_loaded():
    raise AssertionError("the model was loaded")


def test_the_command_refuses_before_it_works(tmp_path):
    with pytest.raises(UserError, match=r"--png .*its folder does not exist"):
        run_trace(never_loaded, Request("q"), outputs=Outputs(png=tmp_path / "absent" / "t.png"))
    with pytest.raises(UserError, match="give the right answer"):
        run_trace(never_loaded, Request("q", audit=4))
    with pytest.raises(UserError, match="no such folder"):
        run_trace(lambda: Engine.load(str(tmp_path / "absent")), Request("q"))
