"""squareplus, a smooth relu without exponentials, for tinygrad_cv."""

import numpy as np

from tinygrad_cv.extend import Array, Elementwise, Real, elementwise, op, require_api

require_api(1)


@op(
    "squareplus",
    domain=elementwise(Real(-3.0, 3.0), b=Real(0.5, 4.0)),
    formula="(input + sqrt(input^2 + b)) / 2",
    source="Barron: Squareplus, a softplus-like algebraic rectifier (arXiv:2112.11687), equation 1",
    inplace=True,
)
class squareplus(Elementwise):
    """(input + sqrt(input^2 + b)) / 2: a relu whose corner at 0 is rounded, the more the larger b is; sqrt(b) / 2 at 0.

    With b = 4 it is close to softplus, and its value and slope at 0 are 1 and 1/2.
    """

    int_to_float = True
    scalar = "0.5 * (input + sqrt(input * input + b))"

    def reference(input: Array, b: float = 4.0):
        return (input + np.sqrt(input * input + b)) / 2

    def grad_input(upstream, input, b):
        return upstream * (0.5 + 0.5 * input * (input * input + b).rsqrt())
