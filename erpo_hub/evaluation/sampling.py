"""Ask a model held-out questions, grade the answers, and keep everything question by question.

`evaluate` draws k completions a question in batches of similar prompt length, the longest first, and measures
entropies while they are generated. It leaves the model, its tokenizer and torch's random state as they were,
so that a training run may call it. Left out: several processes (unwrap the model first) and other engines.
May import train and traces.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from ..errors import UsageError, UserError
from ..traces.asked import SHAPING, Asked, acting, as_messages, asked_as, check_ids, encode
from ..traces.decoding import COLDEST, end_tokens
from ..traces.loading import load, load_tokenizer
from .generation import Completion, Decoding, in_memory, row_seed, rows_at_once, undisturbed
from .graded import graded_beside
from .results import Evaluation, QuestionLog
from .statistics import paired_comparison

if TYPE_CHECKING:
    from ..tasks.tasks import Task

__all__ = ["evaluate", "evaluate_robustness", "load_model"]


def evaluate(
    model: Any,
    task: Task | str,
    *,
    tokenizer: Any = None,
    n: int | None = None,
    k: int = 1,
    temperature: float = 0.0,
    top_p: float | None = None,
    max_new_tokens: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    plain: bool | None = None,
    chat_template_kwargs: dict[str, Any] | None = None,
    shaping: dict[str, float] | None = None,
    dtype: Any = None,
    grader: Any = None,
    progress: bool = True,
    resume_path: str | os.PathLike | None = None,
    places: Sequence[int] | None = None,
) -> Evaluation:
    """Accuracy, length and entropy of a model on the first `n` held-out questions of a task.

    Args:
        model: a causal LM (a PEFT one too), or a Hub id, a folder, "builtin:tiny-reasoner".
        task: a `Task` or its spec.
        tokenizer: needed only where the model does not say where it came from.
        n: questions; None takes the whole test split.
        k: completions a question; avg@k and unbiased pass@k are reported.
        temperature: 0 is greedy. Entropy is measured at this temperature, at 1 when greedy.
        top_p: default: what the model was trained with by this package, else 1.
        max_new_tokens: cut to what the model's context leaves room for (the summary shows the value used);
            default: what the model was trained with by this package, else 256.
        batch_size: completions generated at once; default 64, up to 512 where the model is small. Answers do
            not depend on it, but for rounding.
        seed: of the sampled answers. Each has random numbers of its own, from the seed, the place of its
            question in the task and its number among the k.
        plain: text prompts stay bare; False asks them through the chat template where there is one.
        chat_template_kwargs: for the chat template, such as `{"enable_thinking": False}`.
        shaping: top_k, min_p and repetition_penalty, such as `{"repetition_penalty": 1.1}`.
        dtype: of a model loaded here. This and the three above default to how the model was trained, where
            its tokenizer says so; else chat, no settings, and float32 on a CPU.
        grader: a `Grader`, reused; None opens one of the task's kind.
        progress: a bar on stderr, if that is a terminal.
        resume_path: a JSONL file of finished questions; an evaluation killed half-way goes on from it and
            ends in the same result.
        places: the place in the whole task of each question, where the task holds some of them only: sampled
            answers are then the ones that these questions get among all.

    Raises UsageError for settings that cannot work, UserError for a model or file that cannot be used.
    """
    _check_settings(n, k, temperature, top_p, max_new_tokens, batch_size)
    started = time.perf_counter()
    task = _loaded(task)
    model, tokenizer, name = load_model(model, tokenizer, dtype)
    asked = _asked(tokenizer, plain, chat_template_kwargs)
    shaping = _shaping(asked.shaping, shaping, top_p)
    top_p = shaping.pop("top_p", 1.0)
    max_new_tokens = max_new_tokens or asked.max_new_tokens or 256
    rows = questions_of(task, n)
    prompts = encode_prompts(tokenizer, [row["prompt"] for row in rows], asked, model)
    decoding = decoding_for(model, tokenizer, prompts, temperature, top_p, max_new_tokens, shaping)
    settings: dict[str, Any] = {
        "n": len(rows),
        "k": k,
        "temperature": temperature,
        "top_p": top_p,
        "seed": seed,
    }
    settings |= {"max_new_tokens": decoding.max_new_tokens}
    settings |= {"shaping": shaping} if shaping else {}
    batch_size = batch_size or rows_at_once(model, max(map(len, prompts)) + decoding.max_new_tokens)
    result = Evaluation(
        name,
        task.spec,
        settings | {"batch_size": batch_size},
        [],
        prompt_example=tokenizer.decode(prompts[0]),
        weights=weights_digest(model),
    )
    done: dict[int, dict] = {}
    with ExitStack() as stack:
        log = None
        if resume_path is not None:
            what = settings | {"task": task.spec, "data": _digest(rows), "weights": result.weights}
            log = stack.enter_context(closing(QuestionLog(resume_path, {"evaluation": what})))
            done = dict(log.done)
            result.add_failures(log.failures)
        if grader is None:
            from ..tasks.grading import Grader

            grader = stack.enter_context(Grader(task.grader))

        def keep(questions: list[dict], failures: dict[str, int]) -> None:
            result.add_failures(failures)
            done.update({question["index"]: question for question in questions})
            if log:
                log.add(questions, failures)

        advance = stack.enter_context(_progress_bar(len(rows) * k, progress))
        submit = stack.enter_context(graded_beside(grader, tokenizer, rows, keep))
        stack.enter_context(undisturbed(model))
        for finished in _finished_questions(
            model, prompts, decoding, k, batch_size, seed, set(done), advance, places
        ):
            submit(finished)
    result.questions = [done[q] for q in range(len(rows))]
    result.seconds = time.perf_counter() - started
    return result


def evaluate_robustness(
    model: Any,
    task: Task | str,
    temperatures: Sequence[float] = (0.0, 0.6, 1.0, 1.3),
    rewrites: bool = True,
    *,
    tokenizer: Any = None,
    seed: int = 0,
    known: Evaluation | None = None,
    resume_dir: str | os.PathLike | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Accuracy against temperature, and greedily on the same questions put another way.

    Args:
        rewrites: also the rewritten questions, where the task has them. `builtin:expressions` has: terms and
            factors in another order, with the same answer.
        known: an evaluation of this model with these settings, which is then not made again.
        resume_dir: a folder for one JSONL file of finished questions a condition, see `evaluate`.
        settings: `evaluate`'s.

    Returns {"model", "temperatures": [summary, ...], "rewrites": None or {"summary", "comparison" (rewritten
    minus original), "consistent": share of the questions on which right or wrong did not change, "changed":
    how many prompts the rewrite could change}}.
    """
    task = _loaded(task)
    model, tokenizer, name = load_model(model, tokenizer, settings.get("dtype"))

    def summary(of: Any, temperature: float, condition: str) -> dict[str, Any]:
        how = settings | {"k": settings.get("k", 1) if temperature else 1, "temperature": temperature}
        if known and known.task == of.spec and all(known.settings[x] == how[x] for x in ("temperature", "k")):
            return known.summary()
        log = Path(resume_dir) / f"{condition}.jsonl" if resume_dir is not None else None
        return evaluate(model, of, tokenizer=tokenizer, seed=seed, resume_path=log, **how).summary()

    by_temperature = [summary(task, value, f"temperature-{value:g}") for value in temperatures]
    result: dict[str, Any] = {"model": name, "temperatures": by_temperature, "rewrites": None}
    if rewrites and task.source == "builtin":
        other = _rewritten(task, seed)
        greedy = next((s for s in by_temperature if not s["temperature"]), None)
        greedy = greedy or summary(task, 0.0, "temperature-0")
        there = summary(other, 0.0, "rewritten")
        before, after = greedy["per_question"], there["per_question"]
        result["rewrites"] = {
            "summary": there,
            "comparison": paired_comparison(before, after, seed=seed),
            "consistent": sum(a == b for a, b in zip(before, after)) / len(before),
            "changed": sum(a != b for a, b in zip(task.test["prompt"][: len(before)], other.test["prompt"])),
        }
    return result


def load_model(model: Any, tokenizer: Any = None, dtype: Any = None) -> tuple[nn.Module, Any, str]:
    """A causal LM with its tokenizer and a name to show; whatever is already loaded passes through.

    From disk or the Hub: safetensors only, never remote code; an adapter on its base, which its config names.
    dtype: default the one of its training where the tokenizer says so, else float32 on a CPU and the
    checkpoint's type elsewhere.
    """
    if isinstance(model, (str, os.PathLike)):
        loaded, its_tokenizer = load(str(model), dtype=dtype)
        return loaded, tokenizer or its_tokenizer, str(model)
    path = getattr(model.config, "_name_or_path", "")
    name = path or type(model).__name__
    if tokenizer is None:
        try:
            tokenizer = load_tokenizer(path)
        except UserError as error:
            raise UserError(f"{error}: pass tokenizer=") from error
    return model, tokenizer, name


def _asked(tokenizer: Any, plain: bool | None, chat_template_kwargs: dict[str, Any] | None) -> Asked:
    """How the model was asked in its training, with what the caller says otherwise."""
    given: dict[str, Any] = {"plain": plain, "chat_template_kwargs": chat_template_kwargs}
    changes = {name: value for name, value in given.items() if value is not None}
    return dataclasses.replace(asked_as(tokenizer), **changes)


def _shaping(
    trained: dict[str, float], given: dict[str, float] | None, top_p: float | None
) -> dict[str, float]:
    """Sampling settings of the training with what the caller says otherwise; only those that act."""
    given = (given or {}) | ({} if top_p is None else {"top_p": top_p})
    for name, value in given.items():
        if name not in SHAPING or (value != SHAPING[name][0] and not acting({name: value})):
            raise UsageError(f"shaping: {name}={value!r}: give numbers for {', '.join(SHAPING)}")
    return acting({**trained, **given})


def encode_prompts(
    tokenizer: Any,
    prompts: list,
    asked: Asked = Asked(),  # noqa: B008
    model: nn.Module | None = None,
) -> list[list[int]]:
    """Token ids as the model was trained on them; text goes through the chat template where there is one.

    model: raises UserError for ids that it has no embedding for.
    """
    encoded = encode(tokenizer, [as_messages(tokenizer, prompt, asked) for prompt in prompts], asked)
    if not all(encoded):
        raise UserError(f"prompt {encoded.index([])} of the task has no tokens: remove it")
    if model is not None:
        check_ids([max(ids) for ids in encoded], _size(model))
    return encoded


def _size(model: Any) -> int:
    """Tokens of its vocabulary; not by the weight's shape, which is empty where processes share it out."""
    embedding = model.get_input_embeddings()
    return getattr(embedding, "num_embeddings", None) or model.config.get_text_config(decoder=True).vocab_size


def _check_settings(
    n: int | None,
    k: int,
    temperature: float,
    top_p: float | None,
    max_new_tokens: int | None,
    batch_size: int | None,
) -> None:
    for name, value in (("n", n), ("k", k), ("max_new_tokens", max_new_tokens), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise UsageError(f"{name}={value}: give at least 1")
    if not (temperature == 0 or COLDEST <= temperature < float("inf")):
        raise UsageError(f"temperature={temperature}: give 0 (greedy), or a number from {COLDEST}")
    if top_p is not None and not 0 < top_p <= 1:
        raise UsageError(f"top_p={top_p}: give a number above 0 and up to 1")
    if k > 1 and temperature == 0:
        raise UsageError(f"k={k} at temperature 0 gives one completion {k} times: set a temperature, or k=1")


def _loaded(task: Task | str) -> Task:
    if not isinstance(task, str):
        return task
    from ..tasks.tasks import load_task

    return load_task(task)


def questions_of(task: Any, n: int | None) -> list[dict]:
    """The first n rows of the test split."""
    available = len(task.test)
    if not available or (n is not None and n > available):
        raise UserError(
            f"{task.spec} has {available} held-out questions, not {n or 'any'}: ask for fewer, or (in "
            "Python) load the task with a larger test_size"
        )
    return list(task.test.select(range(n or available)))


def decoding_for(
    model: Any,
    tokenizer: Any,
    prompts: list[list[int]],
    temperature: float,
    top_p: float,
    max_new_tokens: int,
    shaping: dict[str, float] | None = None,
) -> Decoding:
    """End tokens of tokenizer and model together, and a length that the model's context leaves room for."""
    eos = end_tokens(model, tokenizer)
    if not eos:
        raise UserError("neither the tokenizer nor the model has an end token: completions could never end")
    pad = eos[0] if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    pad = pad if pad < _size(model) else 0  # it is masked, so that any token serves
    longest = max(map(len, prompts))
    context = (
        getattr(model.config.get_text_config(), "max_position_embeddings", None) or longest + max_new_tokens
    )
    if longest >= context:
        raise UserError(
            f"a prompt has {longest} tokens and the model's context only {context}: drop long prompts"
        )
    return Decoding(temperature, top_p, min(max_new_tokens, context - longest), pad, eos, shaping or {})


def _finished_questions(
    model: nn.Module,
    prompts: list[list[int]],
    decoding: Decoding,
    k: int,
    batch_size: int,
    seed: int,
    done: set[int],
    advance: Callable[[int], None],
    places: Sequence[int] | None = None,
) -> Iterator[dict[int, list[Completion]]]:
    """After each batch, the questions whose k completions are complete.

    Batches depend on the settings alone, and a batch is skipped only as a whole: a resumed evaluation draws
    what an uninterrupted one would have drawn, to the last digit.
    """
    order = sorted(range(len(prompts)), key=lambda q: (-len(prompts[q]), q))  # the longest, most costly first
    queue = [(q, number) for q in order for number in range(k)]
    pending: dict[int, list[Completion]] = {}
    for start in range(0, len(queue), batch_size):
        part = queue[start : start + batch_size]
        batch = [q for q, _ in part]
        if not done.issuperset(batch):
            seeds = [row_seed(seed, places[q] if places else q, number) for q, number in part]
            drawn = in_memory(model, [prompts[q] for q in batch], decoding, seeds)
            for q, completion in zip(batch, drawn):
                if q not in done:
                    pending.setdefault(q, []).append(completion)
            yield {q: pending.pop(q) for q in list(pending) if len(pending[q]) == k}
        advance(len(batch))


def _rewritten(task: Any, seed: int) -> Any:
    from datasets import Dataset

    from ..tasks.expressions import rewrite

    rows = [{**row, "prompt": rewrite(row["prompt"], seed)} for row in task.test]
    return dataclasses.replace(task, spec=f"{task.spec} (rewritten)", test=Dataset.from_list(rows))


def _digest(rows: list[dict]) -> str:
    """Tells one set of questions from another."""
    text = json.dumps([[row["prompt"], row["answer"]] for row in rows])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def weights_digest(model: nn.Module) -> str:
    """Tells one set of weights from another: up to 256 values, evenly spread, of every parameter.

    The same for a model in PEFT's wrapper and for the model inside it.
    """
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        values = parameter.detach().flatten()
        values = values[:: max(1, values.numel() // 256)]
        name = name.removeprefix("base_model.model.")
        digest.update(name.encode() + values.float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


@contextmanager
def _progress_bar(total: int, wanted: bool) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not (wanted and console.is_terminal)
    ) as bar:
        job = bar.add_task("evaluating", total=total)
        yield lambda count: bar.advance(job, count)
