"""The endpoints for programs, the limits, and thirty users at once. No browser."""

from __future__ import annotations

import gc
import json
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from erpo_hub.errors import UserError
from erpo_hub.traces.trace import Trace
from erpo_hub.ui.library.library import Limits, open_library
from erpo_hub.ui.models.pool import Engines
from erpo_hub.ui.models.streaming import StopSignals, stream_messages

from .conftest import traces


@pytest.fixture(scope="module")
def client(server):
    return Client(server, verbose=False)


def test_trace_score_and_fork_go_round(client):
    found = Trace.from_dict(client.predict(prompt="3+4=", gold="7", seed=3, api_name="/trace"))
    assert found.correct is not None
    assert found.model == "builtin:tiny-reasoner"
    scored = Trace.from_dict(client.predict(prompt="3+4=", completion="7", api_name="/score"))
    assert scored.completion == "7"
    other = scored.topk_ids[0][1]
    branch = Trace.from_dict(
        client.predict(trace=scored.to_dict(), index=0, token_id=other, api_name="/fork")
    )
    assert branch.tokens[0] == other


def test_compare_says_where_two_models_part(client):
    pair = client.predict(
        prompt="7-2*3+4=", model_a="grpo", model_b="erpo", seed=1, max_new_tokens=20, api_name="/compare"
    )
    assert pair["first_difference"] is None  # the same weights
    assert Trace.from_dict(pair["a"]).pieces == Trace.from_dict(pair["b"]).pieces


def test_endpoints_are_typed_and_described_and_no_other_is_public(client):
    api = client.view_api(return_format="dict", print_info=False)
    assert set(api["named_endpoints"]) == {"/trace", "/score", "/fork", "/compare"}
    parameters = api["named_endpoints"]["/trace"]["parameters"]
    assert [p["parameter_name"] for p in parameters][:2] == ["prompt", "model"]
    assert all(p["python_type"]["type"] in ("str", "float", "int") for p in parameters)


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ({"prompt": "  ", "api_name": "/trace"}, "empty"),
        ({"prompt": "9" * 20_001, "api_name": "/trace"}, "20,001"),
        ({"trace": {"schema_version": 1}, "index": 0, "token_id": 1, "api_name": "/fork"}, "missing"),
        ({"trace": traces()[0].to_dict(), "index": 0, "token_id": 1, "api_name": "/fork"}, "vocabulary"),
        ({"prompt": "1", "model": "breaking", "api_name": "/trace"}, None),
    ],
)
def test_wrong_calls_are_answered_in_one_line(client, call, reason):
    if reason is None:
        assert client.predict(**call)["model"]  # `breaking` breaks only in the stream
        return
    with pytest.raises(AppError, match=reason):
        client.predict(**call)


def test_thirty_users_get_their_own_tokens_and_memory_comes_back(server, engine):
    alone = {seed: engine.trace("7-2*3+4=", seed=seed, temperature=1.0).tokens for seed in range(30)}
    clients = [Client(server, verbose=False) for _ in range(30)]
    process = psutil.Process()

    def user(seed: int) -> list[int]:
        answer = clients[seed].predict(prompt="7-2*3+4=", seed=seed, temperature=1.0, api_name="/trace")
        return answer["tokens"]

    def everyone() -> list[list[int]]:
        with ThreadPoolExecutor(30) as pool:
            return list(pool.map(user, range(30)))

    assert everyone() == [alone[seed] for seed in range(30)]  # and warms up every allocator
    gc.collect()
    before = process.memory_info().rss
    assert everyone() == [alone[seed] for seed in range(30)]
    for client in clients:
        client.close()
    gc.collect()
    assert process.memory_info().rss < 1.1 * before


def test_a_full_queue_says_so(engine):
    from erpo_hub.ui import build_demo, launch_kwargs

    from .fakes import SlowEngine

    class Slow(SlowEngine):
        def trace(self, prompt, **options):
            time.sleep(1.0)
            return self._engine.trace(prompt, **options)

    demo = build_demo(engines={"slow": Slow(engine)}, limits=Limits(queue=2))
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, **launch_kwargs())
    try:
        client = Client(url, verbose=False)
        jobs = [client.submit(prompt="1+1=", model="slow", api_name="/trace") for _ in range(8)]
        outcomes = [type(job.exception(timeout=60)).__name__ for job in jobs]
        refused = [str(job.exception()) for job in jobs if job.exception()]
        assert "NoneType" in outcomes
        assert refused
        assert all("full" in text.lower() for text in refused), refused
    finally:
        demo.close()


# -- without a server -------------------------------------------------------------------------------------


def test_on_a_space_only_listed_models_may_be_used():
    limits = Limits.from_environment({"SPACE_ID": "me/space", "ERPO_MODELS": "me/erpo, me/grpo"})
    assert limits.models == ("me/erpo", "me/grpo")
    assert limits.max_new_tokens == 512
    library = open_library([], limits)
    assert list(library.models) == ["me/erpo", "me/grpo", "builtin:tiny-reasoner"]
    with pytest.raises(UserError, match="not among the models"):
        Engines(library).get("somebody/else")
    with pytest.raises(UserError, match="not among the models"):
        Engines(open_library([], Limits.from_environment({"SPACE_ID": "x"}))).get("/etc/passwd")
    assert Limits.from_environment({}).models is None


def test_limits_bound_what_is_asked_and_refuse_nonsense():
    limits = Limits(max_new_tokens=100, prompt_characters=10)
    assert limits.tokens(1e9) == 100
    assert limits.tokens(-3) == 1
    with pytest.raises(UserError, match="11 characters"):
        limits.check_prompt("x" * 11)
    with pytest.raises(UserError, match="ERPO_MAX_QUEUE"):
        Limits.from_environment({"ERPO_MAX_QUEUE": "many"})


def test_paths_are_sorted_into_what_they_hold(tmp_path, paired_runs):
    traces()[0].to_json(tmp_path / "one.json")
    Trace.to_parquet(traces()[:2], tmp_path / "two.parquet")
    library = open_library([paired_runs, tmp_path, "some/model"], Limits())
    assert list(library.runs) == ["erpo", "grpo"]
    assert library.pair() == ("grpo", "erpo")
    assert len(library.traces) == 3
    assert {"erpo", "grpo", "some/model", "builtin:tiny-reasoner"} <= set(library.models)
    for wrong in (tmp_path / "nothing", "no-such-thing", tmp_path / "one.txt"):
        (tmp_path / "one.txt").write_text("?")
        with pytest.raises(UserError):
            open_library([wrong], Limits())


def test_a_stream_costs_what_it_holds_and_any_one_message_may_be_lost(engine):
    deltas = list(engine.stream("7-2*3+4=", seed=4, max_new_tokens=40, temperature=1.5))
    messages = [json.loads(m) for m, trace in stream_messages(iter(deltas), "r", every=0) if m]
    whole = deltas[-1].trace
    for lost in range(len(messages)):
        have: list[int] = []
        for n, m in enumerate(messages):
            if n == lost:
                continue
            assert m["start"] <= len(have) or n == len(messages) - 1
            have += m["tokens"][len(have) - m["start"] :]
        assert have == whole.tokens[: len(have)]
    assert sum(len(m["tokens"]) for m in messages) <= 3 * len(whole)


def test_a_switch_stops_only_its_own_session():
    switches = StopSignals()
    a, b = switches.start("a"), switches.start("b")
    switches.stop("a")
    assert a.is_set()
    assert not b.is_set()
    again = switches.start("b")
    assert b.is_set()
    assert not again.is_set()
    switches.forget("b")
    assert again.is_set()
    switches.stop(None)
