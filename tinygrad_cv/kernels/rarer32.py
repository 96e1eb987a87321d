"""The rarer functions of scalar expressions in float32, computed in float64 (`doubles`) and rounded: at most 0.51 ulp, but for
the sine and its kin. Part of `math32`, whose text says what an ulp is and how NaN and the like are treated.
"""

from __future__ import annotations

import math

import numpy as np

from . import doubles
from .intrinsics import copysign, fabs, fma, int32_of, rint, select, sqrt
from .jit import helper

_f = np.float32
_i = np.int32
_ZERO, _HALF, _ONE = _f(0), _f(0.5), _f(1)
_INF, _NAN = _f(np.inf), _f(np.nan)


@helper
def erfc(x):
    """1 - erf(x), at most 0.51 ulp. 2 at -inf, 0 at inf and beyond 10.06; subnormal results are rounded once."""
    d = np.float64(x)
    r = doubles.erfc_part(fabs(d))
    r = _f(select(d < 0.0, 2.0 - r, r))
    return select(x == x, r, x)


@helper
def sin(x):
    """sin x for every finite x, at most 0.51 ulp. Zeros keep their sign; nan at infinity."""
    n, r = doubles.reduce_angle(np.float64(x))
    k = int32_of(_f(n))
    s = select((k & _i(1)) != 0, doubles.cos_part(r), doubles.sin_part(r))
    s = _f(select((k & _i(2)) != 0, -s, s))
    s = select(x == _ZERO, x, s)
    return select(fabs(x) < _INF, s, _NAN)


@helper
def cos(x):
    """cos x for every finite x, at most 0.51 ulp. nan at infinity."""
    n, r = doubles.reduce_angle(np.float64(x))
    k = int32_of(_f(n))
    s = select((k & _i(1)) != 0, doubles.sin_part(r), doubles.cos_part(r))
    s = _f(select(((k + _i(1)) & _i(2)) != 0, -s, s))
    return select(fabs(x) < _INF, s, _NAN)


@helper
def tan(x):
    """tan x for every finite x, at most 0.51 ulp. Zeros keep their sign; nan at infinity."""
    n, r = doubles.reduce_angle(np.float64(x))
    odd = (int32_of(_f(n)) & _i(1)) != 0
    s, c = doubles.sin_part(r), doubles.cos_part(r)
    t = _f(select(odd, -c, s) / select(odd, s, c))
    t = select(x == _ZERO, x, t)
    return select(fabs(x) < _INF, t, _NAN)


@helper
def asin(x):
    """asin x, at most 0.51 ulp. Zeros keep their sign; nan beyond 1."""
    return select(x == _ZERO, x, _f(doubles.asin(np.float64(x))))


@helper
def acos(x):
    """acos x, at most 0.51 ulp. nan beyond 1."""
    return _f(doubles.acos(np.float64(x)))


@helper
def atan(x):
    """atan x, at most 0.51 ulp. Zeros keep their sign; -pi/2 and pi/2 at the infinities."""
    a = fabs(np.float64(x))
    steep = a > 1.0
    r = doubles.atan_part(select(steep, 1.0 / a, a))
    r = copysign(_f(select(steep, 0.5 * math.pi - r, r)), x)
    return select(x == x, r, x)


@helper
def atan2(y, x):
    """The angle of the point (x, y), at most 0.51 ulp. Signed zeros and infinities as in C."""
    dy, dx = np.float64(y), np.float64(x)
    ay, ax = fabs(dy), fabs(dx)
    small, large = select(ay < ax, ay, ax), select(ay < ax, ax, ay)
    t = small / large
    t = select(large == 0.0, 0.0, select(small == np.inf, 1.0, t))
    r = doubles.atan_part(t)
    r = select(ay > ax, 0.5 * math.pi - r, r)
    r = select(copysign(1.0, dx) < 0.0, math.pi - r, r)
    r = copysign(_f(r), y)
    return select((x == x) & (y == y), r, x + y)


@helper
def sinh(x):
    """(e^x - e^-x) / 2, at most 0.51 ulp. Zeros keep their sign; infinite from 89.42 on."""
    a = fabs(np.float64(x))
    e = doubles.exp(a)
    z = a * a
    near = fma(a * z, fma(z, fma(z, 1.0 / 5040.0, 1.0 / 120.0), 1.0 / 6.0), a)
    r = copysign(_f(select(a < 0.05, near, 0.5 * (e - 1.0 / e))), x)
    return select(x == x, r, x)


@helper
def cosh(x):
    """(e^x + e^-x) / 2, at most 0.51 ulp. inf from 89.42 on."""
    e = doubles.exp(fabs(np.float64(x)))
    return select(x == x, _f(0.5 * (e + 1.0 / e)), x)


@helper
def asinh(x):
    """asinh x, at most 0.51 ulp. Zeros and infinities keep their sign."""
    a = fabs(np.float64(x))
    z = a * a
    near = fma(a * z, fma(z, 3.0 / 40.0, -1.0 / 6.0), a)
    r = copysign(_f(select(a < 1e-3, near, doubles.log(a + sqrt(z + 1.0)))), x)
    return select(x == x, r, x)


@helper
def acosh(x):
    """acosh x, at most 0.51 ulp. nan below 1; inf at inf."""
    d = np.float64(x)
    r = _f(doubles.log(d + sqrt((d - 1.0) * (d + 1.0))))
    return select(x < _ONE, _NAN, r)


@helper
def atanh(x):
    """atanh x, at most 0.51 ulp. Zeros keep their sign; infinite at -1 and 1, nan beyond."""
    d = np.float64(x)
    z = d * d
    near = fma(d * z, fma(z, 0.2, 1.0 / 3.0), d)
    r = _f(select(fabs(d) < 1e-3, near, 0.5 * doubles.log((1.0 + d) / (1.0 - d))))
    return select(x == _ZERO, x, r)


@helper
def hypot(x, y):
    """sqrt(x^2 + y^2) without overflow on the way, at most 0.51 ulp. inf if either is infinite."""
    dx, dy = np.float64(x), np.float64(y)
    r = _f(sqrt(dx * dx + dy * dy))
    return select((fabs(x) == _INF) | (fabs(y) == _INF), _INF, r)


@helper
def pow(x, y):
    """x^y, at most 0.51 ulp. Zeros, infinities, NaN and negative x as in C."""
    dx, dy = np.float64(x), np.float64(y)
    a = fabs(dx)
    r = _f(doubles.exp(dy * doubles.log(a)))
    whole = rint(y) == y
    odd = whole & (rint(y * _HALF) != y * _HALF)
    r = select(odd & (copysign(_ONE, x) < _ZERO), -r, r)
    r = select((x < _ZERO) & (x > -_INF) & (fabs(y) < _INF) & (rint(y) != y), _NAN, r)
    r = select((x == -_ONE) & (fabs(y) == _INF), _ONE, r)
    r = select((x == x) & (y == y), r, x + y)
    return select((y == _ZERO) | (x == _ONE), _ONE, r)


@helper
def fmod(x, y):
    """The remainder of x / y with the sign of x, exact."""
    return _f(np.fmod(x, y))


__all__ = [
    "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cos", "cosh", "erfc", "fmod", "hypot", "pow", "sin", "sinh", "tan",
]  # fmt: skip
