"""`x[index]` and `x[index] = value`: reads an index as NumPy does and hands it to the operators getitem, index and setitem.

Index arrays broadcast together and stand where NumPy puts them: in place of the axes they replace where these are adjacent,
else in front. (PyTorch agrees, except that there an int beside an index array never counts as one of the arrays.)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import dispatch
from ._state import state
from ._tensor import Tensor, wrap
from .registry import get as get_operator
from .replay import left


def canonical(index: Any, shape: tuple[int, ...], name: str = "getitem", check: bool = True) -> tuple[tuple[Any, ...], bool]:
    """The index as a tuple of ints, slices, None, Ellipsis and arrays, and whether it is basic (gives a view).

    IndexError, before any work, for a wrong type and, if `check`, for too many indices, a value out of range or a mask of the
    wrong shape.
    """
    items = index if isinstance(index, tuple) else (index,)
    result: list[Any] = []
    basic = True
    consumed = 0
    for item in items:
        if isinstance(item, Tensor):
            left(item, "an index")
            item = item._data
        if item is None or item is Ellipsis:
            result.append(item)
            continue
        if isinstance(item, (list, range)):
            item = _from_list(item, name)
        if isinstance(item, slice):
            item = _plain_slice(item, name)
            consumed += 1
        elif isinstance(item, (bool, np.bool_)) or (isinstance(item, np.ndarray) and item.dtype.kind == "b"):
            item = np.asarray(item)
            basic = False
            consumed += item.ndim
        elif isinstance(item, np.ndarray):
            if item.dtype.kind not in "iu":
                raise IndexError(f"{name}: an index array must hold integers or booleans, got {item.dtype}")
            if item.ndim == 0:
                item = int(item)
            else:
                basic = False
                item = np.ascontiguousarray(item, np.int64)
            consumed += 1
        elif hasattr(item, "__index__"):
            item = item.__index__()
            consumed += 1
        else:
            raise IndexError(
                f"{name}: expected int, slice, None, ..., or an integer or boolean array, got {type(item).__name__}"
            )
        result.append(item)
    if sum(i is Ellipsis for i in result) > 1:
        raise IndexError(f"{name}: an index may hold only one ellipsis (...)")
    if consumed > len(shape):
        raise IndexError(f"{name}: {consumed} indices for a tensor of {len(shape)} axes, shape {shape}")
    if check:
        _check_bounds(result, shape, consumed, name)
    return tuple(result), basic


def _from_list(item: list[Any] | range, name: str) -> np.ndarray:
    """An index written as a list, as an array; an empty one holds integers."""
    for i in item:
        if isinstance(i, Tensor):
            left(i, "an index")
    try:
        array = np.asarray([i._data if isinstance(i, Tensor) else i for i in item])
    except ValueError:
        raise IndexError(f"{name}: the rows of an index list must have equal lengths") from None
    return array.astype(np.int64) if array.size == 0 else array


def _plain_slice(item: slice, name: str) -> slice:
    try:
        plain = slice(*(p if p is None else p.__index__() for p in (item.start, item.stop, item.step)))
    except (AttributeError, TypeError):
        raise IndexError(f"{name}: the bounds and step of a slice must be integers or None, got {item}") from None
    if plain.step == 0:
        raise IndexError(f"{name}: the step of a slice must not be 0")
    return plain


def _check_bounds(items: list[Any], shape: tuple[int, ...], consumed: int, name: str) -> None:
    axis = 0
    for item in items:
        if item is None:
            continue
        if item is Ellipsis:
            axis += len(shape) - consumed
        elif isinstance(item, np.ndarray) and item.dtype.kind == "b":
            if item.shape != shape[axis : axis + item.ndim]:
                raise IndexError(
                    f"{name}: a mask of shape {item.shape} cannot index axes {axis}..{axis + item.ndim - 1} of shape {shape}"
                )
            axis += item.ndim
        else:
            size = shape[axis]
            if isinstance(item, int) and not -size <= item < size:
                raise IndexError(f"{name}: index {item} is out of range for axis {axis} of size {size}")
            if isinstance(item, np.ndarray) and item.size and not (-size <= item.min() and item.max() < size):
                bad = item[(item < -size) | (item >= size)].flat[0]
                raise IndexError(f"{name}: index {bad} is out of range for axis {axis} of size {size}")
            axis += 1
    arrays = [i for i in items if isinstance(i, np.ndarray)]
    if len(arrays) > 1:
        shapes = [(int(np.count_nonzero(i)),) if i.dtype.kind == "b" else i.shape for i in arrays]
        try:
            np.broadcast_shapes(*shapes)
        except ValueError:
            raise IndexError(
                f"{name}: index arrays of shapes {', '.join(map(str, shapes))} do not broadcast (masks count true elements)"
            ) from None


_PLAIN = (int, type(None), type(Ellipsis))


def _plain(item: Any) -> bool:
    """Whether NumPy can take this part of a basic index as it is."""
    kind = type(item)
    if kind is slice:
        return type(item.start) in _PLAIN and type(item.stop) in _PLAIN and type(item.step) in _PLAIN
    return kind in _PLAIN


def get(tensor: Tensor, index: Any) -> Tensor:
    """`tensor[index]`: a view for ints, slices, None and ...; a copy when arrays or masks are involved."""
    items = index if type(index) is tuple else (index,)
    basic = True
    for item in items:
        if not _plain(item):
            items, basic = canonical(index, tensor.shape, check=False)
            break
    if not basic and ((tensor.requires_grad and state.grad_enabled) or state.capture is not None):
        # The backward pass needs the positions as they are now, whatever the caller writes to the index later.
        items = tuple([i.copy() if isinstance(i, np.ndarray) else i for i in items])
    try:
        found: Tensor = dispatch.apply(get_operator("getitem" if basic else "index"), (tensor,), (items,))
    except (IndexError, ValueError):
        canonical(index, tensor.shape)  # NumPy looked before it read; this says the same in our words
        raise
    return found


def fitting(name: str, tensor: Tensor, items: tuple[Any, ...], value: Any) -> Tensor:
    """`value` as a Tensor of the dtype of `tensor`, once it is certain to broadcast to `tensor[items]`; else ValueError."""
    if not isinstance(value, Tensor):
        value = wrap(np.asarray(value, tensor.dtype))
        if state.capture is not None:
            state.capture.made(value)
    elif value.dtype != tensor.dtype:
        value = value.to(tensor.dtype)
    if value.ndim == 0:
        return value
    region = np.broadcast_to(np.False_, tensor.shape)[items].shape
    missing = value.ndim - len(region)
    if missing > 0 and value.shape[:missing] == (1,) * missing:
        value = value.reshape(value.shape[missing:])  # type: ignore[attr-defined]
    try:
        fits = np.broadcast_shapes(value.shape, region) == region
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"{name}: a value of shape {value.shape} does not fit the indexed region of shape {region}")
    return value


def put(array: np.ndarray, items: tuple[Any, ...], value: np.ndarray) -> None:
    """`array[items] = value`. Where integer arrays name a place twice, the last value (in row-major order) stays."""
    if value.ndim and any([isinstance(i, np.ndarray) and i.dtype.kind != "b" for i in items]):
        # NumPy follows the layout of the values; contiguous ones are written in order.
        value = np.ascontiguousarray(np.broadcast_to(value, np.broadcast_to(np.False_, array.shape)[items].shape))
    array[items] = value


def assign(tensor: Tensor, index: Any, value: Any, name: str = "setitem") -> None:
    """`tensor[index] = value`, in place and recorded: the old elements lose their gradient, `value` gains it."""
    items, _ = canonical(index, tensor.shape, name)
    value = fitting(name, tensor, items, value)
    dispatch.check_writable(name, tensor)
    data = value._data
    if np.may_share_memory(data, tensor._data):
        data = data.copy()
    result = wrap(tensor._data)
    wants = state.grad_enabled and (tensor.requires_grad | value.requires_grad)  # | : both bring a stale view up to date
    if wants or state.capture is not None:
        items = tuple([i.copy() if isinstance(i, np.ndarray) else i for i in items])
        dispatch.record(get_operator("setitem"), (tensor, value), (items,), (result,), wants)
    put(tensor._data, items, data)
    dispatch.finish_inplace(tensor, result, None)


Tensor.__getitem__ = get  # type: ignore[method-assign]
Tensor.__setitem__ = assign  # type: ignore[method-assign, assignment]
