"""Does the token signal point at the tokens that decide? Measured against each token's true credit.

    erpo-hub train builtin:tiny-reasoner "builtin:expressions?operands=4" --algorithm grpo --max-steps 150 \\
        --output-dir runs/credit/grpo-150 --per-device-train-batch-size 64 --learning-rate 2e-4 \\
        --max-completion-length 64 --seed 100
    python benchmarks/credit.py runs/credit/grpo-150/model --out runs/credit/grpo-150.jsonl

A token's credit is what it changes of the chance to be right, V(prefix with it) - V(prefix without it), each
V the share of right answers among fresh continuations. They are drawn in two halves: products of the halves'
credits estimate squares without the bias that sampling noise has. Compared are directions in logit space: a
token with advantage a pushes the logits along a * d log pi / d logits, whose squared length is
a^2 (1 - 2 p + sum_v p_v^2); the cosine is between a method's push on the whole sample and that of the true
credit. Each question is one line of --out as soon as it is measured; the same command goes on after a stop.
`--rank FILE.py:FUNCTION` scores a method of your own on the data that ship, without a model: credit_rank.py.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from erpo_hub.methods.credit import CreditBatch
from erpo_hub.methods.erpo import result_anchor

GROUP, LENGTH = 8, 64  # completions a question, tokens a completion
RESAMPLES = 4_000
TASK = "builtin:expressions?operands=4"


@dataclass(frozen=True)
class Pieces:
    """What eq. 6 is made of, (B, T) but for sign and outcome, (B,)."""

    gate: torch.Tensor
    permuted: torch.Tensor
    ones: torch.Tensor
    progress: torch.Tensor
    one_bucket: torch.Tensor
    pivots: torch.Tensor
    sign: torch.Tensor
    outcome: torch.Tensor


METHODS: dict[str, dict[str, Any]] = {
    "GRPO: A": {"preset": "grpo"},
    "ERPO: A + 0.2 Psi": {"preset": "erpo", "synthesis": "additive"},
    "eta 1: A + Psi": {"preset": "erpo", "synthesis": "additive", "progress_eta": 1.0},
    "gate alone: omega A": {"preset": "erpo", "synthesis": "gated", "progress_eta": 0.0},
    "EP-GRPO": {"preset": "ep-grpo"},
}
# Eq. 6 and what is left of it without a part: each from the method's columns (B, T) and the signs of A (B,).
PARTS: dict[str, Callable[[Pieces], torch.Tensor]] = {
    "Psi: W sgn(A) s~": lambda p: result_anchor(p.gate, p.sign, p.progress),
    "Psi without gate": lambda p: result_anchor(p.ones, p.sign, p.progress),
    "Psi, permuted gate": lambda p: result_anchor(p.permuted, p.sign, p.progress),
    "Psi, one bucket": lambda p: result_anchor(p.gate, p.sign, p.one_bucket),
    "Psi without sgn(A)": lambda p: result_anchor(p.gate, torch.ones_like(p.sign), p.progress),
    "Psi, right completions": lambda p: result_anchor(p.gate, p.sign.clamp(min=0), p.progress),
    "Psi, wrong completions": lambda p: result_anchor(p.gate, p.sign.clamp(max=0), p.progress),
    "A at pivots only": lambda p: p.outcome[:, None] * p.pivots,
    "A off the pivots only": lambda p: p.outcome[:, None] * ~p.pivots,
}
SIGNALS = [*METHODS, *PARTS]


def measure(policy, reference, tokenizer, grader, question: dict, prompt: list[int], rollouts, seed: int):
    """One group: rewards (G,), and for each completion its token columns and two halves of values."""
    from erpo_hub.evaluation.generation import Decoding, generate_completions, row_seed, undisturbed

    eos = tokenizer.eos_token_id
    decoding = Decoding(1.0, 1.0, LENGTH, tokenizer.pad_token_id or eos, (eos,))

    def right(completions: list[list[int]]) -> list[float]:
        texts = tokenizer.batch_decode(completions, skip_special_tokens=True)
        columns = {name: [value] * len(texts) for name, value in question.items() if name != "prompt"}
        return [float((score or 0) >= 1) for score in grader.grade(texts, columns.pop("answer"), **columns)]

    def continued(prefixes: list[list[int]], number: int) -> list[list[int]]:
        seeds = [row_seed(number, row) for row in range(len(prefixes))]
        drawn = generate_completions(policy, [prompt + ids for ids in prefixes], decoding, seeds)
        return [ids + completion.ids for ids, completion in zip(prefixes, drawn)]

    with undisturbed(policy):
        group = continued([[]] * GROUP, seed)
        rewards = right(group)
        prefixes = [(-1, 0)] * (GROUP * rollouts)
        places = [(i, t) for i, ids in enumerate(group) for t in range(1, len(ids))]
        prefixes += [place for place in places for _ in range(rollouts)]
        prefixes.sort(key=lambda place: -place[1])  # alike in length: little padding
        scores: dict[tuple[int, int], list[float]] = {}
        for start in range(0, len(prefixes), 512):
            part = prefixes[start : start + 512]
            endings = continued([group[i][:t] for i, t in part], seed * 1_000 + start)
            for place, score in zip(part, right(endings)):
                scores.setdefault(place, []).append(score)
    completions = []
    for i, ids in enumerate(group):
        halves = []
        for half in (0, 1):
            values = [float(np.mean(scores[-1, 0][half::2]))]
            values += [float(np.mean(scores[i, t][half::2])) for t in range(1, len(ids))]
            halves.append([round(v, 4) for v in [*values, rewards[i]]])
        completions.append({**columns(policy, reference, prompt, ids), "values": halves})
    return {"rewards": rewards, "completions": completions}


@torch.no_grad()
def columns(policy, reference, prompt: list[int], ids: list[int]) -> dict[str, list[float]]:
    """Entropy (nats), log-probs and the squared length of d log pi / d logits, one number a token each."""
    row = torch.tensor([prompt + ids])
    chosen = torch.tensor(ids)[:, None]
    own, other = (m(row).logits[0, len(prompt) - 1 : -1].log_softmax(-1) for m in (policy, reference))
    p = own.exp()
    logp = own.gather(1, chosen)[:, 0]
    push = 1 - 2 * logp.exp() + p.square().sum(1)
    found = {
        "entropy": -(p * own).sum(1),
        "logp": logp,
        "ref_logp": other.gather(1, chosen)[:, 0],
        "push": push,
    }
    return {name: [float(f"{x:.5g}") for x in values.tolist()] for name, values in found.items()}


def batch_of(row: dict[str, Any], preset: str = "erpo", **fields: Any) -> tuple[CreditBatch, torch.Tensor]:
    """What a method is given of one group, and the squared length of d log pi / d logits, (B, T)."""
    from erpo_hub.train.config import ERPOConfig

    group = row["completions"]
    width = max(len(c["entropy"]) for c in group)

    def table(name: str) -> torch.Tensor:
        lines = [c[name] + [0.0] * (width - len(c[name])) for c in group]
        return torch.tensor(lines, dtype=torch.float64)

    mask = torch.tensor([[t < len(c["entropy"]) for t in range(width)] for c in group])
    rewards = torch.tensor(row["rewards"], dtype=torch.float64)
    outcome = (rewards - rewards.mean()) / (rewards.std() + 1e-4)  # as TRL has it
    outcome = outcome if rewards.std() > 0 else torch.zeros_like(outcome)
    fields |= {"output_dir": tempfile.gettempdir(), "use_cpu": True, "bf16": False}
    settings, one_group = ERPOConfig.preset(preset, **fields), torch.zeros(len(group), dtype=torch.long)
    tokens = table("entropy"), table("logp"), table("ref_logp")
    return CreditBatch(*tokens, rewards, outcome, mask, one_group, 1, settings), table("push")


def flat_credit(row: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """The measured credit of a group's tokens, one after the other, from either half of the continuations."""
    first, second = (
        np.concatenate([np.diff(c["values"][half]) for c in row["completions"]]) for half in (0, 1)
    )
    return first, second


def signals(row: dict[str, Any]) -> dict[str, np.ndarray]:
    """Everything of one group as flat arrays over its tokens; "x ..." are the signals."""
    from erpo_hub.methods.erpo import credit
    from erpo_hub.study.controls import permuted_gate
    from erpo_hub.train.metrics import pivot_mask

    def batch(preset: str, **fields: Any) -> CreditBatch:
        return batch_of(row, preset, **fields)[0]

    erpo, generator = batch("erpo"), torch.Generator().manual_seed(0)
    plain, permuted = credit(erpo).columns, permuted_gate(erpo, generator).columns
    pieces = Pieces(
        gate=plain["gate"],
        permuted=permuted["gate"],
        ones=erpo.mask.double(),
        progress=plain["progress"],
        one_bucket=credit(batch("erpo", num_buckets=1)).columns["progress"],
        pivots=pivot_mask(erpo.entropy, erpo.mask),
        sign=erpo.advantages.sign(),
        outcome=erpo.advantages,
    )
    tensors = {"gate": pieces.gate, "pivot": pieces.pivots.double(), "push": batch_of(row)[1]}
    tensors |= {f"x {name}": credit(batch(**fields)).advantages for name, fields in METHODS.items()}
    tensors |= {f"x {name}": part(pieces) for name, part in PARTS.items()}
    found = {name: x[erpo.mask].numpy() for name, x in tensors.items()}
    return found | dict(zip(("credit 1", "credit 2"), flat_credit(row)))


def sums(flat: dict[str, np.ndarray]) -> dict[str, float]:
    """What adds up over questions: all that the ratios of `ratios` are made of."""
    square, push = flat["credit 1"] * flat["credit 2"], flat["push"]
    credit = (flat["credit 1"] + flat["credit 2"]) / 2
    found = {"tokens": float(len(push)), "credit": (square * push).sum(), "credit, unweighted": square.sum()}
    for name, where in (("gate open", flat["gate"] > 0.5), ("pivots", flat["pivot"] > 0)):
        found |= {
            f"{name}: tokens": where.sum(),
            f"{name}: credit": (square * push)[where].sum(),
            f"{name}: credit, unweighted": square[where].sum(),
            f"{name}: gradient": (flat["x GRPO: A"] ** 2 * push)[where].sum(),
        }
    for name in SIGNALS:
        x = flat["x " + name]
        found |= {f"{name}: with credit": (x * credit * push).sum(), f"{name}: square": (x * x * push).sum()}
    return {name: float(value) for name, value in found.items()}


def ratios(s: dict[str, Any]) -> dict[str, Any]:
    """Shares and cosines from summed columns (numbers, or arrays over resamples)."""
    found: dict[str, Any] = {}
    for name in ("gate open", "pivots"):
        found |= {
            f"{name}: share of tokens": s[f"{name}: tokens"] / s["tokens"],
            f"{name}: share of GRPO's squared gradient": s[f"{name}: gradient"] / s["GRPO: A: square"],
            f"{name}: share of squared credit": s[f"{name}: credit, unweighted"] / s["credit, unweighted"],
            f"{name}: share of the credit's squared gradient": s[f"{name}: credit"] / s["credit"],
        }
    for name in SIGNALS:
        length = np.sqrt(s[f"{name}: square"] * s["credit"])
        found[f"cosine, {name}"] = s[f"{name}: with credit"] / length
    for name in SIGNALS[1:]:
        found[f"cosine minus GRPO's, {name}"] = found[f"cosine, {name}"] - found["cosine, GRPO: A"]
    return found


def summary(rows: list[dict[str, Any]]) -> dict[str, list[float]]:
    """{measure: [estimate, low, high]}, 95 % by bootstrap over questions."""
    by_question = [sums(signals(row)) for row in rows]
    names = list(by_question[0])
    table = np.array([[s[name] for name in names] for s in by_question])  # (questions, columns)
    draws = np.random.default_rng(0).multinomial(len(rows), np.full(len(rows), 1 / len(rows)), RESAMPLES)
    with np.errstate(invalid="ignore"):  # a signal that is 0 everywhere has no direction
        whole = ratios(dict(zip(names, table.sum(0))))
        resampled = ratios(dict(zip(names, (draws @ table).T)))
    return {
        name: [round(float(x), 4) for x in (value, *np.nanquantile(resampled[name], (0.025, 0.975)))]
        for name, value in whole.items()
        if np.isfinite(value)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("policy", nargs="?", help="folder of the trained model; without it only the report")
    parser.add_argument("--reference", default="builtin:tiny-reasoner")
    parser.add_argument("--task", default=TASK)
    parser.add_argument("--questions", type=int, default=48)
    parser.add_argument("--rollouts", type=int, default=16, help="continuations of each prefix")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rank", metavar="FILE.py:FUNCTION", help="score this method on the data that ship")
    arguments = parser.parse_args()
    if arguments.rank:
        sys.path.insert(0, str(Path(__file__).parent))
        import credit_rank

        credit_rank.report(credit_rank.built_in() | {arguments.rank: credit_rank.own(arguments.rank)})
        return
    if not arguments.out:
        parser.error("give --out FILE.jsonl, or --rank FILE.py:FUNCTION")
    lines = arguments.out.read_text().splitlines() if arguments.out.exists() else []
    rows = [json.loads(line) for line in lines]
    if arguments.policy:
        from erpo_hub.evaluation.sampling import encode_prompts, load_model
        from erpo_hub.tasks.grading import Grader
        from erpo_hub.tasks.tasks import load_task

        task = load_task(arguments.task, test_size=2000)
        policy, tokenizer, _ = load_model(arguments.policy)
        reference = load_model(arguments.reference)[0]
        questions = list(task.test.select(range(arguments.questions)))
        prompts = encode_prompts(tokenizer, [question["prompt"] for question in questions])
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        with Grader(task.grader) as grader:
            for q in range(len(rows), len(questions)):
                models = policy, reference, tokenizer, grader
                row = measure(*models, questions[q], prompts[q], arguments.rollouts, seed=q)
                rows.append({"prompt": questions[q]["prompt"], "answer": questions[q]["answer"], **row})
                with arguments.out.open("a") as file:
                    file.write(json.dumps(rows[-1], separators=(",", ":")) + "\n")
                print(f"{q}: {rows[-1]['prompt']!r} {sum(row['rewards']):.0f} of {GROUP} right", flush=True)
    found = summary(rows)
    for name, (value, low, high) in found.items():
        print(f"{name:60s} {value:+.3f} [{low:+.3f}, {high:+.3f}]")
    arguments.out.with_suffix(".summary.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
