"""The evidence that ships: packed and unpacked without a loss, the reports written again as they are."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EVIDENCE = ROOT / "docs" / "evidence"
sys.path.insert(0, str(ROOT / "benchmarks"))
import evidence  # noqa: E402

STUDIES = sorted(file.stem for file in EVIDENCE.glob("*.parquet"))


def test_every_report_has_its_data_and_no_loose_cells() -> None:
    assert sorted(file.parent.name for file in EVIDENCE.glob("*/report.json")) == STUDIES
    assert not list(EVIDENCE.rglob("cell.json"))


@pytest.mark.parametrize("study", ["collapse", "long", "smollm2"])
def test_the_report_written_again_is_the_one_that_ships(study, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("erpo_hub.study.report.draw_report", lambda *_: None)  # pictures depend on fonts
    copy = tmp_path / f"{study}.parquet"
    copy.write_bytes((EVIDENCE / copy.name).read_bytes())
    if (summary := EVIDENCE / study / "summary.json").exists():
        (tmp_path / study).mkdir()
        (tmp_path / study / "summary.json").write_bytes(summary.read_bytes())
    evidence.rebuild(copy)
    for name in ("report.md", "report.json"):
        assert (tmp_path / study / name).read_text() == (EVIDENCE / study / name).read_text()


def test_unpacked_cells_are_packed_into_the_same_rows(tmp_path) -> None:
    folder = tmp_path / "ablations"
    cells = evidence.unpack(EVIDENCE / "ablations.parquet", folder)
    assert len(cells) == 37  # three of them not finished, as the report says
    (folder / "report.json").write_text((EVIDENCE / "ablations" / "report.json").read_text())
    assert evidence.pack(folder, tmp_path / "again.parquet") == 34
    assert evidence.read_cells(tmp_path / "again.parquet") == evidence.read_cells(
        EVIDENCE / "ablations.parquet"
    )


def test_some_rows_of_a_study_can_be_unpacked_alone(tmp_path) -> None:
    file = EVIDENCE / "ablations.parquet"
    folders = evidence.unpack(file, tmp_path, ["grpo", "permuted gate"])
    assert sorted({folder.parent.name for folder in folders}) == ["grpo", "permuted-gate"]
    assert {path.parent for path in tmp_path.rglob("cell.json")} == set(folders)
    assert len(folders) == 6


def test_a_cell_that_the_report_does_not_count_is_not_packed(tmp_path) -> None:
    evidence.unpack(EVIDENCE / "ablations.parquet", tmp_path, ["grpo"])
    methods = {"grpo": {"seeds": [0, 2]}}
    (tmp_path / "report.json").write_text(json.dumps({"methods": methods, "baseline": "grpo", "missing": []}))
    assert evidence.pack(tmp_path, tmp_path / "some.parquet") == 2
    assert [c["cell"]["seed"] for c in evidence.read_cells(tmp_path / "some.parquet")] == [0, 2]


def test_compare_goes_on_with_unpacked_cells(tmp_path) -> None:
    """`erpo-hub compare` finds every training of the study finished and trains none."""
    evidence.unpack(EVIDENCE / "collapse.parquet", tmp_path)
    from erpo_hub.study.compare import compare

    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("cell.json")}
    report = compare(grid=EVIDENCE / "collapse" / "grid.yaml", out_dir=tmp_path, progress=False)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("cell.json")} == before
    assert report.data["rows"] == json.loads((EVIDENCE / "collapse" / "report.json").read_text())["rows"]


def test_a_folder_without_a_report_is_refused_in_one_line(tmp_path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "evidence.py"), "pack", str(tmp_path)]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 1
    assert "give a folder that erpo-hub compare wrote" in found.stderr
