"""The Space as it is deployed: the staged folder, installed by its own requirements into a clean environment.

Slow, and the one test here that needs a package index: without one it is skipped (on CI it fails).
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import yaml

from erpo_hub.publish.space import SpaceSettings, stage_space
from erpo_hub.traces.trace import Trace

from .conftest import watched

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "spaces" / "inspector"


def test_the_front_matter_is_complete():
    front = yaml.safe_load((TEMPLATE / "README.md").read_text(encoding="utf-8").split("---")[1])
    needed = {"title", "emoji", "colorFrom", "colorTo", "sdk", "sdk_version", "python_version", "app_file"}
    assert needed | {"short_description", "models", "tags", "license", "suggested_hardware"} <= set(front)
    assert "hardware" not in front
    assert len(front["short_description"]) <= 60
    assert (TEMPLATE / front["app_file"]).is_file()


def test_the_shipped_traces_are_readable_and_there_is_something_to_compare():
    found = [Trace.from_json(path) for path in sorted((TEMPLATE / "traces").glob("*.json"))]
    assert len(found) >= 4
    assert len({t.prompt for t in found}) < len(found)


def test_the_file_for_development_and_the_space_hold_no_package():
    assert not list(TEMPLATE.glob("**/__init__.py"))
    assert not (ROOT / "app" / "__init__.py").exists()


@pytest.mark.slow
def test_the_staged_folder_runs_in_a_clean_environment(browser, tmp_path):
    python = _clean_environment(tmp_path)
    staged = _staged(tmp_path)
    _install(python, staged, tmp_path)
    port = _free_port()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "HF_", "ERPO_"))}
    environment |= {"GRADIO_SERVER_PORT": str(port), "SPACE_ID": "me/inspector", "HF_HUB_OFFLINE": "1"}
    environment |= {"GRADIO_ANALYTICS_ENABLED": "False", "PYTHONUNBUFFERED": "1"}
    log = (tmp_path / "log").open("w+")
    app = subprocess.Popen([python, "app.py"], cwd=staged, env=environment, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}/"
        _wait_for(url, app, log)
        with watched(browser, url) as page:
            page.wait_for_selector("#view .tv-tok")
            assert page.locator("#model input").input_value() == "builtin:tiny-reasoner"
            # It opens on the recorded solution of another model; this one knows only sums.
            page.locator("#prompt textarea").fill("7-2*3+4=")
            page.locator("#ask").click()
            page.locator("#view .tv-status", has_text="Finished.").wait_for(timeout=90_000)
            assert page.locator("#view .tv-title").text_content() == "builtin:tiny-reasoner"
    finally:
        app.terminate()
        app.wait(20)
        log.close()


def _clean_environment(tmp_path: Path) -> Path:
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    return tmp_path / "venv" / "bin" / "python"


def _staged(tmp_path: Path) -> Path:
    """The folder as `erpo-hub space` stages it, with this checkout's wheel beside the app."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, ROOT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        _no_index(done.stderr)
    wheel = next(tmp_path.glob("erpo_hub-*.whl"))
    return stage_space(
        tmp_path / "space", "me/inspector", ["me/erpo", "me/grpo"], None, SpaceSettings(package=wheel)
    )


def _install(python: Path, staged: Path, tmp_path: Path) -> None:
    """What the Hub does with requirements.txt; the wheel comes from beside the app."""
    wheel = next(staged.glob("*.whl"))
    text = (staged / "requirements.txt").read_text()
    text = re.sub(r"^erpo-hub\[app\] @ \S+$", f"erpo-hub[app] @ file://{wheel}", text, flags=re.MULTILINE)
    assert "file://" in text
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(text)
    command: list[str | Path] = [python, "-m", "pip", "install", "--quiet", "-r", requirements]
    if (ROOT / "constraints.txt").is_file():
        command += ["-c", ROOT / "constraints.txt"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        _no_index(done.stderr)


def _no_index(reason: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(reason[-2000:])
    pytest.skip(f"pip could not install: {reason.strip().splitlines()[-1][:300]}")


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def _wait_for(url: str, app: subprocess.Popen, log) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if app.poll() is not None:
            log.seek(0)
            pytest.fail(f"the Space ended: {log.read()[-3000:]}")
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except OSError:
            time.sleep(0.3)
    pytest.fail("the Space did not open within two minutes")
