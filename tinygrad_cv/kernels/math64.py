"""The functions of scalar expressions in float64: those of the C library, and correct before they are fast.

float64 is for checking gradients; loops over these do not vectorise where a function of the C library is called.
"""

from __future__ import annotations

import math

import numpy as np

from .intrinsics import ceil, copysign, fabs, floor, fma, rint, select, sqrt, trunc
from .jit import helper

_INF = math.inf
_NAN = math.nan


@helper
def where(condition, x, y):
    """x if condition else y; both are computed."""
    return select(condition, np.float64(x), np.float64(y))


@helper
def maximum(x, y):
    """The larger; nan if either is."""
    r = select(x > y, x, y)
    return select(x == x, r, x)


@helper
def minimum(x, y):
    """The smaller; nan if either is."""
    r = select(x < y, x, y)
    return select(x == x, r, x)


@helper
def sign(x):
    """-1, 0 or 1; nan of nan."""
    r = select(x > 0.0, 1.0, select(x < 0.0, -1.0, 0.0))
    return select(x == x, r, x)


@helper
def isnan(x):
    return x != x


@helper
def isinf(x):
    return fabs(x) == _INF


@helper
def isfinite(x):
    return fabs(x) < _INF


@helper
def rsqrt(x):
    return 1.0 / sqrt(x)


@helper
def exp(x):
    return math.exp(x)


@helper
def exp2(x):
    return 2.0**x


@helper
def expm1(x):
    return math.expm1(x)


@helper
def log(x):
    return math.log(x)


@helper
def log2(x):
    return np.log2(x)


@helper
def log10(x):
    return math.log10(x)


@helper
def log1p(x):
    return math.log1p(x)


@helper
def sigmoid(x):
    """1 / (1 + e^-x), without overflow."""
    e = math.exp(-fabs(x))
    return select(x >= 0.0, 1.0, e) / (1.0 + e)


@helper
def tanh(x):
    return math.tanh(x)


@helper
def erf(x):
    return math.erf(x)


@helper
def erfc(x):
    return math.erfc(x)


@helper
def normal_pdf(x):
    """e^(-x^2 / 2) / sqrt(2 pi)."""
    return math.exp(-0.5 * x * x) * 0.3989422804014327


@helper
def normal_cdf(x):
    """(1 + erf(x / sqrt(2))) / 2."""
    return 0.5 * math.erfc(-0.7071067811865476 * x)


@helper
def sin(x):
    return math.sin(x)


@helper
def cos(x):
    return math.cos(x)


@helper
def tan(x):
    return math.tan(x)


@helper
def asin(x):
    return math.asin(x)


@helper
def acos(x):
    return math.acos(x)


@helper
def atan(x):
    return math.atan(x)


@helper
def atan2(y, x):
    return math.atan2(y, x)


@helper
def sinh(x):
    return math.sinh(x)


@helper
def cosh(x):
    return math.cosh(x)


@helper
def asinh(x):
    return math.asinh(x)


@helper
def acosh(x):
    return math.acosh(x)


@helper
def atanh(x):
    return math.atanh(x)


@helper
def hypot(x, y):
    return math.hypot(x, y)


@helper
def pow(x, y):
    return x**y


@helper
def fmod(x, y):
    """The remainder with the sign of x."""
    return np.fmod(x, y)


__all__ = [
    "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "ceil", "copysign", "cos", "cosh", "erf", "erfc", "exp",
    "exp2", "expm1", "fabs", "floor", "fma", "fmod", "hypot", "isfinite", "isinf", "isnan", "log", "log1p", "log2", "log10",
    "maximum", "minimum", "normal_cdf", "normal_pdf",
    "pow", "rint", "rsqrt", "sigmoid", "sign", "sin", "sinh", "sqrt", "tan", "tanh", "trunc", "where",
]  # fmt: skip
