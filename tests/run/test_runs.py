"""train_and_push from end to end, its folder, its record, and what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from peft import LoraConfig
from training import digits_reward, sums

from erpo_hub import train_and_push
from erpo_hub.errors import UsageError, UserError
from erpo_hub.publish.bundle import check_bundle

TASK = "builtin:expressions?operands=2"
FAST: dict[str, Any] = {
    "max_steps": 2,
    "per_device_train_batch_size": 8,
    "num_generations": 4,
    "max_completion_length": 8,
    "gradient_checkpointing": False,
    "learning_rate": 1e-2,
}


def run(model: Any, folder: Path, dataset: Any = TASK, **changes: Any):
    values = {"push": False, "evaluation": {"n": 8}, "reward_funcs": digits_reward, **FAST, **changes}
    return train_and_push(model, dataset, output_dir=folder, **values)


@pytest.fixture(scope="module")
def pair(tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("runs")
    grpo = run(tiny_model, folder / "grpo", algorithm="grpo")
    erpo = run(tiny_model, folder / "erpo", paired_run=folder / "grpo", log_completions=True)
    return {"grpo": grpo, "erpo": erpo, "folder": folder}


def test_a_run_leaves_a_complete_bundle(pair: dict[str, Any]) -> None:
    bundle = pair["erpo"].bundle_dir
    names = {str(p.relative_to(bundle)) for p in bundle.rglob("*") if p.is_file()}
    assert {"README.md", "run.json", "model.safetensors", "config.json", "tokenizer.json"} <= names
    assert {"figures/training.png", "figures/trace-entropy.png", "traces/traces.parquet"} <= names
    assert not [n for n in names if n.endswith((".bin", ".pt", ".pth", ".pkl"))]
    assert check_bundle(bundle) == []
    assert pair["erpo"].commit_url is None


def test_the_record_says_what_happened(pair: dict[str, Any]) -> None:
    record = json.loads((pair["folder"] / "erpo" / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["arguments"]["changed"]["max_steps"] == 2
    assert record["arguments"]["changed"]["learning_rate"] == 1e-2
    assert "seed" not in record["arguments"]["changed"]
    assert record["arguments"]["all"]["progress_eta"] == 0.2
    assert [entry["step"] for entry in record["history"]] == [1, 2]
    assert record["cost"]["steps"] == 2
    assert record["cost"]["completions"] == 16
    lengths = [entry["completions/mean_length"] for entry in record["history"]]
    assert record["cost"]["tokens_generated"] == round(sum(lengths) * 8)
    assert record["dataset"]["fingerprint"].startswith("sha256:")
    assert len(record["dataset"]["samples"]) == 2
    assert record["results"]["baseline"]["n"] == record["results"]["final"]["n"] == 8
    assert record["base_model"]["source"] == "local"
    assert record["prompt"]["example"].endswith("=")
    assert record["paired_run"]["name"] == "grpo"
    assert record["paired_run"]["comparison"]["n"] == 8
    assert len(record["traces"]) == 6
    text = json.dumps(record)
    for private in (str(pair["folder"]), os.path.expanduser("~") + "/"):
        assert private not in text


def test_paired_runs_share_the_answers_of_the_same_starting_model(pair: dict[str, Any]) -> None:
    logs = [pair["folder"] / name / "evaluation" / "baseline.jsonl" for name in ("grpo", "erpo")]
    assert logs[0].read_text() == logs[1].read_text()


def test_the_published_weights_are_the_trained_ones(pair: dict[str, Any]) -> None:
    import torch
    from safetensors.torch import load_file

    saved = load_file(pair["erpo"].bundle_dir / "model.safetensors")
    for name, parameter in pair["erpo"].trainer.model.named_parameters():
        assert torch.equal(saved[name], parameter), name


def test_traces_are_of_the_final_model(pair: dict[str, Any]) -> None:
    from erpo_hub import Trace
    from erpo_hub.tasks.answers import extract_answer

    bundle = pair["erpo"].bundle_dir
    traces = Trace.from_parquet(bundle / "traces" / "traces.parquet")
    assert len(traces) == 6
    assert all(trace.gold is not None and trace.correct is not None for trace in traces)
    assert [t.answer for t in traces] == [extract_answer(t.completion) for t in traces]


def test_an_adapter_run(tiny_model: str, tmp_path: Path) -> None:
    adapter = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=2)
    result = run(tiny_model, tmp_path / "run", peft_config=adapter)
    record = json.loads((result.bundle_dir / "run.json").read_text())
    assert record["adapter"]["type"] == "LORA"
    assert record["adapter"]["r"] == 2
    assert (result.bundle_dir / "adapter_model.safetensors").is_file()
    assert not (result.bundle_dir / "model.safetensors").exists()


def test_own_datasets_and_evaluation_rows(tiny_model: str, tmp_path: Path) -> None:
    result = run(tiny_model, tmp_path / "run", sums(40), eval_dataset=sums(9), evaluation={"n": 5})
    record = json.loads((result.bundle_dir / "run.json").read_text())
    assert record["dataset"]["test_rows"] == 9
    assert record["results"]["final"]["n"] == 5


BAD_CALLS: list[tuple[dict[str, Any], str]] = [
    ({"num_generations": 1}, "at least 2 generations"),
    ({"algorithm": "gropo"}, "unknown algorithm 'gropo': choose one of grpo, erpo"),
    ({"no_such_field": 1}, "unknown argument 'no_such_field'"),
    ({"load_best_model_at_end": True}, "best"),
    ({"push_to_hub": True}, "give repo_id"),
    ({"push_to_hub": True, "hub_strategy": "checkpoint", "hub_model_id": "a/b"}, "hub_private_repo"),
    ({"dataset": "builtin:nothing"}, "nothing"),
    ({"dataset": "reasoning-gym:chain_sun"}, "chain_sum"),
    ({"dataset": 7}, "dataset is a int"),
    ({"dataset": Dataset.from_list([{"text": "1", "answer": "1"}])}, "no 'prompt' or"),
    ({"dataset": Dataset.from_list([{"prompt": "1", "answer": ""}])}, "no row has a gold answer"),
    ({"push": True}, "give repo_id, or push=False"),
    ({"push": True, "repo_id": "a/b/c", "token": "hf_x"}, "a/b/c"),
    ({"push": True, "repo_id": "a/b"}, "no Hugging Face token found"),
    ({"peft_config": {"r": 8}}, "peft_config is a dict"),
    ({"resume": True}, "nothing to resume"),
    ({"synthesis": "nope"}, "synthesis='nope'"),
]


@pytest.mark.parametrize(("changes", "message"), BAD_CALLS, ids=[m for _, m in BAD_CALLS])
def test_a_wrong_call_is_one_line_and_leaves_nothing(
    tiny_model: str, tmp_path: Path, monkeypatch, changes: dict[str, Any], message: str
) -> None:
    from huggingface_hub import constants

    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    changes = dict(changes)
    dataset = changes.pop("dataset", TASK)
    with pytest.raises(UserError) as caught:
        run(tiny_model, tmp_path / "run", dataset, **changes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda folder: None, "no such folder"),
        (lambda folder: folder.mkdir(), "has no config.json"),
        (
            lambda folder: [folder.mkdir(), (folder / "config.json").write_text("{}")],
            "cannot be loaded",
        ),
    ],
)
def test_a_model_that_is_not_there(tmp_path: Path, prepare, message: str) -> None:
    prepare(tmp_path / "model")
    with pytest.raises(UserError, match=message):
        run(str(tmp_path / "model"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_pickled_weights_are_not_loaded(tiny_model: str, tmp_path: Path) -> None:
    import shutil

    import torch
    from safetensors.torch import load_file

    shutil.copytree(tiny_model, tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    torch.save(load_file(weights), tmp_path / "model" / "pytorch_model.bin")
    weights.unlink()
    with pytest.raises(UserError, match=r"only in pytorch_model.bin, a pickle"):
        run(str(tmp_path / "model"), tmp_path / "run")


def test_a_folder_in_use_is_left_alone(tiny_model: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(UserError, match="holds another run"):
        run(tiny_model, tmp_path)
    (tmp_path / "run.json").rename(tmp_path / "letter.txt")
    with pytest.raises(UserError, match="holds other files"):
        run(tiny_model, tmp_path)
    with pytest.raises(UserError, match="is a file"):
        run(tiny_model, tmp_path / "letter.txt")
    with pytest.raises(UserError, match="can't be written to"):
        run(tiny_model, tmp_path / "letter.txt" / "below")
    assert [p.name for p in tmp_path.iterdir()] == ["letter.txt"]


def test_args_and_overrides_exclude_each_other(tiny_model: str, tmp_path: Path) -> None:
    from training import config

    with pytest.raises(UsageError, match="give args or learning_rate, not both"):
        train_and_push(
            tiny_model, TASK, push=False, args=config("x"), learning_rate=1.0, output_dir=tmp_path / "run"
        )


SCRIPT = """
import sys
from training import digits_reward
from erpo_hub import train_and_push
from erpo_hub.errors import UserError
try:
    train_and_push(
        sys.argv[1], "builtin:expressions?operands=2", push=False, output_dir=sys.argv[2],
        reward_funcs=digits_reward, evaluation={"n": 4}, resume=sys.argv[3] == "resume",
        max_steps=int(sys.argv[4]), per_device_train_batch_size=8, num_generations=4, max_completion_length=8,
        gradient_checkpointing=False, learning_rate=1e-2, save_steps=5,
    )
except UserError as error:
    print("error:", error, flush=True)
    sys.exit(error.exit_code)
"""


def start(model: str, folder: Path, mode: str, steps: int) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", SCRIPT, model, str(folder), mode, str(steps)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for_checkpoint(folder: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while not (folder / "checkpoints" / "checkpoint-5" / "trainer_state.json").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_ctrl_c_keeps_a_checkpoint_and_resume_goes_on(tiny_model: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = start(tiny_model, folder, "new", 2000)
    wait_for_checkpoint(folder, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "stopped at step" in out
    assert "the same command with --resume goes on" in out
    record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "interrupted"
    stopped_at = record["history"][-1]["step"]
    assert (folder / "checkpoints" / f"checkpoint-{stopped_at}").is_dir()

    process = start(tiny_model, folder, "resume", stopped_at + 3)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err
    record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "finished"
    assert [entry["step"] for entry in record["history"]] == list(range(1, stopped_at + 4))
    assert (folder / "bundle" / "model.safetensors").is_file()


def test_a_run_that_breaks_says_so_in_its_record(tiny_model: str, tmp_path: Path) -> None:
    def broken(completions: list, **kwargs: Any) -> list[float]:
        raise ZeroDivisionError("no such reward")

    with pytest.raises(ZeroDivisionError):
        run(tiny_model, tmp_path / "run", reward_funcs=broken)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "failed"


def test_resuming_another_run_is_refused(pair: dict[str, Any], tiny_model: str) -> None:
    with pytest.raises(UserError, match="another learning_rate: resume with the arguments it had"):
        run(tiny_model, pair["folder"] / "grpo", algorithm="grpo", resume=True, learning_rate=3.0)
    with pytest.raises(UserError, match="another algorithm"):
        run(tiny_model, pair["folder"] / "grpo", resume=True)
    with pytest.raises(UserError, match="other data"):
        run(
            tiny_model,
            pair["folder"] / "grpo",
            "builtin:expressions?operands=3",
            algorithm="grpo",
            resume=True,
        )
