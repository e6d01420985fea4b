"""Datasets from the Hub, over real HTTP to the project's own small Hub, and from the cache without it."""

import bz2
import gzip
import io
import json
import lzma
import os
import subprocess
import sys
import zipfile

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from erpo_hub.errors import UserError
from erpo_hub.tasks import hub_data
from tests.hub_server import HubServer

README = """---
license: mit
configs:
- config_name: main
  data_files: [{split: train, path: main-train.jsonl}, {split: test, path: main-test.jsonl}]
- config_name: socratic
  data_files: [{split: train, path: socratic-train.jsonl}]
---
# Sums
"""

LOAD = """
import json, sys
from erpo_hub.errors import UserError
from erpo_hub.tasks.tasks import load_task
for spec in sys.argv[1:]:
    try:
        print(json.dumps(load_task(spec).describe()))
    except UserError as error:
        print(json.dumps(str(error)))
"""


def load_elsewhere(url, home, *specs, offline=False):
    """`describe()` or the error line of each spec, from a process whose Hub is at `url`."""
    env = {**os.environ, "HF_ENDPOINT": url, "HF_HOME": str(home), "HF_HUB_OFFLINE": str(int(offline))}
    done = subprocess.run(
        [sys.executable, "-c", LOAD, *specs], env=env, capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_hub_datasets(tmp_path):
    rows = "".join(
        json.dumps({"question": f"{i}+1?", "answer": f"so\n#### {i + 1}"}) + "\n" for i in range(30)
    )
    with HubServer(tmp_path / "hub") as hub:
        hub.state.create("datasets", "owner/sums", "owner")
        files = {
            "README.md": README,
            "main-train.jsonl": rows,
            "main-test.jsonl": rows[: len(rows) // 3].rpartition("\n")[0],
        }
        for path, text in {**files, "socratic-train.jsonl": rows}.items():
            commit = hub.push_as_someone_else("owner/sums", path, text.encode(), kind="datasets")
        hub.state.create("datasets", "owner/leads-out", "owner")
        out = README.replace("main-train.jsonl", f"zip://*::{tmp_path}/mine.zip")
        hub.push_as_someone_else("owner/leads-out", "README.md", out.encode(), kind="datasets")
        main, socratic, config, split, missing, revision, column, leads_out = load_elsewhere(
            hub.url,
            tmp_path / "home",
            "owner/sums",
            "owner/sums?config=socratic",
            "owner/sums?config=x",
            "owner/sums?split=x",
            "owner/nothing",
            "owner/sums?revision=v9",
            "owner/sums?prompt=x",
            "owner/leads-out",
        )
    assert leads_out.startswith("owner/leads-out: its card leads out of the repository ('zip://")
    assert (main["id"], main["revision"], main["license"]) == ("owner/sums", commit.oid, "mit")
    assert main["samples"][0]["answer"].isdigit()
    assert 0 < main["test_rows"] < 30 == main["test_rows"] + main["train_rows"]
    assert (socratic["train_rows"], socratic["test_rows"]) == (27, 3)
    assert config == "owner/sums?config=x: no config 'x'; it has: main, socratic"
    assert split == "owner/sums?split=x: no split 'x'; it has: train, test"
    assert missing.startswith("owner/nothing: no such dataset, or no access")
    assert revision.startswith("owner/sums: has no revision 'v9'")
    assert "no 'x' column (it has: question, answer)" in column

    cached, other = load_elsewhere(
        hub.url, tmp_path / "home", "owner/sums?config=main", "owner/other", offline=True
    )
    assert cached["fingerprint"] == main["fingerprint"]
    assert cached["revision"] is cached["license"] is None  # not known, so not said
    assert other.startswith("owner/other: the Hub does not answer")


def test_parquet_on_the_hub_is_looked_over_before_it_is_read(tmp_path):
    good = pa.table({"prompt": [f"{i}+1?" for i in range(30)], "answer": [str(i + 1) for i in range(30)]})
    many = pa.array(np.zeros(9_000_000), pa.int32())
    lists = pa.ListArray.from_arrays(pa.array([0, *[len(many)] * 30], pa.int32()), many)
    card = b"---\nconfigs:\n- {config_name: default, data_files: train.parquet}\n---\n"
    with HubServer(tmp_path / "hub") as hub:

        def publish(name, data):
            hub.state.create("datasets", f"owner/{name}", "owner")
            hub.push_as_someone_else(f"owner/{name}", "README.md", card, kind="datasets")
            hub.push_as_someone_else(f"owner/{name}", "train.parquet", data, kind="datasets")

        for name, table in {"good": good, "bomb": good.append_column("n", lists)}.items():
            pq.write_table(table, tmp_path / name, compression="zstd")
            publish(name, (tmp_path / name).read_bytes())
        publish("broken", b"PAR1 no more PAR1")
        read, bomb, broken = load_elsewhere(
            hub.url, tmp_path / "home", "owner/good", "owner/bomb", "owner/broken"
        )
    assert read["train_rows"] + read["test_rows"] == 30
    assert bomb.startswith("hf://datasets/owner/bomb@")
    assert "so many equal values is refused" in bomb
    assert broken.startswith("hf://datasets/owner/broken@")
    assert "cannot be read as parquet" in broken


ROWS = "".join(json.dumps({"prompt": f"{i}+1?", "answer": f"{i + 1}"}) + "\n" for i in range(30))
DATA = "data_files: train.jsonl"
BROKEN = {  # name: (card's config or the whole card, further files, what the one line says)
    "good": (f"{{config_name: default, {DATA}, default: true, description: sums}}", {}, None),
    "csv": (
        "{config_name: default, data_files: t.csv, sep: ';', encoding: utf-8, header: 0}",
        {"t.csv": "prompt;answer\n" + "".join(f"{i}+1?;{i + 1}\n" for i in range(30))},
        None,
    ),
    "packed": (
        "{config_name: default, data_files: t.jsonl.gz}",
        {"t.jsonl.gz": gzip.compress(ROWS.encode())},
        None,
    ),
    "name": (f"{{config_name: default, {DATA}, name: x}}", {}, "its card sets name: 'x'"),
    "chunks": (f"{{config_name: default, {DATA}, chunksize: abc}}", {}, "its card sets chunksize: 'abc'"),
    "whole": (f"{{config_name: default, {DATA}, chunksize: null}}", {}, "its card sets chunksize: None"),
    "field": (f"{{config_name: default, {DATA}, field: rows}}", {}, "its card sets field: 'rows'"),
    "sign": (f"{{config_name: default, {DATA}, sep: '(a+)+b'}}", {}, "its card sets sep: '(a+)+b'"),
    "features": (f"{{config_name: default, {DATA}, features: 5}}", {}, "cannot be read as a dataset"),
    "dtype": (
        f"{{config_name: default, {DATA}, features: [{{name: prompt, dtype: [1]}}]}}",
        {},
        "cannot be read as a dataset",
    ),
    "config": (f"{{config_name: [1], {DATA}}}", {}, "cannot be read as a dataset"),
    "infos": (
        f"{{config_name: default, {DATA}}}",
        {"dataset_infos.json": "[]"},
        "cannot be read as a dataset",
    ),
    "h5": ("{config_name: default, data_files: t.h5}", {"t.h5": "x"}, "cannot be read as a dataset"),
    "lance": ("{config_name: default, data_files: t.lance}", {"t.lance": "x"}, "cannot be read as a dataset"),
    "tar": (
        "{config_name: default, data_files: t.tar}",
        {"t.tar": "x" * 2000},
        "cannot be read as a dataset",
    ),
    "gz": (
        "{config_name: default, data_files: t.jsonl.gz}",
        {"t.jsonl.gz": "x"},
        "cannot be read as a dataset",
    ),
    "settings": (
        f"{{config_name: default, {DATA}}}",
        {".huggingface.yaml": f"configs: [{{config_name: default, {DATA}, field: rows}}]"},
        "its card sets field: 'rows'",
    ),
    "leads-out": (
        f"{{config_name: default, {DATA}}}",
        {".huggingface.yaml": "configs: [{config_name: default, data_files: HERE}]"},
        "",  # by this package or by datasets, whichever is first
    ),
}


def test_whatever_a_card_or_its_files_hold_is_one_line(tmp_path):
    mine = tmp_path / "mine.jsonl"
    mine.write_text(ROWS)
    with HubServer(tmp_path / "hub") as hub:
        for name, (config, files, _) in BROKEN.items():
            hub.state.create("datasets", f"owner/{name}", "owner")
            card = f"---\nlicense: [1, mit]\nconfigs: [{config}]\n---\n"
            files = {"README.md": card, "train.jsonl": ROWS, **files}
            for path, data in files.items():
                data = data.replace("HERE", str(mine)).encode() if isinstance(data, str) else data
                hub.push_as_someone_else(f"owner/{name}", path, data, kind="datasets")
        found = load_elsewhere(hub.url, tmp_path / "home", *(f"owner/{name}" for name in BROKEN))
    for (name, (_, _, message)), told in zip(BROKEN.items(), found):
        if message is None:
            assert told["train_rows"] + told["test_rows"] == 30, name
            assert told["license"] == "1, mit"
        else:
            assert told.startswith(f"owner/{name}: {message}"), (name, told)


def zipped(data, name="a.jsonl"):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("a.jsonl.gz", gzip.compress),
        ("a.csv.gz", gzip.compress),
        ("a.json.gz", gzip.compress),
        ("a.txt.bz2", bz2.compress),
        ("a.jsonl.xz", lzma.compress),
        ("a.zip", zipped),
    ],
)
def test_packed_files_on_the_hub_are_unpacked_up_to_a_limit(tmp_path, monkeypatch, name, pack):
    monkeypatch.setattr(hub_data, "MAX_UNPACKED", 100_000)
    kind = {"csv": "csv", "txt": "text"}.get(name.split(".")[1], "json")

    def looked_over(data):
        (tmp_path / name).write_bytes(data)
        files = {"train": [str(tmp_path / name)]}
        hub_data._check_files(datasets.load_dataset_builder(kind, data_files=files, cache_dir=str(tmp_path)))

    looked_over(pack(ROWS.encode()))
    with pytest.raises(UserError, match=f"{name}: comes to more than"):
        looked_over(pack(ROWS.encode() * 1000))
    with pytest.raises(UserError, match=f"{name}: is packed more than once"):
        looked_over(pack(gzip.compress(ROWS.encode())))
