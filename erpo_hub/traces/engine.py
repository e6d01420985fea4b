"""A causal language model that answers and shows its uncertainty token by token.

`Engine` streams completions with their columns, scores given text, forks at a pivot. The parts: loading.py,
decoding.py (one step), columns.py (given text in one pass), audit.py (does a fork move the answer?).
Left out: batches of prompts (that is evaluation), grading (the caller's callable), other rooms.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from ..paths import expanded
from .asked import SHAPING, as_messages, asked_as, check_ids, encode
from .audit import Audit, Comparison, audit, compare_positions
from .columns import token_columns
from .decoding import Chooser, Sampling, Step, end_tokens, pieces_of
from .draft import Delta, Draft, Prompt, shown_prompt
from .loading import load
from .pivots import PivotRule
from .search import Found, Search, search_prompts
from .sensitivity import sensitivity
from .trace import MAX_TOKENS, Trace
from .vocabulary import Vocabulary

PREFILL_CHUNK = 512  # tokens between two looks at `cancel` while the prompt is read


class Engine(Vocabulary):
    """A loaded causal model with its tokenizer. One stream at a time makes sense; several are safe."""

    def __init__(self, model: Any, tokenizer: Any, *, name: str = "", revision: str | None = None):
        """model: a transformers causal LM. name, revision: what its traces say they come from."""
        name = name or getattr(model.config, "_name_or_path", "") or type(model).__name__
        super().__init__(tokenizer, int(model.get_output_embeddings().weight.shape[0]), name, revision)
        self.model = model.eval()
        self.device = model.device
        config = model.config.get_text_config(decoder=True)
        self.context = getattr(config, "max_position_embeddings", None)  # tokens; None: no stated limit
        self.eos = set(end_tokens(model, tokenizer))
        self.asked = asked_as(tokenizer)
        self._kept: tuple[list[int], Any] | None = None  # token ids and their KV cache, of the last stream

    @classmethod
    def load(
        cls,
        model: str | Path,
        revision: str | None = None,
        *,
        adapter: str | Path | None = None,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
    ) -> Engine:
        """From a Hub id, a local folder, a `.gguf` file, or a PEFT adapter (its base is found by its config).

        adapter: an adapter for `model` as its base. dtype: default float32 on a CPU, the checkpoint's own on
        a GPU. Safetensors or GGUF only; remote code never runs. Raises UserError.
        """
        lm, tokenizer = load(model, revision=revision, adapter=adapter, device=device, dtype=dtype)
        given = str(adapter or model)
        path = expanded(given)
        return cls(lm, tokenizer, name=path.name if path.exists() else given, revision=revision)

    # -- text in ------------------------------------------------------------------------------------

    def encode(self, prompt: Prompt, chat: bool | None = None) -> list[int]:
        """Ids fed to the model. chat: through the chat template; default: as in training, else if any."""
        if not shown_prompt(prompt).strip():
            raise UserError("the prompt is empty: give a question")
        asked = self.asked if chat is None else replace(self.asked, plain=not chat)
        if chat and not self.tokenizer.chat_template:
            raise UserError(f"{self.name}: its tokenizer has no chat template; give a plain prompt")
        if chat is False and not isinstance(prompt, str):
            prompt = "\n".join(m["content"] for m in prompt)
        ids = encode(self.tokenizer, [as_messages(self.tokenizer, prompt, asked)], asked)[0]
        if not ids:
            raise UserError("the prompt has no tokens: give a question")
        check_ids(ids, self.vocab_size, self.name)
        return list(ids)

    # -- completions --------------------------------------------------------------------------------

    def stream(
        self,
        prompt: Prompt,
        *,
        max_new_tokens: int = 256,
        temperature: float = 1.0,
        top_p: float | None = None,
        top_k: int | None = None,
        min_p: float | None = None,
        repetition_penalty: float | None = None,
        seed: int = 0,
        num_alternatives: int = 5,
        chat: bool | None = None,
        cancel: threading.Event | None = None,
    ) -> Iterator[Delta]:
        """Sample a completion and yield it token by token with its columns (see `Trace` for each).

        temperature 0 is greedy, its columns are then those of temperature 1. The same seed gives the same
        completion on the same machine. top_p, top_k, min_p and repetition_penalty default to those of the
        model's training, where its tokenizer says so, else to none. Ends at an end-of-sequence token of the
        generation config, after max_new_tokens, at the end of the context, or at the next token once `cancel`
        is set.
        Raises UserError: empty prompt, prompt longer than the context, logits that are not finite.
        """
        given = dict(zip(SHAPING, (top_p, top_k, min_p, repetition_penalty)))
        shaping: dict[str, Any] = self.asked.shaping | {
            name: value for name, value in given.items() if value is not None
        }
        sampling = Sampling(
            max_new_tokens, temperature, seed=seed, num_alternatives=num_alternatives, **shaping
        )
        draft = Draft(self, shown_prompt(prompt), self.encode(prompt, chat), sampling)
        self._check_context(len(draft.prompt_tokens))
        return self._run(draft, cancel, reuse=False)

    def trace(self, prompt: Prompt, **options: Any) -> Trace:
        """`stream` run to its end. Same parameters."""
        return _last(self.stream(prompt, **options))

    def fork(
        self,
        trace: Trace,
        index: int,
        token_id: int,
        *,
        cancel: threading.Event | None = None,
        **changes: Any,
    ) -> Iterator[Delta]:
        """Continue a trace with `token_id` in place of its token `index`; yields deltas from `index` on.

        Sampling parameters are the trace's own unless changed (max_new_tokens=, temperature=, top_p=, top_k=,
        min_p=, repetition_penalty=, seed=, num_alternatives=). max_new_tokens counts the whole completion.
        The forced token's `sampling_logprob` is 0: it was not drawn. The part of the last stream's KV cache
        that the fork shares is reused, where every layer attends to the full context. Raises UserError.
        """
        self.check(trace)
        if not 0 <= index < len(trace):
            raise UserError(f"token {index} is outside the trace, which has tokens 0 .. {len(trace) - 1}")
        if not 0 <= token_id < self.vocab_size:
            raise UserError(f"token id {token_id} is outside the vocabulary, 0 .. {self.vocab_size - 1}")
        known = ("max_new_tokens", "temperature", "seed", *SHAPING)
        options = {name: trace.generation[name] for name in known if name in trace.generation}
        options = {"num_alternatives": trace.num_alternatives, **options, **changes}
        options["max_new_tokens"] = max(options.get("max_new_tokens", 256), index + 1)
        draft = Draft(self, trace.prompt, list(trace.prompt_tokens), Sampling(**options), origin=trace)
        draft.copy(trace, index)
        draft.extra = {"fork_index": index, "fork_token": token_id}
        self._check_context(len(draft.prompt_tokens) + index)
        return self._run(draft, cancel, reuse=True, forced=token_id)

    def fork_trace(self, trace: Trace, index: int, token_id: int, **options: Any) -> Trace:
        """`fork` run to its end."""
        return _last(self.fork(trace, index, token_id, **options))

    def score(
        self,
        prompt: Prompt,
        completion: str | list[int],
        *,
        temperature: float = 1.0,
        num_alternatives: int = 5,
        chat: bool | None = None,
    ) -> Trace:
        """The trace of a given completion (text, or token ids), from one forward pass.

        Nothing was sampled, so `sampling_logprob` is None. Text is tokenized apart from the prompt (as it
        would have been generated), without an end-of-sequence token. temperature 0 counts as 1, as in
        `stream`. Raises UserError for an empty completion, one longer than the context, logits that are not
        finite, or a model whose output layer is of an unknown kind.
        """
        sampling = Sampling(temperature=temperature, num_alternatives=num_alternatives)
        prompt_tokens = self.encode(prompt, chat)
        if isinstance(completion, str):
            tokens = list(self.tokenizer(completion, add_special_tokens=False).input_ids)
        else:
            tokens = list(completion)
        if not tokens:
            raise UserError("the completion is empty: give the text to score")
        if not 0 <= min(tokens) <= max(tokens) < self.vocab_size:
            raise UserError(f"the completion has an id outside the vocabulary, 0 .. {self.vocab_size - 1}")
        length = len(prompt_tokens) + len(tokens)
        if length > (self.context or MAX_TOKENS):
            raise UserError(
                f"prompt and completion have {length} tokens and {self.name} reads at most"
                f" {self.context or MAX_TOKENS}: shorten the text"
            )
        ids = torch.tensor(prompt_tokens + tokens, device=self.device)
        columns = token_columns(self.model, ids, len(prompt_tokens), temperature or 1.0, num_alternatives)
        numbers = {name: torch.round(x.double(), decimals=6).cpu() for name, x in columns.items()}
        if not bool(torch.isfinite(numbers["entropy"]).all()):
            at = int((~torch.isfinite(numbers["entropy"])).int().argmax())
            raise UserError(
                f"{self.name}: its logits at token {at} are not finite; the weights are broken or overflow"
                " their dtype: try dtype='float32'"
            )
        pieces = pieces_of(self.tokenizer, tokens)
        topk_ids = columns["topk_ids"].tolist()
        return Trace(
            prompt=shown_prompt(prompt),
            completion="".join(pieces),
            prompt_tokens=prompt_tokens,
            tokens=tokens,
            pieces=pieces,
            entropy=numbers["entropy"].tolist(),
            logprob=numbers["logprob"].tolist(),
            topk_ids=topk_ids,
            topk_probs=numbers["topk_probs"].tolist(),
            vocab_size=self.vocab_size,
            model=self.name,
            revision=self.revision,
            strings={i: self.string(i) for i in {*tokens, *(i for row in topk_ids for i in row)}},
            pivots=PivotRule().find(numbers["entropy"].tolist()),
            pivot_rule=PivotRule(),
            generation={"temperature": sampling.temperature},
            finish_reason="scored",
        )

    def with_sensitivity(self, trace: Trace, **options: Any) -> Trace:
        """The trace with its sensitivity column measured; options as for `sensitivity`."""
        self.check(trace)
        ids = torch.tensor(trace.prompt_tokens + trace.tokens, device=self.device)
        values = sensitivity(self.model, ids, len(trace.prompt_tokens), **options)
        return trace.replace(sensitivity=[float(f"{v:.6g}") for v in values.tolist()])

    def audit(self, trace: Trace, n: int = 8, *, grade: Callable[[str], float], **options: Any) -> Audit:
        """Do this trace's pivots move its answer? See `audit.audit`."""
        return audit(self, trace, n, grade=grade, **options)

    def compare_positions(
        self, trace: Trace, n: int = 8, *, grade: Callable[[str], float], **options: Any
    ) -> Comparison:
        """The audit of the pivots beside that of as many other positions. See `audit.compare_positions`."""
        return compare_positions(self, trace, n, grade=grade, **options)

    def search(
        self,
        prompt: Prompt,
        *,
        answer: Callable[[str], Hashable] | None = None,
        chat: bool | None = None,
        **settings: Any,
    ) -> Found:
        """Look at several answers and take the one with the most probability, or withhold it.

        settings: of `Search` (strategy, width, min_mass, ...). answer: from a completion's text to what tells
        answers apart, such as `extract_answer`; default: every text is its own. `score(prompt, found.ids)`
        makes a trace of it. Raises UserError as `stream` does.
        """
        ids, eos = self.encode(prompt, chat), sorted(self.eos)
        return search_prompts(
            self.model, self.tokenizer, [ids], Search(**settings), pad=eos[0] if eos else 0, eos=eos,
            answers=[answer] if answer else None, context=self.context,
        )[0]  # fmt: skip

    # -- the loop -----------------------------------------------------------------------------------

    def _run(
        self, draft: Draft, cancel: threading.Event | None, *, reuse: bool, forced: int | None = None
    ) -> Iterator[Delta]:
        """Prefill, then one token at a time. No global state changes while the caller holds the generator."""
        cancelled = cancel.is_set if cancel is not None else None
        choose = Chooser(draft.sampling, self.device)
        ids = draft.prompt_tokens + draft.tokens
        room = self.context - len(ids) if self.context else draft.sampling.max_new_tokens
        left = min(draft.sampling.max_new_tokens - len(draft.tokens), room)
        logits, cache = self.prefill(ids, reuse=reuse, cancelled=cancelled)
        try:
            while True:
                if logits is None or (cancelled and cancelled()):
                    yield draft.end("cancelled")
                    return
                step = choose(logits, None if forced is None else [forced], text=[ids])
                forced = None
                self._check_finite(step, len(draft.tokens))
                token, left = step.token[0], left - 1
                reason = "eos" if token in self.eos else "length" if left <= 0 else None
                yield draft.add(step, reason)
                if reason:
                    return
                logits = self.forward([token], cache)
                ids.append(token)
        finally:
            if cache is not None:
                self._kept = (ids, cache)

    def prefill(
        self, ids: list[int], *, reuse: bool = False, cancelled: Callable[[], bool] | None = None
    ) -> tuple[Tensor | None, Any]:
        """Logits (1, V) after `ids` and the KV cache of all of them; (None, cache) when cancelled on the way.

        reuse: begin with the part of the kept cache that these ids share.
        """
        from transformers import DynamicCache

        cache = (self._shared(ids) if reuse else None) or DynamicCache(config=self.model.config)
        done, logits = cache.get_seq_length(), None
        while done < len(ids):
            if cancelled is not None and cancelled():
                return None, None
            logits = self.forward(ids[done : done + PREFILL_CHUNK], cache)
            done += PREFILL_CHUNK
        return logits, cache

    def keep(self, ids: list[int]) -> None:
        """Read ids once, so that forks from any place in them find their cache."""
        kept = self._kept[0] if self._kept else []
        if kept[: len(ids) - 1] != ids[:-1]:
            self._kept = (ids, self.prefill(ids)[1])

    @torch.inference_mode()
    def forward(self, ids: list[int] | list[list[int]], cache: Any) -> Tensor:
        """Next-token logits (B, V) after feeding ids, one row or several of one length."""
        rows = torch.tensor(ids if isinstance(ids[0], list) else [ids], device=self.device)  # (B, n)
        output = self.model(input_ids=rows, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return output.logits[:, -1]

    def _shared(self, ids: list[int]) -> Any:
        """A new cache over the kept one's longest common beginning with ids, short of their last token.

        Views, not copies: a dynamic layer grows by concatenation and never writes into what it had.
        """
        from transformers.cache_utils import DynamicCache, DynamicLayer

        if self._kept is None:
            return None
        old_ids, old = self._kept
        n = 0
        for a, b in zip(old_ids, ids[:-1]):
            if a != b:
                break
            n += 1
        if n == 0 or n > old.get_seq_length() or not all(type(layer) is DynamicLayer for layer in old.layers):
            return None
        cache = DynamicCache()
        for i, layer in enumerate(old.layers):
            cache.update(layer.keys[..., :n, :], layer.values[..., :n, :], i)
        return cache

    def _check_context(self, length: int) -> None:
        if self.context and length >= self.context:
            raise UserError(
                f"the prompt has {length} tokens and {self.name} reads at most {self.context},"
                " answer included: shorten it"
            )

    def _check_finite(self, step: Step, position: int) -> None:
        if any(h != h or h == float("inf") for h in step.entropy):
            raise UserError(
                f"{self.name}: its logits at token {position} are not finite; the weights are broken or"
                " overflow their dtype: try dtype='float32'"
            )


def _last(deltas: Iterator[Delta]) -> Trace:
    trace = None
    for delta in deltas:
        trace = delta.trace
    assert trace is not None
    return trace


__all__ = ["Delta", "Engine", "Prompt"]
