"""Secrets that only the name they stand under gives away, in each format that has names."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from erpo_hub.publish.bundle import build_bundle
from erpo_hub.publish.check import check_bundle
from erpo_hub.publish.secrets import Secrets
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
    assert re.match(rf"{name}(:\d+)?: holds a", problem)
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


V = "0a1b2c3d4e5f6a7b8c9d0e1f2a3b4c5d6e7f8a9b"


@pytest.mark.parametrize("value", [V, VALUE])
@pytest.mark.parametrize(
    "text",
    [
        'os.environ["WANDB_API_KEY"] = "V"',
        json.dumps({"source": ['os.environ["WANDB_API_KEY"] = "V"\n']}),
        'os.environ.setdefault("WANDB_API_KEY", "V")',
        "user,api_key\nann,V",
        "<password>V</password>",
        "- name: WANDB_API_KEY\n  value: V",
        'const apiKey = "V";',
        'x.clientSecret = "V"',
        "docker run -e WANDB_API_KEY=V img",
        "%env WANDB_API_KEY=V",
        "!export WANDB_API_KEY=V",
        "Set WANDB_API_KEY=V first",
        '$env:WANDB_API_KEY="V"',
        "wandb login V",
        'wandb.login(key="V")',
        "ENV WANDB_API_KEY V",
        'self.api_key: str = "V"',
        'API_KEY: Final[str] = "V"',
        "{accessToken: 'V'}",
        "Password: V",
        "Token: V",
        "run --api-key V",
        *("AZURE_PRIMARY_KEY=V", "DATA_KEY=V", "env STATE_KEY=V run", "wandb.key=V", "secretKey: V"),
        *("API key: V", "- **Access key**: V", "My W&B key: `V`", "api_key = ('V')", "api_key=r'V'"),
        'parser.add_argument("--wandb-key", type=str, default="V")',
        'wandb.login(\n    key="V",\n)',
        '{"api_keys": [\n  "V"]}',
        "HF_TOKENS = ['V']",
    ],
)
def test_a_name_gives_a_secret_away_in_any_notation(text, value):
    assert Secrets().find(re.sub(r"\bV\b", value, text))
    assert Secrets().find(text) is None


@pytest.mark.parametrize(
    "text",
    [
        *("HeyJude.mp3", "keyJson.parse(x)", "SurveyJS.io", "monkeyJungle.com", "journeyJournal.md"),
        *(
            "risk-or-reward-tradeoff-in-long-runs-2",
            "multitask-or-singletask-benchmark",
            "task-or-9-of-them-all-now",
        ),
        *(
            "token: end_of_sentence_1",
            "postgres://postgres:postgres@localhost:5432/db",
            "http://user:password@host/",
        ),
        *(
            "api_key: your-key-goes-here-123",
            "API_KEY=${MY_API_KEY_2}",
            "the token: reserved_special_token_17",
        ),
        '{"key": "gsm8k-train-0000001"}\n{"key": "0123456789abcdef0123456789abcdef"}',
        *(f"{n}_key: 3f2504e0-4f89-11d3-9a0c-0305e82c3301" for n in ("primary", "cache", "sort", "answer")),
        "token = tokenizer2.convert_ids_to_tokens(x1)",
        "Password: 8-characters at least",
        *("HF_TOKEN=hf_aB1cD2eF3gH4iJ5kL6...", 'api_key="sk-proj-a1B2c3D4e5F6..."'),
        *("first_pass: epoch1step200", "PASS: Qwen2.5-0.5B-Instruct", 'publicKeyToken="1fc8b3b9a1e18e3b"'),
        *("sha256 of the tokens: 5d41402abc4b2a76b9719d911017c592", "cache_tokens=5d41402abc4b2a76b9719d91"),
        "s3_key: data/train-00000-of-00012-4f2a9c1b7e3d5a6f.parquet",
    ],
)
def test_ordinary_text_is_no_secret(text):
    assert Secrets().find(text) is None
    assert Secrets().redact(text) == text


@pytest.mark.parametrize("before", ["\n", "\\n", '"', "="])
def test_a_key_of_a_model_host_is_found_behind_anything_but_a_word(before):
    assert Secrets().find(f"x{before}sk-or-v1-" + "0a1b2c3d" * 8)
