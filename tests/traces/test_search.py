"""Searches against references of their own: full forward passes without a cache, and transformers' beams."""

import heapq
import math

import pytest
import torch

from erpo_hub.errors import UsageError, UserError
from erpo_hub.tasks.answers import extract_answer
from erpo_hub.traces.engine import Engine
from erpo_hub.traces.loading import EMBEDDED_MODEL
from erpo_hub.traces.search import STRATEGIES, Search, search_generate, search_prompts
from erpo_hub.traces.strategies import CHOICES

PROMPTS = ["3+4*2-1=", "7-2*3=", "2+3="]
LIMIT = 28


@pytest.fixture(scope="module")
def engine():
    return Engine.load(EMBEDDED_MODEL)


def look(engine, prompt, **settings):
    return engine.search(prompt, **{"answer": extract_answer, "max_new_tokens": LIMIT, **settings})


def together(engine, strategy, **settings):
    search = Search(strategy, max_new_tokens=LIMIT, **settings)
    prompts = [engine.encode(prompt) for prompt in PROMPTS]
    return search_prompts(
        engine.model, engine.tokenizer, prompts, search, pad=0, eos=sorted(engine.eos),
        answers=[extract_answer] * len(prompts), context=engine.context, batch_size=3,
    )  # fmt: skip


@torch.no_grad()
def logps(engine, ids):
    return engine.model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_greedy_and_a_beam_of_one_are_the_greedy_trace(engine, prompt):
    trace = engine.trace(prompt, temperature=0, max_new_tokens=LIMIT)
    for found in (look(engine, prompt, strategy="greedy"), look(engine, prompt, strategy="beam", width=1)):
        assert found.ids == trace.tokens
        assert found.text == trace.completion
        assert found.tokens == len(trace)
        assert math.log(found.probability) == pytest.approx(sum(trace.logprob), abs=1e-4)


@pytest.mark.parametrize("width", [2, 5])
def test_beams_are_transformers_and_are_counted_as_they_are_read(engine, width):
    ids = engine.encode(PROMPTS[0])
    made = engine.model.generate(
        input_ids=torch.tensor([ids]), num_beams=width, length_penalty=0.0, early_stopping=False,
        do_sample=False, max_new_tokens=LIMIT, num_return_sequences=width,
    )  # fmt: skip
    theirs = [row[: row.index(1) + 1] if 1 in row else row for row in made[:, len(ids) :].tolist()]
    rows_read = []
    hook = engine.model.register_forward_pre_hook(
        lambda module, args, kwargs: rows_read.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    found = look(engine, PROMPTS[0], strategy="beam", width=width, stop=False)
    hook.remove()
    best = sorted(found.branches, key=lambda branch: -branch.logprob)[:width]
    assert [branch.ids for branch in best] == theirs
    assert all(length == 1 for _, length in rows_read[1:])
    assert found.tokens == sum(rows for rows, _ in rows_read[1:]) + len(found.branches)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_forks_share_their_beginning_and_votes_share_nothing(engine, prompt):
    for strategy in ("pivots", "random"):
        found = look(engine, prompt, strategy=strategy, width=4, stop=False)
        prefixes = {tuple(b.ids[: t + 1]) for b in found.branches for t in range(len(b.ids))}
        assert found.tokens == len(prefixes)
    found = look(engine, prompt, strategy="votes", width=5, stop=False)
    assert found.tokens == sum(len(b.ids) for b in found.branches)
    assert len(found.branches) == 5


def test_a_fork_takes_the_second_choice_at_the_strongest_pivot(engine):
    trace = engine.trace(PROMPTS[0], temperature=0, max_new_tokens=LIMIT)
    at = max(trace.pivots, key=lambda t: trace.entropy[t])
    base, fork = look(engine, PROMPTS[0], strategy="pivots", width=1, stop=False).branches
    assert base.ids == trace.tokens
    assert fork.ids[: at + 1] == [*trace.tokens[:at], trace.topk_ids[at][1]]
    made = list(fork.ids[: at + 1])
    while made[-1] != 1 and len(made) < LIMIT:
        made.append(int(logps(engine, trace.prompt_tokens + made).argmax()))
    assert fork.ids == made
    assert fork.logprob == pytest.approx(sum(engine.score(PROMPTS[0], made).logprob), abs=1e-4)


def best_first(engine, prompt, width, certain):
    """(finished branches in order, tokens) without a cache, a forward pass over everything for each token."""
    prefix, ended, put, queue = engine.encode(prompt), [], set(), [(0.0, [])]
    while queue and len(ended) < width:
        cost, ids = heapq.heappop(queue)
        put.add(tuple(ids))
        if ids and (ids[-1] in engine.eos or len(ids) == LIMIT):
            ended.append(ids)
            continue
        top = logps(engine, prefix + ids).topk(CHOICES)
        options = list(zip(top.indices.tolist(), top.values.tolist()))
        if options[0][1] >= math.log(certain):
            heapq.heappush(queue, (-math.inf, [*ids, options[0][0]]))  # nothing to weigh: goes on at once
            queue[0] = (cost - options[0][1], queue[0][1])
        else:
            for token, logp in options:
                heapq.heappush(queue, (cost - logp, [*ids, token]))
    return ended, len(put) - 1  # the empty one is the prompt


@pytest.mark.parametrize("certain", [0.9, 1.0])
def test_best_first_goes_through_branches_by_their_probability(engine, certain):
    for prompt in PROMPTS[:2]:
        found = look(engine, prompt, strategy="best-first", width=3, certain=certain, stop=False)
        ended, tokens = best_first(engine, prompt, 3, certain)
        assert [b.ids for b in found.branches] == ended
        assert found.tokens == tokens


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_questions_do_not_depend_on_each_other_and_come_out_the_same_twice(engine, strategy):
    twice = [together(engine, strategy, width=4) for _ in range(2)]
    assert twice[0] == twice[1]
    if strategy not in ("votes", "random"):  # whose random numbers go by the number of the question
        alone = [look(engine, prompt, strategy=strategy, width=4) for prompt in PROMPTS]
        assert [(f.ids, f.tokens, f.answers) for f in alone] == [
            (f.ids, f.tokens, f.answers) for f in twice[0]
        ]
    else:
        other = together(engine, strategy, width=4, seed=1)
        assert [f.branches for f in other] != [f.branches for f in twice[0]]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_stop_saves_tokens_and_changes_no_answer(engine, strategy):
    stopped, full = (together(engine, strategy, width=5, stop=stop) for stop in (True, False))
    assert [f.answer for f in stopped] == [f.answer for f in full]
    assert all(a.tokens <= b.tokens for a, b in zip(stopped, full))
    if strategy in ("beam", "votes"):
        assert any(a.settled and a.tokens < b.tokens for a, b in zip(stopped, full))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_completion_that_never_ends_is_cut(engine, strategy):
    endless = Engine(engine.model, engine.tokenizer)
    endless.eos = set()
    found = endless.search(PROMPTS[0], strategy=strategy, width=3, max_new_tokens=12, stop=False)
    assert found.branches
    assert all(len(b.ids) == 12 and not b.ended for b in found.branches)
    assert found.tokens <= (3 + 1) * 12


def test_an_answer_is_the_mass_of_its_branches_and_is_withheld_below_a_threshold(engine):
    found = look(engine, PROMPTS[0], strategy="beam", width=6, stop=False)
    by_answer = {
        answer: sum(math.exp(b.logprob) for b, a in zip(found.branches, found.answers) if a == answer)
        for answer in set(found.answers) - {None}
    }
    assert found.mass == pytest.approx(max(by_answer.values()))
    assert by_answer[found.answer] == max(by_answer.values())
    assert not found.abstained
    withheld = [
        look(engine, PROMPTS[0], strategy="beam", width=6, **{name: value}).abstained
        for name in ("min_mass", "min_probability")
        for value in (0.0, 1e-4, 0.9, 1.0)
    ]
    assert withheld == [False, False, True, True] * 2


def padded(engine, prompts):
    rows = [engine.encode(prompt) for prompt in prompts]
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
    return {"input_ids": ids, "attention_mask": (ids != 0).long()}


@pytest.mark.parametrize("strategy", ["beam", "best-first"])
def test_it_goes_into_transformers_generate(engine, strategy):
    inputs = padded(engine, PROMPTS[:3])
    out = engine.model.generate(
        **inputs, custom_generate=search_generate, search=Search(strategy, 3), max_new_tokens=LIMIT
    )
    assert torch.equal(out[:, : inputs["input_ids"].shape[1]], inputs["input_ids"])
    for row, prompt in zip(out[:, inputs["input_ids"].shape[1] :].tolist(), PROMPTS):
        ids = engine.search(prompt, strategy=strategy, width=3, max_new_tokens=LIMIT).ids
        assert row == ids + [0] * (len(row) - len(ids))
    told = engine.model.generate(
        **inputs, custom_generate=search_generate, max_new_tokens=LIMIT, return_dict_in_generate=True,
        answer=lambda ids: extract_answer(engine.tokenizer.decode(ids, skip_special_tokens=True)),
    )  # fmt: skip
    text = engine.tokenizer.decode(told.sequences[0, -20:], skip_special_tokens=True)
    assert text.endswith(look(engine, PROMPTS[0]).text)


@pytest.mark.parametrize("setting", [{"repetition_penalty": 1.2}, {"num_beams": 2}, {"max_time": 5.0}])
def test_generate_is_told_what_a_search_cannot_honor(engine, setting):
    with pytest.raises(UserError, match="leave out"):
        engine.model.generate(
            **padded(engine, PROMPTS[:1]), custom_generate=search_generate, max_new_tokens=4, **setting
        )


@pytest.mark.parametrize(
    "wrong",
    [{"strategy": "bream"}, {"width": 0}, {"max_new_tokens": 0}, {"temperature": 0}, {"certain": 1.5},
     {"min_mass": -0.1}, {"min_probability": float("nan")}, {"width": 10**9}],
)  # fmt: skip
def test_what_cannot_work_is_said_in_one_line(engine, wrong):
    with pytest.raises(UsageError) as caught:
        engine.search(PROMPTS[0], **wrong)
    assert "\n" not in str(caught.value)
    assert next(iter(wrong)) in str(caught.value)


def test_a_prompt_that_fills_the_context_and_broken_weights_are_said(engine):
    with pytest.raises(UserError, match="shorten it"):
        engine.search("1+" * 200 + "1=")
    broken = Engine.load(EMBEDDED_MODEL)
    with torch.no_grad():
        broken.model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(UserError, match="not finite"):
        broken.search(PROMPTS[0])
