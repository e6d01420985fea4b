"""ERPO's settings in words, with the number of the equation each belongs to. Data only.

The numbers are those of train/advantages.py: 1 token entropy, 2 gate, 3 implicit progress, 4 buckets,
5 bucket normalisation, 6 result anchor, 7 synthesis.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Setting:
    name: str
    equation: str
    meaning: str


SETTINGS = (
    Setting("entropy_gate", "2", "weigh each token by how uncertain the policy was there"),
    Setting("gate_gamma", "2", "steepness γ of the gate"),
    Setting("progress_beta", "3", "scale β of the implicit progress, log π − log π_ref"),
    Setting("num_buckets", "4", "number K of progress buckets"),
    Setting("bucket_axis", "4", "what a completion's progress is measured along"),
    Setting("eps", "2, 5", "δ in both standardisations"),
    Setting("zero_variance", "6", "groups whose completions all score alike"),
    Setting("reward_threshold", "6", "reward θ that counts as success where such groups are kept"),
    Setting("progress_eta", "7", "weight η of the token term"),
    Setting("synthesis", "7", "how outcome and token term are put together"),
)
