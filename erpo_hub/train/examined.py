"""What the run doctor reads where numbers are not enough: prompts, completions, weights, memory, the set-up.

Each reading costs microseconds, so only a few completions of a batch are read, and answers are looked up only
where a batch is all right or all wrong. Draws nothing at random: training stays the same bit for bit.
"""

from __future__ import annotations

import math
import os
import re
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
import torch

from ..tasks.answers import extract_answer, marked_answer
from .findings import LIKELY, SURE
from .history import Sign

READ = 8  # completions of a batch whose text is looked at
FEW = 4  # different rewards of a grader that says right, wrong or half
INDEXED = 100_000  # rows at most whose gold answers are kept
_GOLD = ("answer", "solution", "ground_truth", "target")  # columns that may hold gold answers
MARKS = ("\\boxed", "####", "<answer>")
_NUMBER = re.compile(r"[-+]?\d+(?:[.,]\d+)*")
_ONE_ANSWER = re.compile(rf"{_NUMBER.pattern}|[A-Za-z]+")  # an expression has many right ones
_UNDONE = re.compile(r"[\d\s().]*\d[\s)]*[-+*×÷][\s(]*\d[\d\s().+*×÷/-]*|\d+(?:\s*/\s*\d+){2,}")
_NAMED_CHAT = re.compile(r"instruct|\bchat\b|-it\b|-chat", re.IGNORECASE)


def text_of(said: Any) -> str:
    """The text of a prompt or completion, plain or as messages."""
    if isinstance(said, str):
        return said
    parts = (m.get("content") or "" for m in said)
    return "\n".join(
        p if isinstance(p, str) else " ".join(str(x.get("text") or "") for x in p if isinstance(x, dict))
        for p in parts
    )


class Texts:
    """Turns a batch of prompts, completions and rewards into numbers. `rows`: the training data."""

    def __init__(self, rows: Any, group: int, limit: int | None = None):
        self.group = group
        self.low, self.high = math.inf, -math.inf  # of the rewards so far
        self.levels: set[float] = set()  # different rewards, as far as they are few
        self.golds: dict[str, str] = {}
        names = getattr(rows, "column_names", None) or []
        if "prompt" in names and hasattr(rows, "__len__") and len(rows) <= INDEXED:
            column = next((name for name in _GOLD if name in names), None)
            answers = rows[column] if column else [None] * len(rows)
            self.golds = {
                text_of(p): "" if a is None else str(a).strip() for p, a in zip(rows["prompt"], answers)
            }
        # A question that comes again within an eighth of the data is no accident of a new epoch.
        self.recent: deque[int] = deque(maxlen=max(1, min(len(self.golds) // 8, 2000)))

    def numbers(self, prompts: list, completions: list, rewards: list[float]) -> dict[str, float | None]:
        """rewards: the weighted sum for each completion, NaN where nobody scored."""
        scored = [r for r in rewards if r == r]
        if not rewards:
            return {}
        found: dict[str, float | None] = {"texts/unscored": 1 - len(scored) / len(rewards)}
        if scored:
            self.low, self.high = min(self.low, *scored), max(self.high, *scored)
            if len(self.levels) <= FEW:
                self.levels.update(scored)
        right = [r == r and self._is_right(r) for r in rewards]
        if scored:
            found["texts/right"] = sum(right) / len(rewards)
        starts = range(0, len(prompts) - self.group + 1, self.group)
        found |= self._groups(prompts, rewards, starts)
        found |= self._marks(prompts, completions)
        if len(self.levels) <= FEW:  # a verdict, not a measure of length or nearness
            found |= self._holes(prompts, completions, right)
            if sum(right) >= 0.98 * len(right):
                found["texts/different_accepted"] = self._different(prompts, completions, starts)
        if scored and not any(right):
            found["texts/gold_refused"] = self._refused(prompts, completions)
        return found

    def _gold(self, prompt: Any) -> str:
        """The gold answer, without the way to it; "" where none is known."""
        gold = self.golds.get(text_of(prompt), "")
        return gold if len(gold) < 20 else marked_answer(gold) or gold

    def _is_right(self, reward: float) -> bool:
        return reward > 0 if self.low == self.high else reward >= (self.low + self.high) / 2

    def _groups(self, prompts: list, rewards: list, starts: range) -> dict[str, float | None]:
        if not starts:
            return {}
        alike = rights = mixed = repeated = 0
        for start in starts:
            end = start + self.group
            values = rewards[start:end]
            mixed += any(prompt != prompts[start] for prompt in prompts[start + 1 : end])
            if max(values) - min(values) < 1e-6:  # False for NaN
                alike += 1
                rights += self._is_right(values[0])
            key = hash(text_of(prompts[start]))
            repeated += key in self.recent
            self.recent.append(key)
        n = len(starts)
        return {
            "groups/alike": alike / n,
            "groups/all_right": rights / n,
            "groups/all_wrong": (alike - rights) / n,
            "groups/mixed": mixed / n,
            "groups/repeated": repeated / n if len(self.golds) >= 16 * n else None,
        }

    def _different(self, prompts: list, completions: list, starts: range) -> float | None:
        """Share of the groups whose completions give different answers to a question that has one."""
        differ = []
        for start in starts[:4]:
            if _ONE_ANSWER.fullmatch(self._gold(prompts[start])):
                said = {extract_answer(text_of(c)[-500:]) for c in completions[start : start + self.group]}
                differ.append(len(said) > 1)
        return sum(differ) / len(differ) if differ else None

    def _marks(self, prompts: list, completions: list) -> dict[str, float | None]:
        asked = text_of(prompts[0])
        mark = next((mark for mark in MARKS if mark in asked), None)
        if mark is None:
            return {}
        every = sum(mark in text_of(p) for p in prompts) / len(prompts)
        return {"texts/asked": every, "texts/marked": float(sum(mark in text_of(c) for c in completions))}

    def _holes(self, prompts: list, completions: list, right: list[bool]) -> dict[str, float | None]:
        """Rewarded completions whose answer is the question, or arithmetic where the gold is a number."""
        read = undone = echoed = 0
        for i in islice((i for i, is_right in enumerate(right) if is_right), READ):
            question = text_of(prompts[i])
            if not _NUMBER.fullmatch(self._gold(prompts[i])):
                continue
            read += 1
            last = _last(text_of(completions[i]))
            asked = _bare(_last(question) or question)
            if len(asked) > 2 and _bare(last) == asked:
                echoed += 1
            elif _UNDONE.fullmatch(last.rpartition("=")[2].strip()):
                undone += 1
        return {"texts/rewarded": float(read), "texts/undone": float(undone), "texts/echoed": float(echoed)}

    def _refused(self, prompts: list, completions: list) -> float | None:
        """Share of the completions whose answer is the gold one."""
        same = read = 0
        for prompt, completion in islice(zip(prompts, completions), READ):
            if gold := self._gold(prompt):
                read += 1
                same += extract_answer(text_of(completion)[-500:]) == gold
        return same / read if read else None


def _last(text: str) -> str:
    """The last line that is not empty, out of a box or a tag."""
    line = text.rstrip().rpartition("\n")[2].strip()
    for opened, closed in (("\\boxed{", "}"), ("<answer>", "</answer>"), ("####", "")):
        if opened in line:
            line = line.rpartition(opened)[2]
            line = line.partition(closed)[0] if closed else line
    return line.strip()


def _bare(text: str) -> str:
    return text.replace(" ", "").strip("=?:.").lower()


class Weights:
    """A thousand of the trained weights: how many changed, and by what part of their size."""

    def __init__(self, model: Any):
        trained = [p for p in model.parameters() if p.requires_grad]
        self.parameters = trained[:: max(1, len(trained) // 8) | 1][:8]  # odd: an adapter's are A, B, A, B
        self.half = any(p.dtype in (torch.bfloat16, torch.float16) for p in self.parameters)
        self.first = self._sample()

    def _sample(self) -> torch.Tensor:
        parts = []
        for parameter in self.parameters:
            flat = parameter.detach()
            flat = flat.to_local() if hasattr(flat, "to_local") else flat  # this process's shard
            flat = flat.flatten()
            parts.append(flat[:: max(1, flat.numel() // 128)][:128])
        return torch.cat(parts).float().cpu() if parts else torch.empty(0)

    def numbers(self) -> dict[str, float | None]:
        now = self._sample()
        if not now.numel() or now.shape != self.first.shape:  # sharded away, or moved elsewhere
            return {}
        moved = (now - self.first).square().mean().sqrt() / self.first.square().mean().sqrt().clamp(min=1e-12)
        return {"weights/changed": (now != self.first).float().mean().item(), "weights/moved": moved.item()}


class Memory:
    """Bytes of a device, or of this process where that is the CPU."""

    def __init__(self, device: torch.device):
        self.device = device
        self._process = psutil.Process()
        pages = Path("/proc/self/statm")  # kept open it is read three times as fast as by psutil
        self._pages = pages.open("rb", buffering=0) if pages.is_file() else None

    def limit(self) -> float:
        """Bytes that there are; a container's limit counts."""
        if self.device.type == "cuda":
            return float(torch.cuda.get_device_properties(self.device).total_memory)
        limit = float(psutil.virtual_memory().total)
        group = Path("/sys/fs/cgroup/memory.max")
        if group.is_file() and (text := group.read_text().strip()).isdigit():
            limit = min(limit, float(text))
        return limit

    def numbers(self) -> dict[str, float | None]:
        """Bytes in use, and at most so far."""
        if self.device.type == "cuda":
            used = float(torch.cuda.memory_allocated(self.device))
            return {"memory/used": used, "memory/peak": float(torch.cuda.max_memory_allocated(self.device))}
        used = float(self._resident())
        return {"memory/used": used, "memory/peak": used}

    def close(self) -> None:
        if self._pages:
            self._pages.close()

    def _resident(self) -> int:
        if self._pages is None or self._pages.closed:
            return self._process.memory_info().rss
        return int(os.pread(self._pages.fileno(), 128, 0).split()[1]) * os.sysconf("SC_PAGE_SIZE")


# --- before the first step --------------------------------------------------------------------------------


def _some(rows: Any) -> list[Any]:
    """Up to 64 prompts of a dataset that can be indexed."""
    if (
        rows is None
        or not hasattr(rows, "__len__")
        or "prompt" not in (getattr(rows, "column_names", None) or [])
    ):
        return []
    return list(rows.select(range(min(64, len(rows))))["prompt"])


def no_chat_template(tokenizer: Any, model: Any, rows: Any) -> Sign | None:
    """Plain prompts though the model's own end token stands in its chat template: it was tuned on chat."""
    prompts = _some(rows)
    if not prompts or not all(isinstance(p, str) for p in prompts):
        return None
    special = set(getattr(tokenizer, "all_special_tokens", []))
    if any(token in prompt for prompt in prompts[:8] for token in special if len(token) > 2):
        return None  # somebody has put the template on already
    template = str(getattr(tokenizer, "chat_template", None) or "")
    name = os.path.basename(str(getattr(model.config, "_name_or_path", "")).rstrip("/"))
    if template and any(end in template for end in _ends(tokenizer, model)):
        return Sign(
            0, SURE, "the model was tuned on chat and the prompts are plain text, without its chat template"
        )
    if _NAMED_CHAT.search(name):
        return Sign(0, LIKELY, f"{name} is a chat model by its name and the prompts are plain text")
    return None


def _ends(tokenizer: Any, model: Any) -> list[str]:
    ids: list[Any] = [getattr(tokenizer, "eos_token_id", None)]
    for config in (model.config, getattr(model, "generation_config", None)):
        found = getattr(config, "eos_token_id", None)
        ids += found if isinstance(found, list) else [found]
    tokens = (tokenizer.convert_ids_to_tokens(i) for i in {i for i in ids if i is not None})
    return [token for token in tokens if token and len(token) > 2]


def other_evaluation_prompt(rows: Any, held_out: Any) -> Sign | None:
    """The words that all prompts of one side share are missing on the other."""
    train = _some(rows)
    for other in held_out.values() if isinstance(held_out, dict) else [held_out]:
        asked = _some(other)
        if len(train) < 16 or len(asked) < 16:
            continue
        if isinstance(train[0], str) != isinstance(asked[0], str):
            forms = ["plain text" if isinstance(p[0], str) else "chat" for p in (train, asked)]
            return Sign(0, SURE, f"training asks as {forms[0]}, the evaluation as {forms[1]}")
        sides = [[re.sub(r"\d", "0", _with_roles(p)) for p in side] for side in (train, asked)]
        for mine, theirs, where in ((*sides, "evaluation"), (sides[1], sides[0], "training")):
            if missing := _missing(mine, theirs):
                return Sign(0, SURE, f"the {where} lacks words that all other prompts have: {missing!r:.60}")
    return None


def _with_roles(prompt: Any) -> str:
    if isinstance(prompt, str):
        return prompt
    return "\n".join(f"{m['role']}: {text_of([m])}" for m in prompt)


def _missing(mine: Sequence[str], theirs: Sequence[str]) -> str:
    """The beginning or end that all of `mine` share, where hardly one of `theirs` has it; else ""."""
    head = os.path.commonprefix(list(mine))
    tail = os.path.commonprefix([text[::-1] for text in mine])[::-1]
    whole = (
        re.sub(r"\S*\Z", "", head),
        re.sub(r"\A\S*", "", tail),
    )  # a word that is cut counts on neither side
    for shared in whole:
        if _letters(shared) >= 12 and sum(shared in text for text in theirs) < 0.1 * len(theirs):
            return shared.strip()
    return ""


def _letters(text: Iterable[str]) -> int:
    return sum(c.isalpha() for c in text)
