"""Files that cost more than they look, or hold what JSON readers choke on: one line, no traceback."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from erpo_hub.errors import UserError
from erpo_hub.publish import contents
from erpo_hub.tasks import files
from erpo_hub.ui.library.texts import has_solutions, read_solutions

ROW = json.dumps({"prompt": "1+1=", "completion": "2", "answer": "2"}) + "\n"


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000 + "]" * 100_000,
        '{"prompt":' * 100_000 + "1" + "}" * 100_000,
        '{"prompt": "1", "completion": "x", "answer": ' + "9" * 6000 + "}",
        '{"response":' * 700 + "{}" + "}" * 700,
    ],
    ids=["lists", "objects", "digits", "responses"],
)
def test_odd_json_is_refused_in_one_line(text: str, tmp_path: Path):
    for name in ("a.jsonl", "a.json"):
        path = tmp_path / name
        path.write_text(text)
        assert not has_solutions(path)
        with pytest.raises(UserError) as told:
            read_solutions(path)
        assert "\n" not in str(told.value)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_a_line_ends_at_no_sign_inside_of_a_text(end: str, name: str, tmp_path: Path):
    row = {"prompt": "a\u2028b\u2029c\u0085d", "answer": "2"}
    (tmp_path / name).write_bytes((json.dumps(row, ensure_ascii=False) + end).encode() * 2)
    assert files.read_file(tmp_path / name) == [row, row]
    assert contents.read_contents(tmp_path / name).problem is None or name == "a.json"


def test_what_unpacks_to_too_much_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(files._Unpacked, "left", 100_000)
    monkeypatch.setattr(files, "MAX_UNPACKED", 100_000)
    small, bomb, table = (tmp_path / name for name in ("a.jsonl.gz", "b.json.gz", "c.parquet"))
    small.write_bytes(gzip.compress(ROW.encode() * 100))
    assert len(files.read_file(small)) == 100
    for text in (ROW.encode() * 10_000, b"[" + b" " * 1_000_000 + b"]"):
        bomb.write_bytes(gzip.compress(text))
        with pytest.raises(UserError, match="in parts"):
            files.read_file(bomb)
    pq.write_table(pa.table({"prompt": ["x" * 200] * 5000}), table)  # a few hundred bytes of a dictionary
    with pytest.raises(UserError, match="in parts"):
        files.read_file(table)
