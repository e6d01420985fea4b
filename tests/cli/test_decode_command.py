"""`erpo-hub decode`, run inside this process."""

import json
import sys

import pytest
from typer.testing import CliRunner

from erpo_hub.cli.main import app, main

MODEL, TASK = "builtin:tiny-reasoner", "builtin:expressions?operands=2"


def test_it_prints_the_table_and_writes_figure_and_numbers(tmp_path):
    arguments = ["decode", MODEL, TASK, "-n", "12", "--strategies", "greedy,votes:3", "--out", str(tmp_path)]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    assert "| votes:3 |" in done.output
    assert 'engine.search(prompt, strategy="beam", width=4' in done.output
    data = json.loads((tmp_path / "decode.json").read_text())
    assert data["settings"]["n"] == 12
    assert (tmp_path / "decode.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--strategies", "beam:many"], 2, "beam:many: give strategies with their widths"),
        (["--target", "7"], 2, "target=7.0: give a share"),
        (["-n", "0"], 2, "n=0: give at least 1"),
    ],
)
def test_a_wrong_setting_is_one_line(monkeypatch, capsys, arguments, code, message):
    monkeypatch.setattr(sys, "argv", ["erpo-hub", "decode", MODEL, TASK, *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err.strip()
    assert ended.value.code == code
    assert said.startswith("error: ")
    assert message in said
    assert "\n" not in said
