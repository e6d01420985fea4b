"""Equations 2-7 against the literal reference: golden groups always, fresh ones where it is at hand."""

from __future__ import annotations

import importlib.util
import json
import math
import random
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from erpo_hub.methods.credit import NonFiniteError
from erpo_hub.methods.erpo import bucket_stretches, token_advantages
from erpo_hub.methods.moments import stretch_sums

GOLDEN = Path(__file__).parents[1] / "golden" / "token_advantages.json"
REFERENCE = Path(__file__).parents[3] / "shared" / "reference_erpo.py"


@dataclass(frozen=True)
class Settings:
    entropy_gate: bool = True
    gate_gamma: float = 5.0
    progress_eta: float = 0.2
    progress_beta: float = 0.1
    num_buckets: int = 10
    bucket_axis: str = "position"
    synthesis: str = "additive"
    zero_variance: str = "drop"
    reward_threshold: float = 0.5
    eps: float = 1e-4


ERPO = Settings()
EP_GRPO = Settings(bucket_axis="entropy", synthesis="gated", zero_variance="reward_sign")


def from_reference(given: dict) -> Settings:
    return Settings(**{("entropy_gate" if k == "gate" else k): v for k, v in given.items()})


def padded(rows: list[list[float]], dtype: torch.dtype, width: int, fill: float = 7.0) -> torch.Tensor:
    """What stands under the mask must not matter, so it is not zero."""
    return torch.tensor([row + [fill] * (width - len(row)) for row in rows], dtype=dtype)


def run_group(case: dict, config: Settings, dtype: torch.dtype, extra: int = 0) -> list[list[float]]:
    lengths = [len(row) for row in case["entropy"]]
    width = max(lengths) + extra or 1
    mask = torch.tensor([[t < n for t in range(width)] for n in lengths])
    result = token_advantages(
        *(padded(case[name], dtype, width) for name in ("entropy", "logps", "ref_logps")),
        torch.tensor(case["advantages"], dtype=dtype),
        mask,
        torch.zeros(len(lengths), dtype=torch.long),
        num_groups=1,
        settings=config,
        rewards=torch.tensor(case["rewards"], dtype=dtype),
    )
    for x in (result.advantages, result.gate, result.progress, result.bucket):
        assert (x[~mask] == 0).all()
    return [row[:n].tolist() for row, n in zip(result.advantages, lengths)]


def largest_difference(got: list[list[float]], expected: list[list[float]]) -> float:
    return max((abs(a - b) for x, y in zip(got, expected) for a, b in zip(x, y)), default=0.0)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 1e-4)])
def test_golden_groups_of_the_reference(dtype: torch.dtype, tolerance: float) -> None:
    cases = json.loads(GOLDEN.read_text())
    assert len(cases) >= 100
    for case in cases:
        got = run_group(case, from_reference(case["settings"]), dtype, extra=3)
        assert largest_difference(got, case["expected"]) < tolerance, (case["kind"], case["settings"])


@pytest.mark.skipif(not REFERENCE.exists(), reason="the literal reference is not beside this checkout")
def test_fresh_groups_against_the_reference() -> None:
    spec = importlib.util.spec_from_file_location("reference_erpo", REFERENCE)
    reference = importlib.util.module_from_spec(spec)
    sys.modules["reference_erpo"] = reference
    spec.loader.exec_module(reference)
    rng = random.Random(1)
    for _ in range(150):
        lengths = [rng.randint(0, 30) for _ in range(rng.randint(1, 6))]
        case = {
            "entropy": [[rng.random() * 2 for _ in range(n)] for n in lengths],
            "logps": [[-rng.random() for _ in range(n)] for n in lengths],
            "advantages": [rng.choice([0.0, rng.gauss(0, 1)]) for _ in lengths],
            "rewards": [rng.random() for _ in lengths],
        }
        case["ref_logps"] = [[p + rng.gauss(0, 0.3) for p in row] for row in case["logps"]]
        chosen = {
            "gate": rng.random() < 0.7,
            "bucket_axis": rng.choice(["position", "entropy"]),
            "synthesis": rng.choice(["additive", "gated"]),
            "zero_variance": rng.choice(["drop", "reward_sign"]),
            "num_buckets": rng.choice([1, 4, 10]),
            "progress_eta": rng.choice([0.2, 1.0]),
        }
        expected = reference.token_advantages(
            *(case[k] for k in ("entropy", "logps", "ref_logps", "advantages", "rewards")),
            reference.Settings(**chosen),
        )
        for dtype, tolerance in ((torch.float64, 1e-6), (torch.float32, 1e-4)):
            if dtype == torch.float32 and chosen["bucket_axis"] == "entropy":
                continue  # rounding the inputs may move a token over a bucket's edge
            got = run_group(case, from_reference(chosen), dtype)
            assert largest_difference(got, expected) < tolerance, chosen


@st.composite
def batches(draw) -> tuple:
    """Random groups with ragged masks, holes in them included."""
    groups, rows, width = draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(1, 12))
    seed = draw(st.integers(0, 2**31))
    generator = torch.Generator().manual_seed(seed)
    size = (groups * rows, width)
    entropy = torch.rand(size, generator=generator, dtype=torch.float64)
    if draw(st.booleans()):
        entropy = torch.full(size, draw(st.floats(0, 5)), dtype=torch.float64)
    logps = -torch.rand(size, generator=generator, dtype=torch.float64)
    ref = logps + torch.randn(size, generator=generator, dtype=torch.float64)
    mask = torch.rand(size, generator=generator) < draw(st.sampled_from([0.0, 0.6, 1.0]))
    advantages = torch.randn(groups * rows, generator=generator, dtype=torch.float64)
    group = torch.arange(groups * rows) // rows
    config = draw(st.sampled_from([ERPO, EP_GRPO, replace(ERPO, synthesis="gated", num_buckets=3)]))
    return entropy, logps, ref, advantages, mask, group, groups, config


def call(batch: tuple, **kwargs):
    entropy, logps, ref, advantages, mask, group, groups, config = batch
    return token_advantages(
        entropy,
        logps,
        ref,
        advantages,
        mask,
        group,
        num_groups=groups,
        settings=config,
        rewards=advantages,
        **kwargs,
    )


@given(batches(), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_order_of_rows_does_not_matter(batch: tuple, rng) -> None:
    order = list(range(len(batch[3])))
    rng.shuffle(order)
    shuffled = (*(x[order] for x in batch[:6]), *batch[6:])
    torch.testing.assert_close(call(shuffled).advantages, call(batch).advantages[order], rtol=1e-9, atol=1e-9)


@given(batches(), st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_width_of_the_padding_does_not_matter(batch: tuple, extra: int) -> None:
    pad = torch.nn.functional.pad
    wider = (
        *(pad(x, (0, extra), value=math.nan) for x in batch[:3]),
        batch[3],
        pad(batch[4], (0, extra)),
        *batch[5:],
    )
    a, b = call(batch).advantages, call(wider).advantages
    torch.testing.assert_close(a, b[:, : a.shape[1]], rtol=1e-9, atol=1e-9)
    assert (b[:, a.shape[1] :] == 0).all()


class Exchange:
    """`reduce` of one process: keeps what it sends and answers with the totals known by now."""

    def __init__(self, sent: list[torch.Tensor], known: list[torch.Tensor]):
        self.sent, self.known = sent, known

    def __call__(self, stats: torch.Tensor) -> torch.Tensor:
        self.sent.append(stats.clone())
        turn = len(self.sent) - 1
        return self.known[turn].clone() if turn < len(self.known) else stats


@given(batches())
@settings(max_examples=60, deadline=None)
def test_processes_that_add_their_sums_up_agree_with_one(batch: tuple) -> None:
    """Two halves of the rows, as two processes would hold them; a half may be empty of tokens."""
    whole = call(batch).advantages
    cut = len(batch[3]) // 2
    halves = [(*(x[s] for x in batch[:6]), *batch[6:]) for s in (slice(0, cut), slice(cut, None))]
    if cut == 0:
        return
    known: list[torch.Tensor] = []  # the totals that the processes have agreed on so far
    while True:
        sent: list[list[torch.Tensor]] = [[], []]
        results = [call(half, reduce=Exchange(mine, known)) for half, mine in zip(halves, sent)]
        totals = [a + b for a, b in zip(*sent)]
        if len(known) == len(totals):
            break
        known = totals[: len(known) + 1]
    got = torch.cat([result.advantages for result in results])
    torch.testing.assert_close(got, whole, rtol=1e-8, atol=1e-8)
    assert len(known) == (2 if batch[-1].synthesis == "gated" else 1)


def test_equal_entropies_open_the_gate_half_way() -> None:
    for value in (0.0, 0.3, 11.0):
        entropy = torch.full((4, 9), value)
        result = token_advantages(
            entropy,
            -torch.rand(4, 9),
            -torch.rand(4, 9),
            torch.tensor([1.0, -1.0, 1.0, -1.0]),
            torch.ones(4, 9),
            torch.zeros(4, dtype=torch.long),
            num_groups=1,
            settings=ERPO,
        )
        torch.testing.assert_close(result.gate, torch.full((4, 9), 0.5), atol=1e-4, rtol=0)


def test_step_0_noise_stays_silent() -> None:
    """Policy and reference agree up to float noise: the token signal must not be noise at full strength."""
    torch.manual_seed(0)
    logps = -torch.rand(8, 50)
    noise = torch.randn(8, 50) * 1e-6
    outcome = torch.tensor([1.0, -1.0] * 4)
    result = token_advantages(
        torch.rand(8, 50),
        logps,
        logps + noise,
        outcome,
        torch.ones(8, 50),
        torch.zeros(8, dtype=torch.long),
        num_groups=1,
        settings=ERPO,
    )
    psi = (result.advantages - outcome[:, None]) / ERPO.progress_eta
    assert psi.abs().max() < 0.01


def test_gate_off_and_no_eta_is_the_group_advantage_itself() -> None:
    config = replace(ERPO, entropy_gate=False, progress_eta=0.0)
    outcome = torch.randn(6)
    x = torch.rand(6, 5)
    result = token_advantages(
        x, -x, -x.flip(0), outcome, torch.ones(6, 5), torch.arange(6) // 3, num_groups=2, settings=config
    )
    assert torch.equal(result.advantages, outcome[:, None].expand(6, 5))


def test_gated_outcome_keeps_its_mean_size_in_a_group() -> None:
    config = replace(ERPO, synthesis="gated", progress_eta=0.0)
    entropy = torch.rand(8, 20, dtype=torch.float64)
    result = token_advantages(
        entropy,
        entropy,
        entropy,
        torch.ones(8, dtype=torch.float64),
        torch.ones(8, 20),
        torch.arange(8) // 4,
        num_groups=2,
        settings=config,
    )
    torch.testing.assert_close(result.advantages.view(2, -1).mean(1), torch.ones(2, dtype=torch.float64))


def test_bfloat16_input_gets_float32_statistics() -> None:
    """A long completion: sums in bfloat16 would stop growing at 256."""
    torch.manual_seed(0)
    x = torch.rand(4, 3000)
    arguments = (torch.tensor([1.0, -1.0, 1.0, -1.0]), torch.ones(4, 3000), torch.zeros(4, dtype=torch.long))
    low = [t.to(torch.bfloat16) for t in (x, -x, -x.flip(0))]
    a = token_advantages(*low, *arguments, num_groups=1, settings=ERPO)
    b = token_advantages(*(t.float() for t in low), *arguments, num_groups=1, settings=ERPO)
    assert a.advantages.dtype == torch.float32
    torch.testing.assert_close(a.advantages, b.advantages)


@pytest.mark.parametrize("name", ["entropy", "logps", "ref_logps"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_non_finite_input_is_refused_by_name_and_place(name: str, value: float) -> None:
    tensors = {n: torch.rand(3, 4) for n in ("entropy", "logps", "ref_logps")}
    tensors[name][1, 2] = value
    mask = torch.ones(3, 4, dtype=torch.bool)
    arguments = (torch.ones(3), mask, torch.zeros(3, dtype=torch.long))
    with pytest.raises(NonFiniteError, match=rf"{name} holds NaN or infinity at row 1, token 2"):
        token_advantages(*tensors.values(), *arguments, num_groups=1, settings=ERPO)
    mask[1, 2] = False  # where it does not count, anything may stand
    token_advantages(*tensors.values(), *arguments, num_groups=1, settings=ERPO)


def test_non_finite_entropy_is_refused_on_the_entropy_axis_too() -> None:
    """Its buckets are made of the broken column itself."""
    entropy, other = torch.rand(3, 4), torch.rand(3, 4)
    entropy[2, 1] = math.nan
    arguments = (torch.ones(3), torch.ones(3, 4), torch.zeros(3, dtype=torch.long))
    with pytest.raises(NonFiniteError, match="entropy holds NaN or infinity at row 2, token 1"):
        token_advantages(
            entropy, other, other, *arguments, num_groups=1, settings=EP_GRPO, rewards=torch.ones(3)
        )


def test_wrong_calls() -> None:
    x = torch.rand(3, 4)
    group = torch.zeros(3, dtype=torch.long)
    with pytest.raises(ValueError, match="share one"):
        token_advantages(x, x, x[:, :2], torch.ones(3), x > 0, group, num_groups=1, settings=ERPO)
    with pytest.raises(ValueError, match="group_advantages"):
        token_advantages(x, x, x, torch.ones(2), x > 0, group, num_groups=1, settings=ERPO)
    with pytest.raises(ValueError, match="needs rewards"):
        token_advantages(x, x, x, torch.ones(3), x > 0, group, num_groups=1, settings=EP_GRPO)


def test_unscored_completions_have_no_direction() -> None:
    """reward_sign in a dead group: rewards of 1, 0 and none point up, down and nowhere."""
    x = torch.rand(3, 40, generator=torch.Generator().manual_seed(0))
    result = token_advantages(
        x,
        -x,
        -x.roll(1, 0),
        torch.zeros(3),
        torch.ones(3, 40),
        torch.zeros(3, dtype=torch.long),
        num_groups=1,
        settings=replace(EP_GRPO, bucket_axis="position"),
        rewards=torch.tensor([1.0, 0.0, math.nan]),
    )
    assert result.advantages[0].abs().max() > 0
    assert result.advantages[1].abs().max() > 0
    assert (result.advantages[2] == 0).all()


@given(st.lists(st.integers(0, 4), min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_sums_of_stretches_some_of_them_empty(lengths: list) -> None:
    width = max(sum(lengths), 1)
    stretch = torch.tensor([lengths + [width - sum(lengths)], [0] * len(lengths) + [width]])
    x = torch.arange(2.0 * width).view(2, width)
    expected = [[float(part.sum()) for part in row.split(of)] for row, of in zip(x, stretch.tolist())]
    assert stretch_sums(x, stretch).tolist() == expected


def buckets_of(entropy: torch.Tensor, counts: torch.Tensor, buckets: int, axis: str) -> torch.Tensor:
    stretch = bucket_stretches(entropy, counts, buckets, axis)
    return torch.stack([torch.arange(buckets).repeat_interleave(row) for row in stretch])


@given(st.integers(1, 400), st.integers(1, 20))
@settings(max_examples=100, deadline=None)
def test_position_buckets_are_the_integer_quotient(length: int, buckets: int) -> None:
    got = buckets_of(torch.ones(1, length), torch.ones(1, length), buckets, "position")
    assert got[0].tolist() == [buckets * t // length for t in range(length)]


def test_position_buckets_of_a_long_completion() -> None:
    length = 700_000
    got = buckets_of(torch.ones(1, length), torch.ones(1, length), 10, "position")[0]
    assert torch.equal(got, 10 * torch.arange(length) // length)


@given(
    st.lists(st.sampled_from([0.0, 0.1, 0.3, 0.5, 1.0, 1e-9, 2.7, 1e12]), min_size=1, max_size=60),
    st.integers(1, 20),
    st.sampled_from([torch.float32, torch.float64]),
)
@example([0.1, 2.7, 0.1, 0.1], 15, torch.float64)
@settings(max_examples=300, deadline=None)
def test_entropy_buckets_are_the_rounded_quotient(values: list, buckets: int, dtype: torch.dtype) -> None:
    """As the literal loop decides it, at edges too, where equal entropies often put a token."""
    entropy = torch.tensor([values], dtype=dtype)
    seen, expected, values = 0.0, [], entropy[0].tolist()
    total = math.fsum(values) if dtype == torch.float64 else sum(values)
    for t, value in enumerate(values):
        share = buckets * (seen / total) if total else buckets * t // len(values)
        expected.append(min(buckets - 1, int(share)))
        seen += value
    assert buckets_of(entropy, torch.ones_like(entropy), buckets, "entropy")[0].tolist() == expected
