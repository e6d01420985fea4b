"""How fast the app is, in a real browser: `python benchmarks/ui.py`. Prints a table; exits 1 over a budget.

With `--write` it puts the table into docs/performance.md.

Measured as a user meets it: a cold cache for the first screen, clicks through Gradio's own queue, the time
until the page holds and has painted the result. The stream comes from an engine that only waits, so that what
is timed is the app: about 0.2 s around a stream, whatever its length, and little beside. A number is the
median of `ROUNDS`; run it on a machine that does nothing else. Needs chromium and the `test` extra.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from gradio_client import Client
from pages import write_between
from playwright.sync_api import Page, sync_playwright

from erpo_hub.traces.trace import Trace
from erpo_hub.ui import build_demo, launch_kwargs
from erpo_hub.ui.library.library import Limits
from erpo_hub.ui.view.token_view import trace_message
from tests.ui.conftest import CHROMIUM, FLAGS, choose, long_trace, make_trace, traces

ROUNDS = 5
STREAMED = 4000
PACE = 4000  # tokens a second: several times what the embedded model makes on a core
LONG = 12_000
PAGE = Path(__file__).resolve().parent.parent / "docs" / "performance.md"
BUDGETS = {
    "first screen with a shipped trace (s)": 2.0,
    "12,000 tokens, click to drawn (s)": 1.0,
    "hover to details (ms)": 50.0,
    "slider to pivots redrawn, 12,000 tokens (ms)": 100.0,
    "map dragged over 12,000 tokens, median frame (ms)": 20.0,
    "the same, the page's own work a frame (ms of processor)": 1000 / 60,
    "find in 12,000 tokens (ms)": 100.0,
    "frames that show two traces, of 120": 0.0,
    "4,000 tokens streamed: page / gradio_client": 1.5,
}


class Paced:
    """An engine whose tokens cost no computing and come at PACE: what is left is the app's own time."""

    name, vocab_size = "paced", 64

    def __init__(self, trace: Trace):
        self.made = trace

    def stream(self, prompt: str, *, cancel: Any = None, **_: Any) -> Iterator[Any]:
        from erpo_hub.traces.draft import Delta

        t = self.made.replace(prompt=prompt, finish_reason="length")
        started = time.perf_counter()
        for i in range(len(t)):
            if i % 40 == 0:
                time.sleep(max(0.0, started + i / PACE - time.perf_counter()))
            at = slice(i, i + 1)
            done = i == len(t) - 1
            columns = [t.tokens[at], t.pieces[at], t.entropy[at], t.logprob[at], [0.0], t.topk_ids[at]]
            yield Delta(i, *columns, t.topk_probs[at], t.strings if i == 0 else {}, done, t if done else None)

    def check(self, trace: Trace) -> None:
        """Every trace will do."""


def median(measure: Callable[[], float]) -> float:
    """The median of ROUNDS calls."""
    return statistics.median(measure() for _ in range(ROUNDS))


def drawn(page: Page, n: int) -> None:
    """Waits until the view shows n tokens and the browser has painted them."""
    page.wait_for_function(
        "(n) => document.querySelectorAll('#view .tv-tok').length === n"
        " && new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(() => r(true))))",
        arg=n,
        polling=5,
    )


def first_screen(browser: Any, url: str) -> float:
    context = browser.new_context(viewport={"width": 1360, "height": 950})
    page = context.new_page()
    started = time.perf_counter()
    page.goto(url, wait_until="commit")
    page.wait_for_selector("#view .tv-tok", state="visible")
    took = time.perf_counter() - started
    context.close()
    return took


STAMP = "document.addEventListener('pointerdown', () => (window.clicked = performance.now()), true)"


def click_to_drawn(page: Page) -> float:
    choose(page, "#shipped", "3 plus 4?")
    drawn(page, len(traces()[0]))
    page.locator("#shipped input").click()
    option = page.get_by_role("option", name="long", exact=False).first
    option.wait_for()
    page.evaluate(STAMP)
    option.click()
    drawn(page, LONG)
    return page.evaluate("performance.now() - window.clicked") / 1000


HOVER = """() => new Promise((done) => {
  const spans = document.querySelectorAll("#view .tv-tok");
  const card = document.querySelector("#view .tv-card");
  const token = spans[20 + Math.floor(Math.random() * 100)], started = performance.now();
  token.dispatchEvent(new PointerEvent("pointerover", { bubbles: true, pointerType: "mouse" }));
  requestAnimationFrame(() => { const c = new MessageChannel();
    c.port1.onmessage = () => done(card.hidden ? Infinity : performance.now() - started);
    c.port2.postMessage(0); });
})"""
SLIDE = """() => new Promise((done) => {
  const slider = document.querySelector("#view .tv-quantile");
  const view = document.querySelector("#view .tv").__view;
  slider.value = Number(slider.value) > 0.7 ? 0.5 : 0.9;
  const started = performance.now(), before = view.pivots.length;
  slider.dispatchEvent(new Event("input", { bubbles: true }));
  requestAnimationFrame(() => { const c = new MessageChannel();
    c.port1.onmessage = () => done(view.pivots.length === before ? Infinity : performance.now() - started);
    c.port2.postMessage(0); });
})"""


# A drag over the whole map in 120 frames: the time between frames, the text following in each.
DRAG = """() => new Promise((done) => {
  const view = document.querySelector("#view .tv").__view, { canvas, tokens } = view.parts;
  const box = canvas.getBoundingClientRect(), frames = [];
  const send = (kind, share) => canvas.dispatchEvent(new PointerEvent(kind, { bubbles: true, pointerId: 1,
    clientX: box.left + share * box.width, clientY: box.top + 30, pointerType: "mouse" }));
  canvas.setPointerCapture = () => {};
  send("pointerdown", 0.02);
  let last = null, i = 0, moved = 0, at = tokens.scrollTop;
  const step = (now) => {
    if (last !== null) frames.push(now - last);
    last = now;
    moved += tokens.scrollTop !== at;
    at = tokens.scrollTop;
    if (i++ < 120) { send("pointermove", 0.02 + 0.96 * i / 120); return requestAnimationFrame(step); }
    send("pointerup", 0.98);
    frames.sort((a, b) => a - b);
    done(moved > 100 ? frames[frames.length >> 1] : Infinity);
  };
  requestAnimationFrame(step);
})"""
FIND = """() => new Promise((done) => {
  const field = document.querySelector("#view .tv-find"), hits = document.querySelector("#view .tv-hits");
  field.value = field.value === "w96" ? "w41" : "w96";
  const started = performance.now();
  field.dispatchEvent(new Event("input", { bubbles: true }));
  requestAnimationFrame(() => { const c = new MessageChannel();
    c.port1.onmessage = () => done(/places/.test(hits.textContent) ? performance.now() - started : Infinity);
    c.port2.postMessage(0); });
})"""
# Traces in turn, a frame each: a text that is seen with two pictures counts.
TURNS = """async (messages) => {
  const view = document.querySelector("#view .tv").__view, { canvas, tokens } = view.parts, seen = new Map();
  let wrong = 0;
  for (let i = 0; i < 120; i++) {
    view.receive(messages[i % messages.length]);
    await new Promise((r) => requestAnimationFrame(r));
    const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    let hash = 0;
    for (let k = 0; k < data.length; k += 4) hash = (hash * 31 + data[k] + 7 * data[k + 3]) | 0;
    const text = tokens.firstChild.textContent.slice(0, 40);
    if (!seen.has(text)) seen.set(text, hash);
    wrong += seen.get(text) !== hash;
  }
  return new Set(seen.values()).size === messages.length ? wrong : Infinity;
}"""


CLEAR = """() => document.querySelector("#view .tv").__view.receive('{"op":"clear"}')"""
ASK = "() => { window.clicked = performance.now(); document.querySelector('#ask').click(); }"
CUT = "() => document.querySelector('#view .tv-status').textContent.includes('the limit')"


def work(page: Page, script: str) -> float:
    """Milliseconds of processor that the page's main thread spends on a script: other work does not count."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def spent() -> float:
        metrics = session.send("Performance.getMetrics")["metrics"]
        return 1000 * next(m["value"] for m in metrics if m["name"] == "TaskDuration")

    before = spent()
    page.evaluate(script)
    took = spent() - before
    session.detach()
    return took


def streamed_to_page(page: Page) -> float:
    page.evaluate(CLEAR)
    page.evaluate(ASK)
    page.wait_for_function(CUT, polling=5)
    drawn(page, STREAMED)
    return page.evaluate("performance.now() - window.clicked") / 1000


def streamed_to_client(client: Client, number: int) -> float:
    """The same endpoint of the page, driven by gradio_client: the time the stream itself takes."""
    started = time.perf_counter()
    inputs = ["paced", "1+1=", "", 0.7, 1.0, STREAMED, 0]
    job = client.submit(*inputs, fn_index=number)
    job.result(timeout=120)
    return time.perf_counter() - started


def main(write: bool = False) -> int:
    """Serves, measures, prints; writes the table where it is asked to."""
    long = long_trace(LONG).replace(prompt="long")
    stream = long_trace(STREAMED)
    engines: dict[str, Any] = {"paced": Paced(stream)}
    demo = build_demo(engines=engines, traces=[traces()[0], long], limits=Limits(max_new_tokens=STREAMED))
    number = next(i for i, f in demo.fns.items() if getattr(f.fn, "__name__", "") == "answer")
    demo.fns[number].api_visibility = "public"  # for the measurement only
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, **launch_kwargs())
    found = {}
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        first_screen(browser, url)
        names = iter(BUDGETS)
        found[next(names)] = median(lambda: first_screen(browser, url))
        page = browser.new_page(viewport={"width": 1360, "height": 950})
        page.goto(url)
        page.wait_for_selector("#view .tv-tok")
        found[next(names)] = median(lambda: click_to_drawn(page))
        page.wait_for_timeout(500)
        found[next(names)] = median(lambda: page.evaluate(HOVER))
        found[next(names)] = median(lambda: page.evaluate(SLIDE))
        found[next(names)] = median(lambda: page.evaluate(DRAG))
        found[next(names)] = median(lambda: work(page, DRAG) / 121)
        found[next(names)] = median(lambda: page.evaluate(FIND))
        made = [trace_message(make_trace([f"{k}-{i} " for i in range(400)], seed=k)) for k in range(3)]
        found[next(names)] = page.evaluate(TURNS, made)
        client = Client(url, verbose=False)
        alone = median(lambda: streamed_to_client(client, number))
        in_page = median(lambda: streamed_to_page(page))
        found[next(names)] = in_page / alone
        browser.close()
    demo.close()
    load = os.getloadavg()[0]
    print(f"streamed: page {in_page:.2f} s, gradio_client {alone:.2f} s; load {load:.1f}")
    for name, budget in BUDGETS.items():
        verdict = "over" if found[name] > budget else "ok"
        print(f"{verdict:<5}{name:<58}{found[name]:>9.2f}  (budget {budget:g})")
    if write:
        _write(found, load)
    return int(any(found[name] > budget for name, budget in BUDGETS.items()))


def _write(found: dict[str, float], load: float) -> None:
    lines = [
        f"`python benchmarks/ui.py --write`: a real browser (chromium), medians of {ROUNDS},"
        f" {os.cpu_count()} cores.",
        f"Load average when it ended, its own and what else the machine did: {load:.0f}.",
        "",
        "| what | measured | target |",
        "|:--|--:|--:|",
    ]
    lines += [f"| {name} | {found[name]:.3g} | {budget:.3g} |" for name, budget in BUDGETS.items()]
    write_between(PAGE, "ui", "\n".join(lines))


if __name__ == "__main__":
    sys.exit(main("--write" in sys.argv[1:]))
