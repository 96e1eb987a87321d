"""The computation graph as a public thing: a frozen, deterministic snapshot that pictures, compilers and tests read.

    graph = tg.graph.trace(loss, names={"x": x})        # what autograd recorded
    with tg.graph.capture() as recording:               # or everything that runs, recorded for backward or not
        out = model(images)
    graph = recording.graph(out)

Node ids are n0, n1, ... in the order of execution, the same from run to run. Nothing here recurses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np

from ._state import state
from ._tensor import Tensor
from .autograd.node import Constant, Node, reachable, source_line
from .graph_names import Calls, Names, bound_names, variable_names
from .graph_numbers import computed_values, gradients_of, kept_input, local_derivatives


@dataclass(frozen=True)
class GraphNode:
    """One node. kind: "operator", "parameter" (a leaf that requires grad), "input" (a leaf that does not) or "number".

    op: the operator's name ("" for leaves). name: the user's variable or parameter name. scope: dotted module path, with composite
    operators after slashes; calls: for each part of it, how often it had run before in its surroundings (0: this is the first time),
    so that two uses of one module can be told apart. shape, dtype: of the first output (shapes, dtypes: of all).
    source: (file, line, function).
    saved: names of the values kept for backward. value, grad: of the first output, where asked for and known; values, grads: of all.
    """

    id: str
    kind: str
    op: str
    name: str | None
    scope: str
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[str, ...]
    requires_grad: bool
    attributes: dict[str, Any] = field(default_factory=dict)
    formula: str = ""
    source: tuple[str, int, str] | None = None
    saved: tuple[str, ...] = ()
    value: np.ndarray | None = None
    grad: np.ndarray | None = None
    values: tuple[np.ndarray | None, ...] = ()
    grads: tuple[np.ndarray | None, ...] = ()
    calls: tuple[int, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the first output."""
        return self.shapes[0]

    @property
    def dtype(self) -> str:
        """Dtype of the first output."""
        return self.dtypes[0]


@dataclass(frozen=True)
class GraphEdge:
    """A value flowing from node `source` (its output number `output`) into argument `position`, called `argument`, of `target`.

    grad: what this one use contributes to the gradient of its source, where gradients were asked for; those of all uses of an output
    (and, for an output of the graph, the ones that backward starts from) sum to its `grad`.
    flows: whether a gradient flows back along it.
    local: d target / d argument, where `local` was asked for and one array holds it: for operators that work element by element
    on an argument of the shape of their result, grad = (grad of target) * local; for results of one element, too.
    """

    source: str
    target: str
    position: int
    argument: str
    output: int
    shape: tuple[int, ...]
    dtype: str
    grad: np.ndarray | None = None
    local: np.ndarray | None = None
    flows: bool = False


class Graph:
    """Nodes in order of execution, edges in order of their arguments, and the ids of the outputs."""

    def __init__(self, nodes: Sequence[GraphNode], edges: Sequence[GraphEdge], outputs: Sequence[str]) -> None:
        self.nodes = tuple(nodes)
        self.edges = tuple(edges)
        self.outputs = tuple(outputs)
        self._by_id = {n.id: n for n in self.nodes}
        self._into: dict[str, list[GraphEdge]] = {n.id: [] for n in self.nodes}
        self._out_of: dict[str, list[GraphEdge]] = {n.id: [] for n in self.nodes}
        for edge in self.edges:
            self._into[edge.target].append(edge)
            self._out_of[edge.source].append(edge)

    def __getitem__(self, node_id: str) -> GraphNode:
        return self._by_id[node_id]

    def __iter__(self) -> Iterator[GraphNode]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    def inputs_of(self, node_id: str) -> tuple[GraphEdge, ...]:
        """Edges into a node, by argument position."""
        return tuple(self._into[node_id])

    def consumers_of(self, node_id: str) -> tuple[GraphEdge, ...]:
        """Edges out of a node, in order of execution of their targets."""
        return tuple(self._out_of[node_id])

    def find(self, op: str | None = None, name: str | None = None, scope: str | None = None) -> list[GraphNode]:
        """The nodes with this operator, name, or scope (or inside it)."""
        return [
            n
            for n in self.nodes
            if (op is None or n.op == op)
            and (name is None or n.name == name)
            and (scope is None or n.scope == scope or n.scope.startswith((scope + ".", scope + "/")))
        ]

    def __repr__(self) -> str:
        operators = sum(n.kind == "operator" for n in self.nodes)
        return f"<Graph: {operators} operators, {len(self.nodes) - operators} leaves, {len(self.edges)} edges>"


class Capture:
    """Everything that ran inside `capture()`: the nodes in order, with their values if asked for."""

    keeps_leaves = True  # nodes hold the tensors they start from, so that pictures can name and show them

    def __init__(self, values: bool = True) -> None:
        self.keep_values = values
        self.nodes: list[Node] = []

    def add(self, node: Node, outputs: Sequence[Tensor]) -> None:
        """Called by dispatch for every operator."""
        if self.keep_values:
            node.values = tuple(o._data.copy() for o in outputs)
        self.nodes.append(node)

    # What happens beside operators. A recording for pictures needs none of it; one that is to be run again (see `compiler`) does.

    def call(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Called for a `replay.replayable` function, which it must run: work that no operator records."""
        return function(*args, **kwargs)

    def made(self, tensor: Tensor) -> None:
        """Called for a tensor that was made from numbers: zeros, ones, tensor([1.0, 2.0])."""

    def wrote(self, target: Tensor, result: Tensor) -> None:
        """Called after the values of `result` were written into `target`, before `target` takes its place in the graph."""

    def gradient(self, leaf: Tensor, value: Tensor | None) -> None:
        """Called before `leaf.grad = value`."""

    def left(self, tensor: Tensor | None, how: str) -> None:
        """Called when values leave the graph, `how` they do: for Python, NumPy or memory that nothing records."""

    def item(self, tensor: Tensor, number: Any) -> Any:
        """Called for `tensor.item()`, which is `number`; what it returns is what the caller gets."""
        return number

    def recomputing(self, begins: bool) -> Capture | None:
        """Called when a checkpointed region is run again, and when that is done; returns what records it meanwhile."""
        return None

    def graph(
        self,
        outputs: Any,
        *,
        names: Mapping[str, Tensor] | None = None,
        module: Any = None,
        grads: bool = False,
        local: bool = False,
    ) -> Graph:
        """The part of the recording that `outputs` (a Tensor or several) were computed by."""
        return trace(outputs, names=names, module=module, values=self.keep_values, grads=grads, local=local)


class capture:
    """`with capture() as recording:` records every operator of this thread, whether or not gradients are wanted.

    values: keep a copy of every result. The state before comes back at the end, also after an exception.
    """

    def __init__(self, values: bool = True) -> None:
        self.recording = Capture(values)

    def __enter__(self) -> Capture:
        self._outer = state.capture
        state.capture = self.recording
        return self.recording

    def __exit__(self, *_: object) -> None:
        state.capture = self._outer


def record(function: Callable[..., Any], *inputs: Any, names: Mapping[str, Tensor] | None = None, **options: Any) -> Graph:
    """The graph of `function(*inputs)`, a function or module, with values. Unnamed inputs get the names of its parameters."""
    known = bound_names(function, inputs, names)
    module = function if hasattr(function, "named_parameters") else None
    with capture() as recording:
        outputs = function(*inputs)
    return recording.graph(outputs, names=known, module=module, **options)


def _tensors(outputs: Any) -> list[Tensor]:
    if isinstance(outputs, Tensor):
        return [outputs]
    if isinstance(outputs, (tuple, list)):
        return [t for o in outputs for t in _tensors(o)]
    if isinstance(outputs, dict):
        return [t for o in outputs.values() for t in _tensors(o)]
    raise TypeError(f"graph: expected Tensors as outputs, got {type(outputs).__name__}")


def _key(parent: Any) -> Any:
    return parent if isinstance(parent, (Node, Constant)) else id(parent)


def trace(
    outputs: Any,
    *,
    names: Mapping[str, Tensor] | None = None,
    module: Any = None,
    values: bool = False,
    grads: bool = False,
    local: bool = False,
) -> Graph:
    """The graph that `outputs` (a Tensor or several) were computed by, as far as it was recorded.

    names: variables by name. module: its parameters are named as in named_parameters(). values: results of operators, kept or
    computed again from the leaves. grads: d(sum of outputs)/d(node) of every node, and what every edge contributes to it; local:
    derivatives of every operator alone, see `GraphEdge`. RuntimeError if backward freed the graph.
    """
    roots = _tensors(outputs)
    for root in roots:
        if root._base is not None:
            root._refresh_view()
    nodes = reachable(r._node for r in roots if r._node is not None)
    given = Names(names or {}, module)
    gradients, contributions = gradients_of(roots) if grads else ({}, {})
    derivatives = local_derivatives(nodes) if local else {}
    results = computed_values(nodes, roots) if values else {}

    calls, line_of, dtype_name = Calls(), cache(source_line), cache(str)
    ids: dict[Any, str] = {}
    graph_nodes: list[GraphNode] = []
    edges: list[GraphEdge] = []

    def add_leaf(parent: Any, argument: str, scope: str, kept: np.ndarray | None = None) -> str:
        key = _key(parent) if not isinstance(parent, (int, float)) else None
        if key is None or key not in ids:
            leaf = _leaf(f"n{len(graph_nodes)}", parent, given, argument, scope, values, kept)
            gradient = gradients.get(key)
            graph_nodes.append(leaf if gradient is None else replace(leaf, grad=gradient[0], grads=tuple(gradient)))
            if key is None:
                return leaf.id
            ids[key] = leaf.id
        return ids[key]

    for node in nodes:
        arguments = [
            f"{node.op.variadic}[{i}]" if node.op.variadic else node.op.tensor_params[i] for i in range(len(node.parents))
        ]
        sources = [
            None if p is None else ids[p] if isinstance(p, Node) else add_leaf(p, a, node.scope, kept_input(node, i))
            for i, (p, a) in enumerate(zip(node.parents, arguments, strict=True))
        ]
        node_id = ids[node] = f"n{len(graph_nodes)}"
        computed, gradient = results.get(node, ()), gradients.get(node, ())
        graph_nodes.append(
            GraphNode(
                id=node_id,
                kind="operator",
                op=node.op.name,
                name=given.of_node(node),
                scope=node.scope,
                shapes=node.shapes,
                dtypes=tuple([dtype_name(d) for d in node.dtypes]),
                requires_grad=node.requires_grad,
                attributes=dict(zip(node.op.attr_params, node.attrs, strict=True)),
                formula=node.op.formula,
                source=None if node.source is None else line_of(*node.source),
                saved=tuple(_saved_name(node, entry) for entry in node.plan) if node.saved else (),
                value=computed[0] if computed else None,
                grad=gradient[0] if gradient else None,
                values=computed,
                grads=tuple(gradient),
                calls=calls.of(node.scope),
            )
        )
        for i, (source, argument) in enumerate(zip(sources, arguments, strict=True)):
            if source is not None:
                origin = graph_nodes[int(source[1:])]
                slot = node.slots[i]
                edges.append(
                    GraphEdge(
                        source,
                        node_id,
                        i,
                        argument,
                        slot,
                        origin.shapes[slot],
                        origin.dtypes[slot],
                        contributions.get((node, i)),
                        derivatives.get((node, i)),
                        bool(node.wants) and node.wants[i],
                    )
                )
    finals = [ids[r._node] if r._node is not None else add_leaf(r, "output", "") for r in roots]
    return Graph(graph_nodes, edges, finals)


def _saved_name(node: Node, entry: tuple[str, int]) -> str:
    kind, position = entry
    return node.op.outputs[position] if kind == "out" else node.op.variadic or node.op.tensor_params[position]


def _leaf(
    node_id: str, parent: Any, given: Names, argument: str, scope: str, values: bool, kept: np.ndarray | None
) -> GraphNode:
    if isinstance(parent, (int, float)):
        return GraphNode(
            node_id, "number", "", repr(parent), scope, ((),), (type(parent).__name__,), False, value=np.asarray(parent)
        )
    tensor = parent
    if isinstance(parent, Constant):
        tensor = parent.tensor() if parent.tensor is not None else None
        if tensor is None:
            return GraphNode(
                node_id,
                "input",
                "",
                parent.name or None,
                scope,
                (parent.shape,),
                (str(parent.dtype),),
                False,
                value=kept.copy() if values and kept is not None else None,
            )
    kind = "parameter" if tensor._requires_grad else "input"
    return GraphNode(
        node_id,
        kind,
        "",
        given.of_leaf(tensor, scope),
        scope if type(tensor) is not Tensor or id(tensor) in given.buffers else "",
        (tensor.shape,),
        (str(tensor.dtype),),
        tensor._requires_grad,
        value=tensor._data.copy() if values else None,
    )


__all__ = ["Capture", "Graph", "GraphEdge", "GraphNode", "bound_names", "capture", "record", "trace", "variable_names"]
