"""Two processes under gloo give the token advantages of one, groups that straddle them included."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from distributed_run import MODES
from sharding import environment

from erpo_hub.methods.credit import alone
from erpo_hub.train.processes import straddling_reduce

FSDP2 = Path(__file__).parents[2] / "examples" / "recipes" / "fsdp2.yaml"
SCRIPT = Path(__file__).parents[1] / "distributed_run.py"


def run(model: str, out: Path, mode: str, processes: int, **extra: str) -> list[dict]:
    command = [sys.executable, str(SCRIPT)]
    if processes > 1:
        torchrun = Path(sys.executable).with_name("torchrun")
        command = [str(torchrun), "--standalone", f"--nproc_per_node={processes}", str(SCRIPT)]
    path = os.pathsep.join([str(SCRIPT.parent), str(SCRIPT.parents[1])])
    environment = {**os.environ, "PYTHONPATH": path, "ACCELERATE_USE_CPU": "1", **extra}
    done = subprocess.run(
        [*command, model, str(out), mode], capture_output=True, text=True, timeout=300, env=environment
    )
    assert done.returncode == 0, done.stderr[-4000:]
    name = mode.replace(" ", "-")
    return [json.loads((out / f"{name}-{processes}-{rank}.json").read_text()) for rank in range(processes)]


def largest_difference(a: list[float], b: list[float]) -> float:
    """Of two rows that may be padded to different widths."""
    width = max(len(a), len(b))
    return max(abs(x - y) for x, y in zip(*(row + [0.0] * (width - len(row)) for row in (a, b))))


@pytest.mark.slow
@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "dead rows"])
def test_two_processes_agree_with_one(tiny_model: str, tmp_path: Path, mode: str) -> None:
    (alone,) = run(tiny_model, tmp_path, mode, 1)
    first, second = run(tiny_model, tmp_path, mode, 2)
    for step, (a, b, c) in enumerate(zip(alone["advantages"], first["advantages"], second["advantages"])):
        together = b + c  # ranks hold consecutive rows
        assert len(together) == len(a)
        for one, two in zip(a, together):
            assert largest_difference(one, two) < 1e-5, f"step {step}"
    assert any(x != 0 for row in alone["advantages"][-1] for x in row)
    if mode == "positions":
        assert any(a != b for a, b in zip(first["widths"], second["widths"]))
        keys = {"erpo/share_mean", "erpo/share_std"}
    else:
        assert alone["history"][-1]["erpo/progress_std"] > 0.5
        keys = {"erpo/gate_mean", "erpo/progress_std"}
    if mode == "replaced":
        keys |= {f"erpo/sampling_{name}" for name in ("rounds", "discarded", "discarded_tokens")}
        assert [a + b for a, b in zip(first["asked"], second["asked"])] == alone["asked"]
        assert all(entry["erpo/sampling_rounds"] >= 1 for entry in first["history"])
        assert all(int(question.partition("+")[0]) % 2 == 0 for question in alone["asked"][0])
    for key in keys | {"erpo/pivot_fraction", "erpo/zero_variance_groups"}:
        for one, two in zip(alone["history"], first["history"]):
            assert one[key] == pytest.approx(two[key], abs=1e-5), key
    # Metrics cost one small reduction a batch; statistics one where groups are split, two if gated.
    statistics = {"straddle": 1, "gated": 2, "aligned": 0, "positions": 2, "empty rank": 2, "replaced": 1}[
        mode
    ]
    assert len(first["traffic"]) == 3 * (1 + statistics)
    assert max(first["traffic"]) < 1024


@pytest.mark.slow
def test_dead_rows_left_out_in_two_processes(tiny_model: str, tmp_path: Path) -> None:
    """All rows of the second process are dead; the gradient is that of one process, and nobody waits."""
    (alone,) = run(tiny_model, tmp_path, "dead rows", 1)
    first, second = run(tiny_model, tmp_path, "dead rows", 2)
    assert first["forwards"] == second["forwards"] == alone["forwards"] == 3
    assert not any(x for row in second["advantages"][0] for x in row)
    for step in range(3):
        one, two, three = (x["gradients"][step] for x in (alone, first, second))
        size = sum(a * a for a in one) ** 0.5
        assert size > 0
        assert two == three, "every process holds the same gradient"
        assert sum((a - b) ** 2 for a, b in zip(one, two)) ** 0.5 <= 1e-6 * size


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["straddle", "empty rank"])
def test_fsdp2_agrees_with_one_process(tiny_model: str, tmp_path: Path, mode: str) -> None:
    """The recipe's own file, with the parameters really shared out over two processes."""
    (alone,) = run(tiny_model, tmp_path, mode, 1)
    both = run(tiny_model, tmp_path, mode, 2, **environment(FSDP2))
    assert [report["sharded"] for report in both] == pytest.approx([0.5, 0.5], abs=0.05)
    for step, (a, b, c) in enumerate(zip(alone["advantages"], *(report["advantages"] for report in both))):
        for one, two in zip(a, b + c, strict=True):
            assert largest_difference(one, two) < 1e-5, f"step {step}"
    assert any(x != 0 for row in alone["advantages"][-1] for x in row)


class Fake:
    """An accelerator that only counts."""

    def __init__(self, num_processes: int):
        self.num_processes, self.sent = num_processes, 0

    def pad_across_processes(self, tensor, dim):
        return tensor

    def reduce(self, tensor, how):
        self.sent += tensor.numel() * tensor.element_size()
        return tensor


@pytest.mark.parametrize(
    ("processes", "rows", "generations"),
    [(2, 6, 4), (8, 16, 8), (64, 100, 16), (1024, 3, 8), (1024, 4097, 16), (1, 64, 8)],
)
def test_traffic_stays_under_a_megabyte_at_any_size(processes: int, rows: int, generations: int) -> None:
    import torch

    fake = Fake(processes)
    reduce = straddling_reduce(fake, rows, generations)
    groups = -(-processes * rows // generations)
    if reduce is alone:
        assert rows % generations == 0 or processes == 1
        return
    reduce(torch.zeros(groups, 34, dtype=torch.float64))
    assert 0 < fake.sent <= (processes - 1) * 34 * 8 < 2**20
