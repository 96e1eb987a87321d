"""Parameter: the Tensor that a module learns, and the one way in which this package writes over a parameter's values."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._tensor import Tensor
from ..creation import as_tensor
from ..replay import left


class Parameter(Tensor):
    """A leaf Tensor that a Module registers when it is assigned as an attribute.

    data: a Tensor (its memory is shared), or anything `tg.as_tensor` takes. Results of operators on a Parameter are plain
    Tensors. TypeError for `requires_grad` with a dtype that has no gradients.
    """

    def __new__(cls, data: Any = None, requires_grad: bool = True) -> Parameter:
        parameter: Parameter = object.__new__(cls)
        if data is None:
            parameter._data = np.zeros((0,), np.float32)
        else:
            source = as_tensor(data).detach()
            parameter._data = source._data
            parameter._storage = source._storage
        if requires_grad:
            parameter.requires_grad_()
        return parameter

    def __init__(self, data: Any = None, requires_grad: bool = True) -> None:
        """Everything is done by `__new__`."""


def overwrite(tensor: Tensor, values: np.ndarray) -> None:
    """Writes `values` (broadcast, cast) over a tensor, recorded or not, and counts the write.

    This is the write of initialisers, optimizers and state loading: no check for gradients that still need the old values,
    but a graph that saved them raises at its backward instead of giving wrong gradients.
    """
    if tensor._base is not None:
        tensor._refresh_view()
    if not tensor._data.flags.writeable:
        raise RuntimeError(
            f"this tensor of shape {tensor.shape} is read-only memory; make it from a copy (.clone()) to change it"
        )
    np.copyto(tensor._data, values, casting="same_kind" if values.dtype.kind == tensor._data.dtype.kind else "unsafe")
    mark_written(tensor)


def mark_written(tensor: Tensor) -> None:
    """Counts a write to the tensor's memory, so that graphs that saved it notice."""
    left(tensor, "a write that no operator records")
    if tensor._storage is not None:
        tensor._storage.version += 1
