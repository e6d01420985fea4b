"""Chat templates are a stranger's programs: they are rendered in a process that the kernel ends or starves.

Jinja's sandbox lets no template out, but loops within loops, 'a' * 10**9 and macros that call themselves take
any time and memory. A template of one loop over the messages without arithmetic can't, and is rendered here.
Otherwise one process serves this one as long as it lives. It answers in JSON and is believed nothing more.
"""

from __future__ import annotations

import atexit
import json
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

from ..children import child_environment
from ..errors import UserError

SECONDS, SECONDS_A_PROMPT = 5.0, 0.02  # of CPU time for the prompts of one call
WALL, START = 60.0, 120.0  # seconds by the clock, where the kernel counts no CPU time, and to start
MEMORY = 1 << 30  # bytes, beside what the process has when it starts
LONGEST, IN_ALL = 2_000_000, 200_000_000  # characters of a prompt, and of those of one call
MOST_PLAIN = 20_000  # characters of a template that is looked into
MOST_WORK = 1_000_000_000  # its length times that of what it is given, for each message: a second
_PLAIN_NODES = {
    *("Template", "Output", "TemplateData", "If", "Name", "Const", "Getattr", "Getitem", "Compare"),
    *("Operand", "And", "Or", "Not", "Add", "Concat", "CondExpr", "Test", "For", "Slice"),
}


@lru_cache(maxsize=64)
def is_plain(template: str) -> bool:
    """Whether a template's cost is its own length times that of the messages, by what it is made of."""
    import jinja2
    from jinja2 import nodes

    if len(template) > MOST_PLAIN:
        return False
    try:
        tree = jinja2.Environment().parse(template)  # noqa: S701 nothing is rendered with it
    except (jinja2.TemplateError, RecursionError):
        return False

    def plain(node: nodes.Node, inside: bool) -> bool:
        if type(node).__name__ not in _PLAIN_NODES:
            return False
        if isinstance(node, nodes.For):
            over_messages = isinstance(node.iter, nodes.Name) and node.iter.name == "messages"
            if inside or node.recursive or not over_messages:
                return False
            inside = True
        return all(plain(child, inside) for child in node.iter_child_nodes())

    try:
        return plain(tree, False)
    except RecursionError:
        return False


def is_jinja(tokenizer: Any) -> bool:
    """Whether its chats go through the library's own method: not those of a processor or of Mistral's."""
    from transformers import PreTrainedTokenizerBase

    own = getattr(type(tokenizer), "apply_chat_template", None)
    return own is PreTrainedTokenizerBase.apply_chat_template


def render(tokenizer: Any, conversations: list[Any], variables: Mapping[str, Any]) -> list[str]:
    """The text of each conversation, as the tokenizer's own `apply_chat_template` gives it.

    Raises UserError for a template that takes too much, and ValueError for what it refuses.
    """
    template = tokenizer.get_chat_template()
    special, variables = dict(tokenizer.special_tokens_map), dict(variables)
    call = (template, special, conversations, variables)
    sent = pickle.dumps(call)
    # A template may name each thing often, and a stranger's special tokens and settings for each prompt.
    given = len(sent) + len(pickle.dumps((special, variables))) * len(conversations)
    work = len(template) * given * max(map(len, conversations), default=0)
    if work <= MOST_WORK and is_plain(template):
        return _apply(*call)
    return _server.ask(sent, len(conversations))


def _apply(
    template: str, special: dict[str, Any], conversations: list[Any], variables: dict[str, Any]
) -> list[str]:
    """The library's method on what it needs of a tokenizer, so that all of what it does beside is done."""
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

    shell: Any = SimpleNamespace(get_chat_template=lambda *_: template, special_tokens_map=special)
    given: dict[str, Any] = {"tokenize": False, "add_generation_prompt": True}
    if odd := sorted(variables.keys() & {*given, "chat_template", "conversation", "self"}):
        raise ValueError(f"{odd[0]!r} is not a template's")
    texts: Any = PreTrainedTokenizerBase.apply_chat_template(shell, conversations, **given, **variables)
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError("it gives no text")
    return texts


class _Server:
    """The process that renders, started with the first template that needs it, and again after a bad one."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def ask(self, call: bytes, prompts: int) -> list[str]:
        seconds = SECONDS + SECONDS_A_PROMPT * prompts
        with self._lock:
            process = self._started()
            wall = WALL + seconds if hasattr(signal, "setitimer") else seconds
            try:
                answer = self._exchange(process, call, seconds, wall)
            except BaseException:  # raised on: after Ctrl-C its answer would be the next call's
                self._end()
                raise
            if answer is None:
                self._end()
                limits = f"{seconds:.0f} s or {MEMORY >> 30} GiB"
                raise UserError(f"its chat template takes more than {limits} for a prompt: it is not used")
        if isinstance(answer, list):
            return answer
        raise ValueError(str(answer))

    @staticmethod
    def _exchange(process: subprocess.Popen[bytes], call: bytes, seconds: float, wall: float) -> Any:
        """What it answers, or None where it did not live to."""
        clock = threading.Timer(wall, process.kill)
        clock.start()
        try:
            _send(process.stdin, pickle.dumps((seconds, call)))
            return json.loads(_receive(process.stdout))
        except (OSError, EOFError, ValueError, RecursionError):
            return None
        finally:
            clock.cancel()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._end()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "erpo_hub.traces.rendering"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=child_environment(1),
            )
            atexit.register(self._end)
            if self._exchange(self._process, b"", START, START) != []:
                self._end()
                raise UserError("the process that renders chat templates did not start")
        return self._process

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


_server = _Server()


def _send(stream: IO[bytes] | None, data: bytes) -> None:
    assert stream is not None
    stream.write(len(data).to_bytes(8, "little") + data)
    stream.flush()


def _receive(stream: IO[bytes] | None) -> bytes:
    assert stream is not None
    size = int.from_bytes(stream.read(8), "little")
    if not 0 < size <= 8 * IN_ALL or len(data := stream.read(size)) < size:
        raise EOFError
    return data


def _serve() -> None:
    """What the process does: one call after the other, each with its time, until the owner is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the owner
    import transformers.tokenization_utils_base  # noqa: F401 before memory is counted

    _cap_memory()
    while True:
        try:
            seconds, call = pickle.loads(_receive(sys.stdin.buffer))  # noqa: S301 from our owner
        except EOFError:
            return
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_PROF, seconds)  # the signal has no handler: the kernel ends us
        _send(sys.stdout.buffer, json.dumps(_answer(call)).encode())
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_PROF, 0)


def _answer(call: bytes) -> list[str] | str:
    """The texts, or what is wrong."""
    try:
        texts = _apply(*pickle.loads(call)) if call else []  # noqa: S301 from our owner
    except MemoryError:
        return f"it takes more than {MEMORY >> 30} GiB"
    except Exception as error:  # noqa: BLE001 whatever a template makes the library raise
        return " ".join(str(error).split())[:300] or type(error).__name__
    if max(map(len, texts), default=0) > LONGEST or sum(map(len, texts)) > IN_ALL:
        return f"a prompt comes to more than {LONGEST:,} characters"
    return texts


def _cap_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    sizes = Path("/proc/self/statm")
    now = int(sizes.read_text().split()[0]) * resource.getpagesize() if sizes.exists() else MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, now + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    _serve()
