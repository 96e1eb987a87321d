"""Sums, products, powers and what is built from one or two of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import tinygrad_cv as tg

from ..extend import (
    Array,
    Elementwise,
    Homogeneous,
    Idempotent,
    Involution,
    Linear,
    Real,
    Symmetric,
    Tensor,
    call,
    elementwise,
    op,
)

NONZERO = Real(-2, 2, avoid=(0.0,))


def kind_of(*operands: Any) -> str:
    """The NumPy kind ('b', 'i', 'u' or 'f') of operands that are promoted already: that of the first array."""
    return next(a.dtype.kind for a in operands if isinstance(a, np.ndarray))


def is_floating(value: Any) -> bool:
    """Whether a Tensor or a number is of a floating type."""
    return value.dtype.kind == "f" if isinstance(value, (Tensor, np.generic)) else isinstance(value, float)


def is_bool(value: Any) -> bool:
    """Whether a Tensor or a number is of the boolean type."""
    return value.dtype.kind == "b" if isinstance(value, (Tensor, np.generic)) else isinstance(value, bool)


def held_by(name: str, attribute: str, number: Any, dtype: np.dtype[Any]) -> Any:
    """A number as it multiplies an array of `dtype`: a negative one of an unsigned dtype wraps around, as in PyTorch.

    TypeError for a fraction of integers, ValueError for an integer that the dtype does not hold.
    """
    if isinstance(number, np.generic):
        number = number.item()
    if dtype.kind == "f":
        return number
    if isinstance(number, float):
        raise TypeError(f"{name}: {attribute}={number} must be an integer when the tensors are integers")
    if dtype.kind == "b":
        return bool(number)
    limits = np.iinfo(dtype)
    lowest = -limits.max if dtype.kind == "u" else limits.min
    if not lowest <= number <= limits.max:
        raise ValueError(f"{name}: {attribute}={number} does not fit {dtype}, expected {lowest}..{limits.max}")
    return number % (limits.max + 1) if dtype.kind == "u" else number


def scale_by(name: str, attribute: str, factor: Any, array: Any, *others: Any) -> Any:
    """`factor * array` in the array's dtype. Errors are those of `held_by`."""
    dtype = next(a.dtype for a in (array, *others) if isinstance(a, np.ndarray))
    factor = held_by(name, attribute, factor, dtype)
    if dtype.kind == "b":
        return np.logical_and(array, factor)
    return np.multiply(array, factor) if isinstance(array, np.ndarray) else array * factor


def require_tensors(name: str, **operands: Any) -> None:
    """TypeError for an operand that is a number: its dtype would not be that of the tensors beside it."""
    for argument, value in operands.items():
        if not isinstance(value, Tensor):
            raise TypeError(f"{name}: expected a Tensor for `{argument}`, got {type(value).__name__}")


def refuse_bool(name: str, instead: str, *operands: Any) -> None:
    """TypeError where every operand is boolean and the operator has no meaning for it."""
    if all(is_bool(v) for v in operands):
        raise TypeError(f"{name}: not defined for bool tensors; {instead}")


@op(
    "add",
    domain=elementwise(Real(), Real(), alpha=Real(0.5, 2)),
    formula="input + alpha * other",
    inplace=True,
    laws=(Linear("input", "other"),),
)
class add(Elementwise):
    """input + alpha * other, elementwise.

    input, other: Tensors or numbers of shapes that broadcast. The result has the broadcast shape and the promoted dtype.
    TypeError for a fractional alpha with integer tensors, ValueError for an alpha that their dtype does not hold.
    """

    scalar = "input + alpha * other"

    def reference(input: Array, other: Array, *, alpha: float = 1) -> np.ndarray:
        return np.add(input, other) if alpha == 1 else np.add(input, scale_by("add", "alpha", alpha, other, input))

    def grad_input(upstream):
        return upstream

    def grad_other(upstream, alpha):
        return upstream if alpha == 1 else upstream * alpha


@op(
    "sub",
    domain=elementwise(Real(), Real(), alpha=Real(0.5, 2)),
    formula="input - alpha * other",
    inplace=True,
    aliases=("subtract",),
    laws=(Linear("input", "other"),),
)
class sub(Elementwise):
    """input - alpha * other, elementwise, with broadcasting and promotion.

    TypeError where either is boolean (use ^, ~ or logical_xor), and otherwise the errors of `add`.
    """

    scalar = "input - alpha * other"

    def prepare(input, other, *, alpha=1):
        if is_bool(input) or is_bool(other):
            raise TypeError(
                "sub: not defined for bools; use ^ or logical_xor for their difference, ~ to invert a mask, or convert to numbers"
            )
        return input, other, alpha

    def reference(input: Array, other: Array, *, alpha: float = 1) -> np.ndarray:
        return np.subtract(input, other) if alpha == 1 else np.subtract(input, scale_by("sub", "alpha", alpha, other, input))

    def grad_input(upstream):
        return upstream

    def grad_other(upstream, alpha):
        return upstream * -alpha if alpha != 1 else -upstream


@op(
    "mul",
    domain=elementwise(Real(), Real()),
    formula="input * other",
    inplace=True,
    aliases=("multiply",),
    laws=(
        Linear("input"),
        Linear("other"),
        Symmetric("input", "other"),
    ),
)
class mul(Elementwise):
    """input * other, elementwise, with broadcasting and promotion."""

    scalar = "input * other"

    def reference(input: Array, other: Array) -> np.ndarray:
        return np.multiply(input, other)

    def grad_input(upstream, other):
        return upstream * other

    def grad_other(upstream, input):
        return upstream * input


def _pow_domain(draw):
    positive = Real(0.5, 2)
    form = draw.choice(["number exponent", "both", "fraction", "number base"])
    if form == "both":
        return elementwise(positive, Real())(draw)
    shape = draw.shape((0, 3))
    if form == "number exponent":
        return call(draw.real(shape, -2, 2, (0.0,)), draw.choice([2, 3.0, 1, 0, -1, -2.0]))
    if form == "fraction":
        return call(draw.real(shape, 0.5, 2), draw.choice([0.5, 1.5, -0.5]))
    return call(draw.choice([2.0, 0.5, 1]), draw.real(shape))


@op("pow", domain=_pow_domain, formula="input ** exponent", inplace=True)
class pow(Elementwise):
    """input to the power `exponent`; either may be a number.

    At exponent 0 the gradient of `input` is 0, also at input 0; at input 0 and exponent >= 0 the gradient of `exponent` is 0.
    Integers keep their dtype; RuntimeError for a negative integer number as their exponent (in a tensor of exponents such a
    power is rounded towards zero), TypeError for bools.
    """

    scalar = "pow(input, exponent)"

    def reference(input: Array, exponent: Array) -> np.ndarray:
        kind = kind_of(input, exponent)
        if kind == "f":
            return input**exponent
        if kind == "b":
            raise TypeError("pow: not defined for bool tensors; convert to integers")
        negative = np.less(exponent, 0)
        if not negative.any():
            return np.power(input, exponent)
        if not isinstance(exponent, np.ndarray):
            raise RuntimeError(f"pow: integers have no power {exponent} among the integers; use a floating tensor or exponent")
        odd = np.remainder(exponent, 2) == 1
        inverse = np.where(np.equal(input, 1), 1, np.where(np.equal(input, -1), np.where(odd, -1, 1), 0))
        return np.where(negative, inverse, np.power(input, np.where(negative, 0, exponent))).astype(exponent.dtype)

    def grad_input(upstream, input, exponent):
        if isinstance(exponent, Tensor):
            # 0 ** -1 is kept out of the product, where it would make 0 * inf.
            lowered = tg.where((exponent == 0) & (input == 0), 1.0, exponent) - 1
            return upstream * (exponent * tg.pow(input, lowered))
        if exponent == 0:
            return tg.zeros_like(upstream)
        return upstream if exponent == 1 else upstream * (exponent * input ** (exponent - 1))

    def grad_exponent(upstream, input, exponent, out):
        if isinstance(input, Tensor):
            return upstream * out * tg.where((input == 0) & (exponent >= 0), 1.0, input).log()
        if input == 0:
            return tg.where(exponent >= 0, 0.0, upstream * out * -math.inf)
        return upstream * out * (math.log(input) if input > 0 else math.nan)


@op(
    "neg",
    domain=elementwise(Real()),
    formula="-input",
    inplace=True,
    aliases=("negative",),
    laws=(
        Linear("input"),
        Involution("input"),
    ),
)
class neg(Elementwise):
    """-input. TypeError for a bool tensor."""

    scalar = "-input"

    def reference(input: Array) -> np.ndarray:
        if input.dtype.kind == "b":
            raise TypeError("neg: a bool tensor has no negative; use logical_not or ~")
        return np.negative(input)

    def grad_input(upstream):
        return -upstream


@op("positive", domain=elementwise(Real()), formula="input")
class positive(Elementwise):
    """+input: the same values. TypeError for a bool tensor."""

    scalar = "input"

    def reference(input: Array) -> np.ndarray:
        if input.dtype.kind == "b":
            raise TypeError("positive: not defined for a bool tensor; convert it to integers")
        return np.positive(input)

    def grad_input(upstream):
        return upstream


@op(
    "abs",
    domain=elementwise(NONZERO),
    formula="|input|",
    kinks={0.0: 0.0},
    inplace=True,
    aliases=("absolute",),
    laws=(
        Homogeneous("input", positive=True),
        Idempotent("input"),
    ),
)
class abs(Elementwise):
    """The absolute value. Its gradient at 0 is 0. TypeError for a bool tensor."""

    scalar = "abs(input)"

    def reference(input: Array) -> np.ndarray:
        if input.dtype.kind == "b":
            raise TypeError("abs: not defined for a bool tensor; convert it to integers")
        return np.abs(input)

    def grad_input(upstream, input):
        return upstream * input.sign()


@op(
    "sign",
    domain=elementwise(NONZERO),
    formula="-1, 0 or 1 by the sign of input",
    kinks={0.0: 0.0},
    inplace=True,
    laws=(
        Homogeneous("input", degree=0, positive=True),
        Idempotent("input"),
    ),
)
class sign(Elementwise):
    """1 where input > 0, -1 where input < 0, else 0 (for NaN too, as PyTorch). Its gradient is 0 everywhere."""

    scalar = "1.0 if input > 0.0 else (-1.0 if input < 0.0 else 0.0)"

    def reference(input: Array) -> np.ndarray:
        if input.dtype.kind == "b":
            return input.copy()
        return np.subtract(input > 0, input < 0, dtype=input.dtype)

    def grad_input(upstream):
        return tg.zeros_like(upstream)


@op(
    "reciprocal",
    domain=elementwise(NONZERO),
    formula="1 / input",
    inplace=True,
    laws=(
        Homogeneous("input", degree=-1),
        Involution("input"),
    ),
)
class reciprocal(Elementwise):
    """1 / input. Integers give the default floating dtype."""

    scalar = "1.0 / input"
    int_to_float = True

    def reference(input: Array) -> np.ndarray:
        return np.true_divide(1.0, input)

    def grad_input(upstream, out):
        return -upstream * (out * out)


@op("square", domain=elementwise(Real()), formula="input ** 2", inplace=True, laws=(Homogeneous("input", degree=2),))
class square(Elementwise):
    """input * input. Bools give int64."""

    scalar = "input * input"

    def reference(input: Array) -> np.ndarray:
        return np.square(input) if input.dtype.kind != "b" else input.astype(np.int64)

    def grad_input(upstream, input):
        return upstream * (2.0 * input)


@op(
    "addcmul",
    domain=elementwise(Real(), Real(), Real(), value=Real(0.5, 2)),
    formula="input + value * tensor1 * tensor2",
    inplace=True,
    laws=(Linear("input", "tensor1"),),
)
class addcmul(Elementwise):
    """input + value * tensor1 * tensor2, elementwise, of shapes that broadcast.

    TypeError for a fractional value with integers, and for bools.
    """

    scalar = "input + value * tensor1 * tensor2"

    def prepare(input, tensor1, tensor2, *, value=1):
        require_tensors("addcmul", input=input, tensor1=tensor1, tensor2=tensor2)
        return input, tensor1, tensor2, value

    def reference(input: Array, tensor1: Array, tensor2: Array, *, value: float = 1) -> np.ndarray:
        if kind_of(input, tensor1, tensor2) == "b":
            raise TypeError("addcmul: not defined for bool tensors; convert to integers")
        return np.add(input, np.multiply(scale_by("addcmul", "value", value, tensor1, input, tensor2), tensor2))

    def grad_input(upstream):
        return upstream

    def grad_tensor1(upstream, tensor2, value):
        return upstream * (tensor2 * value)

    def grad_tensor2(upstream, tensor1, value):
        return upstream * (tensor1 * value)


@op(
    "addcdiv",
    domain=elementwise(Real(), Real(), NONZERO, value=Real(0.5, 2)),
    formula="input + value * tensor1 / tensor2",
    inplace=True,
)
class addcdiv(Elementwise):
    """input + value * tensor1 / tensor2, elementwise, of shapes that broadcast. TypeError where tensor1 and tensor2 are integers."""

    scalar = "input + value * tensor1 / tensor2"

    def prepare(input, tensor1, tensor2, *, value=1):
        require_tensors("addcdiv", input=input, tensor1=tensor1, tensor2=tensor2)
        if not is_floating(tensor1) and not is_floating(tensor2):
            raise TypeError(
                f"addcdiv: expected floating tensors, got {tensor1.dtype} and {tensor2.dtype}; use .float(), or div with rounding_mode "
                "and add"
            )
        return input, tensor1, tensor2, value

    def reference(input: Array, tensor1: Array, tensor2: Array, *, value: float = 1) -> np.ndarray:
        return np.add(input, np.true_divide(scale_by("addcdiv", "value", value, tensor1, input, tensor2), tensor2))

    def grad_input(upstream):
        return upstream

    def grad_tensor1(upstream, tensor2, value):
        return upstream * (value / tensor2)

    def grad_tensor2(upstream, tensor1, tensor2, value):
        return -upstream * (value * tensor1 / (tensor2 * tensor2))
