"""The formula of an operator with the user's names in: forward, its local derivative, its backward rule."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from tinygrad_cv.graph import Graph, GraphEdge, GraphNode

from .calculus import DERIVATIVES, FORMULAS, MATRIX_RULES, family
from .formulas import FormulaError, Tree, numeral, parse, simplify
from .mathml import MathTree, render, row, text

_USUAL = {  # attributes for which formulas and derivatives are written
    "div": {"rounding_mode": None},
    "gelu": {"approximate": "none"},
    "logit": {"eps": None},
    "softplus": {"threshold": 20},
}
_ABSENT = ("min", "max", "bias")  # arguments that a formula does without


@cache
def _parsed(formula: str) -> Tree | None:
    try:
        return parse(formula)
    except FormulaError:
        return None


def _names_in(tree: Any) -> set[str]:
    found, stack = set(), [tree]
    while stack:
        part = stack.pop()
        if isinstance(part, tuple):
            if len(part) == 2 and part[0] == "name":
                found.add(part[1])
            stack.extend(part)
    return found


def _settled(tree: Tree, node: GraphNode, edges: Sequence[GraphEdge], graph: Graph) -> Tree | None:
    """The tree with attributes and plain numbers put in, and what that leaves of no effect taken out; None where nothing is left."""
    values: dict[str, Any] = {}
    for name, value in node.attributes.items():
        if isinstance(value, tuple) and all(isinstance(v, int) for v in value) and len(set(value)) == 1:
            # (1, 1) of a convolution's stride
            value = value[0]
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            values[name] = value
    given = {e.argument for e in edges}
    values.update({name: None for name in _ABSENT if name in _names_in(tree) and name not in given})
    for edge in edges:
        source = graph[edge.source]
        if source.kind == "number" and source.value is not None:
            value = source.value.item()
            values[edge.argument] = numeral(value) if math.isfinite(value) else None  # a bound that was not given
    settled = simplify(tree, values)
    return None if _lacks_something(settled) else settled


def _lacks_something(tree: Any) -> bool:
    """Whether a part of the tree belongs to an argument that was not given."""
    if tree is None:
        return True
    if not isinstance(tree, tuple):
        return False
    parts = tree[2:] if tree and tree[0] == "total" else tree  # a sum over named axes has None for its term in words
    return any(_lacks_something(part) for part in parts)


def formula_tree(node: GraphNode, edges: Sequence[GraphEdge], graph: Graph) -> Tree | None:
    """The operator's formula as a tree over its arguments, None where it is prose, or does not hold for these attributes."""
    tree = None if _is_special(node) else _parsed(FORMULAS.get(node.op, node.formula))
    return None if tree is None else _settled(tree, node, edges, graph)


def derivative_tree(node: GraphNode, edge: GraphEdge, graph: Graph) -> Tree | None:
    """d(node) / d(argument) as a tree over the arguments and `out`, None where no line says it."""
    written = None if _is_special(node) else DERIVATIVES.get(node.op, {}).get(edge.argument)
    tree = _parsed(written) if written else None
    return None if tree is None else _settled(tree, node, graph.inputs_of(node.id), graph)


def _is_special(node: GraphNode) -> bool:
    """Whether attributes make it another function than the formulas say."""
    return any(node.attributes.get(name) != usual for name, usual in _USUAL.get(node.op, {}).items())


def forward_formula(
    node: GraphNode,
    edges: Sequence[GraphEdge],
    graph: Graph,
    names: Mapping[str, MathTree] | None,
    values: Mapping[str, float | None] | None = None,
) -> MathTree:
    """q = x + y with `names`, or -2 + 5 with `values` by argument (then None where no formula gives one number from others)."""
    tree = formula_tree(node, edges, graph)
    if values is not None:
        if tree is None or not is_elementwise(node) or not _names_in(tree) <= {*values, "e", "pi"}:
            return None
        return render(simplify_values(tree, values))
    assert names is not None
    shown = {e.argument: names[e.source] for e in edges} | _axes(node, edges)
    own = names[node.id]
    if tree is None or family(node.op) == "rearrange":
        return row(own, "=", _call(node, edges, shown))
    if tree[0] == "=":
        return row(own, "=", _call(node, edges, shown), ["mo", {"separator": "true"}, ":"], render(tree, {**shown, "out": own}))
    return row(own, "=", render(tree, shown))


def _axes(node: GraphNode, edges: Sequence[GraphEdge]) -> dict[str, MathTree]:
    """What stands below a sum `over dim`: its axes, or nothing but `all`."""
    if "dim" not in node.attributes or not edges:
        return {}
    dim = node.attributes["dim"]
    axes = (dim,) if isinstance(dim, int) else dim
    if axes is None or len(axes) == len(edges[0].shape):
        return {"dim": text("all elements")}
    return {"dim": text(f"ax{'i' if len(axes) == 1 else 'e'}s {', '.join(map(str, axes))}")}


def is_elementwise(node: GraphNode) -> bool:
    """Whether one element of the result follows from one element of each input by the formula."""
    return node.op in DERIVATIVES or node.op in ("floor", "ceil", "sign", "trunc")


def simplify_values(tree: Tree, values: Mapping[str, float | None]) -> Tree:
    """The tree with numbers for names, nothing computed."""
    if not isinstance(tree[0], str):
        return tuple(simplify_values(part, values) for part in tree)
    if tree[0] == "name":
        return ("value", values[tree[1]]) if tree[1] in values else tree
    return tuple(simplify_values(p, values) if isinstance(p, tuple) and p else p for p in tree)


def _call(node: GraphNode, edges: Sequence[GraphEdge], shown: Mapping[str, MathTree]) -> MathTree:
    label = node.op.removesuffix("_with_indices").removesuffix("_with_statistics")
    parts: list[MathTree] = []
    for edge in edges[:6]:
        parts += [["mo", {"separator": "true"}, ","], shown[edge.argument]] if parts else [shown[edge.argument]]
    if len(edges) > 6:
        parts += [["mo", ","], ["mo", "…"]]
    return ["mrow", ["mi", {"mathvariant": "normal"}, label], ["mo", "\u2061"], ["mo", "("], *parts, ["mo", ")"]]


def local_formula(node: GraphNode, edge: GraphEdge, graph: Graph, names: Mapping[str, MathTree]) -> MathTree | None:
    """d(node) / d(argument) in symbols, None where no line says it."""
    tree = derivative_tree(node, edge, graph)
    if tree is None:
        return None
    shown = {e.argument: names[e.source] for e in graph.inputs_of(node.id)}
    return render(tree, {**shown, "out": names[node.id]})


def backward_rule(
    node: GraphNode, edge: GraphEdge, graph: Graph, names: Mapping[str, MathTree], upstream: MathTree
) -> MathTree:
    """dL/d(argument) as it follows from the gradient of the result, for tensors."""
    edges = graph.inputs_of(node.id)
    shown = {e.argument: names[e.source] for e in edges}
    written = MATRIX_RULES.get(node.op, {}).get(edge.argument)
    tree = _parsed(written) if written else None
    settled = None if tree is None else _settled(tree, node, edges, graph)
    if settled is not None:
        return render(settled, {**shown, "out": names[node.id], "G": upstream})
    derivative = local_formula(node, edge, graph, names)
    if derivative is not None:
        product = row(upstream, "⊙", derivative)
        return product if edge.shape == node.shape else row(_broadcast_sum(), product)
    if family(node.op) == "rearrange":
        return row(upstream, text(f"\u00a0put back into the shape {edge.shape}"))
    return row(upstream, text(f"\u00a0through the rule of {node.op.split('_with_')[0]}"))


def _broadcast_sum() -> MathTree:
    return ["munder", ["mo", {"movablelimits": "false"}, "∑"], text("broadcast axes")]


__all__ = ["backward_rule", "derivative_tree", "formula_tree", "forward_formula", "local_formula"]
