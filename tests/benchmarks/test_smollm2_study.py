"""The study on a real model, from end to end, on a tiny random one in its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_models import save_tiny_model

from erpo_hub import Trace
from erpo_hub.errors import UserError

EXAMPLES = Path(__file__).parents[2] / "examples"
FAST = ["--seeds", "1", "--steps", "1", "--questions", "8", "-k", "2", "--max-completion-length", "6"]
FAST += ["--warm-steps", "2", "--target", "1", "--traces", "2", "--lora-r", "2"]


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import smollm2_study

    return smollm2_study


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("Sum: 48 + 3 - 12 =", " 48 + 3 = 51\n51 - 12 = 39"),
        ("Sum: 5 - 9 =", " 5 - 9 = -4"),
        ("Sum: 1 - 9 + 2 =", " 1 - 9 = -8\n-8 + 2 = -6"),
    ],
)
def test_a_worked_answer_ends_in_the_right_number(study, prompt: str, answer: str) -> None:
    assert study.worked(prompt) == answer


def test_the_worked_answer_of_every_question_is_right(study) -> None:
    from erpo_hub.tasks.grading import Grader

    task = study.short_task("min_terms=2&max_terms=3&min_digits=1&max_digits=2", 32)
    rows = [*task.train, *task.test]
    with Grader(task.grader) as grader:
        scores = grader.grade(
            [study.worked(row["prompt"]) for row in rows],
            [row["answer"] for row in rows],
            entry=[row["entry"] for row in rows],
        )
    assert set(scores) == {1.0}
    assert not set(task.train["prompt"]) & set(task.test["prompt"])


def test_the_whole_study(study, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    model, out = save_tiny_model(tmp_path / "model"), tmp_path / "study"
    study.main([str(model), "--out", str(out), *FAST])
    report = json.loads((out / "report.json").read_text())
    assert [row["name"] for row in report["rows"]] == ["as shipped", "after warm-up", "grpo", "erpo"]
    assert {(c["name"], c["measure"], c["questions"]) for c in report["comparisons"]} == {
        ("erpo", "sampled", 8),
        ("erpo", "greedy", 8),
    }
    summary = json.loads((out / "summary.json").read_text())
    assert [entry["step"] for entry in summary["warm_up"]] == [2]
    assert len(summary["against_warm_up"]) == 4
    assert "GRPO minus the warmed-up model" in (out / "report.md").read_text()
    traces = list(Trace.from_parquet(out / "traces.parquet"))
    assert len(traces) == 6
    assert len({trace.prompt for trace in traces}) == 2
    for method in ("grpo", "erpo"):
        record = json.loads((out / "runs" / f"{method}-0" / "run.json").read_text())
        assert record["status"] == "finished"
        assert record["adapter"]["r"] == 2
        assert str(tmp_path) not in (out / "runs" / f"{method}-0" / "bundle" / "run.json").read_text()

    capsys.readouterr()
    before = {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("*") if path.is_file()}
    study.main([str(model), "--out", str(out), *FAST])  # everything is there: nothing is trained again
    assert "training" not in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="another steps"):
        study.main([str(model), "--out", str(out), *FAST, "--steps", "2"])
