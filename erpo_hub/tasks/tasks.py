"""Where prompts and answers come from: one row type, {"prompt", "answer", ...}, from four sources.

`specs` reads what the user typed, `expressions` makes the builtin task, reasoning-gym makes its own,
`hub_data` asks the Hub. Train and test share no prompt. Leaves out grading. Imports no torch.
"""

from __future__ import annotations

import hashlib
import json
import logging
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ..errors import UsageError, UserError
from . import hub_data
from .expressions import ExpressionOptions, prompts, solution
from .files import is_saved_dataset, read_file, read_saved
from .gym import dump_entry, reasoning_gym_dataset
from .prompts import appended_by, prompt_text, question, shape_prompts
from .rows import Row, read_rows, table_of
from .specs import Spec, parse_spec, typed_options

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """A named source of questions, split in two.

    spec: as the user wrote it. source: "builtin", "reasoning-gym", "file" or "hub".
    train, test: at least `prompt` (text or chat messages) and `answer` (text); they share no prompt.
    grader: the `Grader` kind that scores it. revision, license: as the Hub states them, else None.
    seed: of the draw, where `load_task` made it.
    overlap: rows left out of `train` because the test rows ask the same.
    """

    spec: str
    source: str
    train: Dataset
    test: Dataset
    grader: str
    revision: str | None = None
    license: str | None = None
    seed: int | None = None
    overlap: int = 0

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
            "seed": self.seed,
            "train_rows": len(self.train),
            "test_rows": len(self.test),
            "overlap": self.overlap,
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
    task = replace(_load(parse_spec(spec), seed, train_size, test_size), seed=seed)
    return task if eval_spec is None else _with_eval_spec(task, parse_spec(eval_spec), seed, test_size)


def with_questions(spec: str, n: int | None) -> Task:
    """The task; with n held-out questions where it makes them, and none that training may have seen."""
    task = load_task(spec)  # another size of the others could hold out what training had
    made = task.source == "builtin" and n and n > len(task.test)
    return load_task(spec, test_size=n) if made else task


def load_data(dataset: Any, held_out: Any = None, *, seed: int = 0) -> Task:
    """A task from a spec, a `Task` or a `datasets.Dataset`, with held-out rows of any of these kinds.

    dataset: a DatasetDict gives its train split, and its test split where there is one. held_out: all rows of
    a Dataset, the test rows of a spec or a Task; None holds some of `dataset` out. Whatever is given, train
    and test share no prompt: what is in both leaves the train split, with a warning.

    Raises UserError or UsageError, one line each, as `load_task` does.
    """
    if isinstance(dataset, str):
        task = load_task(dataset, seed=seed)
    elif isinstance(dataset, Task):
        task = dataset
    else:
        task = _python_task(dataset, seed)
    if isinstance(held_out, str):
        return _with_eval_spec(task, parse_spec(held_out), seed, None)
    if isinstance(held_out, Task):
        return _with_eval(task, held_out.test, held_out.grader, held_out.spec)
    if held_out is not None:
        rows = _read_dataset(held_out, "eval_dataset")
        return _with_eval(task, _dataset(_gold_rows(rows), "eval_dataset"), "math", "eval_dataset")
    return _apart(task, task.train, task.test)


def _load(spec: Spec, seed: int, train_size: int | None, test_size: int | None) -> Task:
    revision = licence = None
    overlap = 0
    grader = "math"
    if spec.source == "builtin":
        train, test = _expression_rows(spec, seed, train_size or 4096, test_size or 512)
    elif spec.source == "reasoning-gym":
        train, test = _reasoning_gym_rows(spec, seed, train_size or 2048, test_size or 256)
        grader = f"reasoning-gym:{spec.name}{_query(spec.own_options())}"
    elif spec.source == "file":
        train, test, overlap = _split(*_file_rows(spec), spec.text, seed, test_size)
    else:
        found = hub_data.load(spec)
        revision, licence = found.revision, found.license
        given = None if found.test is None else _read(table_of(found.test, spec.text), spec)
        train, test, overlap = _split(
            _read(table_of(found.train, spec.text), spec), given, spec.text, seed, test_size
        )
    if spec.source in ("file", "hub") and train_size is not None:
        train = _draw(train, train_size, seed)
    return Task(
        spec.text,
        spec.source,
        train=_dataset(shape_prompts(spec, train), spec.text),
        test=_dataset(shape_prompts(spec, test), spec.text),
        grader=grader,
        revision=revision,
        license=licence,
        overlap=overlap,
    )


def _python_task(dataset: Any, seed: int) -> Task:
    from datasets import DatasetDict

    train, test = dataset, None
    if isinstance(dataset, DatasetDict):
        if "train" not in dataset:
            raise UsageError(f"dataset has the splits {', '.join(dataset)}: give one of them")
        train, test = dataset["train"], dataset.get("test")
    held_out = None if test is None else _read_dataset(test, "dataset")
    rows, held_out, overlap = _split(_read_dataset(train, "dataset"), held_out, "dataset", seed, None)
    return Task(
        "a dataset passed from Python",
        "python",
        train=_dataset(rows, "dataset"),
        test=_dataset(held_out, "dataset"),
        grader="math",
        overlap=overlap,
    )


def _read_dataset(dataset: Any, name: str) -> list[Row]:
    from datasets import Dataset

    if not isinstance(dataset, Dataset):
        raise UsageError(
            f"{name} is a {type(dataset).__name__}: give a task spec, a Task or a datasets.Dataset"
        )
    return read_rows(table_of(dataset, name), name)


def _with_eval_spec(task: Task, spec: Spec, seed: int, test_size: int | None) -> Task:
    """The task with the test rows of another spec: all rows of a file, the held-out ones of other sources."""
    if spec.source != "file":
        other = _load(spec, seed, None, test_size)
        return _with_eval(task, other.test, other.grader, spec.text)
    rows, test = _file_rows(spec)
    rows = shape_prompts(spec, _gold_rows(rows if test is None else test))
    rows = _draw(rows, test_size, seed) if test_size else rows
    return _with_eval(task, _dataset(rows, spec.text), "math", spec.text)


def _with_eval(task: Task, test: Dataset, grader: str, name: str) -> Task:
    """The task with other test rows; a file or Dataset then trains on the rows it had held out, too."""
    if grader.partition("?")[0] != task.grader.partition("?")[0]:
        raise UsageError(f"{name}: is graded by {grader}, the training task by {task.grader}; use one kind")
    train = task.train
    if task.source in ("file", "python"):
        from datasets import concatenate_datasets

        train = concatenate_datasets([task.train, task.test])
    return _apart(task, train, test, name)


def _apart(task: Task, train: Dataset, test: Dataset, other: str = "its test split") -> Task:
    """The task with those test rows, and the train rows whose question is not asked in them."""
    name = task.spec
    held_out = {question(prompt, appended_by(other)) for prompt in test["prompt"]}
    keep = [i for i, p in enumerate(train["prompt"]) if question(p, appended_by(name)) not in held_out]
    if not keep:
        raise UserError(f"{name}: every training prompt is also in {other}; evaluate on other rows")
    if dropped := len(train) - len(keep):
        _say_overlap(dropped, name, other)
        train = train.select(keep)
    return replace(task, train=train, test=test, overlap=task.overlap + dropped)


def _say_overlap(count: int, name: str, other: str) -> None:
    logger.warning(
        "%s: %d training rows ask what is also in %s: they are left out of training", name, count, other
    )


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


def _file_rows(spec: Spec) -> tuple[list[Row], list[Row] | None]:
    """All rows of a local file or saved dataset, and those of its test split where it has one."""
    path = Path(spec.name)
    if not is_saved_dataset(path):
        return _read(read_file(path), spec), None
    saved = read_saved(path)
    splits = {"train": saved} if hasattr(saved, "features") else saved
    if "train" not in splits:
        raise UsageError(
            f"{spec.text}: has the splits {', '.join(splits)}; save one of them and give its folder"
        )
    rows = [_read(table_of(splits[name], spec.text), spec) for name in ("train", "test") if name in splits]
    return rows[0], rows[1] if len(rows) > 1 else None


def _read(table: list[Row], spec: Spec) -> list[Row]:
    return read_rows(table, spec.text, prompt=spec.options.get("prompt"), answer=spec.options.get("answer"))


def _gold_rows(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row["answer"]]


def _split(
    train: list[Row], test: list[Row] | None, text: str, seed: int, test_size: int | None
) -> tuple[list[Row], list[Row], int]:
    """Train and test rows that share no question, and how many rows were left out of training for that.

    Without a test split some train rows are held out.
    """
    if test is None:
        return *_hold_out(train, text, seed, test_size), 0
    test = _gold_rows(test)
    test = test if test_size is None else _draw(test, test_size, seed)
    held_out = {question(row["prompt"]) for row in test}
    kept = [row for row in train if question(row["prompt"]) not in held_out]
    if not kept:
        raise UserError(f"{text}: every training prompt is also in its test split; evaluate on other rows")
    if len(kept) < len(train):
        _say_overlap(len(train) - len(kept), text, "its test split")
    return kept, test, len(train) - len(kept)


def _hold_out(rows: list[Row], text: str, seed: int, test_size: int | None) -> tuple[list[Row], list[Row]]:
    """For the test split: a tenth of the distinct prompts with a gold answer, at most 512 or `test_size`."""
    gold = {question(row["prompt"]): row for row in _gold_rows(rows)}
    if len({question(row["prompt"]) for row in rows}) < 2:
        raise UserError(f"{text}: has one question only; two are needed, one to train on and one held out")
    wanted = test_size or min(512, max(1, len(gold) // 10))
    chosen = set(random.Random(f"hold out/{seed}").sample(sorted(gold), min(wanted, max(1, len(gold) - 1))))
    train = [row for row in rows if question(row["prompt"]) not in chosen]
    return train, [row for prompt, row in gold.items() if prompt in chosen]


def _draw(rows: list[Row], size: int, seed: int) -> list[Row]:
    """At most `size` rows, drawn without replacement, in their order."""
    if size >= len(rows):
        return rows
    return [rows[i] for i in sorted(random.Random(f"draw/{seed}").sample(range(len(rows)), size))]


def fingerprint(*splits: Dataset) -> str:
    """`sha256:...` over the prompts and answers of the splits, in order."""
    digest = hashlib.sha256()
    for split in splits:
        for prompt, answer in zip(split["prompt"], split["answer"]):
            digest.update(json.dumps([prompt, answer], ensure_ascii=False).encode() + b"\n")
        digest.update(b"\n")
    return f"sha256:{digest.hexdigest()}"


def _dataset(rows: list[Row], where: str) -> Dataset:
    import pyarrow as pa
    from datasets import Dataset

    columns = dict.fromkeys(key for row in rows for key in row)
    try:
        return Dataset.from_dict({key: [row.get(key) for row in rows] for key in columns})
    except pa.ArrowException as error:
        raise UserError(f"{where}: a column mixes types ({error}); give each column one type") from error
