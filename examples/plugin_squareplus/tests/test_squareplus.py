"""The kit on the operator, and what the paper says of it."""

import math

import tinygrad_cv as tg
from tinygrad_cv.testing import op_test

test_squareplus = op_test("squareplus")


def test_values_of_the_paper():
    """With b = 4: 1 and slope 1/2 at 0; with b = (2 log 2)^2 it meets softplus at 0; far out it is the identity."""
    x = tg.zeros(1, requires_grad=True)
    x.squareplus().sum().backward()
    assert x.squareplus().item() == 1.0 and x.grad.item() == 0.5
    assert math.isclose(tg.squareplus(tg.zeros(1), b=4 * math.log(2) ** 2).item(), math.log(2), rel_tol=1e-6)
    assert tg.squareplus(tg.tensor([1e4])).item() == 1e4
