"""benchmarks/credit.py: its estimators on groups whose credit is known, and one real measurement."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

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
