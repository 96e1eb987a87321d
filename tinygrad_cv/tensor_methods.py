"""Tensor methods that are no operators: conversions by name, in-place writes, new tensors like this one.

Each function here becomes a method of the same name when this module is imported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import creation, dtypes, indexing
from ._tensor import Tensor, wrap
from .registry import get as get_operator

# Indexing -------------------------------------------------------------------------------------------------------------

Tensor.__getitem__ = indexing.get  # type: ignore[method-assign]
Tensor.__setitem__ = indexing.assign  # type: ignore[method-assign, assignment]


def unfold(self: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """A view of all windows of `size` elements along `dimension`, `step` apart, their elements on a new last axis.

    (The im2col of images is `tg.unfold`.)
    """
    windows: Tensor = get_operator("sliding_windows").function(self, dimension, size, step)
    return windows


# Conversion -----------------------------------------------------------------------------------------------------------


_CONVERSIONS = {
    "float": dtypes.float32, "double": dtypes.float64, "half": dtypes.float16, "long": dtypes.int64, "int": dtypes.int32,
    "short": dtypes.int16, "char": dtypes.int8, "byte": dtypes.uint8, "bool": dtypes.bool_,
}  # fmt: skip


def _conversion(name: str, dtype: np.dtype[Any]) -> Callable[[Tensor], Tensor]:
    def convert(self: Tensor) -> Tensor:
        return self.to(dtype)

    convert.__name__ = name
    convert.__doc__ = f"This tensor as {dtype}; itself if it is. Floats become integers by dropping their fraction."
    return convert


def type_as(self: Tensor, other: Tensor) -> Tensor:
    """This tensor in the dtype of `other`."""
    return self.to(other.dtype)


def view_as(self: Tensor, other: Tensor) -> Tensor:
    """`self.view(other.shape)`."""
    return self.view(other.shape)  # type: ignore[attr-defined, no-any-return]


def reshape_as(self: Tensor, other: Tensor) -> Tensor:
    """`self.reshape(other.shape)`."""
    return self.reshape(other.shape)  # type: ignore[attr-defined, no-any-return]


def nelement(self: Tensor) -> int:
    """The number of elements, as `numel()`."""
    return self.numel()


def ndimension(self: Tensor) -> int:
    """The number of axes, as `dim()`."""
    return self.dim()


# New tensors ----------------------------------------------------------------------------------------------------------


def new_tensor(self: Tensor, data: Any, *, dtype: Any = None, device: Any = "cpu", requires_grad: bool = False) -> Tensor:
    """A tensor of `data`, copied, with the dtype of this one unless given."""
    if isinstance(data, Tensor):
        data = data._data
    return creation.tensor(
        np.array(data), dtype=self.dtype if dtype is None else dtype, device=device, requires_grad=requires_grad
    )


def new_zeros(self: Tensor, *size: Any, dtype: Any = None, device: Any = "cpu", requires_grad: bool = False) -> Tensor:
    """Zeros of shape `size`, with the dtype of this tensor unless given."""
    return creation.zeros(*size, dtype=self.dtype if dtype is None else dtype, device=device, requires_grad=requires_grad)


def new_ones(self: Tensor, *size: Any, dtype: Any = None, device: Any = "cpu", requires_grad: bool = False) -> Tensor:
    """Ones of shape `size`, with the dtype of this tensor unless given."""
    return creation.ones(*size, dtype=self.dtype if dtype is None else dtype, device=device, requires_grad=requires_grad)


def new_empty(self: Tensor, *size: Any, dtype: Any = None, device: Any = "cpu", requires_grad: bool = False) -> Tensor:
    """A tensor of shape `size` with unspecified values, with the dtype of this tensor unless given."""
    return creation.empty(*size, dtype=self.dtype if dtype is None else dtype, device=device, requires_grad=requires_grad)


def new_full(
    self: Tensor, size: Any, fill_value: Any, *, dtype: Any = None, device: Any = "cpu", requires_grad: bool = False
) -> Tensor:
    """`fill_value` in shape `size`, with the dtype of this tensor unless given."""
    return creation.full(
        size, fill_value, dtype=self.dtype if dtype is None else dtype, device=device, requires_grad=requires_grad
    )


# In-place writes ------------------------------------------------------------------------------------------------------


def copy_(self: Tensor, src: Any, non_blocking: bool = False) -> Tensor:
    """Writes `src`, broadcast and cast, into this tensor. Gradients then flow to `src` and no longer to the old values.

    ValueError if `src` does not broadcast to this shape; RuntimeError where this memory may not be written.
    """
    if not isinstance(src, Tensor):
        raise TypeError(f"copy_: expected a Tensor, got {type(src).__name__}; use fill_ for a number")
    indexing.assign(self, ..., src, "copy_")
    return self


def fill_(self: Tensor, value: Any) -> Tensor:
    """Sets every element to `value`, a number or a 0-d tensor (which then receives the gradient)."""
    if isinstance(value, Tensor) and value.ndim:
        raise ValueError(f"fill_: expected a number or a 0-d tensor, got shape {value.shape}; use copy_")
    indexing.assign(self, ..., value, "fill_")
    return self


def zero_(self: Tensor) -> Tensor:
    """Sets every element to 0."""
    indexing.assign(self, ..., wrap(np.zeros((), self.dtype)), "zero_")
    return self


for _method in (
    unfold, type_as, view_as, reshape_as, nelement, ndimension, new_tensor, new_zeros, new_ones, new_empty, new_full, copy_,
    fill_, zero_, *(_conversion(name, dtype) for name, dtype in _CONVERSIONS.items()),
):  # fmt: skip
    _method.__qualname__ = f"Tensor.{_method.__name__}"
    setattr(Tensor, _method.__name__, _method)
