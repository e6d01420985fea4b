"""Answers told apart without knowing the right one."""

from erpo_hub.tasks.grading import Grader
from erpo_hub.tasks.same import SameAnswer


def test_what_the_grader_takes_for_equal_is_one_answer():
    with Grader("math", workers=1) as grader:
        same = SameAnswer(grader)
        assert same("so it is \\boxed{0.5}") == "0.5"
        assert same("\\boxed{\\frac{1}{2}}") == "0.5"
        assert same("#### 7") == "7"
        assert same("The answer is 0.50.") == "0.5"
        assert same("\\boxed{\\frac{\\sqrt{2}}{2}}") == same("\\boxed{2^{-1/2}}")  # only mathematics can tell
        assert same("<think> 0.5") is None
        assert same("") is None
