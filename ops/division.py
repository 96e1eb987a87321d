"""Division: true, rounded, and its remainders."""

from __future__ import annotations

from typing import Any

import numpy as np

import tinygrad_cv as tg

from ..extend import Array, Elementwise, Real, call, elementwise, op
from .arithmetic import NONZERO, kind_of, refuse_bool


def refuse_zero_divisor(name: str, other: Any) -> None:
    """RuntimeError where an integer would be divided by zero."""
    if np.any(np.equal(other, 0)):
        raise RuntimeError(f"{name}: integer division by zero; make the divisor nonzero or use floating tensors")


def _between_multiples(draw):
    """Quotients that keep clear of the integers, where rounded division jumps."""
    shape = draw.shape((0, 3))
    other = np.asarray(draw.real(draw.broadcastable(shape), 0.7, 1.3) * draw.choice([1.0, -1.0]))
    return np.asarray(other * (draw.integers(shape, -2, 3) + draw.real(shape, 0.15, 0.85))), other


def _div_domain(draw):
    mode = draw.choice([None, "trunc", "floor"])
    return elementwise(Real(), NONZERO)(draw) if mode is None else call(*_between_multiples(draw), rounding_mode=mode)


_FLOOR_DIVIDE = (
    "input / other if other == 0.0 else rint((input - fmod(input, other)) / other"
    " - (1.0 if fmod(input, other) != 0.0 and (fmod(input, other) < 0.0) != (other < 0.0) else 0.0))"
)


@op("div", domain=_div_domain, formula="input / other, or its rounded value", inplace=True, aliases=("divide", "true_divide"))
class div(Elementwise):
    """input / other, elementwise, with broadcasting and promotion.

    rounding_mode: None divides truly, and integers then give the default floating dtype; 'trunc' rounds the quotient towards
    zero and 'floor' down, and integers stay integers. A rounded quotient has gradient 0. RuntimeError for a rounded integer
    division by zero, ValueError for another rounding_mode.
    """

    def scalar(rounding_mode):
        return {None: "input / other", "trunc": "trunc(input / other)", "floor": _FLOOR_DIVIDE}[rounding_mode]

    def prepare(input, other, *, rounding_mode=None):
        if rounding_mode is not None:
            if rounding_mode not in ("trunc", "floor"):
                raise ValueError(f"div: rounding_mode must be None, 'trunc' or 'floor', got {rounding_mode!r}")
            refuse_bool("div", "convert to integers, or leave rounding_mode None", input, other)
        return input, other, rounding_mode

    def reference(input: Array, other: Array, *, rounding_mode: str | None = None) -> np.ndarray:
        floating = kind_of(input, other) == "f"
        if rounding_mode is None:
            if not floating:
                dtype = tg.get_default_dtype()
                input, other = np.asarray(input, dtype), np.asarray(other, dtype)
            return np.true_divide(input, other)
        if floating:
            return np.floor_divide(input, other) if rounding_mode == "floor" else np.trunc(np.true_divide(input, other))
        refuse_zero_divisor("div", other)
        down = np.floor_divide(input, other)
        if rounding_mode == "floor":
            return down
        inexact = np.not_equal(np.remainder(input, other), 0)
        return down + (inexact & np.not_equal(np.less(input, 0), np.less(other, 0))).astype(down.dtype)

    def grad_input(upstream, other, rounding_mode):
        return upstream / other if rounding_mode is None else tg.zeros_like(upstream)

    def grad_other(upstream, other, out, rounding_mode):
        return -(upstream * out) / other if rounding_mode is None else tg.zeros_like(upstream)


@op("floor_divide", domain=lambda draw: call(*_between_multiples(draw)), formula="floor(input / other)", inplace=True)
class floor_divide(Elementwise):
    """The quotient rounded down (`//`). Integers stay integers; the derivative is not recorded, as in PyTorch.

    RuntimeError for an integer division by zero, TypeError for two bool tensors.
    """

    scalar = _FLOOR_DIVIDE
    differentiable = False

    def reference(input: Array, other: Array) -> np.ndarray:
        kind = kind_of(input, other)
        if kind == "b":
            raise TypeError("floor_divide: not defined for bool tensors; convert to integers")
        if kind != "f":
            refuse_zero_divisor("floor_divide", other)
        return np.floor_divide(input, other)


_REMAINDER = (
    "fmod(input, other) + other if fmod(input, other) != 0.0 and (fmod(input, other) < 0.0) != (other < 0.0)"
    " else fmod(input, other)"
)


def _refuse_modulus(name: str, input: Any, other: Any) -> None:
    kind = kind_of(input, other)
    if kind == "b":
        raise TypeError(f"{name}: not defined for bool tensors; convert to integers")
    if kind != "f":
        refuse_zero_divisor(name, other)


@op(
    "remainder",
    domain=lambda draw: call(*_between_multiples(draw)),
    formula="input - other * floor(input / other)",
    kinks=("input is a multiple of other",),
    inplace=True,
)
class remainder(Elementwise):
    """The remainder of the division rounded down, with the sign of `other` (Python's %).

    The gradient of `other` is -floor(input / other), also where the value jumps. RuntimeError for an integer division by zero.
    """

    scalar = _REMAINDER

    def reference(input: Array, other: Array) -> np.ndarray:
        _refuse_modulus("remainder", input, other)
        return np.remainder(input, other)

    def grad_input(upstream):
        return upstream

    def grad_other(upstream, input, other):
        return -upstream * tg.div(input, other, rounding_mode="floor")


@op(
    "fmod",
    domain=lambda draw: call(*_between_multiples(draw)),
    formula="input - other * trunc(input / other)",
    kinks=("input is a multiple of other",),
    inplace=True,
)
class fmod(Elementwise):
    """The remainder of the division rounded towards zero, with the sign of `input` (C's fmod).

    The gradient of `other` is -trunc(input / other), also where the value jumps. RuntimeError for an integer division by zero.
    """

    scalar = "fmod(input, other)"

    def reference(input: Array, other: Array) -> np.ndarray:
        _refuse_modulus("fmod", input, other)
        return np.fmod(input, other)

    def grad_input(upstream):
        return upstream

    def grad_other(upstream, input, other):
        return -upstream * tg.div(input, other, rounding_mode="trunc")
