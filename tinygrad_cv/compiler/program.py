"""A program: what two recordings of a call agree on, without what nobody needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .trace import Trace
from .values import Instruction, Item, Value, map_structure


class Program:
    """Instructions in order, with what they read from outside and what the call returns.

    result: the returned structure, with a Value for every tensor and an Item for every `.item()`.
    folded, shared, dead: how many operators of the recording were computed once for all, found equal to another, or unneeded.
    """

    def __init__(self, inputs: Sequence[Value], instructions: Sequence[Instruction], result: Any) -> None:
        self.inputs = tuple(inputs)
        self.instructions = tuple(instructions)
        self.result = result
        self.arguments = len(
            self.inputs
        )  # the inputs after these are gradients of the results, for the part behind the boundary
        self.gradients: tuple[tuple[Any, Value], ...] = ()  # behind the boundary: (leaf, or number of an input; its gradient)
        self.open_ended: tuple[int, ...] = ()  # which of the returned tensors have a gradient
        self.recorded = self.folded = self.shared = self.dead = 0

    def results(self) -> list[Value]:
        """The values that the call returns."""
        return values_in(self.result)

    @property
    def differentiable(self) -> bool:
        """Whether there is a backward part, to be run when the gradients of the results are known."""
        return any(i.kind == "boundary" for i in self.instructions)

    def read_behind(self) -> set[Value]:
        """The inputs and tensors from outside that the part behind the boundary reads, themselves or as views."""
        roots: dict[Value, Value] = {}
        found: set[Value] = set()
        behind = False
        for i in self.instructions:
            behind = behind or i.kind == "boundary"
            read = [roots.get(v, v) for v in i.inputs if isinstance(v, Value)]
            if behind:
                found.update(v for v in read if v.kind in ("input", "state"))
            if read and i.kind == "op" and (i.operator.view or i.view):
                roots.update(dict.fromkeys(i.outputs, read[0]))
        return found

    def __repr__(self) -> str:
        return "\n".join(map(repr, self.instructions))


def values_in(structure: Any) -> list[Value]:
    """The Values in a structure, in order."""
    found: list[Value] = []

    def look(v: Any) -> None:
        if isinstance(v, (Value, Item)):
            found.append(v.value if isinstance(v, Item) else v)

    map_structure(structure, look)
    return found


# Two recordings --------------------------------------------------------------------------------------------------------


def difference(first: Trace, first_result: Any, second: Trace, second_result: Any) -> str | None:
    """What keeps two recordings from being the same program, in words; None if nothing does.

    Whatever a call computes in Python (a counter, a random number, a branch) is a difference between two calls, which a program
    that runs no Python could not show.
    """
    if len(first.instructions) != len(second.instructions):
        counts = f"{len(first.instructions)} and {len(second.instructions)} steps"
        for a, b in zip(first.instructions, second.instructions, strict=False):
            if a.name != b.name:
                return f"two calls ran different operators ({counts}; the first that differ are {_called(a)} and {_called(b)})"
        return f"two calls ran different operators ({counts})"
    for a, b in zip(first.instructions, second.instructions, strict=True):
        if a.kind != b.kind or a.operator is not b.operator:
            return f"two calls ran different operators ({_called(a)} and {_called(b)})"
        if a.leaf is not b.leaf:
            return f"two calls gave gradients to different tensors{_at(b)}"
        if not (same(a.inputs, b.inputs) and same(a.outputs, b.outputs)):
            return f"{b.name} had other inputs in the second call{_at(b)}"
        for name, u, v in zip(getattr(a.operator, "attr_params", ()), a.attributes, b.attributes, strict=False):
            if not same(u, v):
                return f"{name} of {b.name} was {_short(u)} in one call and {_short(v)} in the next{_at(b)}"
        if not same(a.arguments, b.arguments):
            return f"{b.name} had other arguments in the second call{_at(b)}"
    if not same(first_result, second_result):
        return "two calls returned different Python values, or values from different places"
    return None


def _called(instruction: Instruction) -> str:
    return f"{instruction.name}{_at(instruction)}"


def _at(instruction: Instruction) -> str:
    line = instruction.source
    return "" if line is None else f" at {line[0].rsplit('/', 1)[-1]}:{line[1]}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else text[:57] + "..."


def same(a: Any, b: Any) -> bool:
    """Whether two things of two recordings are the same: Values by their place, arrays by their elements, the rest by ==."""
    if a is b:
        return True
    if isinstance(a, Value) and isinstance(b, Value):
        if a.kind != b.kind or a.index != b.index or a.shape != b.shape or a.dtype != b.dtype or a.place != b.place:
            return False
        if a.kind == "constant":
            return _same_elements(a.elements, b.elements)
        return a.kind not in ("state", "gradient") or a.tensor is b.tensor
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return type(a) is type(b) and a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, (tuple, list)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if type(a) is not type(b):
        return False
    try:
        return bool(a == b) or (a != a and b != b)
    except Exception:
        return False


def _same_elements(a: Any, b: Any) -> bool:
    return bool(np.array_equal(a, b, equal_nan=a.dtype.kind == "f"))


# Less to do ------------------------------------------------------------------------------------------------------------


def _key(instruction: Instruction, inputs: Sequence[Any]) -> Any:
    """Equal for operator calls that must give the same result; None where that cannot be said."""
    described = []
    for i in inputs:
        described.append(("value", i.index) if isinstance(i, Value) else (type(i), i))
    for attribute in instruction.attributes:
        if isinstance(attribute, np.ndarray):
            described.append((attribute.shape, str(attribute.dtype), attribute.tobytes()))  # type: ignore[arg-type]
        else:
            described.append((type(attribute), repr(attribute) if isinstance(attribute, float) else attribute))  # type: ignore[arg-type]
    key = (instruction.operator.name, instruction.again, tuple(described))
    try:
        hash(key)
    except TypeError:
        return None
    return key


def simplify(trace: Trace, result: Any, gradients: Sequence[tuple[Any, Value]] = ()) -> Program:
    """The program of a recording: operators on constants folded, equal ones computed once, those that lead nowhere left out.

    Calls, stores and gradients stay, whatever they give: they are seen from outside.
    """
    replaced: dict[Value, Value] = {}

    def current(value: Any) -> Any:
        if isinstance(value, Item):
            return Item(replaced.get(value.value, value.value))
        return replaced.get(value, value) if isinstance(value, Value) else value

    known: dict[Any, Instruction] = {}
    kept: list[Instruction] = []
    folded = shared = 0
    for old in trace.instructions:
        inputs = tuple(map(current, old.inputs))
        if old.kind == "op":
            values = [i for i in inputs if isinstance(i, Value)]
            if all(v.kind == "constant" for v in values) and all(o.elements is not None for o in old.outputs):
                for output in old.outputs:
                    output.kind = "constant"
                folded += 1
                continue
            key = _key(old, inputs)
            found = known.get(key) if key is not None else None
            if found is not None:
                replaced.update(zip(old.outputs, found.outputs, strict=True))
                shared += 1
                continue
            new = Instruction(
                "op",
                inputs,
                old.outputs,
                operator=old.operator,
                attributes=old.attributes,
                scope=old.scope,
                source=old.source,
                view=old.view,
                again=old.again,
            )
            if key is not None:
                known[key] = new
        else:
            arguments = map_structure(old.arguments, current) if old.arguments is not None else None
            new = Instruction(
                old.kind, inputs, old.outputs, operator=old.operator, arguments=arguments, result=old.result, leaf=old.leaf,
                scope=old.scope, source=old.source,
            )  # fmt: skip
        kept.append(new)
    result = map_structure(result, current)
    wanted = tuple((target, current(value)) for target, value in gradients)
    needed = {*values_in(result), *(value for _, value in wanted)}
    alive: list[Instruction] = []
    for instruction in reversed(kept):
        if instruction.kind != "op" or any(o in needed for o in instruction.outputs):
            alive.append(instruction)
            needed.update(i for i in instruction.inputs if isinstance(i, Value))
    program = Program(trace.inputs, alive[::-1], result)
    program.gradients, program.arguments = wanted, trace.arguments
    program.recorded = sum(i.kind == "op" for i in trace.instructions)
    program.folded, program.shared, program.dead = folded, shared, len(kept) - len(alive)
    return program
