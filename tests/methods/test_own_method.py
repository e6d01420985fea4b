"""The seam: a stranger's method through the trainer, what it is given, and what is refused."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from training import Batches, config, trainer
from trl import GRPOConfig

from erpo_hub import Credit, CreditBatch
from erpo_hub.errors import UsageError
from erpo_hub.methods.credit import NonFiniteError

ROOT = Path(__file__).parents[2]


def test_the_example_of_a_strangers_method_trains(tmp_path: Path) -> None:
    source = ROOT / "examples" / "own_method.py"
    assert len(source.read_text().splitlines()) <= 30
    spec = importlib.util.spec_from_file_location("own_method", source)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    options = {"max_steps": 1, "per_device_train_batch_size": 8, "num_generations": 4, "use_cpu": True}
    made = example.main(str(tmp_path), report_to="none", logging_steps=1, save_strategy="no", **options)
    row = made.state.log_history[0]
    assert row["erpo/weight_mean"] == pytest.approx(1, abs=0.01)
    assert row["erpo/weight_std"] > 0.01
    assert made.ref_model is None


def test_columns_and_advantages_reach_loss_metrics_and_completions(tiny_model: str, tmp_path: Path) -> None:
    seen: list[CreditBatch] = []

    def credit(batch: CreditBatch) -> Credit:
        seen.append(batch)
        advantages = batch.advantages[:, None] * batch.entropy.double()
        label = torch.arange(batch.mask.shape[1]).expand(batch.mask.shape)
        return Credit(
            advantages.masked_fill(~batch.mask, float("nan")), {"half": batch.entropy / 2, "at": label}
        )

    made = trainer(tiny_model, config(tmp_path, max_steps=1, log_completions=True), credit=credit)
    batches = Batches(made)
    made.train()
    (batch,), out = seen, batches.seen[0]
    assert batch.ref_logps is None
    assert made.ref_model is None
    assert torch.equal(batch.mask, out["completion_mask"].bool())
    assert batch.group_index.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert batch.num_groups == 2
    assert batch.rewards.shape == batch.advantages.shape == (8,)
    expected = (batch.advantages[:, None] * batch.entropy).masked_fill(~batch.mask, 0)
    torch.testing.assert_close(out["advantages"], expected)  # in the loss's precision, 0 where masked
    entry = made.state.log_history[0]
    half = batch.entropy[batch.mask] / 2
    assert entry["erpo/half_mean"] == pytest.approx(half.mean().item(), rel=1e-4)
    assert entry["erpo/half_std"] == pytest.approx(half.std(correction=0).item(), rel=1e-3)
    assert not any(name.startswith("erpo/at") for name in entry)  # a label has no mean
    row = pd.read_parquet(tmp_path / "completions" / "completions_00001.parquet")["erpo/tokens"][0]
    assert row["at"].tolist() == list(range(len(row["ids"])))
    assert row["half"] == pytest.approx(row["entropy"] / 2, abs=1e-4)


def test_a_method_that_needs_the_reference_gets_it(tiny_model: str, tmp_path: Path) -> None:
    gaps: list[float] = []

    def credit(batch: CreditBatch) -> Credit:
        gaps.append((batch.logps - batch.ref_logps)[batch.mask].abs().max().item())
        return Credit(batch.advantages[:, None].expand(batch.mask.shape))

    made = trainer(tiny_model, config(tmp_path), credit=credit, needs_reference=True)
    made.train()
    assert gaps[0] < 1e-4  # the policy starts as its reference
    assert gaps[1] > 1e-4


def test_what_a_method_must_not_do_is_refused_in_one_line(tiny_model: str, tmp_path: Path) -> None:
    def nothing(batch: CreditBatch) -> Credit:
        return Credit(batch.advantages)

    def infinite(batch: CreditBatch) -> Credit:
        return Credit(torch.full_like(batch.entropy, float("inf")))

    with pytest.raises(UsageError, match=r"are not \(8, \d+\), \(B, T\): \(8,\)"):
        trainer(tiny_model, config(tmp_path), credit=nothing).train()
    with pytest.raises(NonFiniteError, match="step 0: advantages holds NaN or infinity at row 0, token 0"):
        trainer(tiny_model, config(tmp_path), credit=infinite).train()
    with pytest.raises(UsageError, match="credit needs an ERPOConfig as args, not a GRPOConfig"):
        trainer(tiny_model, config(tmp_path, GRPOConfig), credit=nothing)
    with pytest.raises(UsageError, match="credit='holder'"):
        config(tmp_path, credit="holder")


def test_group_sums_serve_columns_and_positions_alike() -> None:
    calls: list[tuple[int, ...]] = []

    def reduce(sums: torch.Tensor) -> torch.Tensor:
        calls.append(tuple(sums.shape))
        return sums + 1

    x, rows = torch.ones(3, 5), torch.zeros(3)
    batch = CreditBatch(x, x, None, None, rows, x > 0, torch.tensor([0, 0, 2]), 3, None)
    assert batch.group_sums(x).tolist() == [[2.0] * 5, [0.0] * 5, [1.0] * 5]
    shared = replace(batch, reduce=reduce)
    assert shared.group_sums(x[:, :2]).tolist() == [[3.0] * 2, [1.0] * 2, [2.0] * 2]
    shared.group_sums(torch.ones(3, 5, 4))
    assert calls == [(3, 2), (3, 5, 4)]
