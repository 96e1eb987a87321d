"""Smooth activations, by torch.nn.functional's names, arguments and defaults: the exponential linear units, gelu, silu, ..."""

from __future__ import annotations

import math

import numpy as np

import tinygrad_cv as tg

from ..extend import Array, Elementwise, OneOf, Real, elementwise, op
from .activation import AWAY_FROM_ZERO, require_floating
from .pointwise import logistic, normal_cdf

_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_SCALE = 1.0507009873554804934193349852946


def _exponential_slope(upstream, input, alpha, scale, rate):
    """scale * upstream where input > 0, else upstream * scale * alpha * rate * e^(rate * input)."""
    # The exponential is kept from overflowing where it is not used, else backward through it makes 0 * inf.
    decayed = (tg.where(input > 0, 0.0, input) * rate).exp() * (scale * alpha * rate)
    return upstream * tg.where(input > 0, scale, decayed)


@op(
    "elu",
    domain=elementwise(AWAY_FROM_ZERO, alpha=OneOf((1.0, 0.5, 2.0))),
    formula="input where input > 0, else alpha * (e^input - 1)",
    kinks={0.0: 1.0},
    source="Clevert, Unterthiner, Hochreiter: ELUs (arXiv:1511.07289), equation 15",
    inplace=True,
)
class elu(Elementwise):
    """input where it is positive, else alpha * (e^input - 1). The gradient at 0 is alpha. Floating dtypes only."""

    scalar = "input if input > 0.0 else alpha * expm1(input)"

    def prepare(input, alpha=1.0, inplace=False):
        require_floating("elu", input)
        return input, alpha, inplace

    def reference(input: Array, alpha: float = 1.0, inplace: bool = False) -> np.ndarray:
        return np.where(input > 0, input, float(alpha) * np.expm1(input))

    def grad_input(upstream, input, alpha):
        return _exponential_slope(upstream, input, alpha, 1.0, 1.0)


@op(
    "selu",
    domain=elementwise(AWAY_FROM_ZERO),
    formula="1.0507 * (input where input > 0, else 1.6733 * (e^input - 1))",
    kinks={0.0: _SELU_ALPHA * _SELU_SCALE},
    source="Klambauer, Unterthiner, Mayr, Hochreiter: Self-normalizing neural networks (arXiv:1706.02515), equation 2",
    inplace=True,
)
class selu(Elementwise):
    """scale * (input where it is positive, else alpha * (e^input - 1)), alpha and scale chosen to keep mean 0 and variance 1.

    The gradient at 0 is scale * alpha. Floating dtypes only.
    """

    scalar = f"{_SELU_SCALE} * input if input > 0.0 else {_SELU_SCALE * _SELU_ALPHA} * expm1(input)"

    def prepare(input, inplace=False):
        require_floating("selu", input)
        return input, inplace

    def reference(input: Array, inplace: bool = False) -> np.ndarray:
        return _SELU_SCALE * np.where(input > 0, input, _SELU_ALPHA * np.expm1(input))

    def grad_input(upstream, input):
        return _exponential_slope(upstream, input, _SELU_ALPHA, _SELU_SCALE, 1.0)


@op(
    "celu",
    domain=elementwise(AWAY_FROM_ZERO, alpha=OneOf((1.0, 0.5, 2.0))),
    formula="max(input, 0) + min(alpha * (e^(input / alpha) - 1), 0)",
    source="Barron: Continuously differentiable exponential linear units (arXiv:1704.07483), equation 2",
    inplace=True,
)
class celu(Elementwise):
    """input where it is positive, else alpha * (e^(input / alpha) - 1): its gradient is continuous, 1 at 0.

    Floating dtypes only; ValueError for alpha = 0.
    """

    scalar = "input if input > 0.0 else alpha * expm1(input / alpha)"

    def prepare(input, alpha=1.0, inplace=False):
        require_floating("celu", input)
        if alpha == 0:
            raise ValueError("celu: alpha must not be 0, input is divided by it")
        return input, alpha, inplace

    def reference(input: Array, alpha: float = 1.0, inplace: bool = False) -> np.ndarray:
        alpha = float(alpha)
        return np.where(input > 0, input, alpha * np.expm1(input / alpha))

    def grad_input(upstream, input, alpha):
        return _exponential_slope(upstream, input, alpha, 1.0, 1.0 / alpha)


_GELU_TANH = "tanh(0.7978845608028654 * (input + 0.044715 * input * input * input))"


@op(
    "gelu",
    domain=elementwise(Real(), approximate=OneOf(("none", "tanh"))),
    formula="input * Phi(input), Phi the standard normal distribution function",
    source="Hendrycks, Gimpel: Gaussian error linear units (arXiv:1606.08415), section 2",
)
class gelu(Elementwise):
    """input * Phi(input), with the standard normal distribution function Phi.

    approximate: 'none' for the error function, 'tanh' for 0.5 * input * (1 + tanh(sqrt(2 / pi) * (input + 0.044715 input^3))).
    Floating dtypes only; ValueError for another `approximate`.
    """

    def scalar(approximate):
        if approximate == "tanh":
            return f"0.5 * input * (1.0 + {_GELU_TANH})"
        return "input * normal_cdf(input)"

    def prepare(input, approximate="none"):
        require_floating("gelu", input)
        if approximate not in ("none", "tanh"):
            raise ValueError(f"gelu: approximate must be 'none' or 'tanh', got {approximate!r}")
        return input, approximate

    def reference(input: Array, approximate: str = "none") -> np.ndarray:
        if approximate == "none":
            return input * normal_cdf(input)
        return 0.5 * input * (1 + np.tanh(math.sqrt(2 / math.pi) * (input + 0.044715 * input**3)))

    def grad_input(upstream, input, approximate):
        if approximate == "none":
            return tg.gelu_backward(upstream, input)
        squared = input * input
        bent = tg.tanh(input * (squared * 0.044715 + 1.0) * math.sqrt(2 / math.pi))
        inner_slope = (squared * (3 * 0.044715) + 1.0) * math.sqrt(2 / math.pi)
        return upstream * (0.5 * (bent + 1.0) + 0.5 * input * (1.0 - bent * bent) * inner_slope)


def _normal_pdf(x):
    return math.sqrt(0.5 / math.pi) * (x * x * -0.5).exp()


@op(
    "gelu_backward",
    domain=elementwise(Real(), Real()),
    formula="grad_output * (Phi(input) + input * Phi'(input))",
    method=False,
    internal=True,
)
class gelu_backward(Elementwise):
    """The gradient of `gelu` without approximation."""

    scalar = "grad_output * (normal_cdf(input) + input * normal_pdf(input))"

    def reference(grad_output: Array, input: Array) -> np.ndarray:
        density = np.exp(-0.5 * input * input) * math.sqrt(0.5 / math.pi)
        return (grad_output * (normal_cdf(input) + input * density)).astype(input.dtype)

    def grad_grad_output(upstream, input):
        return tg.gelu_backward(upstream, input)

    def grad_input(upstream, grad_output, input):
        return upstream * grad_output * (2.0 - input * input) * _normal_pdf(input)


@op(
    "silu",
    domain=elementwise(Real()),
    formula="input * sigmoid(input)",
    source="Elfwing, Uchibe, Doya: Sigmoid-weighted linear units (arXiv:1702.03118), equation 3",
)
class silu(Elementwise):
    """input * sigmoid(input), also called swish. Floating dtypes only."""

    scalar = "input * sigmoid(input)"

    def prepare(input, inplace=False):
        require_floating("silu", input)
        return input, inplace

    def reference(input: Array, inplace: bool = False) -> np.ndarray:
        return input * logistic(input)

    def grad_input(upstream, input):
        gate = tg.sigmoid(input)
        return upstream * (gate * (input * (1.0 - gate) + 1.0))


@op(
    "mish",
    domain=elementwise(Real()),
    formula="input * tanh(softplus(input))",
    source="Misra: Mish, a self regularized non-monotonic activation function (arXiv:1908.08681), equation 1",
)
class mish(Elementwise):
    """input * tanh(ln(1 + e^input)). Floating dtypes only."""

    scalar = "input * tanh(maximum(input, 0.0) + log1p(exp(-abs(input))))"

    def prepare(input, inplace=False):
        require_floating("mish", input)
        return input, inplace

    def reference(input: Array, inplace: bool = False) -> np.ndarray:
        return input * np.tanh(np.logaddexp(input, 0))

    def grad_input(upstream, input):
        bent = tg.tanh(tg.softplus(input))
        return upstream * (bent + input * tg.sigmoid(input) * (1.0 - bent * bent))


@op(
    "softplus",
    domain=elementwise(Real(-2, 2, avoid=(0.5, 1.0)), beta=OneOf((1.0, 2.0)), threshold=OneOf((20.0, 1.0))),
    formula="ln(1 + e^(beta * input)) / beta",
    kinks=("input * beta == threshold",),
)
class softplus(Elementwise):
    """ln(1 + e^(beta * input)) / beta, and input itself where beta * input > threshold. The gradient there is 1.

    Floating dtypes only.
    """

    scalar = (
        "input if input * beta > threshold"
        " else (maximum(input * beta, 0.0) + log1p(exp(-abs(input * beta)))) / beta"
    )  # fmt: skip

    def prepare(input, beta=1.0, threshold=20.0):
        require_floating("softplus", input)
        return input, beta, threshold

    def reference(input: Array, beta: float = 1.0, threshold: float = 20.0) -> np.ndarray:
        scaled = input * float(beta)
        return np.where(scaled > threshold, input, np.logaddexp(scaled, 0) / float(beta))

    def grad_input(upstream, input, beta, threshold):
        scaled = input * beta
        return upstream * tg.where(scaled > threshold, 1.0, scaled.sigmoid())


@op("logsigmoid", domain=elementwise(Real()), formula="ln(1 / (1 + e^-input))")
class logsigmoid(Elementwise):
    """The logarithm of the logistic function, without overflow. Floating dtypes only."""

    scalar = "minimum(input, 0.0) - log1p(exp(-abs(input)))"

    def prepare(input):
        require_floating("logsigmoid", input)
        return (input,)

    def reference(input: Array) -> np.ndarray:
        return -np.logaddexp(-input, 0)

    def grad_input(upstream, input):
        return upstream * tg.sigmoid(-input)


@op("softsign", domain=elementwise(AWAY_FROM_ZERO), formula="input / (1 + |input|)")
class softsign(Elementwise):
    """input / (1 + |input|). Integers give the default floating dtype."""

    scalar = "input / (1.0 + abs(input))"
    int_to_float = True

    def reference(input: Array) -> np.ndarray:
        return input / (1 + np.abs(input))

    def grad_input(upstream, input):
        return upstream / (input.abs() + 1.0).square()


@op("tanhshrink", domain=elementwise(Real()), formula="input - tanh(input)")
class tanhshrink(Elementwise):
    """input - tanh(input). Integers give the default floating dtype."""

    scalar = "input - tanh(input)"
    int_to_float = True

    def reference(input: Array) -> np.ndarray:
        return input - np.tanh(input)

    def grad_input(upstream, input):
        bent = tg.tanh(input)
        return upstream * (bent * bent)
