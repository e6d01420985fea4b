"""The card's pictures: drawn from the record alone, with their numbers as alternative text."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from erpo_hub.card.headline import bars, headline, literal
from erpo_hub.card.plots import draw_all
from erpo_hub.record.format import load_record
from tests.hub_server.sample_run import example_run, history


def test_the_first_picture_says_every_accuracy_with_its_interval(tmp_path: Path) -> None:
    drawn = draw_all(load_record(example_run()), None, tmp_path)
    assert [figure.kind for figure in drawn] == ["headline", "training"]
    assert drawn[0].alt.replace("\u00a0", " ") == (
        "Bars of the accuracy on 200 held-out questions, with 95 % intervals: "
        "Before training 41.0 % (34.2–47.8 %); GRPO, paired run 60.0 % (53.2–66.8 %); "
        "ERPO, this model 62.0 % (55.3–68.7 %)."
    )
    assert (tmp_path / "accuracy.png").read_bytes().startswith(b"\x89PNG")


def test_it_shows_what_the_record_has_and_is_left_out_where_it_has_one_number(tmp_path: Path) -> None:
    without_pair = load_record(example_run(paired_run=None))
    assert [bar.label for bar in bars(without_pair)] == ["Before training", "ERPO, this model"]
    without_pair.results.baseline = None
    assert headline(without_pair, tmp_path / "a.png") is None
    assert bars(load_record(example_run(results={}))) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["$\\frac{", "a$b$ $", "\n" * 5, "x" * 10_000])
def test_a_name_from_a_record_is_no_formula_and_does_not_burst_the_picture(name: str, tmp_path: Path) -> None:
    run = load_record(example_run(algorithm=name, settings={}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = draw_all(run, None, tmp_path)
    assert [figure.kind for figure in drawn] == ["headline", "training"]
    assert len(literal(name)) < 60


def test_long_curves_are_smoothed_and_short_ones_are_not(tmp_path: Path) -> None:
    rough = [row | {"reward": row["step"] % 2} for row in history(0, 1, steps=200)]
    curves = draw_all(load_record(example_run(history=rough)), None, tmp_path)[-1]
    assert "faint: as logged, strong: the mean over 21 logged steps" in curves.caption
    assert "mean reward from 0.545 to 0.455" in curves.alt
    short = draw_all(load_record(example_run(history=rough[:5])), None, tmp_path)[-1]
    assert "mean reward from 1 to 1" in short.alt
    assert "faint" not in short.caption
