"""`erpo-hub evaluate`: two models on the same questions, robustness, and the files it leaves."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from erpo_hub.errors import UserError
from erpo_hub.evaluation.results import Evaluation
from erpo_hub.evaluation.sampling import evaluate, load_model
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


@pytest.fixture
def other_tokenizer(tmp_path: Path) -> Path:
    """The embedded model, whose tokenizer gives an id for "1" that it has no embedding for."""
    from erpo_hub.traces.loading import EMBEDDED_MODEL, resolve_model

    folder = Path(shutil.copytree(resolve_model(EMBEDDED_MODEL), tmp_path / "model"))
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["1"] = 1258
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return folder


def test_a_tokenizer_of_another_model_is_named(other_tokenizer: Path):
    with pytest.raises(UserError, match=r"gives id 1258 and the model has \d+ tokens; they do not belong"):
        evaluate(str(other_tokenizer), TASK, n=8, progress=False)


def test_padding_beyond_the_vocabulary_is_no_fault():
    model, tokenizer, _ = load_model("builtin:tiny-reasoner")
    asked = [evaluate(model, TASK, tokenizer=tokenizer, n=8, progress=False).questions]
    tokenizer.add_special_tokens({"pad_token": "<padding>"})
    assert tokenizer.pad_token_id >= model.get_input_embeddings().num_embeddings
    asked.append(evaluate(model, TASK, tokenizer=tokenizer, n=8, progress=False).questions)
    assert asked[0] == asked[1]


@pytest.mark.parametrize("fault", [IndexError("index out of range"), RuntimeError("a\nb"), ValueError("x")])
def test_a_model_that_cannot_be_asked_is_not_judged(fault: Exception, monkeypatch: pytest.MonkeyPatch):
    from erpo_hub.record.format import Summary
    from erpo_hub.tasks.tasks import load_task
    from erpo_hub.verification.judging import Judge, NotJudged

    model, tokenizer, _ = load_model("builtin:tiny-reasoner")
    task = load_task(TASK)
    recorded = Summary(0.5, (0.4, 0.6), len(task.test), 1, 8.0, max_new_tokens=8)

    def broken(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr(model, "forward", broken)
    found = Judge(task, [0, 1], None, progress=False)("accuracy", recorded, model, tokenizer)
    assert isinstance(found, NotJudged)
    assert found.reason == f"it can't be asked ({' '.join(str(fault).split())})"


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
