"""A model folder that a stranger made: it is loaded and asked, or refused in one line. Nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tiny_models import save_chat_model

from erpo_hub.errors import UserError
from erpo_hub.traces.engine import Engine


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_chat_model(tmp_path_factory.mktemp("stranger") / "model")


def asked(**prompt):
    return ("tokenizer_config.json", {"erpo_hub": {"prompt": prompt}})


@pytest.mark.parametrize(
    ("name", "change"),
    [
        asked(dtype="int64"),
        asked(dtype="float8_e4m3fn"),
        asked(max_new_tokens=-5),
        asked(max_new_tokens=10**40),
        asked(chat_template_kwargs={"tokenize": False, "return_tensors": "pt"}),
        asked(chat_template_kwargs={"chat_template": "{{ 1 / 0 }}"}),
        asked(chat_template_kwargs={"chat_template": "{{ messages[7]['x'] }}"}),
        asked(shaping={"repetition_penalty": "2", "top_k": -1, "min_p": 9.0, "top_p": None}),
        asked(shaping={"repetition_penalty": 0.0, "top_k": True}),
        asked(shaping={"top_k": 10**9, "min_p": 1, "top_p": 1e-9, "repetition_penalty": 1e3}),
        ("tokenizer_config.json", {"erpo_hub": [1]}),
        ("tokenizer_config.json", {"model_max_length": "abc"}),
        ("generation_config.json", {"eos_token_id": [[1], "x", 10**30, -4, 2]}),
        ("generation_config.json", {"eos_token_id": {"a": 1}}),
        ("adapter_config.json", []),
        ("adapter_config.json", {"base_model_name_or_path": ["a"], "revision": 5}),
        ("adapter_config.json", {"base_model_name_or_path": "/no/such", "peft_type": "LORA"}),
        ("adapter_config.json", {"base_model_name_or_path": ".", "megatron_config": {"a": 1}}),
    ],
)
def test_a_strangers_settings_are_ignored_or_refused_in_one_line(model, tmp_path, name, change):
    folder = Path(shutil.copytree(model, tmp_path / "model"))
    file = folder / name
    before = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(before | change if isinstance(change, dict) else change))
    try:
        engine = Engine.load(folder)
        trace = engine.trace("1+1=", max_new_tokens=4)
    except UserError as refused:
        told = str(refused)
    else:
        told = ""
        assert 1 <= len(trace) <= 4
        assert engine.model.dtype.is_floating_point
    assert "\n" not in told


def test_a_bomb_for_an_adapters_config_is_one_line(model, tmp_path):
    folder = Path(shutil.copytree(model, tmp_path / "model"))
    (folder / "adapter_config.json").write_text("[" * 100_000)
    with pytest.raises(UserError, match="is not readable"):
        Engine.load(folder)
