"""The order of play: leaves, every operator forward, then backward edge by edge, with the formula of each step in symbols and numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_cv.graph import Graph, GraphEdge, GraphNode

from .arrays import leading_block, norm
from .calculus import GRADIENTS_ADD, pattern
from .mathml import MathTree, bracketed, factor, identifier, number, row, spoken, text, tinted
from .rules import backward_rule, forward_formula, local_formula

TIMES = "×"
_MOST_LEAVES = 12  # that the first and the last step list
_MOST_TERMS = 5  # of a sum that a formula writes out


class Play:
    """Writes the steps of one graph. symbols: (symbol, subscript) of every node. loss: the symbol of what is differentiated."""

    def __init__(self, graph: Graph, symbols: dict[str, tuple[str, str]], loss: str) -> None:
        self.graph = graph
        self.loss = loss
        self.names: dict[str, MathTree] = {key: identifier(*symbol) for key, symbol in symbols.items()}
        self.edge_ids = {(e.target, e.position): f"e{i}" for i, e in enumerate(graph.edges)}

    def steps(self) -> list[dict[str, Any]]:
        """All steps, in order."""
        steps = [self._start()]
        steps += [self._forward(n) for n in self.graph if n.kind == "operator"]
        if any(n.grad is not None for n in self.graph):
            steps += [
                self._seed(self.graph[output]) for output in dict.fromkeys(self.graph.outputs) if self._has_gradient(output)
            ]
            steps += self._backward()
            steps.append(self._end())
        return steps

    # Pieces of formulas ----------------------------------------------------------------------------------------------

    def _has_gradient(self, node_id: str) -> bool:
        return any(g is not None for g in (*self.graph[node_id].grads, self.graph[node_id].grad))

    def _derivative(self, node_id: str, through: GraphEdge | None = None) -> MathTree:
        """dL/d(node), or the part of it that one use contributes."""
        fraction = ["mfrac", row(["mi", "d"], ["mi", self.loss]), row(["mi", "d"], self.names[node_id])]
        if through is None or len(self._contributions(node_id, through.output)) + self._seeds(node_id, through.output) == 1:
            return fraction
        twice = sum(e.target == through.target for e in self.graph.consumers_of(node_id)) > 1
        label = row(self.names[through.target], text(f".{through.argument}")) if twice else self.names[through.target]
        return ["msub", row(fraction, ["mo", {"stretchy": "true"}, "|"]), label]

    def _local(self, edge: GraphEdge) -> MathTree:
        return ["mfrac", row(["mi", "d"], self.names[edge.target]), row(["mi", "d"], self.names[edge.source])]

    def _contributions(self, node_id: str, output: int) -> list[GraphEdge]:
        return [e for e in self.graph.consumers_of(node_id) if e.output == output and e.grad is not None]

    def _seeds(self, node_id: str, output: int) -> int:
        return self.graph.outputs.count(node_id) if output == 0 else 0

    # The steps -------------------------------------------------------------------------------------------------------

    def _step(
        self,
        phase: str,
        kind: str,
        node: str | None,
        edges: list[GraphEdge],
        math: MathTree,
        numbers: MathTree = None,
        local: MathTree = None,
        words: str = "",
        size: MathTree = None,
        named: tuple[str, str] = ("", ""),
        element: list[int] | None = None,
    ) -> dict[str, Any]:
        formula = spoken(math) + (f" {spoken(numbers)}" if numbers else "")
        return {
            "pass": phase,
            "kind": kind,
            "node": node,
            "edges": [self.edge_ids[e.target, e.position] for e in edges],
            "math": math,
            "numbers": numbers,
            "local": local,
            "size": size,
            "text": words or " ".join(formula.split()),
            "pattern": named[0],
            "why": named[1],
            "element": element,
        }

    def _start(self) -> dict[str, Any]:
        known = [n for n in self.graph if n.kind in ("parameter", "input")]
        math = _listed([self._given(n) for n in known]) if known else text("nothing given")
        why = (
            "These numbers are given. Forward, every box computes its value from them; backward, every box says how the result moves "
            "when its inputs do."
            if any(n.grad is not None for n in self.graph)
            else "These numbers are given. Every box computes its value from them."
        )
        return self._step("start", "leaves", None, [], math, words=f"{spoken(math)}. {why}", named=("", why))

    def _forward(self, node: GraphNode) -> dict[str, Any]:
        edges = self.graph.inputs_of(node.id)
        formula = forward_formula(node, edges, self.graph, self.names)
        numbers, element = None, None
        if node.value is not None and node.value.size:
            element = _chosen(node.value)
            numbers = self._forward_numbers(node, edges, element)
        size = self._size(self.names[node.id], node.value)
        return self._step("forward", "operator", node.id, [], formula, numbers, size=size, element=element)

    def _forward_numbers(self, node: GraphNode, edges: tuple[GraphEdge, ...], element: list[int]) -> MathTree:
        assert node.value is not None
        single = node.value.size == 1
        values = {e.argument: _at(self._value(e), element, node.shape) for e in edges}
        with_numbers = forward_formula(node, edges, self.graph, None, values) if None not in values.values() else None
        result = tinted(number(float(node.value[tuple(element)])), "value")
        shown = row("=", with_numbers, "=", result) if with_numbers is not None else row("=", result)
        if single:
            return shown
        where = self._element(self.names[node.id], element)
        return row(where, shown)

    def _value(self, edge: GraphEdge) -> np.ndarray | None:
        source = self.graph[edge.source]
        return source.values[edge.output] if len(source.values) > edge.output else source.value if edge.output == 0 else None

    def _element(self, symbol: MathTree, element: list[int]) -> MathTree:
        return ["msub", symbol, row(text("["), text(", ".join(map(str, element))), text("]"))]

    def _size(self, symbol: MathTree, array: np.ndarray | None) -> MathTree | None:
        """Shape and norm of an array that is more than one number."""
        if array is None or array.size <= 1:
            return None
        return row(
            text(f"shape {' × '.join(map(str, array.shape))},\u00a0\u00a0"),
            ["mo", "‖"],
            symbol,
            ["mo", "‖"],
            "=",
            number(norm(array)),
        )

    def _seed(self, node: GraphNode) -> dict[str, Any]:
        symbol = self.names[node.id]
        fraction = self._derivative(node.id)
        single = node.value is None or node.value.size == 1
        several = len(set(self.graph.outputs)) > 1
        if single and not several:
            why = f"Backward starts at the result: {self.loss} is {spoken(symbol)} itself, and moves exactly as it does."
        else:
            what = "the sum of all results" if several else f"the sum of the elements of {spoken(symbol)}"
            why = f"{self.loss} is {what}, so every element of {spoken(symbol)} starts with the gradient 1."
        count = self._seeds(node.id, 0)
        math = row(fraction, "=", tinted(number(float(count)), "gradient"))
        element = [0] * len(node.shape)
        return self._step(
            "backward", "seed", node.id, [], math, named=("", why), element=element, words=f"{spoken(math)}. {why}"
        )

    def _backward(self) -> list[dict[str, Any]]:
        steps = []
        seen: dict[tuple[str, int], int] = {}
        for node in reversed(self.graph.nodes):
            if node.kind != "operator":
                continue
            for edge in self.graph.inputs_of(node.id):
                if edge.grad is None:
                    continue
                steps.append(self._edge(node, edge))
                key = edge.source, edge.output
                seen[key] = seen.get(key, self._seeds(*key)) + 1
                expected = len(self._contributions(*key)) + self._seeds(*key)
                if expected > 1 and seen[key] == expected:
                    steps.append(self._sum(self.graph[edge.source], edge.output))
        return steps

    def _edge(self, node: GraphNode, edge: GraphEdge) -> dict[str, Any]:
        assert edge.grad is not None
        left = self._derivative(edge.source, edge)
        upstream = self._derivative(node.id)
        element = _chosen(edge.grad) if edge.grad.size else None
        chained = edge.local is not None and node.grad is not None
        if chained:
            same = edge.grad.size == 1 or node.grad is None or node.grad.size == 1
            math = row(left, "=", upstream, TIMES if same else "⊙", self._local(edge))
        else:
            math = row(left, "=", backward_rule(node, edge, self.graph, self.names, upstream))
        local = None
        if edge.local is not None:
            formula = local_formula(node, edge, self.graph, self.names)
            value = number(float(edge.local[tuple(element or [])])) if edge.local.size == 1 else None
            pieces = [self._local(edge), *(["=", formula] if formula is not None else []), *(["=", value] if value else [])]
            local = row(*pieces) if len(pieces) > 1 else None
            if local is not None and value is not None and formula is not None and spoken(formula) == spoken(value):
                local = row(self._local(edge), "=", value)
        numbers = self._edge_numbers(node, edge, element, chained) if element is not None else None
        size = self._size(left, edge.grad)
        return self._step(
            "backward",
            "edge",
            node.id,
            [edge],
            math,
            numbers,
            local,
            size=size,
            named=pattern(node.op, edge.argument),
            element=element,
        )

    def _edge_numbers(self, node: GraphNode, edge: GraphEdge, element: list[int], chained: bool) -> MathTree:
        assert edge.grad is not None
        result = tinted(number(float(edge.grad[tuple(element)])), "gradient")
        if chained and node.grad is not None and edge.local is not None:
            upstream = float(node.grad.reshape(-1)[0]) if node.grad.size == 1 else float(node.grad[tuple(element)])
            product = row(
                "=", tinted(factor(upstream), "gradient"), TIMES, factor(float(edge.local[tuple(element)])), "=", result
            )
        else:
            product = row("=", result)
        if edge.grad.size == 1:
            return product
        where = self._element(bracketed(self._derivative(edge.source, edge)), element)
        return row(where, product)

    def _sum(self, node: GraphNode, output: int) -> dict[str, Any]:
        edges = self._contributions(node.id, output)
        seeds = self._seeds(node.id, output)
        total = node.grads[output] if len(node.grads) > output else node.grad
        assert total is not None
        element = _chosen(total)
        terms = [self._derivative(node.id, e) for e in edges]
        values = [float(e.grad[tuple(element)]) for e in edges if e.grad is not None]
        if seeds:
            terms.insert(0, number(float(seeds)))
            values.insert(0, float(seeds))
        math = row(self._derivative(node.id), "=", *_plus(terms))
        added = [tinted(number(v) if i == 0 else factor(v), "gradient") for i, v in enumerate(values)]
        shown = row("=", *_plus(added), "=", tinted(number(float(total[tuple(element)])), "gradient"))
        if total.size > 1:
            shown = row(self._element(bracketed(self._derivative(node.id)), element), shown)
        size = self._size(self._derivative(node.id), total)
        return self._step("backward", "sum", node.id, edges, math, shown, size=size, named=GRADIENTS_ADD, element=element)

    def _given(self, node: GraphNode) -> MathTree:
        """x = -2, or a tensor with its shape."""
        value = _only(node.value)
        if value is not None:
            return row(self.names[node.id], "=", tinted(number(value), "value"))
        return row(self.names[node.id], text(f"\u00a0: {' × '.join(map(str, node.shape))}"))

    def _found(self, node: GraphNode) -> MathTree:
        """dL/dx = -4, or the norm of a tensor's gradient."""
        value = _only(node.grad)
        derivative = self._derivative(node.id)
        if value is not None or node.grad is None:
            return row(derivative, "=", tinted(number(value or 0.0), "gradient"))
        return row(["mo", "‖"], derivative, ["mo", "‖"], "=", tinted(number(norm(node.grad)), "gradient"))

    def _end(self) -> dict[str, Any]:
        leaves = [n for n in self.graph if n.kind == "parameter" and n.grad is not None]
        math = _listed([self._found(n) for n in leaves]) if leaves else text("no leaf takes a gradient")
        why = self._meaning_of([n.grad for n in leaves if n.grad is not None])
        return self._step("end", "end", None, [], math, words=f"Done. {spoken(math)}. {why}".strip(), named=("", why))

    def _meaning_of(self, gradients: list[np.ndarray]) -> str:
        """What the gradients of the leaves say about a step against them."""
        results = [self.graph[output].value for output in self.graph.outputs]
        if not gradients:
            return ""
        if not all(np.isfinite(g).all() for g in gradients):
            return "A gradient is not finite (NaN or infinite): a step along it is meaningless."
        if not any(np.any(g) for g in gradients):
            return "Every gradient is 0: a small step of a leaf changes nothing."
        if not all(np.isfinite(value).all() for value in results if value is not None):
            return f"{self.loss} is not finite (NaN or infinite): no small step mends that."
        return f"A small step of a leaf against its gradient makes {self.loss} smaller."


def _plus(terms: list[MathTree]) -> list[MathTree]:
    shown: list[MathTree] = []
    for i, term in enumerate(terms[:_MOST_TERMS]):
        shown += ["+", term] if i else [term]
    return [*shown, "+", ["mo", "…"]] if len(terms) > _MOST_TERMS else shown


def _listed(parts: list[MathTree]) -> MathTree:
    """Equations three to a line, the first ones of many."""
    shown = [*parts[:_MOST_LEAVES], text("…")] if len(parts) > _MOST_LEAVES else parts
    rows = [["mtr", *(["mtd", part] for part in shown[i : i + 3])] for i in range(0, len(shown), 3)]
    return ["mtable", {"columnalign": "left"}, *rows]


def _only(array: np.ndarray | None) -> float | None:
    """The one number of an array, None where there are more or none."""
    return float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None


def _at(array: np.ndarray | None, element: list[int], shape: tuple[int, ...]) -> float | None:
    """The element of `array`, broadcast to `shape`, at `element`; None where there is none."""
    if array is None:
        return None
    try:
        return float(np.broadcast_to(array, shape)[tuple(element)])
    except (ValueError, IndexError):
        return None


def _chosen(array: np.ndarray) -> list[int]:
    """The element that formulas show: the largest in size, or a NaN, among the first elements along every axis."""
    part = np.abs(array[tuple(slice(0, n) for n in leading_block(array.shape, 256))].astype(np.float64))
    part = np.where(np.isnan(part), np.inf, part)
    return [int(i) for i in np.unravel_index(int(part.argmax()), part.shape)]


__all__ = ["Play"]
