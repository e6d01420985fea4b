"""`erpo-hub evaluate`: two models on the same questions, robustness, and the files it leaves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from erpo_hub.errors import UserError
from erpo_hub.evaluation.results import Evaluation
from erpo_hub.evaluation.tables import comparison_table, robustness_table

SCRIPT = str(Path(sys.executable).with_name("erpo-hub"))
TASK = "builtin:expressions?operands=3"


def evaluation(model: str, right: list[int], k: int = 1, **settings) -> Evaluation:
    questions = [
        {"prompt": f"{q}=", "answer": str(q), "correct": [i < n for i in range(k)]}
        for q, n in enumerate(right)
    ]
    how = {"k": k, "temperature": 0.0, "top_p": 1.0, "max_new_tokens": 8, **settings}
    return Evaluation(model, "toy", how, questions)


def test_a_comparison_says_how_much_how_sure_and_how_many_questions_it_would_take():
    old, new = evaluation("old", [0] * 40 + [1] * 60), evaluation("new", [0] * 20 + [1] * 75 + [0] * 5)
    text = comparison_table(new, old)
    assert text.startswith("minus old\n")
    assert "+15.0 points" in text
    assert "20 better, 5 worse" in text
    assert "McNemar exact, 100 questions" in text
    assert "3 points would show with 2,1" in text  # Connor: (1.96 √.25 + 0.84 √(.25 − .03²))² / .03²
    assert "beware" not in text


def test_a_comparison_of_equals_names_no_price():
    same = evaluation("same", [0, 1, 1])
    assert "power" not in comparison_table(same, same)


def test_other_settings_are_pointed_out_and_other_questions_refused():
    old = evaluation("old", [1, 0, 2], k=2)
    assert "temperature 0.0 and 1.0" in comparison_table(evaluation("new", [1, 1, 1], temperature=1.0), old)
    with pytest.raises(UserError, match=r"2 questions .*3 of toy"):
        comparison_table(evaluation("new", [1, 1]), old)


def test_a_task_without_rewrites_says_so():
    found = {"model": "m", "temperatures": [], "rewrites": None}
    assert "none exist" in robustness_table(found)


def test_the_command_compares_with_an_earlier_result_and_tries_other_conditions(tmp_path):
    def run(*more: str) -> str:
        command = [
            SCRIPT,
            "evaluate",
            "builtin:tiny-reasoner",
            TASK,
            "-n",
            "8",
            "--max-new-tokens",
            "32",
            *more,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    first = run("--out", "[a]")
    assert "accuracy" in first
    assert "robustness" not in first
    assert json.loads((tmp_path / "[a]" / "lighteval.json").read_text())["results"]
    text = run("--out", "b", "--against", "[a]/results.json", "--robustness")
    assert "minus builtin:tiny-reasoner\n  difference +0.0 points" in text  # the same model, greedily
    assert "T = 1.3" in text
    found = json.loads((tmp_path / "b" / "robustness.json").read_text())
    assert [s["temperature"] for s in found["temperatures"]] == [0.0, 0.6, 1.0, 1.3]
    assert found["rewrites"]["changed"] > 0
    one = Evaluation.from_json(tmp_path / "b" / "results.json")
    assert one.summary()["n"] == 8


def test_a_wrong_path_to_compare_with_is_found_before_anything_is_generated(tmp_path):
    command = [SCRIPT, "evaluate", "/no/model", TASK, "--against", str(tmp_path / "nope.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert "nope.json is not an evaluation" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
