"""A Space and a job install what is installed here: read from a real installation record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from erpo_hub import __version__
from erpo_hub.errors import UserError
from erpo_hub.publish.source import install_source

SHA = "0123456789abcdef0123456789abcdef01234567"


def install(site: Path, monkeypatch: pytest.MonkeyPatch, origin: dict[str, Any] | None) -> None:
    """The record that pip leaves of an installation from `origin`, found before the environment's own."""
    info = site / f"erpo_hub-{__version__}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: erpo-hub\nVersion: {__version__}\n")
    if origin is not None:
        (info / "direct_url.json").write_text(json.dumps(origin))
    monkeypatch.syspath_prepend(str(site))


def test_from_the_index_the_same_version(tmp_path, monkeypatch):
    install(tmp_path, monkeypatch, None)
    assert install_source("app") == f"erpo-hub[app]=={__version__}"


def test_from_a_commit_the_same_commit(tmp_path, monkeypatch):
    vcs = {"vcs": "git", "requested_revision": "main", "commit_id": SHA}
    install(tmp_path, monkeypatch, {"url": "https://example.com/me/erpo-hub.git", "vcs_info": vcs})
    expected = f"erpo-hub[tasks] @ git+https://example.com/me/erpo-hub.git@{SHA}"
    assert install_source("tasks") == expected


def test_from_a_wheel_the_wheel(tmp_path, monkeypatch):
    wheel = tmp_path / "a folder" / f"erpo_hub-{__version__}-py3-none-any.whl"
    wheel.parent.mkdir()
    wheel.write_bytes(b"PK")
    install(tmp_path / "site", monkeypatch, {"url": wheel.as_uri(), "archive_info": {"hashes": {}}})
    assert install_source("app") == wheel
    wheel.unlink()
    with pytest.raises(UserError, match=r"no such wheel; build a wheel in the checkout \(`pip wheel"):
        install_source("app")


def test_from_a_checkout_how_to_build_a_wheel(tmp_path, monkeypatch):
    checkout = {"url": tmp_path.as_uri(), "dir_info": {"editable": True}}
    install(tmp_path / "site", monkeypatch, checkout)
    with pytest.raises(UserError, match=r"from a checkout.*--package"):
        install_source("app")
    assert install_source("app", "erpo-hub[app]==9.9") == "erpo-hub[app]==9.9"
