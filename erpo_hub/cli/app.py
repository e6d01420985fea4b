"""`erpo-hub app`: open the app on runs, models and traces."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..errors import UserError


def run_app(
    paths: Sequence[str], *, host: str = "127.0.0.1", port: int | None = None, share: bool = False,
    open_browser: bool = False,
) -> None:  # fmt: skip
    """Serve until Ctrl-C. Raises UserError: Gradio is missing, a path holds nothing, the port is in use."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    try:
        import gradio  # noqa: F401
    except ImportError:
        raise UserError('the app needs Gradio: install erpo-hub with its extra "app"') from None
    from ..ui import build_demo, launch_kwargs

    alone = host in ("127.0.0.1", "localhost", "::1") and not share
    demo = build_demo(runs=paths, alone=alone)
    try:
        demo.launch(**launch_kwargs(server_name=host, server_port=port, share=share, inbrowser=open_browser))
    except OSError as error:
        raise UserError(f"cannot serve on {host}:{port or 7860} ({error}); choose another --port") from None
