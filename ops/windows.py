"""Pooling windows: along each axis a list of (start, stop, step) into the input, already cut to it, and what NumPy does
with them.

Every pooling in this package takes its windows as the product of such lists, so max, average, adaptive and fractional pooling
share two references and, on the CPU, two kernels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np

from .sliding import spatial_tuple

Axis = tuple[tuple[int, int, int], ...]


def pooled_size(size: int, kernel: int, stride: int, padding: int, dilation: int = 1, ceil_mode: bool = False) -> int:
    """How many windows an axis holds. With `ceil_mode` the last may reach past the end, if it starts inside input or left
    padding."""
    room = size + 2 * padding - dilation * (kernel - 1) - 1
    count = (room + (stride - 1 if ceil_mode else 0)) // stride + 1
    if ceil_mode and (count - 1) * stride >= size + padding:
        count -= 1
    return count


@lru_cache(maxsize=4096)
def sliding_axis(size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> Axis:
    """The windows of max pooling along one axis; one without an element of the input is empty."""
    windows = []
    for i in range(pooled_size(size, kernel, stride, padding, dilation, ceil_mode)):
        start = i * stride - padding
        stop = min(start + dilation * (kernel - 1) + 1, size)
        if start < 0:
            start += -(start // dilation) * dilation
        windows.append((start, stop, dilation))
    return tuple(windows)


@lru_cache(maxsize=4096)
def averaging_axis(
    size: int, kernel: int, stride: int, padding: int, ceil_mode: bool, include_pad: bool
) -> tuple[Axis, tuple[int, ...]]:
    """The windows of average pooling along one axis, and the lengths to divide by: with the padding in them, or without."""
    windows = sliding_axis(size, kernel, stride, padding, 1, ceil_mode)
    if not include_pad:
        return windows, tuple(stop - start for start, stop, _ in windows)
    starts = [i * stride - padding for i in range(len(windows))]
    return windows, tuple(min(start + kernel, size + padding) - start for start in starts)


@lru_cache(maxsize=4096)
def adaptive_axis(size: int, out: int) -> Axis:
    """Windows from floor(i * size / out) to ceil((i + 1) * size / out): `out` of them cover the axis about evenly."""
    return tuple((i * size // out, -(-(i + 1) * size // out), 1) for i in range(out))


def fractional_axis(size: int, out: int, kernel: int, sample: np.floating) -> Axis:
    """Windows at floor((i + u) * a) - floor(u * a) with a = (size - kernel) / (out - 1), u = sample: steps of two sizes,
    mixed at random."""
    if out == 1:
        return ((size - kernel, size, 1),)
    alpha = sample.dtype.type(size - kernel) / sample.dtype.type(out - 1)
    first = int(sample * alpha)
    starts = [int((sample.dtype.type(i) + sample) * alpha) - first for i in range(out - 1)] + [size - kernel]
    return tuple((start, start + kernel, 1) for start in starts)


def regions(windows: Sequence[Axis]) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
    """For every output position: its index, and the slices of the input that its window is."""
    for position in np.ndindex(*map(len, windows)):
        yield position, tuple(slice(*axis[i]) for axis, i in zip(windows, position, strict=True))


def window_max(input: np.ndarray, windows: Sequence[Axis]) -> tuple[np.ndarray, np.ndarray]:
    """The largest element of every window, and its place in the flattened spatial axes.

    Of equal ones the first; where there is a NaN, the last NaN.
    """
    rank = len(windows)
    lead, sizes = input.shape[:-rank], input.shape[-rank:]
    places = np.arange(math.prod(sizes)).reshape(sizes)
    values = np.empty((*lead, *map(len, windows)), input.dtype)
    indices = np.empty(values.shape, np.int64)
    for position, region in regions(windows):
        seen = input[(..., *region)].reshape(*lead, places[region].size)
        missing = np.isnan(seen)
        last = seen.shape[-1] - 1 - np.argmax(missing[..., ::-1], axis=-1)
        best = np.where(missing.any(axis=-1), last, np.argmax(seen, axis=-1))
        values[(..., *position)] = np.take_along_axis(seen, best[..., None], axis=-1)[..., 0]
        indices[(..., *position)] = places[region].reshape(-1)[best]
    return values, indices


def window_mean(input: np.ndarray, windows: Sequence[Axis], lengths: Sequence[Sequence[float]]) -> np.ndarray:
    """The sum of every window divided by the product of its `lengths` along the axes."""
    rank = len(windows)
    out = np.empty((*input.shape[:-rank], *map(len, windows)), input.dtype)
    wide = np.float32 if input.dtype == np.float16 else input.dtype
    for position, region in regions(windows):
        divisor = math.prod(axis[i] for axis, i in zip(lengths, position, strict=True))
        total = input[(..., *region)].sum(axis=tuple(range(-rank, 0)), dtype=wide)
        if input.dtype.kind == "f":
            out[(..., *position)] = total / divisor
        else:  # towards 0, as PyTorch's integers divide
            out[(..., *position)] = np.sign(total) * (np.abs(total) // abs(divisor)) * (1 if divisor > 0 else -1)
    return out


def window_mean_grad(
    grad_output: np.ndarray, windows: Sequence[Axis], lengths: Sequence[Sequence[float]], sizes: Sequence[int]
) -> np.ndarray:
    """The adjoint of `window_mean`: every window's share is added to each of its elements."""
    rank = len(windows)
    out = np.zeros((*grad_output.shape[:-rank], *sizes), grad_output.dtype)
    for position, region in regions(windows):
        divisor = math.prod(axis[i] for axis, i in zip(lengths, position, strict=True))
        out[(..., *region)] += (grad_output[(..., *position)] / divisor)[(..., *(None,) * rank)]
    return out


def check_pooled(name: str, rank: int, input, floating: bool = False, channels: bool = True) -> None:
    """TypeError or ValueError unless `input` is (N, C, spatial) or (C, spatial) of numbers with no empty axis but N.

    channels: whether there must be channels.
    """
    if input.dtype.kind == "b" or (floating and input.dtype.kind != "f"):
        raise TypeError(f"{name}: expected {'floats' if floating else 'numbers'}, got {input.dtype}; convert with .float()")
    axes = ", ".join(("depth", "height", "width")[-rank:] if rank > 1 else ("length",))
    if input.ndim not in (rank + 1, rank + 2):
        raise ValueError(f"{name}: input must have shape (N, C, {axes}) or (C, {axes}), got shape {input.shape}")
    if 0 in input.shape[-rank - channels :]:
        others = "only the batch axis" if channels else "no spatial axis"
        raise ValueError(f"{name}: {others} may be empty, got shape {input.shape}")


def check_sliding(
    name: str, rank: int, shape, kernel_size, stride, padding, dilation, ceil_mode, dilated_padding: bool = False
) -> tuple:
    """Kernel size, stride, padding and dilation as tuples, and a ValueError for those that do not fit an input of `shape`."""
    kernel = spatial_tuple(name, "kernel_size", kernel_size, rank, 1)
    stride = (
        kernel
        if stride is None or (isinstance(stride, (tuple, list)) and not stride)
        else spatial_tuple(name, "stride", stride, rank, 1)
    )
    padding = spatial_tuple(name, "padding", padding, rank, 0)
    dilation = spatial_tuple(name, "dilation", dilation, rank, 1)
    for i, (n, k, s, p, d) in enumerate(zip(shape[-rank:], kernel, stride, padding, dilation, strict=True)):
        reach = d * (k - 1) + 1 if dilated_padding else k
        if p > reach // 2:
            raise ValueError(f"{name}: padding {p} on axis {i - rank} must be at most half the kernel size {reach}")
        if pooled_size(n, k, s, p, d, ceil_mode) < 1:
            raise ValueError(
                f"{name}: a window of size {k} with dilation {d} does not fit into axis {i - rank} of the input of shape "
                f"{shape}, which has size {n} + padding {p} on both sides"
            )
    return kernel, stride, padding, dilation
