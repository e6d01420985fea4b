"""The command line as a user meets it: real processes, a real Hub over HTTP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hub_server.fixtures import hub  # noqa: F401
from hub_server.sample_run import example_run
from hub_server.server import ALICE, HubServer

from erpo_hub.cli.flags import parse_flags
from erpo_hub.errors import UsageError

SCRIPT = str(Path(sys.executable).with_name("erpo-hub"))
FAST = [
    *("--max-steps", "2", "--per-device-train-batch-size", "8", "--num-generations", "4"),
    *("--max-completion-length", "8", "--eval-questions", "6"),
]


def cli(*arguments: str, expect: int = 0, **environment: str) -> subprocess.CompletedProcess:
    clean = {k: v for k, v in os.environ.items() if k not in ("HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE")}
    done = subprocess.run(
        [SCRIPT, *arguments], capture_output=True, text=True, timeout=300, env={**clean, **environment}
    )
    assert done.returncode == expect, done.stdout[-2000:] + done.stderr[-3000:]
    return done


@pytest.mark.parametrize(
    "command", ["demo", "train", "evaluate", "compare", "trace", "card", "push", "space", "app", "job"]
)
def test_every_subcommand_has_an_example(command: str) -> None:
    assert "Example" in cli(command, "--help").stdout


def test_flags_cover_both_configs() -> None:
    text = cli("train", "--flags").stdout
    for flag in ("--progress_eta", "--bucket_axis", "--learning_rate", "--loss_type", "--use_vllm"):
        assert flag in text


TRACE = ["trace", "builtin:tiny-reasoner", "1+1="]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("env: [A, B]", "env is not a list of variables"),
        ("env: A=1", "env is not a list of variables"),
        ("env: {1: 2}", "env is not a list of variables"),
        ('env: {"A=B": 2}', "env: 'A=B' can't be set"),
        ('env: {A: "\\0"}', "env: 'A' can't be set"),
        ("learning_rate: 2024-13-45", "can't be read as YAML"),
        ("[" * 5000, "can't be read as YAML"),
    ],
)
def test_a_broken_settings_file_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text(text)
    with pytest.raises(UsageError, match=message):
        parse_flags([], settings)


JUDGE = ["evaluate", "builtin:tiny-reasoner", "builtin:expressions", "-n", "4"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train"], 2, "give a model and a dataset"),
        (["train", "m", "d", "--foo", "3"], 2, "unrecognized arguments: --foo 3"),
        (["train", "m", "d", "--max-steps", "many"], 2, "invalid int value: 'many'"),
        (["train", "m", "d", "--config", "/nope.yaml"], 2, "no such file: /nope.yaml"),
        (
            ["train", "/no/model", "builtin:expressions", "--output-dir", "OUT"],
            1,
            "no such folder: /no/model",
        ),
        (["train", "m", "builtin:expresions", "--output-dir", "OUT"], 2, "expressions"),
        (
            ["train", "m", "builtin:expressions", "--num-generations", "1", "--output-dir", "OUT"],
            2,
            "2 gener",
        ),
        (["train", "m", "builtin:expressions", "--algorithm", "x", "--output-dir", "OUT"], 2, "unknown alg"),
        (["train", "m", "builtin:expressions", "--push-to", "a b"], 2, "a b"),
        (["train", "m", "builtin:expressions", "--lora-r", "0"], 2, "--lora-r 0"),
        (["card", "/nowhere"], 1, "/nowhere"),
        (["push", "/nowhere", "me/model"], 1, "/nowhere"),
        (["push", "/nowhere", "--check-only"], 1, "/nowhere"),
        (["evaluate", "/no/model", "builtin:expressions"], 1, "/no/model"),
        (["compare", "--presets", "nope", "--out", "OUT"], 2, "nope"),
        (["compare", "--presets", "", "--out", "OUT"], 2, "the argument after `compare --presets` is empty"),
        (["push", "", "--check-only"], 2, "the argument after `erpo-hub push` is empty"),
        (["push", "/nowhere", "a b", "--check-only"], 2, "'a b' is not a repository name"),
        (["push", "/nowhere", "--space", "a b", "--check-only"], 2, "'a b' is not a repository name"),
        (["space", "me/s", "me/m", "--package", "no.whl", "--dry-run", "OUT"], 1, "no.whl: no such wheel"),
        (["space", "me/s", "me/m", "me/m", "--dry-run", "OUT"], 2, "me/m is named twice"),
        (
            ["space", "me/s", "me/m", "--variable", "a b=c", "--dry-run", "OUT"],
            2,
            "--variable a b: write NAME",
        ),
        ([*TRACE, "--seed", "9" * 30], 2, "give a number that is whole and below 2^63"),
        ([*TRACE, "--temperature", "1e-300"], 2, "0 (greedy), or from 1e-06 to 100"),
        ([*TRACE, "--revision", "v1"], 1, "revision='v1': only a model on the Hub has revisions"),
        ([*TRACE, "--png", "curve.doc"], 1, "--png curve.doc: give a name that ends in .png"),
        ([*TRACE, "--json", "."], 1, "--json .: is a folder; give a file"),
        ([*TRACE, "-n", "2", "--parquet", "."], 1, "--parquet .: is a folder; give a file"),
        ([*JUDGE, "--temperature", "1e-300"], 2, "temperature=1e-300: give 0 (greedy)"),
        ([*JUDGE, "--shaping", '{"top_k": 2.5}'], 2, "shaping: top_k=2.5: give numbers"),
        ([*JUDGE, "--shaping", "5"], 2, "--shaping 5: give an object such as"),
        pytest.param(
            [*JUDGE, "--chat-template-kwargs", "[" * 90_000], 2, "is not JSON (nested too deeply)", id="deep"
        ),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path, monkeypatch, capsys, arguments: list[str], code: int, message: str
) -> None:
    """In this process: the libraries behind the command are loaded once."""
    from erpo_hub.cli.main import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    arguments = [str(tmp_path / "out") if a == "OUT" else a for a in arguments]
    monkeypatch.setattr(sys, "argv", ["erpo-hub", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == code
    lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    assert message in lines[0]
    assert len(lines[0]) < 1000
    assert not list(tmp_path.iterdir())


def test_a_terminal_without_a_sign_gets_it_spelled_out(tmp_path: Path) -> None:
    """A card has joiners that Windows' code pages lack."""
    (tmp_path / "run.json").write_text(json.dumps(example_run()))
    card = cli("card", str(tmp_path), PYTHONIOENCODING="utf-8").stdout
    assert any(ord(sign) > 255 for sign in card)
    spelled = card.encode("cp1252", errors="backslashreplace").decode("cp1252")
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    done = subprocess.run([SCRIPT, "card", str(tmp_path)], capture_output=True, env=environment, timeout=300)
    assert (done.returncode, done.stdout.decode("cp1252").splitlines()) == (0, spelled.splitlines())


def test_debug_shows_the_traceback() -> None:
    assert "Traceback" in cli("--debug", "card", "/nowhere", expect=1).stderr


def test_yaml_and_flags(tiny_model: str, tmp_path: Path) -> None:
    settings = tmp_path / "erpo.yaml"
    settings.write_text("learning_rate: 0.003\nprogress_eta: 0.5\nenv:\n  SOME_VARIABLE: '1'\n")
    folder = tmp_path / "run"
    cli(
        *("train", tiny_model, "builtin:expressions?operands=2", "--config", str(settings)),
        *("--progress_eta", "0.7", "--output-dir", str(folder), "--lora-r", "2", *FAST),
    )
    record = json.loads((folder / "run.json").read_text())
    assert record["arguments"]["changed"]["learning_rate"] == 0.003
    assert record["settings"]["progress_eta"] == 0.7
    assert record["adapter"]["r"] == 2
    settings.write_text("learning_rat: 0.003\n")
    assert "unknown key 'learning_rat'" in cli("train", "m", "d", "--config", str(settings), expect=2).stderr


def test_train_and_push_is_one_commit(hub: HubServer, tiny_model: str, tmp_path: Path) -> None:  # noqa: F811
    folder = tmp_path / "run"
    done = cli(
        *("train", tiny_model, "builtin:expressions?operands=2", "--output-dir", str(folder)),
        *("--push-to", "alice/erpo-test", *FAST),
        HF_ENDPOINT=hub.url,
        HF_TOKEN=ALICE,
    )
    assert f"{hub.url}/alice/erpo-test/commit/" in done.stdout
    assert len(hub.commits("alice/erpo-test")) == 1
    files = hub.files("alice/erpo-test")
    assert {"README.md", "run.json", "model.safetensors"} <= set(files)
    assert ALICE not in done.stdout + done.stderr

    again = cli("push", str(folder / "bundle"), "alice/erpo-test", HF_ENDPOINT=hub.url, HF_TOKEN=ALICE)
    assert len(hub.commits("alice/erpo-test")) == 1, again.stderr


def test_a_failed_push_keeps_the_bundle_and_says_the_command(
    hub: HubServer,  # noqa: F811
    tiny_model: str,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "run"
    done = cli(
        *("train", tiny_model, "builtin:expressions?operands=2", "--output-dir", str(folder)),
        *("--push-to", "bob/not-mine", *FAST),
        expect=1,
        HF_ENDPOINT=hub.url,
        HF_TOKEN=ALICE,
    )
    assert f"erpo-hub push {folder / 'bundle'} bob/not-mine" in done.stderr
    assert (folder / "bundle" / "model.safetensors").is_file()
    assert json.loads((folder / "run.json").read_text())["status"] == "finished"


def test_card_is_rendered_and_edits_survive(tiny_model: str, tmp_path: Path) -> None:
    folder, card = tmp_path / "run", tmp_path / "README.md"
    cli("train", tiny_model, "builtin:expressions?operands=2", "--output-dir", str(folder), *FAST)
    notes = tmp_path / "notes.md"
    notes.write_text("## Notes\n\nTrained on a Tuesday.\n")
    cli("card", str(folder), "--section", f"notes={notes}", "--out", str(card))
    assert "Trained on a Tuesday." in card.read_text()
    card.write_text(card.read_text() + "\nMy own closing words.\n")
    cli("card", str(folder), "--out", str(card))
    assert "My own closing words." in card.read_text()
    assert cli("card", str(folder)).stdout.startswith("---\n")
    before = card.read_text()
    command = [sys.executable, "-m", "erpo_hub.cli", "card", str(folder), "--out", str(card)]
    full = ["bash", "-c", 'ulimit -f 2; exec "$@"', "bash", *command]  # no file grows beyond 2 KiB
    done = subprocess.run(full, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert f"can't write {card}" in done.stderr
    assert card.read_text() == before
