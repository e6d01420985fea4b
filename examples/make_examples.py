"""The traces that the app shows when it is opened on nothing: `python examples/make_examples.py`, a minute.

Writes erpo_hub/ui/library/examples.parquet: SmolLM2-135M's solutions of twelve sums before and after training
(docs/evidence/smollm2), first a right one that hung on one token, and one group of completions as ERPO's
trainer saw it, of a short run on the embedded model.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from erpo_hub import Trace, train_and_push
from erpo_hub.tasks.grading import extract_answer
from erpo_hub.traces.logged import steps_in
from erpo_hub.ui.library.labels import titled

ROOT = Path(__file__).resolve().parent.parent
STUDY = ROOT / "docs" / "evidence" / "smollm2" / "traces.parquet"
OUT = ROOT / "erpo_hub" / "ui" / "library" / "examples.parquet"
STEPS = 40


def solutions() -> list[Trace]:
    """The study's traces, with the answers that they state; first the right one with the strongest pivot."""
    found = [
        trace.replace(answer=extract_answer(trace.completion), model=titled(trace.model))
        for trace in Trace.from_parquet(STUDY)
    ]
    first = max((t for t in found if t.correct), key=lambda t: max(t.entropy))
    return [first, *(trace for trace in found if trace is not first)]


def group() -> list[Trace]:
    """The last logged group in which about half of the completions were right."""
    with tempfile.TemporaryDirectory() as folder:
        train_and_push(
            "builtin:tiny-reasoner",
            "builtin:expressions?operands=4",
            push=False,
            output_dir=folder,
            evaluation={"n": 8},
            log_completions_every=5,
            max_steps=STEPS,
            per_device_train_batch_size=64,
            num_generations=8,
            max_completion_length=64,
            seed=0,
        )
        files = steps_in(Path(folder) / "checkpoints" / "groups", "group")
        groups: dict[tuple, list[Trace]] = {}
        for step, file in files.items():
            for trace in Trace.from_parquet(file):
                groups.setdefault((step, trace.generation["group"]), []).append(trace)

        def balance(members: list[Trace]) -> float:
            return abs(sum(t.generation["reward"] > 0.5 for t in members) / len(members) - 0.5)

        step, _ = best = min(groups, key=lambda key: (balance(groups[key]), -key[0]))
        return [t.replace(model=f"tiny-reasoner, step {step} of ERPO") for t in groups[best]]


if __name__ == "__main__":
    Trace.to_parquet(solutions() + group(), OUT)
    print(f"wrote {OUT}: {OUT.stat().st_size / 1000:.0f} kB")
