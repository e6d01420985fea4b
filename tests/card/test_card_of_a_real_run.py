"""The card of runs that really trained: what the code recorded reaches the page, method by method."""

from __future__ import annotations

from pathlib import Path

import pytest
from training import digits_reward

from erpo_hub import render_card, train_and_push
from erpo_hub.record.format import RunRecord, read_record

# The settings that each method must record and show, by name: written out here and not taken from the code,
# so that one that is lost there fails.
ERPO = [
    "entropy_gate",
    "gate_gamma",
    "progress_beta",
    "num_buckets",
    "bucket_axis",
    "eps",
    "zero_variance",
    "reward_threshold",
    "progress_eta",
    "synthesis",
]
EXPECTED = {  # method: (title, paper, settings, reconstructed)
    "grpo": ("GRPO", "2402.03300", [], False),
    "erpo": ("ERPO", "2603.28204", ERPO, True),
    "ep-grpo": ("EP-GRPO", "2605.04960", ERPO, True),
    "forking-tokens": ("GRPO on forking tokens", "2506.01939", ["top_entropy_quantile"], False),
    "holder": ("HölderPO", "2605.12058", ["holder_start", "holder_end"], False),
    "gtpo": ("GTPO", "2508.04349", [], True),
}


@pytest.fixture(scope="session", params=EXPECTED)
def real_run(
    request: pytest.FixtureRequest, tiny_model: str, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The bundle of two steps of a model of 10,000 parameters."""
    return train_and_push(
        tiny_model,
        "builtin:expressions?operands=2",
        algorithm=request.param,
        reward_funcs=digits_reward,
        push=False,
        output_dir=tmp_path_factory.mktemp("runs") / request.param,
        evaluation={"n": 4},
        max_steps=2,
        per_device_train_batch_size=4,
        num_generations=4,
        max_completion_length=8,
        gradient_checkpointing=False,
    ).bundle_dir


def test_the_card_describes_the_method_that_was_trained(real_run: Path) -> None:
    record, card = read_record(real_run), render_card(real_run)
    title, paper, settings, reconstructed = EXPECTED[record.algorithm]
    assert card.startswith("---\n")
    assert f"trained with {title}\n" in card
    assert f"trained for 2 steps with [{title}](https://arxiv.org/abs/{paper})" in card
    assert f"= {{{paper}}}" in card, "its BibTeX"
    assert ("reconstructed from public sources" in card) == reconstructed
    assert sorted(record.settings) == sorted(settings)
    for name in settings:
        assert f"| `{name}` | `{record.arguments.all[name]}` |" in card
    for _, other, _, _ in EXPECTED.values():
        assert (other in card) == (other in (paper, "2402.03300"))


def test_every_part_of_the_record_was_gathered(real_run: Path) -> None:
    record = read_record(real_run)
    missing = [name for name, value in vars(record).items() if value in (None, "", [], {})]
    allowed = {"adapter", "paired_run", "averaged", "earlier", "transplant", "findings"} | (
        {"settings"} if not EXPECTED[record.algorithm][2] else set()
    )
    assert set(missing) == allowed
    assert record.findings == []  # the doctor was on and found nothing
    assert record.seed == 42
    assert [row["step"] for row in record.history] == [1, 2]
    assert record.cost.completions == 8
    assert record.results.final is not None
    assert len(record.results.final.per_question) == 4


def test_the_card_in_the_bundle_is_the_one_its_record_gives(real_run: Path) -> None:
    assert (real_run / "README.md").read_text(encoding="utf-8") == render_card(real_run)


def test_the_record_lists_the_bundles_files_and_the_run_folder_knows_its_traces(real_run: Path) -> None:
    import hashlib

    record, live = read_record(real_run), read_record(real_run.parent)
    files = {p.relative_to(real_run).as_posix(): p for p in real_run.rglob("*") if p.is_file()}
    assert set(record.files) == set(files) - {"run.json", "README.md"}
    for name, digest in record.files.items():
        assert digest == hashlib.sha256(files[name].read_bytes()).hexdigest()
    assert live.traces == record.traces
    assert isinstance(live, RunRecord)
    assert live.status == "finished"
