"""A backward rule of an elementwise operator as one loop: upstream times derivative in a single pass over memory.

The rule is run once on tensors of one element while every operator it calls is recorded; if all of these are elementwise with
scalar expressions, the recording becomes the statements of a loop. Used by the pass that records no graph itself: there the
intermediate tensors of a rule serve nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .elementwise import scalar_text, truth_parameters
from .formula import Expression, literal, translate
from .launch import Cost, Loop
from .loops import Program

if TYPE_CHECKING:
    from ..registry import Operator

_TENSOR_PASS = 2500.0  # ns an operator call on tensors costs besides the work
SMALLEST = 512  # elements below which no loop pays
_MOST_VARIANTS = 8  # loops for one rule, which differ in the attributes compiled in

# What these are when their operands are bool, as conditions of a rule's `where` are.
_ON_TRUTHS = {
    "bitwise_and": "input and other", "bitwise_or": "input or other", "bitwise_xor": "input != other", "bitwise_not": "not input",
}  # fmt: skip

_found: dict[tuple[Operator, int], dict[Any, FusedGradient | None]] = {}


class FusedGradient:
    """A traced rule. needs: what `arrays` of a call are, as the registry's getters say: ('upstream', 0), ('in', i), ('out', j)."""

    def __init__(self, needs: tuple[tuple[str, int], ...], loop: Loop) -> None:
        self.needs = needs
        self.loop = loop

    @property
    def smallest(self) -> int:
        """Arrays with fewer elements are declined."""
        return self.loop.smallest

    def __call__(self, arrays: list[Any]) -> Any:
        """The gradient before broadcasting is undone, or NotImplemented: arrays too small, of other dtypes or layouts."""
        return self.loop(arrays, ())


def fused_gradient(
    operator: Operator, index: int, attributes: tuple[Any, ...], numbers: tuple[Any, ...] = ()
) -> FusedGradient | None:
    """The rule for tensor parameter `index` of an operator as one loop, for these attribute values.

    numbers: for each tensor parameter the Python number that stands in its place, else None; () where none does. They and the
    attributes are compiled in.

    None where there is nothing to fuse (fewer than two operators), where the rule uses anything that is not elementwise, looks at
    shapes, or has been asked for with many different values. Found once, then remembered.
    """
    variants = _found.setdefault((operator, index), {})
    key = (attributes, numbers)
    try:
        return variants[key]
    except KeyError:
        pass
    except TypeError:
        return None
    if len(variants) >= _MOST_VARIANTS:
        return None
    variants[key] = None  # tracing runs operators, whose own gradients are not to be traced meanwhile
    try:
        variants[key] = _trace(operator, index, attributes, numbers)
    except _Unfusable:
        pass
    return variants[key]


def forget(operator: Operator) -> None:
    """Traces the operator's rules anew at their next use: they have changed."""
    for key in [k for k in _found if k[0] is operator]:
        del _found[key]


def run_rule(node: Any, index: int, upstream: Any, saved: Callable[[tuple[str, int]], Any]) -> np.ndarray | None:
    """The gradient of a recorded elementwise node for input `index`, by its rule as one loop; None where the rule itself must run.

    upstream: the gradient of the node's output, a Tensor. saved: gives what the node saved, by getter: a Tensor or a number.
    """
    from . import enabled

    if upstream._data.size < SMALLEST or not enabled():
        return None
    numbers = tuple([p if isinstance(p, (int, float)) else None for p in node.parents])
    fused = fused_gradient(node.op, index, node.attrs, numbers if any(n is not None for n in numbers) else ())
    if fused is None or upstream._data.size < fused.loop.smallest:
        return None
    arrays = []
    for need in fused.needs:
        value = upstream if need[0] == "upstream" else saved(need)
        arrays.append(getattr(value, "_data", value))
    out = fused(arrays)
    return None if out is NotImplemented else out


class _Unfusable(Exception):
    """The rule does something that a loop over elements cannot."""


def _trace(operator: Operator, index: int, attributes: tuple[Any, ...], numbers: tuple[Any, ...]) -> FusedGradient | None:
    from .._tensor import Tensor, wrap
    from ..autograd import no_grad
    from ..autograd.node import Node
    from ..graph import capture

    if not operator.elementwise or index not in operator.rules:
        return None
    rule, getters = operator.rules[index]
    truths = truth_parameters(operator)
    needs: list[tuple[str, int]] = []
    leaves: dict[int, str] = {}  # the name of each traced tensor, by identity
    true_names: set[str] = set()
    arguments: list[Any] = []
    for kind, position in getters:
        if kind == "attr":
            arguments.append(attributes[position])
            continue
        if kind not in ("upstream", "in", "out"):
            return None
        if kind == "in" and numbers and numbers[position] is not None:
            arguments.append(numbers[position])
            continue
        parameter = "" if kind == "upstream" else (operator.tensor_params if kind == "in" else operator.outputs)[position]
        truth = kind == "in" and parameter in truths
        tensor = wrap(np.ones(1, np.bool_) if truth else np.full(1, 0.5, np.float32))
        name = f"{kind}_{parameter}" if kind != "upstream" else "upstream"
        leaves[id(tensor)] = name
        if truth:
            true_names.add(name)
        needs.append((kind, position))
        arguments.append(tensor)
    with no_grad(), capture(values=False) as recording, np.errstate(all="ignore"):
        try:
            result = rule(*arguments)
        except Exception as error:
            raise _Unfusable(str(error)) from error
    if not isinstance(result, Tensor) or result._data.shape != (1,) or not isinstance(result._node, Node):
        return None
    return _build(operator, index, tuple(needs), leaves, true_names, recording.nodes, result)


def expression_of(
    operator: Operator, attributes: tuple[Any, ...], operands: list[Any], truths: Mapping[str, bool]
) -> Expression | None:
    """One call of an elementwise operator as the text of a kernel; None where it has no scalar expression for these operands.

    operands: for each tensor parameter the name of a variable of the kernel, or a number. truths: the variables that are bool.
    """
    text = scalar_text(operator, attributes) or _ON_TRUTHS.get(operator.name)
    if text is None:
        return None
    names: dict[str, str] = {}
    true_parameters: list[str] = []
    for parameter, operand in zip(operator.tensor_params, operands, strict=True):
        names[parameter] = operand if isinstance(operand, str) else literal(operand)
        if truths.get(names[parameter], False):
            true_parameters.append(parameter)
        elif operator.name in _ON_TRUTHS:
            return None
    for parameter, value in zip(operator.attr_params, attributes, strict=True):
        if isinstance(value, (int, float)):
            names[parameter] = literal(float(value))
    try:
        return translate(text, names, true_parameters, operator.attr_params)
    except ValueError:
        return None


def _build(
    operator: Operator,
    index: int,
    needs: tuple[tuple[str, int], ...],
    leaves: dict[int, str],
    true_names: set[str],
    nodes: list[Any],
    result: Any,
) -> FusedGradient | None:
    from ..autograd.node import Node

    wanted = _ancestors(result._node)
    chosen = [n for n in nodes if n in wanted]
    if len(chosen) < 2 or len(chosen) != len(wanted):
        return None
    texts: dict[Any, str] = {}
    truth_of: dict[str, bool] = {f"{name}_": name in true_names for name in leaves.values()}
    statements: list[tuple[str, str]] = []
    functions: set[str] = set()
    cost = numpy_cost = 0.0
    calls = 0
    for number, node in enumerate(chosen):
        inner = node.op
        if not inner.elementwise or len(node.shapes) != 1 or inner.random:
            return None
        named: list[Any] = []
        for parent in node.parents:
            if isinstance(parent, Node):
                named.append(texts[parent])
            elif id(parent) in leaves:
                named.append(f"{leaves[id(parent)]}_")
            elif isinstance(parent, (int, float)):
                named.append(float(parent))
            else:  # absent, or a tensor that the rule made itself
                return None
        expression = expression_of(inner, node.attrs, named, truth_of)
        if expression is None:
            return None
        target = f"t{number}_"
        texts[node] = target
        truth_of[target] = expression.truth
        statements.append((target, expression.text))
        functions |= expression.functions
        cost += expression.cost
        numpy_cost += expression.numpy_cost
        calls += expression.calls
    final = texts[result._node]
    if truth_of[final]:
        return None
    operands = tuple(leaves.values())
    parameter = operator.tensor_params[index]
    program = Program(
        f"{operator.name}.grad_{parameter}",
        f"the gradient of {operator.name} ({operator.formula}) for {parameter}",
        operands,
        tuple(statements[:-1]),
        (statements[-1][1],),
        tuple(sorted(functions)),
        frozenset(true_names),
    )
    loop = Loop(program, len(operands), False, Cost(cost, numpy_cost, _TENSOR_PASS * len(chosen), calls))
    return FusedGradient(needs, loop)


def _ancestors(node: Any) -> set[Any]:
    """The node and all recorded nodes that it was computed from."""
    from ..autograd.node import Node

    seen = {node}
    stack = [node]
    while stack:
        for parent in stack.pop().parents:
            if isinstance(parent, Node) and parent not in seen:
                seen.add(parent)
                stack.append(parent)
    return seen
