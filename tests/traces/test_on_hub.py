"""A model that is nowhere is told within seconds, by every command that loads one."""

# ruff: noqa: F811 (pytest fixtures are imported by name)
from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_models import save_chat_model

from erpo_hub.errors import UserError
from erpo_hub.traces import on_hub
from erpo_hub.traces.loading import load, load_tokenizer, model_source
from tests.hub_server import HubServer
from tests.hub_server.fixtures import hub, no_xet  # noqa: F401
from tests.hub_server.server import BOB


@pytest.mark.parametrize("name", ["no/such-model", "none"])
@pytest.mark.parametrize("reads", [load, load_tokenizer, model_source])
def test_without_a_network_one_line_comes_within_seconds(monkeypatch, name, reads):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", "http://127.0.0.1:9")
    started = time.monotonic()
    with pytest.raises(UserError, match=f"^{name}: not on this machine, and the Hub cannot be reached"):
        reads(name)
    assert time.monotonic() - started < 2 * on_hub.SECONDS  # transformers alone tries for a minute


LOAD = """
import sys
from erpo_hub.errors import UserError
from erpo_hub.traces.loading import load_tokenizer
for name in ("bob/secret", "bob/open"):
    try:
        load_tokenizer(name)
        print("loaded")
    except UserError as error:
        print(error)
"""


def test_an_app_for_others_serves_no_private_model_from_the_cache(
    hub: HubServer, no_xet: None, tmp_path: Path
):
    for name, private in (("bob/secret", True), ("bob/open", False)):
        hub.state.create("models", name, "bob", private=private)
        for file in sorted(save_chat_model(tmp_path / name).iterdir()):
            hub.push_as_someone_else(name, file.name, file.read_bytes())

    def told(url: str, *, others: bool) -> list[str]:
        env = {**os.environ, "HF_ENDPOINT": url, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": BOB}
        env |= {"HF_HUB_DISABLE_IMPLICIT_TOKEN": str(int(others))}  # as `erpo-hub app --share` sets it
        done = subprocess.run(
            [sys.executable, "-c", LOAD], env=env, capture_output=True, text=True, timeout=90, check=True
        )
        return done.stdout.splitlines()

    assert told(hub.url, others=False) == ["loaded"] * 2  # the owner's: both are in the cache now
    secret, open_to_all = told(hub.url, others=True)
    assert "401" in secret or "not open to you" in secret
    assert open_to_all == "loaded"
    outage = told("http://127.0.0.1:9", others=True)  # nobody listens there
    assert all("whether all may see it can't be asked" in line for line in outage)
