"""The card's usage snippet: a program that loads the published model and answers one prompt. A test runs it.

Prompts stand in it as Python literals, so no text can break out of the string; the card's fence does the
rest.
"""

from __future__ import annotations

import json
from typing import Any


def usage_snippet(run: dict[str, Any]) -> str:
    """Python that loads the model, answers the first prompt of the record and prints the completion."""
    fed = run.get("prompt") or {}
    samples = run["dataset"].get("samples") or [{"prompt": fed.get("example") or "1+1="}]
    here = '"."  # this folder, or the repository it is in'
    where = json.dumps(run["repo_id"]) if run.get("repo_id") else here
    budget = ((run.get("results") or {}).get("final") or {}).get("max_new_tokens", 256)
    lines = [
        *_imports(adapter=bool(run.get("adapter"))),
        "",
        f"model_id = {where}",
        "tokenizer = AutoTokenizer.from_pretrained(model_id)",
        f"model = {_class(adapter=bool(run.get('adapter')))}.from_pretrained(model_id)",
        *(
            _chat(fed, samples[0]["prompt"])
            if fed.get("chat_template")
            else _plain(fed, samples[0]["prompt"])
        ),
        f"output = model.generate(**inputs, max_new_tokens={budget}, do_sample=False)",
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


def _plain(fed: dict[str, Any], prompt: str) -> list[str]:
    return [f"prompt = {(fed.get('example') or prompt)!r}", 'inputs = tokenizer(prompt, return_tensors="pt")']


def _chat(fed: dict[str, Any], prompt: str) -> list[str]:
    system = [{"role": "system", "content": fed["system"]}] if fed.get("system") else []
    return [
        f"messages = {[*system, {'role': 'user', 'content': prompt}]!r}",
        "inputs = tokenizer.apply_chat_template(",
        '    messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"',
        ")",
    ]
