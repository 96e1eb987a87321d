"""Windows that slide over one to three spatial axes: sizes, padding, and what convolution and pooling check alike.

Also the NumPy references of the convolution family, which the CPU kernels are tested against and fall back to.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np

from .cpu.gemm import gemm

Padding = int | Sequence[int] | Sequence[tuple[int, int]] | str


def spatial_tuple(name: str, what: str, value, rank: int, least: int) -> tuple[int, ...]:
    """`value`, one integer or one for each spatial axis, as a tuple of `rank`; TypeError or ValueError naming `what`."""
    if type(value) is tuple and len(value) == rank:
        for v in value:
            if type(v) is not int or v < least:
                break
        else:
            return value
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * rank
    if len(values) == 1:
        values *= rank
    if any(isinstance(v, bool) or not hasattr(v, "__index__") for v in values):
        raise TypeError(f"{name}: {what} must be an integer or a tuple of {rank}, got {value!r}")
    if len(values) != rank or any(v < least for v in values):
        raise ValueError(f"{name}: {what} must be an integer of at least {least} or a tuple of {rank} such, got {value!r}")
    return tuple(v.__index__() for v in values)


def padding_pairs(padding: Sequence) -> tuple[tuple[int, int], ...]:
    """Canonical padding as (before, after) for each axis."""
    return tuple(p if isinstance(p, tuple) else (p, p) for p in padding)


def _canonical_padding(
    name: str, padding, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple:
    rank = len(kernel)
    if isinstance(padding, str):
        if padding == "valid":
            return (0,) * rank
        if padding != "same":
            raise ValueError(f"{name}: padding must be integers, 'same' or 'valid', got {padding!r}")
        if any(s != 1 for s in stride):
            raise ValueError(f"{name}: padding='same' needs stride 1, got stride {stride}")
        totals = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        if any(t % 2 for t in totals):
            return tuple((t // 2, t - t // 2) for t in totals)
        return tuple(t // 2 for t in totals)
    if isinstance(padding, (tuple, list)) and any(isinstance(p, (tuple, list)) for p in padding):
        pairs = tuple(spatial_tuple(name, "padding of one axis", p, 2, 0) for p in padding)
        if len(pairs) != rank:
            raise ValueError(f"{name}: padding must have one pair for each of the {rank} spatial axes, got {padding!r}")
        return pairs
    return spatial_tuple(name, "padding", padding, rank, 0)


@lru_cache(maxsize=1024)
def _canonical(name: str, kernel: tuple[int, ...], stride, padding, dilation) -> tuple[tuple, tuple, tuple]:
    rank = len(kernel)
    stride = spatial_tuple(name, "stride", stride, rank, 1)
    dilation = spatial_tuple(name, "dilation", dilation, rank, 1)
    return stride, _canonical_padding(name, padding, kernel, stride, dilation), dilation


def hashable(value):
    """`value` with lists as tuples, so that it can be looked up."""
    return tuple(hashable(v) for v in value) if isinstance(value, list) else value


def canonical(name: str, kernel: tuple[int, ...], stride, padding, dilation) -> tuple[tuple, tuple, tuple]:
    """Stride, padding and dilation as tuples, one entry for each axis of `kernel`."""
    return _canonical(name, tuple(kernel), hashable(stride), hashable(padding), hashable(dilation))


def output_sizes(sizes: Sequence[int], kernel, stride, padding, dilation) -> tuple[int, ...]:
    """floor((size + before + after - dilation * (kernel - 1) - 1) / stride) + 1 for each axis; below 1 where it does not
    fit."""
    return tuple(
        (n + before + after - d * (k - 1) - 1) // s + 1
        for n, k, s, (before, after), d in zip(sizes, kernel, stride, padding_pairs(padding), dilation, strict=True)
    )


def _windows(padded: np.ndarray, kernel, out, stride, dilation) -> Iterator[tuple[tuple[int, ...], tuple]]:
    """For every kernel tap: its position, and the index under which `padded` holds what the tap meets, one entry an output."""
    for tap in np.ndindex(*kernel):
        starts = [t * d for t, d in zip(tap, dilation, strict=True)]
        yield tap, (..., *(slice(a, a + (o - 1) * s + 1, s) for a, o, s in zip(starts, out, stride, strict=True)))


def _split(array: np.ndarray, rank: int, groups: int) -> np.ndarray:
    """(N, C, spatial) or (C, spatial) as (N, groups, C / groups, spatial)."""
    channels, sizes = array.shape[-rank - 1], array.shape[-rank:]
    return array.reshape(math.prod(array.shape[: -rank - 1]), groups, channels // groups, *sizes)


def _pad(array: np.ndarray, padding) -> np.ndarray:
    pairs = padding_pairs(padding)
    return np.pad(array, [(0, 0)] * (array.ndim - len(pairs)) + list(pairs)) if any(map(any, pairs)) else array


def convolve(input: np.ndarray, weight: np.ndarray, bias, stride, padding, dilation, groups) -> np.ndarray:
    """The convolution in NumPy: for every kernel tap, one strided window of the padded input times that tap's weights."""
    rank, kernel = weight.ndim - 2, weight.shape[2:]
    out = output_sizes(input.shape[-rank:], kernel, stride, padding, dilation)
    x = _pad(_split(input, rank, groups), padding)
    w = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
    y = np.zeros((x.shape[0], groups, w.shape[1], math.prod(out)), input.dtype)
    for tap, window in _windows(x, kernel, out, stride, dilation):
        y += gemm(w[(..., *tap)], x[window].reshape(*x.shape[:3], math.prod(out)))
    y = y.reshape(*input.shape[: -rank - 1], weight.shape[0], *out)
    if bias is not None:
        y += bias.reshape(bias.size, *(1,) * rank)
    return y


def convolve_input_grad(
    grad_output: np.ndarray, weight: np.ndarray, input_size, stride, padding, dilation, groups
) -> np.ndarray:
    """The adjoint of `convolve` in the input: every tap hands its share of `grad_output` back to where the window was."""
    rank, kernel, pairs = weight.ndim - 2, weight.shape[2:], padding_pairs(padding)
    g = _split(grad_output, rank, groups)
    w = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
    out = g.shape[-rank:]
    padded = [
        max(n + before + after, (o - 1) * s + d * (k - 1) + 1)
        for n, (before, after), o, s, d, k in zip(input_size, pairs, out, stride, dilation, kernel, strict=True)
    ]
    x = np.zeros((g.shape[0], groups, w.shape[2], *padded), grad_output.dtype)
    flat = g.reshape(*g.shape[:3], math.prod(out))
    for tap, window in _windows(x, kernel, out, stride, dilation):
        share = gemm(w[(..., *tap)].swapaxes(-1, -2), flat)
        x[window] += share.reshape(*x.shape[:3], *out)
    x = x[(..., *(slice(before, before + n) for n, (before, _) in zip(input_size, pairs, strict=True)))]
    return np.ascontiguousarray(x).reshape(*grad_output.shape[: -rank - 1], groups * w.shape[2], *input_size)


def convolve_weight_grad(
    grad_output: np.ndarray, input: np.ndarray, kernel_size, stride, padding, dilation, groups
) -> np.ndarray:
    """The adjoint of `convolve` in the weight: every tap is the product of `grad_output` with the window it met."""
    rank = len(kernel_size)
    g = _split(grad_output, rank, groups)
    x = _pad(_split(input, rank, groups), padding)
    out = g.shape[-rank:]
    flat = g.reshape(*g.shape[:3], math.prod(out))
    w = np.zeros((groups, g.shape[2], x.shape[2], *kernel_size), grad_output.dtype)
    for tap, window in _windows(x, kernel_size, out, stride, dilation):
        w[(..., *tap)] = gemm(flat, x[window].reshape(*x.shape[:3], math.prod(out)).swapaxes(-1, -2)).sum(axis=0)
    return w.reshape(groups * g.shape[2], x.shape[2], *kernel_size)
