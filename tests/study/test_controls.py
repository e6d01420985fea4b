"""Controls break exactly the one thing they name."""

import itertools
from dataclasses import replace

import pytest
import torch
from training import Batches, config, trainer

from erpo_hub.errors import UsageError
from erpo_hub.methods.catalog import METHODS
from erpo_hub.methods.credit import CreditBatch
from erpo_hub.methods.erpo import credit
from erpo_hub.study.controls import (
    CREDIT_CONTROLS,
    check_control,
    control_credit,
    gate_not_at_pivots,
    gate_only_at_pivots,
    group_mean,
    permuted_gate,
    random_reward,
    row_permutation,
    shuffled_buckets,
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
    return CreditBatch(
        entropy=torch.rand(6, 9),
        logps=-torch.rand(6, 9),
        ref_logps=-torch.rand(6, 9),
        rewards=torch.tensor([1.0, 0.0, 0.0, 1.0, 1.0, 1.0]),
        advantages=torch.tensor([1.2, -0.6, -0.6, 0.0, 0.0, 0.0]),
        mask=torch.arange(9)[None] < lengths[:, None],
        group_index=torch.tensor([0, 0, 0, 1, 1, 1]),
        num_groups=2,
        settings=settings("erpo"),
    )


def generator():
    return torch.Generator().manual_seed(1)


@pytest.mark.parametrize(
    ("preset", "synthesis"), itertools.product(["erpo", "ep-grpo"], ["additive", "gated"])
)
def test_the_same_gate_gives_the_same_advantages(batch, preset, synthesis):
    batch = replace(batch, settings=settings(preset, synthesis=synthesis))
    plain, again = credit(batch), credit(batch, regate=lambda gate: gate.clone())
    assert torch.equal(again.advantages, plain.advantages)
    assert again.advantages.abs().sum() > 0


def test_another_gate_gives_other_advantages_only_where_it_differs(batch):
    def changed_once(gate):
        gate = gate.clone()
        gate[0, 3] = 0.5 * gate[0, 3] + 0.1
        return gate

    changed = credit(batch, regate=changed_once).advantages - credit(batch).advantages
    assert changed[0, 3].abs() > 1e-6
    changed[0, 3] = 0
    assert changed.abs().max() < 1e-6


def test_row_permutation_moves_valid_tokens_among_valid_places(batch):
    mask = batch.mask.clone()
    mask[1, 2] = False  # a hole, as a tool mask makes
    order = row_permutation(mask, generator())
    for row, valid in zip(order, mask):
        assert sorted(row.tolist()) == list(range(9))
        assert row[~valid].tolist() == (~valid).nonzero()[:, 0].tolist()
    assert any(row.tolist() != list(range(9)) for row in order)
    assert torch.equal(order, row_permutation(mask, generator()))


def test_permuted_gate_keeps_the_histogram_of_every_completion(batch):
    plain, made = credit(batch), permuted_gate(batch, generator())
    gate = made.columns["gate"]
    assert torch.equal(gate.sort(1).values, plain.columns["gate"].sort(1).values)
    assert not torch.equal(gate, plain.columns["gate"])
    assert torch.equal(made.columns["progress"], plain.columns["progress"])
    assert (gate * ~batch.mask).abs().sum() == 0


def test_shuffled_buckets_keep_gate_and_sizes(batch):
    plain, made = credit(batch), shuffled_buckets(batch, generator())
    torch.testing.assert_close(made.columns["gate"], plain.columns["gate"])
    buckets = [x.columns["bucket"] for x in (made, plain)]
    assert torch.equal(buckets[0].sort(1).values, buckets[1].sort(1).values)
    assert not torch.equal(*buckets)
    assert ((made.advantages != 0) & ~batch.mask).sum() == 0
    # Without progress there is nothing that buckets could change.
    off = replace(batch, settings=settings("erpo", progress_eta=0.0), ref_logps=None)
    torch.testing.assert_close(shuffled_buckets(off, generator()).advantages, credit(off).advantages)


def test_group_mean_is_over_valid_tokens_of_the_group(batch):
    got = group_mean(batch, batch.entropy)
    for group in (0, 1):
        mask = batch.mask & (batch.group_index == group)[:, None]
        torch.testing.assert_close(got[mask], batch.entropy[mask].mean().expand(int(mask.sum())))
    assert not got[~batch.mask].any()


def test_pivot_controls_split_the_gate_between_them(batch):
    gate = credit(batch).columns["gate"]
    only, without = (f(batch, generator()).columns["gate"] for f in (gate_only_at_pivots, gate_not_at_pivots))
    torch.testing.assert_close(only + without - group_mean(batch, gate), gate)
    pivots = pivot_mask(batch.entropy, batch.mask)
    assert torch.equal(only[pivots], gate[pivots])
    assert not torch.equal(without[pivots], gate[pivots])


@pytest.mark.parametrize("control", CREDIT_CONTROLS)
def test_a_control_reaches_the_training(tiny_model, tmp_path, control):
    made, given = control_credit(control, seed=3), []

    def kept(batch):
        given.append((batch, made(batch)))
        return given[-1][1]

    args = config(tmp_path, max_steps=1)
    broken = trainer(tiny_model, args, credit=kept, needs_reference=args.uses_reference)
    with torch.no_grad():  # so that there is progress at the first step
        for p in broken.ref_model.parameters():
            p += 0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(0))
    batches = Batches(broken)
    broken.train()
    batch, result = given[0]
    assert torch.equal(batches.seen[0]["advantages"], result.advantages)
    assert not torch.allclose(result.advantages, credit(batch).advantages)


def test_without_a_control_of_the_advantages_the_method_is_the_configured_one():
    assert control_credit(None, 0) is None
    assert control_credit("random-rewards", 0) is None


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
        ("gtpo", "permuted-gate"),
        ("erpo", "nothing"),
        ("forking-tokens", "gate-not-at-pivots"),
    ],
)
def test_a_control_without_anything_to_break_is_refused(preset, control):
    with pytest.raises(UsageError):
        check_control(control, ERPOConfig.preset(preset, output_dir="x", bf16=False, use_cpu=True))
