"""Where prompts and answers come from: one row type, {"prompt", "answer", ...}, from four sources.

`specs` reads what the user typed, `expressions` makes the builtin task, reasoning-gym makes its own,
`hub_data` asks the Hub. Train and test share no prompt. Leaves out grading. Imports no torch.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ..errors import UsageError, UserError
from . import hub_data
from .answers import marked_answer
from .expressions import ExpressionOptions, prompts, solution
from .files import read_file
from .gym import dump_entry, reasoning_gym_dataset
from .specs import Spec, convert, parse_spec, typed_options

if TYPE_CHECKING:
    from datasets import Dataset

PROMPT_COLUMNS = ("prompt", "question", "problem")
ANSWER_COLUMNS = ("answer", "solution")
TRL_ARGUMENTS = {
    "prompts",
    "completions",
    "completion",
    "completion_ids",
    "trainer_state",
    "log_extra",
    "log_metric",
}

Row = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """A named source of questions, split in two.

    spec: as the user wrote it. source: "builtin", "reasoning-gym", "file" or "hub".
    train, test: at least `prompt` (text or chat messages) and `answer` (text); they share no prompt.
    grader: the `Grader` kind that scores it. revision, license: as the Hub states them, else None.
    """

    spec: str
    source: str
    train: Dataset
    test: Dataset
    grader: str
    revision: str | None = None
    license: str | None = None

    def describe(self) -> dict[str, Any]:
        """The "dataset" block of run.json: sizes, a fingerprint of all rows, two samples; no local path."""
        name, question, options = self.spec.partition("?")
        public = f"{Path(name).name}{question}{options}" if self.source == "file" else self.spec
        return {
            "spec": public,
            "source": self.source,
            "id": name if self.source == "hub" else None,
            "revision": self.revision,
            "license": self.license,
            "fingerprint": fingerprint(self.train, self.test),
            "train_rows": len(self.train),
            "test_rows": len(self.test),
            "prompt_characters": _spread([len(prompt_text(p)) for p in self.train["prompt"]]),
            "samples": [
                {"prompt": prompt_text(row["prompt"]), "answer": row["answer"]}
                for row in self.train.select(range(min(2, len(self.train))))
            ],
        }


def _spread(lengths: list[int]) -> dict[str, float] | None:
    """Shortest, mean and longest; None of nothing."""
    if not lengths:
        return None
    return {"min": min(lengths), "mean": round(sum(lengths) / len(lengths), 1), "max": max(lengths)}


def load_task(
    spec: str,
    *,
    seed: int = 0,
    train_size: int | None = None,
    test_size: int | None = None,
    eval_spec: str | None = None,
) -> Task:
    """Read or make the rows that a spec names.

    Args:
        spec: for example `builtin:expressions?operands=4`; see `specs` for every form.
        seed: of everything drawn: the same call gives the same rows.
        train_size, test_size: at most so many rows; default all there are (4,096 and 512 made ones for
            builtin:expressions, 2,048 and 256 for reasoning-gym).
        eval_spec: another spec whose test rows replace the held-out ones; its prompts leave the train split.

    Raises UserError or UsageError, one line each, for whatever is wrong with the spec or the data.
    """
    for name, size in (("train_size", train_size), ("test_size", test_size)):
        if size is not None and size < 1:
            raise UsageError(f"{name}={size}: give 1 or more")
    parsed = parse_spec(spec)
    task = _load(parsed, seed, train_size, test_size)
    return task if eval_spec is None else _with_eval(task, parse_spec(eval_spec), seed, test_size)


def _load(spec: Spec, seed: int, train_size: int | None, test_size: int | None) -> Task:
    revision = licence = None
    grader = "math"
    if spec.source == "builtin":
        train, test = _expression_rows(spec, seed, train_size or 4096, test_size or 512)
    elif spec.source == "reasoning-gym":
        train, test = _reasoning_gym_rows(spec, seed, train_size or 2048, test_size or 256)
        grader = f"reasoning-gym:{spec.name}{_query(spec.own_options())}"
    elif spec.source == "file":
        train, test = _hold_out(file_rows(spec), spec.text, seed, test_size)
    else:
        train, test, revision, licence = _hub_rows(spec, seed, test_size)
    if spec.source in ("file", "hub") and train_size is not None:
        train = _draw(train, train_size, seed)
    return Task(
        spec.text,
        spec.source,
        train=_dataset(shape_prompts(spec, train), spec),
        test=_dataset(shape_prompts(spec, test), spec),
        grader=grader,
        revision=revision,
        license=licence,
    )


def _with_eval(task: Task, spec: Spec, seed: int, test_size: int | None) -> Task:
    """The task with the test rows of another spec (a file's: all); a training file gives up no others."""
    if spec.source == "file":
        rows = [row for row in shape_prompts(spec, file_rows(spec)) if row["answer"]]
        test = _dataset(_draw(rows, test_size, seed) if test_size else rows, spec)
        grader = "math"
    else:
        other = _load(spec, seed, None, test_size)
        test, grader = other.test, other.grader
    if grader.partition("?")[0] != task.grader.partition("?")[0]:
        raise UsageError(
            f"{spec.text}: is graded by {grader}, the training task by {task.grader}; use one kind"
        )
    train = task.train
    if task.source == "file":
        from datasets import concatenate_datasets

        train = concatenate_datasets([task.train, task.test])
    held_out = {prompt_text(prompt) for prompt in test["prompt"]}
    keep = [i for i, prompt in enumerate(train["prompt"]) if prompt_text(prompt) not in held_out]
    if not keep:
        raise UserError(f"{task.spec}: every training prompt is also in {spec.text}; evaluate on other rows")
    return replace(task, train=train.select(keep), test=test)


def _expression_rows(spec: Spec, seed: int, train_size: int, test_size: int) -> tuple[list[Row], list[Row]]:
    try:
        options = ExpressionOptions(**typed_options(spec.text, spec.own_options(), ExpressionOptions))
    except ValueError as error:
        raise UsageError(f"{spec.text}: {error}") from error
    train, test = (
        [
            {"prompt": prompt, "answer": solution(prompt)[-1]}
            for prompt in islice(prompts(options, split, seed), size)
        ]
        for split, size in (("train", train_size), ("test", test_size))
    )
    return train, test


def _reasoning_gym_rows(
    spec: Spec, seed: int, train_size: int, test_size: int
) -> tuple[list[Row], list[Row]]:
    """Rows with the scorer's `entry`. A prompt drawn for both splits goes to one of them, by its hash.

    Test prompts differ: what is drawn twice or goes to train is replaced by up to `test_size` further draws.
    """
    train = list(_gym_draw(spec, _gym_seed("train", seed), train_size))
    trained, first = {row["prompt"] for row in train}, _gym_seed("test", seed)
    test: dict[str, Row] = {}
    for row in chain(*(_gym_draw(spec, first + more, test_size) for more in (0, test_size))):
        prompt = row["prompt"]
        if prompt not in trained or hashlib.sha256(prompt.encode()).digest()[0] % 2:
            test.setdefault(prompt, row)
        if len(test) == test_size:
            break
    train = [row for row in train if row["prompt"] not in test]
    if not train or not test:
        raise UserError(f"{spec.text}: has too few different questions to hold some out; widen its options")
    return train, list(test.values())


def _gym_seed(split: str, seed: int) -> int:
    """A seed far from its neighbours': the library draws row i from seed + i, so 0 and 1 would share rows."""
    return int.from_bytes(hashlib.sha256(f"{split}/{seed}".encode()).digest()[:4]) >> 1


def _gym_draw(spec: Spec, seed: int, size: int) -> Iterator[Row]:
    from tqdm import tqdm

    source = reasoning_gym_dataset("reasoning-gym:" + spec.name + _query(spec.own_options()), seed, size)
    for index in tqdm(range(size), desc=f"making {spec.name}", delay=2, leave=False, disable=None):
        entry = source[index]
        try:
            packed = dump_entry(entry)
        except TypeError as error:
            raise UserError(f"{spec.text}: its entries cannot be stored in a dataset ({error})") from error
        yield {"prompt": entry["question"], "answer": str(entry["answer"] or ""), "entry": packed}


def _query(options: dict[str, str]) -> str:
    return "?" + "&".join(f"{key}={quote(value)}" for key, value in options.items()) if options else ""


def file_rows(spec: Spec) -> list[Row]:
    """All rows of a local file. Raises UserError for an empty or unreadable one."""
    return read_rows(read_file(Path(spec.name)), spec)


def _hub_rows(
    spec: Spec, seed: int, test_size: int | None
) -> tuple[list[Row], list[Row], str | None, str | None]:
    found = hub_data.load(spec)
    train = read_rows(found.train, spec)
    if found.test is None:
        return *_hold_out(train, spec.text, seed, test_size), found.revision, found.license
    test = [row for row in read_rows(found.test, spec) if row["answer"]]
    test = test if test_size is None else _draw(test, test_size, seed)
    held_out = {prompt_text(row["prompt"]) for row in test}
    train = [row for row in train if prompt_text(row["prompt"]) not in held_out]
    return train, test, found.revision, found.license


def read_rows(table: Iterable[Row], spec: Spec) -> list[Row]:
    """Rows of any table as {"prompt", "answer", ...}: known column names, a marked gold answer taken out.

    An answer such as GSM8K's `... #### 42` becomes `42`; the whole text is kept as `solution`.
    Raises UserError for a missing column, no rows, or no gold answer at all.
    """
    table = list(table)
    if not table:
        raise UserError(f"{spec.text}: has no rows; give some with prompt and answer")
    columns = list(dict.fromkeys(key for row in table for key in row))
    prompt_column = _column(spec, "prompt", PROMPT_COLUMNS, columns)
    answer_column = _column(spec, "answer", ANSWER_COLUMNS, columns)
    rows = []
    for number, raw in enumerate(table, 1):
        row = {key: raw.get(key) for key in columns if key not in TRL_ARGUMENTS}
        prompt = _checked_prompt(row.pop(prompt_column), f"{spec.text}: row {number}")
        gold = row.pop(answer_column)
        text = "" if gold is None else str(gold).strip()
        marked = marked_answer(text)
        if marked is not None:
            row["solution"] = text
        rows.append({**row, "prompt": prompt, "answer": marked or text})
    if not any(row["answer"] for row in rows):
        raise UserError(
            f"{spec.text}: no row has a gold answer in {answer_column!r}; nothing could be graded"
        )
    return rows


def _checked_prompt(prompt: Any, where: str) -> Any:
    """A prompt as text or as chat messages; a number from a table becomes text."""
    if isinstance(prompt, list):
        if not prompt or not all(isinstance(m, dict) and {"role", "content"} <= set(m) for m in prompt):
            raise UserError(f"{where}: its chat prompt is not a list of messages with role and content")
        return prompt
    text = "" if prompt is None else str(prompt)
    if not text.strip():
        raise UserError(f"{where} has an empty prompt; remove or complete it")
    return text


def _column(spec: Spec, role: str, known: Iterable[str], columns: list[str]) -> str:
    asked = spec.options.get(role)
    for name in [asked] if asked else known:
        if name in columns:
            return name
    wanted = repr(asked) if asked else " or ".join(repr(name) for name in known)
    raise UserError(f"{spec.text}: no {wanted} column (it has: {', '.join(columns)}); say ?{role}=<column>")


def _hold_out(rows: list[Row], text: str, seed: int, test_size: int | None) -> tuple[list[Row], list[Row]]:
    """For the test split: a tenth of the distinct prompts with a gold answer, at most 512 or `test_size`."""
    gold = {prompt_text(row["prompt"]): row for row in rows if row["answer"]}
    if len({prompt_text(row["prompt"]) for row in rows}) < 2:
        raise UserError(f"{text}: has one question only; two are needed, one to train on and one held out")
    wanted = test_size or min(512, max(1, len(gold) // 10))
    chosen = set(random.Random(f"hold out/{seed}").sample(sorted(gold), min(wanted, max(1, len(gold) - 1))))
    train = [row for row in rows if prompt_text(row["prompt"]) not in chosen]
    return train, [row for prompt, row in gold.items() if prompt in chosen]


def _draw(rows: list[Row], size: int, seed: int) -> list[Row]:
    """At most `size` rows, drawn without replacement, in their order."""
    if size >= len(rows):
        return rows
    return [rows[i] for i in sorted(random.Random(f"draw/{seed}").sample(range(len(rows)), size))]


def shape_prompts(spec: Spec, rows: list[Row]) -> list[Row]:
    """Prompts with `append` after them and, for `chat=true` or `system=...`, as chat messages."""
    system, append = spec.options.get("system"), spec.options.get("append", "")
    chat = convert(spec.text, "chat", spec.options.get("chat", "true" if system else "false"), bool)
    if system and not chat:
        raise UsageError(f"{spec.text}: system=... needs chat messages; leave out chat=false")
    if not chat and not append:
        return rows
    lead = [{"role": "system", "content": system}] if system else []
    shaped = []
    for row in rows:
        prompt = row["prompt"]
        if not isinstance(prompt, str):
            raise UsageError(
                f"{spec.text}: its prompts are chat messages already; leave out chat, system and append"
            )
        text = prompt + append
        shaped.append({**row, "prompt": [*lead, {"role": "user", "content": text}] if chat else text})
    return shaped


def prompt_text(prompt: str | list[dict[str, Any]]) -> str:
    """A prompt as plain text: chat messages are joined by blank lines."""
    if isinstance(prompt, str):
        return prompt
    return "\n\n".join(str(message["content"]) for message in prompt)


def fingerprint(*splits: Dataset) -> str:
    """`sha256:...` over the prompts and answers of the splits, in order."""
    digest = hashlib.sha256()
    for split in splits:
        for prompt, answer in zip(split["prompt"], split["answer"]):
            digest.update(json.dumps([prompt, answer], ensure_ascii=False).encode() + b"\n")
        digest.update(b"\n")
    return f"sha256:{digest.hexdigest()}"


def _dataset(rows: list[Row], spec: Spec) -> Dataset:
    import pyarrow as pa
    from datasets import Dataset

    columns = dict.fromkeys(key for row in rows for key in row)
    try:
        return Dataset.from_dict({key: [row.get(key) for row in rows] for key in columns})
    except pa.ArrowException as error:
        raise UserError(f"{spec.text}: a column mixes types ({error}); give each column one type") from error
