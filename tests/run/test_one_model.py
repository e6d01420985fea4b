"""The model that is judged, traced, published and loaded again is the one that was trained."""

import contextlib
import json
import logging

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from real_tokenizers import load_tokenizer, save_family, unreachable
from tiny_models import chat_tokenizer, save_tiny_model
from tiny_models import tiny_model as random_model
from training import chat_sums, config, sums, trainer
from transformers import AutoModelForCausalLM, AutoTokenizer

from erpo_hub import Engine, train_and_push
from erpo_hub.card.usage import usage_snippet
from erpo_hub.errors import UserError
from erpo_hub.evaluation.generation import Decoding, generate_completions, undisturbed
from erpo_hub.evaluation.sampling import evaluate
from erpo_hub.publish.hub import push_bundle
from erpo_hub.record.format import read_record
from erpo_hub.tasks.tasks import load_data
from erpo_hub.traces.asked import Asked, as_messages, encode

FAST = {
    "push": False,
    "evaluation": {"n": 4},
    "per_device_train_batch_size": 8,
    "num_generations": 4,
    "max_completion_length": 10,
    "max_steps": 1,
    "learning_rate": 1e-2,
    "gradient_checkpointing": False,
}
LORA = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=2)


def texts_seen(seen):
    def reward(prompts, completions, **columns):
        seen.append((prompts[0], completions[0], columns.get("answer")))
        return [len(text) % 5 for text in completions]

    return reward


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory):
    folder = save_tiny_model(tmp_path_factory.mktemp("chat") / "tiny")
    chat_tokenizer(str(folder)).save_pretrained(folder)
    return str(folder)


def test_text_is_asked_through_the_chat_template_everywhere(chat_model, tmp_path, caplog):
    seen = []
    with caplog.at_level(logging.WARNING):
        made = train_and_push(
            chat_model,
            sums(40),
            output_dir=tmp_path / "run",
            reward_funcs=texts_seen(seen),
            chat_template_kwargs={"prefix": "zzz"},
            log_completions=True,
            **FAST,
        )
    assert "asked through it" in caplog.text
    assert isinstance(seen[0][0], str)  # a reward written for text still gets text
    assert isinstance(seen[0][1], str)
    record = read_record(made.bundle_dir)
    assert record.prompt.chat_template
    assert record.prompt.chat_template_kwargs == {"prefix": "zzz"}
    assert record.prompt.example.startswith("u")
    assert record.prompt.example.rstrip().endswith("zzz")
    trained_on = made.trainer._logs["extra"]["erpo/tokens"][-1]["prompt_ids"]
    assert made.trainer.processing_class.decode(trained_on).rstrip().endswith("zzz")
    # what loads the bundle asks in the same way, told or not
    question = sums(40)[0]["prompt"]
    engine = Engine.load(made.bundle_dir)
    assert engine.tokenizer.decode(engine.encode(question)).rstrip().endswith("zzz")
    again = evaluate(str(made.bundle_dir), load_data(sums(40)), n=4, progress=False)
    assert again.prompt_example == record.prompt.example
    assert again.settings["max_new_tokens"] == 10
    assert json.dumps({"prefix": "zzz"}).replace('"', "'") in usage_snippet(record)


def test_plain_keeps_text_bare_everywhere(chat_model, tmp_path):
    made = train_and_push(chat_model, sums(40), output_dir=tmp_path / "run", plain=True, **FAST)
    record = read_record(made.bundle_dir)
    assert not record.prompt.chat_template
    assert record.prompt.example.endswith("=")
    again = evaluate(str(made.bundle_dir), load_data(sums(40)), n=4, progress=False)
    assert again.prompt_example == record.prompt.example
    bare = AutoTokenizer.from_pretrained(chat_model)("1+2=").input_ids
    assert Engine.load(made.bundle_dir).encode("1+2=") == bare


def test_the_system_prompt_and_the_type_travel_with_the_bundle(chat_model, tmp_path):
    lead = {"role": "system", "content": "be brief"}
    data = chat_sums(40).map(lambda row: {"prompt": [lead, *row["prompt"]]})
    made = train_and_push(
        chat_model, data, output_dir=tmp_path / "run", model_init_kwargs={"dtype": "bfloat16"}, **FAST
    )
    record = read_record(made.bundle_dir)
    assert (record.prompt.system, record.prompt.dtype) == ("be brief", "bfloat16")
    engine = Engine.load(made.bundle_dir)
    assert engine.model.dtype == torch.bfloat16
    assert "brief" in engine.tokenizer.decode(engine.encode("1+2="))
    assert 'dtype="bfloat16"' in usage_snippet(record)


def test_an_adapter_on_a_local_base_is_loaded_again_and_not_pushed(tiny_model, tmp_path):
    made = train_and_push(tiny_model, sums(40), output_dir=tmp_path / "run", peft_config=LORA, **FAST)
    record = read_record(made.bundle_dir)
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    assert record.base_model.parameters == base.num_parameters()
    assert 0 < record.adapter.parameters < base.num_parameters()
    engine = Engine.load(made.bundle_dir)
    task = made.trainer.train_dataset[0]["prompt"]
    policy = made.trainer.model.eval()
    ids = torch.tensor([engine.encode(task)])
    assert torch.allclose(engine.model(ids).logits, policy(ids).logits, atol=1e-5)
    with pytest.raises(UserError, match="nobody else could load it"):
        push_bundle(made.bundle_dir, "me/adapter", token="hf_x")
    with pytest.raises(UserError, match="nobody else could load it"):
        train_and_push(
            tiny_model,
            sums(40),
            "me/adapter",
            token="hf_x",
            output_dir=tmp_path / "two",
            peft_config=LORA,
            **{**FAST, "push": True},
        )
    assert not (tmp_path / "two").exists()


def test_an_adapter_on_the_embedded_model_is_loaded_again(tmp_path):
    made = train_and_push(
        "builtin:tiny-reasoner",
        "builtin:expressions?operands=3",
        output_dir=tmp_path / "run",
        peft_config=LORA,
        **FAST,
    )
    assert read_record(made.bundle_dir).base_model.source == "embedded"
    assert len(Engine.load(made.bundle_dir).trace("3+4*2=", temperature=0.0, max_new_tokens=4)) > 0


def test_a_model_that_cannot_learn_is_refused(tiny_model, tmp_path):
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    get_peft_model(base, LORA).save_pretrained(tmp_path / "adapter")
    loaded = AutoModelForCausalLM.from_pretrained(tiny_model)
    frozen = PeftModel.from_pretrained(loaded, str(tmp_path / "adapter"))
    with pytest.raises(UserError, match="no trainable parameter.*is_trainable=True"):
        train_and_push(frozen, sums(40), output_dir=tmp_path / "run", **FAST)
    base = AutoModelForCausalLM.from_pretrained(tiny_model).requires_grad_(False)
    with pytest.raises(UserError, match="no trainable parameter.*requires_grad"):
        trainer(base, config(tmp_path / "out"), processing_class=AutoTokenizer.from_pretrained(tiny_model))


def test_a_completion_that_cannot_fit_is_refused_before_anything_is_generated(tiny_model, tmp_path):
    with pytest.raises(UserError, match=r"context 512: give a max_completion_length of at most 5\d\d"):
        train_and_push(
            tiny_model, sums(40), output_dir=tmp_path / "run", **{**FAST, "max_completion_length": 511}
        )
    assert not (tmp_path / "run").exists()


def test_dropout_is_off_for_what_is_compared_and_on_for_the_loss(tiny_model, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(tiny_model, attention_dropout=0.5)
    made = trainer(model, config(tmp_path), processing_class=AutoTokenizer.from_pretrained(tiny_model))
    flags = []
    model.model.layers[0].self_attn.register_forward_hook(
        lambda module, *_: flags.append((torch.is_grad_enabled(), module.training))
    )
    made.train()
    assert {training for gradient, training in flags if not gradient} == {False}
    assert {training for gradient, training in flags if gradient} == {True}
    assert made.state.log_history[0]["erpo/progress_std"] < 0.1


@pytest.mark.parametrize("family", ["gpt2", "gpt_neo"])
def test_absolute_positions_start_at_the_prompt(family, tmp_path, caplog):
    folder = save_family(family, tmp_path / family)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    uneven = Dataset.from_list([{"prompt": "7" * (1 + 5 * (i % 4)), "answer": "1"} for i in range(16)])
    made = trainer(model, config(tmp_path / "out"), processing_class=tokenizer, dataset=uneven)
    ids = torch.tensor([tokenizer("12345").input_ids])
    padded = torch.cat([torch.full((1, 3), tokenizer.pad_token_id), ids], dim=1)
    mask = (torch.arange(8) >= 3).long()[None]
    bare, left = model(ids).logits, model(padded, attention_mask=mask).logits[:, 3:]
    assert torch.allclose(bare, left, atol=1e-4)
    made.train()
    assert made.state.log_history[0]["erpo/progress_std"] < 0.1
    assert "before the first update" not in caplog.text


def test_a_reference_that_is_another_model_is_said(tiny_model, tmp_path, caplog):
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    made = trainer(model, config(tmp_path), processing_class=AutoTokenizer.from_pretrained(tiny_model))
    with torch.no_grad():
        for parameter in made.ref_model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    made.train()
    assert caplog.text.count("before the first update") == 1


def test_stop_tokens_are_those_of_training():
    from erpo_hub.traces.decoding import end_tokens

    model = random_model("llama", eos=[255, 256])
    tokenizer = load_tokenizer(None)
    assert set(end_tokens(model, tokenizer)) == {255, 256}
    assert Engine(model, tokenizer).eos == {255, 256}


# What the real templates make of one question: the end of the literal prompt, and a switch that changes it.
REAL = {
    "qwen3": ({"enable_thinking": False}, "<|im_start|>assistant\n<think>\n\n</think>\n\n"),
    "llama3_1": ({}, "<|start_header_id|>assistant<|end_header_id|>\n\n"),
    "gemma3": ({}, "<start_of_turn>model\n"),
    "deepseek_v3": ({}, "<｜Assistant｜>"),
    "gptoss": ({"reasoning_effort": "low"}, "<|start|>assistant"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_real_templates_are_asked_with_their_switches_and_one_bos(name):
    try:
        tokenizer = load_tokenizer(name)
    except FileNotFoundError as error:
        unreachable(error)
    switches, end = REAL[name]
    asked = Asked(system="Be brief.", chat_template_kwargs=switches)
    messages = as_messages(tokenizer, "What is 2 + 3?", asked)
    (ids,) = encode(tokenizer, [messages], asked)
    text = tokenizer.decode(ids)
    assert text.endswith(end)
    assert "Be brief." in text
    if tokenizer.bos_token_id is not None:
        assert ids.count(tokenizer.bos_token_id) <= 1
    for value in switches.values():
        if isinstance(value, str):
            assert value in text


@pytest.mark.slow
def test_a_thinking_switch_holds_from_training_to_the_loaded_bundle(tmp_path):
    try:
        folder = save_family("qwen3", tmp_path / "qwen3")
    except FileNotFoundError as error:
        unreachable(error)
    switch = {"enable_thinking": False}
    made = train_and_push(
        str(folder), sums(40), output_dir=tmp_path / "run", chat_template_kwargs=switch, **FAST
    )
    example = read_record(made.bundle_dir).prompt.example
    assert example.endswith("</think>\n\n")
    engine = Engine.load(made.bundle_dir)
    assert engine.tokenizer.decode(engine.encode("1+2=")).endswith("</think>\n\n")


def test_what_shapes_the_draws_of_training_reaches_whatever_asks_the_model_again(
    chat_model, tmp_path, caplog
):
    """A penalty so strong that no token comes twice, and a stop token of the caller's."""
    base = AutoModelForCausalLM.from_pretrained(chat_model)
    base.generation_config.repetition_penalty = 1.7  # a base's own habit, which the run overrides
    base.save_pretrained(tmp_path / "base")
    AutoTokenizer.from_pretrained(chat_model).save_pretrained(tmp_path / "base")
    seven = AutoTokenizer.from_pretrained(chat_model).convert_tokens_to_ids("7")
    with caplog.at_level(logging.WARNING):
        made = train_and_push(
            str(tmp_path / "base"),
            sums(40),
            output_dir=tmp_path / "run",
            reward_funcs=texts_seen([]),
            top_k=5,
            generation_kwargs={"repetition_penalty": 900.0, "eos_token_id": [seven], "min_new_tokens": 2},
            **FAST,
        )
    assert "min_new_tokens" in caplog.text
    record = read_record(made.bundle_dir)
    assert record.prompt.shaping == {"top_k": 5, "repetition_penalty": 900.0}
    assert seven in record.prompt.stop_token_ids
    assert "repetition_penalty 900 as in training" in (made.bundle_dir / "README.md").read_text()

    engine = Engine.load(made.bundle_dir)
    question = sums(40)[0]["prompt"]
    trace = engine.trace(question, temperature=0.0, max_new_tokens=10)
    assert len(set(trace.tokens)) == len(trace)
    assert trace.generation["repetition_penalty"] == 900.0
    assert seven in engine.eos
    forked = engine.fork_trace(trace, 1, trace.topk_ids[1][1])
    assert len(set(forked.tokens[2:])) == len(forked) - 2
    names: dict = {}
    with contextlib.chdir(made.bundle_dir):
        exec(usage_snippet(record), names)
    judged = evaluate(str(made.bundle_dir), load_data(sums(40)), n=4, progress=False)
    assert judged.settings["shaping"] == record.prompt.shaping
    assert (
        names["completion"].tolist()
        == engine.trace(record.dataset.samples[0].prompt, temperature=0.0, max_new_tokens=10).tokens
    )
    bare = evaluate(
        str(made.bundle_dir), load_data(sums(40)), n=4, shaping={"repetition_penalty": 1}, progress=False
    )
    assert bare.settings["shaping"] == {"top_k": 5}
    with pytest.raises(UserError, match="shaping: heat=1"):
        evaluate(str(made.bundle_dir), load_data(sums(40)), n=4, shaping={"heat": 1}, progress=False)


def test_the_penalty_is_that_of_transformers_and_blind_to_padding():
    """Prompts of unequal length in one batch, beside `generate` on each alone."""
    model = random_model("qwen2", eos=None)
    prompts = [[5, 6, 7, 8, 9], [11, 12]]
    decoding = Decoding(0.0, 1.0, 12, 0, (256,), {"repetition_penalty": 1.3})
    with undisturbed(model):
        drawn = generate_completions(model, prompts, decoding, [0, 1])
    for prompt, completion in zip(prompts, drawn):
        theirs = model.generate(
            torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=12, do_sample=False, repetition_penalty=1.3, eos_token_id=256, pad_token_id=0,
        )  # fmt: skip
        assert completion.ids == theirs[0, len(prompt) :].tolist()
