"""Datasets from the Hub, over real HTTP to the project's own small Hub, and from the cache without it."""

import json
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

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
