"""Fractional max pooling, and max unpooling."""

from __future__ import annotations

import math

import numpy as np

import tinygrad_cv as tg

from ..extend import Array, Composite, Op, call, op
from .sliding import spatial_tuple
from .windows import check_pooled, fractional_axis, window_max


def fractional_windows(sizes, kernel_size, output_size, samples):
    """The windows of one plane. PyTorch draws for (width, height) in two dimensions and for (depth, height, width) in three."""
    samples = samples[::-1] if len(sizes) == 2 else samples
    each = zip(sizes, output_size, kernel_size, samples, strict=True)
    return tuple(fractional_axis(n, o, k, u) for n, o, k, u in each)


def _prepare_fractional(rank: int, input, random_samples, kernel_size, output_size):
    name = f"fractional_max_pool{rank}d"
    check_pooled(name, rank, input, floating=True)
    kernel = spatial_tuple(name, "kernel_size", kernel_size, rank, 1)
    output = spatial_tuple(name, "output_size", output_size, rank, 1)
    for i, (n, k, o) in enumerate(zip(input.shape[-rank:], kernel, output, strict=True)):
        if o + k - 1 > n:
            raise ValueError(
                f"{name}: {o} windows of size {k} do not fit into axis {i - rank} of the input of shape {input.shape}; "
                f"output_size + kernel_size - 1 must be at most {n}"
            )
    lead = (1, *input.shape[:-rank])[-2:]
    if random_samples.shape != (*lead, rank) or random_samples.dtype != input.dtype:
        raise ValueError(
            f"{name}: _random_samples must have shape {(*lead, rank)} and dtype {input.dtype}, got {random_samples.shape}, "
            f"{random_samples.dtype}"
        )
    return input, random_samples, kernel, output


def fractional_max(input: np.ndarray, random_samples: np.ndarray, kernel_size, output_size) -> tuple[np.ndarray, np.ndarray]:
    """Values and indices in NumPy: every plane has windows of its own."""
    rank = len(kernel_size)
    sizes = input.shape[-rank:]
    values = np.empty((*input.shape[:-rank], *output_size), input.dtype)
    indices = np.empty(values.shape, np.int64)
    for plane in np.ndindex(*input.shape[:-rank]):
        samples = random_samples[(0, *plane)[-2:]]
        values[plane], indices[plane] = window_max(input[plane], fractional_windows(sizes, kernel_size, output_size, samples))
    return values, indices


def _fractional_example(draw, rank: int):
    kernel, output = draw.shape(rank, 1, 3 if rank < 3 else 2), draw.shape(rank, 1, 3 if rank < 3 else 2)
    sizes = tuple(k + o - 1 + draw.integer(0, 2 if rank < 3 else 1) for k, o in zip(kernel, output, strict=True))
    lead = draw.choice([(1, 2), (2, 1), (2,)])
    return draw.distinct((*lead, *sizes)), draw.real((*(1, *lead)[-2:], rank), 0.02, 0.98), kernel, output


def _face_example(draw, rank: int):
    input, samples, kernel, output = _fractional_example(draw, rank)
    return call(input, kernel, output, _random_samples=samples)


_FRACTIONAL_FORMULA = (
    "values[n, c, o] = max_{k < K} input[n, c, floor((o + u) * a) - floor(u * a) + k], a = (size - K) / (out - 1)"
)
_TIES = ("two equal maxima in a window: the first",)
_GRAHAM = "Graham, Fractional Max-Pooling, arXiv:1412.6071, section 2"


class _Fractional(Op):
    """What fractional_max_pool2d_with_indices and fractional_max_pool3d_with_indices share."""

    outputs = ("values", "indices")
    nondiff = ("random_samples",)

    def reference(input: Array, random_samples: Array, kernel_size, output_size):
        return fractional_max(input, random_samples, kernel_size, output_size)

    def grad_input(upstream, indices, ctx, kernel_size):
        return tg.max_pool_input_grad(upstream, indices, ctx.input_shapes[0][-len(kernel_size) :])


class _FractionalFace(Composite):
    """What fractional_max_pool2d and fractional_max_pool3d share."""

    random = True

    def reference(
        input: Array, kernel_size, output_size=None, output_ratio=None, return_indices: bool = False,
        _random_samples: Array | None = None,
    ):  # fmt: skip
        if _random_samples is None:
            lead = (1, *input.shape[: -len(kernel_size)])[-2:]
            _random_samples = tg.random.default_generator.numpy.random((*lead, len(kernel_size))).astype(input.dtype)
        found = fractional_max(input, _random_samples, kernel_size, output_size)
        return found if return_indices else found[0]

    def compose(input, kernel_size, output_size=None, output_ratio=None, return_indices=False, _random_samples=None):
        rank = len(kernel_size)
        if _random_samples is None:
            _random_samples = tg.rand((*(1, *input.shape[:-rank])[-2:], rank), dtype=input.dtype)
        pool = tg.fractional_max_pool2d_with_indices if rank == 2 else tg.fractional_max_pool3d_with_indices
        found = pool(input, _random_samples, kernel_size, output_size)
        return found if return_indices else found.values


def _prepare_face(rank: int, input, kernel_size, output_size, output_ratio, return_indices, samples):
    name = f"fractional_max_pool{rank}d"
    check_pooled(name, rank, input, floating=True)
    if (output_size is None) == (output_ratio is None):
        raise ValueError(f"{name}: give either output_size or output_ratio, got {output_size!r} and {output_ratio!r}")
    if output_size is None:
        ratios = tuple(output_ratio) if isinstance(output_ratio, (tuple, list)) else (output_ratio,) * rank
        if len(ratios) != rank or not all(0 < r < 1 for r in ratios):
            raise ValueError(
                f"{name}: output_ratio must be a number between 0 and 1 or a tuple of {rank} such, got {output_ratio!r}"
            )
        output_size = tuple(int(n * r) for n, r in zip(input.shape[-rank:], ratios, strict=True))
    like = samples if samples is not None else tg.zeros((), dtype=input.dtype).expand((*(1, *input.shape[:-rank])[-2:], rank))
    _, _, kernel, output = _prepare_fractional(rank, input, like, kernel_size, output_size)
    return input, kernel, output, None, bool(return_indices), samples


@op(
    "fractional_max_pool2d_with_indices",
    domain=lambda draw: call(*_fractional_example(draw, 2)),
    formula=_FRACTIONAL_FORMULA,
    kinks=_TIES,
    source=_GRAHAM,
    method=False,
)
class fractional_max_pool2d_with_indices(_Fractional):
    """`fractional_max_pool2d` for given random numbers, one for each plane and axis, as a pair (values, indices)."""

    def prepare(input, random_samples, kernel_size, output_size):
        return _prepare_fractional(2, input, random_samples, kernel_size, output_size)


@op(
    "fractional_max_pool3d_with_indices",
    domain=lambda draw: call(*_fractional_example(draw, 3)),
    formula=_FRACTIONAL_FORMULA,
    kinks=_TIES,
    source=_GRAHAM,
    method=False,
)
class fractional_max_pool3d_with_indices(_Fractional):
    """`fractional_max_pool3d` for given random numbers, one for each plane and axis, as a pair (values, indices)."""

    def prepare(input, random_samples, kernel_size, output_size):
        return _prepare_fractional(3, input, random_samples, kernel_size, output_size)


@op(
    "fractional_max_pool2d",
    domain=lambda draw: _face_example(draw, 2),
    formula=_FRACTIONAL_FORMULA,
    kinks=_TIES,
    source=_GRAHAM,
    method=False,
)
class fractional_max_pool2d(_FractionalFace):
    """Max pooling by a factor that need not be whole: windows at random steps of two neighbouring sizes.

    (N, C, H, W) -> (N, C, *output_size), or without N. Window i of an axis starts at floor((i + u) * a) - floor(u * a) with
    a = (H - kernel_size) / (OH - 1) and u uniform in [0, 1), drawn for each image, channel and axis; the last window ends
    at the end.

    output_size, or output_ratio (numbers between 0 and 1): one for both axes, or one for each. return_indices: give
    (values, indices), as `max_pool2d` does. _random_samples: the draws u, of shape (N, C, 2) (N = 1 for an input without
    N), in the order (width, height), and of the input's dtype; drawn from the default generator (`tg.manual_seed`) if
    None. ValueError for sizes that do not fit.
    """

    def prepare(input, kernel_size, output_size=None, output_ratio=None, return_indices=False, _random_samples=None):
        return _prepare_face(2, input, kernel_size, output_size, output_ratio, return_indices, _random_samples)


@op(
    "fractional_max_pool3d",
    domain=lambda draw: _face_example(draw, 3),
    formula=_FRACTIONAL_FORMULA,
    kinks=_TIES,
    source=_GRAHAM,
    method=False,
)
class fractional_max_pool3d(_FractionalFace):
    """As `fractional_max_pool2d`, for (N, C, D, H, W) or (C, D, H, W); _random_samples in the order (depth, height, width)."""

    def prepare(input, kernel_size, output_size=None, output_ratio=None, return_indices=False, _random_samples=None):
        return _prepare_face(3, input, kernel_size, output_size, output_ratio, return_indices, _random_samples)


# ---- max_unpool -----------------------------------------------------------------------------------------------------------


def _prepare_unpool(rank: int, input, indices, kernel_size, stride, padding, output_size):
    name = f"max_unpool{rank}d"
    check_pooled(name, rank, input)
    if indices.dtype != np.int64:
        raise TypeError(f"{name}: indices must be int64, as max pooling returns them, got {indices.dtype}")
    if indices.shape != input.shape:
        raise ValueError(f"{name}: indices of shape {indices.shape} must have the shape of the input, {input.shape}")
    kernel = spatial_tuple(name, "kernel_size", kernel_size, rank, 1)
    stride = kernel if stride is None else spatial_tuple(name, "stride", stride, rank, 1)
    padding = spatial_tuple(name, "padding", padding, rank, 0)
    usual = tuple((n - 1) * s + k - 2 * p for n, k, s, p in zip(input.shape[-rank:], kernel, stride, padding, strict=True))
    if output_size is None:
        sizes = usual
    else:
        given = tuple(output_size)
        sizes = given[2:] if len(given) == rank + 2 else given
        if len(sizes) != rank:
            raise ValueError(f"{name}: output_size must have {rank} or {rank + 2} entries, got {given}")
        for i, (size, n, s) in enumerate(zip(sizes, usual, stride, strict=True)):
            if not n - s < size < n + s:
                raise ValueError(
                    f"{name}: output_size {given} must lie between {n - s} and {n + s}, exclusive, on axis {i - rank}"
                )
    if min(sizes) < 1:
        raise ValueError(f"{name}: input of shape {input.shape} with padding {padding} gives an output of size {tuple(sizes)}")
    if input.numel():
        found = indices.detach().numpy()
        low, high, room = int(found.min()), int(found.max()), math.prod(sizes)
        if low < 0 or high >= room:
            raise IndexError(
                f"{name}: indices must be from 0 to {room - 1} for an output of size {tuple(sizes)}, got {low} to {high}"
            )
    return input, indices, kernel, stride, padding, tuple(int(n) for n in sizes)


def _unpool_example(draw, rank: int):
    kernel = tuple(draw.integer(1, 2) for _ in range(rank))
    out, lead = draw.shape(rank, 1, 2), draw.choice([(1, 2), (2, 1), (2,)])
    sizes = tuple(n * k for n, k in zip(out, kernel, strict=True))
    places = np.stack([draw.permutation(math.prod(sizes))[: math.prod(out)] for _ in range(math.prod(lead))])
    output_size = draw.choice([None, sizes])
    return call(draw.real((*lead, *out)), places.astype(np.int64).reshape(*lead, *out), kernel, None, 0, output_size)


class _Unpool(Op):
    """What max_unpool1d, max_unpool2d and max_unpool3d share."""

    nondiff = ("indices",)

    def reference(input: Array, indices: Array, kernel_size, stride=None, padding=0, output_size=None) -> np.ndarray:
        rank = len(output_size)
        planes = math.prod(input.shape[:-rank])
        out = np.zeros((planes, math.prod(output_size)), input.dtype)
        count = math.prod(input.shape[-rank:])
        out[np.arange(planes)[:, None], indices.reshape(planes, count)] = input.reshape(planes, count)
        return out.reshape(*input.shape[:-rank], *output_size)

    def grad_input(upstream, indices, output_size):
        return tg.max_pool_gather(upstream, indices, len(output_size))


_UNPOOL_FORMULA = "out = zeros; out[n, c].flat[indices[n, c, o]] = input[n, c, o]"
_ZEILER = "Zeiler and Fergus, arXiv:1311.2901, section 2.1"


@op("max_unpool1d", domain=lambda draw: _unpool_example(draw, 1), formula=_UNPOOL_FORMULA, source=_ZEILER, method=False)
class max_unpool1d(_Unpool):
    """Puts maxima back where they were found: as `max_unpool2d`, for (N, C, L) or (C, L)."""

    def prepare(input, indices, kernel_size, stride=None, padding=0, output_size=None):
        return _prepare_unpool(1, input, indices, kernel_size, stride, padding, output_size)


@op("max_unpool2d", domain=lambda draw: _unpool_example(draw, 2), formula=_UNPOOL_FORMULA, source=_ZEILER, method=False)
class max_unpool2d(_Unpool):
    """Puts maxima back where they were found, zeros elsewhere: a partial inverse of `max_pool2d`.

    input and indices: (N, C, H, W) or (C, H, W), as `max_pool2d(..., return_indices=True)` gave them; the result: (N, C,
    OH, OW) with
    OH = (H - 1) * stride - 2 * padding + kernel_size, or output_size, which may differ from that by less than a stride.
    Where an index occurs twice (overlapping windows), one of the two values is kept, and both receive the gradient.

    TypeError for indices that are not int64; ValueError for sizes that do not fit; IndexError for an index outside the output.
    """

    def prepare(input, indices, kernel_size, stride=None, padding=0, output_size=None):
        return _prepare_unpool(2, input, indices, kernel_size, stride, padding, output_size)


@op("max_unpool3d", domain=lambda draw: _unpool_example(draw, 3), formula=_UNPOOL_FORMULA, source=_ZEILER, method=False)
class max_unpool3d(_Unpool):
    """Puts maxima back where they were found: as `max_unpool2d`, for (N, C, D, H, W) or (C, D, H, W)."""

    def prepare(input, indices, kernel_size, stride=None, padding=0, output_size=None):
        return _prepare_unpool(3, input, indices, kernel_size, stride, padding, output_size)
