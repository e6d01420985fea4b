"""benchmarks/averaging.py: the weights between two models, the choice of alpha, and a study of one step."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
import averaging  # noqa: E402


def test_weights_between_two_models() -> None:
    base = {"w": torch.tensor([0.0, 2.0]), "steps": torch.tensor([3])}
    trained = {"w": torch.tensor([4.0, 0.0]), "steps": torch.tensor([9])}
    made = averaging.between(base, trained, 0.25)
    assert made["w"].tolist() == [1.0, 1.5]
    assert made["steps"].tolist() == [9]
    assert averaging.between(base, trained, 1.0)["w"].tolist() == [4.0, 0.0]


def test_alpha_is_chosen_on_validation_seeds_alone() -> None:
    def cell(method: str, alpha: float, seed: int, accuracy: float) -> dict:
        name = averaging.row_name(method, alpha)
        return {"cell": {"name": name, "seed": seed}, "greedy": {"accuracy": accuracy}}

    best_there = {0.25: 0.5, 0.5: 0.8, 0.75: 0.8, 1.0: 0.7}
    cells = [cell(m, a, s, x) for a, x in best_there.items() for m in ("grpo", "erpo") for s in (102, 103)]
    cells += [cell("grpo", 0.25, 24, 0.99)]  # of a test seed: looks better, must not count
    assert averaging.best_alpha(cells) == 0.75  # the larger of a tie


def test_a_study_is_made_reported_and_gone_on_with(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    small = ["expressions", "--out", str(tmp_path), "--seeds", "102", "--steps", "1"]
    small += ["--greedy", "8", "--sampled", "4"]
    averaging.main(small)
    out = tmp_path / "expressions"
    report = json.loads((out / "report.json").read_text())
    rows = [averaging.row_name(m, a) for m in averaging.METHODS for a in averaging.ALPHAS]
    assert [row["name"] for row in report["rows"]] == ["untrained", *rows]
    assert report["missing"] == []
    cells = {file.parents[1].name: json.loads(file.read_text()) for file in out.glob("cells/*/*/cell.json")}
    assert len({cells[name]["greedy"]["weights"] for name in cells}) == 9  # every model is another one
    assert len(cells["grpo"]["greedy"]["per_question"]) == 8
    assert cells["grpo"]["history"]
    assert not cells["grpo-alpha-0.5"]["history"]

    weights = load_file(out / "weights" / "grpo-102" / "model.safetensors")
    base = load_file(ROOT / "erpo_hub" / "tiny_reasoner" / "model.safetensors")
    assert any(not torch.equal(weights[name], base[name]) for name in weights)

    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("cell.json")}
    (changed := next(out.glob("cells/erpo/*/cell.json"))).unlink()
    capsys.readouterr()
    averaging.main(small)
    assert capsys.readouterr().out.count("seed 102: greedy") == 1  # judged again, from the kept weights
    same = {file for file in before if file.stat().st_mtime_ns == before[file]}
    assert set(before) - same == {changed}
    assert json.loads(changed.read_text())["sampled"] == cells["erpo"]["sampled"]
