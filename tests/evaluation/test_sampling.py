"""`evaluate` on a tiny random model: repeatable, resumable, exact in its entropies, no side effects."""

import json
from dataclasses import dataclass

import pytest
import torch
from datasets import Dataset
from tiny_models import save_tiny_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from erpo_hub.errors import UsageError, UserError
from erpo_hub.evaluation import sampling
from erpo_hub.evaluation.results import Evaluation, QuestionLog, check_question
from erpo_hub.evaluation.sampling import evaluate, evaluate_robustness
from erpo_hub.record.format import Summary, read_as
from erpo_hub.text import percent

CHARACTERS = "0123456789+-*=\n"


@dataclass(frozen=True)
class ToyTask:
    spec: str
    source: str
    test: Dataset
    grader: str = "math"


class ToyGrader:
    """Right when the characters add up to the parity the answer asks for; a sixth of the answers time out."""

    def __init__(self):
        self.timeouts = self.graded = 0

    def failures(self):
        return {"timeouts": self.timeouts, "errors": 0, "crashes": 0}

    def grade(self, completions, answers, **columns):
        assert all(len(values) == len(completions) for values in columns.values())
        scores = []
        for completion, answer in zip(completions, answers):
            self.graded += 1
            late = sum(map(ord, completion)) % 6 == 5
            self.timeouts += late
            scores.append(0.0 if late else float(sum(map(ord, completion)) % 2 == int(answer) % 2))
        return scores


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("model"), alphabet=CHARACTERS)


@pytest.fixture(scope="module")
def tokenizer(folder):
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture
def model(folder):
    return AutoModelForCausalLM.from_pretrained(folder)


@pytest.fixture(scope="module")
def task():
    prompts = ["1+2=", "3*4-1=", "9=", "2+2+2+2=", "7-1=", "8*8=", "5+0-3="]
    rows = {"prompt": prompts, "answer": [str(i) for i in range(7)], "entry": ["x"] * 7}
    return ToyTask("toy:expressions", "builtin", Dataset.from_dict(rows))


def run(model, tokenizer, task, **settings):
    defaults = {"k": 3, "temperature": 1.0, "max_new_tokens": 8, "batch_size": 4, "grader": ToyGrader()}
    return evaluate(model, task, tokenizer=tokenizer, **{**defaults, **settings})


def test_questions_hold_k_completions_in_the_tasks_order(model, tokenizer, task):
    result = run(model, tokenizer, task)
    assert [q["prompt"] for q in result.questions] == task.test["prompt"]
    for question in result.questions:
        for column in ("completions", "scores", "correct", "lengths", "truncated", "entropies", "pivots"):
            assert len(question[column]) == 3
        for length, cut, text in zip(question["lengths"], question["truncated"], question["completions"]):
            assert 1 <= length <= 8
            assert not cut or length == 8  # truncated: eight tokens without an end
            assert len(text) <= length - (not cut)  # the end token counts, and is not shown
    assert any(not all(q["truncated"]) for q in result.questions)
    assert result.prompt_example == tokenizer.decode(tokenizer(task.test["prompt"][0])["input_ids"])


def test_summary_has_the_agreed_keys_and_adds_up(model, tokenizer, task):
    result = run(model, tokenizer, task)
    summary = result.summary()
    agreed = {
        "accuracy", "correct", "n", "k", "interval", "temperature", "top_p", "max_new_tokens", "mean_length",
        "median_length", "truncated", "mean_entropy", "pivot_entropy", "grader_timeouts",
        "grader_errors", "grader_crashes", "pass_at_k",
        "per_question",
    }  # fmt: skip
    assert agreed <= set(summary)
    right = sum(sum(q["correct"]) for q in result.questions)
    assert summary["correct"] == right
    assert summary["accuracy"] == pytest.approx(right / 21) == pytest.approx(sum(summary["per_question"]) / 7)
    assert summary["pass_at_k"]["1"] == pytest.approx(summary["accuracy"])
    assert summary["pass_at_k"]["3"] == pytest.approx(sum(any(q["correct"]) for q in result.questions) / 7)
    assert summary["pivot_entropy"] > summary["mean_entropy"] > 0
    json.dumps(summary)


@pytest.mark.parametrize("temperature", [0.7, 1.0, 0.0])
def test_entropy_is_that_of_a_plain_forward_pass(model, tokenizer, task, temperature):
    result = run(model, tokenizer, task, k=1, temperature=temperature, batch_size=7)
    checked = 0
    for question in result.questions:
        prompt = tokenizer(question["prompt"])["input_ids"]
        ids = tokenizer(question["completions"][0])["input_ids"]
        ids = ids if question["truncated"][0] else [*ids, tokenizer.eos_token_id]
        if len(ids) != question["lengths"][0]:
            continue  # a special token in the middle is not in the text
        with torch.no_grad():
            logits = model(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1]
        expected = torch.distributions.Categorical(logits=logits / (temperature or 1.0)).entropy().mean()
        assert question["entropies"][0] == pytest.approx(expected.item(), abs=1e-5)
        checked += 1
    assert checked >= 3


def test_same_seed_same_result_other_seed_another(model, tokenizer, task):
    first = run(model, tokenizer, task)
    torch.manual_seed(123)
    assert run(model, tokenizer, task).questions == first.questions
    assert run(model, tokenizer, task, seed=1).questions != first.questions
    drawn = [text for q in first.questions for text in q["completions"]]
    assert len(set(drawn)) > 7  # the batches do not repeat one another


def test_answers_depend_neither_on_the_batch_nor_on_the_other_questions(model, tokenizer, task, tmp_path):
    for how in ({"k": 1, "temperature": 0.0}, {}):
        wide, narrow, fewer = (
            [q["completions"] for q in run(model, tokenizer, task, **how, **x).questions]
            for x in ({"batch_size": None}, {"batch_size": 1}, {"n": 3})
        )
        assert wide == narrow
        assert wide[:3] == fewer
    begun = run(model, tokenizer, task, batch_size=4, resume_path=tmp_path / "questions.jsonl")
    again = run(model, tokenizer, task, batch_size=21, resume_path=tmp_path / "questions.jsonl")
    assert again.questions == begun.questions


def test_a_graders_error_is_not_lost_beside(model, tokenizer, task):
    class Broken(ToyGrader):
        def grade(self, completions, answers, **columns):
            raise UserError("the grader is broken")

    with pytest.raises(UserError, match="is broken"):
        run(model, tokenizer, task, grader=Broken())


def test_training_does_not_notice(model, tokenizer, task):
    model.train()
    model.model.layers[0].eval()  # somebody's frozen part
    model.config.use_cache = False
    model.generation_config.top_k = 1
    config, side = model.generation_config, tokenizer.padding_side
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    sampled = run(model, tokenizer, task)
    assert torch.equal(torch.rand(3), expected)
    assert model.training
    assert not model.model.layers[0].training
    assert model.model.layers[1].training
    assert model.config.use_cache is False
    assert model.generation_config is config
    assert tokenizer.padding_side == side
    assert not model._forward_hooks
    # ... and the model's own top_k = 1 did not make the sampling greedy
    assert any(len(set(q["completions"])) > 1 for q in sampled.questions)


def test_a_killed_evaluation_goes_on_to_the_same_result(model, tokenizer, task, tmp_path, monkeypatch):
    whole = run(model, tokenizer, task)
    path = tmp_path / "questions.jsonl"
    real, calls = sampling.in_memory, []

    def killed(*args, **kwargs):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(1)
        return real(*args, **kwargs)

    monkeypatch.setattr(sampling, "in_memory", killed)
    with pytest.raises(KeyboardInterrupt):
        run(model, tokenizer, task, resume_path=path)
    monkeypatch.setattr(sampling, "in_memory", real)
    with path.open("a") as file:
        file.write('{"index": 6, "prompt": "5+')  # the line it was writing

    grader = ToyGrader()
    resumed = run(model, tokenizer, task, resume_path=path, grader=grader)
    assert resumed.questions == whole.questions
    assert resumed.grader_timeouts == whole.grader_timeouts > 0
    assert 0 < grader.graded < 21  # the first batches were not graded again
    again = ToyGrader()
    assert run(model, tokenizer, task, resume_path=path, grader=again).questions == whole.questions
    assert again.graded == 0
    assert len(path.read_text().splitlines()) >= 8


def test_a_full_disk_is_one_line_and_the_evaluation_goes_on(model, tokenizer, task, tmp_path, monkeypatch):
    path, add = tmp_path / "questions.jsonl", QuestionLog.add

    def fills(log, *records):
        add(log, *records)
        log._file = open("/dev/full", "w")  # noqa: SIM115 the log closes it

    with monkeypatch.context() as patched:
        patched.setattr(QuestionLog, "add", fills)
        with pytest.raises(UserError, match="No space left.*are kept: make room, then the same command goes"):
            run(model, tokenizer, task, resume_path=path)
    assert len(path.read_text().splitlines()) > 1
    assert run(model, tokenizer, task, resume_path=path).questions == run(model, tokenizer, task).questions


@pytest.mark.parametrize("change", ["settings", "weights", "questions"])
def test_another_evaluations_file_is_refused(model, tokenizer, task, tmp_path, change):
    path = tmp_path / "questions.jsonl"
    run(model, tokenizer, task, resume_path=path)
    settings = {"temperature": 0.5} if change == "settings" else {}
    if change == "weights":
        with torch.no_grad():
            model.model.layers[0].mlp.up_proj.weight += 1e-3
    if change == "questions":
        task = ToyTask(task.spec, "builtin", task.test.select(range(6, -1, -1)))
    with pytest.raises(UserError, match="belongs to another evaluation"):
        run(model, tokenizer, task, resume_path=path, **settings)


def test_a_file_of_something_else_is_not_overwritten(model, tokenizer, task, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("my notes\nare here\n")
    with pytest.raises(UserError, match="line 1"):
        run(model, tokenizer, task, resume_path=path)
    assert path.read_text() == "my notes\nare here\n"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k": 0}, "k=0"),
        ({"k": 2, "temperature": 0.0}, "one completion 2 times"),
        ({"temperature": -1.0}, "temperature=-1.0"),
        ({"top_p": 0.0}, "top_p=0.0"),
        ({"batch_size": 0}, "batch_size=0"),
    ],
)
def test_impossible_settings_are_refused(model, tokenizer, task, settings, message):
    with pytest.raises(UsageError, match=message):
        run(model, tokenizer, task, **settings)


def test_more_questions_than_there_are(model, tokenizer, task):
    with pytest.raises(UserError, match="7 held-out questions, not 8"):
        run(model, tokenizer, task, n=8)
    assert len(run(model, tokenizer, task, n=2).questions) == 2


def test_broken_weights_are_named_and_not_scored(model, tokenizer, task):
    with torch.no_grad():
        model.lm_head.weight[3] = float("nan")
    with pytest.raises(UserError, match="not finite"):
        run(model, tokenizer, task, k=1, temperature=0.0)
    assert not model._forward_hooks


def test_completions_stay_inside_the_context(model, tokenizer, task):
    assert run(model, tokenizer, task, k=1, max_new_tokens=600).settings["max_new_tokens"] == 512 - 8
    long = ToyTask("long", "file", Dataset.from_dict({"prompt": ["1" * 512], "answer": ["1"]}))
    with pytest.raises(UserError, match="context only 512"):
        run(model, tokenizer, long)


def test_chat_prompts_go_through_the_template(model, tokenizer):
    chat = [[{"role": "user", "content": "1+1="}], [{"role": "user", "content": "2*3="}]]
    task = ToyTask("chat", "file", Dataset.from_dict({"prompt": chat, "answer": ["2", "6"]}))
    with pytest.raises(UserError, match="no chat template"):
        run(model, tokenizer, task)
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}*"
    try:
        assert run(model, tokenizer, task).prompt_example == "1+1=*"
    finally:
        tokenizer.chat_template = None


def test_robustness_by_temperature_and_by_another_order(model, tokenizer, task):
    settings = {"max_new_tokens": 8, "batch_size": 8, "k": 2, "grader": ToyGrader()}
    got = evaluate_robustness(model, task, (0.0, 1.0), tokenizer=tokenizer, **settings)
    assert [(s["temperature"], s["k"]) for s in got["temperatures"]] == [(0.0, 1), (1.0, 2)]
    rewritten = got["rewrites"]
    assert rewritten["changed"] >= 3
    assert 0 <= rewritten["consistent"] <= 1
    shift = rewritten["summary"]["accuracy"] - got["temperatures"][0]["accuracy"]
    assert rewritten["comparison"]["difference"] == pytest.approx(shift)


def test_robustness_goes_on_where_it_stopped(model, tokenizer, task, tmp_path, monkeypatch):
    settings = {"max_new_tokens": 8, "batch_size": 8, "grader": ToyGrader(), "tokenizer": tokenizer}
    whole = evaluate_robustness(model, task, (0.0, 1.0), **settings)
    real, batches = sampling.in_memory, []

    def until_the_third(*args):
        batches.append(args)
        if len(batches) == 3:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(sampling, "in_memory", until_the_third)
    with pytest.raises(KeyboardInterrupt):  # one batch a condition: in the rewritten questions
        evaluate_robustness(model, task, (0.0, 1.0), resume_dir=tmp_path, **settings)
    assert evaluate_robustness(model, task, (0.0, 1.0), resume_dir=tmp_path, **settings) == whole
    assert len(batches) == 4

    greedy = evaluate(model, task, temperature=0.0, **settings)
    assert evaluate_robustness(model, task, (0.0, 1.0), known=greedy, **settings) == whole
    assert len(batches) == 4 + 1 + 2


def test_results_survive_the_file_and_feed_the_card(model, tokenizer, task, tmp_path):
    result = run(model, tokenizer, task)
    path = result.to_json(tmp_path / "results.json")
    assert Evaluation.from_json(path) == result
    assert json.loads(path.read_text())["summary"]["n"] == 7
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]
    with pytest.raises(UserError, match="not an evaluation"):
        Evaluation.from_json(tmp_path / "missing.json")

    summary = result.summary()
    assert f"accuracy   {percent(summary['accuracy'])}" in result.table()
    assert result.lighteval()["results"]["all"]["avg@3"] == summary["accuracy"]
    assert read_as(Summary, summary).mean_score == summary["mean_score"], "what the record and the card take"


def test_bar_is_silent_without_a_terminal(model, tokenizer, task, capfd):
    run(model, tokenizer, task, progress=True)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "refusal",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),  # Windows
        RuntimeError("MPS backend out of memory (MPS allocated: 9.0 GB, max allowed: 9.1 GB)"),
    ],
)
def test_a_batch_that_does_not_fit_is_drawn_in_two_halves_once(monkeypatch, capsys, refusal):
    from erpo_hub.evaluation import generation

    sizes = []

    def fits(at_most):
        def draw(model, prompts, decoding, seed):
            sizes.append(len(prompts))
            if len(prompts) > at_most:
                raise refusal
            return [generation.Completion(ids, [], False, []) for ids in prompts]

        return draw

    decoding = generation.Decoding(0.0, 1.0, 4, 0, (1,))
    monkeypatch.setattr(generation, "generate_completions", fits(3))
    drawn = generation.in_memory(None, [[n] for n in range(5)], decoding, [0] * 5)
    assert [c.ids for c in drawn] == [[0], [1], [2], [3], [4]]
    assert sizes == [5, 3, 2]
    assert capsys.readouterr().err == "out of memory with 5 completions at once: drawing 3\n"
    monkeypatch.setattr(generation, "generate_completions", fits(2))
    with pytest.raises(UserError, match="out of memory with 3 completions at once too: give a smaller"):
        generation.in_memory(None, [[n] for n in range(5)], decoding, [0] * 5)


def test_two_models_together_are_drawn_in_halves_too(model, tokenizer, monkeypatch):
    from erpo_hub.evaluation import lockstep
    from erpo_hub.evaluation.generation import Decoding

    prompts = tokenizer(["1+2=", "9=", "7-1="])["input_ids"]
    decoding = Decoding(0.0, 1.0, 6, tokenizer.pad_token_id, (tokenizer.eos_token_id,))
    whole = lockstep.walk(model, model, prompts, decoding)
    real = lockstep._batch

    def narrow(models, texts, begun, decoding):
        if len(texts) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(models, texts, begun, decoding)

    monkeypatch.setattr(lockstep, "_batch", narrow)
    assert [w.ids for w in lockstep.walk(model, model, prompts, decoding)] == [w.ids for w in whole]


@pytest.mark.parametrize("text", [b"my notes", b"[" * 100_000 + b"\n", b"[]\n", b'{"evaluation": []}\n'])
def test_a_file_that_is_no_log_is_refused_and_left_as_it_was(tmp_path, text):
    path = tmp_path / "questions.jsonl"
    path.write_bytes(text)
    with pytest.raises(UserError, match="questions.jsonl"):
        QuestionLog(path, {"evaluation": {"k": 1}})
    assert path.read_bytes() == text


@pytest.mark.parametrize(
    "change",
    [
        *({"correct": []}, {"lengths": ["x"]}, {"scores": None}, {"index": []}, {"entropies": [[]]}),
        *({"lengths": [10**400]}, {"pivots": [-(10**400)]}, {"index": 10**400}, {"scores": [10**400]}),
        *({"entropies": [float("inf")]}, {"pivot_entropies": [1e308]}),
    ],
)
def test_a_question_with_wrong_values_is_refused(tmp_path, change):
    lists = {"completions": ["5"], "scores": [1.0], "correct": [True], "lengths": [2], "truncated": [False]}
    lists |= {"entropies": [0.1], "pivots": [0], "pivot_entropies": [None]}
    check_question({"index": 0, "prompt": "2+3=", "answer": "5", **lists}, 1)
    with pytest.raises((ValueError, KeyError, TypeError)):
        check_question({"index": 0, "prompt": "2+3=", "answer": "5", **lists, **change}, 1)
