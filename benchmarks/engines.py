"""Engines for several processes, tried on a CPU over gloo with a tiny model: the table in docs/scaling.md.

    python benchmarks/engines.py                             # ddp, fsdp2, zero2, zero3
    python benchmarks/engines.py --engines ddp,fsdp2 --write # and writes docs/scaling.md

Each engine runs `train_and_push(push=False)` in two processes (three steps, interrupted in the second,
resumed), `erpo-hub train` and the token advantages of tests/distributed_run.py. An engine that does not share
out what it should counts as not run: the parameters, or with ZeRO-2 the optimizer's state alone. vLLM and
NCCL need a GPU: benchmarks/gpu.py.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests"
sys.path[:0] = [str(ROOT), str(TESTS)]

from pages import write_between  # noqa: E402
from sharding import deepspeed_environment, environment  # noqa: E402

ENGINES: dict[str, dict[str, str]] = {
    "ddp": {"ACCELERATE_USE_CPU": "1"},
    "fsdp2": environment(ROOT / "examples" / "recipes" / "fsdp2.yaml"),
    "zero2": deepspeed_environment(2),
    "zero3": deepspeed_environment(3),
}
MODES = ("straddle", "empty rank", "dead rows")
# Which share of the parameters and of Adam's moments a process lacks.
SHARES = {"ddp": (0.0, 0.0), "fsdp2": (0.5, 0.5), "zero2": (0.0, 0.5), "zero3": (0.5, 0.5)}
PACKAGES = ("torch", "trl", "transformers", "accelerate", "deepspeed")
PAGE, DATA = ROOT / "docs" / "scaling.md", ROOT / "docs" / "engines.json"


def launch(script: str, *arguments: str, engine: dict[str, str], processes: int = 2) -> str | None:
    """None where it went well, else the last line that says why not."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    path = os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(TESTS), str(ROOT)])
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, **engine}
    done = subprocess.run(
        [*command, str(TESTS / script), *arguments], capture_output=True, text=True, env=env, timeout=1800
    )
    if done.returncode == 0:
        return None
    said = [line for line in done.stderr.splitlines() if "Error" in line and "ChildFailed" not in line]
    return said[0].split("]: ")[-1][:160] if said else "ended without a word"


def whole_run(name: str, model: str, folder: Path) -> dict[str, Any]:
    if said := launch("engine_run.py", model, str(folder), engine=ENGINES[name]):
        return {"failed": said}
    return json.loads((folder / "report.json").read_text())


def advantages(name: str, model: str, folder: Path) -> dict[str, str]:
    """Mode -> the largest difference to one process, or why there is none.

    folder: where the first engine leaves what one process found, for all engines after it.
    """
    found = {}
    for mode in MODES:
        said = None
        if not result(folder, mode, 1, 0).is_file():
            said = launch("distributed_run.py", model, str(folder), mode, engine=ENGINES["ddp"], processes=1)
        said = said or launch("distributed_run.py", model, str(folder), mode, engine=ENGINES[name])
        found[mode] = f"**fails**: {said.replace('|', '/')}" if said else difference(folder, mode)
    return found


def result(folder: Path, mode: str, world: int, rank: int) -> Path:
    return folder / f"{mode.replace(' ', '-')}-{world}-{rank}.json"


def difference(folder: Path, mode: str) -> str:
    alone, *both = (
        json.loads(result(folder, mode, world, rank).read_text())["advantages"]
        for world, rank in ((1, 0), (2, 0), (2, 1))
    )
    assert any(x for step in alone for row in step for x in row), f"{mode}: nothing to compare"
    worst = 0.0
    for a, b, c in zip(alone, *both):
        for one, two in zip(a, b + c, strict=True):
            width = max(len(one), len(two))
            padded = (row + [0.0] * (width - len(row)) for row in (one, two))
            worst = max(worst, *(abs(x - y) for x, y in zip(*padded)))
    return f"{worst:.0e}"


def row(name: str, model: str, shared: Path) -> list[str]:
    """The engine's cells of the table."""
    empty = [""] * (6 + len(MODES))
    if name.startswith("zero") and find_spec("deepspeed") is None:
        return [name, "not run: deepspeed is not installed", *empty]
    with tempfile.TemporaryDirectory() as folder:
        report = whole_run(name, model, Path(folder))
    if "failed" in report:
        return [name, f"**fails**: {report['failed'].replace('|', '/')}", *empty]
    parameters, moments = SHARES[name]
    found = (report["sharded"] - parameters, report["command"]["sharded"] - parameters)
    if any(abs(x) > 0.05 for x in (*found, report["optimizer"] - moments)):
        return [name, "not run: nothing was shared out", *empty]
    worst = advantages(name, model, shared)
    steps = "yes" if report["steps"] == [1, 2, 3] and report["interrupted"] else f"**{report['steps']}**"
    live = "yes" if report["saved_is_live"] else "**no**"
    typed = report["command"]
    command = "yes" if (typed["status"], typed["steps"]) == ("finished", [1, 2, 3]) else f"**{typed}**"
    shares = (f"{report[key]:.2f}" for key in ("sharded", "optimizer"))
    cells = [name, report["engine"].split(".")[-1], *shares, steps, report["status"], live, command]
    return [*cells, *(worst[mode] for mode in MODES)]


def table(data: dict[str, Any]) -> str:
    head = ["engine", "as accelerate has it", "parameters elsewhere", "Adam's moments elsewhere"]
    head += ["interrupted and resumed", "record", "saved = live", "`erpo-hub train`"]
    head += [f"advantages, {mode}" for mode in MODES]
    lines = [f"| {' | '.join(head)} |", "|:--|:--|" + "--:|" * (len(head) - 2)]
    lines += [f"| {' | '.join(data[name]['cells'])} |" for name in ENGINES if name in data]
    together: dict[str, list[str]] = {}
    for name, made in data.items():
        together.setdefault(made["with"], []).append(name)
    lines += [f"| {name} | not run: needs a GPU |{' |' * (len(head) - 2)}" for name in ("NCCL", "vLLM")]
    return "\n".join([*lines, "", *(f"{', '.join(names)}: {made}." for made, names in together.items())])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument(
        "--write", action="store_true", help="write docs/scaling.md; other engines' rows stay"
    )
    given = parser.parse_args()
    from tiny_models import save_tiny_model

    data = json.loads(DATA.read_text()) if DATA.is_file() else {}
    installed = ", ".join(f"{name} {version(name)}" for name in PACKAGES if find_spec(name))
    with tempfile.TemporaryDirectory() as folder:
        model = str(save_tiny_model(Path(folder) / "tiny"))
        for name in given.engines.split(","):
            cells = row(name, model, Path(folder))
            data[name] = {"cells": cells, "with": f"{datetime.now(UTC).date()}, {installed}"}
            print(*cells, sep=" | ", flush=True)
            if given.write:  # each as it is done: a later one may take long
                DATA.write_text(json.dumps(data, indent=1) + "\n")
                write_between(PAGE, "engines", table(data))


if __name__ == "__main__":
    main()
