"""Make the embedded model: a character-level Qwen2 of 0.8 M parameters that has seen careless arithmetic.

    python examples/make_tiny_reasoner.py --out erpo_hub/tiny_reasoner

It learns by copying noisy solutions of `builtin:expressions` (wrong order 35 %, repeated lines 25 %, slips
3 %), so that it can do the task, is often wrong, and is unsure where it matters: at which operation to take
first. That is what reinforcement learning then has to sort out. A few minutes on one core; the same seed
gives the same weights on the same machine. Writes the model, its tokenizer, `scores.json` and the card.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from tokenizers import pre_tokenizers
from torch.nn.functional import cross_entropy
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

from erpo_hub.tasks.expressions import ExpressionOptions, TraceNoise, noisy_trace, prompts, solution
from erpo_hub.tasks.grading import Grader

SPECIAL = ["<pad>", "<eos>"]
OPERANDS = [2, 3, 4, 4, 5]  # what a warm-up trace is drawn from: mostly the size that is tested
MAX_NEW_TOKENS = 64


def make_tokenizer() -> Qwen2Tokenizer:
    """Qwen2's own tokenizer without a single merge: one token a byte, so a character is a token in ASCII.

    AutoTokenizer loads this class for every Qwen2 model, whatever pipeline a tokenizer.json asks for. No
    token is added to a prompt; padding goes to the left, as generation needs.
    """
    characters = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    return Qwen2Tokenizer(
        vocab={character: i for i, character in enumerate(characters)},
        merges=[],
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token=None,
        padding_side="left",
        model_max_length=256,
        clean_up_tokenization_spaces=False,
    )


def make_model(tokenizer: Qwen2Tokenizer) -> Qwen2ForCausalLM:
    """4 layers, width 128, tied embeddings: 0.8 M parameters."""
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        dtype="float32",
    )
    model = Qwen2ForCausalLM(config)
    model.generation_config.max_new_tokens = MAX_NEW_TOKENS
    return model


def trace_stream(
    rng: random.Random, noise: TraceNoise, sizes: list[int] = OPERANDS
) -> Iterator[tuple[str, str]]:
    """Endless (prompt, completion) pairs of the training split, over expressions of `sizes` operands."""
    streams: dict[int, Iterator[str]] = {}
    while True:
        operands = rng.choice(sizes)
        prompt = next(streams.get(operands, iter(())), None)
        if prompt is None:  # a new stream, or one whose expressions are used up: begin again in another order
            streams[operands] = prompts(ExpressionOptions(operands), "train", seed=rng.randrange(2**31))
            prompt = next(streams[operands])
        yield prompt, "\n".join(noisy_trace(prompt, rng, noise))


def collate(tokenizer: Qwen2Tokenizer, pairs: list[tuple[str, str]]) -> tuple[torch.Tensor, torch.Tensor]:
    """ids (B, T) padded on the right and labels (B, T): -100 on the prompt and the padding."""
    rows = [
        (tokenizer(p)["input_ids"], [*tokenizer(c)["input_ids"], tokenizer.eos_token_id]) for p, c in pairs
    ]
    width = max(len(p) + len(c) for p, c in rows)
    ids = torch.full((len(rows), width), tokenizer.pad_token_id)
    labels = torch.full((len(rows), width), -100)
    for i, (prompt, completion) in enumerate(rows):
        end = len(prompt) + len(completion)
        ids[i, :end] = torch.tensor([*prompt, *completion])
        labels[i, len(prompt) : end] = torch.tensor(completion)
    return ids, labels


def warm_up(
    model: Qwen2ForCausalLM,
    tokenizer: Qwen2Tokenizer,
    *,
    steps: int,
    batch: int,
    lr: float,
    seed: int,
    noise: TraceNoise,
    sizes: list[int] = OPERANDS,
) -> list[float]:
    """Supervised training on noisy traces; returns the loss (nats a token) of every step."""
    stream = trace_stream(random.Random(seed), noise, sizes)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01, betas=(0.9, 0.98))
    ramp = min(100, steps // 10 + 1)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / ramp, 0.05 + 0.475 * (1 + math.cos(math.pi * min(1.0, step / steps)))),
    )
    model.train()
    losses, start = [], time.monotonic()
    for step in range(steps):
        ids, labels = collate(tokenizer, list(islice(stream, batch)))
        logits = model(input_ids=ids).logits  # (B, T, V); padding is on the right, so no mask is needed
        loss = cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % 100 == 99 or step == steps - 1:
            mean = sum(losses[-100:]) / len(losses[-100:])
            print(
                f"step {step + 1}/{steps}  loss {mean:.4f} nats  {time.monotonic() - start:.0f} s", flush=True
            )
    model.eval()
    return losses


@torch.no_grad()
def complete(
    model: Qwen2ForCausalLM,
    tokenizer: Qwen2Tokenizer,
    questions: list[str],
    *,
    sample: bool,
    seed: int = 0,
) -> tuple[list[str], float]:
    """Completions of all prompts, greedy or sampled at T = 1, and their mean token entropy in nats."""
    torch.manual_seed(seed)
    texts, entropy, count = [], 0.0, 0
    for start in range(0, len(questions), 256):
        batch = tokenizer(questions[start : start + 256], return_tensors="pt", padding=True)
        out = model.generate(
            **batch,
            do_sample=sample,
            temperature=1.0 if sample else None,
            top_k=0 if sample else None,
            max_new_tokens=MAX_NEW_TOKENS,
            output_logits=True,
            return_dict_in_generate=True,
        )
        ids = out.sequences[:, batch["input_ids"].shape[1] :]  # (B, T)
        live = (ids == tokenizer.eos_token_id).cumsum(1) - (
            ids == tokenizer.eos_token_id
        ).long() == 0  # (B, T)
        probs = torch.stack(out.logits, 1).log_softmax(-1)  # (B, T, V)
        entropy += float((-(probs.exp() * probs).sum(-1) * live).sum())
        count += int(live.sum())
        texts += tokenizer.batch_decode(ids, skip_special_tokens=True)
    return texts, entropy / max(count, 1)


def wilson(correct: int, n: int) -> list[float]:
    """95 % interval of a proportion (Wilson), rounded to four places."""
    z, p = 1.959964, correct / n
    centre, spread = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return [round((centre + side * spread) / (1 + z * z / n), 4) for side in (-1, 1)]


def measure(model: Qwen2ForCausalLM, tokenizer: Qwen2Tokenizer, *, n: int) -> dict:
    """Accuracy on `n` held-out 4-operand expressions, greedy and sampled once at T = 1, with intervals."""
    questions = list(islice(prompts(ExpressionOptions(4), "test"), n))
    answers = [solution(question)[-1] for question in questions]
    scores: dict = {"task": "builtin:expressions?operands=4", "n": n, "max_new_tokens": MAX_NEW_TOKENS}
    with Grader() as grader:
        for name, sample in (("sampled", True), ("greedy", False)):
            texts, entropy = complete(model, tokenizer, questions, sample=sample)
            correct = int(sum(grader.grade(texts, answers)))
            scores[name] = {
                "accuracy": round(correct / n, 4),
                "correct": correct,
                "interval": wilson(correct, n),
                "mean_length": round(sum(len(t) + 1 for t in texts) / n, 1),
                "mean_entropy": round(entropy, 4),
            }
    return scores


CARD = """---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
tags: [arithmetic, tiny, erpo-hub]
---

# tiny-reasoner

A character-level Qwen2 of {parameters:,} parameters that solves whole-number sums line by line, carelessly.
It ships inside `erpo-hub` as the starting point of the offline demo, and is useful for nothing else.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer
from erpo_hub.traces.loading import EMBEDDED_MODEL, resolve_model

folder = resolve_model(EMBEDDED_MODEL)
tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
out = model.generate(**tokenizer("3+4*2-1=", return_tensors="pt"), do_sample=True)
print(tokenizer.decode(out[0], skip_special_tokens=True))
```

## Score

{n} held-out expressions of four numbers (`builtin:expressions?operands=4`, test split, none of them a
reordering of a training expression), at most {max_new_tokens} characters. Intervals are 95 % (Wilson).

| decoding | right | accuracy | interval | mean length | mean entropy (nats) |
|---|---|---|---|---|---|
{rows}

The same numbers are in `scores.json`.

## Training

{steps} supervised steps of {batch} solutions (AdamW, learning rate {lr:g}, cosine, seed {seed}) over
expressions of {sizes} numbers from 1 to 9 with +, - and *. A line reduces the wrong operation
{wrong_order:.0%} of the time, is repeated {repeat:.0%} of the time and is off by one {slip:.0%} of the time.
Final loss {final_loss:.3f} nats a character.
Made by `examples/make_tiny_reasoner.py` in {minutes:.1f} minutes on one core.

## Limits

Sums of {sizes} small numbers only, no brackets, no division. Values beyond two digits are mostly wrong.
"""


def score_row(name: str, score: dict, n: int) -> str:
    low, high = score["interval"]
    cells = [name, f"{score['correct']} of {n}", f"{score['accuracy']:.1%}", f"{low:.1%} to {high:.1%}"]
    return "| " + " | ".join([*cells, str(score["mean_length"]), str(score["mean_entropy"])]) + " |"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("tiny_reasoner"), help="folder to write")
    parser.add_argument("--steps", type=int, default=1500, help="supervised steps (default 1500)")
    parser.add_argument("--batch", type=int, default=64, help="solutions a step (default 64)")
    parser.add_argument("--lr", type=float, default=2e-3, help="peak learning rate (default 2e-3)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n", type=int, default=2048, help="held-out questions for the card (default 2048)")
    parser.add_argument("--operands", type=int, nargs="+", default=OPERANDS, help="sizes to draw from")
    parser.add_argument("--wrong-order", type=float, default=TraceNoise.wrong_order)
    parser.add_argument("--repeat", type=float, default=TraceNoise.repeat)
    parser.add_argument("--slip", type=float, default=TraceNoise.slip)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> dict:
    """Train, measure, write; returns what `scores.json` holds."""
    args = parse_args(argv)
    torch.manual_seed(args.seed)
    start = time.monotonic()
    tokenizer = make_tokenizer()
    model = make_model(tokenizer)
    noise = TraceNoise(args.wrong_order, args.repeat, args.slip)
    losses = warm_up(
        model,
        tokenizer,
        steps=args.steps,
        batch=args.batch,
        lr=args.lr,
        seed=args.seed,
        noise=noise,
        sizes=args.operands,
    )
    minutes = (time.monotonic() - start) / 60
    scores = measure(model, tokenizer, n=args.n)
    args.out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(args.out)
    tokenizer.save_pretrained(args.out)
    tail = losses[-50:]
    recipe = {"steps": args.steps, "batch": args.batch, "lr": args.lr, "seed": args.seed, **vars(noise)}
    recipe |= {"operands": args.operands, "sizes": f"{min(args.operands)} to {max(args.operands)}"}
    recipe |= {"parameters": model.num_parameters(), "final_loss": round(sum(tail) / len(tail), 4)}
    (args.out / "scores.json").write_text(json.dumps({**scores, "recipe": recipe}, indent=2) + "\n")
    names = {"sampled, T = 1": "sampled", "greedy": "greedy"}
    rows = "\n".join(score_row(title, scores[key], args.n) for title, key in names.items())
    (args.out / "README.md").write_text(CARD.format(**scores, **recipe, rows=rows, minutes=minutes))
    print(rows)
    print(f"wrote {args.out} ({sum(f.stat().st_size for f in args.out.iterdir()) / 2**20:.2f} MiB)")
    return {**scores, "losses": losses}


if __name__ == "__main__":
    main()
