"""The functions of scalar expressions in float32, branch-free so that loops over them vectorise without a vector mathematics
library.

Each docstring bounds the error in ulp: the distance from the exact value, in units of the last place of that value in float32 (2^-149
where it is subnormal). tests/test_ulp.py reads the bounds and checks them, over all 2^32 numbers when asked to. NaN gives NaN, subnormal
numbers are neither read nor written as zero, and a result too large or too small for float32 is what rounding gives: infinity, or a
subnormal number or zero. Each docstring says what becomes of infinities and of zeros.
"""

from __future__ import annotations

import numpy as np

from .intrinsics import bits32, ceil, copysign, fabs, float32_of_bits, floor, fma, int32_of, rint, select, sqrt, trunc
from .jit import helper
from .rarer32 import acos, acosh, asin, asinh, atan, atan2, atanh, cos, cosh, erfc, fmod, hypot, pow, sin, sinh, tan
from .scaling import times_power_of_two

_f = np.float32
_i = np.int32
_ZERO, _HALF, _ONE, _TWO = _f(0), _f(0.5), _f(1), _f(2)
_INF, _NAN = _f(np.inf), _f(np.nan)
_LOG2_E = _f(1.4426950408889634)
_LN2_HIGH, _LN2_LOW = _f(0.693145751953125), _f(1.42860682030941723e-06)  # the first has 16 bits: n * it is exact
_E2, _E3, _E4, _E5, _E6, _E7 = map(
    _f, (0.5, 0.1666666716337204, 0.041666269302368164, 0.008333265781402588, 0.0013946086401119828, 0.00019917830650229007)
)
_P2, _P3, _P4, _P5, _P6 = map(
    _f, (0.4999999403953552, 0.1666652113199234, 0.04166838899254799, 0.008368724025785923, 0.0013814583653584123)
)
_SHIFT = _f(12582912.0)  # 1.5 * 2^23: added to a number below 2^22, it leaves the nearest integer in the low bits
_SHIFT_BITS = _i(_SHIFT.view(np.int32))
_EXPONENT_OF_ONE = _i(127 << 23)
_UP, _DOWN = _f(2.0**32), _f(2.0**-32)  # what `scaled_exp` is multiplied by, and its inverse
_EXPONENT_OF_UP = _i(159 << 23)
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
    """1 / sqrt(x), at most 1.5 ulp. Infinite, with its sign, at zero; nan below, 0 at inf."""
    return _ONE / sqrt(x)


@helper
def _exp_of_rest(r):
    """e^r for |r| <= ln(2)/2."""
    p = fma(_P6, r, _P5)
    p = fma(p, r, _P4)
    p = fma(p, r, _P3)
    p = fma(p, r, _P2)
    p = fma(p, r, _ONE)
    return fma(p, r, _ONE)


@helper
def _rest(x, n):
    return fma(n, -_LN2_LOW, fma(n, -_LN2_HIGH, x))


@helper
def _power_of_two(t, exponent):
    """2^(n + k), where it is a normal number, for t = n + _SHIFT and the bits of 2^k. Anything for NaN."""
    return float32_of_bits(_i(_i(bits32(t) << _i(23)) + exponent))


@helper
def _normal_exp(x, exponent):
    """2^k e^x where it and 2^k are normal numbers, given by its bits. NaN of NaN."""
    t = fma(x, _LOG2_E, _SHIFT)
    return _exp_of_rest(_rest(x, t - _SHIFT)) * _power_of_two(t, exponent)


@helper
def scaled_exp(x):
    """2^32 e^x for x <= 0: never subnormal, so that one multiplication makes it, and below 2^-118 for x < -103.98. NaN of NaN.

    For quotients, in which the 2^32 is shortened, and products with 2^-32, which round once.
    """
    return _normal_exp(select(x < _f(-104.0), _f(-104.0), x), _EXPONENT_OF_UP)


@helper
def exp(x):
    """e^x, at most 0.95 ulp. 0 at -inf and below -103.98, inf at inf and from 88.73 on."""
    y = select(x > _f(89.0), _f(89.0), x)
    y = select(y < _f(-104.0), _f(-104.0), y)
    t = fma(y, _LOG2_E, _SHIFT)
    p = _exp_of_rest(_rest(y, t - _SHIFT))
    return times_power_of_two(p, _i(bits32(t) - _SHIFT_BITS))


@helper
def exp2(x):
    """2^x, at most 0.95 ulp. 0 at -inf and below -150, inf at inf and from 128 on."""
    y = select(x > _f(129.0), _f(129.0), x)
    y = select(y < _f(-151.0), _f(-151.0), y)
    t = y + _SHIFT
    p = _exp_of_rest(_f(0.6931471805599453) * (y - (t - _SHIFT)))
    return times_power_of_two(p, _i(bits32(t) - _SHIFT_BITS))


@helper
def expm1(x):
    """e^x - 1, at most 1.5 ulp. Zeros keep their sign; -1 at -inf, inf at inf and from 88.73 on."""
    y = select(x > _f(89.0), _f(89.0), select(x < _f(-18.0), _f(-18.0), x))
    n = rint(y * _LOG2_E)
    r = _rest(y, n)
    p = fma(_E7, r, _E6)
    p = fma(p, r, _E5)
    p = fma(p, r, _E4)
    p = fma(p, r, _E3)
    p = fma(p, r, _E2)
    p = fma(p * r, r, r)
    half = float32_of_bits(_i(_i(int32_of(n) + _i(126)) << _i(23)))
    r = _TWO * fma(half, p, half - _HALF)
    r = select(n == _ZERO, p, r)
    return select(x == x, select(x == _ZERO, x, r), x)


@helper
def _scaled_half_square_power(a):
    """2^32 e^(-a^2 / 2) for 0 <= a <= 14.5, never subnormal. The square is not rounded before the power of two is split off."""
    t = fma(a * a, _f(-0.7213475204444817), _SHIFT)
    n = t - _SHIFT
    r = fma(n, _f(2 * 1.42860682030941723e-06), fma(a, a, n * _f(2 * 0.693145751953125)))
    p = fma(_P6 * _f(1 / 64), r, _P5 * _f(-1 / 32))  # e^(-r / 2), as `_exp_of_rest` makes it
    p = fma(p, r, _P4 * _f(1 / 16))
    p = fma(p, r, _P3 * _f(-1 / 8))
    p = fma(p, r, _P2 * _f(1 / 4))
    p = fma(p, r, -_HALF)
    return fma(p, r, _ONE) * _power_of_two(t, _EXPONENT_OF_UP)


@helper
def _no_more(x, most):
    a = fabs(x)
    return select(a > most, most, a)


@helper
def normal_pdf(x):
    """e^(-x^2 / 2) / sqrt(2 pi), the normal density, at most 2.2 ulp. 0 at both infinities."""
    return _f(0.3989422804014327 * 2.0**-32) * _scaled_half_square_power(_no_more(x, _f(14.5)))


@helper
def normal_cdf(x):
    """(1 + erf(x / sqrt(2))) / 2, the normal distribution function, at most 6.2 ulp. 0 at -inf and below -14.17, 1 at inf."""
    a = _no_more(x, _f(14.5))
    p = fma(_f(0.3989470303058624) * _DOWN, a, _f(3.949010133743286) * _DOWN)  # the tail beyond a is 2^32 e^(-a^2 / 2) p / q
    p = fma(p, a, _f(17.83904457092285) * _DOWN)
    p = fma(p, a, _f(42.7295036315918) * _DOWN)
    p = fma(p, a, _HALF * _f(97.64592742919922) * _DOWN)
    q = a + _f(9.899341583251953)
    q = fma(q, a, _f(45.700992584228516))
    q = fma(q, a, _f(117.20450592041016))
    q = fma(q, a, _f(163.3692169189453))
    q = fma(q, a, _f(97.64592742919922))
    tail = _scaled_half_square_power(a) * (p / q)
    return select(x > _ZERO, _ONE - tail, tail)


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
    """ln x, at most 0.82 ulp. -inf at both zeros, nan below, inf at inf."""
    e, f = _split(x)
    p = fma(e, _LN2_LOW, _log_of_one_plus(f))
    return _log_edges(x, fma(e, _LN2_HIGH, p + f))


@helper
def log2(x):
    """log2 x, at most 1.7 ulp. -inf at both zeros, nan below, inf at inf."""
    e, f = _split(x)
    return _log_edges(x, fma(f + _log_of_one_plus(f), _LOG2_E, e))


@helper
def log10(x):
    """log10 x, at most 2.0 ulp. -inf at both zeros, nan below, inf at inf."""
    e, f = _split(x)
    p = fma(f + _log_of_one_plus(f), _LOG10_E, e * _LOG10_2_LOW)
    return _log_edges(x, fma(e, _LOG10_2_HIGH, p))


@helper
def log1p(x):
    """ln(1 + x), at most 1.5 ulp. Zeros keep their sign; -inf at -1, nan below, inf at inf."""
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
    """1 / (1 + e^-x), at most 2.4 ulp. 0 at -inf and below -103.98, 1 at inf."""
    e = scaled_exp(-fabs(x))
    return select(x >= _ZERO, _UP, e) / (_UP + e)


@helper
def tanh(x):
    """(e^x - e^-x) / (e^x + e^-x), at most 1.1 ulp. Zeros keep their sign; -1 and 1 at the infinities."""
    a = fabs(x)
    z = a * a
    p = fma(_f(0.0019017993472516537), z, _f(-0.007892183028161526))
    p = fma(p, z, _f(0.021575838327407837))
    p = fma(p, z, _f(-0.053922124207019806))
    p = fma(p, z, _f(0.13332995772361755))
    p = fma(p, z, _f(-0.33333325386047363))
    near = fma(a * z, p, a)
    far = _ONE - _TWO / (_normal_exp(_TWO * select(a > _f(10.0), _f(10.0), a), _EXPONENT_OF_ONE) + _ONE)
    r = copysign(select(a < _f(0.7), near, far), x)
    return select(x == x, r, x)


@helper
def erf(x):
    """2 / sqrt(pi) times the integral of e^(-t^2) from 0 to x, at most 1.1 ulp. Zeros keep their sign; -1 and 1 at infinity."""
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
    far = _ONE - _normal_exp(-(p + b), _EXPONENT_OF_ONE)
    r = copysign(select(a < _f(0.94), near, far), x)
    return select(x == x, r, x)


__all__ = [
    "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "ceil", "copysign", "cos", "cosh", "erf", "erfc", "exp",
    "exp2", "expm1", "fabs", "floor", "fma", "fmod", "hypot", "isfinite", "isinf", "isnan", "log", "log1p", "log2", "log10",
    "maximum", "minimum", "normal_cdf", "normal_pdf",
    "pow", "rint", "rsqrt", "sigmoid", "sign", "sin", "sinh", "sqrt", "tan", "tanh", "trunc", "where",
]  # fmt: skip
