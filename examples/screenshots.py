"""The pictures of the README and the docs, of the real app: `python examples/screenshots.py [runs ...]`.

Opens the app, by default on what the package ships, does three tasks as a reader would, on a desktop and on a
phone, light and dark. Writes docs/images/{inspect,compare,group}-{light,dark}[-phone].png and the app's
own preview picture. Needs chromium and the `test` extra.
"""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from erpo_hub.ui import build_demo, launch_kwargs
from erpo_hub.ui.preview import PICTURE

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--force-color-profile=srgb"]
SIZES = {"": (1360, 1000), "-phone": (390, 844)}


def open_tab(page: Page, name: str) -> None:
    """On a phone some tabs are in the menu of those that have no room."""
    tab = page.get_by_role("tab", name=name)
    if not tab.is_visible():
        page.locator(".overflow-menu > button").click()
        tab = page.locator(".overflow-dropdown").get_by_text(name)
    tab.click()


def inspect(page: Page) -> None:
    """The token that decided an answer: the strongest pivot of a right solution, open."""
    page.locator("#view .tv[data-selected]").wait_for(timeout=60_000)


def compare(page: Page) -> None:
    """The questions that only one of the two got right."""
    open_tab(page, "Compare")
    page.locator("#overview [data-kind=only-0]").click()


def group(page: Page) -> None:
    """A question's completions as the ERPO trainer saw them, with the token that it moved most."""
    open_tab(page, "Group")
    page.locator("#group .gv-row").first.wait_for()
    page.locator("#group .gv-moved button").first.click()


def take(page: Page, path: Path) -> None:
    """The window as it is after a task."""
    page.wait_for_timeout(900)
    page.mouse.move(0, 0)
    page.evaluate("window.scrollTo(0, 0)")
    page.wait_for_timeout(300)
    write(Image.open(io.BytesIO(page.screenshot())), path)


def write(image: Image.Image, path: Path) -> None:
    """As a small PNG: 128 colors, a third of the size, and no eye tells them apart."""
    small = image.convert("RGB").quantize(128, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    small.save(path, optimize=True)


def main(runs: list[str]) -> None:
    """Takes the pictures."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    demo = build_demo(runs=runs)
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, **launch_kwargs())
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        for size, (width, height) in SIZES.items():
            for scheme in ("light", "dark"):
                page = browser.new_page(viewport={"width": width, "height": height})
                page.set_default_timeout(60_000)
                page.goto(f"{url}?__theme={scheme}")
                page.locator("#view .tv[data-selected]").wait_for()
                for task in (inspect, compare, group):
                    task(page)
                    take(page, IMAGES / f"{task.__name__}-{scheme}{size}.png")
                page.close()
        page = browser.new_page(viewport={"width": 1200, "height": 630})
        page.goto(f"{url}?__theme=light")
        inspect(page)
        take(page, PICTURE)
        browser.close()
    demo.close()
    print(f"wrote {IMAGES} and {PICTURE}")


if __name__ == "__main__":
    main(sys.argv[1:])
