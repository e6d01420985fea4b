"""Secrets outside of files, and texts that make a search for them slow."""

# ruff: noqa: F811 (pytest fixtures are imported by name)
from __future__ import annotations

import time
from pathlib import Path

import pytest

from erpo_hub.errors import UsageError
from erpo_hub.publish.hub import Publishing, push_bundle
from erpo_hub.publish.secrets import Secrets
from erpo_hub.publish.space import SpaceSettings, deploy_space
from tests.hub_server import HubServer
from tests.hub_server.fixtures import hub  # noqa: F401

TOKEN = "hf_" + "a1B2c3D4e5" * 4
JWT = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    "piece", ["eyJ", "eyJa.", "hf_ab_eyJ", "://a", "sk-proj-", "machine a login ", "a_="]
)
def test_the_search_takes_time_in_proportion(piece: str):
    secrets = Secrets(None)

    def seconds(pieces: int) -> float:
        begun = time.process_time()
        secrets.find(piece * pieces)
        return time.process_time() - begun

    seconds(100)
    assert seconds(16_000) < 16 * seconds(4_000) / 2 + 0.5


@pytest.mark.parametrize("before", ["", "\\n", "token", '"', "a.", "é"])
def test_a_web_token_is_found_behind_anything(before: str):
    assert Secrets(None).find(f"x {before}{JWT} y")
    assert JWT not in Secrets(None).redact(f"x {before}{JWT} y")


@pytest.mark.parametrize(
    ("name", "value"), [("ERPO_NOTE", f"it is {TOKEN}"), ("SERVICE_KEY", "3f9a0c1b2d4e5f60718293")]
)
def test_a_secret_among_the_variables_of_a_space_is_refused(hub: HubServer, name: str, value: str):
    settings = SpaceSettings(variables={name: value})
    with pytest.raises(UsageError, match=f"--variable {name} holds .*give it with --secret") as told:
        deploy_space("alice/inspector", models=["alice/erpo"], settings=settings, endpoint=hub.url)
    assert value not in str(told.value)
    assert not hub.requests


@pytest.mark.parametrize("option", ["message", "collection"])
def test_a_secret_in_a_message_or_a_title_is_refused(hub: HubServer, option: str, tmp_path: Path):
    how = Publishing(**{option: f"with {TOKEN}"})
    with pytest.raises(UsageError, match=f"--{option} holds") as told:
        push_bundle(tmp_path, "alice/erpo", publishing=how, endpoint=hub.url)
    assert TOKEN not in str(told.value)
    assert not hub.requests
