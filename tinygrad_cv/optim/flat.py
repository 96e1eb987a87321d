"""One block of memory for many parameters, so that an optimizer updates all of them in one kernel call.

A parameter moves into the block only if nobody else can see its memory (no view, no detached copy, no array given out): then
the move cannot be noticed. The rest are updated one by one. Everything the plan relies on is checked again at every step, so
replacing `.data`, loading a state or changing the dtype is safe at any time.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .._tensor import Tensor, wrap
from ..kernels.memory import aligned

State = dict[Tensor, dict[str, Any]]


def _references(tensor: Tensor) -> int:
    """How many references the tensor's array has, as far as the interpreter can say."""
    return sys.getrefcount(tensor._data) if hasattr(sys, "getrefcount") else -1


_alone = _references(wrap(np.empty(1)))  # what the count is for an array that only its tensor holds


def _unshared(parameter: Tensor) -> bool:
    array = parameter._data
    if parameter._base is not None or array.base is not None or not (array.flags.c_contiguous and array.flags.writeable):
        return False
    del array
    return _alone > 0 and _references(parameter) == _alone


_LARGE = 1 << 15  # elements: gathering the gradient of a larger parameter costs more than a kernel call of its own
_LINE = 64  # bytes of a cache line: every piece starts on one, as an array of its own would at best


def _zeros(count: int, dtype: np.dtype[Any]) -> np.ndarray:
    block = aligned(count * dtype.itemsize).view(dtype)
    block.fill(0)
    return block


def check_state(parameter: Tensor, name: str, known: Tensor) -> None:
    """RuntimeError for state left from before `.data =` gave the parameter another shape."""
    if known.shape != parameter.shape:
        raise RuntimeError(
            f"step: the state {name!r} of a parameter of shape {parameter.shape} has shape {known.shape}, from before its `.data` was "
            "replaced; delete optimizer.state[parameter], or make a new optimizer"
        )


class FlatPlan:
    """Parameters of one dtype whose values lie in one array, with flat arrays beside it for gradients and optimizer state.

    The gaps between the pieces hold zeros, and are updated like the rest.
    """

    def __init__(self, parameters: Sequence[Tensor], dtype: np.dtype[Any]) -> None:
        self.parameters = tuple(parameters)
        self.starts, position, line = [], 0, _LINE // dtype.itemsize
        for parameter in parameters:
            self.starts.append(position)
            position += -(-parameter._data.size // line) * line
        self.size, self.dtype = position, dtype
        self.values, self.gradients = _zeros(position, dtype), _zeros(position, dtype)
        self.arrays, self.places = self._pieces(self.values), self._pieces(self.gradients)
        self.states: dict[str, np.ndarray] = {}
        self.state_tensors: dict[str, list[Tensor]] = {}
        for parameter, array in zip(self.parameters, self.arrays, strict=True):
            array[...] = parameter._data
            parameter._data = array

    @staticmethod
    def build(parameters: Sequence[Tensor]) -> FlatPlan | None:
        """A plan for the smaller parameters that can be moved unnoticed, of the dtype most of them have; None for fewer than two."""
        by_dtype: dict[np.dtype[Any], list[Tensor]] = {}
        for parameter in parameters:
            if parameter._data.dtype.itemsize >= 4 and 0 < parameter._data.size < _LARGE and _unshared(parameter):
                by_dtype.setdefault(parameter._data.dtype, []).append(parameter)
        if not by_dtype:
            return None
        dtype, members = max(by_dtype.items(), key=lambda item: len(item[1]))
        return FlatPlan(members, dtype) if len(members) > 1 else None

    def _pieces(self, flat: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(
            flat[start : start + p._data.size].reshape(p._data.shape)
            for start, p in zip(self.starts, self.parameters, strict=True)
        )

    def intact(self) -> bool:
        """Whether every parameter still lives in the block."""
        return all([p._data is a for p, a in zip(self.parameters, self.arrays, strict=True)])

    def gather(self) -> np.ndarray:
        """All gradients in one array, in the parameters' order. Where they lie in their `places` already, nothing is copied."""
        if all([p.grad._data is place for p, place in zip(self.parameters, self.places, strict=True)]):  # type: ignore[union-attr]
            return self.gradients
        for parameter, place in zip(self.parameters, self.places, strict=True):
            place[...] = parameter.grad._data  # type: ignore[union-attr]
        return self.gradients

    def state(self, name: str, states: State, start: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """The flat array behind the state called `name`; what `states` held before, or `start(value)`, is moved into it."""
        tensors = self.state_tensors.get(name)
        if tensors is not None and all([states[p].get(name) is t for p, t in zip(self.parameters, tensors, strict=True)]):
            return self.states[name]
        flat = self.states[name] = _zeros(self.size, self.dtype)
        tensors = self.state_tensors[name] = []
        for parameter, piece in zip(self.parameters, self._pieces(flat), strict=True):
            known = states[parameter].get(name)
            if known is not None:
                check_state(parameter, name, known)
            piece[...] = start(parameter._data) if known is None else known._data
            tensor = states[parameter][name] = wrap(piece)
            tensors.append(tensor)
        return flat
