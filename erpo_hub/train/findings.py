"""What the run doctor can find: the kinds, and for each the change to make. Data; docs/doctor.md explains.

A kind that follows from another is left out where that one was found: `IMPLIED`.
"""

from __future__ import annotations

from dataclasses import dataclass

SURE, LIKELY = "sure", "likely"

CHANGES = {
    "no-chat-template": "give prompts as messages ([{'role': 'user', 'content': ...}]), leave --plain off",
    "other-evaluation-prompt": "ask the held-out questions in the words and the form of training",
    "cut-off": "raise max_completion_length, ask for less, or check that the model has an end token",
    "grader-accepts-everything": "try the reward function on a wrong answer: it should say 0",
    "grader-accepts-nothing": "try the reward function on the gold answer itself: it should say 1",
    "grader-gives-out": "grade in processes with a time limit, raise the limit, or simplify what is compared",
    "question-echoed": "have the grader refuse an answer that repeats the question",
    "arithmetic-undone": "have the grader refuse an expression where the answer is a number",
    "mark-missing": "show an answer with the mark in the prompt, warm up on such answers, or drop the mark",
    "groups-all-right": "use harder questions, or drop those that the starting model always gets right",
    "groups-all-wrong": "use easier questions, a reward for parts of the way, a warm-up, or larger groups",
    "prompts-repeated": "use TRL's own sampler: each prompt num_generations times in a row, then another",
    "rewards-in-conflict": "weigh the falling reward up (reward_weights), or say both in one function",
    "entropy-gone": "lower the learning rate, raise the temperature, or add a KL term (beta)",
    "entropy-explodes": "lower the learning rate, add a KL term (beta), or lower the temperature",
    "length-explodes": "do not pay for length, lower the learning rate, or mask truncated completions",
    "learning-rate-too-high": "divide the learning rate by 3 to 10, or add warmup_steps",
    "learning-rate-too-low": "raise the learning rate (usual: 1e-6, with LoRA 1e-5 to 1e-4); load the "
    "weights in float32",
    "lora-trains-nothing": "give the trainer peft_config and no optimizer made earlier; check lora_alpha, "
    "target_modules",
    "reference-differs": "start from the model that the reference is, with a fresh adapter and without "
    "dropout (disable_dropout)",
    "memory-grows": "look for what is kept from step to step (rewards, callbacks), or shorten completions",
}  # fmt: skip

IMPLIED = {
    "groups-all-right": ("grader-accepts-everything",),
    "groups-all-wrong": (
        "grader-accepts-nothing",
        "grader-gives-out",
        "mark-missing",
        "learning-rate-too-high",
    ),
    "cut-off": ("length-explodes",),
    "learning-rate-too-low": ("lora-trains-nothing",),
}


@dataclass(frozen=True)
class Finding:
    """What is wrong with a run. step: since which one, 0 before the first. certainty: "sure" or "likely"."""

    kind: str
    step: int
    certainty: str
    what: str
    change: str
    found_at: int

    def __str__(self) -> str:
        since = f"since step {self.step}" if self.step else "from the start"
        return f"{self.what} ({self.kind}, {since}, {self.certainty}): {self.change}"
