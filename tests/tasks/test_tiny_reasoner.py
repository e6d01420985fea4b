"""The embedded model: it loads as any model does, scores what its card says, and can be made again."""

import importlib.util
import json
import re
import sys
from itertools import islice
from pathlib import Path

import pytest

from erpo_hub.tasks.expressions import ExpressionOptions, TraceNoise, is_test, prompts, solution
from erpo_hub.tasks.grading import Grader
from erpo_hub.traces.loading import EMBEDDED_MODEL, resolve_model

FOLDER = Path(resolve_model(EMBEDDED_MODEL))
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def recipe():
    spec = importlib.util.spec_from_file_location(
        "make_tiny_reasoner", ROOT / "examples/make_tiny_reasoner.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def shipped():
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(FOLDER).eval(), AutoTokenizer.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def scores():
    return json.loads((FOLDER / "scores.json").read_text())


def test_the_folder_is_small_and_holds_no_pickle():
    files = {path.name: path.stat().st_size for path in FOLDER.iterdir()}
    assert sum(files.values()) <= 4 * 2**20
    assert {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "README.md",
    } <= set(files)
    assert not {Path(name).suffix for name in files} - {".json", ".safetensors", ".md"}


def test_the_card_says_what_the_scores_say(scores):
    card = (FOLDER / "README.md").read_text()
    assert "license: apache-2.0" in card
    for name, key in (("sampled, T = 1", "sampled"), ("greedy", "greedy")):
        low, high = scores[key]["interval"]
        row = next(line for line in card.splitlines() if line.startswith(f"| {name}"))
        assert f"{scores[key]['correct']} of {scores['n']}" in row
        assert f"{low:.1%} to {high:.1%}" in row
        assert scores[key]["accuracy"] == pytest.approx(scores[key]["correct"] / scores["n"], abs=1e-4)
    assert f"{scores['recipe']['parameters']:,} parameters" in card
    assert not re.search(r"/(home|root|tmp|work)/", card)


def test_it_is_a_useful_starting_point(scores):
    """Often wrong, more often when sampled than greedy, and unsure: something to learn by trying."""
    assert scores["n"] >= 1000
    assert 0.30 <= scores["sampled"]["accuracy"] <= 0.50
    assert scores["sampled"]["accuracy"] + 0.1 < scores["greedy"]["accuracy"] < 0.75
    assert scores["sampled"]["mean_entropy"] > 0.15


def test_tokenizer_is_one_token_a_character(shipped, recipe):
    model, tokenizer = shipped
    fresh = recipe.make_tokenizer()
    for text in ("3+4*2-1=", "3+8-1\n11-1\n10", " Can't  stop, 123\n\n(x) "):
        ids = tokenizer(text)["input_ids"]
        assert ids == fresh(text)["input_ids"]
        assert len(ids) == len(text)
        assert tokenizer.decode(ids) == text
    assert tokenizer.decode(tokenizer("hé 你")["input_ids"]) == "hé 你"
    assert tokenizer.padding_side == "left"
    assert (tokenizer.pad_token, tokenizer.eos_token, tokenizer.bos_token) == ("<pad>", "<eos>", None)
    assert model.config.vocab_size == len(tokenizer)
    assert model.config.pad_token_id == model.generation_config.pad_token_id == tokenizer.pad_token_id
    assert model.config.eos_token_id == model.generation_config.eos_token_id == tokenizer.eos_token_id


def test_left_padding_changes_nothing(shipped, recipe):
    model, tokenizer = shipped
    questions = ["3+4*2-1=", "3+4=", "9-2*3+5*1="]
    together, _ = recipe.complete(model, tokenizer, questions, sample=False)
    alone = [recipe.complete(model, tokenizer, [question], sample=False)[0][0] for question in questions]
    assert together == alone
    assert all(re.fullmatch(r"[-+*\d\n]+", text) for text in together)


def test_shipped_model_scores_what_its_card_says(shipped, recipe, scores):
    """On 400 of the card's questions. 3.3 standard errors: chance fails this test once in a thousand runs."""
    model, tokenizer = shipped
    measured = recipe.measure(model, tokenizer, n=400)
    for key in ("sampled", "greedy"):
        card = scores[key]["accuracy"]
        error = (card * (1 - card) / measured["n"]) ** 0.5
        assert abs(measured[key]["accuracy"] - card) < 3.3 * error, (key, measured[key])
        assert measured[key]["mean_entropy"] == pytest.approx(scores[key]["mean_entropy"], rel=0.15)


def test_it_is_unsure_where_it_must_choose(shipped):
    """After the prompt of a sum whose first two reductions differ, its first digits are a real fork."""
    import torch

    model, tokenizer = shipped
    with torch.no_grad():  # both 9-... (multiply first) and 5... (subtract first) are live
        logits = model(**tokenizer("9-4+2*3=", return_tensors="pt")).logits[0, -1]
    probs = logits.softmax(-1)
    assert -(probs * probs.log()).sum() > 0.3
    keep, reduce = (probs[tokenizer(c)["input_ids"][0]] for c in "95")
    assert min(keep, reduce) > 0.1


def test_wilson_matches_scipy(recipe):
    from scipy.stats import binomtest

    for correct, n in [(0, 10), (7, 10), (400, 1000), (10, 10)]:
        expected = binomtest(correct, n).proportion_ci(method="wilson")
        assert recipe.wilson(correct, n) == pytest.approx([expected.low, expected.high], abs=1e-4)


def test_warm_up_data_never_touches_the_test_split(recipe):
    import random

    pairs = list(islice(recipe.trace_stream(random.Random(0), TraceNoise()), 3000))
    assert not any(is_test(prompt) for prompt, _ in pairs)
    assert {prompt.count("+") + prompt.count("-") + prompt.count("*") for prompt, _ in pairs} == {1, 2, 3, 4}
    assert pairs[:5] == list(islice(recipe.trace_stream(random.Random(0), TraceNoise()), 5))


def test_a_shorter_one_can_be_made_and_learns(recipe, tmp_path):
    """200 steps on two-number sums: the loss falls, and the folder it writes loads and beats guessing."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    out = tmp_path / "short"
    options = "--steps 200 --batch 32 --lr 3e-3 --operands 2 --n 32 --wrong-order 0 --repeat 0 --slip 0"
    losses = recipe.main(["--out", str(out), *options.split()])["losses"]
    assert sum(losses[-10:]) < 0.3 * sum(losses[:10])
    made = json.loads((out / "scores.json").read_text())["recipe"]
    assert (made["steps"], made["operands"], made["wrong_order"]) == (200, [2], 0)
    assert "200 supervised steps of 32 solutions" in (out / "README.md").read_text()

    model, tokenizer = AutoModelForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    questions = list(islice(prompts(ExpressionOptions(2), "train"), 120))
    answers = [solution(question)[-1] for question in questions]
    texts, _ = recipe.complete(model, tokenizer, questions, sample=False)
    with Grader() as grader:
        right = sum(grader.grade(texts, answers)) / len(answers)
    guessing = max(answers.count(answer) for answer in answers) / len(answers)
    assert right > 0.3 > 3 * guessing, (right, guessing, texts[:5])
