"""`compare`: the plan, the processes (with a stand-in for the training), the report, and real cells."""

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats
from tiny_models import save_chat_model

from erpo_hub.errors import UsageError, UserError
from erpo_hub.lock import locked
from erpo_hub.study import cell, figures
from erpo_hub.study import compare as module
from erpo_hub.study.compare import build_report, cell_folder, compare

# What stands in for a training: accuracies rise with the seed and with progress_eta, history has ten rows.
STAND_IN = """
    import json, os, sys, time
    from pathlib import Path

    spec = Path(sys.argv[1])
    cell = json.loads(spec.read_text())
    seed, eta = cell["seed"], cell["overrides"].get("progress_eta", 0.0)
    with (spec.parents[3] / "started.txt").open("a") as file:
        file.write(f"{cell['name']} {seed} {os.environ['OMP_NUM_THREADS']}\\n")
    if cell["overrides"].get("num_buckets") == 7:
        sys.exit("the loss went up in smoke")
    while cell["overrides"].get("num_buckets") == 9:
        (spec.parent / "waiting").touch()
        time.sleep(0.02)

    def summary(questions, k):
        right = [((7 * q + seed) % 10) / 10 < 0.5 + eta / 5 for q in range(questions)]
        return {
            "accuracy": sum(right) / questions, "mean_length": 10 - eta, "mean_entropy": 0.2 + eta,
            "pivot_entropy": 0.5, "truncated": 0.0, "grader_timeouts": 0,
            "per_question": [float(r) for r in right],
        }

    history = [
        {"step": s, "elapsed": s * (1.0 + eta), "reward": s / 10, "entropy": 0.5,
         "frac_reward_zero_std": s / 20, "completions/mean_length": 12.0} for s in range(1, 11)
    ]
    trained = cell["preset"] is not None
    result = {
        "cell": cell, "history": history if trained else [], "versions": {"torch": "2"},
        "cost": {"train_seconds": 10.0 * (1 + eta), "completions": 640} if trained else {},
        "sampled": summary(cell["n_sampled"], 4), "greedy": summary(cell["n_greedy"], 1),
    }
    (spec.parent / "cell.json").write_text(json.dumps(result))
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    script = tmp_path / "stand_in.py"
    script.write_text(textwrap.dedent(STAND_IN))
    monkeypatch.setattr(module, "CELL_COMMAND", [sys.executable, str(script)])
    return script


def started(out):
    return [line.rsplit(" ", 1)[0] for line in (out / "started.txt").read_text().splitlines()]


ROWS = {"grpo": {}, "erpo": {"progress_eta": 0.5}}


def test_cells_run_once_and_more_seeds_are_added(stand_in, tmp_path):
    out = tmp_path / "out"
    report = compare(ROWS, 2, out_dir=out, workers=2, n_sampled=20, n_greedy=20)
    assert sorted(started(out)) == ["erpo 0", "erpo 1", "grpo 0", "grpo 1", "untrained 0"]
    assert [row["name"] for row in report.data["rows"]] == ["untrained", "grpo", "erpo"]
    compare(ROWS, 3, out_dir=out, n_sampled=20, n_greedy=20)
    assert sorted(started(out)[5:]) == ["erpo 2", "grpo 2"]


def test_a_second_comparison_in_the_folder_is_refused(stand_in, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with locked(out), pytest.raises(UserError, match=r"another process is at work in .*another --out$"):
        compare(ROWS, 1, out_dir=out)
    assert not (out / "started.txt").exists()
    monkeypatch.setenv("RANK", "1")  # as under a launcher of several processes: this is no part of a run
    with locked(out), pytest.raises(UserError, match="another process is at work"):
        compare(ROWS, 1, out_dir=out)
    compare(ROWS, 1, out_dir=out, n_sampled=20, n_greedy=20)  # it is free again
    assert len(started(out)) == 3


def test_a_report_on_the_way_trains_nothing_and_says_what_is_missing(stand_in, tmp_path):
    out = tmp_path / "out"
    compare(ROWS, 1, out_dir=out, workers=2, n_sampled=20, n_greedy=20)
    before = started(out)
    report = compare(ROWS, 2, out_dir=out, workers=2, n_sampled=20, n_greedy=20, train=False)
    assert started(out) == before
    assert sorted(report.data["missing"]) == ["cells/erpo/seed-1", "cells/grpo/seed-1"]
    assert [row["seeds"] for row in report.data["rows"]] == [1, 1, 1]


def test_report_holds_the_numbers_of_the_cells(stand_in, tmp_path):
    out = tmp_path / "out"
    report = compare(ROWS, [3, 5, 8], out_dir=out, n_sampled=40, n_greedy=20)
    cells = {
        name: [json.loads((out / f"cells/{name}/seed-{s}/cell.json").read_text()) for s in (3, 5, 8)]
        for name in ROWS
    }
    erpo = next(row for row in report.data["rows"] if row["name"] == "erpo")
    accuracies = [c["greedy"]["accuracy"] for c in cells["erpo"]]
    assert erpo["greedy"] == pytest.approx({"mean": np.mean(accuracies), "error": stats.sem(accuracies)})
    assert erpo["length"]["mean"] == 9.5
    assert erpo["zero_variance"]["mean"] == 0.5  # the last tenth of the history
    # Equal time: grpo's 10 s. erpo takes 1.5 s a step, so its sixth step counts.
    assert report.data["equal_time_seconds"] == 10.0
    assert erpo["reward_at_equal_time"]["mean"] == 0.6
    (sampled, greedy) = report.data["comparisons"]
    assert (sampled["measure"], greedy["measure"], greedy["seeds"]) == ("sampled", "greedy", 3)
    per_seed = [
        e["greedy"]["accuracy"] - g["greedy"]["accuracy"] for e, g in zip(cells["erpo"], cells["grpo"])
    ]
    assert greedy["difference"] == pytest.approx(np.mean(per_seed))
    assert greedy["differences_by_seed"] == pytest.approx(per_seed)
    assert greedy["interval"][0] <= greedy["difference"] <= greedy["interval"][1]
    assert greedy["bootstrap"]["interval"][0] <= greedy["difference"] <= greedy["bootstrap"]["interval"][1]
    assert sampled["length"]["difference"] == -0.5
    assert sampled["zero_variance"]["difference"] == 0.0
    assert sampled["entropy"]["difference"] == pytest.approx(0.5)
    curve = report.data["curves"]["reward"]["erpo"]
    assert curve["steps"] == list(range(1, 11))
    assert curve["mean"] == pytest.approx([s / 10 for s in range(1, 11)])


def test_report_files(stand_in, tmp_path):
    out = tmp_path / "out"
    report = compare(ROWS, 2, out_dir=out, n_sampled=20, n_greedy=20)
    text = (out / "report.md").read_text()
    assert text == report.markdown()
    for link in re.findall(r"\((figures/.*?)\)", text):
        assert (out / link).read_bytes().startswith(b"\x89PNG")
    assert len(re.findall(r"figures/", text)) == 5
    assert len(list((out / "figures").iterdir())) == 5
    assert json.loads((out / "report.json").read_text()) == report.data
    assert "fewer than three seeds" in text
    assert "Every training used 640 completions." in text
    assert "progress_eta=0.5" in text
    assert (
        "| minus grpo | seeds | length, tokens | p | entropy, nats | p | zero variance, points | p |" in text
    )
    assert "| erpo | 2 | -0.50 ± 0.00 |" in text
    assert not re.search(r"\b(nan|None)\b", text)
    assert "erpo" in report.table()


def test_the_picture_of_differences_shows_the_intervals_and_marks_what_is_shown():
    one = {"name": "erpo", "difference": 0.02, "differences_by_seed": [0.01, 0.02, 0.03], "seeds": 3}
    data = {
        "baseline": "grpo",
        "comparisons": [
            {**one, "measure": "sampled", "interval": [0.005, 0.035]},
            {**one, "measure": "greedy", "interval": [-0.01, 0.05]},
            {**one, "measure": "greedy", "interval": [0.01, 0.03], "name": "two seeds", "seeds": 2},
        ],
    }
    sampled, greedy = figures._draw_differences(data).axes
    interval, mean, rings = sampled.lines[:3]
    assert interval.get_xdata() == pytest.approx([0.5, 3.5])
    assert mean.get_xdata() == pytest.approx([2])
    assert rings.get_xdata() == pytest.approx([1, 2, 3])
    assert interval.get_color() == "tab:blue"
    assert [greedy.lines[i].get_color() for i in (0, 3)] == ["tab:gray", "tab:gray"]
    assert [label.get_text() for label in sampled.get_yticklabels()] == ["erpo", "two seeds"]


def test_cells_packed_for_a_commit_give_the_same_report_and_train_nothing(stand_in, tmp_path, monkeypatch):
    out, small, packed = tmp_path / "out", tmp_path / "small", tmp_path / "study.parquet"
    settings = {"n_sampled": 20, "n_greedy": 20}
    whole = compare(ROWS, 2, out_dir=out, **settings).data
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    evidence = importlib.import_module("evidence")
    assert evidence.pack(out, packed) == 5
    assert len(evidence.unpack(packed, small)) == 5
    again = compare(ROWS, 2, out_dir=small, **settings).data
    assert len(started(out)) == 5
    assert not (small / "started.txt").exists()
    assert again == whole


def test_a_failed_cell_is_told_after_the_rest_and_done_again(stand_in, tmp_path):
    out = tmp_path / "out"
    rows = {"grpo": {}, "erpo": {"num_buckets": 7}}
    with pytest.raises(UserError, match=r"2 of 5 cells failed.*the loss went up in smoke.*log\.txt"):
        compare(rows, 2, out_dir=out, n_sampled=20, n_greedy=20)
    text = (out / "report.md").read_text()
    assert "Not finished" in text
    assert "cells/erpo/seed-1" in text
    with pytest.raises(UserError):
        compare(rows, 2, out_dir=out, n_sampled=20, n_greedy=20)
    assert sorted(started(out)[5:]) == ["erpo 0", "erpo 1"]


def test_finished_cells_of_other_settings_are_not_mixed_in(stand_in, tmp_path):
    compare(ROWS, 1, out_dir=tmp_path / "out", n_sampled=20, n_greedy=20)
    with pytest.raises(UserError, match="steps: 300 there, 200 now.*another out_dir"):
        compare(ROWS, 1, out_dir=tmp_path / "out", n_sampled=20, n_greedy=20, steps=200)


def run_in_background(stand_in, out):
    # A suite started in the background of a script ignores Ctrl-C, and so would its children.
    code = f"""
        import signal
        signal.signal(signal.SIGINT, signal.default_int_handler)
        from erpo_hub.study import compare as module
        from erpo_hub.errors import UserError
        module.CELL_COMMAND = {[sys.executable, str(stand_in)]!r}
        try:
            module.compare({{"grpo": {{}}, "erpo": {{"num_buckets": 9}}}}, 1, out_dir={str(out)!r}, workers=1,
                           n_sampled=20, n_greedy=20)
        except UserError as error:
            print(error)
            raise SystemExit(error.exit_code)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
    )
    waiting = out / "cells/erpo/seed-0/waiting"
    deadline = time.time() + 60
    while not waiting.exists() and time.time() < deadline:
        time.sleep(0.05)
    assert waiting.exists()
    return process, waiting


def test_ctrl_c_keeps_finished_cells_and_stops_the_others(stand_in, tmp_path):
    out = tmp_path / "out"
    process, waiting = run_in_background(stand_in, out)
    process.send_signal(signal.SIGINT)
    text, _ = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "stopped with 2 of 3 cells finished" in text
    waiting.unlink()
    time.sleep(0.2)
    assert not waiting.exists()  # nobody touches it any more
    assert (out / "cells/grpo/seed-0/cell.json").exists()


def test_a_grid_file_says_the_same_as_a_call(stand_in, tmp_path):
    grid = tmp_path / "grid.yaml"
    grid.write_text(
        "steps: 50\nseeds: [4, 6]\nn_greedy: 10\nn_sampled: 10\nbaseline: plain\n"
        "overrides: {learning_rate: 1.0e-4}\ncells:\n  plain: {preset: grpo}\n"
        "  strong: {preset: erpo, progress_eta: 1.0, control: permuted-gate}\n"
    )
    report = compare(grid=grid, out_dir=tmp_path / "out", steps=60)
    assert report.data["baseline"] == "plain"
    assert report.data["plan"]["steps"] == 60  # the call wins
    cell = json.loads((tmp_path / "out/cells/strong/seed-6/spec.json").read_text())
    assert (cell["preset"], cell["control"]) == ("erpo", "permuted-gate")
    assert cell["overrides"] == {"learning_rate": 1e-4, "progress_eta": 1.0}


def test_a_chat_model_is_trained_and_judged_on_chat_unless_the_grid_says_plain(stand_in, tmp_path):
    from erpo_hub.study.cell import _as_asked
    from erpo_hub.tasks.tasks import load_task

    task = load_task("builtin:expressions", train_size=4, test_size=4)
    for plain in (True, False):
        grid = {"seeds": 1, "plain": plain, "model": str(save_chat_model(tmp_path / "chat"))}
        out = tmp_path / str(plain)
        compare(["grpo"], grid=grid, out_dir=out)
        cell = json.loads((out / "cells/grpo/seed-0/spec.json").read_text())
        assert ("plain" in cell) == plain  # else finished cells of before would count as others
        assert isinstance(_as_asked(cell, task).train[0]["prompt"], str) == plain
    with pytest.raises(UsageError, match="plain='no'"):
        compare(["grpo"], grid={"plain": "no"}, out_dir=tmp_path / "other")


def test_the_ablations_example_is_a_valid_grid(stand_in, tmp_path):
    grid = Path(__file__).parents[2] / "examples/compare/ablations.yaml"
    report = compare(grid=grid, seeds=1, n_sampled=4, n_greedy=4, out_dir=tmp_path / "out", workers=2)
    assert len(report.data["rows"]) == 13
    assert report.data["baseline"] == "erpo"


def test_quick_is_small_and_explicit_settings_win(stand_in, tmp_path):
    report = compare(["grpo"], quick=True, seeds=1, out_dir=tmp_path / "out")
    assert report.data["plan"]["steps"] == 100
    assert report.data["rows"][1]["seeds"] == 1


@pytest.mark.parametrize(
    ("presets", "settings", "message"),
    [
        (["grpo", "dapo"], {}, "unknown preset 'dapo'"),
        ({"mine": {"progress_eta": 1}}, {}, "unknown preset 'mine'"),
        (["erpo"], {"progres_eta": 1.0}, "progres_eta"),
        ({"erpo": {"gate_gamma": -1.0}}, {}, "gate_gamma"),
        (["erpo"], {"num_generations": 7}, "num_generations|divisible"),
        ({"grpo": {"control": "permuted-gate"}}, {}, "needs a gate"),
        ({"erpo": {"control": "magic"}}, {}, "unknown control"),
        ([], {}, "nothing to compare"),
        (["grpo"], {"seeds": []}, "nothing to compare"),
        (["grpo"], {"steps": 0}, "steps=0"),
        (["grpo"], {"workers": 0}, "workers=0"),
        (["grpo"], {"seeds": ["a"]}, "whole numbers"),
        ({"a b": {"preset": "grpo"}, "a-b": {"preset": "grpo"}}, {}, "differ"),
        (["grpo"], {"grid": {"stepps": 3}}, "stepps"),
        (["grpo"], {"grid": "/nowhere/grid.yaml"}, "cannot read the grid"),
    ],
)
def test_mistakes_are_told_before_anything_runs(tmp_path, presets, settings, message):
    with pytest.raises(UsageError, match=message):
        compare(presets, **{"seeds": 1, "out_dir": tmp_path / "out", **settings})
    assert not (tmp_path / "out").exists()


def test_nothing_finished_is_no_report(tmp_path):
    with pytest.raises(UserError, match="no finished cell"):
        build_report(tmp_path)
    cell = tmp_path / "cells/grpo/seed-0/cell.json"
    cell.parent.mkdir(parents=True)
    cell.write_text('{"cell":')
    with pytest.raises(UserError, match="delete it"):
        build_report(tmp_path)


@pytest.mark.parametrize(
    ("preset", "control"),
    [
        ("grpo", None),
        ("erpo", None),
        ("ep-grpo", "permuted-gate"),
        ("erpo", "gate-only-at-pivots"),
        ("ep-grpo", "shuffled-buckets"),
        ("erpo", "random-rewards"),
    ],
)
def test_a_real_cell_trains_and_is_evaluated(tiny_model, tmp_path, preset, control):
    from erpo_hub.study.cell import run_cell

    cells = module._cells(
        module.DEFAULTS
        | {"presets": {"row": {"preset": preset, "control": control}}, "seeds": 1, "steps": 2}
        | {"model": tiny_model, "n_sampled": 6, "k_sampled": 2, "n_greedy": 8, "train_size": 64},
        {"max_completion_length": 6, "per_device_train_batch_size": 16, "num_generations": 4},
    )  # fmt: skip
    result = run_cell(cells[1], tmp_path)
    json.dumps(result, allow_nan=False)
    assert [row["step"] for row in result["history"]] == [1, 2]
    assert {"reward", "entropy", "frac_reward_zero_std", "completions/mean_length", "elapsed"} <= set(
        result["history"][0]
    )
    assert result["cost"]["completions"] == 32
    assert (result["sampled"]["n"], result["sampled"]["k"], result["greedy"]["n"]) == (6, 2, 8)
    assert (tmp_path / "trainer").exists() is False
    if control == "random-rewards":
        assert any(row["reward"] > 0 for row in result["history"])
    if (preset, control) == ("grpo", None):
        untrained = run_cell(cells[0], tmp_path)
        assert untrained["history"] == []
        assert untrained["greedy"]["max_new_tokens"] == 6


@pytest.mark.slow
def test_the_real_thing_end_to_end(tiny_model, tmp_path):
    settings = {"model": tiny_model, "steps": 2, "n_sampled": 6, "n_greedy": 8, "out_dir": tmp_path / "out"}
    report = compare(["grpo", "erpo"], 1, **settings, max_completion_length=6, workers=2)
    assert [row["seeds"] for row in report.data["rows"]] == [1, 1, 1]
    folder = cell_folder(tmp_path / "out", {"name": "erpo", "seed": 0})
    assert sorted(p.name for p in folder.iterdir()) == ["cell.json", "log.txt", "spec.json"]


@pytest.mark.slow
def test_a_cell_ends_with_its_parent(tiny_model, tmp_path):
    spec = tmp_path / "spec.json"
    cell = module._cells(module.DEFAULTS | {"steps": 100_000, "model": tiny_model, "seeds": 1}, {})[1]
    spec.write_text(json.dumps(cell))
    child = subprocess.Popen(
        [*module.CELL_COMMAND, str(spec)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    time.sleep(1)
    child.stdin.close()
    assert child.wait(timeout=60) == 1


def test_a_completion_that_is_used_for_several_updates_counts_once():
    def cost(**changes):
        sizes = {"per_device_train_batch_size": 64, "gradient_accumulation_steps": 1, "num_iterations": 1}
        state = SimpleNamespace(global_step=300, num_input_tokens_seen=0)
        return cell._cost(SimpleNamespace(args=SimpleNamespace(**(sizes | changes)), state=state), [])

    assert cost()["completions"] == 19_200
    assert cost(num_iterations=4)["completions"] == 4_800
