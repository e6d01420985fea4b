"""A commit that landed is found by its files, whatever the client then makes of the Hub's answers."""

# ruff: noqa: F811 (pytest fixtures are imported by name)
from __future__ import annotations

import json

import pytest
from huggingface_hub import HfApi

from erpo_hub.publish import patience
from erpo_hub.publish.commit import Content, commit_once, head_of
from tests.hub_server import HubServer
from tests.hub_server.fixtures import hub  # noqa: F401
from tests.hub_server.server import ALICE

CARD = Content({"README.md": b"---\ntags:\n- erpo\n---\n"})


def test_an_answer_that_the_client_cant_read_hides_no_commit_whatever_the_repositorys_name(hub: HubServer):
    """The client's error quotes the address, and with it a name that could be mistaken for a reason."""
    name, oid = "alice/metadata-erpo", "0" * 40
    api = HfApi(endpoint=hub.url, token=ALICE)
    hub.state.create("models", name, "alice")
    answer = {"commitUrl": f"https://proxy.example/{name}/commit/{oid}", "commitOid": oid, "success": True}
    hub.fail("POST .*/commit/", "landed", status=200, body=json.dumps(answer).encode())
    found = commit_once(api, name, CARD, head=head_of(api, name), message="card")
    assert found.recovered
    assert [c.oid for c in hub.commits(name)] == [found.info.oid]


def test_a_card_refused_on_the_second_attempt_does_not_hide_that_the_first_landed(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
):
    """Three bad answers in a row: to the commit, to where the branch stands, to what the card says."""
    monkeypatch.setattr(patience, "pause", lambda seconds: None)
    refusal = {"errors": [{"message": '"tags" must be an array'}], "warnings": []}

    def spoil() -> None:
        hub.fail("GET .*/refs", status=404)
        hub.fail("POST /api/validate-yaml", status=400, body=json.dumps(refusal).encode())

    api = HfApi(endpoint=hub.url, token=ALICE)
    hub.state.create("models", "alice/m", "alice")
    hub.fail("POST .*/commit/", "lost")
    hub.middleware.when_lost.append(spoil)
    found = commit_once(api, "alice/m", CARD, head=head_of(api, "alice/m"), message="card")
    assert hub.middleware.faults[-1].seen == 1  # the refusal was given
    assert found.recovered
    assert [c.oid for c in hub.commits("alice/m")] == [found.info.oid]
