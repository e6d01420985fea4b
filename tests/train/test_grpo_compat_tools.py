"""Compatibility, continued: tools and environments, with a tiny Qwen3 and TRL's copy of its chat template.

A random model calls no tool, so `generate` is made to answer with prepared texts, one list of them a call.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from compat import KINDS, build, logged, older, run
from datasets import Dataset
from peft import LoraConfig
from tiny_models import save_tool_caller

from erpo_hub import ERPOTrainer

pytestmark = pytest.mark.filterwarnings("ignore:You are using 'environment_factory'")


def multiply(a: int, b: int) -> int:
    """
    Multiplies two whole numbers.

    Args:
        a: The first number.
        b: The second number.

    Returns:
        The product.
    """
    return a * b


async def multiply_later(a: int, b: int) -> int:
    """
    Multiplies two whole numbers, not at once.

    Args:
        a: The first number.
        b: The second number.

    Returns:
        The product.
    """
    await asyncio.sleep(0)
    return a * b


def digits(completions: list, **kwargs: Any) -> list[float]:
    """The share of digits in the last message: the one after the tool's answer, where there is one."""
    return [sum(ch.isdigit() for ch in c[-1]["content"]) / 8 for c in completions]


def questions(rows: int = 8, **columns: Any) -> Dataset:
    prompts = [[{"role": "user", "content": f"{i} times {i + 1}?"}] for i in range(rows)]
    return Dataset.from_list(
        [{"prompt": p, **{k: v[i % len(v)] for k, v in columns.items()}} for i, p in enumerate(prompts)]
    )


def call(name: str, **arguments: Any) -> str:
    content = json.dumps({"name": name, "arguments": arguments})
    return f"<tool_call>\n{content}\n</tool_call><|im_end|>"


def answers(*texts: str) -> list[str]:
    return [f"{text}<|im_end|>" for text in texts]


@pytest.fixture(scope="module")
def tool_caller(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tool_caller(tmp_path_factory.mktemp("models") / "tool-caller"))


@pytest.fixture(params=KINDS, ids=str)
def make(request: pytest.FixtureRequest, tool_caller: str, tmp_path: Path):
    def made(*turns: list[str], **options: Any) -> Any:
        options = {"dataset": questions(), "reward_funcs": digits, "max_completion_length": 400, **options}
        trainer = build(request.param, tmp_path, tool_caller, **options)
        if turns:
            speak(trainer, turns)
        return trainer

    return made


def speak(made: Any, turns: tuple[list[str], ...]) -> None:
    tokenizer, left = made.processing_class, list(turns)

    def generate(input_ids: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        rows = [tokenizer(text)["input_ids"] for text in left.pop(0)]
        assert len(rows) == len(input_ids)
        width = max(map(len, rows))
        padded = [row + [tokenizer.pad_token_id] * (width - len(row)) for row in rows]
        return torch.cat([input_ids, torch.tensor(padded)], dim=1)

    made.model.generate = generate
    made.turns_left = left


HALF_CALL = [call("multiply", a=3, b=4), *answers("no 1", "22", "3 a")] * 2
THEN = answers("it is 12", "12 12")


def text_where(made: Any, row: int, mask: int) -> str:
    """The text of one completion where TRL's tool mask has the value `mask`."""
    batch = made.batches[0]
    keep = (batch["tool_mask"][row] == mask) & batch["completion_mask"][row].bool()
    return made.processing_class.decode(batch["completion_ids"][row][keep])


def test_tools_are_offered_and_never_called(make) -> None:
    """Real generation: nothing but the prompt differs from a training without tools."""
    made = run(make(tools=[multiply], max_completion_length=12))
    prompt = made.processing_class.decode(made.batches[0]["prompt_ids"][0])
    assert '"name": "multiply"' in prompt
    assert logged(made, "tools/call_frequency") == [0.0]
    if isinstance(made, ERPOTrainer):
        assert made._source_logged == "the decode steps of generate"


@pytest.mark.parametrize("tool", [multiply, multiply_later], ids=["sync", "async"])
def test_tool_calls(make, tool: Any) -> None:
    first = [text.replace("multiply", tool.__name__) for text in HALF_CALL]
    made = run(make(first, THEN, tools=[tool]))
    assert not made.turns_left
    assert logged(made, "tools/call_frequency") == [0.25]
    assert logged(made, "tools/failure_frequency") == [0.0]
    # What the tool said is not the model's: no advantage, no loss.
    assert "<tool_response>\n12\n</tool_response>" in text_where(made, 0, 0)
    assert "tool_response" not in text_where(made, 0, 1)
    assert text_where(made, 0, 1).endswith("it is 12<|im_end|>")
    assert text_where(made, 1, 0) == ""
    if isinstance(made, ERPOTrainer):
        batch = made.batches[0]
        assert (batch["advantages"][0][batch["tool_mask"][0] == 0] == 0).all()
        assert batch["advantages"][0].abs().max() > 0
        assert made._source_logged == "one extra forward"  # decode steps of several turns are no columns


def test_token_signal_around_a_tool_answer(make) -> None:
    """Away from its reference, the model's own tokens get unequal advantages and the tool's none."""
    adapter = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=4, init_lora_weights=False)
    made = run(make(HALF_CALL, THEN, tools=[multiply], peft_config=adapter))
    if isinstance(made, ERPOTrainer):
        batch = made.batches[0]
        own = (batch["tool_mask"] * batch["completion_mask"]).bool()
        assert batch["advantages"][0][own[0]].std() > 0.01
        assert (batch["advantages"][~own] == 0).all()


def test_calls_that_fail(make) -> None:
    """An unknown tool, wrong arguments, a tool that raises, a call that is no JSON, two calls in one turn."""

    def raises(a: int) -> int:
        """
        Never works.

        Args:
            a: Anything.
        """
        raise RuntimeError("out of order")

    broken = "<tool_call>\n{not json}\n</tool_call><|im_end|>"
    twice = call("multiply", a=1, b=2).replace("<|im_end|>", "\n") + call("multiply", a=3, b=4)
    first = [call("divide", a=1), call("multiply", c=1), call("raises", a=1), broken, twice, *answers(*"123")]
    made = run(make(first, answers("4", "5 5", "6", "77"), tools=[multiply, raises]))
    assert logged(made, "tools/call_frequency") == [5 / 8]
    assert logged(made, "tools/failure_frequency") == pytest.approx([3 / 5])
    assert "Tool divide not found" in text_where(made, 0, 0)
    assert "out of order" in text_where(made, 2, 0)
    assert text_where(made, 4, 0).count("<tool_response>") == 2


def test_calls_in_a_row_and_their_limit(make) -> None:
    second = [call("multiply", a=12, b=12), answers("12")[0]]
    made = run(make(HALF_CALL, second, answers("144"), tools=[multiply]))
    assert not made.turns_left
    assert "144" in text_where(made, 0, 0)
    made = run(make(HALF_CALL, second, tools=[multiply], max_tool_calling_iterations=1))
    assert not made.turns_left  # the second call is not made
    assert "144" not in text_where(made, 0, 0)


@pytest.mark.parametrize("length", [60, 90])
def test_no_room_for_the_tools_answer_or_what_follows(make, length: int) -> None:
    """At 60 tokens the answer does not fit and is dropped; at 90 the turn after it is cut."""
    turns = (HALF_CALL, answers("1" * 40, "2" * 3)) if length == 90 else (HALF_CALL,)
    made = run(make(*turns, tools=[multiply], max_completion_length=length))
    assert not made.turns_left
    assert made.batches[0]["completion_ids"].shape[1] <= length
    assert ("tool_response" in text_where(made, 0, 0)) == (length == 90)


def test_completions_with_tool_turns_are_logged(make, tmp_path: Path) -> None:
    import pandas as pd

    made = run(make(HALF_CALL, THEN, tools=[multiply], log_completions=True, num_completions_to_print=1))
    table = pd.read_parquet(tmp_path / "completions" / "completions_00001.parquet")
    said = table["completion"][0]
    if older("1.15"):  # which logs a completion as one text
        batch = made.batches[0]
        ids = batch["completion_ids"][0][batch["completion_mask"][0].bool()]
        assert said == made.processing_class.decode(ids, skip_special_tokens=True)
        return
    roles = [message["role"] for message in said]
    assert roles == ["assistant", "tool", "assistant"]


# --- environments ---


class Counter:
    """Counts up; its reward is how far it got."""

    def reset(self, **kwargs: Any) -> str:
        self.total, self.seen = 0, kwargs
        return " Start at 0."

    def add(self, amount: int) -> int:
        """
        Adds to the counter.

        Args:
            amount: How much.

        Returns:
            The new total.
        """
        self.total += amount
        return self.total


class ScoredCounter(Counter):
    def get_reward(self) -> float:
        return float(self.total)


class Silent:
    """No tool, nothing to say at the start; rewards itself a little later."""

    def reset(self, **kwargs: Any) -> None:
        self.ready = True

    async def get_reward(self) -> float:
        return 0.25


ADD = [call("add", amount=i) for i in range(1, 5)] + answers("0", "no", "1 1", "x")
DONE = answers("1", "2", "3", "4")


def test_environment(make) -> None:
    """Every completion has its own; its answers are seen by the reward function."""
    totals: list[int] = []

    def counted(completions: list, environments: list, **kwargs: Any) -> list[float]:
        totals.extend(environment.total for environment in environments)
        return [float(environment.total) for environment in environments]

    made = run(make(ADD, DONE, environment_factory=Counter, reward_funcs=counted))
    assert totals == [1, 2, 3, 4, 0, 0, 0, 0]
    prompt = made.processing_class.decode(made.batches[0]["prompt_ids"][0])
    assert "Start at 0." in prompt
    assert '"name": "add"' in prompt
    assert "<tool_response>\n3\n</tool_response>" in text_where(made, 2, 0)


def test_environment_that_rewards_itself(make) -> None:
    made = run(make(ADD, DONE, environment_factory=ScoredCounter, reward_funcs=None))
    assert logged(made, "rewards/ScoredCounter/mean") == [10 / 8]
    spread = made.batches[0]["advantages"].view(8, -1).abs().amax(1)
    assert (spread[:4] > 0).all()
    assert (spread[4:] == 0).all()  # a group of equal rewards


class Costly(ScoredCounter):
    @property
    def connection(self) -> None:
        raise AssertionError("looked at to see whether it is a tool")


@pytest.mark.skipif(older("1.15"), reason="older TRL evaluates properties")
def test_properties_of_an_environment_are_left_alone(make) -> None:
    run(make(ADD, DONE, environment_factory=Costly, reward_funcs=None))


@pytest.mark.skipif(older("1.9"), reason="TRL 1.8's own trainer asks for a dataset here as well")
def test_environment_without_a_dataset(make) -> None:
    made = make(ADD, DONE, environment_factory=ScoredCounter, reward_funcs=None)
    placeholder = type(made)(
        made.model.config._name_or_path,
        None,
        made.args,
        environment_factory=ScoredCounter,
    )
    speak(placeholder, (ADD, DONE))
    placeholder.train()
    assert logged(placeholder, "rewards/ScoredCounter/mean") == [10 / 8]


def test_several_environments(make) -> None:
    """Each row names its own; a row is offered that one's tools only and scored by that one only."""
    data = questions(2, environment=["counter", "silent"])
    factories = {"counter": ScoredCounter, "silent": Silent}
    turns = ([call("add", amount=5), *answers("1", "2", "33")] * 2, answers("5", "6"))
    made = run(
        make(
            *turns, dataset=data, environment_factory=factories, reward_funcs=[digits], shuffle_dataset=False
        )
    )
    prompts = [made.processing_class.decode(ids) for ids in made.batches[0]["prompt_ids"]]
    assert ['"name": "add"' in prompt for prompt in prompts] == [True] * 4 + [False] * 4
    assert logged(made, "rewards/ScoredCounter/mean") == [5 / 4]
    assert logged(made, "rewards/Silent/mean") == [0.25]
    # The second group calls a tool that its environment does not have.
    assert "Tool add not found" in text_where(made, 4, 0)


def test_environment_that_cannot_be_reset_is_refused(make) -> None:
    with pytest.raises(ValueError, match="callable `reset`"):
        make(environment_factory=dict, reward_funcs=digits)
