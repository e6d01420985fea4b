"""What the pages of the evidence say of the credit of tokens: docs/evidence/credit/."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from evidence import EVIDENCE
from evidence_text import interval, number, table


@cache
def credit_summary(policy: str) -> dict[str, list[float]]:
    return json.loads((EVIDENCE / "credit" / f"{policy}.summary.json").read_text(encoding="utf-8"))


def credit(policy: str, measure: str) -> str:
    """A cosine or a share in %, with its interval over questions."""
    value, low, high = credit_summary(policy)[measure]
    if "share" in measure:
        return f"{100 * value:.0f} [{100 * low:.0f}, {100 * high:.0f}]"
    return f"{number(value, 2, '+')} {interval(low, high, 2)}"


def credits(policies: dict[str, str], measures: dict[str, str]) -> str:
    """A line a measure (its words here), a column a policy."""
    body = [[words, *(credit(policy, key) for policy in policies)] for key, words in measures.items()]
    return table(["", *policies.values()], body)


@cache
def _ranking() -> dict[str, Any]:
    return json.loads((EVIDENCE / "credit" / "ranking.json").read_text(encoding="utf-8"))


def ranks(policies: dict[str, str]) -> str:
    """A line a method, best on the first policy first: cosine with the credit and its interval."""
    tables = [_ranking()["ranking"][policy] for policy in policies]
    body = []
    for name in tables[0]["scores"]:
        scores = [table["scores"][name][:3] for table in tables]
        body.append([name, *(f"{number(x, 2, '+')} {interval(low, high, 2)}" for x, low, high in scores)])
    for key, words in (
        ("continuations", "halves of the continuations"),
        ("questions", "halves of the questions"),
    ):
        agree = [number(table[f"retest_{key}"], 2) for table in tables]
        body.append([f"*rank correlation between {words}*", *agree])
    return table(["", *policies.values()], body)


def predicts(measure: str) -> str:
    """Rank correlation of score and gain, its interval, and the number of forms."""
    found = _ranking()["prediction"][measure]
    return f"{number(found['correlation'], 2, '+')} {interval(*found['interval'], 2)}"


def predicts_rest(measure: str) -> str:
    found = _ranking()["prediction"][measure]
    text = number(found["correlation_without_the_worst"], 2, "+")
    return f"{text} over the {found['forms_without_the_worst']} within 5 points of GRPO"


def scored_forms() -> str:
    found = _ranking()["prediction"]["forms"]
    body = [
        [
            name,
            str(f["seeds"]),
            number(f["score"], 3),
            number(f["sampled"], 1, "+"),
            number(f["greedy"], 1, "+"),
        ]
        for name, f in sorted(found.items(), key=lambda item: -item[1]["score"])
    ]
    return table(["form", "trainings", "score", "sampled minus GRPO", "greedy minus GRPO"], body)
