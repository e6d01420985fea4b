"""The recipes and `--dry-run`: every file in examples/recipes parses and trains one step, offline."""

from __future__ import annotations

import json
import shutil
import socket
import sys
from pathlib import Path

import pytest
import yaml

RECIPES = Path(__file__).parents[2] / "examples" / "recipes"
TRAININGS = sorted(p for p in RECIPES.glob("*.yaml") if "model" in yaml.safe_load(p.read_text()))


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """`erpo-hub train ...` in this process and in an empty folder: its exit code (0: it came back)."""
    from erpo_hub.cli.main import main

    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["erpo-hub", "train", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        return caught.value.code or 0

    return run


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self, address) -> None:
        if self.family != socket.AF_UNIX:
            raise AssertionError(f"the dry run connects to {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_there_are_recipes_for_one_gpu_and_for_eight() -> None:
    names = [path.stem for path in TRAININGS]
    assert names == ["gsm8k_qwen2.5_0.5b", "gsm8k_qwen2.5_1.5b", "math_qwen2.5_7b"]


@pytest.mark.parametrize("recipe", TRAININGS, ids=lambda path: path.stem)
@pytest.mark.usefixtures("offline")
def test_every_recipe_passes_the_dry_run(train, recipe: Path, capsys: pytest.CaptureFixture) -> None:
    assert train("--config", str(recipe), "--dry-run") == 0
    out = capsys.readouterr().out
    assert "dry run: it works so far" in out
    assert "a random qwen2" in out
    eight = "accelerate" in yaml.safe_load(recipe.read_text())
    assert ("fsdp2.yaml, FSDP 2, 8 processes" if eight else "launch: one process") in out
    assert ("512 completions a generation" if eight else "256 completions a generation") in out
    assert "use_vllm" in out.splitlines()[-1]
    assert not list(Path.cwd().iterdir())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("learning_rat: 1e-6", "unknown key 'learning_rat'; did you mean 'learning_rate'?"),
        ("learning_rate: much", "invalid float value: 'much'"),
        ("plain: bare", "plain: 'bare' is not true or false"),
        ("eval_questions: many", "eval_questions: 'many' is not a whole number"),
        ("accelerate: fsdp3.yaml", "'fsdp3.yaml' is not there"),
        ("accelerate: broken.yaml", "broken.yaml is not a file that accelerate takes"),
        ("algorithm: erpoo", "unknown algorithm 'erpoo'"),
        ("progress_eta: -1", "progress_eta=-1.0"),
        ("dataset: openai/gsm8k?confg=main", "unknown option 'confg'; did you mean 'config'?"),
        ("model: some/mystery", "cannot tell the architecture of 'some/mystery'"),
        ("num_generations: 7", "num_generations"),
    ],
)
def test_a_mistake_in_a_recipe_is_one_line(train, tmp_path: Path, capsys, line: str, message: str) -> None:
    (tmp_path / "broken.yaml").write_text("num_processes: 8\n")
    recipe = tmp_path / "recipe.yaml"
    key = line.partition(":")[0]
    kept = [old for old in TRAININGS[0].read_text().splitlines() if not old.startswith((f"{key}:", "#"))]
    recipe.write_text("\n".join([*kept, line]))
    assert train("--config", str(recipe), "--dry-run") == 2
    lines = [text for text in capsys.readouterr().err.splitlines() if text.strip()]
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    assert message in lines[0]


def test_groups_must_be_whole_over_all_processes(train, tmp_path: Path, capsys) -> None:
    shutil.copy(RECIPES / "fsdp2.yaml", tmp_path)
    text = (RECIPES / "math_qwen2.5_7b.yaml").read_text()
    text = text.replace("num_generations: 8", "num_generations: 16").replace(
        "batch_size: 8", "batch_size: 16"
    )
    (tmp_path / "recipe.yaml").write_text(text.replace("accumulation_steps: 8", "accumulation_steps: 1"))
    launch = yaml.safe_load((tmp_path / "fsdp2.yaml").read_text()) | {"num_processes": 3}
    (tmp_path / "fsdp2.yaml").write_text(yaml.safe_dump(launch))
    assert train("--config", str(tmp_path / "recipe.yaml"), "--dry-run") == 0
    assert "48 completions a generation in groups of 16" in capsys.readouterr().out


def test_a_recipe_for_eight_processes_is_not_started_in_one(train, capsys, monkeypatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert train("--config", str(RECIPES / "math_qwen2.5_7b.yaml")) == 2
    error = capsys.readouterr().err
    assert "is for 8 processes and this is 1: start it with `accelerate launch --config_file" in error


@pytest.mark.usefixtures("offline")
def test_flags_win_over_the_recipe_and_lora_is_tried_too(train, capsys) -> None:
    recipe = str(TRAININGS[0])
    flags = ["--per_device_train_batch_size", "8", "--gradient_accumulation_steps=1", "--lora-r", "2"]
    assert train("--config", recipe, "--dry-run", "--algorithm", "ep-grpo", *flags) == 0
    out = capsys.readouterr().out
    assert "algorithm ep-grpo" in out
    assert "batch: 8 completions" in out
    assert train("Qwen/Qwen3-0.6B", "--config", recipe, "--dry-run", *flags) == 0
    found = capsys.readouterr().out
    assert "random qwen3" in found
    assert "prompts: through the chat template" in found


@pytest.mark.usefixtures("offline")
def test_plain_stands_in_a_recipe_and_the_dry_run_says_it(train, tmp_path: Path, capsys) -> None:
    (tmp_path / "rows.jsonl").write_text(
        "".join(f'{{"prompt": "{i}+1=", "answer": {i + 1}}}\n' for i in range(9))
    )
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"model: Qwen/Qwen3-0.6B\ndataset: {tmp_path / 'rows.jsonl'}\nplain: true\n")
    assert train("--config", str(recipe), "--dry-run", "--per_device_train_batch_size", "8") == 0
    assert "prompts: plain text" in capsys.readouterr().out


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "llama", "mistral"])
def test_the_stand_in_has_the_architecture(family: str, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    from erpo_hub.run.dry_run import FAMILIES, architecture, save_stand_in

    assert family in FAMILIES.values()
    save_stand_in(family, tmp_path)
    assert architecture(str(tmp_path)) == json.loads((tmp_path / "config.json").read_text())["model_type"]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "2+2?"}], tokenize=False, add_generation_prompt=True
    )
    assert text == "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_questions_in_place_of_a_dataset_go_its_own_way() -> None:
    from erpo_hub.run.dry_run import stand_in_task

    gsm8k = stand_in_task("openai/gsm8k?chat=true&system=Be brief.&append= Box it.")
    assert gsm8k.train[0]["answer"] == "7"
    assert gsm8k.train[0]["solution"].endswith("#### 7")
    assert [message["role"] for message in gsm8k.train[0]["prompt"]] == ["system", "user"]
    assert gsm8k.train[0]["prompt"][1]["content"].endswith(" Box it.")
    math = stand_in_task("a/math?prompt=problem&answer=solution")
    assert math.train[0]["answer"] == "7"
    assert math.train[0]["solution"].endswith("\\boxed{7}")
    assert len(stand_in_task("builtin:expressions?operands=2").train) == 8
