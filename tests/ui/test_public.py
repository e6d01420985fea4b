"""The app's door: who is answered, who is the owner, what all visitors may take (docs/security.md)."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from threading import Lock
from types import SimpleNamespace

import httpx
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from erpo_hub.errors import UserError
from erpo_hub.ui import build_demo, launch_kwargs
from erpo_hub.ui.bodies import PUBLIC_BODY
from erpo_hub.ui.budget import Budget, SessionMemory, folder, fresh_file, make_room
from erpo_hub.ui.card_html import card_html
from erpo_hub.ui.guard import Door, body_problem
from erpo_hub.ui.library.library import Limits, open_library

from .conftest import OWNER, long_trace, watched

HOSTILE_CARD = """# A card
<div style="position:fixed;inset:0;z-index:9999">covers all</div>
<form action="https://elsewhere.example/"><input name="password"></form>
<style>body{display:none}</style><script>document.title = "taken"</script>
<!-- a note
of the card --> <img src="https://elsewhere.example/a.png" onerror="alert(1)">

![far](https://elsewhere.example/b.png) ![out](../../secret.png) ![in](figures/a.png) ![not](figures/b.png)
[click](javascript:alert(1)) [data](data:text/html,x) [site](https://elsewhere.example/) [file](run.json)

| a | b |
|:--|--:|
| <u onmouseover=alert(1)>1</u> | 2 |
"""
PNG = b"\x89PNG\r\n\x1a\n" + bytes.fromhex(
    "0000000d49484452000000010000000108060000001f15c4890000000d49444154789c636060606000000005000"
    "1a5f645400000000049454e44ae426082"
)


def _get(url: str, path: str = "", **headers: str) -> httpx.Response:
    return httpx.get(url + path, headers={k.replace("_", "-"): v for k, v in headers.items()})


def test_only_the_apps_own_pages_and_names_are_answered(server):
    port = server.rstrip("/").rpartition(":")[2]
    assert _get(server).status_code == 200
    assert _get(server, host=f"localhost:{port}", origin=f"http://localhost:{port}").status_code == 200
    for refused in (
        {"host": f"rebound.example:{port}"},
        {"host": f"rebound.example:{port}", "origin": f"http://rebound.example:{port}"},
        {"host": "127.0.0.1:1"},
        {"origin": "http://elsewhere.example"},
        {"origin": "null"},
        {"origin": f"https://127.0.0.1:{int(port) + 1}"},
        {"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors"},
    ):
        assert _get(server, "config", **refused).status_code == 403, refused
    assert _get(server, sec_fetch_site="cross-site", sec_fetch_mode="navigate").status_code == 200
    assert _get(server).headers["x-frame-options"] == "SAMEORIGIN"


def test_the_link_makes_an_owner_and_leaves_the_address(server):
    entered = _get(server, f"?tab=runs&key={OWNER.key}")
    assert (entered.status_code, entered.headers["location"]) == (303, "/?tab=runs")
    cookie = entered.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "set-cookie" not in _get(server, "?key=guessed").headers
    asked = SimpleNamespace(headers={"cookie": f"a=b; {OWNER.cookie}={OWNER.key}"})
    assert OWNER.opened_by(asked)
    assert not OWNER.opened_by(SimpleNamespace(headers={"cookie": f"{OWNER.cookie}=guessed"}))
    assert not Door().opened_by(SimpleNamespace(headers={"cookie": f"{Door().cookie}="}))


def test_without_the_link_nothing_is_read_by_path(server, paired_runs):
    config = _get(server, "config").json()
    add = next(d["id"] for d in config["dependencies"] if d["api_name"] == "add_given")
    body = {"data": [str(paired_runs), []], "fn_index": add, "session_hash": "stranger"}
    answer = httpx.post(server + "gradio_api/run/predict", json=body, timeout=60)
    assert "printed" in answer.text, answer.text
    client = Client(server, verbose=False)
    texts = set()
    for name in ("/etc", "/no/such/folder", "somebody/private"):
        with pytest.raises(AppError) as told:
            client.predict(prompt="1+1=", model=name, api_name="/trace")
        texts.add(str(told.value))
    for path in ("/etc/passwd", "/no/such/file", str(paired_runs / "erpo" / "run.json")):
        texts.add(_get(server, f"gradio_api/file={path}").text)
    assert len(texts) == 2, texts


def test_wrong_requests_are_told_to_their_sender_and_leave_no_traceback(server, capfd, caplog):
    client = Client(server, verbose=False)
    good = client.predict(prompt="3+4=", max_new_tokens=3, api_name="/trace")
    for call in (
        {"prompt": "1", "max_new_tokens": "abc"},
        {"prompt": "1", "temperature": None},
        {"prompt": "1", "seed": 1e308},
        {"prompt": ["1"]},
        {"prompt": "1", "model": {"a": 1}},
        {"prompt": "9" * 10**6},
    ):
        with pytest.raises(AppError):
            client.predict(**call, api_name="/trace")
    with pytest.raises(AppError, match="token_id"):
        client.predict(trace=good, index=0, token_id=2**70, api_name="/fork")
    odd = good | {"generation": {"temperature": "hot", "max_new_tokens": "many"}}
    with pytest.raises(AppError):
        client.predict(trace=odd, index=0, token_id=5, api_name="/fork")
    for body in (
        b'{"data":["1+1=","builtin:tiny-reasoner","",NaN]}',
        b'{"data":["\\ud800"]}',
        b'{"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"data":[],"fn_index":100000,"session_hash":"x"}',
    ):
        sent = httpx.post(
            server + "gradio_api/run/trace", content=body, headers={"content-type": "application/json"}
        )
        assert sent.status_code in (400, 422, 500)
        assert "Internal" not in sent.text
    for path in ("queue/data?session_hash=zz", "call/trace/zzz", "call/v2/trace/zzz"):
        with suppress(httpx.RemoteProtocolError):  # the answer had begun, and has no end
            _get(server, "gradio_api/" + path)
    assert "Traceback" not in "".join(capfd.readouterr()) + caplog.text


def test_no_page_is_kept_for_whoever_asks_for_a_link_to_it(server):
    sent = httpx.get(server + "gradio_api/deep_link?session_hash=zz")
    assert (sent.status_code, sent.text) == (403, "This app makes no deep links.\n")


def test_a_bodys_nesting_is_that_of_its_brackets_outside_of_strings():
    assert body_problem(b'{"a":"' + b"[{" * 500 + b'\\"[[["}') is None
    assert "levels" in str(body_problem(b"[" * 65 + b"]" * 65))
    assert "not JSON" in str(body_problem(b"9" * 5000))


# -- in public ------------------------------------------------------------------------------------------


def test_in_public_lists_are_closed_and_paths_stay_out(paired_runs):
    from erpo_hub.ui import build_demo

    demo = build_demo(runs=[paired_runs], limits=Limits())
    names = [getattr(f.fn, "__name__", "") for f in demo.fns.values()]
    assert not {"add_given", "score_file"} & set(names)
    free = [b for b in demo.blocks.values() if getattr(b, "allow_custom_value", False)]
    assert not free
    assert str(paired_runs) not in json.dumps(demo.config, default=str)


def test_a_body_is_smaller_where_others_send_them_too(engine):
    """64 MiB, as at home, would be 24 times in the line for the models."""
    demo = build_demo(engines={"m": engine}, limits=Limits(models=()))
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, **launch_kwargs(limits=Limits(models=())))
    try:
        for size, status in ((PUBLIC_BODY, 422), (PUBLIC_BODY + 1, 413)):
            sent = httpx.post(url + "gradio_api/queue/join", content=b" " * size, timeout=60)
            assert sent.status_code == status
    finally:
        demo.close()


def test_many_uploads_stay_under_the_budget(engine):
    limits = Limits(models=(), budget=Budget(memory=1 << 30, disk=70 << 20))  # 64 MiB of it for what comes
    demo = build_demo(engines={"m": engine}, limits=limits)
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, **launch_kwargs(limits=limits))
    try:
        for number in range(12):
            sent = httpx.post(
                url + "gradio_api/upload", files={"files": (f"{number}.json", os.urandom(1 << 20))}
            )
            assert sent.status_code == 200
        (path,) = sent.json()
        assert Path(path).is_file()
        assert sum(p.stat().st_size for p in folder().rglob("*") if p.is_file()) <= 7 << 20
    finally:
        demo.close()


def test_the_oldest_file_and_the_oldest_session_go_first():
    budget = Budget(memory=3_000_000, disk=300)
    paths = []
    for number in range(4):
        paths.append(fresh_file(f"{number}", budget))
        paths[-1].write_bytes(b"x" * 100)
        os.utime(paths[-1], (number, number))
    make_room(budget)
    assert [p.is_file() for p in paths] == [False, True, True, True]
    trace = long_trace(2000)
    holder = SimpleNamespace(lock=Lock(), session_data=OrderedDict(), time_last_used={})
    memory = SessionMemory(budget)
    for name in "abcde":
        holder.session_data[name] = SimpleNamespace(config_values={}, state_data={1: trace})
        memory.keep(holder, name)
    assert "".join(holder.session_data) == "de"


# -- cards and records ----------------------------------------------------------------------------------


@pytest.fixture
def hostile_run(tmp_path, paired_runs):
    run = tmp_path / "strange"
    shutil.copytree(paired_runs / "erpo", run)
    figures = run / "bundle" / "figures"
    figures.mkdir(exist_ok=True)
    (figures / "a.png").write_bytes(PNG)
    (tmp_path / "secret.png").write_bytes(PNG)
    (figures / "b.png").symlink_to(tmp_path / "secret.png")
    (run / "bundle" / "README.md").write_text(HOSTILE_CARD)
    return run


def test_a_strangers_card_does_nothing(browser, hostile_run):
    demo = build_demo(runs=[hostile_run], door=OWNER)
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, **launch_kwargs(OWNER))
    try:
        with watched(browser, url) as page:  # no request leaves the machine, no script runs
            page.get_by_role("tab", name="Card").click()
            card = page.locator("#card-preview")
            card.get_by_role("heading", name="A card").wait_for()
            for active in (
                "form",
                "input",
                "style",
                "script",
                "[style*=fixed]",
                "[onerror]",
                "[onmouseover]",
            ):
                assert card.locator(f".prose {active}").count() == 0, active
            assert [i.get_attribute("alt") for i in card.locator("img").all()] == ["in"]
            links = {a.text_content(): a.get_attribute("href") for a in card.locator("a").all()}
            assert {t: h for t, h in links.items() if h} == {"site": "https://elsewhere.example/"}
            assert card.get_by_text("covers all").count() == 1
            page.get_by_role("tab", name="Runs").click()  # nothing covers the tabs
    finally:
        demo.close()


def test_the_folds_of_a_card_fold_and_nothing_else_of_html_does(tmp_path):
    fold = (
        "<details>\n<summary>All arguments</summary>\n\n*x*\n\n</details>\n<!-- erpo-hub:end settings -->\n"
    )
    assert "<details>\n<summary>All arguments</summary><p><em>x</em></p>" in card_html(fold, tmp_path)
    for hostile in (
        "<details open>",
        "<details>\n<summary><u>x</u></summary>",
        "<summary onclick=x>y</summary>",
    ):
        shown = card_html(hostile, tmp_path)
        assert "<summary" not in shown
        assert "<details" not in shown


def test_a_long_card_and_a_deep_one_are_cheap(tmp_path):
    for text in ("[" * 100_000, "> " * 50_000, "*a _" * 50_000, "x" * 10**6):
        assert len(card_html(text, tmp_path)) < 3 * 10**6


def test_an_odd_run_is_left_out_in_one_line(tmp_path, paired_runs, caplog):
    shutil.copytree(paired_runs / "grpo", tmp_path / "grpo")
    for number, text in enumerate(
        ("[]", '{"algorithm": 3}', "[" * 10**5, '{"algorithm":"erpo","dataset":[]}')
    ):
        (tmp_path / f"odd{number}").mkdir()
        (tmp_path / f"odd{number}" / "run.json").write_text(text)
    with caplog.at_level(logging.WARNING):
        assert list(open_library([tmp_path], Limits()).runs) == ["grpo"]
    lines = [r.getMessage() for r in caplog.records if "left out" in r.getMessage()]
    assert len(lines) == 4
    assert all("\n" not in line for line in lines)
    with pytest.raises(UserError):
        open_library([tmp_path / "nothing"], Limits())
