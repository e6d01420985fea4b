"""Make the ready traces of the inspector Space, real ones on real text, right and wrong.

    python examples/smollm2.py runs/smollm2-135m
    python examples/make_traces.py smollm2 runs/smollm2-135m
    erpo-hub demo                                    # makes runs/demo/grpo and runs/demo/erpo
    python examples/make_traces.py tiny runs/demo/grpo/bundle runs/demo/erpo/bundle

SmolLM2 answers reasoning-gym problems: short sums after two worked examples (it gets about half of them
right), and school problems in its chat form. The tiny reasoner solves the same expressions before and after
GRPO and ERPO. Seeds are fixed; where a right and a wrong answer to a problem are wanted, seeds are tried in
order until one is found.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path

from erpo_hub import Engine, Trace
from erpo_hub.tasks.answers import extract_answer

OUT = Path("spaces/inspector/traces")
SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"
EXAMPLES = """Question: What is 4 + 9 - 2?
Steps: 4 + 9 = 13. 13 - 2 = 11. The answer is 11.

Question: What is 8 - 3 + 7?
Steps: 8 - 3 = 5. 5 + 7 = 12. The answer is 12.

Question: What is {}?
Steps:"""
SEEDS = range(1, 7)


def store(
    engine: Engine, trace: Trace, gold: str, name: str, right: Callable[[str], bool] | None = None
) -> None:
    """Measure what is missing and write the file. right: judges the completion; default: equal answers."""
    answer = extract_answer(trace.completion)
    correct = right(trace.completion) if right else answer == gold
    trace = engine.with_sensitivity(trace).replace(gold=gold, answer=answer, correct=correct)
    trace.to_json(OUT / f"{name}.json")
    print(f"{name}: {len(trace)} tokens, {'right' if correct else 'wrong'}", flush=True)


def wanted(engine: Engine, prompt: str, gold: str, correct: bool, **options) -> Trace | None:
    """The first seed's trace whose answer is right, or wrong, as wanted."""
    for seed in SEEDS:
        trace = engine.trace(prompt, seed=seed, **options)
        if trace.finish_reason == "eos" and (extract_answer(trace.completion) == gold) == correct:
            return trace
    return None


def smollm2(folder: str) -> None:
    """Ten short sums, five right and five wrong; two school problems of each of two kinds, in chat form."""
    import reasoning_gym

    engine = Engine.load(folder)
    engine.name = SMOLLM2
    own = set(engine.eos)
    shape = {"min_terms": 3, "max_terms": 3, "min_digits": 1, "max_digits": 1}
    sums = reasoning_gym.create_dataset("chain_sum", size=40, seed=11, **shape)
    made = {True: 0, False: 0}
    engine.eos = own | {engine.tokenizer("\n", add_special_tokens=False).input_ids[-1]}
    for row in sums:
        correct = made[True] <= made[False]
        if made[correct] == 5:
            break
        expression = max(re.findall(r"\d[\d+\- ]+\d", row["question"]), key=len)
        options = {"max_new_tokens": 60, "temperature": 0.7, "chat": False}
        trace = wanted(engine, EXAMPLES.format(expression), row["answer"], correct, **options)
        if trace is not None:
            made[correct] += 1
            store(
                engine, trace, row["answer"], f"smollm2-sum-{made[correct]}-{'right' if correct else 'wrong'}"
            )
    engine.eos = own
    for task in ("gsm_symbolic", "leg_counting"):
        for number, row in enumerate(reasoning_gym.create_dataset(task, size=2, seed=3), 1):
            trace = engine.trace(row["question"], max_new_tokens=160, temperature=0.6, seed=number)
            store(engine, trace, str(row["answer"]), f"smollm2-{task.replace('_', '-')}-{number}")


def tiny(grpo: str, erpo: str) -> None:
    """Two expressions, each solved by the model as shipped, after GRPO and after ERPO."""
    from erpo_hub.tasks.grading import Grader
    from erpo_hub.tasks.tasks import load_task
    from erpo_hub.traces.loading import EMBEDDED_MODEL, resolve_model

    task = load_task("builtin:expressions?operands=4", seed=0)
    with Grader(task.grader) as grader:
        for stage, folder in (("before", resolve_model(EMBEDDED_MODEL)), ("grpo", grpo), ("erpo", erpo)):
            engine = Engine.load(folder)
            engine.name = "tiny-reasoner" + ("" if stage == "before" else f", after {stage.upper()}")
            for number in (1, 2):
                row = task.test[number]
                trace = engine.trace(row["prompt"], max_new_tokens=64, temperature=1.0, seed=number)

                def right(completion: str, gold: str = row["answer"]) -> bool:
                    return grader.grade([completion], [gold])[0] > 0.5

                store(engine, trace, row["answer"], f"tiny-{number}-{stage}", right)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="what", required=True)
    commands.add_parser("smollm2").add_argument("model", nargs="?", default="runs/smollm2-135m")
    after = commands.add_parser("tiny")
    after.add_argument("grpo")
    after.add_argument("erpo")
    arguments = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    if arguments.what == "smollm2":
        smollm2(arguments.model)
    else:
        tiny(arguments.grpo, arguments.erpo)


if __name__ == "__main__":
    main()
