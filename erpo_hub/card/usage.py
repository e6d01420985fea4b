"""The card's usage snippet: a program that loads the published model and answers one prompt. A test runs it.

Prompts stand in it as Python literals, so no text can break out of the string; the card's fence does the
rest.
"""

from __future__ import annotations

import json

from ..record.format import Prompt, RunRecord


def usage_snippet(run: RunRecord, repo_id: str | None = None) -> str:
    """Python that loads the model, answers the first prompt of the record and prints the completion."""
    samples, final = run.dataset.samples if run.dataset else [], run.results.final
    prompt = samples[0].prompt if samples else run.prompt.example or "1+1="
    adapter = run.adapter is not None
    where = json.dumps(repo_id) if repo_id else '"."  # this folder, or the repository it is in'
    budget = final.max_new_tokens if final and final.max_new_tokens is not None else 256
    lines = [
        *_imports(adapter=adapter),
        "",
        f"model_id = {where}",
        "tokenizer = AutoTokenizer.from_pretrained(model_id)",
        f"model = {_class(adapter=adapter)}.from_pretrained({_loaded(run.prompt)})",
        *(_chat if run.prompt.chat_template else _plain)(run.prompt, prompt),
        f"output = model.generate(**inputs, {_decoding(run.prompt, budget)})",
        'completion = output[0, inputs["input_ids"].shape[1] :]',
        "print(tokenizer.decode(completion, skip_special_tokens=True))",
    ]
    return "\n".join(lines)


def _class(*, adapter: bool) -> str:
    return "AutoPeftModelForCausalLM" if adapter else "AutoModelForCausalLM"


def _imports(*, adapter: bool) -> list[str]:
    if adapter:
        return ["from peft import AutoPeftModelForCausalLM", "from transformers import AutoTokenizer"]
    return ["from transformers import AutoModelForCausalLM, AutoTokenizer"]


def _plain(_: Prompt, prompt: str) -> list[str]:
    return [f"prompt = {prompt!r}", 'inputs = tokenizer(prompt, return_tensors="pt")']


def _chat(fed: Prompt, prompt: str) -> list[str]:
    system = [{"role": "system", "content": fed.system}] if fed.system else []
    return [
        f"messages = {[*system, {'role': 'user', 'content': prompt}]!r}",
        "inputs = tokenizer.apply_chat_template(",
        '    messages, add_generation_prompt=True, return_dict=True, return_tensors="pt",',
        *(f"    **{fed.chat_template_kwargs!r}," for _ in range(bool(fed.chat_template_kwargs))),
        ")",
    ]


def _loaded(fed: Prompt) -> str:
    return f'model_id, dtype="{fed.dtype}"' if fed.dtype and fed.dtype.isidentifier() else "model_id"


def _decoding(fed: Prompt, budget: int) -> str:
    """As the model was judged: greedy, ending where a completion ended in training."""
    stop = f", eos_token_id={fed.stop_token_ids!r}" if fed.stop_token_ids else ""
    penalty = (fed.shaping or {}).get("repetition_penalty")
    return f"max_new_tokens={budget}, do_sample=False{stop}" + (
        f", repetition_penalty={penalty!r}" if isinstance(penalty, int | float) else ""
    )
