"""Entropies and log-probs read while generating, against the scoring forward, in float32 and bfloat16.

python examples/smollm2.py runs/smollm2-135m && python benchmarks/capture.py runs/smollm2-135m
"""

from __future__ import annotations

import argparse

import torch

from erpo_hub.traces.loading import load
from erpo_hub.train.capture import DecodeCapture

QUESTIONS = [
    "What is 3+4?",
    "Name three fruits and say why you like them.",
    "Tell me a story.",
    "Compute 12+30+4.",
]


def differences(folder: str, dtype: torch.dtype, temperature: float, tokens: int) -> tuple:
    """(log-prob, entropy) differences of every generated token, nats."""
    model, tokenizer = load(folder, dtype=dtype, device="cpu")
    tokenizer.padding_side = "left"
    chats = [[{"role": "user", "content": question}] for question in QUESTIONS]
    texts = tokenizer.apply_chat_template(chats, tokenize=False, add_generation_prompt=True)
    inputs = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    torch.manual_seed(0)
    with torch.no_grad(), DecodeCapture(model, temperature) as capture:
        ids = model.generate(
            **inputs,
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            do_sample=True,
            temperature=temperature,
            top_k=0,
        )
    start = inputs["input_ids"].shape[1]
    new = ids[:, start:]
    captured = capture.result(new.tolist())
    assert captured is not None
    mask = torch.cat([inputs["attention_mask"], torch.ones_like(new)], dim=1)
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=mask).logits[:, start - 1 : -1].float() / temperature
    log_probs = torch.log_softmax(logits, dim=-1)
    chosen = log_probs.gather(-1, new[..., None])[..., 0]
    entropy = torch.special.entr(log_probs.exp()).sum(-1)
    return captured[1] - chosen, captured[0] - entropy


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--tokens", type=int, default=48)
    arguments = parser.parse_args()
    print("| precision | tokens | log-prob, std | largest | entropy, std | largest |")
    print("|:--|--:|--:|--:|--:|--:|")
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        logp, entropy = differences(arguments.model, dtype, arguments.temperature, arguments.tokens)
        cells = " | ".join(f"{x.std():.1e} | {x.abs().max():.1e}" for x in (logp, entropy))
        print(f"| {name} | {logp.numel()} | {cells} |")


if __name__ == "__main__":
    main()
