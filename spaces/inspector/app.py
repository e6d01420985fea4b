"""The Space: shipped traces at once, models on demand. Settings: see README.md beside this file."""

from pathlib import Path

from erpo_hub.ui import build_demo, launch_kwargs
from erpo_hub.ui.library.library import runs_from_environment, traces_from_environment

traces = [Path(__file__).parent / "traces", *traces_from_environment()]
demo = build_demo(runs=runs_from_environment(), traces=traces)

if __name__ == "__main__":
    demo.launch(**launch_kwargs())
