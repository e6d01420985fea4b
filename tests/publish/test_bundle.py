"""The bundle: what goes in, what must not, and that a kill or a full disk leaves no half of one."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import pytest
from datasets import Dataset
from training import digits_reward

from erpo_hub import train_and_push
from erpo_hub.errors import UserError
from erpo_hub.publish import bundle as bundle_module
from erpo_hub.publish.bundle import add_figure, build_bundle, publishable_run
from erpo_hub.publish.check import check_bundle
from erpo_hub.record.format import Figure
from erpo_hub.traces.trace import Trace
from tests.hub_server.sample_run import example_run, example_trace, fake_weights, write_safetensors

ROOT = Path(__file__).parents[2]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return fake_weights(tmp_path / "weights")


@pytest.fixture
def bundle(tmp_path: Path, weights: Path) -> Path:
    return build_bundle(
        example_run(), weights, tmp_path / "bundle", traces=[example_trace()], figures=False
    ).folder


def names(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_a_bundle_is_complete_and_holds_nothing_else(tmp_path, weights):
    made = build_bundle(
        example_run(), weights, tmp_path / "out" / "bundle", traces=[example_trace()] * 10
    ).folder
    expected = {"README.md", "run.json", "model.safetensors", "config.json", "generation_config.json"}
    expected |= {
        "tokenizer.json",
        "tokenizer_config.json",
        "figures/accuracy.png",
        "figures/training.png",
        "figures/trace-entropy.png",
    }
    expected |= {"traces/traces.parquet", *(f"traces/{i:04d}.json" for i in range(1, 9))}
    assert names(made) == expected
    assert check_bundle(made) == []
    assert os.listdir(made.parent) == ["bundle"]


def test_its_traces_and_record_can_be_read_again(bundle):
    assert Trace.from_json(bundle / "traces/0001.json") == example_trace()
    assert Trace.from_parquet(bundle / "traces/traces.parquet") == [example_trace()]
    run = json.loads((bundle / "run.json").read_text())
    assert run["traces"][0]["file"] == "traces/0001.json"
    assert run["traces"][0]["completion"]["pivots"] == [0, 6]


def test_no_path_of_this_machine_gets_in(bundle, weights):
    assert json.loads((bundle / "config.json").read_text())["_name_or_path"] == "builtin:tiny-reasoner"
    assert (
        json.loads((bundle / "tokenizer_config.json").read_text())["name_or_path"] == "builtin:tiny-reasoner"
    )
    for path in bundle.rglob("*"):
        assert not path.is_file() or str(weights).encode() not in path.read_bytes()


def test_paths_in_the_record_keep_their_last_part(tmp_path):
    run = example_run(base_model=example_run()["base_model"] | {"id": str(tmp_path / "models" / "mine")})
    run["arguments"]["all"] |= {"output_dir": str(tmp_path / "erpo"), "logging_dir": "C:\\Users\\ann\\logs"}
    public = publishable_run(run)
    assert public.base_model.id == "mine"
    assert public.arguments.all["output_dir"] == "erpo"
    assert public.arguments.all["logging_dir"] == "logs"
    assert run["arguments"]["all"]["output_dir"] == str(tmp_path / "erpo"), (
        "the caller's record is left alone"
    )


def test_the_adapters_local_base_becomes_its_id(tmp_path, weights):
    (weights / "model.safetensors").rename(weights / "adapter_model.safetensors")
    (weights / "config.json").unlink()
    config = {"peft_type": "LORA", "base_model_name_or_path": str(weights)}
    (weights / "adapter_config.json").write_text(json.dumps(config))
    run = example_run(adapter={"type": "LORA", "r": 16})
    run["base_model"] |= {
        "id": "Qwen/Qwen3-0.6B",
        "source": "hub",
        "revision": "c1899de289a04d12100db370d81485cdf75e47ca",
    }
    made = build_bundle(run, weights, tmp_path / "bundle", figures=False).folder
    assert (
        json.loads((made / "adapter_config.json").read_text())["base_model_name_or_path"] == "Qwen/Qwen3-0.6B"
    )
    card = (made / "README.md").read_text()
    assert "base_model_relation: adapter" in card
    assert "library_name: peft" in card


TOKEN = "hf_" + "Q" * 34


def test_a_bundle_that_fails_its_own_check_is_not_left_behind(tmp_path, weights):
    (weights / "vocab.txt").write_text(TOKEN)
    with pytest.raises(UserError, match=r"can't be published: vocab.txt:1: holds a Hugging Face access"):
        build_bundle(example_run(), weights, tmp_path / "bundle", figures=False)
    assert sorted(os.listdir(tmp_path)) == ["weights"]


def test_a_run_on_questions_about_paths_ends_in_a_bundle(tiny_model, tmp_path):
    folder = tempfile.gettempdir()
    rows = [{"prompt": f"cat {folder}/file{i}.txt; cd /home/user/a", "answer": str(i)} for i in range(24)]
    bundle = train_and_push(
        tiny_model,
        Dataset.from_list(rows),
        reward_funcs=digits_reward,
        push=False,
        output_dir=tmp_path / "run",
        evaluation={"n": 4},
        max_steps=1,
        per_device_train_batch_size=4,
        num_generations=4,
        max_completion_length=8,
        gradient_checkpointing=False,
        log_completions=True,
    ).bundle_dir
    assert f"{folder}/file" in (bundle / "README.md").read_text()
    assert list((bundle / "traces" / "groups").iterdir())
    assert check_bundle(bundle) == []


# --- accidents ---


def fails(*args, **kwargs):
    raise ValueError("a bug")


def test_a_card_that_fails_does_not_lose_the_run(tmp_path, weights, monkeypatch):
    monkeypatch.setattr(bundle_module, "render_card", fails)
    with pytest.warns(UserWarning, match="the card could not be rendered"):
        made = build_bundle(example_run(), weights, tmp_path / "bundle", figures=False).folder
    assert check_bundle(made) == []
    assert "could not be rendered" in (made / "README.md").read_text()


def test_a_figure_that_fails_does_not_lose_the_run(tmp_path, weights, monkeypatch):
    from erpo_hub.card import plots

    monkeypatch.setattr(plots, "training_curves", fails)
    with pytest.warns(UserWarning, match="a figure could not be drawn"):
        made = build_bundle(example_run(), weights, tmp_path / "bundle").folder
    assert check_bundle(made) == []


def test_what_is_not_a_run_record_is_not_bundled(tmp_path, weights):
    with pytest.raises(UserError, match="results.final.accuracy is not a number"):
        build_bundle(example_run(results={"final": {"accuracy": "a word"}}), weights, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_a_full_disk_leaves_the_old_bundle_and_nothing_half_built(bundle, weights, monkeypatch):
    before = {name: (bundle / name).read_bytes() for name in names(bundle)}

    def full(source, target):
        Path(target).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(bundle_module.shutil, "copyfile", full)
    with pytest.raises(UserError, match="disk full while building"):
        build_bundle(example_run(seed=1), weights, bundle, figures=False)
    assert {name: (bundle / name).read_bytes() for name in names(bundle)} == before
    assert sorted(os.listdir(bundle.parent)) == ["bundle", "weights"]


@pytest.mark.parametrize("full", ["card", "record"])
def test_a_full_disk_leaves_card_and_record_as_they_were(bundle, monkeypatch, full):
    own = (bundle / "README.md").read_text() + "\nMy own words.\n"
    (bundle / "README.md").write_text(own)
    picture = bundle / "figures" / "decoding.png"
    picture.parent.mkdir(exist_ok=True)
    picture.write_bytes(b"a picture")
    before, write = (bundle / "run.json").read_bytes(), Path.write_text
    name = "README.md" if full == "card" else "run.json"

    def filled(self: Path, text: str, **options: str) -> int:
        if name in self.name:
            write(self, text[:100], **options)
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, text, **options)

    monkeypatch.setattr(Path, "write_text", filled)
    figure = Figure("decoding", "figures/decoding.png", "a picture", "A picture.")
    with pytest.raises(OSError, match="No space left"):
        add_figure(bundle, figure)
    monkeypatch.undo()
    assert (bundle / "README.md").read_text() == own
    assert (bundle / "run.json").read_bytes() == before
    assert not list(bundle.glob(".*partial*"))
    elsewhere = bundle.parent / "elsewhere.md"
    elsewhere.write_text(own)
    (bundle / "README.md").unlink()
    (bundle / "README.md").symlink_to(elsewhere)  # is not written through
    add_figure(bundle, figure)
    assert "My own words." in (bundle / "README.md").read_text()
    assert elsewhere.read_text() == own


@pytest.mark.parametrize("step", ["_copy_weights", "_write_texts", "_move_into_place"])
def test_a_killed_build_leaves_the_old_bundle_and_the_next_build_cleans_up(bundle, weights, tmp_path, step):
    before = (bundle / "run.json").read_bytes()
    program = f"""
        import time
        from erpo_hub.publish import bundle
        from tests.hub_server.sample_run import example_run
        def stop(*args):
            print("here", flush=True)
            time.sleep(60)
        bundle.{step} = stop
        bundle.build_bundle(example_run(seed=1), {str(weights)!r}, {str(bundle)!r}, figures=False)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (bundle / "run.json").read_bytes() == before
    assert len(os.listdir(tmp_path)) == 3, "the half-built folder is still there"
    build_bundle(example_run(seed=1), weights, bundle, figures=False)
    assert json.loads((bundle / "run.json").read_text())["seed"] == 1
    assert sorted(os.listdir(tmp_path)) == ["bundle", "weights"]


def test_a_kill_between_the_two_renames_is_healed(bundle, weights):
    old = bundle.with_name(".bundle.old")
    bundle.rename(old)
    bundle_module.clean_leftovers(bundle)
    assert check_bundle(bundle) == []
    assert not old.exists()


def test_a_build_beside_a_running_one_leaves_it_alone(bundle, weights):
    other = bundle.with_name(f".bundle.building-{os.getppid()}")
    other.mkdir()
    bundle_module.clean_leftovers(bundle)
    assert other.exists()


@pytest.mark.parametrize("content", ["notes.txt", "model.safetensors"])
def test_another_folder_at_the_place_is_refused(tmp_path, weights, content):
    place = tmp_path / "mine"
    place.mkdir()
    (place / content).write_text("mine")
    with pytest.raises(UserError, match="exists and is not a bundle"):
        build_bundle(example_run(), weights, place)
    assert os.listdir(place) == [content]


def test_weights_without_safetensors_are_refused(tmp_path):
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(UserError, match=r"contains no \*.safetensors"):
        build_bundle(example_run(), tmp_path / "weights", tmp_path / "bundle")


def test_publishing_loads_no_torch(tmp_path, weights):
    out = str(tmp_path / "b")
    program = f"""
        import sys
        from erpo_hub.publish import bundle, hub, job, space, traces_dataset
        from erpo_hub.card import card
        from tests.hub_server.sample_run import example_run, example_trace
        bundle.build_bundle(example_run(), {str(weights)!r}, {out!r}, traces=[example_trace()])
        assert not {{"torch", "transformers", "trl"}} & set(sys.modules)
    """
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], cwd=ROOT, check=True)
    assert time.perf_counter() - start < 60


def test_sharded_weights_are_copied_with_their_index(tmp_path, weights):
    (weights / "model.safetensors").unlink()
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    for name, shard in zip("ab", shards):
        write_safetensors(weights / shard, b"x", name)
    index = {"metadata": {}, "weight_map": {"a": shards[0], "b": shards[1]}}
    (weights / "model.safetensors.index.json").write_text(json.dumps(index))
    made = build_bundle(example_run(), weights, tmp_path / "bundle", figures=False).folder
    assert {*shards, "model.safetensors.index.json"} <= names(made)
