"""What `make dist` makes, installed into an environment of its own: the demo and the app run from it.

The environment holds the wheel alone; what the wheel depends on comes, by a .pth file, from the environment
that runs the tests, whose own erpo_hub (the checkout) is not importable there: a meta path finder of an
editable installation isn't loaded by a .pth that only names site-packages.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import sysconfig
import tarfile
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return out


@pytest.fixture(scope="module")
def bare(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment that has the wheel."""
    folder = tmp_path_factory.mktemp("bare") / "venv"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    wheel = next(dist.glob("*.whl"))
    command = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run(command, check=True, capture_output=True)
    site = subprocess.check_output(
        [python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"]
    )
    (Path(site.decode().strip()) / "outer.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return folder / "bin"


def environment(home: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "HF_", "ERPO_", "GRADIO_"))}
    return kept | {"HOME": str(home), "HF_HUB_OFFLINE": "1", "GRADIO_ANALYTICS_ENABLED": "False"}


def test_the_sdist_has_the_code_but_no_data_and_no_pictures(dist: Path) -> None:
    file = next(dist.glob("*.tar.gz"))
    with tarfile.open(file) as archive:
        names = archive.getnames()
    for needed in (
        "pyproject.toml",
        "erpo_hub/py.typed",
        "erpo_hub/tiny_reasoner/model.safetensors",
        "tests/conftest.py",
    ):
        assert any(name.endswith("/" + needed) for name in names), needed
    beside = [n for n in names if "/erpo_hub/" not in n]  # the package itself has a preview and examples
    assert not [n for n in beside if n.endswith((".png", ".parquet")) or "/docs/evidence/" in n]
    assert file.stat().st_size < 6 * 2**20


def test_the_wheel_has_its_data_and_no_pickle(dist: Path) -> None:
    wheel = next(dist.glob("*.whl"))
    names = zipfile.ZipFile(wheel).namelist()
    for needed in (
        "erpo_hub/tiny_reasoner/model.safetensors",
        "erpo_hub/tiny_reasoner/tokenizer.json",
        "erpo_hub/card/card.md.jinja",
        "erpo_hub/record/run.schema.json",
        "erpo_hub/traces/trace.schema.json",
        "erpo_hub/ui/view/token_view.js",
        "erpo_hub/ui/view/token_view.css",
        "erpo_hub/inspector_space/app.py",
        "erpo_hub/py.typed",
    ):
        assert needed in names, needed
    assert not [n for n in names if n.endswith((".pt", ".pth", ".bin", ".pkl"))]
    assert wheel.stat().st_size < 6 * 2**20


def test_the_package_is_the_wheels_own(bare: Path, tmp_path: Path) -> None:
    code = "import erpo_hub; print(erpo_hub.__file__)"
    run = [bare / "python", "-c", code]
    found = subprocess.check_output(run, cwd=tmp_path, env=environment(tmp_path), text=True)
    assert Path(found.strip()).is_relative_to(bare.parent)


def test_a_space_from_the_wheel_installs_that_wheel(bare: Path, dist: Path, tmp_path: Path) -> None:
    command = [bare / "erpo-hub", "space", "me/inspector", "me/erpo", "--dry-run", "space"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    wheel = next(dist.glob("*.whl"))
    assert (tmp_path / "space" / wheel.name).read_bytes() == wheel.read_bytes()


def test_the_demo_and_the_app_run_from_the_wheel(bare: Path, tmp_path: Path) -> None:
    command = [bare / "erpo-hub", "demo", "--quick", "--out", "demo"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    for method in ("grpo", "erpo"):
        bundle = tmp_path / "demo" / method / "bundle"
        assert (bundle / "README.md").is_file()
        assert json.loads((bundle / "run.json").read_text())["status"] == "finished"
    with served(bare, tmp_path / "demo", tmp_path) as url:
        page = urllib.request.urlopen(url, timeout=30).read().decode()
    assert "erpo-hub inspector" in page
    assert "tv-tok" in page  # the token view's own style sheet came along


@contextmanager
def served(bare: Path, demo: Path, home: Path) -> Iterator[str]:
    """The address of `erpo-hub app` on the demo's runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [bare / "erpo-hub", "app", str(demo), "--port", str(port)]
    with (home / "log").open("w+") as log:
        process = subprocess.Popen(command, cwd=home, env=environment(home), stdout=log, stderr=log)
        try:
            yield _answering(f"http://127.0.0.1:{port}/", process, home / "log")
        finally:
            process.terminate()
            process.wait(20)


def _answering(url: str, process: subprocess.Popen, log: Path) -> str:
    for _ in range(1200):
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return url
        except OSError:
            assert process.poll() is None, log.read_text()[-3000:]
            time.sleep(0.1)
    raise AssertionError(log.read_text()[-3000:])
