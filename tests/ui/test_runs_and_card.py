"""Runs and Card: curves, results and arguments from run.json, live; the card as the Hub shows it."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import expect

from erpo_hub.card.plots import smooth
from erpo_hub.errors import UserError
from erpo_hub.record.format import read_record
from erpo_hub.verification.claims import OVERSTATED, UNTRUE, Claim, Verification
from tests.hub_server.sample_run import example_run

from .conftest import OWNER, choose, watched


@pytest.fixture
def runs(page):
    page.get_by_role("tab", name="Runs").click()
    expect(page.locator("#runs-plot .js-plotly-plot")).to_be_visible()
    return page


def test_both_runs_are_drawn_over_each_other_with_results_and_differences(runs):
    names = runs.evaluate(
        "document.querySelector('#runs-plot .js-plotly-plot').data"
        ".filter((t) => t.showlegend).map((t) => t.name)"
    )
    assert names == ["grpo", "erpo"]
    expect(runs.locator("#runs-results tbody tr")).to_have_count(4)
    expect(runs.locator("#runs-results")).to_contain_text("62.0 %")
    note = runs.locator("#runs-results .facts-note")
    expect(note).to_contain_text("p = 0.65")
    expect(note).to_contain_text(
        "ERPO minus GRPO:"
    )  # a sentence; lists, legend and tables keep the run's name
    expect(runs.locator("#runs-arguments tbody tr")).to_have_count(1)
    expect(runs.locator("#runs-arguments")).to_contain_text("learning_rate")


def test_what_the_doctor_found_and_what_verify_said_is_shown(runs, paired_runs):
    path, checked = paired_runs / "erpo" / "run.json", paired_runs / "erpo" / "verification.json"
    before = path.read_text()
    expect(runs.locator("#runs-verified .facts-note")).to_contain_text("erpo-hub verify")
    finding = {"kind": "cut-off", "step": 3, "certainty": "sure", "what": "90% are <b>cut</b>", "change": "x"}
    try:
        path.write_text(json.dumps(json.loads(before) | {"findings": [finding]}))
        claims = [Claim("accuracy (greedy)", UNTRUE, "<b>far</b> off", OVERSTATED, p=0.0002)]
        Verification("erpo", claims).to_json(checked)
        runs.locator("#runs-refresh").click()
        expect(runs.locator("#runs-findings tbody tr")).to_contain_text("90% are <b>cut</b>")
        expect(runs.locator("#runs-verified tbody tr")).to_contain_text("not reproduced (p < 0.001)")
        expect(runs.locator("#runs-verified .facts-note")).to_contain_text(
            "contradicted: accuracy overstated"
        )
        checked.write_text("nonsense")
        runs.locator("#runs-refresh").click()
        expect(runs.locator("#runs-verified .facts-note")).to_contain_text("is not what verify wrote")
    finally:
        path.write_text(before)
        checked.unlink(missing_ok=True)


def test_a_run_that_is_still_training_is_followed(runs, paired_runs):
    path = paired_runs / "erpo" / "run.json"
    before = path.read_text()
    record = json.loads(before)
    record["status"] = "running"
    record["history"] = record["history"][:7]
    try:
        path.write_text(json.dumps(record))
        runs.locator("#runs-refresh").click()
        row = runs.locator("#runs-state tbody tr").nth(1)
        expect(row).to_contain_text("running")
        expect(row.locator("td").nth(4)).to_have_text("7")
        record["history"] = json.loads(before)["history"][:9]
        path.write_text(json.dumps(record))
        expect(row.locator("td").nth(4)).to_have_text("9", timeout=15_000)  # by itself
        path.write_text('{"half a ')
        runs.locator("#runs-refresh").click()
        expect(runs.locator("#runs-state tbody tr")).to_have_count(1)
    finally:
        path.write_text(before)


@pytest.mark.parametrize(
    "changes",
    [
        {"algorithm": 3},
        {"history": {"step": 1}},
        {"history": ["reward"]},
        {"results": {"final": {"accuracy": "<b>", "interval": [0, 1], "n": 1, "k": 1, "mean_length": 2}}},
        {"results": {"final": {"accuracy": 0.5}}},
        {"dataset": []},
        {"dataset": {"spec": ["x"]}},
        {"dataset": {"samples": ["3+4="]}},
        {"arguments": {"changed": "all"}},
        {"settings": 7},
        {"paired_run": {"name": "grpo", "comparison": {"difference": 1}}},
    ],
)
def test_a_record_with_wrong_types_is_refused(tmp_path, changes):
    (tmp_path / "run.json").write_text(json.dumps(example_run()))
    assert read_record(tmp_path).algorithm == "erpo"
    (tmp_path / "run.json").write_text(json.dumps(example_run() | changes))
    with pytest.raises(UserError, match="not a run record"):
        read_record(tmp_path)


def test_the_app_opens_on_the_least_that_a_run_in_progress_has(tmp_path):
    from erpo_hub.ui import build_demo

    (tmp_path / "run.json").write_text('{"algorithm": "erpo", "status": "running", "history": []}')
    assert build_demo(runs=[tmp_path]).fns


def test_smoothing_is_a_running_mean():
    assert smooth([0.0, 3.0, 6.0, 9.0], 3) == [1.5, 3.0, 6.0, 7.5]
    assert smooth([1.0, 2.0], 1) == [1.0, 2.0]
    assert smooth([], 5) == []


def test_the_card_is_shown_with_its_pictures_and_can_be_saved(page):
    page.get_by_role("tab", name="Card").click()
    card = page.locator("#card-preview")
    expect(card.get_by_role("heading", name="tiny-reasoner trained with ERPO")).to_be_visible()
    picture = card.locator("img").first
    expect(picture).to_be_visible()
    assert picture.get_attribute("src").startswith("data:image/png")
    with page.expect_download() as saved:
        page.locator("#card-save").click()
    assert saved.value.suggested_filename == "README.md"
    choose(page, "#card-run", "grpo")
    expect(card.get_by_role("heading", name="tiny-reasoner trained with GRPO")).to_be_visible()


def test_without_a_token_nothing_can_be_pushed(page, monkeypatch):
    page.get_by_role("tab", name="Card").click()
    expect(page.get_by_text("log in first")).to_be_visible()
    assert page.locator("#push").count() == 0


def test_a_repository_that_is_not_there_is_named(runs):
    for given in ("nobody/nothing", "/no/such/folder"):
        runs.get_by_label("Add a run").fill(given)
        runs.get_by_role("button", name="Add").click()
        expect(runs.locator("#runs-state .facts-text[role=alert]")).to_contain_text(given)


@pytest.mark.parametrize(
    ("alone", "variables", "offered"),
    [
        (True, {"HF_TOKEN": "hf_mine"}, True),
        (True, {"HF_TOKEN": ""}, False),
        (False, {"HF_TOKEN": "hf_mine"}, False),  # --share, or another --host
        (True, {"HF_TOKEN": "hf_the_owners", "SPACE_ID": "me/space"}, False),
    ],
)
def test_there_is_a_way_to_push_only_for_who_owns_the_token(
    paired_runs, monkeypatch, tmp_path, alone, variables, offered
):
    from huggingface_hub import constants

    from erpo_hub.ui import build_demo

    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    demo = build_demo(runs=[paired_runs], door=OWNER if alone else None)
    functions = [getattr(f.fn, "__name__", "") for f in demo.fns.values()]
    assert functions.count("push") == offered


def test_without_a_run_the_card_waits_for_one(browser, paired_runs):
    from erpo_hub.ui import build_demo, launch_kwargs

    demo = build_demo(door=OWNER)
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, **launch_kwargs(OWNER))
    with watched(browser, url) as page:
        page.get_by_role("tab", name="Card").click()
        expect(page.get_by_text("No runs here, so no card")).to_be_visible()
        expect(page.locator("#card-preview")).to_be_hidden()
        page.get_by_role("tab", name="Runs").click()
        expect(page.locator("#runs-state")).to_contain_text("No runs here")
        page.get_by_label("Add a run").fill(str(paired_runs))
        page.get_by_label("Add a run").press("Enter")
        expect(page.locator("#runs-state tbody tr")).to_have_count(2)
        page.get_by_role("tab", name="Card").click()
        heading = page.locator("#card-preview").get_by_role("heading", name="tiny-reasoner trained with")
        expect(heading.first).to_be_visible()
        expect(page.get_by_text("No runs here, so no card")).to_be_hidden()
    demo.close()


def test_a_push_uses_the_visitors_token_and_none_without_one(paired_runs, monkeypatch):
    import gradio as gr

    from erpo_hub.publish import hub
    from erpo_hub.ui.context import Context
    from erpo_hub.ui.library.library import Limits, open_library
    from erpo_hub.ui.models.pool import Engines
    from erpo_hub.ui.tabs import card_preview as card

    library = open_library([paired_runs], Limits())
    push = card._push_on_space(Context(library, Engines(library)))
    calls = []

    def fake(folder, repo_id, **options):
        calls.append((folder.name, repo_id, options))
        if repo_id == "me/refused":
            raise UserError("me/refused: you may not write there")
        return type("Commit", (), {"commit_url": "https://hub/me/model/commit/1"})

    monkeypatch.setattr(hub, "push_bundle", fake)
    assert json.loads(push("erpo", "me/model", True, None))["error"]
    assert calls == []
    token = gr.OAuthToken(token="hf_visitor", scope="", expires_at=0)
    assert json.loads(push("erpo", " me/model ", True, token))["text"].startswith("Pushed: https://hub")
    assert calls == [("bundle", "me/model", {"private": True, "token": "hf_visitor"})]
    assert (
        json.loads(push("erpo", "me/refused", True, token))["text"] == "me/refused: you may not write there"
    )
    assert json.loads(push("erpo", " ", True, token))["error"]
