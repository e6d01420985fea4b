"""The package as a whole: a fast import, arrows that hold."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_import_is_fast_and_loads_no_torch() -> None:
    code = (
        "import time; t = time.perf_counter(); import erpo_hub; dt = time.perf_counter() - t;"
        "import sys; print(dt, 'torch' in sys.modules, 'transformers' in sys.modules, len(dir(erpo_hub)))"
    )
    times = []
    for _ in range(3):
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        seconds, torch_loaded, transformers_loaded, names = out.split()
        assert (torch_loaded, transformers_loaded) == ("False", "False")
        assert int(names) >= 13
        times.append(float(seconds))
    assert min(times) < 0.3


def test_every_public_name_is_there() -> None:
    import erpo_hub

    for name in erpo_hub.__all__:
        assert getattr(erpo_hub, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = erpo_hub.nonsense


def test_help_is_fast_and_loads_no_torch() -> None:
    code = """
import sys
sys.argv = ["erpo-hub", "--help"]
from erpo_hub.cli.main import main
try:
    main()
except SystemExit:
    print("torch" in sys.modules)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip().endswith("False")


def test_import_arrows_hold() -> None:
    script = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]


def test_relied_on_names_exist_in_the_installed_trl() -> None:
    """The list to run against a TRL release candidate: what breaks here breaks ERPOTrainer."""
    from trl import GRPOTrainer

    from erpo_hub.train import compat

    for name in compat.PRIVATE_METHODS:
        assert callable(getattr(GRPOTrainer, name, None)), name
    source = Path(sys.modules[GRPOTrainer.__module__].__file__ or "").read_text()
    for name in compat.PRIVATE_ATTRIBUTES:
        assert hasattr(GRPOTrainer, name) or f"self.{name} = " in source, name


def test_another_trl_is_refused_in_one_line(monkeypatch) -> None:
    import trl

    from erpo_hub.errors import UserError
    from erpo_hub.train import compat

    for version in ("1.15.3", "1.17.0", "2.0.0"):
        monkeypatch.setattr(trl, "__version__", version)
        with pytest.raises(UserError, match=f"but {version} is installed: run pip install"):
            compat.check_trl()
    monkeypatch.setattr(trl, "__version__", "1.16.7")
    compat.check_trl()
