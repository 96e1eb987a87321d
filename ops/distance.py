"""Distances and similarities between vectors.

A length has no derivative at the zero vector; every operator here gives 0 there, as PyTorch does.
"""

from __future__ import annotations

import math

import numpy as np

import tinygrad_cv as tg

from ..extend import Array, Composite, Homogeneous, Op, Symmetric, Tensor, call, op
from .loss import check_floating


def _check_vectors(name: str, **tensors) -> None:
    check_floating(name, **tensors)
    shapes = [t.shape for t in tensors.values()]
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        raise ValueError(
            f"{name}: shapes {' and '.join(map(str, shapes))} do not broadcast; sizes must be equal or 1"
        ) from None


def _differing(name: str, label: str, tensor):
    """What is checked of a tensor that is only subtracted: integers may stand for floats, booleans may not."""
    if isinstance(tensor, Tensor) and tensor.dtype.kind in "iu":
        return tensor.to(tg.get_default_dtype())
    return tensor


def _check_order(name: str, p: float) -> float:
    if not p >= 0:
        raise ValueError(f"{name}: p must be 0 or above, got {p}")
    return float(p)


def vector_length(difference: Tensor, p: float, keepdim: bool = False) -> Tensor:
    """The p-norm along the last axis, differentiable twice, with derivative 0 at the zero vector."""
    dtype = difference.dtype
    if dtype == np.float16:  # squares overflow
        return vector_length(difference.float(), p, keepdim).to(dtype)
    zero, one = (tg.full((), v, dtype=dtype) for v in (0.0, 1.0))
    if p == 0:
        return (difference != 0).to(difference.dtype).sum(-1, keepdim=keepdim)
    size = difference.abs()
    if p == 1:
        return size.sum(-1, keepdim=keepdim)
    if p == math.inf:
        return size.amax(-1, keepdim=keepdim)
    if p == 2:
        total = (difference * difference).sum(-1, keepdim=keepdim)
    else:
        apart = size > 0
        total = tg.where(apart, tg.where(apart, size, one) ** p, zero).sum(-1, keepdim=keepdim)
    positive = total > 0
    return tg.where(positive, tg.where(positive, total, one) ** (1 / p), zero)


def _length(difference: np.ndarray, p: float, keepdims: bool = False) -> np.ndarray:
    if not difference.shape[-1]:
        return np.zeros(difference.shape[:-1] + ((1,) if keepdims else ()), difference.dtype)
    return np.linalg.norm(difference, ord=p, axis=-1, keepdims=keepdims).astype(difference.dtype)


_ORDERS = [2.0, 1.0, 3.0, 1.5, math.inf, 0.0]


def _pair_domain(draw):
    shape = draw.choice([(3, 4), (4,), (2, 1, 3)])
    first = draw.distinct(shape, 0.2, 2.0)
    second = -draw.distinct(draw.broadcastable(shape), 0.2, 2.0)
    return call(first, second, draw.choice([2.0, 1.0, 3.0, -1.0]), keepdim=draw.boolean())


@op("pairwise_distance", domain=_pair_domain, formula="||x1 - x2 + eps||_p along the last axis", method=False)
class pairwise_distance(Composite):
    """The p-norm of x1 - x2 + eps along the last axis. x1, x2: (N, D) or (D), or anything that broadcasts together.

    Integers are subtracted as such, and give the default floating dtype. p: any number; 0 counts the elements that differ, inf takes
    the largest difference. keepdim: the last axis stays, with size 1.
    """

    def prepare(x1, x2, p=2.0, eps=1e-6, keepdim=False):
        given = {"x1": x1, "x2": x2}
        _check_vectors("pairwise_distance", **{n: _differing("pairwise_distance", n, t) for n, t in given.items()})
        if p != p:
            raise ValueError(f"pairwise_distance: p must be a number, got {p}")
        return x1, x2, float(p), float(eps), bool(keepdim)

    def reference(x1: Array, x2: Array, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> np.ndarray:
        difference = x1 - x2
        if difference.dtype.kind != "f":
            difference = difference.astype(tg.get_default_dtype())
        return _length(difference + difference.dtype.type(eps), p, keepdim)

    def compose(x1, x2, p=2.0, eps=1e-6, keepdim=False):
        difference = x1 - x2 + eps
        if p < 0:
            return tg.linalg.vector_norm(difference, p, -1, keepdim)
        return vector_length(difference, p, keepdim)


def _cosine_domain(draw):
    shape = draw.choice([(3, 4), (2, 3, 2)])
    return call(draw.real(shape, 0.3, 2.0), draw.real(draw.broadcastable(shape), 0.3, 2.0), draw.choice([1, 0, -1]))


@op(
    "cosine_similarity",
    domain=_cosine_domain,
    formula="x1 . x2 / (max(||x1||, eps) * max(||x2||, eps)) along dim",
    method=False,
    laws=(Symmetric("x1", "x2"),),
)
class cosine_similarity(Composite):
    """The cosine of the angle between x1 and x2 along `dim`, whose shapes broadcast. Lengths below `eps` count as `eps`."""

    def prepare(x1, x2, dim=1, eps=1e-8):
        _check_vectors("cosine_similarity", x1=x1, x2=x2)
        axes = max(x1.ndim, x2.ndim)
        if not -max(axes, 1) <= dim < max(axes, 1):
            raise IndexError(f"cosine_similarity: dim {dim} is out of range for tensors of {axes} axes")
        if eps < 0:
            raise ValueError(f"cosine_similarity: eps must not be negative, got {eps}")
        return x1, x2, int(dim), float(eps)

    def reference(x1: Array, x2: Array, dim: int = 1, eps: float = 1e-8) -> np.ndarray:
        x1, x2 = np.broadcast_arrays(x1, x2)
        lengths = [np.maximum(np.linalg.norm(x, axis=dim), eps) for x in (x1, x2)]
        return ((x1 * x2).sum(dim) / (lengths[0] * lengths[1])).astype(np.result_type(x1, x2))

    def compose(x1, x2, dim=1, eps=1e-8):
        shape, dtype = np.broadcast_shapes(x1.shape, x2.shape), np.result_type(x1.dtype, x2.dtype)
        x1, x2 = x1.expand(shape), x2.expand(shape)
        if dtype == np.float16:  # squares overflow
            x1, x2 = x1.float(), x2.float()
        # The square of the floor, so that the root is never taken at 0, where it has no derivative.
        squares = [(x * x).sum(dim).clamp(min=max(eps * eps, float(np.finfo(x.dtype).tiny))) for x in (x1, x2)]
        return ((x1 * x2).sum(dim) / (squares[0].sqrt() * squares[1].sqrt())).to(dtype)


def _cdist_domain(draw):
    batches = draw.choice([((), ()), ((2,), ()), ((), (2,)), ((2, 1), (3,))])
    rows, columns, length = draw.integer(1, 3), draw.integer(1, 3), draw.integer(2, 3)
    first = draw.distinct((*batches[0], rows, length), 0.2, 2.0)
    second = -draw.distinct((*batches[1], columns, length), 0.2, 2.0)
    if draw.boolean():
        first, second = second, first
    mode = draw.choice(["use_mm_for_euclid_dist_if_necessary", "use_mm_for_euclid_dist"])
    return call(first, second, draw.choice(_ORDERS), mode)


_CDIST_MODES = ("use_mm_for_euclid_dist_if_necessary", "use_mm_for_euclid_dist", "donot_use_mm_for_euclid_dist")


def _by_product(p: float, mode: str, rows1: int, rows2: int) -> bool:
    """Whether squared distances come from |a|^2 + |b|^2 - 2 a.b, one matrix product, rather than from differences."""
    return p == 2 and (mode == _CDIST_MODES[1] or (mode == _CDIST_MODES[0] and (rows1 > 25 or rows2 > 25)))


@op(
    "cdist",
    domain=_cdist_domain,
    formula="out[..., i, j] = ||x1[..., i, :] - x2[..., j, :]||_p",
    kinks=("x1[i] = x2[j]: derivative 0", "p = inf: a tie shares the derivative equally"),
    tolerance=1e-4,
    method=False,
    laws=(Homogeneous("x1", "x2", positive=True, when=lambda p: p != 0),),
)
class cdist(Op):
    """The p-norm distance of every row of x1 (..., P, D) to every row of x2 (..., R, D): (..., P, R). Leading axes broadcast.

    compute_mode: for p = 2, whether to use one matrix product (fast and small in memory; the differences of nearby rows lose digits);
    by default when P or R exceeds 25, as in PyTorch. The derivative at coincident points is 0.
    """

    def prepare(x1, x2, p=2.0, compute_mode="use_mm_for_euclid_dist_if_necessary"):
        check_floating("cdist", x1=x1, x2=x2)
        if x1.ndim < 2 or x2.ndim < 2 or x1.shape[-1] != x2.shape[-1]:
            raise ValueError(
                f"cdist: expected x1 (..., P, D) and x2 (..., R, D) with one D, got shapes {x1.shape} and {x2.shape}"
            )
        if x1.dtype != x2.dtype:
            raise TypeError(f"cdist: expected one dtype, got x1 {x1.dtype} and x2 {x2.dtype}; convert with .to(dtype)")
        if compute_mode not in _CDIST_MODES:
            raise ValueError(f"cdist: compute_mode must be one of {', '.join(_CDIST_MODES)}, got {compute_mode!r}")
        try:
            np.broadcast_shapes(x1.shape[:-2], x2.shape[:-2])
        except ValueError:
            raise ValueError(f"cdist: the leading axes of shapes {x1.shape} and {x2.shape} do not broadcast") from None
        return x1, x2, _check_order("cdist", p), compute_mode

    def reference(
        x1: Array, x2: Array, p: float = 2.0, compute_mode: str = "use_mm_for_euclid_dist_if_necessary"
    ) -> np.ndarray:
        if _by_product(p, compute_mode, x1.shape[-2], x2.shape[-2]):
            # One shift for all keeps the numbers small: distances do not see it, the cancellation does.
            centre = x2.reshape(-1, x2.shape[-1]).mean(0) if x2.size else x2.dtype.type(0)
            a, b = x1 - centre, x2 - centre
            squares = np.square(a).sum(-1)[..., :, None] + np.square(b).sum(-1)[..., None, :]
            squares = squares - 2 * np.matmul(a, np.swapaxes(b, -1, -2))
            return np.sqrt(np.maximum(squares, 0))
        shape = (*np.broadcast_shapes(x1.shape[:-2], x2.shape[:-2]), x1.shape[-2], x2.shape[-2])
        out = np.empty(shape, x1.dtype)
        for i in range(x1.shape[-2]):  # row by row, so that memory stays small
            out[..., i, :] = _length(x1[..., i : i + 1, :] - x2, p)
        return out

    def backward(upstream, ctx, x1, x2, out, p, compute_mode):
        zero = tg.zeros((), dtype=upstream.dtype)
        if p == 0:
            return x1 * 0, x2 * 0
        if p == 2:
            # d out / d x1 = (x1 - x2) / out, summed over the other side without forming the differences.
            apart = out > 0
            pull = tg.where(apart, upstream / tg.where(apart, out, zero + 1), zero)
            grad1 = pull.sum(-1).unsqueeze(-1) * x1 - pull @ x2
            grad2 = pull.sum(-2).unsqueeze(-1) * x2 - pull.mT @ x1
        else:
            difference = x1.unsqueeze(-2) - x2.unsqueeze(-3)
            size = difference.abs()
            if p == 1:
                slope = difference.sign()
            elif p == math.inf:
                largest = (size == out.unsqueeze(-1)).to(upstream.dtype)
                slope = difference.sign() * largest / largest.sum(-1, keepdim=True).clamp(min=1)
            else:
                apart = size > 0
                far = out.unsqueeze(-1) > 0
                length = tg.where(far, out.unsqueeze(-1), zero + 1)
                ratio = tg.where(apart, size, zero + 1) / length
                slope = tg.where(apart, difference.sign() * ratio ** (p - 1), zero)
            pulls = slope * upstream.unsqueeze(-1)
            grad1, grad2 = pulls.sum(-2), -pulls.sum(-3)
        return grad1.sum_to_size(ctx.input_shapes[0]), grad2.sum_to_size(ctx.input_shapes[1])


def _pdist_domain(draw):
    return call(draw.distinct((draw.integer(2, 4), 3), -2.0, 2.0), draw.choice([2.0, 1.0, 3.0]))


@op("pdist", domain=_pdist_domain, formula="||input[i] - input[j]||_p for i < j, row by row", method=False)
class pdist(Composite):
    """The distances between all pairs of rows of input (N, D): N (N - 1) / 2 of them, in the order (0, 1), (0, 2), ..., (1, 2), ..."""

    def prepare(input, p=2.0):
        check_floating("pdist", input=input)
        if input.ndim != 2:
            raise ValueError(f"pdist: expected an input of shape (N, D), got {input.shape}")
        return input, _check_order("pdist", p)

    def reference(input: Array, p: float = 2.0) -> np.ndarray:
        pairs = [(i, j) for i in range(len(input)) for j in range(i + 1, len(input))]
        return np.array([_length(input[i] - input[j], p) for i, j in pairs], input.dtype)

    def compose(input, p=2.0):
        first, second = np.triu_indices(input.shape[0], 1)
        return vector_length(input[first] - input[second], p)
