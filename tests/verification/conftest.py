"""One short real run of the embedded model, whose bundle the tests of this room check and tamper with."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tampering import SHORT

from erpo_hub import train_and_push


@pytest.fixture(scope="session")
def real_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_and_push(
        "builtin:tiny-reasoner",
        "builtin:expressions?operands=4",
        output_dir=tmp_path_factory.mktemp("runs") / "erpo",
        evaluation={"n": 96},
        **SHORT,
    ).bundle_dir


@pytest.fixture
def bundle(real_bundle: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(real_bundle, tmp_path / "bundle"))
