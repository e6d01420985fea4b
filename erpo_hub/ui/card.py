"""The Card tab: a run's model card as the Hub shows it, to download and, with a token, to push.

The card is rendered by publish.card from run.json; here it is only shown. The bundle's pictures become data
addresses, others are not fetched. May import gradio.
"""

from __future__ import annotations

import base64
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from ..errors import UserError
from .facts import encode, facts_table
from .load import RunFolder

if TYPE_CHECKING:
    from .app import Context

_IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")
_FRONT = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)
OAUTH = "OAUTH_CLIENT_ID"


def build(context: Context) -> None:
    """Lay out the tab and connect it."""
    labels = list(context.library.runs)
    pair = context.library.pair()
    first = pair[1] if pair else next(iter(labels), None)
    if first is None:
        gr.Markdown(
            "No runs here, so no card. Start the app with the folder of one: `erpo-hub app runs/demo`"
        )
        return
    front, body, problem = preview(context.library.runs[first])
    with gr.Row():
        run = gr.Dropdown(labels, value=first, label="Run", elem_id="card-run", scale=2)
        download = gr.DownloadButton("Download README.md", value=_file(context, first), elem_id="card-save")
    push = _push_controls(on_space=OAUTH in os.environ)
    state = facts_table("card-state", "Card", {"text": problem, "error": bool(problem)})
    with gr.Accordion("Metadata (the YAML at the top of the card)", open=False):
        metadata = gr.Code(
            front, language="yaml", interactive=False, show_label=False, elem_id="card-metadata"
        )
    card = gr.Markdown(body, elem_id="card-preview", latex_delimiters=[], line_breaks=False)
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

    def show(label: str) -> tuple:
        front, body, problem = preview(context.library.runs[label])
        return front, body, encode({"text": problem, "error": bool(problem)}), _file(context, label)

    run.input(show, run, [metadata, card, state, download], **quiet)
    if push:
        handler = _push_on_space if OAUTH in os.environ else _push_here
        push[1].click(handler(context), [run, *push[0]], state, **quiet)


def _push_controls(*, on_space: bool) -> tuple[list[gr.components.Component], gr.Button] | None:
    """A repository name and a button; only where there is an account to push with."""
    from huggingface_hub import get_token

    if not on_space and not get_token():
        gr.Markdown("To push this run from here, log in first: `hf auth login`.", elem_classes="erpo-note")
        return None
    with gr.Row():
        if on_space:
            gr.LoginButton(scale=1)
        repo = gr.Textbox(label="Repository", placeholder="name/model", elem_id="push-repo", scale=2)
        private = gr.Checkbox(True, label="Private")
        button = gr.Button("Push to the Hub", elem_id="push", scale=1)
    return [repo, private], button


def _push_here(context: Context) -> Any:
    def push(label: str, repo: str, private: bool) -> str:
        return _push(context, label, repo, private, None)

    return push


def _push_on_space(context: Context) -> Any:
    def push(label: str, repo: str, private: bool, token: gr.OAuthToken | None) -> str:
        if token is None:
            return encode({"text": "Sign in first: nothing was pushed.", "error": True})
        return _push(context, label, repo, private, token.token)

    return push


def _push(context: Context, label: str, repo: str, private: bool, token: str | None) -> str:
    from ..publish.hub import push_bundle

    try:
        bundle = context.library.runs[label].bundle
        if bundle is None:
            raise UserError("This run has no bundle here: one is made when training ends.")
        if not repo.strip():
            raise UserError("Where to? Give a repository as name/model.")
        commit = push_bundle(bundle, repo.strip(), private=private, token=token)
    except UserError as error:
        return encode({"text": str(error), "error": True})
    return encode({"text": f"Pushed: {commit.commit_url}"})


def preview(run: RunFolder) -> tuple[str, str, str]:
    """(front matter, body with its pictures inside, problem). A card in the bundle wins over a fresh one."""
    from ..publish.card import render_card

    folder = run.bundle or run.folder
    try:
        written = folder / "README.md"
        card = written.read_text(encoding="utf-8") if written.is_file() else render_card(run.folder)
    except (UserError, OSError, ValueError) as error:
        return "", "", f"The card can't be shown: {error}"
    front = _FRONT.match(card)
    body = card[front.end() :] if front else card
    return (front.group(1) if front else ""), _IMAGE.sub(lambda m: _picture(m, folder), body), ""


def _picture(match: re.Match[str], folder: Path) -> str:
    """A picture of the bundle as a data address; any other as its words, so that nothing is fetched."""
    alt, address = match.groups()
    path = (folder / address).resolve()
    if (
        "://" in address
        or not path.is_file()
        or folder.resolve() not in path.parents
        or path.suffix != ".png"
    ):
        return f"[picture: {alt}]"
    data = base64.b64encode(path.read_bytes()).decode()
    return f"![{alt}](data:image/png;base64,{data})"


def _file(context: Context, label: str) -> str | None:
    from ..publish.card import render_card

    run = context.library.runs[label]
    written = (run.bundle or run.folder) / "README.md"
    try:
        text = written.read_text(encoding="utf-8") if written.is_file() else render_card(run.folder)
    except (UserError, OSError, ValueError):
        return None
    path = Path(tempfile.mkdtemp(prefix="card-")) / "README.md"
    path.write_text(text, encoding="utf-8")
    return str(path)
