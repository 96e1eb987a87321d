"""Resizing of signals, images and volumes: every mode is a short weighted sum along one axis after the other.

For an axis of `length` values resized to `size`, a table says which input positions each output reads and with what weight. The
adjoint reads the transposed table, so value, gradient and gradient of the gradient are one function.
"""

from __future__ import annotations

import functools
import math

import numpy as np

import tinygrad_cv as tg

from ..extend import Adjoint, Array, Batched, Composite, Linear, Op, Tensor, call, op

_LINEAR = {"linear": 3, "bilinear": 4, "trilinear": 5}
_SMOOTH = {**_LINEAR, "bicubic": 4}
MODES = ("nearest", "nearest-exact", "linear", "bilinear", "bicubic", "trilinear", "area")
_BYTE_MODES = ("nearest", "nearest-exact", "bilinear", "bicubic")  # those that take images of uint8
CUBIC_SHARPNESS = -0.75  # the constant a of Keys' kernel, PyTorch's and OpenCV's choice
_ANTIALIAS_SHARPNESS = -0.5  # and Pillow's, which PyTorch takes for antialias=True


def cubic_weights(t: np.ndarray | Tensor) -> list:
    """The weights of the four neighbours of a point at fraction `t` behind the second one (Keys 1981, with a = -0.75)."""
    a = CUBIC_SHARPNESS
    s = 1 - t
    outer = [((a * u - 5 * a) * u + 8 * a) * u - 4 * a for u in (t + 1, s + 1)]
    inner = [((a + 2) * u - (a + 3)) * u * u + 1 for u in (t, s)]
    return [outer[0], inner[0], inner[1], outer[1]]


@functools.lru_cache(maxsize=256)
def taps(length: int, size: int, kind: str, align_corners: bool, scale: float | None) -> tuple[np.ndarray, np.ndarray]:
    """For each of `size` outputs the input positions it reads and their weights, both (size, k).

    kind: 'nearest', 'nearest-exact', 'linear', 'cubic', 'linear_antialias', 'cubic_antialias' or 'area'. scale: output pixels for
    each input pixel, None for size / length.
    """
    steps = np.arange(size)
    if kind == "area":
        starts, ends = steps * length // size, -((-(steps + 1) * length) // size)
        width = int((ends - starts).max(initial=1))
        index = starts[:, None] + np.arange(width)
        inside = index < ends[:, None]
        return np.where(inside, index, starts[:, None]), inside / (ends - starts)[:, None]
    if kind.startswith("nearest"):
        # In single precision, as PyTorch: which of two pixels is nearest must not depend on the extra digits.
        ratio = np.float32(length / size if scale is None else 1.0 / scale)
        if kind == "nearest" and size == length:
            index = steps
        elif kind == "nearest" and size == 2 * length:
            index = steps // 2
        else:
            offset = np.float32(0.5 if kind == "nearest-exact" else 0.0)
            index = np.floor((steps.astype(np.float32) + offset) * ratio).astype(np.int64)
        return np.clip(index, 0, length - 1)[:, None], np.ones((size, 1))
    if align_corners:
        ratio = (length - 1) / (size - 1) if size > 1 else 0.0
    else:
        ratio = length / size if scale is None else 1.0 / scale
    if kind.endswith("antialias"):
        return _antialias_taps(length, size, kind, ratio)
    position = steps * ratio if align_corners else (steps + 0.5) * ratio - 0.5
    if kind == "linear":
        position = np.clip(position, 0, length - 1)
        first = np.minimum(np.floor(position).astype(np.int64), length - 1)
        t = position - first
        return np.stack([first, np.minimum(first + 1, length - 1)], 1), np.stack([1 - t, t], 1)
    first = np.floor(position)
    index = first.astype(np.int64)[:, None] + np.arange(-1, 3)
    return np.clip(index, 0, length - 1), np.stack(cubic_weights(position - first), 1)


@functools.lru_cache(maxsize=256)
def transposed_taps(
    length: int, size: int, kind: str, align_corners: bool, scale: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """The table of the adjoint: for each of the `length` input positions the outputs that read it, padded with weight 0."""
    index, weights = taps(length, size, kind, align_corners, scale)
    used = weights.reshape(-1) != 0
    source, target = index.reshape(-1)[used], np.repeat(np.arange(size), index.shape[1])[used]
    order = np.argsort(source, kind="stable")
    source, target, values = source[order], target[order], weights.reshape(-1)[used][order]
    counts = np.bincount(source, minlength=length)
    place = np.arange(len(source)) - np.repeat(np.cumsum(counts) - counts, counts)
    width = max(int(counts.max(initial=0)), 1)
    back, shares = np.zeros((length, width), np.int64), np.zeros((length, width))
    back[source, place], shares[source, place] = target, values
    return back, shares


def _antialias_taps(length: int, size: int, kind: str, ratio: float) -> tuple[np.ndarray, np.ndarray]:
    """The table of 'linear_antialias' and 'cubic_antialias': the kernel is stretched by `ratio`, input pixels for each output pixel,
    where that is above 1, and what is left of it inside the image is scaled to sum 1.
    """
    reach = 1 if kind == "linear_antialias" else 2
    stretch = max(ratio, 1.0)
    centre = ratio * (np.arange(size) + 0.5)
    first = np.maximum((centre - reach * stretch + 0.5).astype(np.int64), 0)
    last = np.minimum((centre + reach * stretch + 0.5).astype(np.int64), length)
    index = first[:, None] + np.arange(int((last - first).max()))
    distance = np.abs(index + 0.5 - centre[:, None]) / stretch
    if reach == 1:
        weights = np.maximum(1 - distance, 0)
    else:
        a = _ANTIALIAS_SHARPNESS
        inner = ((a + 2) * distance - (a + 3)) * distance * distance + 1
        outer = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
        weights = np.where(distance < 1, inner, np.where(distance < 2, outer, 0))
    weights[index >= last[:, None]] = 0
    total = weights.sum(1, keepdims=True)
    return np.minimum(index, length - 1), weights / np.where(total == 0, 1, total)


def apply_taps(input: np.ndarray, dim: int, index: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """out[..., o, ...] = sum_k weights[o, k] * input[..., index[o, k], ...] along axis `dim`."""
    shape = tuple(-1 if i == dim else 1 for i in range(input.ndim))
    if index.shape[1] == 1 and (weights == 1).all():
        return input.take(index[:, 0], axis=dim)
    if input.dtype == np.uint8:
        return _apply_to_bytes(input, dim, index, weights)
    if input.dtype == np.float16:
        return apply_taps(input.astype(np.float32), dim, index, weights).astype(input.dtype)
    weights = weights.astype(input.dtype)
    out = np.zeros((*input.shape[:dim], len(index), *input.shape[dim + 1 :]), input.dtype)
    for k in range(index.shape[1]):
        out += input.take(index[:, k], axis=dim) * weights[:, k].reshape(shape)
    return out


def _apply_to_bytes(input: np.ndarray, dim: int, index: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """`apply_taps` for uint8, rounded to uint8: in integers, with weights of 15 bits, as PyTorch (and Pillow) computes it."""
    matrix = np.zeros((len(index), input.shape[dim]))
    np.add.at(matrix, (np.arange(len(index))[:, None], index), weights)
    bits = 0
    while bits < 22 and int(0.5 + matrix.max() * (1 << (bits + 1))) < 1 << 15:
        bits += 1
    scaled = matrix * (1 << bits)
    whole = np.trunc(scaled + np.where(scaled < 0, -0.5, 0.5)).astype(np.int64)
    sums = np.moveaxis(np.tensordot(whole, input.astype(np.int64), (1, dim)), 0, dim)
    return np.clip((sums + ((1 << bits) >> 1)) >> bits, 0, 255).astype(np.uint8)


def _axis_attributes(draw):
    kind = draw.choice(["linear", "nearest", "nearest-exact", "cubic", "area", "linear_antialias", "cubic_antialias"])
    align = kind.startswith(("linear", "cubic")) and draw.boolean()
    scale = None if align or kind == "area" else draw.choice([None, 1.4])
    return draw.integer(1, 6), kind, align, scale


def _axis_domain(draw):
    size, *rest = _axis_attributes(draw)
    shape = draw.shape(3)
    return call(draw.real(shape), draw.integer(0, 2), size, *rest)


@op(
    "interpolate_axis",
    domain=_axis_domain,
    formula="out[o] = sum_k weight[o, k] * input[index[o, k]] along dim",
    kernels={"cpu": "tinygrad_cv.ops.cpu.sampling:interpolate_axis"},
    method=False,
    internal=True,
    laws=(
        Linear("input"),
        Adjoint(
            "input",
            of="interpolate_axis_backward",
            by=lambda y, input, dim, kind, align_corners, scale: (y, dim, input.shape[dim], kind, align_corners, scale),
        ),
    ),
)
class interpolate_axis(Op):
    """One axis of `input` resized to `size`. kind: 'nearest', 'nearest-exact', 'linear', 'cubic', 'area', or 'linear_antialias' and
    'cubic_antialias', whose kernels are as wide as an output pixel where that is wider than an input pixel.

    scale: output pixels for each input pixel, used for the positions; None for the ratio of the sizes.
    """

    def reference(input: Array, dim: int, size: int, kind: str, align_corners: bool, scale: float | None) -> np.ndarray:
        return apply_taps(input, dim, *taps(input.shape[dim], size, kind, align_corners, scale))

    def grad_input(upstream, ctx, dim, kind, align_corners, scale):
        return tg.interpolate_axis_backward(upstream, dim, ctx.input_shapes[0][dim], kind, align_corners, scale)


def _axis_backward_domain(draw):
    length, *rest = _axis_attributes(draw)
    return call(draw.real(draw.shape(3)), draw.integer(0, 2), length, *rest)


@op(
    "interpolate_axis_backward",
    domain=_axis_backward_domain,
    formula="out[index[o, k]] += weight[o, k] * grad_output[o] along dim",
    kernels={"cpu": "tinygrad_cv.ops.cpu.sampling:interpolate_axis_backward"},
    method=False,
    internal=True,
)
class interpolate_axis_backward(Op):
    """The adjoint of `interpolate_axis`: spreads each value back over the `length` positions that it was read from."""

    def reference(grad_output: Array, dim: int, length: int, kind: str, align_corners: bool, scale: float | None) -> np.ndarray:
        return apply_taps(grad_output, dim, *transposed_taps(length, grad_output.shape[dim], kind, align_corners, scale))

    def grad_grad_output(upstream, ctx, dim, kind, align_corners, scale):
        return tg.interpolate_axis(upstream, dim, ctx.input_shapes[0][dim], kind, align_corners, scale)


def _numbers(name: str, label: str, value, axes: int, kind) -> tuple:
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * axes
    if len(values) != axes:
        raise ValueError(f"{name}: {label} must be one number or {axes}, one for each spatial axis; got {value}")
    for v in values:
        if isinstance(v, bool) or not isinstance(v, kind):
            raise TypeError(f"{name}: {label} must hold {'integers' if kind is int else 'numbers'}, got {value}")
    return values


def _interpolate_domain(draw):
    mode = draw.choice(MODES)
    ndim = _SMOOTH.get(mode) or draw.integer(3, 5)
    shape = (1, draw.integer(1, 2), *draw.shape(ndim - 2, 1, 4 if ndim < 5 else 3))
    align = draw.choice([None, True, False]) if mode in _SMOOTH else None
    options = {"antialias": draw.boolean()} if mode in ("bilinear", "bicubic") else {}
    if draw.boolean():
        size = draw.shape(ndim - 2, 1, 5 if ndim < 5 else 3)
        return call(draw.real(shape), size=size, mode=mode, align_corners=align, **options)
    scale = draw.choice([2, 1.6, (1.5,) * (ndim - 2)])
    options["recompute_scale_factor"] = draw.choice([None, True])
    return call(draw.real(shape), scale_factor=scale, mode=mode, align_corners=align, **options)


def _upsample_domain(draw):
    drawn = _interpolate_domain(draw)
    own = ("size", "scale_factor", "mode", "align_corners")
    return call(*drawn.args, **{name: value for name, value in drawn.kwargs.items() if name in own})


def _dense(length: int, size: int, kind: str, align_corners: bool, scale: float | None) -> np.ndarray:
    """The (size, length) matrix of one axis, from the shape of the interpolation kernel: a box, a hat or Keys' cubic."""
    matrix = np.zeros((size, length))
    for o in range(size):
        ratio = length / size if scale is None else 1 / scale
        if kind == "area":
            cells = range(math.floor(o * length / size), math.ceil((o + 1) * length / size))
            matrix[o, list(cells)] = 1 / len(cells)
            continue
        if kind.startswith("nearest"):
            at = np.float32(o + (0.5 if kind == "nearest-exact" else 0)) * np.float32(ratio)
            matrix[o, min(math.floor(at), length - 1)] = 1
            continue
        if kind.endswith("antialias"):
            ratio = (length - 1) / max(size - 1, 1) if align_corners else ratio
            d, a = np.abs((np.arange(length) + 0.5 - (o + 0.5) * ratio) / max(ratio, 1)), _ANTIALIAS_SHARPNESS
            keys = np.where(d < 1, (a + 2) * d**3 - (a + 3) * d**2 + 1, a * (d**3 - 5 * d**2 + 8 * d - 4) * (d < 2))
            weights = np.maximum(0, 1 - d) if kind.startswith("linear") else keys
            matrix[o] = weights / weights.sum()
            continue
        centre = o * (length - 1) / max(size - 1, 1) if align_corners else (o + 0.5) * ratio - 0.5
        if kind == "linear":
            matrix[o] = np.maximum(0, 1 - np.abs(np.clip(centre, 0, length - 1) - np.arange(length)))
            continue
        for i in range(math.floor(centre) - 1, math.floor(centre) + 3):
            d, a = abs(centre - i), CUBIC_SHARPNESS
            value = (a + 2) * d**3 - (a + 3) * d**2 + 1 if d <= 1 else a * (d**3 - 5 * d**2 + 8 * d - 4)
            matrix[o, min(max(i, 0), length - 1)] += value
    return matrix


def _kind(mode: str, antialias: bool) -> str:
    """What `interpolate_axis` calls the mode along one axis."""
    kind = {"bilinear": "linear", "trilinear": "linear", "bicubic": "cubic"}.get(mode, mode)
    return f"{kind}_antialias" if antialias else kind


@op(
    "interpolate",
    domain=_interpolate_domain,
    formula="out[o] = sum_i w(o, i) * input[i], axis by axis",
    source="bicubic: Keys 1981, with a = -0.75 (antialias: a = -0.5)",
    method=False,
    laws=(
        Linear("input"),
        Batched("input", core=2),
    ),
)
class interpolate(Composite):
    """Resizes the spatial axes of (N, C, L), (N, C, H, W) or (N, C, D, H, W) to `size`, or by `scale_factor`.

    mode: 'nearest' (the pixel at floor(o * ratio)), 'nearest-exact' (the pixel whose centre is nearest), 'linear' (3-D input),
    'bilinear' and 'bicubic' (4-D), 'trilinear' (5-D), 'area' (the mean over the pixels covered). align_corners (linear and cubic
    modes): True puts the centres of the corner pixels on each other, False (None) the corners of the images.
    recompute_scale_factor: True takes the ratio of the sizes, not `scale_factor`, for the positions. antialias: True ('bilinear' and
    'bicubic') widens the kernel where the image shrinks, so that every pixel counts; bicubic then has a = -0.5.

    The nearest modes, 'bilinear' and 'bicubic' also take uint8 and round to it, after each axis, the last axis first.

    ValueError for a mode that does not fit the axes or antialias, and for both or neither of size and scale_factor.
    """

    def prepare(
        input, size=None, scale_factor=None, mode="nearest", align_corners=None, recompute_scale_factor=None, antialias=False
    ):
        name = "interpolate"
        if mode not in MODES:
            raise ValueError(f"{name}: mode must be one of {', '.join(MODES)}, got {mode!r}")
        bytes_too = mode in _BYTE_MODES
        if not isinstance(input, Tensor) or not (input.dtype.kind == "f" or (bytes_too and input.dtype == np.uint8)):
            raise TypeError(
                f"{name}: mode {mode!r} expects a floating Tensor{' or one of uint8' if bytes_too else ''}, got "
                f"{getattr(input, 'dtype', type(input).__name__)}; use .float()"
            )
        if antialias and mode not in ("bilinear", "bicubic"):
            raise ValueError(f"{name}: antialias=True needs mode 'bilinear' or 'bicubic', got {mode!r}")
        axes = input.ndim - 2
        if not 1 <= axes <= 3 or input.ndim != _SMOOTH.get(mode, input.ndim):
            wanted = _SMOOTH.get(mode, "3, 4 or 5")
            raise ValueError(
                f"{name}: mode {mode!r} needs an input of {wanted} axes (N, C, spatial ...), got shape {input.shape}"
            )
        if align_corners is not None and mode not in _SMOOTH:
            raise ValueError(f"{name}: align_corners has a meaning only for {', '.join(_SMOOTH)}, not for mode {mode!r}")
        if (size is None) == (scale_factor is None):
            raise ValueError(f"{name}: give either size or scale_factor, got size={size}, scale_factor={scale_factor}")
        if size is not None:
            if recompute_scale_factor:
                raise ValueError(f"{name}: recompute_scale_factor has no meaning with an explicit size")
            sizes, scales = _numbers(name, "size", size, axes, int), None
        else:
            scales = tuple(float(s) for s in _numbers(name, "scale_factor", scale_factor, axes, (int, float)))
            sizes = tuple(math.floor(n * s) for n, s in zip(input.shape[2:], scales, strict=True))
            if recompute_scale_factor:
                scales = None
        if any(s < 1 for s in (*sizes, *input.shape[2:])):
            raise ValueError(f"{name}: spatial sizes must be at least 1, got {input.shape[2:]} to be resized to {sizes}")
        return input, sizes, scales, mode, bool(align_corners), None, bool(antialias)

    def reference(
        input: Array, size=None, scale_factor=None, mode: str = "nearest", align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None, antialias: bool = False,
    ) -> np.ndarray:  # fmt: skip
        out = input.astype(np.float64)
        for axis, wanted in reversed([*enumerate(size, 2)]):
            scale = None if scale_factor is None else scale_factor[axis - 2]
            if antialias and wanted == input.shape[axis]:
                continue
            matrix = _dense(input.shape[axis], wanted, _kind(mode, antialias), align_corners, scale)
            out = np.moveaxis(np.tensordot(matrix, out, (1, axis)), 0, axis)
            if input.dtype == np.uint8:
                out = np.clip(np.floor(out + 0.5), 0, 255)
        return out.astype(input.dtype)

    def compose(
        input, size=None, scale_factor=None, mode="nearest", align_corners=None, recompute_scale_factor=None, antialias=False
    ):
        kind = _kind(mode, antialias)
        if input.dtype == np.uint8:  # each axis is rounded, so the order shows: the last goes first
            growth = [(-axis, axis) for axis in range(2, input.ndim)]
        else:
            growth = [(wanted / input.shape[axis], axis) for axis, wanted in enumerate(size, 2)]
        out = input
        for _, axis in sorted(growth):  # what shrinks most goes first, which leaves least to do
            wanted = size[axis - 2]
            scale = None if scale_factor is None or align_corners or kind == "area" else scale_factor[axis - 2]
            if wanted == input.shape[axis] and (antialias or scale in (None, 1.0)):
                continue  # every mode is the identity here, and antialias takes an axis that keeps its size as it is
            out = tg.interpolate_axis(out, axis, wanted, kind, bool(align_corners), scale)
        return out if out is not input else input.clone()


@op("upsample", domain=_upsample_domain, formula="interpolate(input, size, scale_factor, mode, align_corners)", method=False)
class upsample(Composite):
    """`interpolate` by its older name."""

    def prepare(input, size=None, scale_factor=None, mode="nearest", align_corners=None):
        return tg.ops.get("interpolate").prepare(input, size, scale_factor, mode, align_corners)[:5]

    def reference(input: Array, size=None, scale_factor=None, mode: str = "nearest", align_corners: bool | None = None):
        return tg.ops.get("interpolate").reference(input, size, scale_factor, mode, align_corners)

    def compose(input, size=None, scale_factor=None, mode="nearest", align_corners=None):
        return tg.ops.get("interpolate").compose(input, size, scale_factor, mode, align_corners)
