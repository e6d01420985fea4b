"""The trace record: what it accepts, what it refuses, and that both file forms give back what went in."""

import json
import math
import os
import stat
import struct
import time
from dataclasses import fields
from pathlib import Path

import jsonschema
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from erpo_hub import text as text_module
from erpo_hub.errors import UserError
from erpo_hub.traces import parquet
from erpo_hub.traces import trace as trace_module
from erpo_hub.traces.pivots import PivotRule
from erpo_hub.traces.trace import Trace


def make_trace(n=4, **changes):
    values = {
        "prompt": "2+2?",
        "completion": "x" * n,
        "prompt_tokens": [1, 2, 3],
        "tokens": [i % 10 for i in range(n)],
        "pieces": ["x"] * n,
        "entropy": [round(0.1 * (i % 7), 6) for i in range(n)],
        "logprob": [-0.5 - 0.123457 * (i % 3) for i in range(n)],
        "sampling_logprob": [-0.25] * n,
        "topk_ids": [[5, 6]] * n,
        "topk_probs": [[0.7, 0.2]] * n,
        "vocab_size": 10,
        "model": "somebody/model",
        "strings": {i: chr(97 + i) for i in range(10)},
        "pivots": [t for t in range(n) if t % 7 > 5],
        "generation": {"temperature": 0.7, "seed": 3, "top_k": None},
    }
    return Trace(**{**values, **changes})


def test_json_gives_back_what_went_in(tmp_path):
    t = make_trace(
        20,
        answer="4",
        gold="4",
        correct=True,
        sensitivity=[0.5] * 20,
        revision="abc",
        columns={"advantage": [-1.5] * 20, "bucket": [3] * 20},
    )
    assert Trace.from_parquet(Trace.to_parquet([t, make_trace()], tmp_path / "t.parquet")) == [
        t,
        make_trace(),
    ]
    t.to_json(tmp_path / "t.json")
    assert Trace.from_json(tmp_path / "t.json") == t
    assert Trace.from_json(str(tmp_path / "t.json")) == t
    assert Trace.from_json(t.to_json()) == t


def test_the_json_schema_describes_what_is_written():
    schema = json.loads((Path(trace_module.__file__).parent / "trace.schema.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    logged = make_trace(20, sensitivity=[0.5] * 20, columns={"gate": [0.5] * 20})
    assert set(schema["properties"]) == set(logged.to_dict())
    assert set(make_trace().to_dict()) == set(logged.to_dict()) - {"columns"}
    validator.validate(json.loads(logged.to_json()))
    validator.validate(json.loads(make_trace(0).to_json()))
    broken = json.loads(make_trace().to_json())
    broken["tokens"] = ["a"]
    assert not validator.is_valid(broken)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"entropy": [0.1]}, "entropy has 1 entries for 4 tokens"),
        ({"entropy": [0.1, math.nan, 0.1, 0.1]}, r"entropy contains a number that is not finite \(token 1\)"),
        ({"entropy": [0.1, 3.0, 0.1, 0.1]}, "entropy contains 3 at token 1, outside"),
        ({"entropy": [0.1, -1.0, 0.1, 0.1]}, "entropy contains -1 at token 1"),
        ({"entropy": "abcd"}, "entropy is not a list"),
        ({"logprob": [0.5] * 4}, "logprob contains 0.5"),
        ({"logprob": [10**400] * 4}, "logprob contains a number that is not finite"),
        ({"logprob": [True] * 4}, "logprob is not a list of numbers"),
        ({"columns": {"gate": [0.1]}}, r"columns\['gate'\] has 1 entries for 4 tokens"),
        ({"columns": {"gate": [math.inf] * 4}}, r"columns\['gate'\] contains a number that is not finite"),
        ({"columns": [1]}, "columns is not a map"),
        ({"tokens": [0, 1, 2, 10]}, "tokens contains 10, outside 0 .. 9"),
        ({"tokens": [0, 1, 2, -1]}, "tokens contains -1"),
        ({"tokens": [0, 1, 2, True]}, "tokens is not a list of whole numbers"),
        ({"prompt_tokens": [99]}, "prompt_tokens contains 99"),
        ({"pieces": ["x", "x", "x", "y"]}, "pieces do not add up"),
        ({"pieces": ["x", "x", "x", 1]}, "pieces is not"),
        ({"pivots": [4]}, "pivots contains 4"),
        ({"pivots": [2, 1]}, "pivots are not sorted"),
        ({"topk_ids": [[1]] * 3 + [[1, 2]]}, "share one width"),
        ({"topk_probs": [[0.2, 0.7]] * 4}, "fall from left to right"),
        ({"topk_probs": [[0.7, 0.6]] * 4}, "more than 1"),
        ({"pivot_rule": {"quantile": 0.75}}, "pivot_rule is not a PivotRule"),
        ({"sensitivity": [-1.0] * 4}, "sensitivity contains -1"),
        ({"vocab_size": 0}, "vocab_size"),
        ({"correct": "yes"}, "correct is neither"),
        ({"finish_reason": "bored"}, "finish_reason"),
        ({"generation": {"a": [1]}}, "generation setting 'a'"),
        ({"generation": {"a": math.inf}}, "not finite"),
        ({"strings": {10: "a"}}, "outside the vocabulary"),
        ({"prompt": "\ud800"}, "half a surrogate"),
        ({"prompt": None}, "prompt is not text"),
        ({"tokens": [1] * (trace_module.MAX_TOKENS + 1)}, "more than the"),
    ],
)
def test_columns_that_do_not_fit_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        make_trace(**change)


def test_an_empty_and_a_one_token_completion_are_records():
    for n in (0, 1):
        assert len(Trace.from_json(make_trace(n).to_json())) == n


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON"),
        ("[]", "JSON object"),
        ('{"schema_version": 1', "truncated"),
        ('{"schema_version": 1}', "'prompt' is missing"),
        ('{"schema_version": 3}', "upgrade erpo-hub"),
        ('{"schema_version": true}', "upgrade erpo-hub"),
        ('{"schema_version": 1, "x": NaN}', "not a finite number"),
        ('{"schema_version": 1, "evil": 1}', "unknown field 'evil'"),
        ('{"schema_version": 2, "pivot_rule": {"quantile": 0.75}}', "'prompt' is missing"),
        ('{"schema_version": 1, "strings": {"__proto__": "a"}}', "not a token id"),
        ('{"schema_version": 1, "strings": {"' + "9" * 5000 + '": "a"}}', "not a token id"),
        ('{"a":' * 100_000, "nested too deeply"),
        ('{"a": ' + "9" * 5000 + "}", "not valid JSON"),
    ],
)
def test_hostile_and_truncated_json_gives_one_clear_error(tmp_path, text, message):
    file = tmp_path / "bad.json"
    file.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        Trace.from_json(file)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


def test_unreadable_files_are_named(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="absent.json: cannot be read"):
        Trace.from_json(tmp_path / "absent.json")
    (tmp_path / "latin.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(UserError, match="not UTF-8"):
        Trace.from_json(tmp_path / "latin.json")
    monkeypatch.setattr(trace_module, "MAX_JSON_BYTES", 5)
    with pytest.raises(UserError, match="is refused"):
        Trace.from_json(tmp_path / "latin.json")


def test_parquet_gives_back_what_went_in_and_any_row_alone(tmp_path):
    traces = [make_trace(3 + i % 5, gold=str(i), generation={"seed": i}) for i in range(300)]
    traces[7] = make_trace(5, sampling_logprob=None, topk_ids=[[]] * 5, topk_probs=[[]] * 5, correct=False)
    path = Trace.to_parquet(iter(traces), tmp_path / "t.parquet")
    assert [p.name for p in tmp_path.iterdir()] == ["t.parquet"]
    assert pq.ParquetFile(path).num_row_groups == 3
    assert Trace.from_parquet(path) == traces
    assert Trace.from_parquet(path, [299, 7]) == [traces[299], traces[7]]
    Trace.to_parquet(traces[:10], tmp_path / "z.parquet")
    assert Trace.from_parquet(tmp_path, [300])[0] == traces[0]
    for outside in (310, -1):
        with pytest.raises(UserError, match=f"trace {outside} is out of range"):
            Trace.from_parquet(tmp_path, [outside])


def test_long_traces_make_small_row_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "TOKENS_PER_GROUP", 100)
    traces = [make_trace(60) for _ in range(5)]
    path = Trace.to_parquet(traces, tmp_path / "t.parquet")
    assert pq.ParquetFile(path).num_row_groups == 3
    assert Trace.from_parquet(path) == traces
    assert Trace.from_parquet(Trace.to_parquet([], tmp_path / "none.parquet")) == []


def test_one_row_reads_one_row_group(tmp_path, monkeypatch):
    path = Trace.to_parquet([make_trace()] * 300, tmp_path / "t.parquet")
    groups = []
    original = pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile, "read_row_group", lambda self, g, **kw: groups.append(g) or original(self, g, **kw)
    )
    Trace.from_parquet(path, [200])
    assert groups == [1]


def test_damaged_and_foreign_parquet_gives_one_clear_error(tmp_path):
    good = Trace.to_parquet([make_trace(50)] * 4, tmp_path / "good.parquet").read_bytes()
    bad = tmp_path / "bad.parquet"
    for content in (b"", b"PAR1", good[: len(good) // 2], good[:-8] + struct.pack("<I", 2**31) + b"PAR1"):
        bad.write_bytes(content)
        with pytest.raises(UserError, match="not a readable Parquet"):
            Trace.from_parquet(bad)
    flipped = bytearray(good)
    flipped[4:400] = bytes(396)
    bad.write_bytes(flipped)
    with pytest.raises(UserError, match="bad.parquet"):
        Trace.from_parquet(bad)
    pq.write_table(pa.table({"a": [1]}), bad)
    with pytest.raises(UserError, match="column 'schema_version' is missing"):
        Trace.from_parquet(bad)
    foreign = pa.table({name: ["x"] for name in parquet.SCHEMA.names})
    pq.write_table(foreign, bad)
    with pytest.raises(UserError, match="bad.parquet"):
        Trace.from_parquet(bad)
    with pytest.raises(UserError, match="contains no"):
        Trace.from_parquet((tmp_path / "empty").mkdir() or tmp_path / "empty")


def test_a_row_group_that_claims_too_much_is_refused_unread(tmp_path, monkeypatch):
    path = Trace.to_parquet([make_trace(50)] * 4, tmp_path / "t.parquet")
    monkeypatch.setattr(parquet, "MAX_GROUP_BYTES", 1000)
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", lambda *_: pytest.fail("was read"))
    with pytest.raises(UserError, match="row group 0 states sizes"):
        Trace.from_parquet(path)


def test_hostile_settings_in_parquet_give_one_clear_error(tmp_path):
    table = pq.read_table(Trace.to_parquet([make_trace()], tmp_path / "t.parquet"))
    at = table.schema.get_field_index("generation")
    for text in ("[" * 100_000, '{"a": NaN}', "7", '{"a": {}}'):
        changed = table.set_column(at, "generation", pa.array([text]))
        pq.write_table(changed, tmp_path / "bad.parquet")
        with pytest.raises(UserError, match="bad.parquet: trace 0: "):
            Trace.from_parquet(tmp_path / "bad.parquet")


def test_a_failed_parquet_write_leaves_no_file(tmp_path):
    def broken():
        yield make_trace()
        raise UserError("stop")

    with pytest.raises(UserError, match="stop"):
        Trace.to_parquet(broken(), tmp_path / "t.parquet")
    assert list(tmp_path.iterdir()) == []


def test_ten_thousand_tokens_load_fast(tmp_path):
    path = tmp_path / "long.json"
    make_trace(10_000, topk_ids=[[1, 2, 3, 4, 5]] * 10_000, topk_probs=[[0.2] * 5] * 10_000).to_json(path)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        Trace.from_json(path)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.3  # the target; benchmarks/trace_io.py prints the time itself


def test_pivots_are_found_anew():
    t = make_trace(8).with_pivots(0.5, 0.35)
    assert t.pivots == [4, 5, 6]
    assert t.replace(correct=True).correct


READY = Path(__file__).parents[2] / "spaces" / "inspector" / "traces"


def test_the_ready_traces_are_traces_and_fit_the_schema():
    schema = json.loads((Path(trace_module.__file__).parent / "trace.schema.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    files = sorted(READY.glob("*.json"))
    traces = [Trace.from_json(file) for file in files]
    for file in files:
        validator.validate(json.loads(file.read_text()))
    real = [t for t in traces if "SmolLM2" in t.model]
    assert len(real) >= 12
    assert {t.correct for t in real} == {True, False}
    assert len([t for t in traces if "tiny-reasoner" in t.model]) == 6
    assert all(t.sensitivity is not None and t.pivots for t in real)


@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_the_rule_of_the_pivots_is_stored_with_them(tmp_path, floor):
    trace = make_trace(40).with_pivots(0.9, floor)
    for again in (
        Trace.from_json(trace.to_json()),
        Trace.from_parquet(Trace.to_parquet([trace], tmp_path / "t.parquet"))[0],
    ):
        assert (again.pivots, again.pivot_rule) == (trace.pivots, PivotRule(0.9, floor))


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"quantile": 2, "min_entropy": 0}, "outside 0 .. 1"),
        ({"quantile": 0.5, "min_entropy": True}, "not a finite number"),
        ({"quantile": "a", "min_entropy": 0}, "not a finite number"),
        ({"quantile": 0.5}, "not a map of quantile"),
        ([0.5, 0], "not a map of quantile"),
    ],
)
def test_a_broken_rule_is_refused(rule, message):
    with pytest.raises(UserError, match=f"pivot_rule.*{message}"):
        Trace.from_dict({**make_trace().to_dict(), "pivot_rule": rule})


def test_a_version_1_trace_has_the_default_rule_where_its_pivots_are_by_it(tmp_path):
    trace = make_trace(40).with_pivots()
    by_another = trace.with_pivots(0.95)
    assert by_another.pivots != trace.pivots
    for given, rule in ((trace, PivotRule()), (by_another, None)):
        old = {k: v for k, v in given.to_dict().items() if k != "pivot_rule"} | {"schema_version": 1}
        assert Trace.from_json(json.dumps(old)) == given.replace(pivot_rule=rule)
        table = pq.read_table(Trace.to_parquet([given], tmp_path / "t.parquet")).drop(["pivot_rule"])
        at = table.schema.get_field_index("schema_version")
        table = table.set_column(at, "schema_version", pa.array([1], pa.int32()))
        pq.write_table(table, tmp_path / "old.parquet")
        assert Trace.from_parquet(tmp_path / "old.parquet") == [given.replace(pivot_rule=rule)]


def test_parquet_has_a_column_for_every_field():
    assert set(parquet.SCHEMA.names) == {f.name for f in fields(Trace)}


# --- files that are written ---


@pytest.mark.parametrize("write", ["to_json", "to_parquet"])
def test_no_link_is_written_through_and_a_mode_stays(tmp_path, write, monkeypatch):
    def put():
        trace = make_trace(3)
        return trace.to_json(path) if write == "to_json" else Trace.to_parquet([trace], path)

    path, mine = tmp_path / "t", tmp_path / "mine.txt"
    mine.write_text("mine")
    planted = tmp_path / f".t.{os.getpid()}.partial"  # a name that can be guessed
    planted.symlink_to(mine)
    old = os.umask(0o027)
    try:
        put()
        assert stat.S_IMODE(path.stat().st_mode) == 0o640  # as any new file
        path.chmod(0o600)
        put()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(old)
    assert mine.read_text() == "mine"
    assert planted.is_symlink()
    monkeypatch.setattr(text_module.secrets, "token_hex", lambda count: "guessed")
    guessed = tmp_path / ".t.guessed.partial"
    guessed.symlink_to(mine)
    with pytest.raises(FileExistsError):
        put()
    assert mine.read_text() == "mine"
    assert {p.name for p in tmp_path.iterdir()} == {"t", "mine.txt", planted.name, guessed.name}


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "t"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), text_module.text_beside(path, "new"):
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError):
        Trace.to_parquet((make_trace(3 // count) for count in (1, 0)), path)
    with pytest.raises(OSError, match="nowhere/t") as error:
        text_module.write_text(tmp_path / "nowhere" / "t", "new")
    assert error.value.filename == str(tmp_path / "nowhere" / "t")  # as it was asked for
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("t", "old")]
