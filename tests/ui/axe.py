"""axe-core for the tests, fetched by npm at test time into the user's cache; it is never shipped."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

VERSION = "4.10.3"


def axe_source() -> str:
    """The script. Skips where npm is missing or can't fetch; on a CI machine (`CI=true`) that fails."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "erpo-hub-tests"
    script = cache / f"axe-core-{VERSION}.js"
    if script.is_file():
        return script.read_text(encoding="utf-8")
    npm, on_ci = shutil.which("npm"), os.environ.get("CI") == "true"
    if npm is None:
        assert not on_ci, "npm is missing"
        pytest.skip("npm is missing, so axe-core can't be fetched")
    cache.mkdir(parents=True, exist_ok=True)
    command = [npm, "pack", f"axe-core@{VERSION}", "--silent"]
    done = subprocess.run(command, cwd=cache, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode and not on_ci:
        pytest.skip(f"npm could not fetch axe-core: {done.stderr.strip()[:200]}")
    assert done.returncode == 0, done.stderr
    archive = cache / f"axe-core-{VERSION}.tgz"
    with tarfile.open(archive) as files:
        member = files.extractfile("package/axe.min.js")
        assert member is not None
        script.write_bytes(member.read())
    archive.unlink()
    return script.read_text(encoding="utf-8")
