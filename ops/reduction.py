"""Operators that fold axes into one number each: sums, means, products, counts.

Extrema are in extrema.py, running folds (cumsum, ...) in scan.py, moments and order statistics in statistics.py. This module
names operators `sum`, `any`, `all`: the built-ins of those names are not to be used here.
"""

from __future__ import annotations

import math

import numpy as np

import tinygrad_cv as tg

from ..extend import Array, Composite, Linear, Op, PermutationEquivariant, call, op
from .bounded_sums import bounded_sum


def single_dim(name: str, dim, ndim: int) -> int:
    """`dim` as a non-negative axis.

    TypeError if it is no integer, IndexError if it is out of range (0 and -1 suit a 0-d tensor).
    """
    if type(dim) is not int and (isinstance(dim, (bool, np.bool_)) or not isinstance(dim, (int, np.integer))):
        raise TypeError(f"{name}: dim must be an integer, got {dim!r}")
    axes = ndim if ndim else 1
    if not -axes <= dim < axes:
        raise IndexError(f"{name}: dim {dim} is out of range for a tensor of {ndim} axes; use {-axes}..{axes - 1}")
    return int(dim) % axes


def canonical_dims(name: str, dim, ndim: int) -> tuple[int, ...]:
    """`dim` (None, int or sequence) as sorted non-negative axes; IndexError for one out of range, ValueError for a repeat."""
    if dim is None or (isinstance(dim, (tuple, list)) and not dim):
        return tuple(range(ndim))
    if not isinstance(dim, (tuple, list)):
        axis = single_dim(name, dim, ndim)
        return (axis,) if ndim else ()
    dims = tuple(dim)
    axes = sorted([single_dim(name, d, ndim) for d in dims])
    if len(set(axes)) != len(axes):
        raise ValueError(f"{name}: dim {dims} names an axis twice")
    return tuple(axes) if ndim else ()


def as_dtype(dtype):
    """A dtype argument, where None stands for the operator's own choice."""
    return None if dtype is None else tg.dtypes.as_dtype(dtype)


def require_elements(name: str, input, dims: tuple[int, ...]) -> None:
    """ValueError if an axis to be folded has no elements, for folds without a value for that."""
    for d in dims:
        if input.shape[d] == 0:
            raise ValueError(
                f"{name}: axis {d} of a tensor of shape {input.shape} is empty and has no such element; fold other axes"
            )


def reduce_domain(draw):
    """Any shape, with dim as None, one axis or several, and keepdim."""
    shape = draw.shape((0, 3))
    return call(draw.real(shape), draw.choice(dims_of(shape)), draw.boolean())


def ordered_domain(draw):
    """As `reduce_domain`, with values no two of which are near each other."""
    shape = draw.shape((0, 3))
    return call(draw.distinct(shape), draw.choice(dims_of(shape)), draw.boolean())


def one_dim_domain(draw):
    """Distinct values, folded along one axis or all of them."""
    shape = draw.shape((0, 3))
    return call(draw.distinct(shape), draw.choice([None, *range(-len(shape), len(shape))]), draw.boolean())


def dims_of(shape) -> list:
    """Ways to say which axes to fold: all, each, pairs."""
    return [None, *range(-len(shape), len(shape)), *((0, i) for i in range(1, len(shape)))]


def restore_dims(reduced, dim: tuple[int, ...], keepdim: bool, shape: tuple[int, ...]):
    """A reduced Tensor with its folded axes back, as size 1."""
    if keepdim or not dim:
        return reduced
    return reduced.reshape(tuple([1 if i in dim else s for i, s in enumerate(shape)]))


def accumulate(input: np.ndarray, dim, keepdim: bool, dtype) -> np.ndarray:
    """The sum in PyTorch's dtype: integers in int64, float16 accumulated in float32, whose error `bounded_sum` states."""
    kind = input.dtype.kind
    if dtype is None:
        dtype = input.dtype if kind == "f" else np.dtype(np.int64)
    if dtype in (np.float16, np.float32):
        return bounded_sum(input.astype(np.float32, copy=False), dim, keepdim).astype(dtype, copy=False)
    if dim is not None and len(dim) == input.ndim:
        dim = None
    elif dim is not None and len(dim) == 1:
        dim = dim[0]
    return np.add.reduce(input, axis=dim, dtype=dtype, keepdims=keepdim)


@op(
    "sum",
    domain=reduce_domain,
    formula="sum of input over dim",
    kernels={"cpu": "tinygrad_cv.ops.cpu.reduction:sum"},
    laws=(
        Linear("input"),
        PermutationEquivariant("input", axis="dim", out=None),
    ),
)
class sum(Op):
    """The sum over `dim` (an axis, several, or all).

    Integers and booleans sum in int64; floats keep their dtype; `dtype` is the dtype summed in. keepdim: folded axes stay,
    with size 1. The sum of no elements is 0. IndexError for an axis out of range, ValueError for one named twice.
    """

    def prepare(input, dim=None, keepdim=False, *, dtype=None):
        return input, canonical_dims("sum", dim, input.ndim), bool(keepdim), as_dtype(dtype)

    def reference(input: Array, dim=None, keepdim: bool = False, *, dtype=None) -> np.ndarray:
        return accumulate(input, dim, keepdim, dtype)

    def grad_input(upstream, ctx, dim, keepdim):
        shape = ctx.input_shapes[0]
        return restore_dims(upstream, dim, keepdim, shape).to(ctx.input_dtypes[0]).expand(shape)


@op(
    "mean",
    domain=reduce_domain,
    formula="sum of input over dim / number of elements summed",
    kernels={"cpu": "tinygrad_cv.ops.cpu.reduction:mean"},
    laws=(
        Linear("input"),
        PermutationEquivariant("input", axis="dim", out=None),
    ),
)
class mean(Op):
    """The arithmetic mean over `dim` (an axis, several, or all).

    Of no elements: NaN. TypeError unless the dtype is floating.
    """

    def prepare(input, dim=None, keepdim=False, *, dtype=None):
        dtype = as_dtype(dtype)
        if (dtype or input.dtype).kind != "f":
            raise TypeError(f"mean: expected a floating tensor, got {dtype or input.dtype}; use .float() or pass dtype")
        return input, canonical_dims("mean", dim, input.ndim), bool(keepdim), dtype

    def reference(input: Array, dim=None, keepdim: bool = False, *, dtype=None) -> np.ndarray:
        count = math.prod([input.shape[d] for d in (range(input.ndim) if dim is None else dim)])
        dtype = dtype or input.dtype
        total = np.asarray(accumulate(input, dim, keepdim, np.float32 if dtype == np.float16 else dtype))
        return np.asarray(total / total.dtype.type(count)).astype(dtype, copy=False)

    def grad_input(upstream, ctx, dim, keepdim):
        shape = ctx.input_shapes[0]
        count = math.prod([shape[d] for d in dim])
        upstream, dtype = restore_dims(upstream, dim, keepdim, shape), ctx.input_dtypes[0]
        if dtype == np.float16:  # `count` may be past its range
            return (upstream.float() / count).to(dtype).expand(shape)
        return (upstream.to(dtype) / count).expand(shape)


def _prod_domain(draw):
    shape = draw.shape((0, 3), high=3)
    x = draw.real(shape, 0.5, 1.5)
    if draw.boolean():  # zeros, single and several: where the derivative is no quotient
        x = x * draw.mask(shape)
    return call(x, draw.choice(dims_of(shape)), draw.boolean()) if shape and draw.boolean() else call(x)


@op(
    "prod",
    domain=_prod_domain,
    formula="product of input over dim",
    laws=(PermutationEquivariant("input", axis="dim", out=None),),
)
class prod(Op):
    """The product over `dim` (an axis, or all). Integers and booleans multiply in int64. The product of no elements is 1.

    The derivative is the product of the other elements, formed without division: it is right where elements are 0.
    """

    def prepare(input, dim=None, keepdim=False, *, dtype=None):
        return input, canonical_dims("prod", dim, input.ndim), bool(keepdim), as_dtype(dtype)

    def reference(input: Array, dim=None, keepdim: bool = False, *, dtype=None) -> np.ndarray:
        if dtype is None and input.dtype.kind != "f":
            dtype = np.int64
        return np.prod(input, axis=dim, keepdims=keepdim, dtype=dtype)

    def grad_input(upstream, input, ctx, dim, keepdim):
        from .scan import products_of_others

        shape = ctx.input_shapes[0]
        factors = input.to(upstream.dtype)
        if len(dim) == 1:
            others = products_of_others(factors, dim[0])
        else:
            order = [i for i in range(len(shape)) if i not in dim] + list(dim)
            moved = factors.permute(*order)
            rows = (math.prod(moved.shape[: len(shape) - len(dim)]), math.prod([shape[d] for d in dim]))
            others = products_of_others(moved.reshape(rows), 1).reshape(moved.shape).permute(*np.argsort(order).tolist())
        return (restore_dims(upstream, dim, keepdim, shape) * others).to(ctx.input_dtypes[0])


def truth_domain(draw):
    """Booleans, folded in every form."""
    shape = draw.shape((0, 3))
    return call(draw.mask(shape), draw.choice(dims_of(shape)), draw.boolean())


def _truth_dims(name: str, dim, ndim: int) -> tuple[int, ...]:
    """As `canonical_dims`, but an empty tuple folds nothing, as in PyTorch."""
    return () if isinstance(dim, (tuple, list)) and not dim else canonical_dims(name, dim, ndim)


@op("any", domain=truth_domain, formula="whether some input over dim is not zero")
class any(Op):
    """Whether any element over `dim` (an axis, several, or all) is nonzero; False of none. bool, or uint8 for uint8 input."""

    differentiable = False

    def prepare(input, dim=None, keepdim=False):
        return input, _truth_dims("any", dim, input.ndim), bool(keepdim)

    def reference(input: Array, dim=None, keepdim: bool = False) -> np.ndarray:
        return np.asarray(np.any(input, axis=dim, keepdims=keepdim)).astype("u1" if input.dtype == "u1" else "?")


@op("all", domain=truth_domain, formula="whether every input over dim is not zero")
class all(Op):
    """Whether all elements over `dim` (an axis, several, or all) are nonzero; True of none. bool, or uint8 for uint8 input."""

    differentiable = False

    def prepare(input, dim=None, keepdim=False):
        return input, _truth_dims("all", dim, input.ndim), bool(keepdim)

    def reference(input: Array, dim=None, keepdim: bool = False) -> np.ndarray:
        return np.asarray(np.all(input, axis=dim, keepdims=keepdim)).astype("u1" if input.dtype == "u1" else "?")


def _count_domain(draw):
    shape = draw.shape((0, 3))
    return call(draw.integers(shape, -1, 2), draw.choice(dims_of(shape)))


@op("count_nonzero", domain=_count_domain, formula="number of inputs over dim that are not zero")
class count_nonzero(Op):
    """How many elements over `dim` (an axis, several, or all) are nonzero, as int64. NaN counts. Not differentiable."""

    differentiable = False

    def prepare(input, dim=None):
        return input, canonical_dims("count_nonzero", dim, input.ndim)

    def reference(input: Array, dim=None) -> np.ndarray:
        return np.add.reduce(input != 0, axis=dim, dtype=np.int64)


def _logsumexp_domain(draw):
    shape = draw.shape((1, 3))
    return call(draw.real(shape), draw.choice(dims_of(shape)[1:]), draw.boolean())


@op(
    "logsumexp",
    domain=_logsumexp_domain,
    formula="log(sum of e^input over dim)",
    laws=(PermutationEquivariant("input", axis="dim", out=None),),
)
class logsumexp(Op):
    """log(sum(exp(input))) over `dim` (an axis or several), computed about the largest element, so that nothing overflows.

    Integers give the default floating dtype. Of no elements, or of -inf alone: -inf, where the gradient is 0.
    """

    promotes = ("input",)
    int_to_float = True

    def prepare(input, dim, keepdim=False):
        return input, canonical_dims("logsumexp", dim, input.ndim), bool(keepdim)

    def reference(input: Array, dim, keepdim: bool = False) -> np.ndarray:
        wide = input.astype(np.float32) if input.dtype == np.float16 else input
        top = np.maximum.reduce(wide, axis=dim, keepdims=True, initial=-np.inf)
        top = np.where(np.isfinite(top), top, 0).astype(wide.dtype)
        total = np.log(bounded_sum(np.exp(wide - top), dim, True)) + top
        total = total.astype(input.dtype, copy=False)
        return total if keepdim else total.reshape([s for i, s in enumerate(input.shape) if i not in dim])

    def grad_input(upstream, input, out, dim, keepdim, ctx):
        shape = ctx.input_shapes[0]
        total = restore_dims(out, dim, keepdim, shape)
        total = tg.where(total == -math.inf, 0.0, total)
        return restore_dims(upstream, dim, keepdim, shape) * (input - total).exp()


@op("nansum", domain=reduce_domain, formula="sum over dim of the inputs that are not NaN")
class nansum(Composite):
    """The sum over `dim` with NaN counted as 0."""

    def prepare(input, dim=None, keepdim=False, *, dtype=None):
        return input, canonical_dims("nansum", dim, input.ndim), bool(keepdim), as_dtype(dtype)

    def reference(input: Array, dim=None, keepdim: bool = False, *, dtype=None) -> np.ndarray:
        return np.nansum(input, axis=dim, keepdims=keepdim, dtype=dtype)

    def compose(input, dim=None, keepdim=False, *, dtype=None):
        known = tg.where(input.isnan(), 0.0, input) if input.dtype.kind == "f" else input
        return known.sum(dim, keepdim, dtype=dtype)


@op("nanmean", domain=reduce_domain, formula="mean over dim of the inputs that are not NaN")
class nanmean(Composite):
    """The mean over `dim` of what is not NaN; NaN where nothing is left. TypeError unless the dtype is floating."""

    def prepare(input, dim=None, keepdim=False, *, dtype=None):
        if input.dtype.kind != "f":
            raise TypeError(f"nanmean: expected a floating tensor, got {input.dtype}; use .float()")
        return input, canonical_dims("nanmean", dim, input.ndim), bool(keepdim), as_dtype(dtype)

    def reference(input: Array, dim=None, keepdim: bool = False, *, dtype=None) -> np.ndarray:
        known = ~np.isnan(input)
        total = np.add.reduce(np.where(known, input, 0), axis=dim, keepdims=keepdim, dtype=dtype or input.dtype)
        return total / np.add.reduce(known, axis=dim, keepdims=keepdim, dtype=dtype or input.dtype)

    def compose(input, dim=None, keepdim=False, *, dtype=None):
        total = input.nansum(dim, keepdim, dtype=dtype)
        return total / (~input.isnan()).sum(dim, keepdim).to(total.dtype)


def stretched_axes(shape: tuple[int, ...], size: tuple[int, ...]) -> tuple[int, ...]:
    """The axes of `shape` that broadcasting `size` to it adds or stretches."""
    extra = len(shape) - len(size)
    return tuple([i for i, n in enumerate(shape) if i < extra or (size[i - extra] == 1 and n != 1)])


def _sum_to_size_domain(draw):
    shape = draw.shape((1, 3))
    return call(draw.real(shape), draw.broadcastable(shape))


@op(
    "sum_to_size",
    domain=_sum_to_size_domain,
    formula="sum of input over the axes that broadcasting `size` to its shape adds",
    kernels={"cpu": "tinygrad_cv.ops.cpu.reduction:sum_to_size"},
)
class sum_to_size(Op):
    """Sums `input` down to `size`, the inverse of broadcasting: what undoes it in backward.

    Integers and bools give int64 where anything is summed, as `sum` does. ValueError if it would not broadcast back.
    """

    def prepare(input, *size):
        if len(size) == 1 and isinstance(size[0], (tuple, list)):
            size = tuple(size[0])
        shape = input.shape
        extra = len(shape) - len(size)
        fits = extra >= 0
        if fits:
            for have, want in zip(shape[extra:], size, strict=True):
                fits = fits and (have == want or want == 1)
        if not fits:
            raise ValueError(
                f"sum_to_size: shape {shape} cannot be summed to {tuple(size)}; `size` must broadcast to the shape"
            )
        return input, tuple(size)

    def reference(input: Array, *size: int) -> np.ndarray:
        shape = size[0]
        axes = stretched_axes(input.shape, shape)
        if not axes:
            return input.copy()
        out = np.asarray(accumulate(input, axes, False, None))
        return out if out.shape == shape else out.reshape(shape)  # no view where none is needed: backward may keep the array

    def grad_input(upstream, ctx):
        return upstream.expand(ctx.input_shapes[0])
