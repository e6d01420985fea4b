"""Cells that `erpo-hub compare` did not train, in its layout: judged as its own, kept as its report reads."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

from erpo_hub.evaluation.sampling import evaluate
from erpo_hub.study.cell import COMPLETION_LENGTH
from erpo_hub.study.compare import cell_folder
from erpo_hub.text import write_json

COMPARED = ("torch", "transformers", "trl")  # versions that are kept


def is_kept(out: Path, cell: dict[str, Any]) -> bool:
    return (cell_folder(out, cell) / "cell.json").exists()


def judge_and_keep(
    out: Path, cell: dict[str, Any], model: Any, tokenizer: Any, task: Any, grader: Any,
    cost: dict[str, Any], history: list[dict[str, Any]] | None = None,
) -> None:  # fmt: skip
    """Judge `model` greedily and by samples at T = 1 on the cell's questions, and write its cell.json."""
    common = {"tokenizer": tokenizer, "grader": grader, "seed": cell["seed"], "progress": False}
    common |= {"max_new_tokens": COMPLETION_LENGTH, "batch_size": 256}
    greedy: dict[str, Any] = evaluate(model, task, n=cell["n_greedy"], **common).summary()
    sampled = evaluate(model, task, n=cell["n_sampled"], k=cell["k_sampled"], temperature=1.0, **common)
    found: dict[str, Any] = {
        "greedy": greedy,
        "sampled": sampled.summary(),
        "cost": cost,
        "history": history or [],
    }
    found |= {"dataset": task.describe(), "versions": {package: version(package) for package in COMPARED}}
    cell_folder(out, cell).mkdir(parents=True, exist_ok=True)
    write_json(cell_folder(out, cell) / "cell.json", {"schema_version": 1, "cell": cell} | found)
    print(
        f"{cell['name']}, seed {cell['seed']}: greedy {greedy['accuracy']:.4f}, sampled "
        f"{found['sampled']['accuracy']:.4f}, {found['sampled']['mean_entropy']:.4f} nats",
        flush=True,
    )
