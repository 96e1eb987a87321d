"""The numbers of a graph: values of nodes, gradients of nodes and edges, derivatives of single operators. For `graph` alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ._state import state
from ._tensor import Tensor
from .autograd.node import Constant, Node


def kept_input(node: Node, position: int) -> np.ndarray | None:
    """Input `position` of a node as it was saved for backward, None where it was not."""
    for key, (array, _, _) in zip(node.plan, node.saved, strict=False):
        if key == ("in", position) and isinstance(array, np.ndarray):
            return array
    return None


def computed_values(nodes: Sequence[Node], roots: Sequence[Tensor]) -> dict[Node, tuple[np.ndarray | None, ...]]:
    """Results of the nodes: those a capture kept or `roots` hold, and the others computed again where all they need is known."""
    from .dispatch import make_runner

    known: dict[Node, tuple[np.ndarray | None, ...]] = {}
    results: dict[Node, tuple[np.ndarray | None, ...]] = {}
    for root in roots:
        if root._node is not None:
            known_before = results.get(root._node, (None,) * len(root._node.shapes))
            results[root._node] = tuple(root._data.copy() if i == root._slot else v for i, v in enumerate(known_before))
    for node in nodes:
        if node.values is not None:
            known[node] = node.values
            continue
        arguments: list[Any] = []
        for parent, slot in zip(node.parents, node.slots, strict=True):
            if parent is None or isinstance(parent, (int, float)):
                arguments.append(parent)
            elif isinstance(parent, Node):
                value = known[parent][slot] if parent in known else None
                arguments.append(Ellipsis if value is None else value)
            else:
                tensor = parent.tensor() if isinstance(parent, Constant) and parent.tensor is not None else parent
                kept = kept_input(node, len(arguments)) if tensor is None else None
                arguments.append(tensor._data if isinstance(tensor, Tensor) else Ellipsis if kept is None else kept)
        if any(a is Ellipsis for a in arguments) or node.op.random or not hasattr(node.op, "bind"):
            if node in results:
                known[node] = results[node]
            continue
        out = make_runner(node.op)(tuple(arguments), node.attrs)
        known[node] = tuple(np.asarray(o) for o in out) if type(out) is tuple else (np.asarray(out),)
    return known


def gradients_of(roots: Sequence[Tensor]) -> tuple[dict[Any, list[np.ndarray | None]], dict[tuple[Node, int], np.ndarray]]:
    """The gradients of every node's outputs and of every leaf, and what every (node, input number) contributes to them."""
    from .autograd import engine
    from .creation import ones_like

    wanted = [r for r in roots if r._requires_grad]
    if not wanted:
        raise RuntimeError("graph: gradients were asked for, but no output requires grad")
    found: dict[Any, list[np.ndarray | None]] = {}
    contributions: dict[tuple[Node, int], np.ndarray] = {}

    def observe(node: Node, slot: int, gradient: Tensor) -> None:
        found.setdefault(node, [None] * len(node.shapes))[slot] = gradient._data.copy()

    def witness(node: Node, gradients: list[Tensor | None]) -> None:
        for i, gradient in enumerate(gradients):
            if gradient is not None:
                contributions[node, i] = gradient._data.copy()

    outer, state.capture = state.capture, None
    try:
        upstreams = [ones_like(r) for r in wanted]
        leaves: Any = engine.run(wanted, upstreams, retain_graph=True, observer=observe, witness=witness)
    finally:
        state.capture = outer
    found.update({id(leaf): [gradient._data.copy()] for leaf, gradient in leaves})
    return found, contributions


def local_derivatives(nodes: Sequence[Node]) -> dict[tuple[Node, int], np.ndarray]:
    """d node / d input by the node's own rule with an upstream of ones, where one array holds it: see `GraphEdge.local`."""
    from ._tensor import wrap
    from .autograd import engine
    from .autograd.modes import no_grad

    found: dict[tuple[Node, int], np.ndarray] = {}
    outer, state.capture = state.capture, None
    try:
        with no_grad(), np.errstate(all="ignore"):
            for node in nodes:
                if not node.wants:  # it ran without recording
                    continue
                single = math.prod(node.shapes[0]) == 1
                needs = [
                    w and (single or (node.op.elementwise and s == node.shapes[0]))
                    for w, s in zip(node.wants, node.input_shapes, strict=True)
                ]
                if node.freed or not any(needs) or len(node.shapes) > 1:
                    continue
                upstream = wrap(np.ones(node.shapes[0], node.dtypes[0]))
                for i, gradient in enumerate(engine.input_gradients(node, [upstream], needs)):
                    if gradient is not None:
                        found[node, i] = gradient._data.copy()
    finally:
        state.capture = outer
    return found


__all__ = ["computed_values", "gradients_of", "kept_input", "local_derivatives"]
