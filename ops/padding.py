"""Padding by a constant, by reflection, by the nearest element, or round the circle."""

from __future__ import annotations

import numpy as np

import tinygrad_cv as tg

from ..extend import Array, Linear, Op, call, op

MODES = ("constant", "reflect", "replicate", "circular")


def _positions(size: int, before: int, after: int, mode: str) -> np.ndarray:
    """For each place of the padded axis, the place of the original axis that it shows."""
    if mode == "circular":
        first, kept = _kept(size, before, after)
        return first + np.arange(-max(before, 0), kept + max(after, 0)) % max(kept, 1)
    places = np.arange(-before, size + after)
    if mode == "replicate":
        return np.clip(places, 0, size - 1)
    places = np.abs(places)
    return size - 1 - np.abs(size - 1 - places)


def _kept(size: int, before: int, after: int) -> tuple[int, int]:
    """The first place that negative sizes leave of an axis, and how many they leave."""
    first = max(-before, 0)
    return first, size - first - max(-after, 0)


def _check_filled(shape: tuple[int, ...], pads: tuple[int, ...], mode: str) -> None:
    axes = len(pads) // 2
    if axes > 3:
        raise ValueError(f"pad: mode {mode!r} pads one, two or three trailing axes, got sizes {pads} for {axes}")
    for k in range(axes):
        axis, size = len(shape) - 1 - k, shape[len(shape) - 1 - k]
        before, after = pads[2 * k : 2 * k + 2]
        most = size - 1 if mode == "reflect" else _kept(size, before, after)[1] if mode == "circular" else None
        if most is not None and max(before, after) > max(most, 0):
            raise ValueError(
                f"pad: mode {mode!r} adds at most {max(most, 0)} to axis {axis} of size {size}, got {before} and {after}"
            )
        if size == 0 and max(before, after) > 0:
            raise ValueError(f"pad: axis {axis} of shape {shape} is empty, so mode {mode!r} has nothing to fill with")
        if before + size + after < 1 and size:
            raise ValueError(f"pad: sizes {before} and {after} leave nothing of axis {axis} of size {size}")


def _pad_domain(draw):
    mode = draw.choice(MODES)
    ndim = draw.integer(2, 4)
    shape = draw.shape(ndim, 2, 3)
    axes = draw.integer(1, ndim if mode == "constant" else min(ndim, 3))
    low = -1 if draw.boolean() else 0
    pads = []
    for k in range(axes):
        most = shape[ndim - 1 - k] - 1
        pads += [draw.integer(0, most), draw.integer(low, most)]
    if mode == "constant":
        return call(draw.real(shape), tuple(pads), mode, draw.choice([None, 0.5, -1]))
    return call(draw.real(shape), tuple(pads), mode)


def pad_into(input: np.ndarray, pad: tuple[int, ...], mode: str = "constant", value: float | None = None, *, out: np.ndarray):
    """`pad` in the mode "constant", written into `out`; NotImplemented for the others."""
    if mode != "constant":
        return NotImplemented
    every = [slice(None)] * input.ndim
    source, target = [*every], [*every]
    for k in range(len(pad) // 2):
        axis, (before, after) = input.ndim - 1 - k, pad[2 * k : 2 * k + 2]
        source[axis] = slice(max(-before, 0), max(input.shape[axis] + min(after, 0), 0))
        first, stop = max(before, 0), max(out.shape[axis] - max(after, 0), 0)
        target[axis] = slice(first, stop)
        for edge in (slice(first), slice(stop, None)):
            out[(*every[:axis], edge)] = value or 0
    if out.size:
        out[tuple(target)] = input[tuple(source)]
    return out


@op(
    "pad",
    domain=_pad_domain,
    formula="out = input with pad elements added at both ends of the last axes",
    method=False,
    laws=(Linear("input", when=lambda mode, value: mode != "constant" or not value),),
)
class pad(Op):
    """`input` with elements added at the ends of its axes: pad = (before, after) of the last axis, then of the one before, ...

    mode: "constant" (filled with `value`, default 0; any number of axes), "reflect" (mirrored without repeating the border),
    "replicate" (the nearest element), "circular" (from the other end); the last three for one to three axes, such as
    (left, right, top, bottom) for an image (N, C, H, W). Negative sizes cut off; the circle is closed after cutting.

    ValueError for an odd number of sizes, more axes than there are, or more padding than the mode can fill: reflect at most
    size - 1, circular at most the size that is left.
    """

    into = "tinygrad_cv.ops.padding:pad_into"

    def prepare(input, pad, mode="constant", value=None):
        pads = tuple([p.__index__() for p in pad])
        shape = input._data.shape
        if mode not in MODES:
            raise ValueError(f"pad: mode must be one of {', '.join(MODES)}, got {mode!r}")
        if len(pads) % 2 or len(pads) > 2 * len(shape):
            raise ValueError(f"pad: expected two sizes for each of the last axes of shape {shape}, got {pads}")
        if mode == "constant":
            value = 0 if value is None else value
            for k in range(len(pads) // 2):
                if pads[2 * k] + pads[2 * k + 1] + shape[-1 - k] < 0:
                    raise ValueError(f"pad: sizes {pads} cut more off axis {len(shape) - 1 - k} of shape {shape} than it has")
        else:
            if value:
                raise ValueError(f"pad: value {value} belongs to mode 'constant', not to {mode!r}")
            value = 0
            _check_filled(shape, pads, mode)
        return input, pads, mode, value

    def reference(input: Array, pad: tuple[int, ...], mode: str = "constant", value: float | None = None) -> np.ndarray:
        out = input
        shape = list(input.shape)
        for k in range(len(pad) // 2):
            axis, (before, after) = input.ndim - 1 - k, pad[2 * k : 2 * k + 2]
            if mode == "constant":
                shape[axis] += before + after
            elif before or after:
                out = np.take(out, _positions(input.shape[axis], before, after, mode), axis)
        if mode == "constant":
            return pad_into(input, pad, mode, value, out=np.empty(shape, input.dtype))
        return out if out is not input else input.copy()

    def grad_input(upstream, ctx, pad, mode):
        if mode == "constant":  # cutting off is what undoes adding zeros, and the other way round
            return tg.pad(upstream, tuple(-p for p in pad))
        return tg.pad_backward(upstream, ctx.input_shapes[0], pad, mode)


def _pad_backward_domain(draw):
    mode = draw.choice(MODES[1:])
    shape = draw.shape((2, 3), 2, 3)
    pads, padded = [], list(shape)
    for k in range(draw.integer(1, len(shape))):
        axis = len(shape) - 1 - k
        before, after = draw.integer(-1, shape[axis] - 1), draw.integer(0, shape[axis] - 1)
        if mode == "circular" and before < 0:
            after = min(after, shape[axis] - 1)
        pads += [before, after]
        padded[axis] += before + after
    return call(draw.real(padded), shape, tuple(pads), mode)


@op(
    "pad_backward",
    domain=_pad_backward_domain,
    formula="out[p(i)] += input[i], where pad shows element p(i) at i",
    method=False,
    internal=True,
)
class pad_backward(Op):
    """The adjoint of `pad` in the modes reflect, replicate and circular: each element is added back to where it was taken from.

    shape: of the result, the input of `pad`.
    """

    def reference(input: Array, shape: tuple[int, ...], pad: tuple[int, ...], mode: str) -> np.ndarray:
        out = input
        for k in range(len(pad) // 2):
            before, after = pad[2 * k : 2 * k + 2]
            if not before and not after:
                continue
            axis = len(shape) - 1 - k
            summed = np.zeros((*out.shape[:axis], shape[axis], *out.shape[axis + 1 :]), input.dtype)
            places, lead = _positions(shape[axis], before, after, mode), (slice(None),) * axis
            first, last = max(before, 0), len(places) - max(after, 0)
            if last > first:
                summed[(*lead, slice(places[first], places[first] + last - first))] = out[(*lead, slice(first, last))]
            for place in (*range(min(first, len(places))), *range(max(last, first), len(places))):
                summed[(*lead, places[place])] += out[(*lead, place)]
            out = summed
        return out if out is not input else input.copy()

    def grad_input(upstream, pad, mode):
        return tg.pad(upstream, pad, mode)
