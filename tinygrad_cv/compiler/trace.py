"""Recording one call: the operators it ran and what it did beside them, as instructions over values.

A Trace is a `graph.Capture`. It knows a tensor by the node that made it or by its array, and so follows values through backward passes,
in-place writes and optimizer steps. What it cannot follow it names (`Trace.problem`); the call itself runs as ever, and its arrays live
no longer than they do without a recording.
"""

from __future__ import annotations

import gc
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
from ..registry import get as get_operator
from .values import ByArray, Instruction, Item, Value, map_structure, tensors_in

_MOST_FOLDED = 1 << 16  # elements: larger results of constants are computed where they are needed


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

    def __init__(self, inputs: Sequence[Tensor], reachable: Sequence[Tensor] = ()) -> None:
        super().__init__(values=False)
        self._reachable = reachable  # tensors from outside, whose gradients may be used before they are
        self.values: list[Value] = []
        self.instructions: list[Instruction] = []
        self.problem: str | None = None
        self.inputs = [self._new("input", t._data, t, i) for i, t in enumerate(inputs)]
        self.arguments = len(self.inputs)
        self._arrays: ByArray[Value] = ByArray()
        self._outputs: weakref.WeakKeyDictionary[Node, tuple[Value, ...]] = weakref.WeakKeyDictionary()
        self._given: dict[tuple[Node, int], Value] = {}
        self._results: list[weakref.ref[Tensor]] = []
        self._leaves: dict[int, Tensor] = {}
        self.numbers: list[Number] = []
        self._regions = [0]  # numbers of the checkpointed regions that are being run again, the innermost last
        self._most_regions = 0
        self.entry: dict[
            int, tuple[Tensor, bool]
        ] = {}  # leaves whose first assigned gradient depends on there being none before
        self._outside: ByArray[Value] = ByArray()  # what arrays from outside were when last read or written
        for value in self.inputs:
            tensor: Any = value.tensor
            if self._arrays.get(tensor._data) is None:
                self._arrays[tensor._data] = self._outside[tensor._data] = value
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
            known = [self._arrays.get(o._data) for o in outputs]
            if any(v is None for v in known):
                self.give_up(f"{op.name} computes outside of the operators")
                return
            self._outputs[node] = tuple(known)  # type: ignore[arg-type]
            self._results += map(weakref.ref, outputs)
            return
        if op.name == "view_scatter" and (whole := self._arrays.get(outputs[0]._data)) is not None:
            self._outputs[node] = (whole,)  # the history of a write to a view, of which `wrote` has been told
            return
        if op.values_shape:
            self.give_up(f"the shape of what {op.name} gives depends on values")
        values = tuple(self._new("computed", o._data) for o in outputs)
        source = source_location(node)
        first = inputs[0] if inputs else None
        memory = first.memory if isinstance(first, Value) else None
        shared = memory is not None and all([np.may_share_memory(o._data, memory) for o in outputs])
        view = shared and op.name != "setitem"  # which is recorded as done in place
        self.instructions.append(
            Instruction(
                "op", inputs, values, operator=op, attributes=node.attrs, scope=node.scope, source=source, view=view,
                again=self._regions[-1],
            )
        )  # fmt: skip
        self._outputs[node] = values
        constant = all([v.elements is not None for v in inputs if isinstance(v, Value)])
        constant = constant and sum(v.size for v in values) <= _MOST_FOLDED
        constant = constant and not op.random and op.name != "setitem"  # which is recorded before it is done
        for tensor, value in zip(outputs, values, strict=True):
            self._arrays[tensor._data] = value
            self._results.append(weakref.ref(tensor))
            if constant:
                value.elements = tensor._data.copy()  # now: it may be written to

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
            if value.dtype.kind != "f":
                value.example = v._data.copy()
            self._arrays[v._data] = value
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
        touched = {id(v.memory) for v in inputs} if getattr(function, "local", False) else None
        grads = {id(leaf._grad._data) for leaf in self._leaves.values() if isinstance(leaf._grad, Tensor)}
        self._arrays.forget(
            lambda a, v: id(a) in grads or (v.kind in ("state", "gradient") and (touched is None or id(a) in touched))
        )
        return result

    def made(self, tensor: Tensor) -> None:
        self._arrays[tensor._data] = self._new("constant", tensor._data.copy())  # the tensor may be written to

    def wrote(self, target: Tensor, result: Tensor) -> None:
        if self.problem is not None:
            return
        value = self._of_tensor(result)
        moves = state.grad_enabled and result._node is not None  # the history of target
        base = target if target._base is None else target._base
        memory = base._data
        known = self._outside.get(memory) or self._of_tensor(base)
        if known.kind == "input":
            self.give_up("it writes to one of its arguments")
            return
        sharing = [t for t in self._alive() if t is not target and t is not base and t._storage is target._storage]
        views = [t for t in sharing if t._data is not memory]
        if any([t._base is None or t._base._data is not memory for t in views]):
            self.give_up("it writes in place to a tensor that has views")
            return
        if base is not target:
            scatter = Instruction(
                "op", (self._of_tensor(base), value), (self._new("computed", memory),), operator=get_operator("view_scatter"),
                attributes=(target._view_chain,), scope=state.scope, source=_location(),
            )  # fmt: skip
            self.instructions.append(scatter)
            self._name(target, value, moves)
            (value,) = scatter.outputs
        if known.kind == "state":
            if any([np.may_share_memory(v.tensor._data, memory) for v in self.inputs if v.tensor is not None]):
                self.give_up("it writes to memory of one of its arguments")
            self.instructions.append(Instruction("store", (known, value), source=_location()))
            value = self._outside[memory] = self._new("state", memory, known.tensor)
        for leaf in self._leaves.values():
            if isinstance(leaf._grad, Tensor) and np.may_share_memory(leaf._grad._data, memory):
                if leaf._grad._data is not memory:
                    self.give_up("it writes in place to memory of which a gradient is a view")
                self.instructions.append(Instruction("gradient", (value,), leaf=leaf, source=_location()))
        self._name(base, value, moves and base is target)
        for tensor in [t for t in sharing if t._data is memory]:
            self._name(tensor, value)
        for view in views:
            self._name(view, self._seen_through(value, memory, view._view_chain))

    def _alive(self) -> list[Tensor]:
        """The tensors that operators of the call made and that are still there."""
        found = [(r, t) for r in self._results if (t := r()) is not None]
        self._results = [r for r, _ in found]
        return [t for _, t in found]

    def _name(self, tensor: Tensor, value: Value, moves: bool = False) -> None:
        """From now on `tensor`, whose memory was written to, is `value`. moves: it is about to get another node."""
        self._arrays[tensor._data] = value
        node = tensor._node
        values = None if node is None or moves else self._outputs.get(node)
        if node is not None and values is not None:
            self._outputs[node] = tuple(value if i == tensor._slot else v for i, v in enumerate(values))

    def _seen_through(self, value: Value, array: np.ndarray, chain: Sequence[tuple[Any, tuple[Any, ...]]]) -> Value:
        """The view of `value`, which is `array` here, that the operators of `chain` take."""
        for operator, attributes in chain:
            array = operator.bind(operator.reference, (array,), attributes)
            seen = self._new("computed", array)
            self.instructions.append(
                Instruction(
                    "op", (value,), (seen,), operator=operator, attributes=attributes, scope=state.scope, source=_location(), view=True
                )
            )  # fmt: skip
            value = seen
        return value

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

    def recomputing(self, begins: bool) -> Capture | None:
        if begins:
            self._most_regions += 1
            self._regions.append(self._most_regions)
        else:
            self._regions.pop()
        return self

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
            self._arrays[upstream._data] = value
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
        value = self._arrays.get(tensor._data)
        if value is not None:
            return value
        known = self._outside.get(tensor._data)
        owner = next((t for t in (*self._leaves.values(), *self._reachable) if t._grad is tensor), None)
        if known is not None and known.kind != "input":  # it may have been written to since it was last read
            value = self._new(known.kind, tensor._data, known.tensor)
        elif owner is not None:
            value = self._new("gradient", tensor._data, owner)
        else:
            value = self._new("state", tensor._data, tensor)
            if tensor._requires_grad and tensor._node is None:
                self._leaves[id(tensor)] = tensor
        self._arrays[tensor._data] = self._outside[tensor._data] = value
        return value

    def forget(self) -> None:
        """Lets go of what the call computed and of its arguments; of the latter the names and shapes stay."""
        for value in self.values:
            value.example = None
            if value.kind != "constant":
                value.elements = None
            if value.kind == "input" and value.tensor is not None:
                stand_in = wrap(np.broadcast_to(np.zeros((), value.dtype), value.shape))
                stand_in.name, stand_in._requires_grad = value.tensor.name, value.tensor._requires_grad
                value.tensor = stand_in
        self._arrays.clear()
        self._outside.clear()
        self._outputs.clear()
        self._given.clear()
        self._results.clear()
        self._reachable = ()

    def finish(self, result: Any) -> Any:
        """The result with Values in the place of its tensors and of numbers that are one's element."""
        grads = [leaf._grad for leaf in self._leaves.values() if isinstance(leaf._grad, Tensor)]
        known = [*tensors_in(result), *grads]
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
            stored = {id(a): a for i in self.instructions if i.kind == "store" for a in [i.inputs[0].tensor._data]}
            states = {id(a): a for v in self.values if v.kind == "state" and v.tensor is not None for a in [v.tensor._data]}
            if any([np.may_share_memory(a, b) for a in stored.values() for b in states.values() if a is not b]):
                self.problem = "it writes to memory of which another tensor from outside is a view"
        if self.problem is None:
            outside = [t for t in self._alive() if id(t) not in kept]
            if outside:  # or only not yet found dead: compiling a kernel leaves circles behind that hold frames of its callers
                del outside
                gc.collect()
            outside = [t for t in self._alive() if id(t) not in kept]
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
