"""Recompute instead of save: memory for the inside of a region is given up after forward and made again in backward.

The region is run once, recorded as ever; then what its nodes saved is dropped. The first time backward needs a saved value of
the region, the function runs again on the same arguments, and what its nodes save is handed to the first run's nodes, in order.
The graph itself is the real one, so closures, parameters, several outputs, hooks and create_graph all work as without it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any

from .._state import state
from .._tensor import Tensor
from ..random import get_rng_state, set_rng_state
from ..replay import replayable
from .modes import enable_grad
from .node import Node, Storage, _sequence


class _Region:
    """One checkpointed call: the function, its arguments, and how to run it once more."""

    def __init__(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        keep_rng: bool,
        contexts: tuple[Any, Any],
        compare: bool,
        debug: bool,
    ) -> None:
        self.function, self.args, self.kwargs = function, args, kwargs
        self.contexts, self.compare = contexts, compare
        self.first: list[str] | None = [] if debug else None  # the operators of the first run, for the message
        self.dice = _Dice() if keep_rng else None
        if self.dice is not None:
            _remember(self.dice)
        self.scope = state.scope
        self.nodes: list[Any] = []
        self.pinned: list[tuple[Storage, int, tuple[int, ...]]] = []

    def run(self, context: Any) -> tuple[Any, list[Node]]:
        """The result, and the nodes made on the way to it, oldest first."""
        start = next(_sequence)
        with context:
            result = self.function(*self.args, **self.kwargs)
        return result, _nodes_since(start, _tensors(result))

    def forget(self, nodes: list[Node]) -> None:
        """Drops what `nodes` saved, and protects the arguments instead."""

        for t in _tensors((*self.args, *self.kwargs.values())):
            if t._storage is None:
                t._storage = Storage()
            t._storage.savers[id(self)] = "checkpoint"
            self.pinned.append((t._storage, t._storage.version, t.shape))
        for position, node in enumerate(nodes):
            for _, storage, _ in node.saved:
                if storage is not None:
                    storage.savers.pop(id(node), None)
            node.saved = _Deferred(self, position)  # type: ignore[assignment]
            node.__class__ = _kind(type(node))  # the node is finished; only how it answers for `saved` changes
            self.nodes.append(weakref.ref(node))
            if self.first is not None:
                self.first.append(_description(node))

    def restore(self) -> None:
        """Runs the function again and gives its saved values to the nodes of the first run that still need theirs."""
        for storage, version, shape in self.pinned:
            if storage.version != version:
                raise RuntimeError(f"checkpoint: an argument of shape {shape} was changed in place after forward; pass a clone")
        outer = state.capture, state.scope, state.anomaly, state.inference
        capture = state.capture
        state.capture = None if capture is None else capture.recomputing(True)
        state.scope, state.inference = self.scope, False
        if self.dice is not None:
            _rewind(self.dice)
        try:
            with enable_grad():
                _, fresh = self.run(self.contexts[1])
        finally:
            if self.dice is not None:
                _resume(self.dice)
            if capture is not None:
                capture.recomputing(False)
            state.capture, state.scope, state.anomaly, state.inference = outer
        waiting = [r() for r in self.nodes]
        pairs = [(n, f) for n, f in zip(waiting, fresh, strict=False) if n is not None]
        trace = (
            "" if self.first is None else f"\nforward: {', '.join(self.first)}\nagain: {', '.join(map(_description, fresh))}"
        )
        if len(fresh) != len(waiting) or any(n.op.name != f.op.name for n, f in pairs):
            raise RuntimeError(
                f"checkpoint: recomputing gave {len(fresh)} operators ({', '.join(f.op.name for f in fresh[:8])} ...) where "
                f"forward had {len(waiting)}; the function must do the same both times (random choices, global state){trace}"
            )
        for n, f in pairs if self.compare else ():
            if n.shapes != f.shapes or n.dtypes != f.dtypes:
                raise RuntimeError(
                    f"checkpoint: recomputing gave {_description(f)} where forward had {_description(n)}; the function must do the same "
                    f"both times (random choices, global state){trace}"
                )
        for node, again in zip(waiting, fresh, strict=True):
            if node is None or not node.deferred():
                continue
            for _, kept, _ in again.saved:
                if kept is not None:
                    kept.savers[id(node)] = node.op.name
            node.plan = again.plan
            node.saved = again.saved

    def __del__(self) -> None:
        for storage, _, _ in self.pinned:
            storage.savers.pop(id(self), None)


class _Dice:
    """The state of the random numbers at the start of a region, and where they were when it was run again."""

    before: Any = None
    now: Any = None

    def __eq__(self, other: object) -> bool:  # of two recordings of a call: at the same place, they do the same
        return isinstance(other, _Dice)

    __hash__ = None  # type: ignore[assignment]


@replayable
def _remember(dice: _Dice) -> None:
    dice.before = get_rng_state()


@replayable
def _rewind(dice: _Dice) -> None:
    dice.now = get_rng_state()
    set_rng_state(dice.before)


@replayable
def _resume(dice: _Dice) -> None:
    set_rng_state(dice.now)


def _description(node: Node) -> str:
    return " ".join([node.op.name, *(f"{tuple(s)} {d}" for s, d in zip(node.shapes, node.dtypes, strict=True))])


class _Deferred:
    """In the place of a node's saved values: where to get them again."""

    __slots__ = ("position", "region")

    def __init__(self, region: _Region, position: int) -> None:
        self.region, self.position = region, position


class _CheckpointedNode(Node):
    """A node of the first run: asking for its saved values runs the region again."""

    @property
    def saved(self) -> Any:  # type: ignore[override]
        """What backward needs, computed again if it is not there."""
        value = self.__dict__["saved"]
        if isinstance(value, _Deferred):
            value.region.restore()
            value = self.__dict__["saved"]
        return value

    @saved.setter
    def saved(self, value: Any) -> None:
        self.__dict__["saved"] = value

    def deferred(self) -> bool:
        """Whether the saved values are still to be computed."""
        return isinstance(self.__dict__["saved"], _Deferred)

    def release(self) -> None:
        """Drops what was saved, or the promise to compute it."""
        if self.deferred():
            self.saved = ()
        super().release()

    def __del__(self) -> None:
        if self.deferred():
            self.saved = ()
        super().__del__()


_kinds: dict[type[Node], type[Node]] = {Node: _CheckpointedNode}


def _kind(base: type[Node]) -> type[Node]:
    """The checkpointed form of a class of nodes (that of Function has its own `release`)."""
    if base not in _kinds:
        _kinds[base] = (
            base if issubclass(base, _CheckpointedNode) else type(f"Checkpointed{base.__name__}", (_CheckpointedNode, base), {})
        )
    return _kinds[base]


def _tensors(value: Any) -> list[Tensor]:
    """The tensors in a value or in tuples, lists and dicts of values."""
    found: list[Tensor] = []
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, Tensor):
            found.append(item)
        elif isinstance(item, (tuple, list)):
            stack.extend(item)
        elif isinstance(item, dict):
            stack.extend(item.values())
    return found


def _nodes_since(start: int, outputs: Iterable[Tensor]) -> list[Node]:
    """The nodes younger than `start` that lead to the outputs and want gradients, oldest first."""
    seen = {t._node for t in outputs if t._node is not None and t._node.id > start and t._node.requires_grad}
    stack = list(seen)
    while stack:
        for parent in stack.pop().parents:
            if isinstance(parent, Node) and parent.id > start and parent.requires_grad and parent not in seen:
                seen.add(parent)
                stack.append(parent)
    return sorted(seen, key=lambda node: node.id)


def checkpoint(
    function: Callable[..., Any],
    *args: Any,
    use_reentrant: bool | None = None,
    preserve_rng_state: bool = True,
    context_fn: Callable[[], tuple[Any, Any]] | None = None,
    determinism_check: str = "default",
    debug: bool = False,
    early_stop: bool = True,
    **kwargs: Any,
) -> Any:
    """function(*args, **kwargs), keeping none of the values its backward needs: they are computed again when it comes.

    Results and gradients are the same as without; memory falls by what the function would have saved, time rises by one more
    forward. preserve_rng_state: random numbers (dropout) come out the same the second time. use_reentrant is accepted for
    PyTorch's sake; recomputation always works as PyTorch's `use_reentrant=False`. context_fn: returns two context managers, for
    the first run and for the second. determinism_check: "default" compares the shapes and dtypes of the second run with the
    first, "none" does not (the operators must be the same in any case). debug: the message of a run that differs lists the
    operators of both. early_stop: accepted; the second run always goes to the end. Other keywords go to the function.

    Raises RuntimeError in backward if the function does not repeat what it did, or an argument was changed in place; ValueError
    for another determinism_check.
    """
    if determinism_check not in ("default", "none"):
        raise ValueError(f"checkpoint: determinism_check must be 'default' or 'none', got {determinism_check!r}")
    contexts = (nullcontext(), nullcontext()) if context_fn is None else context_fn()
    if not state.grad_enabled:
        with contexts[0]:
            return function(*args, **kwargs)
    region = _Region(function, args, kwargs, preserve_rng_state, contexts, determinism_check == "default", debug)
    result, nodes = region.run(contexts[0])
    if nodes:
        region.forget(nodes)
    return result


__all__ = ["checkpoint"]
