"""benchmarks/pivot_only.py: its gate and losses by hand, and a search with what it leads to, in small."""

from __future__ import annotations

import json
import math
import random
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
import pivot_only  # noqa: E402
from pivot_only import Batch, Rollout  # noqa: E402

RIGHT = Rollout([5, 6], [1, 2, 3], [0.1, 0.9, 0.2], 1.0, [False, True, False])
WRONG = Rollout([5], [2, 4], [0.1, 0.8], -0.5, [False, True])


def test_a_group_is_gated_above_its_mean_entropy() -> None:
    drawn = [SimpleNamespace(ids=[1, 2], entropy=[0.0, 0.4]), SimpleNamespace(ids=[3], entropy=[0.5])]
    first, second = pivot_only._group([7], drawn, [1.0, 0.0])
    assert (first.gated, second.gated) == ([False, True], [True])  # mean 0.3
    assert first.advantage == pytest.approx(0.5 / (math.sqrt(0.5) + 1e-4))
    assert second.advantage == -first.advantage


def test_a_batch_says_of_each_next_token_what_it_is() -> None:
    batch = Batch.of([RIGHT, WRONG], pad=0)
    assert batch.ids.tolist() == [[5, 6, 1, 2, 3], [5, 2, 4, 0, 0]]
    assert batch.valid.tolist() == [[False, True, True, True], [True, True, False, False]]
    assert batch.gated.tolist() == [[False, False, True, False], [False, True, False, False]]
    assert batch.advantage[:, 0].tolist() == [1.0, -0.5]


def test_the_loss_of_the_base_itself_and_its_direction() -> None:
    batch = Batch.of([RIGHT, WRONG], pad=0)
    base = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    logits = base.clone().requires_grad_()
    loss = pivot_only.contrast(logits, base, batch, anchor=3.0)
    assert loss.item() == pytest.approx((1.0 + 0.5) / 2 * math.log(2), abs=1e-6)  # KL 0, nothing moved
    loss.backward()
    gradient = logits.grad
    assert gradient[0, 2, 2] < 0  # token 2 of the right one, predicted at place 2, is to rise
    assert gradient[1, 1, 4] > 0  # token 4 of the wrong one is to fall
    gradient[0, 2] = gradient[1, 1] = 0
    assert gradient.abs().max() < 1e-7  # nothing else moves yet


def test_the_anchor_is_the_divergence_off_the_gate() -> None:
    batch = Batch.of([RIGHT], pad=0)
    base, logits = torch.randn(2, 1, 5, 8, generator=torch.Generator().manual_seed(1)).unbind()
    free, tied = (pivot_only.contrast(logits, base, batch, anchor).item() for anchor in (0.0, 2.0))
    p, q = base[0].log_softmax(-1), logits[0].log_softmax(-1)
    by_hand = [float((p[t].exp() * (p[t] - q[t])).sum()) for t in (1, 3)]  # not at 2, which is gated
    assert tied - free == pytest.approx(2.0 * sum(by_hand) / 2, rel=1e-5)


def test_likelihood_counts_the_completion_alone() -> None:
    logits = torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(2))
    logps = logits[0].log_softmax(-1)
    by_hand = -float(logps[1, 1] + logps[2, 2] + logps[3, 3]) / 3
    assert pivot_only.likelihood(logits, Batch.of([RIGHT], pad=0)).item() == pytest.approx(by_hand, rel=1e-6)


def test_random_positions_are_as_many() -> None:
    rng = random.Random(0)
    drawn = [pivot_only.at_positions(RIGHT, pivot_only.RANDOM, rng).gated for _ in range(200)]
    assert {sum(gated) for gated in drawn} == {1}
    assert {gated.index(True) for gated in drawn} == {0, 1, 2}
    assert pivot_only.at_positions(WRONG, pivot_only.EVERYWHERE, rng).gated == [True, True]
    assert pivot_only.at_positions(WRONG, pivot_only.PIVOTS, rng) == WRONG


def test_a_search_decides_what_fresh_seeds_are_trained_with(tmp_path: Path, monkeypatch) -> None:
    tried = {
        pivot_only.PIVOTS: [pivot_only.Settings(1e-3, 0.3)],
        pivot_only.RIGHT: [pivot_only.Settings(2e-4), pivot_only.Settings(1e-3)],
    }
    monkeypatch.setattr(pivot_only, "TRIED", tried)
    monkeypatch.setattr(pivot_only, "EPOCHS", 1)
    small = ["--out", str(tmp_path), "--questions", "8", "--greedy", "16", "--sampled", "4"]
    with pytest.raises(SystemExit, match="search is not finished"):
        pivot_only.main(["fresh", *small])
    pivot_only.main(["search", *small])
    searched = [json.loads(f.read_text()) for f in (tmp_path / "search").glob("cells/*/*/cell.json")]
    assert len(searched) == 6
    best = pivot_only.chosen(searched)
    assert best[pivot_only.RANDOM] == tried[pivot_only.PIVOTS][0]
    assert best[pivot_only.RIGHT] in tried[pivot_only.RIGHT]

    monkeypatch.setattr(pivot_only, "copy_grpo", lambda out, seeds: [])  # its cells have 2,000 questions
    pivot_only.main(["fresh", *small, "--seeds", "8"])
    report = json.loads((tmp_path / "fresh" / "report.json").read_text())
    assert [row["name"] for row in report["rows"]] == list(pivot_only.FORMS)
    (cell,) = [json.loads(f.read_text()) for f in (tmp_path / "fresh").glob("cells/pivots/*/cell.json")]
    assert cell["cost"]["completions"] == 64
    assert 0 < cell["cost"]["gated"] < 1


def test_grpo_is_copied_with_the_same_questions(tmp_path: Path) -> None:
    folders = pivot_only.copy_grpo(tmp_path, [8, 9])
    cells = [json.loads((folder / "cell.json").read_text()) for folder in folders]
    assert [(c["cell"]["name"], c["cell"]["seed"]) for c in cells] == [
        ("untrained", 0),
        ("grpo", 8),
        ("grpo", 9),
    ]
    args = pivot_only.parse_args(["fresh"])
    assert all(len(c["greedy"]["per_question"]) == args.greedy for c in cells)
    assert {c["cell"]["task"] for c in cells} == {pivot_only.TASK}
