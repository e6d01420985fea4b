"""run.json: what is written is read back, what anyone else wrote is read or refused in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from erpo_hub.card.card import render_card
from erpo_hub.errors import UserError
from erpo_hub.record.format import SCHEMA_FILE, json_schema, load_record, read_record, write_record
from tests.hub_server.sample_run import example_run


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    record = load_record(example_run(seed=0))
    write_record(record, tmp_path)
    assert read_record(tmp_path) == read_record(tmp_path / "run.json") == record
    assert record.seed == 0
    assert list(tmp_path.iterdir()) == [tmp_path / "run.json"]


def test_the_schema_file_is_what_the_classes_give() -> None:
    """To accept a change: python -c 'from erpo_hub.record.format import write_schema; write_schema()'"""
    assert json.loads(SCHEMA_FILE.read_text()) == json_schema()
    jsonschema.Draft202012Validator.check_schema(json_schema())


def test_the_schema_takes_what_is_written_and_refuses_wrong_types(tmp_path: Path) -> None:
    write_record(load_record(example_run()), tmp_path)
    written = json.loads((tmp_path / "run.json").read_text())
    jsonschema.validate(written, json_schema())
    written["results"]["final"]["accuracy"] = "high"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(written, json_schema())


def test_a_run_that_broke_off_and_fields_of_a_newer_version_are_read(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"algorithm": "later", "results": null, "cost": {"co2": 1}}')
    record = read_record(tmp_path)
    assert record.results.final is None
    assert record.cost.steps is None
    assert record.history == []


MALFORMED: list[tuple[str, bytes]] = [
    ("empty", b""),
    ("null", b"null"),
    ("a list", b"[]"),
    ("text", b'"algorithm"'),
    ("no method", b"{}"),
    ("null method", b'{"algorithm": null}'),
    ("cut off", b'{"algorithm": "erpo", "history": [{"step"'),
    ("not UTF-8", '{"algorithm": "größer"}'.encode("latin-1")),
    ("UTF-16", '{"algorithm": "erpo"}'.encode("utf-16")),
    ("a byte order mark", b'\xef\xbb\xbf{"algorithm": "erpo"}'),
    ("NaN", b'{"algorithm": "erpo", "history": [{"loss": NaN}]}'),
    ("infinity", b'{"algorithm": "erpo", "cost": {"steps": Infinity}}'),
    ("overflow", b'{"algorithm": "erpo", "cost": {"wall_seconds": 1e999}}'),
    ("5,000 digits", b'{"algorithm": "erpo", "seed": ' + b"9" * 5000 + b"}"),
    ("5,000 decimals", b'{"algorithm": "erpo", "cost": {"wall_seconds": 0.' + b"9" * 5000 + b"}}"),
    ("30 digits", b'{"algorithm": "erpo", "arguments": {"all": {"x": ' + b"9" * 30 + b"}}}"),
    ("deep", b'{"algorithm": "erpo", "settings": {"x": ' + b"[" * 60 + b"]" * 60 + b"}}"),
    ("bomb", b'{"algorithm": "erpo", "settings": ' + b"[" * 200_000),
    ("half a surrogate pair", b'{"algorithm": "erpo", "name": "\\ud800"}'),
    ("another version", b'{"algorithm": "erpo", "schema_version": 2}'),
    ("a version in words", b'{"algorithm": "erpo", "schema_version": "1"}'),
    ("true for a number", b'{"algorithm": "erpo", "seed": true}'),
    ("a half number of steps", b'{"algorithm": "erpo", "cost": {"steps": 1.5}}'),
    ("three ends", b'{"algorithm": "", "results": {"final": {"accuracy": 0, "interval": [0, 1, 2]}}}'),
    ("a history in words", b'{"algorithm": "erpo", "history": [{"step": "first"}]}'),
]


@pytest.mark.parametrize("content", [c for _, c in MALFORMED], ids=[name for name, _ in MALFORMED])
def test_malformed_records_are_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run.json").write_bytes(content)
    for read in (read_record, render_card):
        with pytest.raises(UserError, match="not a run record") as error:
            read(tmp_path)
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 400


def test_what_is_not_there_or_not_a_file_is_named(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "nowhere", tmp_path / "no.json"):
        with pytest.raises(UserError, match="give the folder of a run"):
            read_record(place)
    (tmp_path / "run.json").mkdir()
    with pytest.raises(UserError, match="is not a file"):
        read_record(tmp_path)


def test_a_record_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "run.json").open("wb") as file:
        file.truncate(8 << 30)  # sparse: nothing on the disk
    with pytest.raises(UserError, match="larger than 64 MiB"):
        read_record(tmp_path)


@pytest.mark.parametrize("part", ["base_model", "dataset"])
def test_a_card_needs_a_model_and_data(part: str) -> None:
    with pytest.raises(UserError, match=f"the run record has no {part}"):
        render_card(example_run(**{part: None}))


def test_numbers_as_large_as_a_file_may_hold_them_make_a_card() -> None:
    run: dict[str, Any] = example_run(seed=2**63 - 1)
    run["cost"] = {"steps": 0, "wall_seconds": 1e300, "tokens_generated": 0}
    card = render_card(run)
    assert "trained for 0 steps" in card
    assert "0 tokens" in card


def test_reading_needs_neither_torch_nor_transformers() -> None:
    code = (
        "import erpo_hub.record.format, sys; assert not {'torch', 'transformers', 'trl'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
