"""What programs are made of: values, the instructions that compute them, and structures with values in them."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from .._tensor import Tensor

T = TypeVar("T")


class Value:
    """An array of the program.

    kind: "input" (argument number `place`), "state" (a tensor from outside, read when the program runs), "gradient" (the `.grad` of
    a tensor from outside, as it is when the program starts), "constant" or "computed". elements: those of a constant, and of what was
    computed from constants alone. example: what whole numbers and truth values from a call that is run again may be. A recording keeps
    no other arrays: they die when the call is done with them.
    """

    __slots__ = ("_memory", "dtype", "elements", "example", "index", "kind", "place", "shape", "tensor")

    def __init__(self, index: int, kind: str, array: np.ndarray, tensor: Tensor | None = None, place: int = -1) -> None:
        self.index, self.kind, self.tensor, self.place = index, kind, tensor, place
        self.shape, self.dtype = array.shape, array.dtype
        self.elements = array if kind == "constant" else None
        self.example: np.ndarray | None = None
        self._memory = weakref.ref(array)

    @property
    def memory(self) -> np.ndarray | None:
        """The array it is in the call that is being recorded, for as long as that lives."""
        return self._memory()

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of its elements."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __repr__(self) -> str:
        return f"%{self.index}:{self.kind}{list(self.shape)}"


class ByArray(Generic[T]):
    """What is known of arrays, each by itself and not by its elements, without keeping it alive.

    An array that has died is unknown, and so is a new one at its address.
    """

    def __init__(self) -> None:
        self._entries: dict[int, tuple[weakref.ref[np.ndarray], T]] = {}

    def get(self, array: np.ndarray) -> T | None:
        """What is known of `array`, or None."""
        entry = self._entries.get(id(array))
        return entry[1] if entry is not None and entry[0]() is array else None

    def __setitem__(self, array: np.ndarray, known: T) -> None:
        self._entries[id(array)] = weakref.ref(array), known

    def forget(self, which: Callable[[np.ndarray, T], bool]) -> None:
        """Nothing is known any more of arrays for which which(array, what is known) holds."""
        self._entries = {k: e for k, e in self._entries.items() if (a := e[0]()) is not None and not which(a, e[1])}

    def clear(self) -> None:
        """Nothing is known of any array."""
        self._entries = {}


class Instruction:
    """One step of a program.

    kind: "op" (an operator, `inputs` and `attributes` as in its declaration), "call" (a replayable function; its arguments with Values in
    the place of tensors), "store" (inputs[1] is written into the state inputs[0]), "gradient" (`leaf.grad` becomes inputs[0], or None).
    """

    __slots__ = (
        "again",
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
        source: Any = None, view: bool = False, again: int = 0,
    ) -> None:  # fmt: skip
        self.kind, self.inputs, self.outputs = kind, tuple(inputs), tuple(outputs)
        self.operator, self.attributes, self.arguments, self.result = operator, attributes, arguments, result
        self.leaf, self.scope = leaf, scope
        self.source = source  # (file, line, function) of the user's code that it comes from
        self.view = view  # the outputs share the memory of the first input
        self.again = again  # not 0: part of a checkpointed region's second run, which is there to save memory

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


__all__ = ["ByArray", "Instruction", "Item", "Value", "map_structure", "tensors_in"]
