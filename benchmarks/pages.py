"""The tables that a script puts into a page of docs/, between the page's marks for it."""

from __future__ import annotations

from pathlib import Path


def write_between(page: Path, name: str, text: str) -> None:
    """Replaces what stands between `<!-- name:begin -->` and `<!-- name:end -->`; the rest stays as it is.

    Raises SystemExit, one line, where the page has not each mark once, in this order.
    """
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, _, rest = (old := page.read_text(encoding="utf-8")).partition(begin)
    _, _, after = rest.partition(end)
    if old.count(begin) != 1 or rest.count(end) != 1:
        raise SystemExit(f"{page} needs the line {begin} once and, below it, {end} once: add them")
    page.write_text(f"{before}{begin}\n{text.rstrip()}\n{end}{after}", encoding="utf-8")
