"""The model card, rendered from run.json alone, so that it can't drift from the run.

`Card` turns the record into the sentences and rows that `card.md.jinja` lays out, one named block a section.
Claims follow the numbers: "higher" and "lower" only where the interval excludes 0 and p < 0.05. Left out:
figures (plots.py, headline.py), hand edits (merge.py), metadata (metadata.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from ..errors import UserError
from ..methods.catalog import METHODS, Method, Setting, title_of
from ..record.format import (
    BaseModel,
    Comparison,
    Dataset,
    Figure,
    PairedRun,
    RunRecord,
    Summary,
    TraceRow,
    load_record,
)
from ..text import p_equals
from ..traces.pivots import PivotRule
from ..traces.pivots import describe as describe_rule
from . import markdown, words
from .example import marked, pivot_rows
from .layout import picture, template
from .merge import Block, blocks_of, compose, merge_cards
from .metadata import card_metadata, to_yaml
from .usage import usage_snippet

CARD_ERRORS = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError)
Run = RunRecord | dict[str, Any] | str | Path  # the record, its JSON form, run.json or its folder
Sections = Mapping[str, str | None]
DATASET_FILE = "data/test-00000-of-00001.parquet"  # of a trace dataset, see traces_dataset.py


def render_card(run_or_folder: Run, *, sections: Sections | None = None) -> str:
    """The README.md of a run.

    sections: text by block name. A known name ("limits") replaces that block, None removes it, any other name
    ("Intended use") adds a section before the limits. Raises UserError for what is
    not a run record, or one that names no model or no data.
    """
    run = _nameable(run_or_folder)
    return compose(card_metadata(run), _with_sections(_generated_blocks(run), sections or {}))


def update_card(
    existing_text: str,
    run: Run,
    *,
    force: bool = False,
    sections: Sections | None = None,
) -> str:
    """A card that people have edited, its generated blocks brought up to `run`.

    Edits outside the blocks survive. Raises merge.HandEdited (a UserError with `.diff`) where a generated
    block was edited, unless `force`.
    """
    fresh = render_card(run, sections=sections)
    return merge_cards(existing_text, fresh, force=force) if existing_text.strip() else fresh


def with_address(card: str, run: Run, repo_id: str, space: str | None = None) -> str:
    """The card with the repository's name in its usage block and a link to the Space in its example.

    A block that was edited or replaced stays as it is.
    """
    there = blocks_of(card)
    for fresh in _generated_blocks(_nameable(run), repo_id, space):
        block = there.get(fresh.name)
        if fresh.name in {"usage", "example"} and block and not block.edited and not block.yours:
            card = card.replace(str(block), str(fresh))
    return card


def block_names() -> list[str]:
    """Names of the generated blocks, in the order in which they stand on the card."""
    return list(template().blocks)


def fallback_card(run: RunRecord) -> str:
    """The plainest card, for when the real one can't be rendered: the record is never lost with it."""
    known = METHODS.get(run.algorithm)
    method = known.link if known else "reinforcement learning"
    text = (
        f"# {markdown.plain(run.name or 'model')}\n\nTrained with {method}. The full card could not be "
        "rendered; the record is in [`run.json`](run.json). Render it again with `erpo-hub card`."
    )
    metadata = to_yaml({"library_name": "transformers", "tags": ["erpo-hub"]})
    return f"---\n{metadata}\n---\n{Block('summary', text)}\n"


def _nameable(run_or_folder: Run) -> RunRecord:
    run = load_record(run_or_folder)
    for name in ("base_model", "dataset"):
        if getattr(run, name) is None:
            raise UserError(f"the run record has no {name}: a card can't be rendered from it")
    return run


# --- the blocks -------------------------------------------------------------------------------------------


def _generated_blocks(run: RunRecord, repo_id: str | None = None, space: str | None = None) -> list[Block]:
    layout = template()
    named: dict[str, Any] = {
        name: getattr(words, name) for name in ("verdict", "describe", "points", "interval", "tokens_changed")
    }
    named["p_equals"] = p_equals
    card = Card(run, repo_id, space)
    named |= {"picture": picture, "pivot_rows": pivot_rows, "marked": marked}
    context = layout.new_context({"card": card, "run": run, **named})
    texts = {name: "".join(render(context)) for name, render in layout.blocks.items()}
    texts = {name: re.sub(r"\n{3,}", "\n\n", text).strip() for name, text in texts.items()}
    return [Block(name, text) for name, text in texts.items() if text]


def _with_sections(blocks: list[Block], sections: Sections) -> list[Block]:
    known = block_names()
    for name, text in sections.items():
        slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        if text is None and slug not in known:
            raise UserError(f"no card section {name!r} to remove: the sections are {', '.join(known)}")
        if not slug:
            raise UserError(f"a card section needs a name of letters or digits, not {name!r}")
        place = next((i for i, b in enumerate(blocks) if b.name == slug), None)
        if place is None:
            place = next((i for i, b in enumerate(blocks) if b.name == "limits"), len(blocks))
        else:
            del blocks[place]
        if text is not None:
            body = text if text.lstrip().startswith("#") else f"## {markdown.plain(name)}\n\n{text}"
            blocks.insert(place, Block(slug, markdown.clean(body).strip(), yours=True))
    return blocks


@dataclass(frozen=True)
class Card:
    """What the template shows: a run record, read into rows and sentences."""

    run: RunRecord
    repo_id: str | None = None
    space: str | None = None

    @property
    def catalog(self) -> Method | None:
        """The method's row; None for a record that names a method this version does not know."""
        return METHODS.get(self.run.algorithm)

    @property
    def method(self) -> str:
        row = self.catalog
        return f"{row.link}, {row.summary}," if row else markdown.plain(self.run.algorithm)

    @property
    def short(self) -> str:
        return title_of(self.run.algorithm)

    @property
    def citations(self) -> list[str]:
        """BibTeX of the method and of GRPO, which every method here starts from."""
        rows = [self.catalog, METHODS["grpo"]]
        return list(dict.fromkeys(row.bibtex for row in rows if row))

    @property
    def base(self) -> BaseModel:
        assert self.run.base_model is not None  # render_card has refused the others
        return self.run.base_model

    @property
    def data(self) -> Dataset:
        assert self.run.dataset is not None
        return self.run.dataset

    @property
    def base_name(self) -> str:
        return self.base.id.rpartition("/")[2].removeprefix("builtin:")

    @property
    def base_link(self) -> str:
        base = self.base
        if base.source != "hub":
            where = "which ships with erpo-hub" if base.source == "embedded" else "a local model"
            return f"{markdown.code(base.id)} ({where})"
        if not base.revision:
            return f"[{markdown.plain(base.id)}](https://huggingface.co/{markdown.address(base.id)})"
        url = f"https://huggingface.co/{markdown.address(f'{base.id}/tree/{base.revision}')}"
        return f"[{markdown.plain(base.id)}]({url}) at revision {markdown.code(base.revision[:12])}"

    @property
    def dataset_link(self) -> str:
        data = self.data
        if not data.id:
            return markdown.code(data.spec)
        revision = f"/tree/{data.revision}" if data.revision else ""
        url = f"https://huggingface.co/datasets/{markdown.address(data.id + revision)}"
        return f"[{markdown.plain(data.id)}]({url})"

    @property
    def final(self) -> Summary | None:
        return self.run.results.final

    @property
    def paired(self) -> PairedRun | None:
        return self.run.paired_run

    @cached_property
    def rows(self) -> list[tuple[str, Summary]]:
        """Label and summary of each line of the results table."""
        paired = self.paired
        lines = [
            ("Base model, before training", self.run.results.baseline),
            (f"{markdown.plain(title_of(paired.algorithm))}, the paired run", paired.final)
            if paired
            else ("", None),
            ("Before averaging", self.run.averaged.trained if self.run.averaged else None),
            (f"**{markdown.plain(self.short)}, this model**", self.final),
        ]
        return [(label, summary) for label, summary in lines if summary]

    @property
    def comparisons(self) -> list[tuple[str, Comparison]]:
        """What this model is set against, with the paired comparison (this model minus the other)."""
        found = [("the base model before training", self.run.results.comparison)]
        if self.paired:
            other = markdown.plain(title_of(self.paired.algorithm))
            found.append((f"the paired {other} run", self.paired.comparison))
        if self.run.averaged:
            found.append(("the weights before averaging", self.run.averaged.comparison))
        return [(other, comparison) for other, comparison in found if comparison]

    @property
    def decoding(self) -> str:
        final = self.final
        if final is None:
            return ""
        how = "greedy decoding"
        if final.temperature:
            how = f"sampling at temperature {final.temperature:g}, top-p {final.top_p:g}"
        each = "one completion" if final.k == 1 else f"{final.k} completions"
        how += words.shaping(self.run.prompt.shaping, sampled=bool(final.temperature))
        return f"{how}, {each} a question, at most {words.number(final.max_new_tokens)} new tokens"

    def figures(self, kind: str) -> list[Figure]:
        """The figures of one kind, see `Figure`."""
        return [figure for figure in self.run.figures if figure.kind == kind]

    @cached_property
    def example(self) -> TraceRow | None:
        """The worked example: the first trace that carries its tokens."""
        return next((row for row in self.run.traces if row.completion), None)

    @property
    def example_note(self) -> str:
        """How the example was chosen, so that nobody takes one correct completion for the rule."""
        graded = [row for row in self.run.traces if row.correct is not None]
        if len(graded) < 2 or not (self.example and self.example.correct):
            return ""
        right = sum(bool(row.correct) for row in graded)
        return f"The first correct one of {len(graded)} recorded traces; {right} of them are correct."

    @property
    def pivot_rule(self) -> str:
        """The rule that found the example's pivots, in words."""
        shown = self.example.completion if self.example else None
        rule = shown.pivot_rule if shown else None
        return describe_rule(PivotRule(rule.quantile, rule.min_entropy) if rule else None)

    @property
    def example_answer(self) -> str:
        if self.example is None or self.example.answer is None:
            right = (
                self.example is not None and self.example.correct
            )  # a record from before answers were kept
            return "Graded correct" if right else "No answer could be read from it"
        verdict = "correct" if self.example.correct else "wrong"
        return f"Answer {markdown.code(self.example.answer)}: {verdict}"

    @property
    def space_link(self) -> str | None:
        """The address that opens the worked example in the run's Space, where there is one.

        `trace` is the label under which the Space lists a row of the trace dataset (ui/library); where it has
        other traces, the question is filled in.
        """
        example = self.example
        if not self.space or not example or not example.completion:
            return None
        question = " ".join(example.prompt.split())
        verdict = {True: "✓ ", False: "✗ ", None: ""}[example.correct]
        shown = question if len(question) <= 60 else question[:59] + "…"
        query = {"tab": "inspect", "trace": f"{Path(DATASET_FILE).stem}: {verdict}{shown}"}
        query |= {"prompt": example.prompt, "gold": example.completion.gold or ""}
        query |= {"model": self.repo_id} if self.repo_id else {}
        return f"https://huggingface.co/spaces/{self.space}?{urlencode(query)}"

    @property
    def usage(self) -> str:
        """A program that loads this model and answers the first training prompt; a test runs it."""
        return usage_snippet(self.run, self.repo_id)

    @property
    def settings(self) -> list[tuple[Setting, Any]]:
        chosen = self.run.settings
        known = self.catalog.settings if self.catalog else ()
        return [(s, chosen[s.name]) for s in known if s.name in chosen]

    @cached_property
    def changed(self) -> dict[str, Any]:
        return dict(sorted(self.run.arguments.changed.items()))

    @property
    def all_arguments(self) -> str:
        """Every argument as YAML; empty where none were recorded."""
        arguments = self.run.arguments.all
        return to_yaml(dict(sorted(arguments.items()))) if arguments else ""

    @property
    def log(self) -> list[dict[str, float | None]]:
        """At most 20 evenly spaced rows of the training log, the last one always."""
        history = self.run.history
        stride = max(1, -(-len(history) // 20))
        return history[::-1][::stride][::-1]

    @property
    def limits(self) -> list[str]:
        """What a reader must know before believing the numbers; only what applies to this run."""
        found, final = [], self.final
        if final:
            half = 50 * (final.interval[1] - final.interval[0])
            size = "a small evaluation set" if final.n < 1000 else "an evaluation set"
            found.append(f"The results rest on {size} of {final.n:,} questions: ± {half:.1f} points at 95 %.")
        else:
            found.append("This run has no final evaluation: nothing is known about the model's accuracy.")
        if final:
            found.append(
                "The Hub's verified badge is only given to evaluations that it runs itself, so these results "
                "can't have it. What can be checked instead: the dataset's revision and fingerprint, the "
                "answers in `traces/`, and `erpo-hub evaluate`, which asks the same questions again."
            )
        found.append(
            f"One training run with one seed ({self.run.seed}): the spread over seeds is not measured."
        )
        found.append(
            "Training and evaluation questions come from the same source; other tasks were not tried."
        )
        if self.run.averaged:
            found.append(
                "The share of the averaging was set by hand: if it was chosen on these questions, the "
                "accuracy is too favourable. Sampled answers may be worse than before averaging."
            )
        if self.catalog and self.catalog.reconstructed:
            found.append(
                f"{self.short} is reconstructed from public sources ({self.catalog.reconstructed}); this is "
                "not the authors' own code and may differ from it."
            )
        if not self.base.license:
            found.append(
                "No license is recorded for the base model, so none is given here: look it up before use."
            )
        failures = (
            {name: getattr(final, f"grader_{name}") for name in ("timeouts", "errors", "crashes")}
            if final
            else {}
        )
        if any(failures.values()):
            said = ", ".join(f"{count} {name}" for name, count in failures.items())
            found.append(f"The grader failed on some answers ({said}); they count as wrong.")
        return found
