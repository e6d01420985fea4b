"""The card's metadata: the YAML at its top, model-index, and `.eval_results/*.yaml` for registered
benchmarks.

Only what run.json says: a license that is not recorded is left out, a base model that is not on the Hub is
not linked. YAML is written by a YAML dumper alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..record.format import RunRecord

REGISTERED = {"openai/gsm8k": "gsm8k"}  # benchmark datasets that feed a leaderboard -> their task id
METRIC_NAME = "Accuracy (exact answer)"


def card_metadata(run: RunRecord) -> dict[str, Any]:
    """The front matter as a dict, in the order in which it is written."""
    base, data = run.base_model, run.dataset
    on_hub = base is not None and base.source == "hub"
    relation = "adapter" if run.adapter else "finetune"
    found: dict[str, Any] = {
        "license": base.license if base else None,
        "language": base.language if base else None,
        "library_name": "peft" if run.adapter else "transformers",
        "pipeline_tag": "text-generation",
        "base_model": base.id if base and on_hub else None,
        "base_model_relation": relation if on_hub else None,
        "datasets": [data.id] if data and data.id else None,
        "metrics": ["accuracy"],
        "tags": _tags(run),
        "widget": _widget(run),
        "model-index": _model_index(run),
    }
    return {key: value for key, value in found.items() if value}


def _tags(run: RunRecord) -> list[str]:
    own = [run.algorithm] if run.algorithm != "grpo" else []
    adapter = ["lora"] if run.adapter and run.adapter.type == "LORA" else []
    return [
        *own,
        "erpo-hub",
        "trl",
        "grpo",
        "reinforcement-learning",
        "reasoning",
        "generated_from_trainer",
        *adapter,
    ]


def _widget(run: RunRecord) -> list[dict[str, Any]] | None:
    samples = run.dataset.samples if run.dataset else []
    if not samples or len(samples[0].prompt) > 500:
        return None
    prompt = samples[0].prompt
    if run.prompt.chat_template:
        return [{"messages": [{"role": "user", "content": prompt}]}]
    return [{"text": prompt}]


def _model_index(run: RunRecord) -> list[dict[str, Any]] | None:
    final, data = run.results.final, run.dataset
    if final is None or data is None or data.id in REGISTERED:
        return None
    metric = {
        "type": "accuracy",
        "value": round(100 * final.accuracy, 2),
        "name": METRIC_NAME,
        "verified": False,
    }
    source = {"name": data.spec, "type": data.id or data.spec, "split": "test"}
    if data.id and data.revision:
        source["revision"] = data.revision
    task = {"type": "text-generation", "name": "Text Generation"}
    return [{"name": run.name, "results": [{"task": task, "dataset": source, "metrics": [metric]}]}]


def eval_result_files(run: RunRecord) -> dict[str, str]:
    """`.eval_results/<task>.yaml` -> its text, for a registered benchmark; empty otherwise.

    The value is in per cent; the notes say how many questions it rests on and how they were decoded.
    """
    data, final = run.dataset, run.results.final
    if data is None or data.id not in REGISTERED or final is None:
        return {}
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    task = REGISTERED[data.id]
    low, high = (100 * x for x in final.interval)
    decoding = "greedy" if not final.temperature else f"T={final.temperature:g}, k={final.k}"
    entry = EvalResultEntry(
        dataset_id=data.id,
        task_id=task,
        value=round(100 * final.accuracy, 2),
        dataset_revision=data.revision,
        date=(run.finished_at or run.created_at or "")[:10] or None,
        notes=f"n={final.n} questions, 95 % interval {low:.1f} to {high:.1f}, {decoding}; by the author",
    )
    return {f".eval_results/{task}.yaml": to_yaml(eval_result_entries_to_yaml([entry])) + "\n"}


def with_source(files: Mapping[str, Path | bytes], url: str) -> dict[str, bytes]:
    """The `.eval_results` among a bundle's files with `url`, where the traces lie, as the source of each."""
    changed = {}
    for name, content in files.items():
        if not name.startswith(".eval_results/") or "traces/traces.parquet" not in files:
            continue
        entries = from_yaml((content if isinstance(content, bytes) else content.read_bytes()).decode("utf-8"))
        named = [
            {**entry, "source": {"url": url, "name": "Traces of held-out questions"}} for entry in entries
        ]
        changed[name] = (to_yaml(named) + "\n").encode()
    return changed


def to_yaml(data: Any) -> str:
    """YAML text without a final line end."""
    from huggingface_hub.utils import yaml_dump

    return yaml_dump(data, sort_keys=False).strip()


MAX_YAML = 128 * 1024  # characters; the loader is slow and reads what anybody wrote
_YAML_DAMAGE = (ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError)


def from_yaml(text: str) -> Any:
    """A YAML value from anybody. Raises UserError in one clause: syntax, size, depth, aliases, odd values.

    Aliases are refused because a few lines of them can stand for gigabytes.
    """
    import yaml

    if len(text) > MAX_YAML:
        raise UserError(f"longer than {MAX_YAML >> 10} Ki characters")
    try:
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent):
                raise UserError("aliases (*) are not read: write the value out")
            if depth > 32:
                raise UserError("nested too deeply")
        return yaml.safe_load(text)
    except (yaml.YAMLError, *_YAML_DAMAGE) as error:  # a date of month 99, a number of 5,000 digits
        raise UserError(" ".join(str(error).split())[:200] or type(error).__name__) from error
