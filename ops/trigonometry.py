"""Circular and hyperbolic functions and their inverses. Angles are in radians; integers give the default floating dtype."""

from __future__ import annotations

import numpy as np

import tinygrad_cv as tg

from ..extend import Array, Elementwise, Inverse, Real, elementwise, op


@op("sin", domain=elementwise(Real()), formula="sin(input)", inplace=True)
class sin(Elementwise):
    """The sine of an angle in radians."""

    scalar = "sin(input)"
    int_to_float = True

    def reference(input: Array) -> np.ndarray:
        return np.sin(input)

    def grad_input(upstream, input):
        return upstream * input.cos()


@op("cos", domain=elementwise(Real()), formula="cos(input)", inplace=True)
class cos(Elementwise):
    """The cosine of an angle in radians."""

    scalar = "cos(input)"
    int_to_float = True

    def reference(input: Array) -> np.ndarray:
        return np.cos(input)

    def grad_input(upstream, input):
        return -upstream * input.sin()


@op("tan", domain=elementwise(Real(-1, 1)), formula="sin(input) / cos(input)", inplace=True)
class tan(Elementwise):
    """The tangent of an angle in radians."""

    scalar = "tan(input)"
    int_to_float = True

    def reference(input: Array) -> np.ndarray:
        return np.tan(input)

    def grad_input(upstream, out):
        return upstream * (out * out + 1.0)


@op(
    "asin",
    domain=elementwise(Real(-0.8, 0.8)),
    formula="the angle in [-pi/2, pi/2] whose sine is input",
    inplace=True,
    aliases=("arcsin",),
    laws=(Inverse("input", of="sin"),),
)
class asin(Elementwise):
    """The inverse sine in radians: NaN outside of [-1, 1]; the derivative at -1 and 1 is inf."""

    scalar = "asin(input)"
    int_to_float = True

    def reference(input: Array) -> np.ndarray:
        return np.arcsin(input)

    def grad_input(upstream, input):
        return upstream * (1.0 - input * input).rsqrt()


@op(
    "acos",
    domain=elementwise(Real(-0.8, 0.8)),
    formula="the angle in [0, pi] whose cosine is input",
    inplace=True,
    aliases=("arccos",),
    laws=(Inverse("input", of="cos"),),
)
class acos(Elementwise):
    """The inverse cosine in radians: NaN outside of [-1, 1]; the derivative at -1 and 1 is -inf."""

    scalar = "acos(input)"
    int_to_float = True

    def reference(input: Array) -> np.ndarray:
        return np.arccos(input)

    def grad_input(upstream, input):
        return -upstream * (1.0 - input * input).rsqrt()


@op(
    "atan",
    domain=elementwise(Real()),
    formula="the angle in (-pi/2, pi/2) whose tangent is input",
    inplace=True,
    aliases=("arctan",),
    laws=(Inverse("input", of="tan"),),
)
class atan(Elementwise):
    """The inverse tangent in radians."""

    scalar = "atan(input)"
    int_to_float = True

    def reference(input: Array) -> np.ndarray:
        return np.arctan(input)

    def grad_input(upstream, input):
        return upstream / (input * input + 1.0)


def _atan2_domain(draw):
    # Away from the origin and from the negative axis of `other`, where the angle jumps by 2 pi.
    return elementwise(Real(0.3, 2), Real())(draw) if draw.boolean() else elementwise(Real(-2, -0.3), Real())(draw)


@op(
    "atan2",
    domain=_atan2_domain,
    formula="the angle of the point (other, input) in (-pi, pi]",
    inplace=True,
    aliases=("arctan2",),
)
class atan2(Elementwise):
    """The angle in radians of the point whose ordinate is `input` and whose abscissa is `other`.

    At the origin, where no derivative exists, both gradients are 0, as in PyTorch.
    """

    scalar = "atan2(input, other)"
    int_to_float = True

    def reference(input: Array, other: Array) -> np.ndarray:
        return np.arctan2(input, other)

    def grad_input(upstream, input, other):
        return upstream * _over_squared_radius(other, input)

    def grad_other(upstream, input, other):
        return -upstream * _over_squared_radius(input, other)


def _over_squared_radius(coordinate, across):
    """coordinate / (coordinate ** 2 + across ** 2), 0 at the origin."""
    squared = coordinate * coordinate + across * across
    return coordinate / tg.where(squared == 0, 1.0, squared)


@op("sinh", domain=elementwise(Real()), formula="(e^input - e^-input) / 2", inplace=True, laws=(Inverse("input", of="asinh"),))
class sinh(Elementwise):
    """The hyperbolic sine."""

    scalar = "sinh(input)"
    int_to_float = True

    def reference(input: Array) -> np.ndarray:
        return np.sinh(input)

    def grad_input(upstream, input):
        return upstream * input.cosh()


@op("cosh", domain=elementwise(Real()), formula="(e^input + e^-input) / 2", inplace=True)
class cosh(Elementwise):
    """The hyperbolic cosine."""

    scalar = "cosh(input)"
    int_to_float = True

    def reference(input: Array) -> np.ndarray:
        return np.cosh(input)

    def grad_input(upstream, input):
        return upstream * input.sinh()


@op("tanh", domain=elementwise(Real()), formula="sinh(input) / cosh(input)", inplace=True, laws=(Inverse("input", of="atanh"),))
class tanh(Elementwise):
    """The hyperbolic tangent."""

    scalar = "tanh(input)"
    int_to_float = True

    def reference(input: Array) -> np.ndarray:
        return np.tanh(input)

    def grad_input(upstream, out):
        return tg.tanh_backward(upstream, out)


@op(
    "tanh_backward",
    domain=elementwise(Real(), Real(-0.9, 0.9)),
    formula="grad_output * (1 - output ** 2)",
    method=False,
    internal=True,
)
class tanh_backward(Elementwise):
    """The gradient of the hyperbolic tangent, from its value `output`."""

    scalar = "grad_output * (1.0 - output * output)"

    def reference(grad_output: Array, output: Array) -> np.ndarray:
        return grad_output * (1 - output * output)

    def grad_grad_output(upstream, output):
        return tg.tanh_backward(upstream, output)

    def grad_output(upstream, grad_output, output):
        return upstream * grad_output * (-2.0 * output)


@op(
    "asinh",
    domain=elementwise(Real()),
    formula="ln(input + sqrt(input ** 2 + 1))",
    inplace=True,
    aliases=("arcsinh",),
    laws=(Inverse("input", of="sinh"),),
)
class asinh(Elementwise):
    """The inverse hyperbolic sine."""

    scalar = "asinh(input)"
    int_to_float = True

    def reference(input: Array) -> np.ndarray:
        return np.arcsinh(input)

    def grad_input(upstream, input):
        return upstream * (input * input + 1.0).rsqrt()


@op(
    "acosh",
    domain=elementwise(Real(1.3, 3)),
    formula="ln(input + sqrt(input ** 2 - 1))",
    inplace=True,
    aliases=("arccosh",),
    laws=(Inverse("input", of="cosh"),),
)
class acosh(Elementwise):
    """The inverse hyperbolic cosine: NaN below 1; the derivative at 1 is inf."""

    scalar = "acosh(input)"
    int_to_float = True

    def reference(input: Array) -> np.ndarray:
        return np.arccosh(input)

    def grad_input(upstream, input):
        return upstream * (input * input - 1.0).rsqrt()


@op(
    "atanh",
    domain=elementwise(Real(-0.8, 0.8)),
    formula="ln((1 + input) / (1 - input)) / 2",
    inplace=True,
    aliases=("arctanh",),
    laws=(Inverse("input", of="tanh"),),
)
class atanh(Elementwise):
    """The inverse hyperbolic tangent: -inf and inf at -1 and 1, NaN outside."""

    scalar = "atanh(input)"
    int_to_float = True

    def reference(input: Array) -> np.ndarray:
        return np.arctanh(input)

    def grad_input(upstream, input):
        return upstream / (1.0 - input * input)
