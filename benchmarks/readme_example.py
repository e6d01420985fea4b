"""README's first example, on the embedded model and task instead of its own, and what came of it.

    python benchmarks/readme_example.py FOLDER   # the run, and FOLDER/result.json

benchmarks/compatibility.py runs it with several releases of TRL and compares. It needs no network.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
STEPS, QUESTIONS = 4, 64
SMALL = {"per_device_train_batch_size": 16, "num_generations": 4, "max_completion_length": 48, "bf16": False}


def first_example() -> str:
    """The Python block of README.md that calls `train_and_push`."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    return next(block for block in blocks if "train_and_push" in block)


def main(folder: Path) -> None:
    import trl

    import erpo_hub

    real = erpo_hub.train_and_push
    found: dict[str, Any] = {"trl": trl.__version__}

    def small(model: str, dataset: str, repo_id: str, *, max_steps: int, learning_rate: float) -> Any:
        result = real(
            "builtin:tiny-reasoner", "builtin:expressions?operands=4", max_steps=STEPS, push=False,
            learning_rate=1e-4, output_dir=folder / "run", evaluation={"n": QUESTIONS}, **SMALL,
        )  # fmt: skip
        log = [row for row in result.trainer.state.log_history if "loss" in row]
        found.update({key: [row[key] for row in log] for key in ("reward", "loss", "entropy")})
        found["accuracy"] = [result.metrics[when]["accuracy"] for when in ("baseline", "final")]
        found["weights"] = str(result.bundle_dir / "model.safetensors")
        return result

    erpo_hub.__dict__["train_and_push"] = small
    exec(first_example(), {})
    (folder / "result.json").write_text(json.dumps(found))


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main(Path(sys.argv[1]))
