"""The engine against transformers' own forward pass and `generate`, on four tiny families."""

import json
import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import CONTEXT, EOS, FAMILIES, VOCAB, byte_tokenizer, tiny_model

from erpo_hub.errors import UsageError, UserError
from erpo_hub.evaluation.sampling import evaluate
from erpo_hub.run.preparation import load_policy
from erpo_hub.traces.decoding import Chooser, Detokenizer, Sampling, decode, pieces_of
from erpo_hub.traces.engine import Engine
from erpo_hub.traces.loading import load
from erpo_hub.train.config import ERPOConfig


def engine_of(family="qwen2", *, eos=EOS):
    engine = Engine(tiny_model(family), byte_tokenizer(), name=f"tiny/{family}")
    engine.eos = set() if eos is None else {eos}
    return engine


@torch.no_grad()
def reference(engine, trace, temperature):
    """(T, V) log-probabilities from one plain forward pass over the finished text."""
    ids = torch.tensor([trace.prompt_tokens + trace.tokens])
    logits = engine.model(ids).logits[0, len(trace.prompt_tokens) - 1 : -1]
    return torch.log_softmax(logits.double() / temperature, -1)


@pytest.mark.parametrize("family", FAMILIES)
def test_columns_are_those_of_a_plain_forward_pass(family):
    engine = engine_of(family, eos=None)
    trace = engine.trace("2 + 2 = ", max_new_tokens=40, temperature=0.7, top_p=0.9, seed=5)
    logp = reference(engine, trace, 0.7)
    chosen = logp.gather(-1, torch.tensor(trace.tokens)[:, None]).squeeze(-1)
    top = logp.topk(5, -1)
    assert torch.tensor(trace.entropy).double() == pytest.approx(-(logp.exp() * logp).sum(-1), abs=2e-5)
    assert torch.tensor(trace.logprob).double() == pytest.approx(chosen, abs=1e-4)
    assert torch.tensor(trace.topk_probs).double() == pytest.approx(top.values.exp(), abs=1e-5)
    assert all(s >= r - 1e-6 for s, r in zip(trace.sampling_logprob, trace.logprob))
    assert trace.finish_reason == "length"
    assert len(trace) == 40
    assert trace.generation == {
        "max_new_tokens": 40,
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": None,
        "seed": 5,
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_is_generates_greedy(family):
    engine = engine_of(family, eos=None)
    trace = engine.trace("abc", max_new_tokens=30, temperature=0)
    ids = torch.tensor([trace.prompt_tokens])
    out = engine.model.generate(ids, max_new_tokens=30, do_sample=False, attention_mask=torch.ones_like(ids))
    assert trace.tokens == out[0, ids.shape[1] :].tolist()
    assert trace.sampling_logprob == [0.0] * 30
    logp = reference(engine, trace, 1.0)
    assert torch.tensor(trace.entropy).double() == pytest.approx(-(logp.exp() * logp).sum(-1), abs=2e-5)


def test_the_filters_are_generates_filters():
    engine = engine_of(eos=None)
    torch.manual_seed(0)
    options = {"temperature": 0.8, "top_k": 20, "top_p": 0.85}
    ids = torch.tensor([engine.encode("xyz")])
    out = engine.model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=25,
        do_sample=True,
        output_scores=True,
        output_logits=True,
        return_dict_in_generate=True,
        **options,
    )
    choose = Chooser(Sampling(**options), torch.device("cpu"))
    for logits, scores in zip(out.logits, out.scores):
        step = choose(logits)
        allowed = torch.log_softmax(scores[0], -1)
        assert step.sampling_logprob[0] == pytest.approx(allowed[step.token[0]].item(), abs=1e-5)


def test_draws_follow_the_distribution():
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]])).repeat(20_000, 1)
    step = Chooser(Sampling(top_p=0.9), torch.device("cpu"))(logits)
    share = torch.bincount(torch.tensor(step.token), minlength=4) / 20_000
    assert share == pytest.approx(torch.tensor([0.5, 0.3, 0.15, 0.0]) / 0.95, abs=0.012)


def test_a_seed_repeats_and_the_global_stream_is_left_alone():
    engine = engine_of(eos=None)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first = engine.trace("hello", max_new_tokens=20, seed=3)
    assert torch.equal(before, torch.get_rng_state())
    assert engine.trace("hello", max_new_tokens=20, seed=3) == first
    assert engine.trace("hello", max_new_tokens=20, seed=4).tokens != first.tokens


def test_deltas_add_up_to_the_trace():
    engine = engine_of(eos=None)
    deltas = list(engine.stream("hi", max_new_tokens=12, seed=1))
    trace = deltas[-1].trace
    assert [d.start for d in deltas] == list(range(12))
    assert [d.done for d in deltas] == [False] * 11 + [True]
    assert "".join(p for d in deltas for p in d.pieces) == trace.completion
    for column in ("tokens", "entropy", "logprob", "sampling_logprob", "topk_ids", "topk_probs"):
        assert [x for d in deltas for x in getattr(d, column)] == getattr(trace, column)
    assert {k: v for d in deltas for k, v in d.strings.items()} == trace.strings


def test_inference_mode_does_not_leak_out_of_a_stream():
    for _ in engine_of().stream("hi", max_new_tokens=2):
        assert not torch.is_inference_mode_enabled()
        assert torch.is_grad_enabled()


def test_stops_at_any_end_token_and_keeps_it_in_the_columns():
    engine = engine_of(eos=None)
    free = engine.trace("abc", max_new_tokens=20, temperature=0)
    engine.eos = {free.tokens[6], 9999}
    cut = engine.trace("abc", max_new_tokens=20, temperature=0)
    at = free.tokens.index(free.tokens[6])
    assert cut.tokens == free.tokens[: at + 1]
    assert cut.finish_reason == "eos"
    assert Engine(tiny_model(eos=[3, EOS]), byte_tokenizer()).eos == {3, EOS}


def test_cancel_stops_at_the_next_token():
    engine, cancel = engine_of(eos=None), threading.Event()
    seen = []
    for delta in engine.stream("abc", max_new_tokens=50, cancel=cancel):
        seen.append(delta)
        if len(seen) == 3:
            cancel.set()
    assert len(seen) == 4
    assert (seen[-1].tokens, seen[-1].done, seen[-1].trace.finish_reason) == ([], True, "cancelled")
    assert len(seen[-1].trace) == 3
    assert len(engine.trace("abc", cancel=cancel)) == 0  # set before the start


def test_a_split_character_is_held_together():
    ids = byte_tokenizer()("é😀a", add_special_tokens=False).input_ids
    assert len(ids) == 7
    assert pieces_of(byte_tokenizer(), ids) == ["", "é", "", "", "", "😀", "a"]
    detokenizer = Detokenizer(byte_tokenizer())
    assert [detokenizer.add(i) for i in ids[:4]] == ["", "é", "", ""]
    assert detokenizer.flush() == "\ufffd"


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, VOCAB - 1), max_size=40))
def test_pieces_of_any_bytes_join_to_text_that_ends_alike(ids):
    text, whole = "".join(pieces_of(byte_tokenizer(), ids)), decode(byte_tokenizer(), ids)
    assert text.replace("\ufffd", "") == whole.replace("\ufffd", "")


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=30))
def test_pieces_of_text_join_to_the_text(text):
    ids = byte_tokenizer()(text, add_special_tokens=False).input_ids
    assert "".join(pieces_of(byte_tokenizer(), ids)) == decode(byte_tokenizer(), ids) == text


# -- forks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_a_fork_continues_from_the_alternative(family):
    engine = engine_of(family, eos=None)
    trace = engine.trace("12+3", max_new_tokens=24, temperature=0, num_alternatives=3)
    alternative = trace.topk_ids[10][1]
    deltas = list(engine.fork(trace, 10, alternative))
    fork = deltas[-1].trace
    assert deltas[0].start == 10
    assert fork.tokens[:11] == [*trace.tokens[:10], alternative]
    assert fork.entropy[:10] == trace.entropy[:10]
    assert fork.entropy[10] == pytest.approx(trace.entropy[10], abs=1e-5)
    assert fork.logprob[10] == pytest.approx(float(torch.tensor(trace.topk_probs[10][1]).log()), abs=1e-3)
    assert len(fork) == 24
    assert fork.generation["fork_token"] == alternative
    engine._kept = None  # without the cache the same comes out
    assert engine.fork_trace(trace, 10, alternative).tokens == fork.tokens
    same = engine.fork_trace(trace, 10, trace.tokens[10])
    assert same.tokens == trace.tokens


def test_a_fork_reads_only_what_the_cache_lacks(monkeypatch):
    engine = engine_of(eos=None)
    trace = engine.trace("12+3", max_new_tokens=24, seed=2)
    fed = []
    forward = engine.forward
    monkeypatch.setattr(engine, "forward", lambda ids, cache: fed.append(len(ids)) or forward(ids, cache))
    engine.fork_trace(trace, 10, trace.topk_ids[10][1])
    assert fed[0] == 1
    fed.clear()
    engine.trace("12+3", max_new_tokens=2)  # a plain stream starts afresh, so that a seed repeats exactly
    assert fed[0] == len(trace.prompt_tokens)


def test_forks_that_cannot_be():
    engine = engine_of(eos=None)
    trace = engine.trace("abc", max_new_tokens=5, num_alternatives=2)
    with pytest.raises(UserError, match="token 5 is outside the trace, which has tokens 0 .. 4"):
        engine.fork(trace, 5, 1)
    with pytest.raises(UserError, match="outside the vocabulary"):
        engine.fork(trace, 1, VOCAB)
    with pytest.raises(UserError, match="vocabulary of 300"):
        engine.fork(trace.replace(vocab_size=300), 1, 1)
    other = trace.replace(strings={**trace.strings, trace.tokens[0]: "zebra"})
    with pytest.raises(UserError, match="use the tokenizer that made the trace"):
        engine.fork(other, 1, 1)
    with pytest.raises(UserError, match="ask for no more"):
        engine.fork(trace, 3, 1, num_alternatives=4)


# -- bad input --------------------------------------------------------------------------------------------


def test_prompts_that_cannot_be_answered():
    engine = engine_of(eos=None)
    for empty in ("", "  \n"):
        with pytest.raises(UserError, match="the prompt is empty"):
            engine.stream(empty)
    with pytest.raises(UserError, match=f"reads at most {CONTEXT}"):
        engine.stream("a" * CONTEXT)
    with pytest.raises(UserError, match="no chat template"):
        engine.stream("a", chat=True)
    assert len(engine.trace("a" * (CONTEXT - 4), max_new_tokens=50)) == 4  # ends with the context


@pytest.mark.parametrize(
    "option",
    [{"temperature": -1}, {"top_p": 0}, {"top_k": -2}, {"max_new_tokens": 0}, {"num_alternatives": 1000}],
)
def test_parameters_out_of_range(option):
    with pytest.raises(UsageError, match=next(iter(option))):
        engine_of().stream("a", **option)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_broken_logits_are_reported(bad):
    engine = engine_of()
    with torch.no_grad():
        engine.model.lm_head.weight[5] = bad
    for temperature in (0, 1):
        with pytest.raises(UserError, match="its logits at token 0 are not finite"):
            engine.trace("abc", temperature=temperature)


def test_a_forbidden_token_is_no_broken_logit():
    step = Chooser(Sampling(num_alternatives=2), torch.device("cpu"))(torch.tensor([[0.0, -torch.inf, 0.0]]))
    assert step.entropy[0] == pytest.approx(0.693147)
    assert step.token[0] != 1


def test_a_chat_template_is_used_when_there_is_one():
    tokenizer = byte_tokenizer()
    template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}>"
    try:
        tokenizer.chat_template = template
        engine = engine_of()
        assert decode(tokenizer, engine.encode("hi")) == "<user>hi>"
        messages = [{"role": "system", "content": "S"}, {"role": "user", "content": "Q"}]
        assert decode(tokenizer, engine.encode(messages)) == "<system>S<user>Q>"
        assert engine.trace(messages, max_new_tokens=1).prompt == "Q"
        assert decode(tokenizer, engine.encode("hi", chat=False)) == "hi"
    finally:
        tokenizer.chat_template = None


# -- loading ----------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "model"
    tiny_model().save_pretrained(path)
    byte_tokenizer().save_pretrained(path)
    return path


def adapter_of(folder, path):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    config = LoraConfig(
        r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", init_lora_weights=False
    )
    model = get_peft_model(Engine.load(folder).model, config)
    model.save_pretrained(path)
    return path


def test_loads_a_folder_and_an_adapter_on_its_base(folder, tmp_path):
    engine = Engine.load(folder)
    assert engine.name == "model"
    plain = engine.trace("abc", max_new_tokens=5, temperature=0)
    adapter = adapter_of(folder, tmp_path / "adapter")
    by_config = Engine.load(adapter).score("abc", plain.tokens)
    by_hand = Engine.load(folder, adapter=adapter).score("abc", plain.tokens)
    assert by_config.entropy == by_hand.entropy
    assert by_config.entropy != engine.score("abc", plain.tokens).entropy


def test_loads_a_gguf_file(tmp_path):
    import gguf
    from tokenizers.pre_tokenizers import ByteLevel

    model, tokens = tiny_model("llama"), [*sorted(ByteLevel.alphabet()), "<eos>", "zq"]
    writer = gguf.GGUFWriter(tmp_path / "tiny.gguf", "llama")
    writer.add_block_count(3)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(16)
    writer.add_feed_forward_length(32)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_rope_dimension_count(8)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(VOCAB)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * 256 + [3, 1])
    writer.add_token_merges(["z q"])
    writer.add_eos_token_id(EOS)
    names = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v"}
    names |= {"self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up"}
    names |= {"mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm"}
    names |= {"post_attention_layernorm": "ffn_norm", "model.layers": "blk", "lm_head": "output"}
    names |= {"model.embed_tokens": "token_embd", "model.norm": "output_norm"}
    for name, weight in model.state_dict().items():
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        writer.add_tensor(name, weight.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    engine = Engine.load(tmp_path / "tiny.gguf")
    assert engine.name == "tiny.gguf"
    trace = engine.trace("2+2", max_new_tokens=5, temperature=0)
    assert decode(engine.tokenizer, trace.prompt_tokens) == "2+2"
    assert torch.equal(engine.model.lm_head.weight, model.lm_head.weight)
    (tmp_path / "torn.gguf").write_bytes((tmp_path / "tiny.gguf").read_bytes()[:5000])
    with pytest.raises(UserError, match="cannot be loaded"):
        Engine.load(tmp_path / "torn.gguf")


def test_an_adapter_without_its_base(folder, tmp_path):
    adapter = adapter_of(folder, tmp_path / "adapter")
    file = adapter / "adapter_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "base_model_name_or_path": str(tmp_path / "gone")}))
    with pytest.raises(UserError, match="gone, which is not there; load its base"):
        Engine.load(adapter)
    file.write_text(json.dumps({**config, "base_model_name_or_path": None}))
    with pytest.raises(UserError, match="names no base model"):
        Engine.load(adapter)
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(UserError, match="without adapter_model.safetensors"):
        Engine.load(folder, adapter=adapter)


def test_a_pickled_checkpoint_is_refused_unread(folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"not even a pickle")
    with pytest.raises(UserError, match=r"pytorch_model.bin, a pickle"):
        Engine.load(folder)


@pytest.mark.parametrize("kind", ["qwen2", "of-its-own"])
def test_code_that_a_checkpoint_brings_is_neither_run_nor_asked_about(folder, tmp_path, monkeypatch, kind):
    marker = tmp_path / "was-run"
    (folder / "modeling_own.py").write_text(
        f"open({str(marker)!r}, 'w')\n"
        "from transformers import Qwen2Config as Config, Qwen2ForCausalLM as Model\n"
        "from transformers import PreTrainedTokenizerFast as Tokenizer\n"
    )
    own = {"AutoConfig": "modeling_own.Config", "AutoModelForCausalLM": "modeling_own.Model"}
    for name, changes in (
        ("config.json", {"auto_map": own, "model_type": kind}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": [None, "modeling_own.Tokenizer"]}}),
    ):
        config = json.loads((folder / name).read_text()) | changes
        (folder / name).write_text(json.dumps(config))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    config = ERPOConfig(output_dir=str(tmp_path / "out"), use_cpu=True, bf16=False)
    for use in (
        load,
        lambda name: load_policy(name, config),
        lambda name: evaluate(name, "builtin:expressions", n=1, max_new_tokens=1, progress=False),
    ):
        if kind == "qwen2":
            use(str(folder))
        else:
            with pytest.raises(UserError, match="cannot be loaded"):
                use(str(folder))
    config.trust_remote_code = True
    with pytest.raises(UserError, match="stays off"):
        load_policy(str(folder), config)
    assert not marker.exists()


def test_folders_that_do_not_load(folder, tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        Engine.load(tmp_path / "absent")
    with pytest.raises(UserError, match="no such GGUF file"):
        Engine.load(tmp_path / "absent.gguf")
    with pytest.raises(UserError, match="dtype 'float33' is unknown"):
        Engine.load(folder, dtype="float33")
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="cannot be loaded"):
        Engine.load(folder)
    weights.write_bytes(content)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 4}))
    with pytest.raises(UserError, match="cannot be loaded .*layer_types"):
        Engine.load(folder)
    del config["layer_types"]
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 4}))
    with pytest.raises(UserError, match="lacks .* weights"):
        Engine.load(folder)


def test_a_hub_id_that_cannot_be_reached(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="somebody/absent-model: not on this machine, and the Hub cannot"):
        Engine.load("somebody/absent-model")
    with pytest.raises(UserError, match="some body/not an id: not readable on the Hub"):
        Engine.load("some body/not an id")


def test_a_tokenizer_of_another_model(folder):
    bigger = byte_tokenizer().__class__.from_pretrained(folder)
    bigger.add_tokens([f"word{i}" for i in range(9)])
    engine = Engine(tiny_model(), bigger)
    assert len(engine.trace("a", max_new_tokens=1)) == 1
    with pytest.raises(UserError, match="do not belong together"):
        engine.stream("word8")
