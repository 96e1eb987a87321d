"""Max pooling: sliding, adaptive and fractional windows, the indices they found, and the way back.

The operators `max_poolNd_with_indices` compute values and indices; `max_poolNd` is their public face. The gradient goes
through the indices: `max_pool_input_grad` adds at them, `max_pool_gather` reads at them, and each is the derivative of the
other.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

import tinygrad_cv as tg

from ..extend import Array, Batched, Composite, Op, call, op
from .average_pooling import adaptive_sizes
from .sliding import hashable
from .windows import adaptive_axis, check_pooled, check_sliding, sliding_axis, window_max


def sliding_windows(sizes, kernel_size, stride, padding, dilation, ceil_mode):
    """The windows of `max_poolNd` on an input with spatial `sizes`."""
    each = zip(sizes, kernel_size, stride, padding, dilation, strict=True)
    return tuple(sliding_axis(n, k, s, p, d, ceil_mode) for n, k, s, p, d in each)


def adaptive_windows(sizes, output_size):
    """The windows of adaptive pooling from spatial `sizes` to `output_size`."""
    return tuple(adaptive_axis(n, o) for n, o in zip(sizes, output_size, strict=True))


# ---- the way back: adding and reading at indices --------------------------------------------------------------------------


def _scatter_domain(draw):
    rank = draw.integer(1, 3)
    sizes, out, lead = draw.shape(rank, 1, 3), draw.shape(rank, 1, 2), draw.shape((1, 2), 1, 2)
    return call(draw.real((*lead, *out)), draw.integers((*lead, *out), 0, math.prod(sizes)), sizes)


@op(
    "max_pool_input_grad",
    domain=_scatter_domain,
    formula="out = zeros; out[n, c].flat[indices[n, c, o]] += grad_output[n, c, o]",
    kernels={"cpu": "tinygrad_cv.ops.cpu.pool:scatter"},
    method=False,
    internal=True,
)
class max_pool_input_grad(Op):
    """The gradient of max pooling: each element of `grad_output` is added where its maximum was found.

    grad_output and indices: (N, C, *out) or (C, *out); input_size: the spatial sizes, whose flattened positions `indices`
    (int64) holds, as max pooling returns them; the result: (N, C, *input_size).
    """

    nondiff = ("indices",)

    def prepare(grad_output, indices, input_size):
        if indices.shape != grad_output.shape:
            raise ValueError(
                f"max_pool_input_grad: indices of shape {indices.shape} must have the shape of grad_output, {grad_output.shape}"
            )
        return grad_output, indices, input_size

    def reference(grad_output: Array, indices: Array, input_size: tuple[int, ...]) -> np.ndarray:
        rank = len(input_size)
        planes = math.prod(grad_output.shape[:-rank])
        out = np.zeros((planes, math.prod(input_size)), grad_output.dtype)
        count = math.prod(indices.shape[-rank:])
        where = (np.arange(planes)[:, None], indices.reshape(planes, count))
        np.add.at(out, where, grad_output.reshape(planes, count))
        return out.reshape(*grad_output.shape[:-rank], *input_size)

    def grad_grad_output(upstream, indices, input_size):
        return tg.max_pool_gather(upstream, indices, len(input_size))


def _gather_domain(draw):
    grad_output, indices, sizes = _scatter_domain(draw).args
    rank = len(sizes)
    return call(draw.real((*grad_output.shape[:-rank], *sizes)), indices, rank)


@op(
    "max_pool_gather",
    domain=_gather_domain,
    formula="out[n, c, o] = input[n, c].flat[indices[n, c, o]]",
    kernels={"cpu": "tinygrad_cv.ops.cpu.pool:gather"},
    method=False,
    internal=True,
)
class max_pool_gather(Op):
    """The elements of `input` at the places that max pooling found.

    input: (N, C, *sizes) or (C, *sizes) with `rank` spatial axes; indices: (N, C, *out), int64 positions in the flattened
    spatial axes; the result has the shape of `indices`.
    """

    nondiff = ("indices",)

    def prepare(input, indices, rank):
        if indices.ndim != input.ndim or not 0 < rank < input.ndim + 1 or indices.shape[:-rank] != input.shape[:-rank]:
            raise ValueError(
                f"max_pool_gather: indices of shape {indices.shape} must be as the input of shape {input.shape}, but for the last "
                f"{rank} axes"
            )
        return input, indices, rank

    def reference(input: Array, indices: Array, rank: int) -> np.ndarray:
        lead = input.shape[:-rank]
        flat = indices.reshape(*lead, math.prod(indices.shape[-rank:]))
        return np.take_along_axis(input.reshape(*lead, math.prod(input.shape[-rank:])), flat, axis=-1).reshape(indices.shape)

    def grad_input(upstream, indices, ctx, rank):
        return tg.max_pool_input_grad(upstream, indices, ctx.input_shapes[0][-rank:])


# ---- max_pool -------------------------------------------------------------------------------------------------------------


def _prepare_max(rank: int, input, kernel_size, stride, padding, dilation, ceil_mode):
    name = f"max_pool{rank}d"
    check_pooled(name, rank, input)
    settings = (hashable(v) for v in (kernel_size, stride, padding, dilation))
    return input, *_max_geometry(name, rank, input.shape, *settings, bool(ceil_mode)), bool(ceil_mode)


@lru_cache(maxsize=512, typed=True)
def _max_geometry(
    name: str, rank: int, shape: tuple[int, ...], kernel_size, stride, padding, dilation, ceil_mode: bool
) -> tuple:
    """Kernel size, stride, padding and dilation, checked once for every shape they meet."""
    kernel, stride, padding, dilation = check_sliding(
        name, rank, shape, kernel_size, stride, padding, dilation, ceil_mode, dilated_padding=rank == 2
    )
    for axis in sliding_windows(shape[-rank:], kernel, stride, padding, dilation, ceil_mode):
        if any(start >= stop for start, stop, _ in axis):
            raise ValueError(
                f"{name}: with kernel_size {kernel}, stride {stride}, padding {padding} and dilation {dilation} a window "
                f"of the input of shape {shape} holds nothing but padding; use less padding or dilation"
            )
    return kernel, stride, padding, dilation


def _max_example(draw, rank: int):
    kernel, stride, dilation = (tuple(draw.integer(1, n) for _ in range(rank)) for n in (3 if rank < 3 else 2, 2, 2))
    padding = tuple(draw.integer(0, k // 2) if d == 1 else 0 for k, d in zip(kernel, dilation, strict=True))
    sizes = tuple(
        max(d * (k - 1) + 1 - p, 1) + draw.integer(0, 2 if rank < 3 else 1)
        for k, d, p in zip(kernel, dilation, padding, strict=True)
    )
    lead = draw.choice([(1, 2), (2, 1), (2,)])
    stride = draw.choice([None, stride]) if max(kernel) < 3 else stride
    return call(draw.distinct((*lead, *sizes)), kernel, stride, padding, dilation, draw.boolean())


class _MaxPool(Op):
    """What max_pool1d_with_indices, max_pool2d_with_indices and max_pool3d_with_indices share."""

    outputs = ("values", "indices")

    def reference(input: Array, kernel_size, stride=None, padding=0, dilation=1, ceil_mode: bool = False):
        windows = sliding_windows(input.shape[-len(kernel_size) :], kernel_size, stride, padding, dilation, ceil_mode)
        return window_max(input, windows)

    def grad_input(upstream, indices, ctx, kernel_size):
        return tg.max_pool_input_grad(upstream, indices, ctx.input_shapes[0][-len(kernel_size) :])


_MAX_FORMULA = "values[n, c, o] = max_k input[n, c, o * stride + k * dilation - padding]; indices: where"
_MAX_KERNEL = {"cpu": "tinygrad_cv.ops.cpu.pool:max_pool"}
_TIES = ("two equal maxima in a window: the first",)


@op(
    "max_pool1d_with_indices",
    domain=lambda draw: _max_example(draw, 1),
    formula=_MAX_FORMULA,
    kinks=_TIES,
    kernels=_MAX_KERNEL,
    method=False,
    laws=(Batched("input", core=2, single=True),),
)
class max_pool1d_with_indices(_MaxPool):
    """`max_pool1d` with the indices of the maxima: a pair (values, indices)."""

    def prepare(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False):
        return _prepare_max(1, input, kernel_size, stride, padding, dilation, ceil_mode)


@op(
    "max_pool2d_with_indices",
    domain=lambda draw: _max_example(draw, 2),
    formula=_MAX_FORMULA,
    kinks=_TIES,
    kernels=_MAX_KERNEL,
    method=False,
    laws=(Batched("input", core=3, single=True),),
)
class max_pool2d_with_indices(_MaxPool):
    """`max_pool2d` with the indices of the maxima: a pair (values, indices)."""

    def prepare(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False):
        return _prepare_max(2, input, kernel_size, stride, padding, dilation, ceil_mode)


@op(
    "max_pool3d_with_indices",
    domain=lambda draw: _max_example(draw, 3),
    formula=_MAX_FORMULA,
    kinks=_TIES,
    kernels=_MAX_KERNEL,
    method=False,
    laws=(Batched("input", core=4, single=True),),
)
class max_pool3d_with_indices(_MaxPool):
    """`max_pool3d` with the indices of the maxima: a pair (values, indices)."""

    def prepare(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False):
        return _prepare_max(3, input, kernel_size, stride, padding, dilation, ceil_mode)


class _MaxFace(Composite):
    """What max_pool1d, max_pool2d and max_pool3d share."""

    def reference(
        input: Array, kernel_size, stride=None, padding=0, dilation=1, ceil_mode: bool = False, return_indices: bool = False
    ):
        sizes = input.shape[-len(kernel_size) :]
        found = window_max(input, sliding_windows(sizes, kernel_size, stride, padding, dilation, ceil_mode))
        return found if return_indices else found[0]

    def compose(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
        pool = (tg.max_pool1d_with_indices, tg.max_pool2d_with_indices, tg.max_pool3d_with_indices)[len(kernel_size) - 1]
        found = pool(input, kernel_size, stride, padding, dilation, ceil_mode)
        return found if return_indices else found.values


@op("max_pool1d", domain=lambda draw: _max_example(draw, 1), formula=_MAX_FORMULA, kinks=_TIES, method=False)
class max_pool1d(_MaxFace):
    """The largest element of each window along the last axis: as `max_pool2d`, for (N, C, L) or (C, L)."""

    def prepare(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
        return *_prepare_max(1, input, kernel_size, stride, padding, dilation, ceil_mode), bool(return_indices)


@op("max_pool2d", domain=lambda draw: _max_example(draw, 2), formula=_MAX_FORMULA, kinks=_TIES, method=False)
class max_pool2d(_MaxFace):
    """The largest element of each window: (N, C, H, W) -> (N, C, OH, OW), or without N.

    OH = floor((H + 2 * padding - dilation * (KH - 1) - 1) / stride) + 1; ceil in place of floor with `ceil_mode`, where
    the last window must start inside the input or its left padding. stride: kernel_size if None. padding: minus infinity
    on both sides, at most half the (dilated) kernel. return_indices: give (values, indices), indices (int64) being
    positions in the flattened H * W.

    Of equal maxima the first is taken, and the whole gradient goes to it. A NaN in a window is its maximum. Integers are
    allowed. ValueError for sizes that do not fit, and for a window that would hold nothing but padding.
    """

    def prepare(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
        return *_prepare_max(2, input, kernel_size, stride, padding, dilation, ceil_mode), bool(return_indices)


@op("max_pool3d", domain=lambda draw: _max_example(draw, 3), formula=_MAX_FORMULA, kinks=_TIES, method=False)
class max_pool3d(_MaxFace):
    """The largest element of each window: as `max_pool2d`, for (N, C, D, H, W) or (C, D, H, W)."""

    def prepare(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
        return *_prepare_max(3, input, kernel_size, stride, padding, dilation, ceil_mode), bool(return_indices)


# ---- adaptive_max_pool ----------------------------------------------------------------------------------------------------


def _prepare_adaptive_max(rank: int, input, output_size):
    name = f"adaptive_max_pool{rank}d"
    check_pooled(name, rank, input, channels=False)
    return input, adaptive_sizes(name, rank, input, output_size)


def _adaptive_example(draw, rank: int):
    sizes, output = draw.shape(rank, 1, 4 if rank < 3 else 3), draw.shape(rank, 1, 4 if rank < 3 else 2)
    lead = draw.choice([(1, 2), (2, 1), (2,)])
    return call(draw.distinct((*lead, *sizes)), draw.choice([output, output[0]]))


class _AdaptiveMax(Op):
    """What adaptive_max_pool1d_with_indices and its like share."""

    outputs = ("values", "indices")

    def reference(input: Array, output_size):
        return window_max(input, adaptive_windows(input.shape[-len(output_size) :], output_size))

    def grad_input(upstream, indices, ctx, output_size):
        return tg.max_pool_input_grad(upstream, indices, ctx.input_shapes[0][-len(output_size) :])


class _AdaptiveFace(Composite):
    """What adaptive_max_pool1d, adaptive_max_pool2d and adaptive_max_pool3d share."""

    def reference(input: Array, output_size, return_indices: bool = False):
        found = window_max(input, adaptive_windows(input.shape[-len(output_size) :], output_size))
        return found if return_indices else found[0]

    def compose(input, output_size, return_indices=False):
        pools = (tg.adaptive_max_pool1d_with_indices, tg.adaptive_max_pool2d_with_indices, tg.adaptive_max_pool3d_with_indices)
        found = pools[len(output_size) - 1](input, output_size)
        return found if return_indices else found.values


_ADAPTIVE_FORMULA = "values[n, c, o] = max of input[n, c, floor(o * size / out) : ceil((o + 1) * size / out)]"
_ADAPTIVE_KERNEL = {"cpu": "tinygrad_cv.ops.cpu.pool:adaptive_max_pool"}


@op(
    "adaptive_max_pool1d_with_indices",
    domain=lambda draw: _adaptive_example(draw, 1),
    formula=_ADAPTIVE_FORMULA,
    kinks=_TIES,
    kernels=_ADAPTIVE_KERNEL,
    method=False,
)
class adaptive_max_pool1d_with_indices(_AdaptiveMax):
    """`adaptive_max_pool1d` with the indices of the maxima: a pair (values, indices)."""

    def prepare(input, output_size):
        return _prepare_adaptive_max(1, input, output_size)


@op(
    "adaptive_max_pool2d_with_indices",
    domain=lambda draw: _adaptive_example(draw, 2),
    formula=_ADAPTIVE_FORMULA,
    kinks=_TIES,
    kernels=_ADAPTIVE_KERNEL,
    method=False,
)
class adaptive_max_pool2d_with_indices(_AdaptiveMax):
    """`adaptive_max_pool2d` with the indices of the maxima: a pair (values, indices)."""

    def prepare(input, output_size):
        return _prepare_adaptive_max(2, input, output_size)


@op(
    "adaptive_max_pool3d_with_indices",
    domain=lambda draw: _adaptive_example(draw, 3),
    formula=_ADAPTIVE_FORMULA,
    kinks=_TIES,
    kernels=_ADAPTIVE_KERNEL,
    method=False,
)
class adaptive_max_pool3d_with_indices(_AdaptiveMax):
    """`adaptive_max_pool3d` with the indices of the maxima: a pair (values, indices)."""

    def prepare(input, output_size):
        return _prepare_adaptive_max(3, input, output_size)


@op("adaptive_max_pool1d", domain=lambda draw: _adaptive_example(draw, 1), formula=_ADAPTIVE_FORMULA, kinks=_TIES, method=False)
class adaptive_max_pool1d(_AdaptiveFace):
    """Max pooling to a given length: as `adaptive_max_pool2d`, for (N, C, L) or (C, L)."""

    def prepare(input, output_size, return_indices=False):
        return *_prepare_adaptive_max(1, input, output_size), bool(return_indices)


@op("adaptive_max_pool2d", domain=lambda draw: _adaptive_example(draw, 2), formula=_ADAPTIVE_FORMULA, kinks=_TIES, method=False)
class adaptive_max_pool2d(_AdaptiveFace):
    """Max pooling to a given output size, whatever the input size: (N, C, H, W) -> (N, C, *output_size), or without N.

    Window i covers floor(i * H / OH) to ceil((i + 1) * H / OH); neighbours may overlap by one. output_size: one integer,
    or one for each axis, None keeping the input's size. return_indices: give (values, indices), as `max_pool2d` does; ties
    and NaN as there.
    """

    def prepare(input, output_size, return_indices=False):
        return *_prepare_adaptive_max(2, input, output_size), bool(return_indices)


@op("adaptive_max_pool3d", domain=lambda draw: _adaptive_example(draw, 3), formula=_ADAPTIVE_FORMULA, kinks=_TIES, method=False)
class adaptive_max_pool3d(_AdaptiveFace):
    """Max pooling to a given output size: as `adaptive_max_pool2d`, for (N, C, D, H, W) or (C, D, H, W)."""

    def prepare(input, output_size, return_indices=False):
        return *_prepare_adaptive_max(3, input, output_size), bool(return_indices)
