"""`~name` of nobody: one line from every reader of a path, be it typed or named by a record."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from erpo_hub.cli.main import app
from erpo_hub.errors import UserError
from erpo_hub.tasks.specs import names_a_file, parse_spec

TASK = "builtin:expressions?operands=2"


@pytest.mark.parametrize(
    "command",
    [
        ["evaluate", "~nosuchuser/x", TASK],
        ["evaluate", "builtin:tiny-reasoner", "~nosuchuser/x.jsonl"],
        ["trace", "~nosuchuser/x", "1+1="],
        ["train", "~nosuchuser/x", TASK],
        ["verify", "~nosuchuser/x"],
        ["average", "builtin:tiny-reasoner", "~nosuchuser/x", "--alpha", "0.5", "--out", "o"],
    ],
)
def test_a_home_folder_of_nobody_is_one_line(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, command)
    assert isinstance(done.exception, UserError)
    assert "there is no such user" in str(done.exception)


def test_it_counts_as_a_file():
    with pytest.raises(UserError, match="no such user"):
        parse_spec("~nosuchuser/x.jsonl")
    assert names_a_file("~nosuchuser/x")
