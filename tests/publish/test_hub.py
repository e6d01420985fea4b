"""push_bundle against a Hub over real HTTP: one commit or none, whatever fails in between."""

# ruff: noqa: F811 (pytest fixtures are imported by name)
from __future__ import annotations

import time
import types
from pathlib import Path

import huggingface_hub
import pytest

from erpo_hub.card.merge import HandEdited
from erpo_hub.errors import UsageError, UserError
from erpo_hub.publish import commit, patience
from erpo_hub.publish.bundle import build_bundle
from erpo_hub.publish.hub import push_bundle
from tests.hub_server import HubServer
from tests.hub_server.fixtures import hub, no_xet  # noqa: F401
from tests.hub_server.pushing import push_with
from tests.hub_server.sample_run import example_run, example_trace, fake_weights, write_safetensors
from tests.hub_server.server import BOB

REPO = "alice/erpo"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path)


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the push and the client would have slept; nobody sleeps."""
    from huggingface_hub.utils import _http

    slept: list[float] = []
    stub = types.SimpleNamespace(sleep=slept.append, monotonic=time.monotonic)
    monkeypatch.setattr(patience, "time", stub)
    monkeypatch.setattr(_http, "time", stub)
    return slept


def make_bundle(tmp_path: Path, value: int = 1, **changes: object) -> Path:
    weights = fake_weights(tmp_path / "weights", value)
    return build_bundle(
        example_run(**changes), weights, tmp_path / "bundle", traces=[example_trace()], figures=False
    ).folder


def push(hub: HubServer, bundle: Path, **options: object) -> tuple[object, list[str]]:
    said: list[str] = []
    info = push_with(bundle, REPO, endpoint=hub.url, report=said.append, **options)
    return info, said


def test_a_push_is_one_commit_with_every_file_of_the_bundle(hub, bundle):
    info, said = push(hub, bundle, private=True)
    assert len(hub.commits(REPO)) == 1
    there = hub.files(REPO)
    here = {p.relative_to(bundle).as_posix(): p for p in bundle.rglob("*") if p.is_file()}
    assert set(there) == {*here, ".gitattributes"}
    assert all(there[name].size == path.stat().st_size for name, path in here.items() if name != "README.md")
    assert hub.state.repos["models", REPO].private
    assert info.oid == hub.commits(REPO)[0].oid
    assert said == [f"published in one commit: {info.commit_url}"]


def test_the_pushed_card_names_its_repository_and_the_bundle_is_left_as_it_was(hub, bundle):
    before = (bundle / "README.md").read_text()
    push(hub, bundle)
    assert 'model_id = "alice/erpo"' in hub.files(REPO)["README.md"].data.decode()
    push(hub, bundle, space="alice/inspector")
    assert "https://huggingface.co/spaces/alice/inspector?" in hub.files(REPO)["README.md"].data.decode()
    assert (bundle / "README.md").read_text() == before


def test_an_unchanged_bundle_makes_no_commit_and_says_so(hub, bundle):
    first, _ = push(hub, bundle)
    again, said = push(hub, bundle)
    assert len(hub.commits(REPO)) == 1
    assert again.oid == first.oid
    assert said == [f"unchanged: {REPO} holds exactly these files at {first.oid[:12]}; no commit made"]


def test_unchanged_weights_are_not_uploaded_again(hub, no_xet, tmp_path):
    push(hub, make_bundle(tmp_path))
    hub.requests.clear()
    push(hub, make_bundle(tmp_path, seed=1))
    assert len(hub.commits(REPO)) == 2
    assert not [r for r in hub.requests if r.startswith("PUT")]


def test_weights_that_the_new_bundle_lacks_go_and_foreign_files_stay(hub, tmp_path):
    second = "model-00002-of-00002.safetensors"
    write_safetensors(fake_weights(tmp_path / "first" / "weights") / second, b"x" * 10)
    push(hub, make_bundle(tmp_path / "first"))
    assert second in hub.files(REPO)
    hub.push_as_someone_else(REPO, "notes.txt", b"mine")
    push(hub, make_bundle(tmp_path, value=2))
    assert "model-00002-of-00002.safetensors" not in hub.files(REPO)
    assert hub.files(REPO)["notes.txt"].data == b"mine"


def test_what_comes_back_loads_and_gives_the_same_greedy_output(hub, tmp_path):
    from huggingface_hub import snapshot_download
    from tiny_models import greedy, save_chat_model

    weights = save_chat_model(tmp_path / "tiny", seed=3)
    made = build_bundle(example_run(), weights, tmp_path / "b", traces=[example_trace()], figures=False)
    bundle = made.folder
    push(hub, bundle)
    back = Path(snapshot_download(REPO, endpoint=hub.url, cache_dir=tmp_path / "there"))
    assert greedy(back) == greedy(weights)
    for path in bundle.rglob("*"):
        if path.is_file() and path.name != "README.md":
            assert (back / path.relative_to(bundle)).read_bytes() == path.read_bytes()


def test_the_same_through_lfs(hub, no_xet, bundle, tmp_path):
    from huggingface_hub import snapshot_download

    push(hub, bundle)
    assert any(r.startswith("PUT /lfs-store/") for r in hub.requests)
    back = Path(snapshot_download(REPO, endpoint=hub.url, cache_dir=tmp_path / "there"))
    assert (back / "model.safetensors").read_bytes() == (bundle / "model.safetensors").read_bytes()


@pytest.mark.skipif(huggingface_hub.__version__ < "2", reason="1.x validates at huggingface.co alone")
def test_the_clients_own_card_validation_passes(hub, bundle, monkeypatch):
    from huggingface_hub import ModelCard

    push(hub, bundle)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    ModelCard(hub.files(REPO)["README.md"].data.decode()).validate(repo_type="model")


# --- faults ---


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_passing_status_of_the_commit_is_retried(hub, bundle, status):
    hub.fail("POST .*/commit/", status=status, times=2)
    push(hub, bundle)
    assert len(hub.commits(REPO)) == 1


def test_retry_after_is_honoured(hub, bundle, waits):
    hub.fail("POST .*/commit/", status=429, headers={"Retry-After": "17"})
    push(hub, bundle)
    assert 17.0 in waits
    assert len(hub.commits(REPO)) == 1


ENDPOINTS = [
    "POST /api/repos/create",
    "GET /api/models/alice/erpo",
    "GET .*/tree/",
    "POST /api/validate-yaml",
    "POST .*/preupload/",
    "GET .*/xet-write-token/",
    "POST .*/commit/",
]
LFS_ENDPOINTS = ["POST .*/objects/batch", "PUT /lfs-store/", "POST /lfs-verify/"]


@pytest.mark.parametrize("action", ["status", "reset"])
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_one_failure_on_any_endpoint_costs_a_retry_and_nothing_else(hub, bundle, endpoint, action):
    fault = hub.fail(endpoint, action)
    push(hub, bundle)
    assert fault.seen > 1
    assert len(hub.commits(REPO)) == 1


@pytest.mark.parametrize("action", ["status", "reset"])
@pytest.mark.parametrize("endpoint", LFS_ENDPOINTS)
def test_the_same_without_xet(hub, no_xet, bundle, endpoint, action):
    fault = hub.fail(endpoint, action)
    push(hub, bundle)
    assert fault.seen > 1
    assert len(hub.commits(REPO)) == 1


def test_a_lost_answer_is_found_at_the_head_and_not_committed_twice(hub, bundle):
    hub.fail("POST .*/commit/", "lost")
    info, said = push(hub, bundle)
    assert [c.oid for c in hub.commits(REPO)] == [info.oid]
    assert "the answer was lost" in said[0]


def test_every_answer_lost_still_gives_one_commit(hub, bundle):
    hub.fail("POST .*/commit/", "lost", times=100)
    push(hub, bundle)
    assert len(hub.commits(REPO)) == 1


def test_a_commit_that_lands_after_we_gave_up_on_it_is_recognised(hub, bundle, monkeypatch):
    """The head has not moved when we look, and has moved when the second attempt arrives."""
    real = commit.head_of
    heads: list[str] = []

    def late(api, repo_id, **options):
        head = real(api, repo_id, **options)
        heads.append(head)
        return heads[0] if len(heads) == 2 else head

    monkeypatch.setattr(commit, "head_of", late)
    hub.fail("POST .*/commit/", "lost")
    info, _ = push(hub, bundle)
    assert [c.oid for c in hub.commits(REPO)] == [info.oid]


def test_a_stalled_commit_is_given_up_and_retried(hub, bundle, monkeypatch):
    monkeypatch.setattr(patience, "DEADLINE", 0.5)
    hub.fail("POST .*/commit/", "stall", seconds=20)
    push(hub, bundle)
    assert len(hub.commits(REPO)) == 1


def test_a_lasting_failure_commits_nothing_keeps_the_bundle_and_says_how_to_go_on(hub, bundle):
    fault = hub.fail("POST .*/commit/", times=1000)
    with pytest.raises(
        UserError, match=r"HTTP 503.*the bundle is kept in .*try again with: erpo-hub push"
    ) as error:
        push(hub, bundle)
    assert "\n" not in str(error.value)
    assert hub.commits(REPO) == []
    fault.times = 0
    push(hub, bundle)
    assert len(hub.commits(REPO)) == 1


def test_somebody_elses_push_is_not_overwritten(hub, bundle):
    push(hub, bundle)
    done = []

    def meanwhile(method, path):
        if "/preupload/" in path and not done:
            done.append(hub.push_as_someone_else(REPO, "notes.txt", b"theirs"))

    hub.middleware.before.append(meanwhile)
    (bundle / "thanks.txt").write_text("To Carol.\n")
    with pytest.raises(UserError, match="somebody else pushed to alice/erpo meanwhile") as error:
        push(hub, bundle, include=["thanks.txt"])
    assert str(error.value).endswith(f"run again: erpo-hub push {bundle} {REPO} --include thanks.txt")
    assert [c.author for c in hub.commits(REPO)] == ["carol", "alice"]
    push(hub, bundle, include=["thanks.txt"])
    assert [c.author for c in hub.commits(REPO)] == ["alice", "carol", "alice"]
    assert hub.files(REPO)["notes.txt"].data == b"theirs"


@pytest.mark.parametrize(
    ("status", "said"), [(401, "hf auth login"), (403, "--create-pr"), (413, "too large"), (400, "HTTP 400")]
)
def test_a_refusal_is_one_line_and_is_not_retried(hub, bundle, waits, status, said):
    hub.fail("POST .*/commit/", status=status, times=1000)
    with pytest.raises(UserError, match=said):
        push(hub, bundle)
    assert waits == []
    assert hub.commits(REPO) == []


def test_an_expired_token_is_one_line(hub, bundle):
    with pytest.raises(UserError, match="not valid or has expired.*hf auth login"):
        push(hub, bundle, token="hf_" + "x" * 34)


def test_a_repository_of_someone_else_is_one_line(hub, bundle):
    with pytest.raises(UserError, match="may not write to alice/erpo"):
        push(hub, bundle, token=BOB)


def test_without_a_token_nothing_is_sent(hub, bundle, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(UserError, match="no Hub token: run `hf auth login`"):
        push(hub, bundle)
    assert hub.requests == []


def test_offline_mode_is_one_line(hub, bundle, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="unset HF_HUB_OFFLINE"):
        push(hub, bundle)
    assert hub.requests == []


def test_a_hub_that_is_not_there_is_one_line(hub, bundle, monkeypatch):
    monkeypatch.setattr(patience, "WAITS", (0.0,))
    with pytest.raises(UserError, match="the connection to the Hub failed"):
        push_bundle(bundle, REPO, endpoint="http://127.0.0.1:9")


@pytest.mark.parametrize(
    "name", ["", "a/b/c", "with space/x", "../x", "a/-b", "alice/x--y", "alice/" + "x" * 100]
)
def test_a_malformed_name_is_refused_before_anything_else(bundle, name):
    with pytest.raises(UsageError, match="user/name"):
        push_bundle(bundle, name)


# --- pull requests and branches ---


def test_a_pull_request_to_a_repository_one_cant_write_to(hub, bundle, tmp_path):
    push(hub, bundle)
    changed = make_bundle(tmp_path, value=2)
    info, said = push(hub, changed, token=BOB, create_pr=True)
    assert info.pr_num == 1
    assert said == [f"proposed in {info.pr_url}"]
    assert len(hub.commits(REPO)) == 1
    again, said = push(hub, changed, token=BOB, create_pr=True)
    assert (again.pr_num, said) == (1, [f"unchanged: already proposed in {info.pr_url}"])
    assert len(hub.state.repos["models", REPO].pulls) == 1


def test_a_lost_answer_does_not_open_two_pull_requests(hub, bundle, tmp_path):
    push(hub, bundle)
    hub.fail(r"POST .*/commit/", "lost")
    info, _ = push(hub, make_bundle(tmp_path, value=2), token=BOB, create_pr=True)
    assert info.pr_num == 1
    assert len(hub.state.repos["models", REPO].pulls) == 1


def test_a_branch_is_made_and_main_is_left_alone(hub, bundle):
    push(hub, bundle, revision="step-40")
    assert len(hub.commits(REPO, revision="step-40")) == 1
    assert hub.commits(REPO) == []


def test_a_pull_request_to_a_branch_is_a_wrong_call(bundle):
    with pytest.raises(UsageError, match="leave revision out"):
        push_with(bundle, REPO, create_pr=True, revision="dev")


# --- the card that people edit on the Hub ---


def edited(hub, change) -> None:
    there = hub.files(REPO)["README.md"].data.decode()
    hub.push_as_someone_else(REPO, "README.md", change(there).encode())


def test_what_people_wrote_into_the_card_survives_the_next_push(hub, tmp_path):
    push(hub, make_bundle(tmp_path))
    edited(
        hub, lambda card: card.replace("license: apache-2.0", "license: mit") + "\n## Thanks\n\nTo Carol.\n"
    )
    push(hub, make_bundle(tmp_path, seed=7))
    card = hub.files(REPO)["README.md"].data.decode()
    assert "To Carol." in card
    assert "license: mit" in card
    assert "one seed (7)" in card


def test_an_edit_inside_a_block_is_refused_and_forced(hub, tmp_path):
    push(hub, make_bundle(tmp_path))
    edited(hub, lambda card: card.replace("## Limits", "## Limits, as I see them"))
    with pytest.raises(HandEdited, match="'limits' was edited by hand") as error:
        push(hub, make_bundle(tmp_path, seed=7))
    assert "-## Limits, as I see them" in error.value.diff
    push(hub, make_bundle(tmp_path, seed=7), force=True)
    assert "as I see them" not in hub.files(REPO)["README.md"].data.decode()


def test_a_foreign_card_is_not_overwritten_but_a_trainers_is(hub, bundle):
    hub.state.create("models", REPO, "alice")
    hub.push_as_someone_else(REPO, "README.md", b"# My model\n\nWritten with care.\n")
    with pytest.raises(UserError, match="was not written by erpo-hub"):
        push(hub, bundle)
    hub.push_as_someone_else(
        REPO, "README.md", b"---\ntags:\n- generated_from_trainer\n---\n# Model Card for x\n"
    )
    push(hub, bundle)
    assert b"trained with ERPO" in hub.files(REPO)["README.md"].data


def test_a_license_chosen_on_the_hubs_page_is_kept(hub, bundle):
    hub.state.create("models", REPO, "alice")
    hub.push_as_someone_else(REPO, "README.md", b"---\nlicense: bsd-3-clause\n---\n")
    push(hub, bundle)
    card = hub.files(REPO)["README.md"].data.decode()
    assert "license: bsd-3-clause" in card
    assert "trained with ERPO" in card
