"""The card's metadata: the YAML at its top, model-index, and `.eval_results/*.yaml` for registered
benchmarks.

Only what run.json says: a license that is not recorded is left out, a base model that is on no Hub is not
linked. YAML is written by a YAML dumper alone.
"""

from __future__ import annotations

from typing import Any

from ..errors import UserError

REGISTERED = {"openai/gsm8k": "gsm8k"}  # benchmark datasets that feed a leaderboard -> their task id
METRIC_NAME = "Accuracy (exact answer)"


def card_metadata(run: dict[str, Any]) -> dict[str, Any]:
    """The front matter as a dict, in the order in which it is written."""
    base, dataset, adapter = run["base_model"], run["dataset"], run.get("adapter")
    on_hub = base.get("source") == "hub"
    data: dict[str, Any] = {
        "license": base.get("license"),
        "language": base.get("language"),
        "library_name": "peft" if adapter else "transformers",
        "pipeline_tag": "text-generation",
        "base_model": base["id"] if on_hub else None,
        "base_model_relation": ("adapter" if adapter else "finetune") if on_hub else None,
        "datasets": [dataset["id"]] if dataset.get("id") else None,
        "metrics": ["accuracy"],
        "tags": _tags(run),
        "widget": _widget(run),
        "model-index": _model_index(run),
        "co2_eq_emissions": _emissions(run),
    }
    return {key: value for key, value in data.items() if value}


def _tags(run: dict[str, Any]) -> list[str]:
    own = [run["algorithm"]] if run["algorithm"] != "grpo" else []
    adapter = ["lora"] if (run.get("adapter") or {}).get("type") == "LORA" else []
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


def _widget(run: dict[str, Any]) -> list[dict[str, Any]] | None:
    samples = run["dataset"].get("samples")
    if not samples or len(samples[0]["prompt"]) > 500:
        return None
    prompt = samples[0]["prompt"]
    if (run.get("prompt") or {}).get("chat_template"):
        return [{"messages": [{"role": "user", "content": prompt}]}]
    return [{"text": prompt}]


def _model_index(run: dict[str, Any]) -> list[dict[str, Any]] | None:
    final = (run.get("results") or {}).get("final")
    if not final or run["dataset"].get("id") in REGISTERED:
        return None
    dataset = run["dataset"]
    metric = {
        "type": "accuracy",
        "value": round(100 * final["accuracy"], 2),
        "name": METRIC_NAME,
        "verified": False,
    }
    source = {"name": dataset["spec"], "type": dataset.get("id") or dataset["spec"], "split": "test"}
    if dataset.get("id") and dataset.get("revision"):
        source["revision"] = dataset["revision"]
    task = {"type": "text-generation", "name": "Text Generation"}
    return [{"name": run["name"], "results": [{"task": task, "dataset": source, "metrics": [metric]}]}]


def _emissions(run: dict[str, Any]) -> dict[str, Any] | None:
    kilograms = (run.get("cost") or {}).get("co2_kg")
    if kilograms is None:
        return None
    hardware = run.get("hardware") or {}
    used = ", ".join(hardware.get("gpus") or []) or hardware.get("cpu") or "unknown"
    return {"emissions": round(1000 * kilograms, 3), "training_type": "fine-tuning", "hardware_used": used}


def eval_result_files(run: dict[str, Any]) -> dict[str, str]:
    """`.eval_results/<task>.yaml` -> its text, for a registered benchmark; empty otherwise.

    The value is in per cent; the notes say how many questions it rests on and how they were decoded.
    """
    dataset, final = run["dataset"], (run.get("results") or {}).get("final")
    task = REGISTERED.get(dataset.get("id") or "")
    if task is None or not final:
        return {}
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    low, high = (100 * x for x in final["interval"])
    decoding = "greedy" if not final["temperature"] else f"T={final['temperature']:g}, k={final['k']}"
    entry = EvalResultEntry(
        dataset_id=dataset["id"],
        task_id=task,
        value=round(100 * final["accuracy"], 2),
        dataset_revision=dataset.get("revision"),
        date=(run.get("finished_at") or run["created_at"])[:10],
        notes=f"n={final['n']} questions, 95 % interval {low:.1f} to {high:.1f}, {decoding}; by the author",
    )
    return {f".eval_results/{task}.yaml": to_yaml(eval_result_entries_to_yaml([entry])) + "\n"}


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
