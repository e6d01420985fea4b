"""A random language model of a few thousand weights with a character-level tokenizer, saved for real."""

from __future__ import annotations

from pathlib import Path

ALPHABET = "0123456789+-*/()= \nabcdefghijklmnopqrstuvwxyz.:'\"BT"
CHAT = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant: "


def save_tiny_model(folder: Path, seed: int = 0) -> Path:
    """Writes model and tokenizer with `save_pretrained`; other seeds give other weights."""
    import torch
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    vocabulary = {"<pad>": 0, "<eos>": 1, "<unk>": 2} | {c: i + 3 for i, c in enumerate(ALPHABET)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        chat_template=CHAT,
    )
    wrapped.save_pretrained(folder)
    torch.manual_seed(seed)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = Qwen2Config(
        vocab_size=len(vocabulary), num_key_value_heads=1, eos_token_id=1, pad_token_id=0, **sizes
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    return folder


def greedy(model_id: str | Path, prompt: str = "3+4*2-1=") -> list[int]:
    """Ids of 12 greedily chosen tokens."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_id)
    model = AutoModelForCausalLM.from_pretrained(model_id)
    inputs = tokenizer(prompt, return_tensors="pt")
    return model.generate(**inputs, max_new_tokens=12, do_sample=False)[0].tolist()
