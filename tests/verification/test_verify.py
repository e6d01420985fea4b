"""Is this card true? A real run's bundle, as it is and tampered with in ten ways."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from statistics import fmean, median

import pytest
from tampering import SHORT, TAMPERINGS, republished, sealed

from erpo_hub import train_and_push, verify
from erpo_hub.cli.insight import commands
from erpo_hub.record.format import read_record
from erpo_hub.tasks.prompts import question_digests
from erpo_hub.tasks.tasks import load_task
from erpo_hub.verification.claims import (
    ENTROPY,
    LENGTH,
    NOISE,
    OVERSTATED,
    REPRODUCED,
    UNKNOWN,
    UNTRUE,
    Verification,
)
from erpo_hub.verification.questions import find_questions

ONLY_MEANS = {  # of all questions: some of them show no more than that they may be so
    *("cut off at the limit", "cut off at the limit of the baseline"),
    *("entropy at pivots", "entropy at pivots of the baseline"),
    *("positions changed by training", "changes at pivots"),
}


def check(folder: Path, **options: object) -> Verification:
    return verify(folder, progress=False, **{"seed": 0, **options})


def by_name(found: Verification) -> dict[str, str]:
    return {claim.name.partition(" (")[0]: claim.status for claim in found.claims}


def test_every_claim_of_a_true_card_is_reproduced(real_bundle):
    found = check(real_bundle, n=40)
    assert found.contradicted == []
    assert {name for name, status in by_name(found).items() if status == NOISE} == ONLY_MEANS
    assert {status for name, status in by_name(found).items() if name not in ONLY_MEANS} == {REPRODUCED}
    named = {"record", "card", "files", "questions", "accuracy", "baseline", "gain over the baseline"}
    named |= {"weights", "weights of the baseline", "grader", "prompt", "swaps"}
    named |= {f"{what}{whose}" for what in ("answer length", "entropy") for whose in ("", " of the baseline")}
    assert named | ONLY_MEANS == set(by_name(found))
    assert found.asked["n"] == 40
    assert found.asked["of"] == 96
    assert "40 of 96 questions asked again" in found.table()


@pytest.mark.parametrize("kind", TAMPERINGS)
def test_each_kind_of_tampering_is_named(kind, bundle):
    tamper = TAMPERINGS[kind]
    tamper(bundle, *([0.2] if "stated" in kind else []))
    found = check(bundle, full=True)
    assert kind in {claim.kind for claim in found.contradicted}, found.table()
    assert kind in found.verdict
    assert (by_name(found)["record"] == UNTRUE) == (kind == "record changed"), "the tracks are not covered"


def test_an_old_record_is_checked_as_far_as_it_goes(bundle):
    def without(run: dict) -> None:
        for summary in (run["results"]["baseline"], run["results"]["final"]):
            for name in ("weights", "answers", "seed", "lengths", "entropies"):
                summary.pop(name)
        run["transplant"].pop("correct")
        for name in ("questions", "question_set"):
            run["results"].pop(name)
        run["grader"].pop("version")
        for name in ("seed", "held_out"):
            run["dataset"].pop(name)

    sealed(bundle, without)
    run = json.loads((bundle / "run.json").read_text())
    run.pop("digest")
    (bundle / "run.json").write_text(json.dumps(run))
    found = check(bundle, n=32)
    assert found.contradicted == []
    statuses = by_name(found)
    assert {name for name, status in statuses.items() if status == UNKNOWN} == {
        *("record", "weights", "weights of the baseline", "grader", "swaps")
    }
    assert statuses["questions"] == statuses["accuracy"] == REPRODUCED


def test_totals_alone_are_tested_for_what_sampling_and_hardware_leave_open(bundle):
    def totals(run: dict) -> None:
        for summary in (run["results"]["baseline"], run["results"]["final"]):
            summary["per_question"] = summary["answers"] = []

    republished(bundle, totals)
    assert check(bundle, full=True).contradicted == []

    def lie(run: dict) -> None:
        final = run["results"]["final"]
        final["accuracy"], final["interval"] = 0.99, [0.95, 1.0]
        run["results"]["comparison"]["difference"] = 0.99 - run["results"]["baseline"]["accuracy"]

    republished(bundle, lie)
    found = check(bundle, full=True)
    assert [claim.kind for claim in found.contradicted] == [OVERSTATED]


def test_a_record_never_leads_to_a_file_of_this_machine(bundle, tmp_path):
    secret = tmp_path / "private.jsonl"
    secret.write_text('{"prompt": "1+1=", "answer": "2"}\n' * 2)
    sealed(bundle, lambda run: run["dataset"].update(spec=str(secret), source="hub"))
    sealed(bundle, lambda run: run["base_model"].update(id="../model", source="hub"))
    found = check(bundle)
    assert by_name(found)["questions"] == UNKNOWN
    assert "everybody" in next(claim.detail for claim in found.claims if claim.name == "questions")
    found = check(bundle, task="builtin:expressions?operands=4", n=8)
    assert by_name(found)["baseline"] == UNKNOWN
    assert by_name(found)["accuracy"] == REPRODUCED


def test_questions_from_a_file_are_named_without_its_place(bundle, tmp_path):
    file = tmp_path / "private" / "mine.jsonl"
    file.parent.mkdir()
    rows = [{"prompt": f"{i}+1=", "answer": str(i + 1)} for i in range(400)]
    file.write_text("\n".join(map(json.dumps, rows)))
    claim = find_questions(read_record(bundle), str(file)).claim
    assert "mine.jsonl" in claim.detail
    assert "private" not in claim.detail

    spec = json.loads((bundle / "run.json").read_text())["dataset"]["spec"]
    same = [{"prompt": row["prompt"], "answer": row["answer"]} for row in load_task(spec).test]
    file.write_text("\n".join(map(json.dumps, same)))
    record = read_record(bundle)
    record.results.question_set, record.results.questions = "", []
    record.dataset.fingerprint = None
    task = load_task(str(file))
    record.results.final.n = len(task.test)
    record.results.question_set, record.results.questions = question_digests(task.test)
    claim = find_questions(record, str(file)).claim
    assert claim.status == REPRODUCED
    assert claim.detail == f"the {len(task.test)} of mine.jsonl"


@pytest.mark.parametrize("kind", ["model", "base", "paired run"])
def test_what_cannot_be_loaded_is_named_without_its_place(bundle, tmp_path, kind):
    broken = tmp_path / "private place" / "secret-v2"
    shutil.copytree(bundle, broken)
    (broken / "model.safetensors").write_bytes(b"damaged")
    if kind == "paired run":
        final = json.loads((bundle / "run.json").read_text())["results"]["final"]
        paired = {"name": "grpo", "algorithm": "grpo", "final": final, "history": [], "comparison": None}
        sealed(bundle, lambda run: run.update(paired_run=paired))
    options = {} if kind == "model" else {"base" if kind == "base" else "paired": str(broken)}
    found = check(broken if kind == "model" else bundle, n=4, **options)
    text = json.dumps(found.to_dict())
    assert "secret-v2: the model cannot be loaded" in text
    assert "private" not in text


def test_a_sample_that_leaves_a_doubt_is_followed_by_all(bundle):
    TAMPERINGS[OVERSTATED](bundle, 0.12)
    found = check(bundle, n=56)
    assert found.asked["n"] == 96
    assert [claim.kind for claim in found.contradicted] == [OVERSTATED, None], found.table()
    assert found.contradicted[1].name == "gain over the baseline"


def test_an_adapter_and_sampled_answers_are_judged_again(tmp_path):
    from peft import LoraConfig

    made = train_and_push(
        "builtin:tiny-reasoner",
        "builtin:expressions?operands=4",
        peft_config=LoraConfig(r=4, target_modules=["q_proj"]),
        evaluation={"n": 16, "k": 4, "temperature": 0.8, "seed": 5},
        **SHORT,
        output_dir=tmp_path / "run",
    )
    found = check(made.bundle_dir, n=8)
    statuses = by_name(found)
    assert statuses.pop("weights of the baseline") == UNKNOWN
    assert {status for name, status in statuses.items() if name not in ONLY_MEANS} == {REPRODUCED}
    assert {"accuracy", "pass@4", "weights"} < set(statuses)


def test_texts_of_a_repository_stay_inert(bundle):
    evil = "\x1b[31m<img src=x onerror=alert(1)> [a](javascript:1) @everyone |"
    sealed(bundle, lambda run: run["grader"].update(kind=evil))
    found = check(bundle, n=4)
    assert by_name(found)["grader"] == UNTRUE
    assert "\x1b" not in found.table() + found.markdown() + json.dumps(found.to_dict(), ensure_ascii=False)
    assert "<img" not in found.markdown()
    assert "[a](" not in found.markdown()


def test_the_command_writes_the_file_and_its_exit_code_says_whether_the_card_is_true(bundle, tmp_path):
    from typer.testing import CliRunner

    file = tmp_path / "verification.json"
    call = ["verify", str(bundle), "-n", "8", "--seed", "3", "--out", str(file)]
    done = CliRunner().invoke(commands, call)
    assert done.exit_code == 0, done.output
    written = json.loads(file.read_text())
    assert written["contradicted"] == 0
    assert written["asked"]["seed"] == 3
    TAMPERINGS["record changed"](bundle)
    assert CliRunner().invoke(commands, call).exit_code == 1
    assert json.loads(file.read_text())["verdict"] == "contradicted: record changed"


def test_other_hardware_is_no_lie(bundle):
    """Verdicts that changed both ways, as other hardware changes them."""

    def elsewhere(run: dict) -> None:
        final = run["results"]["final"]
        each = final["per_question"]
        for wanted in (0.0, 1.0):
            for i in [i for i, value in enumerate(each) if value != wanted][:4]:
                each[i], final["answers"][i] = wanted, "0" * 8

    republished(bundle, elsewhere)
    found = check(bundle, full=True)
    assert found.contradicted == []
    assert by_name(found)["accuracy"] == NOISE


def test_lengths_and_entropies_of_other_hardware_are_no_lie_and_means_alone_are_tested(bundle):
    """A few answers that are longer and a few that are shorter; then only means, and means that are wrong."""

    def elsewhere(run: dict) -> None:
        final = run["results"]["final"]
        for i, step in zip(range(0, 96, 12), (-3, 3) * 4):
            final["lengths"][i] += step
        final["mean_length"], final["median_length"] = fmean(final["lengths"]), median(final["lengths"])
        weighted = [h * n for h, n in zip(final["entropies"], final["lengths"])]
        final["mean_entropy"] = sum(weighted) / sum(final["lengths"])

    def means(run: dict) -> None:
        final = run["results"]["final"]
        final["lengths"] = final["entropies"] = []
        final["mean_length"] *= 1.5
        final["pivot_entropy"] *= 0.6

    republished(bundle, elsewhere)
    found = check(bundle, full=True)
    assert found.contradicted == []
    assert by_name(found)["answer length"] == by_name(found)["entropy"] == NOISE
    republished(bundle, means)
    found = check(bundle, full=True)
    assert {claim.kind for claim in found.contradicted} == {LENGTH, ENTROPY}
    assert by_name(found)["entropy at pivots"] == by_name(found)["answer length"] == UNTRUE


def test_swaps_that_cannot_be_made_again_are_said_to_be_so(bundle):
    republished(bundle, lambda run: run["transplant"].update(task="builtin:expressions?operands=3"))
    found = check(bundle, n=8)
    assert found.contradicted == []
    assert "not the task of the run" in next(c.detail for c in found.claims if c.name == "swaps")
    republished(bundle, lambda run: run["transplant"].update(correct=["0", "1"]))
    assert "record changed" in check(bundle, n=8).verdict
