"""Every reader of other people's files reads or refuses, nothing else. 100,000 inputs: docs/security.md."""

from __future__ import annotations

import importlib.util
import re
import sys
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erpo_hub.errors import UserError
from erpo_hub.publish.patience import LONGEST_WAIT, seconds_to_wait
from erpo_hub.publish.secrets import Secrets

ROOT = Path(__file__).parents[2]
TOKEN = "hf_" + "Zx9" * 12


def _load() -> ModuleType:
    specification = importlib.util.spec_from_file_location("fuzz", ROOT / "benchmarks" / "fuzz.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["fuzz"] = module  # dataclasses look their module up
    specification.loader.exec_module(module)
    return module


fuzz = _load()


@pytest.mark.parametrize("name", fuzz.readers())
def test_a_damaged_file_is_read_or_refused(name):
    reader = fuzz.readers()[name]
    count = fuzz.feed(name, reader, range(500_000, 500_000 + (3 if name.startswith(fuzz.SLOW) else 60)))
    assert count.faults == []


@pytest.mark.parametrize("name", [n for n in fuzz.readers() if not n.startswith(fuzz.SLOW)])
@settings(max_examples=40, deadline=None, database=None, derandomize=True)
@given(data=st.binary(max_size=400) | st.text(max_size=200).map(lambda t: t.encode("utf-8", "surrogatepass")))
def test_arbitrary_bytes_are_read_or_refused(name, data):
    with suppress(UserError):
        fuzz.readers()[name].read(data)


@settings(max_examples=200, deadline=None, database=None, derandomize=True)
@given(before=st.text(max_size=40), after=st.text(max_size=40))
def test_a_token_is_found_in_any_text_and_shown_in_none(before, after):
    secrets = Secrets()
    text = before + TOKEN + " " + after
    assert secrets.find(text)
    assert TOKEN not in secrets.redact(text)


@settings(max_examples=200, deadline=None, database=None, derandomize=True)
@given(st.text(max_size=40))
def test_a_wait_is_a_bounded_number_or_none(text):
    waited = seconds_to_wait(text)
    assert waited is None or 0 <= waited <= LONGEST_WAIT


def test_the_page_has_every_reader_and_no_fault():
    page = (ROOT / "docs" / "security.md").read_text()
    rows = re.findall(r"^\| ([^|*]+) \| ([\d,]+) \| [\d,]+ \| [\d,]+ \| (\d+) \|$", page, re.MULTILINE)
    assert [name for name, _, _ in rows] == list(fuzz.readers())
    assert {faults for _, _, faults in rows} == {"0"}
    assert sum(int(inputs.replace(",", "")) for _, inputs, _ in rows) >= 100_000
