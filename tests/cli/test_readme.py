"""The README's Python runs, and its commands have flags and files that exist."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SMALL = {"per_device_train_batch_size": 8, "num_generations": 4, "max_completion_length": 8, "bf16": False}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def block(needle: str) -> str:
    (found,) = [text for text in blocks("python") if needle in text]
    return found


def test_train_and_push_runs_as_written(tmp_path, monkeypatch, capsys) -> None:
    """On the embedded model and task, two steps, not pushed: the call itself is the README's."""
    import erpo_hub

    real = erpo_hub.train_and_push

    def small(model, dataset, repo_id, *, max_steps, learning_rate):
        assert (model, dataset, repo_id) == (
            "Qwen/Qwen2.5-0.5B-Instruct",
            "openai/gsm8k",
            "me/qwen2.5-0.5b-erpo",
        )
        return real(
            "builtin:tiny-reasoner", "builtin:expressions", max_steps=2, learning_rate=learning_rate,
            push=False, output_dir=tmp_path / "run", evaluation={"n": 4}, **SMALL,
        )  # fmt: skip

    monkeypatch.setitem(erpo_hub.__dict__, "train_and_push", small)
    exec(block("train_and_push"), {})  # noqa: S102
    assert re.search(r"^[\d.]+ None$", capsys.readouterr().out, flags=re.MULTILINE)


def test_the_two_changed_names_make_a_trainer(tmp_path, monkeypatch) -> None:
    from erpo_hub import load_task
    from erpo_hub.traces.loading import resolve_model

    monkeypatch.chdir(tmp_path)
    text = block("ERPOTrainer(").replace('"Qwen/Qwen2.5-0.5B-Instruct"', "model")
    text = text.replace('ERPOConfig("out")', 'ERPOConfig("out", **small)')
    task = load_task("builtin:expressions", train_size=8, test_size=2)
    names = {
        "model": resolve_model("builtin:tiny-reasoner"),
        "reward": lambda completions, **_: [0.0] * len(completions),
        "dataset": task.train,
        "small": SMALL | {"max_steps": 1, "report_to": "none"},
    }
    exec(text, names)  # noqa: S102
    names["trainer"].train()
    assert names["trainer"].state.global_step == 1


COMMANDS = [
    shlex.split(line, comments=True)
    for text in blocks("bash")
    for line in text.splitlines()
    if line.startswith("erpo-hub ")
]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words[1:3]))
def test_a_command_has_the_flags_it_is_shown_with(words: list[str]) -> None:
    own = words[: words.index("--")] if "--" in words else words
    command = [sys.executable, "-m", "erpo_hub.cli", own[1], "--help"]
    said = subprocess.run(command, capture_output=True, text=True, env=_wide()).stdout
    for flag in (word for word in own if re.fullmatch(r"--?[a-z][a-z-]*", word)):
        assert flag in said or flag.replace("-", "_") in said.replace("-", "_"), f"{flag} of {' '.join(own)}"


def _wide() -> dict[str, str]:
    return os.environ | {"COLUMNS": "200", "NO_COLOR": "1"}


def test_every_file_that_it_links_to_is_there() -> None:
    for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)|(?:src|srcset)=\"([^\"]+)\"", README):
        path = next(filter(None, target))
        assert (ROOT / path).exists(), path
