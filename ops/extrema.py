"""The largest and smallest elements, and where they are.

This module names operators `max` and `min`: the built-ins of those names are not to be used here.
"""

from __future__ import annotations

import numpy as np

import tinygrad_cv as tg

from ..extend import Array, Composite, Homogeneous, Op, PermutationEquivariant, call, op
from .reduction import canonical_dims, one_dim_domain, ordered_domain, restore_dims, single_dim


def _require_elements(name: str, input, dims: tuple[int, ...], what: str) -> None:
    """ValueError if there is nothing among which to look for `what`."""
    empty = [d for d in dims if input.shape[d] == 0]
    if not empty:
        return
    if len(dims) == input.ndim:
        raise ValueError(
            f"{name}: a tensor of shape {input.shape} is empty and has no {what} element; look at numel() first, or give as dim an axis "
            "that has elements"
        )
    raise ValueError(
        f"{name}: axis {empty[0]} of a tensor of shape {input.shape} is empty and has no {what} element; give another dim"
    )


class _Extremum(Op):
    """What `amax` and `amin` share: PyTorch splits the gradient evenly among tied elements."""

    def grad_input(upstream, input, out, dim, keepdim, ctx):
        shape = ctx.input_shapes[0]
        chosen = (input == restore_dims(out, dim, keepdim, shape)).to(upstream.dtype)
        return chosen * (restore_dims(upstream, dim, keepdim, shape) / chosen.sum(dim, True))


@op(
    "amax",
    domain=ordered_domain,
    formula="largest input over dim",
    kinks=["ties: split evenly"],
    laws=(
        Homogeneous("input", positive=True),
        PermutationEquivariant("input", axis="dim", out=None),
    ),
)
class amax(_Extremum):
    """The largest element over `dim` (an axis, several, or all). NaN if any is NaN. Tied elements share the gradient evenly.

    ValueError if a folded axis is empty.
    """

    def prepare(input, dim=None, keepdim=False):
        dim = canonical_dims("amax", dim, input.ndim)
        _require_elements("amax", input, dim, "largest")
        return input, dim, bool(keepdim)

    def reference(input: Array, dim=None, keepdim: bool = False) -> np.ndarray:
        return np.maximum.reduce(input, axis=dim, keepdims=keepdim)


@op(
    "amin",
    domain=ordered_domain,
    formula="smallest input over dim",
    kinks=["ties: split evenly"],
    laws=(
        Homogeneous("input", positive=True),
        PermutationEquivariant("input", axis="dim", out=None),
    ),
)
class amin(_Extremum):
    """The smallest element over `dim` (an axis, several, or all). NaN if any is NaN. Tied elements share the gradient evenly.

    ValueError if a folded axis is empty.
    """

    def prepare(input, dim=None, keepdim=False):
        dim = canonical_dims("amin", dim, input.ndim)
        _require_elements("amin", input, dim, "smallest")
        return input, dim, bool(keepdim)

    def reference(input: Array, dim=None, keepdim: bool = False) -> np.ndarray:
        return np.minimum.reduce(input, axis=dim, keepdims=keepdim)


def pick(input: np.ndarray, indices: np.ndarray, dim: int, keepdim: bool) -> tuple[np.ndarray, np.ndarray]:
    """(values, indices) of a fold that chose `indices` (which have axis `dim` with size 1)."""
    if not input.ndim:
        return input.copy(), np.zeros((), np.int64)
    values = np.take_along_axis(input, indices, dim)
    return (values, indices) if keepdim else (values.squeeze(dim), indices.squeeze(dim))


def scatter_chosen(upstream, indices, dim: int, keepdim: bool, shape: tuple[int, ...]):
    """The gradient of a fold that chose `indices` along `dim`: upstream there, zero elsewhere."""
    if not shape:
        return upstream
    if not keepdim:
        upstream, indices = upstream.unsqueeze(dim), indices.unsqueeze(dim)
    return tg.scatter_src(tg.zeros(shape, dtype=upstream.dtype), dim, indices, upstream)


def _dim_domain(draw):
    shape = draw.shape((1, 3))
    return call(draw.distinct(shape), draw.integer(-len(shape), len(shape) - 1), draw.boolean())


@op(
    "max_dim",
    domain=_dim_domain,
    formula="largest input along dim, and where",
    kinks=["ties: the first"],
    method=False,
    internal=True,
)
class max_dim(Op):
    """(values, indices) of the largest element along one axis: what `max(input, dim)` computes. Of tied elements, the first."""

    outputs = ("values", "indices")

    def prepare(input, dim, keepdim=False):
        dim = single_dim("max", dim, input.ndim)
        _require_elements("max", input, (dim,) if input.ndim else (), "largest")
        return input, dim, bool(keepdim)

    def reference(input: Array, dim: int, keepdim: bool = False):
        return pick(input, np.argmax(input, axis=dim, keepdims=True) if input.ndim else None, dim, keepdim)

    def grad_input(upstream, indices, dim, keepdim, ctx):
        return scatter_chosen(upstream, indices, dim, keepdim, ctx.input_shapes[0])


@op(
    "min_dim",
    domain=_dim_domain,
    formula="smallest input along dim, and where",
    kinks=["ties: the first"],
    method=False,
    internal=True,
)
class min_dim(Op):
    """(values, indices) of the smallest element along one axis: what `min(input, dim)` computes.

    Of tied elements, the first.
    """

    outputs = ("values", "indices")

    def prepare(input, dim, keepdim=False):
        dim = single_dim("min", dim, input.ndim)
        _require_elements("min", input, (dim,) if input.ndim else (), "smallest")
        return input, dim, bool(keepdim)

    def reference(input: Array, dim: int, keepdim: bool = False):
        return pick(input, np.argmin(input, axis=dim, keepdims=True) if input.ndim else None, dim, keepdim)

    def grad_input(upstream, indices, dim, keepdim, ctx):
        return scatter_chosen(upstream, indices, dim, keepdim, ctx.input_shapes[0])


def _three_forms_domain(draw):
    shape = draw.shape((1, 3))
    both = draw.distinct((2, *shape))
    form = draw.integer(0, 2)
    if form == 0:
        return call(both[0])
    return (
        call(both[0], other=both[1]) if form == 1 else call(both[0], draw.integer(-len(shape), len(shape) - 1), draw.boolean())
    )


def _three_forms(name: str, input, dim, keepdim, other):
    if isinstance(dim, (tg.Tensor, np.ndarray)):
        if other is not None:
            raise TypeError(f"{name}: two second operands were given")
        dim, other = None, dim
    if other is not None and dim is not None:
        raise TypeError(f"{name}: give either dim or other, not both")
    if dim is None and other is None:
        _require_elements(name, input, tuple(range(input.ndim)), "largest" if name == "max" else "smallest")
    return input, dim, keepdim, other


@op("max", domain=_three_forms_domain, formula="largest input", kinks=["ties: see amax, max_dim, maximum"])
class max(Composite):
    """max(input): the largest element, ties sharing the gradient.

    max(input, dim, keepdim): (values, indices) along an axis, the first of tied elements. max(input, other): the larger of
    two elements, as `maximum`.

    NaN wins. ValueError for the largest of no elements.
    """

    def prepare(input, dim=None, keepdim=False, *, other=None):
        return _three_forms("max", input, dim, keepdim, other)

    def reference(input: Array, dim=None, keepdim: bool = False, *, other: Array | None = None):
        if other is not None:
            return np.maximum(input, other)
        return np.max(input) if dim is None else (np.max(input, dim, keepdims=keepdim), np.argmax(input, dim, keepdims=keepdim))

    def compose(input, dim=None, keepdim=False, *, other=None):
        if other is not None:
            return tg.maximum(input, other)
        return input.amax() if dim is None else tg.max_dim(input, dim, keepdim)


@op("min", domain=_three_forms_domain, formula="smallest input", kinks=["ties: see amin, min_dim, minimum"])
class min(Composite):
    """min(input): the smallest element, ties sharing the gradient.

    min(input, dim, keepdim): (values, indices) along an axis, the first of tied elements. min(input, other): the smaller of
    two elements, as `minimum`.

    NaN wins. ValueError for the smallest of no elements.
    """

    def prepare(input, dim=None, keepdim=False, *, other=None):
        return _three_forms("min", input, dim, keepdim, other)

    def reference(input: Array, dim=None, keepdim: bool = False, *, other: Array | None = None):
        if other is not None:
            return np.minimum(input, other)
        return np.min(input) if dim is None else (np.min(input, dim, keepdims=keepdim), np.argmin(input, dim, keepdims=keepdim))

    def compose(input, dim=None, keepdim=False, *, other=None):
        if other is not None:
            return tg.minimum(input, other)
        return input.amin() if dim is None else tg.min_dim(input, dim, keepdim)


def _aminmax_domain(draw):
    example = one_dim_domain(draw)
    return call(example.args[0], dim=example.args[1], keepdim=example.args[2])


@op("aminmax", domain=_aminmax_domain, formula="smallest and largest input over dim", kinks=["ties: split evenly"])
class aminmax(Composite):
    """(min, max) over one axis, or over all. Tied elements share the gradient evenly."""

    outputs = ("min", "max")

    def reference(input: Array, *, dim=None, keepdim: bool = False):
        return np.min(input, axis=dim, keepdims=keepdim), np.max(input, axis=dim, keepdims=keepdim)

    def compose(input, *, dim=None, keepdim=False):
        _require_elements("aminmax", input, canonical_dims("aminmax", dim, input.ndim), "smallest or largest")
        return tg.ops.get("aminmax").result(input.amin(dim, keepdim), input.amax(dim, keepdim))


def _prepare_arg(name: str, input, dim, keepdim):
    dims = tuple(range(input.ndim)) if dim is None else (single_dim(name, dim, input.ndim),) if input.ndim else ()
    if dim is not None and not input.ndim:
        single_dim(name, dim, 0)
    _require_elements(name, input, dims, "largest" if name == "argmax" else "smallest")
    return input, None if dim is None or not input.ndim else dims[0], bool(keepdim)


@op("argmax", domain=one_dim_domain, formula="index of the largest input along dim")
class argmax(Op):
    """The int64 index of the largest element along `dim`, or in the flattened tensor; the first of ties. Not differentiable."""

    differentiable = False

    def prepare(input, dim=None, keepdim=False):
        return _prepare_arg("argmax", input, dim, keepdim)

    def reference(input: Array, dim=None, keepdim: bool = False) -> np.ndarray:
        return np.argmax(input, axis=dim, keepdims=keepdim)


@op("argmin", domain=one_dim_domain, formula="index of the smallest input along dim")
class argmin(Op):
    """The int64 index of the smallest element along `dim`, or in the flattened tensor; the first of ties.

    Not differentiable.
    """

    differentiable = False

    def prepare(input, dim=None, keepdim=False):
        return _prepare_arg("argmin", input, dim, keepdim)

    def reference(input: Array, dim=None, keepdim: bool = False) -> np.ndarray:
        return np.argmin(input, axis=dim, keepdims=keepdim)
