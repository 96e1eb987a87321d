"""A program with a place for every value and a function for every step: what runs in place of the call."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .._state import state
from .._tensor import Lent, Tensor, wrap
from ..dispatch import make_runner
from ..kernels import enabled, numba_available, threads
from ..kernels.memory import aligned, copied, empty
from ..replay import choose
from .launches import Scratch, record
from .loops import Loop, fusible, summable
from .order import Group, group
from .program import Program, values_in
from .steps import END, Layout, Step, compute, compute_by, found, give, overwrite, replay, takes_out, writing
from .values import Instruction, Item, Value, map_structure


class Plan:
    """A program made ready: `run(inputs)` computes it in memory of its own.

    inputs: arguments to try it with. Making a step runs it, so that the next one is made with values that it may meet; what a step
    would change outside is left alone.

    steps: what is done, in order. last: the number of the step after which a value's place is free again. planned, unshared: bytes
    of the block in which values live, and what they would take without sharing places. scratch: bytes that kernels use in between.
    """

    def __init__(self, program: Program, inputs: Sequence[Tensor]) -> None:
        self.program = program
        self._examples = inputs
        looped, summed = (fusible, summable) if numba_available() and enabled() else (_never, _never)
        self.groups = group(program.instructions, looped, summed, [*program.results(), *(v for _, v in program.gradients)])
        self._boundary = next((i for i, g in enumerate(self.groups) if g.instructions[0].kind == "boundary"), len(self.groups))
        self._count = program.arguments
        self._results = set(program.results())
        self._arrays: dict[Value, np.ndarray] = {}
        self._scratch = Scratch()
        self._threads = threads.get_num_threads()
        self._direct = self._read_by_loops_alone()
        self._fresh = self._made_by_loops_alone()
        self._made: list[
            tuple[Value, list[Any], int]
        ] = []  # a result, arguments of the call that computes it, where it stands there
        self._bound: list[tuple[int, list[Any], int]] = []  # number of an argument, arguments of a call, where it stands there
        self._gradient_slots: list[tuple[np.ndarray, Tensor]] = []
        self._lend: list[tuple[Tensor, np.ndarray]] = []
        outer = state.capture, state.grad_enabled, state.quiet
        state.capture, state.grad_enabled, state.quiet = None, False, True
        try:
            with np.errstate(all="ignore"):
                self._place()
                self.steps = [self._tried(self._step(g)) for g in self.groups]
        finally:
            state.capture, state.grad_enabled, state.quiet = outer
        self._examples = ()
        self.scratch = self._scratch.nbytes
        self._lent = {id(array): leaf for leaf, array in self._lend}
        self._calls = [c for s in self.steps[: self._boundary] for c in s.calls]
        self._backward_calls = [c for s in self.steps[self._boundary :] for c in s.calls]
        arguments = [v for v in program.inputs[: self._count] if v in self._arrays]
        self._slots = [(self._arrays[v], v.place) for v in arguments if v not in self._direct]
        for v in (self._direct | self._fresh) & self._arrays.keys():
            del self._arrays[v]
        self._upstream_slots = [
            (self._arrays[v], v.place - self._count) for v in program.inputs[self._count :] if v in self._arrays
        ]
        self.kept = {v.tensor: v.tensor._data for v in self._arrays if v.kind == "state" and v.tensor is not None}

    # Running ----------------------------------------------------------------------------------------------------------

    def run(self, inputs: Sequence[Tensor]) -> Any:
        """Computes the program for these arguments, which have the recorded shapes and dtypes."""
        for place, arguments, position in self._bound:
            array = inputs[place]._data
            if not array.flags.c_contiguous or not array.flags.writeable:
                array = array.copy(order="C")
            arguments[position] = array.reshape(-1)
        results: dict[Value, np.ndarray] = {}
        for value, arguments, position in self._made:
            results[value] = empty(value.shape, value.dtype)
            arguments[position] = results[value].reshape(-1)
        filled: list[tuple[np.ndarray, Any]] = [(slot, inputs[place]) for slot, place in self._slots]
        filled += [(slot, leaf.grad) for slot, leaf in self._gradient_slots]
        self._run(filled, self._calls)
        for leaf, array in self._lend:
            leaf._grad = Lent(array)
        return map_structure(self.program.result, lambda v: self._returned(v, inputs, results))

    def run_backward(self, upstreams: Sequence[Tensor]) -> list[Tensor]:
        """The gradients listed in `program.gradients`, from those of the results, after `run`. May be called several times."""
        self._run([(slot, upstreams[i]) for slot, i in self._upstream_slots], self._backward_calls)
        return [wrap(copied(self.array(v))) for _, v in self.program.gradients]

    def _run(self, filled: Sequence[tuple[np.ndarray, Tensor]], calls: Sequence[Any]) -> None:
        outer = state.capture, state.grad_enabled, state.quiet
        state.capture, state.grad_enabled, state.quiet = None, False, True
        try:
            with np.errstate(all="ignore"):
                for slot, tensor in filled:
                    slot[...] = tensor._data
                for function, arguments in calls:
                    function(*arguments)
        finally:
            state.capture, state.grad_enabled, state.quiet = outer

    def _returned(self, value: Any, inputs: Sequence[Tensor], results: Mapping[Value, np.ndarray]) -> Any:
        if isinstance(value, Item):
            return self.array(value.value).item()
        if value.__class__ is Value and value in results:
            return wrap(results[value])
        if not isinstance(value, Value):
            return value
        if value.kind == "input":
            return inputs[value.place]
        if value.kind == "state":
            return value.tensor
        array = self.array(value)
        leaf = self._lent.get(id(array))
        return wrap(copied(array)) if leaf is None else leaf.grad

    # Places -----------------------------------------------------------------------------------------------------------

    def _place(self) -> None:
        """Gives every value an array: views one that shares memory, the others a place of their own."""
        root: dict[Value, Value] = {}
        last: dict[Value, int] = {}
        first: dict[Value, int] = {}
        stored = self._stored()
        self._arrays.update(self._gradient_places())
        for position, g in enumerate(self.groups):
            for value in g.reads():
                last[root.get(value, value)] = position
            for instruction in g.instructions:
                view = instruction.kind == "op" and (instruction.operator.view or instruction.view)
                for output in instruction.outputs:
                    if view and isinstance(instruction.inputs[0], Value):
                        source = instruction.inputs[0]
                        root[output] = root.get(source, source)
                    if output in self._fresh:
                        self._arrays[output] = np.empty(output.shape, output.dtype)  # only until the plan runs
                    elif output in stored and output not in self._arrays and root.get(output, output) is output:
                        first[output] = last[output] = position
                if instruction.kind == "gradient":
                    for value in instruction.inputs:
                        last[root.get(value, value)] = END
        kept = [v for _, v in self.program.gradients]
        if self.program.differentiable:  # backward may be run again: what forward leaves for it stays
            made = {o for g in self.groups[: self._boundary] for o in g.makes()}
            kept += [v for g in self.groups[self._boundary :] for v in g.reads() if v in made]
        for value in (*self._results, *kept):
            last[root.get(value, value)] = END
        layout = Layout({v: (first[v], last[v]) for v in first})
        self.planned, self.unshared = layout.size, layout.total
        block = aligned(layout.size)
        for value, offset in layout.offsets.items():
            self._arrays[value] = block[offset : offset + value.nbytes].view(value.dtype).reshape(value.shape)
        self._root = root
        self.last = {v: last[r] for v, r in ((v, root.get(v, v)) for g in self.groups for v in g.makes()) if r in last}

    def _read_by_loops_alone(self) -> set[Value]:
        """Arguments that need no copy in a place of their own: the kernels of loops take any array."""
        others = (
            {v for g in self.groups if not g.loop for v in g.reads()} | self._results | {v for _, v in self.program.gradients}
        )
        upstream = self.program.inputs[self._count :]
        return {v for g in self.groups for v in g.reads() if v.kind == "input" and v not in others and v not in upstream}

    def _made_by_loops_alone(self) -> set[Value]:
        """Results that a loop writes straight into the array that is returned: nobody else reads them."""
        items = {v.value for v in _leaves(self.program.result) if isinstance(v, Item)}
        read = {v for g in self.groups for v in g.reads()} | {v for _, v in self.program.gradients} | items
        return {v for g in self.groups if g.loop and g.total is None for v in g.makes() if v in self._results and v not in read}

    def _gradient_places(self) -> dict[Value, np.ndarray]:
        """Gradients that are computed where the optimizer, which the program calls, wants them."""
        from ..optim import Optimizer

        instructions = self.program.instructions
        called = [i.arguments[0][0] for i in instructions if i.kind == "call" and i.arguments[0]]
        places = {key: p for o in called if isinstance(o, Optimizer) for key, p in o.gradient_places().items()}
        given = [i for i in instructions if i.kind == "gradient" and i.inputs]
        viewed = {o for i in instructions if i.kind == "op" and (i.operator.view or i.view) for o in i.outputs}
        found: dict[Value, np.ndarray] = {}
        for instruction in given:
            (value,) = instruction.inputs
            place = places.get(id(instruction.leaf))
            if (
                place is None
                or value.kind != "computed"
                or value in viewed
                or place.shape != value.shape
                or place.dtype != value.dtype
            ):
                continue
            if sum(o.inputs[0] is value or o.leaf is instruction.leaf for o in given) == 1 and value not in self._results:
                found[value] = place
        return found

    def _stored(self) -> set[Value]:
        """Values that need memory: those of loops only if something outside of the loop reads them."""
        wanted = {*self._results, *(v for _, v in self.program.gradients)}
        for g in self.groups:
            wanted.update(g.reads())
            if not g.loop:
                wanted.update(self._given(g))
        return wanted

    def _given(self, g: Group) -> list[Value]:
        """What the kernel of a group that is no loop gives, besides a first operand that others want too."""
        last = g.instructions[-1].outputs
        return [*last, *g.lead.outputs[1:]] if last is not g.lead.outputs else list(last)

    def array(self, value: Value) -> np.ndarray:
        """Where a value is while the plan runs."""
        found = self._arrays.get(value)
        if found is None:
            if value.kind == "state":
                found = value.tensor._data  # type: ignore[union-attr]
            elif value.kind in ("input", "gradient"):
                found = aligned(value.nbytes).view(value.dtype).reshape(value.shape)
                found[...] = self._example(value)
                if value.kind == "gradient":
                    self._gradient_slots.append((found, value.tensor))  # type: ignore[arg-type]
            elif value.kind == "constant":
                assert value.elements is not None
                found = value.elements
            else:
                raise AssertionError(f"{value} has no place")
            self._arrays[value] = found
        return found

    # Steps ------------------------------------------------------------------------------------------------------------

    def _step(self, g: Group) -> Step:
        if g.loop:
            return self._loop(g)
        if len(g.instructions) > 1:
            return self._together(g)
        (instruction,) = g.instructions
        if instruction.kind == "boundary":
            return Step("boundary", g, [])
        return getattr(self, f"_{instruction.kind}")(g, instruction)  # type: ignore[no-any-return]

    def _loop(self, g: Group) -> Step:
        stored = [v for v in g.makes() if v in self._arrays]
        arrays = {v: self.array(v) for v in (*g.reads(), *stored)}
        loop = Loop(g, stored, arrays, self._threads)
        if g.total is None:
            self._made += [(value, loop.arguments, i) for i, value in enumerate(stored) if value in self._fresh]
        for i, value in enumerate(loop.operands):
            if value in self._direct:
                self._bound.append((value.place, loop.arguments, loop.first + i))
        return Step("loop", g, loop.calls, loop.source)

    def _op(self, g: Group, instruction: Instruction) -> Step:
        op, attributes = instruction.operator, instruction.attributes
        arrays = tuple(self.array(v) if isinstance(v, Value) else v for v in instruction.inputs)
        if op.view or instruction.view:
            seen = op.bind(op.reference, arrays, attributes)
            outs = seen if isinstance(seen, tuple) else (seen,)
            if all(np.may_share_memory(o, arrays[0]) for o in outs) or not outs[0].size:
                self._arrays.update(zip(instruction.outputs, outs, strict=True))
                return Step("view", g, [])
            for value, out in zip(instruction.outputs, outs, strict=True):
                self._arrays[value] = np.empty(out.shape, out.dtype)
        run = op.run or make_runner(op)
        op.run = run
        places = [self._arrays[v] for v in instruction.outputs]
        checks = self._checks(instruction)
        for function, arguments in checks:
            function(*arguments)
        if op.into and (call := writing(op, op.into, arrays, attributes, places[0])) is not None:
            return Step("operator", g, [*checks, call])
        whole = (run, arrays, attributes, places)
        if op.view or instruction.view or op.random or not numba_available() or op.kernel("cpu") is None:
            return Step("operator", g, [*checks, (compute, whole)])
        return self._by_launches(g, instruction.inputs, whole, checks)

    def _together(self, g: Group) -> Step:
        """An operator and the elementwise ones before or after it, by a kernel that does them all."""
        lead, reads = g.lead, g.reads()
        at = g.instructions.index(lead)
        ahead, behind = g.instructions[:at], g.instructions[at + 1 :]
        op, attributes = lead.operator, lead.attributes
        path = (op.preceded_by if ahead else op.followed_by)[" ".join(i.name for i in ahead or behind)]
        own = {o for i in g.instructions for o in i.outputs}
        outside = [v for i in ahead or behind for v in i.inputs if v not in own]
        more: dict[str, Any] = {}
        inputs = lead.inputs
        outs = self._given(g)
        if ahead:
            first, *outside = outside
            inputs = (first, *inputs[1:])
            more["keep"] = ahead[-1].outputs[0] in self._arrays
            outs += [ahead[-1].outputs[0]] * more["keep"]
        if outside:
            more["others"] = tuple(map(self.array, outside))
        arrays = tuple(self.array(v) if isinstance(v, Value) else v for v in inputs)
        places = [self._arrays[v] for v in outs]
        if len(places) == 1 and not more and (call := writing(op, path, arrays, attributes, places[0])) is not None:
            return Step("operator", g, [call])
        together = found(path)

        def run(arrays: tuple[Any, ...], attributes: tuple[Any, ...]) -> Any:
            out = NotImplemented if takes_out(together) else op.bind(functools.partial(together, **more), arrays, attributes)
            return self._one_by_one(g, outs) if out is NotImplemented else out

        return self._by_launches(g, reads, (run, arrays, attributes, places), [])

    def _one_by_one(self, g: Group, outs: Sequence[Value]) -> tuple[np.ndarray, ...]:
        """What the operators of a group give, each by itself."""
        made: dict[Value, np.ndarray] = {}
        for i in g.instructions:
            arrays = tuple((made[v] if v in made else self.array(v)) if isinstance(v, Value) else v for v in i.inputs)
            i.operator.run = i.operator.run or make_runner(i.operator)
            result = i.operator.run(arrays, i.attributes)
            made.update(zip(i.outputs, result if isinstance(result, tuple) else (result,), strict=True))
        return tuple(made[v] for v in outs)

    def _by_launches(self, g: Group, reads: Sequence[Any], whole: Any, checks: list[Any]) -> Step:
        """The step of a heavy operator: the kernel calls that it makes, or itself where they alone do not do it."""
        run, arrays, attributes, places = whole
        launches = record(lambda: run(arrays, attributes), places, lambda: self._shake(reads), self._scratch)
        if launches is None:
            return Step("operator", g, [*checks, (compute, whole)])
        if any(function is choose for function, _ in launches):
            return Step("kernels", g, [*checks, (compute_by, (launches, *whole))])
        return Step("kernels", g, [*checks, *launches])

    def _checks(self, instruction: Instruction) -> list[Any]:
        """The operator's own validation, for operators whose arguments may be wrong in their values: indices, labels, masks."""
        op = instruction.operator
        if op.prepare is None or op.variadic:
            return []
        if not any(isinstance(v, Value) and v.kind != "constant" and v.dtype.kind in "iub" for v in instruction.inputs):
            return []
        tensors = tuple(wrap(self.array(v)) if isinstance(v, Value) else v for v in instruction.inputs)
        try:
            op.bind(op.prepare, tensors, instruction.attributes)
        except TypeError:
            return []
        return [(op.bind, (op.prepare, tensors, instruction.attributes))]

    def _example(self, value: Value) -> Any:
        """Elements that an input, a gradient or the result of a call may have when the plan runs."""
        if value.kind == "input":
            return self._examples[value.place]._data if value.place < self._count else 1
        if value.kind == "gradient":
            grad = value.tensor._grad  # type: ignore[union-attr]
            return 0.5 if grad is None else grad.array if isinstance(grad, Lent) else grad._data
        if value.example is not None:
            return value.example
        return 0.5 if value.dtype.kind == "f" else 0

    def _tried(self, step: Step) -> Step:
        """The step, run once, unless it does more than to compute values."""
        first = step.group.instructions[0]
        if step.how == "call" or (first.kind == "op" and first.operator.random):
            for value in first.outputs:
                self._arrays[value][...] = self._example(value)
        elif step.how not in ("store", "gradient", "boundary"):
            for function, arguments in step.calls:
                function(*arguments)
        return step

    def _shake(self, reads: Sequence[Any]) -> Callable[[], None]:
        """Gives everything that is read other values, floats between half of what they were and all of it, so that they stay
        where its function is defined; returns what puts them back."""
        moved: list[tuple[np.ndarray, np.ndarray]] = []
        seen: set[int] = set()
        for value in reads:
            if not isinstance(value, Value):
                continue
            array = self.array(self._root.get(value, value))
            if id(array) in seen or not array.flags.writeable or value.kind == "constant":
                continue
            seen.add(id(array))
            moved.append((array, array.copy()))
            array[...] = np.roll(array.reshape(-1), 1).reshape(array.shape)
            if array.dtype.kind == "f":
                array *= (1 - 0.5 * np.modf(np.arange(array.size) * 0.618)[0]).reshape(array.shape).astype(array.dtype)

        def undo() -> None:
            for array, before in moved:
                array[...] = before

        return undo

    def _call(self, g: Group, instruction: Instruction) -> Step:
        arguments = map_structure(instruction.arguments, lambda v: self._tensor(v) if isinstance(v, Value) else v)
        places = [self._arrays[v] for v in values_in(instruction.result)]
        return Step("call", g, [(replay, (instruction.operator, *arguments, places))])

    def _tensor(self, value: Value) -> Tensor:
        if value.kind in ("state", "gradient") and value.tensor is not None:
            return value.tensor if value.kind == "state" else value.tensor.grad  # type: ignore[return-value]
        return wrap(self.array(value))

    def _store(self, g: Group, instruction: Instruction) -> Step:
        target, value = instruction.inputs
        return Step("store", g, [(overwrite, (target.tensor, self.array(target), self.array(value)))])

    def _gradient(self, g: Group, instruction: Instruction) -> Step:
        leaf: Any = instruction.leaf
        array = self.array(instruction.inputs[0]) if instruction.inputs else None
        self._lend = [(t, a) for t, a in self._lend if t is not leaf]
        if array is not None:
            self._lend.append((leaf, array))
        return Step("gradient", g, [(give, (leaf, None if array is None else wrap(array)))])


def _leaves(structure: Any) -> list[Any]:
    found: list[Any] = []
    map_structure(structure, found.append)
    return found


def _never(_: Instruction) -> bool:
    return False


__all__ = ["Plan"]
