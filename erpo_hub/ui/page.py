"""build_demo: the whole app in one Blocks page, and launch_kwargs: how it is to be launched.

Used alike by `erpo-hub app`, app/app.py and spaces/inspector/app.py. No torch until a model is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..traces.trace import Trace
from . import budget, preview
from .context import Context
from .guard import Door, Guard
from .library.labels import label_of
from .library.library import EMBEDDED, Limits, add_examples, open_library
from .library.run_folder import RunFolder
from .models.line import SPACE
from .models.pool import Engines
from .view.theme import css, theme

if TYPE_CHECKING:
    import gradio as gr

    from ..traces.engine import Engine
    from .blocks import Page

_INTRO = """
# erpo-hub inspector
Every token of a solution, shaded by how uncertain the model was. Those marked ◆ are its pivots: open one.
"""


def build_demo(
    engines: Mapping[str, Engine] | None = None,
    runs: Iterable[str | Path | RunFolder] = (),
    traces: Iterable[Trace | str | Path] = (),
    *,
    limits: Limits | None = None,
    door: Door | None = None,
    examples: bool = False,
) -> Page:
    """The app.

    engines: loaded engines by name. runs: paths of runs, models or trace folders, or Hub model ids. traces:
    traces, or paths of them. limits: default from the environment (see `Limits.from_environment`).
    door: whom the app takes for its owner, and is given to `launch_kwargs` too. Without one everybody is a
    visitor, as on a Space: closed lists, nothing by path, no push in the name of this machine's account.
    examples: the package's own traces come first where there is no run; an app on nothing has them always.
    Raises UserError for a path with nothing to show.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    if not SPACE:  # uvicorn would believe what a tunnel's client says of its own address
        os.environ.setdefault("FORWARDED_ALLOW_IPS", "")
    budget.folder()  # before Gradio asks where files go
    import gradio as gr

    from . import api, links
    from .blocks import Page
    from .models import runner
    from .tabs import card_preview, compare, group, inspect
    from .tabs import runs as runs_tab

    given = list(traces)
    door = door or Door()
    limits = limits or Limits.from_environment(public=door.key is None)
    if door.key is None and limits.models is None:
        limits = replace(limits, models=())
    library = open_library([*runs, *(t for t in given if not isinstance(t, Trace))], limits)
    for number, trace in enumerate(t for t in given if isinstance(t, Trace)):
        library.traces[f"{number + 1}: {label_of(trace)}"] = trace
    empty = not library.traces and not library.models.keys() - {EMBEDDED}
    if not library.runs and (examples or empty):
        add_examples(library)
    context = Context(library, Engines(library, engines), door=door)
    runner.lend(context.engines)

    with Page(library.limits.budget, title=preview.TITLE, delete_cache=(3600, 3600)) as demo:
        api.build(context)  # first, so that Gradio adds no numbers to its names
        gr.Markdown(_INTRO, elem_id="erpo-head")
        with gr.Tabs(elem_id="tabs") as tabs:
            with gr.Tab("Inspect", id="inspect") as inspect_tab:
                panel = inspect.build(context)
            with gr.Tab("Compare", id="compare") as compare_tab:
                models, compared = compare.build(context)
            with gr.Tab("Group", id="group") as group_tab:
                grouped = group.build(context, group_tab, tabs, panel)
            with gr.Tab("Runs", id="runs"):
                ran = runs_tab.build(context)
            with gr.Tab("Card", id="card") as card_tab:
                card = card_preview.build(context, card_tab)
        openers = {"compare": compared, "group": grouped, "runs": ran, "card": card}
        links.build(context, demo, tabs, panel, openers)
        if library.limits.models is None:  # a run that was added under Runs is offered everywhere
            names = context.engines.names
            _offer(inspect_tab, [panel.shipped, panel.model], lambda: [list(library.traces), names()])
            _offer(compare_tab, models, lambda: [names() for _ in models])
    demo.start = "compare" if library.pair() else None
    demo.queue(max_size=library.limits.queue, default_concurrency_limit=8)
    return demo


def _offer(tab: gr.Tab, lists: list[gr.Dropdown], choices: Callable[[], list[list[str]]]) -> None:
    """Fills the lists anew whenever the tab is opened."""
    import gradio as gr

    def fill() -> list[gr.Dropdown]:
        return [gr.Dropdown(names) for names in choices()]

    tab.select(fill, None, lists, show_progress="hidden", api_visibility="private", queue=False)


def _script() -> str:
    """What the page runs when it opens: page.js, and address.js in it."""
    place = Path(__file__).parent / "view"
    page, address = ((place / name).read_text(encoding="utf-8") for name in ("page.js", "address.js"))
    return page.rstrip().removesuffix("}") + address + "}\n"


def launch_kwargs(door: Door | None = None, limits: Limits | None = None, **changes: Any) -> dict[str, Any]:
    """Arguments for `demo.launch`: our look, the guard, nothing logged or shared, uploads of at most 64 MB.

    door, limits: those that `build_demo` was given.
    """
    from starlette.middleware import Middleware

    limits = limits or Limits.from_environment(public=door is None or door.key is None)
    settings: dict[str, Any] = {
        "theme": theme(),
        "css": css(),
        "js": _script(),
        "run_history": False,
        "enable_monitoring": False,
        "max_file_size": "64mb",
        "state_session_capacity": budget.SESSIONS,  # some routes make sessions without an event
        "max_threads": 100,  # who waits for a model through the API holds one
        "footer_links": ["api"],
        "app_kwargs": {
            "middleware": [
                Middleware(Guard, door=door or Door(), budget=limits.budget),
                Middleware(preview.Preview),
            ]
        },
    }
    return settings | changes
