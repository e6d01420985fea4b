"""The card's worked example: what the record keeps of one trace, and the table of its pivots.

A trace holds every token's alternatives; the record keeps those of the most uncertain pivots, so that the
card can show where the completion could have gone another way.
"""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from ..record.format import Choice, ShownPivot, ShownRule, ShownTokens
from ..text import percent
from ..traces.figures import visible
from ..traces.trace import Trace
from . import markdown

PIVOTS, OTHERS = 8, 2  # rows of the table, alternatives in each
BEFORE = 24  # characters of the completion that a row shows before its pivot


def shown_tokens(trace: Trace) -> ShownTokens:
    """What the card needs of a trace, entropies in nats rounded to four digits."""
    rule = ShownRule(**asdict(trace.pivot_rule)) if trace.pivot_rule else None
    entropy = [round(h, 4) for h in trace.entropy]
    most = sorted(trace.pivots, key=lambda t: -trace.entropy[t])[:PIVOTS]
    choices = [_pivot(trace, t) for t in sorted(most)]
    return ShownTokens(trace.pieces, trace.pivots, entropy, trace.gold, rule, choices)


def _pivot(trace: Trace, t: int) -> ShownPivot:
    """Token t with the most probable others, under the distribution that its entropy is of."""
    chosen, named = trace.tokens[t], trace.strings
    ranked = sorted(zip(trace.topk_probs[t], trace.topk_ids[t]), reverse=True)
    others = [Choice(named[i], round(p, 4)) for p, i in ranked if i != chosen and i in named]
    share = round(float(np.exp(trace.logprob[t])), 4)
    return ShownPivot(t, Choice(named.get(chosen, trace.pieces[t]), share), others[:OTHERS])


def marked(shown: ShownTokens) -> str:
    """The completion, each pivot between ⟦ and ⟧; the line end of one is shown as ↵ and stands after it."""
    pivots, text = set(shown.pivots), []
    for t, piece in enumerate(shown.pieces):
        body = piece.rstrip("\n")
        ends = piece[len(body) :]
        text.append(f"⟦{body}{'↵' * len(ends)}⟧{ends}" if t in pivots else piece)
    return "".join(text)


def pivot_rows(shown: ShownTokens) -> list[list[str]]:
    """The table's cells as Markdown: position, text before, token chosen, the alternatives."""
    rows = []
    for pivot in shown.choices[:PIVOTS]:
        before = "".join(shown.pieces[: max(pivot.position, 0)])[-BEFORE:]
        others = [_cell(choice) for choice in pivot.others[:OTHERS]]
        others += ["–"] * (OTHERS - len(others))
        rows.append(
            [
                f"{pivot.position:,}",
                markdown.code(visible(before)) if before else "the prompt",
                _cell(pivot.chosen),
                *others,
            ]
        )
    return rows


def _cell(choice: Choice) -> str:
    return f"{markdown.code(visible(choice.text), 40)} {percent(choice.probability)}"
