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
from functools import cached_property
from pathlib import Path
from typing import Any

from ..errors import UserError
from . import markdown
from .equations import SETTINGS, Setting
from .merge import Block, blocks_of, compose, merge_cards
from .metadata import card_metadata, to_yaml

CARD_ERRORS = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError)
Sections = Mapping[str, str | None]
METHODS = {
    "erpo": "ERPO (entropy-regulated policy optimisation)",
    "grpo": "GRPO (group relative policy optimisation)",
    "ep-grpo": "EP-GRPO (entropy-progress GRPO)",
    "forking-tokens": "GRPO on forking tokens (the 20 % with the highest entropy)",
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


def with_repo_id(card: str, run: dict[str, Any], repo_id: str) -> str:
    """The card with the repository's name in its usage block, unless that block was edited or replaced."""
    usage = blocks_of(card).get("usage")
    if usage is None or usage.edited or usage.yours:
        return card
    fresh = next(block for block in _generated_blocks(run | {"repo_id": repo_id}) if block.name == "usage")
    return card.replace(str(usage), str(fresh))


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


def _template() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("erpo_hub.publish", "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # Markdown, not HTML: model text goes through the filters below
    )
    environment.filters |= {"fence": markdown.fence, "code": markdown.code, "plain": markdown.plain}
    environment.filters |= {"alt": markdown.alt, "percent": percent, "number": number, "duration": duration}
    return environment.get_template("card.md.jinja")


def _generated_blocks(run: dict[str, Any]) -> list[Block]:
    template = _template()
    context = template.new_context({"card": Card(run), "run": run, "verdict": verdict, "describe": describe})
    texts = {name: "".join(render(context)) for name, render in template.blocks.items()}
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

    @property
    def figures(self) -> list[dict[str, str]]:
        return self.run.get("figures") or []

    @cached_property
    def example(self) -> dict[str, Any] | None:
        """The worked example: the first trace that carries its tokens."""
        return next((t for t in self.run.get("traces") or [] if t.get("completion")), None)

    @property
    def marked_completion(self) -> str:
        """The example's completion with each pivot between ⟦ and ⟧."""
        completion = (self.example or {})["completion"]
        pivots = set(completion["pivots"])
        return "".join(f"⟦{p}⟧" if t in pivots else p for t, p in enumerate(completion["pieces"]))

    @property
    def space_link(self) -> str | None:
        """The address that opens the worked example in the run's Space, where there is one."""
        space, example = self.run.get("space"), self.example
        if not space or not example:
            return None
        return f"https://huggingface.co/spaces/{space}?trace={example['file']}"

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
        if final and final.get("grader_timeouts"):
            found.append(f"{final['grader_timeouts']} answers timed out in the grader and count as wrong.")
        return found


def usage_snippet(run: dict[str, Any]) -> str:
    """Python that loads the model, answers one prompt and prints the completion."""
    samples = run["dataset"].get("samples") or []
    prompt = samples[0]["prompt"] if samples else "1+1="
    prompt_settings = run.get("prompt") or {}
    repo = run.get("repo_id")
    where = json.dumps(repo) if repo else '"."  # this folder, or the repository it was pushed to'
    loader = (
        "peft import AutoPeftModelForCausalLM"
        if run.get("adapter")
        else "transformers import AutoModelForCausalLM"
    )
    name = loader.rpartition(" ")[2]
    lines = [f"from {loader}", "from transformers import AutoTokenizer"]
    if not run.get("adapter"):
        lines = ["from transformers import AutoModelForCausalLM, AutoTokenizer"]
    lines += ["", f"model_id = {where}"]
    lines += [
        "tokenizer = AutoTokenizer.from_pretrained(model_id)",
        f"model = {name}.from_pretrained(model_id)",
    ]
    if prompt_settings.get("chat_template"):
        system = prompt_settings.get("system")
        messages = [{"role": "system", "content": system}] if system else []
        messages.append({"role": "user", "content": prompt})
        lines.append(f"messages = {ascii(messages)}")
        lines.append("inputs = tokenizer.apply_chat_template(")
        lines.append('    messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"')
        lines.append(")")
    else:
        lines.append(f"prompt = {ascii(prompt_settings.get('example') or prompt)}")
        lines.append('inputs = tokenizer(prompt, return_tensors="pt")')
    budget = ((run.get("results") or {}).get("final") or {}).get("max_new_tokens", 256)
    lines.append(f"output = model.generate(**inputs, max_new_tokens={budget}, do_sample=False)")
    lines.append(
        'print(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))'
    )
    return "\n".join(lines)


# --- words for numbers ------------------------------------------------------------------------------------


def percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


def number(value: Any, digits: int = 3) -> str:
    """A number to so many significant digits, thousands separated; "–" where nothing was measured."""
    if value is None:
        return "–"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}g}"
    return markdown.plain(value)


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def points(value: float) -> str:
    """A difference of accuracies in percentage points, signed."""
    return f"{100 * value:+.1f}".replace("-", "−")


def p_value(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def verdict(comparison: dict[str, Any]) -> str:
    """ "higher", "lower" or "not significantly different": never more than interval and p-value bear."""
    low, high = comparison["interval"]
    if comparison["p_value"] < 0.05 and (low > 0 or high < 0):
        return "higher" if low > 0 else "lower"
    return "not significantly different"


def describe(comparison: dict[str, Any]) -> str:
    low, high = comparison["interval"]
    return (
        f"{points(comparison['difference'])} points (95 % interval {points(low)} to {points(high)},"
        f" {p_value(comparison['p_value'])}, n = {comparison['n']:,}, {markdown.plain(comparison['test'])})"
    )
