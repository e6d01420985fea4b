"""Ten architectures, trained, judged, bundled and loaded again: is it one model and one prompt all the way?

    python benchmarks/families.py [--families qwen3,gpt2] [--write docs/models.md]

Each is a small random model with the vocabulary of its family's tokenizer, the real one where npm has it,
else bytes. It trains for two steps, is judged, bundled, and loaded again: the literal prompt and the greedy
output must be those of the run. Left out: what a trained model of the family can do.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from real_tokenizers import FAMILIES, save_family  # noqa: E402

SETTINGS: dict[str, dict[str, Any]] = {  # for the chat template: the switch that users of the family turn
    "qwen3": {"enable_thinking": False},
    "gpt_oss": {"reasoning_effort": "low"},
}
COLUMNS = (
    "architecture",
    "tokenizer",
    "the prompt ends in",
    "stops at",
    "first progress_std",
    "prompt",
    "output",
)
INTRO = """# Models

Written by `python benchmarks/families.py --write docs/models.md`: small random models of ten architectures,
each with its family's real tokenizer and chat template where a public package carries it. Every one trained
for two steps, was judged and bundled, and was loaded again from the bundle. "Prompt" and "output" say whether
the token ids of the prompt and of the greedy completion were then those of the run; `progress_std` is that of
the first step, where policy and reference are one model and it should be close to 0.

"""


def reward(completions: list, **_: Any) -> list[float]:
    """Differs from completion to completion, whatever a random model says."""
    texts = [c if isinstance(c, str) else c[0]["content"] for c in completions]
    return [sum(map(ord, text)) % 7 / 7 for text in texts]


def run_family(family: str, folder: Path) -> dict[str, str]:
    from datasets import Dataset

    from erpo_hub import Engine, Trace, train_and_push
    from erpo_hub.evaluation.sampling import evaluate
    from erpo_hub.tasks.tasks import load_data

    model = str(save_family(family, folder / family))
    questions = [{"prompt": f"What is {i} + {'1' * (i % 7 + 1)}?", "answer": str(i)} for i in range(40)]
    data = load_data(Dataset.from_list(questions))
    made = train_and_push(
        model,
        data,
        output_dir=folder / f"{family}-run",
        push=False,
        reward_funcs=reward,
        evaluation={"n": 4},
        chat_template_kwargs=SETTINGS.get(family, {}),
        per_device_train_batch_size=8,
        num_generations=4,
        max_completion_length=12,
        max_steps=2,
        learning_rate=1e-3,
    )
    record = json.loads((made.bundle_dir / "run.json").read_text(encoding="utf-8"))
    traces = Trace.from_parquet(made.bundle_dir / "traces" / "traces.parquet")
    engine = Engine.load(made.bundle_dir)
    again = [
        engine.trace(row["prompt"], temperature=0.0, max_new_tokens=12)
        for row in data.test.select(range(len(traces)))
    ]
    judged = evaluate(str(made.bundle_dir), data, n=4, progress=False)
    log = made.bundle_dir.parent / "evaluation" / "final.jsonl"
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    before = {line["index"]: line["completions"] for line in lines if "index" in line}
    same_prompt = judged.prompt_example == record["prompt"]["example"]
    same_prompt &= [t.prompt_tokens for t in again] == [t.prompt_tokens for t in traces]
    same_output = [q["completions"] for q in judged.questions] == [before[i] for i in range(4)]
    same_output &= [t.tokens for t in again] == [t.tokens for t in traces]
    tokenizer = made.trainer.processing_class
    return {
        "architecture": family,
        "tokenizer": FAMILIES[family][0] or "bytes",
        "the prompt ends in": repr(record["prompt"]["example"][-34:]),
        "stops at": " ".join(tokenizer.convert_ids_to_tokens(record["prompt"]["stop_token_ids"])),
        "first progress_std": f"{record['history'][0]['erpo/progress_std']:.1e}",
        "prompt": "same" if same_prompt else "DIFFERS",
        "output": "same" if same_output else "DIFFERS",
    }


def table(rows: list[dict[str, str]]) -> str:
    cells = [COLUMNS, ["---"] * len(COLUMNS)]
    cells += [[_code(name, row[name]) for name in COLUMNS] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells) + "\n"


def _code(name: str, value: str) -> str:
    literal = name in ("architecture", "the prompt ends in", "stops at")
    return "`" + value.replace("|", "\\|") + "`" if literal else value


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--families", default=",".join(FAMILIES), help="comma-separated")
    parser.add_argument("--write", type=Path, help="the page that the table goes into")
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    rows = []
    for family in given.families.split(","):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(run_family(family, Path(folder)))
        print(rows[-1], flush=True)
    print(table(rows))
    if given.write:
        given.write.write_text(INTRO + table(rows), encoding="utf-8")
    if any("DIFFERS" in row.values() for row in rows):
        sys.exit("a model that was loaded again is not the one that was judged")


if __name__ == "__main__":
    main()
