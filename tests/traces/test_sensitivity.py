"""The one-pass sensitivity against the literal loop, one forward pass a position and a draw."""

import pytest
import torch
from tiny_models import FAMILIES, byte_tokenizer, tiny_model

from erpo_hub.errors import UsageError, UserError
from erpo_hub.traces.engine import Engine
from erpo_hub.traces.sensitivity import decoder_layers, position_noise, sensitivity

IDS = torch.tensor(list(range(40, 58)))  # 18 tokens: more than two sliding windows of the Gemma model


@torch.no_grad()
def literal(model, ids, prompt_length, layer, noise, samples, seed):
    """Definition in erpo-math, read word by word."""
    generator = torch.Generator().manual_seed(seed)
    block = decoder_layers(model)[layer]
    values = []
    for t in range(len(ids) - prompt_length):
        position = prompt_length + t - 1
        draws = position_noise(generator, samples, model.config.hidden_size)
        logits = []
        for draw in draws:

            def disturb(_module, args, kwargs, draw=draw):
                hidden = (args[0] if args else kwargs["hidden_states"]).clone()
                h = hidden[0, -1]
                hidden[0, -1] = h + noise * h.pow(2).mean().sqrt() * draw.to(h.dtype)
                return ((hidden, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": hidden})

            hook = block.register_forward_pre_hook(disturb, with_kwargs=True)
            out = model(ids[None, : position + 1], use_cache=False).logits[0, -1]
            hook.remove()
            logits.append(out - out.mean())
        stacked = torch.stack(logits)
        values.append(((stacked - stacked.mean(0)) ** 2).mean(0).mean())
    return torch.stack(values)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 1e-4)])
def test_agrees_with_the_literal_loop(family, dtype, tolerance):
    model = tiny_model(family).to(dtype)
    ours = sensitivity(model, IDS, 5, layer=1, noise=0.2, samples=3, seed=3, chunk=7)
    slow = literal(model, IDS, 5, layer=1, noise=0.2, samples=3, seed=3)
    assert ours.shape == (13,)
    assert (ours > 0).all()
    assert ((ours - slow).abs() / slow).max() < tolerance


@pytest.mark.parametrize("layer", [0, 2])
def test_agrees_at_the_ends_of_the_stack(layer):
    model = tiny_model("llama").double()
    ours = sensitivity(model, IDS, 14, layer=layer, samples=3)
    assert torch.allclose(ours, literal(model, IDS, 14, layer, 0.1, 3, 0), rtol=1e-9)


def test_agrees_with_eager_attention():
    model = tiny_model("llama").double()
    sdpa = sensitivity(model, IDS, 5)
    model.set_attn_implementation("eager")
    assert torch.allclose(sensitivity(model, IDS, 5), sdpa, rtol=1e-9)


def test_chunks_do_not_change_the_noise():
    model = tiny_model().double()
    whole = sensitivity(model, IDS, 3, seed=1)
    assert torch.allclose(sensitivity(model, IDS, 3, seed=1, chunk=1), whole, rtol=1e-9)
    assert torch.allclose(sensitivity(model, IDS[None], 3, seed=1, chunk=4), whole, rtol=1e-9)
    assert not torch.allclose(sensitivity(model, IDS, 3, seed=2), whole, rtol=1e-3)


def test_more_noise_spreads_more_and_the_model_is_left_as_it_was():
    model = tiny_model()
    before = model(IDS[None]).logits
    low, high = (sensitivity(model, IDS, 3, noise=e).mean() for e in (0.01, 0.3))
    assert high > 10 * low
    assert torch.equal(model(IDS[None]).logits, before)


def test_one_token_is_enough():
    assert sensitivity(tiny_model(), IDS[:2], 1).shape == (1,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt_length": 0}, "prompt_length=0"),
        ({"prompt_length": 18}, "prompt_length=18"),
        ({"layer": 3}, "layer=3"),
        ({"samples": 1}, "samples=1"),
        ({"noise": 0}, "noise=0"),
        ({"chunk": 0}, "chunk=0"),
    ],
)
def test_arguments_out_of_range(change, message):
    with pytest.raises(UsageError, match=message):
        sensitivity(tiny_model(), IDS, **{"prompt_length": 5, **change})


def test_models_without_a_mask_of_their_own_get_an_error():
    model = tiny_model()
    model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(UserError, match="flash_attention_2 takes no 4-D attention mask"):
        sensitivity(model, IDS, 5)
    model = tiny_model()
    model.config.layer_types = ["linear_attention"] * 3
    with pytest.raises(UserError, match="linear_attention layers take no 4-D"):
        sensitivity(model, IDS, 5)


def test_a_model_that_ignores_the_mask_gets_an_error():
    model = tiny_model()
    forward = model.model.forward
    model.model.forward = lambda *a, attention_mask=None, **kw: forward(*a, **kw)
    with pytest.raises(UserError, match="does not follow a 4-D attention mask"):
        sensitivity(model, IDS, 5)


def test_broken_logits_are_reported():
    model = tiny_model()
    with torch.no_grad():
        model.lm_head.weight[3] = float("nan")
    with pytest.raises(UserError, match="not finite"):
        sensitivity(model, IDS, 5)


def test_the_engine_puts_it_into_the_trace():
    engine = Engine(tiny_model(), byte_tokenizer())
    trace = engine.with_sensitivity(engine.trace("12+3", max_new_tokens=8), samples=3)
    ids = torch.tensor(trace.prompt_tokens + trace.tokens)
    expected = sensitivity(engine.model, ids, len(trace.prompt_tokens), samples=3)
    assert torch.tensor(trace.sensitivity) == pytest.approx(expected, rel=1e-5)
