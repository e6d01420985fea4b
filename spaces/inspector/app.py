"""The Space: recorded traces at once, the package's examples first; models on demand. Settings: README.md."""

from pathlib import Path

from erpo_hub.ui import build_demo, launch_kwargs
from erpo_hub.ui.library.library import runs_from_environment, traces_from_environment

traces = [Path(__file__).parent / "traces", *traces_from_environment()]
demo = build_demo(runs=runs_from_environment(), traces=traces, examples=True)

if __name__ == "__main__":
    demo.launch(**launch_kwargs())
