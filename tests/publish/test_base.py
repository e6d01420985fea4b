"""An adapter of a local base is published under the id that its base has on the Hub, or not at all."""

# ruff: noqa: F811 (pytest fixtures are imported by name)
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from typer.testing import CliRunner

from erpo_hub.cli.hub import commands as app
from erpo_hub.errors import UsageError, UserError
from erpo_hub.publish.bundle import build_bundle
from erpo_hub.publish.check import check_bundle
from erpo_hub.publish.hub import push_bundle
from erpo_hub.record.format import read_record
from tests.hub_server import HubServer
from tests.hub_server.fixtures import hub  # noqa: F401
from tests.hub_server.pushing import push_with
from tests.hub_server.sample_run import example_run, example_trace, fake_weights
from tests.hub_server.server import ALICE

REPO, BASE = "alice/adapter", "alice/tiny-reasoner"


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """The bundle of an adapter of the embedded model."""
    weights = fake_weights(tmp_path / "weights")
    (weights / "model.safetensors").rename(weights / "adapter_model.safetensors")
    (weights / "config.json").unlink()
    config = {"peft_type": "LORA", "base_model_name_or_path": "/models/tiny", "revision": None, "r": 2}
    (weights / "adapter_config.json").write_text(json.dumps(config))
    run = example_run(adapter={"type": "LORA", "r": 2})
    return build_bundle(run, weights, tmp_path / "bundle", traces=[example_trace()], figures=False).folder


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_base_is_named_everywhere_and_the_bundle_is_left_as_it_was(
    hub: HubServer, adapter: Path, tmp_path: Path
) -> None:
    hub.state.create("models", BASE, "alice")
    before = contents(adapter)
    command = [sys.executable, "-m", "erpo_hub.cli", "push", str(adapter), REPO, "--base-model", BASE]
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_TOKEN": ALICE}
    made = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert made.returncode == 0, made.stderr
    assert contents(adapter) == before
    there = tmp_path / "there"
    for name, file in hub.files(REPO).items():
        if name in before:
            (there / name).parent.mkdir(parents=True, exist_ok=True)
            (there / name).write_bytes(before[name] if file.data is None else file.data)
    assert check_bundle(there) == [], "record, adapter and card agree, and every digest is right"
    record, config = read_record(there), json.loads((there / "adapter_config.json").read_text())
    assert (record.base_model.id, record.base_model.source, record.base_model.revision) == (BASE, "hub", None)
    assert config == {"peft_type": "LORA", "base_model_name_or_path": BASE, "revision": None, "r": 2}
    card = ModelCard.load(there / "README.md")
    assert (card.data.base_model, card.data.base_model_relation) == (BASE, "adapter")
    assert f"[{BASE}](https://huggingface.co/{BASE}) trained for 40 steps" in card.text
    assert f'model_id = "{REPO}"' in card.text
    said: list[str] = []
    push_with(adapter, REPO, endpoint=hub.url, base_model=BASE, report=said.append)
    assert "no commit made" in said[0]


def test_an_adapter_without_a_base_on_the_hub_is_refused_with_the_way_out(hub, adapter):
    with pytest.raises(UserError, match=r"nobody else could load it.*--base-model ID"):
        push_bundle(adapter, REPO, endpoint=hub.url)
    checked = CliRunner().invoke(app, ["push", str(adapter), "--check-only"])
    assert "nobody else could load it" in str(checked.exception)
    assert (
        CliRunner().invoke(app, ["push", str(adapter), "--check-only", "--base-model", BASE]).exit_code == 0
    )
    with pytest.raises(UsageError, match="the Hub has no model 'alice/tiny-reasoner'"):
        push_with(adapter, REPO, endpoint=hub.url, base_model=BASE)
    with pytest.raises(UsageError, match="'../x' is not a repository name"):
        push_with(adapter, REPO, endpoint=hub.url, base_model="../x")
    assert ("models", REPO) not in hub.state.repos


def test_a_base_is_given_to_no_model_that_needs_none(hub, tmp_path, adapter):
    run = example_run(adapter={"type": "LORA"})
    run["base_model"] |= {"id": "Qwen/Qwen3-0.6B", "source": "hub"}
    (tmp_path / "weights" / "adapter_config.json").write_text(
        '{"base_model_name_or_path": "Qwen/Qwen3-0.6B"}'
    )
    named = build_bundle(run, tmp_path / "weights", tmp_path / "named", figures=False).folder
    whole = build_bundle(
        example_run(), fake_weights(tmp_path / "w"), tmp_path / "whole", figures=False
    ).folder
    with pytest.raises(UsageError, match=r"was trained from Qwen/Qwen3-0\.6B on the Hub"):
        push_with(named, REPO, endpoint=hub.url, base_model=BASE)
    with pytest.raises(UsageError, match="is a whole model, which needs no base"):
        push_with(whole, REPO, endpoint=hub.url, base_model=BASE)
