"""Runs, cards, traces and models from a Hub, and pushing to one: the app as a process of its own, the real
huggingface_hub client, real HTTP to the project's test Hub."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from gradio_client import Client
from playwright.sync_api import expect

from erpo_hub.publish.hub import push_bundle
from erpo_hub.publish.traces_dataset import push_traces
from tests.hub_server.fixtures import hub  # noqa: F401
from tests.hub_server.server import ALICE, HubServer

from .conftest import open_drawer, traces, watched

ROOT = Path(__file__).parents[2]


@contextmanager
def served(server: HubServer, tmp_path: Path, *command: str, **variables: str) -> Iterator[str]:
    """The address of the app that `python COMMAND` serves, with `server` as its Hub."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith(("HF_", "ERPO_", "SPACE_", "OAUTH"))
    }
    environment |= {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "home"), "PYTHONUNBUFFERED": "1"}
    environment |= {"GRADIO_SERVER_PORT": str(port)} | variables
    url, log = f"http://127.0.0.1:{port}/", (tmp_path / "log").open("w+")
    app = subprocess.Popen([sys.executable, *command], cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 120
        while not _answers(url):
            if app.poll() is not None or time.monotonic() > deadline:
                log.seek(0)
                pytest.fail(f"the app did not open: {log.read()[-3000:]}")
            time.sleep(0.2)
        yield url
    finally:
        app.terminate()
        app.wait(20)
        log.close()


def launch_query(tmp_path: Path) -> str:
    """The end of the link that the app printed, which makes its reader the owner."""
    for _ in range(200):
        found = re.search(r"/(\?key=[\w-]+)", (tmp_path / "log").read_text())
        if found:
            return found[1]
        time.sleep(0.1)
    raise AssertionError("the app printed no link")


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=2).close()
    except OSError:
        return False
    return True


def test_runs_on_a_hub_are_followed_asked_and_one_is_pushed(hub, browser, paired_runs, tmp_path):  # noqa: F811
    for name in ("erpo", "grpo"):
        push_bundle(paired_runs / name / "bundle", f"alice/{name}", endpoint=hub.url, token=ALICE)
    command = ("-m", "erpo_hub.cli", "app", "alice/erpo", "--no-browser")
    with (
        served(hub, tmp_path, *command, HF_TOKEN=ALICE) as url,
        watched(browser, url, launch_query(tmp_path)) as page,
    ):
        page.get_by_role("tab", name="Runs").click()
        assert _drawn(page) == ["alice/erpo"]
        expect(page.locator("#runs-results tbody tr")).to_have_count(2)
        for given in ("alice/grpo", str(paired_runs / "grpo")):
            page.locator("#runs-given textarea, #runs-given input").fill(given)
            page.locator("#runs-add").click()
            expect(page.locator("#runs-state")).to_contain_text(given.replace(str(paired_runs) + "/", ""))
        expect(page.locator("#runs-state tbody tr")).to_have_count(3)
        assert _drawn(page) == ["alice/erpo", "alice/grpo", "grpo"]
        expect(page.locator("#runs-results")).to_contain_text("alice/grpo, after training")
        expect(page.locator("#runs-arguments")).to_contain_text("learning_rate")
        _card_of_a_hub_run_and_push(page, hub)
        with page.expect_response(re.compile("/run/predict")):
            page.get_by_role("tab", name="Inspect").click()
        open_drawer(page)
        page.locator("#model input").click()
        page.get_by_role("option", name="alice/grpo").click()  # it was added under Runs
        page.locator("#prompt textarea").fill("3+4=")
        page.locator("#ask").click()
        expect(page.locator("#view .tv-status")).to_contain_text("Finished.", timeout=90_000)
        expect(page.locator("#view .tv-title")).to_have_text("alice/grpo")


def test_a_repository_that_is_not_there_is_named_before_anything_opens(hub, tmp_path):  # noqa: F811
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-m", "erpo_hub.cli", "app", "alice/none", "--no-browser"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=90)
    assert done.returncode == 1
    assert done.stderr.strip() == "error: alice/none: not on the Hub, or not open to you; check the name"


def _drawn(page) -> list[str]:
    page.wait_for_function("document.querySelector('#runs-plot .js-plotly-plot')?.data")
    return page.evaluate(
        "document.querySelector('#runs-plot .js-plotly-plot').data"
        ".filter((t) => t.showlegend).map((t) => t.name)"
    )


def _card_of_a_hub_run_and_push(page, server: HubServer) -> None:
    page.get_by_role("tab", name="Card").click()
    card = page.locator("#card-preview")
    expect(card.get_by_role("heading", name="tiny-reasoner trained with ERPO")).to_be_visible()
    expect(card.locator("img").first).to_have_attribute("src", re.compile("^data:image/png"))
    page.locator("#push").click()
    page.locator("#push-repo textarea, #push-repo input").fill("alice/pushed")
    page.locator("#push").click()
    state = page.locator("#card-state .facts-text")
    expect(state).to_contain_text("no bundle here")  # the Hub has this one's weights, this machine has not
    page.locator("#card-run input").click()
    page.get_by_role("option", name="grpo", exact=True).click()
    expect(card.get_by_role("heading", name="tiny-reasoner trained with GRPO")).to_be_visible()
    page.locator("#push").click()
    expect(state).to_contain_text(f"Pushed: {server.url}/alice/pushed/commit/", timeout=60_000)
    (commit,) = server.commits("alice/pushed")
    assert state.text_content().endswith(commit.oid)
    assert commit.author == "alice"
    assert server.state.repos["models", "alice/pushed"].private
    assert {"run.json", "README.md", "model.safetensors"} <= set(server.files("alice/pushed"))


def test_a_space_shows_its_hub_traces_and_runs_and_pushes_nothing(hub, browser, paired_runs, tmp_path):  # noqa: F811
    push_bundle(paired_runs / "erpo" / "bundle", "alice/erpo", endpoint=hub.url, token=ALICE)
    push_traces(traces()[:1], "alice/traces", endpoint=hub.url, token=ALICE)
    space = {"SPACE_ID": "alice/space", "ERPO_MODELS": "alice/erpo,alice/none", "ERPO_TRACES": "alice/traces"}
    # the Space has a token of its own, and no sign-in: visitors must not push with it
    with served(hub, tmp_path, "spaces/inspector/app.py", HF_TOKEN=ALICE, **space) as url:
        with watched(browser, url) as page:
            page.locator("#shipped input").click()
            expect(page.get_by_role("option", name="3 plus 4?")).to_have_count(1)
            page.keyboard.press("Escape")
            page.get_by_role("tab", name="Runs").click()
            assert _drawn(page) == ["alice/erpo"]
            expect(page.locator("#runs-results")).to_contain_text("62.0 %")
            expect(page.locator("#runs-given")).to_have_count(0)
            page.get_by_role("tab", name="Card").click()
            expect(page.get_by_text("needs sign-in")).to_be_visible()
            expect(page.locator("#push")).to_have_count(0)
        functions = [d["api_name"] for d in Client(url, verbose=False).config["dependencies"]]
        assert "show" in functions
        assert not [name for name in functions if name in ("push", "add_given")]
    assert len(hub.commits("alice/erpo")) == 1
