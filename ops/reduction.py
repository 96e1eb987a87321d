"""Operators that fold axes into one number each."""

from __future__ import annotations

import math

import numpy as np

import tinygrad_cv as tg

from ..extend import Array, Op, call, op


def canonical_dims(name: str, dim, ndim: int) -> tuple[int, ...]:
    """`dim` (None, int or sequence) as sorted non-negative axes; IndexError for one out of range, ValueError for a repeat."""
    if dim is None or (isinstance(dim, (tuple, list)) and not dim):
        return tuple(range(ndim))
    dims = tuple(dim) if isinstance(dim, (tuple, list)) else (dim,)
    for d in dims:
        if not -max(ndim, 1) <= d < max(ndim, 1):
            raise IndexError(f"{name}: dim {d} is out of range for a tensor of {ndim} axes")
    axes = sorted(d % max(ndim, 1) for d in dims)
    if len(set(axes)) != len(axes):
        raise ValueError(f"{name}: dim {dims} names an axis twice")
    return tuple(axes) if ndim else ()


def reduce_domain(draw):
    """Any shape, with dim as None, one axis or several, and keepdim."""
    shape = draw.shape((0, 3))
    options = [None, *range(-len(shape), len(shape)), *((0, i) for i in range(1, len(shape)))]
    return call(draw.real(shape), draw.choice(options), draw.boolean())


def restore_dims(reduced, dim: tuple[int, ...], keepdim: bool, shape: tuple[int, ...]):
    """A reduced Tensor with its folded axes back, as size 1."""
    if keepdim or not dim:
        return reduced
    return reduced.reshape(tuple(1 if i in dim else s for i, s in enumerate(shape)))


@op("sum", domain=reduce_domain, formula="sum of input over dim")
class sum(Op):
    """The sum over `dim` (an axis, several, or all).

    Integers and booleans sum in int64; floats keep their dtype. keepdim: folded axes stay, with size 1.
    """

    def prepare(input, dim=None, keepdim=False, *, dtype=None):
        return input, canonical_dims("sum", dim, input.ndim), bool(keepdim), None if dtype is None else tg.dtypes.as_dtype(dtype)

    def reference(input: Array, dim=None, keepdim: bool = False, *, dtype=None) -> np.ndarray:
        if dtype is None and input.dtype.kind != "f":
            dtype = np.int64
        return np.sum(input, axis=dim, keepdims=keepdim, dtype=dtype)

    def grad_input(upstream, ctx, dim, keepdim):
        shape = ctx.input_shapes[0]
        return restore_dims(upstream, dim, keepdim, shape).to(ctx.input_dtypes[0]).expand(shape)


@op("mean", domain=reduce_domain, formula="sum of input over dim / number of elements summed")
class mean(Op):
    """The arithmetic mean over `dim` (an axis, several, or all). Floating dtypes only; TypeError otherwise."""

    def prepare(input, dim=None, keepdim=False, *, dtype=None):
        dtype = None if dtype is None else tg.dtypes.as_dtype(dtype)
        if (dtype or input.dtype).kind != "f":
            raise TypeError(f"mean: expected a floating tensor, got {input.dtype}; use .float() or pass dtype")
        return input, canonical_dims("mean", dim, input.ndim), bool(keepdim), dtype

    def reference(input: Array, dim=None, keepdim: bool = False, *, dtype=None) -> np.ndarray:
        return np.mean(input, axis=dim, keepdims=keepdim, dtype=dtype)

    def grad_input(upstream, ctx, dim, keepdim):
        shape = ctx.input_shapes[0]
        count = math.prod(shape[d] for d in dim)
        return (restore_dims(upstream, dim, keepdim, shape).to(ctx.input_dtypes[0]) / count).expand(shape)


def _sum_to_size_domain(draw):
    shape = draw.shape((1, 3))
    return call(draw.real(shape), draw.broadcastable(shape))


@op("sum_to_size", domain=_sum_to_size_domain, formula="sum of input over the axes that broadcasting `size` to its shape adds")
class sum_to_size(Op):
    """Sums `input` down to `size`, the inverse of broadcasting: what undoes it in backward. ValueError if it would not broadcast back."""

    def prepare(input, *size):
        if len(size) == 1 and isinstance(size[0], (tuple, list)):
            size = tuple(size[0])
        extra = input.ndim - len(size)
        if extra < 0 or any(s not in (1, h) for h, s in zip(input.shape[extra:], size, strict=True)):
            raise ValueError(f"sum_to_size: shape {input.shape} cannot be summed to {tuple(size)}")
        return input, tuple(size)

    def reference(input: Array, *size: int) -> np.ndarray:
        shape = size[0]
        extra = input.ndim - len(shape)
        axes = tuple(i for i, s in enumerate((1,) * extra + shape) if s == 1 and (i < extra or input.shape[i] != 1))
        return input.sum(axis=axes, keepdims=True).reshape(shape) if axes else input.copy()

    def grad_input(upstream, ctx):
        return upstream.expand(ctx.input_shapes[0])
