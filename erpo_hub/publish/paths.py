"""Paths of this machine in what is published, and where one is none.

Questions and answers speak of paths: a task about the shell has /tmp and /home/user in every row. So in what
the bundler writes they are told apart by their place. In run.json and traces/ the values under the names of
questions and answers are left out. README.md has no such names: there a path counts only where it exists on
this machine and no question or answer of run.json says it. Every other file is searched as a whole. Web
addresses are not looked into: an owner on the Hub may be called as a user of this machine.
"""

from __future__ import annotations

import getpass
import os
import re
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from .contents import Contents, strings

FREE_TEXT = {"prompt", "answer", "example", "system", "samples", "chat_template", "completion"}
TRACE_TEXT = FREE_TEXT | {"gold", "pieces", "strings"}
FOREIGN_HOME = re.compile(r"(?:file://|(?<![\w.:/~-]))(?:/home/|/Users/|[A-Za-z]:\\Users\\)[\w.-]+")
_ADDRESS = re.compile(r"(?<![a-z])(?!file:)[a-z][a-z0-9+.-]{1,12}://[^\s\"'<>()]*", re.IGNORECASE)
_NAME, _RUN = re.compile(r"[\w.@+-]+"), re.compile(r"[\w.@+:/\\-]{0,255}")


def machine_paths() -> list[str]:
    """Folders of this machine that must not show in a published file, each ending in a separator."""
    roots = {Path.home(), Path.cwd(), Path(tempfile.gettempdir())}
    shown = {str(r) for r in roots} | {str(r.resolve()) for r in roots}
    return sorted((s.rstrip("/") + "/" for s in shown if s.strip("/")), key=len, reverse=True)


def path_problems(name: str, contents: Contents, told: str | None = None) -> Iterator[str]:
    """What path of this machine a file holds, as one line.

    told: of a bundle, what its questions and answers say (`said_in`); None for other folders.
    """
    roots, user, in_trace = machine_paths(), getpass.getuser(), name.startswith("traces/")
    card, seen = name == "README.md" and told is not None, set[str]()
    for part, text in enumerate(_texts(name, contents, told is not None)):
        for number, line in enumerate(text.splitlines(), 1):
            hits = _paths(_ADDRESS.sub(" ", line), roots, user, not in_trace)
            if card:
                hits = (hit for hit in hits if _is_here(hit, seen) and hit[1] not in (told or ""))
            if hit := next(hits, None):
                place = f":{number}" if part == 0 and text is contents.texts[0] else ""
                yield f"{name}{place}: holds a path of this machine ({hit[0]}); write a relative path"
                return


def _is_here(hit: tuple[str, str, set[str]], seen: set[str]) -> bool:
    """Whether a path exists on this machine; False for one that was looked at before."""
    new = hit[1] not in seen
    seen.add(hit[1])
    return new and any(map(os.path.lexists, hit[2]))


def _texts(name: str, contents: Contents, in_bundle: bool) -> list[str]:
    """The texts of a file in which a path is not just spoken of."""
    if name.startswith("traces/") and contents.columns:
        spoken = {id(text) for column, text in contents.columns if column in TRACE_TEXT}
        return [text for text in contents.texts if id(text) not in spoken]
    if name.startswith("traces/") and contents.value is not None:
        return strings(contents.value, without=TRACE_TEXT)
    if name == "run.json" and in_bundle and contents.value is not None:
        return strings(contents.value, without=FREE_TEXT)
    return contents.texts


def said_in(value: Any) -> str:
    """The questions and answers of a record, as JSON, in one text; its tokens in one piece too."""
    found: list[str] = []
    waiting = [(value, False)]
    while waiting:
        item, free = waiting.pop()
        if isinstance(item, str) and free:
            found.append(item)
        elif isinstance(item, list):
            waiting += [(inner, free) for inner in item]
            if free and all(isinstance(piece, str) for piece in item):
                found.append("".join(item))
        elif isinstance(item, dict):
            waiting += [(inner, free or key in FREE_TEXT) for key, inner in item.items()]
    return "\n".join(found)


def _paths(line: str, roots: list[str], user: str, homes: bool) -> Iterator[tuple[str, str, set[str]]]:
    """Of each path in a line: what to show, the path, and what should exist if it is one of this machine."""
    for root in roots:
        at = line.find(root)
        while at >= 0:
            rest = line[at + len(root) : at + len(root) + 255]
            name = re.split(r"[/\"'`<>]", rest)[0]  # as far as it may reach: it may have blanks
            sure = name[: end.end()] if (end := _NAME.match(name)) else ""
            yield root, _run(line, at), {root + part for part in (name, sure, sure.rstrip(".")) if part}
            at = line.find(root, at + 1)
    if homes:
        for match in FOREIGN_HOME.finditer(line):
            yield match[0], _run(line, match.start()), {match[0], match[0].rstrip(".")}
    if len(user) > 3:
        for match in _folder_of(user).finditer(line):
            yield user, _run(line, match.start()), {match[0]}


def _run(line: str, start: int) -> str:
    return _RUN.match(line, start)[0].rstrip(".")  # type: ignore[index]  # matches nothing too


@cache
def _folder_of(user: str) -> re.Pattern[str]:
    """An absolute path into a folder with the user's name; owner/name of a Hub is none."""
    start = r"(?:(?<![\w.@+~:/\\-])(?:[A-Za-z]:|file://)?|(?<=:)(?!//))"
    return re.compile(rf"{start}(?:[/\\]{{1,2}}[\w.@+-]+)*?[/\\]{{1,2}}{re.escape(user)}(?=[/\\])")


def looks_like_path(value: str) -> bool:
    """Whether a whole string is an absolute path: two parts at least, no blanks, no web address."""
    if not value or len(value) > 4096 or any(c.isspace() for c in value) or "://" in value:
        return False
    return (PurePosixPath(value).is_absolute() and len(PurePosixPath(value).parts) > 2) or bool(
        PureWindowsPath(value).drive and PureWindowsPath(value).is_absolute()
    )
