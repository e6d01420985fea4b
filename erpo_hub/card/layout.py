"""The card's template, with the filters that keep text of models and records inert."""

from __future__ import annotations

from functools import cache
from typing import Any

from ..record.format import Figure
from . import markdown, words


@cache
def environment() -> Any:
    """Jinja with the filters that keep model text inert; templates are this package's."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("erpo_hub.card", "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # Markdown, not HTML: model text goes through the filters below
    )
    made.filters |= {"fence": markdown.fence, "code": markdown.code, "plain": markdown.plain}
    made.filters |= {"alt": markdown.alt, "address": markdown.address, "percent": words.share}
    made.filters |= {"listed": lambda v: markdown.plain(", ".join(v) if isinstance(v, list) else v)}
    made.filters |= {"number": words.number, "duration": words.duration}
    return made


def template() -> Any:
    return environment().get_template("card.md.jinja")


def picture(figure: Figure) -> str:
    caption = markdown.plain(figure.caption.strip())
    image = f"![{markdown.alt(figure.alt)}]({markdown.address(figure.file)})"
    return f"{image}\n\n*{caption}*" if caption else image
