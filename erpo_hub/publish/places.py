"""Sentences for others: what lies on this machine is named, and where it lies is left out.

A second net under names that are chosen well: an error of a library quotes whatever path it was given.
Left out: refusing a file for its paths (check.py, paths.py).
"""

from __future__ import annotations

import re

from .paths import FOREIGN_HOME, machine_paths

_PART = r"[^\s/\\'\"`<>|:;,()\[\]{}]"
_REST = rf"(?:{_PART}|[/\\])*"
_ABSOLUTE = re.compile(rf"(?<![\w.:/~\\-])(?:/{_PART}+/|[A-Za-z]:\\){_REST}")
_CACHED = re.compile(r".*models--([\w.-]+?)--([\w.-]+)[/\\]snapshots[/\\][^/\\]+(.*)")


def without_places(text: str) -> str:
    """The text in which an absolute path keeps its last part, and one in the Hub's cache the repository."""
    for root in machine_paths():
        text = re.sub(re.escape(root) + _REST, _named, text)
    text = _ABSOLUTE.sub(_named, text)
    return re.sub(FOREIGN_HOME.pattern + _REST, _named, text)


def _named(found: re.Match[str]) -> str:
    path = found.group().rstrip("/\\")
    if cached := _CACHED.fullmatch(path):
        return f"{cached[1]}/{cached[2]}{cached[3]}"
    if FOREIGN_HOME.fullmatch(path) or path + "/" in machine_paths():
        return "a folder"  # the last part is a person's name
    return re.split(r"[/\\]", path)[-1]
