"""Dropout in its forms: random numbers come from the package's generator, so that `tg.manual_seed` fixes them.

The operators with a name ending in `dropout` draw a mask and hand it to `masked_scale`, which is all that backward sees.
"""

from __future__ import annotations

import math

import numpy as np

import tinygrad_cv as tg

from .._state import state
from ..extend import Array, Booleans, Composite, Elementwise, Op, Real, Tensor, call, elementwise, op
from ..random import numpy_generator
from ..replay import replayable

# alpha_dropout sets what it drops to the value that SELU tends to for -infinity: -alpha * scale (arXiv:1706.02515, appendix).
_SELU_FLOOR = -1.6732632423543772 * 1.0507009873554805


def draw_mask(shape: tuple[int, ...], p: float) -> np.ndarray:
    """Booleans that are False with probability `p`, to 32 bits, from the default generator."""
    size = math.prod(shape)
    if p <= 0.0 or p >= 1.0:
        return np.full(shape, p <= 0.0)
    words = numpy_generator().bit_generator.random_raw((size + 1) // 2).view(np.uint32)[:size]
    return (words >= np.uint32(p * 2**32)).reshape(shape)


@replayable(local=True)
def _drawn(shape: tuple[int, ...], p: float) -> Tensor:
    """`draw_mask` as a tensor."""
    return tg.from_numpy(draw_mask(shape, p))


@op(
    "masked_scale",
    domain=elementwise(Real(), Booleans(), scale=Real(0.5, 2)),
    formula="scale * input where mask, else 0",
    method=False,
    internal=True,
)
class masked_scale(Elementwise):
    """scale * input where `mask`, else 0: dropout once its mask is drawn. The mask broadcasts."""

    scalar = "scale * input if mask else 0.0"
    promotes = ("input",)
    nondiff = ("mask",)

    def reference(input: Array, mask: Array, scale: float) -> np.ndarray:
        return np.where(mask, input * input.dtype.type(scale), input.dtype.type(0))

    def grad_input(upstream, mask, scale):
        return tg.masked_scale(upstream, mask, scale)


@op(
    "masked_affine",
    domain=elementwise(Real(), Booleans(), scale=Real(0.5, 2), shift=Real(), floor=Real()),
    formula="scale * input + shift where mask, else floor",
    method=False,
    internal=True,
)
class masked_affine(Elementwise):
    """scale * input + shift where `mask`, else floor: alpha dropout once its mask is drawn. The mask broadcasts."""

    scalar = "scale * input + shift if mask else floor"
    promotes = ("input",)
    nondiff = ("mask",)

    def reference(input: Array, mask: Array, scale: float, shift: float, floor: float) -> np.ndarray:
        number = input.dtype.type
        return np.where(mask, input * number(scale) + number(shift), number(floor))

    def grad_input(upstream, mask, scale):
        return tg.masked_scale(upstream, mask, scale)


@op(
    "dropout_with_mask",
    domain=lambda draw: call(draw.real(draw.shape((0, 2))), draw.choice([0.5, 0.25])),
    formula="(input * m / (1 - p), m), m = 0 with probability p, else 1",
    kernels={"cpu": "tinygrad_cv.ops.cpu.dropout:dropout_with_mask"},
    source="Salmon et al., SC 2011 (the counter-based random numbers)",
    method=False,
    internal=True,
)
class dropout_with_mask(Op):
    """`dropout` of every element, 0 < p < 1, with the mask: a pair (out, mask), made in one pass."""

    outputs = ("out", "mask")
    random = True

    def reference(input: Array, p: float) -> tuple[np.ndarray, np.ndarray]:
        mask = draw_mask(input.shape, p)
        kind = input.dtype.type
        return np.where(mask, input * kind(1.0 / (1.0 - p)), kind(0)), mask

    def grad_input(upstream, mask, p):
        return tg.masked_scale(upstream, mask, 1.0 / (1.0 - p))


def _check(name: str, input, p: float, training: bool, inplace: bool, ndims: tuple[int, ...] | None = None):
    if not isinstance(input, Tensor):
        raise TypeError(f"{name}: expected a Tensor, got {type(input).__name__}")
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"{name}: the dropout probability p must lie in [0, 1], got {p}")
    if ndims is not None and input.ndim not in ndims:
        raise ValueError(f"{name}: expected an input of {' or '.join(map(str, ndims))} axes, got shape {input.shape}")
    if training and p > 0 and input.dtype.kind != "f":
        raise TypeError(f"{name}: expected a floating tensor, got {input.dtype}; use .float()")
    return input, float(p), bool(training), bool(inplace)


def _channel_mask_shape(shape: tuple[int, ...], batched_ndim: int) -> tuple[int, ...]:
    """The shape of a mask with one value for each channel: (N, C, 1, ...), or (C, 1, ...) without a batch axis."""
    kept = 2 if len(shape) >= batched_ndim else 1
    return shape[:kept] + (1,) * (len(shape) - kept)


def _drop(input: np.ndarray, shape: tuple[int, ...], p: float, training: bool) -> np.ndarray:
    """Dropout in NumPy, with the mask of the given shape drawn as `_dropped` draws it."""
    if not training or p == 0.0:
        return input.copy()
    factor = draw_mask(shape, p) / (1 - p) if p < 1.0 else np.zeros(shape)
    return (input * factor).astype(input.dtype)


def _dropped(input: Tensor, shape: tuple[int, ...], p: float, training: bool) -> Tensor:
    if not training or p == 0.0:
        return input
    if shape == input.shape and p < 1.0 and state.capture is None:  # a plan fuses the second step with its neighbours
        return tg.dropout_with_mask(input, p).out
    return tg.masked_scale(input, _drawn(shape, p), 1.0 / (1.0 - p) if p < 1.0 else 0.0)


def _alpha_terms(p: float) -> tuple[float, float, float]:
    """scale, shift and floor with which values of mean 0 and variance 1 keep both after a share `p` of them is dropped."""
    if p >= 1.0:
        return 0.0, 0.0, 0.0
    scale = ((1 - p) * (1 + p * _SELU_FLOOR**2)) ** -0.5
    shift = -scale * p * _SELU_FLOOR
    return scale, shift, scale * _SELU_FLOOR + shift


def _alpha_drop(input: np.ndarray, shape: tuple[int, ...], p: float, training: bool) -> np.ndarray:
    if not training or p == 0.0:
        return input.copy()
    scale, shift, _ = _alpha_terms(p)
    mask = draw_mask(shape, p)
    return (scale * np.where(mask, input, _SELU_FLOOR) + shift).astype(input.dtype)


def _alpha_dropped(input: Tensor, shape: tuple[int, ...], p: float, training: bool) -> Tensor:
    if not training or p == 0.0:
        return input
    return tg.masked_affine(input, _drawn(shape, p), *_alpha_terms(p))


def _domain(*shapes):
    def domain(draw):
        return call(draw.real(draw.choice(shapes)), draw.choice([0.5, 0.25, 0.0, 1.0]), draw.choice([True, True, False]))

    return domain


_FORMULA = "input * m / (1 - p), m = 0 with probability p, else 1"
_CHANNEL_FORMULA = "input * m / (1 - p), m = 0 with probability p, else 1, one m for each channel"


@op("dropout", domain=_domain((2, 3), (5,), ()), formula=_FORMULA, source="Srivastava et al. 2014, JMLR 15", method=False)
class dropout(Composite):
    """Sets each element to 0 with probability `p` and divides the rest by 1 - p, in training; the identity otherwise.

    p = 0 is the identity, p = 1 gives zeros. ValueError for p outside [0, 1]; TypeError for a tensor that is not floating.
    """

    random = True

    def prepare(input, p=0.5, training=True, inplace=False):
        return _check("dropout", input, p, training, inplace)

    def reference(input: Array, p: float = 0.5, training: bool = True, inplace: bool = False) -> np.ndarray:
        return _drop(input, input.shape, p, training)

    def compose(input, p=0.5, training=True, inplace=False):
        return _dropped(input, input.shape, p, training)


@op("dropout1d", domain=_domain((2, 3, 4), (3, 2)), formula=_CHANNEL_FORMULA, source="arXiv:1411.4280", method=False)
class dropout1d(Composite):
    """`dropout` of whole channels of (N, C, L) or (C, L)."""

    random = True

    def prepare(input, p=0.5, training=True, inplace=False):
        return _check("dropout1d", input, p, training, inplace, (2, 3))

    def reference(input: Array, p: float = 0.5, training: bool = True, inplace: bool = False) -> np.ndarray:
        return _drop(input, _channel_mask_shape(input.shape, 3), p, training)

    def compose(input, p=0.5, training=True, inplace=False):
        return _dropped(input, _channel_mask_shape(input.shape, 3), p, training)


@op("dropout2d", domain=_domain((2, 3, 2, 2), (3, 2, 2)), formula=_CHANNEL_FORMULA, source="arXiv:1411.4280", method=False)
class dropout2d(Composite):
    """`dropout` of whole channels of (N, C, H, W); a (N, C, L) input drops channels too, as in PyTorch."""

    random = True

    def prepare(input, p=0.5, training=True, inplace=False):
        return _check("dropout2d", input, p, training, inplace, (3, 4))

    def reference(input: Array, p: float = 0.5, training: bool = True, inplace: bool = False) -> np.ndarray:
        return _drop(input, _channel_mask_shape(input.shape, 3), p, training)

    def compose(input, p=0.5, training=True, inplace=False):
        return _dropped(input, _channel_mask_shape(input.shape, 3), p, training)


@op(
    "dropout3d", domain=_domain((2, 3, 1, 2, 2), (3, 2, 2, 1)), formula=_CHANNEL_FORMULA, source="arXiv:1411.4280", method=False
)
class dropout3d(Composite):
    """`dropout` of whole channels of (N, C, D, H, W) or (C, D, H, W)."""

    random = True

    def prepare(input, p=0.5, training=True, inplace=False):
        return _check("dropout3d", input, p, training, inplace, (4, 5))

    def reference(input: Array, p: float = 0.5, training: bool = True, inplace: bool = False) -> np.ndarray:
        return _drop(input, _channel_mask_shape(input.shape, 5), p, training)

    def compose(input, p=0.5, training=True, inplace=False):
        return _dropped(input, _channel_mask_shape(input.shape, 5), p, training)


_ALPHA_FORMULA = "a * (input where m, else -1.7581) + b, m = 0 with probability p; a and b keep mean 0 and variance 1"


@op("alpha_dropout", domain=_domain((2, 3), (5,)), formula=_ALPHA_FORMULA, source="arXiv:1706.02515", method=False)
class alpha_dropout(Composite):
    """Dropout for networks with SELU: drops to SELU's lower limit, then rescales to keep mean 0 and variance 1."""

    random = True

    def prepare(input, p=0.5, training=False, inplace=False):
        return _check("alpha_dropout", input, p, training, inplace)

    def reference(input: Array, p: float = 0.5, training: bool = False, inplace: bool = False) -> np.ndarray:
        return _alpha_drop(input, input.shape, p, training)

    def compose(input, p=0.5, training=False, inplace=False):
        return _alpha_dropped(input, input.shape, p, training)


@op(
    "feature_alpha_dropout",
    domain=_domain((2, 3, 2, 2), (2, 3)),
    formula=_ALPHA_FORMULA + ", one m for each channel",
    source="arXiv:1706.02515",
    method=False,
)
class feature_alpha_dropout(Composite):
    """`alpha_dropout` of whole channels of (N, C, ...)."""

    random = True

    def prepare(input, p=0.5, training=False, inplace=False):
        checked = _check("feature_alpha_dropout", input, p, training, inplace)
        if input.ndim < 2:
            raise ValueError(
                f"feature_alpha_dropout: expected an input of at least 2 axes (N, C, ...), got shape {input.shape}"
            )
        return checked

    def reference(input: Array, p: float = 0.5, training: bool = False, inplace: bool = False) -> np.ndarray:
        return _alpha_drop(input, _channel_mask_shape(input.shape, 2), p, training)

    def compose(input, p=0.5, training=False, inplace=False):
        return _alpha_dropped(input, _channel_mask_shape(input.shape, 2), p, training)
