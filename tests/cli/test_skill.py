# ruff: noqa: F811 (pytest fixtures are imported by name)
"""SKILL.md: its front matter is what skill readers want, and its five commands do what it says, in order."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from erpo_hub.cli.main import app
from tests.hub_server.fixtures import hub  # noqa: F401

SKILL = Path(__file__).parents[2] / "skills" / "erpo-hub" / "SKILL.md"
TEXT = SKILL.read_text(encoding="utf-8")
COMMANDS = re.findall(r"^```bash\n(erpo-hub .*?)\n```", TEXT, flags=re.MULTILINE | re.DOTALL)
SMALL = {"100": "1", "400": "4", "NAME/MODEL": "alice/mine"}  # as little as shows that it works


def test_the_layout_is_a_skills() -> None:
    front = yaml.safe_load(TEXT.split("---\n")[1])
    assert front["name"] == SKILL.parent.name
    assert 20 < len(front["description"]) <= 1024
    assert [command.split()[1] for command in COMMANDS] == ["train", "evaluate", "trace", "push", "push"]


def test_its_commands_train_judge_inspect_and_publish(hub, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    monkeypatch.setenv("ERPO_HUB_DEBUG", "1")  # leaves this process's logging as it is
    said = []
    for command in COMMANDS:
        arguments = [SMALL.get(word, word) for word in shlex.split(command)[1:]]
        if arguments[0] == "train":
            arguments += ["--per-device-train-batch-size", "8", "--max-completion-length", "16"]
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, (command, done.output, done.exception)
        said.append(done.output)
    assert "accuracy" in said[0]
    assert Path("runs/mine/judged/results.json").is_file()
    assert "<html" in Path("runs/mine/trace.html").read_text().lower()
    assert "can be published" in said[3]
    assert len(hub.commits("alice/mine")) == 1
