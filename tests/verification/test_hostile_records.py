"""What a stranger's repository may not do to whoever verifies it: cost, links, private data."""

# ruff: noqa: F811 (pytest fixtures are imported by name)
from __future__ import annotations

import json
from pathlib import Path

import pytest
from tampering import sealed

from erpo_hub import verify
from erpo_hub.errors import UserError
from erpo_hub.record.format import read_record
from erpo_hub.record.recovery import FIRST, Recovered, TransplantResult
from erpo_hub.tasks import hub_data
from erpo_hub.tasks.specs import parse_spec
from erpo_hub.ui.library.run_folder import RunFolder
from erpo_hub.ui.tabs.health import verified_facts
from erpo_hub.verification import papers, questions
from erpo_hub.verification.claims import FILE, UNKNOWN, read_verification
from erpo_hub.verification.fetch import Source
from erpo_hub.verification.judging import base_folder
from tests.hub_server import HubServer
from tests.hub_server.fixtures import hub  # noqa: F401
from tests.hub_server.server import BOB


@pytest.mark.parametrize(
    "spec",
    [
        "reasoning-gym:chain_sum?max_digits=10000",  # numbers too long to be written
        "reasoning-gym:chain_sum?max_terms=1000000000",  # seconds and memory
        "builtin:expressions?append=" + "z" * 100_000,  # hundreds of megabytes
        "x" * 5000,  # no name of a file
        "~nosuchuser/x.jsonl",  # whose home folder nobody knows
    ],
)
def test_questions_that_cost_too_much_are_not_made(spec, bundle, monkeypatch):
    monkeypatch.setattr(questions, "MAKING", 2.0)
    sealed(bundle, lambda run: run["dataset"].update(spec=spec, source="hub"))
    asked = questions.find_questions(read_record(bundle))
    assert asked.task is None
    assert asked.claim.status == UNKNOWN


def test_numbers_and_names_out_of_bounds_end_in_no_traceback(bundle):
    def odd(run: dict) -> None:
        run["files"] |= {"x" * 5000: "0", "a\0b": "0", "../" * 2000 + "etc/passwd": "0"}
        run["results"]["final"]["per_question"] = [1e308] * run["results"]["final"]["n"]

    sealed(bundle, odd)
    found = verify(bundle, n=2, seed=0, progress=False)
    json.dumps(found.to_dict(), allow_nan=False)
    assert "record changed" in found.verdict


def test_a_link_out_of_the_folder_is_refused(bundle, tmp_path):
    (tmp_path / "elsewhere.md").write_text("not for others")
    (bundle / "README.md").unlink()
    (bundle / "README.md").symlink_to(tmp_path / "elsewhere.md")
    with pytest.raises(UserError, match="a link out of it"):
        verify(bundle, progress=False)


def test_a_record_leads_to_no_private_repository_and_to_no_huge_dataset(
    hub: HubServer, bundle: Path, monkeypatch: pytest.MonkeyPatch
):
    from huggingface_hub import constants

    hub.state.create("models", "bob/secret", "bob", private=True)
    sealed(bundle, lambda run: run["base_model"].update(id="bob/secret", source="hub"))
    with pytest.raises(UserError, match="bob/secret is private"):
        base_folder(read_record(bundle), Source(BOB, hub.url), None)
    assert not any("/tree/" in line or "/resolve/" in line for line in hub.requests)

    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setenv("HF_TOKEN", BOB)
    hub.state.create("datasets", "bob/private", "bob", private=True)
    hub.state.create("datasets", "bob/large", "bob")
    hub.push_as_someone_else("bob/large", "x.jsonl", b"x" * 10_000, kind="datasets")
    with pytest.raises(UserError, match="is private"):
        hub_data.check_anyones(parse_spec("bob/private"), 1.0)
    with pytest.raises(UserError, match="raise --max-gb"):
        hub_data.check_anyones(parse_spec("bob/large"), 1e-6)
    hub_data.check_anyones(parse_spec("bob/large"), 1.0)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # an outage: nobody listens there
    for name in ("bob/private", "bob/large"):  # either may lie in the cache
        with pytest.raises(UserError, match="whether it is private can't be asked"):
            hub_data.check_anyones(parse_spec(name), 1.0)


def test_an_error_that_quotes_a_stranger_does_not_steer_the_terminal(monkeypatch, capsys):
    import sys

    from erpo_hub.cli import main

    monkeypatch.setattr(sys, "argv", ["erpo-hub", "verify", "./no\x1b[2Jsuch\u202efolder"])
    monkeypatch.setattr(main.signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit):
        main.main()
    assert "no\\x1b[2Jsuch\\u202efolder" in capsys.readouterr().err


def test_many_names_of_one_file_are_read_once(bundle: Path, monkeypatch: pytest.MonkeyPatch):
    read: list[Path] = []
    monkeypatch.setattr(papers, "file_digest", lambda path: read.append(path) or "")
    sealed(bundle, lambda run: run["files"].update({"./" * n + "model.safetensors": "0" for n in range(500)}))
    papers.files_claim(bundle, read_record(bundle))
    assert sum(path.name == "model.safetensors" for path in read) == 1


def swaps_of(*rows: Recovered) -> TransplantResult:
    return TransplantResult("b", "t", 2, (0.5, 0.5), 0.1, None, list(rows), ("10", "10"))


@pytest.mark.parametrize(
    "rows",
    [
        [Recovered("a rule of tomorrow", 1, 0.5, correct="10")],
        [Recovered(FIRST, -1, 0.5, correct="10")],
        [Recovered(FIRST, 1, 0.5, correct="10")] * 2,
        [Recovered(FIRST, n, 0.5, correct="10") for n in range(1, 500)],
    ],
)
def test_swaps_by_unknown_rules_or_without_number_are_not_made_again(bundle: Path, rows: list[Recovered]):
    record = read_record(bundle)
    assert questions.swap_questions(record) != "the record does not hold them question by question"
    record.transplant = swaps_of(*rows)
    assert "by rules that are known here" in str(questions.swap_questions(record))


def test_what_a_hundred_thousand_swaps_come_to_is_not_worked_out():
    rows = [Recovered(f"x{n}", n, 0.5, correct="10") for n in range(100_000)]
    assert list(papers._odd_swaps(swaps_of(*rows))) == ["100,000 numbers of swaps are listed"]


@pytest.mark.parametrize("asked", [{"n": 5}, {"n": "x", "of": 1, "seed": 1, "level": "a"}, {"n": [1]}])
def test_a_verification_of_odd_values_is_refused_in_one_line(tmp_path: Path, asked: dict):
    (tmp_path / FILE).write_text(json.dumps({"model": "m", "claims": [], "asked": asked}))
    with pytest.raises(UserError, match="is not what verify wrote"):
        read_verification(tmp_path / FILE)
    for public in (True, False):
        note = verified_facts([RunFolder("erpo", tmp_path)], public=public)["note"]
        assert "is not what verify wrote" in note
        assert (str(tmp_path) in note) is not public


def test_where_a_run_lies_is_not_told_in_public(tmp_path: Path):
    assert verified_facts([RunFolder("erpo", tmp_path)], public=True)["note"] == "erpo: not checked here"
    assert str(tmp_path) in verified_facts([RunFolder("erpo", tmp_path)], public=False)["note"]
