"""Sums, differences, products, quotients and powers."""

from __future__ import annotations

import numpy as np

import tinygrad_cv as tg

from ..extend import Array, Elementwise, Real, elementwise, op


@op("add", domain=elementwise(Real(), Real(), alpha=Real(0.5, 2)), formula="input + alpha * other", inplace=True)
class add(Elementwise):
    """input + alpha * other, elementwise.

    input, other: Tensors or numbers of shapes that broadcast. The result has the broadcast shape and the promoted dtype.
    """

    scalar = "input + alpha * other"
    quiet = True

    def reference(input: Array, other: Array, *, alpha: float = 1) -> np.ndarray:
        return np.add(input, other) if alpha == 1 else np.add(input, np.multiply(other, alpha))

    def grad_input(upstream):
        return upstream

    def grad_other(upstream, alpha):
        return upstream if alpha == 1 else upstream * alpha


@op("mul", domain=elementwise(Real(), Real()), formula="input * other", inplace=True)
class mul(Elementwise):
    """input * other, elementwise, with broadcasting and promotion."""

    scalar = "input * other"

    def reference(input: Array, other: Array) -> np.ndarray:
        return np.multiply(input, other)

    def grad_input(upstream, other):
        return upstream * other

    def grad_other(upstream, input):
        return upstream * input


@op("neg", domain=elementwise(Real()), formula="-input", inplace=True)
class neg(Elementwise):
    """-input."""

    scalar = "-input"

    def prepare(input):
        if isinstance(input, tg.Tensor) and input.dtype.kind == "b":
            raise TypeError("neg: a bool tensor has no negative; use logical_not or ~")
        return (input,)

    def reference(input: Array) -> np.ndarray:
        return np.negative(input)

    def grad_input(upstream):
        return -upstream


@op("exp", domain=elementwise(Real(-2, 2)), formula="e^input", inplace=True)
class exp(Elementwise):
    """e ** input. Integers give float32."""

    scalar = "exp(input)"
    int_to_float = True

    def reference(input: Array) -> np.ndarray:
        return np.exp(input)

    def grad_input(upstream, out):
        return upstream * out
