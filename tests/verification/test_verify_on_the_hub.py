"""verify NAME/MODEL over real HTTP, and what it tells the repository."""

# ruff: noqa: F811 (pytest fixtures are imported by name)
from __future__ import annotations

import json
from pathlib import Path

import pytest

from erpo_hub import push_bundle, verify
from erpo_hub.card import markdown
from erpo_hub.errors import UserError
from erpo_hub.publish import patience
from erpo_hub.verification.claims import UNKNOWN, UNTRUE, Claim, Verification
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


def test_a_damaged_model_is_named_as_the_hub_names_it(published, tmp_path):
    """Anybody can publish one, and what the loader says of it goes into a public report."""
    published.push_as_someone_else(REPO, "model.safetensors", b"damaged")
    found = check(published)
    (accuracy,) = [claim for claim in found.claims if claim.name.startswith("accuracy")]
    assert accuracy.detail.startswith("alice/erpo: the model cannot be loaded")
    assert str(tmp_path) not in json.dumps(found.to_dict())


# --- what is told, with no model judged ---

CACHE = "models--alice--erpo/snapshots/0123456789abcdef"
SAID = f"record at /home/zoe/.cache/huggingface/hub/{CACHE}: the model cannot be loaded"


@pytest.fixture
def told(hub: HubServer) -> HubServer:
    hub.state.create("models", REPO, "alice")
    return hub


def result(detail: str = "", revision: str = "a" * 40, status: str = UNTRUE) -> Verification:
    return Verification(REPO, [Claim("accuracy", status, detail, "accuracy overstated")], revision)


@pytest.mark.parametrize("pull_request", [False, True])
@pytest.mark.parametrize(
    ("detail", "public"),
    [
        (SAID, "record at alice/erpo: the model cannot be loaded"),
        (f"{Path.home()}/my_models/x_2: broken", "x_2: broken"),
        ("the 8 of /srv/clients/acme/q.jsonl?append=x", "the 8 of q.jsonl?append=x"),
        ("in /Users/zoe", "in a folder"),
        ("in C:\\Users\\zoe\\q.jsonl", "in q.jsonl"),
        ("1/2 of https://huggingface.co/alice/erpo", "1/2 of https://huggingface.co/alice/erpo"),
        ("a token hf_" + "a" * 34, "a token [removed]"),
    ],
)
def test_no_path_of_a_machine_is_told(told, detail, public, pull_request):
    report(result(detail), REPO, pull_request=pull_request, token=BOB, endpoint=told.url)
    if pull_request:
        file = told.files(REPO, revision="refs/pr/1")["verification.json"]
        assert json.loads(file.data)["claims"][0]["detail"] == public
    else:
        text = told.state.repos["models", REPO].pulls[0].text
        assert f"| {markdown.plain(public)} |" in text
        assert "zoe" not in text


@pytest.mark.parametrize(
    ("request_", "action"),
    [("POST .*/discussions", "lost"), ("POST .*/discussions", "landed"), ("GET .*/discussions/1$", "reset")],
)
def test_a_lost_answer_gives_one_discussion(told, monkeypatch, request_, action):
    monkeypatch.setattr(patience, "WAITS", (0.0,))
    told.fail(request_, action)
    url = report(result(), REPO, token=BOB, endpoint=told.url)
    assert url == f"{told.url}/{REPO}/discussions/1"
    assert len(told.state.repos["models", REPO].pulls) == 1


def test_the_same_is_not_told_twice_and_something_else_is(told):
    first = report(result("0.62 on 8 questions"), REPO, token=BOB, endpoint=told.url)
    talks = told.state.repos["models", REPO].pulls
    assert report(result("0.63 on 9 questions"), REPO, token=BOB, endpoint=told.url) == first
    assert len(talks) == 1
    for other, token in (
        (result(revision="b" * 40), BOB),
        (result(status=UNKNOWN), BOB),
        (result(), ALICE),
    ):
        report(other, REPO, token=token, endpoint=told.url)
    assert len(talks) == 4
    talks[0].status = "closed"
    assert report(result(), REPO, token=BOB, endpoint=told.url) != first
    assert len(talks) == 5


@pytest.mark.parametrize(
    ("answers", "said"),
    [(9, "may have been opened: look at .*/discussions before"), (0, "nothing was posted: ")],
)
def test_a_failed_post_says_whether_it_was_posted(told, monkeypatch, answers, said):
    monkeypatch.setattr(patience, "WAITS", (0.0,))
    told.fail("POST .*/discussions", "reset")
    told.fail("GET .*/discussions$", nth=2, status=503, times=10 * answers)
    with pytest.raises(UserError, match=said) as error:
        report(result(), REPO, token=BOB, endpoint=told.url)
    assert ("nothing was posted" in str(error.value)) is not bool(answers)
