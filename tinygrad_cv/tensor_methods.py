"""Tensor methods that are no operators: conversions by name, in-place writes, new tensors like this one.

A base class of Tensor, so that editors and type checkers see it. What it needs of the package is imported when a method runs:
this module stands below `_tensor`.
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import dtypes
from .random_fills import RandomFills

if TYPE_CHECKING:
    from ._tensor import Tensor


class TensorMethods(RandomFills):
    """Mixed into Tensor. `self` is always a Tensor."""

    # Conversion -------------------------------------------------------------------------------------------------------

    def float(self: Any) -> Tensor:
        """This tensor as float32; itself if it is."""
        return self.to(dtypes.float32)  # type: ignore[no-any-return]

    def double(self: Any) -> Tensor:
        """This tensor as float64; itself if it is."""
        return self.to(dtypes.float64)  # type: ignore[no-any-return]

    def half(self: Any) -> Tensor:
        """This tensor as float16; itself if it is."""
        return self.to(dtypes.float16)  # type: ignore[no-any-return]

    def long(self: Any) -> Tensor:
        """This tensor as int64, fractions dropped; itself if it is."""
        return self.to(dtypes.int64)  # type: ignore[no-any-return]

    def int(self: Any) -> Tensor:
        """This tensor as int32, fractions dropped; itself if it is."""
        return self.to(dtypes.int32)  # type: ignore[no-any-return]

    def short(self: Any) -> Tensor:
        """This tensor as int16, fractions dropped; itself if it is."""
        return self.to(dtypes.int16)  # type: ignore[no-any-return]

    def char(self: Any) -> Tensor:
        """This tensor as int8, fractions dropped; itself if it is."""
        return self.to(dtypes.int8)  # type: ignore[no-any-return]

    def byte(self: Any) -> Tensor:
        """This tensor as uint8, fractions dropped; itself if it is."""
        return self.to(dtypes.uint8)  # type: ignore[no-any-return]

    def bool(self: Any) -> Tensor:
        """Whether each element differs from 0; the tensor itself if it is bool."""
        return self.to(dtypes.bool_)  # type: ignore[no-any-return]

    def type_as(self: Any, other: Tensor) -> Tensor:
        """This tensor in the dtype of `other`."""
        return self.to(other.dtype)  # type: ignore[no-any-return]

    def view_as(self: Any, other: Tensor) -> Tensor:
        """`self.view(other.shape)`."""
        return self.view(other.shape)  # type: ignore[no-any-return]

    def reshape_as(self: Any, other: Tensor) -> Tensor:
        """`self.reshape(other.shape)`."""
        return self.reshape(other.shape)  # type: ignore[no-any-return]

    def unfold(self: Any, dimension: builtins.int, size: builtins.int, step: builtins.int) -> Tensor:
        """A view of all windows of `size` elements along `dimension`, `step` apart, their elements on a new last axis.

        (The im2col of images is `tg.unfold`.)
        """
        return self.sliding_windows(dimension, size, step)  # type: ignore[no-any-return]

    def nelement(self: Any) -> builtins.int:
        """The number of elements, as `numel()`."""
        return self.numel()  # type: ignore[no-any-return]

    def ndimension(self: Any) -> builtins.int:
        """The number of axes, as `dim()`."""
        return self.dim()  # type: ignore[no-any-return]

    # New tensors ------------------------------------------------------------------------------------------------------

    def new_tensor(
        self: Any, data: Any, *, dtype: Any = None, device: Any = "cpu", requires_grad: builtins.bool = False
    ) -> Tensor:
        """A tensor of `data`, copied, with the dtype of this one unless given."""
        from .creation import tensor

        return tensor(data, dtype=self.dtype if dtype is None else dtype, device=device, requires_grad=requires_grad)

    def new_zeros(
        self: Any, *sizes: Any, size: Any = None, dtype: Any = None, device: Any = "cpu", requires_grad: builtins.bool = False
    ) -> Tensor:
        """Zeros of shape `size`, with the dtype of this tensor unless given."""
        from .creation import zeros

        return zeros(
            *sizes, size=size, dtype=self.dtype if dtype is None else dtype, device=device, requires_grad=requires_grad
        )

    def new_ones(
        self: Any, *sizes: Any, size: Any = None, dtype: Any = None, device: Any = "cpu", requires_grad: builtins.bool = False
    ) -> Tensor:
        """Ones of shape `size`, with the dtype of this tensor unless given."""
        from .creation import ones

        return ones(*sizes, size=size, dtype=self.dtype if dtype is None else dtype, device=device, requires_grad=requires_grad)

    def new_empty(
        self: Any, *sizes: Any, size: Any = None, dtype: Any = None, device: Any = "cpu", requires_grad: builtins.bool = False
    ) -> Tensor:
        """A tensor of shape `size` with unspecified values, with the dtype of this tensor unless given."""
        from .creation import empty

        return empty(
            *sizes, size=size, dtype=self.dtype if dtype is None else dtype, device=device, requires_grad=requires_grad
        )

    def new_full(
        self: Any,
        size: Sequence[builtins.int],
        fill_value: Any,
        *,
        dtype: Any = None,
        device: Any = "cpu",
        requires_grad: builtins.bool = False,
    ) -> Tensor:
        """`fill_value` in shape `size`, with the dtype of this tensor unless given."""
        from .creation import full

        return full(size, fill_value, dtype=self.dtype if dtype is None else dtype, device=device, requires_grad=requires_grad)

    def where(self: Any, condition: Tensor, other: Any) -> Tensor:
        """Elements of this tensor where `condition` holds, of `other` elsewhere; see `tinygrad_cv.where`."""
        from .registry import get

        return get("where").function(condition, self, other)  # type: ignore[no-any-return]

    # In-place writes --------------------------------------------------------------------------------------------------

    def copy_(self: Any, src: Tensor, non_blocking: builtins.bool = False) -> Tensor:
        """Writes `src`, broadcast and cast, into this tensor. Gradients then flow to `src` and no longer to the old values.

        ValueError if `src` does not broadcast to this shape; RuntimeError where this memory may not be written.
        """
        from .indexing import assign

        if not isinstance(src, TensorMethods):
            raise TypeError(f"copy_: expected a Tensor, got {type(src).__name__}; use fill_ for a number")
        assign(self, ..., src, "copy_")
        return self  # type: ignore[no-any-return]

    def fill_(self: Any, value: Any) -> Tensor:
        """Sets every element to `value`, a number or a 0-d tensor (which then receives the gradient)."""
        from .indexing import assign

        if np.ndim(value) if not isinstance(value, TensorMethods) else value.ndim:  # type: ignore[attr-defined]
            raise ValueError(f"fill_: expected a number or a 0-d tensor, got shape {np.shape(value)}; use copy_")
        assign(self, ..., value, "fill_")
        return self  # type: ignore[no-any-return]

    def zero_(self: Any) -> Tensor:
        """Sets every element to 0."""
        from .indexing import assign

        assign(self, ..., 0, "zero_")
        return self  # type: ignore[no-any-return]
