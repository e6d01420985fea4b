"""A stand-in for vLLM at the seam where TRL meets it: the engine (colocate) and the server's client.

Everything of TRL's own stays in play: weight sync, logprob extraction, importance sampling. What comes back
is recorded: completions and sampled log-probs of each prompt, handed out in order, again and again.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import trl.generation.vllm_generation as seam


class Recording:
    """Completions (ids, log-probs) of every prompt; NaN is how vLLM says that it has no log-prob."""

    def __init__(self, rows: list[tuple[list[int], list[int], list[float]]]):
        by_prompt: dict[tuple, list] = defaultdict(list)
        for prompt, ids, logprobs in rows:
            by_prompt[tuple(prompt)].append((ids, logprobs))
        self.left = {prompt: itertools.cycle(answers) for prompt, answers in by_prompt.items()}
        self.synced: list[dict[str, Any]] = []  # the weights of every synchronisation
        self.calls: list[SimpleNamespace] = []  # what was asked for

    def next(self, prompt: list[int]) -> tuple[list[int], list[float]]:
        return next(self.left[tuple(prompt)])


def install(monkeypatch: pytest.MonkeyPatch, recording: Recording) -> None:
    """Make TRL believe that vLLM is installed and give it the stand-ins."""

    class Engine:
        """What TRL uses of `vllm.LLM`."""

        def __init__(self, **options: Any):
            self.options, self.weights = options, {}
            model = SimpleNamespace(load_weights=lambda pairs: self.weights.update(copied(pairs)))
            worker = SimpleNamespace(model_runner=SimpleNamespace(model=model))
            self.llm_engine = SimpleNamespace(
                model_executor=SimpleNamespace(driver_worker=worker),
                model_config=SimpleNamespace(max_model_len=2048),
            )

        def reset_prefix_cache(self) -> None:
            recording.synced.append(self.weights)
            self.weights = {}

        def generate(self, prompts: list[dict], sampling_params: Any, use_tqdm: bool) -> list:
            recording.calls.append(sampling_params)
            return [request(p["prompt_token_ids"], *recording.next(p["prompt_token_ids"])) for p in prompts]

    class Client:
        """What TRL uses of its own client of a vLLM server."""

        def __init__(self, **options: Any):
            self.options, self.one_by_one = options, {}

        def init_communicator(self, device: Any) -> None:
            self.device = device

        def get_server_info(self) -> dict:
            return {"model_config": {"logprobs_mode": "processed_logprobs"}}

        def update_named_params(self, metadata: list, parameters: Any) -> None:
            received = copied(parameters)
            assert [name for name, *_ in metadata] == list(received)
            recording.synced.append(received)

        def update_named_param(self, name: str, weight: Any) -> None:  # how older TRL sends them
            self.one_by_one |= copied([(name, weight)])

        def reset_prefix_cache(self) -> None:
            if self.one_by_one:
                recording.synced.append(self.one_by_one)
                self.one_by_one = {}

        def generate(self, prompts: list[list[int]], n: int, **options: Any) -> dict:
            recording.calls.append(SimpleNamespace(n=n, **options))
            rows = [recording.next(prompt) for prompt in prompts for _ in range(n)]
            return {
                "prompt_ids": prompts,
                "completion_ids": [ids for ids, _ in rows],
                "logprobs": [[[None if x != x else x] for x in logprobs] for _, logprobs in rows],
            }

    monkeypatch.setattr(seam, "is_vllm_available", lambda: True)
    monkeypatch.setattr(seam, "LLM", Engine, raising=False)
    monkeypatch.setattr(seam, "SamplingParams", SimpleNamespace, raising=False)
    monkeypatch.setattr(seam, "VLLMClient", Client)
    if not torch.cuda.is_available():  # TRL before 1.10 asks CUDA where the server's client should live
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)


def copied(pairs: Any) -> dict[str, Any]:
    return {name: value.detach().clone() for name, value in pairs}


def request(prompt: list[int], ids: list[int], logprobs: list[float]) -> SimpleNamespace:
    """A `vllm.RequestOutput` with one completion and the log-prob of each sampled token."""
    columns = [{token: SimpleNamespace(logprob=x, rank=1)} for token, x in zip(ids, logprobs, strict=True)]
    output = SimpleNamespace(token_ids=list(ids), logprobs=columns)
    return SimpleNamespace(prompt_token_ids=prompt, outputs=[output])
