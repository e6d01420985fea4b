"""Mistakes in a file of `compare --grid`: one line each, before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from erpo_hub.errors import UsageError
from erpo_hub.study.compare import compare


@pytest.mark.parametrize(
    "line",
    [
        *("seeds: 2.5", "seeds: null", "seeds: [[1]]", "seeds: {a: 1}", "steps: 2024-13-45", "model: 5"),
        *("cells: 5", "cells: null", "cells: [1]", "cells: [[a]]", "cells: {grpo: 3}", "cells: {grpo: [a]}"),
        *("cells: {1: {}}", "cells: {grpo: {1: 2}}", "cells: {grpo: {preset: [x]}}", "task: [a]"),
        *("cells: {grpo: {control: [x]}}", "overrides: [a]", "overrides: null", "overrides: {1: 2}"),
        *("overrides: {beta: 2024-01-02}", "overrides: &a {beta: *a}", "{1: 2, a: 3}", "train_size: many"),
        *("baseline: 2024-01-02", "[" * 5000),
    ],
)
def test_a_mistake_in_a_grid_is_one_line(tmp_path: Path, line: str) -> None:
    grid = tmp_path / "grid.yaml"
    grid.write_text(line if line.startswith(("cells", "{", "[")) else f"cells: [grpo]\n{line}")
    with pytest.raises(UsageError):
        compare(grid=grid, out_dir=tmp_path / "out", train=False)
    assert not (tmp_path / "out").exists()
