"""The steps of a plan, where their values live, and the functions that steps other than kernels call."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .._tensor import Tensor
from .launches import Launch, run_calls
from .order import Group
from .values import Value, map_structure

_LINE = 64
END = 1 << 60  # of the life of what is still there when the plan has run


class Step:
    """Functions to call in order, what for, and how: "loop", "kernels", "operator", "view", "call", "store" or "gradient"."""

    def __init__(
        self, how: str, group: Group, calls: Sequence[tuple[Callable[..., Any], Sequence[Any]]], source: str = ""
    ) -> None:
        self.how, self.group, self.source = how, group, source
        self.calls = [(f, a if isinstance(a, list) else list(a)) for f, a in calls]

    @property
    def name(self) -> str:
        """The operators of the step."""
        return " + ".join(i.name for i in self.group.instructions)


class Layout:
    """Where values live in one block of memory: two values share a place where they do not live at the same time."""

    def __init__(self, lives: Mapping[Value, tuple[int, int]]) -> None:
        self.offsets: dict[Value, int] = {}
        placed: list[tuple[int, int, int, int]] = []  # offset, end, first step, last step
        self.size = 0
        self.total = 0
        for value in sorted(lives, key=lambda v: (-v.nbytes, v.index)):
            first, last = lives[value]
            size = -(-max(value.nbytes, 1) // _LINE) * _LINE
            self.total += size
            offset = 0
            for start, end, *_ in sorted(p for p in placed if p[2] <= last and first <= p[3]):
                if start - offset >= size:
                    break
                offset = max(offset, end)
            placed.append((offset, offset + size, first, last))
            self.offsets[value] = offset
            self.size = max(self.size, offset + size)


def found(path: str) -> Any:
    """The function at 'module:function'."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def takes_out(function: Callable[..., Any]) -> bool:
    return "out" in inspect.signature(function).parameters


def writing(op: Any, path: str, arrays: Any, attributes: Any, place: np.ndarray) -> Any:
    """The call that computes an operator straight into `place`, tried once; None where the function at `path` does not."""
    function = found(path)
    if not takes_out(function):
        return None
    bound = functools.partial(function, out=place)
    return None if op.bind(bound, arrays, attributes) is NotImplemented else (op.bind, (bound, arrays, attributes))


def compute(run: Any, arrays: tuple[Any, ...], attributes: tuple[Any, ...], places: Sequence[np.ndarray]) -> None:
    out = run(arrays, attributes)
    for place, o in zip(places, out if type(out) is tuple else (out,), strict=True):
        if o.shape != place.shape:
            raise RuntimeError(
                f"compile: an operator gave shape {o.shape} where it gave {place.shape} when recorded: its declaration lacks values_shape"
            )
        place[...] = o


def compute_by(launches: Sequence[Launch], *whole: Any) -> None:
    if not run_calls(launches):
        compute(*whole)


def replay(function: Callable[..., Any], args: Any, kwargs: Any, places: Sequence[np.ndarray]) -> None:
    result = function(*args, **kwargs)
    if places:
        found: list[Tensor] = []
        map_structure(result, lambda v: found.append(v) if isinstance(v, Tensor) else None)
        for place, tensor in zip(places, found, strict=True):
            place[...] = tensor._data


def overwrite(tensor: Tensor, array: np.ndarray, value: np.ndarray) -> None:
    array[...] = value
    if tensor._storage is not None:
        tensor._storage.version += 1


def give(leaf: Tensor, gradient: Tensor | None) -> None:
    leaf._grad = gradient


__all__ = ["END", "Layout", "Step", "compute", "compute_by", "found", "give", "overwrite", "replay", "takes_out", "writing"]
