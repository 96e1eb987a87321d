"""The functions of scalar expressions in float32, branch-free so that loops over them vectorise without a vector mathematics
library. Each docstring gives the largest error in units in the last place against float64, as tests/test_kernels.py measures it.

All keep NaN, infinities, signed zeros and subnormal numbers as IEEE 754 and NumPy do, unless they say otherwise.
"""

from __future__ import annotations

import math

import numpy as np

from . import doubles
from .intrinsics import bits32, ceil, copysign, fabs, float32_of_bits, floor, fma, int32_of, rint, select, sqrt, trunc
from .jit import helper

_f = np.float32
_i = np.int32
_ZERO, _HALF, _ONE, _TWO = _f(0), _f(0.5), _f(1), _f(2)
_INF, _NAN = _f(np.inf), _f(np.nan)
_LOG2_E = _f(1.4426950408889634)
_LN2_HIGH, _LN2_LOW = _f(0.693145751953125), _f(1.42860682030941723e-06)  # the first has 16 bits: n * it is exact
_E2, _E3, _E4, _E5, _E6, _E7 = map(
    _f, (0.5, 0.1666666716337204, 0.041666269302368164, 0.008333265781402588, 0.0013946086401119828, 0.00019917830650229007)
)
_L = tuple(
    map(
        _f,
        (0.3333331346511841, -0.25000008940696716, 0.20002123713493347, -0.16668005287647247, 0.14219450950622559,
         -0.12405342608690262, 0.11888708919286728, -0.11677505075931549, 0.06747692078351974),
    )
)  # fmt: skip
_L3, _L4, _L5, _L6, _L7, _L8, _L9, _L10, _L11 = _L
_SQRT_HALF_BITS = _i(0x3F3504F3)
_MANTISSA = _i(0x007FFFFF)
_SMALLEST_NORMAL_BITS = _i(0x00800000)
_LOG10_E = _f(0.4342944819032518)
_LOG10_2_HIGH, _LOG10_2_LOW = _f(0.301025390625), _f(4.605038981195214e-06)


@helper
def where(condition, x, y):
    """x if condition else y; both are computed."""
    return select(condition, _f(x), _f(y))


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
    r = select(x > _ZERO, _ONE, select(x < _ZERO, -_ONE, _ZERO))
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
    """1 / sqrt(x), 1.5 ulp."""
    return _ONE / sqrt(x)


@helper
def _expm1_of_rest(r):
    """e^r - 1 for |r| <= ln(2)/2."""
    p = fma(_E7, r, _E6)
    p = fma(p, r, _E5)
    p = fma(p, r, _E4)
    p = fma(p, r, _E3)
    p = fma(p, r, _E2)
    return fma(p * r, r, r)


@helper
def _power_of_two(n):
    """2^n for int32 n from -126 to 127."""
    return float32_of_bits(_i(_i(n + _i(127)) << _i(23)))


@helper
def _rest(x, n):
    return fma(n, -_LN2_LOW, fma(n, -_LN2_HIGH, x))


@helper
def exp(x):
    """e^x, 1.0 ulp."""
    y = select(x > _f(89.0), _f(89.0), select(x < _f(-104.0), _f(-104.0), x))
    n = rint(y * _LOG2_E)
    p = _expm1_of_rest(_rest(y, n)) + _ONE
    k = int32_of(n)
    first = _i(k >> _i(1))  # in two steps, so that subnormal results are rounded once and overflow gives inf
    return select(x == x, p * _power_of_two(first) * _power_of_two(_i(k - first)), x)


@helper
def exp2(x):
    """2^x, 1.0 ulp."""
    y = select(x > _f(129.0), _f(129.0), select(x < _f(-151.0), _f(-151.0), x))
    n = rint(y)
    r = _f(0.6931471805599453) * (y - n)
    p = _expm1_of_rest(r) + _ONE
    k = int32_of(n)
    first = _i(k >> _i(1))
    return select(x == x, p * _power_of_two(first) * _power_of_two(_i(k - first)), x)


@helper
def expm1(x):
    """e^x - 1, 1.5 ulp."""
    y = select(x > _f(89.0), _f(89.0), select(x < _f(-18.0), _f(-18.0), x))
    n = rint(y * _LOG2_E)
    p = _expm1_of_rest(_rest(y, n))
    half = _power_of_two(_i(int32_of(n) - _i(1)))
    r = _TWO * fma(half, p, half - _HALF)
    r = select(n == _ZERO, p, r)
    return select(x == x, select(x == _ZERO, x, r), x)


@helper
def _log_of_one_plus(f):
    """log(1 + f) - f for sqrt(1/2) <= 1 + f < sqrt(2)."""
    z = f * f
    p = fma(_L11, f, _L10)
    p = fma(p, f, _L9)
    p = fma(p, f, _L8)
    p = fma(p, f, _L7)
    p = fma(p, f, _L6)
    p = fma(p, f, _L5)
    p = fma(p, f, _L4)
    p = fma(p, f, _L3)
    return fma(p * f, z, -_HALF * z)


@helper
def _split(x):
    """(e, f) with x = 2^e (1 + f), for positive x, subnormal ones included."""
    tiny = bits32(x) < _SMALLEST_NORMAL_BITS
    t = _i(bits32(select(tiny, x * _f(16777216.0), x)) - _SQRT_HALF_BITS)
    e = _f(_i(_i(t >> _i(23)) - select(tiny, _i(24), _i(0))))
    return e, float32_of_bits(_i(_i(t & _MANTISSA) + _SQRT_HALF_BITS)) - _ONE


@helper
def _log_edges(x, r):
    r = select(x == _INF, x, r)
    r = select(x == _ZERO, -_INF, r)
    r = select(x < _ZERO, _NAN, r)
    return select(x == x, r, x)


@helper
def log(x):
    """ln x, 0.8 ulp."""
    e, f = _split(x)
    p = fma(e, _LN2_LOW, _log_of_one_plus(f))
    return _log_edges(x, fma(e, _LN2_HIGH, p + f))


@helper
def log2(x):
    """log2 x, 1.7 ulp."""
    e, f = _split(x)
    return _log_edges(x, fma(f + _log_of_one_plus(f), _LOG2_E, e))


@helper
def log10(x):
    """log10 x, 2.0 ulp."""
    e, f = _split(x)
    p = fma(f + _log_of_one_plus(f), _LOG10_E, e * _LOG10_2_LOW)
    return _log_edges(x, fma(e, _LOG10_2_HIGH, p))


@helper
def log1p(x):
    """ln(1 + x), 1.5 ulp."""
    u = _ONE + x
    b = u - _ONE
    lost = (_ONE - (u - b)) + (x - b)  # what the sum above rounded away
    t = _i(bits32(u) - _SQRT_HALF_BITS)
    k = _i(t >> _i(23))
    f = float32_of_bits(_i(_i(t & _MANTISSA) + _SQRT_HALF_BITS)) - _ONE
    back = float32_of_bits(_i(_i(_i(127) - select(k > _i(126), _i(127), k)) << _i(23)))
    f = fma(select(k > _i(60), _ZERO, lost), back, f)
    e = _f(k)
    p = fma(e, _LN2_LOW, _log_of_one_plus(f))
    r = fma(e, _LN2_HIGH, p + f)
    r = select(x == _INF, x, r)
    r = select(x == -_ONE, -_INF, r)
    r = select(x < -_ONE, _NAN, r)
    r = select(x == _ZERO, x, r)
    return select(x == x, r, x)


@helper
def sigmoid(x):
    """1 / (1 + e^-x), 2.2 ulp."""
    e = exp(-fabs(x))
    return select(x >= _ZERO, _ONE, e) / (_ONE + e)


@helper
def tanh(x):
    """1.1 ulp."""
    a = fabs(x)
    z = a * a
    p = fma(_f(0.0019017993472516537), z, _f(-0.007892183028161526))
    p = fma(p, z, _f(0.021575838327407837))
    p = fma(p, z, _f(-0.053922124207019806))
    p = fma(p, z, _f(0.13332995772361755))
    p = fma(p, z, _f(-0.33333325386047363))
    near = fma(a * z, p, a)
    far = _ONE - _TWO / (exp(_TWO * select(a > _f(10.0), _f(10.0), a)) + _ONE)
    r = copysign(select(a < _f(0.7), near, far), x)
    return select(x == x, r, x)


@helper
def erf(x):
    """1.1 ulp."""
    a = fabs(x)
    z = a * a
    p = fma(_f(-1.0090346222568769e-05), z, _f(0.00011397084745112807))
    p = fma(p, z, _f(-0.0008499964606016874))
    p = fma(p, z, _f(0.00522198062390089))
    p = fma(p, z, _f(-0.026865718886256218))
    p = fma(p, z, _f(0.11283786594867706))
    p = fma(p, z, _f(-0.37612637877464294))
    p = fma(p, z, _f(0.1283791670955126))  # 2 / sqrt(pi) - 1
    near = fma(a, p, a)
    b = select(a > _f(4.0), _f(4.0), a)
    p = fma(_f(2.12179384107003e-05), b, _f(-0.0004358848964329809))
    p = fma(p, b, _f(0.0041779628954827785))
    p = fma(p, b, _f(-0.02513762377202511))
    p = fma(p, b, _f(0.10830827057361603))
    p = fma(p, b, _f(0.633321225643158))
    p = fma(p, b, _f(0.1295276880264282))
    p = fma(p, b, _f(-0.00017733496497385204))
    far = _ONE - exp(-(p + b))
    r = copysign(select(a < _f(0.94), near, far), x)
    return select(x == x, r, x)


@helper
def erfc(x):
    """1 - erf(x), 0.6 ulp."""
    d = np.float64(x)
    r = doubles.erfc_part(fabs(d))
    r = _f(select(d < 0.0, 2.0 - r, r))
    return select(x == x, r, x)


@helper
def sin(x):
    """0.6 ulp for every finite x."""
    n, r = doubles.reduce_angle(np.float64(x))
    k = int32_of(_f(n))
    s = select((k & _i(1)) != 0, doubles.cos_part(r), doubles.sin_part(r))
    s = _f(select((k & _i(2)) != 0, -s, s))
    s = select(x == _ZERO, x, s)
    return select(fabs(x) < _INF, s, _NAN)


@helper
def cos(x):
    """0.6 ulp for every finite x."""
    n, r = doubles.reduce_angle(np.float64(x))
    k = int32_of(_f(n))
    s = select((k & _i(1)) != 0, doubles.sin_part(r), doubles.cos_part(r))
    s = _f(select(((k + _i(1)) & _i(2)) != 0, -s, s))
    return select(fabs(x) < _INF, s, _NAN)


@helper
def tan(x):
    """0.6 ulp for every finite x."""
    n, r = doubles.reduce_angle(np.float64(x))
    odd = (int32_of(_f(n)) & _i(1)) != 0
    s, c = doubles.sin_part(r), doubles.cos_part(r)
    t = _f(select(odd, -c, s) / select(odd, s, c))
    t = select(x == _ZERO, x, t)
    return select(fabs(x) < _INF, t, _NAN)


@helper
def asin(x):
    """0.6 ulp; nan beyond 1."""
    return select(x == _ZERO, x, _f(doubles.asin(np.float64(x))))


@helper
def acos(x):
    """0.6 ulp; nan beyond 1."""
    return _f(doubles.acos(np.float64(x)))


@helper
def atan(x):
    """0.6 ulp."""
    a = fabs(np.float64(x))
    steep = a > 1.0
    r = doubles.atan_part(select(steep, 1.0 / a, a))
    r = copysign(_f(select(steep, 0.5 * math.pi - r, r)), x)
    return select(x == x, r, x)


@helper
def atan2(y, x):
    """The angle of the point (x, y), 0.6 ulp."""
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
    """0.6 ulp."""
    a = fabs(np.float64(x))
    e = doubles.exp(a)
    z = a * a
    near = fma(a * z, fma(z, fma(z, 1.0 / 5040.0, 1.0 / 120.0), 1.0 / 6.0), a)
    r = copysign(_f(select(a < 0.05, near, 0.5 * (e - 1.0 / e))), x)
    return select(x == x, r, x)


@helper
def cosh(x):
    """0.6 ulp."""
    e = doubles.exp(fabs(np.float64(x)))
    return select(x == x, _f(0.5 * (e + 1.0 / e)), x)


@helper
def asinh(x):
    """0.6 ulp."""
    a = fabs(np.float64(x))
    z = a * a
    near = fma(a * z, fma(z, 3.0 / 40.0, -1.0 / 6.0), a)
    r = copysign(_f(select(a < 1e-3, near, doubles.log(a + sqrt(z + 1.0)))), x)
    return select(x == x, r, x)


@helper
def acosh(x):
    """0.6 ulp; nan below 1."""
    d = np.float64(x)
    r = _f(doubles.log(d + sqrt((d - 1.0) * (d + 1.0))))
    return select(x < _ONE, _NAN, r)


@helper
def atanh(x):
    """0.6 ulp; nan beyond 1."""
    d = np.float64(x)
    z = d * d
    near = fma(d * z, fma(z, 0.2, 1.0 / 3.0), d)
    r = _f(select(fabs(d) < 1e-3, near, 0.5 * doubles.log((1.0 + d) / (1.0 - d))))
    return select(x == _ZERO, x, r)


@helper
def hypot(x, y):
    """sqrt(x^2 + y^2) without overflow, 0.6 ulp."""
    dx, dy = np.float64(x), np.float64(y)
    r = _f(sqrt(dx * dx + dy * dy))
    return select((fabs(x) == _INF) | (fabs(y) == _INF), _INF, r)


@helper
def pow(x, y):
    """x^y as C's pow, 0.6 ulp."""
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
    """The remainder with the sign of x."""
    return _f(np.fmod(x, y))


__all__ = [
    "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "ceil", "copysign", "cos", "cosh", "erf", "erfc", "exp",
    "exp2", "expm1", "fabs", "floor", "fma", "fmod", "hypot", "isfinite", "isinf", "isnan", "log", "log1p", "log2", "log10",
    "maximum", "minimum", "pow", "rint", "rsqrt", "sigmoid", "sign", "sin", "sinh", "sqrt", "tan", "tanh", "trunc", "where",
]  # fmt: skip
