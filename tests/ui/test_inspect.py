"""Inspect, driven as a user would: ask, watch, stop, fork, measure, save, upload, share; and its failures."""

from __future__ import annotations

import json
import re
import threading
import time

from playwright.sync_api import expect

from erpo_hub.traces.trace import Trace
from erpo_hub.ui.models.line import AT_ONCE

from .conftest import choose, make_trace, open_drawer, open_trace, set_number, tokens, traces, watched
from .fakes import SlowEngine


def ask(page, model: str, prompt: str, gold: str = "") -> None:
    open_drawer(page)
    choose(page, "#model", model)
    page.locator("#prompt textarea").fill(prompt)
    page.locator("#gold textarea").fill(gold)
    page.locator("#ask").click()


def wait_finished(page, view: str = "#view") -> None:
    expect(page.locator(f"{view} .tv-status")).to_contain_text("Finished.", timeout=30_000)


def test_an_answer_streams_and_is_graded(page):
    ask(page, "builtin:tiny-reasoner", "3+4=", "7")
    wait_finished(page)
    expect(page.locator("#view .tv-badge")).to_have_text(re.compile("✓ correct|✗ wrong"))
    expect(page.locator("#view .tv-title")).to_have_text("builtin:tiny-reasoner")
    expect(page.locator("#shipped input")).to_have_value("")  # what is shown is no recorded trace
    expect(page.locator("#view .tv-map-text")).to_contain_text(f"{tokens(page).count()} tokens")


def test_a_fork_streams_beside_the_original_with_its_beginning_dimmed(page):
    ask(page, "builtin:tiny-reasoner", "7-2*3+4=", "5")
    wait_finished(page)
    tokens(page).nth(2).click()
    other = page.locator("#view .tv-card .tv-fork").first
    wanted = other.get_attribute("aria-label").removeprefix("Fork here with ")
    other.click()
    wait_finished(page, "#branch")
    branch = tokens(page, "#branch")
    expect(branch.nth(2)).to_have_text(wanted)
    assert branch.nth(2).get_attribute("class").count("tv-shared") == 0
    assert page.locator("#branch .tv-shared").count() == 2
    assert branch.all_text_contents()[:2] == tokens(page).all_text_contents()[:2]
    expect(page.locator("#branch .tv-badge")).to_have_text(re.compile("correct|wrong"))


def test_a_shipped_trace_that_another_vocabulary_made_says_so(page):
    tokens(page).nth(4).click()
    page.locator("#view .tv-card .tv-fork").first.click()
    told = page.locator("#branch .tv-status[role=alert]")
    expect(told).to_contain_text("made wrote this solution and is not in the list of models")
    ask(page, "builtin:tiny-reasoner", "Sum: 1 + 1 =")
    wait_finished(page)
    expect(page.locator("#view .tv-status")).to_contain_text("only learned sums like 7-2*3+4=")
    expect(told).to_be_hidden()


def test_stop_works_at_once_and_keeps_what_there_is(page):
    ask(page, "slow", "1+1=")
    expect(page.locator("#view .tv-title")).to_have_text("slow")
    expect(page.locator("#view .tv")).to_have_attribute("data-tokens", re.compile(r"^\d*[5-9]$"))
    started = time.monotonic()
    page.locator("#stop").click()
    expect(page.locator("#view .tv-status")).to_have_text("Stopped.")
    assert time.monotonic() - started < 2
    kept = tokens(page).count()
    assert kept >= 5
    page.wait_for_timeout(300)
    assert tokens(page).count() == kept
    assert SlowEngine.running == 0


def test_asking_again_ends_what_was_running(page):
    ask(page, "slow", "1+1=")
    expect(page.locator("#view .tv-title")).to_have_text("slow")
    expect(tokens(page).nth(2)).to_be_attached()
    ask(page, "builtin:tiny-reasoner", "3+4=", "7")
    wait_finished(page)
    assert SlowEngine.running == 0


def test_a_closed_tab_ends_its_stream(browser, server):
    with watched(browser, server) as page:
        ask(page, "slow", "1+1=")
        expect(page.locator("#view .tv-title")).to_have_text("slow")
        expect(tokens(page).nth(2)).to_be_attached()
        assert SlowEngine.running == 1
    deadline = time.monotonic() + 20
    while SlowEngine.running and time.monotonic() < deadline:
        time.sleep(0.2)
    assert SlowEngine.running == 0


def test_failures_are_told_in_the_page_and_the_server_goes_on(page):
    ask(page, "breaking", "7-2*3+4=")
    alert = page.locator("#view .tv-status[role=alert]")
    expect(alert).to_contain_text("CUDA out of memory <img src=x onerror=alert(1)>")
    ask(page, "breaking", "   ")
    expect(alert).to_contain_text("The question is empty")
    ask(page, "breaking", "9" * 30_000)
    expect(alert).to_contain_text("30,000 characters")
    page.locator("#model input").fill("nobody/nothing-here")
    page.locator("#model input").press("Enter")
    page.locator("#prompt textarea").fill("3+4=")
    page.locator("#ask").click()
    expect(alert).to_contain_text("nobody/nothing-here")
    ask(page, "builtin:tiny-reasoner", "3+4=", "7")
    wait_finished(page)


def test_sensitivity_is_measured_with_progress(page):
    ask(page, "builtin:tiny-reasoner", "7-2*3+4=")
    wait_finished(page)
    page.locator("#measure").click()
    expect(page.locator("#view .tv-status")).to_contain_text("Sensitivity measured")
    tokens(page).nth(1).click()
    expect(page.locator("#view .tv-card")).to_contain_text("logit²")


def test_a_trace_is_saved_and_opened_again_as_it_was(page, tmp_path):
    open_trace(page, "measured")
    with page.expect_download() as saved:
        page.locator("#save-json").click()
    path = tmp_path / "trace.json"
    saved.value.save_as(path)
    assert Trace.from_json(path) == traces()[3]
    with page.expect_download() as saved:
        page.locator("#save-html").click()
    assert saved.value.suggested_filename.endswith(".html")
    open_trace(page, "Smile")
    page.locator("input[type=file]").first.set_input_files(path)
    expect(page.locator("#view .tv-title")).to_have_text("Uploaded: trace.json")
    expect(tokens(page)).to_have_count(len(traces()[3]))
    expect(page.locator("#shipped input")).to_have_value("")
    open_trace(page, "Smile")  # and the one chosen before can be chosen again
    expect(tokens(page)).to_have_count(5)


def test_hostile_uploads_are_refused_in_words(page, tmp_path):
    good = json.loads(traces()[0].to_json())
    cases = {
        "cut.json": json.dumps(good)[:200],
        "types.json": json.dumps(good | {"entropy": "<img src=x onerror=alert(1)>"}),
        "future.json": json.dumps(good | {"schema_version": 99}),
        "list.json": "[1, 2]",
        "nan.json": json.dumps(good).replace(str(good["entropy"][0]), "NaN", 1),
        "deep.json": '{"a":' * 50_000,
    }
    alert = page.locator("#view .tv-status[role=alert]")
    for name, text in cases.items():
        path = tmp_path / name
        path.write_text(text)
        page.locator("input[type=file]").first.set_input_files(path)
        expect(alert).to_contain_text(f"Not opened: {name}:" if name != "list.json" else "Not opened:")
    open_trace(page, "Smile")
    expect(tokens(page)).to_have_count(5)


def test_an_uploaded_token_of_a_megabyte_is_cut_and_the_page_goes_on(page, tmp_path):
    path = tmp_path / "megabyte.json"
    make_trace(["<img src=x onerror=alert(1)>" * 40_000, " end"], prompt="y" * 1_000_000).to_json(path)
    assert path.stat().st_size > 4_000_000
    page.locator("input[type=file]").first.set_input_files(path)
    expect(page.locator("#view .tv-title")).to_have_text("Uploaded: megabyte.json")
    expect(tokens(page)).to_have_count(2)
    text = tokens(page).first.text_content()
    assert text.startswith("<img src=x onerror=alert(1)>")
    assert len(text) < 2100
    assert "(1,120,000 characters)" in text
    tokens(page).first.click()
    expect(page.locator("#view .tv-card.tv-pinned")).to_contain_text("token 1 of 2")
    assert page.locator("#view img").count() == 0
    open_trace(page, "Smile")
    expect(tokens(page)).to_have_count(5)


def test_a_full_queue_is_told_in_the_page_and_asking_again_works(browser, engine):
    from gradio_client import Client

    from erpo_hub.ui import build_demo, launch_kwargs
    from erpo_hub.ui.library.library import Limits

    class Waiting(SlowEngine):
        def trace(self, prompt, **options):
            released.wait(60)
            return self._engine.trace(prompt, **options)

    released = threading.Event()
    engines = {"waiting": Waiting(engine), "tiny": engine}
    demo = build_demo(engines=engines, limits=Limits(queue=2))
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, **launch_kwargs())
    try:
        with watched(browser, url, refused="503") as page:
            client = Client(url, verbose=False)
            jobs = [client.submit(prompt="1+1=", model="waiting", api_name="/trace") for _ in range(4)]
            deadline = time.monotonic() + 60  # one visitor has two, the others are refused
            while not any(job.done() for job in jobs) and time.monotonic() < deadline:
                time.sleep(0.05)
            ask(page, "tiny", "3+4=", "7")
            expect(page.locator("#view .tv-status[role=alert]")).to_contain_text("The queue is full")
            released.set()
            answered = [job for job in jobs if job.exception(timeout=60) is None]
            assert len(answered) == 2
            page.locator("#ask").click()
            wait_finished(page)
    finally:
        released.set()
        demo.close()


def test_an_upload_over_the_limit_is_refused(page, tmp_path):
    path = tmp_path / "huge.json"
    with path.open("wb") as file:
        file.truncate(200 * 1024 * 1024)
    before = tokens(page).count()
    page.locator("input[type=file]").first.set_input_files(path)
    expect(page.get_by_text(re.compile("exceeds|too large|maximum", re.IGNORECASE)).first).to_be_visible()
    assert tokens(page).count() == before


def test_a_link_opens_a_trace_at_a_token(page, browser, server):
    open_trace(page, "measured")
    tokens(page).nth(6).click()
    page.locator("#link").click()
    link = page.locator("#link-text textarea, #link-text input").input_value()
    assert link.startswith(server)
    with watched(browser, server, link.removeprefix(server)) as other:
        expect(other.locator("#view .tv-card.tv-pinned")).to_contain_text("token 7 of")


def test_a_link_fills_in_a_question_and_hostile_ones_do_nothing(browser, server):
    query = "?prompt=8*2-9%3D&gold=7&temperature=0.2&seed=5&model=slow&tab=inspect"
    with watched(browser, server, query) as page:
        expect(page.locator("#prompt textarea")).to_have_value("8*2-9=")
        open_drawer(page)
        page.get_by_text("Sampling", exact=True).first.click()
        expect(page.locator("#ask-seed input")).to_have_value("5")
    hostile = "?trace=%3Cscript%3E&token=-1&tab=evil&prompt=%24%7Balert(1)%7D&temperature=1e999&seed=abc"
    with watched(browser, server, hostile) as page:
        expect(page.locator("#prompt textarea")).to_have_value("${alert(1)}")
        expect(page.locator("#view .tv-prompt-text")).to_have_text("${alert(1)}")


def test_the_question_box_and_the_view_never_show_two_questions(page, browser, server):
    box, gold = page.locator("#prompt textarea"), page.locator("#gold textarea")
    expect(box).to_have_value(traces()[0].prompt)
    open_trace(page, "measured")
    expect(box).to_have_value("measured")
    expect(gold).to_have_value("7")
    box.fill("5+5=")
    expect(gold).to_have_value("")
    expect(page.locator("#view .tv-prompt-text")).to_have_text("5+5=")
    expect(tokens(page)).to_have_count(0)
    page.locator("#measure").click()
    expect(page.locator("#view .tv-status[role=alert]")).to_contain_text("no trace to measure")
    with watched(browser, server, "?model=builtin:tiny-reasoner&prompt=5%2B5%3D&gold=10") as other:
        expect(other.locator("#view .tv-prompt-text")).to_have_text("5+5=")
        expect(other.locator("#view .tv-status")).to_contain_text("press Ask")
        expect(tokens(other)).to_have_count(0)


def test_two_are_answered_at_once_and_who_waits_is_told_his_place(page, browser, server):
    with watched(browser, server) as between, watched(browser, server) as second:
        ask(page, "slow", "1+1=")  # once all are open: on a busy machine that takes longer than an answer
        expect(tokens(page).nth(2)).to_be_attached()
        if AT_ONCE > 1:  # one with the other
            ask(between, "slow", "5+5=")
            expect(tokens(between).nth(2)).to_be_attached()
        ask(second, "slow", "2+2=")
        expect(second.locator("#view .tv-status")).to_have_text("Waiting: yours is the next question.")
        expect(second.locator("#view .tv-prompt-text")).to_have_text("2+2=")
        page.locator("#prompt textarea").fill("3+3=")  # what still runs is the answer of another question
        page.locator("#stop").click()
        expect(tokens(second).nth(2)).to_be_attached()
        second.locator("#stop").click()
        between.locator("#stop").click()
        expect(page.locator("#view .tv-prompt-text")).to_have_text("3+3=")
        expect(tokens(page)).to_have_count(0)


def test_one_long_stream_arrives_whole(page):
    open_drawer(page)
    page.get_by_text("Sampling", exact=True).first.click()
    set_number(page, "#ask-tokens", "60")
    ask(page, "slow", "1+1=")
    expect(page.locator("#view .tv-status")).to_contain_text("the limit", timeout=20_000)
    expect(tokens(page)).to_have_count(60)


def test_the_keyboard_is_enough_to_ask_and_to_fork(page):
    page.locator("#prompt textarea").focus()
    page.keyboard.press("Control+a")
    page.keyboard.type("7-2*3+4=")
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id === 'ask'"):
            break
    page.keyboard.press("Enter")
    wait_finished(page)
    page.locator("#view .tv-tok[tabindex='0']").focus()
    page.keyboard.press("n")
    page.keyboard.press("Enter")
    expect(page.locator("#view .tv-card.tv-pinned")).to_be_visible()
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.classList.contains('tv-fork')"):
            break
    page.keyboard.press("Enter")
    wait_finished(page, "#branch")
    assert tokens(page, "#branch").count() > 0


def test_ask_and_fork_on_a_phone(phone):
    ask(phone, "builtin:tiny-reasoner", "7-2*3+4=", "5")
    wait_finished(phone)
    tokens(phone).nth(2).tap()
    phone.locator("#view .tv-card .tv-fork").first.tap()
    expect(phone.locator("#view .tv-sheet")).to_have_count(0)  # it would lie over the branch
    wait_finished(phone, "#branch")
    expect(phone.locator("#branch .tv-tok").first).to_be_in_viewport()
    assert phone.evaluate("document.documentElement.scrollWidth <= window.innerWidth + 1")


def test_several_forks_stay_as_a_tree(page):
    ask(page, "builtin:tiny-reasoner", "7-2*3+4=", "5")
    wait_finished(page)
    rows = page.locator("#branch .tv-branch")
    for number in range(2):
        tokens(page).nth(2).click()
        page.locator("#view .tv-fork").nth(number).click()
        expect(rows).to_have_count(number + 1)
        wait_finished(page, "#branch")
        page.locator("#view .tv-close").click()
    tokens(page, "#branch").nth(3).click()
    page.locator("#branch .tv-fork").first.click()  # a fork of a fork
    expect(rows).to_have_count(3)
    wait_finished(page, "#branch")
    expect(rows.nth(2)).to_have_attribute("aria-pressed", "true")
    expect(rows.nth(2)).to_contain_text("token 4:")
    expect(rows.nth(2)).to_contain_text(re.compile("✓|✗"))
    second = tokens(page, "#branch").all_text_contents()
    rows.first.click()
    expect(rows.first).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#branch .tv-shared")).to_have_count(2)
    assert tokens(page, "#branch").all_text_contents() != second
    open_trace(page, "Smile")  # another solution's forks are not shown beside it
    expect(page.locator("#branch")).to_be_hidden()


def test_an_audit_says_whether_the_choice_moves_the_answer(page):
    ask(page, "builtin:tiny-reasoner", "7-2*3+4=", "5")
    wait_finished(page)
    page.locator("#view .tv-strongest").click()
    chosen = page.locator("#view .tv").get_attribute("data-selected")
    page.locator("#view .tv-audit-ask").click()
    table = page.locator("#view .tv-audit .tv-grid")
    expect(table).to_contain_text("of 8", timeout=60_000)
    expect(table.locator("tbody tr")).to_have_count(3)
    expect(table.locator("tbody tr").first).to_contain_text(re.compile(r"\d+–\d+"))  # its interval
    expect(page.locator("#view .tv-audit")).to_contain_text("8 continuations each")
    expect(page.locator("#view .tv")).to_have_attribute("data-selected", chosen)
    expect(page.locator("#view .tv-title")).to_have_text("builtin:tiny-reasoner")


def test_a_pasted_solution_is_scored(page):
    open_drawer(page)
    choose(page, "#model", "builtin:tiny-reasoner")
    page.locator("#prompt textarea").fill("3+4=")
    page.locator("#gold textarea").fill("7")
    page.locator("#score").click()
    expect(page.locator("#view .tv-status[role=alert]")).to_contain_text("There is no solution to score")
    page.locator("#pasted textarea").fill("7")
    page.locator("#score").click()
    expect(page.locator("#view .tv-badge")).to_have_text("✓ correct")
    expect(tokens(page)).to_have_text(["7"])
    expect(page.locator("#prompt textarea")).to_have_value("3+4=")
