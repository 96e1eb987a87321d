"""Reading images at arbitrary places: affine grids and sampling at the points of a grid (Jaderberg et al. 2015).

A sample is a sum of a few pixels ("taps") with weights that depend on the place. `sample_taps` is that sum; it is linear in the
image, in the weights and in the upstream, and its gradients are the two other ways of summing the same three factors. The weights
are ordinary Tensor arithmetic on the coordinates, so first and second derivatives for the grid need no rules of their own.
"""

from __future__ import annotations

import math

import numpy as np

import tinygrad_cv as tg

from ..extend import Array, Batched, Composite, Linear, Op, Tensor, call, op
from .interpolation import CUBIC_SHARPNESS, cubic_weights

SAMPLE_MODES = ("bilinear", "nearest", "bicubic")
PADDING_MODES = ("zeros", "border", "reflection")


def _taps_case(draw):
    images, channels, length, taps, points = (draw.integer(1, n) for n in (2, 2, 4, 3, 3))
    index = draw.integers((images, taps, points), -1, length)
    return images, channels, length, taps, points, index


def _sample_domain(draw):
    images, channels, length, taps, points, index = _taps_case(draw)
    return call(draw.real((images, channels, length)), index, draw.real((images, taps, points)))


@op(
    "sample_taps",
    domain=_sample_domain,
    formula="out[n, c, p] = sum_k weights[n, k, p] * input[n, c, index[n, k, p]]",
    kernels={"cpu": "tinygrad_cv.ops.cpu.sampling:sample_taps"},
    method=False,
    internal=True,
)
class sample_taps(Op):
    """Weighted sums of elements read by index: input (N, C, L), index and weights (N, K, P) -> (N, C, P). Index -1 reads 0."""

    nondiff = ("index",)

    def reference(input: Array, index: Array, weights: Array) -> np.ndarray:
        weights = np.where(index >= 0, weights, 0)
        out = np.zeros((*input.shape[:2], index.shape[2]), input.dtype)
        for k in range(index.shape[1]):
            out += np.take_along_axis(input, np.maximum(index[:, k : k + 1], 0), 2) * weights[:, k : k + 1]
        return out

    def backward(upstream, ctx, input, index, weights):
        grad_input = tg.scatter_taps(upstream, index, weights, ctx.input_shapes[0][2]) if ctx.needs[0] else None
        return grad_input, None, tg.tap_products(upstream, input, index) if ctx.needs[2] else None


def _scatter_domain(draw):
    images, channels, length, taps, points, index = _taps_case(draw)
    return call(draw.real((images, channels, points)), index, draw.real((images, taps, points)), length)


@op(
    "scatter_taps",
    domain=_scatter_domain,
    formula="out[n, c, index[n, k, p]] += weights[n, k, p] * grad_output[n, c, p]",
    kernels={"cpu": "tinygrad_cv.ops.cpu.sampling:scatter_taps"},
    method=False,
    internal=True,
)
class scatter_taps(Op):
    """The adjoint of `sample_taps` for its input: grad_output (N, C, P) spread over (N, C, length)."""

    nondiff = ("index",)

    def reference(grad_output: Array, index: Array, weights: Array, length: int) -> np.ndarray:
        images, channels, _ = grad_output.shape
        rows = np.arange(images * channels).reshape(images, channels, 1, 1) * (length + 1)
        place = rows + np.where(index >= 0, index, length)[:, None]
        values = grad_output[:, :, None] * weights[:, None]
        summed = np.bincount(place.reshape(-1), values.reshape(-1), images * channels * (length + 1))
        return summed.reshape(images, channels, length + 1)[..., :length].astype(grad_output.dtype)

    def backward(upstream, ctx, grad_output, index, weights):
        grad = tg.sample_taps(upstream, index, weights) if ctx.needs[0] else None
        return grad, None, tg.tap_products(grad_output, upstream, index) if ctx.needs[2] else None


def _products_domain(draw):
    images, channels, length, _, points, index = _taps_case(draw)
    return call(draw.real((images, channels, points)), draw.real((images, channels, length)), index)


@op(
    "tap_products",
    domain=_products_domain,
    formula="out[n, k, p] = sum_c grad_output[n, c, p] * input[n, c, index[n, k, p]]",
    kernels={"cpu": "tinygrad_cv.ops.cpu.sampling:tap_products"},
    method=False,
    internal=True,
)
class tap_products(Op):
    """The adjoint of `sample_taps` for its weights: grad_output (N, C, P) times what each tap read, summed over channels."""

    nondiff = ("index",)

    def reference(grad_output: Array, input: Array, index: Array) -> np.ndarray:
        out = np.empty(index.shape, input.dtype)
        for k in range(index.shape[1]):
            read = np.take_along_axis(input, np.maximum(index[:, k : k + 1], 0), 2)
            out[:, k] = (grad_output * read).sum(1)
        return np.where(index >= 0, out, 0).astype(input.dtype)

    def backward(upstream, ctx, grad_output, input, index):
        grad = tg.sample_taps(input, index, upstream) if ctx.needs[0] else None
        return grad, tg.scatter_taps(grad_output, index, upstream, ctx.input_shapes[1][2]) if ctx.needs[1] else None, None


def _fold(position: np.ndarray, size: int, padding_mode: str, align_corners: bool) -> tuple[np.ndarray, np.ndarray]:
    """Positions brought inside the image, and the slope (-1, 0 or 1) of that map at each."""
    slope = np.ones_like(position)
    if padding_mode == "reflection":
        low, span = (0.0, size - 1.0) if align_corners else (-0.5, float(size))
        if span == 0:
            return np.zeros_like(position), np.zeros_like(position)
        distance = np.abs(position - low)
        slope = np.where(position < low, -slope, slope)
        turns = np.floor(distance / span)
        rest = distance - turns * span
        odd = turns % 2 == 1
        position = np.where(odd, span - rest, rest) + low
        slope = np.where(odd, -slope, slope)
    outside = (position <= 0) | (position >= size - 1)
    return np.clip(position, 0, size - 1), np.where(outside, 0, slope)


def _index_of(place: np.ndarray, size: int) -> np.ndarray:
    """Whole-numbered positions as indices, -1 for those outside (and for NaN)."""
    inside = (place >= 0) & (place <= size - 1)
    return np.where(inside, place, -1).astype(np.int64)


def _axis_taps(position: Tensor, size: int, mode: str, padding_mode: str, align_corners: bool) -> tuple[np.ndarray, Tensor]:
    """Along one axis: which pixels each point reads (N, k, P), and their weights as a function of `position` (N, P)."""
    if mode != "bicubic" and padding_mode != "zeros":
        folded, slope = _fold(position._data, size, padding_mode, align_corners)
        position = position * tg.from_numpy(slope) + tg.from_numpy(folded - position._data * slope)
    values = position._data
    if mode == "nearest":
        # 1, and a gradient of zeros rather than none.
        ones = tg.masked_scale(position, tg.from_numpy(np.zeros(1, bool)), 0.0) + 1
        return _index_of(np.rint(values)[:, None], size), ones.unsqueeze(1)
    first = np.floor(values)
    t = position - tg.from_numpy(first)
    if mode == "bilinear":
        return _index_of(np.stack([first, first + 1], 1), size), tg.stack([1 - t, t], 1)
    place = np.stack([first - 1, first, first + 1, first + 2], 1)
    if padding_mode != "zeros":
        place = np.rint(_fold(place, size, padding_mode, align_corners)[0])
    return _index_of(place, size), tg.stack(cubic_weights(t), 1)


def _dense_weights(position: np.ndarray, size: int, mode: str, padding_mode: str, align_corners: bool) -> np.ndarray:
    """(N, P, size): the weight of every pixel of one axis for every point, from the shape of the kernel."""
    pixels = np.arange(size)

    def inside(places):
        return places if padding_mode == "zeros" else _fold(places, size, padding_mode, align_corners)[0]

    if mode == "nearest":
        return (np.rint(inside(position))[..., None] == pixels).astype(np.float64)
    if mode == "bilinear":
        return np.maximum(0, 1 - np.abs(inside(position)[..., None] - pixels))
    out = np.zeros((*position.shape, size))
    for k in range(-1, 3):
        place = np.floor(position) + k
        d, a = np.abs(position - place), CUBIC_SHARPNESS
        value = np.where(d <= 1, (a + 2) * d**3 - (a + 3) * d**2 + 1, a * (d**3 - 5 * d**2 + 8 * d - 4))
        out += (np.rint(inside(place))[..., None] == pixels) * value[..., None]
    return out


def _grid_domain(draw):
    """Points a fraction of a pixel away from where a tap, a border or a reflection changes."""
    axes = draw.choice([2, 2, 3])
    mode = draw.choice(SAMPLE_MODES if axes == 2 else SAMPLE_MODES[:2])
    shape = draw.shape(axes, 2, 3)
    points = (2, 2) if axes == 2 else (1, 2, 2)
    align = draw.boolean()
    grid = np.zeros((1, *points, axes))
    for d, size in enumerate(reversed(shape)):
        pixel = draw.integers((1, *points), -2, size + 2) + draw.real((1, *points), 0.15, 0.35)
        grid[..., d] = pixel * 2 / (size - 1) - 1 if align else (pixel * 2 + 1) / size - 1
    return call(draw.real((1, 2, *shape)), grid, mode, draw.choice(PADDING_MODES), align)


def _unnormalised(coordinate, size: int, align_corners: bool):
    """Coordinates in [-1, 1] as pixel positions."""
    return (coordinate + 1) * ((size - 1) / 2) if align_corners else ((coordinate + 1) * size - 1) * 0.5


@op(
    "grid_sample",
    domain=_grid_domain,
    formula="out[n, c, p] = sum over pixels of input[n, c, pixel] * w(grid[n, p] - pixel)",
    kinks=("points on pixel centres (bilinear)", "points on the border or where reflection turns"),
    source="arXiv:1506.02025; bicubic: Keys 1981, with a = -0.75",
    method=False,
    laws=(
        Linear("input"),
        Batched("input", "grid", core=3, when=lambda input: input.ndim == 4),
    ),
)
class grid_sample(Composite):
    """Reads `input` at the points of `grid`, whose last axis holds (x, y) or (x, y, z) in [-1, 1].

    input: (N, C, H, W) with grid (N, H', W', 2), or (N, C, D, H, W) with grid (N, D', H', W', 3). Result: (N, C, H', W') or
    (N, C, D', H', W'). mode: 'bilinear' (trilinear for volumes), 'nearest' (halves go to the even pixel) or 'bicubic' (images only).
    padding_mode, for points outside: 'zeros', 'border' (the nearest pixel) or 'reflection'. align_corners: whether -1 and 1 are the
    centres of the corner pixels or (False, None) the edges of the image.

    Differentiable for input and grid; the derivative for a point on a pixel centre is that of the cell behind it, and 0 where
    padding holds a point on the border. ValueError, TypeError for shapes and dtypes that do not fit.
    """

    def prepare(input, grid, mode="bilinear", padding_mode="zeros", align_corners=None):
        name = "grid_sample"
        for label, t in (("input", input), ("grid", grid)):
            if not isinstance(t, Tensor) or t.dtype.kind != "f":
                raise TypeError(f"{name}: {label} must be a floating Tensor, got {getattr(t, 'dtype', type(t).__name__)}")
        if input.dtype != grid.dtype:
            raise TypeError(
                f"{name}: expected one dtype, got input {input.dtype} and grid {grid.dtype}; convert with .to(dtype)"
            )
        axes = input.ndim - 2
        if axes not in (2, 3) or grid.ndim != input.ndim or grid.shape[-1] != axes or grid.shape[0] != input.shape[0]:
            raise ValueError(
                f"{name}: expected input (N, C, H, W) with grid (N, H', W', 2), or input (N, C, D, H, W) with grid (N, D', H', W', 3); "
                f"got {input.shape} and {grid.shape}"
            )
        if mode not in SAMPLE_MODES:
            raise ValueError(f"{name}: mode must be one of {', '.join(SAMPLE_MODES)}, got {mode!r}")
        if mode == "bicubic" and axes != 2:
            raise ValueError(f"{name}: mode 'bicubic' needs a 4-D input, got shape {input.shape}")
        if padding_mode not in PADDING_MODES:
            raise ValueError(f"{name}: padding_mode must be one of {', '.join(PADDING_MODES)}, got {padding_mode!r}")
        if any(s < 1 for s in input.shape[2:]):
            raise ValueError(f"{name}: spatial sizes must be at least 1, got input {input.shape}")
        return input, grid, mode, padding_mode, bool(align_corners)

    def reference(
        input: Array, grid: Array, mode: str = "bilinear", padding_mode: str = "zeros", align_corners: bool | None = None
    ) -> np.ndarray:
        sizes = input.shape[2:]
        points = grid.reshape(grid.shape[0], math.prod(grid.shape[1:-1]), grid.shape[-1]).astype(np.float64)
        weights = [
            _dense_weights(_unnormalised(points[..., -1 - i], s, align_corners), s, mode, padding_mode, align_corners)
            for i, s in enumerate(sizes)
        ]
        letters = "dhw"[3 - len(sizes) :]
        rule = f"nc{letters},{','.join('np' + c for c in letters)}->ncp"
        out = np.einsum(rule, input.astype(np.float64), *weights, optimize=True)
        return out.reshape(*input.shape[:2], *grid.shape[1:-1]).astype(input.dtype)

    def compose(input, grid, mode="bilinear", padding_mode="zeros", align_corners=None):
        sizes = input.shape[2:]
        images, count = grid.shape[0], math.prod(grid.shape[1:-1])
        points = grid.reshape(images, count, len(sizes))
        index, weights = None, None
        for i, size in enumerate(sizes):
            position = _unnormalised(points[..., len(sizes) - 1 - i], size, align_corners)
            along, shares = _axis_taps(position, size, mode, padding_mode, align_corners)
            if index is None:
                index, weights = along, shares
                continue
            outside = (index[:, :, None] < 0) | (along[:, None] < 0)
            taps = index.shape[1] * along.shape[1]
            index = np.where(outside, -1, index[:, :, None] * size + along[:, None]).reshape(images, taps, count)
            weights = (weights.unsqueeze(2) * shares.unsqueeze(1)).reshape(images, taps, count)
        flat = input.reshape(*input.shape[:2], math.prod(sizes))
        return tg.sample_taps(flat, tg.from_numpy(index), weights).reshape(*input.shape[:2], *grid.shape[1:-1])


def _affine_domain(draw):
    axes = draw.choice([2, 3])
    images = draw.integer(1, 2)
    return call(draw.real((images, axes, axes + 1)), (images, 1, *draw.shape(axes, 1, 3)), draw.choice([None, True, False]))


def _base_coordinates(size: int, align_corners: bool) -> np.ndarray:
    if size == 1:
        return np.zeros(1)
    return np.linspace(-1, 1, size) * (1 if align_corners else (size - 1) / size)


@op(
    "affine_grid",
    domain=_affine_domain,
    formula="grid[n, ..., :] = theta[n] @ (x, y, 1), over the pixel centres of an image of shape `size`",
    source="arXiv:1506.02025, equation 1",
    method=False,
    laws=(Linear("theta"),),
)
class affine_grid(Composite):
    """The grid for `grid_sample` of an affine map: theta (N, 2, 3) and size (N, C, H, W) -> (N, H, W, 2); 3-D: theta (N, 3, 4),
    size (N, C, D, H, W) -> (N, D, H, W, 3). align_corners as in `grid_sample`."""

    def prepare(theta, size, align_corners=None):
        name = "affine_grid"
        if not isinstance(theta, Tensor) or theta.dtype.kind != "f":
            raise TypeError(f"{name}: theta must be a floating Tensor, got {getattr(theta, 'dtype', type(theta).__name__)}")
        size = tuple(int(s) for s in size)
        axes = len(size) - 2
        if axes not in (2, 3) or theta.shape != (size[0], axes, axes + 1):
            raise ValueError(
                f"{name}: expected theta (N, 2, 3) with size (N, C, H, W), or theta (N, 3, 4) with size (N, C, D, H, W); got theta "
                f"{theta.shape} and size {size}"
            )
        if any(s < 1 for s in size):
            raise ValueError(f"{name}: sizes must be at least 1, got {size}")
        return theta, size, bool(align_corners)

    def reference(theta: Array, size: tuple[int, ...], align_corners: bool | None = None) -> np.ndarray:
        axes = [_base_coordinates(s, align_corners) for s in size[2:]]
        places = np.stack([*np.meshgrid(*axes, indexing="ij")[::-1], np.ones(size[2:])], -1)
        return np.einsum("nij,...j->n...i", theta.astype(np.float64), places).astype(theta.dtype)

    def compose(theta, size, align_corners=None):
        spatial = size[2:]
        base = np.ones((math.prod(spatial), len(spatial) + 1))
        for i, s in enumerate(spatial):  # columns x, y, z: the last axis comes first
            shape = tuple(s if j == i else 1 for j in range(len(spatial)))
            along = _base_coordinates(s, align_corners).reshape(shape)
            base[:, len(spatial) - 1 - i] = np.broadcast_to(along, spatial).reshape(-1)
        return (tg.from_numpy(base.astype(theta.dtype)) @ theta.mT).reshape(size[0], *spatial, len(spatial))
