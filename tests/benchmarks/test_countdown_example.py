"""The second task's model: its tokenizer, its warm-up solutions, and a warm-up that runs to the end."""

import importlib
import random
import sys
from pathlib import Path

import pytest
import yaml

from erpo_hub.tasks.grading import Grader
from erpo_hub.tasks.tasks import load_task

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def recipe():
    sys.path.insert(0, str(EXAMPLES))
    try:
        yield importlib.import_module("make_countdown_reasoner")
    finally:
        sys.path.remove(str(EXAMPLES))


@pytest.fixture(scope="module")
def task(recipe):
    return load_task(recipe.SPEC, train_size=50, test_size=20)


def solutions(recipe, task, noise):
    rng = random.Random(0)
    return [recipe.solution(recipe.question_of(entry), rng, noise) for entry in task.train["entry"]]


def grades(recipe, task, noise):
    with Grader(task.grader, timeout=60) as grader:
        texts = solutions(recipe, task, noise)
        return grader.grade(texts, task.train["answer"], entry=task.train["entry"])


def test_a_question_is_a_dozen_tokens_and_comes_back_as_it_was(recipe, task, tmp_path):
    from transformers import AutoTokenizer

    recipe.make_model(recipe.make_tokenizer(recipe.wordings(task.train["prompt"]))).save_pretrained(tmp_path)
    recipe.make_tokenizer(recipe.wordings(task.train["prompt"])).save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    texts = [*task.train["prompt"], *solutions(recipe, task, recipe.Noise())]
    assert [tokenizer.decode(ids, skip_special_tokens=True) for ids in tokenizer(texts)["input_ids"]] == texts
    assert max(map(len, tokenizer(task.train["prompt"][:])["input_ids"])) <= 16
    assert max(map(len, tokenizer(texts)["input_ids"])) < recipe.MAX_NEW_TOKENS


def test_careful_solutions_are_right_and_careless_ones_are_not_always(recipe, task):
    assert grades(recipe, task, recipe.Noise(wander=0, detour=0.5, slip=0)) == [1.0] * 50
    wandering = grades(recipe, task, recipe.Noise(wander=1, detour=0, slip=0))
    assert sum(score == 1 for score in wandering) < 10  # some questions cannot be got wrong
    assert 0.05 in wandering  # all the numbers, another target


def test_prompts_are_written_as_the_library_writes_them(recipe, task):
    words = recipe.wordings(task.train["prompt"])
    assert len(words) == 3
    for prompt, entry in zip(task.train["prompt"], task.train["entry"]):
        assert prompt in [recipe.write_prompt(wording, recipe.question_of(entry)) for wording in words]


def test_a_warm_up_solution_is_never_of_a_held_out_question(recipe):
    rng = random.Random(0)
    seen = [recipe.draw_question(rng, ()) for _ in range(200)]
    rng = random.Random(0)
    held_out = {question.key for question in seen[:100]}
    again = [recipe.draw_question(rng, held_out) for _ in range(100)]
    assert not held_out & {question.key for question in again}
    shuffled = recipe.Question(tuple(reversed(seen[0].numbers)), seen[0].target)
    assert shuffled.key in held_out
    low, high = recipe.TARGETS
    assert all(low <= question.target <= high for question in again)


def test_a_warm_up_runs_stops_goes_on_and_loads(recipe, monkeypatch, tmp_path, capsys):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    monkeypatch.setattr(recipe, "ROWS", {"train_size": 30, "test_size": 8})
    argv = ["--steps", "3", "--batch", "4", "--n", "8"]
    whole = recipe.main([str(tmp_path / "whole"), *argv])
    assert len(whole["losses"]) == 3
    assert whole["losses"][2] < whole["losses"][0]

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(recipe, "measure", killed)
        with pytest.raises(KeyboardInterrupt):
            recipe.main([str(tmp_path / "again"), *argv])
    with monkeypatch.context() as patch:
        patch.setattr(recipe, "collate", killed)  # no step is left to do
        again = recipe.main([str(tmp_path / "again"), *argv])
    assert again == whole

    model = AutoModelForCausalLM.from_pretrained(tmp_path / "again")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "again")
    assert model.get_input_embeddings().num_embeddings == len(tokenizer)
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert {path.suffix for path in (tmp_path / "again").iterdir()} == {".json", ".safetensors"}


def test_the_grid_is_of_this_task(recipe):
    grid = yaml.safe_load((EXAMPLES / "compare/countdown.yaml").read_text())
    assert grid["task"] == recipe.SPEC
    assert max(grid["n_sampled"], grid["n_greedy"]) == recipe.ROWS["test_size"]
    assert grid["train_size"] == recipe.ROWS["train_size"]


def test_a_held_out_question_that_is_drawn_twice_is_replaced():
    few = "reasoning-gym:countdown?min_numbers=2&max_numbers=2&max_value=9&min_target=2&max_target=18"
    task = load_task(f'{few}&operators=["+"]', train_size=20, test_size=60)  # of 243 questions
    assert len(set(task.test["prompt"])) == len(task.test) == 60
    assert not set(task.test["prompt"]) & set(task.train["prompt"])
