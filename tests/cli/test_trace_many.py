"""`erpo-hub trace MODEL DATASET -n N`: out of a task, of others' solutions, and going on after a kill."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from erpo_hub import Engine, Trace
from erpo_hub.cli.trace import Request
from erpo_hub.cli.trace_many import trace_many
from erpo_hub.errors import UserError
from erpo_hub.lock import locked_file
from erpo_hub.traces.decoding import Sampling
from erpo_hub.traces.loading import resolve_model
from erpo_hub.ui.library.texts import has_solutions, read_solutions

MODEL, TASK = "builtin:tiny-reasoner", "builtin:expressions?operands=3"
GREEDY = Request("", sampling=Sampling(max_new_tokens=24, temperature=0.0))


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.load(MODEL)


def test_many_are_traced_and_a_killed_command_goes_on(engine: Engine, tmp_path: Path) -> None:
    out, partial = tmp_path / "t.parquet", tmp_path / ".t.parquet.partial"

    class Killed(Exception):
        pass

    class Dies:
        def __init__(self, after: int):
            self.left = after

        def __getattr__(self, name: str):
            return getattr(engine, name)

        def trace(self, prompt, **options):
            self.left -= 1
            if self.left < 0:
                raise Killed
            return engine.trace(prompt, **options)

    with pytest.raises(Killed):
        trace_many(lambda: Dies(3), MODEL, TASK, 5, GREEDY, out)
    with partial.open("a", encoding="utf-8") as file:
        file.write('{"cut')
    with pytest.raises(UserError, match="another model"):
        trace_many(lambda: engine, "other", TASK, 5, GREEDY, out)
    again = Dies(2)  # the two that are left, and no more
    trace_many(lambda: again, MODEL, TASK, 5, GREEDY, out)
    traces = Trace.from_parquet(out)
    assert again.left == 0
    assert not partial.exists()
    assert len(traces) == 5
    assert all(t.correct is not None and t.gold for t in traces)
    assert traces[4].tokens == engine.trace(traces[4].prompt, max_new_tokens=24, temperature=0.0).tokens


@pytest.mark.parametrize(
    ("line", "byte", "left"), [(0, 0, 2), (0, 5, 2), (1, 0, 2), (1, 9, 2), (2, 0, 1), (2, -1, 1), (2, "é", 1)]
)
def test_a_kill_at_any_byte_loses_the_last_line_alone(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: int, byte: int | str, left: int
) -> None:
    solved = {"prompt": "3+4= a\u2028b\u0085c é", "completion": "7", "answer": "7"}
    task, out, partial = tmp_path / "t.jsonl", tmp_path / "t.parquet", tmp_path / ".t.parquet.partial"
    task.write_text((json.dumps(solved, ensure_ascii=False) + "\n") * 2, encoding="utf-8")
    scored: list[str] = []
    written: list[bytes] = []

    class Counts:
        def score(self, prompt, completion, **options):
            scored.append(prompt)
            return engine.score("3+4=", completion, **options).replace(prompt=prompt)

    monkeypatch.setattr(Trace, "to_parquet", lambda traces, path: written.append(partial.read_bytes()))
    trace_many(lambda: Counts(), MODEL, str(task), 2, GREEDY, out)
    lines = written[0].split(b"\n")
    assert "\u2028".encode() in lines[2]  # one line as it is really written
    at = lines[line].index("é".encode()) + 1 if isinstance(byte, str) else byte % (len(lines[line]) + 1)
    partial.write_bytes(b"".join(text + b"\n" for text in lines[:line]) + lines[line][:at])
    scored.clear()
    trace_many(lambda: Counts(), MODEL, str(task), 2, GREEDY, out)
    assert len(scored) == left
    assert written[1] == written[0]
    assert not partial.exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"my notes", "another model"),
        (b"[" * 100_000 + b"\n", "another model"),
        (None, "line 2: is no trace"),
    ],
)
def test_a_file_of_something_else_is_left_as_it_was(
    engine: Engine, tmp_path: Path, line: bytes | None, message: str
) -> None:
    out, partial = tmp_path / "t.parquet", tmp_path / ".t.parquet.partial"

    class Broken:
        def __getattr__(self, name: str):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):  # leaves a header and no trace
        trace_many(lambda: Broken(), MODEL, TASK, 2, GREEDY, out)
    data = line if line is not None else partial.read_bytes() + b'{"no": "trace"}\n'
    partial.write_bytes(data)
    with pytest.raises(UserError, match=message):
        trace_many(lambda: engine, MODEL, TASK, 2, GREEDY, out)
    assert partial.read_bytes() == data
    partial.unlink()
    partial.symlink_to(tmp_path / "elsewhere")  # in a stranger's folder: not written through
    with pytest.raises(UserError, match="is a link"):
        trace_many(lambda: engine, MODEL, TASK, 2, GREEDY, out)
    assert not (tmp_path / "elsewhere").exists()


def test_a_second_command_on_one_file_is_refused(engine: Engine, tmp_path: Path) -> None:
    out = tmp_path / "t.parquet"
    with locked_file(out, "--parquet"):
        with pytest.raises(
            UserError, match=r"at work on .*t\.parquet: wait for it, or give another --parquet$"
        ):
            trace_many(lambda: engine, MODEL, TASK, 1, GREEDY, out)
        trace_many(lambda: engine, MODEL, TASK, 1, GREEDY, tmp_path / "other.parquet")
    trace_many(lambda: engine, MODEL, TASK, 1, GREEDY, out)  # it is free again
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.parquet", "t.parquet"]


def test_solutions_of_other_programs_are_read_and_scored(engine: Engine, tmp_path: Path) -> None:
    rows = [
        {"prompt": "3+4=", "completion": "7", "answer": "7"},
        {"prompt": "5+4=", "outputs": [{"text": "9", "logprobs": [{"1": {"logprob": -0.1}}]}, {"text": "8"}]},
        {
            "request": {"messages": [{"role": "user", "content": "1+1="}]},
            "response": {"body": {"choices": [{"message": {"content": "2"}, "logprobs": {"content": []}}]}},
        },
        {"prompt": "2+2=", "choices": [{"text": "4", "logprobs": {"tokens": ["4"]}}]},
    ]
    lines, whole = tmp_path / "given.jsonl", tmp_path / "given.json"
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    whole.write_text(json.dumps(rows[1]))
    found = read_solutions(lines)
    assert [s.completion for s in found] == ["7", "9", "8", "2", "4"]
    assert found[3].prompt == [{"role": "user", "content": "1+1="}]
    assert [s.completion for s in read_solutions(whole)] == ["9", "8"]
    trace_many(lambda: engine, MODEL, str(whole), 10, GREEDY, tmp_path / "s.parquet")
    assert [t.completion for t in Trace.from_parquet(tmp_path / "s.parquet")] == ["9", "8"]
    lines.write_text('{"prompt": "3+4=", "answer": "7"}\n')
    assert not has_solutions(lines)  # a task's file
    with pytest.raises(UserError, match="entry 1: has no completion"):
        read_solutions(lines)


@pytest.mark.parametrize("hub_id", [None, "alice/erpo"])
def test_the_traces_do_not_say_where_a_model_lies(tmp_path: Path, hub_id: str | None) -> None:
    """Such a file is published: a folder goes by its name, and an id of the Hub stays whole."""
    folder = tmp_path / "acme-merger" / "secret-v2"
    shutil.copytree(resolve_model(MODEL), folder)
    engine = Engine.load(folder)
    engine.name = hub_id or engine.name
    out = trace_many(lambda: engine, hub_id or str(folder), TASK, 1, GREEDY, tmp_path / "t.parquet")
    assert [trace.model for trace in Trace.from_parquet(out)] == [hub_id or "secret-v2"]
