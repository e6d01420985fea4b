"""GTPO's token rewards against loops over plain numbers, and through a training."""

from pathlib import Path

import pytest
import torch
from training import config, train_and_check, trainer

from erpo_hub.methods.catalog import METHODS
from erpo_hub.methods.credit import CreditBatch
from erpo_hub.methods.gtpo import SHARE, credit


class Settings:
    eps = 1e-4


def batch() -> CreditBatch:
    """Two groups of three ragged completions, one with a token of no entropy."""
    generator = torch.Generator().manual_seed(0)
    entropy = torch.rand(6, 7, generator=generator)
    entropy[1, 2] = 0
    mask = torch.arange(7) < torch.tensor([7, 5, 3, 4, 6, 1])[:, None]
    advantages = torch.tensor([0.7, 0.5, -1.2, -0.4, -0.6, 1.0])
    group = torch.tensor([0, 0, 0, 1, 1, 1])
    entropy = entropy.masked_fill(~mask, float("nan"))
    return CreditBatch(entropy, entropy, None, advantages, advantages, mask, group, 2, Settings())


def test_every_token_gets_its_share_of_those_of_its_verdict() -> None:
    given = batch()
    made = credit(given)
    for i, a in enumerate(given.advantages.tolist()):
        for t in range(7):
            if not given.mask[i, t]:
                assert made.columns["share"][i, t] == 0
                continue
            others = [
                j
                for j in range(6)
                if given.mask[j, t]
                and given.group_index[j] == given.group_index[i]
                and (given.advantages[j] > 0) == (a > 0)
            ]
            weights = [max(given.entropy[j, t].item(), 1e-4) ** (1 if a > 0 else -1) for j in [i, *others]]
            share = len(others) * weights[0] / sum(weights[1:])
            assert made.columns["share"][i, t].item() == pytest.approx(share, rel=1e-5)
            assert made.advantages[i, t].item() == pytest.approx(a * (1 - SHARE + SHARE * share), rel=1e-5)


def test_right_tokens_gain_by_entropy_and_wrong_ones_by_certainty() -> None:
    given = batch()
    share = credit(given).columns["share"]
    for i, j, sign in ((0, 1, 1), (3, 4, -1)):  # two right ones, two wrong ones
        both = given.mask[i] & given.mask[j]
        more = given.entropy[i, both] > given.entropy[j, both]
        assert torch.equal(share[i, both] > share[j, both], more if sign > 0 else ~more)
        torch.testing.assert_close((share[i] + share[j])[both], torch.full((int(both.sum()),), 2.0))
    assert torch.equal(share[2, :3], torch.ones(3))  # the only wrong one of its group


def test_the_preset_trains_and_logs_its_share(tiny_model: str, tmp_path: Path) -> None:
    made = train_and_check(trainer(tiny_model, config(tmp_path, **METHODS["gtpo"].preset)))
    assert made.ref_model is None
    row = made.state.log_history[0]
    assert row["erpo/share_std"] > 0
    assert "erpo/gate_mean" not in row
