"""What a graph costs: floating-point operations, bytes moved, bytes of results and bytes kept for backward, node by node.

    graph = tg.graph.record(model, images)
    sum(cost.flops for cost in tg.costs.of_graph(graph).values())

Counted from shapes, before anything is timed. An FMA counts as two operations. Bytes: every input is read and every output
written once; views move nothing. An operator may declare its own `cost`; the others are in `tinygrad_cv.ops.costs`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .graph import Graph, GraphNode
from .registry import Operator, find

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Cost:
    """flops: floating-point operations. bytes: read and written. result: bytes of the outputs. saved: bytes kept for backward.

    Parameters are not counted as saved: they are there anyway. What several operators keep is counted at the first.
    """

    flops: float = 0.0
    bytes: float = 0.0
    result: int = 0
    saved: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.flops + other.flops, self.bytes + other.bytes, self.result + other.result, self.saved + other.saved)


def work(
    operator: Operator | None,
    inputs: Sequence[Shape | None],
    outputs: Sequence[Shape],
    attributes: Sequence[Any],
    itemsizes: Sequence[int],
    outsizes: Sequence[int],
) -> tuple[float, float]:
    """(FLOPs, bytes) of one call: shapes of its tensors (None: absent) and of its outputs, and the bytes of an element of each."""
    from .ops.costs import flops  # type: ignore[import-not-found]

    if operator is not None and operator.view:
        return 0.0, 0.0
    moved = sum(math.prod(s) * size for s, size in zip(inputs, itemsizes, strict=True) if s is not None)
    moved += sum(math.prod(s) * size for s, size in zip(outputs, outsizes, strict=True))
    if operator is None:
        return 0.0, float(moved)
    if operator.cost is not None:
        given = (list(inputs),) if operator.variadic else tuple(inputs)
        declared, declared_bytes = operator.bind(operator.cost, given, tuple(attributes))
        return float(declared), declared_bytes * (outsizes[0] / 4 if outsizes else 1)
    family = operator.declaration.__module__.rpartition(".")[2]
    named = dict(zip(operator.attr_params, attributes, strict=True))
    return float(flops(operator.name, family, inputs, outputs, named)), float(moved)


def of_node(graph: Graph, node: GraphNode) -> Cost:
    """The cost of one node; of a leaf its bytes, as `result`.

    ValueError for a graph that does not keep the settings of its operators, as that of a compiled plan.
    """
    sizes = [np.dtype(d).itemsize for d in node.dtypes] if node.kind != "number" else [0]
    result = sum(math.prod(s) * size for s, size in zip(node.shapes, sizes, strict=True))
    if node.kind != "operator":
        return Cost(result=result)
    operator = find(node.op)
    edges = graph.inputs_of(node.id)
    count = max((e.position for e in edges), default=-1) + 1
    if operator is not None and not operator.variadic:
        count = len(operator.tensor_params)
    inputs: list[Shape | None] = [None] * count
    itemsizes = [0] * count
    for edge in edges:
        inputs[edge.position] = edge.shape
        itemsizes[edge.position] = 0 if graph[edge.source].kind == "number" else np.dtype(edge.dtype).itemsize
    names = operator.attr_params if operator is not None else ()
    unknown = [name for name in names if name not in node.attributes]
    if unknown:
        raise ValueError(
            f"costs: this graph does not say which {', '.join(unknown)} its {node.op} has, as that of a compiled plan does not; "
            "count on the graph of the model or tensor itself"
        )
    attributes = [node.attributes[name] for name in names]
    done, moved = work(operator, inputs, node.shapes, attributes, itemsizes, sizes)
    view = operator is not None and operator.view
    return Cost(done, moved, 0 if view else result)


def of_graph(graph: Graph) -> dict[str, Cost]:
    """The cost of every node, by id."""
    kept: set[tuple[str, int]] = set()
    found = {}
    for node in graph:
        cost = of_node(graph, node)
        found[node.id] = Cost(cost.flops, cost.bytes, cost.result, sum(_saved(graph, node, kept)))
    return found


def _saved(graph: Graph, node: GraphNode, kept: set[tuple[str, int]]) -> list[int]:
    """Bytes of what the node is the first to keep."""
    operator = find(node.op)
    outputs = operator.outputs if operator is not None else ()
    wanted = set(node.saved)
    values = [(node.id, k, node.shapes[k], node.dtypes[k]) for k, name in enumerate(outputs) if name in wanted]
    for edge in graph.inputs_of(node.id):
        if edge.argument.partition("[")[0] in wanted and graph[edge.source].kind not in ("number", "parameter"):
            values.append((edge.source, edge.output, edge.shape, edge.dtype))
    sizes = []
    for source, output, shape, dtype in values:
        origin = _origin(graph, source, output)
        if origin not in kept and graph[origin[0]].kind != "parameter":
            kept.add(origin)
            sizes.append(math.prod(shape) * np.dtype(dtype).itemsize)
    return sizes


def _origin(graph: Graph, source: str, output: int) -> tuple[str, int]:
    """The value whose memory this one views."""
    while True:
        node = graph[source]
        operator = find(node.op) if node.kind == "operator" else None
        edges = graph.inputs_of(source)
        if operator is None or not operator.view or not edges:
            return source, output
        source, output = edges[0].source, edges[0].output


__all__ = ["Cost", "of_graph", "of_node", "work"]
