# ruff: noqa: F811 (pytest fixtures are imported by name)
"""What the Hub itself has for results: collections, a source of the results, sessions for its viewer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from erpo_hub.cli.main import app
from erpo_hub.errors import UserError
from erpo_hub.publish.bundle import build_bundle
from erpo_hub.publish.traces_dataset import push_traces
from erpo_hub.traces.sessions import to_session
from tests.hub_server import HubServer
from tests.hub_server.fixtures import hub  # noqa: F401
from tests.hub_server.pushing import push_with
from tests.hub_server.sample_run import example_run, example_trace, fake_weights

TITLE = "ERPO beside GRPO"


def bundle(folder: Path) -> Path:
    run = example_run()
    run["dataset"] |= {"id": "openai/gsm8k", "spec": "openai/gsm8k", "source": "hub"}
    made = build_bundle(
        run, fake_weights(folder / "w"), folder / "b", traces=[example_trace()], figures=False
    )
    return made.folder


def push(hub: HubServer, folder: Path, name: str, **options: object) -> list[str]:
    said: list[str] = []
    push_with(folder, name, endpoint=hub.url, report=said.append, **options)
    return said


def test_a_pair_of_runs_and_their_space_in_one_collection(hub, tmp_path):
    folder = bundle(tmp_path)
    push_traces([example_trace()], "alice/traces", endpoint=hub.url)
    hub.state.create("spaces", "alice/inspector", "alice")
    push(hub, folder, "alice/grpo", collection=TITLE)
    for _ in range(2):  # the second time there is nothing to do
        said = push(
            hub, folder, "alice/erpo", collection=TITLE, evidence="alice/traces", space="alice/inspector"
        )
    (found,) = hub.state.collections.values()
    kept = [(item["type"], item["id"]) for item in found["items"]]
    assert kept == [
        ("model", "alice/grpo"),
        ("model", "alice/erpo"),
        ("dataset", "alice/traces"),
        ("space", "alice/inspector"),
    ]
    assert "held-out questions" in found["items"][0]["note"]["text"]
    assert said[-1] == f"in the collection {hub.url}/collections/{found['slug']}"
    results = yaml.safe_load(hub.files("alice/erpo")[".eval_results/gsm8k.yaml"].data)
    assert results[0]["source"]["url"] == f"{hub.url}/datasets/alice/traces"
    own = yaml.safe_load(hub.files("alice/grpo")[".eval_results/gsm8k.yaml"].data)
    assert own[0]["source"]["url"] == f"{hub.url}/alice/grpo"


def test_a_collection_that_fails_leaves_the_commit_and_says_so(hub, tmp_path):
    folder = bundle(tmp_path)
    with pytest.raises(UserError, match="is not complete.*what was pushed stays"):
        push(hub, folder, "alice/erpo", collection=TITLE, space="alice/nowhere")
    assert len(hub.commits("alice/erpo")) == 1
    with pytest.raises(UserError, match="1 to 59 characters"):
        push(hub, folder, "alice/erpo", collection="x" * 60)


def test_sessions_are_what_the_viewer_reads(hub):
    trace = example_trace()
    push_traces([trace, trace.replace(correct=False)], "alice/traces", endpoint=hub.url)
    files = hub.files("alice/traces", "datasets")
    names = sorted(name for name in files if name.startswith("sessions/"))
    assert names == ["sessions/00000.jsonl", "sessions/00001.jsonl"]
    header, question, answer = map(json.loads, files[names[0]].data.decode().splitlines())
    assert (header["type"], header["harness"], header["id"]) == ("session", "erpo-hub", "00000")
    assert question == {"type": "message", "message": {"role": "user", "content": trace.prompt}}
    assert answer["message"]["role"] == "assistant"
    assert answer["message"]["content"] == trace.completion
    push_traces([trace], "alice/traces", endpoint=hub.url)
    assert "sessions/00001.jsonl" not in hub.files("alice/traces", "datasets")


def test_thinking_is_told_apart_from_the_answer():
    trace = example_trace()
    text = "<think>\n3+4\n</think>\n\n7"
    scored = trace.replace(completion=text, pieces=[text, *[""] * (len(trace) - 1)])
    message = json.loads(to_session(scored, "a").splitlines()[2])["message"]
    assert (message["reasoningContent"], message["content"]) == ("3+4", "7")


def test_the_command_line_takes_both():
    shown = CliRunner().invoke(app, ["push", "--help"], env={"COLUMNS": "200"}).output
    assert "--collection" in shown
    assert "--evidence" in shown
