"""Tasks: four sources, one row type, no leak from train to test, one clear line for every mistake."""

import json
import os
import sys

import pytest

from erpo_hub.errors import UsageError, UserError
from erpo_hub.tasks import tasks
from erpo_hub.tasks.expressions import ExpressionOptions, canonical
from erpo_hub.tasks.grading import Grader, correctness_reward
from erpo_hub.tasks.gym import score_reasoning_gym
from erpo_hub.tasks.prompts import prompt_text
from erpo_hub.tasks.specs import convert, parse_spec
from erpo_hub.tasks.tasks import load_task
from erpo_hub.traces.loading import EMBEDDED_MODEL, resolve_model


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def additions(n):
    return [{"prompt": f"{i}+1?", "answer": str(i + 1)} for i in range(n)]


def disjoint(task):
    return not {prompt_text(p) for p in task.train["prompt"]} & {prompt_text(p) for p in task.test["prompt"]}


def grade_gold(task, limit=500):
    rows = task.train.select(range(min(limit, len(task.train))))
    columns = {"entry": rows["entry"]} if "entry" in rows.column_names else {}
    with Grader(task.grader, timeout=20) as grader:
        return grader.grade(list(rows["answer"]), list(rows["answer"]), **columns), grader


@pytest.mark.parametrize("operands", [2, 3, 4, 5, 8])
def test_expressions_gold_scores_one(operands):
    task = load_task(f"builtin:expressions?operands={operands}", train_size=500, test_size=100)
    scores, grader = grade_gold(task)
    assert set(scores) == {1.0}
    assert grader._processes.pool is None
    assert disjoint(task)
    assert not {canonical(p) for p in task.train["prompt"]} & {canonical(p) for p in task.test["prompt"]}


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("chain_sum", 500),
        ("gsm_symbolic", 500),
        ("countdown?min_numbers=2&max_numbers=3", 500),
        ("basic_arithmetic", 500),
        ("leg_counting", 500),
        ("fraction_simplification", 500),
        ("propositional_logic", 5),  # without a gold answer: still loads
        ("spell_backward", 500),
        ("manipulate_matrix", 500),  # answers of several lines
    ],
)
def test_reasoning_gym_gold_scores_one(name, rows):
    task = load_task(f"reasoning-gym:{name}", train_size=rows, test_size=20)
    assert task.grader == f"reasoning-gym:{name}"
    assert disjoint(task)
    assert len(task.test) >= 4
    if any(task.train["answer"]):
        own = [score_reasoning_gym(row["answer"], row["entry"], task.grader) for row in task.train]
        assert own.count(1.0) >= 0.99 * len(own)  # from the stored entry, as good as from the library's own
        scores, grader = grade_gold(task)
        assert set(scores) == {1.0}
        assert grader.timeouts == grader.errors == grader.crashes == 0


def test_reasoning_gym_is_scored_by_its_own_scorer():
    task = load_task("reasoning-gym:countdown?min_numbers=2&max_numbers=2", train_size=20, test_size=5)
    row = next(row for row in task.train if "+" in row["answer"])
    a, b = row["answer"].split(" + ")
    with Grader(task.grader) as grader:
        reward = correctness_reward(grader)
        other = f"<answer>{b} + {a}</answer>"  # another way: math-verify cannot know, the scorer does
        chat = [[{"role": "assistant", "content": text}] for text in (other, "<answer>1 + 1</answer>", "")]
        rewards = reward(completions=chat, answer=[row["answer"]] * 3, entry=[row["entry"]] * 3)
    assert rewards[0] == 1.0
    assert rewards[1] < 0.1
    assert rewards[2] == 0.0


def test_a_small_space_is_shared_out():
    task = load_task("reasoning-gym:chain_sum?min_terms=2&max_terms=2&min_digits=1&max_digits=1")
    assert disjoint(task)
    assert len(task.test) > 30
    assert len(task.train) > 300
    assert len(set(task.test["prompt"])) == len(task.test)


def test_same_seed_same_rows():
    for spec in ("builtin:expressions", "reasoning-gym:chain_sum"):
        once, again = (load_task(spec, seed=1, train_size=30, test_size=10).describe() for _ in range(2))
        assert once == again
        assert (
            once["fingerprint"]
            != load_task(spec, seed=2, train_size=30, test_size=10).describe()["fingerprint"]
        )


def test_neighbouring_seeds_share_few_reasoning_gym_rows():
    one, two = (
        set(load_task("reasoning-gym:gsm_symbolic", seed=s, train_size=40, test_size=5).train["prompt"])
        for s in (0, 1)
    )
    assert len(one & two) < 5


def test_the_grader_kind_carries_the_options():
    task = load_task("reasoning-gym:leg_counting?max_animals=4&chat=true", train_size=4, test_size=4)
    assert task.grader == "reasoning-gym:leg_counting?max_animals=4"
    options = {"a": "1&2 %"}
    assert parse_spec("reasoning-gym:x" + tasks._query(options)).options == options


def test_describe():
    block = load_task("builtin:expressions?operands=3", train_size=64, test_size=16).describe()
    assert block["spec"] == "builtin:expressions?operands=3"
    assert (block["source"], block["train_rows"], block["test_rows"]) == ("builtin", 64, 16)
    assert block["id"] is block["revision"] is block["license"] is None
    assert block["fingerprint"].startswith("sha256:")
    assert len(block["fingerprint"]) == 7 + 64
    assert [set(sample) for sample in block["samples"]] == [{"prompt", "answer"}] * 2
    json.dumps(block)


def test_default_sizes_and_eval_spec():
    task = load_task("builtin:expressions?operands=3", eval_spec="builtin:expressions?operands=4")
    assert (len(task.train), len(task.test)) == (4096, 512)
    assert all(len(p) > 7 for p in task.test["prompt"])
    assert ExpressionOptions().operands == 4


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet"])
def test_local_files(tmp_path, kind):
    rows = additions(40)
    path = tmp_path / f"data.{kind}"
    if kind == "jsonl":
        write_jsonl(path, rows)
    elif kind == "json":
        path.write_text(json.dumps(rows))
    elif kind == "csv":
        path.write_text("prompt,answer\n" + "".join(f"{r['prompt']},{r['answer']}\n" for r in rows))
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(rows), path)
    task = load_task(str(path))
    assert (len(task.train), len(task.test)) == (36, 4)
    assert disjoint(task)
    assert set(grade_gold(task)[0]) == {1.0}
    block = task.describe()
    assert block["spec"] == f"data.{kind}"  # a published record holds no path of this machine
    assert str(tmp_path) not in json.dumps(block)


def test_known_columns_and_marked_gold(tmp_path):
    rows = [{"question": f"{i}?", "answer": f"think\n#### {i},000", "level": i} for i in range(1, 9)]
    rows += [{"question": "9?", "answer": r"so \boxed{\frac{1}{2}}", "level": 9}]
    task = load_task(write_jsonl(tmp_path / "a.jsonl", rows), test_size=1)
    both = [*task.train, *task.test]
    assert {row["answer"] for row in both} == {*(f"{i},000" for i in range(1, 9)), r"\frac{1}{2}"}
    assert all(row["level"] and row["solution"] for row in both)


def test_named_columns_and_prompt_shape(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", [{"q": f"{i}", "a": i} for i in range(5)])
    task = load_task(f"{path}?prompt=q&answer=a&system=Be%20brief%26kind&append=%20=%20?")
    assert task.train[0]["prompt"] == [
        {"role": "system", "content": "Be brief&kind"},
        {"role": "user", "content": f"{task.train[0]['answer']} = ?"},
    ]
    plain = load_task(f"{path}?prompt=q&answer=a&append=!")
    assert plain.train[0]["prompt"].endswith("!")
    chat = load_task("reasoning-gym:chain_sum?chat=true", train_size=3, test_size=3)
    assert chat.train[0]["prompt"][0]["role"] == "user"
    assert disjoint(chat)
    assert chat.grader == "reasoning-gym:chain_sum"


def test_chat_prompts_of_a_file_stay_as_they_are(tmp_path):
    rows = [{"prompt": [{"role": "user", "content": f"{i}?"}], "answer": str(i)} for i in range(4)]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    assert load_task(path).train[0]["prompt"][0]["role"] == "user"
    with pytest.raises(UsageError, match="chat messages already"):
        load_task(f"{path}?chat=true")


def test_rows_without_gold_train_but_do_not_test(tmp_path):
    rows = [*additions(6), {"prompt": "why?", "answer": None}, {"prompt": "how?", "answer": ""}]
    task = load_task(write_jsonl(tmp_path / "a.jsonl", rows), test_size=100)
    assert all(task.test["answer"])
    assert {"why?", "how?"} <= set(task.train["prompt"])


def test_a_prompt_that_occurs_twice_does_not_leak(tmp_path):
    task = load_task(write_jsonl(tmp_path / "a.jsonl", additions(30) * 3), test_size=10)
    assert disjoint(task)
    assert (len(task.train), len(task.test)) == (60, 10)


def test_eval_file_takes_its_prompts_out_of_training(tmp_path):
    train = write_jsonl(tmp_path / "train.jsonl", additions(30))
    test = write_jsonl(tmp_path / "test.jsonl", additions(10))
    task = load_task(train, eval_spec=test)
    assert (len(task.train), len(task.test)) == (20, 10)
    assert disjoint(task)
    with pytest.raises(UserError, match="every training prompt"):
        load_task(train, eval_spec=train)
    with pytest.raises(UsageError, match="is graded by"):
        load_task(train, eval_spec="reasoning-gym:chain_sum")


WRONG_SPECS = [
    ("", "give a task such as"),
    ("foo", "not a Hub id"),
    ("a/b/c", "not a Hub id"),
    ("bultin:expressions", "did you mean builtin:"),
    ("builtin:expresions", "builtin:expressions"),
    ("builtin:expressions?operands", "name=value"),
    ("builtin:expressions?operands=3&operands=4", "twice"),
    ("builtin:expressions?operand=4", "did you mean 'operands'"),
    ("builtin:expressions?operands=four", "operands='four' is not of type int"),
    ("builtin:expressions?operands=40", "give 2 to 8"),
    ("builtin:expressions?chat=perhaps", "not of type bool"),
    ("builtin:expressions?chat=false&system=x", "leave out chat=false"),
    ("reasoning-gym:chain_sums", "did you mean chain_sum"),
    ("reasoning-gym:", "has no task ''"),
    ("reasoning-gym:chain_sum?min_term=2", "did you mean 'min_terms'"),
    ("reasoning-gym:chain_sum?min_terms=two", "not of type int"),
    ("reasoning-gym:chain_sum?min_terms=9&max_terms=2", "max_terms must be"),
    ("reasoning-gym:chain_sum?seed=3", "unknown option 'seed'"),
    ("reasoning-gym:composite", "Must specify"),
    ("owner/name?colour=red", "unknown option 'colour'"),
]


@pytest.mark.parametrize(("spec", "message"), WRONG_SPECS)
def test_wrong_specs_are_one_line(spec, message):
    with pytest.raises(UserError) as caught:
        load_task(spec)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


WRONG_FILES = [
    ("missing.jsonl", None, "no such file"),
    ("notes.txt", "hello", "not a dataset file"),
    ("empty.jsonl", "", "the file is empty"),
    ("blank.jsonl", "\n\n", "has no rows"),
    ("none.json", "[]", "has no rows"),
    ("object.json", '{"prompt": 1}', "not a list of rows"),
    ("broken.jsonl", '{"prompt": "a", "answer": "b"}\n{oops\n', "line 2 is not JSON"),
    ("broken.json", "[{]", "cannot be read as json"),
    ("broken.parquet", "hello", "cannot be read as parquet"),
    (
        "noanswer.jsonl",
        '{"prompt": "a", "text": "b"}',
        "or 'solution' column (it has: prompt, text)",
    ),
    ("noprompt.jsonl", '{"answer": "a"}', "no 'prompt' or 'question' or 'problem' or 'messages' column"),
    ("nogold.jsonl", '{"prompt": "a", "answer": null}', "no row has a gold answer"),
    ("noprompts.jsonl", '{"prompt": " ", "answer": "1"}', "row 1 has an empty prompt"),
    ("badchat.jsonl", '{"prompt": [{"text": "a"}], "answer": "1"}', "not a list of messages"),
    ("single.jsonl", '{"prompt": "a", "answer": "b"}', "one question only"),
    (
        "mixed.jsonl",
        '{"prompt": "a", "answer": "b", "x": 1}\n{"prompt": "c", "answer": "d", "x": [1]}\n' * 2
        + '{"prompt": "e", "answer": "f", "x": "s"}',
        "mixes types",
    ),
]


@pytest.mark.parametrize(("name", "content", "message"), WRONG_FILES, ids=[row[0] for row in WRONG_FILES])
def test_wrong_files_are_one_line(tmp_path, monkeypatch, name, content, message):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError) as caught:
        load_task(name)
    assert message in str(caught.value)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_is_not_a_dataset(tmp_path):
    with pytest.raises(UsageError, match="not a dataset file"):
        load_task(str(tmp_path))


def test_sizes_must_be_positive():
    with pytest.raises(UsageError, match="train_size=0"):
        load_task("builtin:expressions", train_size=0)


def test_without_reasoning_gym(monkeypatch):
    from erpo_hub.tasks.gym import reasoning_gym_dataset

    reasoning_gym_dataset.cache_clear()
    for name in [n for n in sys.modules if n.partition(".")[0] == "reasoning_gym"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(UserError, match=r"pip install reasoning-gym"):
        load_task("reasoning-gym:chain_sum")


def test_option_types():
    assert convert("", "k", "1.5", float) == 1.5
    assert convert("", "k", "3", int | None) == 3
    assert convert("", "k", '"+","-"', tuple[str, ...]) == ("+", "-")
    assert convert("", "k", '["+"]', list[str]) == ["+"]
    assert parse_spec("owner/name?config=a%3Db").options == {"config": "a=b"}


def test_embedded_model_is_a_folder():
    assert resolve_model("some/model") == "some/model"
    assert os.path.isdir(resolve_model(EMBEDDED_MODEL))
    assert EMBEDDED_MODEL == "builtin:tiny-reasoner"
