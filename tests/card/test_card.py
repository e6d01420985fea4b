"""The model card: complete, valid, true to run.json, and unbroken by anything a model can write."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import re
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from huggingface_hub import ModelCard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from erpo_hub.card import markdown, words
from erpo_hub.card.card import block_names, render_card, update_card, with_address
from erpo_hub.card.example import shown_tokens
from erpo_hub.card.merge import HandEdited, blocks_of, outside_of, split_front_matter
from erpo_hub.card.metadata import card_metadata, eval_result_files
from erpo_hub.errors import UserError
from erpo_hub.methods.catalog import METHODS
from erpo_hub.publish.bundle import build_bundle
from erpo_hub.record.format import load_record
from erpo_hub.text import p_equals
from erpo_hub.traces.pivots import PivotRule
from tests.hub_server.sample_run import comparison, example_run, example_trace, fake_weights, summary

GOLDEN = Path(__file__).parents[1] / "golden" / "card.md"
MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable("table")


def full_run() -> dict:
    """A run with everything a card can show."""
    run = example_run()
    trace = example_trace()
    run["traces"] = [
        {
            "file": "traces/0001.json",
            "correct": True,
            "prompt": trace.prompt,
            "answer": trace.answer,
            "completion": asdict(shown_tokens(trace.replace(pivot_rule=PivotRule(0.75, 0.0)))),
        }
    ]
    figure = {"kind": "training", "file": "figures/training.png", "alt": "Curves.", "caption": "Training."}
    trace_figure = figure | {"kind": "trace", "file": "figures/trace-entropy.png", "caption": "Entropy."}
    first = figure | {"kind": "headline", "file": "figures/accuracy.png", "caption": "Accuracy."}
    swaps = figure | {"kind": "transplant", "file": "figures/transplant.png", "caption": "Swaps."}
    run["transplant"] = transplanted()
    return run | {"figures": [first, figure, swaps, trace_figure]}


def transplanted(**shares: tuple[float, float, float]) -> dict:
    """What swapped tokens did: shares of the gain with their intervals, and of the first one's effect."""
    rows = {
        "first disagreement": (0.76, 0.67, 0.86, 1.0, 1.0, 1.0),
        "random disagreement": (0.61, 0.52, 0.71, 0.8, 0.7, 0.91),
        "random position": (0.10, 0.05, 0.14, 0.13, 0.07, 0.19),
    } | shares
    recovered = [
        {"rule": rule, "swaps": 1, "accuracy": 0.6, "share": a, "interval": [b, c]}
        | {"of_first": d, "of_first_interval": [e, f]}
        for rule, (a, b, c, d, e, f) in rows.items()
    ]
    result = {"base": "builtin:tiny-reasoner", "task": "builtin:expressions|`", "n": 2000}
    return result | {"accuracy": [0.576, 0.739], "changed": 0.1, "at_pivots": 0.8, "recovered": recovered}


def hub_run() -> dict:
    """A LoRA adapter trained on GSM8K from a model on the Hub."""
    run = full_run()
    base = {"id": "Qwen/Qwen3-0.6B", "source": "hub", "revision": "c1899de289a04d12100db370d81485cdf75e47ca"}
    data = {"id": "openai/gsm8k", "spec": "openai/gsm8k", "source": "hub", "license": "mit"}
    run["base_model"] |= base
    run["dataset"] |= data | {"revision": "e53f048856ff4f594e959d75785d2c2d37b678ee"}
    run["adapter"] = {"type": "LORA", "r": 16}
    run["prompt"] = {"chat_template": True, "system": "Think.", "example": "<|im_start|>user\nQ<|im_end|>"}
    return run


def normalised(card: str) -> str:
    """A card with its hashes as stars."""
    card = re.sub(r"(erpo-hub:begin [a-z-]+) [0-9a-f]{12}", r"\1 *", card)
    return re.sub(r'":"[0-9a-f]{12}"', '":"*"', card)


# --- what it says ---


def test_the_whole_card_is_as_expected():
    """To accept a change on purpose: UPDATE_GOLDEN=1 pytest tests/test_card.py"""
    card = normalised(render_card(full_run()))
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(card)
    assert card == GOLDEN.read_text()


def test_it_is_rendered_from_run_json_alone(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps(full_run()))
    assert render_card(tmp_path) == render_card(tmp_path / "run.json") == render_card(full_run())


def test_the_table_has_the_baseline_the_paired_run_and_this_model():
    card = render_card(full_run())
    rows = [line for line in card.splitlines() if line.startswith("|") and "/200" in line]
    assert [row.split("|")[1].strip() for row in rows] == [
        "Base model, before training",
        "GRPO, the paired run",
        "**ERPO, this model**",
    ]
    assert "55.3–\u206068.7\u00a0%" in rows[2]
    assert "124/200" in rows[2]


def test_swapped_tokens_are_shown_with_their_controls_and_called_a_finding_only_where_they_are_one():
    no_finding = {"random position": (0.3, 0.2, 0.4, 0.4, 0.3, 0.5)}
    finding = {"random disagreement": (0.1, 0.05, 0.15, 0.2, 0.1, 0.3)}
    said = {
        "which of them is taken is no finding": transplanted(),
        "so this is no finding": transplanted(**no_finding),
        "at a random position 10\u00a0% \\[5, 14\\].": transplanted(**finding),
        "gained too little": transplanted() | {"recovered": []},
    }
    for words_, result in said.items():
        card = render_card(full_run() | {"transplant": result})
        assert words_.replace("\\", "") in card
    assert "figures/transplant.png" in card
    assert "Which tokens training changed" not in render_card(full_run() | {"transplant": None})


def test_without_a_paired_run_the_card_says_nothing_of_one():
    card = render_card(full_run() | {"paired_run": None})
    assert "paired" not in card


@pytest.mark.parametrize(
    ("ends", "p", "word"),
    [
        ((0.01, 0.09), 0.01, "higher than"),
        ((-0.09, -0.01), 0.01, "lower than"),
        ((-0.01, 0.09), 0.1, "not significantly different from"),
        ((0.01, 0.09), 0.06, "not significantly different from"),
        ((-0.01, 0.09), 0.04, "not significantly different from"),
        ((0.0, 0.0), 1.0, "not significantly different from"),
    ],
)
def test_a_difference_is_claimed_only_where_interval_and_p_value_bear_it(ends, p, word):
    run = full_run() | {"paired_run": None}
    run["results"]["comparison"] = comparison(sum(ends) / 2, *ends, p)
    card = render_card(run)
    assert f"This is {word} the base model before training" in card
    for claim in ("improve", "better", "outperform", "state of the art"):
        assert claim not in card.lower()


def test_the_method_is_called_a_reconstruction_and_its_limits_are_stated():
    card = render_card(full_run())
    assert "reconstructed from public sources; this is not the official implementation" in card
    assert "a small evaluation set of 200 questions" in card
    assert "ERPO is reconstructed from public sources (the paper's abstract" in card
    grpo = render_card(
        full_run() | {"algorithm": "grpo", "settings": {"entropy_gate": False, "progress_eta": 0.0}}
    )
    assert "reconstructed" not in grpo
    assert "2603.28204" not in grpo


def test_every_setting_stands_with_its_equation():
    card = render_card(full_run())
    for setting in METHODS["erpo"].settings:
        assert re.search(rf"\| `{setting.name}` \| `[^`]+` \| {setting.equation} \|", card)


@pytest.mark.parametrize("name", METHODS)
def test_the_card_describes_and_cites_its_own_method(name: str):
    method, of_its_own = METHODS[name], {s.name: 0.25 for s in METHODS[name].settings}
    card = render_card(full_run() | {"algorithm": name, "settings": of_its_own, "paired_run": None})
    assert f"trained with {method.title}" in card
    assert method.explanation in card
    assert method.bibtex in card
    assert card.count("archivePrefix") == (1 if name == "grpo" else 2)  # its own paper and GRPO's
    assert ("reconstructed from public sources" in card) == bool(method.reconstructed)
    for other in METHODS.values():
        if other.paper not in (method.paper, METHODS["grpo"].paper):
            assert other.paper not in card
            assert other.explanation not in card
    for setting in of_its_own:
        assert f"| `{setting}` | `0.25` |" in card


def test_a_method_of_a_newer_version_is_named_and_not_described():
    card = render_card(full_run() | {"algorithm": "later-po", "settings": {"x": 1}, "paired_run": None})
    assert "trained with later-po" in card
    assert "reconstructed" not in card


def test_citations_and_versions_are_there():
    card = render_card(full_run())
    for text in ("2603.28204", "2402.03300", "vonwerra2020trl", "torch 2.13.0", "0 times in training"):
        assert text in card


def test_the_pivots_of_the_worked_example_are_marked():
    run = full_run()
    assert "⟦4⟧*2=8\n⟦3⟧+8-1=10" in render_card(run)
    run["traces"][0]["completion"]["pivots"] = [5]
    assert "4*2=8⟦↵⟧\n3+8-1=10" in render_card(run), "a line end does not tear its marks apart"


def test_a_pivot_stands_with_its_probability_and_its_alternatives():
    card = render_card(full_run())
    assert "| 0 | the prompt | `4` 90.5\u00a0% | `9` 10.0\u00a0% | – |" in card
    assert "| 6 | `4*2=8↵` | `3` 90.5\u00a0% | `9` 10.0\u00a0% | – |" in card
    older = full_run()
    del older["traces"][0]["completion"]["choices"]
    assert "Alternative" not in render_card(older)


def test_a_long_example_shows_the_most_uncertain_of_its_pivots():
    trace = example_trace()
    entropy = [0.1 * t for t in range(len(trace))]
    shown = shown_tokens(trace.replace(entropy=entropy, pivots=list(range(14))))
    assert [pivot.position for pivot in shown.choices] == list(range(6, 14))


def test_the_trace_opens_in_the_runs_space_where_there_is_one():
    assert "huggingface.co/spaces" not in render_card(full_run())
    card = with_address(render_card(full_run()), full_run(), "alice/erpo", "alice/inspector")
    address = re.search(r"\((https://huggingface.co/spaces/alice/inspector\?[^)]*)\)", card).group(1)
    query = parse_qs(urlsplit(address).query)
    assert query["trace"] == ["test-00000-of-00001: ✓ 3+4*2-1="], "as ui/load.py labels the dataset's rows"
    assert (query["prompt"], query["gold"], query["model"]) == (["3+4*2-1="], ["10"], ["alice/erpo"])


def test_a_run_that_broke_off_has_a_card_too():
    run = full_run() | {
        "cost": {},
        "grader": {},
        "prompt": {},
        "results": {},
        "history": [],
        "status": "running",
    }
    run |= {"paired_run": None, "traces": [], "figures": []}
    card = render_card(run)
    assert "This run has no final evaluation" in card
    assert "## Results" not in card


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.65, "p = 0.650"), (0.0004, "p < 0.001"), (1.0, "p = 1.000"), (0.0312, "p = 0.031")],
)
def test_p_values_in_words(value, shown):
    assert p_equals(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(12, "12 s"), (600, "10.0 min"), (7200, "2.0 h"), (None, "–")]
)
def test_durations_in_words(seconds, shown):
    assert words.duration(seconds) == shown


# --- metadata ---


def test_metadata_of_a_run_from_the_hub():
    data = card_metadata(load_record(hub_run()))
    assert data["base_model"] == "Qwen/Qwen3-0.6B"
    assert data["base_model_relation"] == "adapter"
    assert data["library_name"] == "peft"
    assert data["datasets"] == ["openai/gsm8k"]
    assert data["widget"] == [{"messages": [{"role": "user", "content": "3+4*2-1="}]}]
    assert "model-index" not in data, "a registered benchmark goes to .eval_results/"
    assert {"erpo", "erpo-hub", "trl", "grpo", "lora"} <= set(data["tags"])


def test_a_license_is_taken_from_the_base_model_or_left_out():
    run = full_run()
    assert card_metadata(load_record(run))["license"] == "apache-2.0"
    run["base_model"]["license"] = None
    assert "license" not in card_metadata(load_record(run))
    assert "No license is recorded for the base model" in render_card(run)


def test_a_base_model_that_is_on_no_hub_is_not_linked():
    assert not {"base_model", "base_model_relation"} & set(card_metadata(load_record(full_run())))


def test_a_registered_benchmark_gets_an_eval_results_file():
    from huggingface_hub._eval_results import parse_eval_result_entries

    files = eval_result_files(load_record(hub_run()))
    assert list(files) == [".eval_results/gsm8k.yaml"]
    entry = parse_eval_result_entries(yaml.safe_load(files[".eval_results/gsm8k.yaml"]))[0]
    assert (entry.dataset_id, entry.task_id, entry.value) == ("openai/gsm8k", "gsm8k", 62.0)
    assert entry.dataset_revision == "e53f048856ff4f594e959d75785d2c2d37b678ee"
    assert "n=200 questions" in entry.notes
    assert eval_result_files(load_record(full_run())) == {}


def test_huggingface_hub_reads_the_metadata_as_it_was_meant():
    card = ModelCard(render_card(full_run()))
    result = card.data.eval_results[0]
    assert (card.data.model_name, result.metric_type, result.metric_value) == ("erpo", "accuracy", 62.0)
    assert card.data.license == "apache-2.0"
    assert ModelCard(render_card(hub_run())).data.base_model == "Qwen/Qwen3-0.6B"


# --- sections from Python ---


def test_sections_are_added_replaced_and_removed():
    card = render_card(
        full_run(),
        sections={"Intended use": "Arithmetic only.", "limits": "## Limits\n\nMany.", "example": None},
    )
    names = list(blocks_of(card))
    assert "example" not in names
    assert names.index("intended-use") == names.index("limits") - 1
    assert "## Intended use\n\nArithmetic only." in card
    assert "Many." in card
    assert "small evaluation set" not in card


def test_a_section_that_is_not_there_cant_be_removed():
    with pytest.raises(
        UserError, match="no card section 'limit' to remove: the sections are summary, results"
    ):
        render_card(full_run(), sections={"limit": None})


def test_sections_given_from_python_stay_until_given_anew():
    card = render_card(full_run(), sections={"Intended use": "Arithmetic.", "limits": "## Limits\n\nMany."})
    again = update_card(card, full_run() | {"seed": 9})
    assert "Arithmetic." in again
    assert "Many." in again
    assert "**Seed**: 9" in again
    third = update_card(again, full_run(), sections={"Intended use": "Sums."})
    assert "Sums." in third
    assert "Arithmetic." not in third


# --- hand edits ---


def test_a_re_render_without_changes_changes_nothing():
    card = render_card(full_run())
    assert update_card(card, full_run()) == card


def test_edits_outside_the_blocks_survive():
    card = render_card(full_run())
    card = card.replace(
        "<!-- erpo-hub:begin usage", "My own words.\n\n```\n# code\n```\n\n<!-- erpo-hub:begin usage"
    )
    card = card.replace("library_name: transformers", "library_name: transformers\ninference: false")
    again = update_card(card + "\nThe end.\n", full_run() | {"seed": 5})
    assert "My own words.\n\n```\n# code\n```" in again
    assert again.rstrip().endswith("The end.")
    assert "inference: false" in again
    assert "**Seed**: 5" in again
    assert "one seed (5)" in again


def test_an_edit_inside_a_block_is_shown_and_needs_force():
    card = render_card(full_run()).replace("## Limits", "## Limits and more")
    with pytest.raises(HandEdited, match="'limits' was edited by hand") as error:
        update_card(card, full_run())
    assert "-## Limits and more\n+## Limits" in error.value.diff
    assert update_card(card, full_run(), force=True) == render_card(full_run())


def test_a_block_deleted_by_hand_stays_deleted_and_a_new_one_is_added():
    run = full_run() | {"paired_run": None, "figures": []}
    card = render_card(run)
    start, end = card.index("<!-- erpo-hub:begin data"), card.index("<!-- erpo-hub:end data -->")
    card = card[:start] + card[end + len("<!-- erpo-hub:end data -->") :]
    again = update_card(card, full_run())
    assert "## Training data" not in again
    names = list(blocks_of(again))
    assert names.index("figures") == names.index("results") + 1


def test_metadata_changed_by_hand_is_kept_and_the_rest_follows_the_run():
    card = render_card(full_run()).replace("license: apache-2.0", "license: mit").replace("- reasoning\n", "")
    run = full_run()
    run["results"]["final"] = summary(0.7)
    data = yaml.safe_load(split_front_matter(update_card(card, run))[0])
    assert data["license"] == "mit"
    assert "reasoning" not in data["tags"]
    assert data["model-index"][0]["results"][0]["metrics"][0]["value"] == 70.0
    again = update_card(update_card(card, run), full_run())
    assert yaml.safe_load(split_front_matter(again)[0])["license"] == "mit", "and stays kept"


def test_windows_line_ends_are_no_edit():
    card = render_card(full_run())
    assert update_card(card.replace("\n", "\r\n"), full_run()) == card


# --- hostile text ---

HOSTILE = [
    "```\n# Break out\n```",
    "`````python\nx\n`````",
    "~~~\n# tilde\n~~~",
    "---\nlicense: evil\n---\n# New card",
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "<!-- erpo-hub:end example -->\n# outside\n<!-- erpo-hub:begin example 000000000000 -->",
    "--> <!--",
    "$$\\frac{a}{b}$$ \\(x\\) \\[y\\] $1$",
    "| a | b |\n|--|--|\n| `c` | d |",
    "</details>\n\n# out",
    "[link](javascript:alert(1)) ![i](http://x/y.png)",
    "{{ run.seed }} {% raw %} {# c #}",
    "\u202ereversed\u202c \x00\x07 \r lone return \u2028 line",
    "`",
    "``` ",
    "a" * 10_000,
    "",
    "@user http://spam.example www.spam.example",
    "'''\n\"\"\"\n\\",
]


def with_text(text: str) -> dict:
    """A run in which every piece of text that a model or a user wrote is `text`."""
    run = full_run()
    row = run["traces"][0]
    row |= {"prompt": text, "answer": text}
    token = {"text": text, "probability": 0.5}
    choices = [{"position": 1, "chosen": token, "others": [token]}]
    row["completion"] |= {"pieces": [text, text], "pivots": [0], "gold": text, "choices": choices}
    run["dataset"]["samples"] = [{"prompt": text, "answer": text}] * 2
    run["prompt"] |= {"example": text, "system": text}
    run["arguments"] = {"changed": {"chat_template_kwargs": text}, "all": {"chat_template_kwargs": text}}
    run["grader"]["reward_functions"] = [text]
    run["versions"] = {"torch": text}
    run["hardware"] |= {"cpu": text}
    for figure in run["figures"][:2]:
        figure |= {"alt": text, "caption": text}
    run["dataset"]["spec"] = text
    run["name"] = text
    return run


def headings(card: str) -> list[str]:
    tokens = MARKDOWN.parse(split_front_matter(card)[1])
    return [after.content for token, after in zip(tokens, tokens[1:]) if token.type == "heading_open"]


class Page(HTMLParser):
    """What a browser would act on: the tags in their order, and the addresses that they name."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str | None] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value for key, value in attrs if key in {"src", "href"} or key.startswith("on")]


PLAIN = render_card(with_text("plain"))
PLAIN_PAGE = Page()
PLAIN_PAGE.feed(MARKDOWN.render(split_front_matter(PLAIN)[1]))


def assert_unbroken(text: str) -> None:
    run = with_text(text)
    card = render_card(run)
    assert headings(card) == headings(PLAIN)
    data = yaml.safe_load(split_front_matter(card)[0])
    assert data == card_metadata(load_record(run))
    assert ModelCard(card).data.license == "apache-2.0", "as the Hub's own client reads it"
    assert [b for b in blocks_of(card).values() if b.edited] == []
    assert list(blocks_of(card)) == [name for name in block_names() if name in blocks_of(card)]
    assert outside_of(card) == ""
    assert update_card(card, run) == card
    page = Page()
    page.feed(MARKDOWN.render(split_front_matter(card)[1]))
    assert page.tags == (PLAIN_PAGE.tags if text.strip() else [*page.tags])
    assert page.addresses == PLAIN_PAGE.addresses


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_cant_break_the_card(text):
    assert_unbroken(text)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.sampled_from([*HOSTILE[:-4], "\n", " ", "x", "#", "- ", "1. ", "~", "\\", "<", "&lt;"]), max_size=6
    )
)
def test_no_mixture_of_hostile_text_can_either(parts):
    assert_unbroken("".join(parts))


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80))
def test_a_fence_shows_exactly_its_text(text):
    token = MARKDOWN.parse(markdown.fence(text))[0]
    assert token.type == "fence"
    assert token.content == markdown.clean(text) + "\n"
    assert len(MARKDOWN.parse(markdown.fence(text))) == 1


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40))
def test_inline_code_and_plain_words_stay_in_their_cell(text):
    table = f"| a | b |\n|--|--|\n| {markdown.code(text)} | {markdown.plain(text)} |"
    tokens = MARKDOWN.parse(table)
    assert [t.type for t in tokens].count("td_open") == 2
    assert [t.type for t in tokens].count("tr_open") == 2
    inline = [t for t in tokens if t.type == "inline"][2]
    assert [child.type for child in inline.children] == ["code_inline"]


def test_latex_in_words_is_inert():
    shown = markdown.plain(r"\(x\) $y$ \[z\] $$w$$")
    assert r"\\(" not in shown
    assert r"\(" not in shown
    assert not re.search(r"(?<!\\)\$", shown)


# --- usage ---


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory) -> Path:
    """A random Qwen2 of a few thousand weights with a character-level tokenizer."""
    from tiny_models import save_chat_model

    return save_chat_model(tmp_path_factory.mktemp("tiny"))


@pytest.mark.parametrize("chat", [False, True])
def test_the_usage_snippet_runs_against_its_bundle(tiny_model, tmp_path, monkeypatch, chat):
    run = example_run()
    run["prompt"] |= {"chat_template": chat, "system": "Be \"brief\".\n'''" if chat else None}
    made = build_bundle(run, tiny_model, tmp_path / "bundle", figures=False).folder
    card = (made / "README.md").read_text()
    snippet = re.search(r"## Usage\n\n```python\n(.*?)\n```", card, re.DOTALL).group(1)
    monkeypatch.chdir(made)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(snippet, "usage", "exec"), {})
    assert said.getvalue().endswith("\n")


def test_the_usage_snippet_of_an_adapter_runs(tiny_model, tmp_path, monkeypatch):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(tiny_model), LoraConfig(r=2, task_type="CAUSAL_LM")
    )
    model.save_pretrained(tmp_path / "adapter")
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path / "adapter")
    run = example_run(adapter={"type": "LORA", "r": 2})
    run["base_model"] |= {"id": "base"}
    made = build_bundle(run, tmp_path / "adapter", tmp_path / "bundle", figures=False).folder
    assert json.loads((made / "adapter_config.json").read_text())["base_model_name_or_path"] == "base"
    (made / "base").symlink_to(tiny_model)  # where the reader has the base model under its name
    snippet = re.search(
        r"## Usage\n\n```python\n(.*?)\n```", (made / "README.md").read_text(), re.DOTALL
    ).group(1)
    monkeypatch.chdir(made)
    exec(compile(snippet, "usage", "exec"), {})


def test_an_unreadable_record_is_one_line(tmp_path):
    with pytest.raises(UserError, match="no run.json there"):
        render_card(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        render_card(tmp_path)
    (tmp_path / "run.json").write_text('{"schema_version": 99}')
    with pytest.raises(UserError, match="its schema_version is 99"):
        render_card(tmp_path)


def test_the_record_is_not_changed_by_rendering():
    run = full_run()
    before = copy.deepcopy(run)
    render_card(run, sections={"limits": None})
    assert run == before


def test_a_whole_bundle_from_the_hub_passes_its_check(tmp_path):
    weights = fake_weights(tmp_path / "w")
    (weights / "model.safetensors").rename(weights / "adapter_model.safetensors")
    made = build_bundle(hub_run(), weights, tmp_path / "b", traces=[example_trace()]).folder
    assert (made / ".eval_results" / "gsm8k.yaml").is_file()
