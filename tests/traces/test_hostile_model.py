"""A model folder that a stranger made: it is loaded and asked, or refused in one line. Nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny_models import save_chat_model

from erpo_hub.errors import UserError
from erpo_hub.traces import loading
from erpo_hub.traces.engine import Engine
from erpo_hub.traces.loading import load, model_source


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


@pytest.fixture
def adapter(model, tmp_path):
    """An adapter of `model`, beside a copy of it that is one, too."""
    from peft import LoraConfig, get_peft_model

    made = get_peft_model(load(model)[0], LoraConfig(r=2, target_modules=["q_proj"]))
    base = Path(shutil.copytree(model, tmp_path / "base"))
    made.save_pretrained(str(base))
    made.save_pretrained(str(tmp_path / "adapter"))
    rewrite(tmp_path / "adapter", base_model_name_or_path=str(model))
    return tmp_path / "adapter"


def rewrite(folder: Path, name: str = "adapter_config.json", **changes: object) -> None:
    (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"r": 3_000_000},  # some gigabytes, before peft sees that the weights are others
        {"rank_pattern": {".*": 3_000_000}},
        {"rank_pattern": [1]},
        {"layer_replication": [[0, 2]] * 1000},
        {"layer_replication": "x"},
    ],
)
def test_an_adapter_gets_no_ranks_and_layers_beyond_its_weights(adapter, changes, monkeypatch):
    import peft

    load(adapter)
    monkeypatch.setattr(peft.PeftModel, "from_pretrained", None)
    rewrite(adapter, **changes)
    with pytest.raises(UserError, match="that its weights lack|does not fit its base"):
        load(adapter)


@pytest.mark.parametrize("megatron", [None, {"tensor_model_parallel_size": 1}])
def test_a_base_that_is_an_adapter_itself_leads_no_further(adapter, megatron):
    base = adapter.parent / "base"
    rewrite(base, base_model_name_or_path="/private/model", megatron_config=megatron)
    rewrite(adapter, base_model_name_or_path=str(base))
    for read in (lambda: load(adapter), lambda: load(base, adapter=adapter)):
        with pytest.raises(UserError, match="is an adapter itself|Megatron"):
            read()
    if megatron:
        with pytest.raises(UserError, match="Megatron"):
            model_source(str(base))


def test_an_adapter_on_the_hub_leads_to_no_folder_of_this_machine(model, tmp_path, monkeypatch):
    (tmp_path / "data" / "private").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for base in (str(model), "/no/such", "data/private"):
        with pytest.raises(UserError, match="is a folder; load the base"):
            loading._base_of("someone/adapter", {"base_model_name_or_path": base})
    assert loading._base_of("someone/adapter", {"base_model_name_or_path": "some/base"}) == "some/base"


@pytest.mark.parametrize(
    "changes", [{"num_hidden_layers": 10**9}, {"text_config": {"n_layer": 10**6}}, {"num_blocks": 10**7}]
)  # xLSTM's name for its layers is the last one
@pytest.mark.parametrize("read", [load, lambda folder: model_source(str(folder))])
def test_a_config_of_more_layers_than_any_model_is_not_built(model, tmp_path, changes, read):
    folder = Path(shutil.copytree(model, tmp_path / "model"))
    rewrite(folder, "config.json", **changes)
    with pytest.raises(UserError, match="which no model has"):
        read(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"vocab_size": 10**9},
        {"hidden_size": 10**6},
        {"intermediate_size": 10**8},
        {"head_dim": 10**8},
        {"num_key_value_heads": 10**7},
        {"num_hidden_layers": 40, "layer_types": ["full_attention"] * 40},  # of the right size, but 38 of air
        {"num_hidden_layers": 20, "layer_types": ["full_attention"] * 20, "tie_word_embeddings": False},
        {"n_routed_experts": 10**9},
        {"vocab_size": 10**9, "quantization_config": {"quant_method": "fp8"}},
        {"num_attention_heads": 10**6},  # the library divides by zero
        {"pad_token_id": 10**9},  # and asserts
        {"hidden_size": True, "vocab_size": "x"},
    ],
)
@pytest.mark.parametrize("read", [load, lambda folder: model_source(str(folder))])
def test_a_config_that_asks_for_more_than_its_weights_is_refused_unbuilt(model, tmp_path, changes, read):
    import resource

    folder = Path(shutil.copytree(model, tmp_path / "model"))
    rewrite(folder, "config.json", **changes)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError) as refused:
        read(folder)
    assert "\n" not in str(refused.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kilobytes


def test_an_index_of_weights_leads_to_no_other_folder(model, tmp_path):
    folder = Path(shutil.copytree(model, tmp_path / "model"))
    (folder / "model.safetensors").rename(tmp_path / "other.safetensors")
    index = {"metadata": {}, "weight_map": {"x": "../other.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="leads out of its folder"):
        load(folder)


@pytest.mark.parametrize(
    "changes", [{"block_count": 10**7}, {"block_count": 3}, {"feed_forward_length": 10**9}]
)
def test_a_gguf_file_that_says_more_than_its_tensors_hold_is_not_built(tmp_path, changes):
    import gguf

    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "llama")
    said = {"block_count": 1, "context_length": 64, "embedding_length": 8, "feed_forward_length": 16}
    said |= {"attention.head_count": 2, "attention.head_count_kv": 2} | changes
    for name, value in said.items():
        writer.add_uint32(f"llama.{name}", value)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-6)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(list("abcdefgh"))
    writer.add_token_merges(["a b"])
    writer.add_tensor("token_embd.weight", np.zeros((8, 8), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(UserError, match="asks for"):
        load(tmp_path / "a.gguf")
