"""Writing along one axis by a tensor of positions, replacing or combining: scatter, scatter_add, scatter_reduce."""

from __future__ import annotations

import numpy as np

import tinygrad_cv as tg

from ..extend import Adjoint, Array, Composite, Linear, Op, Tensor, call, op
from .gathering import check_grid, grid_domain


def _leading(shape: tuple[int, ...]) -> tuple[slice, ...]:
    """The index of the first shape[k] elements along every axis."""
    return tuple(slice(0, n) for n in shape)


def _places(shape: tuple[int, ...], index: np.ndarray, dim: int) -> np.ndarray:
    """Where elements [i, j, ..., index[i, j, ...], ...] lie in an array of `shape`, counted in row-major order; 1-D.

    One line of places makes the order of writing that of `index`, whatever the layout of the operands.
    """
    if not index.ndim:
        return index.reshape(-1)
    grid = list(np.ogrid[_leading(index.shape)])
    grid[dim] = index
    return np.ravel_multi_index(tuple(np.broadcast_arrays(*grid)), shape).reshape(-1) if index.size else index.reshape(-1)


def _written(index: np.ndarray, src: np.ndarray) -> np.ndarray:
    """The elements of `src` that belong to `index`, in its order."""
    return (src[_leading(index.shape)] if index.ndim else src).reshape(-1)[: index.size]


def _source(name: str, input, index, src, argument: str = "src") -> Tensor:
    """What is scattered: a number for all places, or a Tensor of input's dtype that covers `index`."""
    if not isinstance(src, Tensor):
        return tg.full(index.shape, src, dtype=input.dtype)
    if src.dtype != input.dtype:
        raise TypeError(f"{name}: `{argument}` has dtype {src.dtype}, expected that of input, {input.dtype}; use .to(dtype)")
    have, room = index.shape or (1,), src.shape or (1,)
    if index.numel() and (len(have) != len(room) or any(h > r for h, r in zip(have, room, strict=True))):
        raise ValueError(f"{name}: `index` of shape {index.shape} is larger than `{argument}` of shape {src.shape}")
    return src


def _source_gradient(gradient, index, shape):
    """The gradient of a scattered tensor from that at its places: zeros where it is larger than `index`."""
    if not index.numel():
        return tg.zeros(shape, dtype=gradient.dtype)
    return gradient if gradient.shape == shape else tg.getitem_backward(gradient, shape, _leading(index.shape))


def _scatter_domain(draw):
    x, dim, index = grid_domain(draw)
    shape = index.shape if draw.boolean() else tuple(n + draw.integer(0, 1) for n in index.shape)
    return call(x, dim, index, draw.real(shape))


@op(
    "scatter_src",
    domain=_scatter_domain,
    formula="out = input; out[i, index[i, j, k], k] = src[i, j, k] for dim = 1",
    method=False,
    internal=True,
)
class scatter_src(Op):
    """What `scatter` does without `reduce`: the elements of `input` at positions `index` along `dim` replaced by those of `src`."""

    nondiff = ("index",)

    def prepare(input, dim, index, src):
        dim = check_grid("scatter", input, dim, index)
        return input, dim, index, _source("scatter", input, index, src)

    def reference(input: Array, dim: int, index: Array, src: Array) -> np.ndarray:
        out = input.copy()
        out.reshape(-1)[_places(input.shape or (1,), index, dim)] = _written(index, src)
        return out

    def grad_input(upstream, dim, index):
        return tg.scatter_src(upstream, dim, index, 0)

    def grad_src(upstream, ctx, dim, index):
        order = tg.arange(index.numel()).reshape(index.shape)
        kept = tg.scatter_src(tg.zeros(upstream.shape, dtype=tg.int64), dim, index, order).gather(dim, index).eq(order)
        gradient = upstream.gather(dim, index) * kept.to(upstream.dtype)
        return _source_gradient(gradient, index, ctx.input_shapes[2])


def _scatter_forms_domain(draw):
    x, dim, index, src = _scatter_domain(draw).args
    reduce = draw.choice([{}, {"reduce": "add"}, {"reduce": "multiply"}])
    return draw.choice([call(x, dim, index, src, **reduce), call(x, dim, index, value=draw.number(-2, 2), **reduce)])


@op(
    "scatter",
    domain=_scatter_forms_domain,
    formula="out = input; out[i, index[i, j, k], k] = src[i, j, k] for dim = 1, or += or *=",
    inplace=True,
)
class scatter(Composite):
    """`input` with the elements at positions `index` along axis `dim` replaced by those of `src`, a Tensor or a number.

    index: integers, with as many axes as `input`, on axes other than `dim` no larger; src: of input's dtype, at least as large
    as `index`; value: a number in its place. Where a position is written twice, the last value stays, and only it receives the
    gradient. reduce: "add" or "multiply" combines all of them with the element of `input` instead (as `scatter_reduce`; it has
    gradients here, which PyTorch's does not). IndexError for a position outside 0 .. size - 1.
    """

    nondiff = ("index",)

    def reference(
        input: Array,
        dim: int,
        index: Array,
        src: Array | float | None = None,
        *,
        value: float | None = None,
        reduce: str | None = None,
    ) -> np.ndarray:
        out = input.copy()
        flat, places = out.reshape(-1), _places(input.shape or (1,), index, dim)
        given = np.full(index.size, value, input.dtype) if src is None else _written(index, np.asarray(src, input.dtype))
        if reduce is None:
            flat[places] = given
        else:
            (np.add if reduce == "add" else np.multiply).at(flat, places, given)
        return out

    def compose(input, dim, index, src=None, *, value=None, reduce=None):
        if (src is None) == (value is None):
            raise TypeError(f"scatter: give either src or value, got {'neither' if src is None else 'both'}")
        src = value if src is None else src
        if reduce is None:
            return tg.scatter_src(input, dim, index, src)
        if reduce not in ("add", "multiply"):
            raise ValueError(f"scatter: reduce must be 'add' or 'multiply', got {reduce!r}; scatter_reduce knows more")
        check_grid("scatter", input, dim, index)
        src = _source("scatter", input, index, src)
        return input.scatter_add(dim, index, src) if reduce == "add" else input.scatter_reduce(dim, index, src, "prod")


@op(
    "scatter_add",
    domain=_scatter_domain,
    formula="out = input; out[i, index[i, j, k], k] += src[i, j, k] for dim = 1",
    kernels={"cpu": "tinygrad_cv.ops.cpu.gathering:scatter_add"},
    inplace=True,
    laws=(
        Linear("input", "src"),
        Adjoint(
            "src",
            of="gather",
            by=lambda y, dim, index: (y, dim, index),
            zero=("input",),
            when=lambda index, src: index.shape == src.shape,
        ),
    ),
)
class scatter_add(Op):
    """`input` with the elements of `src` added at positions `index` along axis `dim`; what goes to one place is summed.

    Shapes and errors as in `scatter`.
    """

    nondiff = ("index",)

    def prepare(input, dim, index, src):
        dim = check_grid("scatter_add", input, dim, index)
        return input, dim, index, _source("scatter_add", input, index, src)

    def reference(input: Array, dim: int, index: Array, src: Array) -> np.ndarray:
        out = input.copy()
        np.add.at(out.reshape(-1), _places(input.shape or (1,), index, dim), _written(index, src))
        return out

    def grad_input(upstream):
        return upstream

    def grad_src(upstream, ctx, dim, index):
        return _source_gradient(upstream.gather(dim, index), index, ctx.input_shapes[2])


# Combining ------------------------------------------------------------------------------------------------------------


def _ties_apart(draw):
    """Values for scatter_reduce: no two of input and src are near each other."""
    x, dim, index, src = _scatter_domain(draw).args
    values = draw.distinct((x.size + src.size,))
    return values[: x.size].reshape(x.shape), dim, index, values[x.size :].reshape(src.shape)


@op(
    "scatter_extremum",
    domain=lambda draw: call(*_ties_apart(draw), draw.boolean(), draw.boolean()),
    formula="out = input; out[i, index[i, j, k], k] = max or min with src[i, j, k] for dim = 1",
    kinks=["ties: split evenly"],
    method=False,
    internal=True,
)
class scatter_extremum(Op):
    """`scatter_reduce` with "amax" (`largest`) or "amin". Tied elements share the gradient evenly."""

    nondiff = ("index",)

    def reference(input: Array, dim: int, index: Array, src: Array, largest: bool, include_self: bool) -> np.ndarray:
        out = input.copy()
        flat, places, given = out.reshape(-1), _places(input.shape or (1,), index, dim), _written(index, src)
        if not include_self:
            flat[places] = given  # one of them, whichever
        (np.maximum if largest else np.minimum).at(flat, places, given)
        return out

    def backward(upstream, input, index, src, out, dim, include_self, ctx):
        dtype = upstream.dtype
        from_self = input.eq(out)
        if not include_self:
            from_self = tg.scatter_src(from_self, dim, index, False)
        from_self = from_self.to(dtype)
        from_src = (src[_leading(index.shape)] if index.ndim else src).reshape(index.shape).eq(out.gather(dim, index)).to(dtype)
        share = upstream / from_self.scatter_add(dim, index, from_src)
        # a place none of whose elements equals the result (NaN) has share inf or NaN, which is the truth about its gradient
        return from_self * share, None, _source_gradient(from_src * share.gather(dim, index), index, ctx.input_shapes[2])


def _products(input, dim: int, index, src, include_self: bool):
    """scatter_reduce by multiplication, as a tournament: neighbours of one place multiply until one is left.

    Written in products alone, so that gradients of all orders are right where elements are zero.
    """
    base = input if include_self else tg.scatter_src(input, dim, index, 1)
    places = _places(input.shape or (1,), index._data, dim)
    order = np.argsort(places, kind="stable")
    places = places[order]
    rank = np.arange(places.size) - np.searchsorted(places, places)
    values = (
        (src[_leading(index.shape)] if index.ndim else src).reshape(-1)[: index.numel()].index_select(0, tg.from_numpy(order))
    )
    while rank.size and rank.max() > 0:
        first = np.flatnonzero(rank % 2 == 0)
        beside = np.minimum(first + 1, places.size - 1)
        beside = np.where((places[beside] == places[first]) & (beside != first), beside, places.size)  # else the one at the end
        padded = tg.cat([values, tg.ones(1, dtype=values.dtype)])
        values = values.index_select(0, tg.from_numpy(first)) * padded.index_select(0, tg.from_numpy(beside))
        places, rank = places[first], rank[first] // 2
    factors = tg.scatter_src(tg.ones(input.numel(), dtype=input.dtype), 0, tg.from_numpy(places), values)
    return base * factors.reshape(input.shape)


def _scatter_reduce_domain(draw):
    x, dim, index, src = _ties_apart(draw)
    reduce = draw.choice(["sum", "prod", "mean", "amax", "amin"])
    return call(x, dim, index, src, reduce, include_self=draw.boolean())


@op(
    "scatter_reduce",
    domain=_scatter_reduce_domain,
    formula="out[i, p, k] = reduce of input[i, p, k] and all src[i, j, k] with index[i, j, k] = p, for dim = 1",
    kinks=["amax, amin: ties split evenly"],
    inplace=True,
)
class scatter_reduce(Composite):
    """`input` with all elements of `src` that `index` sends to one place along `dim` reduced there, together with its own element.

    reduce: "sum", "prod", "mean", "amax" or "amin". include_self: False leaves the element of `input` out where `index` points;
    where it does not, it stays. Shapes and errors as in `scatter`; src is a Tensor of input's dtype. The mean of integers is rounded
    down; tied extrema share the gradient evenly.
    """

    nondiff = ("index",)

    def reference(input: Array, dim: int, index: Array, src: Array, reduce: str, *, include_self: bool = True) -> np.ndarray:
        out = input.copy()
        groups: dict[int, list] = {}
        for place, value in zip(_places(input.shape or (1,), index, dim), _written(index, src), strict=True):
            groups.setdefault(int(place), []).append(value)
        fold = {"sum": np.sum, "prod": np.prod, "mean": np.mean, "amax": np.max, "amin": np.min}[reduce]
        for place, values in groups.items():
            own = [out.reshape(-1)[place]] if include_self else []
            out.reshape(-1)[place] = fold(np.array(own + values))
        return out

    def compose(input, dim, index, src, reduce, *, include_self=True):
        if reduce not in ("sum", "prod", "mean", "amax", "amin"):
            raise ValueError(f"scatter_reduce: reduce must be 'sum', 'prod', 'mean', 'amax' or 'amin', got {reduce!r}")
        if not isinstance(src, Tensor):
            raise TypeError(f"scatter_reduce: expected a Tensor for `src`, got {type(src).__name__}")
        dim = check_grid("scatter_reduce", input, dim, index)
        src = _source("scatter_reduce", input, index, src)
        if reduce == "mean" and input.dtype.kind == "b":
            raise TypeError("scatter_reduce: booleans have no mean; use .float()")
        if reduce in ("amax", "amin"):
            return tg.scatter_extremum(input, dim, index, src, reduce == "amax", bool(include_self))
        if reduce == "prod":
            return _products(input, dim, index, src, include_self)
        total = (input if include_self else tg.scatter_src(input, dim, index, 0)).scatter_add(dim, index, src)
        if reduce == "sum":
            return total
        counts = tg.zeros(input.shape, dtype=tg.int64).scatter_add(dim, index, tg.ones(index.shape, dtype=tg.int64))
        counts = counts + 1 if include_self else counts.clamp(min=1)
        return (
            total / counts.to(total.dtype)
            if total.is_floating_point()
            else tg.div(total, counts.to(total.dtype), rounding_mode="floor")
        )
