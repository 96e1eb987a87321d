"""Operators that only change how elements are addressed: views where memory allows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import tinygrad_cv as tg

from ..extend import Array, Op, call, op


@op(
    "cast",
    domain=lambda draw: call(draw.real(draw.shape()), tg.float64),
    formula="input as dtype",
    method=False,
)
class cast(Op):
    """`input` in another dtype. Differentiable between floating dtypes; Tensor.to is its public face."""

    def reference(input: Array, dtype: np.dtype) -> np.ndarray:
        return input.astype(dtype)

    def grad_input(upstream, ctx):
        return upstream.to(ctx.input_dtypes[0])


@op("clone", domain=lambda draw: call(draw.real(draw.shape())), formula="input")
class clone(Op):
    """A copy of `input` in memory of its own; gradients flow through."""

    def reference(input: Array) -> np.ndarray:
        return np.array(input, order="C")

    def grad_input(upstream):
        return upstream


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
        if len(shape) == 1 and isinstance(shape[0], (tuple, list)):
            shape = tuple(shape[0])
        shape = tuple(int(s) for s in shape)
        known = int(np.prod([s for s in shape if s != -1], dtype=int))
        size = input.numel()
        holes = shape.count(-1)
        if holes > 1 or any(s < -1 for s in shape):
            raise ValueError(f"reshape: shape {shape} may hold one -1 and no other negative size")
        if (holes == 0 and known != size) or (holes and (known == 0 or size % known)):
            raise ValueError(f"reshape: shape {input.shape} has {size} elements and cannot become {shape}")
        return input, tuple(size // known if s == -1 else s for s in shape)

    def reference(input: Array, *shape: int) -> np.ndarray:
        return input.reshape(shape[0])

    def grad_input(upstream, ctx):
        return upstream.reshape(ctx.input_shapes[0])


@op("permute", domain=lambda draw: call(draw.real(draw.shape(3)), tuple(draw.permutation(3))), formula="out[i_dims] = input[i]")
class permute(Op):
    """A view of `input` with its axes in the order `dims`."""

    view = True

    def prepare(input, *dims):
        if len(dims) == 1 and isinstance(dims[0], (tuple, list)):
            dims = tuple(dims[0])
        if sorted(d % max(input.ndim, 1) for d in dims) != list(range(input.ndim)):
            raise ValueError(f"permute: dims {dims} are not an order of the {input.ndim} axes of shape {input.shape}")
        return input, tuple(d % input.ndim for d in dims)

    def reference(input: Array, *dims: int) -> np.ndarray:
        return np.transpose(input, dims[0])

    def grad_input(upstream, dims):
        return upstream.permute(*np.argsort(dims).tolist())


@op(
    "expand",
    domain=lambda draw: call(draw.real((2, 1, 3)), (draw.integer(1, 3), 2, draw.integer(1, 3), 3)),
    formula="out[i] = input[i where size > 1 else 0]",
)
class expand(Op):
    """A view of `input` in which axes of size 1 are repeated without copying; -1 keeps a size. Such a view cannot be written."""

    view = True

    def prepare(input, *sizes):
        if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)):
            sizes = tuple(sizes[0])
        extra = len(sizes) - input.ndim
        old = (1,) * extra + input.shape
        new = tuple(o if n == -1 else int(n) for n, o in zip(sizes, old, strict=False)) if extra >= 0 else ()
        if extra < 0 or any(o not in (1, n) for n, o in zip(new, old, strict=True)):
            raise ValueError(f"expand: shape {input.shape} cannot become {tuple(sizes)}; only axes of size 1 can be expanded")
        return input, new

    def reference(input: Array, *sizes: int) -> np.ndarray:
        return np.broadcast_to(input, sizes[0])

    def grad_input(upstream, ctx):
        return upstream.sum_to_size(ctx.input_shapes[0])


@op("unsqueeze", domain=lambda draw: call(draw.real((2, 3)), draw.integer(-3, 2)), formula="input with an axis of size 1 at dim")
class unsqueeze(Op):
    """A view of `input` with an axis of size 1 inserted at `dim` (0 to ndim, or negative from the end)."""

    view = True

    def prepare(input, dim):
        if not -input.ndim - 1 <= dim <= input.ndim:
            raise IndexError(f"unsqueeze: dim {dim} is out of range for a tensor of {input.ndim} axes; use {-input.ndim - 1}..{input.ndim}")
        return input, dim % (input.ndim + 1)

    def reference(input: Array, dim: int) -> np.ndarray:
        return np.expand_dims(input, dim)

    def grad_input(upstream, dim):
        return upstream.squeeze(dim)


@op("squeeze", domain=lambda draw: call(draw.real((2, 1, 3, 1)), draw.choice([None, 1, -1, 0, (1, 3)])), formula="input without axes of size 1")
class squeeze(Op):
    """A view of `input` without its axes of size 1, or without those in `dim` that have size 1."""

    view = True

    def prepare(input, dim=None):
        dims = range(input.ndim) if dim is None else dim if isinstance(dim, (tuple, list)) else (dim,)
        for d in dims:
            if not -max(input.ndim, 1) <= d < max(input.ndim, 1):
                raise IndexError(f"squeeze: dim {d} is out of range for a tensor of {input.ndim} axes")
        return input, tuple(d % input.ndim for d in dims if input.ndim and input.shape[d] == 1)

    def reference(input: Array, dim=None) -> np.ndarray:
        return np.squeeze(input, axis=dim)

    def grad_input(upstream, ctx):
        return upstream.reshape(ctx.input_shapes[0])
