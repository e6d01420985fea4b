"""One app, one server and one browser for all browser tests; every page is watched for errors and for
requests that leave the machine."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import pytest
from made_traces import make_trace

from erpo_hub.traces.trace import Trace
from erpo_hub.ui.guard import Door

CHROMIUM = "/usr/bin/chromium"
OWNER = Door("the-links-secret")  # of whoever looks at a page here
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--no-first-run"),
]
HOSTILE = [
    "${alert(1)}",
    "\\underline{x}",
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    "`${1}`",
    "{{value}}",
    "\u202eevil\u202c",
    "$\\frac{1}{2}$",
    "</section>",
    "&lt;b&gt;",
    "a\u0000b",
    "\u200f",
]


def long_trace(n: int) -> Trace:
    """n tokens of words and lines."""
    return make_trace([f" w{i % 97}" if i % 40 else ".\n" for i in range(n)])


def traces() -> list[Trace]:
    """What the test app ships: a plain solution, a hostile one, a split character, a measured sensitivity."""
    sentence = "Let x be 3 . Then x plus 4 is 7 .\n So the answer is 7"
    words = sentence.split(" ")
    plain = make_trace(
        [" " + w for w in words], seed=3, prompt="3 plus 4?", gold="7", correct=True, answer="7"
    )
    split = make_trace(["a ", "", "", "🙂", "  ", "end\n\n", "z"], prompt="Smile")
    split = split.replace(strings={**split.strings, split.tokens[1]: "\ufffd"})
    measured = plain.replace(
        prompt="measured", sensitivity=[round(0.1 * i, 3) for i in range(len(plain))], correct=False
    )
    return [plain, make_trace(HOSTILE, prompt="${alert(1)} <img src=x onerror=alert(2)>"), split, measured]


@pytest.fixture(scope="session")
def engine():
    from erpo_hub.traces.engine import Engine

    engine = Engine.load("builtin:tiny-reasoner")
    engine.name = "builtin:tiny-reasoner"
    return engine


@pytest.fixture(scope="session")
def paired_runs(tmp_path_factory):
    from .records import write_pair

    return write_pair(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def server(engine, paired_runs) -> Iterator[str]:
    """The address of the app, with every kind of thing to show."""
    from erpo_hub.ui import build_demo, launch_kwargs
    from erpo_hub.ui.library.library import Limits

    from .fakes import BreakingEngine, SlowEngine

    engines = {
        "builtin:tiny-reasoner": engine,
        "slow": SlowEngine(engine),
        "breaking": BreakingEngine(engine),
    }
    demo = build_demo(
        engines=engines, runs=[paired_runs], traces=traces(), limits=Limits(max_new_tokens=4096), door=OWNER
    )
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, **launch_kwargs(OWNER))
    yield url
    demo.close()


@pytest.fixture(scope="session")
def browser():
    import playwright.sync_api as playwright

    playwright.expect.set_options(timeout=15_000)  # a busy machine is not a fault of the page
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@contextlib.contextmanager
def watched(
    browser, url: str, path: str = "", *, refused: str | tuple[str, ...] = "never", **options: object
):
    """A page that fails its test on a console error, a script error, or a request to another origin.

    refused: what the browser's own lines about what the test provokes contain.
    """
    page = _context(browser, {"viewport": {"width": 1360, "height": 950}} | options).new_page()
    page.set_default_timeout(15_000)
    problems: list[str] = []
    expected = (refused,) if isinstance(refused, str) else refused

    def request(r) -> None:
        if not r.url.startswith((url, "data:", "blob:")):
            problems.append(f"request to {r.url}")

    page.on(
        "console",
        lambda m: (
            m.type == "error"
            and not any(part in m.text for part in expected)
            and problems.append(f"console: {m.text}")
        ),
    )
    page.on("pageerror", lambda e: problems.append(f"script: {e}"))
    page.on("dialog", lambda d: (problems.append("a dialog opened"), d.dismiss()))
    page.on("request", request)
    page.goto(url + path)
    page.wait_for_selector("#view .tv", state="attached")  # hidden where the link opens another tab
    yield page
    page.close()
    assert not problems, problems


_CONTEXTS: dict[str, object] = {}


def _context(browser, options: dict):
    """One context a kind of page: its cache keeps the scripts, which are most of the time a page takes."""
    key = str(sorted(options.items()))
    if key not in _CONTEXTS:
        _CONTEXTS[key] = context = browser.new_context(**options)
        context.add_cookies([{"name": OWNER.cookie, "value": OWNER.key, "url": "http://127.0.0.1"}])
    return _CONTEXTS[key]


@pytest.fixture
def page(browser, server):
    """A watched page of the app at desktop width."""
    with watched(browser, server) as page:
        yield page


@pytest.fixture
def phone(browser, server):
    """The same at phone width."""
    with watched(
        browser, server, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True
    ) as page:
        yield page


def open_trace(page, text: str) -> None:
    """Choose a shipped trace by a part of its label."""
    choose(page, "#shipped", text)


def open_drawer(page) -> None:
    """Inspect: show what asking takes beside the question."""
    if not page.locator("#model input").is_visible():
        page.locator("#drawer-open").click()


def choose(page, control: str, text: str) -> None:
    """Choose an entry of a Gradio dropdown."""
    page.locator(f"{control} input").click()
    page.get_by_role("option", name=re.compile(re.escape(text))).first.click()


def set_number(page, control: str, value: str) -> None:
    """Type into a number of an accordion that was just opened: Gradio may put its first value back while it
    mounts what the accordion holds, within half a second and thus faster than a person types."""
    box = page.locator(f"{control} input[type=number]")
    for _ in range(10):
        box.fill(value)
        box.press("Enter")
        page.wait_for_timeout(600)
        if box.input_value() == value:
            return
    raise AssertionError(f"{control} does not keep {value}")


def tokens(page, view: str = "#view"):
    """The tokens of a view."""
    return page.locator(f"{view} .tv-tok")


def receive(page, message: str, view: str = "#view") -> None:
    """Hand a message to a view as Gradio would."""
    page.evaluate("([v, m]) => document.querySelector(v + ' .tv').__view.receive(m)", [view, message])


def returned(steps):
    """What a generator returns at its end."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value
