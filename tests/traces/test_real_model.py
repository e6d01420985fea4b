"""train_and_push on a real language model: SmolLM2-135M from its PyPI package, with LoRA, on a CPU."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from hub_server.fixtures import hub  # noqa: F401
from hub_server.server import ALICE, HubServer
from peft import LoraConfig

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def smollm2_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    sys.path.insert(0, str(ROOT / "examples"))
    try:
        from smollm2 import smollm2
    finally:
        sys.path.pop(0)
    return str(smollm2(tmp_path_factory.mktemp("smollm2") / "SmolLM2-135M-Instruct"))


@pytest.mark.slow
def test_train_and_push_a_lora_adapter(
    hub: HubServer,  # noqa: F811
    smollm2_folder: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from huggingface_hub import constants

    from erpo_hub import push_bundle, train_and_push
    from erpo_hub.errors import UserError

    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    result = train_and_push(
        smollm2_folder,
        "reasoning-gym:chain_sum?min_terms=2&max_terms=2&min_digits=1&max_digits=1&chat=true",
        push=False,
        peft_config=LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM"),
        output_dir=tmp_path / "run",
        max_steps=2,
        per_device_train_batch_size=4,
        num_generations=4,
        max_completion_length=12,
        temperature=0.7,
        gradient_checkpointing=False,
        learning_rate=1e-4,
        evaluation={"n": 4, "batch_size": 4},
    )
    with pytest.raises(UserError, match="nobody else could load it"):  # its base is a folder of this machine
        push_bundle(result.bundle_dir, "alice/smollm2-erpo", token=ALICE)
    files = {path.name for path in result.bundle_dir.iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "README.md", "run.json"} <= files
    record = json.loads((result.bundle_dir / "run.json").read_text())
    assert record["adapter"]["type"] == "LORA"
    assert record["grader"]["kind"].startswith("reasoning-gym:chain_sum")
    assert [entry["step"] for entry in record["history"]] == [1, 2]
    for entry in record["history"]:
        assert 0 < entry["erpo/gate_mean"] < 1
    assert record["history"][0]["erpo/progress_std"] < 0.05  # the adapter starts as its reference
    assert record["results"]["final"]["n"] == 4
    card = (result.bundle_dir / "README.md").read_text()
    assert "chain_sum" in card
