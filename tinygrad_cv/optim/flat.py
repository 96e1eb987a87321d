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


class FlatPlan:
    """Parameters of one dtype whose values lie in one array, with flat arrays beside it for gradients and optimizer state."""

    def __init__(self, parameters: Sequence[Tensor], dtype: np.dtype[Any]) -> None:
        self.parameters = tuple(parameters)
        self.values = np.concatenate([p._data.reshape(-1) for p in parameters])
        self.gradients = np.empty(self.values.size, dtype)
        self.arrays = self._pieces(self.values)
        self.states: dict[str, np.ndarray] = {}
        self.state_tensors: dict[str, list[Tensor]] = {}
        for parameter, array in zip(self.parameters, self.arrays, strict=True):
            parameter._data = array

    @staticmethod
    def build(parameters: Sequence[Tensor]) -> FlatPlan | None:
        """A plan for the parameters that can be moved unnoticed, of the dtype most of them have; None for fewer than two."""
        by_dtype: dict[np.dtype[Any], list[Tensor]] = {}
        for parameter in parameters:
            if parameter._data.dtype.itemsize >= 4 and parameter._data.size and _unshared(parameter):
                by_dtype.setdefault(parameter._data.dtype, []).append(parameter)
        if not by_dtype:
            return None
        dtype, members = max(by_dtype.items(), key=lambda item: len(item[1]))
        return FlatPlan(members, dtype) if len(members) > 1 else None

    def _pieces(self, flat: np.ndarray) -> tuple[np.ndarray, ...]:
        pieces, start = [], 0
        for parameter in self.parameters:
            size = parameter._data.size
            pieces.append(flat[start : start + size].reshape(parameter._data.shape))
            start += size
        return tuple(pieces)

    def intact(self) -> bool:
        """Whether every parameter still lives in the block."""
        return all([p._data is a for p, a in zip(self.parameters, self.arrays, strict=True)])

    def gather(self) -> np.ndarray:
        """All gradients in one array, in the parameters' order."""
        return np.concatenate([p.grad._data.ravel() for p in self.parameters], out=self.gradients)  # type: ignore[union-attr]

    def state(self, name: str, states: State, start: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """The flat array behind the state called `name`; what `states` held before, or `start(value)`, is moved into it."""
        tensors = self.state_tensors.get(name)
        if tensors is not None and all([states[p].get(name) is t for p, t in zip(self.parameters, tensors, strict=True)]):
            return self.states[name]
        flat = self.states[name] = np.empty(self.values.size, self.values.dtype)
        tensors = self.state_tensors[name] = []
        for parameter, piece in zip(self.parameters, self._pieces(flat), strict=True):
            known = states[parameter].get(name)
            piece[...] = start(parameter._data) if known is None else known._data
            tensor = states[parameter][name] = wrap(piece)
            tensors.append(tensor)
        return flat
