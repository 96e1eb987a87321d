"""Operators that add, drop and reorder axes, all of them views."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..extend import Array, Inverse, Involution, Linear, Op, call, op
from .shape import canonical_axes, canonical_axis, unpacked


def _two_axes_domain(draw):
    shape = draw.shape((1, 4), high=3)
    return call(draw.real(shape), draw.integer(-len(shape), len(shape) - 1), draw.integer(-len(shape), len(shape) - 1))


@op(
    "unsqueeze", domain=lambda draw: call(draw.real((2, 3)), draw.integer(-3, 2)), formula="input with an axis of size 1 at dim"
)
class unsqueeze(Op):
    """A view of `input` with an axis of size 1 inserted at `dim` (0 to ndim, or negative from the end)."""

    view = True

    def prepare(input, dim):
        n = input._data.ndim
        if not -n - 1 <= dim <= n:
            raise IndexError(f"unsqueeze: dim {dim} is out of range for a tensor of {n} axes; use {-n - 1}..{n}")
        return input, dim % (n + 1)

    def reference(input: Array, dim: int) -> np.ndarray:
        return input.reshape((*input.shape[:dim], 1, *input.shape[dim:]))

    def grad_input(upstream, dim):
        return upstream.squeeze(dim)


@op(
    "squeeze",
    domain=lambda draw: call(draw.real(draw.choice([(2, 1, 3, 1), (1, 1, 2, 3)])), draw.choice([None, 1, -1, 0, (1, 3)])),
    formula="input without axes of size 1",
)
class squeeze(Op):
    """A view of `input` without its axes of size 1, or without those in `dim` (an axis or several) that have size 1."""

    view = True

    def prepare(input, dim=None):
        shape = input._data.shape
        if dim is None:
            return input, tuple([i for i, s in enumerate(shape) if s == 1])
        axes = canonical_axes("squeeze", dim, len(shape))
        return input, tuple([a for a in axes if shape and shape[a] == 1])

    def reference(input: Array, dim=None) -> np.ndarray:
        return input.squeeze(dim)

    def grad_input(upstream, ctx):
        return upstream.reshape(ctx.input_shapes[0])


@op(
    "permute",
    domain=lambda draw: call(draw.real(draw.shape(3)), tuple(draw.permutation(3))),
    formula="out[i_dims] = input[i]",
    laws=(Inverse("input", of="permute", by=lambda out, dims: (out, np.argsort(np.ravel(dims) % out.ndim).tolist())),),
)
class permute(Op):
    """A view of `input` with its axes in the order `dims`: axis k of the result is axis dims[k] of `input`.

    ValueError unless every axis is named once.
    """

    view = True

    def prepare(input, *dims):
        n = input._data.ndim
        given = unpacked(dims)
        axes = tuple([d + n if d < 0 else d for d in given])
        if len(axes) != n or set(axes) != set(range(n)):
            raise ValueError(f"permute: dims {given} are not an order of the {n} axes of shape {input.shape}")
        return input, axes

    def reference(input: Array, *dims: int | Sequence[int]) -> np.ndarray:
        return input.transpose(dims[0])

    def grad_input(upstream, dims):
        inverse = [0] * len(dims)
        for new, old in enumerate(dims):
            inverse[old] = new
        return upstream.permute(inverse)


@op(
    "transpose",
    domain=_two_axes_domain,
    formula="input with axes dim0 and dim1 swapped",
    aliases=("swapaxes", "swapdims"),
    keywords={"axis0": "dim0", "axis1": "dim1"},
    laws=(
        Linear("input"),
        Involution("input"),
    ),
)
class transpose(Op):
    """A view of `input` with axes `dim0` and `dim1` swapped. IndexError for an axis out of range."""

    view = True

    def prepare(input, dim0, dim1):
        n = input._data.ndim
        return input, canonical_axis("transpose", dim0, n, "dim0"), canonical_axis("transpose", dim1, n, "dim1")

    def reference(input: Array, dim0: int, dim1: int) -> np.ndarray:
        return input.swapaxes(dim0, dim1) if input.ndim else input[...]

    def grad_input(upstream, dim0, dim1):
        return upstream.transpose(dim0, dim1)


@op("t", domain=lambda draw: call(draw.real(draw.shape((0, 2)))), formula="input^T")
class t(Op):
    """The transpose of a matrix, as a view; a tensor of fewer axes stays as it is. ValueError for more than two axes."""

    view = True

    def prepare(input):
        if input._data.ndim > 2:
            raise ValueError(f"t: expected at most two axes, got shape {input.shape}; use .mT or .transpose(dim0, dim1)")
        return (input,)

    def reference(input: Array) -> np.ndarray:
        return input.transpose()

    def grad_input(upstream):
        return upstream.t()


def _movedim_domain(draw):
    source, destination = draw.permutation(4), draw.permutation(4)
    n = draw.integer(1, 4)
    x = draw.real(draw.shape(4, high=3))
    if draw.boolean():
        return call(x, source[0] - 4, destination[0])
    return call(x, tuple(source[:n]), tuple(d - 4 for d in destination[:n]))


@op(
    "movedim",
    domain=_movedim_domain,
    formula="input with axes source moved to positions destination, the others in order",
    aliases=("moveaxis",),
    laws=(Inverse("input", of="movedim", by=lambda out, source, destination: (out, destination, source)),),
)
class movedim(Op):
    """A view of `input` with the axes `source` (one or several) at the positions `destination`; the others keep their order.

    ValueError if both name different numbers of axes or one twice, IndexError for an axis out of range.
    """

    view = True

    def prepare(input, source, destination):
        n = input._data.ndim
        source = canonical_axes("movedim", source, n, "source")
        destination = canonical_axes("movedim", destination, n, "destination")
        if len(source) != len(destination):
            raise ValueError(f"movedim: source {source} and destination {destination} must name the same number of axes")
        return input, source, destination

    def reference(input: Array, source, destination) -> np.ndarray:
        return np.moveaxis(input, source, destination) if input.ndim else input[...]

    def grad_input(upstream, source, destination):
        return upstream.movedim(destination, source)
