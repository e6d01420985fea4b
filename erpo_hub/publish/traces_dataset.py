"""A dataset of traces on the Hub: one Parquet file, a card, and a viewer that opens on it. One commit.

The card has marked blocks like a model's (merge.py), so what people add to it stays.
"""

from __future__ import annotations

import re
import shlex
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ..card.card import DATASET_FILE
from ..card.layout import environment
from ..card.merge import Block, compose
from ..errors import UserError
from ..traces.sessions import to_session
from ..traces.trace import Trace
from . import commit
from .bundle import last_part
from .check import traces_problems
from .failures import no_commit_on_failure
from .hub import check_repo_id, hub_api, keep_edits, prepare_repo, to_stderr, what_happened

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo

SESSIONS = 100  # at most so many traces also as a file each that the Hub's trace viewer opens
_SESSION = re.compile(r"sessions/\d{5}\.jsonl")
COLUMNS = (
    ("prompt", "text", "what was asked"),
    ("completion", "text", "what the model wrote"),
    ("answer, gold, correct", "text, text, bool", "the answer read from it, the right one, the verdict"),
    ("pieces", "list of text", "the text that each token adds"),
    ("tokens, prompt_tokens", "lists of int", "token ids"),
    ("entropy", "list of float", "of the next-token distribution, over the full vocabulary"),
    ("logprob, sampling_logprob", "lists of float", "of the chosen token, before and after top-k and top-p"),
    ("topk_ids, topk_probs", "lists of lists", "the most probable alternatives"),
    ("pivots", "list of int", "positions whose entropy exceeds the completion's own 0.75-quantile"),
    ("sensitivity", "list of float", "variance of the logits under noise at that position only, logit²"),
    ("strings", "list of pairs", "text of every token id named in the row"),
    ("model, revision, generation", "text", "what produced it, the settings as JSON"),
    ("finish_reason", "text", "eos, length, cancelled, or scored for given text"),
)


def push_traces(
    traces: Sequence[Trace] | str | Path,
    repo_id: str,
    *,
    model: str | None = None,
    private: bool | None = None,
    token: str | None = None,
    create_pr: bool = False,
    revision: str | None = None,
    force: bool = False,
    endpoint: str | None = None,
    report: Callable[[str], None] | None = None,
) -> CommitInfo:
    """Publishes traces as a dataset in one commit; as none when it holds them already.

    traces: records, a Parquet file of them, or a bundle. A model that is a folder is named by the last part
    of its path. model: the Hub id of the model that wrote them, for a link. The rest as in
    `push_bundle`. Raises UserError.
    """
    check_repo_id(repo_id)
    if model:
        check_repo_id(model)  # the card links to it
    records = [trace.replace(model=_public_name(trace.model)) for trace in load_traces(traces)]
    named = isinstance(traces, str | Path)
    with tempfile.TemporaryDirectory() as scratch:
        file = Trace.to_parquet(records, Path(scratch) / "traces.parquet")
        if problems := traces_problems(file, token=token):
            raise UserError(f"the traces can't be published: {problems[0]}")
        again = f"erpo-hub push {shlex.quote(str(traces))} --traces {repo_id}" if named else "the same call"
        with no_commit_on_failure(repo_id, kept="the traces are kept where they are", again=again):
            api = hub_api(token, endpoint)
            prepare_repo(
                api, repo_id, repo_type="dataset", private=private, revision=revision, create_pr=create_pr
            )
            head = commit.head_of(api, repo_id, repo_type="dataset", revision=revision)
            card = keep_edits(
                api, repo_id, render_traces_card(records, repo_id, model), head, force, "dataset"
            )
            files: dict[str, Path | bytes] = {DATASET_FILE: file, "README.md": card.encode()}
            files |= sessions(records)
            there = commit.remote_files(api, repo_id, "dataset", head)
            stale = [path for path in there if _SESSION.fullmatch(path) and path not in files]
            outcome = commit.commit_once(
                api,
                repo_id,
                commit.Content(files, tuple(sorted(stale))),
                head=head,
                message=f"Publish {len(records)} traces",
                repo_type="dataset",
                revision=revision,
                create_pr=create_pr,
            )
    (report or to_stderr)(what_happened(outcome, repo_id))
    return outcome.info


def _public_name(model: str) -> str:
    """A Hub id whole; of a folder its last part only: where it lies is nobody's business."""
    name = last_part(model)
    return PurePosixPath(name).name if name.startswith((".", "~")) or name.count("/") > 1 else name


def sessions(traces: Sequence[Trace]) -> dict[str, bytes]:
    """The first `SESSIONS` traces in the Hub's session format, by path."""
    numbered = [(f"{number:05d}", trace) for number, trace in enumerate(traces[:SESSIONS])]
    return {f"sessions/{name}.jsonl": to_session(trace, name).encode() for name, trace in numbered}


def load_traces(source: Sequence[Trace] | str | Path) -> list[Trace]:
    """Records as they are, or read from a Parquet file or a bundle. Raises UserError where there are none."""
    if isinstance(source, str | Path):
        path = Path(source)
        path = path / "traces" if (path / "traces").is_dir() else path
        found = Trace.from_parquet(path)
    else:
        found = list(source)
    if not found:
        raise UserError(
            f"{source if isinstance(source, str | Path) else 'the list'} contains no traces to publish"
        )
    return found


def render_traces_card(traces: Sequence[Trace], repo_id: str, model: str | None = None) -> str:
    """The dataset's README.md: metadata with the viewer's configuration, and four marked blocks."""
    graded = [trace for trace in traces if trace.correct is not None]
    template = environment().get_template("traces_card.md.jinja")
    shown: dict[str, Any] = {
        "traces": list(traces),
        "repo_id": repo_id,
        "model": traces[0].model,
        "run_model": model,
        "graded": len(graded),
        "correct": sum(bool(trace.correct) for trace in graded),
        "columns": COLUMNS,
        "sessions": min(len(traces), SESSIONS),
    }
    context = template.new_context(shown)
    blocks = [Block(name, "".join(render(context)).strip()) for name, render in template.blocks.items()]
    return compose(_metadata(len(traces), model), blocks)


def _metadata(rows: int, model: str | None) -> dict[str, Any]:
    size = "n<1K" if rows < 1000 else "1K<n<10K" if rows < 10_000 else "10K<n<100K"
    data: dict[str, Any] = {
        "pretty_name": "Reasoning traces",
        "task_categories": ["text-generation"],
        "size_categories": [size],
        "tags": ["erpo-hub", "reasoning-traces", "entropy"],
        "configs": [
            {"config_name": "default", "data_files": [{"split": "test", "path": "data/test-*.parquet"}]},
            {"config_name": "sessions", "data_files": [{"split": "test", "path": "sessions/*.jsonl"}]},
        ],
    }
    return data | ({"models": [model]} if model else {})
