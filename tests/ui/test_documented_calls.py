"""The documented gradio_client calls, run as they stand in README.md and in the Space's README.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ADDRESS = re.compile(r'^client = Client\("[^"]+"\)', re.MULTILINE)
MODELS = (('"NAME/grpo"', '"grpo"'), ('"NAME/erpo"', '"erpo"'))


@pytest.mark.parametrize(
    ("file", "made"), [("README.md", ["branch"]), ("spaces/inspector/README.md", ["trace", "branch", "pair"])]
)
def test_the_documented_calls_work(server, file, made):
    text = (ROOT / file).read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(from gradio_client import Client\n.*?)```", text, re.DOTALL)
    code, replaced = ADDRESS.subn(f"client = Client({server!r}, verbose=False)", code)
    assert replaced == 1
    for name, here in MODELS:
        code = code.replace(name, here)
    found: dict = {}
    exec(compile(code, file, "exec"), found)
    assert set(made) <= set(found)
    scored, branch = found["scored"], found["branch"]
    assert scored["completion"] == "7-6+4\n1+4\n5"
    assert branch["tokens"] != scored["tokens"]
    assert branch["tokens"][scored["pivots"][0]] == found["other"]
    if "pair" in made:
        assert found["trace"]["correct"] in (True, False)
        assert found["pair"]["a"]["tokens"] == found["pair"]["b"]["tokens"]  # the same weights
