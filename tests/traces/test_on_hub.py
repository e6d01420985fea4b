"""A model that is nowhere is told within seconds, by every command that loads one."""

from __future__ import annotations

import time

import pytest

from erpo_hub.errors import UserError
from erpo_hub.traces import on_hub
from erpo_hub.traces.loading import load, load_tokenizer, model_source


@pytest.mark.parametrize("name", ["no/such-model", "none"])
@pytest.mark.parametrize("reads", [load, load_tokenizer, model_source])
def test_without_a_network_one_line_comes_within_seconds(monkeypatch, name, reads):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", "http://127.0.0.1:9")
    started = time.monotonic()
    with pytest.raises(UserError, match=f"^{name}: not on this machine, and the Hub cannot be reached"):
        reads(name)
    assert time.monotonic() - started < 2 * on_hub.SECONDS  # transformers alone tries for a minute
