"""The Group tab on a real short training: its groups, keyboard, the reader, watched questions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from erpo_hub import Trace
from erpo_hub.publish.hub import push_bundle
from erpo_hub.traces.logged import steps_in
from tests.hub_server.fixtures import hub  # noqa: F401
from tests.hub_server.server import ALICE

from .conftest import make_trace, watched
from .test_accessibility import open_tab, violations

SMALL = {"max_steps": 2, "per_device_train_batch_size": 8, "num_generations": 4, "max_completion_length": 24}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps of ERPO on the embedded model, everything logged, published as a bundle."""
    from erpo_hub.run.conductor import train_and_push

    folder = tmp_path_factory.mktemp("group") / "short"
    train_and_push(
        "builtin:tiny-reasoner",
        "builtin:expressions?operands=3",
        push=False,
        output_dir=folder,
        evaluation={"n": 4},
        log_completions_every=1,
        watch_questions=2,
        **SMALL,
    )
    return folder


@pytest.fixture(scope="module")
def address(run: Path):
    from erpo_hub.ui import build_demo, launch_kwargs

    hostile = [
        make_trace(["<img src=x onerror=alert(1)>", "${alert(1)}", f" {i}"], prompt="<b>Same</b>?").replace(
            generation={"step": 7, "reward": float(i % 2), "advantage": 0.935 if i % 2 else -0.935}
        )
        for i in range(9)
    ]
    demo = build_demo(runs=[run], traces=hostile)
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, **launch_kwargs())
    yield url
    demo.close()


def opened(page: Page) -> None:
    page.get_by_role("tab", name="Group").click()
    expect(page.locator("#group .gv-row")).to_have_count(4)


def test_the_bundle_holds_what_was_logged(run: Path) -> None:
    live, published = (run / part for part in ("checkpoints/groups", "bundle/traces/groups"))
    for kind, count, steps in (("group", 8, [0, 1]), ("watch", 4, [0, 1, 2])):
        files = steps_in(published, kind)
        assert list(files) == steps
        for step, file in files.items():
            traces = Trace.from_parquet(file)
            assert len(traces) == count
            assert traces == Trace.from_parquet(steps_in(live, kind)[step])


def test_a_group_shows_both_advantages_and_opens_in_the_reader(browser, address: str, run: Path) -> None:
    traces = Trace.from_parquet(steps_in(run / "checkpoints/groups", "group")[1])[:4]
    with watched(browser, address) as page:
        opened(page)
        view = page.locator("#group")
        expect(view.locator(".gv-question")).to_contain_text(traces[0].prompt)
        row = view.locator('.gv-row[aria-selected="true"]')
        trace = traces[int(row.get_attribute("data-index") or 0)]
        row.focus()
        page.keyboard.press("Home")
        page.keyboard.press("ArrowRight")
        numbers = view.locator(".gv-numbers")
        expect(numbers).to_contain_text(f"token2 of {len(trace)}")
        for name, value in (
            ("GRPO's advantage", trace.generation["advantage"]),
            ("the method's advantage", trace.columns["advantage"][1]),
        ):
            shown = f"{name}{'−' if value < 0 else '+'}{abs(value):.3f}"
            expect(numbers).to_contain_text(shown)
        for name in ("gate", "progress", "bucket", "reference log-prob"):
            expect(numbers).to_contain_text(name)
        other = view.locator(".gv-other").evaluate("e => +e.value.slice(1).split(' ')[0] - 1")
        pairs = zip(trace.tokens, traces[other].tokens)
        parted = next((t for t, (a, b) in enumerate(pairs) if a != b), None)
        if parted is not None:
            row.focus()
            page.keyboard.press("d")
            expect(numbers).to_contain_text(f"token{parted + 1} of")
        page.keyboard.press("Enter")
        expect(page.locator("#view .tv-title")).to_contain_text(f"completion {traces.index(trace) + 1}")
        expect(page.locator("#view .tv")).to_have_attribute("data-tokens", str(len(trace)))


def test_a_run_on_the_hub_shows_what_it_logged(hub, run: Path, tmp_path: Path) -> None:  # noqa: F811
    """By a process of its own: huggingface_hub reads its address when it is imported."""
    push_bundle(run / "bundle", "alice/short", endpoint=hub.url, token=ALICE)
    script = """if True:
        from erpo_hub.ui.library.groups import Chosen, questions, sources, steps
        from erpo_hub.ui.library.library import open_library
        library = open_library(["alice/short"])
        print(sources(library), steps(library, Chosen("alice/short")))
        print([len(g) for g in questions(library, Chosen("alice/short", "group", 1)).values()])
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": ALICE}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["['alice/short'] [0, 1]", "[4, 4]"], done.stderr[-2000:]


def test_sorting_color_and_the_questions_over_training(browser, address: str) -> None:
    with watched(browser, address) as page:
        opened(page)
        view = page.locator("#group")
        view.locator(".gv-sort").select_option("length")
        lengths = view.locator(".gv-row").evaluate_all(
            "rows => rows.map(r => +r.ariaLabel.match(/(\\d+) tokens/)[1])"
        )
        assert lengths == sorted(lengths, reverse=True)
        for color in view.locator(".gv-color option").all_inner_texts():
            view.locator(".gv-color").select_option(color)
            expect(view.locator(".gv-legend")).to_contain_text(color)
        view.locator(".gv-color").select_option("the method's advantage")
        expect(view.locator(".gv-legend")).to_contain_text("Blue pushes the token up")
        page.locator("#group-kind input").click()
        page.get_by_role("option", name="The same questions over training").click()
        expect(view.locator(".gv-row")).to_have_count(3)
        expect(view.locator(".gv-row").last).to_contain_text("step 2")


@pytest.mark.parametrize(("scheme", "width"), [("light", 1360), ("dark", 390)])
def test_hostile_recorded_group_is_text_and_the_tab_is_accessible(
    browser, address: str, scheme: str, width: int
) -> None:
    size = {"width": width, "height": 900}
    with watched(browser, address, f"?__theme={scheme}", viewport=size) as page:
        open_tab(page, "Group")
        page.locator("#group-run input").click()
        page.get_by_role("option", name="Recorded traces").click()
        expect(page.locator("#group .gv-row")).to_have_count(9)
        expect(page.locator("#group .gv-question")).to_have_text("<b>Same</b>?")
        expect(page.locator("#group .gv-text")).to_contain_text("<img src=x onerror=alert(1)>${alert(1)}")
        expect(page.locator("#group .gv-row").first).to_contain_text("+0.94" if width > 400 else "+0.9")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert violations(page) == []
