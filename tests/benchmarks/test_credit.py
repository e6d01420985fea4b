"""benchmarks/credit.py: its estimators on groups whose credit is known, and one real measurement."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from erpo_hub.methods.credit import Credit

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "credit.py"


@pytest.fixture(scope="module")
def credit():
    spec = importlib.util.spec_from_file_location("credit", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def group(generator, noise=0.0, tokens=12):
    """Eight completions, four of them right; all of a completion's credit lies on its third token."""
    completions = []
    for i in range(8):
        value = np.full(tokens + 1, 0.5)
        value[3:] = i % 2
        halves = [np.clip(value + generator.normal(0, noise, tokens + 1), -9, 9) for _ in range(2)]
        entropy = np.full(tokens, 0.01)
        entropy[2] = 0.7
        completions.append(
            {
                "entropy": entropy.tolist(),
                "logp": generator.normal(-1, 0.3, tokens).tolist(),
                "ref_logp": generator.normal(-1, 0.3, tokens).tolist(),
                "push": (entropy > 0.1).astype(float).tolist(),
                "values": [half.tolist() for half in halves],
            }
        )
    return {"rewards": [float(i % 2) for i in range(8)], "completions": completions}


def test_where_only_the_deciding_token_has_a_gradient_grpo_already_points_at_the_credit(credit):
    found = credit.summary([group(np.random.default_rng(seed)) for seed in range(4)])
    assert found["cosine, GRPO: A"][0] == pytest.approx(1, abs=1e-3)
    assert found["cosine, gate alone: omega A"][0] == pytest.approx(1, abs=1e-3)
    assert found["gate open: share of squared credit"][0] == pytest.approx(1)
    assert found["gate open: share of tokens"][0] == pytest.approx(1 / 12, abs=1e-3)
    assert abs(found["cosine, Psi: W sgn(A) s~"][0]) < 0.9  # random progress


def test_noise_in_the_values_does_not_bias_the_squared_credit(credit):
    generator = np.random.default_rng(0)
    rows = [group(generator, noise=0.3) for _ in range(200)]
    sums = [credit.sums(credit.signals(row)) for row in rows]
    true = 8 * 0.25  # each completion's third token changes the chance by a half
    mean = np.mean([s["credit, unweighted"] for s in sums])
    assert mean == pytest.approx(true, rel=0.1)


def test_a_group_without_variance_pushes_nowhere_except_by_the_reward_sign(credit):
    row = group(np.random.default_rng(0))
    row["rewards"] = [1.0] * 8
    flat = credit.signals(row)
    assert not flat["x GRPO: A"].any()
    assert not flat["x ERPO: A + 0.2 Psi"].any()
    assert flat["x EP-GRPO"].any()


def test_a_real_measurement_goes_on_where_it_was_stopped(tmp_path):
    out = tmp_path / "credit.jsonl"
    command = [sys.executable, SCRIPT, "builtin:tiny-reasoner", "--rollouts", "2", "--out", out]
    for questions in (1, 2):
        subprocess.run(
            [*command, "--questions", str(questions)], check=True, capture_output=True, timeout=300
        )
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == 2
    for row in rows:
        assert len(row["rewards"]) == 8
        for completion, reward in zip(row["completions"], row["rewards"]):
            for values in completion["values"]:
                assert len(values) == len(completion["entropy"]) + 1
                assert sum(np.diff(values)) == pytest.approx(reward - values[0])
    summary = json.loads(out.with_suffix(".summary.json").read_text())
    assert "cosine, GRPO: A" in summary


@pytest.fixture(scope="module")
def rank(credit):
    sys.path.insert(0, str(SCRIPT.parent))
    import credit_rank

    return credit_rank


def test_a_method_that_pushes_along_the_credit_scores_one_and_against_it_minus_one(rank):
    rows = [group(np.random.default_rng(seed)) for seed in range(3)]

    def along(sign):
        def method(batch):
            advantages = torch.zeros_like(batch.entropy)
            advantages[:, 2] = sign * (batch.rewards - 0.5)  # the third token takes it all
            return Credit(advantages)

        return method

    for sign in (1, -1):
        sums = rank.products(rows, along(sign), "grpo", {}).sum(0)
        assert rank.cosine(sums) == pytest.approx(sign, abs=1e-6)
        assert rank.cosine(sums, 0) == pytest.approx(sign, abs=1e-6)


def test_methods_of_others_by_hand(rank, credit):
    batch, _ = credit.batch_of(group(np.random.default_rng(0)))
    assert (rank.top_entropy(batch).advantages[:, 2] == batch.advantages).all()
    ratio = (batch.logps - batch.ref_logps)[0].tolist()
    later = sum(x * 2 ** (-k / 32) for k, x in enumerate(ratio[4:]))
    influence = min(max(np.exp(later), 0.8), 1.2)
    expected = influence * batch.advantages[0].item()
    assert rank.future_kl(batch).advantages[0, 4].item() == pytest.approx(expected)
    assert (rank.clip_cov(batch).advantages == 0).sum() == 2  # 2 % of 96 tokens


def test_the_ranking_that_ships_is_what_the_data_say_and_an_own_method_joins_it(rank, monkeypatch):
    shipped = json.loads(rank.TARGET.read_text())["ranking"]["grpo-150"]["scores"]
    own = rank.own(str(ROOT / "examples" / "own_method.py") + ":credit")
    monkeypatch.setattr(rank, "POLICIES", {"grpo-150": "expressions, GRPO"})
    found = rank.ranking({"GRPO": rank.built_in()["GRPO"], "own": own})["grpo-150"]["scores"]
    assert found["GRPO"] == shipped["GRPO"]
    assert 0 < found["own"][0] < 1
    assert len(shipped) >= 8


def test_a_method_that_is_not_there_is_refused_in_one_line(rank):
    with pytest.raises(SystemExit, match="FILE.py:FUNCTION"):
        rank.load("nowhere.py:credit")
    with pytest.raises(SystemExit, match="no function 'nothing'"):
        rank.load(str(ROOT / "examples" / "own_method.py") + ":nothing")
