"""What programs are made of: values, the instructions that compute them, and structures with values in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .._tensor import Tensor


class Value:
    """An array of the program.

    kind: "input" (argument number `place`), "state" (a tensor from outside, read when the program runs), "gradient" (the `.grad` of
    a tensor from outside, as it is when the program starts), "constant" or "computed". array: what it was in the recorded call.
    """

    __slots__ = ("array", "dtype", "index", "kind", "place", "shape", "tensor")

    def __init__(self, index: int, kind: str, array: np.ndarray, tensor: Tensor | None = None, place: int = -1) -> None:
        self.index, self.kind, self.array, self.tensor, self.place = index, kind, array, tensor, place
        self.shape, self.dtype = array.shape, array.dtype

    def __repr__(self) -> str:
        return f"%{self.index}:{self.kind}{list(self.shape)}"


class Instruction:
    """One step of a program.

    kind: "op" (an operator, `inputs` and `attributes` as in its declaration), "call" (a replayable function; its arguments with Values in
    the place of tensors), "store" (inputs[1] is written into the state inputs[0]), "gradient" (`leaf.grad` becomes inputs[0], or None).
    """

    __slots__ = (
        "arguments",
        "attributes",
        "inputs",
        "kind",
        "leaf",
        "operator",
        "outputs",
        "result",
        "scope",
        "source",
        "view",
    )

    def __init__(
        self, kind: str, inputs: Sequence[Any], outputs: Sequence[Value] = (), *, operator: Any = None,
        attributes: tuple[Any, ...] = (), arguments: Any = None, result: Any = None, leaf: Tensor | None = None, scope: str = "",
        source: Any = None, view: bool = False,
    ) -> None:  # fmt: skip
        self.kind, self.inputs, self.outputs = kind, tuple(inputs), tuple(outputs)
        self.operator, self.attributes, self.arguments, self.result = operator, attributes, arguments, result
        self.leaf, self.scope = leaf, scope
        self.source = source  # (file, line, function) of the user's code that it comes from
        self.view = view  # the outputs share the memory of the first input

    @property
    def name(self) -> str:
        """The operator's name, or that of the function called."""
        if self.kind == "op":
            return str(self.operator.name)
        return getattr(self.operator, "__qualname__", "call") if self.kind == "call" else self.kind

    def __repr__(self) -> str:
        return f"{', '.join(map(repr, self.outputs))} = {self.name}({', '.join(map(repr, self.inputs))})"


class Item:
    """In a returned structure: the element of a Value as a Python number."""

    __slots__ = ("value",)

    def __init__(self, value: Value) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Item) and other.value.index == self.value.index

    __hash__ = None  # type: ignore[assignment]


def map_structure(value: Any, change: Callable[[Any], Any]) -> Any:
    """`value` with `change` applied to everything in its tuples, lists and dicts."""
    if isinstance(value, tuple):
        changed = [map_structure(v, change) for v in value]
        return type(value)(*changed) if hasattr(value, "_fields") else tuple(changed)
    if isinstance(value, list):
        return [map_structure(v, change) for v in value]
    if isinstance(value, dict):
        return {k: map_structure(v, change) for k, v in value.items()}
    return change(value)


def tensors_in(value: Any) -> list[Tensor]:
    """The tensors in `value` and in its tuples, lists and dicts, in order."""
    found: list[Tensor] = []
    map_structure(value, lambda v: found.append(v) if isinstance(v, Tensor) else None)
    return found


__all__ = ["Instruction", "Item", "Value", "map_structure", "tensors_in"]
