"""A damaged cell.json: one line that names the file and says what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from erpo_hub.errors import UserError
from erpo_hub.study.compare import cell_folder, compare
from erpo_hub.study.finished import read_cell
from erpo_hub.study.report import build_report


def judged() -> dict:
    numbers = {"accuracy": 0.5, "mean_length": 9.0, "mean_entropy": 0.2, "pivot_entropy": 0.5}
    return numbers | {"truncated": 0.0, "grader_timeouts": 0, "per_question": [0.0, 1.0]}


def finished() -> dict:
    plan = {"name": "grpo", "preset": "grpo", "control": None, "overrides": {}, "seed": 0}
    plan |= {"model": "builtin:tiny-reasoner", "task": "builtin:expressions?operands=4", "steps": 300}
    plan |= {"n_sampled": 256, "k_sampled": 4, "n_greedy": 512, "train_size": None}
    return {
        "cell": plan,
        "history": [{"step": s, "elapsed": 1.0 * s, "reward": 0.5, "entropy": None} for s in range(1, 11)],
        "cost": {"train_seconds": 10.0, "completions": 640},
        "sampled": judged(),
        "greedy": judged(),
        "versions": {"torch": "2"},
    }


def test_a_whole_cell_is_read_as_it_stands(tmp_path: Path) -> None:
    (tmp_path / "cell.json").write_text(json.dumps(finished()))
    assert read_cell(tmp_path / "cell.json") == finished()


DAMAGED = [
    *("{}", "[]", "null", '{"cell":[]}', '{"cell":{}}', '{"cell":5}', "[" * 100_000, "\udcff"),
    *(json.dumps({k: v for k, v in finished().items() if k != gone}) for gone in finished()),
    *(json.dumps(finished() | {part: bad}) for part, bad in (
        ("cell", {"name": [1], "seed": 0, "overrides": {}}), ("history", [{"reward": 1.0}]),
        ("history", ["x"]), ("cost", {}),
        ("sampled", judged() | {"per_question": "x"}), ("greedy", {"accuracy": float("nan")}),
    )),
]  # fmt: skip


@pytest.mark.parametrize("text", DAMAGED, ids=lambda text: ascii(text[:20]))
def test_a_damaged_cell_is_told_in_one_line(tmp_path: Path, text: str) -> None:
    path = cell_folder(tmp_path, {"name": "grpo", "seed": 0}) / "cell.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(text.encode(errors="surrogateescape"))
    for act in (
        lambda: compare(["grpo"], 1, out_dir=tmp_path, train=False),
        lambda: build_report(tmp_path),
    ):
        with pytest.raises(UserError, match=r"cell.json cannot be read \(.{5,120}\): delete it to train"):
            act()
