"""The operators under `x[index]` and `x[index] = value`, and what a write to a view does to its base."""

from __future__ import annotations

from typing import Any

import numpy as np

import tinygrad_cv as tg

from ..extend import Array, Op, call, op


def _basic_domain(draw):
    x = draw.real((3, 4, 2))
    options = [
        (0,),
        (slice(1, 3),),
        (slice(None, None, 2), None, 1),
        (..., -1),
        (slice(None, None, -1), slice(1, 2)),
        (),
        (1, 2, 0),
    ]
    return call(x, draw.choice(options))


@op("getitem", domain=_basic_domain, formula="out = input[index]", method=False)
class getitem(Op):
    """`input[index]` for ints, slices (any step), None and ...: a view. IndexError for what does not fit the shape."""

    view = True

    def prepare(input, index):
        return input, tg.indexing.canonical(index, input.shape)[0]

    def reference(input: Array, index: tuple[Any, ...]) -> np.ndarray:
        out = input[index]
        return out if type(out) is np.ndarray else input[(*index, ...)]  # all ints: a 0-d view, not a NumPy scalar

    def grad_input(upstream, ctx, index):
        return tg.getitem_backward(upstream, ctx.input_shapes[0], index)


def _advanced_domain(draw):
    x = draw.real((3, 4, 2))
    options = [
        (draw.integers((3,), -3, 3),),
        (draw.mask((3, 4)),),
        (slice(1, 3), draw.integers((2, 2), 0, 4)),
        (draw.integers((2,), 0, 3), draw.integers((2,), 0, 4)),
        (draw.integers((2,), 0, 3), slice(None), draw.integers((3, 1), -2, 2)),
        (..., None, draw.mask((2,))),
    ]
    return call(x, draw.choice(options))


@op("index", domain=_advanced_domain, formula="out = input[index]", method=False)
class index(Op):
    """`input[index]` when the index holds integer arrays or masks: a copy, with NumPy's broadcasting of index arrays."""

    def prepare(input, index):
        return input, tg.indexing.canonical(index, input.shape)[0]

    def reference(input: Array, index: tuple[Any, ...]) -> np.ndarray:
        return np.array(input[index])

    def grad_input(upstream, ctx, index):
        return tg.getitem_backward(upstream, ctx.input_shapes[0], index)


def _repeats_places(where: tuple[Any, ...]) -> bool:
    """Whether an index may name one place twice: only integer arrays can."""
    return any([isinstance(i, np.ndarray) and i.dtype.kind != "b" for i in where])


def getitem_backward_into(input: np.ndarray, shape: tuple[int, ...], index: tuple[Any, ...], *, out: np.ndarray):
    """`getitem_backward`, written into `out`."""
    out[...] = 0
    if _repeats_places(index):
        np.add.at(out, index, input)
    else:
        out[index] = input
    return out


def _getitem_backward_domain(draw):
    example = draw.choice([_basic_domain, _advanced_domain])(draw)
    x, where = example.args
    return call(draw.real(x[where].shape), x.shape, where)


@op(
    "getitem_backward",
    domain=_getitem_backward_domain,
    formula="out = zeros(shape); out[index] += input",
    method=False,
    internal=True,
)
class getitem_backward(Op):
    """Zeros of `shape` with `input` added at `index`; elements indexed twice receive both. The adjoint of `x[index]`."""

    into = "tinygrad_cv.ops.indexing:getitem_backward_into"

    def reference(input: Array, shape: tuple[int, ...], index: tuple[Any, ...]) -> np.ndarray:
        return getitem_backward_into(input, shape, index, out=np.empty(shape, input.dtype))

    def grad_input(upstream, index):
        return upstream[index]


def _setitem_domain(draw):
    x, where = draw.choice([_basic_domain, _advanced_domain])(draw).args
    return call(x, draw.real(draw.choice([x[where].shape, draw.broadcastable(x[where].shape), ()])), where)


@op("setitem", domain=_setitem_domain, formula="out = input; out[index] = value", method=False)
class setitem(Op):
    """`input` with the elements at `index` replaced by `value` (broadcast). `x[index] = value` is its in-place form.

    value: a Tensor, cast to input's dtype, or what `tg.tensor` takes. ValueError if it does not broadcast to the indexed
    region, IndexError if the index does not fit. Where integer arrays name a place twice, the last value stays, and only it
    receives the gradient.
    """

    def prepare(input, value, index):
        items, _ = tg.indexing.canonical(index, input.shape, "setitem")
        return input, tg.indexing.fitting("setitem", input, items, value), items

    def reference(input: Array, value: Array, index: tuple[Any, ...]) -> np.ndarray:
        out = input.copy()
        tg.indexing.put(out, index, value)
        return out

    def grad_input(upstream, index):
        return tg.setitem(upstream, 0, index)

    def grad_value(upstream, ctx, index):
        gradient = upstream[index]
        if _repeats_places(index):
            kept = _kept(index, upstream.shape)
            gradient = gradient if kept.all() else gradient * tg.from_numpy(kept.astype(gradient.dtype))
        return gradient.sum_to_size(ctx.input_shapes[1])


def _kept(where: tuple[Any, ...], shape: tuple[int, ...]) -> np.ndarray:
    """For each element that `x[where] = value` writes, whether it stays, not overwritten by a later one."""
    writer = np.zeros(shape, np.intp)
    order = np.arange(writer[where].size).reshape(writer[where].shape)
    writer[where] = order
    return writer[where] == order


def _seen(array: np.ndarray, chain: tuple[Any, ...]) -> np.ndarray:
    """`array` through the view operators in `chain`."""
    for operator, attrs in chain:
        array = operator.bind(operator.reference, (array,), attrs)
    return array


def _view_scatter_domain(draw):
    if draw.boolean():
        x = draw.real((2, 3, 2))
        chain = ((tg.ops.get("permute"), ((2, 0, 1),)), (tg.ops.get("getitem"), ((1, slice(None, None, 2)),)))
    else:
        x, where = _basic_domain(draw).args
        chain = ((tg.ops.get("getitem"), (where,)),)
    return call(x, draw.real(_seen(x, chain).shape), chain)


@op("view_scatter", domain=_view_scatter_domain, formula="out = input; chain(out) = src", method=False, internal=True)
class view_scatter(Op):
    """`input` with the region that the view operators in `chain` address replaced by `src`.

    What a write to a view does to its base. chain: pairs (view operator, its attributes), applied one after the other.
    """

    def reference(input: Array, src: Array, chain: tuple[Any, ...]) -> np.ndarray:
        out = np.array(input, order="C")
        region = _seen(out, chain)
        if np.may_share_memory(region, out):
            region[...] = src
        else:  # a reshape in the chain is a view of the base's strides but would copy from these: go by position
            out.reshape(-1)[_seen(np.arange(out.size).reshape(out.shape), chain)] = src
        return out

    def grad_input(upstream, ctx, chain):
        return tg.view_scatter(upstream, tg.zeros(ctx.input_shapes[1], dtype=upstream.dtype), chain)

    def grad_src(upstream, chain):
        for operator, attrs in chain:
            upstream = tg.dispatch.apply(operator, (upstream,), attrs)
        return upstream
