"""Grading: what counts as the answer, what counts as equal, and that nothing hostile stops a run."""

import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erpo_hub.errors import UserError
from erpo_hub.tasks import grading, processes
from erpo_hub.tasks import gym as scoring
from erpo_hub.tasks.answers import extract_answer
from erpo_hub.tasks.golds import gradable
from erpo_hub.tasks.grading import Grader, correctness_reward, format_reward, gym_answer, read_answer
from erpo_hub.tasks.notation import numeral, tidy
from erpo_hub.tasks.sets import as_set
from erpo_hub.tasks.verdict import quick_verdict


@pytest.fixture(scope="module")
def grader():
    with Grader(timeout=5.0) as grader:
        yield grader


def boxed(answer):
    return rf"so it is \boxed{{{answer}}}."


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"first \boxed{1}, then \boxed{\frac{1}{2}}. 7 left", r"\frac{1}{2}"),
        (r"#### 5, no: \boxed{6}", "6"),  # a box wins over ####
        (r"\boxed{\text{a \} b}}", r"\text{a \} b}"),
        (r"\boxed{3} and then \boxed{4", "3"),  # cut off by the token limit
        (r"\boxed 7.", "7"),
        ("72 - 2 = 70\n#### 70\n", "70"),
        ("The answer is 72. It took 3 steps.", "72"),
        ("If the answer is 5 then the answer is **1,234**.", "1,234"),
        (r"The answer is $\frac12$, not 3.", r"\frac12"),
        ("Answer: Tuesday", "Tuesday"),
        ("3+4=7", "7"),
        ("costs $5.50.", "5.50"),
        ("a = -3", "-3"),
        ("it is 1/2", "1/2"),
        ("1,234,567", "1,234,567"),
        ("3+8-1\n11-1\n10", "10"),
        ("3+8-1\n11-1", None),  # an unfinished sum states no answer
        ("3+8-1\n11-", None),
        ("2*-3", None),
        ("no number", None),
        ("", None),
    ],
)
def test_extract_answer(text, answer):
    assert extract_answer(text) == answer


@pytest.mark.parametrize(
    ("completion", "gold", "score"),
    [
        (boxed(r"\frac12"), r"\frac{1}{2}", 1),
        (boxed("0.5"), r"$\frac{1}{2}$", 1),
        (boxed(r"\frac{1}{3}"), r"\frac{1}{2}", 0),
        ("x\n#### 72", "#### 72", 1),
        ("72.0", "72", 1),
        ("71", "72", 0),
        ("1,234", "1234", 1),
        ("it costs $3.5", "3.50", 1),
        (boxed("(1,2]"), "(1, 2]", 1),
        (boxed("[1,2]"), "(1,2)", 0),
        (boxed(r"\{2,1\}"), r"\{1,2\}", 1),
        (boxed("2x+1"), "1+2x", 1),
        (boxed("x=5"), "5", 1),
        (boxed(r"72 \text{ apples}"), "72", 1),
        (boxed("tuesday"), "Tuesday", 1),
        ("I think\nTuesday", "tuesday", 1),
        (boxed("(B)"), "B", 1),
        (boxed(r"2\sqrt2"), r"\sqrt{8}", 1),
        (boxed("7"), r"we find $x=3$, so \boxed{7}", 1),
        ("", "3", 0),
        ("   \n", "3", 0),
        # the question copied, or left half done: what a policy finds where only the value counts
        ("3+4*2-1", "10", 0),
        ("3+4*2-1\n", "10", 0),
        ("3+8-1\n11-1", "10", 0),
        ("3+4*2-1=", "10", 0),
        (boxed("3+4*2-1"), "10", 0),
        (boxed(r"3 + 4 \times 2 - 1"), "10", 0),
        (boxed(r"\left(3+4\right)"), "7", 0),
        (boxed("(3)(4)"), "12", 0),
        (boxed("x = 11 - 1"), "10", 0),
        (boxed(r"\frac{20}{4}"), "5", 0),
        ("#### 20/4", "5", 0),
        # ways to write a number
        (boxed("11 - 1 = 10"), "10", 1),
        (boxed("7/2"), "3.5", 1),
        (boxed(r"-\frac{7}{2}"), "-3.5", 1),
        (boxed("2^5"), "32", 1),
        (boxed(r"1.2\times 10^{3}"), "1200", 1),
        (boxed("-3"), "-3", 1),
    ],
)
def test_grade(grader, completion, gold, score):
    assert grader.grade([completion], [gold]) == [score]


def test_what_is_graded_right_has_an_answer_that_was_read(grader):
    for text, gold in (
        ("I have 3 cats.\nyes", "yes"),
        ("The capital is Paris.", "Paris"),
        ("x+y", "x+y"),
        ("so 7", "7"),
    ):
        assert grader.grade([text], [gold]) == [1.0]
        assert read_answer(text, gold), text
    assert read_answer("so 7", None) == "7"
    assert read_answer("", "7") is None


@given(st.integers(-(10**12), 10**12), st.integers(-50, 50))
def test_whole_numbers_need_no_process(value, other):
    grader = Grader()
    texts = [f"so\n{value}", f"it is {value:,}", boxed(value), f"{value}.00"]
    assert grader.grade(texts, [str(value)] * 4) == [1.0] * 4
    assert grader.grade([f"= {value + other}"], [str(value)]) == [float(other == 0)]
    assert grader._processes.pool is None


@given(st.text(max_size=200), st.text(min_size=1, max_size=20))
def test_any_text_is_taken_apart_without_an_error(text, gold):
    assert extract_answer(text) is None or extract_answer(text).strip()
    assert quick_verdict(text, gold) in (True, False, None)
    assert gradable(gold) is None or "\n" not in gradable(gold)
    numeral(tidy(text))


@given(st.text(alphabet="abc12{}\\ ", max_size=60).filter(lambda s: s.count("{") == s.count("}") == 0))
def test_a_box_gives_back_its_content(content):
    if "\\" not in content and content.strip():
        assert extract_answer(f"7 \\boxed{{{{{content}}}}} 8") == f"{{{content}}}"


def test_equal_work_is_done_once_and_order_is_kept(grader):
    texts = [boxed(r"\frac12"), boxed("3"), boxed(r"\frac12"), boxed(r"\frac13")]
    assert grader.grade(texts, ["1/2", "3", "1/2", "1/2"]) == [1.0, 1.0, 1.0, 0.0]


def test_hostile_answers_time_out_or_are_cut_and_work_goes_on(caplog):
    hostile = [
        boxed("9^{9^{9^{9}}}"),
        boxed("(" * 3000 + "1" + ")" * 3000),
        boxed("x" * 1_000_000),
        "1" * 1_000_000,
        "\\boxed{" * 100_000,
        boxed("9**9**9**9"),
        boxed(r"\sqrt{" * 300 + "2" + "}" * 300),
        "<answer>" * 100_000,
    ]
    with Grader(timeout=1.0) as grader, caplog.at_level(logging.WARNING):
        for gold in ("3", r"\sqrt{3}"):
            assert grader.grade(hostile, [gold] * len(hostile)) == [0.0] * len(hostile)
        assert grader.timeouts >= 1  # for the number 3 a tower of powers needs no process
        assert "took more than 1 s" in caplog.text
        assert grader.grade([boxed(r"2\sqrt2")], [r"\sqrt8"]) == [1.0]  # a new process took over


def test_after_five_hanging_answers_of_a_batch_the_limit_is_shorter(monkeypatch):
    limits = []
    schedule = processes.Processes._schedule

    def watched(self, job, limit):
        limits.append(limit)
        return schedule(self, job, limit)

    monkeypatch.setattr(processes.Processes, "_schedule", watched)
    with Grader(timeout=0.4, workers=1) as grader:
        texts = [boxed(f"9^{{9^{{9^{{{i}}}}}}}") for i in range(9, 29)]
        assert grader.grade(texts, [r"\sqrt{3}"] * 20) == [0.0] * 20
        assert grader.timeouts == 20
    assert limits == [0.4] * 6 + [0.1] * 14  # few calls were under way when the fifth hung


def test_a_timeout_counts_every_completion_that_hit_it():
    with Grader(timeout=0.5) as grader:
        assert grader.grade([boxed("9^{9^{9^{9}}}")] * 3, [r"\sqrt{3}"] * 3) == [0.0] * 3
        assert grader.timeouts == 3


def hoard(*_):
    return float(len(bytearray(scoring.MEMORY_LIMIT)) > 0)


def test_a_grading_process_gets_no_more_memory_than_its_limit():
    with Grader(workers=1) as grader:
        assert grader._run([(hoard, "a")]) == [0.0]
        assert grader.failures() == {"timeouts": 0, "errors": 1, "crashes": 0}
        assert grader._run([(scoring.score_math, "1/2", ("0.5",))]) == [1.0]


def die(*_):
    os._exit(3)


def die_once(marker):
    if not os.path.exists(marker):
        os.mkdir(marker)  # a grading process may write no file, and end no other
        signal.raise_signal(signal.SIGTERM)
    return 1.0


def test_an_answer_whose_process_was_ended_from_outside_is_graded_again(tmp_path):
    """A cluster's SIGTERM goes to every process; a right answer must not be recorded as a wrong one."""
    with Grader(workers=1) as grader:
        assert grader._run([(die_once, str(tmp_path / "died"))]) == [1.0]
        assert grader.crashes == 0


def fail(*_):
    raise ZeroDivisionError("scorer")


def test_a_dying_process_and_a_raising_scorer_are_counted_apart(monkeypatch, caplog):
    with Grader() as grader, caplog.at_level(logging.WARNING):
        assert grader._run([(die, "a"), 1.0, (fail, "b")]) == [0.0, 1.0, 0.0]
        assert (grader.timeouts, grader.errors, grader.crashes) == (0, 1, 1)
        assert "ZeroDivisionError: scorer" in caplog.text
        assert "ended its process" in caplog.text
        assert grader._run([(scoring.score_math, "1/2", ("0.5",))]) == [1.0]


def test_a_pool_that_cannot_start_says_so(monkeypatch):
    monkeypatch.setattr(scoring, "prepare", fail)
    monkeypatch.setattr(processes, "START_LIMIT", 3.0)
    with Grader() as grader, pytest.raises(RuntimeError, match="no grading process could start"):
        grader.grade([boxed(r"\sqrt{8}")], [r"2\sqrt{2}"])
    assert grader._processes.pool is None


def test_a_script_without_a_main_guard_is_not_run_again(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(
        textwrap.dedent("""
        import threading
        from erpo_hub.tasks.grading import Grader
        print("script runs")
        grader = Grader()
        print(grader.grade([r"\\boxed{2\\sqrt2}"], [r"\\sqrt8"]))
        """)
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "script runs\n[1.0]\n"


def test_no_module_of_the_working_folder_is_imported(tmp_path):
    """Python looks there first for what it runs with -c, as multiprocessing starts its helpers."""
    (tmp_path / "stranger").mkdir()
    (tmp_path / "stranger" / "multiprocessing.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    (tmp_path / "grade.py").write_text(
        textwrap.dedent("""
        from erpo_hub.tasks.grading import Grader
        from erpo_hub.tasks.processes import confined
        if __name__ == "__main__":
            with Grader() as grader:
                print(grader.grade([r"\\boxed{2\\sqrt2}"], [r"\\sqrt8"]), confined(len, "abc", seconds=30))
        """)
    )
    done = subprocess.run(
        [sys.executable, tmp_path / "grade.py"], cwd=tmp_path / "stranger", capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert (done.stdout, (tmp_path / "ran").exists()) == ("[1.0] 3\n", False), done.stderr[-500:]
    assert "PYTHONSAFEPATH" not in os.environ


def torch_in_worker(*_):
    return float("torch" in sys.modules)


def test_workers_do_not_load_torch(grader):
    import torch  # noqa: F401 - the parent has it

    assert grader._run([(torch_in_worker, "")]) == [0.0]


def test_reward_function_takes_plain_and_chat_completions():
    logged, extra = {}, {}
    with Grader() as grader:
        reward = correctness_reward(grader)
        assert reward.__name__ == "correctness"
        chat = [[{"role": "assistant", "content": "it is 7"}], [{"role": "assistant", "content": None}], []]
        assert reward(completions=chat, answer=["7", "7", "7"], prompts=[""] * 3) == [1.0, 0.0, 0.0]
        parts = [[{"role": "assistant", "content": [{"type": "text", "text": "7"}]}]]
        assert reward(completions=parts, answer=["7"]) == [1.0]
        plain = reward(
            completions=["7", "8", "7", "7"],
            answer=["7", "7", None, " "],
            log_extra=extra.__setitem__,
            log_metric=logged.__setitem__,
        )
    assert plain == [1.0, 0.0, None, None]
    assert logged == {"grader/timeouts": 0.0, "grader/errors": 0.0, "grader/crashes": 0.0}
    assert extra["extracted"] == ["7", "8", "7", "7"]


def test_reward_function_logs_timeouts():
    logged = {}
    with Grader(timeout=0.5) as grader:
        reward = correctness_reward(grader)
        assert reward(
            completions=[boxed("9^{9^{9^{9}}}")], answer=[r"\sqrt{3}"], log_metric=logged.__setitem__
        ) == [0.0]
    assert logged["grader/timeouts"] == 1.0


def test_format_reward():
    reward = format_reward()
    assert reward.__name__ == "format"
    assert reward(completions=[boxed(1), "1", [{"role": "assistant", "content": boxed(1)}]]) == [1, 0, 1]


@pytest.mark.parametrize(
    ("completion", "gold", "seen"),
    [
        ("<think>5</think><answer> 6 </answer>", "6", "6"),
        (r"\boxed{6}", "6", "6"),
        ("3 + 4 = 7", "7", "7"),
        ("1 2\n3 4", "1 2\n3 4", "1 2\n3 4"),
        ("3*4+5", "3*4+5", "3*4+5"),
        ("it is a grid", "1 2\n3 4", "it is a grid"),
    ],
)
def test_what_a_reasoning_gym_scorer_sees(completion, gold, seen):
    assert gym_answer(completion, gold) == seen


def test_a_gold_answer_is_right_whatever_the_scorer_says():
    """gsm_symbolic looks for a number behind a word boundary, and so never sees a minus sign."""
    entry = scoring.dump_entry({"question": "", "answer": "-1", "metadata": {}})
    with Grader("reasoning-gym:gsm_symbolic") as grader:
        texts = ["it is -1", r"\boxed{-1}", "it is 1"]
        assert grader.grade(texts, ["-1"] * 3, entry=[entry] * 3) == [1.0, 1.0, 0.01]


def test_entries_survive_json():
    from fractions import Fraction

    entry = {"grid": ((1, 2), [3]), "by": {1: {"a"}, (2, 3): None}, "half": Fraction(1, 2), "text": "é"}
    assert scoring.load_entry(scoring.dump_entry(entry)) == entry
    with pytest.raises(TypeError):
        scoring.dump_entry({"thing": object()})


def test_wrong_calls():
    with pytest.raises(ValueError, match="kind='maths'"):
        Grader("maths")
    with pytest.raises(ValueError, match="positive"):
        Grader(timeout=0)
    with pytest.raises(ValueError, match="2 completions but 1 answers"):
        Grader().grade(["1", "2"], ["1"])
    with pytest.raises(UserError, match="did you mean chain_sum"):
        Grader("reasoning-gym:chain_sums")
    with pytest.raises(ValueError, match="entry"):
        Grader("reasoning-gym:chain_sum").grade(["1"], ["1"])


def test_grading_imports_no_torch():
    code = "import sys, erpo_hub.tasks.grading, erpo_hub.tasks.tasks; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_closing_ends_the_processes(grader):
    import psutil

    own = Grader()
    own.grade([boxed(r"\sqrt{8}")], [r"2\sqrt{2}"])
    workers = list(own._processes.pool._pool_manager.worker_manager.workers)
    own.close()
    psutil.wait_procs([psutil.Process(pid) for pid in workers if psutil.pid_exists(pid)], timeout=5)
    assert not any(psutil.pid_exists(pid) for pid in workers)
    assert grading.Grader.__doc__


CASES = [
    json.loads(line) for line in Path(__file__).with_name("grading_cases.jsonl").read_text().splitlines()
]


def test_the_case_file_is_graded_as_it_says(grader):
    scores = grader.grade([case["completion"] for case in CASES], [case["gold"] for case in CASES])
    wrong = [case for case, score in zip(CASES, scores) if score != case["expected"]]
    assert not wrong
    assert grader.failures() == {"timeouts": 0, "errors": 0, "crashes": 0}


@pytest.mark.parametrize(
    "gold",
    [None, "", float("nan"), "nan", "None", "proof", {"a": {"b": 1}}, {"ground_truth": {"x": 1}}, [], [["1"]],
     "We see that the function grows. Thus the statement is proved.",
     "First add the two numbers that were given, then take half of it and compare with the table, as above."],
)  # fmt: skip
def test_a_gold_answer_that_cannot_be_graded_has_a_reason_and_no_score(gold):
    reason = gradable(gold)
    assert reason
    assert "\n" not in reason
    assert Grader().grade([boxed("1"), "nan", "proof"], [gold] * 3) == [None] * 3


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [(["7", "seven"], "seven", "8"), ('["7"]', "7", "8"),
     ({"ground_truth": "7", "style": "rule"}, "7", "rule"),
     (7.0, "7", "70"), (1e-7, "0.0000001", "0.0000002"), (True, "True", "False"), ("18\\$", "18", "19")],
)  # fmt: skip
def test_gold_answers_of_many_shapes(grader, gold, right, wrong):
    assert grader.grade([boxed(right), boxed(wrong)], [gold] * 2) == [1.0, 0.0]


@given(
    st.lists(
        st.sampled_from(list(r"$1a() {}=,.-\\") + [" or ", "answer is ", "\\boxed{", "<answer>", "#### "])
    ).map("".join)
)
def test_a_gold_answer_is_its_own_answer(gold):
    if gradable(gold) is None:
        assert quick_verdict(gold, gold) is True


def test_inequalities_become_sets():
    assert as_set("0<x\\le 5") == "(0,5]"
    assert as_set("5>=x>0") == "(0,5]"
    assert as_set("x<0 or x>5") == "(-\\infty,0)\\cup(5,\\infty)"
    assert as_set("x+1") == "x+1"


def test_no_process_outlives_an_owner_that_was_killed():
    """A hanging answer with no limit to speak of; the owner is killed by a signal it cannot catch."""
    import psutil

    code = """
import threading
from erpo_hub.tasks.grading import Grader
grader = Grader(timeout=600)
print(grader.grade([r"\\boxed{\\sqrt8}"], [r"2\\sqrt2"]), flush=True)
grader.grade([r"\\boxed{7^{7^{7^{9}}}}"], [r"\\sqrt2"])
"""
    owner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert owner.stdout.readline() == "[1.0]\n"
    children = psutil.Process(owner.pid).children(recursive=True)
    assert len(children) >= 2
    owner.kill()
    owner.communicate()
    deadline = time.monotonic() + 60
    while (
        alive := [c for c in children if c.is_running() and c.status() != "zombie"]
    ) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not alive


@pytest.mark.parametrize(
    "unit",
    ["<answer>", "\\boxed{", "\\[", "\\(", "$", "answer to ", "answer is ", "#### ", "1 or ", "((1"],
)
def test_reading_a_long_text_takes_work_in_proportion(unit):
    """Counted in calls of C functions: ten times the text, at most ten times the calls."""
    counts = []
    for size in (100_000, 1_000_000):
        calls = 0

        def count(frame, event, argument):
            nonlocal calls
            calls += event == "c_call"

        sys.setprofile(count)
        try:
            extract_answer(unit * (size // len(unit)))
        finally:
            sys.setprofile(None)
        counts.append(calls)
    assert counts[1] <= 10 * counts[0] + 100
