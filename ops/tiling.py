"""Operators that repeat, roll and turn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import tinygrad_cv as tg

from ..extend import Array, Composite, Inverse, Involution, Linear, Op, Tensor, call, op
from .shape import canonical_axes, canonical_axis, unpacked


@op(
    "repeat",
    domain=lambda draw: call(draw.real((2, 3)), *draw.choice([(1, 2), (2, 1, 3), (3, 2)])),
    formula="out = input laid out repeats times along every axis",
    laws=(Linear("input"),),
)
class repeat(Op):
    """Copies of `input` laid side by side, `repeats[k]` of them along axis k; new leading axes where there are more repeats."""

    def prepare(input, *repeats):
        repeats = unpacked(repeats)
        if len(repeats) < input.ndim or any(r < 0 for r in repeats):
            raise ValueError(f"repeat: expected a count of 0 or more for each axis of shape {input.shape}, got {repeats}")
        return input, repeats

    def reference(input: Array, *repeats: int | Sequence[int]) -> np.ndarray:
        return np.tile(input, repeats[0])

    def grad_input(upstream, ctx, repeats):
        shape = (1,) * (len(repeats) - len(ctx.input_shapes[0])) + ctx.input_shapes[0]
        blocks = upstream.reshape(tuple(n for pair in zip(repeats, shape, strict=True) for n in pair))
        return blocks.sum(tuple(range(0, 2 * len(repeats), 2))).reshape(ctx.input_shapes[0]) if repeats else upstream


@op(
    "tile",
    domain=lambda draw: call(draw.real((2, 3)), draw.choice([(2,), (1, 2), (2, 1, 3), ()])),
    formula="out = input laid out dims times along every axis",
)
class tile(Composite):
    """As `repeat`, but missing leading counts are 1, as numpy.tile."""

    def prepare(input, *dims):
        dims = unpacked(dims)
        if any(d < 0 for d in dims):
            raise ValueError(f"tile: counts must be 0 or more, got {dims}")
        return input, (1,) * (input.ndim - len(dims)) + dims

    def reference(input: Array, *dims: int | Sequence[int]) -> np.ndarray:
        return np.tile(input, dims[0])

    def compose(input, *dims):
        return input.repeat(dims[0])


def _repeat_positions(name: str, repeats, size: int) -> np.ndarray:
    """Which position along an axis of `size` each element of the result comes from."""
    counts = np.asarray(repeats._data if isinstance(repeats, Tensor) else repeats)
    if counts.dtype.kind not in "iu" or counts.ndim > 1 or (counts.ndim and counts.size not in (1, size)):
        raise ValueError(f"{name}: repeats must be an integer or one for each of {size} elements, got shape {counts.shape}")
    if (counts < 0).any():
        raise ValueError(f"{name}: repeats must not be negative")
    return np.repeat(np.arange(size), counts)


@op(
    "repeat_interleave",
    domain=lambda draw: (
        call(draw.real((3, 2)), draw.choice([2, [1, 0, 2]]), draw.choice([0, -2]))
        if draw.boolean()
        else call(draw.real((3, 2)), 2)
    ),
    formula="out = every element of input repeats times in a row along dim",
)
class repeat_interleave(Composite):
    """Each element along `dim` (default: of the flattened input) `repeats` times in a row; repeats may be one count for each.

    output_size is accepted for PyTorch's sake and must fit. ValueError for counts of the wrong number or sign.
    """

    def reference(input: Array, repeats, dim: int | None = None, *, output_size: int | None = None) -> np.ndarray:
        return np.repeat(input, repeats, axis=dim)

    def compose(input, repeats, dim=None, *, output_size=None):
        if dim is None or not input.ndim:
            input, dim = input.reshape(-1), 0
        dim = canonical_axis("repeat_interleave", dim, input.ndim)
        positions = _repeat_positions("repeat_interleave", repeats, input.shape[dim])
        if output_size is not None and output_size != len(positions):
            raise ValueError(f"repeat_interleave: output_size is {output_size}, but the repeats add up to {len(positions)}")
        return input.index_select(dim, tg.from_numpy(positions))


def _roll_domain(draw):
    x = draw.real((3, 4))
    if draw.boolean():
        return call(x, draw.integer(-5, 5))
    return call(x, *draw.choice([(1, 0), (-2, -1), ((1, 2), (0, 1)), ((2, 1), (-1, -1))]))


@op(
    "roll",
    domain=_roll_domain,
    formula="out[(i + shifts) mod size] = input[i] along dims",
    laws=(
        Linear("input"),
        Inverse(
            "input", of="roll", by=lambda out, shifts, dims: (out, tuple(-s for s in np.atleast_1d(shifts).tolist()), dims)
        ),
    ),
)
class roll(Op):
    """`input` moved by `shifts` along `dims`, what leaves at one end coming back at the other; flattened first without dims.

    shifts, dims: integers, or as many shifts as dims. ValueError if the counts differ, IndexError for an axis out of range.
    """

    def prepare(input, shifts, dims=None):
        moves = tuple(shifts) if isinstance(shifts, (tuple, list)) else (shifts,)
        if dims is None or (isinstance(dims, (tuple, list)) and not dims):
            if len(moves) != 1:
                raise ValueError(f"roll: shifts {shifts} need as many dims; without dims give one shift")
            return input, moves, None
        axes = tuple(dims) if isinstance(dims, (tuple, list)) else (dims,)
        if len(axes) != len(moves):
            raise ValueError(f"roll: got {len(moves)} shifts for {len(axes)} dims; they must be as many")
        return input, moves, tuple(canonical_axis("roll", d, input.ndim, "dims") for d in axes)

    def reference(input: Array, shifts, dims=None) -> np.ndarray:
        return np.roll(input, shifts[0] if dims is None else shifts, axis=dims) if input.ndim else input.copy()

    def grad_input(upstream, shifts, dims):
        return upstream.roll(tuple(-s for s in shifts), dims)


@op(
    "flip",
    domain=lambda draw: call(draw.real((2, 3, 2)), draw.choice([(0,), (1, -1), (0, 1, 2), ()])),
    formula="out[size - 1 - i] = input[i] along dims",
    laws=(
        Linear("input"),
        Involution("input"),
    ),
)
class flip(Op):
    """A copy of `input` with the order along `dims` reversed. IndexError out of range, ValueError for an axis named twice."""

    def prepare(input, *dims):
        return input, canonical_axes("flip", unpacked(dims), input.ndim, "dims")

    def reference(input: Array, *dims: int | Sequence[int]) -> np.ndarray:
        return np.array(np.flip(input, dims[0] if input.ndim else ()), order="C")

    def grad_input(upstream, dims):
        return upstream.flip(dims)


@op(
    "rot90",
    domain=lambda draw: call(draw.real((2, 3, 2)), draw.integer(-5, 5), draw.choice([(0, 1), [1, 2], (-1, 0)])),
    formula="input turned k times by 90 degrees from dims[0] towards dims[1]",
    laws=(
        Linear("input"),
        Inverse("input", of="rot90", by=lambda out, k, dims: (out, -k, dims)),
    ),
)
class rot90(Op):
    """A copy of `input` turned by `k` quarter turns in the plane of the two axes `dims`, from the first towards the second."""

    def prepare(input, k=1, dims=(0, 1)):
        if len(dims) != 2 or input.ndim < 2:
            raise ValueError(f"rot90: expected two axes in dims, got {dims}, and at least two in the tensor, got {input.shape}")
        return input, k % 4, canonical_axes("rot90", dims, input.ndim, "dims")

    def reference(input: Array, k: int = 1, dims=(0, 1)) -> np.ndarray:
        return np.array(np.rot90(input, k, dims), order="C")

    def grad_input(upstream, k, dims):
        return upstream.rot90(-k, dims)
