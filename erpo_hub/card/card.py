"""The model card, rendered from run.json alone, so that it can't drift from the run.

`Card` turns the record into the sentences and rows that `card.md.jinja` lays out, one named block a section.
Claims follow the numbers: "higher" and "lower" only where the interval excludes 0 and p < 0.05. Left out:
figures (plots.py), hand edits (merge.py), metadata (metadata.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from ..errors import UserError
from . import markdown, words
from .equations import SETTINGS, Setting
from .merge import Block, blocks_of, compose, merge_cards
from .metadata import card_metadata, to_yaml
from .usage import usage_snippet

CARD_ERRORS = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError)
Sections = Mapping[str, str | None]
DATASET_FILE = "data/test-00000-of-00001.parquet"  # of a trace dataset, see traces_dataset.py
METHODS = {
    "erpo": "[ERPO](https://arxiv.org/abs/2603.28204), token-level entropy-regulated policy optimisation,",
    "grpo": "[GRPO](https://arxiv.org/abs/2402.03300), group relative policy optimisation,",
    "ep-grpo": "[EP-GRPO](https://arxiv.org/abs/2605.04960), entropy-progress GRPO,",
    "forking-tokens": "GRPO on [forking tokens](https://arxiv.org/abs/2506.01939), those of highest entropy,",
    "holder": "[HölderPO](https://arxiv.org/abs/2605.12058), GRPO with a power mean of importance ratios,",
}
RECORD = {  # what the template reads of each part of the record; what a run did not write shows as "–"
    "base_model": ("id", "parameters", "architecture"),
    "dataset": ("id", "spec", "source", "revision", "license", "train_rows", "test_rows"),
    "cost": ("steps", "completions", "tokens_generated", "wall_seconds", "train_seconds", "co2_kg"),
    "hardware": ("gpus", "cpu", "cores", "memory_gb", "platform"),
    "grader": ("kind", "timeout_s", "timeouts"),
    "prompt": ("chat_template", "system", "example"),
}


def render_card(run_or_folder: dict[str, Any] | str | Path, *, sections: Sections | None = None) -> str:
    """The README.md of a run, from its record or from a folder that holds run.json.

    sections: text by block name. A known name ("limits") replaces that block, None removes it, any other name
    ("Intended use") adds a section before the limits. Raises UserError for a folder without a readable
    run.json.
    """
    run = load_run(run_or_folder)
    return compose(card_metadata(run), _with_sections(_generated_blocks(run), sections or {}))


def update_card(
    existing_text: str,
    run: dict[str, Any] | str | Path,
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


def with_address(card: str, run: dict[str, Any], repo_id: str, space: str | None = None) -> str:
    """The card with the repository's name in its usage block and a link to the Space in its example.

    A block that was edited or replaced stays as it is.
    """
    there = blocks_of(card)
    for fresh in _generated_blocks(run | {"repo_id": repo_id} | ({"space": space} if space else {})):
        block = there.get(fresh.name)
        if fresh.name in {"usage", "example"} and block and not block.edited and not block.yours:
            card = card.replace(str(block), str(fresh))
    return card


def block_names() -> list[str]:
    """Names of the generated blocks, in the order in which they stand on the card."""
    return list(_template().blocks)


def fallback_card(run: dict[str, Any]) -> str:
    """The plainest card, for when the real one can't be rendered: the record is never lost with it."""
    method = METHODS.get(str(run.get("algorithm")), "reinforcement learning")
    text = (
        f"# {markdown.plain(run.get('name', 'model'))}\n\nTrained with {method}. The full card could not be "
        "rendered; the record is in [`run.json`](run.json). Render it again with `erpo-hub card`."
    )
    metadata = to_yaml({"library_name": "transformers", "tags": ["erpo-hub"]})
    return f"---\n{metadata}\n---\n{Block('summary', text)}\n"


def load_run(run_or_folder: dict[str, Any] | str | Path) -> dict[str, Any]:
    """The run record itself, or read from a bundle. Raises UserError."""
    if isinstance(run_or_folder, dict):
        return run_or_folder
    path = Path(run_or_folder)
    path = path / "run.json" if path.is_dir() else path
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"can't read {path}: {error.strerror}; give a folder that holds run.json") from error
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(run, dict) or run.get("schema_version") != 1:
        raise UserError(f"{path}: schema_version is not 1, so this version of erpo-hub can't read it")
    return run


# --- the blocks -------------------------------------------------------------------------------------------


@cache
def environment() -> Any:
    """Jinja with the filters that keep model text inert; templates are this package's."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("erpo_hub.card", "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # Markdown, not HTML: model text goes through the filters below
    )
    made.filters |= {"fence": markdown.fence, "code": markdown.code, "plain": markdown.plain}
    made.filters |= {"alt": markdown.alt, "percent": words.percent}
    made.filters |= {"number": words.number, "duration": words.duration}
    return made


def _template() -> Any:
    return environment().get_template("card.md.jinja")


def _generated_blocks(run: dict[str, Any]) -> list[Block]:
    template = _template()
    named: dict[str, Any] = {
        name: getattr(words, name) for name in ("verdict", "describe", "points", "p_value", "interval")
    }
    context = template.new_context({"card": Card(run), "run": _complete(run), "picture": picture, **named})
    texts = {name: "".join(render(context)) for name, render in template.blocks.items()}
    texts = {name: re.sub(r"\n{3,}", "\n\n", text).strip() for name, text in texts.items()}
    return [Block(name, text) for name, text in texts.items() if text]


def picture(figure: dict[str, str]) -> str:
    caption = markdown.plain(figure["caption"].strip())
    image = f"![{markdown.alt(figure['alt'])}]({figure['file']})"
    return f"{image}\n\n*{caption}*" if caption else image


def _complete(run: dict[str, Any]) -> dict[str, Any]:
    """The record with None for what it lacks, so that a run that broke off has a card too."""
    parts = {name: dict.fromkeys(keys) | (run.get(name) or {}) for name, keys in RECORD.items()}
    empty: dict[str, Any] = {"samples": [], "fingerprint": None, "prompt_characters": None}
    parts["dataset"] = empty | parts["dataset"]
    parts["grader"] = {"reward_functions": []} | parts["grader"]
    return {"adapter": None, "settings": {}, "versions": {}, "seed": None, **run, **parts}


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

    run: dict[str, Any]

    @property
    def method(self) -> str:
        return METHODS.get(self.run["algorithm"], self.run["algorithm"])

    @property
    def short(self) -> str:
        return self.run["algorithm"].upper() if self.run["algorithm"] in METHODS else self.run["algorithm"]

    @property
    def regulated(self) -> bool:
        """Whether anything of ERPO was switched on."""
        settings = self.run.get("settings") or {}
        return bool(settings.get("entropy_gate") or settings.get("progress_eta"))

    @property
    def base_name(self) -> str:
        return self.run["base_model"]["id"].rpartition("/")[2].removeprefix("builtin:")

    @property
    def base_link(self) -> str:
        base = self.run["base_model"]
        if base.get("source") != "hub":
            where = "which ships with erpo-hub" if base.get("source") == "embedded" else "a local model"
            return f"{markdown.code(base['id'])} ({where})"
        if not base.get("revision"):
            return f"[{markdown.plain(base['id'])}](https://huggingface.co/{base['id']})"
        url = f"https://huggingface.co/{base['id']}/tree/{base['revision']}"
        return f"[{markdown.plain(base['id'])}]({url}) at revision `{base['revision'][:12]}`"

    @property
    def dataset_link(self) -> str:
        dataset = self.run["dataset"]
        if not dataset.get("id"):
            return markdown.code(dataset["spec"])
        revision = f"/tree/{dataset['revision']}" if dataset.get("revision") else ""
        return f"[{markdown.plain(dataset['id'])}](https://huggingface.co/datasets/{dataset['id']}{revision})"

    @property
    def results(self) -> dict[str, Any]:
        return self.run.get("results") or {}

    @property
    def final(self) -> dict[str, Any] | None:
        return self.results.get("final")

    @property
    def paired(self) -> dict[str, Any] | None:
        return self.run.get("paired_run")

    @cached_property
    def rows(self) -> list[tuple[str, dict[str, Any]]]:
        """Label and summary of each line of the results table."""
        paired = self.paired or {}
        lines = [
            ("Base model, before training", self.results.get("baseline")),
            (f"{str(paired.get('algorithm', '')).upper()}, the paired run", paired.get("final")),
            (f"**{self.short}, this model**", self.final),
        ]
        return [(label, summary) for label, summary in lines if summary]

    @property
    def comparisons(self) -> list[tuple[str, dict[str, Any]]]:
        """What this model is set against, with the paired comparison (this model minus the other)."""
        found = [("the base model before training", self.results.get("comparison"))]
        if self.paired:
            found.append(
                (f"the paired {self.paired['algorithm'].upper()} run", self.paired.get("comparison"))
            )
        return [(other, comparison) for other, comparison in found if comparison]

    @property
    def decoding(self) -> str:
        final = self.final or {}
        how = (
            "greedy decoding"
            if not final["temperature"]
            else (f"sampling at temperature {final['temperature']:g}, top-p {final['top_p']:g}")
        )
        each = "one completion" if final["k"] == 1 else f"{final['k']} completions"
        return f"{how}, {each} a question, at most {final['max_new_tokens']:,} new tokens"

    def figures(self, kind: str) -> list[dict[str, str]]:
        """The figures of one kind, "training" or "trace"."""
        return [figure for figure in self.run.get("figures") or [] if figure["kind"] == kind]

    @cached_property
    def example(self) -> dict[str, Any] | None:
        """The worked example: the first trace that carries its tokens."""
        return next((t for t in self.run.get("traces") or [] if t.get("completion")), None)

    @property
    def example_note(self) -> str:
        """How the example was chosen, so that nobody takes one correct completion for the rule."""
        traces = self.run.get("traces") or []
        graded = [t for t in traces if t.get("correct") is not None]
        if len(graded) < 2 or not (self.example or {}).get("correct"):
            return ""
        right = sum(t["correct"] for t in graded)
        return f"The first correct one of {len(graded)} recorded traces; {right} of them are correct."

    @property
    def example_answer(self) -> str:
        example = self.example or {}
        if example.get("answer") is None:
            return "No answer could be read from it"
        return f"Answer {markdown.code(example['answer'])}: {'correct' if example['correct'] else 'wrong'}"

    @property
    def marked_completion(self) -> str:
        """The example's completion with each pivot between ⟦ and ⟧."""
        completion = (self.example or {})["completion"]
        pivots = set(completion["pivots"])
        return "".join(f"⟦{p}⟧" if t in pivots else p for t, p in enumerate(completion["pieces"]))

    @property
    def space_link(self) -> str | None:
        """The address that opens the worked example in the run's Space, where there is one.

        `trace` is the label under which the Space lists a row of the trace dataset (ui/load.py); where it has
        other traces, the question is filled in.
        """
        space, example = self.run.get("space"), self.example
        if not space or not example:
            return None
        question = " ".join(example["prompt"].split())
        verdict = {True: "✓ ", False: "✗ ", None: ""}[example["correct"]]
        shown = question if len(question) <= 60 else question[:59] + "…"
        query = {"tab": "inspect", "trace": f"{Path(DATASET_FILE).stem}: {verdict}{shown}"}
        query |= {"prompt": example["prompt"], "gold": example["completion"]["gold"] or ""}
        query |= {"model": self.run["repo_id"]} if self.run.get("repo_id") else {}
        return f"https://huggingface.co/spaces/{space}?{urlencode(query)}"

    @property
    def usage(self) -> str:
        """A program that loads this model and answers the first training prompt; a test runs it."""
        return usage_snippet(self.run)

    @property
    def settings(self) -> list[tuple[Setting, Any]]:
        chosen = self.run.get("settings") or {}
        return [(s, chosen[s.name]) for s in SETTINGS if s.name in chosen]

    @cached_property
    def changed(self) -> dict[str, Any]:
        return dict(sorted(((self.run.get("arguments") or {}).get("changed") or {}).items()))

    @property
    def all_arguments(self) -> str:
        """Every argument as YAML; empty where none were recorded."""
        arguments = (self.run.get("arguments") or {}).get("all") or {}
        return to_yaml(dict(sorted(arguments.items()))) if arguments else ""

    @property
    def log(self) -> list[dict[str, Any]]:
        """At most 20 evenly spaced rows of the training log, the last one always."""
        history = self.run.get("history") or []
        stride = max(1, -(-len(history) // 20))
        return history[::-1][::stride][::-1]

    @property
    def limits(self) -> list[str]:
        """What a reader must know before believing the numbers; only what applies to this run."""
        found, final = [], self.final
        if final:
            half = 50 * (final["interval"][1] - final["interval"][0])
            size = "a small evaluation set" if final["n"] < 1000 else "an evaluation set"
            found.append(
                f"The results rest on {size} of {final['n']:,} questions: ± {half:.1f} points at 95 %."
            )
        else:
            found.append("This run has no final evaluation: nothing is known of the model's accuracy.")
        found.append(
            f"One training run with one seed ({self.run['seed']}): the spread over seeds is not measured."
        )
        found.append(
            "Training and evaluation questions come from the same source; other tasks were not tried."
        )
        if self.regulated:
            found.append(
                "ERPO's equations are reconstructed from public sources (the paper's abstract, "
                "quoted formulas and the authors' follow-up); they are not the authors' own code "
                "and may differ from it."
            )
        if not self.run["base_model"].get("license"):
            found.append(
                "No license is recorded for the base model, so none is given here: look it up before use."
            )
        names = ("timeouts", "errors", "crashes")
        if final and any(final.get(f"grader_{name}") for name in names):
            said = ", ".join(f"{final.get(f'grader_{name}') or 0} {name}" for name in names)
            found.append(f"The grader failed on some answers ({said}); they count as wrong.")
        return found
