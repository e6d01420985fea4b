"""`erpo-hub decode`, run inside this process."""

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from erpo_hub.cli.main import app, main
from erpo_hub.publish.bundle import build_bundle
from erpo_hub.publish.check import check_bundle
from erpo_hub.traces.loading import resolve_model
from tests.hub_server.sample_run import example_run

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


def test_the_figure_goes_onto_the_card_of_the_judged_bundle(tmp_path):
    files = Path(str(resolve_model(MODEL)))
    made = build_bundle(example_run(), files, tmp_path / "bundle", figures=False).folder
    arguments = ["decode", str(made), TASK, "-n", "8", "--strategies", "greedy,beam:2", "--card"]
    for _ in range(2):  # a second time replaces it
        done = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert done.exit_code == 0
    assert (made / "README.md").read_text().count("](figures/decode.png)") == 1
    assert check_bundle(made) == []
    picture, mine = made / "figures" / "decode.png", tmp_path / "mine.txt"
    mine.write_text("mine")
    picture.unlink()
    picture.symlink_to(mine)  # a stranger's bundle: is replaced, not written through
    CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert mine.read_text() == "mine"
    assert check_bundle(made) == []
    (made / "figures").rename(made / "old")
    (made / "figures").symlink_to(made / "old")
    refused = CliRunner().invoke(app, arguments)
    assert "figures is a link or a file" in str(refused.exception)
    assert refused.output == ""  # before the study


def test_only_a_bundle_has_a_card(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["erpo-hub", "decode", MODEL, TASK, "--card"])
    with pytest.raises(SystemExit):
        main()
    assert "\n" not in capsys.readouterr().err.strip()
