r"""One right and one wrong answer for every kind of notation that graders trip over.

(kind, a right completion, a wrong one, gold): the wrong one is what a reader of digits would accept.
"""

import pytest

from erpo_hub.tasks.forms import compound
from erpo_hub.tasks.grading import Grader
from erpo_hub.tasks.words import last_in_words, number_in_words

KINDS = [
    ("number in words", "Answer: eighteen dollars", "Answer: eighty dollars", "18"),
    ("share in words", r"\boxed{\text{two thirds}}", r"\boxed{\text{two}}", r"\frac{2}{3}"),
    ("word behind no mark", "He pays twenty-one dollars.", "No one pays.", "21"),
    ("labelled heading", "#### Total pay: 198", "#### Step 198: rest\nIt is 5.", "198"),
    ("sentence behind a mark", "Answer: Tina makes $990.", "Answer: Tina makes at least $990.", "990"),
    ("money over a time", "Tina earns $990 over 5 days.", "Tina earns $5 over 990 days.", "990"),
    ("table row", "| total | 990 |", "| 990 | total 9 |", "990"),
    ("excluded number", "The answer is not 3, it is 4.", "The answer is not 4.", "4"),
    ("said and corrected", "The answer is neither 9 nor 11 but 10.", "The answer cannot be 10.", "10"),
    ("continental point", r"The cost is €1.299,00", "The cost is €1.299,50", "1299"),
    ("two measures", "It costs 3 dollars and 50 cents.", "It costs 3 dollars and 5 cents.", "3.5"),
    ("braced sign", r"\boxed{{-}9}", r"\boxed{9}", "-9"),
    ("sign in words", r"\boxed{\text{minus }3}", r"\boxed{\text{3}}", "-3"),
    ("exact and rounded", r"\boxed{\frac{7}{12}\approx 0.583}",
     r"\boxed{\frac{7}{13}\approx 0.583}", r"\frac{7}{12}"),
    ("rounded in words", "The probability is 11/36, or about 30.6%.",
     "It is 11/35, or about 31.4%.", "11/36"),
    ("chance", "The probability is 1 in 6.", "The probability is 5 in 6.", r"\frac{1}{6}"),
    ("part of a number", "She got 8 out of 10.", "She got 10 out of 8.", "8"),
    ("mixed with and", r"\boxed{5 \text{ and } \frac{1}{4}}", r"\boxed{5, \frac{1}{4}}", r"5\frac{1}{4}"),
    ("other fractions", r"\boxed{\nicefrac{3}{4}}", r"\boxed{\nicefrac{4}{3}}", "0.75"),
    ("factor, no remark", r"\boxed{2(2^n-1)}", r"\boxed{2}", "2(2^n-1)"),
    ("factor in the answer", r"\boxed{2}", r"\boxed{2(2^n-1)}", "2"),
    ("list of equations", r"\boxed{-3}", "The solutions are $x = 2$ and $x = -3$.", "-3"),
    ("list after a colon", "Candidates: 4, 5. So 6", "Candidates: 4, 5, 6", "6"),
    ("list of three", "The possible values are 1, 2, and 4.", "The possible value is 4.", "1,2,4"),
    ("set and pair", r"\boxed{\{3,2\}}", r"\boxed{(2,3)}", r"\{2,3\}"),
    ("angle brackets", r"\boxed{\langle 1, 2\rangle}", r"\boxed{\langle 2, 1\rangle}", "(1,2)"),
    ("set builder", r"\boxed{\{x \mid -1 < x < 2\}}", r"\boxed{\{x \mid -1 < x \le 2\}}", "(-1,2)"),
    ("outward brackets", r"\boxed{]0,1[}", r"\boxed{]0,1]}", "(0,1)"),
    ("semicolon", r"\boxed{(-1;3]}", r"\boxed{(-1;3)}", "(-1,3]"),
    ("words for a set", r"\boxed{\text{All real numbers}}", r"\boxed{\text{All integers}}", r"\mathbb{R}"),
    ("no solution", r"\boxed{\text{no solution}}", r"\boxed{0}", r"\emptyset"),
    ("both signs", r"\boxed{\frac{1\pm\sqrt{5}}{2}}",
     r"\boxed{\frac{1+\sqrt{5}}{2}}", r"\frac12\pm\frac{\sqrt5}{2}"),
    ("choice in a sentence", "I would choose (B) since 12 > 10.", "I would not choose (B).", "B"),
    ("choice concluded", "We can rule out A and B, so D", "We can rule out A and D, so B", "D"),
    ("choice and value", r"\boxed{2015}", r"\boxed{(C) 2015}", r"\textbf{(D) }2015"),
    ("several choices", r"\boxed{\text{A, B, D}}", r"\boxed{\text{A, B}}", "ABD"),
    ("roman numerals", r"\boxed{\text{VI}}", r"\boxed{\text{IV}}", r"\text{VI}"),
    ("names in any order", r"\boxed{\text{Bob and Amy}}",
     r"\boxed{\text{Bob and Ann}}", r"\text{Amy and Bob}"),
    ("yes in a sentence", "The answer is yes, because 4 is even.",
     "The answer is no, because 3 is odd.", "Yes"),
    ("clock of 24 hours", r"\boxed{15:15}", r"\boxed{14:15}", r"3:15 \text{ p.m.}"),
    ("ratio of three", r"\boxed{2:4:6}", r"\boxed{1:3:2}", "1:2:3"),
    ("base in a sentence", "It is 321 in base 5.", "It is 321 in base 6.", "321_5"),
    ("base in brackets", r"\boxed{(101)_2}", r"\boxed{(101)_3}", "101_2"),
    ("power of ten in plain text", "The mass is 5.97 x 10^24 kg.", "The mass is 5.97 x 10^23 kg.", "5.97e24"),
    ("modulus", r"So the remainder is $3 \pmod{7}$.", r"So the remainder is $7 \pmod{3}$.", "3"),
    ("place of a minimum", "Hence the minimum is $-4$, at $x=2$.",
     "Hence the minimum is $2$, at $x=-4$.", "-4"),
    ("worked in words", "The answer is 2 times 3, that is 6.", "The answer is 6 times 3.", "6"),
    ("frame", r"\framebox{8}", r"\framebox{9}", "8"),
    ("layout", r"\boxed{\begin{aligned}7\end{aligned}}", r"\boxed{\begin{aligned}8\end{aligned}}", "7"),
    ("question as a heading", "\\boxed{2}\n\n# Question\n\\boxed{4}",
     "\\boxed{4}\n\n# Question\n\\boxed{2}", "2"),
    ("arrow", "Final answer -> 540", "Final answer -> 54", "540"),
    ("Japanese", "答えは24です。", "答えは42です。", "24"),
    ("Chinese choice", "故选B。", "故选C。", "B"),
    ("no mark in Chinese", "因此他每周跑540米。", "因此他每周跑54米。", "540"),
    ("Greek unit", r"\boxed{12\,\Omega}", r"\boxed{12\Omega_0}", "12"),
]  # fmt: skip


@pytest.fixture(scope="module")
def grader():
    with Grader() as grader:
        yield grader


@pytest.mark.parametrize(
    ("right", "wrong", "gold"), [row[1:] for row in KINDS], ids=[row[0] for row in KINDS]
)
def test_a_kind_of_answer(grader, right, wrong, gold):
    assert grader.grade([right, wrong], [gold] * 2) == [1.0, 0.0]


def test_numbers_in_words():
    assert [
        number_in_words(text)[0] for text in ("two hundred and five", "three million", "minus seven")
    ] == [*(205, 3_000_000, -7)]
    assert float(number_in_words("two and a half hours")[0]) == 2.5
    assert number_in_words("one of them") is None
    assert number_in_words("tenure") is None
    assert last_in_words("He had five, she has eleven cats.") == "eleven cats."


def test_two_measures_are_one_quantity_in_either():
    assert [float(number.value) for number in compound("2 hours 30 minutes")] == [2.5, 150.0]
    assert compound("5 males and 4 females") == []
