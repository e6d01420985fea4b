"""The Hölder mean of importance ratios: its definition, its gradient, its way into TRL's loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from training import config, trainer, weights

from erpo_hub import ERPOConfig
from erpo_hub.errors import UsageError
from erpo_hub.methods.catalog import METHODS
from erpo_hub.methods.holder import annealed_p, holder_log_ratio, with_holder_mean

POWERS = [2.0, 1.0, 0.5, 1e-7, 0.0, -1e-7, -0.5, -1.0, -2.0]


def definition(log_ratio: torch.Tensor, mask: torch.Tensor, p: float) -> torch.Tensor:
    """rho_p of each row, (B,), word for word, one completion after the other."""
    rows = []
    for row, keep in zip(log_ratio, mask.bool()):
        ratio = row[keep].exp()
        rows.append(ratio.log().mean().exp() if abs(p) < 1e-6 else (ratio**p).mean() ** (1 / p))
    return torch.stack(rows)


@pytest.fixture
def ratios() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    log_ratio = torch.randn(5, 9, generator=generator, dtype=torch.float64)
    mask = (torch.arange(9) < torch.tensor([9, 5, 1, 3, 8])[:, None]).long()
    mask[0, 4] = 0  # a tool's token
    return log_ratio, mask


@pytest.mark.parametrize("p", POWERS)
def test_value_and_gradient_are_those_of_the_definition(
    ratios: tuple[torch.Tensor, torch.Tensor], p: float
) -> None:
    log_ratio, mask = ratios
    seen = []
    for function in (lambda x: holder_log_ratio(x, mask, p).exp(), lambda x: definition(x, mask, p)):
        x = log_ratio.clone().requires_grad_()
        rho = function(x)
        rho.sum().backward()
        seen.append((rho.detach(), x.grad))
    torch.testing.assert_close(seen[0][0], seen[1][0], rtol=1e-9, atol=0)
    torch.testing.assert_close(seen[0][1], seen[1][1], rtol=1e-9, atol=1e-12)
    assert (seen[0][1][mask == 0] == 0).all()


def test_p_one_is_the_mean_ratio_and_zero_the_geometric_mean(
    ratios: tuple[torch.Tensor, torch.Tensor],
) -> None:
    log_ratio, mask = ratios
    mean = (log_ratio.exp() * mask).sum(1) / mask.sum(1)
    torch.testing.assert_close(holder_log_ratio(log_ratio, mask, 1.0).exp(), mean)
    geometric = (log_ratio * mask).sum(1) / mask.sum(1)
    for p in (0.0, 9e-7, -9e-7):
        torch.testing.assert_close(holder_log_ratio(log_ratio, mask, p), geometric)
    # no step at the switch: the power mean just outside it is the geometric mean up to rounding
    torch.testing.assert_close(holder_log_ratio(log_ratio, mask, 1.1e-6), geometric, rtol=0, atol=1e-5)


@pytest.mark.parametrize("p", [2.0, 0.0, -2.0])
def test_a_completion_without_a_token_has_ratio_one_and_no_gradient(p: float) -> None:
    x = torch.full((2, 3), 7.0, requires_grad=True)
    log_rho = holder_log_ratio(x, torch.tensor([[0, 0, 0], [1, 1, 0]]), p)
    log_rho.sum().backward()
    torch.testing.assert_close(log_rho.detach(), torch.tensor([0.0, 7.0]))
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.tensor([[0, 0, 0], [0.5, 0.5, 0]]))


def test_large_ratios_do_not_overflow() -> None:
    log_ratio = torch.tensor([[80.0, -80.0]])
    for p in (2.0, -2.0):
        assert torch.isfinite(holder_log_ratio(log_ratio, torch.ones(1, 2), p)).all()


@pytest.mark.parametrize("with_old", [True, False])
def test_the_mean_log_ratio_that_trl_takes_is_the_power_mean(
    ratios: tuple[torch.Tensor, torch.Tensor], with_old: bool
) -> None:
    logps, mask = ratios
    old = torch.roll(logps, 1, 0) if with_old else None
    x = logps.clone().requires_grad_()
    given = with_holder_mean(x, old, mask, 2.0)
    trl = ((given - (given.detach() if old is None else old)) * mask).sum(1) / mask.sum(1)
    expected = holder_log_ratio(x - (x.detach() if old is None else old), mask, 2.0)
    torch.testing.assert_close(trl, expected)
    ours, theirs = (torch.autograd.grad(y.exp().sum(), x, retain_graph=True)[0] for y in (trl, expected))
    torch.testing.assert_close(ours, theirs)


def test_p_goes_linearly_from_start_to_end() -> None:
    assert [annealed_p(2.0, -2.0, step, 5) for step in range(6)] == [2, 1, 0, -1, -2, -2]
    assert annealed_p(2.0, -2.0, 0, 1) == 2


def holder(folder: Path, **changes):
    return config(folder, **{**METHODS["holder"].preset, "num_iterations": 2, "max_steps": 4, **changes})


def trained(model: str, args: ERPOConfig) -> Any:
    made = trainer(model, args)  # which sets the seed
    made.train()
    return made


def test_a_power_of_zero_trains_as_trls_sequence_ratio(tiny_model: str, tmp_path: Path) -> None:
    steps = {"optim": "sgd", "max_steps": 2}  # AdamW's first steps are signs, which rounding can turn
    plain = trained(tiny_model, holder(tmp_path, holder_start=None, holder_end=None, **steps))
    ours = trained(tiny_model, holder(tmp_path, holder_start=0.0, holder_end=0.0, **steps))
    untrained = weights(trainer(tiny_model, holder(tmp_path)))
    assert any(not torch.equal(a, b) for a, b in zip(untrained.values(), weights(plain).values()))
    for a, b in zip(weights(plain).values(), weights(ours).values()):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    assert {"erpo/holder_p"} == {k for e in ours.state.log_history for k in e if k.startswith("erpo/")}


def test_the_annealed_power_is_logged_and_changes_the_training(tiny_model: str, tmp_path: Path) -> None:
    steps = {"optim": "sgd", "learning_rate": 1.0}
    plain = trained(tiny_model, holder(tmp_path, holder_start=None, holder_end=None, **steps))
    ours = trained(tiny_model, holder(tmp_path, **steps))
    powers = [e["erpo/holder_p"] for e in ours.state.log_history if "erpo/holder_p" in e]
    assert powers == pytest.approx([2, 2 / 3, -2 / 3, -2])
    assert any(not torch.allclose(a, b) for a, b in zip(weights(plain).values(), weights(ours).values()))


def test_it_goes_together_with_erpos_token_advantages(tiny_model: str, tmp_path: Path) -> None:
    made = trainer(tiny_model, holder(tmp_path, entropy_gate=True, progress_eta=0.2))
    made.train()
    assert any("erpo/gate_mean" in e and "erpo/holder_p" in e for e in made.state.log_history)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"importance_sampling_level": "token"}, "importance_sampling_level='token'"),
        ({"beta": 0.04}, "beta=0.04"),
        ({"off_policy_mask_threshold": 0.5}, "off_policy_mask_threshold=0.5"),
        ({"loss_type": "cispo"}, "'cispo'"),
        ({"holder_end": None}, "holder_end=None"),
        ({"holder_start": float("nan")}, "holder_start=nan"),
    ],
)
def test_what_the_power_mean_cannot_reach_is_refused(tmp_path: Path, changes: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        ERPOConfig.preset(
            "holder", **{"output_dir": str(tmp_path), "use_cpu": True, "bf16": False, **changes}
        )
