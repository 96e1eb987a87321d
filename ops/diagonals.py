"""Diagonals and triangles of matrices."""

from __future__ import annotations

import numpy as np

import tinygrad_cv as tg

from ..extend import Adjoint, Array, Composite, Idempotent, Linear, Op, call, op
from .reduction import single_dim


def _matrix_domain(draw):
    shape = (*draw.shape((0, 1), high=2), draw.integer(1, 4), draw.integer(1, 4))
    return call(draw.real(shape), draw.integer(-4, 4))


def _require_matrix(name: str, input) -> None:
    if input.ndim < 2:
        raise ValueError(f"{name}: expected at least two axes, got shape {input.shape}")


@op(
    "tril",
    domain=_matrix_domain,
    formula="input[..., i, j] where j <= i + diagonal, else 0",
    inplace=True,
    laws=(
        Linear("input"),
        Idempotent("input"),
    ),
)
class tril(Op):
    """The lower triangle of (..., n, m): elements above the `diagonal`-th diagonal become 0 (positive: more are kept)."""

    def prepare(input, diagonal=0):
        _require_matrix("tril", input)
        return input, int(diagonal)

    def reference(input: Array, diagonal: int = 0) -> np.ndarray:
        return np.tril(input, diagonal)

    def grad_input(upstream, diagonal):
        return upstream.tril(diagonal)


@op(
    "triu",
    domain=_matrix_domain,
    formula="input[..., i, j] where j >= i + diagonal, else 0",
    inplace=True,
    laws=(
        Linear("input"),
        Idempotent("input"),
    ),
)
class triu(Op):
    """The upper triangle of (..., n, m): elements below the `diagonal`-th diagonal become 0 (positive: fewer are kept)."""

    def prepare(input, diagonal=0):
        _require_matrix("triu", input)
        return input, int(diagonal)

    def reference(input: Array, diagonal: int = 0) -> np.ndarray:
        return np.triu(input, diagonal)

    def grad_input(upstream, diagonal):
        return upstream.triu(diagonal)


@op("trace", domain=lambda draw: call(draw.real(draw.shape(2))), formula="sum_i input[i, i]", laws=(Linear("input"),))
class trace(Op):
    """The sum of the main diagonal of a matrix; integers sum in int64. ValueError unless there are two axes."""

    def prepare(input):
        if input.ndim != 2:
            raise ValueError(f"trace: expected a matrix, got shape {input.shape}")
        return (input,)

    def reference(input: Array) -> np.ndarray:
        return np.trace(input, dtype=input.dtype if input.dtype.kind == "f" else np.int64)

    def grad_input(upstream, ctx):
        n, m = ctx.input_shapes[0]
        return tg.eye(n, m, dtype=upstream.dtype) * upstream


def _two_dims(name: str, ndim: int, dim1: int, dim2: int) -> tuple[int, int]:
    first, second = single_dim(name, dim1, ndim), single_dim(name, dim2, ndim)
    if ndim < 2 or first == second:
        raise ValueError(f"{name}: dim1 {dim1} and dim2 {dim2} must be two axes, of a tensor that has {ndim}")
    return first, second


def _diagonal_domain(draw):
    shape = draw.shape((2, 3), high=3)
    dims = draw.permutation(len(shape))[:2]
    return call(draw.real(shape), draw.integer(-2, 2), dims[0], dims[1] - len(shape))


@op("diagonal", domain=_diagonal_domain, formula="out[..., i] = input[..., i, i + offset]", laws=(Linear("input"),))
class diagonal(Op):
    """A view of the diagonal of axes `dim1` and `dim2`, as a new last axis; `offset` > 0 is above the main diagonal."""

    view = True

    def prepare(input, offset=0, dim1=0, dim2=1):
        return input, int(offset), *_two_dims("diagonal", input.ndim, dim1, dim2)

    def reference(input: Array, offset: int = 0, dim1: int = 0, dim2: int = 1) -> np.ndarray:
        view = np.diagonal(input, offset, dim1, dim2)
        view.flags.writeable = input.flags.writeable
        return view

    def grad_input(upstream, offset, dim1, dim2, ctx):
        return tg.zeros(ctx.input_shapes[0], dtype=upstream.dtype).diagonal_scatter(upstream, offset, dim1, dim2)


def _scatter_domain(draw):
    x, *where = _diagonal_domain(draw).args
    return call(x, draw.real(np.diagonal(x, *where).shape), *where)


@op("diagonal_scatter", domain=_scatter_domain, formula="out = input; out.diagonal(offset, dim1, dim2) = src")
class diagonal_scatter(Op):
    """A copy of `input` whose diagonal (see `diagonal`) is replaced by `src`, which has that diagonal's shape."""

    def prepare(input, src, offset=0, dim1=0, dim2=1):
        first, second = _two_dims("diagonal_scatter", input.ndim, dim1, dim2)
        n, m = input.shape[first], input.shape[second]
        length = max(min(n + min(offset, 0), m - max(offset, 0)), 0)
        wanted = (*(s for i, s in enumerate(input.shape) if i not in (first, second)), length)
        if src.shape != wanted or src.dtype != input.dtype:
            raise ValueError(
                f"diagonal_scatter: src must have the diagonal's shape {wanted} and dtype {input.dtype}, got {src.shape} and "
                f"{src.dtype}"
            )
        return input, src, int(offset), first, second

    def reference(input: Array, src: Array, offset: int = 0, dim1: int = 0, dim2: int = 1) -> np.ndarray:
        out = np.array(input, order="C")
        view = np.diagonal(out, offset, dim1, dim2)
        view.flags.writeable = True
        view[...] = src
        return out

    def grad_input(upstream, offset, dim1, dim2, ctx):
        nothing = tg.zeros(ctx.input_shapes[1], dtype=upstream.dtype)
        return upstream.diagonal_scatter(nothing, offset, dim1, dim2)

    def grad_src(upstream, offset, dim1, dim2):
        return upstream.diagonal(offset, dim1, dim2)


def _embed_domain(draw):
    shape = draw.shape((1, 2), high=3)
    dims = draw.permutation(len(shape) + 1)[:2]
    return call(draw.real(shape), draw.integer(-2, 2), dims[0], dims[1] - len(shape) - 1)


@op(
    "diag_embed",
    domain=_embed_domain,
    formula="out[..., i, i + offset] = input[..., i], else 0",
    laws=(
        Linear("input"),
        Adjoint("input", of="diagonal", by=lambda y, offset, dim1, dim2: (y, offset, dim1, dim2)),
    ),
)
class diag_embed(Op):
    """Square matrices, over axes `dim1` and `dim2` of the result, with the last axis of `input` as diagonal `offset`."""

    def prepare(input, offset=0, dim1=-2, dim2=-1):
        if not input.ndim:
            raise ValueError("diag_embed: expected at least one axis, got a 0-d tensor")
        return input, int(offset), *_two_dims("diag_embed", input.ndim + 1, dim1, dim2)

    def reference(input: Array, offset: int = 0, dim1: int = -2, dim2: int = -1) -> np.ndarray:
        length = input.shape[-1]
        size = length + abs(offset)
        out = np.zeros((*input.shape[:-1], size, size), input.dtype)
        places = np.arange(length)
        out[..., places + max(-offset, 0), places + max(offset, 0)] = input
        return np.ascontiguousarray(np.moveaxis(out, (-2, -1), (dim1, dim2)))

    def grad_input(upstream, offset, dim1, dim2):
        return upstream.diagonal(offset, dim1, dim2)


def _diag_domain(draw):
    return call(draw.real(draw.shape((1, 2))), draw.integer(-3, 3))


@op("diag", domain=_diag_domain, formula="the diagonal of a matrix, or the matrix of a diagonal")
class diag(Composite):
    """Of a matrix, a copy of its `diagonal`-th diagonal; of a vector, the square matrix that has it there.

    ValueError for other tensors.
    """

    def prepare(input, diagonal=0):
        if input.ndim not in (1, 2):
            raise ValueError(f"diag: expected a vector or a matrix, got shape {input.shape}")
        return input, int(diagonal)

    def reference(input: Array, diagonal: int = 0) -> np.ndarray:
        return np.diag(input, diagonal)

    def compose(input, diagonal=0):
        return input.diag_embed(diagonal) if input.ndim == 1 else input.diagonal(diagonal).clone()
