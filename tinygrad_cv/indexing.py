"""`x[index]` and `x[index] = value`: reads an index as NumPy does and hands it to the operators getitem, index and setitem."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._state import state
from ._tensor import Tensor, wrap
from .dispatch import check_writable, finish_inplace, record
from .registry import get as get_operator


def canonical(index: Any, shape: tuple[int, ...]) -> tuple[tuple[Any, ...], bool]:
    """The index as a tuple of ints, slices, None, Ellipsis and arrays, and whether it is basic (gives a view).

    IndexError, before any work, for too many indices, a value out of range, a mask of the wrong shape or a wrong type.
    """
    items = index if isinstance(index, tuple) else (index,)
    result: list[Any] = []
    basic = True
    consumed = 0
    for item in items:
        if isinstance(item, Tensor):
            item = item._data
        if item is None or item is Ellipsis:
            result.append(item)
            continue
        if isinstance(item, (list, range)):
            item = np.asarray([i._data if isinstance(i, Tensor) else i for i in item])
            item = item.astype(np.int64) if item.size == 0 else item
        if isinstance(item, slice):
            parts = (item.start, item.stop, item.step)
            item = slice(*(p if p is None else p.__index__() for p in parts))
            consumed += 1
        elif isinstance(item, (bool, np.bool_)) or (isinstance(item, np.ndarray) and item.dtype.kind == "b"):
            item = np.asarray(item)
            basic = False
            consumed += item.ndim
        elif isinstance(item, np.ndarray):
            if item.dtype.kind not in "iu":
                raise IndexError(f"getitem: an index array must hold integers or booleans, got {item.dtype}")
            if item.ndim == 0:
                item = int(item)
            else:
                basic = False
                item = item.astype(np.int64, copy=False)
            consumed += 1
        elif hasattr(item, "__index__"):
            item = item.__index__()
            consumed += 1
        else:
            raise IndexError(f"getitem: expected int, slice, None, ..., or an integer or boolean array, got {type(item).__name__}")
        result.append(item)
    if sum(i is Ellipsis for i in result) > 1:
        raise IndexError("getitem: an index may hold only one ellipsis (...)")
    if consumed > len(shape):
        raise IndexError(f"getitem: {consumed} indices for a tensor of {len(shape)} axes, shape {shape}")
    _check_bounds(result, shape, consumed)
    return tuple(result), basic


def _check_bounds(items: list[Any], shape: tuple[int, ...], consumed: int) -> None:
    axis = 0
    for item in items:
        if item is None:
            continue
        if item is Ellipsis:
            axis += len(shape) - consumed
        elif isinstance(item, np.ndarray) and item.dtype.kind == "b":
            if item.shape != shape[axis : axis + item.ndim]:
                raise IndexError(
                    f"getitem: a mask of shape {item.shape} cannot index axes {axis}..{axis + item.ndim - 1} of shape {shape}"
                )
            axis += item.ndim
        else:
            size = shape[axis]
            if isinstance(item, int) and not -size <= item < size:
                raise IndexError(f"getitem: index {item} is out of range for axis {axis} of size {size}")
            if isinstance(item, np.ndarray) and item.size and not (-size <= item.min() and item.max() < size):
                bad = item[(item < -size) | (item >= size)].flat[0]
                raise IndexError(f"getitem: index {bad} is out of range for axis {axis} of size {size}")
            axis += 1


def get(tensor: Tensor, index: Any) -> Tensor:
    """`tensor[index]`: a view for ints, slices, None and ...; a copy when arrays or masks are involved."""
    items, basic = canonical(index, tensor.shape)
    found: Tensor = get_operator("getitem" if basic else "index").function(tensor, items)
    return found


def assign(tensor: Tensor, index: Any, value: Any) -> None:
    """`tensor[index] = value`, in place and recorded: the old elements lose their gradient, `value` gains it."""
    items, _ = canonical(index, tensor.shape)
    if not isinstance(value, Tensor):
        value = wrap(np.asarray(value, tensor.dtype))
    elif value.dtype != tensor.dtype:
        value = value.to(tensor.dtype)
    check_writable("setitem", tensor)
    region = tensor._data[items].shape
    try:
        fits = np.broadcast_shapes(value.shape, region) == region
    except ValueError:
        fits = False
    if not fits and value.numel() == 1 and value.ndim > len(region):
        value, fits = value.reshape(()), True  # type: ignore[attr-defined]
    if not fits:
        raise ValueError(f"setitem: a value of shape {value.shape} does not fit the indexed region of shape {region}")
    data = value._data.copy() if np.may_share_memory(value._data, tensor._data) else value._data
    result = wrap(tensor._data)
    if state.grad_enabled and (tensor.requires_grad or value.requires_grad):
        record(get_operator("setitem"), (tensor, value), (items,), (result,))
    tensor._data[items] = data
    finish_inplace(tensor, result, None)
