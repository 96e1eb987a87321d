"""Cutting a tensor into all of its pieces at once: what `split`, `chunk` and `unbind` are made of.

One node has all the pieces as outputs, so that backward joins their gradients once. (Were every piece a `narrow` or `select` of
its own, each would fill an array of the whole tensor's size, which is quadratic in the number of pieces.) Each piece is a view
nevertheless: its history, should the memory be written in place, is that of a `narrow` or `select`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import tinygrad_cv as tg

from .._state import state
from .._tensor import wrap
from ..dispatch import record
from ..extend import Array, Op, Operator, Tensor, call, get


class _Split(Op):
    """The pieces of `input` of the given sizes along axis `dim`."""

    def reference(input: Array, sizes: Sequence[int], dim: int) -> tuple[np.ndarray, ...]:
        before, pieces, start = (slice(None),) * dim, [], 0
        for size in sizes:
            pieces.append(input[(*before, slice(start, start + size))])
            start += size
        return tuple(pieces)

    def backward(upstreams, ctx, dim):
        return (tg.cat(_filled(upstreams, ctx), dim),)


class _Unbind(Op):
    """The parts of `input` along axis `dim`, without that axis."""

    def reference(input: Array, dim: int) -> tuple[np.ndarray, ...]:
        before = (slice(None),) * dim
        return tuple([input[(*before, i, ...)] for i in range(input.shape[dim])])

    def backward(upstreams, ctx, dim):
        return (tg.stack(_filled(upstreams, ctx), dim),)


def _filled(upstreams, ctx) -> list[Tensor]:
    """The upstream gradients, zeros for pieces that have none."""
    zeros = {shape: tg.zeros(shape, dtype=ctx.dtypes[0]) for shape in set(ctx.shapes)} if None in upstreams else {}
    return [zeros[shape] if u is None else u for u, shape in zip(upstreams, ctx.shapes, strict=True)]


def _operator(declaration: type[Op], name: str, formula: str, *example) -> Operator:
    # Not registered: an operator's function has a fixed number of outputs. The public functions are the composites of these names.
    return Operator(
        declaration, name, domain=lambda draw: call(draw.real((2, 4)), *example), formula=formula, kinks=None, source="",
        kernels=None, cost=None, method=False, inplace=False, tolerance=None, provider="tinygrad_cv", gradgrad=True, internal=True,
    )  # fmt: skip


_split = _operator(_Split, "split", "(out_0, out_1, ...) = input cut along dim", (1, 1), 0)
_unbind = _operator(_Unbind, "unbind", "(input[0], input[1], ...) along dim", 0)


def split_pieces(input: Tensor, sizes: Sequence[int], dim: int) -> tuple[Tensor, ...]:
    """Views of `input`, one after the other along the non-negative axis `dim`; the sizes add up to that of the axis."""
    starts = np.cumsum([0, *sizes[:-1]]).tolist()
    views = [(dim, start, size) for start, size in zip(starts, sizes, strict=True)]
    return _cut(_split, input, (tuple(sizes), dim), get("narrow"), views)


def unbind_pieces(input: Tensor, dim: int) -> tuple[Tensor, ...]:
    """Views of `input`, one for each position of the non-negative axis `dim`, without that axis."""
    return _cut(_unbind, input, (dim,), get("select"), [(dim, i) for i in range(input.shape[dim])])


def _cut(operator: Operator, input: Tensor, attrs: tuple, view: Operator, views: list[tuple]) -> tuple[Tensor, ...]:
    if input._base is not None:
        input._refresh_view()
    wants = state.grad_enabled and input._requires_grad
    pieces = tuple([wrap(array) for array in operator.bind(operator.reference, (input._data,), attrs)])
    for piece, place in zip(pieces, views, strict=True):
        piece._become_view(input, view, place)
        if state.inference:
            piece._inference = True
    if pieces and (wants or state.capture is not None):
        record(operator, (input,), attrs, pieces, wants)
    return pieces
