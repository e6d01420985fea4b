"""`erpo-hub app`: open the app on runs, models and traces."""

from __future__ import annotations

import os
import webbrowser
from collections.abc import Sequence

from ..errors import UserError


def run_app(
    paths: Sequence[str], *, host: str = "127.0.0.1", port: int | None = None, share: bool = False,
    open_browser: bool = False,
) -> None:  # fmt: skip
    """Serve until Ctrl-C. Raises UserError: Gradio is missing, a path holds nothing, the port is in use.

    Bound to this machine alone, it prints a link that makes its reader the owner. With another host or a
    share link everybody is a visitor, and this machine's Hub token is not used for what visitors ask.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    try:
        import gradio  # noqa: F401
    except ImportError:
        raise UserError('the app needs Gradio: install erpo-hub with its extra "app"') from None
    from huggingface_hub import constants

    from ..ui import build_demo, launch_kwargs
    from ..ui.guard import LOOPBACK, Door

    alone = host in LOOPBACK and not share
    door = Door.for_owner() if alone else Door()
    demo = build_demo(runs=paths, door=door)
    if not alone:
        constants.HF_HUB_DISABLE_IMPLICIT_TOKEN = True
    settings = launch_kwargs(door, server_name=host, server_port=port, share=share)
    try:
        _, url, shared = demo.launch(**settings, prevent_thread_lock=True, quiet=True)
    except OSError as error:
        raise UserError(f"cannot serve on {host}:{port or 7860} ({error}); choose another --port") from None
    link = shared or door.link(url)
    if demo.start:  # the tab to open on
        link += f"{'&' if '?' in link else '?'}tab={demo.start}"
    told = "only with this link can paths be opened and runs be pushed" if alone else "all are visitors here"
    print(f"erpo-hub app: {link}\n({told}; Ctrl-C ends it)", flush=True)
    if open_browser:
        webbrowser.open(link)
    demo.block_thread()
