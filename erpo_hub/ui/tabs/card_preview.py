"""The Card tab: a run's model card as the Hub shows it, to download and, with a token, to push.

The card is rendered by publish.card from run.json; here it is only shown, see card_html.py.
May import gradio.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import gradio as gr

from ...errors import UserError
from ..budget import fresh_file
from ..card_html import CHARACTERS, card_html, is_inside
from ..context import Context
from ..guard import NOT_OWNER
from ..library.run_folder import RunFolder
from ..view.facts import encode, facts_table
from .address import Opener

_FRONT = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)
OAUTH = "OAUTH_CLIENT_ID"  # a Space with sign-in has it
NO_RUNS = "No runs here, so no card. The Runs tab says how to get one."


def build(context: Context, tab: gr.Tab) -> Opener:
    """Lay out the tab and connect it. Returns what an address opens here."""
    labels = list(context.library.runs)
    pair = context.library.pair()
    first = pair[1] if pair else next(iter(labels), None)
    front, body, state_text, file = _shown(context, first)
    nothing = gr.Markdown(NO_RUNS, visible=not labels)
    with gr.Column(visible=bool(labels)) as column:
        with gr.Row():
            run = gr.Dropdown(labels, value=first, label="Run", elem_id="card-run", scale=2)
            download = gr.DownloadButton("Download README.md", value=file, elem_id="card-save")
        push = _push_controls(context)
        state = facts_table("card-state", "Card", state_text)
        with gr.Accordion("Metadata (the YAML at the top of the card)", open=False):
            metadata = gr.Code(
                front, language="yaml", interactive=False, show_label=False, elem_id="card-metadata"
            )
        card = gr.HTML(body, elem_id="card-preview")
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

    def show(label: str | None) -> tuple:
        front, body, text, file = _shown(context, label)
        return front, body, encode(text), file

    def opened(label: str | None) -> tuple:
        """The runs as they are now: one may have been added under Runs, or have trained on."""
        labels = list(context.library.runs)
        label = label if label in labels else next(iter(labels), None)
        some = bool(labels)
        return (
            gr.Markdown(visible=not some),
            gr.Column(visible=some),
            gr.Dropdown(labels, value=label),
            *show(label),
        )

    shown = [metadata, card, state, download]
    run.input(show, run, shown, **quiet)
    tab.select(opened, run, [nothing, column, run, *shown], **quiet)
    if push:
        handler = _push_on_space if OAUTH in os.environ else _push_here
        push[1].click(handler(context), [run, *push[0]], state, **quiet)

    def fill(query: dict[str, str]) -> list[Any]:
        label = query.get("run")
        return [label, *show(label)] if label in context.library.runs else [gr.skip()] * (1 + len(shown))

    return Opener([run, *shown], fill)


def _push_controls(context: Context) -> tuple[list[gr.components.Component], gr.Button] | None:
    """A repository name and a button, only where there is an account to push with.

    On a Space that is the visitor's, by sign-in; never the token that the Space itself may hold. Elsewhere it
    is this machine's, as long as nobody else can reach the app.
    """
    from huggingface_hub import get_token

    on_space = OAUTH in os.environ
    if not on_space:
        reason = ""
        if "SPACE_ID" in os.environ:
            reason = "Pushing from here needs sign-in: `hf_oauth: true` in the Space's README."
        elif context.door.key is None:
            reason = "Others can reach this app, so it does not push in your name: `erpo-hub push` does."
        elif not get_token():
            reason = "To push this run from here, log in first: `hf auth login`."
        if reason:
            gr.Markdown(reason, elem_classes="erpo-note")
            return None
    with gr.Row():
        if on_space:
            gr.LoginButton(scale=1)
        repo = gr.Textbox(label="Repository", placeholder="name/model", elem_id="push-repo", scale=2)
        private = gr.Checkbox(True, label="Private")
        button = gr.Button("Push to the Hub", elem_id="push", scale=1)
    return [repo, private], button


def _push_here(context: Context) -> Any:
    def push(label: str, repo: str, private: bool, request: gr.Request) -> str:
        if not context.owner(request):
            return encode({"text": NOT_OWNER, "error": True})
        return _push(context, label, repo, private, None)

    return push


def _push_on_space(context: Context) -> Any:
    def push(label: str, repo: str, private: bool, token: gr.OAuthToken | None) -> str:
        if token is None:
            return encode({"text": "Sign in first: nothing was pushed.", "error": True})
        return _push(context, label, repo, private, token.token)

    return push


def _push(context: Context, label: str, repo: str, private: bool, token: str | None) -> str:
    from ...publish.hub import push_bundle

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


def _shown(context: Context, label: str | None) -> tuple[str, str, dict[str, Any], str | None]:
    """Front matter, body, state and file to download of a run's card."""
    run = context.library.runs.get(label or "")
    if run is None:
        return "", "", {}, None
    try:
        text = card_text(run)
    except (UserError, OSError, ValueError) as error:
        return "", "", {"text": f"The card can't be shown: {error}", "error": True}, None
    path = fresh_file("README.md", context.limits.budget)
    path.write_text(text, encoding="utf-8")
    return *preview(text, run.published), {}, str(path)


def card_text(run: RunFolder) -> str:
    """The card in the bundle; of a run without one, the card it would get. Raises UserError."""
    from ...card.card import render_card

    written = run.published / "README.md"
    if not written.is_file():
        return render_card(run.folder)
    if not is_inside(written, run.published) or written.stat().st_size > 8 * CHARACTERS:
        raise UserError(f"{run.label}: its README.md is a link out of the bundle, or too long to be a card")
    return written.read_text(encoding="utf-8")


def preview(card: str, folder: Path) -> tuple[str, str]:
    """(front matter, body as HTML with the folder's pictures inside)."""
    front = _FRONT.match(card)
    body = card[front.end() :] if front else card
    return (front.group(1) if front else ""), card_html(body, folder)
