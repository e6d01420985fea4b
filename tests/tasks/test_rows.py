"""Rows as people have them: names, nested columns, chat forms, containers, and what a Dataset may hold."""

import gzip
import json
import logging

import pytest
from datasets import Dataset, DatasetDict, Image
from datasets import Features as Columns

from erpo_hub.errors import UsageError, UserError
from erpo_hub.tasks.prompts import question
from erpo_hub.tasks.rows import read_rows
from erpo_hub.tasks.tasks import load_data, load_task


@pytest.mark.parametrize("text", ['["a",' + "[" * 100_000, '{"x":' * 100_000], ids=["lists", "objects"])
@pytest.mark.parametrize("column", ["answer", "prompt", "reward_model"])
def test_a_cell_that_is_nested_too_deeply_is_text(text, column):
    text = '[{"role": 1,' + text if column == "prompt" else text
    rows = read_rows([{"prompt": "1+1?", "answer": "2", column: text}] + sums(3), "here")
    assert [row["prompt"] for row in rows[1:]] == [row["prompt"] for row in sums(3)]
    nested = [{"prompt": "1", "reward_model": text}, {"prompt": "1", "reward_model": {"ground_truth": "2"}}]
    assert read_rows(nested, "here")[1]["answer"] == "2"


def sums(n=30, gold=str):
    return [{"prompt": f"What is {i} plus {i % 5}?", "answer": gold(i + i % 5)} for i in range(n)]


def golds(task):
    return [*task.train["answer"], *task.test["answer"]]


def shared(task):
    return {question(p) for p in task.train["prompt"]} & {question(p) for p in task.test["prompt"]}


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


CONTAINERS = {
    "a.ndjson": lambda rows: lines(rows).encode(),
    "a.jsonl.gz": lambda rows: gzip.compress(lines(rows).encode()),
    "A.JSONL": lambda rows: lines(rows).encode(),
    "lines.json": lambda rows: lines(rows).encode(),
    "a.json.gz": lambda rows: gzip.compress(json.dumps(rows).encode()),
    "a.tsv": lambda rows: "\n".join(
        ["prompt\tanswer", *(f"{r['prompt']}\t{r['answer']}" for r in rows)]
    ).encode(),
    "a.csv.gz": lambda rows: gzip.compress(
        "\n".join(["prompt,answer", *(f"{r['prompt']},{r['answer']}" for r in rows)]).encode()
    ),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_container_gives_the_same_rows(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(CONTAINERS[name](sums()))
    task = load_task(str(path))
    assert sorted(golds(task)) == sorted(row["answer"] for row in sums())
    assert len(task.test) == 3


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("cut.jsonl.gz", gzip.compress(lines(sums()).encode())[:-20], "cannot be read as jsonl"),
        ("not.jsonl.gz", b"plain text", "cannot be read as jsonl"),
        ("wide.csv", b"prompt,answer\nWhat is 1, or 2?,3\n", "row 2 has more cells than the header"),
        ("second.json", b'{"prompt": "a", "answer": "1"}\n{"prompt": oops}\n', "line 2 is not JSON"),
    ],
)
def test_damaged_containers_are_one_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        load_task(str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_a_folder_of_save_to_disk(tmp_path):
    data = Dataset.from_list(sums())
    data.save_to_disk(tmp_path / "one")
    assert len(load_task(str(tmp_path / "one")).test) == 3
    splits = DatasetDict({"train": data.select(range(20)), "test": data.select(range(15, 30))})
    splits.save_to_disk(tmp_path / "two")
    task = load_task(str(tmp_path / "two"))
    assert (len(task.train), len(task.test)) == (15, 15)
    assert not shared(task)
    assert "tmp" not in task.describe()["spec"]
    DatasetDict({"dev": data}).save_to_disk(tmp_path / "odd")
    with pytest.raises(UsageError, match="has the splits dev"):
        load_task(str(tmp_path / "odd"))


VERL = {"data_source": "x", "ability": "math", "extra_info": {"index": 3}}


@pytest.mark.parametrize(
    ("row", "gold"),
    [
        (lambda i: {"Problem": f"{i}?", "Answer": i, "ID": f"2024-{i}"}, "7"),
        (lambda i: {"QUESTION": f"{i}?", "final_answer": [f"{i}"], "solution": ["long", "text"]}, "7"),
        (
            lambda i: {
                **VERL,
                "prompt": [{"role": "user", "content": f"{i}?"}],
                "reward_model": {"style": "rule", "ground_truth": f"{i}"},
            },
            "7",
        ),
        (
            lambda i: {"question": f"{i}?", "reward_model": json.dumps({"ground_truth": i, "style": "rule"})},
            "7",
        ),
        (
            lambda i: {
                "messages": [{"role": "user", "content": f"{i}?"}, {"role": "assistant", "content": "so"}],
                "problem": f"{i}?",
                "answer": f"{i}",
                "solution": "so",
            },
            "7",
        ),
        (lambda i: {"prompt": json.dumps([{"role": "user", "content": f"{i}?"}]), "answer": float(i)}, "7"),
        (lambda i: {"prompt": str([{"role": "user", "content": f"{i}?"}]), "answer": f"{i}"}, "7"),
        (lambda i: {"problem": f"{i}?", "answer": None, "solution": rf"so \boxed{{{i}}}"}, "7"),
        (
            lambda i: {
                "prompt": [{"role": "user", "content": [{"type": "text", "text": f"{i}?"}]}],
                "answer": i,
            },
            "7",
        ),
    ],
    ids=["aime", "olympiad", "verl", "verl-json", "openr1", "json", "literal", "filled-column", "parts"],
)
def test_rows_of_known_datasets(row, gold):
    task = load_data(Dataset.from_list([row(i) for i in range(20)]))
    assert gold in golds(task)
    assert {question(p) for p in [*task.train["prompt"], *task.test["prompt"]]} == {
        f"{i}?" for i in range(20)
    }
    assert "messages" not in task.train.column_names  # TRL would take it for the prompt


def test_a_nested_column_by_its_path(tmp_path):
    (tmp_path / "a.jsonl").write_text(
        lines([{"q": {"text": f"{i}?"}, "meta": {"Gold": {"value": i}}} for i in range(9)])
    )
    task = load_task(f"{tmp_path}/a.jsonl?prompt=q.text&answer=meta.gold.value")
    assert sorted(golds(task)) == [str(i) for i in range(9)]
    with pytest.raises(UserError, match=r"say \?answer=meta\.Gold\.value"):
        load_task(f"{tmp_path}/a.jsonl?prompt=q.text&answer=meta.gold")


REFUSED = {
    "no column": ([{"text": "a"}] * 3, "no 'prompt' or"),
    "one row": (sums(1), "one question only"),
    "no rows": ([], "has no rows"),
    "nested": (sums(gold=lambda i: {"value": i}), r"nested object; say \?answer=answer\.value"),
    "prompt None": ([{"prompt": None, "answer": "1"}, *sums()], "row 1 has an empty prompt"),
    "no gold": (sums(gold=lambda i: None), "no row has a gold answer"),
    "all NaN": (sums(gold=lambda i: float("nan")), "no row has a gold answer"),
    "proofs": (sums(gold=lambda i: "proof"), "no row has a gold answer"),
    "answered": (
        [
            {
                "prompt": [{"role": "user", "content": f"{i}?"}, {"role": "assistant", "content": "1"}],
                "answer": "1",
            }
            for i in range(5)
        ],
        r"ends with the assistant's answer.*\[:-1\]",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_dataset_that_cannot_be_read_is_one_line(kind):
    rows, message = REFUSED[kind]
    data = Dataset.from_list(rows) if rows else Dataset.from_dict({"prompt": [], "answer": []})
    with pytest.raises(UserError, match=message) as caught:
        load_data(data)
    assert "\n" not in str(caught.value)


def test_images_are_refused_before_they_are_decoded():
    rows = {"prompt": ["a", "b"], "answer": ["1", "2"], "picture": [{"path": None, "bytes": b"no image"}] * 2}
    data = Dataset.from_dict(rows).cast_column("picture", Image())
    with pytest.raises(UserError, match="column 'picture' holds images"):
        load_data(data)
    empty = Dataset.from_dict({**rows, "picture": [None, None]}, Columns({**data.features}))
    assert "picture" not in load_data(empty).train.column_names


WRONG = {"list": list, "dict": dict, "none": None, "iterator": lambda: iter(())}


@pytest.mark.parametrize("given", WRONG.values(), ids=WRONG)
def test_what_is_no_dataset_is_said(given):
    with pytest.raises(UsageError, match="give a task spec"):
        load_data(given() if given else None)


def test_numbers_are_read_as_a_file_reads_them():
    for gold in (int, float, lambda i: [str(i)]):
        assert sorted(golds(load_data(Dataset.from_list(sums(gold=gold))))) == sorted(
            row["answer"] for row in sums()
        )
    assert "0.5" in golds(
        load_data(Dataset.from_list([*sums(gold=float), {"prompt": "half", "answer": 0.5}]))
    )


def test_rows_without_a_gold_answer_are_counted_with_an_example(caplog):
    prose = (
        "Since every even number is divisible by two we see that the sum of any two of them must be even too"
    )
    rows = [*sums(), {"prompt": "Show it.", "answer": prose}, {"prompt": "And this?", "answer": None}]
    with caplog.at_level(logging.WARNING):
        task = load_data(Dataset.from_list(rows))
    assert "2 of 32 rows have no gold answer that can be graded, for example 'Since every" in caplog.text
    assert all(task.test["answer"])


def test_columns_that_trl_fills_itself_are_left_out():
    data = Dataset.from_list(sums()).add_column("completions", ["x"] * 30).add_column("chosen", ["y"] * 30)
    assert set(load_data(data).train.column_names) == {"prompt", "answer"}


def as_chat(rows, system=None):
    lead = [{"role": "system", "content": system}] if system else []
    return [{**row, "prompt": [*lead, {"role": "user", "content": row["prompt"]}]} for row in rows]


def test_train_and_test_share_no_question_however_they_are_given(tmp_path, caplog):
    rows = sums()
    spaced = [{**row, "prompt": row["prompt"].replace(" ", "  ") + "\n"} for row in rows]
    (tmp_path / "a.jsonl").write_text(lines(rows))
    file = str(tmp_path / "a.jsonl")
    data, half = Dataset.from_list(rows), Dataset.from_list(rows[:10])
    assert not shared(load_data(Dataset.from_list([*rows, *spaced])))
    for train, held_out in [
        (data, half),
        (data, Dataset.from_list(as_chat(rows[:10], "Be brief."))),
        (Dataset.from_list(as_chat(rows)), half),
        (file, Dataset.from_list(spaced[:10])),
        (load_data(data), half),
        (DatasetDict({"train": data, "test": half}), None),
    ]:
        caplog.clear()
        task = load_data(train, held_out)
        assert not shared(task)
        assert len(task.test) == 10
        assert "left out of training" in caplog.text
        assert task.describe()["overlap"] == 10
    with pytest.raises(UserError, match="every training prompt is also in eval_dataset"):
        load_data(half, data)


def test_held_out_rows_from_a_file_beside_a_dataset(tmp_path):
    (tmp_path / "a.jsonl").write_text(lines(sums(10)))
    task = load_data(Dataset.from_list(sums()), f"{tmp_path}/a.jsonl?append=%20Say%20it.")
    assert (len(task.train), len(task.test)) == (20, 10)
