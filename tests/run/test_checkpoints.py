"""Which checkpoint `--resume` takes, cut off as a full disk leaves them."""

from __future__ import annotations

import shutil

import pytest
from training import config, trainer

from erpo_hub.run.checkpoints import damage, last_complete, trainer_state


@pytest.fixture(scope="module")
def trained(tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    trainer(tiny_model, config(folder, max_steps=3, save_strategy="steps", save_steps=1)).train()
    return folder


@pytest.fixture
def folder(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "checkpoints")


def _cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGES = {
    "trainer_state.json is missing": lambda c: (c / "trainer_state.json").unlink(),
    "trainer_state.json is cut off": lambda c: _cut(c / "trainer_state.json"),
    "model.safetensors is cut off": lambda c: _cut(c / "model.safetensors"),
    "it has no weights": lambda c: (c / "model.safetensors").unlink(),
    "optimizer.pt is missing": lambda c: (c / "optimizer.pt").unlink(),
    "optimizer.pt is cut off": lambda c: _cut(c / "optimizer.pt"),
    "scheduler.pt is missing": lambda c: (c / "scheduler.pt").unlink(),
    "rng_state.pth is cut off": lambda c: _cut(c / "rng_state.pth"),
}


def test_the_newest_complete_one(folder):
    assert last_complete(folder) == folder / "checkpoint-3"
    assert trainer_state(folder / "checkpoint-3")["global_step"] == 3
    (folder / "checkpoint-3x").mkdir()
    (folder / "checkpoint-4").mkdir()  # made, and nothing written into it yet
    assert last_complete(folder) == folder / "checkpoint-3"


@pytest.mark.parametrize("what", DAMAGES)
def test_a_damaged_one_is_passed_over(folder, what):
    DAMAGES[what](folder / "checkpoint-3")
    assert damage(folder / "checkpoint-3") == what
    assert last_complete(folder) == folder / "checkpoint-2"


def test_none_at_all_and_none_complete(folder, tmp_path):
    assert last_complete(tmp_path / "nowhere") is None
    for path in folder.glob("checkpoint-*"):
        _cut(path / "model.safetensors")
    assert last_complete(folder) is None


def test_fsdp_that_gathers_its_weights_has_names_of_its_own(folder):
    newest = folder / "checkpoint-3"
    (newest / "model.safetensors").unlink()
    (newest / "optimizer.pt").rename(newest / "optimizer.bin")
    assert damage(newest) == "it has no weights"
    shutil.copy(newest / "optimizer.bin", newest / "pytorch_model_fsdp.bin")  # any file of torch.save
    assert last_complete(folder) == newest
    _cut(newest / "pytorch_model_fsdp.bin")
    assert damage(newest) == "pytorch_model_fsdp.bin is cut off"
