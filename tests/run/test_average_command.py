"""Weights between base and trained model: made of a real run, judged on its questions, published with a card
that holds."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from tampering import SHORT
from typer.testing import CliRunner

from erpo_hub import average, train_and_push, verify
from erpo_hub.cli.main import app
from erpo_hub.errors import UsageError, UserError
from erpo_hub.publish.check import check_bundle
from erpo_hub.record.format import PairedRun, read_record
from erpo_hub.run import averaging
from erpo_hub.traces.loading import load
from erpo_hub.verification.claims import NOISE, REPRODUCED, UNKNOWN

BASE, TASK = "builtin:tiny-reasoner", "builtin:expressions?operands=4"
QUESTIONS = {"evaluation": {"n": 48}, "learning_rate": 2e-3, **SHORT}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return train_and_push(
        BASE, TASK, output_dir=tmp_path_factory.mktemp("a") / "erpo", **QUESTIONS
    ).bundle_dir.parent


@pytest.fixture(scope="module")
def lora_run(tmp_path_factory) -> Path:
    lora = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    folder = tmp_path_factory.mktemp("a") / "lora"
    settings = QUESTIONS | {"learning_rate": 1e-2, "peft_config": lora}
    return train_and_push(BASE, TASK, output_dir=folder, **settings).bundle_dir.parent


@pytest.fixture(scope="module")
def averaged(run: Path) -> Path:
    out = run.with_name("averaged")
    assert average(BASE, run, alpha=0.75, out=out, progress=False) is not None
    return out


def weights(folder: str | Path, adapter: Path | None = None) -> dict[str, torch.Tensor]:
    return dict(load(folder, adapter=adapter)[0].named_parameters())


def test_every_weight_lies_so_far_between_base_and_trained(run, averaged):
    before, after, between = weights(BASE), weights(run / "bundle"), weights(averaged / "bundle")
    assert before.keys() == between.keys()
    assert any((before[name] != after[name]).any() for name in before)
    for name, value in between.items():
        torch.testing.assert_close(value, 0.25 * before[name] + 0.75 * after[name])


def test_the_record_has_both_results_and_the_card_says_it(run, averaged):
    trained, record = read_record(run), read_record(averaged / "bundle")
    assert record.status == read_record(averaged).status == "finished"
    assert record.averaged.alpha == 0.75
    assert record.averaged.trained == trained.results.final
    assert record.results.baseline == trained.results.baseline
    assert record.results.final.weights not in (None, trained.results.final.weights)
    gained = record.results.final.accuracy - trained.results.final.accuracy
    assert record.averaged.comparison.difference == pytest.approx(gained)
    card = (averaged / "bundle" / "README.md").read_text()
    assert "The weights are **averaged**: 75.0\u00a0% of the way from the base" in card
    assert "| Before averaging |" in card
    assert "Against the weights before averaging: **" in card
    assert "if it was chosen on these questions" in card
    assert "The last checkpoint was averaged and evaluated" in card
    assert check_bundle(averaged / "bundle") == []


@pytest.mark.parametrize("kind", ["averaged", "lora"])
def test_verify_finds_the_card_true(kind, request, tmp_path):
    if kind == "lora":
        average(BASE, request.getfixturevalue("lora_run"), alpha=0.5, out=tmp_path / "out", progress=False)
    folder = request.getfixturevalue("averaged") if kind == "averaged" else tmp_path / "out"
    found = verify(folder / "bundle", full=True, progress=False)
    assert not found.contradicted
    told = {claim.name.partition(" (")[0]: claim.status for claim in found.claims}
    assert told["accuracy"] in (REPRODUCED, NOISE)
    assert told["weights"] == told["record"] == told["card"] == told["questions"] == REPRODUCED
    assert told["before averaging"] == UNKNOWN


def test_a_result_of_before_that_does_not_add_up_is_told(averaged, tmp_path):
    bundle = Path(shutil.copytree(averaged / "bundle", tmp_path / "bundle"))
    data = json.loads((bundle / "run.json").read_text())
    data["averaged"]["comparison"]["difference"] += 0.2
    data["averaged"]["trained"]["accuracy"] = 0.01
    (bundle / "run.json").write_text(json.dumps(data))
    record = next(c for c in verify(bundle, n=4, progress=False).claims if c.name == "record")
    assert "the weights before averaging" in record.detail
    assert "is not that of its two accuracies" in record.detail


def test_an_adapter_stays_one_and_adds_half_as_much(lora_run, tmp_path):
    record = average(BASE, lora_run, alpha=0.5, out=tmp_path / "out", progress=False)
    assert record.adapter is not None

    def merged(folder: Path) -> dict[str, torch.Tensor]:
        from peft import PeftModel

        model = PeftModel.from_pretrained(load(BASE)[0], str(folder)).merge_and_unload()
        return dict(model.named_parameters())

    before, after, half = weights(BASE), merged(lora_run / "bundle"), merged(tmp_path / "out" / "bundle")
    moved = sum((after[name] - before[name]).abs().sum() for name in before)
    assert moved > 0
    for name, value in half.items():
        torch.testing.assert_close(value, (before[name] + after[name]) / 2, atol=1e-6, rtol=1e-4)


def test_it_goes_on_after_a_stop_with_the_same_result(run, averaged, tmp_path):
    out = Path(shutil.copytree(averaged, tmp_path / "averaged"))
    shutil.rmtree(out / "bundle")
    log = out / "evaluation" / "final.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:9]) + lines[9][:5])  # cut inside a line
    begun = read_record(out)
    begun.status, begun.results.final = "running", None
    averaging.write_record(begun, out)
    again = average(BASE, run, alpha=0.75, out=out, progress=False)
    assert again.results.final == read_record(averaged).results.final
    assert check_bundle(out / "bundle") == []


def test_a_folder_without_a_record_gives_weights_alone(run, tmp_path):
    assert average(BASE, run / "model", alpha=0.5, out=tmp_path / "out", progress=False) is None
    assert {p.name for p in (tmp_path / "out").iterdir()} <= {"model", ".lock"}
    before, after, between = weights(BASE), weights(run / "model"), weights(tmp_path / "out" / "model")
    for name, value in between.items():
        torch.testing.assert_close(value, (before[name] + after[name]) / 2)


# --- what is refused ---


@pytest.mark.parametrize("alpha", [0, 1, -0.5, 1.5, float("nan")])
def test_only_shares_between_the_two(alpha, run, tmp_path):
    with pytest.raises(UsageError, match="between 0 and 1"):
        average(BASE, run, alpha=alpha, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_another_base_is_refused(run, tmp_path):
    with pytest.raises(UserError, match="not the model that training started from: it started from builtin"):
        average(run / "model", run, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_in_use_is_left_alone(run, averaged, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    for out in (tmp_path, run):
        with pytest.raises(UserError, match="not empty: choose another --out"):
            average(BASE, run, out=out)
    with pytest.raises(UserError, match="not empty"):
        average(BASE, run, alpha=0.5, out=averaged)  # begun with another share
    with pytest.raises(UserError, match="averaged already"):
        average(BASE, averaged, out=tmp_path / "new")


def test_an_adapter_that_does_more_than_add_is_refused(lora_run, tmp_path):
    adapter = Path(shutil.copytree(lora_run / "model", tmp_path / "adapter"))
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"use_dora": True}))
    with pytest.raises(UserError, match="merge the adapter into its base"):
        average(BASE, adapter, out=tmp_path / "out")
    for odd in ("[]", '"LORA"', "null"):
        (adapter / "adapter_config.json").write_text(odd)
        with pytest.raises(UserError, match="merge the adapter into its base"):
            average(BASE, adapter, out=tmp_path / "out")
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        (adapter / name).write_bytes(b"\xff nothing")
        with pytest.raises(UserError, match="its adapter can't be read"):
            average(BASE, adapter, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_questions_or_a_grader_that_are_others_keep_the_weights(run, tmp_path):
    other = Path(shutil.copytree(run / "bundle", tmp_path / "bundle"))
    record = read_record(other)
    record.grader.version = "0:of-before"
    averaging.write_record(record, other)
    with pytest.raises(UserError, match=r"out/model, and not judged: .*graded by version 0:of-before"):
        average(BASE, other, out=tmp_path / "out", progress=False)
    assert load(tmp_path / "out" / "model")
    record.grader.version, record.dataset.source = None, "file"
    averaging.write_record(record, other)
    with pytest.raises(UserError, match="from a file or a program of the author's; give them with --task"):
        average(BASE, other, out=tmp_path / "second", progress=False)
    assert average(BASE, other, out=tmp_path / "second", task=TASK, progress=False).results.final.n == 48


def test_a_record_that_asks_too_much_is_not_followed(run, tmp_path):
    other = Path(shutil.copytree(run / "bundle", tmp_path / "bundle"))
    record = read_record(other)
    record.results.final.k = 10**6
    averaging.write_record(record, other)
    with pytest.raises(UserError, match="not judged: its completions are too long or too many"):
        average(BASE, other, out=tmp_path / "out", progress=False)
    record.results.final.k, record.results.question_set = 1, None
    record.dataset.fingerprint = None  # nothing pins the questions
    averaging.write_record(record, other)
    with pytest.raises(UserError, match="not judged: the record has no digest of them"):
        average(BASE, other, out=tmp_path / "second", progress=False)


def test_a_paired_run_is_set_against_the_averaged_weights(run, tmp_path):
    other = Path(shutil.copytree(run / "bundle", tmp_path / "bundle"))
    record = read_record(other)
    twin = copy.deepcopy(record.results.baseline)
    record.paired_run = PairedRun("twin", "grpo", twin)
    averaging.write_record(record, other)
    found = average(BASE, other, out=tmp_path / "out", progress=False)
    assert found.paired_run.comparison == found.results.comparison  # the twin is the base
    record.paired_run.final.per_question = []  # only totals
    averaging.write_record(record, other)
    found = average(BASE, other, out=tmp_path / "totals", progress=False)
    assert found.paired_run.comparison is None
    assert found.averaged.comparison is not None
    record.paired_run.final.per_question = [1e308] * 48  # no scores
    record.results.baseline.per_question = [-1e308] * 48
    averaging.write_record(record, other)
    found = average(BASE, other, out=tmp_path / "huge", progress=False)
    assert found.paired_run.comparison is found.results.comparison is None


def test_an_adapter_goes_on_no_other_base(run, lora_run, tmp_path):
    with pytest.raises(UserError, match="is an adapter of builtin:tiny-reasoner: give that as BASE"):
        average(run / "model", lora_run, out=tmp_path / "out")


def test_an_adapter_of_nobodys_base_is_one_line(lora_run, tmp_path):
    adapter = Path(shutil.copytree(lora_run / "model", tmp_path / "adapter"))
    config = json.loads((adapter / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "~nosuchuser/x"
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="no such user"):
        load(adapter)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.bfloat16])
def test_an_adapter_of_a_narrow_type_keeps_it(lora_run, tmp_path, dtype):
    adapter = Path(shutil.copytree(lora_run / "model", tmp_path / "adapter"))
    held = {k: v.to(dtype) for k, v in load_file(adapter / "adapter_model.safetensors").items()}
    save_file(held, adapter / "adapter_model.safetensors", metadata={"format": "pt"})
    assert average(BASE, adapter, alpha=0.5, out=tmp_path / "out") is None
    made = load_file(tmp_path / "out" / "model" / "adapter_model.safetensors")
    assert made.keys() == held.keys()
    for name, value in made.items():
        expected = held[name].float() * (0.5 if "lora_B" in name else 1)
        assert value.dtype == dtype
        assert torch.equal(value.float(), expected.to(dtype).float())


def test_a_place_or_an_adapter_that_cannot_be_is_one_line(lora_run, tmp_path):
    file, long = tmp_path / "file", "x" * 300
    file.write_text("mine")
    for out in (file / "x", tmp_path / long):
        with pytest.raises(UserError, match="choose another --out"):
            average(BASE, lora_run / "model", out=out)
    (tmp_path / "odd" / ".lock").mkdir(parents=True)
    with pytest.raises(UserError, match="can't be locked .*give another --out"):
        average(BASE, lora_run / "model", out=tmp_path / "odd")
    for base, trained in ((f"./{long}", lora_run / "model"), (BASE, f"./{long}")):
        with pytest.raises(UserError, match="no such folder"):
            average(base, trained, out=tmp_path / "out")
    adapter = Path(shutil.copytree(lora_run / "model", tmp_path / "adapter"))
    (adapter / "tokenizer.json").unlink()
    (adapter / "tokenizer.json").mkdir()
    with pytest.raises(UserError, match="its tokenizer.json is no file"):
        average(BASE, adapter, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert file.read_text() == "mine"


def test_weights_of_another_shape_are_refused(run, tmp_path):
    odd = Path(shutil.copytree(run / "model", tmp_path / "odd"))
    config = json.loads((odd / "config.json").read_text())
    held = load_file(odd / "model.safetensors")
    last = max(int(name.split(".")[2]) for name in held if name.startswith("model.layers."))
    fewer = {name: value for name, value in held.items() if f"layers.{last}." not in name}
    save_file(fewer, odd / "model.safetensors", metadata={"format": "pt"})
    config = {k: v for k, v in config.items() if k != "layer_types"} | {"num_hidden_layers": last}
    (odd / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="not of one shape"):
        average(BASE, odd, out=tmp_path / "out")


def test_the_command_says_what_it_came_to(run, tmp_path):
    out = tmp_path / "out"
    said = CliRunner().invoke(app, ["average", BASE, str(run), "--alpha", "0.5", "--out", str(out)])
    assert said.exit_code == 0, said.output
    assert "against the trained model: " in said.output
    assert "against the base model: " in said.output
    assert f"erpo-hub push {out / 'bundle'} NAME/MODEL" in said.output
    plain = CliRunner().invoke(app, ["average", BASE, str(run / "model"), "--out", str(tmp_path / "weights")])
    assert "has no record, so nothing was judged" in plain.output
