"""Random models of a few thousand parameters and a byte-level tokenizer, built in a moment, no network.

Every byte is a token, so every character outside ASCII is split over several tokens.
"""

from __future__ import annotations

import functools

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

FAMILIES = ("qwen2", "llama", "gemma2", "gpt2")
EOS, VOCAB, CONTEXT = 256, 258, 128


@functools.cache
def byte_tokenizer() -> PreTrainedTokenizerFast:
    vocab = {char: i for i, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    core = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<eos>", pad_token="<pad>")


def tiny_model(
    family: str = "qwen2", *, seed: int = 0, eos: int | list[int] | None = EOS, sharp: float = 8.0
):
    """A random model whose predictions are neither flat nor certain (`sharp` scales its weights)."""
    torch.manual_seed(seed)
    common = {
        "vocab_size": VOCAB,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": CONTEXT,
        "eos_token_id": eos,
        "bos_token_id": None,
        "pad_token_id": 257,
    }
    if family == "qwen2":
        model = Qwen2ForCausalLM(Qwen2Config(**common))
    elif family == "llama":
        model = LlamaForCausalLM(LlamaConfig(**common))
    elif family == "gemma2":
        config = Gemma2Config(**common, head_dim=8, sliding_window=8, final_logit_softcapping=3.0)
        model = Gemma2ForCausalLM(config)
    else:
        names = ("vocab_size", "eos_token_id", "bos_token_id", "pad_token_id")
        shape = {"n_positions": CONTEXT, "n_embd": 16, "n_layer": 3, "n_head": 2}
        model = GPT2LMHeadModel(GPT2Config(**{n: common[n] for n in names}, **shape))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1:
                weight.mul_(sharp if "embed" not in name and "wte" not in name else sharp * 2)
    return model.eval()
