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
    import trl
    from packaging.version import Version

    from erpo_hub.train import compat

    assert compat.missing_names(Version(trl.__version__)) == []


def test_every_import_of_trls_insides_is_in_the_list() -> None:
    """What the package imports from below TRL's top level is private, and must be looked up at import."""
    import ast

    from erpo_hub.train import compat

    public = {"is_vllm_available"}  # TRL documents it as its check for the extra
    imported = {
        alias.name
        for file in (ROOT / "erpo_hub").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("trl.")
        for alias in node.names
    }
    assert imported - public <= {row.name for row in compat.PRIVATE}
    assert "use_adapter" in imported


def test_a_trl_below_the_floor_is_refused_in_one_line(monkeypatch) -> None:
    import trl

    from erpo_hub.errors import UserError
    from erpo_hub.train import compat

    for version in ("1.6.0", "1.7.1"):
        monkeypatch.setattr(trl, "__version__", version)
        with pytest.raises(UserError, match=f"but {version} is installed: run pip install") as told:
            compat.check_trl()
        assert "\n" not in str(told.value)


def test_the_trl_that_needs_triton_is_refused_only_without_it(monkeypatch) -> None:
    import trl

    from erpo_hub.errors import UserError
    from erpo_hub.train import compat

    monkeypatch.setattr(trl, "__version__", "1.15.0")
    monkeypatch.setattr(compat, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"trl 1\.15\.0 cannot train without Triton"):
        compat.check_trl()
    monkeypatch.setattr(compat, "find_spec", lambda name: object())
    compat.check_trl()


def test_a_newer_trl_is_named_in_a_warning_and_goes_on(monkeypatch, recwarn) -> None:
    import trl

    from erpo_hub.train import compat

    for version in ("1.8.0", "1.16.7"):
        monkeypatch.setattr(trl, "__version__", version)
        compat.check_trl()
    assert not recwarn.list
    monkeypatch.setattr(trl, "__version__", "1.17.0")
    with pytest.warns(UserWarning, match=r"tested with trl up to 1\.16\.0; 1\.17\.0 is installed"):
        compat.check_trl()


def test_a_trl_that_lost_a_relied_on_name_is_refused_by_that_name(monkeypatch) -> None:
    from trl import GRPOTrainer

    from erpo_hub.errors import UserError
    from erpo_hub.train import compat

    monkeypatch.delattr(GRPOTrainer, "_generate_single_turn")
    with pytest.raises(UserError, match="no longer has _generate_single_turn"):
        compat.check_trl()


def test_shared_prefix_is_refused_by_a_trl_without_the_fused_head(monkeypatch) -> None:
    from types import SimpleNamespace

    import trl

    from erpo_hub.errors import UsageError
    from erpo_hub.train.shared_prefix import wanted

    monkeypatch.setattr(trl, "__version__", "1.14.0")
    with pytest.raises(UsageError, match=r"shared_prefix needs trl >= 1\.15\.0"):
        wanted(SimpleNamespace(args=SimpleNamespace(shared_prefix=True)))
    assert not wanted(SimpleNamespace(args=SimpleNamespace(shared_prefix=False)))
