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

_NODES = (
    ast.Expression, ast.Constant, ast.Name, ast.Load, ast.Call, ast.List, ast.Tuple, ast.Set, ast.Dict,
    ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop, ast.Compare, ast.cmpop,
)  # fmt: skip
_OTHERS = frozenset({"Symbol", "Integer", "Float", "Rational", "Function", "Integral", "Derivative"})
_REFUSED = (
    "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.startfile",
    "os.remove", "os.rename", "os.rmdir", "os.kill", "subprocess.Popen",
    "pty.spawn", "socket.connect", "socket.bind",
    "socket.sendto", "shutil.rmtree",
)  # fmt: skip
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def checked_eval(source: Any, names: dict[str, Any] | None = None, more: Any = None) -> Any:
    """The value of an expression of literals, arithmetic and mathematical functions.

    Raises ValueError for anything else (an attribute, an index, a lambda, a comprehension, a call of what is
    not a function of mathematics), SyntaxError for what is no expression.
    """
    if not isinstance(source, str):
        raise ValueError("an answer is text")
    tree = ast.parse(source.strip(), mode="eval")
    for node in ast.walk(tree):
        if not isinstance(node, _NODES) or (isinstance(node, ast.Call) and not _is_mathematics(node)):
            raise ValueError(f"not a value: {type(node).__name__}")
    return eval(compile(tree, "<answer>", "eval"), {**_namespace(names), "__builtins__": {}}, more)


def _is_mathematics(call: ast.Call) -> bool:
    """`sin(x)`, `Symbol('x')`, and `Function('f')(x)`, which is what the parser makes of `f(x)`."""
    if call.keywords:
        return False
    if isinstance(call.func, ast.Call):
        return isinstance(call.func.func, ast.Name) and call.func.func.id == "Function"
    return isinstance(call.func, ast.Name) and call.func.id in _functions()


def _namespace(names: dict[str, Any] | None) -> dict[str, Any]:
    """Of what the parser offers, the objects of sympy: the rest are Python's own functions."""
    return {
        name: value
        for name, value in (names or {}).items()
        if (getattr(value, "__module__", None) or "").startswith("sympy")
    }


@cache
def _functions() -> frozenset[str]:
    import sympy.functions

    return frozenset(sympy.functions.__all__) | _OTHERS


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

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _REFUSED or (event == "open" and _writes(arguments)):
            raise PermissionError(f"a grading process may not: {event}")

    sys.addaudithook(refuse)


def _writes(arguments: tuple[Any, ...]) -> bool:
    _, mode, flags = arguments
    return bool((flags or 0) & _WRITING) or any(letter in "wax+" for letter in mode or "")
