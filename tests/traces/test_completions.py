"""The completions table of a run: what ERPO adds to it, read back from Parquet and from Trackio."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tiny_models import chat_tokenizer
from training import chat_sums, config, trainer
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

from erpo_hub import Trace
from erpo_hub.errors import UserError
from erpo_hub.traces.pivots import find_pivots
from erpo_hub.ui.library.completions import COLUMN, trace_of_row, traces_from_completions
from erpo_hub.ui.library.library import Limits, open_library

LOGGED = {"log_completions": True, "num_completions_to_print": 1, "max_steps": 2}


@pytest.fixture(scope="module")
def run(tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "demo"
    trainer(tiny_model, config(folder, **LOGGED, learning_rate=0.0, temperature=0.8)).train()
    return folder


def test_traces_of_a_run(run: Path, tiny_model: str, tmp_path: Path) -> None:
    """Every number as a plain forward of the policy gives it (it stands still here: learning rate 0)."""
    traces = traces_from_completions(run / "completions", tiny_model)
    assert len(traces) == 16
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    for trace in traces:
        ids = torch.tensor([trace.prompt_tokens + trace.tokens])
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0, len(trace.prompt_tokens) - 1 : -1] / 0.8
        log_probs = torch.log_softmax(logits, -1)
        entropy = -(log_probs.exp() * log_probs).sum(-1)
        torch.testing.assert_close(torch.tensor(trace.entropy), entropy, atol=2e-4, rtol=0)
        chosen = log_probs[range(len(trace)), trace.tokens]
        torch.testing.assert_close(torch.tensor(trace.logprob), chosen, atol=2e-4, rtol=0)
        assert trace.pivots == find_pivots(trace.entropy)
        assert trace.finish_reason == ("eos" if trace.tokens[-1] == 1 else "length")
        assert trace.num_alternatives == 0
        assert trace.generation["temperature"] == 0.8
        assert trace.generation["step"] in (1, 2)
        assert "digits_reward" in trace.generation
        assert trace.model == "demo"
    Trace.to_parquet(traces, tmp_path / "traces.parquet")
    assert Trace.from_parquet(tmp_path / "traces.parquet") == traces


def test_text_is_that_of_the_table(run: Path, tiny_model: str) -> None:
    file = run / "completions" / "completions_00002.parquet"
    table = pq.read_table(file).to_pylist()
    traces = traces_from_completions(file, AutoTokenizer.from_pretrained(tiny_model), model="mine")
    assert [trace.completion for trace in traces] == [row["completion"] for row in table]
    assert [trace.prompt for trace in traces] == [row["prompt"] for row in table]
    assert traces[0].model == "mine"


def test_the_newest_checkpoint_lends_its_tokenizer(tiny_model: str, tmp_path: Path) -> None:
    """Also with chat prompts: the question is shown, the prompt's tokens are what the model was fed."""
    tokenizer = chat_tokenizer(tiny_model)
    options = {"processing_class": tokenizer, "dataset": chat_sums()}
    trainer(tiny_model, config(tmp_path, **LOGGED, save_strategy="steps", save_steps=1), **options).train()
    traces = traces_from_completions(tmp_path / "completions")
    assert len(traces) == 16
    question = [{"role": "user", "content": traces[0].prompt}]
    fed = tokenizer.apply_chat_template(question, add_generation_prompt=True)["input_ids"]
    assert traces[0].prompt_tokens == fed


def test_masked_completions_are_left_out(tiny_model: str, tmp_path: Path) -> None:
    changes = {"mask_truncated_completions": True, "max_completion_length": 24}
    trainer(tiny_model, config(tmp_path, **LOGGED, **changes)).train()
    traces = traces_from_completions(tmp_path / "completions", tiny_model)
    assert 0 < len(traces) < 16
    assert {trace.finish_reason for trace in traces} == {"eos"}


def test_what_cannot_be_read(tiny_model: str, tmp_path: Path) -> None:
    def refuses(words: str, *args) -> None:
        with pytest.raises(UserError, match=words) as caught:
            traces_from_completions(*args)
        assert "\n" not in str(caught.value)

    refuses("contains no completions", tmp_path)
    refuses("not a readable Parquet file", tmp_path / "missing.parquet", tiny_model)
    (tmp_path / "text.parquet").write_text("no")
    refuses("not a readable Parquet file", tmp_path / "text.parquet", tiny_model)
    grpo = trainer(tiny_model, config(tmp_path, GRPOConfig, **LOGGED), GRPOTrainer)
    grpo.train()
    refuses("has no column 'erpo/tokens'", tmp_path / "completions", tiny_model)
    refuses("no tokenizer there yet", tmp_path / "completions")
    refuses("no such folder", tmp_path / "completions", str(tmp_path / "nowhere"))


def test_numbers_that_are_not_finite(run: Path, tiny_model: str, tmp_path: Path) -> None:
    rows = pq.read_table(run / "completions" / "completions_00001.parquet").to_pylist()
    rows[3][COLUMN]["entropy"][0] = float("nan")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "broken.parquet")
    with pytest.raises(UserError, match="completion 3: entropy contains a number that is not finite"):
        traces_from_completions(tmp_path / "broken.parquet", tiny_model)


ODD_ROWS = {
    "no record": {COLUMN: None},
    "a record that is a number": {COLUMN: 7},
    "no prompt_ids": {COLUMN: {"ids": [1, 2]}},
    "ids of text": {COLUMN: {"ids": ["a"]}},
    "ids that are a number": {COLUMN: {"ids": 3}},
    "an id below 0": {COLUMN: {"ids": [-5]}},
    "no id": {COLUMN: {"ids": [None]}},
    "a prompt that is a number": {"prompt": 5},
    "a chat of numbers": {"prompt": [1, 2]},
    "a chat without contents": {"prompt": [{"role": "user"}]},
    "an empty chat": {"prompt": []},
}


@pytest.mark.parametrize("change", ODD_ROWS.values(), ids=ODD_ROWS)
def test_a_strangers_row_is_one_line_and_the_app_starts(
    change: dict, run: Path, tiny_model: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    row = pq.read_table(run / "completions" / "completions_00001.parquet").to_pylist()[0]
    checkpoints = tmp_path / "live" / "checkpoints"
    shutil.copytree(tiny_model, checkpoints / "checkpoint-1")
    (checkpoints / "completions").mkdir()
    file = checkpoints / "completions" / "completions_00001.parquet"
    pq.write_table(pa.Table.from_pylist([row | change]), file)
    (tmp_path / "live" / "run.json").write_text(
        json.dumps({"algorithm": "erpo", "status": "running", "history": []})
    )
    with pytest.raises(UserError, match="completion 0"):
        traces_from_completions(file)
    library = open_library([tmp_path / "live"], Limits())
    assert list(library.runs) == ["live"]
    assert library.traces == {}
    assert caplog.text.count("its logged completions can't be shown") == 1
    with pytest.raises(UserError, match="completion 0"):  # given by itself there is nothing else to show
        open_library([file], Limits())


def test_a_table_without_prompts_is_refused(run: Path, tiny_model: str, tmp_path: Path) -> None:
    table = pq.read_table(run / "completions" / "completions_00001.parquet").drop_columns("prompt")
    pq.write_table(table, tmp_path / "completions_00001.parquet")
    with pytest.raises(UserError, match="completion 0 can't be read"):
        traces_from_completions(tmp_path / "completions_00001.parquet", tiny_model)


def test_the_tokenizer_of_another_model(run: Path, tiny_model: str) -> None:
    row = pq.read_table(run / "completions" / "completions_00001.parquet").to_pylist()[0]
    row[COLUMN]["ids"][0] = 5000
    with pytest.raises(UserError, match="id 5000 is not among the tokenizer's 47"):
        trace_of_row(row, AutoTokenizer.from_pretrained(tiny_model), "demo")


TRACKIO = """
import sys
from training import config, trainer
options = {"log_completions": True, "num_completions_to_print": 1, "max_steps": 1,
           "log_completions_every": 1}
args = config(sys.argv[2], report_to="trackio", project="demo", run_name="first",
              trackio_static_space_id=False, **options)
trainer(sys.argv[1], args).train()
"""


def test_trackio_gets_the_same_table(tiny_model: str, tmp_path: Path) -> None:
    """Offline and local. Trackio reads its folder when it is imported, so it gets a process of its own."""
    read = (
        "import json, sys\nfrom trackio.sqlite_storage import SQLiteStorage\n"
        "logs = SQLiteStorage.get_logs('demo', 'first')\n"
        "kept = {t['key']: t for t in SQLiteStorage.get_traces('demo', run='first')}\n"
        "print(json.dumps([kept, [k for e in logs for k in e if k == 'completions/page']]))\n"
        "print(json.dumps([e['completions']['_value'] for e in logs if 'completions' in e][0]))"
    )
    paths = os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parents[2])])
    environment = os.environ | {
        "TRACKIO_DIR": str(tmp_path / "trackio"),
        "PYTHONPATH": paths,
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }

    def python(*args: str) -> str:
        done = subprocess.run([sys.executable, *args], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    python("-c", TRACKIO, tiny_model, str(tmp_path / "run"))
    *_, kept, rows = map(json.loads, python("-c", read).splitlines()[-2:])
    _check_logged(*kept, tmp_path / "run" / "groups" / "group_000000.parquet")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    traces = [trace_of_row(row, tokenizer, "run") for row in rows]
    assert traces == traces_from_completions(tmp_path / "run" / "completions", tokenizer)
    assert len(traces) == 8


def _check_logged(kept: dict, page: list[str], file: Path) -> None:
    """A trace each, with what the group record has of it, and one page."""
    traces = Trace.from_parquet(file)
    assert page == ["completions/page"]
    assert len(kept) == len(traces)
    for name, trace in zip(sorted(kept), traces):
        said = [message["content"] for message in kept[name]["messages"]]
        assert said == [trace.prompt, trace.completion]
        assert kept[name]["metadata"]["advantage"] == trace.generation["advantage"]
