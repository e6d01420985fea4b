"""A push with every option as a keyword, as the command line gives them."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from erpo_hub.publish.hub import Publishing, push_bundle

_HOW = {field.name for field in fields(Publishing)}


def push_with(folder: Path, repo_id: str, **options: Any) -> Any:
    how = Publishing(**{name: options.pop(name) for name in _HOW & set(options)})
    return push_bundle(folder, repo_id, publishing=how, **options)
