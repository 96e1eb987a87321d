"""Reverse-mode differentiation: one loop over the nodes, youngest first.

Every node is younger than its inputs, so descending age is a topological order and the traversal needs neither recursion nor
dependency counts. Gradients are popped as they are used, saved values are freed as they are passed, and leaves are written
only once the whole pass has succeeded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from .._state import state
from .._tensor import Tensor, wrap
from ..kernels.fusion import run_rule
from ..kernels.memory import owns_memory
from .node import Node, describe_source, reachable

Observer = Callable[[Node, int, Tensor], None]  # (node, output slot, its complete gradient)
Witness = Callable[[Node, list[Tensor | None]], None]  # (node, what it contributes to the gradient of each of its inputs)


def unpack(node: Node, index: int) -> Any:
    """The saved value at `index` of the node's plan as a Tensor, attached to the graph while gradients are recorded."""
    array, storage, version = node.saved[index]
    if not isinstance(array, np.ndarray):
        return array
    kind, position = node.plan[index]
    op = node.op
    if storage is not None and storage.version != version:
        which = op.outputs[position] if kind == "out" else op.variadic or op.tensor_params[position]
        raise RuntimeError(
            f"{op.name}: its saved `{which}` ({array.dtype}, shape {array.shape}) was changed by an in-place write (version "
            f"{version} when saved, {storage.version} now); write after backward, or give {op.name} a clone{describe_source(node)}"
        )
    tensor = wrap(array)
    if state.grad_enabled:
        if kind == "out":
            if array.dtype.kind == "f":
                tensor._node, tensor._slot, tensor._requires_grad = node, position, True
        else:
            parent = node.parents[position]
            if isinstance(parent, Node):
                tensor._node, tensor._slot, tensor._requires_grad = parent, node.slots[position], parent.requires_grad
            elif isinstance(parent, Tensor):
                return parent
    tensor._storage = storage
    return tensor


_GETTERS = {
    "upstream": "upstreams[0] if upstreams[0] is not None else next(u for u in upstreams if u is not None)",
    "upstreams": "tuple(upstreams)",
    "in": "saved.get(('in', {}))",
    "out": "saved.get(('out', {}))",
    "attr": "node.attrs[{}]",
    "ctx": "node",
    "list": "[saved.get(('in', i)) for i in range(len(node.parents))]",
}


@cache
def _rule_caller(getters: tuple[tuple[str, int], ...]) -> Callable[..., Any]:
    """call(rule, node, upstreams, saved), which gives a rule what it asks for by name. As text, for the price of a plain call."""
    arguments = ", ".join(_GETTERS[kind].format(position) for kind, position in getters)
    scope: dict[str, Any] = {}
    exec(compile(f"def call(rule, node, upstreams, saved):\n    return rule({arguments})", "<tinygrad_cv rule>", "exec"), scope)
    call: Callable[..., Any] = scope["call"]
    return call


def input_gradients(node: Node, upstreams: list[Tensor | None], needs: Sequence[bool]) -> list[Tensor | None]:
    """Runs a node's backward rules for the inputs flagged in `needs`, and checks what they return."""
    op = node.op
    saved = {key: unpack(node, i) for i, key in enumerate(node.plan)}
    gradients: list[Tensor | None] = [None] * len(node.parents)
    if op.joint_rule is not None:
        rule, getters = op.joint_rule
        returned = _rule_caller(getters)(rule, node, upstreams, saved)
        if not isinstance(returned, (tuple, list)):
            returned = (returned,)
        if len(returned) != len(node.parents):
            raise RuntimeError(
                f"{op.name} (from {op.provider}): its backward rule must return one gradient for each of its "
                f"{len(node.parents)} tensor inputs ({', '.join(op.tensor_params)}), got {len(returned)}"
            )
        for i, g in enumerate(returned):
            if needs[i]:
                gradients[i] = g
    else:
        # Where nothing is recorded, the rule of an elementwise operator is one kernel instead of several operators.
        fusible = op.elementwise and not state.grad_enabled and state.capture is None
        for i, (rule, getters) in op.rules.items():
            if needs[i]:
                fused = run_rule(node, i, upstreams[0], saved.get) if fusible else None
                gradients[i] = _rule_caller(getters)(rule, node, upstreams, saved) if fused is None else wrap(fused)
    for i, g in enumerate(gradients):
        if g is not None:
            parent = node.parents[i]
            if isinstance(parent, Node):
                shape, dtype = parent.shapes[node.slots[i]], parent.dtypes[node.slots[i]]
            else:
                shape, dtype = parent.shape, parent.dtype
            data = g._data if isinstance(g, Tensor) else None
            if data is None or data.shape != shape or data.dtype != dtype:
                gradients[i] = _adjusted(node, i, g, shape, dtype)
    return gradients


def _adjusted(node: Node, i: int, gradient: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Tensor:
    """`gradient` with broadcasting undone; RuntimeError where it then is not what input `i` needs."""
    op = node.op
    if not isinstance(gradient, Tensor):
        problem = f"a {type(gradient).__name__}"
    else:
        data = gradient._data
        if data.shape != shape and op.broadcasts:
            gradient = _sum_to(gradient, shape)
            data = gradient._data
        if data.shape == shape and data.dtype == dtype:
            return gradient
        problem = f"shape {data.shape}, {data.dtype}"
    name = op.variadic or op.tensor_params[i]
    raise RuntimeError(
        f"{op.name} (from {op.provider}): its backward rule must return for `{name}` a Tensor of shape {shape}, {dtype}; "
        f"got {problem}{describe_source(node)}"
    )


def _sum_to(gradient: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Undoes broadcasting: sums over the axes that were added or stretched. Never broadcasts up."""
    have = gradient.shape
    extra = len(have) - len(shape)
    if extra < 0 or any(h != s and s != 1 for h, s in zip(have[extra:], shape, strict=True)):
        return gradient
    return gradient.sum_to_size(shape)


def _leads_to(order: list[Node], targets: set[Any]) -> set[Node]:
    """The nodes among `order` from which a target (leaf id, or (node, slot)) can be reached."""
    useful: set[Node] = set()
    for node in reversed(order):
        for parent, slot in zip(node.parents, node.slots, strict=True):
            if isinstance(parent, Node):
                if parent in useful or (parent, slot) in targets:
                    useful.add(node)
                    break
            elif id(parent) in targets:
                useful.add(node)
                break
    return useful


def run(
    outputs: Sequence[Tensor],
    upstreams: Sequence[Tensor],
    *,
    targets: Sequence[Tensor] | None = None,
    retain_graph: bool = False,
    create_graph: bool = False,
    observer: Observer | None = None,
    witness: Witness | None = None,
) -> list[tuple[Tensor, Tensor]] | dict[Any, Tensor]:
    """The gradients of sum(outputs * upstreams).

    Without `targets`: a list of (leaf, gradient). With them: a dict by target key (see `target_key`). `observer` sees every
    (node, output slot, gradient) as it is complete, `witness` every (node, gradients of its inputs) before they are added up.
    """
    grad_before, quiet_before = state.grad_enabled, state.quiet
    state.grad_enabled = create_graph
    state.quiet = True
    try:
        with np.errstate(all="ignore"):
            return _run(outputs, upstreams, targets, retain_graph, observer, witness)
    finally:
        state.grad_enabled, state.quiet = grad_before, quiet_before


def target_key(tensor: Tensor) -> Any:
    """How `run` names a target: a leaf by identity, another tensor by the node output it is."""
    return id(tensor) if tensor._node is None else (tensor._node, tensor._slot)


def _run(
    outputs: Sequence[Tensor],
    upstreams: Sequence[Tensor],
    targets: Sequence[Tensor] | None,
    retain_graph: bool,
    observer: Observer | None,
    witness: Witness | None,
) -> list[tuple[Tensor, Tensor]] | dict[Any, Tensor]:
    anomaly = state.anomaly
    pending: dict[Node, list[Tensor | None]] = {}
    leaves: dict[int, tuple[Tensor, Tensor]] = {}
    owned: set[int] = set()  # ids of gradient tensors that this pass made and nobody else can see

    def add_to_leaf(leaf: Tensor, gradient: Tensor) -> None:
        known = leaves.get(id(leaf))
        leaves[id(leaf)] = (leaf, gradient if known is None else _accumulate(known[1], gradient, owned))

    for output, upstream in zip(outputs, upstreams, strict=True):
        if output._node is None:
            add_to_leaf(output, upstream)
        else:
            buffers = pending.setdefault(output._node, [None] * len(output._node.shapes))
            known = buffers[output._slot]
            buffers[output._slot] = upstream if known is None else _accumulate(known, upstream, owned)

    order = reachable(pending, wanting=True)[::-1]
    wanted = None if targets is None else {target_key(t) for t in targets}
    useful = None if wanted is None else _leads_to(order, wanted)
    for node in order:
        if node.freed and (useful is None or node in useful):
            raise RuntimeError(
                f"{node.op.name}: backward has already passed through this part of the graph and freed it; call the first backward "
                f"with retain_graph=True if you need a second{describe_source(node)}"
            )
    found: dict[Any, Tensor] = {}

    for node in order:
        buffers = pending.pop(node, None)  # type: ignore[arg-type]
        if buffers is None:
            continue
        if wanted is not None or observer is not None or node.hooks is not None or node.retained is not None:
            _finish_buffers(node, buffers, wanted, found, observer)
        if useful is None or node in useful:
            needs: Sequence[bool] = node.wants
            if wanted is not None:
                needs = [
                    n and ((p in useful or (p, s) in wanted) if isinstance(p, Node) else id(p) in wanted)  # type: ignore[operator]
                    for n, p, s in zip(needs, node.parents, node.slots, strict=True)
                ]
            foreign = {id(a) for a, _, _ in node.saved}  # arrays that others hold too
            foreign.update([id(b._data) for b in buffers if b is not None])
            gradients = input_gradients(node, buffers, needs)
            if anomaly:
                _check_finite(node, buffers, gradients)
            if witness is not None:
                witness(node, gradients)
            for parent, slot, gradient in zip(node.parents, node.slots, gradients, strict=True):
                if gradient is None:
                    continue
                data = gradient._data
                if owns_memory(data) and id(data) not in foreign:
                    owned.add(id(gradient))
                    foreign.add(id(data))
                else:
                    owned.discard(id(gradient))
                if isinstance(parent, Node):
                    slots = pending.get(parent)
                    if slots is None:
                        slots = pending[parent] = [None] * len(parent.shapes)
                    known = slots[slot]
                    slots[slot] = gradient if known is None else _accumulate(known, gradient, owned)
                else:
                    add_to_leaf(parent, gradient)
        if not retain_graph:
            node.release()

    for leaf, gradient in list(leaves.values()):
        if leaf._hooks:
            replaced = _run_hooks(leaf._hooks, gradient)
            if replaced is not gradient:  # made by the hook, which may have kept it
                owned.discard(id(replaced))
                leaves[id(leaf)] = (leaf, replaced)
    if wanted is not None:
        found.update({key: g for key, (_, g) in leaves.items() if key in wanted})
        return found
    # A gradient that somebody else may see (the caller's upstream, a saved value) is copied before it becomes `.grad`.
    return [(leaf, g if id(g) in owned or create_graph_active() else g.clone()) for leaf, g in leaves.values()]


def create_graph_active() -> bool:
    """Whether the running backward pass is itself recorded."""
    return state.grad_enabled


def _accumulate(known: Tensor, gradient: Tensor, owned: set[int]) -> Tensor:
    """known + gradient; in place only into a buffer that this pass made itself."""
    if not state.grad_enabled and id(known) in owned and state.capture is None:
        np.add(known._data, gradient._data, out=known._data)
        return known
    total: Tensor = known + gradient  # type: ignore[operator]
    owned.add(id(total))
    return total


def _run_hooks(hooks: dict[int, Callable[[Tensor], Tensor | None]], gradient: Tensor) -> Tensor:
    for hook in list(hooks.values()):
        replaced = hook(gradient)
        if replaced is not None:
            if not isinstance(replaced, Tensor) or replaced.shape != gradient.shape:
                raise RuntimeError(f"a gradient hook must return None or a Tensor of shape {gradient.shape}, got {replaced!r}")
            gradient = replaced
    return gradient


def _finish_buffers(
    node: Node, buffers: list[Tensor | None], wanted: set[Any] | None, found: dict[Any, Tensor], observer: Observer | None
) -> None:
    """The gradients of a node's outputs are complete: hooks, retained grads, captured targets and the observer see them."""
    for slot, gradient in enumerate(buffers):
        if gradient is None:
            continue
        if node.hooks is not None and slot in node.hooks:
            gradient = buffers[slot] = _run_hooks(node.hooks[slot], gradient)
        if node.retained is not None and wanted is None:
            tensor = node.retained[slot]() if slot in node.retained else None
            if tensor is not None:
                tensor.grad = gradient.clone() if tensor.grad is None else tensor.grad + gradient  # type: ignore
        if wanted is not None and (node, slot) in wanted:
            found[node, slot] = gradient
        if observer is not None:
            observer(node, slot, gradient)


def _check_finite(node: Node, upstreams: list[Tensor | None], gradients: list[Tensor | None]) -> None:
    for i, g in enumerate(gradients):
        if g is not None and np.isnan(g._data).any():
            name = node.op.variadic or node.op.tensor_params[i]
            already = any(u is not None and np.isnan(u._data).any() for u in upstreams)
            raise RuntimeError(
                f"detect_anomaly: backward of {node.op.name} gave NaN for `{name}`"
                f"{' (its upstream gradient already had NaN)' if already else ''}{describe_source(node)}"
            )


__all__ = ["input_gradients", "run", "target_key", "unpack"]
