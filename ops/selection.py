"""Choices between numbers (where, minimum, clamp, ...) and means of two (lerp, hypot, logaddexp, ...)."""

from __future__ import annotations

import math

import numpy as np

import tinygrad_cv as tg

from ..extend import (
    Array,
    Booleans,
    Composite,
    Elementwise,
    Homogeneous,
    Idempotent,
    Linear,
    Real,
    Symmetric,
    Tensor,
    call,
    elementwise,
    op,
)
from .arithmetic import NONZERO, is_bool, is_floating


def _refuse_mask(name: str, parameter: str, mask) -> None:
    if not isinstance(mask, Tensor) or mask.dtype.kind != "b":
        given = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise TypeError(f"{name}: `{parameter}` must be a bool tensor, got {given}; compare first, as in x > 0")


@op(
    "where",
    domain=elementwise(Booleans(), Real(), Real()),
    formula="input where condition, else other",
    method=False,
)
class where(Elementwise):
    """Elements of `input` where `condition` holds, of `other` elsewhere.

    condition: a bool Tensor (TypeError otherwise). input, other: Tensors or numbers. All shapes broadcast together; the dtype
    is that to which input and other promote. `where(condition)` alone gives the positions, as `nonzero(condition, as_tuple=True)`.
    """

    scalar = "input if condition else other"
    promotes = ("input", "other")
    nondiff = ("condition",)

    def prepare(condition, input=None, other=None):
        _refuse_mask("where", "condition", condition)
        if input is None or other is None:
            raise TypeError("where: give both input and other, or neither for the positions where condition holds")
        return condition, input, other

    def reference(condition: Array, input: Array | None = None, other: Array | None = None) -> np.ndarray:
        return np.where(condition, input, other)

    def grad_input(upstream, condition):
        return tg.where(condition, upstream, 0.0)

    def grad_other(upstream, condition):
        return tg.where(condition, 0.0, upstream)


def _where(condition, input=None, other=None):
    if input is None and other is None:
        return tg.nonzero(condition, as_tuple=True)
    return where._functions[1](condition, input, other)


_where.__name__ = _where.__qualname__ = "where"
_where.__doc__ = where.doc
_where.operator = where
where.function = _where  # its form with one argument is another operator


def _masked_fill_domain(draw):
    shape = draw.shape((0, 3))
    value = draw.choice([-1.5, 2, draw.real(())])
    return call(draw.real(shape), draw.mask(draw.broadcastable(shape)), value)


@op("masked_fill", domain=_masked_fill_domain, formula="value where mask, else input", inplace=True)
class masked_fill(Elementwise):
    """`input` with `value` (a number or a 0-d Tensor) wherever `mask` holds. mask: a bool Tensor that broadcasts with input.

    The dtype is input's: TypeError for a value that it cannot hold, such as 0.5 for integers, ValueError for a value with axes.
    """

    scalar = "value if mask else input"
    promotes = ("input", "value")
    nondiff = ("mask",)

    def prepare(input, mask, value):
        _refuse_mask("masked_fill", "mask", mask)
        if isinstance(value, Tensor) and value.ndim:
            raise ValueError(f"masked_fill: value must be a number or a 0-d tensor, got shape {value.shape}")
        if is_floating(input):
            return input, mask, value
        exact = value.item() if isinstance(value, (Tensor, np.generic)) else value
        low, high = (0, 1) if is_bool(input) else (np.iinfo(input.dtype).min, np.iinfo(input.dtype).max)
        if not low <= exact <= high or exact != int(exact):
            raise TypeError(f"masked_fill: the value {exact} cannot be held by {input.dtype}; convert the input first")
        return input, mask, bool(exact) if is_bool(input) else int(exact)

    def reference(input: Array, mask: Array, value: Array | float) -> np.ndarray:
        return np.where(mask, value, input)

    def grad_input(upstream, mask):
        return tg.where(mask, 0.0, upstream)

    def grad_value(upstream, mask):
        return tg.where(mask, upstream, 0.0)


def _untied_domain(draw):
    shape = draw.shape((0, 3))
    narrow = draw.broadcastable(shape)
    values = draw.distinct((math.prod(shape) + math.prod(narrow),))
    return call(values[: math.prod(shape)].reshape(shape), values[math.prod(shape) :].reshape(narrow))


@op(
    "maximum",
    domain=_untied_domain,
    formula="the larger of input and other",
    kinks=("input == other",),
    laws=(
        Symmetric("input", "other"),
        Homogeneous("input", "other", positive=True),
    ),
)
class maximum(Elementwise):
    """The larger element, NaN where either is NaN. Where both are equal, each receives half of the gradient."""

    scalar = "maximum(input, other)"

    def reference(input: Array, other: Array) -> np.ndarray:
        return np.maximum(input, other)

    def grad_input(upstream, input, other):
        return tg.where(input == other, upstream * 0.5, tg.where(input < other, 0.0, upstream))

    def grad_other(upstream, input, other):
        return tg.where(input == other, upstream * 0.5, tg.where(input > other, 0.0, upstream))


@op(
    "minimum",
    domain=_untied_domain,
    formula="the smaller of input and other",
    kinks=("input == other",),
    laws=(
        Symmetric("input", "other"),
        Homogeneous("input", "other", positive=True),
    ),
)
class minimum(Elementwise):
    """The smaller element, NaN where either is NaN. Where both are equal, each receives half of the gradient."""

    scalar = "minimum(input, other)"

    def reference(input: Array, other: Array) -> np.ndarray:
        return np.minimum(input, other)

    def grad_input(upstream, input, other):
        return tg.where(input == other, upstream * 0.5, tg.where(input > other, 0.0, upstream))

    def grad_other(upstream, input, other):
        return tg.where(input == other, upstream * 0.5, tg.where(input < other, 0.0, upstream))


def _clamp_domain(draw):
    shape = draw.shape((0, 3))
    input = np.asarray(draw.integers(shape, -1, 2) * 2.0 + draw.real(shape, -0.6, 0.6))
    low, high = -1.0, 1.0
    if draw.boolean():
        low, high = draw.real(draw.broadcastable(shape), -1.3, -0.7), draw.real(draw.broadcastable(shape), 0.7, 1.3)
    return call(input, *draw.choice([(low, high), (None, high), (low, None), (low,)]))


def _below(input, low):
    """The mask of input >= low; None where no bound is set."""
    return None if low is None or (not isinstance(low, Tensor) and low == -math.inf) else input >= low


def _above(input, high):
    return None if high is None or (not isinstance(high, Tensor) and high == math.inf) else input <= high


def _bounds(name: str, input, low, high):
    """The arguments of clamp: a missing bound is an infinity, unless all are integers, which that would make floats."""
    if low is None and high is None:
        raise ValueError(f"{name}: at least one of min and max must be given")
    if any(v is not None and is_floating(v) for v in (input, low, high)):
        low, high = -math.inf if low is None else low, math.inf if high is None else high
    return input, low, high


@op(
    "clamp",
    domain=_clamp_domain,
    formula="min(max(input, min), max)",
    kinks=("input == min", "input == max"),
    inplace=True,
    aliases=("clip",),
    laws=(Idempotent("input"),),
)
class clamp(Elementwise):
    """`input` limited to [min, max], either of which may be None, a number or a Tensor; where min > max it is max.

    At a bound, input receives the gradient; a bound that is a Tensor receives it where it is in force. NaN stays NaN and has
    gradient 0. ValueError when both bounds are None.
    """

    scalar = "minimum(maximum(input, min), max)"

    def prepare(input, min=None, max=None):
        return _bounds("clamp", input, min, max)

    def reference(input: Array, min: Array | None = None, max: Array | None = None) -> np.ndarray:
        raised = input if min is None else np.maximum(input, min)
        return raised if max is None else np.minimum(raised, max)

    def grad_input(upstream, input, min, max):
        inside = [m for m in (_below(input, min), _above(input, max)) if m is not None]
        return tg.where(inside[0] if len(inside) == 1 else inside[0] & inside[1], upstream, 0.0) if inside else upstream

    def grad_min(upstream, input, min, max):
        in_force = input < min
        return tg.where(in_force if max is None else in_force & (min < max), upstream, 0.0)

    def grad_max(upstream, input, min, max):
        in_force = input > max
        return tg.where(in_force if min is None else in_force | (max < min), upstream, 0.0)


def _one_bound_domain(draw):
    shape = draw.shape((0, 3))
    bound = draw.choice([0.0, draw.real(draw.broadcastable(shape), -0.3, 0.3)])
    return call(np.asarray(draw.real(shape, 0.5, 2) * draw.choice([1.0, -1.0])), bound)


@op("clamp_min", domain=_one_bound_domain, formula="max(input, min)", kinks=("input == min",), inplace=True)
class clamp_min(Composite):
    """`clamp` with a lower bound only, a number or a Tensor."""

    def compose(input, min):
        return tg.clamp(input, min=min)

    def reference(input: Array, min: Array | float) -> np.ndarray:
        return np.maximum(input, min)


@op("clamp_max", domain=_one_bound_domain, formula="min(input, max)", kinks=("input == max",), inplace=True)
class clamp_max(Composite):
    """`clamp` with an upper bound only, a number or a Tensor."""

    def compose(input, max):
        return tg.clamp(input, max=max)

    def reference(input: Array, max: Array | float) -> np.ndarray:
        return np.minimum(input, max)


def _lerp_domain(draw):
    shape = draw.shape((0, 3))
    weight = draw.choice([0.3, 0.7, draw.real(draw.broadcastable(shape), -1, 2)])
    return call(draw.real(shape), draw.real(draw.broadcastable(shape)), weight)


@op("lerp", domain=_lerp_domain, formula="input + weight * (end - input)", inplace=True, laws=(Linear("input", "end"),))
class lerp(Elementwise):
    """Linear interpolation from input (weight 0) to end (weight 1), exact at both; weight is a number or a Tensor."""

    scalar = "input + weight * (end - input) if abs(weight) < 0.5 else end - (end - input) * (1.0 - weight)"

    def reference(input: Array, end: Array, weight: Array | float) -> np.ndarray:
        if input.dtype.kind != "f":
            raise TypeError(f"lerp: expected floating tensors, got {input.dtype}; use .float()")
        step = np.subtract(end, input)
        return np.where(np.abs(weight) < 0.5, input + weight * step, end - step * np.subtract(1, weight, dtype=step.dtype))

    def grad_input(upstream, weight):
        return upstream * (1.0 - weight)

    def grad_end(upstream, weight):
        return upstream * weight

    def grad_weight(upstream, input, end):
        return upstream * (end - input)


@op(
    "hypot",
    domain=elementwise(NONZERO, Real()),
    formula="sqrt(input ** 2 + other ** 2)",
    inplace=True,
    laws=(
        Symmetric("input", "other"),
        Homogeneous("input", "other", positive=True),
    ),
)
class hypot(Elementwise):
    """The length of the hypotenuse, without overflow; inf where either side is. Integers give the default floating dtype.

    At (0, 0), where no derivative exists, both gradients are NaN, as in PyTorch.
    """

    scalar = "hypot(input, other)"
    int_to_float = True

    def reference(input: Array, other: Array) -> np.ndarray:
        return np.hypot(input, other)

    def grad_input(upstream, input, out):
        return upstream * (input / out)

    def grad_other(upstream, other, out):
        return upstream * (other / out)


@op("logaddexp", domain=elementwise(Real(), Real()), formula="ln(e^input + e^other)", laws=(Symmetric("input", "other"),))
class logaddexp(Elementwise):
    """ln(e^input + e^other) without overflow."""

    scalar = (
        "input + 0.6931471805599453 if input == other"
        " else maximum(input, other) + log1p(exp(-abs(input - other)))"
    )  # fmt: skip
    int_to_float = True

    def reference(input: Array, other: Array) -> np.ndarray:
        return np.logaddexp(input, other)

    def grad_input(upstream, input, other):
        return upstream * tg.sigmoid(input - other)

    def grad_other(upstream, input, other):
        return upstream * tg.sigmoid(other - input)


@op(
    "copysign",
    domain=elementwise(NONZERO, NONZERO),
    formula="|input| with the sign of other",
    kinks=("input == 0", "other == 0"),
    inplace=True,
)
class copysign(Elementwise):
    """The magnitude of input with the sign of other, that of a zero included. Integers give the default floating dtype.

    The gradient of input is 0 at 0; that of other is 0 everywhere.
    """

    scalar = "copysign(input, other)"
    int_to_float = True

    def reference(input: Array, other: Array) -> np.ndarray:
        return np.copysign(input, other)

    def grad_input(upstream, input, out):
        return upstream * (input.sign() * out.sign())

    def grad_other(upstream):
        return tg.zeros_like(upstream)


def _nan_to_num_domain(draw):
    shape = draw.shape((0, 3))
    replaced = {} if draw.boolean() else {"nan": 1.5, "posinf": 2.0, "neginf": -2.0}
    return call(np.asarray(np.where(draw.mask(shape), np.nan, draw.real(shape))), **replaced)


@op("nan_to_num", domain=_nan_to_num_domain, formula="input with NaN, inf and -inf replaced by numbers", inplace=True)
class nan_to_num(Elementwise):
    """`input` with NaN replaced by `nan`, inf by `posinf` and -inf by `neginf`; None stands for the largest and the smallest
    finite number of the dtype. Integers are returned as they are. A replaced element has gradient 0."""

    scalar = "input if input - input == 0.0 else (nan if input != input else (posinf if input > 0.0 else neginf))"

    def prepare(input, nan=0.0, posinf=None, neginf=None):
        if isinstance(input, Tensor) and input.dtype.kind == "f":
            limits = np.finfo(input.dtype)
            nan = 0.0 if nan is None else nan
            posinf = float(limits.max) if posinf is None else posinf
            neginf = float(limits.min) if neginf is None else neginf
        return input, nan, posinf, neginf

    def reference(
        input: Array, nan: float | None = 0.0, posinf: float | None = None, neginf: float | None = None
    ) -> np.ndarray:
        if input.dtype.kind != "f":
            return input.copy()
        return np.asarray(np.nan_to_num(input, nan=0.0 if nan is None else nan, posinf=posinf, neginf=neginf))

    def grad_input(upstream, input):
        return tg.where(input.isfinite(), upstream, 0.0)
