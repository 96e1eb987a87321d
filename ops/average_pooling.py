"""Average pooling, sliding and adaptive, and power-average (Lp) pooling."""

from __future__ import annotations

import math

import numpy as np

import tinygrad_cv as tg

from ..extend import Array, Batched, Composite, Linear, Op, TranslationEquivariant, call, op
from .sliding import spatial_tuple
from .windows import (
    adaptive_axis,
    averaging_axis,
    check_pooled,
    check_sliding,
    regions,
    sliding_axis,
    window_mean,
    window_mean_grad,
)


def averaging_windows(sizes, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override):
    """Windows of `avg_poolNd` and, for each axis, the lengths whose product every sum is divided by."""
    each = zip(sizes, kernel_size, stride, padding, strict=True)
    axes = [averaging_axis(n, k, s, p, ceil_mode, count_include_pad) for n, k, s, p in each]
    windows, lengths = tuple(a[0] for a in axes), tuple(a[1] for a in axes)
    if divisor_override is not None:
        lengths = ((divisor_override,) * len(windows[0]), *((1,) * len(w) for w in windows[1:]))
    return windows, lengths


def adaptive_averaging_windows(sizes, output_size):
    """Windows of `adaptive_avg_poolNd` and their lengths along each axis."""
    windows = tuple(adaptive_axis(n, o) for n, o in zip(sizes, output_size, strict=True))
    return windows, tuple(tuple(stop - start for start, stop, _ in axis) for axis in windows)


def adaptive_sizes(name: str, rank: int, input, output_size) -> tuple[int, ...]:
    """`output_size` of adaptive pooling, an integer or one for each axis (None keeps the input's), as a tuple."""
    sizes = tuple(output_size) if isinstance(output_size, (tuple, list)) else (output_size,) * rank
    sizes *= rank if len(sizes) == 1 else 1
    if len(sizes) == rank:
        sizes = tuple(n if s is None else s for s, n in zip(sizes, input.shape[-rank:], strict=True))
    return spatial_tuple(name, "output_size", sizes, rank, 0)


# ---- avg_pool -------------------------------------------------------------------------------------------------------------


def _prepare_average(rank: int, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override=None):
    name = f"avg_pool{rank}d"
    check_pooled(name, rank, input, floating=input.dtype != np.int64)
    kernel, stride, padding, _ = check_sliding(name, rank, input.shape, kernel_size, stride, padding, 1, ceil_mode)
    if divisor_override is not None and divisor_override == 0:
        raise ValueError(f"{name}: divisor_override must not be zero")
    return input, kernel, stride, padding, bool(ceil_mode), bool(count_include_pad), divisor_override


def _average_example(draw, rank: int):
    kernel, stride = (tuple(draw.integer(1, n) for _ in range(rank)) for n in (3 if rank < 3 else 2, 2))
    padding = tuple(draw.integer(0, k // 2) for k in kernel)
    sizes = tuple(k + draw.integer(0, 2 if rank < 3 else 1) for k in kernel)
    lead = draw.choice([(1, 2), (2, 1), (2,)])
    arguments = [draw.real((*lead, *sizes)), kernel, draw.choice([None, stride]), padding, draw.boolean(), draw.boolean()]
    return call(*arguments) if rank == 1 else call(*arguments, draw.choice([None, 3]))


class _Average(Op):
    """What avg_pool2d and avg_pool3d share."""

    def reference(
        input: Array, kernel_size, stride=None, padding=0, ceil_mode: bool = False, count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> np.ndarray:  # fmt: skip
        sizes = input.shape[-len(kernel_size) :]
        attributes = (kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
        return window_mean(input, *averaging_windows(sizes, *attributes))

    def grad_input(upstream, ctx, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override):
        attributes = (kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
        return tg.avg_pool_input_grad(upstream, ctx.input_shapes[0][-len(kernel_size) :], *attributes)


def _window_step(kernel_size, stride):
    """By how much the window moves, as the caller gives it."""
    return kernel_size if stride is None or stride == () or stride == [] else stride


def _no_edges(padding, ceil_mode):
    """Whether all windows lie inside the input, so that a shifted input gives a shifted output."""
    return not np.any(padding) and not ceil_mode


_AVERAGE_FORMULA = "out[n, c, o] = sum_k input[n, c, o * stride + k - padding] / number of k"
_AVERAGE_KERNEL = {"cpu": "tinygrad_cv.ops.cpu.pool:avg_pool"}


@op(
    "avg_pool1d",
    domain=lambda draw: _average_example(draw, 1),
    formula=_AVERAGE_FORMULA,
    kernels={"cpu": "tinygrad_cv.ops.cpu.pool:avg_pool1d"},
    method=False,
    laws=(
        Linear("input"),
        Batched("input", core=2, single=True),
        TranslationEquivariant("input", axis=-1, step=_window_step, when=_no_edges),
    ),
)
class avg_pool1d(Op):
    """The mean of each window along the last axis: as `avg_pool2d`, for (N, C, L) or (C, L), without divisor_override."""

    def prepare(input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True):
        return _prepare_average(1, input, kernel_size, stride, padding, ceil_mode, count_include_pad)[:-1]

    def reference(
        input: Array, kernel_size, stride=None, padding=0, ceil_mode: bool = False, count_include_pad: bool = True
    ) -> np.ndarray:
        attributes = (kernel_size, stride, padding, ceil_mode, count_include_pad, None)
        return window_mean(input, *averaging_windows(input.shape[-1:], *attributes))

    def grad_input(upstream, ctx, kernel_size, stride, padding, ceil_mode, count_include_pad):
        attributes = (kernel_size, stride, padding, ceil_mode, count_include_pad, None)
        return tg.avg_pool_input_grad(upstream, ctx.input_shapes[0][-1:], *attributes)


@op(
    "avg_pool2d",
    domain=lambda draw: _average_example(draw, 2),
    formula=_AVERAGE_FORMULA,
    kernels=_AVERAGE_KERNEL,
    method=False,
    laws=(
        Linear("input"),
        Batched("input", core=3, single=True),
        TranslationEquivariant("input", axis=(-2, -1), step=_window_step, when=_no_edges),
    ),
)
class avg_pool2d(_Average):
    """The mean of each window: (N, C, H, W) -> (N, C, OH, OW), or without N.

    OH = floor((H + 2 * padding - KH) / stride) + 1; ceil in place of floor with `ceil_mode`, where the last window must
    start inside the input or its left padding. stride: kernel_size if None. padding: zeros on both sides, at most half the
    kernel. The sum of a window is divided by its size inside the padded input; with count_include_pad=False by the number
    of elements of the input in it; with divisor_override by that number, always.

    Means of int64 are cut off to integers. TypeError for other integers; ValueError for sizes that do not fit and for a divisor
    of zero.
    """

    def prepare(input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None):
        return _prepare_average(2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


@op(
    "avg_pool3d",
    domain=lambda draw: _average_example(draw, 3),
    formula=_AVERAGE_FORMULA,
    kernels=_AVERAGE_KERNEL,
    method=False,
    laws=(
        Linear("input"),
        Batched("input", core=4, single=True),
        TranslationEquivariant("input", axis=(-3, -2, -1), step=_window_step, when=_no_edges),
    ),
)
class avg_pool3d(_Average):
    """The mean of each window: as `avg_pool2d`, for (N, C, D, H, W) or (C, D, H, W)."""

    def prepare(input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None):
        return _prepare_average(3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def _average_grad_domain(draw):
    rank = draw.integer(1, 3)
    input, *attributes = _average_example(draw, rank).args
    kernel, stride, padding, ceil_mode, include, divisor = (*attributes, None)[:6]
    stride = kernel if stride is None else stride
    sizes = input.shape[-rank:]
    windows, _ = averaging_windows(sizes, kernel, stride, padding, ceil_mode, include, divisor)
    grad_output = draw.real((*input.shape[:-rank], *map(len, windows)))
    return call(grad_output, sizes, kernel, stride, padding, ceil_mode, include, divisor)


@op(
    "avg_pool_input_grad",
    domain=_average_grad_domain,
    formula="out[n, c, o * stride + k - padding] += grad_output[n, c, o] / number of k",
    kernels={"cpu": "tinygrad_cv.ops.cpu.pool:avg_pool_input_grad"},
    method=False,
    internal=True,
)
class avg_pool_input_grad(Op):
    """The gradient of average pooling over 1 to 3 axes, its adjoint: each element of `grad_output`, (N, C, *out), shared
    by its window.

    The result is (N, C, *input_size). The attributes are those of `avg_pool2d`, as tuples.
    """

    def reference(
        grad_output: Array, input_size, kernel_size, stride, padding, ceil_mode: bool, count_include_pad: bool, divisor_override
    ) -> np.ndarray:
        attributes = (kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
        return window_mean_grad(grad_output, *averaging_windows(input_size, *attributes), input_size)

    def grad_grad_output(upstream, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override):
        if len(kernel_size) == 1:
            return tg.avg_pool1d(upstream, kernel_size, stride, padding, ceil_mode, count_include_pad)
        pool = tg.avg_pool2d if len(kernel_size) == 2 else tg.avg_pool3d
        return pool(upstream, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


# ---- adaptive_avg_pool ----------------------------------------------------------------------------------------------------


def _prepare_adaptive(rank: int, input, output_size):
    name = f"adaptive_avg_pool{rank}d"
    check_pooled(name, rank, input, floating=True, channels=False)
    return input, adaptive_sizes(name, rank, input, output_size)


def _adaptive_example(draw, rank: int):
    sizes, output = draw.shape(rank, 1, 4 if rank < 3 else 3), draw.shape(rank, 1, 4 if rank < 3 else 2)
    lead = draw.choice([(1, 2), (2, 1), (2,)])
    return call(draw.real((*lead, *sizes)), draw.choice([output, output[0], (None, *output[1:])]))


class _Adaptive(Op):
    """What adaptive_avg_pool1d, adaptive_avg_pool2d and adaptive_avg_pool3d share."""

    def reference(input: Array, output_size) -> np.ndarray:
        return window_mean(input, *adaptive_averaging_windows(input.shape[-len(output_size) :], output_size))

    def grad_input(upstream, ctx, output_size):
        return tg.adaptive_avg_pool_input_grad(upstream, ctx.input_shapes[0][-len(output_size) :])


_ADAPTIVE_FORMULA = "out[n, c, o] = mean of input[n, c, floor(o * size / out) : ceil((o + 1) * size / out)]"
_ADAPTIVE_KERNEL = {"cpu": "tinygrad_cv.ops.cpu.pool:adaptive_avg_pool"}


@op(
    "adaptive_avg_pool1d",
    domain=lambda draw: _adaptive_example(draw, 1),
    formula=_ADAPTIVE_FORMULA,
    kernels=_ADAPTIVE_KERNEL,
    method=False,
    laws=(
        Linear("input"),
        Batched("input", core=2, single=True),
    ),
)
class adaptive_avg_pool1d(_Adaptive):
    """Average pooling to a given length: as `adaptive_avg_pool2d`, for (N, C, L) or (C, L)."""

    def prepare(input, output_size):
        return _prepare_adaptive(1, input, output_size)


@op(
    "adaptive_avg_pool2d",
    domain=lambda draw: _adaptive_example(draw, 2),
    formula=_ADAPTIVE_FORMULA,
    kernels=_ADAPTIVE_KERNEL,
    method=False,
    laws=(
        Linear("input"),
        Batched("input", core=3, single=True),
    ),
)
class adaptive_avg_pool2d(_Adaptive):
    """Average pooling to a given output size, whatever the input size: (N, C, H, W) -> (N, C, *output_size), or without N.

    Window i covers floor(i * H / OH) to ceil((i + 1) * H / OH). output_size: one integer, or one for each axis, None
    keeping the input's size; 1 is the global mean of each channel. TypeError for integers.
    """

    def prepare(input, output_size):
        return _prepare_adaptive(2, input, output_size)


@op(
    "adaptive_avg_pool3d",
    domain=lambda draw: _adaptive_example(draw, 3),
    formula=_ADAPTIVE_FORMULA,
    kernels=_ADAPTIVE_KERNEL,
    method=False,
    laws=(
        Linear("input"),
        Batched("input", core=4, single=True),
    ),
)
class adaptive_avg_pool3d(_Adaptive):
    """Average pooling to a given output size: as `adaptive_avg_pool2d`, for (N, C, D, H, W) or (C, D, H, W)."""

    def prepare(input, output_size):
        return _prepare_adaptive(3, input, output_size)


def _adaptive_grad_domain(draw):
    rank = draw.integer(1, 3)
    output, lead = draw.shape(rank, 1, 3 if rank < 3 else 2), draw.choice([(1, 2), (2, 1), (2,)])
    return call(draw.real((*lead, *output)), draw.shape(rank, 1, 4 if rank < 3 else 3))


@op(
    "adaptive_avg_pool_input_grad",
    domain=_adaptive_grad_domain,
    formula="out[n, c, window of o] += grad_output[n, c, o] / size of the window",
    kernels={"cpu": "tinygrad_cv.ops.cpu.pool:adaptive_avg_pool_input_grad"},
    method=False,
    internal=True,
)
class adaptive_avg_pool_input_grad(Op):
    """The gradient of adaptive average pooling over 1 to 3 axes: `grad_output`, (N, C, *out), shared out to (N, C,
    *input_size)."""

    def reference(grad_output: Array, input_size) -> np.ndarray:
        output_size = grad_output.shape[-len(input_size) :]
        return window_mean_grad(grad_output, *adaptive_averaging_windows(input_size, output_size), input_size)

    def grad_grad_output(upstream, ctx, input_size):
        rank = len(input_size)
        pool = (tg.adaptive_avg_pool1d, tg.adaptive_avg_pool2d, tg.adaptive_avg_pool3d)[rank - 1]
        return pool(upstream, ctx.input_shapes[0][-rank:])


# ---- lp_pool --------------------------------------------------------------------------------------------------------------


def _prepare_power(rank: int, input, norm_type, kernel_size, stride, ceil_mode):
    name = f"lp_pool{rank}d"
    check_pooled(name, rank, input, floating=True)
    if norm_type == 0 or norm_type != norm_type:
        raise ValueError(f"{name}: norm_type must be a number other than 0, got {norm_type!r}")
    kernel, stride, _, _ = check_sliding(name, rank, input.shape, kernel_size, stride, 0, 1, ceil_mode)
    return input, norm_type, kernel, stride, bool(ceil_mode)


def _power_example(draw, rank: int):
    kernel, stride = (tuple(draw.integer(1, n) for _ in range(rank)) for n in (3 if rank < 3 else 2, 2))
    sizes = tuple(k + draw.integer(0, 2 if rank < 3 else 1) for k in kernel)
    lead = draw.choice([(1, 2), (2, 1), (2,)])
    return call(
        draw.real((*lead, *sizes), 0.3, 2.0), draw.choice([1, 2, 3, 1.5]), kernel, draw.choice([None, stride]), draw.boolean()
    )


class _Power(Composite):
    """What lp_pool1d, lp_pool2d and lp_pool3d share."""

    def reference(input: Array, norm_type: float, kernel_size, stride=None, ceil_mode: bool = False) -> np.ndarray:
        rank, size = len(kernel_size), math.prod(kernel_size)
        each = zip(input.shape[-rank:], kernel_size, stride, strict=True)
        windows = tuple(sliding_axis(n, k, s, 0, 1, ceil_mode) for n, k, s in each)
        out = np.empty((*input.shape[:-rank], *map(len, windows)), input.dtype)
        for position, region in regions(windows):
            seen = input[(..., *region)]
            seen = seen.reshape(*input.shape[:-rank], math.prod(seen.shape[-rank:]))
            if math.isinf(norm_type):
                extreme = np.abs(seen).max(axis=-1) if norm_type > 0 else np.abs(seen).min(axis=-1)
                out[(..., *position)] = extreme
            else:
                out[(..., *position)] = ((seen**norm_type).mean(axis=-1) * size) ** (1 / norm_type)
        return out

    def compose(input, norm_type, kernel_size, stride=None, ceil_mode=False):
        rank = len(kernel_size) - 1
        if math.isinf(norm_type):
            pool = (tg.max_pool1d, tg.max_pool2d, tg.max_pool3d)[rank]
            if norm_type > 0:
                return pool(input.abs(), kernel_size, stride, 0, 1, ceil_mode)
            return -pool(-input.abs(), kernel_size, stride, 0, 1, ceil_mode)
        average = (tg.avg_pool1d, tg.avg_pool2d, tg.avg_pool3d)[rank]
        total = average(input**norm_type, kernel_size, stride, 0, ceil_mode) * math.prod(kernel_size)
        empty = total == 0
        return tg.where(empty, 0.0, tg.where(empty, 1.0, total) ** (1 / norm_type))


_POWER_FORMULA = "out[n, c, o] = (sum_k input[n, c, o * stride + k]^p)^(1/p)"
_POWER_KINKS = ("a window whose powers sum to 0: gradient 0",)


@op("lp_pool1d", domain=lambda draw: _power_example(draw, 1), formula=_POWER_FORMULA, kinks=_POWER_KINKS, method=False)
class lp_pool1d(_Power):
    """The p-norm of each window along the last axis: as `lp_pool2d`, for (N, C, L) or (C, L)."""

    def prepare(input, norm_type, kernel_size, stride=None, ceil_mode=False):
        return _prepare_power(1, input, norm_type, kernel_size, stride, ceil_mode)


@op("lp_pool2d", domain=lambda draw: _power_example(draw, 2), formula=_POWER_FORMULA, kinks=_POWER_KINKS, method=False)
class lp_pool2d(_Power):
    """The power average of each window, (sum of input^p)^(1/p): (N, C, H, W) -> (N, C, OH, OW), or without N.

    norm_type: p, not 0. p = 1 is the sum, infinity the largest absolute value, minus infinity the smallest. No absolute
    value is
    taken otherwise: with an odd p negative inputs count against positive ones, and the root of a negative sum is NaN.
    stride: kernel_size if None. ceil_mode: as in `avg_pool2d`; a window cut off at the end is scaled up to full size.
    Where the powers sum to 0 the gradient is 0.

    TypeError for integers; ValueError for sizes that do not fit.
    """

    def prepare(input, norm_type, kernel_size, stride=None, ceil_mode=False):
        return _prepare_power(2, input, norm_type, kernel_size, stride, ceil_mode)


@op("lp_pool3d", domain=lambda draw: _power_example(draw, 3), formula=_POWER_FORMULA, kinks=_POWER_KINKS, method=False)
class lp_pool3d(_Power):
    """The power average of each window: as `lp_pool2d`, for (N, C, D, H, W) or (C, D, H, W)."""

    def prepare(input, norm_type, kernel_size, stride=None, ceil_mode=False):
        return _prepare_power(3, input, norm_type, kernel_size, stride, ceil_mode)
