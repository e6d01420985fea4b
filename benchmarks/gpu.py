"""GRPO and ERPO on a real GPU: seconds of a step by stage, tokens/s, peak memory, and ERPO/GRPO ratios.

    python benchmarks/gpu.py --json gpu.json                   # HF generate, and vLLM where it is installed
    python benchmarks/gpu.py --model Qwen/Qwen2.5-0.5B-Instruct --lengths 1024
    python benchmarks/gpu.py --device cpu --tiny               # a smoke test of this script, seconds on a CPU

**No GPU was at hand when this was written**: it has run with `--device cpu --tiny` only, and none of its
numbers is quoted anywhere. The model is the architecture of Qwen2.5-0.5B at random, so nothing is downloaded.
Completions are forced to their full length, so its answers do not matter. With learning rate 0 all methods
generate the same completions (with vLLM: as many). Peak memory is PyTorch's; in vLLM's colocate mode it
includes the share that vLLM reserves, and each training has a process of its own, because an engine does not
give its memory back. Left out: several GPUs, and vLLM in server mode.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import statistics
import tempfile
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from step_overhead import METHODS, Stopwatch, length_reward, now, peak_mb, reset_peak
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    PreTrainedTokenizerFast,
    PrinterCallback,
    Qwen2Config,
    Qwen2ForCausalLM,
    TrainerCallback,
)

STAGES = ("generate", "sync weights", "score", "reference", "advantages and metrics", "train", "optimizer")
QWEN_05B = {  # config.json of Qwen2.5-0.5B
    "vocab_size": 151_936,
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32_768,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
    "tie_word_embeddings": True,
}
TINY = {
    "vocab_size": 512,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 256,
    "tie_word_embeddings": True,
}


def random_model(folder: str, shape: dict[str, Any], dtype: torch.dtype, device: str) -> str:
    """The architecture at random, and a byte tokenizer that knows a text for each of its ids."""
    torch.manual_seed(0)
    size = shape["vocab_size"]
    config = Qwen2Config(**shape, pad_token_id=size - 2, eos_token_id=size - 1, bos_token_id=None)
    with torch.device(device):
        Qwen2ForCausalLM(config).to(dtype).save_pretrained(folder)
    names = sorted(pre_tokenizers.ByteLevel.alphabet())
    names += [f"<|{i}|>" for i in range(len(names), size - 2)] + ["<|pad|>", "<|end|>"]
    core = Tokenizer(models.BPE(vocab={name: i for i, name in enumerate(names)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<|pad|>", eos_token="<|end|>", unk_token="<|pad|>"
    )
    tokenizer.save_pretrained(folder)
    return folder


class Around(TrainerCallback):
    """What `training_step` does not hold: the optimizer, and the step as a whole."""

    def __init__(self, watch: Stopwatch):
        self.watch, self.steps, self.started = watch, [], 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.first, self.started = len(self.watch.steps), now()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.before = now()

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.optimizer = now() - self.before

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        micro = self.watch.steps[self.first :]  # the micro-batches of this step
        stages = {stage: sum(m.get(stage, 0.0) for m in micro) for stage in STAGES}
        before = sum(stages[stage] for stage in STAGES[2:5]) + stages["generate"]
        reward = sum(m.get("reward", 0.0) for m in micro)
        stages["generate"] -= stages["sync weights"]
        stages["train"] = sum(m["step"] for m in micro) - before - reward
        self.steps.append({**stages, "optimizer": self.optimizer, "step": now() - self.started})


def train(method: str, model: str, folder: str, backend: str, length: int, a: argparse.Namespace) -> dict:
    """One short training; medians over its steps but the first."""
    trainer_class, config_class, beta = METHODS[method]
    cpu = a.device == "cpu"
    full = {"min_tokens": length, "ignore_eos": True} if backend == "vllm" else {"min_new_tokens": length}
    vllm = {
        "use_vllm": True,
        "vllm_mode": "colocate",
        "vllm_gpu_memory_utilization": a.vllm_memory,
        "vllm_max_model_length": length + 512,
    }
    reset_peak()
    args = config_class(
        output_dir=folder,
        beta=beta,
        learning_rate=0.0,
        max_steps=a.steps + 1,
        per_device_train_batch_size=a.micro_batch,
        gradient_accumulation_steps=a.completions // a.micro_batch,
        num_generations=8,
        max_completion_length=length,
        generation_kwargs=full,
        use_cpu=cpu,
        bf16=not cpu,
        model_init_kwargs={"dtype": "float32" if cpu else "bfloat16"},
        gradient_checkpointing=not cpu,
        report_to="none",
        save_strategy="no",
        logging_steps=a.steps + 1,
        disable_tqdm=True,
        **(vllm if backend == "vllm" else {}),
    )
    dataset = Dataset.from_list([{"prompt": f"What is {i} + {3 * i}? Think aloud."} for i in range(64)])
    made = trainer_class(model, length_reward, args, train_dataset=dataset)
    made.remove_callback(PrinterCallback)
    watch = Stopwatch(made)
    if backend == "vllm":
        watch._wrap(made.vllm_generation, "sync_weights", "sync weights")
    around = Around(watch)
    made.add_callback(around)
    made.train()
    steps = around.steps[1:]
    row = {stage: statistics.median(step[stage] for step in steps) for stage in (*STAGES, "step")}
    tokens = a.completions * length
    return {
        "seconds": row,
        "tokens_per_second": {
            "step": tokens / max(row["step"], 1e-9),
            "generate": tokens / max(row["generate"], 1e-9),
        },
        "peak_mb": peak_mb(),
        "entropies_from": getattr(made, "_source_logged", None),
    }


def in_a_process(function: Callable, *args: Any) -> Any:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


def measure(model: str, folder: str, backend: str, length: int, a: argparse.Namespace) -> dict[str, Any]:
    """All methods in turn at one length, and ERPO's ratios to GRPO with and without a KL term."""
    row: dict[str, Any] = {"backend": backend, "length": length, "completions": a.completions}
    call = in_a_process if backend == "vllm" else lambda function, *args: function(*args)
    row["methods"] = found = {m: call(train, m, model, folder, backend, length, a) for m in METHODS}
    row["ratios"] = {}
    for kl in (", KL", ""):
        erpo, grpo = found[f"ERPO{kl}"], found[f"GRPO{kl}"]
        row["ratios"][f"step{kl}"] = erpo["seconds"]["step"] / grpo["seconds"]["step"]
        row["ratios"][f"peak{kl}"] = erpo["peak_mb"] / grpo["peak_mb"]
    floor = found["ERPO"]["seconds"]["reference"] / found["GRPO"]["seconds"]["step"]
    row["ratios"]["reference forward / GRPO step"] = floor
    print(as_text(row), flush=True)
    return row


def as_text(row: dict[str, Any]) -> str:
    lines = [f"\n{row['backend']}, {row['completions']} completions of {row['length']} tokens"]
    lines.append(f"{'seconds':>10} " + " ".join(f"{s:>12.12}" for s in (*STAGES, "step")) + "   tokens/s  MB")
    for method, found in row["methods"].items():
        cells = " ".join(f"{found['seconds'][s]:12.4f}" for s in (*STAGES, "step"))
        lines.append(
            f"{method:>10} {cells} {found['tokens_per_second']['step']:10.0f} {found['peak_mb']:5.0f}"
        )
    lines.append("  ".join(f"{name}: {value:.3f}" for name, value in row["ratios"].items()))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", help="model id or folder (default: Qwen2.5-0.5B's architecture at random)")
    parser.add_argument("--lengths", type=int, nargs="+", help="completion tokens (default: 1024 8192)")
    parser.add_argument("--completions", type=int, default=16, help="of a generation batch, a multiple of 8")
    parser.add_argument("--micro-batch", type=int, default=2, help="completions of one backward pass")
    parser.add_argument("--steps", type=int, default=2, help="measured steps, after one that is not")
    parser.add_argument("--vllm-memory", type=float, default=0.3, help="vLLM's share of the GPU")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a model of a few thousand parameters")
    parser.add_argument("--json", type=Path, help="where to write all numbers")
    a = parser.parse_args()
    if a.device == "cuda" and not torch.cuda.is_available():
        parser.error("no GPU here: add --device cpu --tiny for a smoke test")
    if a.completions % 8 or a.completions % a.micro_batch:
        parser.error("--completions must be a multiple of 8 and of --micro-batch")
    warnings.simplefilter("ignore")
    lengths = a.lengths or ([16, 32] if a.tiny else [1024, 8192])
    backends = ["hf"]
    if a.device == "cuda" and importlib.util.find_spec("vllm"):
        backends.append("vllm")
    else:
        print("vLLM: left out (it needs a GPU and `pip install trl[vllm]`)")
    dtype = torch.float32 if a.device == "cpu" else torch.bfloat16
    with tempfile.TemporaryDirectory() as models_folder, tempfile.TemporaryDirectory() as folder:
        model = a.model or random_model(models_folder, TINY if a.tiny else QWEN_05B, dtype, a.device)
        rows = [measure(model, folder, backend, n, a) for backend in backends for n in lengths]
    assert all(math.isfinite(x) for row in rows for x in row["ratios"].values())
    if a.json:
        device = torch.cuda.get_device_name() if a.device == "cuda" else "cpu"
        facts = {"device": device, "torch": torch.__version__, "model": a.model or "random", "rows": rows}
        a.json.write_text(json.dumps(facts, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
