"""A Hub that answers with an old head or an old commit: it is never reported as holding the files."""

# ruff: noqa: F811 (pytest fixtures are imported by name)
from __future__ import annotations

import json
from typing import Any

import pytest

from erpo_hub.errors import UserError
from erpo_hub.publish import commit, patience
from tests.hub_server import HubServer
from tests.hub_server.fixtures import hub, no_xet  # noqa: F401
from tests.hub_server.server import ALICE, BOB

REPO = "alice/m"
MINE = commit.Content({"a.txt": b"mine"})
HEAD, REFS, COMMIT = f"GET /api/models/{REPO}(/revision/[^/]*)?$", "GET .*/refs", "POST .*/commit/"


def _answer(hub: HubServer, match: str, said: dict[str, Any]) -> None:
    hub.fail(match, status=200, times=999, body=json.dumps(said).encode())


def _info(head: str) -> dict[str, Any]:
    return {"id": REPO, "sha": head, "tags": [], "siblings": [], "private": False}


def _refs(*heads: str) -> dict[str, Any]:
    names = [{"name": "main", "ref": "refs/heads/main", "targetCommit": head} for head in heads]
    return {"branches": names, "converts": [], "tags": []}


@pytest.mark.parametrize(
    "lie", ["no branches", "after a failure", "branches after a failure", "an old commit", "a pull request"]
)
def test_an_old_commit_that_holds_the_files_is_not_taken_for_the_newest(
    lie: str, hub: HubServer, no_xet: None, monkeypatch: pytest.MonkeyPatch
):
    from huggingface_hub import HfApi

    monkeypatch.setattr(patience, "pause", lambda seconds: None)
    api = HfApi(endpoint=hub.url, token=ALICE)
    hub.state.create("models", REPO, "alice")
    head = commit.head_of(api, REPO)
    old = commit.commit_once(api, REPO, MINE, head=head, message="mine").info.oid
    head = hub.push_as_someone_else(REPO, "a.txt", b"theirs").oid  # holds the files no more
    done: dict[str, Any] = {
        "success": True,
        "commitOid": old,
        "commitUrl": f"{hub.url}/{REPO}/commit/{old}",
        "hookOutput": "",
    }
    if lie == "no branches":
        _answer(hub, HEAD, _info(old))
        _answer(hub, REFS, _refs())
        head = old
    elif lie == "after a failure":
        hub.fail(COMMIT, status=500, times=999)
        _answer(hub, HEAD, _info(old))
    elif lie == "branches after a failure":
        hub.fail(COMMIT, status=500, times=999)
        _answer(hub, REFS, _refs(old))
    elif lie == "an old commit":
        _answer(hub, COMMIT, done)
    else:
        _answer(hub, COMMIT, done | {"pullRequestUrl": f"{hub.url}/{REPO}/discussions/1"})
    with pytest.raises((UserError, *patience.FAILURES)):
        commit.commit_once(
            api, REPO, MINE, head=head, message="mine again", create_pr=lie == "a pull request"
        )


@pytest.mark.parametrize("fault", ["its answer is lost and the list can't be had", "it can't be seen yet"])
def test_a_proposal_of_unknown_fate_is_not_made_twice(
    fault: str, hub: HubServer, no_xet: None, monkeypatch: pytest.MonkeyPatch
):
    from huggingface_hub import HfApi

    monkeypatch.setattr(patience, "pause", lambda seconds: None)
    api = HfApi(endpoint=hub.url, token=BOB)
    hub.state.create("models", REPO, "alice")
    head = commit.head_of(api, REPO)
    if "lost" in fault:
        hub.fail(COMMIT, action="lost")
        hub.fail("GET .*/discussions", status=500, nth=2, times=len(patience.WAITS) + 1)
    else:
        hub.fail("GET .*/tree/refs%2Fpr", status=404, times=2)
    with pytest.raises(patience.TOLD):
        commit.commit_once(api, REPO, MINE, head=head, message="mine", create_pr=True)
    assert len(hub.state.repos["models", REPO].pulls) == 1
    assert not commit.commit_once(api, REPO, MINE, head=head, message="mine", create_pr=True).made
    assert len(hub.state.repos["models", REPO].pulls) == 1
