"""Initial values of weights, written in place; every function returns its tensor.

Random values come from `tinygrad_cv.random`, so `tg.manual_seed` fixes them; `generator` uses a stream of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .._tensor import Tensor
from ..random import Generator, numpy_generator
from .parameter import overwrite


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor by which a weight's standard deviation makes up for the nonlinearity that follows.

    linear, conv, sigmoid: 1. tanh: 5/3. relu: sqrt(2). leaky_relu: sqrt(2 / (1 + slope^2)), slope 0.01 unless `param`. selu: 3/4.
    """
    if nonlinearity in ("linear", "sigmoid") or nonlinearity.startswith("conv"):
        return 1.0
    if nonlinearity == "tanh":
        return 5.0 / 3
    if nonlinearity == "relu":
        return math.sqrt(2.0)
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        if isinstance(slope, bool) or not isinstance(slope, (int, float)):
            raise ValueError(f"calculate_gain: the slope of leaky_relu must be a number, got {param!r}")
        return math.sqrt(2.0 / (1 + slope**2))
    if nonlinearity == "selu":
        return 3.0 / 4
    raise ValueError(
        f"calculate_gain: unknown nonlinearity {nonlinearity!r}; use linear, conv2d, sigmoid, tanh, relu, leaky_relu or selu"
    )


def calculate_fan_in_and_fan_out(tensor: Tensor) -> tuple[int, int]:
    """(inputs, outputs) of one unit for a weight of shape (out, in, *kernel): in * prod(kernel), out * prod(kernel)."""
    if tensor.ndim < 2:
        raise ValueError(f"fan in and fan out need a weight of at least 2 axes, got shape {tensor.shape}")
    field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


def _fill(tensor: Tensor, draw: Callable[[np.random.Generator, Any], np.ndarray], generator: Generator | None) -> Tensor:
    kind = np.float64 if tensor.dtype == np.float64 else np.float32
    overwrite(tensor, np.asarray(draw(numpy_generator(generator), kind)))
    return tensor


def constant_(tensor: Tensor, val: float) -> Tensor:
    """All elements `val`."""
    overwrite(tensor, np.asarray(val, tensor.dtype))
    return tensor


def zeros_(tensor: Tensor) -> Tensor:
    """All elements 0."""
    return constant_(tensor, 0)


def ones_(tensor: Tensor) -> Tensor:
    """All elements 1."""
    return constant_(tensor, 1)


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Uniform on [a, b)."""
    if a > b:
        raise ValueError(f"uniform_: a must not be above b, got a={a}, b={b}")
    return _fill(tensor, lambda rng, kind: rng.random(tensor.shape, kind) * kind(b - a) + kind(a), generator)


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal with the given mean and standard deviation."""
    if std < 0:
        raise ValueError(f"normal_: std must not be negative, got {std}")
    return _fill(tensor, lambda rng, kind: rng.standard_normal(tensor.shape, kind) * kind(std) + kind(mean), generator)


def trunc_normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0, generator: Generator | None = None
) -> Tensor:
    """Normal with the given mean and standard deviation, conditioned on [a, b] (absolute bounds, as in PyTorch).

    Drawn by inverting the distribution function on the interval: bisection in float64, exact to rounding.
    """
    if std <= 0 or a >= b:
        raise ValueError(f"trunc_normal_: expected std > 0 and a < b, got std={std}, a={a}, b={b}")

    def below(x: np.ndarray) -> np.ndarray:
        return 0.5 * _erfc(-x / math.sqrt(2.0))

    def draw(rng: np.random.Generator, kind: Any) -> np.ndarray:
        low, high = (a - mean) / std, (b - mean) / std
        flipped = low > 0  # work in the left tail, where the distribution function keeps its relative precision
        if flipped:
            low, high = -high, -low
        bounds = below(np.array([low, high]))
        target = bounds[0] + (bounds[1] - bounds[0]) * rng.random(tensor.shape)
        left, right = np.full(tensor.shape, max(low, -40.0)), np.full(tensor.shape, min(high, 40.0))
        for _ in range(60):
            middle = (left + right) / 2
            under = below(middle) < target
            left, right = np.where(under, middle, left), np.where(under, right, middle)
        values = (left + right) / 2
        return np.clip((-values if flipped else values) * std + mean, a, b)

    return _fill(tensor, draw, generator)


_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Uniform on [-r, r], r = gain * sqrt(6 / (fan_in + fan_out)). Glorot & Bengio, AISTATS 2010, eq. 16."""
    fan_in, fan_out = calculate_fan_in_and_fan_out(tensor)
    bound = gain * math.sqrt(6.0 / (fan_in + fan_out))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal with variance gain^2 * 2 / (fan_in + fan_out). Glorot & Bengio, AISTATS 2010, eq. 12."""
    fan_in, fan_out = calculate_fan_in_and_fan_out(tensor)
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / (fan_in + fan_out)), generator)


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"kaiming: mode must be 'fan_in' or 'fan_out', got {mode!r}")
    fan = calculate_fan_in_and_fan_out(tensor)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(fan)


def kaiming_uniform_(
    tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", generator: Generator | None = None
) -> Tensor:
    """Uniform on [-r, r], r = gain * sqrt(3 / fan); `a` is the slope of leaky_relu. He et al., ICCV 2015, arXiv:1502.01852."""
    if 0 in tensor.shape:
        return tensor
    bound = math.sqrt(3.0) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", generator: Generator | None = None
) -> Tensor:
    """Normal with standard deviation gain / sqrt(fan). He et al., ICCV 2015, arXiv:1502.01852, eq. 10 and 15."""
    if 0 in tensor.shape:
        return tensor
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity), generator)


def orthogonal_(tensor: Tensor, gain: float = 1, generator: Generator | None = None) -> Tensor:
    """A (semi-)orthogonal matrix of shape (size(0), the rest), uniform among them, times `gain`. Saxe et al., arXiv:1312.6120.

    The QR factorisation of a normal matrix, with the signs of R's diagonal moved into Q (Mezzadri, arXiv:math-ph/0609050).
    """
    if tensor.ndim < 2:
        raise ValueError(f"orthogonal_: expected at least 2 axes, got shape {tensor.shape}")
    if tensor.numel() == 0:
        return tensor
    rows = tensor.shape[0]
    columns = tensor.numel() // rows

    def draw(rng: np.random.Generator, kind: Any) -> np.ndarray:
        q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
        q = q * np.where(np.diagonal(r) < 0, -1.0, 1.0)
        return gain * (q.T if rows < columns else q).reshape(tensor.shape)

    return _fill(tensor, draw, generator)


def sparse_(tensor: Tensor, sparsity: float, std: float = 0.01, generator: Generator | None = None) -> Tensor:
    """A matrix with the fraction `sparsity` of every column 0 and the rest normal with deviation `std`. Martens, ICML 2010."""
    if tensor.ndim != 2:
        raise ValueError(f"sparse_: expected a matrix, got shape {tensor.shape}")
    rows, columns = tensor.shape
    zeros = math.ceil(sparsity * rows)

    def draw(rng: np.random.Generator, kind: Any) -> np.ndarray:
        values = rng.standard_normal(tensor.shape) * std
        for column in range(columns):
            values[rng.permutation(rows)[:zeros], column] = 0
        return values

    return _fill(tensor, draw, generator)


def eye_(tensor: Tensor) -> Tensor:
    """The identity matrix, for a 2-axis weight."""
    if tensor.ndim != 2:
        raise ValueError(f"eye_: expected a matrix, got shape {tensor.shape}")
    overwrite(tensor, np.eye(*tensor.shape, dtype=tensor.dtype))
    return tensor


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """A convolution weight (out, in, *kernel) that passes its input through: 1 at the kernel's centre where out = in."""
    if tensor.ndim not in (3, 4, 5):
        raise ValueError(f"dirac_: expected a weight of 3, 4 or 5 axes, got shape {tensor.shape}")
    if groups < 1 or tensor.shape[0] % groups:
        raise ValueError(f"dirac_: axis 0 of shape {tensor.shape} must be divisible by groups={groups}")
    values = np.zeros(tensor.shape, tensor.dtype)
    each = tensor.shape[0] // groups
    centre = tuple(k // 2 for k in tensor.shape[2:])
    for group in range(groups):
        for channel in range(min(each, tensor.shape[1])):
            values[(group * each + channel, channel, *centre)] = 1
    overwrite(tensor, values)
    return tensor
