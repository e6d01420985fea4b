"""The Gradio app. Reads traces, run records and engines; never trains."""

from .page import build_demo, launch_kwargs

__all__ = ["build_demo", "launch_kwargs"]
