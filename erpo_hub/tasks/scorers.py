"""reasoning-gym's scorers without what makes an answer run as a program.

Several of them hand the answer to `eval`, by themselves or through sympy's `parse_expr`:
`__import__('os').system(...)` ran. In a grading process they get `checked_eval` in its place, which computes
what an answer can be: literals, arithmetic and sympy's mathematical functions of them. `no_way_out` is the
second wall, for a scorer of another version that finds another way: the process starts no program, opens no
connection and writes no file.
"""

from __future__ import annotations

import ast
import os
import sys
from functools import cache
from typing import Any

_ARITHMETIC = (
    ast.Expression, ast.Load, ast.List, ast.Tuple, ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop,
    ast.Compare, ast.cmpop,
)  # fmt: skip
_LITERALS = (*_ARITHMETIC, ast.Constant, ast.Set, ast.Dict)
_NAMED = frozenset({"Symbol", "Function"})
_NUMBERS = frozenset({"Integer", "Float", "Rational"})
_REFUSED = (
    "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.startfile",
    "os.remove", "os.rename", "os.rmdir", "os.kill", "os.link", "os.symlink", "os.truncate",
    "os.chmod", "os.chown", "subprocess.Popen", "pty.spawn", "socket.connect", "socket.bind",
    "socket.sendto", "shutil.rmtree",
)  # fmt: skip
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def checked_eval(source: Any, names: dict[str, Any] | None = None, more: Any = None) -> Any:
    """The value of an expression of literals and arithmetic; with sympy's `names`, of mathematics, too.

    Raises ValueError for anything else (an attribute, an index, a lambda, a comprehension, a call of what is
    not a function of mathematics, a function as a value), SyntaxError for what is no expression.
    """
    if not isinstance(source, str):
        raise ValueError("an answer is text")
    tree = ast.parse(source.strip(), mode="eval")
    known = _values(names) | _values(more)
    if not known:
        for node in ast.walk(tree):
            if not isinstance(node, _LITERALS):
                raise ValueError(f"not a value: {type(node).__name__}")
    else:
        _check_mathematics(tree.body, known)
        offered = _functions() | _NAMED | _NUMBERS
        known = {name: value for name, value in (names or {}).items() if name in offered} | known
    return eval(compile(tree, "<answer>", "eval"), known | {"__builtins__": {}})


def _check_mathematics(node: ast.AST, known: dict[str, Any]) -> None:
    """Raises ValueError unless functions are only called, and computed with are only numbers and symbols.

    A bare function (`lambdify`) could become the operator of a class, and a text holds source code.
    """
    if isinstance(node, ast.Call):
        for argument in _arguments(node):
            _check_mathematics(argument, known)
    elif isinstance(node, _ARITHMETIC):
        for child in ast.iter_child_nodes(node):
            _check_mathematics(child, known)
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, str | bytes):
            raise ValueError("a text is not a number")
    elif not (isinstance(node, ast.Name) and node.id in known):
        raise ValueError(f"not a value: {node.id if isinstance(node, ast.Name) else type(node).__name__}")


def _arguments(call: ast.Call) -> list[ast.expr]:
    """What is to be checked in `sin(x)`, `Symbol('x')`, `Integer(1)` or the parser's `Function('f')(x)`."""
    made = call.func
    if isinstance(made, ast.Call) and _name(made) == "Function":
        _check_named(made)
        return call.args
    name = _name(call)
    if name == "Symbol":
        _check_named(call)
    elif name in _NUMBERS:  # of literals, each of which the parser makes an Integer or a Float first
        made_of = [argument for argument in call.args if not isinstance(argument, ast.Constant)]
        if call.keywords or not all(isinstance(a, ast.Call) and _name(a) in _NUMBERS for a in made_of):
            raise ValueError(f"{name} takes numbers")
        return made_of
    elif call.keywords or name not in _functions():
        raise ValueError(f"not a function of mathematics: {name}")
    else:
        return call.args
    return []


def _name(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _check_named(call: ast.Call) -> None:
    """Of one name, an identifier: sympy may print it into source code."""
    match call:
        case ast.Call(args=[ast.Constant(value=str(name))], keywords=[]) if name.isidentifier():
            return
    raise ValueError(f"{_name(call)} takes one name")


def _values(names: dict[str, Any] | None) -> dict[str, Any]:
    """Of what a scorer or the parser offers, sympy's constants and symbols; no function, no class."""
    from sympy import Basic

    return {name: value for name, value in (names or {}).items() if isinstance(value, Basic)}


@cache
def _functions() -> frozenset[str]:
    import sympy.functions

    return frozenset(sympy.functions.__all__) | {"Integral", "Derivative"}


def without_eval() -> None:
    """Let the loaded modules of reasoning-gym, and sympy's parser, use `checked_eval` for `eval`."""
    import sympy.parsing.sympy_parser

    for name, module in list(sys.modules.items()):
        if name.startswith("reasoning_gym.") or name == sympy.parsing.sympy_parser.__name__:
            vars(module)["eval"] = checked_eval


def no_way_out() -> None:
    """From here on this process starts no program, opens no connection and no file for writing.

    No sandbox for a program; it is there so that no scorer becomes the way to run one.
    """
    import ctypes  # noqa: F401 it opens the C library, which is refused from here on

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _REFUSED or event.startswith("ctypes.") or (event == "open" and _writes(arguments)):
            raise PermissionError(f"a grading process may not: {event}")

    sys.addaudithook(refuse)


def _writes(arguments: tuple[Any, ...]) -> bool:
    _, mode, flags = arguments
    return bool((flags or 0) & _WRITING) or any(letter in "wax+" for letter in mode or "")
