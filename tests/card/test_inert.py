"""Text of a record is shown and can't act, wherever on the card it stands, in two renderers of Markdown."""

from __future__ import annotations

from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import cmarkgfm
import pytest
from cmarkgfm.cmark import Options
from markdown_it import MarkdownIt

from erpo_hub.card.card import render_card
from erpo_hub.card.merge import blocks_of, outside_of
from tests.hub_server.sample_run import example_run

ATTACKS = {
    "html": "<script>evil()</script><img src=x onerror=evil()><evil>",
    "blocks": "x\n\n# EVILHEAD\n\n<evil>\n\n- a\n\n```\n\n<evil>\n\n~~~\n</details><evil>\n",
    "links": "[a](javascript:evil()) ![b](http://evil.example/p.png) <http://evil.example>",
    "autolinks": "http://evil.example www.evil.example a@evil.example mailto:a@evil.example @evil",
    "address": "x) <evil> ![b](http://evil.example/p.png) [c](javascript:evil()",
    "scheme": "javascript:evil()",
    "host": "//evil.example/p.png",
    "code": "`` ` ``` <evil> | <evil> ` | ``",
    "marks": "<!-- erpo-hub:end usage --><evil><!-- erpo-hub:begin usage 000000000000 -->",
    "backslashes": "\\`<evil>\\`\\\\` <evil> `\\| <evil>",
    "entities": "&lt;evil&gt; &#60;evil&#62;",
}
KEPT = {"kind", "schema_version", "status", "source"}  # words that say which part of the card is shown


def github(text: str) -> str:
    return cmarkgfm.github_flavored_markdown_to_html(text, Options.CMARK_OPT_UNSAFE)


RENDERERS: dict[str, Callable[[str], str]] = {
    "markdown-it": MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render,
    "cmark-gfm": github,
}


class Active(HTMLParser):
    """What of a page acts: foreign tags, events, addresses outside the few that a card has."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in {"evil", "script", "iframe"}:
            self.found.append(tag)
        self.open.append(tag)
        for name, value in attrs:
            allowed = ("https://huggingface.co/", "https://arxiv.org/", "https://pypi.org/")
            local = value is not None and ":" not in value and not value.startswith("//")
            if name.startswith("on") or (
                name in {"href", "src"} and not local and not str(value).startswith(allowed)
            ):
                self.found.append(f"{tag} {name}={value}")

    def handle_data(self, data: str) -> None:
        if data.strip().startswith("EVILHEAD") and self.open[-1] in {"h1", "h2"}:
            self.found.append("a heading")


def poisoned(value: Any, text: str) -> Any:
    if isinstance(value, dict):
        return {k: v if k in KEPT else poisoned(v, text) for k, v in value.items()}
    if isinstance(value, list):
        return [poisoned(v, text) for v in value]
    return text if isinstance(value, str) else value


def record(text: str, *, on_hub: bool) -> dict[str, Any]:
    run = example_run()
    run["base_model"]["source"] = "hub" if on_hub else "local"
    run["base_model"]["revision"] = run["dataset"]["id"] = run["dataset"]["revision"] = "x"
    kinds = ("headline", "training", "trace")
    run["figures"] = [{"kind": k, "file": "f", "alt": "a", "caption": "c"} for k in kinds]
    shown = {"pieces": ["a", "b"], "pivots": [1], "entropy": [0.1, 0.9], "gold": "3"}
    token = {"text": "b", "probability": 0.5}
    shown["choices"] = [{"position": 1, "chosen": token, "others": [token, token]}]
    run["traces"] = [{"file": "t", "correct": True, "prompt": "p", "answer": "3", "completion": shown}]
    run["prompt"] |= {"system": "s", "chat_template": on_hub}
    run["arguments"]["changed"][text] = text
    run["versions"][text] = "1"
    run["hardware"]["gpus"] = ["a GPU"]
    return poisoned(run, text)


@pytest.mark.parametrize("renderer", RENDERERS)
@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("on_hub", [True, False])
def test_text_of_a_record_is_inert_in_every_place_of_the_card(renderer, attack, on_hub):
    card = render_card(record(ATTACKS[attack], on_hub=on_hub))
    body = card.split("\n---\n", 1)[1]
    page = Active()
    page.feed(RENDERERS[renderer](body))
    assert page.found == []


@pytest.mark.parametrize("renderer", RENDERERS)
def test_what_acts_would_be_noticed(renderer):
    page = Active()
    page.feed(RENDERERS[renderer]("# EVILHEAD\n\n<evil> <img src=x onerror=e()> [a](http://evil.example)\n"))
    assert len(page.found) == 4


def test_marks_without_an_end_cost_linear_work_and_lose_no_text():
    mark = "<!-- erpo-hub:begin results 000000000000 -->\n"
    card = (
        mark * 20_000
        + "mine\n<!-- erpo-hub:end other -->\n"
        + mark
        + "x\n<!-- erpo-hub:end results -->\nbelow"
    )
    assert [block.text[-1] for block in blocks_of(card).values()] == ["x"]
    assert outside_of(card) == "below"
    assert outside_of(mark * 20_000 + "mine").endswith("mine")
