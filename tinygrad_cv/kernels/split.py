"""A kernel whose last statement is a prange loop, as a body that does one share of the loop.

    def squares(x, out):                 def squares(x, out, _shares, _share):
        n = x.size                           n = x.size
        for i in prange(n):         ->       _count = n
            out[i] = x[i] * x[i]             for i in range(_count * _share // _shares, _count * (_share + 1) // _shares):
                                                 i = _not_negative(i)
                                                 out[i] = x[i] * x[i]

Numba compiles a prange loop two or three times over, in a third of a second, and the serial twin once more. The body above is compiled
once, in a quarter of that, and `shares.region` runs it in parallel: as one share it is the serial twin.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from types import CodeType, FunctionType
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


@intrinsic
def not_negative(typing_context: Any, index: Any) -> Any:
    """The index, of which the compiler may assume that it is not negative: it then omits counting from the end, and vectorises."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(1)])
        assume = cgutils.get_or_insert_function(builder.module, kind, "llvm.assume")
        builder.call(assume, [builder.icmp_signed(">=", args[0], ir.Constant(args[0].type, 0))])
        return args[0]

    return types.int64(types.int64), codegen


_SPAN = "range(_count * _share // _shares, _count * (_share + 1) // _shares)"


def _only_names(statements: list[ast.stmt]) -> bool:
    """Whether statements give values to names and do nothing else, so that every share may run them."""
    for s in statements:
        if isinstance(s, ast.Assign):
            targets = [n for t in s.targets for n in (t.elts if isinstance(t, ast.Tuple) else [t])]
            if not all(isinstance(n, ast.Name) for n in targets):
                return False
        elif isinstance(s, ast.If):
            if not _only_names(s.body + s.orelse):
                return False
        elif not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant)):
            return False
    return True


def _tree(function: FunctionType) -> ast.FunctionDef | None:
    """The text of a function as a tree; None where it is not known (an interactive session) or no longer the one that was imported."""
    try:
        lines, first = inspect.getsourcelines(function)
        tree = ast.parse(textwrap.dedent("".join(lines))).body[0]
    except (OSError, TypeError, SyntaxError, IndexError):
        return None
    if not isinstance(tree, ast.FunctionDef):
        return None
    tree.decorator_list = []
    ast.increment_lineno(tree, first - 1)
    code = _code_of(tree, function)
    return tree if (code.co_code, code.co_names) == (function.__code__.co_code, function.__code__.co_names) else None


def _code_of(tree: ast.FunctionDef, function: FunctionType) -> CodeType:
    module = compile(ast.fix_missing_locations(ast.Module([tree], [])), function.__code__.co_filename, "exec")
    return next(c for c in module.co_consts if isinstance(c, CodeType))


def share_form(function: FunctionType) -> FunctionType | None:
    """The body that does one share of a kernel's prange loop, or None for a kernel of another form."""
    tree = _tree(function)
    if tree is None or tree.args.defaults or tree.args.vararg or tree.args.kwonlyargs:
        return None
    *before, loop = tree.body
    if not (isinstance(loop, ast.For) and isinstance(loop.iter, ast.Call) and not loop.orelse and _only_names(before)):
        return None
    called = loop.iter.func
    mentions = [n for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id == "prange"]
    if mentions != [called] or len(loop.iter.args) != 1 or not isinstance(loop.target, ast.Name):
        return None
    if any(isinstance(n, (ast.Return, ast.Yield)) for n in ast.walk(tree)):
        return None

    def written(text: str) -> ast.stmt:
        statement = ast.parse(text).body[0]
        for part in ast.walk(statement):
            if hasattr(part, "lineno"):
                part.lineno = part.end_lineno = loop.lineno  # type: ignore[attr-defined]
        return statement

    count = ast.Assign([ast.Name("_count", ast.Store())], loop.iter.args[0])
    loop.iter = written(_SPAN).value  # type: ignore[attr-defined]
    loop.body.insert(0, written(f"{loop.target.id} = _not_negative({loop.target.id})"))
    tree.body = [*before, count, loop]
    tree.args.args += [ast.arg("_shares"), ast.arg("_share")]
    return FunctionType(_code_of(tree, function), {**function.__globals__, "_not_negative": not_negative}, function.__name__)


__all__ = ["not_negative", "share_form"]
