"""`erpo-hub train --dry-run`: would this command work where it is meant to run? Answered offline, anywhere.

Everything is read as the training would read it (fields, preset, task spec, accelerate's YAML), then one step
runs on a random model of a few thousand parameters of the same architecture, with a chat template of the same
form, on questions in the same format, and is judged and bundled. Not tried: memory, vLLM, several processes,
the Hub.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from datasets import Dataset

from ..errors import UsageError, UserError
from ..paths import expanded
from ..record.format import read_record
from ..tasks.prompts import shape_prompts
from ..tasks.rows import read_rows
from ..tasks.specs import parse_spec
from ..tasks.tasks import Task, load_task
from ..traces.loading import EMBEDDED_MODEL

# What a recipe may hold beside the fields of ERPOConfig: arguments and options of `erpo-hub train`, and
# accelerate's file.
RECIPE_KEYS = {
    "model": str,
    "dataset": str,
    "algorithm": str,
    "eval_dataset": str,
    "eval_questions": int,
    "lora_r": int,
    "plain": bool,
    "accelerate": str,
}
# Part of a model's name: the architecture it has. Found in the config where the model is on this machine.
FAMILIES = {"qwen3": "qwen3", "qwen2": "qwen2", "llama": "llama", "smollm": "llama", "mistral": "mistral"}
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 4096,
}
# Precision is the machine's; the rest would take the GPUs, or longer than a step should.
PRECISION: dict[str, Any] = {"bf16": False, "fp16": False, "tf32": None}
ONE_STEP: dict[str, Any] = {
    "max_steps": 1,
    "max_completion_length": 16,
    "use_vllm": False,
    "model_init_kwargs": None,
    "report_to": "none",
    "save_strategy": "no",
    "eval_strategy": "no",
}
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QUESTIONS = [  # (question, solution, answer)
    ("Tom has 3 apples and buys 4 more. How many apples has he?", "3 + 4 = 7", "7"),
    ("A box holds 12 eggs. How many eggs are in 5 boxes?", "12 * 5 = 60", "60"),
    ("Ann had 20 coins and lost 6. How many are left?", "20 - 6 = 14", "14"),
    ("18 pens are shared by 3 children. How many has each?", "18 / 3 = 6", "6"),
    ("A bus with 31 seats has 9 free. How many are taken?", "31 - 9 = 22", "22"),
    ("Two trains have 8 cars each. How many cars in all?", "2 * 8 = 16", "16"),
]
HELD_OUT = 2  # of them


@dataclass(frozen=True)
class Launch:
    """What accelerate's YAML file asks for."""

    path: Path
    kind: str  # "FSDP 2", "DEEPSPEED", "MULTI_GPU", "NO"
    processes: int


def dry_run(
    model: str,
    dataset: str,
    *,
    algorithm: str,
    overrides: Mapping[str, Any],
    peft_config: Any = None,
    eval_dataset: str | None = None,
    plain: bool = False,
    launch: Launch | None = None,
) -> list[str]:
    """One step in a temporary folder. Returns what was found, a line each; raises as a training does.

    overrides: the fields of ERPOConfig that the real training would get.
    """
    from .conductor import train_and_push
    from .preparation import make_arguments

    family = architecture(model)
    task = stand_in_task(dataset)
    if eval_dataset is not None:
        stand_in_task(eval_dataset)
    with tempfile.TemporaryDirectory(prefix="erpo-hub-dry-run-") as scratch:
        folder = Path(scratch)
        config = make_arguments(algorithm, None, {**overrides, **PRECISION}, model, folder)
        processes = launch.processes if launch else 1
        batch = _generation_batch(config, processes)
        save_stand_in(family, folder / "model")
        result = train_and_push(
            str(folder / "model"),
            task,
            algorithm=algorithm,
            push=False,
            peft_config=peft_config,
            output_dir=folder / "run",
            evaluation={"n": HELD_OUT},
            plain=plain,
            **{**overrides, **PRECISION, **ONE_STEP},
        )
        record = read_record(result.bundle_dir)
    replaced = [name for name in ONE_STEP if overrides.get(name, ONE_STEP[name]) != ONE_STEP[name]]
    return [
        f"fields: {len(overrides)} read, algorithm {algorithm}",
        f"launch: {launch.path.name}, {launch.kind}, {processes} processes"
        if launch
        else "launch: one process",
        f"batch: {batch} completions a generation in groups of {config.num_generations}, at most "
        f"{config.max_completion_length} tokens each",
        f"prompts: {'through the chat template' if record.prompt.chat_template else 'plain text'}",
        f"step: {record.cost.completions} completions of a random {family} with "
        f"{record.base_model.parameters if record.base_model else 0:,} parameters; judged and bundled",
        f"not tried: memory, several processes, the Hub; replaced for the step: {', '.join(replaced)}",
    ]


def _generation_batch(config: Any, processes: int) -> int:
    """Completions a generation, over all processes. Raises UsageError where they are not whole groups."""
    batch = config.per_device_train_batch_size * config.steps_per_generation * processes
    if batch % config.num_generations:
        raise UsageError(
            f"{batch} completions a generation on {processes} processes are not a multiple of "
            f"num_generations={config.num_generations}: change per_device_train_batch_size"
        )
    return batch


def take_recipe(fields: dict[str, Any], config: Path | None) -> dict[str, Any]:
    """Take the RECIPE_KEYS out of what `parse_flags` read; None for one that is not there."""
    recipe = {key: fields.pop(key, None) for key in RECIPE_KEYS}
    for key, kind in RECIPE_KEYS.items():
        if recipe[key] is not None and type(recipe[key]) is not kind:
            what = {int: "a whole number", bool: "true or false"}.get(kind, "text")
            raise UsageError(f"{config}: {key}: {recipe[key]!r} is not {what}")
    return recipe


def read_launch(name: str | None, recipe: Path | None) -> Launch | None:
    """accelerate's YAML file, beside the recipe that names it, through accelerate's own loader.

    Raises UsageError where it is missing or is not what accelerate takes.
    """
    if name is None:
        return None
    from accelerate.commands.config.config_args import load_config_from_file

    path = (recipe.parent if recipe else Path()) / name
    try:
        found: Any = load_config_from_file(str(path))
    except FileNotFoundError as error:
        raise UsageError(f"{recipe}: accelerate: {name!r} is not there; give a file beside it") from error
    except (ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise UsageError(f"{path} is not a file that accelerate takes: {error}") from error
    kind = str(getattr(found.distributed_type, "value", found.distributed_type))
    version = (found.fsdp_config or {}).get("fsdp_version") if kind == "FSDP" else None
    return Launch(path, f"{kind} {version}" if version else kind, found.num_processes)


def check_processes(launch: Launch | None, recipe: Path | None) -> None:
    """A recipe's batch and memory are those of its number of processes. Raises UsageError for another one."""
    running = int(os.environ.get("WORLD_SIZE", "1"))
    if launch is not None and launch.processes != running:
        raise UsageError(
            f"{recipe} is for {launch.processes} processes and this is {running}: start it with `accelerate "
            f"launch --config_file {launch.path} -m erpo_hub.cli train --config {recipe}`"
        )


def architecture(model: str) -> str:
    """`model_type` of a model that may not be on this machine: from its config, else from its name."""
    config = expanded(model) / "config.json"
    if config.is_file():
        return str(json.loads(config.read_text(encoding="utf-8")).get("model_type"))
    if model == EMBEDDED_MODEL:
        return "qwen2"
    for part, family in FAMILIES.items():
        if part in model.lower():
            return family
    raise UsageError(
        f"the dry run cannot tell the architecture of {model!r} by its name ({', '.join(FAMILIES)}): "
        "give a folder with its config.json"
    )


def stand_in_task(text: str) -> Task:
    """The task itself where that is made or read on this machine; for a Hub id questions in its place.

    The questions go the way of the dataset's rows: columns, marked answers, chat form, grader.
    """
    spec = parse_spec(text)
    if spec.source in ("builtin", "reasoning-gym"):
        return load_task(text, train_size=8, test_size=8)
    if spec.source == "file":
        return load_task(text)
    prompt, answer = spec.options.get("prompt", "question"), spec.options.get("answer", "answer")
    boxed = answer == "solution"  # MATH: the solution in words, its result in a box
    table = [
        {prompt: question, answer: f"{how}, so \\boxed{{{gold}}}" if boxed else f"{how}\n#### {gold}"}
        for question, how, gold in QUESTIONS
    ]
    rows = Dataset.from_list(shape_prompts(spec, read_rows(table, spec.text, prompt=prompt, answer=answer)))
    train, test = (
        rows.select(range(len(rows) - HELD_OUT)),
        rows.select(range(len(rows) - HELD_OUT, len(rows))),
    )
    return Task(spec.text, "hub", train, test, "math")


def save_stand_in(family: str, folder: Path) -> None:
    """A random model of a few thousand parameters over bytes, with a ChatML template as Qwen's."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokens = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    core = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=special[0],
        eos_token=special[2],
        additional_special_tokens=special[1:],
        padding_side="left",
    )
    tokenizer.chat_template = CHATML
    torch.manual_seed(0)
    ids = {"pad_token_id": 0, "eos_token_id": 2, "bos_token_id": None}
    try:
        config = AutoConfig.for_model(family, vocab_size=len(tokens), **SIZES, **ids)
        model = AutoModelForCausalLM.from_config(config)
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"the dry run cannot make a small {family}: {error}") from error
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
