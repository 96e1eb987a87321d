"""Comparisons, tests for special values, logical and bitwise operators. None of them has a gradient."""

from __future__ import annotations

import numpy as np

import tinygrad_cv as tg

from ..extend import Array, Booleans, Composite, Elementwise, Integers, call, elementwise, op
from .arithmetic import is_floating, refuse_bool


def _pair_domain(draw):
    """Two tensors with some equal elements."""
    shape = draw.shape((0, 3))
    step = draw.choice([1, 0.5])
    return call(*(np.asarray(draw.integers(s, -2, 3) * step) for s in (shape, draw.broadcastable(shape))))


@op("eq", domain=_pair_domain, formula="input == other", inplace=True)
class eq(Elementwise):
    """Whether the elements are equal: a bool tensor. NaN equals nothing."""

    scalar = "input == other"
    differentiable = False

    def reference(input: Array, other: Array) -> np.ndarray:
        return np.equal(input, other)


@op("ne", domain=_pair_domain, formula="input != other", inplace=True, aliases=("not_equal",))
class ne(Elementwise):
    """Whether the elements differ: a bool tensor. NaN differs from everything."""

    scalar = "input != other"
    differentiable = False

    def reference(input: Array, other: Array) -> np.ndarray:
        return np.not_equal(input, other)


@op("lt", domain=_pair_domain, formula="input < other", inplace=True, aliases=("less",))
class lt(Elementwise):
    """Whether input is less than other: a bool tensor, False at NaN."""

    scalar = "input < other"
    differentiable = False

    def reference(input: Array, other: Array) -> np.ndarray:
        return np.less(input, other)


@op("le", domain=_pair_domain, formula="input <= other", inplace=True, aliases=("less_equal",))
class le(Elementwise):
    """Whether input is less than or equal to other: a bool tensor, False at NaN."""

    scalar = "input <= other"
    differentiable = False

    def reference(input: Array, other: Array) -> np.ndarray:
        return np.less_equal(input, other)


@op("gt", domain=_pair_domain, formula="input > other", inplace=True, aliases=("greater",))
class gt(Elementwise):
    """Whether input is greater than other: a bool tensor, False at NaN."""

    scalar = "input > other"
    differentiable = False

    def reference(input: Array, other: Array) -> np.ndarray:
        return np.greater(input, other)


@op("ge", domain=_pair_domain, formula="input >= other", inplace=True, aliases=("greater_equal",))
class ge(Elementwise):
    """Whether input is greater than or equal to other: a bool tensor, False at NaN."""

    scalar = "input >= other"
    differentiable = False

    def reference(input: Array, other: Array) -> np.ndarray:
        return np.greater_equal(input, other)


def _special_domain(draw):
    shape = draw.shape((0, 3))
    special = np.array([0.0, 1.0, np.nan, np.inf, -np.inf])
    return call(np.asarray(special[draw.integers(shape, 0, len(special))] + draw.real(shape)))


@op("isnan", domain=_special_domain, formula="input != input")
class isnan(Elementwise):
    """Whether the elements are NaN: a bool tensor."""

    scalar = "isnan(input)"
    differentiable = False

    def reference(input: Array) -> np.ndarray:
        return np.isnan(input)


@op("isinf", domain=_special_domain, formula="|input| == inf")
class isinf(Elementwise):
    """Whether the elements are inf or -inf: a bool tensor."""

    scalar = "isinf(input)"
    differentiable = False

    def reference(input: Array) -> np.ndarray:
        return np.isinf(input)


@op("isfinite", domain=_special_domain, formula="|input| < inf")
class isfinite(Elementwise):
    """Whether the elements are neither NaN nor infinite: a bool tensor."""

    scalar = "isfinite(input)"
    differentiable = False

    def reference(input: Array) -> np.ndarray:
        return np.isfinite(input)


def _close_domain(draw):
    shape = draw.shape((0, 3))
    input = np.asarray(draw.integers(shape, -2, 3) * 0.5)
    other = np.asarray(input + draw.choice([0.0, 1e-9, 0.01, 1.0]) * draw.integers(shape, -1, 2))
    return call(input, other, rtol=draw.choice([1e-5, 0.1]), atol=draw.choice([1e-8, 0.05]), equal_nan=draw.boolean())


def _near(input: np.ndarray, other: np.ndarray, rtol: float, atol: float, equal_nan: bool) -> np.ndarray:
    near = np.equal(input, other) | (np.isfinite(other) & (np.abs(input - other) <= atol + rtol * np.abs(other)))
    return near | (np.isnan(input) & np.isnan(other)) if equal_nan else near


@op("isclose", domain=_close_domain, formula="|input - other| <= atol + rtol * |other|")
class isclose(Elementwise):
    """Whether the elements agree within a tolerance: a bool tensor.

    Infinities agree with themselves only, NaN with NaN only if `equal_nan`. ValueError for a negative tolerance.
    """

    differentiable = False

    def prepare(input, other, rtol=1e-05, atol=1e-08, equal_nan=False):
        if rtol < 0 or atol < 0:
            raise ValueError(f"isclose: rtol and atol must not be negative, got rtol={rtol}, atol={atol}")
        return input, other, rtol, atol, equal_nan

    def reference(input: Array, other: Array, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> np.ndarray:
        if np.result_type(input, other).kind in "bui":
            input, other = np.asarray(input, np.float64), np.asarray(other, np.float64)
        return _near(input, other, rtol, atol, equal_nan)


@op("allclose", domain=_close_domain, formula="all(|input - other| <= atol + rtol * |other|)")
class allclose(Composite):
    """Whether all elements agree within a tolerance, as `isclose`: a Python bool."""

    def compose(input, other, rtol=1e-05, atol=1e-08, equal_nan=False):
        return bool(tg.isclose(input, other, rtol, atol, equal_nan).numpy().all())

    def reference(input: Array, other: Array, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> bool:
        return np.allclose(input, other, rtol, atol, equal_nan)


@op("equal", domain=_pair_domain, formula="the shapes agree and all(input == other)")
class equal(Composite):
    """Whether both tensors have one shape and the same elements: a Python bool. NaN equals nothing."""

    def compose(input, other):
        return input.shape == other.shape and bool(tg.eq(input, other).numpy().all())

    def reference(input: Array, other: Array) -> bool:
        return np.array_equal(input, other)


_truth = elementwise(Integers(0, 2), Integers(0, 2))


@op("logical_and", domain=_truth, formula="input != 0 and other != 0", inplace=True)
class logical_and(Elementwise):
    """Whether both elements are nonzero: a bool tensor. NaN counts as nonzero."""

    scalar = "input != 0.0 and other != 0.0"
    differentiable = False

    def reference(input: Array, other: Array) -> np.ndarray:
        return np.logical_and(input, other)


@op("logical_or", domain=_truth, formula="input != 0 or other != 0", inplace=True)
class logical_or(Elementwise):
    """Whether either element is nonzero: a bool tensor. NaN counts as nonzero."""

    scalar = "input != 0.0 or other != 0.0"
    differentiable = False

    def reference(input: Array, other: Array) -> np.ndarray:
        return np.logical_or(input, other)


@op("logical_xor", domain=_truth, formula="(input != 0) != (other != 0)", inplace=True)
class logical_xor(Elementwise):
    """Whether exactly one element is nonzero: a bool tensor. NaN counts as nonzero."""

    scalar = "(input != 0.0) != (other != 0.0)"
    differentiable = False

    def reference(input: Array, other: Array) -> np.ndarray:
        return np.logical_xor(input, other)


@op("logical_not", domain=elementwise(Integers(0, 2)), formula="input == 0", inplace=True)
class logical_not(Elementwise):
    """Whether the elements are zero: a bool tensor."""

    scalar = "input == 0.0"
    differentiable = False

    def reference(input: Array) -> np.ndarray:
        return np.logical_not(input)


def _refuse_floats(name: str, *operands) -> None:
    if any(is_floating(v) for v in operands):
        given = " and ".join(str(getattr(v, "dtype", type(v).__name__)) for v in operands)
        raise TypeError(f"{name}: expected integer or bool tensors, got {given}")


def _bits_domain(draw):
    return draw.choice([elementwise(Integers(), Integers()), elementwise(Booleans(), Booleans())])(draw)


@op("bitwise_and", domain=_bits_domain, formula="input & other", inplace=True)
class bitwise_and(Elementwise):
    """The bitwise and of integers, the logical and of bools. TypeError for floats."""

    differentiable = False

    def prepare(input, other):
        _refuse_floats("bitwise_and", input, other)
        return input, other

    def reference(input: Array, other: Array) -> np.ndarray:
        return np.bitwise_and(input, other)


@op("bitwise_or", domain=_bits_domain, formula="input | other", inplace=True)
class bitwise_or(Elementwise):
    """The bitwise or of integers, the logical or of bools. TypeError for floats."""

    differentiable = False

    def prepare(input, other):
        _refuse_floats("bitwise_or", input, other)
        return input, other

    def reference(input: Array, other: Array) -> np.ndarray:
        return np.bitwise_or(input, other)


@op("bitwise_xor", domain=_bits_domain, formula="input ^ other", inplace=True)
class bitwise_xor(Elementwise):
    """The bitwise exclusive or of integers, the logical one of bools. TypeError for floats."""

    differentiable = False

    def prepare(input, other):
        _refuse_floats("bitwise_xor", input, other)
        return input, other

    def reference(input: Array, other: Array) -> np.ndarray:
        return np.bitwise_xor(input, other)


@op("bitwise_not", domain=lambda draw: call(_bits_domain(draw).args[0]), formula="~input", inplace=True)
class bitwise_not(Elementwise):
    """The bitwise complement of integers, the logical not of bools. TypeError for floats."""

    differentiable = False

    def prepare(input):
        _refuse_floats("bitwise_not", input)
        return (input,)

    def reference(input: Array) -> np.ndarray:
        return np.bitwise_not(input)


_shifts = elementwise(Integers(), Integers(0, 8))


@op("bitwise_left_shift", domain=_shifts, formula="input * 2 ** other", inplace=True)
class bitwise_left_shift(Elementwise):
    """The bits of integers moved left by `other` places, which is not negative; all bits are gone at the width of the dtype."""

    differentiable = False

    def prepare(input, other):
        _refuse_floats("bitwise_left_shift", input, other)
        refuse_bool("bitwise_left_shift", "convert to integers", input, other)
        return input, other

    def reference(input: Array, other: Array) -> np.ndarray:
        return np.left_shift(input, other)


@op("bitwise_right_shift", domain=_shifts, formula="floor(input / 2 ** other)", inplace=True)
class bitwise_right_shift(Elementwise):
    """The bits of integers moved right by `other` places, which is not negative; the sign is kept."""

    differentiable = False

    def prepare(input, other):
        _refuse_floats("bitwise_right_shift", input, other)
        refuse_bool("bitwise_right_shift", "convert to integers", input, other)
        return input, other

    def reference(input: Array, other: Array) -> np.ndarray:
        return np.right_shift(input, other)
