"""Reading and writing by tensors of positions: gather, index_select, index_put and their like. (scatter: scattering.py)"""

from __future__ import annotations

import numpy as np

import tinygrad_cv as tg

from ..extend import Adjoint, Array, Composite, Linear, Op, Tensor, call, op
from .arithmetic import held_by
from .shape import canonical_axis


def within(values: np.ndarray, size: int, lowest: int = 0) -> bool:
    """Whether all integers in `values` lie in lowest .. size - 1."""
    if not values.size:
        return True
    if lowest == 0 and values.dtype == np.int64:  # in one pass: as unsigned numbers, negative ones are the largest
        return bool(values.view(np.uint64).max() < size)
    return bool(values.min() >= lowest and values.max() < size)


def check_positions(name: str, index, size: int, axis: int, argument: str = "index", lowest: int = 0) -> None:
    """TypeError unless `index` is a Tensor of integers, IndexError unless all lie in lowest .. size - 1."""
    if not isinstance(index, Tensor):
        raise TypeError(f"{name}: expected a Tensor of integers for `{argument}`, got {type(index).__name__}")
    values = index._data
    if values.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected integers in `{argument}`, got {values.dtype}; use .long()")
    if not within(values, size, lowest):
        bad = values[(values < lowest) | (values >= size)].flat[0]
        raise IndexError(f"{name}: `{argument}` holds {bad}, which is out of range for axis {axis} of size {size}")


def check_grid(name: str, input, dim: int, index, argument: str = "index") -> int:
    """The axis of a gather or scatter: `index` has as many axes as `input` and is no larger on the others."""
    axis = canonical_axis(name, dim, input.ndim)
    size = input.shape[axis] if input.ndim else 1
    check_positions(name, index, size, axis, argument)
    have, room = index.shape or (1,), input.shape or (1,)
    if len(have) != len(room):
        raise ValueError(f"{name}: `{argument}` of shape {index.shape} must have as many axes as input of shape {input.shape}")
    for k, (h, r) in enumerate(zip(have, room, strict=True)):
        if k != axis and h > r and index.numel():
            raise ValueError(
                f"{name}: `{argument}` of shape {index.shape} is larger than input of shape {input.shape} on axis {k}; only "
                f"dim {axis} may be"
            )
    return axis


def grid_domain(draw):
    """An input, an axis, and positions along it that may cover only part of the other axes."""
    shape = draw.shape((1, 3), 2, 4)
    dim = draw.integer(0, len(shape) - 1)
    grid = [draw.integer(1, n) for n in shape]
    grid[dim] = draw.integer(1, 5)
    return draw.real(shape), draw.choice([dim, dim - len(shape)]), draw.integers(grid, 0, shape[dim])


@op(
    "gather",
    domain=lambda draw: call(*grid_domain(draw)),
    formula="out[i, j, k] = input[i, index[i, j, k], k] for dim = 1",
    kernels={"cpu": "tinygrad_cv.ops.cpu.gathering:gather"},
    laws=(
        Linear("input"),
        Adjoint("input", of="scatter_add", by=lambda y, input, dim, index: (np.zeros(input.shape), dim, index, y)),
    ),
)
class gather(Op):
    """The elements of `input` at positions `index` along axis `dim`; the result has the shape of `index`.

    index: integers (int64 in PyTorch, any integer dtype here) with as many axes as `input`, on axes other than `dim` no larger.
    IndexError for a position outside 0 .. size - 1. sparse_grad is accepted and ignored.
    """

    nondiff = ("index",)

    def prepare(input, dim, index, *, sparse_grad=False):
        return input, check_grid("gather", input, dim, index), index, bool(sparse_grad)

    def reference(input: Array, dim: int, index: Array, *, sparse_grad: bool = False) -> np.ndarray:
        if not index.size:
            return np.zeros(index.shape, input.dtype)
        if not input.ndim or not index.ndim:
            return input.reshape(-1)[index]
        region = input[tuple(slice(None) if k == dim else slice(0, n) for k, n in enumerate(index.shape))]
        return np.take_along_axis(region, index, dim)

    def grad_input(upstream, ctx, dim, index):
        return tg.zeros(ctx.input_shapes[0], dtype=upstream.dtype).scatter_add(dim, index, upstream)


def _check_line(name: str, input, dim: int, index) -> int:
    """The axis of an index_* operator, whose `index` is a line of positions."""
    axis = canonical_axis(name, dim, input.ndim)
    check_positions(name, index, input.shape[axis] if input.ndim else 1, axis)
    if index.ndim > 1:
        raise ValueError(f"{name}: expected `index` with one axis, got shape {index.shape}; gather takes more")
    return axis


def _line_domain(draw):
    shape = draw.shape((1, 3), 2, 4)
    dim = draw.integer(0, len(shape) - 1)
    index = draw.integers((draw.integer(1, shape[dim] + 1),), 0, shape[dim])
    return draw.real(shape), draw.choice([dim, dim - len(shape)]), index


@op(
    "index_select",
    domain=lambda draw: call(*_line_domain(draw)),
    formula="out[i, j, k] = input[i, index[j], k] for dim = 1",
    kernels={"cpu": "tinygrad_cv.ops.cpu.gathering:index_select"},
    laws=(
        Linear("input"),
        Adjoint("input", of="index_add", by=lambda y, input, dim, index: (np.zeros(input.shape), dim, index, y)),
    ),
)
class index_select(Op):
    """The slices of `input` at positions `index` (1-D integers) along axis `dim`, in new memory. IndexError out of range."""

    nondiff = ("index",)

    def prepare(input, dim, index):
        return input, _check_line("index_select", input, dim, index), index

    def reference(input: Array, dim: int, index: Array) -> np.ndarray:
        if not input.ndim:
            return input.copy()
        return np.take(input, index.reshape(-1), axis=dim)

    def grad_input(upstream, ctx, dim, index):
        return tg.zeros(ctx.input_shapes[0], dtype=upstream.dtype).index_add(dim, index, upstream)


def _check_slices(name: str, input, axis: int, index, source) -> None:
    """ValueError unless `source` has a slice of input's shape for every position in `index`; TypeError for another dtype."""
    expected = (*input.shape[:axis], index.numel(), *input.shape[axis + 1 :]) if input.ndim else ()
    if source.dtype != input.dtype:
        raise TypeError(f"{name}: `source` has dtype {source.dtype}, expected that of input, {input.dtype}; use .to(dtype)")
    if source.shape != expected and not (not input.ndim and source.numel() == 1):
        raise ValueError(f"{name}: `source` has shape {source.shape}, expected {expected}: one slice for each position")


def _slices_domain(draw, **attributes):
    x, dim, index = _line_domain(draw)
    shape = list(x.shape)
    shape[dim] = len(index)
    return call(x, dim, index, draw.real(shape), **{name: draw.choice(options) for name, options in attributes.items()})


@op(
    "index_add",
    domain=lambda draw: _slices_domain(draw, alpha=[1, 0.5, -2]),
    formula="out = input; out[i, index[j], k] += alpha * source[i, j, k] for dim = 1",
    kernels={"cpu": "tinygrad_cv.ops.cpu.gathering:index_add"},
    inplace=True,
    laws=(Linear("input", "source"),),
)
class index_add(Op):
    """`input` with alpha times the slices of `source` added at positions `index` (1-D) along `dim`; repeated positions sum.

    ValueError if source's shape is not that of `input` with len(index) along `dim`, IndexError for a position out of range.
    """

    nondiff = ("index",)

    def prepare(input, dim, index, source, *, alpha=1):
        axis = _check_line("index_add", input, dim, index)
        _check_slices("index_add", input, axis, index, source)
        return input, axis, index, source, held_by("index_add", "alpha", alpha, input.dtype)

    def reference(input: Array, dim: int, index: Array, source: Array, *, alpha: float = 1) -> np.ndarray:
        out = input.copy()
        added = source if alpha == 1 else source * alpha
        np.add.at(
            out, (slice(None),) * dim + (index.reshape(-1),) if input.ndim else (), added if input.ndim else added.reshape(())
        )
        return out

    def grad_input(upstream):
        return upstream

    def grad_source(upstream, dim, index, alpha, ctx):
        gradient = upstream.index_select(dim, index).reshape(ctx.input_shapes[2])
        return gradient if alpha == 1 else gradient * alpha


@op(
    "index_copy",
    domain=_slices_domain,
    formula="out = input; out[i, index[j], k] = source[i, j, k] for dim = 1",
    inplace=True,
)
class index_copy(Composite):
    """`input` with its slices at positions `index` (1-D) along `dim` replaced by those of `source`."""

    nondiff = ("index",)

    def reference(input: Array, dim: int, index: Array, source: Array) -> np.ndarray:
        out = input.copy()
        out[(slice(None),) * (dim % max(input.ndim, 1)) + (index,)] = source
        return out

    def compose(input, dim, index, source):
        axis = _check_line("index_copy", input, dim, index)
        _check_slices("index_copy", input, axis, index, source)
        return tg.setitem(input, source, (slice(None),) * axis + (index.reshape(-1),) if input.ndim else ...)


def _index_fill_domain(draw):
    return call(*_line_domain(draw), draw.choice([0.5, draw.real(())]))


@op("index_fill", domain=_index_fill_domain, formula="out = input; out[i, index[j], k] = value for dim = 1", inplace=True)
class index_fill(Composite):
    """`input` with its slices at positions `index` (1-D) along `dim` filled with `value`, a number or a 0-d Tensor."""

    nondiff = ("index",)

    def reference(input: Array, dim: int, index: Array, value: Array | float) -> np.ndarray:
        out = input.copy()
        out[(slice(None),) * (dim % max(input.ndim, 1)) + (index,)] = value
        return out

    def compose(input, dim, index, value):
        axis = _check_line("index_fill", input, dim, index)
        if isinstance(value, Tensor) and value.ndim:
            raise ValueError(f"index_fill: expected a number or a 0-d Tensor for `value`, got shape {value.shape}")
        return tg.setitem(input, value, (slice(None),) * axis + (index.reshape(-1),) if input.ndim else ...)


def _take_along_domain(draw):
    if draw.boolean():
        return call(draw.real((2, 3)), draw.integers((draw.integer(1, 4),), 0, 6))
    dim = draw.integer(-2, 1)
    shape, grid = [2, 3], draw.choice([[2, 3], [1, 1], [2, 1]])
    grid[dim] = draw.integer(1, 4)
    return call(draw.real(shape), draw.integers(grid, -shape[dim], shape[dim]), dim)


@op("take_along_dim", domain=_take_along_domain, formula="out[i, j, k] = input[i, indices[i, j, k], k] for dim = 1")
class take_along_dim(Composite):
    """The elements of `input` at `indices` along axis `dim`, the other axes broadcast; without dim of the flattened input.

    Takes what argmax, argsort and topk give; with dim, a negative position counts from the end. IndexError for a position out of
    range, ValueError if the shapes do not broadcast.
    """

    nondiff = ("indices",)

    def reference(input: Array, indices: Array, dim: int | None = None) -> np.ndarray:
        if dim is None:
            return input.reshape(-1)[indices.reshape(-1)]
        return np.take_along_axis(input, indices, dim)

    def compose(input, indices, dim=None):
        if dim is None:
            return input.reshape(-1).gather(0, indices.reshape(-1))
        axis = canonical_axis("take_along_dim", dim, input.ndim)
        if indices.ndim != input.ndim:
            raise ValueError(
                f"take_along_dim: indices of shape {indices.shape} need as many axes as input of shape {input.shape}"
            )
        shapes = [list(input.shape), list(indices.shape)]
        for k, (a, b) in enumerate(zip(input.shape, indices.shape, strict=True)):
            if k != axis:
                if a != b and 1 not in (a, b):
                    raise ValueError(f"take_along_dim: shapes {input.shape} and {indices.shape} do not broadcast on axis {k}")
                shapes[0][k] = shapes[1][k] = b if a == 1 else a
        size = input.shape[axis] if input.ndim else 1
        check_positions("take_along_dim", indices, size, axis, "indices", -size)
        indices = tg.where(indices < 0, indices + size, indices)
        return input.expand(shapes[0]).gather(axis, indices.expand(shapes[1]))


def _index_put_domain(draw):
    x = draw.real((3, 4, 2))
    where = draw.choice(
        [
            (draw.integers((3,), -3, 3),),
            (draw.mask((3, 4)),),
            (draw.integers((2, 1), 0, 3), draw.integers((2,), 0, 4)),
            (None, draw.integers((2,), 0, 4)),
            (draw.integers((2,), 0, 3), None, draw.integers((2,), -2, 2)),
        ]
    )
    region = x[_slices_for(where)].shape
    values = draw.real(draw.choice([region, draw.broadcastable(region), ()]))
    return call(x, where, values, draw.boolean())


def _slices_for(indices) -> tuple:
    return tuple([slice(None) if i is None else i for i in indices])


@op(
    "index_put",
    domain=_index_put_domain,
    formula="out = input; out[indices] = values, or += values where accumulate",
    inplace=True,
)
class index_put(Composite):
    """`input` with `values` (broadcast) written where the tensors in `indices` point, or added there if `accumulate`.

    indices: a tuple of integer or bool Tensors, one for each of the first axes (a mask stands for as many as it has), None for all
    of an axis; they broadcast as in `x[indices]`. values: a Tensor of input's dtype. Of several values for one place all are added;
    without `accumulate` the last stays, and only it receives the gradient. TypeError for other arguments, IndexError for a position
    out of range, ValueError where values do not broadcast.
    """

    def reference(input: Array, indices: tuple, values: Array, accumulate: bool = False) -> np.ndarray:
        out, where = input.copy(), _slices_for(indices)
        if accumulate:
            np.add.at(out, where, values)
        else:
            tg.indexing.put(out, where, values)
        return out

    def compose(input, indices, values, accumulate=False):
        if not isinstance(indices, (tuple, list)) or not all(isinstance(i, (Tensor, np.ndarray, type(None))) for i in indices):
            raise TypeError("index_put: expected `indices` as a tuple of Tensors (None for all of an axis)")
        if not isinstance(values, Tensor):
            raise TypeError(f"index_put: expected a Tensor for `values`, got {type(values).__name__}")
        if values.dtype != input.dtype:
            raise TypeError(
                f"index_put: `values` has dtype {values.dtype}, expected that of input, {input.dtype}; use .to(dtype)"
            )
        items, _ = tg.indexing.canonical(_slices_for(indices), input.shape, "index_put")
        items = tuple([i.copy() if isinstance(i, np.ndarray) else i for i in items])  # backward needs them as they are now
        values = tg.indexing.fitting("index_put", input, items, values)
        if not accumulate:
            return tg.setitem(input, values, items)
        region = np.broadcast_to(np.False_, input.shape)[items].shape
        return input + tg.getitem_backward(values.expand(region), input.shape, items)
