# ruff: noqa: F811 (pytest fixtures are imported by name)
"""Traces as a dataset: one commit, a card, and a viewer configuration that `datasets` follows."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from erpo_hub.card.card import DATASET_FILE
from erpo_hub.card.merge import split_front_matter
from erpo_hub.errors import UsageError, UserError
from erpo_hub.publish import patience
from erpo_hub.publish.bundle import build_bundle
from erpo_hub.publish.traces_dataset import push_traces
from erpo_hub.traces.trace import Trace
from tests.hub_server import HubServer
from tests.hub_server.fixtures import hub  # noqa: F401
from tests.hub_server.sample_run import example_run, example_trace, fake_weights

REPO = "alice/traces"


def push(hub: HubServer, traces: object, **options: object) -> list[str]:
    said: list[str] = []
    push_traces(traces, REPO, endpoint=hub.url, report=said.append, **options)
    return said


def test_traces_are_one_commit_and_come_back(hub, tmp_path):
    from huggingface_hub import hf_hub_download

    traces = [example_trace(), example_trace().replace(correct=False)]
    push(hub, traces, model="alice/erpo")
    assert len(hub.commits(REPO, "datasets")) == 1
    file = hf_hub_download(REPO, DATASET_FILE, repo_type="dataset", endpoint=hub.url, cache_dir=tmp_path)
    assert Trace.from_parquet(file) == traces
    card = hub.files(REPO, "datasets")["README.md"].data.decode()
    assert "1 of the 2 graded answers are correct" in card
    assert "https://huggingface.co/alice/erpo" in card


def test_the_viewer_configuration_names_the_file(hub, tmp_path):
    from datasets import load_dataset
    from huggingface_hub import snapshot_download

    push(hub, [example_trace()])
    folder = Path(
        snapshot_download(REPO, repo_type="dataset", endpoint=hub.url, cache_dir=tmp_path / "there")
    )
    data = yaml.safe_load(split_front_matter((folder / "README.md").read_text())[0])
    assert data["configs"][0]["data_files"] == [{"split": "test", "path": "data/test-*.parquet"}]
    rows = load_dataset(str(folder), split="test", cache_dir=str(tmp_path / "datasets"))
    assert rows[0]["completion"] == example_trace().completion
    assert rows[0]["pivots"] == [0, 6]


def test_a_bundle_or_a_file_will_do(hub, tmp_path):
    bundle = build_bundle(
        example_run(),
        fake_weights(tmp_path / "w"),
        tmp_path / "b",
        traces=[example_trace()] * 9,
        figures=False,
    ).folder
    push(hub, bundle)
    assert "unchanged" in push(hub, bundle / "traces" / "traces.parquet")[0]
    assert len(hub.commits(REPO, "datasets")) == 1
    with pytest.raises(UserError, match="contains no traces"):
        push(hub, [])


def test_a_lost_answer_gives_one_commit_and_edits_stay(hub, monkeypatch):
    monkeypatch.setattr(patience, "WAITS", (0.0,))
    hub.fail("POST .*/commit/", "lost")
    push(hub, [example_trace()])
    assert len(hub.commits(REPO, "datasets")) == 1
    card = hub.files(REPO, "datasets")["README.md"].data.decode()
    hub.push_as_someone_else(REPO, "README.md", (card + "\nMy notes.\n").encode(), kind="datasets")
    push(hub, [example_trace()] * 2)
    assert "My notes." in hub.files(REPO, "datasets")["README.md"].data.decode()


def test_a_token_in_a_trace_is_refused(hub):
    with pytest.raises(UserError, match="holds a Hugging Face access token"):
        push(hub, [example_trace().replace(prompt="hf_" + "S" * 34)])
    assert hub.requests == []


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("/srv/clients/acme-merger/models/secret-v2", "secret-v2"),
        ("C:\\clients\\acme-merger\\secret-v2", "secret-v2"),
        ("../acme-merger/secret-v2", "secret-v2"),
        ("~/acme-merger/secret-v2", "secret-v2"),
        ("clients/acme-merger/secret-v2", "secret-v2"),
        ("alice/erpo", "alice/erpo"),
        ("builtin:tiny-reasoner", "builtin:tiny-reasoner"),
    ],
)
def test_a_models_folder_is_published_by_its_last_part(hub, tmp_path, name, published):
    """In the Parquet, in the card's title and in the sessions; a Hub id stays whole."""
    from huggingface_hub import snapshot_download

    Trace.to_parquet([example_trace().replace(model=name)], tmp_path / "traces.parquet")
    push(hub, tmp_path / "traces.parquet")
    folder = Path(snapshot_download(REPO, repo_type="dataset", endpoint=hub.url, cache_dir=tmp_path / "c"))
    assert [trace.model for trace in Trace.from_parquet(folder / DATASET_FILE)] == [published]
    texts = [file.read_text() for file in (folder / "README.md", folder / "sessions" / "00000.jsonl")]
    assert all(published in text and "acme-merger" not in text for text in texts)


def test_the_model_that_the_card_links_to_is_one_of_the_hub(hub):
    with pytest.raises(UsageError, match="is not a repository name"):
        push(hub, [example_trace()], model="/srv/clients/acme-merger/secret-v2")
    assert hub.requests == []


def test_the_cards_link_names_the_trace_as_the_space_lists_it(tmp_path):
    from erpo_hub.card.card import Card
    from erpo_hub.ui.library.library import open_library

    file = tmp_path / DATASET_FILE
    file.parent.mkdir()
    Trace.to_parquet([example_trace()], file)
    labels = open_library([tmp_path]).traces
    bundle = build_bundle(
        example_run(), fake_weights(tmp_path / "w"), tmp_path / "b", traces=[example_trace()], figures=False
    )
    assert parse_qs(urlsplit(Card(bundle.record, space="alice/inspector").space_link).query)["trace"] == list(
        labels
    )
