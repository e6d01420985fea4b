"""The builtin expressions: right by Python's own arithmetic, split without leaks, seeded."""

import random
import subprocess
import sys
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erpo_hub.tasks.expressions import (
    ExpressionOptions,
    TraceNoise,
    canonical,
    draw,
    is_test,
    noisy_trace,
    prompts,
    reduce_at,
    rewrite,
    solution,
    tokens,
)

EXPRESSIONS = st.builds(
    lambda numbers, signs: numbers[0] + "".join(s + n for s, n in zip(signs, numbers[1:])) + "=",
    st.lists(st.integers(1, 30).map(str), min_size=2, max_size=8),
    st.lists(st.sampled_from("+-*"), min_size=7, max_size=7),
)


def value(prompt):
    return eval(prompt.removesuffix("="))


def test_the_example_of_the_docstring():
    assert solution("3+4*2-1=") == ["3+8-1", "11-1", "10"]


@given(EXPRESSIONS)
def test_every_line_has_the_value_of_the_prompt(prompt):
    lines = solution(prompt)
    assert len(lines) == len(tokens(prompt.removesuffix("="))) // 2
    assert {value(line) for line in lines} == {value(prompt)}
    assert lines[-1] == str(value(prompt))


@given(EXPRESSIONS, st.integers(0, 5))
def test_rewrite_keeps_answer_and_split(prompt, seed):
    other = rewrite(prompt, seed)
    assert value(other) == value(prompt)
    assert canonical(other) == canonical(prompt)
    assert is_test(other) == is_test(prompt)
    assert sorted(c for c in other if c.isdigit()) == sorted(c for c in prompt if c.isdigit())
    assert other == rewrite(prompt, seed)


def test_rewrite_changes_what_can_be_changed():
    assert rewrite("3+4*2-1=") != "3+4*2-1="
    assert rewrite("3-4=") == "3-4="


@given(EXPRESSIONS, st.integers(0, 1000))
def test_a_careless_trace_is_well_formed(prompt, seed):
    lines = noisy_trace(prompt, random.Random(seed))
    assert lines == noisy_trace(prompt, random.Random(seed))
    sizes = [len(tokens(line)) for line in lines]
    assert all(a - b in (0, 2) for a, b in zip(sizes, sizes[1:]))
    assert sizes[-1] == 1
    assert all("".join(tokens(line)) == line for line in lines)


@given(EXPRESSIONS)
def test_without_noise_a_trace_is_the_solution(prompt):
    assert noisy_trace(prompt, random.Random(0), TraceNoise(0, 0, 0)) == solution(prompt)


def test_each_kind_of_noise_does_what_it_says():
    rng, questions = random.Random(0), list(islice(prompts(ExpressionOptions(4), "train"), 1500))

    def right(noise):
        traces = [noisy_trace(q, rng, noise) for q in questions]
        return traces, sum(t[-1] == solution(q)[-1] for t, q in zip(traces, questions)) / len(questions)

    repeated, accuracy = right(TraceNoise(0, 0.25, 0))
    assert accuracy == 1
    copies = sum(a == b for q, t in zip(questions, repeated) for a, b in zip([q[:-1], *t], t))
    assert 0.2 < copies / (3 * len(questions)) < 0.3
    assert 0.86 < right(TraceNoise(0, 0, 0.03))[1] < 0.95
    assert 0.5 < right(TraceNoise(0.35, 0, 0))[1] < 0.75
    assert right(TraceNoise(1, 0, 0))[1] < 0.4


@pytest.mark.parametrize("operands", [2, 3, 4, 5])
def test_splits_are_disjoint_up_to_order_and_distinct(operands):
    options = ExpressionOptions(operands)
    train = list(islice(prompts(options, "train"), 2000))
    test = list(islice(prompts(options, "test"), 300))
    assert len(set(train)) == len(train)
    assert len(set(test)) == len(test)
    assert not {canonical(p) for p in train} & {canonical(p) for p in test}
    assert all(len(tokens(p.removesuffix("="))) == 2 * operands - 1 for p in train + test)
    assert all(abs(int(n)) <= 99 for p in train for line in solution(p) for n in tokens(line)[::2])


def test_a_small_space_is_used_up_and_ends():
    everything = [*prompts(ExpressionOptions(2), "train"), *prompts(ExpressionOptions(2), "test")]
    assert len(everything) == len(set(everything)) == 9 * 9 * 3


def test_seeds_are_stable_across_processes():
    code = (
        "from itertools import islice; from erpo_hub.tasks.expressions import *;"
        "print(list(islice(prompts(ExpressionOptions(4), 'test', 3), 20)))"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert there.strip() == str(list(islice(prompts(ExpressionOptions(4), "test", 3), 20)))
    assert list(islice(prompts(ExpressionOptions(4), "test", 4), 20)) != eval(there)


def test_values_too_large_are_not_drawn():
    rng, options = random.Random(0), ExpressionOptions(4, max_operand=9, max_value=20)
    drawn = [draw(rng, options) for _ in range(300)]
    assert None in drawn
    assert all(abs(value(p)) <= 20 for p in drawn if p)


def test_reduce_at_handles_negative_numbers():
    assert tokens("-5+3") == ["-5", "+", "3"]
    assert tokens("2*-2+1") == ["2", "*", "-2", "+", "1"]
    assert tokens("3--2") == ["3", "-", "-2"]
    assert reduce_at(tokens("3--2"), 1) == ["5"]


@pytest.mark.parametrize("wrong", [{"operands": 1}, {"operands": 9}, {"max_operand": 1}, {"max_value": 3}])
def test_options_out_of_range(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ExpressionOptions(**wrong)
