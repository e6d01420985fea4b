"""What must not leave this machine: names, secrets, paths, code, and files that are not what they claim."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import re
import tempfile
import zipfile
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from erpo_hub.publish.bundle import build_bundle
from erpo_hub.publish.check import check_bundle, published_files
from erpo_hub.publish.contents import read_contents, strings
from erpo_hub.publish.secrets import Secrets
from erpo_hub.record.format import record_digest
from erpo_hub.traces.trace import Trace
from tests.hub_server.sample_run import example_run, example_trace, fake_weights, write_safetensors

TOKEN = "hf_" + "Qw3" * 12
PRIVATE_KEY = "-----BEGIN OPENSSH " + "PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmU=\n"
HEX = "0123456789abcdef" * 2


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return build_bundle(
        example_run(),
        fake_weights(tmp_path / "weights"),
        tmp_path / "bundle",
        traces=[example_trace()],
        figures=False,
    ).folder


def put(folder: Path, name: str, data: bytes | str) -> None:
    path = folder / name
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)


def found(folder: Path, *include: str) -> list[str]:
    lines = check_bundle(folder, include=include)
    assert all("\n" not in line and line.isprintable() for line in lines), lines
    return lines


def in_record(folder: Path, text: str) -> None:
    run = json.loads((folder / "run.json").read_text())
    run["prompt"]["system"] = text
    run["digest"] = record_digest(run)
    (folder / "run.json").write_text(json.dumps(run))


# --- the allow-list ---


def test_what_the_bundler_made_is_published_and_nothing_else(bundle):
    assert found(bundle) == []
    here = {p.relative_to(bundle).as_posix() for p in bundle.rglob("*") if p.is_file()}
    assert set(published_files(bundle)) == here
    put(bundle, "wandb/run-1/files/config.yaml", "a: 1\n")
    put(bundle, "data.jsonl", '{"prompt": "1+1"}\n')
    lines = found(bundle)
    assert [line.partition(":")[0] for line in lines] == ["data.jsonl", "wandb/run-1/files/config.yaml"]
    assert all("--include" in line for line in lines)
    assert set(published_files(bundle)) == here


def test_what_is_included_by_name_is_published(bundle):
    put(bundle, "NOTES.txt", "Thanks.\n")
    assert found(bundle, "NOTES.txt") == []
    assert "NOTES.txt" in published_files(bundle, ["NOTES.txt"])
    assert found(bundle, "NOTES.txt", "gone.txt") == ["gone.txt: named with --include but missing"]


def test_a_file_that_changed_since_is_refused(bundle):
    put(bundle, "config.json", '{"model_type": "llama"}')
    assert found(bundle) == [
        "config.json: changed since the bundle was made; build it again, or add --include config.json"
    ]
    assert found(bundle, "config.json") == []


@pytest.mark.parametrize("kind", ["symlink", "hard link", "pipe", "folder link"])
def test_only_plain_files_are_published(bundle, tmp_path, kind):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("dear diary")
    place = bundle / "diary.txt"
    if kind == "symlink":
        place.symlink_to(tmp_path / "mine" / "diary.txt")
    elif kind == "folder link":
        place.symlink_to(tmp_path / "mine")
    elif kind == "hard link":
        os.link(tmp_path / "mine" / "diary.txt", place)
    else:
        os.mkfifo(place)
    lines = found(bundle, "diary.txt")
    assert lines[0].startswith("diary.txt: a ")


@pytest.mark.parametrize(
    "name",
    [
        b"caf\xe9.txt",
        b"a\nb.txt",
        "CON.txt",
        "a:b.txt",
        "end .",
        "e\u0301.txt",
        "a\u202eb.txt",
        " x.txt",
        ".git/config",
    ],
)
def test_odd_names_are_refused(bundle, name):
    path = os.path.join(os.fsencode(bundle), name if isinstance(name, bytes) else name.encode())
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write("x")
    assert any("name" in line for line in found(bundle, os.fsdecode(name)))


def test_names_that_collide_by_case_are_refused(bundle):
    put(bundle, "Config.json", "{}")
    assert any("capitals" in line for line in found(bundle, "Config.json"))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "optimizer.safetensors", "checkpoint-40/config.json"])
def test_pickles_and_training_state_are_refused_even_when_named(bundle, name):
    put(bundle, name, b"\x80\x04")
    assert any(line.startswith(name) for line in found(bundle, name))


# --- secrets ---


@pytest.mark.parametrize(
    "secret",
    [
        TOKEN,
        "hf_oauth_" + "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiIxIn0",
        "hf_jwt_" + "eyJhbGciOiJFZERTQSJ9.abc",
        "ghp_" + "a1B2" * 9,
        "github_pat_" + "11AAAAAAA0" * 3,
        "glpat-" + "x1Y2" * 5,
        "AKIA" + "Z7" * 8,
        "https://a.blob.core.windows.net/c?sp=r&sig=" + "aB3%2F" * 8 + "%3D",
        "sk-proj-" + "a1" * 20,
        "AIza" + "Sy1" * 11 + "xx",
        "xoxb-" + "123456789012-123456789012-" + "a1" * 12,
        "https://user:" + "pa55word@example.org/x",
        PRIVATE_KEY,
        "machine huggingface.co login ann password " + "s3cret",
        "WANDB_KEY=" + HEX,
        "export MY_PAT='" + "a1b2c3d4" * 3 + "'",
    ],
)
def test_a_secret_in_the_record_is_found_whatever_stands_before_it(bundle, secret):
    in_record(bundle, f"Answer.\n{secret}")
    lines = found(bundle)
    assert any(line.startswith("run.json") and "holds" in line and "revoke" in line for line in lines), lines
    assert not any(secret.strip() in line for line in lines)


@pytest.mark.parametrize("before", ["", "\t", "word_", "\\n", "%20", "&#10;"])
def test_a_token_needs_no_blank_before_it(before):
    assert Secrets().find(before + TOKEN)


@pytest.mark.parametrize(
    "encode",
    [
        lambda t: "".join(f"\\{ord(c):03o}" for c in t),
        lambda t: "".join(f"\\u{{{ord(c):x}}}" for c in t),
        lambda t: t[:9] + "\\\n" + t[9:],
        lambda t: t[:9] + "\u200b" + t[9:],
        lambda t: "".join(chr(ord(c) + 0xFEE0) for c in t),
        lambda t: "x_" + t.encode().hex(),
        lambda t: t.replace("_", "+AF8-"),
        lambda t: "+" + base64.b64encode(t.encode("utf-16-be")).decode().rstrip("=") + "-",
        lambda t: base64.encodebytes(
            b"\xff long enough that it takes a second line of text " + t.encode()
        ).decode(),
        lambda t: base64.b64encode(base64.urlsafe_b64encode(b"\xff\xfe?" + t.encode())).decode(),
        lambda t: base64.b64encode(
            gzip.compress(b"a text that does not compress: " + t.encode(), mtime=0)
        ).decode(),
    ],
)
def test_a_token_is_found_in_any_usual_encoding(encode):
    assert Secrets().find("A text.\n" + encode(TOKEN)) == ("a Hugging Face access token", None)


def test_a_secret_in_a_name_is_found(bundle):
    put(bundle, f"{TOKEN}.txt", "x")
    lines = found(bundle, f"{TOKEN}.txt")
    assert "in its name" in lines[0]
    assert TOKEN not in "".join(lines)


@pytest.mark.parametrize(
    "value",
    [
        [TOKEN[:12], TOKEN[12:]],
        {"a": {"first": TOKEN[:20], "second": TOKEN[20:]}},
        {"bytes": list(TOKEN.encode())},
    ],
)
def test_a_token_in_parts_or_in_numbers_is_found(tmp_path, value):
    put(tmp_path, "a.json", json.dumps(value))
    assert any(Secrets().find(text) for text in read_contents(tmp_path / "a.json").texts)


def test_a_vocabulary_is_no_secret_in_parts():
    syllables = ["hf_", "AbCdEf", "GhIjKl", "AKIA", "MNOPQRST", "UVWXYZAB", *("abcdefgh" for _ in range(50))]
    assert not any(Secrets().find(text) for text in strings({"merges": syllables, "ids": [*range(9, 127)]}))


def parquet_of(values: pa.Array) -> bytes:
    file = pa.BufferOutputStream()
    pq.write_table(pa.table({"a": values}), file)
    return file.getvalue().to_pybytes()


def png(*chunks: tuple[bytes, bytes], behind: bytes = b"") -> bytes:
    parts = [(b"IHDR", bytes(13)), *chunks, (b"IEND", b"")]
    made = [len(b).to_bytes(4, "big") + k + b + zlib.crc32(k + b).to_bytes(4, "big") for k, b in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(made) + behind


def parquet_schema(place: str) -> bytes:
    metadata, name = ({"by": TOKEN}, "a") if place == "metadata" else (None, TOKEN)
    inner = pa.field(name, pa.int8(), metadata=metadata)
    file = pa.BufferOutputStream()
    pq.write_table(
        pa.table([pa.array([None], pa.struct([inner]))], pa.schema([("s", pa.struct([inner]))])), file
    )
    return file.getvalue().to_pybytes()


def wheel() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("x/settings.py", f"# {TOKEN}\n" * 9)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.png", png((b"tEXt", b"Comment\0" + TOKEN.encode()))),
        ("a.png", png((b"zTXt", b"Comment\0\0" + zlib.compress(TOKEN.encode())))),
        ("a.png", png((b"iTXt", b"x\0\1\0\0\0" + zlib.compress(TOKEN.encode())))),
        ("a.png", png(behind=gzip.compress(TOKEN.encode(), mtime=0))),
        ("a.png", b"not a picture \xff"),
        ("a.parquet", parquet_schema("metadata")),
        ("a.parquet", parquet_schema("name")),
        ("a.parquet", parquet_of(pa.array([[TOKEN.encode()]]))),
        ("a.parquet", parquet_of(pa.array([None, list(TOKEN.encode())]))),
        ("a.parquet", parquet_of(pa.array([[list(TOKEN.encode())]], pa.list_(pa.list_(pa.uint8()))))),
        ("a-1-py3-none-any.whl", wheel()),
    ],
)
def test_every_place_of_a_file_is_read(tmp_path, name, data):
    put(tmp_path, name, data)
    read = read_contents(tmp_path / name)
    assert read.problem or any(Secrets().find(text) for text in read.texts)


def test_keys_in_the_numbers_of_weights_are_found():
    assert Secrets().find_bytes(b"\0" * 99 + PRIVATE_KEY.encode()) == "a private key"
    assert Secrets().find_bytes(b"\0ghp_" + b"a1B2" * 9) == "credentials (GitHub Token)"
    assert Secrets().find_bytes(b"-----BEGIN ghp_hf_AKIA" * 9) is None


def parquet(folder: Path) -> str:
    Trace.to_parquet(
        [example_trace().replace(prompt="log in with\n" + TOKEN)], folder / "traces/traces.parquet"
    )
    return "traces/traces.parquet"


def foreign_parquet(folder: Path) -> str:
    table = pa.table({"a": [[{"b": "x\n" + TOKEN}]], "c": [b"\xff"]})
    pq.write_table(table, folder / "more.parquet", compression="zstd")
    return "more.parquet"


def weights(folder: Path) -> str:
    header = json.dumps({"__metadata__": {"by": "me\n" + TOKEN}}).encode()
    put(folder, "model.safetensors", len(header).to_bytes(8, "little") + header)
    return "model.safetensors"


def inside_weights(folder: Path) -> str:
    write_safetensors(folder / "model.safetensors", b"\0" * 50 + TOKEN.encode() + b"\0" * 50)
    return "model.safetensors"


def template(folder: Path) -> str:
    put(folder, "tokenizer_config.json", json.dumps({"chat_template": "{# x\n" + TOKEN + " #}"}))
    return "tokenizer_config.json"


def escaped(folder: Path) -> str:
    put(folder, "generation_config.json", '{"a": "\\u0068' + TOKEN[1:] + '"}')
    return "generation_config.json"


def json_in_json(folder: Path) -> str:
    put(folder, "generation_config.json", json.dumps({"a": json.dumps({"b": "\n" + TOKEN})}))
    return "generation_config.json"


def utf16(folder: Path) -> str:
    put(folder, "notes.txt", ("x " + TOKEN).encode("utf-16"))
    return "notes.txt"


def base_64(folder: Path) -> str:
    put(folder, "notes.txt", "Basic " + base64.b64encode(f"ann:{TOKEN}".encode()).decode())
    return "notes.txt"


def yaml(folder: Path) -> str:
    put(folder, "notes.yaml", f'a: "\\x68{TOKEN[1:]}"\n')
    return "notes.yaml"


def gguf(folder: Path) -> str:
    def text(t: str) -> bytes:
        return len(t).to_bytes(8, "little") + t.encode()

    value = (
        (9).to_bytes(4, "little") + (8).to_bytes(4, "little") + (1).to_bytes(8, "little") + text("\n" + TOKEN)
    )
    head = b"GGUF" + (3).to_bytes(4, "little") + (0).to_bytes(8, "little") + (1).to_bytes(8, "little")
    put(folder, "model.gguf", head + text("general.author") + value)
    return "model.gguf"


def service_account(folder: Path) -> str:
    put(folder, "google.txt", json.dumps({"type": "service_account", "project_id": "x"}))
    return "google.txt"


def kaggle(folder: Path) -> str:
    put(folder, "kaggle.json", json.dumps({"username": "ann", "key": HEX}))
    return "kaggle.json"


def private_key(folder: Path) -> str:
    put(folder, "readme.txt", PRIVATE_KEY)
    return "readme.txt"


def environment(folder: Path) -> str:
    put(folder, "settings.txt", "# mine\nDATABASE=postgres\nHOST=db.example.org\n")
    return "settings.txt"


def archive(folder: Path) -> str:
    put(folder, "more.json", b"PK\x03\x04 zipped")
    return "more.json"


@pytest.mark.parametrize(
    "hide",
    [
        *(parquet, foreign_parquet, weights, inside_weights, template, escaped, json_in_json, utf16, base_64),
        *(yaml, gguf, service_account, kaggle, private_key, environment, archive),
    ],
)
def test_a_secret_is_found_in_every_kind_of_file(bundle, hide):
    name = hide(bundle)
    lines = [line for line in found(bundle, name) if line.startswith(name)]
    assert re.search("holds|shape of|can't be searched", lines[0]), lines
    assert not any(TOKEN in line for line in lines)


@pytest.mark.parametrize(
    "variable", ["AWS_SECRET_ACCESS_KEY", "GH_PAT", "WANDB_KEY", "MY_TOKEN", "DB_PASSWORD", "app_secret"]
)
def test_own_secrets_of_the_environment_are_looked_for(bundle, monkeypatch, variable):
    monkeypatch.setenv(variable, 'tr0ub4dor&3"x')
    in_record(bundle, 'it is tr0ub4dor&3"x, you know')
    assert found(bundle) == [f"run.json: holds the value of {variable}; remove it and revoke it"]


def test_the_token_given_to_the_push_is_looked_for(bundle):
    in_record(bundle, "my-own-secret-token")
    assert found(bundle) == []
    assert len(check_bundle(bundle, token="my-own-secret-token")) == 1


def test_ordinary_files_of_models_are_not_taken_for_secrets(bundle):
    put(
        bundle,
        "tokenizer_config.json",
        json.dumps(
            {
                "eos_token": "<|im_end|>",
                "pad_token": "<|reserved_special_token_17|>",
                "chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}",
                "extra": "a key: 3x + 4y = 12, the token hf_oauth_expiration_minutes: 480",
            }
        ),
    )
    put(
        bundle,
        "tokenizer.json",
        json.dumps({"vocab": {f"tok{i}": i for i in range(500)}, "map": "A" * 86 + "=="}),
    )
    assert found(bundle, "tokenizer_config.json", "tokenizer.json") == []


# --- paths, code, weights, card ---


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("notes.txt", "see /home/ann/runs\n", r"notes.txt:1: holds a path of this machine"),
        ("notes.txt", "C:\\Users\\ann\\runs\n", r"notes.txt:1: holds a path of this machine"),
        (
            "generation_config.json",
            '{"c": "/mnt/disk7/cache"}',
            r"generation_config.json: c is an absolute path",
        ),
        ("config.json", '{"auto_map": {"AutoConfig": "x.C"}}', r"config.json: auto_map names code"),
        (
            "tokenizer_config.json",
            '{"a": {"auto_map": {"b": "c"}}}',
            r"tokenizer_config.json: auto_map names code",
        ),
        ("config.json", "{", r"config.json: is not valid JSON"),
        ("config.json", "[" * 100_000, r"config.json: is not valid JSON \(nested"),
        ("config.json", '{"a": ' + "9" * 5000 + "}", r"config.json: is not valid JSON \(Exceeds"),
        ("notes.yaml", "a: &a [x]\nb: *a\n", r"notes.yaml: is not valid YAML \(aliases"),
        ("merges.txt", b"\xff\xfe", r"merges.txt: is not UTF-8 text"),
        (
            "model.safetensors.index.json",
            '{"weight_map": []}',
            r"model.safetensors.index.json: has no weight_map",
        ),
        ("model.safetensors.index.json", '{"weight_map": {"a": "../x"}}', r"\.\./x: named in .* but missing"),
        (
            "model.safetensors.index.json",
            '{"weight_map": {"a": "model.safetensors"}}',
            r"model.safetensors.index.json: a is not in model.safetensors",
        ),
        (
            "adapter_config.json",
            '{"base_model_name_or_path": "evil/base"}',
            r"adapter_config.json: its base is",
        ),
        (
            "adapter_config.json",
            '{"base_model_name_or_path": "builtin:tiny-reasoner", "auto_mapping": {"parent_library": "os"}}',
            r"adapter_config.json: auto_mapping names code",
        ),
        ("model.safetensors", b"\x80\x04pickle", r"model.safetensors: is not a safetensors file"),
        ("README.md", "# Hello\n", r"README.md: has no metadata"),
        ("README.md", "---\na: [\n---\n", r"README.md: its metadata is not valid YAML"),
        ("README.md", "---\na: 2026-99-99\n---\n", r"README.md: its metadata is not valid YAML"),
        ("README.md", "---\na: b\n---\n![x](../secret.png)\n", r"README.md: shows ../secret.png"),
        ("README.md", "---\na: b\n---\n![x][y]\n\n[y]: /etc/passwd\n", r"README.md: shows /etc/passwd"),
        ("README.md", "---\na: b\n---\n<img src='%2e%2e/x'>\n", r"README.md: shows \.\./x"),
        ("README.md", "---\na: b\n---\n" + "![" * (1 << 19), r"README.md: is larger than 1 MiB"),
        ("run.json", '{"schema_version": 2}', r"run.json is not a run record"),
        ("run.json", "[]", r"run.json is not a run record"),
        ("traces/traces.parquet", b"PAR1" + b"x" * 50, r"traces/traces.parquet: is not a readable Parquet"),
    ],
)
def test_one_line_says_what_is_wrong(bundle, name, text, said):
    put(bundle, name, text)
    lines = found(bundle, name)
    assert any(re.match(said, line) for line in lines), lines


@pytest.mark.parametrize("name", ["run.json", "README.md", "config.json", "model.safetensors"])
def test_a_folder_or_nothing_in_place_of_a_file(bundle, name):
    (bundle / name).unlink()
    assert found(bundle)
    (bundle / name).mkdir()
    assert found(bundle)


@pytest.mark.parametrize(
    "header",
    [
        *([], "x", None, {}, {"w": [1]}, {"w": {"dtype": "F32", "shape": [1]}}, {"__metadata__": []}),
        *(
            {"w": {"dtype": "F32", "shape": [1], "data_offsets": x}}
            for x in ([0, 4], ["0", "x"], [0, -5], [4])
        ),
        {"w": {"dtype": "F32", "shape": [10**9], "data_offsets": [0, 0]}},
    ],
)
def test_weights_whose_header_lies_are_refused(bundle, header):
    raw = json.dumps(header).encode()
    put(bundle, "model.safetensors", len(raw).to_bytes(8, "little") + raw)
    assert any(re.match("model.safetensors: (has|was|contains|is)", line) for line in found(bundle))


@pytest.mark.parametrize(
    "asks", [{"vocab_size": 10**9}, {"text_config": {"hidden_size": 10**6}}, {"n_layer": 10**400}]
)
def test_a_config_that_asks_for_more_than_the_weights_is_refused(bundle, asks):
    config = json.loads((bundle / "config.json").read_text())
    put(bundle, "config.json", json.dumps(config | asks))
    assert any("config.json: asks for" in line for line in found(bundle, "config.json"))


def test_traces_that_lead_out_of_the_bundle_are_refused(bundle):
    run = json.loads((bundle / "run.json").read_text())
    run["traces"][0]["file"] = "../../../etc/passwd"
    put(bundle, "run.json", json.dumps(run))
    assert found(bundle)[0] == "../../../etc/passwd: named in run.json but missing"


@pytest.mark.parametrize("traces", [None, [], "gone"])
def test_a_record_that_lost_its_traces_is_refused(bundle, traces):
    run = json.loads((bundle / "run.json").read_text()) | {"traces": traces}
    run = {k: v for k, v in run.items() if v != "gone"}
    put(bundle, "run.json", json.dumps(run))
    assert found(bundle) == [
        "traces/0001.json: listed in run.json, but not among its traces; build the bundle again"
    ]


@pytest.mark.parametrize("change", [{"seed": 7}, {"cost": {}}, {"digest": None}])
def test_a_record_that_was_changed_by_hand_is_refused(bundle, change):
    run = json.loads((bundle / "run.json").read_text()) | change
    put(bundle, "run.json", json.dumps(run))
    assert found(bundle) == ["run.json: was changed after it was written; build the bundle again"]


def test_a_record_may_be_spaced_otherwise(bundle):
    put(bundle, "run.json", json.dumps(json.loads((bundle / "run.json").read_text()), indent=3))
    assert found(bundle) == []


# --- paths that are only spoken of ---

SPOKEN = (
    f"cat {tempfile.gettempdir()}/file0.txt | wc -l; cd /home/user/docs; ls {Path.home()}/ /Users/bob/x; "
    "type C:\\Users\\bob\\a.txt"
)


@pytest.fixture
def of_the_shell(tmp_path: Path) -> Path:
    """A bundle whose questions and answers name paths, one of which is there."""
    text = f"{SPOKEN}; rm {tmp_path}/weights/vocab.txt"
    trace = example_trace().replace(prompt=text, gold=text, answer=text, strings={1: SPOKEN})
    shown = trace.replace(completion=text, pieces=[text, *[""] * (len(trace) - 1)])
    run = example_run(prompt={"chat_template": False, "system": text, "example": text})
    run["dataset"]["samples"] = [{"prompt": text, "answer": text}]
    weights = fake_weights(tmp_path / "weights")
    return build_bundle(run, weights, tmp_path / "bundle", traces=[shown, trace], figures=False).folder


def test_questions_and_answers_may_speak_of_paths(of_the_shell):
    assert "/file0.txt" in (of_the_shell / "README.md").read_text()
    assert found(of_the_shell) == []


@pytest.mark.parametrize("place", ["README.md", "run.json", "traces/0001.json", "traces/traces.parquet"])
def test_a_path_that_is_here_counts_where_nobody_asked_for_it(of_the_shell, tmp_path, place):
    (tmp_path / "my runs").mkdir()
    path = f"see {tmp_path}/my runs/erpo"
    if place == "README.md":
        put(of_the_shell, place, (of_the_shell / place).read_text() + f"\n{path}\n")
    elif place == "run.json":
        run = json.loads((of_the_shell / place).read_text())
        run["hardware"]["cpu"] = path
        put(of_the_shell, place, json.dumps(run))
    else:
        trace = Trace.from_json(of_the_shell / "traces/0001.json").replace(generation={"from": path})
        trace.to_json(of_the_shell / place) if place.endswith("json") else Trace.to_parquet(
            [trace], of_the_shell / place
        )
    assert any(line.startswith(place) and "a path of this machine" in line for line in found(of_the_shell))


def test_an_owner_on_the_hub_may_be_called_as_the_user_here(tmp_path, monkeypatch):
    monkeypatch.setenv("LOGNAME", "alice")
    run = example_run()
    run["base_model"] |= {"id": "alice/base-model", "source": "hub", "revision": "a" * 40}
    made = build_bundle(run, fake_weights(tmp_path / "w"), tmp_path / "bundle", figures=False).folder
    assert "https://huggingface.co/alice/base-model" in (made / "README.md").read_text()
    put(made, "notes.txt", "datasets/alice/x hf://models/alice/x [x](https://hf.co/alice/x/) alice/x\n")
    assert found(made, "notes.txt") == []
    for path in ("/data/alice/runs", "C:\\work\\alice\\x", "cache=/data/alice/x", "file:///data/alice/x"):
        put(made, "notes.txt", f"see {path}\n")
        assert found(made, "notes.txt") == [
            "notes.txt:1: holds a path of this machine (alice); write a relative path"
        ]


def test_a_path_that_a_card_names_often_is_looked_up_once(of_the_shell, monkeypatch):
    exists, asked = os.path.lexists, []
    monkeypatch.setattr(os.path, "lexists", lambda path: asked.append(str(path)) or exists(path))
    card = (of_the_shell / "README.md").read_text()
    put(of_the_shell, "README.md", card + f"\n{tempfile.gettempdir()}/not-here-1\n" * 500)
    assert found(of_the_shell) == []
    assert len([path for path in asked if "not-here-1" in path]) < 5
