"""Score anybody's token credit against measured credit, in seconds and without a model.

    python benchmarks/credit_rank.py                                # the ranking of what is built in
    python benchmarks/credit_rank.py examples/own_method.py:credit  # with yours, settings of ERPOConfig()
    python benchmarks/credit_rank.py --write                        # -> docs/evidence/credit/ranking.json

The data of benchmarks/credit.py ship: for each token of some groups, what it changed of the chance to be
right, from fresh continuations in two halves. A method is any `credit(batch: CreditBatch) -> Credit`. Its
score is the cosine, in logit space, between its push on the whole sample and that of the measured credit.
Retest: the same with either half of the continuations alone, and the ranks on either half of the questions.

Then the question that makes the score useful: over the forms whose gain on GRPO after 300 steps was measured
(docs/evidence), does it predict that gain? A rank correlation, its interval from forms and questions drawn
again.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from scipy.stats import spearmanr

sys.path.insert(0, str(Path(__file__).parent))
from credit import batch_of, flat_credit
from evidence import EVIDENCE, read_cells

from erpo_hub.methods.credit import Credit, CreditBatch

Method = Callable[[CreditBatch], Credit]
POLICIES = {
    "grpo-150": "expressions, GRPO",
    "erpo-150": "expressions, ERPO",
    "countdown-grpo-150": "countdown, GRPO",
}
RESAMPLES = 4_000
TARGET = EVIDENCE / "credit" / "ranking.json"

# --- methods that are not in the package, [ours] where the description leaves something open ---


def top_entropy(batch: CreditBatch) -> Credit:
    """80/20 (arXiv 2506.01939): the outcome at the fifth of the tokens with the highest entropy."""
    edge = torch.quantile(batch.entropy[batch.mask], 0.8)  # [ours] of the group: the paper's is of the batch
    return Credit(batch.advantages[:, None] * (batch.entropy >= edge))


def clip_cov(batch: CreditBatch) -> Credit:
    """Clip-cov (arXiv 2505.22617): no gradient where log-prob and advantage go together most.

    [ours] All of the top 2 % of a group; the paper takes 0.02 % of a batch at random from a band.
    """
    each = batch.advantages[:, None].expand_as(batch.logps)
    logps, advantages = batch.logps[batch.mask], each[batch.mask]
    both = (batch.logps - logps.mean()) * (each - advantages.mean())
    return Credit(each * (both < torch.quantile(both[batch.mask], 0.98)))


def future_kl(batch: CreditBatch) -> Credit:
    """FIPO (arXiv 2603.19835): the outcome times clip(exp(sum of later log-ratios, halved every 32 tokens)).

    [ours] Ratios to the reference: at the first update of a batch those to the sampling policy are 0.
    """
    ratio, later = (batch.logps - batch.ref_logps) * batch.mask, []  # type: ignore[operator]
    total = torch.zeros_like(ratio[:, 0])
    for t in reversed(range(ratio.shape[1])):
        total = ratio[:, t] + 2 ** (-1 / 32) * total
        later.append(total)
    influence = torch.stack(later[::-1], dim=1).exp().clamp(0.8, 1.2)
    return Credit(batch.advantages[:, None] * influence)


def right_only(batch: CreditBatch) -> Credit:
    return Credit(batch.advantages.clamp(min=0)[:, None] * batch.mask)


def wrong_only(batch: CreditBatch) -> Credit:
    return Credit(batch.advantages.clamp(max=0)[:, None] * batch.mask)


def outcome(batch: CreditBatch) -> Credit:
    return Credit(batch.advantages[:, None] * batch.mask)


def built_in() -> dict[str, tuple[Method, str, dict[str, Any]]]:
    """Methods by name: the function, the preset whose settings it reads, and what differs from it."""
    from erpo_hub.methods.erpo import credit as erpo
    from erpo_hub.methods.gtpo import credit as gtpo

    return {
        "GRPO": (outcome, "grpo", {}),
        "ERPO as it ships, gated": (erpo, "erpo", {}),
        "ERPO, additive": (erpo, "erpo", {"synthesis": "additive"}),
        "EP-GRPO": (erpo, "ep-grpo", {}),
        "GTPO": (gtpo, "gtpo", {}),
        "80/20": (top_entropy, "grpo", {}),
        "clip-cov": (clip_cov, "grpo", {}),
        "FIPO's future KL": (future_kl, "grpo", {}),
        "right completions only": (right_only, "grpo", {}),
        "wrong completions only": (wrong_only, "grpo", {}),
    }


# --- scores ---


def products(rows: list[dict[str, Any]], method: Method, preset: str, fields: dict[str, Any]) -> np.ndarray:
    """For each question what the cosines are made of, (Q, 6): x.c1, x.c2, x.x, c1.c2, c1.c1, c2.c2."""
    found = []
    for row in rows:
        batch, push = batch_of(row, preset, **fields)
        x = method(batch).advantages.to(torch.float64)[batch.mask].numpy()
        first, second = flat_credit(row)
        weight = push[batch.mask].numpy()
        pairs = ((x, first), (x, second), (x, x), (first, second), (first, first), (second, second))
        found.append([float((a * b * weight).sum()) for a, b in pairs])
    return np.array(found)


def cosine(sums: np.ndarray, half: int | None = None) -> np.ndarray:
    """From sums of `products` (..., 6): with the mean of both halves, or with one; 0 for a push of nothing.

    The credit's own length is that of the truth, c1.c2, in either case: sampling noise does not enter it.
    """
    towards = sums[..., :2].mean(-1) if half is None else sums[..., half]
    length = np.sqrt(np.maximum(sums[..., 2] * sums[..., 3], 0))
    return np.divide(towards, length, out=np.zeros_like(towards), where=length > 0)


def ranking(methods: dict[str, tuple[Method, str, dict[str, Any]]]) -> dict[str, Any]:
    """Scores of all methods on all policies, with intervals over questions and retests."""
    found: dict[str, Any] = {}
    for policy in POLICIES:
        rows = pq.read_table(EVIDENCE / "credit" / f"{policy}.parquet").to_pylist()
        tables = {name: products(rows, *how) for name, how in methods.items()}
        draws = np.random.default_rng(0).multinomial(len(rows), [1 / len(rows)] * len(rows), RESAMPLES)
        scores = {}
        for name, table in tables.items():
            low, high = np.quantile(cosine(draws @ table), (0.025, 0.975))
            whole = table.sum(0)
            halves = [cosine(whole, 0), cosine(whole, 1)]
            scores[name] = [_short(x) for x in (cosine(whole), low, high, *halves)]
        by_half = [[cosine(table.sum(0), half) for table in tables.values()] for half in (0, 1)]
        by_question = [[cosine(table[part::2].sum(0)) for table in tables.values()] for part in (0, 1)]
        found[policy] = {
            "questions": len(rows),
            "scores": dict(sorted(scores.items(), key=lambda item: -item[1][0])),
            "retest_continuations": _short(spearmanr(*by_half).statistic),
            "retest_questions": _short(spearmanr(*by_question).statistic),
        }
    return found


# --- does the score predict the gain? ---

STUDIES = ("explore", "expressions", "confirm", "default-expressions", "ablations")


def forms() -> dict[str, dict[str, Any]]:
    """Every form trained for 300 steps on expressions beside GRPO, one entry a setting, with its gains.

    Seeds of several studies count together; a form with one training is left out. Random rewards are no form.
    """
    by_study = {study: read_cells(EVIDENCE / f"{study}.parquet") for study in STUDIES}
    found: dict[str, dict[str, Any]] = {}
    for study, cells in by_study.items():
        base = {c["cell"]["seed"]: c for c in cells if c["cell"]["preset"] == "grpo" and _plain(c)}
        for cell in cells:
            how = cell["cell"]
            seed = how["seed"]
            if not how["preset"] or how["preset"] == "grpo" or seed not in base:
                continue
            if (how["control"] or "").startswith("random") or "max_grad_norm" in how["overrides"]:
                continue
            if how["overrides"].get("synthesis") == "gated":  # the default says the same
                how["overrides"] = {k: v for k, v in how["overrides"].items() if k != "synthesis"}
            entry = found.setdefault(_label(how), {"how": how, "gains": {}})
            for measure in ("sampled", "greedy"):
                gain = cell[measure]["accuracy"] - base[seed][measure]["accuracy"]
                entry["gains"].setdefault(measure, {})[f"{study}/{seed}"] = 100 * gain
    return {key: entry for key, entry in found.items() if len(entry["gains"]["greedy"]) > 1}


def _plain(cell: dict[str, Any]) -> bool:
    return not cell["cell"]["overrides"] and not cell["cell"]["control"]


def prediction(policies: tuple[str, ...] = ("grpo-150", "erpo-150")) -> dict[str, Any]:
    """Rank correlation between score and gain over the forms; forms and questions drawn again together."""
    from erpo_hub.methods.erpo import credit as erpo
    from erpo_hub.study.controls import control_credit

    table, entries = [], list(forms().values())
    rows = [pq.read_table(EVIDENCE / "credit" / f"{policy}.parquet").to_pylist() for policy in policies]
    for entry in entries:
        method = control_credit(entry["how"]["control"], 0) or erpo
        how = (method, entry["how"]["preset"], entry["how"]["overrides"])
        table.append([products(part, *how) for part in rows])
    generator, found = np.random.default_rng(0), {}
    for measure in ("sampled", "greedy"):
        gains = np.array([np.mean(list(e["gains"][measure].values())) for e in entries])
        scores = np.array([np.mean([cosine(part.sum(0)) for part in parts]) for parts in table])
        drawn = []
        for _ in range(RESAMPLES // 4):
            chosen = generator.integers(len(entries), size=len(entries))
            if len(set(chosen)) < 3:
                continue
            questions = [generator.integers(len(part), size=len(part)) for part in rows]
            again = [
                np.mean([cosine(part[q].sum(0)) for part, q in zip(table[i], questions)]) for i in chosen
            ]
            drawn.append(spearmanr(again, gains[chosen]).statistic)
        near = np.abs(gains) < 5  # without the forms that plainly break training
        found[measure] = {
            "correlation": _short(spearmanr(scores, gains).statistic),
            "interval": [_short(x) for x in np.nanquantile(drawn, (0.025, 0.975))],
            "forms": len(entries),
            "correlation_without_the_worst": _short(spearmanr(scores[near], gains[near]).statistic),
            "forms_without_the_worst": int(near.sum()),
        }
        for entry, score, gain in zip(entries, scores, gains):
            line = found.setdefault("forms", {}).setdefault(_label(entry["how"]), {"score": _short(score)})
            line[measure] = round(float(gain), 2)
            line["seeds"] = len(entry["gains"][measure])
    return found


def _label(how: dict[str, Any]) -> str:
    own = ", ".join(f"{key}={value}" for key, value in sorted(how["overrides"].items()))
    return " · ".join(part for part in (how["preset"], own, how["control"]) if part)


def _short(x: Any) -> float:
    return round(float(x), 4)


# --- the command ---


def load(place: str) -> Method:
    """The function that FILE.py:NAME names."""
    file, _, name = place.partition(":")
    spec = importlib.util.spec_from_file_location("own", file) if Path(file).is_file() else None
    if spec is None or spec.loader is None:
        raise SystemExit(f"{place}: give FILE.py:FUNCTION, such as examples/own_method.py:credit")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not callable(getattr(module, name, None)):
        raise SystemExit(f"{file} has no function {name!r}")
    return getattr(module, name)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("method", nargs="*", help="FILE.py:FUNCTION, a credit(batch) -> Credit")
    parser.add_argument("--write", action="store_true", help=f"-> {TARGET.name}")
    arguments = parser.parse_args()
    report(built_in() | {place: own(place) for place in arguments.method})
    if arguments.write:
        write()


def own(place: str) -> tuple[Method, str, dict[str, Any]]:
    """The function that FILE.py:NAME names, with the settings of `ERPOConfig()`."""
    return load(place), "erpo", {}


def report(methods: dict[str, tuple[Method, str, dict[str, Any]]]) -> None:
    for policy, part in ranking(methods).items():
        print(f"{POLICIES[policy]}: cosine with the credit, {part['questions']} questions, 95 %; two halves")
        for name, (value, low, high, first, second) in part["scores"].items():
            print(f"  {name:40s} {value:+.2f} [{low:+.2f}, {high:+.2f}]   {first:+.2f} {second:+.2f}")
        print(
            f"  ranks agree: {part['retest_continuations']:.2f} between the halves of the continuations, "
            f"{part['retest_questions']:.2f} between those of the questions"
        )


def write() -> None:
    """Ranking of what is built in, and what it predicts, into TARGET."""
    text = json.dumps({"ranking": ranking(built_in()), "prediction": prediction()}, indent=1)
    TARGET.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
