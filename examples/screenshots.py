"""The README's pictures, of the real app on a real paired run: `python examples/screenshots.py [runs/demo]`.

Opens the app, asks and compares as a reader would, writes docs/images/{inspect,compare,group}-*.png.
The models are the run's own; the seed is fixed, so the same run gives the same pictures. Needs chromium and
the `test` extra.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

from playwright.sync_api import Page, sync_playwright

from erpo_hub.ui import build_demo, launch_kwargs

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--force-color-profile=srgb"]
SIZE = {"width": 1360, "height": 1000}


def inspect(page: Page, path: Path) -> None:
    """A solution by the run's ERPO model, with its strongest pivot open."""
    page.get_by_role("tab", name="Inspect").click()
    page.locator("#ask").click()
    page.locator("#view .tv-status", has_text="Finished").wait_for(timeout=120_000)
    page.wait_for_timeout(600)
    page.locator("#view .tv-strongest").click()
    page.wait_for_timeout(400)
    page.screenshot(path=path)


def compare(page: Page, path: Path) -> None:
    """GRPO and ERPO over held-out questions, and the first question that only one of them solves."""
    page.get_by_role("tab", name="Compare").click()
    page.locator("#batch-run").click()
    page.locator("#batch-totals .facts-text", has_text="Finished").wait_for(timeout=300_000)
    page.locator("#batch-table").get_by_text("only ").locator("visible=true").first.click()
    page.locator("#view-b .tv-diverge").wait_for(timeout=60_000)
    page.wait_for_timeout(1500)
    page.mouse.move(0, 0)
    page.evaluate("window.scrollTo(0, 0)")
    page.wait_for_timeout(300)
    page.screenshot(path=path)


def group(page: Page, path: Path) -> None:
    """A question's completions as the ERPO trainer saw them, with the token that it moved most."""
    page.get_by_role("tab", name="Group").click()
    page.locator("#group .gv-row").first.wait_for()
    page.locator("#group .gv-moved button").first.click()
    page.wait_for_timeout(600)
    page.screenshot(path=path)


def main(runs: str = "runs/demo") -> None:
    """Takes the pictures."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    demo = build_demo(runs=[runs])
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, **launch_kwargs())
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        for scheme in ("light", "dark"):
            page = browser.new_page(viewport=SIZE)
            page.goto(f"{url}?__theme={scheme}")
            page.locator("#view .tv-tok").first.wait_for()
            inspect(page, IMAGES / f"inspect-{scheme}.png")
            compare(page, IMAGES / f"compare-{scheme}.png")
            group(page, IMAGES / f"group-{scheme}.png")
            page.close()
        browser.close()
    demo.close()
    print(f"wrote {IMAGES}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
