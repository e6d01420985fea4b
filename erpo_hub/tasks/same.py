"""Which of several completions of one question give the same answer, without knowing the right one."""

from __future__ import annotations

from .answers import extract_answer
from .grading import Grader
from .verdict import quick_verdict


class SameAnswer:
    r"""From a completion of one question to its answer, equal for those that the grader takes for equal.

    `0.5` and `\frac12` come out as whichever was seen first; None where no answer is stated. A scorer of
    reasoning-gym knows right and wrong only: there answers are the same where their text is.
    """

    def __init__(self, grader: Grader):
        self.grader = grader
        self._known: dict[str, str] = {}

    def __call__(self, text: str) -> str | None:
        answer = extract_answer(text)
        if answer is None:
            return text.strip() or None if self.grader.kind != "math" else None
        if answer not in self._known:
            firsts = dict.fromkeys(self._known.values())
            self._known[answer] = next((first for first in firsts if self._same(answer, first)), answer)
        return self._known[answer]

    def _same(self, one: str, other: str) -> bool:
        if self.grader.kind != "math":
            return one == other
        verdict = quick_verdict(one, other)
        if verdict is None:
            verdict = (self.grader.grade([one], [other])[0] or 0) >= 1
        return verdict
