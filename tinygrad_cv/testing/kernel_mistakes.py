"""The mistakes that could be made in a kernel's source: see `kernel_mutants`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

Change = tuple[str, ast.AST, int, ast.AST]  # kind, what is changed, its position in ast.walk, what it becomes

_LENGTHS = re.compile(r"row|step|column|width|height|line|area|room|panel|plane|channel|size|distance|depth|count|classes")
_COMPARED: dict[type, ast.cmpop] = {ast.Lt: ast.LtE(), ast.LtE: ast.Lt(), ast.Gt: ast.GtE(), ast.GtE: ast.Gt()}


def changes(tree: ast.Module) -> list[Change]:
    """Every mistake that could be made in a kernel's source, in the order of the text."""
    function = tree.body[0]
    assert isinstance(function, ast.FunctionDef)
    shared = {a.arg for a in function.args.args} & {"share"}
    owners = {
        loop.target.id
        for loop in ast.walk(tree)
        if isinstance(loop, ast.For) and isinstance(loop.target, ast.Name) and re.match(r"prange|range\(\*span", ast.unparse(loop.iter))
    }  # fmt: skip
    indices = {id(inner) for n in ast.walk(tree) if isinstance(n, ast.Subscript) for inner in ast.walk(n.slice)}
    found = []
    for position, node in enumerate(ast.walk(tree)):
        for kind, changed in (*_races(node, shared, owners), *_bounds(node), *_strides(node, indices), *_tails(node)):
            found.append((kind, node, position, changed))
    return sorted(found, key=lambda c: (getattr(c[1], "lineno", 0), getattr(c[1], "col_offset", 0)))


def _call(name: str, *arguments: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(name, ast.Load()), list(arguments), [])


def _named(node: ast.AST, *names: str) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names


def _less(node: ast.expr, by: int = 1) -> ast.BinOp:
    return ast.BinOp(node, ast.Sub(), ast.Constant(by))


def _races(node: ast.AST, shared: set[str], owners: set[str]) -> Iterator[tuple[str, ast.AST]]:
    zero = ast.Constant(0)
    if isinstance(node, ast.Call) and _named(node, "span") and len(node.args) == 3:
        count, shares, share = node.args
        yield "race", _call("span", count, shares, zero)
        yield "race", _call("span", count, ast.BinOp(shares, ast.Add(), ast.Constant(1)), share)
        yield "race", _call("span", count, ast.Constant(1), zero)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Mod, ast.FloorDiv)) and _is_name(node.left, shared):
        yield "race", zero
    elif isinstance(node, ast.Subscript):
        if _is_name(node.slice, shared):
            yield "race", ast.Subscript(node.value, zero, node.ctx)
        elif isinstance(node.ctx, ast.Store):
            if _is_name(node.slice, owners):
                yield "race", ast.Subscript(node.value, zero, node.ctx)
            elif isinstance(node.slice, ast.Tuple) and _is_name(node.slice.elts[0], owners):
                yield "race", ast.Subscript(node.value, ast.Tuple([zero, *node.slice.elts[1:]], ast.Load()), node.ctx)
    elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Subscript):
        yield "race", ast.Assign([node.target], node.value, lineno=node.lineno)


def _is_name(node: ast.AST, names: set[str]) -> bool:
    return isinstance(node, ast.Name) and node.id in names


def _bounds(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    if isinstance(node, ast.Compare) and type(node.ops[-1]) in _COMPARED:
        yield "bounds", ast.Compare(node.left, [*node.ops[:-1], _COMPARED[type(node.ops[-1])]], node.comparators)
    elif isinstance(node, ast.Call) and _named(node, "min", "max") and len(node.args) == 2:
        yield "bounds", node.args[0]
        yield "bounds", node.args[1]


def _strides(node: ast.AST, indices: set[int]) -> Iterator[tuple[str, ast.AST]]:
    if isinstance(node, ast.Subscript):
        if (
            isinstance(node.value, ast.Attribute)
            and node.value.attr in ("shape", "strides")
            and isinstance(node.slice, ast.Constant)
        ):
            yield "stride", ast.Subscript(node.value, ast.Constant(1 if node.slice.value == 0 else 0), node.ctx)
        elif isinstance(node.slice, ast.Tuple) and not any(isinstance(e, ast.Slice) for e in node.slice.elts[:2]):
            first, second, *rest = node.slice.elts
            yield "stride", ast.Subscript(node.value, ast.Tuple([second, first, *rest], ast.Load()), node.ctx)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        if id(node) in indices or any(isinstance(n, ast.Name) and _LENGTHS.search(n.id) for n in (node.left, node.right)):
            yield "stride", node.left
            yield "stride", ast.BinOp(node.left, ast.Mult(), ast.BinOp(node.right, ast.Add(), ast.Constant(1)))
    elif isinstance(node, ast.Call) and _named(node, "range") and len(node.args) == 3:
        yield "stride", _call("range", *node.args[:2], ast.BinOp(node.args[2], ast.Add(), ast.Constant(1)))


def _tails(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    if isinstance(node, ast.Call) and _named(node, "range", "prange") and not isinstance(node.args[0], ast.Starred):
        assert isinstance(node.func, ast.Name)
        stop = 0 if len(node.args) == 1 else 1
        yield "tail", _call(node.func.id, *node.args[:stop], _less(node.args[stop]), *node.args[stop + 1 :])
        if stop and not isinstance(node.args[0], ast.Constant):
            yield "tail", _call("range", node.args[1], *node.args[1:])
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.FloorDiv) and isinstance(node.left, ast.BinOp):
        up = node.left  # (a + b - 1) // b
        if isinstance(up.op, ast.Sub) and isinstance(up.left, ast.BinOp) and isinstance(up.left.op, ast.Add):
            yield "tail", ast.BinOp(up.left.left, ast.FloorDiv(), node.right)


__all__ = ["changes"]
