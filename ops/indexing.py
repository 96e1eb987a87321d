"""Reading and writing by index: `x[...]`, and the operators under it."""

from __future__ import annotations

from typing import Any

import numpy as np

import tinygrad_cv as tg

from ..extend import Array, Op, call, op


def _basic_domain(draw):
    x = draw.real((3, 4, 2))
    return call(x, draw.choice([(0,), (slice(1, 3),), (slice(None, None, 2), None, 1), (..., -1), (slice(None, None, -1), slice(1, 2)), ()]))


@op("getitem", domain=_basic_domain, formula="out = input[index]", method=False)
class getitem(Op):
    """`input[index]` for ints, slices (any step), None and ...: a view."""

    view = True

    def reference(input: Array, index: tuple[Any, ...]) -> np.ndarray:
        return np.asarray(input[index]) if Ellipsis in index else input[(*index, ...)]

    def grad_input(upstream, ctx, index):
        return tg.getitem_backward(upstream, ctx.input_shapes[0], index)


def _advanced_domain(draw):
    x = draw.real((3, 4, 2))
    return call(x, draw.choice([(draw.integers((3,), -3, 3),), (draw.mask((3, 4)),), (slice(1, 3), draw.integers((2, 2), 0, 4)),
                                (draw.integers((2,), 0, 3), draw.integers((2,), 0, 4))]))  # fmt: skip


@op("index", domain=_advanced_domain, formula="out = input[index]", method=False)
class index(Op):
    """`input[index]` when the index holds integer arrays or masks: a copy, with NumPy's broadcasting of index arrays."""

    def reference(input: Array, index: tuple[Any, ...]) -> np.ndarray:
        return input[index]

    def grad_input(upstream, ctx, index):
        return tg.getitem_backward(upstream, ctx.input_shapes[0], index)


def _getitem_backward_domain(draw):
    example = draw.choice([_basic_domain, _advanced_domain])(draw)
    x, where = example.args
    return call(draw.real(x[where].shape), x.shape, where)


@op("getitem_backward", domain=_getitem_backward_domain, formula="out = zeros(shape); out[index] += input", method=False)
class getitem_backward(Op):
    """Zeros of `shape` with `input` added at `index`; elements indexed twice receive both. The adjoint of `x[index]`."""

    def reference(input: Array, shape: tuple[int, ...], index: tuple[Any, ...]) -> np.ndarray:
        out = np.zeros(shape, input.dtype)
        if any(isinstance(i, np.ndarray) and i.dtype.kind != "b" for i in index):
            np.add.at(out, index, input)
        else:
            out[index] = input
        return out

    def grad_input(upstream, index):
        return upstream[index]


def _setitem_domain(draw):
    example = draw.choice([_basic_domain, _advanced_domain])(draw)
    x, where = example.args
    if any(isinstance(i, np.ndarray) and i.dtype.kind != "b" for i in where):
        where = (np.array(draw.permutation(3))[:2],)  # a place written twice keeps an unspecified one of the values
    return call(x, draw.real(x[where].shape), where)


@op("setitem", domain=_setitem_domain, formula="out = input; out[index] = value", method=False)
class setitem(Op):
    """`input` with the elements at `index` replaced by `value` (broadcast). `x[index] = value` is its in-place form."""

    def reference(input: Array, value: Array, index: tuple[Any, ...]) -> np.ndarray:
        out = input.copy()
        out[index] = value
        return out

    def grad_input(upstream, index):
        return tg.setitem(upstream, tg.zeros((), dtype=upstream.dtype), index)

    def grad_value(upstream, ctx, index):
        return upstream[index].sum_to_size(ctx.input_shapes[1])


def _view_of(array: np.ndarray, chain: tuple[Any, ...]) -> np.ndarray:
    for operator, attrs in chain:
        array = operator.bind(operator.reference, (array,), attrs)
    return array


def _view_scatter_domain(draw):
    x, where = _basic_domain(draw).args
    chain = ((tg.ops.get("getitem"), (where,)),)
    return call(x, draw.real(x[where].shape), chain)


@op("view_scatter", domain=_view_scatter_domain, formula="out = input; chain(out) = src", method=False)
class view_scatter(Op):
    """`input` with the region that the view operators in `chain` address replaced by `src`: what a write to a view does to its base."""

    def reference(input: Array, src: Array, chain: tuple[Any, ...]) -> np.ndarray:
        out = input.copy()
        _view_of(out, chain)[...] = src
        return out

    def grad_input(upstream, ctx, chain):
        return tg.view_scatter(upstream, tg.zeros(ctx.input_shapes[1], dtype=upstream.dtype), chain)

    def grad_src(upstream, chain):
        for operator, attrs in chain:
            upstream = tg.dispatch.apply(operator, (upstream,), attrs)
        return upstream
