"""Hypothesis strategies for shapes, arrays and tensors: small, finite, in every memory layout, shrinking to zeros in plain order.

Names and arguments follow `hypothesis.extra.numpy`, with other defaults: at most 200 elements, values in [-2, 2], no subnormal
numbers, no infinities, no NaN, because failures on those are seldom what a test of derivatives is after. Contents are drawn as one
string of bytes, not element by element, which is far faster and shrinks all the same. A failing example prints its arrays as Python;
those that are not contiguous also as a call of `laid_out`, which rebuilds the strides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from hypothesis import note
from hypothesis import strategies as st
from hypothesis.extra import numpy as hypothesis_numpy

from .._tensor import Tensor, wrap
from .samples import broadcast, contiguous, reversed_strides, sliced, transposed

Shape = tuple[int, ...]
_GRID = 64  # parts of one: steps that are exact in binary, so that arrays print short
_MOST_CODES = 1 << 16
_CODE = 2  # bytes an element is drawn from


def _rotated(array: np.ndarray) -> np.ndarray:
    """The same values, stored with the first axis innermost and the others in order: neither row- nor column-major from 3 axes on."""
    if array.ndim < 2:
        return contiguous(array)
    return np.moveaxis(np.array(np.moveaxis(array, 0, -1), order="C"), -1, 0)


LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "contiguous": contiguous,
    "transposed": transposed,
    "permuted": _rotated,
    "sliced": sliced,
    "negative": reversed_strides,
    "broadcast": broadcast,
}


def laid_out(values: Any, dtype: Any = np.float64, layout: str = "contiguous", shape: Shape | None = None) -> np.ndarray:
    """An array of `values` in memory as `layout` says: 'contiguous', 'transposed' (column-major), 'permuted' (the first axis
    innermost), 'sliced' (every second element of a larger one), 'negative' (backwards along every axis) or 'broadcast' (the first
    values along the last axis longer than 1, repeated with stride 0). shape: for empty arrays, whose values do not tell it.

    ValueError for another layout.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"laid_out: layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
    array = np.array(values, dtype)
    return LAYOUTS[layout](array if shape is None else array.reshape(shape))


def shapes(
    *, min_dims: int = 0, max_dims: int = 4, min_side: int = 1, max_side: int = 5, max_size: int = 200
) -> st.SearchStrategy[Shape]:
    """Shapes of `min_dims` to `max_dims` axes with sides from `min_side` to `max_side` and at most `max_size` elements.

    `min_side=0` gives empty ones too. Shrinks to few axes and short sides. ValueError for bounds that no shape satisfies.
    """
    if not 0 <= min_dims <= max_dims or not 0 <= min_side <= max_side or max(min_side, 1) ** min_dims > max_size:
        raise ValueError(
            f"shapes: no shape has {min_dims} to {max_dims} axes, sides of {min_side} to {max_side} and at most {max_size} elements"
        )

    @st.composite
    def draw_shape(draw: Any) -> Shape:
        sides: list[int] = []
        room = max_size
        for place in range(draw(st.integers(min_dims, max_dims))):
            later = max(min_side, 1) ** max(min_dims - place - 1, 0)
            if room // later < max(min_side, 1):
                break
            sides.append(draw(st.integers(min_side, max(min_side, min(max_side, room // later)))))
            room //= max(sides[-1], 1)
        return tuple(sides)

    return draw_shape()


def broadcastable_shapes(
    shape: Sequence[int], *, min_dims: int = 0, max_dims: int | None = None, min_side: int = 1, max_side: int = 3
) -> st.SearchStrategy[Shape]:
    """Shapes that broadcast with `shape` under NumPy's rules: sides as there or 1, missing or (with `max_dims`) more leading axes.

    max_dims: as many axes as `shape` has by default, so that the result broadcasts *to* `shape`. Sides are those of `shape`, 1, or,
    where `shape` has 1 or no side and `max_dims` allows more axes than it has, from `min_side` to `max_side`.
    """
    own = tuple(int(s) for s in shape)
    most = len(own) if max_dims is None else max_dims
    if not 0 <= min_dims <= most:
        raise ValueError(f"broadcastable_shapes: no shape has {min_dims} to {most} axes")

    @st.composite
    def draw_shape(draw: Any) -> Shape:
        sides: list[int] = []
        for place in range(draw(st.integers(min_dims, most))):
            side = own[-1 - place] if place < len(own) else None
            wider = side in (None, 1) and most > len(own)
            options = st.integers(min_side, max_side) if wider else st.sampled_from([1] if side in (None, 1) else [1, side])
            sides.insert(0, draw(options))
        return tuple(sides)

    return draw_shape()


@lru_cache(64)
def _points(dtype: np.dtype[Any], low: float, high: float, avoid: tuple[float, ...], allow_subnormal: bool) -> np.ndarray:
    """The values that elements are chosen from, the simplest first: nearest to zero, then positive ones."""
    if dtype.kind == "b":
        return np.array([False, True])
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        points: np.ndarray = np.arange(max(int(np.ceil(low)), limits.min), min(int(np.floor(high)), limits.max) + 1)
    else:
        step = max(1 / _GRID, (high - low) / (_MOST_CODES - 1))
        points = np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step
        points = points[(points >= low) & (points <= high)]
        if not points.size:
            points = np.linspace(low, high, 33)
        for kink in avoid:
            points = points[np.abs(points - kink) >= 0.05]
        if allow_subnormal and low <= 0 <= high:
            points = np.append(points, [np.finfo(dtype).smallest_subnormal, np.finfo(dtype).smallest_normal / 2])
    if not points.size:
        raise ValueError(f"arrays: no {dtype} lies in [{low}, {high}] away from {list(avoid)}")
    return points[np.lexsort((points < 0, np.abs(points)))].astype(dtype)


def arrays(
    dtype: Any = np.float64,
    shape: Shape | int | st.SearchStrategy[Shape] | None = None,
    *,
    elements: st.SearchStrategy[Any] | None = None,
    min_value: float = -2.0,
    max_value: float = 2.0,
    avoid: Sequence[float] = (),
    allow_subnormal: bool = False,
    distinct: bool = False,
    layouts: Sequence[str] = tuple(LAYOUTS),
) -> st.SearchStrategy[np.ndarray]:
    """Arrays of a dtype and shape (or strategies of them) with values in [min_value, max_value], in every memory layout.

    shape: `shapes()` if not given, so also 0-d; `shapes(min_side=0)` for empty ones. Values are multiples of 1/64 where the range has
    room for that, at least 0.05 from those in `avoid`. distinct: no two elements are near each other (for max, sort and pooling),
    never stride 0. layouts: what memory looks like, as in `laid_out`; the first of them is the simplest. elements: a strategy for the
    single values instead, as in `hypothesis.extra.numpy.arrays`. allow_subnormal: subnormal numbers too.

    Shrinks to zeros (or what is nearest to zero), few axes, short sides, plain layout. ValueError for bounds that hold no value.
    """
    wrong = [name for name in layouts if name not in LAYOUTS]
    if wrong or not layouts:
        raise ValueError(f"arrays: layouts must be some of {', '.join(LAYOUTS)}, got {', '.join(wrong) or 'none'}")
    if not min_value <= max_value:
        raise ValueError(f"arrays: min_value {min_value} lies above max_value {max_value}")
    usable = [name for name in layouts if not (distinct and name == "broadcast")] or ["contiguous"]
    dtypes = dtype if isinstance(dtype, st.SearchStrategy) else st.just(np.dtype(dtype))
    chosen_shapes = shapes() if shape is None else shape if isinstance(shape, st.SearchStrategy) else st.just(shape)
    if not isinstance(dtype, st.SearchStrategy) and elements is None:
        _points(np.dtype(dtype), min_value, max_value, tuple(avoid), allow_subnormal)  # errors now, not in the first example

    @st.composite
    def draw_array(draw: Any) -> np.ndarray:
        kind = np.dtype(draw(dtypes))
        drawn = draw(chosen_shapes)
        size_of = (drawn,) if isinstance(drawn, int) else tuple(drawn)
        size = int(np.prod(size_of, dtype=int))
        if elements is not None:
            values = draw(hypothesis_numpy.arrays(kind, size_of, elements=elements, unique=distinct))
        else:
            codes = np.frombuffer(draw(st.binary(min_size=_CODE * size, max_size=_CODE * size)), ">u2")
            if distinct:
                values = _apart(codes, kind, min_value, max_value)
            else:
                points = _points(kind, min_value, max_value, tuple(avoid), allow_subnormal)
                values = points[codes % len(points)]
            values = values.reshape(size_of)
        layout = draw(st.sampled_from(usable)) if size > 1 else usable[0]
        if layout != "contiguous":
            note(f"laid_out({values.tolist()}, {kind.name!r}, {layout!r}{'' if size else f', {size_of}'})")
        return laid_out(values, kind, layout)

    return draw_array()


def _apart(codes: np.ndarray, dtype: np.dtype[Any], low: float, high: float) -> np.ndarray:
    """Evenly spaced values in the order that the codes have; ascending for equal codes."""
    order = np.argsort(np.argsort(codes, kind="stable"), kind="stable")
    if dtype.kind in "iu":
        if high - low + 1 < codes.size:
            raise ValueError(f"arrays: there are no {codes.size} distinct integers in [{low}, {high}]")
        return (int(np.ceil(low)) + order).astype(dtype)
    return (low + (high - low) * (order + 0.5) / max(codes.size, 1)).astype(dtype)


def tensors(
    dtype: Any = np.float64,
    shape: Shape | int | st.SearchStrategy[Shape] | None = None,
    *,
    requires_grad: bool | st.SearchStrategy[bool] = False,
    **options: Any,
) -> st.SearchStrategy[Tensor]:
    """Tensors on the arrays of `arrays(dtype, shape, **options)`, whose memory and strides they have.

    requires_grad: a boolean, or a strategy of booleans; integer tensors never do.
    """
    wanted = requires_grad if isinstance(requires_grad, st.SearchStrategy) else st.just(requires_grad)
    return st.builds(tensor_on, arrays(dtype, shape, **options), wanted)


def tensor_on(array: np.ndarray, requires_grad: bool = False) -> Tensor:
    """A tensor on the memory of an array, strides and all; a floating one requires grad if asked to."""
    return wrap(array).requires_grad_(requires_grad and array.dtype.kind == "f")


__all__ = ["LAYOUTS", "arrays", "broadcastable_shapes", "laid_out", "shapes", "tensor_on", "tensors"]
