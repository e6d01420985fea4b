"""Traces out of a training run's completions table, so that a run in progress can be looked into.

`ERPOTrainer` with `log_completions=True` adds one column to the table that TRL writes after every log step
(`<output_dir>/completions/completions_00010.parquet`): token ids, entropies, log-probs and pivots of each
completion under the policy that sampled it. Here they become traces. What a training does not record stays
empty rather than guessed: no alternatives (k = 0), no `sampling_logprob`, no verdict; the rewards are in
`generation`. Numbers are rounded to 1e-4. May import pyarrow and, for text, transformers.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...parquet_file import open_parquet, unpacked_bytes
from ...text import one_line
from ...traces.logged import said
from ...traces.pivots import PivotRule
from ...traces.trace import Trace

COLUMN = "erpo/tokens"
MAX_BYTES = 1 << 30  # of a file, unpacked
_ODD = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)


def traces_from_completions(
    path: str | Path, tokenizer: Any = None, *, model: str | None = None
) -> list[Trace]:
    """Traces of a completions file, or of every file in a folder of them, in order of their names.

    Args:
        path: `completions_*.parquet`, or the folder that holds them.
        tokenizer: a tokenizer, or a folder or Hub id to load one from. Default: the newest checkpoint's
            beside the completions, or the run's own.
        model: name for the traces; default the run's folder.

    Completions of which no token counted (masked as truncated) are left out. Raises UserError for a file
    without ERPO's column, one that cannot be read, numbers that are not finite, or a missing tokenizer.
    """
    path = Path(path)
    files = sorted(path.glob("completions_*.parquet")) if path.is_dir() else [path]
    if not files:
        raise UserError(f"{path}: contains no completions_*.parquet; train with log_completions=True")
    run = files[0].resolve().parent.parent
    if tokenizer is None:
        tokenizer = _folder_with_tokenizer(run)
    if isinstance(tokenizer, str | Path):
        from ...traces.loading import load_tokenizer

        tokenizer = load_tokenizer(str(tokenizer))
    traces = []
    for file in files:
        for number, row in enumerate(_rows(file)):
            try:
                if row[COLUMN]["ids"]:
                    traces.append(trace_of_row(row, tokenizer, model or run.name))
            except UserError as error:
                raise UserError(f"{file}: completion {number}: {error}") from None
            except _ODD as error:  # anybody may have written the file, and no column's type is promised
                raise UserError(f"{file}: completion {number} can't be read ({one_line(error)})") from None
    return traces


def trace_of_row(row: dict[str, Any], tokenizer: Any, model: str) -> Trace:
    """The trace of one row of a completions table, as Parquet or Trackio gives it. Raises UserError."""
    from ...traces.decoding import pieces_of

    logged = row[COLUMN]
    ids = logged["ids"]
    if ids and max(ids) >= len(tokenizer):
        raise UserError(
            f"id {max(ids)} is not among the tokenizer's {len(tokenizer)}: give the one of the trained model"
        )
    pieces = pieces_of(tokenizer, ids)
    plain = {k: v for k, v in row.items() if isinstance(v, int | float) and v == v}  # NaN: nobody scored it
    return Trace(
        prompt=said(row["prompt"]),
        completion="".join(pieces),
        prompt_tokens=logged["prompt_ids"],
        tokens=ids,
        pieces=pieces,
        entropy=logged["entropy"],
        logprob=logged["logprob"],
        topk_ids=[[] for _ in ids],
        topk_probs=[[] for _ in ids],
        vocab_size=logged["vocab_size"],
        model=model,
        strings={i: tokenizer.decode([i]) for i in sorted(set(ids))},
        pivots=logged["pivots"],
        pivot_rule=PivotRule(),  # the trainer's
        generation={"temperature": logged["temperature"], **plain},
        finish_reason="eos" if ids and ids[-1] in tokenizer.all_special_ids else "length",
    )


def _rows(file: Path) -> Iterable[dict[str, Any]]:
    import pyarrow as pa

    try:
        with open_parquet(file, MAX_BYTES) as source:
            if COLUMN not in source.schema_arrow.names:
                raise UserError(
                    f"{file}: has no column {COLUMN!r}; ERPOTrainer writes it, plain GRPO does not"
                )
            size = 0
            for group in range(source.num_row_groups):
                table = source.read_row_group(group)
                size += unpacked_bytes(table)
                if size > MAX_BYTES:
                    raise UserError(f"{file}: comes to more than {MAX_BYTES >> 30} GiB; refused")
                yield from table.to_pylist()
    except (OSError, ValueError, ArithmeticError, pa.ArrowException) as error:
        raise UserError(f"{file}: not a readable Parquet file ({error}); give a completions file") from None


def _folder_with_tokenizer(run: Path) -> str:
    def step(folder: Path) -> int:
        number = folder.name.removeprefix("checkpoint-")
        return int(number) if number.isdigit() else -1

    for folder in [*sorted(run.glob("checkpoint-*"), key=step, reverse=True), run]:
        if (folder / "tokenizer_config.json").is_file():
            return str(folder)
    raise UserError(
        f"{run}: no tokenizer there yet; give the tokenizer, or the id of the model being trained"
    )
