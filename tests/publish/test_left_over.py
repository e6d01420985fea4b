"""What a second push deletes on the Hub: what the first one's run.json lists, and nothing of the user's."""

# ruff: noqa: F811 (pytest fixtures are imported by name)
from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from erpo_hub.errors import UserError
from erpo_hub.publish import patience
from erpo_hub.publish.bundle import build_bundle
from tests.hub_server import HubServer
from tests.hub_server.fixtures import hub  # noqa: F401
from tests.hub_server.pushing import push_with
from tests.hub_server.sample_run import example_run, example_trace, fake_weights, write_safetensors

REPO = "alice/erpo"
OLD = "model-00002-of-00002.safetensors"  # of the first bundle alone
MINE = ["figures/mine.png", "traces/mine.json", ".eval_results/mine.yaml", "ema.safetensors"]


def push(hub: HubServer, folder: Path, **options: object) -> list[str]:
    said: list[str] = []
    push_with(folder, REPO, endpoint=hub.url, report=said.append, **options)
    return said


def bundle(folder: Path, *more: str, value: int = 1) -> Path:
    weights = fake_weights(folder / "weights", value)
    for name in more:
        write_safetensors(weights / name, b"x" * 10)
    made = build_bundle(example_run(), weights, folder / "bundle", traces=[example_trace()], figures=False)
    return made.folder


@pytest.fixture
def pushed(hub, tmp_path) -> Path:
    """The first bundle is on the Hub, with files of the user's beside it; the second one's folder."""
    push(hub, bundle(tmp_path / "first", OLD))
    for name in MINE:
        hub.push_as_someone_else(REPO, name, b"mine")
    return bundle(tmp_path / "second", value=2)


def test_what_the_user_put_there_stays_and_what_the_first_push_made_goes(hub, pushed):
    said = push(hub, pushed)
    there = hub.files(REPO)
    assert {name: there[name].data for name in MINE} == dict.fromkeys(MINE, b"mine")
    assert OLD not in there
    assert len(said) == 2
    assert said[1].startswith(
        f"left in {REPO}, as its run.json did not list them: '.eval_results/mine.yaml', "
    )
    assert said[1].endswith("and 1 more; delete what is old")
    assert len(push(hub, pushed)) == 1  # unchanged: nothing new to say


def test_weights_that_the_user_put_in_the_place_of_old_ones_stay(hub, pushed):
    theirs = replace(hub.files(REPO)[OLD], sha256="1" * 64)  # sent as large files are
    hub.state.repos["models", REPO].add_commit("main", {**hub.files(REPO), OLD: theirs}, "mine", "carol")
    push(hub, pushed)
    assert hub.files(REPO)[OLD] == theirs


def odd(hub: HubServer, **changes: object) -> bytes:
    return json.dumps(json.loads(hub.files(REPO)["run.json"].data) | changes).encode()


@pytest.mark.parametrize(
    "record",
    [
        lambda hub: b"",
        lambda hub: b"\xff\xfe{",
        lambda hub: b"[" * 100_000,
        lambda hub: b'{"algorithm": "erpo", "files": ["model.safetensors"]}',
        lambda hub: odd(hub, files={OLD: 7}),
        lambda hub: odd(hub, files={}),
        lambda hub: odd(hub, files=None),
        lambda hub: odd(hub, schema_version=0),
    ],
)
def test_where_the_record_on_the_hub_does_not_tell_nothing_is_deleted_and_that_is_said(hub, pushed, record):
    hub.push_as_someone_else(REPO, "run.json", record(hub))
    said = push(hub, pushed)
    assert set(hub.files(REPO)) >= {OLD, *MINE}
    assert said[1].endswith("and 2 more; delete what is old")


def test_a_record_on_the_hub_that_lists_everything_deletes_no_more_than_a_bundle_makes(hub, pushed):
    hub.push_as_someone_else(REPO, "notes.txt", b"mine")
    hub.push_as_someone_else(REPO, "src/model.safetensors", b"mine")
    names = [*hub.files(REPO), "../x", "/etc/passwd", "figures/", ""]
    hub.push_as_someone_else(REPO, "run.json", odd(hub, files=dict.fromkeys(names, "0" * 64)))
    push(hub, pushed)
    there = hub.files(REPO)
    assert set(there) >= {"notes.txt", "src/model.safetensors", ".gitattributes"}
    assert OLD in there  # another digest than the one that is listed


def test_a_record_too_large_to_be_one_is_not_fetched(hub, pushed, monkeypatch):
    monkeypatch.setattr("erpo_hub.publish.hub.MAX_BYTES", 100)
    hub.requests.clear()
    push(hub, pushed)
    assert OLD in hub.files(REPO)
    assert not [line for line in hub.requests if "resolve" in line and "run.json" in line]


def test_the_record_is_asked_for_only_where_something_may_be_old(hub, tmp_path):
    push(hub, bundle(tmp_path / "first"))
    hub.requests.clear()
    push(hub, bundle(tmp_path / "second", value=2))
    assert not [line for line in hub.requests if "run.json" in line]


@pytest.mark.parametrize("fault", [{"status": 503}, {"status": 404}, {"status": 200, "body": b"<html>"}])
def test_a_record_that_can_not_be_fetched_is_one_line_and_nothing_is_changed(hub, pushed, monkeypatch, fault):
    from huggingface_hub.utils import _http

    clock = SimpleNamespace(sleep=lambda seconds: None, monotonic=time.monotonic)  # as in test_hub.py
    monkeypatch.setattr(patience, "time", clock)
    monkeypatch.setattr(_http, "time", clock)
    before = len(hub.commits(REPO))
    hub.fail("(GET|HEAD) .*/resolve/.*/run.json", times=999, **fault)
    with pytest.raises(UserError, match="the bundle is kept in .*try again with: erpo-hub push") as error:
        push(hub, pushed)
    assert "\n" not in str(error.value)
    assert len(hub.commits(REPO)) == before
