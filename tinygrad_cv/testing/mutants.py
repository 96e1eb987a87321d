"""Wrong backward rules made from right ones: what a test suite for gradients must notice.

`mutants_of(operator)` changes each rule in two ways. Inside: its source is parsed and one place at a time is changed (a sign, a
term left out, two arguments exchanged, an axis, a transpose or a sum left out, a number off by one or by 0.1 %). Outside: its
upstream or its result is changed (reversed, ignored, doubled, shifted by one, one element or one row off by 0.1 %; something small
added, which shows even where the right gradient is zero). The mistakes are those that issue threads of autograd libraries report, and
the classical mutations (DeMillo, Lipton, Sayward: Hints on test data selection, 1978).
"""

from __future__ import annotations

import ast
import copy
import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import FunctionType
from typing import Any

import numpy as np

from .._tensor import Tensor, wrap
from ..registry import Operator

Rule = Callable[..., Any]
Observer = Callable[[Callable[[], Any], Callable[[], Any]], Any]


@dataclass(frozen=True)
class Mutant:
    """One wrong rule. kind: the sort of mistake; place: the rule and what was changed in it.

    index: the tensor parameter whose rule this is; None for a rule that gives all gradients. getters: what it is called with, as
    the registry's `rules` have it. probe: for a change inside a rule, a function that makes the right rule with an observer at the place
    of the change: it calls observer(right, wrong), two functions without arguments, and goes on with what that returns.
    """

    operator: Operator
    index: int | None
    kind: str
    place: str
    rule: Rule
    getters: tuple[tuple[str, int], ...]
    probe: Callable[[Observer], Rule] | None = None

    def __str__(self) -> str:
        return f"{self.operator.name}: {self.kind}, {self.place}"

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Inside the block, the operator has this rule."""
        with self.replaced(self.rule):
            yield

    @contextmanager
    def replaced(self, rule: Rule) -> Iterator[None]:
        """Inside the block, the operator has `rule` in the mutant's place."""
        operator = self.operator
        if self.index is None:
            original = operator.joint_rule
            assert original is not None
            operator.joint_rule = (rule, self.getters)
        else:
            first = operator.rules[self.index]
            operator.rules[self.index] = (rule, self.getters)
        operator.forget_rules()
        try:
            yield
        finally:
            if self.index is None:
                operator.joint_rule = original
            else:
                operator.rules[self.index] = first
            operator.forget_rules()


def planted(operator: Operator, parameter: str, kind: str, rule: Rule) -> Mutant:
    """`rule`, which asks for what it needs by name as every rule does, in place of that for `parameter`."""
    index = operator.tensor_params.index(parameter)
    return Mutant(operator, index, kind, f"grad_{parameter}", rule, operator.getters(rule))


def mutants_of(operator: Operator) -> list[Mutant]:
    """All mutants of an operator's backward rules, in a fixed order; none for an operator without rules (composites, views of no float)."""
    if operator.joint_rule is not None:
        rules: list[tuple[int | None, Rule, Any]] = [(None, *operator.joint_rule)]
    else:
        rules = [(i, *operator.rules[i]) for i in sorted(operator.rules)]
    found = []
    for index, rule, getters in rules:
        name = "backward" if index is None else f"grad_{operator.variadic or operator.tensor_params[index]}"
        outside = [*_outside(rule, getters), *(_additions(rule, getters) if _returns_zeros(rule) else ())]
        for kind, place, changed, probe in (*_inside(rule), *((*o, None) for o in outside)):
            found.append(Mutant(operator, index, kind, f"{name}: {place}", changed, getters, probe))
    return found


# Inside a rule --------------------------------------------------------------------------------------------------------------------

_REDUCTIONS = {"sum", "mean", "sum_to_size", "sum_to"}
_TRANSPOSES = {"transpose", "permute", "t", "movedim", "swapaxes", "flip", "roll"}
_TRANSPOSED = {"mT", "T", "mH", "H"}
_STRUCTURE = {
    "dim",
    "dims",
    "axis",
    "stride",
    "padding",
    "dilation",
    "kernel_size",
    "output_padding",
    "groups",
    "offset",
    "shifts",
}
_SIGNS: dict[type, ast.operator] = {ast.Add: ast.Sub(), ast.Sub: ast.Add()}
_COMPARISONS: dict[type, ast.cmpop] = {
    ast.Gt: ast.Lt(), ast.GtE: ast.LtE(), ast.Lt: ast.Gt(), ast.LtE: ast.GtE(), ast.Eq: ast.NotEq(), ast.NotEq: ast.Eq(),
}  # fmt: skip


def off_by_one(value: Any) -> Any:
    """value + 1, for each number of a tuple."""
    return type(value)(off_by_one(v) for v in value) if isinstance(value, (tuple, list)) else value + 1


def _inside(rule: Rule) -> Iterator[tuple[str, str, Rule, Callable[[Observer], Rule]]]:
    tree = _parsed(rule)
    if tree is None:
        return
    nodes: list[Any] = list(ast.walk(tree))
    seen = {ast.unparse(tree)}
    for position, node in enumerate(nodes):
        for kind, replacement in _changes(node):
            changed = with_node(tree, position, replacement)
            text = ast.unparse(changed)
            if text in seen:
                continue
            seen.add(text)
            place = f"{ast.unparse(node)} became {ast.unparse(replacement)}"
            yield kind, place, _compiled(rule, changed), partial(_observed, rule, tree, position, node, replacement)


def with_node(tree: ast.Module, position: int, replacement: ast.AST) -> ast.Module:
    """A copy of the tree with another node at a position of `ast.walk`."""
    changed = copy.deepcopy(tree)
    target = list(ast.walk(changed))[position]
    return ast.fix_missing_locations(_Replace(target, copy.deepcopy(replacement)).visit(changed))  # type: ignore[no-any-return]


def _observed(rule: Rule, tree: ast.Module, position: int, right: ast.expr, wrong: ast.expr, observer: Observer) -> Rule:
    nothing = ast.arguments([], [], None, [], [], None, [])
    call = ast.Call(ast.Name("observer_", ast.Load()), [ast.Lambda(nothing, copy.deepcopy(e)) for e in (right, wrong)], [])
    return _compiled(rule, with_node(tree, position, call), observer_=observer)


def _parsed(rule: Rule) -> ast.Module | None:
    """The rule's source; None where it is not a plain function with source of its own."""
    if not isinstance(rule, FunctionType):
        return None
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(rule)))
    except (OSError, SyntaxError):
        return None
    return tree if len(tree.body) == 1 and isinstance(tree.body[0], ast.FunctionDef) else None


def _compiled(rule: Rule, tree: ast.Module, **names: Any) -> Rule:
    assert isinstance(rule, FunctionType)
    function = tree.body[0]
    assert isinstance(function, ast.FunctionDef)
    function.decorator_list = []
    free = rule.__code__.co_freevars
    factory = ast.parse(f"def factory({', '.join(free)}): return {function.name}")
    maker = factory.body[0]
    assert isinstance(maker, ast.FunctionDef)
    maker.body.insert(0, function)
    ast.fix_missing_locations(factory)
    scope = {**rule.__globals__, "off_by_one_": off_by_one, **names}
    exec(compile(factory, f"<mutant of {rule.__qualname__}>", "exec"), scope)
    made: Rule = scope["factory"](*[cell.cell_contents for cell in rule.__closure__ or ()])
    made.__defaults__ = rule.__defaults__  # type: ignore[attr-defined]
    made.__kwdefaults__ = rule.__kwdefaults__  # type: ignore[attr-defined]
    return made


class _Replace(ast.NodeTransformer):
    def __init__(self, target: ast.AST, replacement: ast.AST) -> None:
        self.target = target
        self.replacement = replacement

    def visit(self, node: ast.AST) -> Any:
        return self.replacement if node is self.target else super().visit(node)


def _changes(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """The mistakes that could be made at one expression."""
    if isinstance(node, ast.BinOp):
        yield from _binary_changes(node)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and not isinstance(node.operand, ast.Constant):
        yield "sign flipped", node.operand
    elif isinstance(node, ast.Attribute) and node.attr in _TRANSPOSED:
        yield "transpose left out", node.value
    elif isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _COMPARISONS:
        yield "comparison reversed", ast.Compare(node.left, [_COMPARISONS[type(node.ops[0])]], node.comparators)
    elif isinstance(node, ast.IfExp):
        yield "branches exchanged", ast.IfExp(node.test, node.orelse, node.body)
    elif isinstance(node, ast.Tuple) and isinstance(node.ctx, ast.Load) and len(node.elts) > 1:
        yield "gradients or arguments exchanged", ast.Tuple([node.elts[1], node.elts[0], *node.elts[2:]], ast.Load())
    elif isinstance(node, ast.Constant) and type(node.value) is float:
        yield "0.1 % off", ast.Constant(node.value * 1.001 if node.value else 0.001)
    elif isinstance(node, ast.Constant) and type(node.value) is int:
        yield "off by one", ast.Constant(node.value + 1)
        yield "off by one", ast.Constant(node.value - 1)
    elif isinstance(node, ast.Call):
        yield from _call_changes(node)


def _binary_changes(node: ast.BinOp) -> Iterator[tuple[str, ast.expr]]:
    sign = _SIGNS.get(type(node.op))
    if sign is not None:
        yield "sign flipped", ast.BinOp(node.left, sign, node.right)
    if isinstance(node.op, (ast.Add, ast.Sub)):
        yield "term dropped", node.left
        yield "term dropped", node.right
    elif isinstance(node.op, (ast.Mult, ast.Div, ast.MatMult)):
        yield "factor dropped", node.left
        yield "factor dropped", node.right
    if isinstance(node.op, (ast.Sub, ast.Div, ast.MatMult, ast.Pow)):
        yield "operands exchanged", ast.BinOp(node.right, node.op, node.left)


def _call_changes(node: ast.Call) -> Iterator[tuple[str, ast.expr]]:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    subject = _subject(node)
    if subject is not None and name in _REDUCTIONS:
        yield "reduction left out", subject
    if subject is not None and name in _TRANSPOSES:
        yield "transpose left out", subject
    plain = [a for a in node.args if not isinstance(a, ast.Starred)]
    if name == "where" and len(plain) == 3:
        yield "branches exchanged", ast.Call(node.func, [plain[0], plain[2], plain[1]], node.keywords)
    elif len(plain) >= 2 and len(plain) == len(node.args):
        yield "arguments exchanged", ast.Call(node.func, [plain[1], plain[0], *plain[2:]], node.keywords)
    for i, argument in enumerate(node.args if name != "len" else ()):
        if isinstance(argument, ast.Name) and argument.id in _STRUCTURE:
            yield (
                "axis or window off by one",
                ast.Call(node.func, [*node.args[:i], _moved(argument), *node.args[i + 1 :]], node.keywords),
            )
    for i, keyword in enumerate(node.keywords):
        if isinstance(keyword.value, ast.Name) and keyword.value.id in _STRUCTURE:
            changed = ast.keyword(keyword.arg, _moved(keyword.value))
            yield (
                "axis or window off by one",
                ast.Call(node.func, node.args, [*node.keywords[:i], changed, *node.keywords[i + 1 :]]),
            )


def _moved(argument: ast.expr) -> ast.expr:
    return ast.Call(ast.Name("off_by_one_", ast.Load()), [argument], [])


def _subject(node: ast.Call) -> ast.expr | None:
    """x of `x.sum(...)` and of `tg.sum(x, ...)`."""
    if not isinstance(node.func, ast.Attribute):
        return node.args[0] if node.args else None
    if isinstance(node.func.value, ast.Name) and node.func.value.id in ("tg", "np"):
        return node.args[0] if node.args else None
    return node.func.value


# Outside a rule -------------------------------------------------------------------------------------------------------------------


def _scaled(gradient: Tensor, where: Any) -> Tensor:
    factor = np.ones(gradient.shape, gradient.dtype)
    if factor.size:
        factor[where] = 1.001
    return gradient * wrap(factor)  # type: ignore[return-value, operator]


def _shifted(gradient: Tensor) -> Tensor:
    return gradient.roll(1, -1) if gradient.dim() else gradient * 1.001  # type: ignore[return-value, attr-defined, operator]


_ON_RESULTS: dict[str, Callable[[Tensor], Tensor]] = {
    "sign of the result flipped": lambda g: -g,  # type: ignore[operator, return-value]
    "result doubled": lambda g: g * 2.0,  # type: ignore[operator, return-value]
    "result dropped": lambda g: g * 0.0,  # type: ignore[operator, return-value]
    "result 0.1 % off": lambda g: g * 1.001,  # type: ignore[operator, return-value]
    "result shifted by one": _shifted,
    "first element 0.1 % off": lambda g: _scaled(g, (0,) * g.dim()),
    "last element 0.1 % off": lambda g: _scaled(g, (-1,) * g.dim()),
    "last row 0.1 % off": lambda g: _scaled(g, (-1,) if g.dim() else ()),
}


def _only(values: np.ndarray, where: Any) -> np.ndarray:
    """The values at one place, zero elsewhere."""
    kept = np.zeros_like(values)
    if kept.size:
        kept[where] = values[where]
    return kept


_ADDED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "0.1 % of the upstream added": lambda u: u * 0.001,
    "0.1 % of the upstream taken off": lambda u: u * -0.001,
    "upstream added": lambda u: u,
    "upstream, reversed, added": lambda u: u[(slice(None, None, -1),) * u.ndim],
    "squared upstream added": lambda u: u * u,
    "0.001 added": lambda u: np.full_like(u, 0.001),
    "0.1 % of the upstream added to the first element": lambda u: _only(u, (0,) * u.ndim) * 0.001,
    "0.1 % of the upstream added to the last element": lambda u: _only(u, (-1,) * u.ndim) * 0.001,
    "0.1 % of the upstream added to the last row": lambda u: _only(u, (-1,) if u.ndim else ()) * 0.001,
    "0.001 added to the last element": lambda u: _only(np.full_like(u, 0.001), (-1,) * u.ndim),
}

_ON_UPSTREAMS: dict[str, Callable[[Tensor], Tensor]] = {
    "upstream reversed": lambda u: u.flip(tuple(range(u.dim()))) if u.dim() else -u,  # type: ignore
    "upstream ignored": lambda u: wrap(np.ones_like(u._data)),
    "upstream squared": lambda u: u * u,  # type: ignore[operator, return-value]
}


def _outside(rule: Rule, getters: tuple[tuple[str, int], ...]) -> Iterator[tuple[str, str, Rule]]:
    for kind, change in _ON_RESULTS.items():
        yield kind, "what it returns", _on_result(rule, change)
    places = [i for i, (source, _) in enumerate(getters) if source in ("upstream", "upstreams")]
    for kind, change in _ON_UPSTREAMS.items() if places else ():
        yield kind, "what it is given", _on_upstream(rule, change, places)
    if places:
        yield (
            "0.1 % of the upstream added",
            "what it returns",
            _with_added(rule, _ADDED["0.1 % of the upstream added"], places[0]),
        )


def _returns_zeros(rule: Rule) -> bool:
    tree = _parsed(rule)
    return tree is not None and any(isinstance(n, ast.Return) and "zeros_like(" in ast.unparse(n) for n in ast.walk(tree))


def _additions(rule: Rule, getters: tuple[tuple[str, int], ...]) -> Iterator[tuple[str, str, Rule]]:
    """For a rule that returns zeros, which every factor and every other upstream leave as they are."""
    places = [i for i, (source, _) in enumerate(getters) if source in ("upstream", "upstreams")]
    for kind, change in list(_ADDED.items())[1:] if places else ():
        yield kind, "what it returns", _with_added(rule, change, places[0])


def _on_result(rule: Rule, change: Callable[[Tensor], Tensor]) -> Rule:
    def mutant(*given: Any) -> Any:
        result = rule(*given)
        if isinstance(result, (tuple, list)):  # the first gradient only, so that the others cannot give it away
            first = next((i for i, g in enumerate(result) if g is not None), None)
            return tuple(change(g) if i == first else g for i, g in enumerate(result))
        return None if result is None else change(result)

    return mutant


def _with_added(rule: Rule, change: Callable[[np.ndarray], np.ndarray], place: int) -> Rule:
    def mutant(*given: Any) -> Any:
        upstream = given[place]
        if isinstance(upstream, (tuple, list)):
            upstream = next((u for u in upstream if u is not None), None)

        def added(gradient: Tensor) -> Tensor:
            if upstream is None or not gradient.numel():
                return gradient
            extra = change(np.resize(upstream._data, gradient.shape).astype(gradient.dtype))
            return gradient + wrap(extra)  # type: ignore[operator, return-value]

        return _on_result(rule, added)(*given)

    return mutant


def _on_upstream(rule: Rule, change: Callable[[Tensor], Tensor], places: list[int]) -> Rule:
    def mutant(*given: Any) -> Any:
        changed = list(given)
        for i in places:
            value = given[i]
            changed[i] = (
                tuple(None if u is None else change(u) for u in value) if isinstance(value, (tuple, list)) else change(value)
            )
        return rule(*changed)

    return mutant


__all__ = ["Mutant", "mutants_of", "planted", "with_node"]
