"""verify NAME/MODEL over real HTTP, and what it tells the repository."""

# ruff: noqa: F811 (pytest fixtures are imported by name)
from __future__ import annotations

import json
from pathlib import Path

import pytest

from erpo_hub import push_bundle, verify
from erpo_hub.errors import UserError
from erpo_hub.verification.report import report
from tests.hub_server import HubServer
from tests.hub_server.fixtures import hub, no_xet  # noqa: F401
from tests.hub_server.server import ALICE, BOB

REPO = "alice/erpo"


@pytest.fixture
def published(hub: HubServer, no_xet: None, real_bundle: Path) -> HubServer:
    push_bundle(real_bundle, REPO, endpoint=hub.url, report=lambda line: None)
    return hub


def check(hub: HubServer, **options: object):
    return verify(REPO, n=8, seed=1, endpoint=hub.url, token=BOB, progress=False, **options)


def test_a_published_model_is_judged_and_the_repository_told(published):
    found = check(published)
    assert found.contradicted == []
    assert found.revision == published.commits(REPO)[0].oid
    assert not any("/traces/" in line for line in published.requests), "only what is read is fetched"

    url = report(found, REPO, token=BOB, endpoint=published.url)
    told = published.state.repos["models", REPO].pulls[0]
    assert url.endswith(f"{REPO}/discussions/1")
    assert told.title.startswith("erpo-hub verify: nothing contradicted")
    assert "| accuracy (greedy" in told.text
    assert (told.author, told.is_pull) == ("bob", False)

    url = report(found, REPO, pull_request=True, token=BOB, endpoint=published.url)
    proposed = published.files(REPO, revision="refs/pr/2")["verification.json"].data
    assert url.endswith(f"{REPO}/discussions/2")
    assert json.loads(proposed)["verdict"] == found.verdict
    assert "verification.json" not in published.files(REPO)
    assert not any(token in told.title + told.text + proposed.decode() for token in (ALICE, BOB))


def test_a_changed_card_in_the_repository_is_found(published):
    card = published.files(REPO)["README.md"].data.decode()
    published.push_as_someone_else(REPO, "README.md", f"{card}\nIt beats everything: 99.9 %.\n".encode())
    assert check(published).contradicted == []  # text outside the blocks is the author's own
    higher = card.replace("It answers **", "It answers **9")
    published.push_as_someone_else(REPO, "README.md", higher.encode())
    assert check(published).verdict == "contradicted: card edited against its record"


def test_what_is_not_there_or_too_large_is_told_in_one_line(published):
    with pytest.raises(UserError, match="alice/none can't be fetched: alice/none does not exist"):
        verify("alice/none", endpoint=published.url)
    with pytest.raises(UserError, match="raise --max-gb"):
        check(published, max_gb=0.001)
