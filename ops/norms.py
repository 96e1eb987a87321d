"""Norms of vectors and matrices."""

from __future__ import annotations

import math

import numpy as np

import tinygrad_cv as tg

from ..extend import Array, Composite, Homogeneous, Op, call, op
from .bounded_sums import bounded_sum
from .linalg import require_matrix, with_singular_values
from .reduction import as_dtype, canonical_dims, dims_of, require_elements, restore_dims, single_dim

_ORDERS = (2, 1, math.inf, -math.inf, 3, 2.5, 0.5, -1, 0)


def _away_from_ties(draw, shape):
    """Values whose magnitudes lie apart and away from 0, of either sign."""
    return draw.distinct(shape, 0.3, 2.0) * np.where(draw.mask(shape), 1.0, -1.0)


def _vector_norm_domain(draw):
    shape = draw.shape((0, 3))
    return call(_away_from_ties(draw, shape), draw.choice(_ORDERS), draw.choice(dims_of(shape)), draw.boolean())


def _float_dtype(name: str, x, dtype):
    dtype = as_dtype(dtype)
    if (dtype or x.dtype).kind != "f":
        raise TypeError(f"{name}: expected a floating tensor, got {dtype or x.dtype}; use .float() or pass dtype")
    return dtype


@op("linalg.vector_norm", domain=_vector_norm_domain, formula="(sum of |x|^ord over dim)^(1 / ord)",
    kinks=["norm 0: 0", "element 0: 0", "ord inf or -inf, ties: split evenly"],
    laws=(Homogeneous("x", positive=True, when=lambda ord: ord != 0),))  # fmt: skip
class vector_norm(Op):
    """The norm of order `ord` over `dim` (an axis, several, or all).

    inf gives the largest |x|, -inf the smallest, 0 the number of nonzeros. In float32 the norms of order 1 and 2 of any number of
    elements are off by at most 97 u and 51 u of themselves, u = 2^-24, where squares neither overflow nor underflow.

    The gradient is 0 at an element 0 where it would not exist, and where the norm is 0. dtype: what x is converted to
    first. TypeError unless floating; ValueError for the extreme of no elements.
    """

    def prepare(x, ord=2, dim=None, keepdim=False, *, dtype=None):
        if isinstance(ord, str) or isinstance(ord, complex):
            raise TypeError(f"linalg.vector_norm: ord must be a number, got {ord!r}")
        dtype = _float_dtype("linalg.vector_norm", x, dtype)
        dim = canonical_dims("linalg.vector_norm", dim, x.ndim)
        if ord < 0 or ord == math.inf:
            require_elements("linalg.vector_norm", x, dim)
        return x, float(ord), dim, bool(keepdim), dtype

    def reference(x: Array, ord: float = 2, dim=None, keepdim: bool = False, *, dtype=None) -> np.ndarray:
        target = dtype or x.dtype
        x = x.astype(np.float32 if target == np.float16 else target, copy=False)
        if ord == 2:
            out = np.sqrt(bounded_sum(x * x, dim, keepdim))
        elif ord == math.inf:
            out = np.maximum.reduce(np.abs(x), axis=dim, keepdims=keepdim)
        elif ord == -math.inf:
            out = np.minimum.reduce(np.abs(x), axis=dim, keepdims=keepdim)
        elif ord == 0:
            out = np.add.reduce(x != 0, axis=dim, keepdims=keepdim, dtype=x.dtype)
        elif ord == 1:
            out = bounded_sum(np.abs(x), dim, keepdim)
        else:
            out = bounded_sum(np.abs(x) ** ord, dim, keepdim) ** (1 / ord)
        return np.asarray(out).astype(target, copy=False)

    def grad_x(upstream, x, out, ord, dim, keepdim, ctx):
        shape, dtype = ctx.input_shapes[0], ctx.input_dtypes[0]
        if ord == 0:
            return tg.zeros(shape, dtype=dtype)
        if upstream.dtype == np.float16:
            upstream, out = upstream.float(), out.float()
        x = x.to(upstream.dtype)
        upstream = restore_dims(upstream, dim, keepdim, shape)
        if ord == 1:
            return (upstream * x.sign()).to(dtype)
        out = restore_dims(out, dim, keepdim, shape)
        if ord in (math.inf, -math.inf):
            chosen = (x.abs() == out).to(upstream.dtype)
            return (x.sign() * chosen * (upstream / chosen.sum(dim, True))).to(dtype)
        flat = out == 0
        size = tg.where(flat, 1.0, out)
        if ord == 2:
            return (x * tg.where(flat, 0.0, upstream / size)).to(dtype)
        zero = x == 0
        power = tg.where(zero, 0.0, x.sign() * tg.where(zero, 1.0, x.abs()) ** (ord - 1))
        return (power * tg.where(flat, 0.0, upstream / size ** (ord - 1))).to(dtype)


_MATRIX_ORDERS = ("fro", "nuc", math.inf, -math.inf, 1, -1, 2, -2)


def _matrix_norm_domain(draw):
    n, m = draw.integer(1, 3), draw.integer(1, 3)
    x = with_singular_values(draw, draw.shape((0, 1), high=2), n, m) + 0.01 * draw.distinct((n, m))
    dim = draw.choice([(-2, -1), (-1, -2)])
    return call(x, draw.choice(_MATRIX_ORDERS), dim, draw.boolean())


def _two_dims(name: str, A, dim) -> tuple[int, int]:
    if not isinstance(dim, (tuple, list)) or len(dim) != 2:
        raise ValueError(f"{name}: dim must be two axes, got {dim!r}")
    rows, columns = (single_dim(name, d, A.ndim) for d in dim)
    if A.ndim < 2 or rows == columns:
        raise ValueError(f"{name}: dim {dim} must be two different axes, of a tensor that has {A.ndim}")
    return rows, columns


@op("linalg.matrix_norm", domain=_matrix_norm_domain, formula="norm `ord` of the matrices in axes dim")
class matrix_norm(Composite):
    """Norms of matrices.

    "fro" (root of the sum of squares), "nuc" (sum of singular values), 2 / -2 (largest / smallest singular value), 1 / -1
    (largest / smallest column sum of |A|), inf / -inf (row sum).

    dim: the row and the column axis. ValueError for another order.
    """

    def prepare(A, ord="fro", dim=(-2, -1), keepdim=False, *, dtype=None):
        require_matrix("linalg.matrix_norm", A)
        if ord not in _MATRIX_ORDERS:
            raise ValueError(f"linalg.matrix_norm: ord must be one of {', '.join(map(str, _MATRIX_ORDERS))}; got {ord!r}")
        dtype = _float_dtype("linalg.matrix_norm", A, dtype)
        return A, ord, _two_dims("linalg.matrix_norm", A, dim), bool(keepdim), dtype

    def reference(A: Array, ord="fro", dim=(-2, -1), keepdim: bool = False, *, dtype=None) -> np.ndarray:
        return np.asarray(np.linalg.norm(A if dtype is None else A.astype(dtype), ord, tuple(dim), keepdim))

    def compose(A, ord="fro", dim=(-2, -1), keepdim=False, *, dtype=None):
        if ord == "fro":
            return tg.linalg.vector_norm(A, 2, dim, keepdim, dtype=dtype)
        A = A if dtype is None else A.to(dtype)
        rows, columns = dim
        if ord in (1, -1, math.inf, -math.inf):
            added, chosen = (rows, columns) if ord in (1, -1) else (columns, rows)
            sums = A.abs().sum(added, True)
            out = sums.amax(chosen, True) if ord > 0 else sums.amin(chosen, True)
        else:
            values = tg.linalg.svdvals(A.movedim((rows, columns), (-2, -1)))
            out = values.sum(-1) if ord == "nuc" else values.amax(-1) if ord == 2 else values.amin(-1)
            out = out.reshape([1 if i in dim else s for i, s in enumerate(A.shape)])
        return out if keepdim else out.squeeze(tuple(dim))


def _norm_domain(draw):
    matrix = with_singular_values(draw, (), draw.integer(1, 3), draw.integer(1, 3)) + 0.01 * draw.distinct((1, 1))
    form = draw.integer(0, 2)
    if form == 0:
        return _vector_norm_domain(draw)
    if form == 1:
        return call(matrix, "nuc", draw.choice([None, (0, 1)]), draw.boolean())
    return call(matrix, "fro", draw.choice([None, 0, -1, (0, 1)]), draw.boolean())


@op("norm", domain=_norm_domain, formula="(sum of |input|^p over dim)^(1 / p)", kinks=["see linalg.vector_norm"])
class norm(Composite):
    """The vector norm of order `p` over `dim` (an axis, several, or all), as `linalg.vector_norm`.

    p: a number, inf, -inf, or "fro" for 2; "nuc" is the nuclear norm of matrices.
    See `linalg.vector_norm`, and `linalg.matrix_norm` for other norms of matrices.
    """

    def prepare(input, p="fro", dim=None, keepdim=False, dtype=None):
        if isinstance(p, str) and p not in ("fro", "nuc"):
            raise ValueError(f"norm: p must be a number, 'fro' or 'nuc', got {p!r}")
        if p == "nuc" and dim is None and input.ndim != 2:
            raise ValueError(f"norm: the nuclear norm needs a matrix, or dim, got shape {input.shape}")
        dtype = _float_dtype("norm", input, dtype)
        if p == "nuc":
            return input, p, _two_dims("norm", input, (0, 1) if dim is None else dim), bool(keepdim), dtype
        return input, 2 if p in ("fro", None) else p, canonical_dims("norm", dim, input.ndim), bool(keepdim), dtype

    def reference(input: Array, p="fro", dim=None, keepdim: bool = False, dtype=None) -> np.ndarray:
        x = input if dtype is None else input.astype(dtype)
        if p == "nuc":
            return np.linalg.norm(x, "nuc", dim, keepdim)
        if not x.ndim:
            return np.linalg.norm(x.reshape(1), p)
        order = [i for i in range(x.ndim) if i not in dim]
        rows = x.transpose(*order, *dim).reshape(*(x.shape[i] for i in order), math.prod(x.shape[i] for i in dim))
        shape = [1 if i in dim else s for i, s in enumerate(x.shape)]
        out = np.asarray(np.linalg.norm(rows, p, axis=-1))
        return out.reshape(shape) if keepdim else out

    def compose(input, p="fro", dim=None, keepdim=False, dtype=None):
        if p == "nuc":
            return tg.linalg.matrix_norm(input, "nuc", dim, keepdim, dtype=dtype)
        return tg.linalg.vector_norm(input, p, dim, keepdim, dtype=dtype)


def _linalg_norm_domain(draw):
    form = draw.integer(0, 3)
    if form == 0:
        A, order, dim, keepdim = _matrix_norm_domain(draw).args
        return call(A, order, dim if A.ndim > 2 else draw.choice([None, dim]), keepdim)
    if form == 1:
        return call(_away_from_ties(draw, draw.shape((0, 3))), keepdim=draw.boolean())
    shape = draw.shape((1, 3))
    dim = draw.choice([None] if len(shape) == 1 else [0, -1])
    return call(_away_from_ties(draw, shape), draw.choice([*_ORDERS, None]), dim, draw.boolean())


@op("linalg.norm", domain=_linalg_norm_domain, formula="vector or matrix norm of input", kinks=["see linalg.vector_norm"])
class linalg_norm(Composite):
    """A norm of vectors or matrices, with ord=None the 2-norm of the elements over `dim` or over all.

    One axis in `dim`, or 1-D input: as `linalg.vector_norm`. Two axes, or 2-D input with `ord` given: as `linalg.matrix_norm`.
    """

    def prepare(input, ord=None, dim=None, keepdim=False, *, dtype=None):
        dtype = _float_dtype("linalg.norm", input, dtype)
        if ord is not None and dim is None and input.ndim not in (1, 2):
            raise ValueError(
                f"linalg.norm: with ord and without dim, input must be a vector or a matrix, got shape {input.shape}"
            )
        if isinstance(dim, (tuple, list)):
            dim = tuple(dim)
            if len(dim) > 2:
                raise ValueError(f"linalg.norm: dim must be one axis or two, got {dim}")
        if isinstance(ord, str) and not (input.ndim == 2 if dim is None else isinstance(dim, tuple) and len(dim) == 2):
            raise ValueError(
                f"linalg.norm: the order {ord!r} is of matrices; give two axes in dim, got {dim} for shape {input.shape}"
            )
        return input, ord, dim, bool(keepdim), dtype

    def reference(input: Array, ord=None, dim=None, keepdim: bool = False, *, dtype=None) -> np.ndarray:
        x = input if dtype is None else input.astype(dtype)
        return np.asarray(np.linalg.norm(x, ord, dim, keepdim))

    def compose(input, ord=None, dim=None, keepdim=False, *, dtype=None):
        pair = (0, 1) if dim is None and input.ndim == 2 else dim
        if ord is not None and isinstance(pair, tuple) and len(pair) == 2:
            return tg.linalg.matrix_norm(input, ord, pair, keepdim, dtype=dtype)
        return tg.linalg.vector_norm(input, 2 if ord is None else ord, dim, keepdim, dtype=dtype)
