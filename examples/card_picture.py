"""The picture of a model card in the docs: `python examples/card_picture.py [BUNDLE]`.

Renders the card of a real run (default: the ERPO side of `erpo-hub demo`) from its run.json, lays
it out as a model page of the Hub does (Markdown with tables and folded details, its own pictures) and writes
all of it down to the example to docs/images/model-card.png. Needs chromium and the `test` extra.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

from markdown_it import MarkdownIt
from PIL import Image
from playwright.sync_api import sync_playwright
from screenshots import FLAGS, IMAGES, write

from erpo_hub import render_card
from erpo_hub.card.merge import split_front_matter

WIDTH, HEIGHT = 900, 2085  # pixels: ends below the alternatives of the example
STYLE = """
body { font: 16px/1.65 "Source Sans 3", "Source Sans Pro", system-ui, sans-serif; color: #1f2937; margin: 0 }
main { padding: 28px 40px; max-width: 820px; margin: auto }
h1 { font-size: 1.75rem; line-height: 1.25; margin: 0 0 .7em } h2 { font-size: 1.4rem; margin: 1.6em 0 .6em }
h3 { font-size: 1.15rem } p, ul { margin: .8em 0 } img { max-width: 100%; display: block; margin: 1em 0 }
table { border-collapse: collapse; font-size: .875rem; width: 100%; margin: 1em 0 }
th, td { border: 1px solid #e5e7eb; padding: 6px 10px } th { text-align: left; background: #f9fafb }
code { background: #f3f4f6; border-radius: 4px; padding: .1em .3em; font: .85em ui-monospace, monospace }
pre { background: #f8fafc; border: 1px solid #e5e7eb; border-radius: 8px; padding: 12px 16px }
pre code { background: none; padding: 0; font-size: 13px; line-height: 1.5 } summary { cursor: pointer }
blockquote { border-left: 3px solid #d1d5db; margin: 1em 0; padding-left: 1em; color: #4b5563 }
a { color: inherit; text-decoration: underline }
"""


def page_of(bundle: Path) -> str:
    """The card as a page; its pictures come from the bundle."""
    body = split_front_matter(render_card(bundle))[1]
    html = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(body)
    head = f'<meta charset="utf-8"><base href="{bundle.resolve().as_uri()}/"><style>{STYLE}</style>'
    return f"<!doctype html><html><head>{head}</head><body><main>{html}</main></body></html>"


def main(bundle: Path) -> None:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as p:
        file = Path(folder) / "card.html"
        file.write_text(page_of(bundle), encoding="utf-8")
        browser = p.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(file.as_uri())
        missing = page.evaluate("[...document.images].filter(i => !i.naturalWidth).map(i => i.src)")
        if missing:
            raise SystemExit(f"pictures of the card that do not load: {missing}")
        write(Image.open(io.BytesIO(page.screenshot())), IMAGES / "model-card.png")
        browser.close()
    print(f"wrote {IMAGES / 'model-card.png'}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/demo/erpo/bundle"))
