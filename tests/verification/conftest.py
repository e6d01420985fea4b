"""One short real run of the embedded model, its swaps measured, whose bundle the tests of this room check and
tamper with."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tampering import SHORT

from erpo_hub import train_and_push, transplant
from erpo_hub.publish.addition import add_transplant

MODEL, TASK = "builtin:tiny-reasoner", "builtin:expressions?operands=4"


@pytest.fixture(scope="session")
def real_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    bundle = train_and_push(
        MODEL,
        TASK,
        output_dir=tmp_path_factory.mktemp("runs") / "erpo",
        evaluation={"n": 96},
        learning_rate=1e-3,  # so that one step changes some tokens
        **SHORT,
    ).bundle_dir
    found = transplant(MODEL, str(bundle), TASK, n=96, swaps=[1])
    add_transplant(bundle, found.result(), found.figure)
    return bundle


@pytest.fixture
def bundle(real_bundle: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(real_bundle, tmp_path / "bundle"))
