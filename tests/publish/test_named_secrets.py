"""Secrets that only the name they stand under gives away, in each format that has names."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from erpo_hub.publish.bundle import build_bundle
from erpo_hub.publish.check import check_bundle
from tests.hub_server.sample_run import example_run, fake_weights

VALUE = "Zx81kq0Pw93mLr5Tt7Yb"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("named")
    return build_bundle(example_run(), fake_weights(folder / "weights"), folder / "b", figures=False).folder


def gguf(key: str, value: str) -> bytes:
    def text(t: str) -> bytes:
        return len(t).to_bytes(8, "little") + t.encode()

    head = b"GGUF" + (3).to_bytes(4, "little") + (0).to_bytes(8, "little") + (1).to_bytes(8, "little")
    return head + text(key) + (8).to_bytes(4, "little") + text(value)


def lines(*values: object) -> bytes:
    return "".join(json.dumps(value) + "\n" for value in values).encode()


def parquet(name: str, values: pa.Array) -> bytes:
    file = pa.BufferOutputStream()
    pq.write_table(pa.table({name: values}), file)
    return file.getvalue().to_pybytes()


MAP = pa.array([[("api_key", VALUE)]], pa.map_(pa.string(), pa.string()))
NAMED = [
    ("a.jsonl", lines({"n": 1}, {"a": [{"apiKey": VALUE}]})),
    ("a.jsonl", lines({"private_key_id": "1", "client_email": "a@b.c"})),
    ("a.jsonl", lines({"auths": {"registry": {"auth": "eDp5"}}})),
    ("a.gguf", gguf("service.api_key", VALUE)),
    ("a.parquet", parquet("api_key", pa.array([None, VALUE]))),
    ("a.parquet", parquet("api_key", pa.array([[VALUE]]))),
    ("a.parquet", parquet("api_key", pa.array([VALUE, VALUE]).dictionary_encode())),
    ("a.parquet", parquet("login", pa.array([{"user": "me", "api_key": VALUE}]))),
    ("a.parquet", parquet("login", pa.array([[{"user": "me", "api_key": VALUE}]]))),
    ("a.parquet", parquet("login", MAP)),
]


@pytest.mark.parametrize(("name", "data"), NAMED)
def test_what_its_name_gives_away_is_refused(bundle, name, data):
    (bundle / name).write_bytes(data)
    try:
        (problem,) = check_bundle(bundle, include=[name])
    finally:
        (bundle / name).unlink()
    assert problem.startswith(f"{name}: holds a")
    assert VALUE not in problem


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.jsonl", lines({"prompt": "What is 1+1?", "answer_key": "B", "tokens": [1, 2]})),
        ("a.parquet", parquet("tokens", pa.array([["hello", "world"]]))),
        ("a.gguf", gguf("general.name", VALUE)),
    ],
)
def test_other_names_are_none(bundle, name, data):
    (bundle / name).write_bytes(data)
    try:
        assert check_bundle(bundle, include=[name]) == []
    finally:
        (bundle / name).unlink()
