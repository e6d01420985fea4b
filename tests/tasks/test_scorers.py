"""An answer never runs: reasoning-gym's scorers, with what a model may write, in real grading processes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from erpo_hub.tasks.grading import Grader
from erpo_hub.tasks.scorers import checked_eval
from erpo_hub.tasks.tasks import load_task

# Those whose own scorers hand the answer to eval or to sympy's parser.
EVALUATING = (
    "binary_matrix", "countdown", "intermediate_integration", "n_queens", "number_sorting",
    "polynomial_multiplication", "puzzle24", "simple_integration", "spiral_matrix", "string_insertion",
)  # fmt: skip

# A class whose operator is `lambdify`, which prints a symbol's name into source code and runs that.
PRINTED = (
    "Function('f', (Function,), {{'__add__': lambdify}})(x)"
    " + Symbol('0)\\nimport ctypes; ctypes.CDLL(None).system(b\\'touch {}\\');(0')"
)


@pytest.mark.parametrize("name", EVALUATING)
def test_an_answer_that_is_a_program_does_not_run(name, tmp_path):
    task = load_task(f"reasoning-gym:{name}", test_size=2, train_size=2)
    rows, mark = list(task.test), tmp_path / "ran"
    hostile = [
        f"__import__('os').system('touch {mark}')",
        f"[__import__('os').system('touch {mark}')]",
        f"[open('{mark}', 'w')]",
        f"(lambda: open('{mark}', 'w'))()",
        f'x + sympify(\'__import__("os").system("touch {mark}")\')',
        f"''.__class__.__base__.__subclasses__()[0](open('{mark}', 'w'))",
        PRINTED.format(mark),
    ]
    golds, entries = [row["answer"] for row in rows], [row["entry"] for row in rows]
    with Grader(task.grader) as grader:
        right = grader.grade([f"<answer>{gold}</answer>" for gold in golds], golds, entry=entries)
        wrong = [
            grader.grade([f"<answer>{text}</answer>"], golds[:1], entry=entries[:1])[0] for text in hostile
        ]
    assert right == [1.0, 1.0]
    assert max(wrong) < 0.1
    assert not mark.exists()


@pytest.mark.parametrize(
    "name",
    ["polynomial_multiplication", "simple_integration", "intermediate_integration", "countdown", "puzzle24"],
)
def test_a_right_answer_in_other_words_is_worked_out(name):
    task = load_task(f"reasoning-gym:{name}", test_size=2, train_size=1)
    rows = list(task.test)
    golds, entries = [row["answer"] for row in rows], [row["entry"] for row in rows]
    with Grader(task.grader) as grader:
        scores = grader.grade([f"<answer>({gold})</answer>" for gold in golds], golds, entry=entries)
        wrong = grader.grade([f"<answer>({gold})*2</answer>" for gold in golds], golds, entry=entries)
    assert scores == [1.0, 1.0]
    assert max(wrong) < 0.1


def test_an_answer_that_would_have_to_be_run_is_wrong():
    task = load_task("reasoning-gym:string_insertion", test_size=1, train_size=1)
    row = task.test[0]
    written, run = (f"<answer>{text}</answer>" for text in (list(row["answer"]), f"list({row['answer']!r})"))
    with Grader(task.grader) as grader:
        scores = grader.grade([written, run], [row["answer"]] * 2, entry=[row["entry"]] * 2)
    assert scores[0] > scores[1]


@pytest.mark.parametrize(
    ("source", "value"),
    [("[[1, 0], [0, 1]]", [[1, 0], [0, 1]]), ("['A', 'B']", ["A", "B"]), ("-3*(4+5)/2", -13.5), ("6^3", 5)],
)
def test_values_and_arithmetic_are_worked_out(source, value):
    assert checked_eval(source) == value


@pytest.mark.parametrize(
    "source",
    ["().__class__", "[x for x in 'a']", "'a'[0]", "f'{1}'", "open('a')", "lambda: 1", "int(x=1)", b"1"],
)
def test_anything_else_is_refused(source):
    with pytest.raises(ValueError):
        checked_eval(source)


def test_an_integral_is_read_as_the_parser_writes_it():
    import sympy

    names = vars(sympy) | {"print": print}
    x = sympy.Symbol("x")
    assert checked_eval("3 *Integral (sin (Symbol ('x')),Symbol ('x'))", names) == 3 * sympy.Integral(
        sympy.sin(x), x
    )
    half = checked_eval("Rational (Integer (1 ),Integer (2 ))*Symbol ('x')", names)
    assert half == x / 2
    with pytest.raises(ValueError):
        checked_eval("sympify ('1')", names)


@pytest.mark.parametrize(
    "source",
    ["print", "lambdify", "[sin]", "sin + 1", "Symbol", "Symbol('x y')", "Symbol('x', 'y')", "Function('f')",
     "Function('f', (Function,), {})(Symbol('x'))", "Function('0)')(1)", "Integer(Symbol('x'))", "sin('x')",
     "{1: 2}", "preview(1)", "lambdify(Symbol('x'), 1)", "sin(*[1])", "Rational(p=1)"],
)  # fmt: skip
def test_functions_are_called_and_names_are_names(source):
    import sympy

    with pytest.raises(ValueError):
        checked_eval(source, vars(sympy) | {"print": print})


@pytest.mark.parametrize(
    "way",
    ["os.system('touch {0}')", "__import__('ctypes').CDLL(None).system(b'touch {0}')",
     "subprocess.run(['touch', '{0}'])", "open('{0}', 'w')", "os.fork()",
     "os.open('{0}', os.O_CREAT)", "socket.create_connection(('127.0.0.1', 9))"],
)  # fmt: skip
def test_a_grading_process_has_no_way_out(way, tmp_path):
    mark = tmp_path / "ran"
    script = (
        "import os, socket, subprocess\nfrom erpo_hub.tasks.scorers import no_way_out\nno_way_out()\n"
        f"open(os.__file__).read()\ntry:\n    {way.format(mark)}\n"
        "except PermissionError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "a grading process may not" in done.stdout, done.stderr
    assert not mark.exists()
