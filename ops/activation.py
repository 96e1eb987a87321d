"""Activations, by the names, arguments and defaults of torch.nn.functional: the piecewise linear ones, glu, maxout."""

from __future__ import annotations

from typing import Any

import numpy as np

import tinygrad_cv as tg

from ..extend import Array, Composite, Elementwise, Homogeneous, Idempotent, OneOf, Real, Tensor, call, elementwise, op
from ..random import numpy_generator
from ..replay import replayable
from .arithmetic import refuse_bool

AWAY_FROM_ZERO = Real(-2, 2, avoid=(0.0,))


def require_floating(name: str, input: Any) -> None:
    """TypeError for a tensor that is not floating."""
    if input.dtype.kind != "f":
        raise TypeError(f"{name}: expected a floating tensor, got {input.dtype}; use .float()")


@op(
    "relu",
    domain=elementwise(AWAY_FROM_ZERO),
    formula="max(input, 0)",
    kinks={0.0: 0.0},
    inplace=True,
    laws=(
        Homogeneous("input", positive=True),
        Idempotent("input"),
    ),
)
class relu(Elementwise):
    """input where it is positive, else 0. The gradient at 0 is 0. NaN stays NaN.

    inplace: write the result into input. Integers keep their dtype; TypeError for a bool tensor.
    """

    scalar = "0.0 if input <= 0.0 else input"

    def reference(input: Array, inplace: bool = False) -> np.ndarray:
        if input.dtype.kind == "b":
            raise TypeError("relu: not defined for bool tensors; convert it to integers")
        return np.maximum(input, 0)

    def grad_input(upstream, out):
        return tg.threshold_backward(upstream, out, 0.0)


@op(
    "threshold_backward",
    domain=elementwise(Real(), AWAY_FROM_ZERO, threshold=0.0),
    formula="0 where input <= threshold, else grad_output",
    method=False,
    internal=True,
)
class threshold_backward(Elementwise):
    """The gradient of `threshold` and its kin: grad_output where input exceeds the threshold (or is NaN), else 0."""

    scalar = "0.0 if input <= threshold else grad_output"
    nondiff = ("input",)

    def reference(grad_output: Array, input: Array, threshold: float = 0.0) -> np.ndarray:
        return np.where(input <= threshold, np.zeros((), grad_output.dtype), grad_output)

    def grad_grad_output(upstream, input, threshold):
        return tg.threshold_backward(upstream, input, threshold)


@op(
    "threshold",
    domain=elementwise(Real(-2, 2, avoid=(0.5,)), threshold=0.5, value=Real(-1, 1)),
    formula="input where input > threshold, else value",
    kinks=("input == threshold",),
    inplace=True,
)
class threshold(Elementwise):
    """input where it exceeds the threshold, else `value`. The gradient at the threshold is 0. NaN stays NaN."""

    scalar = "value if input <= threshold else input"

    def prepare(input, threshold, value, inplace=False):
        refuse_bool("threshold", "convert it to integers", input)
        return input, threshold, value, inplace

    def reference(input: Array, threshold: float, value: float, inplace: bool = False) -> np.ndarray:
        return np.where(input <= threshold, value, input).astype(input.dtype)

    def grad_input(upstream, input, threshold):
        return tg.threshold_backward(upstream, input, threshold)


@op(
    "leaky_relu",
    domain=elementwise(AWAY_FROM_ZERO, negative_slope=OneOf((0.01, 0.3))),
    formula="input where input > 0, else negative_slope * input",
    kinks={0.0: 0.01},
    source="Maas, Hannun, Ng: Rectifier nonlinearities improve neural network acoustic models (ICML 2013)",
    inplace=True,
    laws=(Homogeneous("input", positive=True),),
)
class leaky_relu(Elementwise):
    """input where it is positive, else negative_slope * input. The gradient at 0 is negative_slope. Floating dtypes only."""

    scalar = "input if input > 0.0 else negative_slope * input"

    def prepare(input, negative_slope=0.01, inplace=False):
        require_floating("leaky_relu", input)
        return input, negative_slope, inplace

    def reference(input: Array, negative_slope: float = 0.01, inplace: bool = False) -> np.ndarray:
        return np.where(input > 0, input, float(negative_slope) * input)

    def grad_input(upstream, input, negative_slope):
        return tg.where(input > 0, upstream, upstream * negative_slope)


def _random_slopes(input: np.ndarray, lower: float, upper: float) -> np.ndarray:
    """What `rrelu` multiplies each element with while training: 1 where it is positive or NaN, else uniform on [lower, upper]."""
    return np.where(input <= 0, numpy_generator().uniform(lower, upper, input.shape), 1).astype(input.dtype)


@replayable(local=True)
def _slopes(input: Tensor, lower: float, upper: float) -> Tensor:
    return tg.from_numpy(_random_slopes(input._data, lower, upper))


@op(
    "rrelu",
    domain=elementwise(AWAY_FROM_ZERO, lower=OneOf((0.125, 0.0)), upper=OneOf((0.5, 0.125)), training=OneOf((False, True))),
    formula="input where input > 0, else a * input, a uniform on [lower, upper]",
    kinks=("input == 0: derivative a",),
    source="Xu, Wang, Chen, Li: Empirical evaluation of rectified activations (arXiv:1505.00853), section 2.4",
    method=False,
    inplace=True,
)
class rrelu(Composite):
    """input where it is positive, else a * input: a drawn for each element from [lower, upper] in training, otherwise their middle.

    The gradient at 0 is a. Floating dtypes only; ValueError for lower > upper.
    """

    random = True

    def prepare(input, lower=1 / 8, upper=1 / 3, training=False, inplace=False):
        require_floating("rrelu", input)
        if lower > upper:
            raise ValueError(f"rrelu: lower must not exceed upper, got {lower} and {upper}")
        return input, float(lower), float(upper), bool(training), bool(inplace)

    def reference(
        input: Array, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, inplace: bool = False
    ) -> np.ndarray:
        if training:
            return input * _random_slopes(input, lower, upper)
        return np.where(input > 0, input, input.dtype.type((lower + upper) / 2) * input)

    def compose(input, lower=1 / 8, upper=1 / 3, training=False, inplace=False):
        if training:
            return input * _slopes(input, lower, upper)
        return tg.leaky_relu(input, (lower + upper) / 2)


def _prelu_domain(draw):
    shape = draw.shape((1, 4))
    channels = shape[1] if len(shape) > 1 else 1
    return call(draw.real(shape, -2, 2, (0.0,)), draw.real((draw.choice([1, channels]),), 0.1, 0.5))


@op(
    "prelu",
    domain=_prelu_domain,
    formula="input where input > 0, else weight * input",
    kinks=("input == 0",),
    source="He, Zhang, Ren, Sun: Delving deep into rectifiers (arXiv:1502.01852), equation 1",
)
class prelu(Composite):
    """input where it is positive, else weight * input, with a learned weight. The gradient at 0 is weight.

    input: (N, C, ...); weight: (C,), one for each channel, or one element for all. ValueError for another number of weights.
    """

    def prepare(input, weight):
        require_floating("prelu", input)
        channels = input.shape[1] if input.ndim > 1 else 1
        if weight.ndim > 1 or weight.numel() not in (1, channels):
            raise ValueError(
                f"prelu: input of shape {input.shape} needs weights of shape (1,) or ({channels},), got {weight.shape}"
            )
        return input, weight

    def compose(input, weight):
        weight = weight.reshape((-1,) + (1,) * (input.ndim - 2) if input.ndim > 1 else (1,) * input.ndim)
        return tg.where(input > 0, input, weight * input)

    def reference(input: Array, weight: Array) -> np.ndarray:
        if input.ndim < 2:
            return np.where(input > 0, input, weight.item() * input)
        return np.where(input > 0, input, np.moveaxis(np.moveaxis(input, 1, -1) * weight, -1, 1))


@op(
    "hardtanh",
    domain=elementwise(Real(-2, 2, avoid=(-1.0, 1.0)), max_val=1.0),
    formula="min(max(input, min_val), max_val)",
    kinks={-1.0: 0.0, 1.0: 0.0},
    inplace=True,
    laws=(Idempotent("input"),),
)
class hardtanh(Elementwise):
    """input limited to [min_val, max_val]. The gradient at both bounds is 0. ValueError for min_val > max_val."""

    scalar = "minimum(maximum(input, min_val), max_val)"

    def prepare(input, min_val=-1.0, max_val=1.0, inplace=False):
        refuse_bool("hardtanh", "convert it to integers", input)
        if min_val > max_val:
            raise ValueError(f"hardtanh: min_val must not exceed max_val, got {min_val} and {max_val}")
        return input, min_val, max_val, inplace

    def reference(input: Array, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> np.ndarray:
        return np.minimum(np.maximum(input, min_val), max_val).astype(input.dtype)

    def grad_input(upstream, input, min_val, max_val):
        return tg.where((input <= min_val) | (input >= max_val), 0.0, upstream)


@op(
    "relu6",
    domain=elementwise(Real(-2, 8, avoid=(0.0, 6.0))),
    formula="min(max(input, 0), 6)",
    kinks={0.0: 0.0, 6.0: 0.0},
    laws=(Idempotent("input"),),
)
class relu6(Elementwise):
    """input limited to [0, 6]. The gradient at both bounds is 0."""

    scalar = "minimum(maximum(input, 0.0), 6.0)"

    def prepare(input, inplace=False):
        refuse_bool("relu6", "convert it to integers", input)
        return input, inplace

    def reference(input: Array, inplace: bool = False) -> np.ndarray:
        return np.minimum(np.maximum(input, 0), 6)

    def grad_input(upstream, input):
        return tg.where((input <= 0) | (input >= 6), 0.0, upstream)


@op(
    "hardsigmoid",
    domain=elementwise(Real(-5, 5, avoid=(-3.0, 3.0))),
    formula="min(max(input + 3, 0), 6) / 6",
    kinks={-3.0: 0.0, 3.0: 0.0},
)
class hardsigmoid(Elementwise):
    """A piecewise linear logistic function: 0 below -3, 1 above 3, input / 6 + 1 / 2 between. The gradient at both kinks is 0.

    Floating dtypes only.
    """

    scalar = "minimum(maximum(input + 3.0, 0.0), 6.0) / 6.0"

    def prepare(input, inplace=False):
        require_floating("hardsigmoid", input)
        return input, inplace

    def reference(input: Array, inplace: bool = False) -> np.ndarray:
        return np.minimum(np.maximum(input + 3, 0), 6) / 6

    def grad_input(upstream, input):
        return tg.where((input > -3) & (input < 3), upstream / 6.0, 0.0)


@op(
    "hardswish",
    domain=elementwise(Real(-5, 5, avoid=(-3.0, 3.0))),
    formula="input * min(max(input + 3, 0), 6) / 6",
    kinks={-3.0: 0.0, 3.0: 1.0},
    source="Howard et al.: Searching for MobileNetV3 (arXiv:1905.02244), section 5.2",
)
class hardswish(Elementwise):
    """input * hardsigmoid(input). The gradient is 0 at -3 and 1 at 3. Floating dtypes only."""

    scalar = "input * minimum(maximum(input + 3.0, 0.0), 6.0) / 6.0"

    def prepare(input, inplace=False):
        require_floating("hardswish", input)
        return input, inplace

    def reference(input: Array, inplace: bool = False) -> np.ndarray:
        return input * np.minimum(np.maximum(input + 3, 0), 6) / 6

    def grad_input(upstream, input):
        return tg.where(input <= -3, 0.0, tg.where(input < 3, upstream * (input / 3.0 + 0.5), upstream))


@op(
    "softshrink",
    domain=elementwise(Real(-2, 2, avoid=(-0.5, 0.5)), lambd=0.5),
    formula="input - lambd where input > lambd, input + lambd where input < -lambd, else 0",
    kinks={-0.5: 0.0, 0.5: 0.0},
)
class softshrink(Elementwise):
    """input moved towards 0 by lambd, and 0 within [-lambd, lambd]. The gradient at both ends is 0.

    Floating dtypes only; ValueError for a negative lambd.
    """

    scalar = "input - minimum(maximum(input, -lambd), lambd)"

    def prepare(input, lambd=0.5):
        require_floating("softshrink", input)
        if lambd < 0:
            raise ValueError(f"softshrink: lambd must not be negative, got {lambd}")
        return input, lambd

    def reference(input: Array, lambd: float = 0.5) -> np.ndarray:
        return input - np.minimum(np.maximum(input, -float(lambd)), float(lambd))

    def grad_input(upstream, input, lambd):
        return tg.where((input >= -lambd) & (input <= lambd), 0.0, upstream)


@op(
    "hardshrink",
    domain=elementwise(Real(-2, 2, avoid=(-0.5, 0.5)), lambd=0.5),
    formula="input where |input| > lambd, else 0",
    kinks={-0.5: 0.0, 0.5: 0.0},
)
class hardshrink(Elementwise):
    """input where its magnitude exceeds lambd, else 0. The gradient at -lambd and lambd is 0. Floating dtypes only."""

    scalar = "0.0 if abs(input) <= lambd else input"

    def prepare(input, lambd=0.5):
        require_floating("hardshrink", input)
        return input, lambd

    def reference(input: Array, lambd: float = 0.5) -> np.ndarray:
        return np.where(np.abs(input) <= lambd, 0, input).astype(input.dtype)

    def grad_input(upstream, input, lambd):
        return tg.where((input >= -lambd) & (input <= lambd), 0.0, upstream)


def _glu_domain(draw):
    shape = list(draw.shape((1, 3), high=3))
    dim = draw.integer(-len(shape), len(shape) - 1)
    shape[dim] *= 2
    return call(draw.real(shape), dim)


@op(
    "glu",
    domain=_glu_domain,
    formula="a * sigmoid(b), a and b the halves of input along dim",
    source="Dauphin, Fan, Auli, Grangier: Language modeling with gated convolutional networks (arXiv:1612.08083), equation 1",
)
class glu(Composite):
    """The gated linear unit: the first half of input along `dim` times the logistic function of the second half.

    Floating dtypes only; ValueError for an odd size along dim or a 0-d tensor, IndexError for a dim that does not exist.
    """

    def prepare(input, dim=-1):
        require_floating("glu", input)
        if not input.ndim:
            raise ValueError("glu: a 0-d tensor has no halves")
        if not -input.ndim <= dim < input.ndim:
            raise IndexError(f"glu: dim {dim} is out of range for shape {input.shape}")
        if input.shape[dim] % 2:
            raise ValueError(f"glu: axis {dim} of shape {input.shape} has odd size {input.shape[dim]}; it must be even")
        return input, dim % input.ndim

    def compose(input, dim=-1):
        half = input.shape[dim] // 2
        before = (slice(None),) * dim
        return input[(*before, slice(half))] * tg.sigmoid(input[(*before, slice(half, None))])

    def reference(input: Array, dim: int = -1) -> np.ndarray:
        a, b = np.split(input, 2, axis=dim)
        return a / (1 + np.exp(-b))


def _maxout_domain(draw):
    shape = list(draw.shape((2, 4), high=2))
    dim = draw.integer(-len(shape), len(shape) - 1)
    pool_size = draw.integer(1, 3)
    shape[dim] *= pool_size
    return call(draw.distinct(shape), pool_size, dim)


@op(
    "maxout",
    domain=_maxout_domain,
    formula="out[:, k] = max over j < pool_size of input[:, k * pool_size + j]",
    kinks=("two of the largest elements of a group are equal",),
    source="Goodfellow, Warde-Farley, Mirza, Courville, Bengio: Maxout networks (arXiv:1302.4389), section 2",
)
class maxout(Composite):
    """The largest of each `pool_size` neighbours along `dim`, the channels: (N, C, ...) gives (N, C / pool_size, ...).

    Equal largest elements share the gradient. ValueError where pool_size does not divide the size along dim, IndexError for a
    dim that does not exist.
    """

    def prepare(input, pool_size, dim=1):
        if not -input.ndim <= dim < input.ndim:
            raise IndexError(f"maxout: dim {dim} is out of range for shape {input.shape}")
        if pool_size < 1 or input.shape[dim] % pool_size:
            raise ValueError(f"maxout: pool_size {pool_size} must be positive and divide size {input.shape[dim]} of axis {dim}")
        return input, pool_size, dim % input.ndim

    def compose(input, pool_size, dim=1):
        shape = input.shape
        return input.reshape((*shape[:dim], shape[dim] // pool_size, pool_size, *shape[dim + 1 :])).amax(dim + 1)

    def reference(input: Array, pool_size: int, dim: int = 1) -> np.ndarray:
        groups = [np.take(input, np.arange(j, input.shape[dim], pool_size), axis=dim) for j in range(pool_size)]
        return np.max(groups, axis=0)
