"""JUDGE: sample, grade, compare, with intervals. May import `traces` and `train`."""
