"""Recording one call: the operators it ran and what it did beside them, as instructions over values.

A Trace is a `graph.Capture`. It knows a tensor by the node that made it or by its array, and so follows values through backward passes,
in-place writes and optimizer steps. What it cannot follow it names (`Trace.problem`); the call itself runs as ever.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from .._state import state
from .._tensor import Tensor, wrap
from ..autograd.node import Constant, Node, source_line, source_location
from ..dispatch import user_frame
from ..graph import Capture
from .values import Instruction, Item, Value, map_structure, tensors_in


class Number(float):
    """What `.item()` gives while a call is recorded: it may be returned, and says when it is used for anything else."""

    trace: Any = None
    value: Any = None

    def __reduce__(self) -> Any:
        return float, (float(self),)


def _watched(name: str) -> Callable[..., Any]:
    plain = getattr(float, name)

    def method(self: Number, *args: Any) -> Any:
        if self.trace is not None and state.capture is self.trace:
            self.trace.give_up("a number from .item() decides or computes something in Python")
        return plain(self, *args)

    return method


for _name in (
    "__add__", "__radd__", "__sub__", "__rsub__", "__mul__", "__rmul__", "__truediv__", "__rtruediv__", "__floordiv__", "__mod__",
    "__pow__", "__rpow__", "__neg__", "__abs__", "__lt__", "__le__", "__gt__", "__ge__", "__eq__", "__ne__", "__bool__", "__int__",
    "__round__", "__format__", "__repr__", "__str__", "__hash__", "__float__",
):  # fmt: skip
    setattr(Number, _name, _watched(_name))


class Trace(Capture):
    """The recording of one call. See `record`."""

    keeps_leaves = False

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__(values=False)
        self.values: list[Value] = []
        self.instructions: list[Instruction] = []
        self.problem: str | None = None
        self.inputs = [self._new("input", t._data, t, i) for i, t in enumerate(inputs)]
        self.arguments = len(self.inputs)
        self._arrays: dict[int, Value] = {}
        self._outputs: dict[Node, tuple[Value, ...]] = {}
        self._given: dict[tuple[Node, int], Value] = {}
        self._made: list[np.ndarray] = []
        self._viewed: set[int] = set()  # arrays of which a view was taken
        self._results: list[weakref.ref[Tensor]] = []
        self._leaves: dict[int, Tensor] = {}
        self.numbers: list[Number] = []
        self.entry: dict[
            int, tuple[Tensor, bool]
        ] = {}  # leaves whose first assigned gradient depends on there being none before
        self._outside: dict[int, Value] = {}  # what arrays from outside were when last read or written
        for value in self.inputs:
            tensor: Any = value.tensor
            self._arrays.setdefault(id(tensor._data), value)
            self._outside.setdefault(id(tensor._data), value)
            if tensor._node is not None:
                self._given[tensor._node, tensor._slot] = value
            elif tensor._requires_grad:
                self._leaves[id(tensor)] = tensor

    # What is told ----------------------------------------------------------------------------------------------------

    def give_up(self, reason: str) -> None:
        """Notes why this call cannot become a program; the first reason stands."""
        if self.problem is None:
            self.problem = reason + _place()

    def add(self, node: Node, outputs: Sequence[Tensor]) -> None:
        if self.problem is not None:
            return
        inputs = [self._of_parent(p, s) for p, s in zip(node.parents, node.slots, strict=True)]
        op = node.op
        if any([isinstance(a, Number) for a in node.attrs]):
            self.give_up("a number from .item() is computed with")
        if not hasattr(op, "run"):  # a Function: its operators have been recorded one by one
            known = [self._arrays.get(id(o._data)) for o in outputs]
            if any(v is None for v in known):
                self.give_up(f"{op.name} computes outside of the operators")
                return
            self._outputs[node] = tuple(known)  # type: ignore[arg-type]
            return
        if op.values_shape:
            self.give_up(f"the shape of what {op.name} gives depends on values")
        values = tuple(self._new("computed", o._data) for o in outputs)
        source = source_location(node)
        first = inputs[0] if inputs else None
        shared = isinstance(first, Value) and all([np.may_share_memory(o._data, first.array) for o in outputs])
        view = shared and op.name != "setitem"  # which is recorded as done in place
        self.instructions.append(
            Instruction("op", inputs, values, operator=op, attributes=node.attrs, scope=node.scope, source=source, view=view)
        )
        self._outputs[node] = values
        for tensor, value in zip(outputs, values, strict=True):
            self._arrays[id(tensor._data)] = value
            self._results.append(weakref.ref(tensor))
        if view and isinstance(first, Value):
            self._viewed.add(id(first.array))
            self._viewed.update(id(t._base._data) for t in outputs if t._base is not None)
            self._viewed.update(id(v.array) for v in values)

    def call(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        args, kwargs = map_structure((args, kwargs), lambda v: list(v) if hasattr(v, "__next__") else v)
        arguments = map_structure((args, kwargs), lambda v: self._of_tensor(v) if isinstance(v, Tensor) else v)
        state.capture = None
        try:
            result = function(*args, **kwargs)
        finally:
            state.capture = self
        if self.problem is not None:
            return result
        made: list[Value] = []

        def known(v: Any) -> Any:
            if not isinstance(v, Tensor):
                return v
            value = self._new("computed", v._data)
            self._arrays[id(v._data)] = value
            self._results.append(weakref.ref(v))
            made.append(value)
            return value

        described = map_structure(result, known)
        inputs: list[Value] = []
        map_structure(arguments, lambda v: inputs.append(v) if isinstance(v, Value) else None)
        self.instructions.append(
            Instruction(
                "call",
                inputs,
                made,
                operator=function,
                arguments=arguments,
                result=described,
                scope=state.scope,
                source=_location(),
            )
        )
        # It may have changed what lies outside: from here on that is read anew.
        touched = {id(v.array) for v in inputs} if getattr(function, "local", False) else self._arrays.keys()
        self._arrays = {k: v for k, v in self._arrays.items() if k not in touched or v.kind not in ("state", "gradient")}
        for leaf in self._leaves.values():
            if leaf._grad is not None:
                self._arrays.pop(id(leaf._grad._data), None)
        return result

    def made(self, tensor: Tensor) -> None:
        self._made.append(tensor._data)  # alive, so that nothing else gets its id
        self._arrays[id(tensor._data)] = self._new("constant", tensor._data.copy())  # the tensor may be written to

    def wrote(self, target: Tensor, result: Tensor) -> None:
        if self.problem is not None:
            return
        value = self._of_tensor(result)
        if target._base is not None or id(target._data) in self._viewed:
            self.give_up("it writes in place to a tensor that has views")
            return
        known = self._outside.get(id(target._data)) or self._of_tensor(target)
        if known.kind == "input":
            self.give_up("it writes to one of its arguments")
        elif known.kind in ("state", "gradient"):
            if any([np.may_share_memory(v.array, target._data) for v in self.inputs]):
                self.give_up("it writes to memory of one of its arguments")
            self.instructions.append(Instruction("store", (known, value), source=_location()))
            after = self._new(known.kind, target._data, known.tensor)
            self._arrays[id(target._data)] = self._outside[id(target._data)] = after
        else:
            self._arrays[id(target._data)] = value
            for node, values in self._outputs.items():  # under no_grad, or through detach(), a tensor's node stays
                if known in values:
                    self._outputs[node] = tuple(value if v is known else v for v in values)
            for leaf in self._leaves.values():
                if isinstance(leaf._grad, Tensor) and leaf._grad._data is target._data:
                    self.instructions.append(Instruction("gradient", (value,), leaf=leaf, source=_location()))

    def gradient(self, leaf: Tensor, value: Tensor | None) -> None:
        if self.problem is not None:
            return
        if leaf._node is not None and leaf._requires_grad:
            self.give_up("it keeps the gradient of a tensor that is no leaf")
            return
        if id(leaf) not in self._leaves and leaf._grad is not None:
            self._leaves[id(leaf)] = leaf
        given = None if value is None else self._of_tensor(value)
        if given is not None and id(leaf) not in self.entry:
            self.entry[id(leaf)] = (leaf, leaf._grad is None)
        elif given is None:
            self.entry.setdefault(id(leaf), (leaf, False))
        self._leaves[id(leaf)] = leaf
        self.instructions.append(Instruction("gradient", () if given is None else (given,), leaf=leaf, source=_location()))

    def left(self, tensor: Tensor | None, how: str) -> None:
        self.give_up(f"the values of a tensor go to {how}" if tensor is not None else how)

    def item(self, tensor: Tensor, number: Any) -> Any:
        """Stands for the element of `tensor` as a Python number, for as long as it is only handed on."""
        value = self._of_tensor(tensor)
        if type(number) is not float or value.kind not in ("computed", "constant"):
            self.left(tensor, "item()")
            return number
        watched = Number(number)
        watched.trace, watched.value = self, value
        self.numbers.append(watched)
        return watched

    def backward(self, outputs: Sequence[Tensor]) -> list[tuple[Any, Value]]:
        """Records the backward pass from `outputs`, behind a boundary, with one more input for the gradient of each.

        Returns pairs (a leaf from outside, or the number of an input; its gradient).
        """
        from ..autograd import engine

        upstreams = []
        count = len(self.inputs)
        self.instructions.append(Instruction("boundary", ()))
        for i, output in enumerate(outputs):
            upstream = wrap(np.ones(output._data.shape, output._data.dtype))
            value = self._new("input", upstream._data, upstream, count + i)
            self._arrays[id(upstream._data)] = value
            self.inputs.append(value)
            upstreams.append(upstream)
        given: list[tuple[Tensor, int]] = [(v.tensor, v.place) for v in self.inputs[:count] if v.tensor is not None]
        places = {engine.target_key(t): place for t, place in given if t.requires_grad}
        targets = [t for t, _ in given if t.requires_grad]
        leaves = [leaf for leaf in self._leaves.values() if leaf.requires_grad and engine.target_key(leaf) not in places]
        state.capture = self
        try:
            with _cut([t._node for t in targets if t._node is not None]):
                found: Any = engine.run(outputs, upstreams, targets=[*targets, *leaves], retain_graph=True)
        finally:
            state.capture = None
        by_key = {id(leaf): leaf for leaf in leaves}
        return [(places.get(key, by_key.get(key)), self._of_tensor(g)) for key, g in found.items()]

    # Values ----------------------------------------------------------------------------------------------------------

    def _new(self, kind: str, array: np.ndarray, tensor: Tensor | None = None, place: int = -1) -> Value:
        value = Value(len(self.values), kind, array, tensor, place)
        self.values.append(value)
        return value

    def _of_parent(self, parent: Any, slot: int) -> Any:
        if isinstance(parent, Node):
            values = self._outputs.get(parent)
            if values is not None:
                return values[slot]
            given = self._given.get((parent, slot))
            if given is None:
                self.give_up("it uses a tensor that was computed before the call and is not one of its arguments")
            return given
        if isinstance(parent, Tensor):
            return self._of_tensor(parent)
        if isinstance(parent, Constant):
            tensor = parent.tensor() if parent.tensor is not None else None
            if tensor is None:
                self.give_up("it uses a tensor that is gone")
                return None
            return self._of_tensor(tensor)
        if isinstance(parent, Number):
            self.give_up("a number from .item() is computed with")
        return parent

    def _of_tensor(self, tensor: Tensor) -> Value:
        if tensor._node is not None:
            values = self._outputs.get(tensor._node)
            if values is not None:
                return values[tensor._slot]
        value = self._arrays.get(id(tensor._data))
        if value is not None:
            return value
        known = self._outside.get(id(tensor._data))
        owner = next((leaf for leaf in self._leaves.values() if leaf._grad is tensor), None)
        if known is not None and known.kind != "input":  # it may have been written to since it was last read
            value = self._new(known.kind, tensor._data, known.tensor)
        elif owner is not None:
            value = self._new("gradient", tensor._data, owner)
        else:
            value = self._new("state", tensor._data, tensor)
            if tensor._requires_grad and tensor._node is None:
                self._leaves[id(tensor)] = tensor
        self._arrays[id(tensor._data)] = self._outside[id(tensor._data)] = value
        return value

    def forget_arrays(self) -> None:
        """Lets go of what was computed; arrays of the same shapes that take no memory stand for it from now on."""
        for value in self.values:
            if value.kind in ("computed", "input", "gradient"):
                number = np.asarray(0.5 if value.dtype.kind == "f" else 0, value.dtype)
                value.array = np.broadcast_to(number, value.shape)
        self._arrays, self._outside, self._outputs = {}, {}, {}

    def finish(self, result: Any) -> Any:
        """The result with Values in the place of its tensors and of numbers that are one's element."""
        known = [*tensors_in(result), *(leaf._grad for leaf in self._leaves.values() if leaf._grad is not None)]
        kept = {id(t) for t in known} | {id(t._base) for t in known if t._base is not None}
        returned: list[int] = []

        def described(v: Any) -> Any:
            if isinstance(v, Tensor):
                return self._of_tensor(v)
            if isinstance(v, Number):
                returned.append(id(v))
                return Item(v.value)
            return v

        structure = map_structure(result, described)
        if self.problem is None:
            outside = [t for r in self._results if (t := r()) is not None and id(t) not in kept]
            if outside:
                shapes = ", ".join(str(t.shape) for t in outside[:3])
                self.problem = f"a tensor that it computes (shape {shapes}) is kept outside of the call"
            for (
                number
            ) in self.numbers:  # known here, in the list and to getrefcount, to the caller, and wherever it was returned
                if sys.getrefcount(number) > 3 + (result is number) + returned.count(id(number)):
                    self.problem = "a number from .item() is kept outside of the call"
        return structure

    def ungraph(self, result: Any) -> None:
        """Takes the history that only the recording gave off tensors that outlive it."""
        grads = [leaf._grad for leaf in self._leaves.values() if isinstance(leaf._grad, Tensor)]
        outside = [v.tensor for v in self.values if v.kind in ("state", "input") and v.tensor is not None]
        for tensor in (*tensors_in(result), *grads, *outside):
            if tensor._node is not None and not tensor._requires_grad:
                tensor._node, tensor._slot = None, 0


@contextmanager
def _cut(nodes: Sequence[Node]) -> Iterator[None]:
    """Without what these nodes were computed from: one argument's history may hold another argument, or a parameter."""
    before = {n: (n.parents, n.slots, n.wants, n.hooks, n.retained) for n in nodes}
    try:
        for n in before:
            n.parents, n.slots, n.wants, n.hooks, n.retained = (), (), (), None, None
        yield
    finally:
        for n, kept in before.items():
            n.parents, n.slots, n.wants, n.hooks, n.retained = kept


def _place() -> str:
    found = _location()
    return "" if found is None else f" ({found[0].rsplit('/', 1)[-1]}:{found[1]})"


def _location() -> tuple[str, int, str] | None:
    """(file, line, function) of the user's code that runs now."""
    frame = user_frame()
    return None if frame is None else source_line(*frame)


__all__ = ["Number", "Trace"]
