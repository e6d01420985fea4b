"""Compare as a whole: numbers, samples of one model, records alone, rows that filter and open; addresses."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import expect

from erpo_hub.ui import build_demo, preview
from erpo_hub.ui.library.labels import titled
from erpo_hub.ui.library.library import SHIPPED, Limits, add_examples, open_library
from erpo_hub.ui.library.sides import default_sides, read_sides, side_names
from erpo_hub.ui.models.overview import overview

from .conftest import make_trace, watched
from .records import write_pair


def test_the_shipped_traces_compare_as_their_study_counts():
    library = open_library([], Limits())
    add_examples(library)
    assert SHIPPED.stat().st_size < 200_000
    sides = read_sides(library, default_sides(library))
    assert [side.name for side in sides] == ["SmolLM2-135M, GRPO", "SmolLM2-135M, ERPO"]
    found = overview(sides)
    right = [[t.correct for t in side.traces()] for side in sides]
    counts = {kind: n for kind, _, n in found["kinds"]}
    assert sum(counts.values()) == 12
    assert counts["all"] + counts["only-0"] == sum(right[0])
    assert counts["all"] + counts["only-1"] == sum(right[1])
    shares = [[value for value, _ in side] for side in found["charts"][0]["values"]]
    assert all(abs(sum(side) - 100) < 0.1 for side in shares)
    assert "McNemar" in found["paired"][0]
    three = overview(read_sides(library, [s.name for s in sides] + ["SmolLM2-135M, warm-up"]))
    assert len(three["paired"]) == 2
    assert "after Holm" in three["paired"][1]
    assert "some" in {kind for kind, _, _ in three["kinds"]}


def test_nine_samples_of_one_model_are_a_group_and_no_pair():
    library = open_library([], Limits())
    for i in range(9):
        library.traces[f"{i + 1}: x"] = make_trace([" a", f" {i}"], prompt="Same?", gold="1", correct=i > 3)
    library.traces["empty"] = make_trace([], prompt="Same?", gold="1", correct=True)
    assert library.trace_pairs() == {}
    (side,) = read_sides(library, side_names(library))
    found = overview([side])
    assert "10 samples of made" in found["text"]
    assert found["rows"][0]["cells"][0]["score"] == 0.5  # what has no token is not right


def test_a_run_without_its_log_is_compared_by_its_scores(paired_runs, tmp_path):
    library = open_library([paired_runs], Limits())
    sides = read_sides(library, ["grpo", "erpo", "erpo, before training"])
    assert [len(side.answers) for side in sides] == [len(sides[0].answers)] * 3
    scores = library.runs["erpo"].record().results.final.per_question
    found = overview(sides[:2])
    assert [row["cells"][1]["score"] for row in found["rows"]] == scores
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text('{"algorithm": ')
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "run.json").write_text('{"algorithm": "erpo", "status": "finished"}')
    assert list(open_library([tmp_path], Limits()).runs) == ["good"]
    later = open_library([tmp_path], Limits())
    (tmp_path / "good" / "run.json").write_text("{")  # while the app runs
    assert later.records() == []
    assert later.pair() is None


@pytest.mark.parametrize(
    "change", [{"lengths": [10**400]}, {"entropies": [10**400]}, {"entropies": [1e308]}, {"index": 10**400}]
)
def test_a_strangers_log_of_answers_does_not_keep_the_app_from_starting(tmp_path, change, caplog):
    """The scores of the record are compared then, and one line says what was not read."""
    write_pair(tmp_path)
    whole = {"prompt": "1+1=", "answer": "2", "completions": ["2"], "scores": [1.0], "correct": [True]}
    whole |= {"truncated": [False], "lengths": [2], "entropies": [0.1], "pivots": [0]}
    whole |= {"pivot_entropies": [None]}
    lines = [{"evaluation": {"k": 1}}, {"index": 0, **whole}, {"index": 1, **whole, **change}]
    lines += [{"index": 2, **whole, **change}] * 2
    (tmp_path / "erpo" / "evaluation").mkdir()
    log = tmp_path / "erpo" / "evaluation" / "final.jsonl"
    log.write_text("\n".join(map(json.dumps, lines)))
    library = open_library([tmp_path], Limits())
    found = overview(read_sides(library, default_sides(library)))
    assert found["sides"][1]["questions"] > 2
    assert "read up to its question 1" in caplog.text
    assert build_demo(runs=[tmp_path], limits=Limits())


def test_rows_filter_open_and_the_address_brings_them_back(browser):
    from erpo_hub.ui import build_demo, launch_kwargs

    demo = build_demo()
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, **launch_kwargs())
    cut_off = ("was aborted", "Connection errored out")  # streams that the reload ends
    try:
        with watched(browser, url, refused=cut_off) as page:
            expect(page).to_have_title(preview.TITLE)
            expect(page.locator("#view .tv")).to_have_attribute("data-selected", "16")
            page.get_by_role("tab", name="Compare").click()
            page.locator("#overview [data-kind=only-0]").click()
            row = page.locator("#overview .ov-rows tbody tr")
            expect(row).to_have_count(1)
            question = row.locator(".ov-question").inner_text()
            row.locator("button").first.click()
            expect(page.locator("#view-a .tv-badge")).to_contain_text("correct")
            expect(page.locator("#view-b .tv-badge")).to_contain_text("wrong")
            page.wait_for_url("**kind=only-0&question=*")
            page.reload()
            expect(page.locator("#overview .ov")).to_have_attribute("data-kind", "only-0")
            expect(page.locator("#view-a .tv-prompt-text")).to_have_text(question)
            page.get_by_role("tab", name="Group").click()
            page.wait_for_url("**tab=group**")
            page.go_back()
            expect(page.get_by_role("tab", name="Compare")).to_have_attribute("aria-selected", "true")
            response = page.request.get(url)
            assert f'property="og:image" content="{url}preview.png"' in response.text()
            assert "Gradio" not in response.text().split("</head>")[0].split("window.gradio_config")[0]
            assert page.request.get(url + "preview.png").headers["content-type"] == "image/png"
    finally:
        demo.close()


def test_what_models_and_runs_are_called_is_text(browser):
    from erpo_hub.ui import build_demo, launch_kwargs

    name = "<img src=x onerror=alert(1)>"
    made = [
        make_trace([name, "${alert(1)}"], prompt=name, model=name + side, gold="1", correct=side == "a")
        for side in "ab"
    ]
    demo = build_demo(traces=made)
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, **launch_kwargs())
    try:
        with watched(browser, url) as page:
            page.get_by_role("tab", name="Compare").click()
            expect(page.locator("#overview .ov-totals th[scope=row]").first).to_have_text(name + "a")
            expect(page.locator("#overview .ov-question button")).to_have_text(name)
            expect(page.locator("img[src=x]")).to_have_count(0)
    finally:
        demo.close()


def test_on_a_phone_the_totals_fit_and_what_a_row_is_about_stays_in_view(browser):
    from erpo_hub.ui import build_demo, launch_kwargs

    demo = build_demo()
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, **launch_kwargs())
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    try:
        with watched(browser, url, "?tab=compare", **phone) as page:
            totals = page.locator("#overview .ov-totals")
            expect(totals.locator("thead th")).to_have_text(["", "SmolLM2-135M, GRPO", "SmolLM2-135M, ERPO"])
            expect(totals.locator("tbody th")).to_have_count(7)
            expect(totals.locator("tbody tr").first).to_have_text("right75.0 %66.7 %")
            assert totals.evaluate("box => box.scrollWidth <= box.clientWidth")
            rows = page.locator("#overview .ov-rows")
            rows.evaluate("box => (box.scrollLeft = box.scrollWidth)")
            edge = rows.bounding_box()["x"]
            for cell in ("tbody td.ov-question", "thead th:nth-child(2)"):
                assert abs(rows.locator(cell).first.bounding_box()["x"] - edge) <= 2
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
            page.set_viewport_size({"width": 1000, "height": 844})
            expect(totals.locator("tbody tr").first).to_contain_text("SmolLM2-135M, GRPO75.0 %")
    finally:
        demo.close()


def test_sentences_call_a_run_by_its_methods_title(paired_runs):
    library = open_library([paired_runs], Limits())
    found = overview(read_sides(library, ["grpo", "erpo", "erpo, before training"]))
    assert [side["name"] for side in found["sides"]] == ["grpo", "erpo", "erpo, before training"]  # addresses
    assert [side["title"] for side in found["sides"]] == ["GRPO", "ERPO", "ERPO, before training"]
    assert found["paired"][0].startswith("ERPO minus GRPO:")
    assert "only ERPO" in [label for _, label, _ in found["kinds"]]
    assert default_sides(library) == ["grpo", "erpo"]
    alone = open_library([paired_runs / "erpo"], Limits())
    assert default_sides(alone) == ["erpo, before training", "erpo"]  # what training changed, with its sign
    assert titled("ep-grpo") == "EP-GRPO"
    assert titled("me/grpo") == "me/grpo"  # an id on the Hub
