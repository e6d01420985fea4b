"""Compatibility, continued: a model that sees. Its images must reach every forward, ERPO's own included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from compat import ERPO, KINDS, build, logged, older, run
from datasets import Dataset
from PIL import Image
from tiny_models import save_vision_model

from erpo_hub import ERPOTrainer

SEVERAL = pytest.param(
    "images",
    marks=pytest.mark.skipif(
        older("1.11"),
        reason="TRL's own trainer, before 1.11, gives LLaVA one picture a row where rows have several",
    ),
)


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_vision_model(tmp_path_factory.mktemp("models") / "seeing"))


@pytest.fixture(params=KINDS, ids=str)
def make(request: pytest.FixtureRequest, seeing: str, tmp_path: Path):
    def made(**options: Any) -> Any:
        return build(request.param, tmp_path, seeing, **{"dataset": pictures("image"), **options})

    return made


def pictures(form: str, rows: int = 8) -> Dataset:
    """One picture a prompt, one or two, or none at all."""
    colours = [Image.new("RGB", (16, 16), (i * 30, 0, 255 - i * 30)) for i in range(rows)]
    columns: dict[str, list] = {
        "prompt": [[{"role": "user", "content": f"what is {i}?"}] for i in range(rows)]
    }
    if form == "image":
        columns["image"] = colours
    elif form == "images":
        columns["images"] = [colours[: 1 + i % 2] for i in range(rows)]
    return Dataset.from_dict(columns)


@pytest.mark.parametrize("form", ["image", SEVERAL, "no picture"])
def test_forms_of_datasets(make, form: str) -> None:
    made = run(make(dataset=pictures(form), max_steps=2))
    assert all(("pixel_values" in batch) == (form != "no picture") for batch in made.batches)
    if isinstance(made, ERPOTrainer):
        assert made._source_logged == "the decode steps of generate"


@pytest.mark.parametrize(
    "settings",
    [
        {"steps_per_generation": 2, "max_steps": 2},
        {"num_iterations": 2, "max_steps": 2, "beta": 0.1},
        {"pad_to_multiple_of": 8},
        {"bf16": True},
    ],
    ids=str,
)
def test_settings(make, settings: dict) -> None:
    run(make(**settings))


def test_evaluation(make) -> None:
    made = run(make(eval_dataset=pictures("image", 2), eval_strategy="steps", eval_steps=1))
    assert len(logged(made, "eval_loss")) == 1


@pytest.mark.parametrize("decodes", [True, False], ids=["decode steps", "extra forward"])
@pytest.mark.parametrize("form", ["image", SEVERAL])
def test_numbers_are_those_of_a_plain_forward(seeing: str, tmp_path: Path, form: str, decodes: bool) -> None:
    """Row by row with its own pictures, for policy and reference; scored in chunks by the trainer."""
    made = build(ERPO, tmp_path, seeing, dataset=pictures(form), steps_per_generation=2, max_steps=1)
    made.args.gradient_accumulation_steps = 2  # keeps TRL from scoring the batch itself
    if not decodes:
        made._decodes_here = lambda: False
    taken: list[tuple] = []
    inner = made._credit_batch

    def kept(out: dict, mode: str) -> Any:
        batch, zero_variance = inner(out, mode)
        taken.append((out, batch.entropy, batch.logps, batch.ref_logps))
        return batch, zero_variance

    made._credit_batch = kept
    with torch.no_grad():
        for weight in made.model.parameters():
            weight.mul_(1.1)  # away from its reference
    made.train()
    source = "the decode steps of generate" if decodes else "one extra forward"
    assert made._source_logged == source
    out, entropy, logps, ref_logps = taken[0]
    fresh = build(ERPO, tmp_path, seeing, dataset=pictures(form)).model
    with torch.no_grad():
        for model, columns in ((fresh, (None, ref_logps)), (scaled(seeing), (entropy, logps))):
            start = 0
            for i, count in enumerate(out["num_images"]):
                pixels = out["pixel_values"][start : start + count]
                start += count
                compare(model, out, i, pixels, *columns)


def scaled(folder: str) -> Any:
    from transformers import AutoModelForImageTextToText

    model = AutoModelForImageTextToText.from_pretrained(folder)
    for weight in model.parameters():
        weight.mul_(1.1)
    return model


def compare(model: Any, out: dict, row: int, pixels: Any, entropy: Any, logps: torch.Tensor) -> None:
    keep = out["completion_mask"][row].bool()
    ids = out["completion_ids"][row][keep]
    full = torch.cat([out["prompt_ids"][row][out["prompt_mask"][row].bool()], ids])[None]
    log_probs = torch.log_softmax(
        model(input_ids=full, pixel_values=pixels).logits[0, -len(ids) - 1 : -1], -1
    )
    torch.testing.assert_close(logps[row][keep], log_probs[torch.arange(len(ids)), ids], atol=1e-4, rtol=0)
    if entropy is not None:
        expected = -(log_probs.exp() * log_probs).sum(-1)
        torch.testing.assert_close(entropy[row][keep], expected, atol=1e-4, rtol=0)
