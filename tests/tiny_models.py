"""The tests' models: random, a few thousand parameters, built in a moment, no network.

`tiny_model` is in memory and reads bytes, so that every character outside ASCII is split over several tokens.
`save_tiny_model` is a folder and reads characters. The others are saved too: one that calls tools, one that
judges, an MoE, one that sees.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
import trl
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    CLIPVisionConfig,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2ForSequenceClassification,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
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


ALPHABET = "0123456789+-*=()\n abcdefghijklmnopqrstuvwxyz"


def save_char_tokenizer(folder: Path, alphabet: str = ALPHABET, chat_template: str | None = None) -> None:
    vocab = {token: i for i, token in enumerate(["<pad>", "<eos>", "<unk>", *alphabet])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        padding_side="left",
        chat_template=chat_template,
    ).save_pretrained(folder)


def save_tiny_model(
    folder: Path,
    *,
    tied: bool = True,
    seed: int = 0,
    alphabet: str = ALPHABET,
    chat_template: str | None = None,
    **config: object,
) -> Path:
    """A random Qwen2 of about 10,000 parameters over an alphabet; sharp enough that entropies differ."""
    torch.manual_seed(seed)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(alphabet) + 3,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            tie_word_embeddings=tied,
            pad_token_id=0,
            eos_token_id=1,
            bos_token_id=None,
            initializer_range=0.3,
            **config,
        )
    )
    model.save_pretrained(folder)
    save_char_tokenizer(folder, alphabet, chat_template)
    return folder


def save_chat_model(folder: Path, seed: int = 0) -> Path:
    """The same with a chat template, over the characters that it needs."""
    chat = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant: "
    return save_tiny_model(folder, seed=seed, alphabet=ALPHABET + "/.:'\"BT", chat_template=chat)


def greedy(model_id: str | Path, prompt: str = "3+4*2-1=") -> list[int]:
    """Ids of 12 greedily chosen tokens."""
    tokenizer = AutoTokenizer.from_pretrained(model_id)
    model = AutoModelForCausalLM.from_pretrained(model_id)
    inputs = tokenizer(prompt, return_tensors="pt")
    return model.generate(**inputs, max_new_tokens=12, do_sample=False)[0].tolist()


CHAT = (
    "{% for m in messages %}{{ m['role'][0] }} {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}{{ prefix | default('a') }} {% endif %}"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
ADDED = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")


def chat_tokenizer(folder: str) -> Any:
    """The tiny model's tokenizer with a chat template that takes one optional setting, `prefix`."""
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    tokenizer.chat_template = CHAT
    return tokenizer


def size(vocabulary: int = len(ALPHABET) + 3, **changes: Any) -> dict[str, Any]:
    return {
        "vocab_size": vocabulary,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 2048,
        "initializer_range": 0.3,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": None,
        **changes,
    }


def save_reward_model(folder: Path) -> Path:
    """Scores a text by one number, as a preference model does."""
    torch.manual_seed(1)
    Qwen2ForSequenceClassification(Qwen2Config(**size(), num_labels=1)).save_pretrained(folder)
    save_char_tokenizer(folder)
    return folder


def save_moe(folder: Path) -> Path:
    torch.manual_seed(2)
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "head_dim": 8}
    model = Qwen3MoeForCausalLM(Qwen3MoeConfig(**size(), **experts, router_aux_loss_coef=0.1))
    model.save_pretrained(folder)
    save_char_tokenizer(folder)
    return folder


def save_tool_caller(folder: Path) -> Path:
    """A random Qwen3 over bytes with Qwen3's special tokens and TRL's copy of its chat template."""
    vocab = {char: i for i, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    core = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    core.add_tokens([AddedToken(token, special=False, normalized=False) for token in ADDED])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token=SPECIAL[0], eos_token=SPECIAL[2], padding_side="left"
    )
    tokenizer.chat_template = (Path(trl.__file__).parent / "chat_templates" / "qwen3.jinja").read_text()
    tokenizer.save_pretrained(folder)
    torch.manual_seed(3)
    ends = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    model = Qwen3ForCausalLM(Qwen3Config(**size(len(tokenizer), **ends), head_dim=8))
    model.save_pretrained(folder)
    return folder


def save_vision_model(folder: Path) -> Path:
    """A random LLaVA for images of 16 x 16 pixels: four patches and so four image tokens each."""
    from transformers.models.clip import CLIPImageProcessorPil  # needs no torchvision

    names = ["<pad>", "<eos>", "<unk>", "<image>", *ALPHABET]
    core = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    core.decoder = decoders.Fuse()
    core.add_special_tokens(["<image>"])
    special = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>"}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        padding_side="left",
        extra_special_tokens={"image_token": "<image>"},
        **special,
    )
    part = "{% if c['type'] == 'image' %}<image>{% else %}{{ c['text'] }}{% endif %}"
    images = CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    LlavaProcessor(
        images,
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template="{% for m in messages %}{% for c in m['content'] %}"
        + part
        + "{% endfor %}\n{% endfor %}",
    ).save_pretrained(folder)
    eye = {"image_size": 16, "patch_size": 8, "projection_dim": 16, "initializer_range": 0.3}
    shape = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    text = size(len(names))
    torch.manual_seed(4)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**{name: text[name] for name in shape}, **eye),
        text_config=LlamaConfig(**text),
        image_token_index=names.index("<image>"),
        vision_feature_layer=-1,
        image_seq_length=4,
        pad_token_id=0,
        eos_token_id=1,
    )
    model = LlavaForConditionalGeneration(config)
    # A random model would say the image token, as older TRL lets it; the next forward then misses an image.
    model.generation_config.suppress_tokens = [names.index("<image>")]
    model.save_pretrained(folder)
    return folder
