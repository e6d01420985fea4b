"""A trace in the terminal: text shaded by entropy, pivots marked, a table of them.

Shading is background color under black text, so that it reads on a dark and on a light terminal; a pivot
has a glyph and an underline too, and both survive where there is no color. Imports rich, no torch.
"""

from __future__ import annotations

import math
import unicodedata

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..text import percent
from .figures import ENTROPY_LEVELS, entropy_level, visible
from .pivots import describe
from .trace import Trace

SHADES = ("", *(f"black on {c}" for c in ("#feedde", "#fdd0a2", "#fdae6b", "#fd8d3c", "#f16913")))
PIVOT = "▾"


def show(trace: Trace, console: Console | None = None) -> None:
    """Print the trace: its text, a legend, the table of pivots."""
    (console or Console()).print(Group(*parts(trace)))


def parts(trace: Trace) -> list[RenderableType]:
    """What `show` prints, top to bottom."""
    return [
        shaded(trace),
        Text(),
        legend(trace),
        facts(trace),
        *([pivot_table(trace)] if trace.pivots else []),
    ]


def shaded(trace: Trace) -> Text:
    """The completion, each token on the shade of its entropy, "▾" before each pivot."""
    pivots, text = set(trace.pivots), Text()
    for t, piece in enumerate(trace.pieces):
        style = SHADES[entropy_level(trace.entropy[t])]
        if t in pivots:
            text.append(PIVOT, "bold")
            style = f"{style} underline".strip()
        text.append(harmless(piece), style)
    return text


def legend(trace: Trace) -> Text:
    text = Text("entropy in nats: ", "dim")
    for i, style in enumerate(SHADES):
        low = ENTROPY_LEVELS[i - 1] if i else 0.0
        high = f" - {ENTROPY_LEVELS[i]}" if i < len(ENTROPY_LEVELS) else " and above"
        text.append(f" {low}{high} ", style).append(" ")
    return text.append(f"{PIVOT} pivot: {describe(trace.pivot_rule)}")


def facts(trace: Trace) -> Text:
    """One line: how many tokens and pivots, how it ended, the verdict."""
    said = [f"{len(trace)} tokens", f"{len(trace.pivots)} pivots", f"ended: {trace.finish_reason}"]
    said += [f"answer {trace.answer}"] if trace.answer is not None else []
    said += [f"gold {trace.gold}"] if trace.gold is not None else []
    said += [{True: "✓ correct", False: "✗ wrong"}[trace.correct]] if trace.correct is not None else []
    return Text(harmless(" · ".join(said)).replace("\n", " "), "dim")


def pivot_table(trace: Trace, alternatives: int = 3) -> Table:
    """One row a pivot, in order: where, what, how uncertain, what instead."""
    table = Table(title="Pivots", title_justify="left", title_style="bold")
    table.add_column("token", justify="right")
    table.add_column("text", no_wrap=True)
    table.add_column("nats", justify="right")
    table.add_column("choices", justify="right")  # e^H: as uncertain as that many equal ones
    table.add_column("chance", justify="right")
    if trace.sensitivity is not None:
        table.add_column("logit²", justify="right")
    table.add_column("instead")
    for t in trace.pivots:
        others = [
            f"{_label(trace, i)} {percent(p)}"
            for i, p in zip(trace.topk_ids[t], trace.topk_probs[t])
            if i != trace.tokens[t]
        ]
        cells = [
            str(t),
            _label(trace, trace.tokens[t]),
            f"{trace.entropy[t]:.3f}",
            f"{math.exp(trace.entropy[t]):.1f}",
            percent(math.exp(trace.logprob[t])),
            *([f"{trace.sensitivity[t]:.3g}"] if trace.sensitivity is not None else []),
            "   ".join(others[:alternatives]),
        ]
        table.add_row(*map(Text, cells))  # Text: a token may look like rich's own markup
    return table


def harmless(text: str) -> str:
    """Text without characters that command the terminal or turn the reading direction."""
    return "".join(_sign(c) if unicodedata.category(c) in ("Cc", "Cf") else c for c in text)


def _sign(char: str) -> str:
    if char in "\n\t\u200d":  # the joiner inside emoji does no harm
        return char
    code = ord(char)
    return chr(0x2400 + code) if code < 0x20 else "\ufffd"


def _label(trace: Trace, token: int) -> str:
    return harmless(visible(trace.strings.get(token, f"#{token}")))
