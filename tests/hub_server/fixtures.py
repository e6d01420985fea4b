"""pytest fixtures around the test Hub: import the ones you use into the test module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .server import ALICE, HubServer


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A running Hub; `alice`'s token is in the environment, the client's cache is under tmp_path."""
    from huggingface_hub import constants

    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_TOKEN", ALICE)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with HubServer(tmp_path / "hub") as server:
        yield server


@pytest.fixture
def no_xet(monkeypatch: pytest.MonkeyPatch) -> None:
    """The classic LFS path instead of Xet."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
