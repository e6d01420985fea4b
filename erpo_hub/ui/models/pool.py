"""Loaded models, few at a time, and the answers' grading. What a visitor may load is decided here.

May import traces.engine and train.grading, both on first use: the page opens before torch is imported.
"""

from __future__ import annotations

import copy
import json
import logging
import threading
from collections import OrderedDict
from collections.abc import Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any

from ...errors import UserError
from ...traces.trace import Trace
from ..library.labels import shortened
from ..library.library import EMBEDDED, Library
from .line import Line, Turn, Visitor
from .streaming import MODEL_ERRORS

if TYPE_CHECKING:
    from ...traces.engine import Engine

logger = logging.getLogger(__name__)
NOT_LISTED = "That model is not among the models that may be used here; take one of the list."
KEPT = 2  # loaded models: the two of a comparison


class Engines:
    """Engines by label of the library (or Hub id, where ids are open), loaded on demand."""

    def __init__(self, library: Library, given: Mapping[str, Any] | None = None):
        """given: engines that are there already; they stay."""
        self._library = library
        self._given = dict(given or {})
        self._loaded: OrderedDict[str, Engine] = OrderedDict()
        self._lock = threading.Lock()
        self._loading = threading.Lock()
        self._line, self._visitor = Line(library.limits.queue), Visitor()
        self._grading = threading.Lock()
        self._graders: list[Any] = []  # one at most, and shared with `listed`
        self._only_listed = library.limits.models is not None

    def seen_by(self, request: Any, *, owner: bool) -> Engines:
        """The same models, memory and line, as a request may use them: the owner any, others those listed."""
        same = copy.copy(self)
        same._visitor = Visitor() if owner or request is None else Visitor.of(request)
        same._only_listed = self._only_listed or not owner
        return same

    def turn(self, stopped: threading.Event | None = None) -> Turn:
        """A place in the line for the models, to be left. Raises TooMany (a UserError)."""
        return self._line.turn(self._visitor, stopped)

    def names(self) -> list[str]:
        """What the lists of models offer."""
        return [*self._given, *(name for name in self._library.models if name not in self._given)]

    def only_vocabulary(self) -> int | None:
        """The vocabulary's size, where only the embedded model may be used: it continues no other's text."""
        if not self._only_listed or self.names() != [EMBEDDED]:
            return None
        text = (resources.files("erpo_hub") / "tiny_reasoner" / "config.json").read_text(encoding="utf-8")
        return int(json.loads(text)["vocab_size"])

    def get(self, name: str | None) -> Engine:
        """The engine, loaded if need be. Raises UserError: not allowed, not found, does not load."""
        name = (name or "").strip()
        if name in self._given:
            return self._given[name]
        if not name:
            raise UserError("Choose a model first.")
        if name not in self._library.models and self._only_listed:
            raise UserError(NOT_LISTED)
        found = self._known(name)
        if found is not None:  # also while another one is being loaded
            return found
        with self._loading:
            found = self._known(name)
            if found is None:
                with self._lock:
                    while len(self._loaded) >= KEPT:
                        self._loaded.popitem(last=False)
                found = self._load(self._library.models.get(name, name))
                found.name = name  # what its traces say they come from, in place of a folder's name
                with self._lock:
                    self._loaded[name] = found
        return found

    def _known(self, name: str) -> Engine | None:
        with self._lock:
            if name in self._loaded:
                self._loaded.move_to_end(name)
            return self._loaded.get(name)

    def for_trace(self, trace: Trace, chosen: str | None) -> tuple[str, Engine]:
        """Name and engine that made the trace: the one of its name, else the chosen one. Raises UserError."""
        name = trace.model if trace.model in self.names() else (chosen or "")
        engine = self.get(name)
        try:
            engine.check(trace)
        except UserError:
            if name == trace.model:
                raise
            raise UserError(
                f"{shortened(trace.model)} wrote this solution and is not in the list of models, and {name}"
                f" has another vocabulary. Ask {name} a question, or choose another model: its answer can be"
                " forked."
            ) from None
        return name, engine

    def preload(self) -> None:
        """Loads what the lists offer, as many as are kept; one that does not load is left for later."""
        for name in self.names()[:KEPT]:
            try:
                self.get(name)
            except MODEL_ERRORS as error:
                logger.warning("%s does not load yet: %s", name, error)

    def is_loaded(self, name: str | None) -> bool:
        """Whether `get` returns at once."""
        return name in self._given or name in self._loaded

    def grade(self, trace: Trace, gold: str | None) -> Trace:
        """The trace with its answer and, where the right one is known, the verdict. Raises UserError."""
        from ...tasks.grading import read_answer

        self._library.limits.check_gold(gold)
        gold = (gold or "").strip() or None
        answer = read_answer(trace.completion, gold)
        if gold is None:
            return trace.replace(answer=answer)
        score = self.score(trace.completion, gold)
        return trace.replace(answer=answer, gold=gold, correct=None if score is None else score >= 1.0)

    def score(self, completion: str, gold: str) -> float | None:
        """The score of a completion; 0 without a right answer, None where it could not be graded."""
        from ...tasks.grading import Grader

        if not gold:
            return 0.0
        with self._lock:
            if not self._graders:
                self._graders.append(Grader("math"))
        with self._grading:
            return self._graders[0].grade([completion], [gold])[0]

    def close(self) -> None:
        """Ends the grading process."""
        for grader in self._graders:
            grader.close()

    @staticmethod
    def _load(name: str) -> Engine:
        from ...traces.engine import Engine

        return Engine.load(name)
