"""How fast a group is drawn, in a real browser: `python benchmarks/ui_group.py`. Exits 1 over a budget.

16 completions of 1,000 tokens each, from a click on another question to the painted strips, and the first
screen with a cold cache. A number is the median of `ROUNDS`; needs chromium and the `test` extra.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from playwright.sync_api import Browser, Page, sync_playwright

from erpo_hub.traces.trace import Trace
from erpo_hub.ui import build_demo, launch_kwargs
from tests.ui.conftest import CHROMIUM, FLAGS, long_trace

ROUNDS, MEMBERS, TOKENS = 5, 16, 1000
BUDGETS = {"group of 16 x 1,000 tokens, click to drawn (s)": 1.0, "first screen (s)": 2.0}
STAMP = "document.addEventListener('pointerdown', () => (window.clicked = performance.now()), true)"
DRAWN = """(prompt) => {
  const view = document.querySelector("#group .gv").__view;
  const drawn = view.rows.every((r) => r.canvas.width > 0);
  return view.data.prompt === prompt && view.rows.length === 16 && drawn;
}"""


def group(prompt: str) -> list[Trace]:
    """Completions of one question as a training logs them."""
    return [
        long_trace(TOKENS).replace(
            prompt=prompt,
            generation={"reward": float(i % 2), "advantage": 0.9 if i % 2 else -0.9, "step": 1},
            columns={"advantage": [(0.9 if i % 2 else -0.9) * (t % 7) / 3 for t in range(TOKENS)]},
        )
        for i in range(MEMBERS)
    ]


def drawn(page: Page, prompt: str) -> float:
    """Seconds from the click on a question of the list to its strips."""
    page.locator("#group-question input").click()
    option = page.get_by_role("option", name=prompt, exact=False).first
    option.wait_for()
    page.evaluate(STAMP)
    option.click()
    page.wait_for_function(DRAWN, arg=prompt, polling=5)
    return page.evaluate("performance.now() - window.clicked") / 1000


def first_screen(browser: Browser, url: str) -> float:
    """Seconds from the address to the drawn text, with a cold cache."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page, started = context.new_page(), time.perf_counter()
    page.goto(url)
    page.wait_for_selector("#view .tv-tok")
    took = time.perf_counter() - started
    context.close()
    return took


def main() -> int:
    """Serves, measures, prints."""
    demo = build_demo(traces=[*group("first question"), *group("second question")])
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, **launch_kwargs())
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        first_screen(browser, url)
        screens = [first_screen(browser, url) for _ in range(ROUNDS)]
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(url)
        page.get_by_role("tab", name="Group").click()
        page.wait_for_function(DRAWN, arg="first question")
        times = [drawn(page, f"{name} question") for _ in range(ROUNDS) for name in ("second", "first")]
        browser.close()
    demo.close()
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    over = 0
    for (name, budget), found in zip(BUDGETS.items(), (times, screens)):
        median = statistics.median(found)
        over += median > budget
        print(f"{'over' if median > budget else 'ok':<5}{name:<50}{median:>9.2f}  (budget {budget:g})")
    return int(over > 0)


if __name__ == "__main__":
    sys.exit(main())
