"""Order, membership and masks: sort, topk, unique, nonzero, masked_select, one_hot."""

from __future__ import annotations

import numpy as np

import tinygrad_cv as tg

from ..extend import Array, Composite, Idempotent, Op, Tensor, call, op
from ..replay import left
from .shape import canonical_axis


def _order(array: np.ndarray, dim: int, descending: bool) -> np.ndarray:
    """The stable order along `dim`. Descending keeps the order of equals too: the reversed axis is sorted, read backwards."""
    if not descending:
        return np.argsort(array, axis=dim, kind="stable")
    backwards = np.argsort(np.flip(array, dim), axis=dim, kind="stable")
    return np.flip(array.shape[dim] - 1 - backwards, dim)


def _sorted(array: np.ndarray, dim: int, descending: bool, count: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    if not array.ndim:
        return array.copy(), np.zeros((), np.int64)
    order = _order(array, dim, descending)
    if count is not None:
        order = order[(slice(None),) * dim + (slice(0, count),)]
    order = np.ascontiguousarray(order)
    return np.take_along_axis(array, order, dim), order


def _sort_domain(draw):
    shape = draw.shape((1, 3))
    return call(draw.distinct(shape), draw.integer(-len(shape), len(shape) - 1), draw.boolean())


@op(
    "sort",
    domain=_sort_domain,
    formula="values = input in order along dim; values[k] = input[indices[k]]",
    kinks=["ties"],
    laws=(Idempotent("input"),),
)
class sort(Op):
    """(values, indices): `input` sorted along `dim`, and where each value stood. NaN counts as the largest value.

    The sort is always stable (equal elements keep their order, in both directions), so `stable` changes nothing. The gradient
    goes to where a value stood.
    """

    outputs = ("values", "indices")

    def prepare(input, dim=-1, descending=False, *, stable=False):
        return input, canonical_axis("sort", dim, input.ndim), bool(descending), bool(stable)

    def reference(
        input: Array, dim: int = -1, descending: bool = False, *, stable: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        return _sorted(input, dim, descending)

    def grad_input(upstream, ctx, indices, dim):
        return tg.zeros(ctx.input_shapes[0], dtype=upstream.dtype).scatter(dim, indices, upstream)


@op("argsort", domain=_sort_domain, formula="indices with input[indices] in order along dim")
class argsort(Op):
    """The positions (int64) that sort `input` along `dim`: the indices of `sort`, stable in both directions."""

    differentiable = False

    def prepare(input, dim=-1, descending=False, *, stable=False):
        return input, canonical_axis("argsort", dim, input.ndim), bool(descending), bool(stable)

    def reference(input: Array, dim: int = -1, descending: bool = False, *, stable: bool = False) -> np.ndarray:
        return _sorted(input, dim, descending)[1]


def _topk_domain(draw):
    shape = draw.shape((1, 3))
    dim = draw.integer(-len(shape), len(shape) - 1)
    return call(draw.distinct(shape), draw.integer(1, shape[dim]), dim, draw.boolean())


@op("topk", domain=_topk_domain, formula="values = the k largest (or smallest) of input along dim", kinks=["ties"])
class topk(Op):
    """(values, indices): the `k` largest elements along `dim` (smallest with largest=False), best first, and where they stood.

    Among equal elements the first come first; NaN counts as the largest value. `sorted=False` allows any order and gives the
    same one. ValueError if k is not in 0 .. size.
    """

    outputs = ("values", "indices")

    def prepare(input, k, dim=-1, largest=True, sorted=True):
        axis = canonical_axis("topk", dim, input.ndim)
        size = input.shape[axis] if input.ndim else 1
        k = int(k)
        if not 0 <= k <= size:
            raise ValueError(f"topk: k must lie in 0..{size}, the size of axis {axis} of shape {input.shape}, got {k}")
        return input, k, axis, bool(largest), bool(sorted)

    def reference(
        input: Array, k: int, dim: int = -1, largest: bool = True, sorted: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        return _sorted(input, dim, largest, k)

    def grad_input(upstream, ctx, indices, dim):
        return tg.zeros(ctx.input_shapes[0], dtype=upstream.dtype).scatter(dim, indices, upstream)


# Membership -----------------------------------------------------------------------------------------------------------


def _unique(array: np.ndarray, dim: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    values, inverse, counts = np.unique(array, axis=dim, return_inverse=True, return_counts=True, equal_nan=False)
    return values, inverse.reshape(array.shape if dim is None else array.shape[dim]), counts


def _unique_domain(draw):
    if draw.boolean():
        return call(draw.integers(draw.shape((0, 3)), 0, 4).astype(float))
    return call(draw.integers((3, 4), 0, 2).astype(float), dim=draw.choice([0, 1, -1]))


@op("unique_all", domain=_unique_domain, formula="values = the set of elements of input, in order", method=False, internal=True)
class unique_all(Op):
    """(values, inverse_indices, counts) of the distinct elements of `input`, or of its slices along `dim`, in order."""

    outputs = ("values", "inverse_indices", "counts")
    differentiable = False
    values_shape = True

    def prepare(input, dim=None):
        if dim is not None and not input.ndim:
            raise IndexError("unique: a 0-d tensor has no axis to compare slices along")
        return input, None if dim is None else canonical_axis("unique", dim, input.ndim)

    def reference(input: Array, dim: int | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return _unique(input, dim)


def _unique_flags_domain(draw):
    example = _unique_domain(draw)
    return call(*example.args, return_inverse=draw.boolean(), return_counts=draw.boolean(), **example.kwargs)


@op("unique", domain=_unique_flags_domain, formula="the set of elements of input, in order")
class unique(Composite):
    """The distinct elements of `input` in ascending order, or its distinct slices along `dim` in lexicographic order.

    With return_inverse and return_counts also, in a tuple, where each element of `input` went and how often each value occurs
    (int64). `sorted=False` allows any order and gives the same one; each NaN is distinct. Not differentiable.
    """

    differentiable = False

    def reference(
        input: Array, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
    ):
        values, inverse, counts = _unique(input, dim)
        rest = ((inverse,) if return_inverse else ()) + ((counts,) if return_counts else ())
        return (values, *rest) if rest else values

    def compose(input, sorted=True, return_inverse=False, return_counts=False, dim=None):
        values, inverse, counts = tg.unique_all(input, dim)
        rest = ((inverse,) if return_inverse else ()) + ((counts,) if return_counts else ())
        return (values, *rest) if rest else values


def _sparse_domain(draw):
    shape = draw.shape((0, 3))
    return call(draw.real(shape) * draw.mask(shape))


@op("argwhere", domain=_sparse_domain, formula="the positions of the elements that are not zero")
class argwhere(Op):
    """The positions of the elements that are not zero as rows, in row-major order: shape (count, ndim), int64."""

    differentiable = False
    values_shape = True

    def reference(input: Array) -> np.ndarray:
        return np.argwhere(input).astype(np.int64, copy=False)


@op(
    "nonzero",
    domain=lambda draw: call(*_sparse_domain(draw).args, as_tuple=draw.boolean()),
    formula="the positions of the elements that are not zero",
)
class nonzero(Composite):
    """The positions of the elements that are not zero: shape (count, ndim), int64, in row-major order.

    as_tuple: instead a tuple of 1-D tensors, one for each axis, fit to index with; a 0-d tensor counts as 1-D there.
    """

    differentiable = False

    def reference(input: Array, *, as_tuple: bool = False):
        return np.nonzero(np.atleast_1d(input)) if as_tuple else np.argwhere(input)

    def compose(input, *, as_tuple=False):
        return tg.argwhere(tg.atleast_1d(input)).unbind(1) if as_tuple else tg.argwhere(input)


@op(
    "one_hot",
    domain=lambda draw: call(draw.integers(draw.shape((0, 2)), 0, 4), draw.choice([-1, 4, 6])),
    formula="out[..., k] = 1 where tensor[...] = k, else 0",
    method=False,
)
class one_hot(Op):
    """int64 zeros of shape (*tensor.shape, num_classes) with a 1 at the class that each element of `tensor` names.

    num_classes: -1 takes the largest class plus one. TypeError unless `tensor` holds integers; ValueError for a class below 0
    or not below num_classes.
    """

    differentiable = False

    def prepare(tensor, num_classes=-1):
        labels = tensor._data
        if labels.dtype.kind not in "iu":
            raise TypeError(f"one_hot: expected class indices (integers), got {labels.dtype}; use .long()")
        if labels.size and labels.min() < 0:
            raise ValueError(f"one_hot: class indices must not be negative, got {labels.min()}")
        if num_classes == -1:
            left(tensor, "the number of classes")
            if not labels.size:
                raise ValueError("one_hot: an empty tensor does not tell the number of classes; pass num_classes")
            num_classes = int(labels.max()) + 1
        if num_classes < 1 or (labels.size and labels.max() >= num_classes):
            raise ValueError(f"one_hot: class {labels.max(initial=0)} does not fit num_classes {num_classes}")
        return tensor, num_classes

    def reference(tensor: Array, num_classes: int = -1) -> np.ndarray:
        count = int(tensor.max()) + 1 if num_classes == -1 else num_classes
        return (tensor[..., None] == np.arange(count)).astype(np.int64)


# Masks ----------------------------------------------------------------------------------------------------------------


def _check_mask(name: str, input, mask) -> tuple[int, ...]:
    """The shape that `input` and the bool `mask` broadcast to; TypeError for another dtype, ValueError if they do not."""
    if not isinstance(mask, Tensor) or mask.dtype.kind != "b":
        raise TypeError(f"{name}: expected a bool Tensor for `mask`, got {getattr(mask, 'dtype', type(mask).__name__)}")
    try:
        return np.broadcast_shapes(input.shape, mask.shape)
    except ValueError:
        raise ValueError(f"{name}: mask of shape {mask.shape} does not broadcast with input of shape {input.shape}") from None


def _masked_domain(draw):
    shape = draw.shape((0, 3))
    if draw.boolean():
        return call(draw.real(shape), draw.mask(draw.broadcastable(shape)))
    return call(draw.real(draw.broadcastable(shape)), draw.mask(shape))


@op("masked_select", domain=_masked_domain, formula="the elements of input where mask holds")
class masked_select(Composite):
    """The elements of `input` where the bool `mask` holds, along one axis in row-major order; both broadcast first."""

    nondiff = ("mask",)

    def reference(input: Array, mask: Array) -> np.ndarray:
        input, mask = np.broadcast_arrays(input, mask)
        return input[mask]

    def compose(input, mask):
        shape = _check_mask("masked_select", input, mask)
        return input.expand(shape)[mask.expand(shape)]


def _masked_scatter_domain(draw):
    shape = draw.shape((1, 3))
    return call(draw.real(shape), draw.mask(draw.broadcastable(shape)), draw.real((int(np.prod(shape)) + draw.integer(0, 2),)))


@op(
    "masked_scatter",
    domain=_masked_scatter_domain,
    formula="out = input; out[mask] = the first elements of source",
    inplace=True,
)
class masked_scatter(Composite):
    """`input` with its elements where `mask` holds replaced, in order, by the elements of `source`.

    ValueError if `source` has fewer elements than the mask holds places, TypeError if its dtype differs.
    """

    nondiff = ("mask",)

    def reference(input: Array, mask: Array, source: Array) -> np.ndarray:
        mask = np.broadcast_to(mask, np.broadcast_shapes(input.shape, mask.shape))
        out = np.array(np.broadcast_to(input, mask.shape))
        out[mask] = source.reshape(-1)[: mask.sum()]
        return out

    def compose(input, mask, source):
        shape = _check_mask("masked_scatter", input, mask)
        mask = mask.expand(shape)
        count = int(np.count_nonzero(mask._data))
        if source.dtype != input.dtype:
            raise TypeError(f"masked_scatter: source has dtype {source.dtype}, expected {input.dtype}; use .to(dtype)")
        if source.numel() < count:
            raise ValueError(f"masked_scatter: source has {source.numel()} elements for {count} places in the mask")
        return tg.setitem(input.expand(shape), source.reshape(-1)[:count], mask)
