"""What `resume` does with runs that are finished, were killed late, or lost a part of what they wrote."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from training import digits_reward, sums

from erpo_hub import train_and_push
from erpo_hub.errors import UsageError, UserError
from erpo_hub.lock import locked
from erpo_hub.record.format import read_record
from erpo_hub.run.checks import check_arguments, check_evaluation
from erpo_hub.train.config import ERPOConfig

FAST = {
    "push": False,
    "per_device_train_batch_size": 8,
    "num_generations": 4,
    "max_completion_length": 8,
    "learning_rate": 1e-2,
    "gradient_checkpointing": False,
    "save_steps": 1,
    "evaluation": {"n": 4},
    "lr_scheduler_type": "constant",
    "save_total_limit": 3,
}


def go(model, folder, steps=2, resume=False, **changes):
    return train_and_push(
        model,
        sums(48),
        output_dir=folder,
        reward_funcs=digits_reward,
        max_steps=steps,
        resume=resume,
        **{**FAST, **changes},
    )


@pytest.fixture(scope="module")
def finished(tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    go(tiny_model, folder)
    return folder


@pytest.fixture
def run(finished, tmp_path):
    """A copy in another place: a run folder may be moved to another machine."""
    return shutil.copytree(finished, tmp_path / "run")


def weights(folder: Path) -> bytes:
    return (folder / "model" / "model.safetensors").read_bytes()


def test_a_finished_run_is_left_as_it_is(tiny_model, run, capsys):
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    result = go(tiny_model, run, resume=True)
    assert "finished after 2 steps; there is nothing left to train" in capsys.readouterr().out
    assert result.bundle_dir == run / "bundle"
    assert result.metrics["final"]["n"] == 4
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before


def test_killed_in_the_final_evaluation(tiny_model, run, finished):
    """As kill -9 leaves it: trained, half judged, nothing bundled."""
    log = run / "evaluation" / "final.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:2]))
    shutil.rmtree(run / "bundle")
    record = json.loads((run / "run.json").read_text())
    record["status"], record["results"]["final"], record["traces"] = "trained", None, []
    (run / "run.json").write_text(json.dumps(record))
    result = go(tiny_model, run, resume=True)
    assert weights(run) == weights(finished)
    record, straight = read_record(run), read_record(finished)
    assert record.cost.steps == 2
    assert [row["step"] for row in record.history] == [row["step"] for row in straight.history]
    assert result.metrics["final"]["per_question"] == straight.results.final.per_question
    assert (run / "bundle" / "README.md").is_file()


def test_more_steps_train_on_and_judge_again(tiny_model, run):
    go(tiny_model, run, steps=4, resume=True)
    record = read_record(run)
    assert [row["step"] for row in record.history if "reward" in row] == [1, 2, 3, 4]
    assert record.status == "finished"
    assert record.cost.steps == 4
    assert [(e.steps, e.final.n) for e in record.earlier] == [(2, 4)]
    assert (run / "evaluation" / "final-at-2.jsonl").is_file()
    assert read_record(run / "bundle").results.final == record.results.final


def test_a_finished_run_without_checkpoints_is_left_as_it_is(tiny_model, run, capsys):
    """Deleted to save room, or never kept: save_strategy "no"."""
    shutil.rmtree(run / "checkpoints")
    before = weights(run)
    go(tiny_model, run, resume=True)
    assert "finished after 2 steps; there is nothing left to train" in capsys.readouterr().out
    assert weights(run) == before
    go(tiny_model, run, steps=3, resume=True)
    assert "no complete checkpoint to go on from; the training starts anew" in capsys.readouterr().out
    assert [(e.steps, e.final.n) for e in read_record(run).earlier] == [(2, 4)]  # of 2 steps, not of 0
    assert (run / "evaluation" / "final-at-2.jsonl").is_file()


def test_a_refused_resume_leaves_the_run_as_it_was(tiny_model, run):
    """Other questions are found where the baseline's log is opened: nothing may have been written by then."""
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    with pytest.raises(UserError, match="belongs to another evaluation"):
        go(tiny_model, run, steps=4, resume=True, evaluation={"n": 3})
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before


def test_the_last_complete_checkpoint(tiny_model, run):
    shutil.copytree(run / "checkpoints" / "checkpoint-2", run / "checkpoints" / "checkpoint-3")
    broken = run / "checkpoints" / "checkpoint-3" / "model.safetensors"
    broken.write_bytes(broken.read_bytes()[:1000])
    go(tiny_model, run, steps=3, resume=True)
    assert read_record(run).cost.steps == 3


def test_weights_alone_cannot_be_resumed(tiny_model, run):
    with pytest.raises(UsageError, match="save_only_model keeps no optimizer"):
        go(tiny_model, run, resume=True, save_only_model=True)


def test_a_second_process_on_the_same_folder_is_refused(tiny_model, run):
    with locked(run), pytest.raises(UserError, match="another process is at work"):
        go(tiny_model, run, steps=3, resume=True)
    go(tiny_model, run, steps=3, resume=True)  # the lock is gone with its owner


SCRIPT = """
import sys, resource
sys.path[:0] = {paths!r}
from test_going_on import go, UserError
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))  # no file grows beyond: as on a full disk
try:
    go({model!r}, {folder!r}, steps=3, save_strategy={saves!r})
except UserError as error:
    print("ONE LINE:", error)
"""


@pytest.mark.parametrize(
    ("share", "saves"),
    [(0.5, "steps"), (1.5, "steps"), (0.5, "no")],  # in weights, in optimizer state; at the end
)
def test_a_full_disk_is_one_line_and_the_run_goes_on(tiny_model, tmp_path, share, saves):
    limit = int((Path(tiny_model) / "model.safetensors").stat().st_size * share)
    folder = tmp_path / "run"
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    script = SCRIPT.format(paths=paths, model=tiny_model, folder=str(folder), limit=limit, saves=saves)
    env = {**os.environ, "MASTER_PORT": "0"}  # any free one: older accelerate holds this process's
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr[-2000:]
    (line,) = [x for x in done.stdout.splitlines() if x.startswith("ONE LINE:")]
    assert "failed (" in line
    assert "with --resume goes on" in line
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    go(tiny_model, folder, steps=3, resume=True, save_strategy=saves)
    assert read_record(folder).cost.steps == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": 0.0}, "temperature=0.0: give a number above 0"),
        ({"top_p": 0.0}, "top_p=0.0: give a number above 0"),
        ({"top_p": 1.5}, "top_p=1.5"),
        ({"repetition_penalty": 0.0}, "repetition_penalty=0.0"),
        ({"report_to": "mlflow"}, "report_to=mlflow: not installed here: `pip install mlflow`"),
        ({"report_to": "comet_ml"}, "`pip install comet-ml`"),
        ({"use_vllm": True}, "vLLM is not installed here"),
        ({"use_liger_kernel": True}, "use_liger_kernel: not installed here"),
        ({"learning_rate": float("nan")}, "learning_rate=nan: give a finite number"),
        ({"weight_decay": float("inf")}, "weight_decay=inf: give a finite number"),
        ({"learning_rate": -1.0}, "learning_rate=-1.0: give a number 0 or more"),
        ({"max_steps": -5}, "max_steps=-5: give a number 1 or more"),
        ({"max_steps": 0}, "max_steps=0: give a number 1 or more"),  # transformers would make one step
        ({"per_device_train_batch_size": 0}, "per_device_train_batch_size=0: give a number 1 or more"),
        ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps=0"),
        ({"dataloader_num_workers": -1}, "dataloader_num_workers=-1: give a number 0 or more"),
        ({"max_grad_norm": -1.0}, "max_grad_norm=-1.0: give a number 0"),
        ({"save_steps": -3}, "save_steps=-3: give a number 0"),
        ({"reward_weights": [float("nan")]}, "reward_weights=.nan.: give a finite number"),
        ({"scale_rewards": "x"}, "scale_rewards='x': choose group, batch or none"),
        ({"importance_sampling_level": "x"}, "importance_sampling_level='x': choose sequence or token"),
        ({"chat_template_kwargs": "x"}, "chat_template_kwargs='x': give a JSON object"),
        ({"generation_kwargs": {"topk": 5}}, "generation_kwargs: 'topk' is no setting"),
        ({"beta": -1.0}, "beta=-1.0: give a number 0 or more"),
        ({"seed": -1}, "seed=-1: give a number from 0"),
        ({"loss_type": "x"}, "loss_type='x': choose one of .*dapo.*grpo"),
        ({"resume_from_checkpoint": "nowhere"}, "resume_from_checkpoint='nowhere'.*with --resume"),
    ],
)
def test_arguments_refused_before_anything_is_loaded(tmp_path, changes, message):
    values = {"output_dir": str(tmp_path), "use_cpu": True, "bf16": False, "report_to": "none"}
    config = ERPOConfig(**{**values, **changes})
    with pytest.raises(UsageError, match=message):
        check_arguments(config)


def test_no_half_made_folder(tiny_model, tmp_path):
    schedule = {"lr_scheduler_type": "cosine_with_min_lr"}  # which needs lr_scheduler_kwargs
    for changes in (schedule, {"optim": "adamw_8bit"}, {"evaluation": {"n": 0}}, {"temperature": 0.0}):
        with pytest.raises(UsageError):
            go(tiny_model, tmp_path / "run", **changes)
        assert not (tmp_path / "run").exists(), changes


@pytest.mark.parametrize("settings", [{"n": 0}, {"k": 0}, {"batch_size": 0}, {"max_new_tokens": 0}])
def test_zero_is_a_value(settings):
    with pytest.raises(UsageError, match="=0: give 1 or more"):
        check_evaluation(settings)
