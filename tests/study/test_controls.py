"""Controls break exactly the one thing they name."""

import itertools

import pytest
import torch

from erpo_hub.errors import UsageError
from erpo_hub.methods.catalog import METHODS
from erpo_hub.methods.erpo import token_advantages
from erpo_hub.study.controls import (
    check_control,
    group_means,
    permuted,
    random_reward,
    row_permutation,
    with_gate,
)
from erpo_hub.train.config import ERPOConfig
from erpo_hub.train.metrics import pivot_mask


def settings(preset, **overrides):
    defaults = {"entropy_gate": True, "gate_gamma": 5.0, "progress_eta": 0.2, "progress_beta": 0.1}
    defaults |= {
        "num_buckets": 4,
        "bucket_axis": "position",
        "synthesis": "additive",
        "zero_variance": "drop",
    }
    fields = {**defaults, "reward_threshold": 0.5, "eps": 1e-4, **METHODS[preset].preset, **overrides}
    return type("Settings", (), fields)


@pytest.fixture
def batch():
    """Two groups of three completions, one of them with equal rewards; ragged."""
    torch.manual_seed(0)
    lengths = torch.tensor([9, 7, 1, 4, 9, 6])
    mask = (torch.arange(9)[None] < lengths[:, None]).long()
    rewards = torch.tensor([1.0, 0.0, 0.0, 1.0, 1.0, 1.0])
    return {
        "entropy": torch.rand(6, 9), "logps": -torch.rand(6, 9), "ref_logps": -torch.rand(6, 9),
        "group_advantages": torch.tensor([1.2, -0.6, -0.6, 0.0, 0.0, 0.0]), "mask": mask,
        "group_index": torch.tensor([0, 0, 0, 1, 1, 1]), "rewards": rewards,
    }  # fmt: skip


def advantages(batch, s):
    return token_advantages(**batch, num_groups=2, settings=s)


def regate(result, gate, batch, s):
    return with_gate(
        result, gate, batch["group_advantages"], batch["rewards"], batch["mask"], batch["group_index"], s
    )


@pytest.mark.parametrize(
    ("preset", "synthesis"), itertools.product(["erpo", "ep-grpo"], ["additive", "gated"])
)
def test_the_same_gate_gives_the_same_advantages(batch, preset, synthesis):
    s = settings(preset, synthesis=synthesis)
    result = advantages(batch, s)
    again = regate(result, result.gate, batch, s)
    torch.testing.assert_close(again.advantages, result.advantages, rtol=1e-5, atol=1e-6)
    assert again.advantages.abs().sum() > 0


def test_another_gate_gives_other_advantages_only_where_it_differs(batch):
    s = settings("erpo")
    result = advantages(batch, s)
    gate = result.gate.clone()
    gate[0, 3] = 0.5 * gate[0, 3] + 0.1
    changed = regate(result, gate, batch, s).advantages - result.advantages
    assert changed[0, 3].abs() > 1e-6
    changed[0, 3] = 0
    assert changed.abs().max() < 1e-6


def test_row_permutation_moves_valid_tokens_among_valid_places(batch):
    mask = batch["mask"].clone()
    mask[1, 2] = 0  # a hole, as a tool mask makes
    order = row_permutation(mask, torch.Generator().manual_seed(1))
    for row, valid in zip(order, mask.bool()):
        assert sorted(row.tolist()) == list(range(9))
        assert row[~valid].tolist() == (~valid).nonzero()[:, 0].tolist()
    assert any(row.tolist() != list(range(9)) for row in order)
    assert torch.equal(order, row_permutation(mask, torch.Generator().manual_seed(1)))


def test_permuted_gate_keeps_the_histogram_of_every_completion(batch):
    result = advantages(batch, settings("erpo"))
    order = row_permutation(batch["mask"], torch.Generator().manual_seed(1))
    gate = result.gate.gather(1, order)
    assert torch.equal(gate.sort(1).values, result.gate.sort(1).values)
    assert not torch.equal(gate, result.gate)
    assert (gate * (1 - batch["mask"])).abs().sum() == 0


def test_shuffled_buckets_keep_gate_and_sizes(batch):
    s = settings("erpo")
    plain = advantages(batch, s)
    order = row_permutation(batch["mask"], torch.Generator().manual_seed(1))
    moved = {name: batch[name].gather(1, order) for name in ("entropy", "logps", "ref_logps")}
    result = permuted(advantages({**batch, **moved}, s), order.argsort(dim=1))
    torch.testing.assert_close(result.gate, plain.gate)
    assert torch.equal(result.bucket.sort(1).values, plain.bucket.sort(1).values)
    assert not torch.equal(result.bucket, plain.bucket)
    assert ((result.advantages != 0) & (batch["mask"] == 0)).sum() == 0
    # Without progress there is nothing that buckets could change.
    off = settings("erpo", progress_eta=0.0)
    same = permuted(advantages({**batch, **moved}, off), order.argsort(dim=1))
    torch.testing.assert_close(same.advantages, advantages(batch, off).advantages)


def test_group_means_are_over_valid_tokens_of_the_group(batch):
    got = group_means(batch["entropy"], batch["mask"], batch["group_index"])
    valid = batch["mask"].bool()
    for group in (0, 1):
        rows = batch["group_index"] == group
        expected = batch["entropy"][rows][valid[rows]].mean()
        torch.testing.assert_close(got[rows], expected.expand(3, 1))


def test_pivot_controls_split_the_gate_between_them(batch):
    result = advantages(batch, settings("erpo"))
    pivots = pivot_mask(batch["entropy"], batch["mask"])
    mean = group_means(result.gate, batch["mask"], batch["group_index"])
    only = torch.where(pivots, result.gate, mean) * batch["mask"]
    without = torch.where(~pivots, result.gate, mean) * batch["mask"]
    both = only + without - mean * batch["mask"]
    torch.testing.assert_close(both, result.gate)
    assert pivots.any()


def test_random_rewards_are_a_seeded_coin():
    coin = random_reward(0)
    first = coin(completions=["x"] * 4000, answer=["1"] * 4000)
    assert set(first) == {0.0, 1.0}
    assert sum(first) / 4000 == pytest.approx(0.5, abs=0.03)
    assert random_reward(0)(completions=["y"] * 4000) == first
    assert coin(completions=["x"] * 4000) != first


@pytest.mark.parametrize(
    ("preset", "control"),
    [
        ("grpo", "permuted-gate"),
        ("grpo", "shuffled-buckets"),
        ("erpo", "nothing"),
        ("forking-tokens", "gate-not-at-pivots"),
    ],
)
def test_a_control_without_anything_to_break_is_refused(preset, control):
    with pytest.raises(UsageError):
        check_control(control, ERPOConfig.preset(preset, output_dir="x", bf16=False, use_cpu=True))
