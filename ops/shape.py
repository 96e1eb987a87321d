"""Operators that only change how elements are addressed: views where memory allows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import index as as_int

import numpy as np

import tinygrad_cv as tg

from ..extend import Adjoint, Array, Composite, Op, call, op


def canonical_axis(name: str, dim: int, ndim: int, argument: str = "dim") -> int:
    """`dim` as a non-negative axis; IndexError if there is no such axis. A 0-d tensor counts as having one axis."""
    axes = ndim or 1
    if not -axes <= dim < axes:
        raise IndexError(f"{name}: {argument} {dim} is out of range for a tensor of {ndim} axes; use {-axes}..{axes - 1}")
    return dim % axes


def canonical_axes(name: str, dims, ndim: int, argument: str = "dim") -> tuple[int, ...]:
    """An axis or a sequence of axes as non-negative axes in that order; IndexError out of range, ValueError if repeated."""
    axes = tuple(canonical_axis(name, d, ndim, argument) for d in (dims if isinstance(dims, (tuple, list)) else (dims,)))
    if len(set(axes)) != len(axes):
        raise ValueError(f"{name}: {argument} {dims} names an axis twice")
    return axes


def unpacked(values) -> tuple[int, ...]:
    """The integers of `f(*values)`, whether they were given one by one or as one tuple or list."""
    if len(values) == 1 and type(values[0]) is not int and hasattr(values[0], "__len__"):
        values = tuple(values[0])
    for v in values:
        if type(v) is not int:
            return tuple([as_int(v) for v in values])
    return values


def full_shape(name: str, old: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """`shape` with its -1 worked out for the elements of a tensor of shape `old`; ValueError if they do not fit."""
    size = math.prod(old)
    if -1 not in shape:
        if math.prod(shape) != size or (shape and min(shape) < 0):
            raise ValueError(f"{name}: shape {old} has {size} elements and cannot become {shape}")
        return shape
    known = -math.prod(shape)
    if shape.count(-1) > 1 or min(shape) < -1:
        raise ValueError(f"{name}: shape {shape} may hold one -1 and no other negative size")
    if known == 0 or size % known:
        raise ValueError(f"{name}: shape {old} has {size} elements and cannot become {shape}")
    return tuple([size // known if s == -1 else s for s in shape])


# dtype and memory -----------------------------------------------------------------------------------------------------


@op(
    "cast", domain=lambda draw: call(draw.real(draw.shape()), tg.float64), formula="input as dtype", method=False, internal=True
)
class cast(Op):
    """`input` in another dtype. Differentiable between floating dtypes; Tensor.to is its public face."""

    def reference(input: Array, dtype: np.dtype) -> np.ndarray:
        return input.astype(dtype)

    def grad_input(upstream, ctx):
        return upstream.to(ctx.input_dtypes[0])


@op("clone", domain=lambda draw: call(draw.real(draw.shape())), formula="input")
class clone(Op):
    """A copy of `input` in memory of its own, in row-major order; gradients flow through."""

    def reference(input: Array) -> np.ndarray:
        return np.array(input, order="C")

    def grad_input(upstream):
        return upstream


@op("contiguous", domain=lambda draw: call(draw.real(draw.shape())), formula="input")
class contiguous(Composite):
    """`input` itself if its elements lie in row-major order without gaps, else a copy that does."""

    def reference(input: Array) -> np.ndarray:
        return np.array(input, order="C")

    def compose(input):
        return input if input._data.flags.c_contiguous else input.clone()


# Shape ----------------------------------------------------------------------------------------------------------------


def _reshape_domain(draw):
    a, b, c = (draw.integer(1, 3) for _ in range(3))
    shape = draw.choice([(a, b, c), (a * b, c), (a * b * c,)])
    return call(draw.real(shape), draw.choice([(a * b * c,), (a, b * c), (c, -1), (b, a, c)]))


@op("reshape", domain=_reshape_domain, formula="input with shape `shape`")
class reshape(Op):
    """The elements of `input`, in row-major order, in another shape. A view where the strides allow, else a copy.

    shape: a tuple or single integers; one entry may be -1 and is worked out. ValueError if the number of elements differs.
    """

    view = True

    def prepare(input, *shape):
        shape = unpacked(shape)
        if math.prod(shape) != input._data.size or min(shape, default=0) < 0:
            shape = full_shape("reshape", input.shape, shape)
        return input, shape

    def reference(input: Array, *shape: int | Sequence[int]) -> np.ndarray:
        return input.reshape(shape[0])

    def grad_input(upstream, ctx):
        return upstream.reshape(ctx.input_shapes[0])


def _byte_view(input, dtype: np.dtype):
    """RuntimeError unless the bytes of `input` can be read as elements of `dtype`: PyTorch's conditions."""
    array, have, want = input._data, input._data.itemsize, dtype.itemsize
    problem = ""
    if have != want and not array.ndim:
        problem = "a 0-d tensor has no last axis whose size could change"
    elif have != want and array.strides[-1] != have and array.shape[-1] != 1:
        problem = f"its last axis has stride {array.strides[-1] // have}, expected 1; use .contiguous() first"
    elif have < want:
        ratio = want // have
        if array.shape[-1] % ratio:
            problem = f"the size of its last axis must be a multiple of {ratio}"
        elif array.size and (array.ctypes.data % want or any(s % want for s in array.strides[:-1])):
            problem = f"its rows must start at multiples of {ratio} elements; use .clone() first"
    if problem:
        raise RuntimeError(
            f"view: {array.dtype} of shape {array.shape} cannot be read as {dtype}, whose elements have {want} bytes instead of {have}: "
            f"{problem}; to convert the values use .to({dtype})"
        )


@op(
    "view",
    domain=_reshape_domain,
    formula="input with shape `shape`, sharing its memory",
    keywords={"size": "shape"},
)
class view(Op):
    """As `reshape`, but always a view: RuntimeError where the strides of `input` would call for a copy.

    shape: a tuple or single integers; one entry may be -1. ValueError if the number of elements differs.

    `view(dtype)` reads the bytes of the memory as another dtype (`.to(dtype)` converts the values): the last axis grows or shrinks
    with the size of an element, and the result has no history, as in PyTorch. RuntimeError where the sizes or strides do not allow it.
    """

    view = True

    def prepare(input, *shape, dtype=None):
        if len(shape) == 1 and isinstance(shape[0], (np.dtype, type, str)):
            if dtype is not None:
                raise TypeError(f"view: two dtypes were given, {shape[0]} and {dtype}")
            dtype, shape = shape[0], ()
        if dtype is not None:
            if shape:
                raise TypeError(f"view: give a shape or a dtype, not both ({shape} and {dtype})")
            dtype = tg.dtypes.as_dtype(dtype)
            _byte_view(input, dtype)
            return input.detach(), (), dtype
        shape, array = unpacked(shape), input._data
        if math.prod(shape) != array.size or min(shape, default=0) < 0:
            shape = full_shape("view", array.shape, shape)
        if not array.flags.c_contiguous and array.size and not np.may_share_memory(array.reshape(shape), array):
            raise RuntimeError(
                f"view: shape {input.shape} with strides {input.stride()} cannot be seen as shape {shape} without a copy; use "
                ".reshape(...), which copies where it must, or .contiguous().view(...)"
            )
        return input, shape, None

    def reference(input: Array, *shape: int | Sequence[int], dtype: np.dtype | None = None) -> np.ndarray:
        return input.reshape(shape[0]) if dtype is None else input.view(dtype)

    def grad_input(upstream, ctx):
        return upstream.reshape(ctx.input_shapes[0])


def _flatten_domain(draw):
    shape = draw.shape((0, 4), high=3)
    n = max(len(shape), 1)
    start = draw.integer(0, n - 1)
    end = draw.integer(start, n - 1)
    return call(draw.real(shape), draw.choice([start, start - n]), draw.choice([end, end - n]))


@op("flatten", domain=_flatten_domain, formula="input with axes start_dim..end_dim merged into one")
class flatten(Op):
    """`input` with the axes from `start_dim` to `end_dim`, both included, merged. (N, C, H, W) at 1 gives (N, C * H * W).

    A view where the strides allow, else a copy; a 0-d tensor becomes (1,). IndexError for an axis out of range, ValueError if
    start_dim comes after end_dim.
    """

    view = True

    def prepare(input, start_dim=0, end_dim=-1):
        ndim = input._data.ndim
        start, end = (
            canonical_axis("flatten", start_dim, ndim, "start_dim"),
            canonical_axis("flatten", end_dim, ndim, "end_dim"),
        )
        if start > end:
            raise ValueError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim} in shape {input.shape}")
        return input, start, end

    def reference(input: Array, start_dim: int = 0, end_dim: int = -1) -> np.ndarray:
        shape = input.shape
        end = end_dim % max(input.ndim, 1)
        return input.reshape((*shape[:start_dim], math.prod(shape[start_dim : end + 1]), *shape[end + 1 :]))

    def grad_input(upstream, ctx):
        return upstream.reshape(ctx.input_shapes[0])


@op("ravel", domain=lambda draw: call(draw.real(draw.shape())), formula="input with all axes merged into one")
class ravel(Op):
    """The elements of `input` along one axis, in row-major order: a view where the strides allow, else a copy."""

    view = True

    def reference(input: Array) -> np.ndarray:
        return input.reshape(-1)

    def grad_input(upstream, ctx):
        return upstream.reshape(ctx.input_shapes[0])


def _unflatten_domain(draw):
    dim = draw.integer(0, 2)
    shape = [2, 3, 2]
    shape[dim] = 6
    return call(draw.real(shape), draw.choice([dim, dim - 3]), draw.choice([(2, 3), (-1, 2), (3, 1, 2), (6,)]))


@op("unflatten", domain=_unflatten_domain, formula="input with axis dim split into axes of the given sizes")
class unflatten(Op):
    """`input` with axis `dim` split into axes of `sizes`, of which one may be -1; the inverse of `flatten`. A view.

    ValueError if the product of the sizes is not the size of the axis.
    """

    view = True

    def prepare(input, dim, sizes):
        if not input.ndim:
            raise ValueError("unflatten: a 0-d tensor has no axis to split")
        axis = canonical_axis("unflatten", dim, input.ndim)
        return input, axis, full_shape("unflatten", (input.shape[axis],), unpacked((sizes,)))

    def reference(input: Array, dim: int, sizes: tuple[int, ...]) -> np.ndarray:
        return input.reshape((*input.shape[:dim], *sizes, *input.shape[dim + 1 :]))

    def grad_input(upstream, ctx):
        return upstream.reshape(ctx.input_shapes[0])


def _expanded(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A view of `array` broadcast to `shape`: stride 0 along the stretched axes.

    It stays writable, unlike np.broadcast_to's, since parts of it that do not overlap may be written.
    """
    extra = len(shape) - array.ndim
    strides = [0] * extra
    for have, stride, want in zip(array.shape, array.strides, shape[extra:], strict=True):
        strides.append(stride if have == want else 0)
    if array.flags.c_contiguous:
        return np.ndarray(shape, array.dtype, array, 0, strides)  # the cheap constructor; it takes contiguous buffers only
    return np.lib.stride_tricks.as_strided(array, shape, strides)


def _broadcast_shape(name: str, old: tuple[int, ...], sizes: tuple[int, ...]) -> tuple[int, ...]:
    extra = len(sizes) - len(old)
    new = list(sizes[: max(extra, 0)])
    fits = extra >= 0 and min(new, default=0) >= 0
    for have, want in zip(old, sizes[max(extra, 0) :], strict=False):
        new.append(have if want == -1 else want)
        if have != want and want != -1 and (have != 1 or want < 0):
            fits = False
    if not fits:
        raise ValueError(
            f"{name}: shape {old} cannot become {sizes}: only axes of size 1 and new leading axes stretch, and -1 keeps a size"
        )
    return tuple(new)


@op(
    "expand",
    domain=lambda draw: call(draw.real((2, 1, 3)), (draw.integer(1, 3), 2, draw.integer(1, 3), draw.choice([3, -1]))),
    formula="out[i] = input[i where size > 1 else 0]",
    laws=(Adjoint("input", of="sum_to_size", by=lambda y, input: (y, input.shape)),),
)
class expand(Op):
    """A view of `input` in which axes of size 1 are repeated without copying; new leading axes are allowed, -1 keeps a size.

    ValueError where an axis of another size would change. Several elements of the result share one place in memory: writing
    to it raises RuntimeError.
    """

    view = True

    def prepare(input, *size):
        return input, _broadcast_shape("expand", input._data.shape, unpacked(size))

    def reference(input: Array, *size: int | Sequence[int]) -> np.ndarray:
        return _expanded(input, size[0])

    def grad_input(upstream, ctx):
        return upstream.sum_to_size(ctx.input_shapes[0])


@op(
    "broadcast_to",
    keywords={"size": "shape"},
    domain=lambda draw: call(draw.real((2, 1, 3)), (draw.integer(1, 3), 2, draw.integer(1, 3), 3)),
    formula="out[i] = input[i where size > 1 else 0]",
)
class broadcast_to(Op):
    """`input` broadcast to `shape` as a view: `input.expand(shape)`."""

    view = True

    def prepare(input, shape):
        return input, _broadcast_shape("broadcast_to", input._data.shape, unpacked((shape,)))

    def reference(input: Array, shape: tuple[int, ...]) -> np.ndarray:
        return _expanded(input, shape)

    def grad_input(upstream, ctx):
        return upstream.sum_to_size(ctx.input_shapes[0])


@op(
    "expand_as",
    domain=lambda draw: call(draw.real((2, 1)), draw.real((3, 2, 2))),
    formula="input broadcast to the shape of other",
)
class expand_as(Composite):
    """`input.expand(other.shape)`: only the shape of `other` is used."""

    nondiff = ("other",)

    def reference(input: Array, other: Array) -> np.ndarray:
        return np.broadcast_to(input, other.shape)

    def compose(input, other):
        return input.expand(other.shape)


def _atleast_domain(draw):
    return call(*[draw.real(draw.shape((0, 4), high=3)) for _ in range(draw.integer(1, 2))])


def _each(function, tensors):
    """`function` of every tensor: one result for one tensor, else a tuple, also for tensors in one list or tuple."""
    if len(tensors) == 1 and not isinstance(tensors[0], (tuple, list)):
        return function(tensors[0])
    return tuple([function(x) for x in (tensors[0] if len(tensors) == 1 else tensors)])


@op("atleast_1d", domain=_atleast_domain, formula="input with at least one axis", method=False)
class atleast_1d(Composite):
    """Each tensor as it is, or a view of shape (1,) of a 0-d one. Several tensors give a tuple."""

    def reference(*tensors: list[Array]):
        return _each(np.atleast_1d, tensors)

    def compose(*tensors):
        return _each(lambda x: x if x.ndim else x.reshape(1), tensors)


@op("atleast_2d", domain=_atleast_domain, formula="input with at least two axes, added in front", method=False)
class atleast_2d(Composite):
    """Each tensor as it is, or a view with leading axes of size 1 that bring it to two. Several tensors give a tuple."""

    def reference(*tensors: list[Array]):
        return _each(np.atleast_2d, tensors)

    def compose(*tensors):
        return _each(lambda x: x if x.ndim >= 2 else x.reshape(1, -1), tensors)


def _three(x):
    if x.ndim >= 3:
        return x
    return x.unsqueeze(-1) if x.ndim == 2 else x.reshape(1, -1, 1)


@op("atleast_3d", domain=_atleast_domain, formula="input with at least three axes", method=False)
class atleast_3d(Composite):
    """Each tensor as it is, or a view of three axes: () gives (1, 1, 1), (n,) gives (1, n, 1), (n, m) gives (n, m, 1)."""

    def reference(*tensors: list[Array]):
        return _each(np.atleast_3d, tensors)

    def compose(*tensors):
        return _each(_three, tensors)
