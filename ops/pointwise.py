"""Functions of one number: exponentials, logarithms, roots, the error function, the logistic pair, rounding."""

from __future__ import annotations

import math

import numpy as np

import tinygrad_cv as tg

from ..extend import Array, Elementwise, Homogeneous, Idempotent, Inverse, OneOf, Real, call, elementwise, op

POSITIVE = Real(0.3, 3)

# NumPy has no error function: the C library's, one element at a time, in double precision.
_erf = np.vectorize(math.erf, otypes=[np.float64])
_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def normal_cdf(x: np.ndarray) -> np.ndarray:
    """The standard normal distribution function of a NumPy array, in its dtype."""
    return (0.5 * _erfc(np.asarray(x, np.float64) / -math.sqrt(2))).astype(x.dtype)


def logistic(x: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-x) of a NumPy array, without overflow on either side."""
    decayed = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, decayed) / (1 + decayed)


@op("exp", domain=elementwise(Real()), formula="e^input", inplace=True, laws=(Inverse("input", of="log"),))
class exp(Elementwise):
    """e ** input. Integers give the default floating dtype."""

    scalar = "exp(input)"
    int_to_float = True

    def reference(input: Array) -> np.ndarray:
        return np.exp(input)

    def grad_input(upstream, out):
        return upstream * out


@op("exp2", domain=elementwise(Real()), formula="2^input", inplace=True, laws=(Inverse("input", of="log2"),))
class exp2(Elementwise):
    """2 ** input. Integers give the default floating dtype."""

    scalar = "exp2(input)"
    int_to_float = True

    def reference(input: Array) -> np.ndarray:
        return np.exp2(input)

    def grad_input(upstream, out):
        return upstream * (out * math.log(2))


@op("expm1", domain=elementwise(Real()), formula="e^input - 1", inplace=True, laws=(Inverse("input", of="log1p"),))
class expm1(Elementwise):
    """e ** input - 1, accurate near 0. Integers give the default floating dtype."""

    scalar = "expm1(input)"
    int_to_float = True

    def reference(input: Array) -> np.ndarray:
        return np.expm1(input)

    def grad_input(upstream, out):
        return upstream * (out + 1)


@op("log", domain=elementwise(POSITIVE), formula="ln(input)", inplace=True, laws=(Inverse("input", of="exp"),))
class log(Elementwise):
    """The natural logarithm: -inf at 0, NaN below. Integers give the default floating dtype."""

    scalar = "log(input)"
    int_to_float = True

    def reference(input: Array) -> np.ndarray:
        return np.log(input)

    def grad_input(upstream, input):
        return upstream / input


@op("log2", domain=elementwise(POSITIVE), formula="ln(input) / ln(2)", inplace=True, laws=(Inverse("input", of="exp2"),))
class log2(Elementwise):
    """The logarithm to base 2: -inf at 0, NaN below. Integers give the default floating dtype."""

    scalar = "log2(input)"
    int_to_float = True

    def reference(input: Array) -> np.ndarray:
        return np.log2(input)

    def grad_input(upstream, input):
        return upstream / (input * math.log(2))


@op("log10", domain=elementwise(POSITIVE), formula="ln(input) / ln(10)", inplace=True)
class log10(Elementwise):
    """The logarithm to base 10: -inf at 0, NaN below. Integers give the default floating dtype."""

    scalar = "log10(input)"
    int_to_float = True

    def reference(input: Array) -> np.ndarray:
        return np.log10(input)

    def grad_input(upstream, input):
        return upstream / (input * math.log(10))


@op("log1p", domain=elementwise(Real(-0.7, 2)), formula="ln(1 + input)", inplace=True, laws=(Inverse("input", of="expm1"),))
class log1p(Elementwise):
    """ln(1 + input), accurate near 0: -inf at -1, NaN below. Integers give the default floating dtype."""

    scalar = "log1p(input)"
    int_to_float = True

    def reference(input: Array) -> np.ndarray:
        return np.log1p(input)

    def grad_input(upstream, input):
        return upstream / (input + 1)


@op(
    "sqrt",
    domain=elementwise(POSITIVE),
    formula="input ** 0.5",
    inplace=True,
    laws=(
        Homogeneous("input", degree=0.5),
        Inverse("input", of="square"),
    ),
)
class sqrt(Elementwise):
    """The square root: NaN below 0; the derivative at 0 is inf. Integers give the default floating dtype."""

    scalar = "sqrt(input)"
    int_to_float = True

    def reference(input: Array) -> np.ndarray:
        return np.sqrt(input)

    def grad_input(upstream, out):
        return upstream / (2.0 * out)


@op("rsqrt", domain=elementwise(POSITIVE), formula="1 / sqrt(input)", inplace=True)
class rsqrt(Elementwise):
    """The reciprocal of the square root: inf at 0, NaN below. Integers give the default floating dtype."""

    scalar = "rsqrt(input)"
    int_to_float = True

    def reference(input: Array) -> np.ndarray:
        return np.true_divide(1.0, np.sqrt(input))

    def grad_input(upstream, out):
        return upstream * (-0.5 * (out * out * out))


@op("erf", domain=elementwise(Real()), formula="2 / sqrt(pi) * integral from 0 to input of e^(-t^2) dt", inplace=True)
class erf(Elementwise):
    """The error function. Integers give the default floating dtype."""

    scalar = "erf(input)"
    int_to_float = True

    def reference(input: Array) -> np.ndarray:
        return _erf(input).astype(input.dtype)

    def grad_input(upstream, input):
        return upstream * ((-input.square()).exp() * (2 / math.sqrt(math.pi)))


@op("erfc", domain=elementwise(Real()), formula="1 - erf(input)", inplace=True)
class erfc(Elementwise):
    """The complementary error function, accurate where it is small. Integers give the default floating dtype."""

    scalar = "erfc(input)"
    int_to_float = True

    def reference(input: Array) -> np.ndarray:
        return _erfc(input).astype(input.dtype)

    def grad_input(upstream, input):
        return upstream * ((-input.square()).exp() * (-2 / math.sqrt(math.pi)))


@op("sigmoid", domain=elementwise(Real()), formula="1 / (1 + e^-input)", inplace=True, laws=(Inverse("input", of="logit"),))
class sigmoid(Elementwise):
    """The logistic function, computed without overflow. Integers give the default floating dtype."""

    scalar = "sigmoid(input)"
    int_to_float = True

    def reference(input: Array) -> np.ndarray:
        return logistic(input)

    def grad_input(upstream, out):
        return tg.sigmoid_backward(upstream, out)


@op(
    "sigmoid_backward",
    domain=elementwise(Real(), Real(0.1, 0.9)),
    formula="grad_output * output * (1 - output)",
    method=False,
    internal=True,
)
class sigmoid_backward(Elementwise):
    """The gradient of the logistic function, from its value `output`."""

    scalar = "grad_output * ((1.0 - output) * output)"

    def reference(grad_output: Array, output: Array) -> np.ndarray:
        return grad_output * ((1 - output) * output)

    def grad_grad_output(upstream, output):
        return tg.sigmoid_backward(upstream, output)

    def grad_output(upstream, grad_output, output):
        return upstream * grad_output * (1.0 - 2.0 * output)


@op("logit", domain=elementwise(Real(0.2, 0.8), eps=OneOf((None, 0.1))), formula="ln(input / (1 - input))", inplace=True)
class logit(Elementwise):
    """The inverse of the logistic function. Integers give the default floating dtype.

    eps: None, or the bound to which input is clamped, as [eps, 1 - eps]; outside of it the gradient is 0. Without eps the value
    and the gradient are NaN outside of [0, 1].
    """

    int_to_float = True

    def scalar(eps):
        if eps is None:
            return "log(input / (1.0 - input))"
        clamped = "minimum(maximum(input, eps), 1.0 - eps)"
        return f"log({clamped} / (1.0 - {clamped}))"

    def reference(input: Array, eps: float | None = None) -> np.ndarray:
        if eps is not None:
            input = np.minimum(np.maximum(input, float(eps)), 1 - float(eps))
        return np.log(input / (1 - input))

    def grad_input(upstream, input, eps):
        gradient = upstream / (input * (1.0 - input))
        if eps is None:
            return tg.where((input >= 0) & (input <= 1), gradient, math.nan)
        return tg.where((input < eps) | (input > 1 - eps), 0.0, gradient)


def _rounded(name: str, function: np.ufunc, input: np.ndarray) -> np.ndarray:
    """`function` of floats, a copy of integers, TypeError for bools."""
    if input.dtype.kind == "b":
        raise TypeError(f"{name}: not defined for a bool tensor; convert it to integers")
    return function(input) if input.dtype.kind == "f" else input.copy()


_BETWEEN_INTEGERS = elementwise(Real(-2.6, 2.6, avoid=(-2.0, -1.0, 0.0, 1.0, 2.0)))


@op("floor", domain=_BETWEEN_INTEGERS, formula="the largest integer <= input", inplace=True, laws=(Idempotent("input"),))
class floor(Elementwise):
    """input rounded down; integers are returned as they are. The gradient is 0. TypeError for a bool tensor."""

    scalar = "floor(input)"

    def reference(input: Array) -> np.ndarray:
        return _rounded("floor", np.floor, input)

    def grad_input(upstream):
        return tg.zeros_like(upstream)


@op("ceil", domain=_BETWEEN_INTEGERS, formula="the smallest integer >= input", inplace=True, laws=(Idempotent("input"),))
class ceil(Elementwise):
    """input rounded up; integers are returned as they are. The gradient is 0. TypeError for a bool tensor."""

    scalar = "ceil(input)"

    def reference(input: Array) -> np.ndarray:
        return _rounded("ceil", np.ceil, input)

    def grad_input(upstream):
        return tg.zeros_like(upstream)


@op(
    "trunc",
    domain=_BETWEEN_INTEGERS,
    formula="input rounded towards zero",
    inplace=True,
    aliases=("fix",),
    laws=(Idempotent("input"),),
)
class trunc(Elementwise):
    """input rounded towards zero; integers are returned as they are. The gradient is 0. TypeError for a bool tensor."""

    scalar = "trunc(input)"

    def reference(input: Array) -> np.ndarray:
        return _rounded("trunc", np.trunc, input)

    def grad_input(upstream):
        return tg.zeros_like(upstream)


@op("frac", domain=_BETWEEN_INTEGERS, formula="input - trunc(input)", inplace=True, laws=(Idempotent("input"),))
class frac(Elementwise):
    """The fractional part, with the sign of input. The gradient is 1, also at integers. TypeError for integers."""

    scalar = "input - trunc(input)"

    def reference(input: Array) -> np.ndarray:
        if input.dtype.kind != "f":
            raise TypeError(f"frac: expected a floating tensor, got {input.dtype}; integers have no fractional part")
        return input - np.trunc(input)

    def grad_input(upstream):
        return upstream


def _round_domain(draw):
    shape, decimals = draw.shape((0, 3)), draw.choice([0, 1, -1])
    steps = draw.integers(shape, -20, 20) + draw.real(shape, -0.4, 0.4)
    return call(np.asarray(steps / 10.0**decimals), decimals=decimals)


@op(
    "round",
    domain=_round_domain,
    formula="input * 10^decimals to the nearest integer, / 10^decimals",
    inplace=True,
    laws=(Idempotent("input"),),
)
class round(Elementwise):
    """input to the nearest multiple of 10 ** -decimals, halves to the even one. The gradient is 0.

    Integers are returned as they are; TypeError for them with decimals other than 0, and for a bool tensor.
    """

    def scalar(decimals):
        if decimals == 0:
            return "rint(input)"
        power = repr(10.0 ** (decimals if decimals > 0 else -decimals))
        return f"rint(input * {power}) / {power}" if decimals > 0 else f"rint(input / {power}) * {power}"

    def reference(input: Array, *, decimals: int = 0) -> np.ndarray:
        if decimals == 0 or input.dtype.kind == "b":
            return _rounded("round", np.rint, input)
        if input.dtype.kind != "f":
            raise TypeError(f"round: decimals={decimals} needs a floating tensor, got {input.dtype}")
        power = 10.0 ** (decimals if decimals > 0 else -decimals)
        return np.rint(input * power) / power if decimals > 0 else np.rint(input / power) * power

    def grad_input(upstream):
        return tg.zeros_like(upstream)
