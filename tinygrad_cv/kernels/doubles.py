"""Branch-free float64 pieces from which the rarer float32 functions are made: each is good to at least 1e-12, so that a float32
result is within about 0.51 units in the last place. The polynomials are minimax fits (Lawson-weighted least squares).
"""

from __future__ import annotations

import numpy as np

from .intrinsics import bits64, fabs, float64_of_bits, fma, rint, select, sqrt
from .jit import helper

_SHIFT = 6755399441055744.0  # 1.5 * 2^52: added to an integer below 2^51, it leaves the integer in the low bits
_SHIFT_BITS = np.float64(_SHIFT).view(np.int64)
_LOG2_E = 1.4426950408889634
_LN2_HIGH = 0.6931471803691238  # its last 20 bits are zero
_LN2_LOW = 1.9082149292705877e-10
_SQRT_HALF_BITS = np.float64(0.7071067811865476).view(np.int64)
_MANTISSA = np.int64((1 << 52) - 1)
_PI = 3.141592653589793
_HALF_PI = 1.5707963267948966
_INF = np.inf


@helper
def exp(x):
    """e^x for results in float32's range; x beyond it saturates to 0 or inf after rounding to float32."""
    x = select(x > 300.0, 300.0, select(x < -300.0, -300.0, x))
    n = rint(x * _LOG2_E)
    r = fma(n, -_LN2_HIGH, x)
    r = fma(n, -_LN2_LOW, r)
    p = fma(2.763068341967113e-07, r, 2.7635133278179e-06)
    p = fma(p, r, 2.4801490579804792e-05)
    p = fma(p, r, 0.0001984118478012224)
    p = fma(p, r, 0.0013888888948987823)
    p = fma(p, r, 0.008333333371300997)
    p = fma(p, r, 0.041666666666488716)
    p = fma(p, r, 0.16666666666610422)
    p = fma(p, r, 0.5000000000000019)
    p = fma(p * r, r, r) + 1.0
    return p * float64_of_bits((bits64(n + _SHIFT) + np.int64(1023)) << np.int64(52))


@helper
def log(x):
    """ln x for x in float32's range (no float64 subnormals): -inf at 0, nan below."""
    t = bits64(x) - _SQRT_HALF_BITS
    e = t >> np.int64(52)
    m = float64_of_bits((t & _MANTISSA) + _SQRT_HALF_BITS)
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    p = fma(0.16822959644574745, z, 0.18123395340085374)
    p = fma(p, z, 0.2222337887349586)
    p = fma(p, z, 0.2857141703602382)
    p = fma(p, z, 0.400000000527938)
    p = fma(p, z, 0.6666666666658635)
    p = fma(p * z, s, 2.0 * s)
    n = float64_of_bits(e + _SHIFT_BITS) - _SHIFT
    r = fma(n, _LN2_HIGH, fma(n, _LN2_LOW, p))
    r = select(x == _INF, x, r)
    r = select(x == 0.0, -_INF, r)
    r = select(x < 0.0, np.nan, r)
    return select(x == x, r, x)


@helper
def _fraction(x, digits):
    """x * digits modulo 4, exactly: 24 bits times 29 bits fit in a float64."""
    p = x * digits
    return fma(rint(p * 0.25), -4.0, p)


@helper
def reduce_angle(x):
    """(quadrant as a float, rest) with x = quadrant * pi/2 + rest, |rest| <= pi/4, for every float32 x.

    2/pi is taken in chunks of 29 bits, so that all products are exact (Payne and Hanek, 1983).
    """
    a, b, c = _fraction(x, 0.636619770899415), _fraction(x, 1.4681663246252086e-09), _fraction(x, 2.2760100671971816e-18)
    d, e = _fraction(x, 5.8812147387730434e-27), _fraction(x, 1.0346868700836215e-35)
    f, g = _fraction(x, 3.783256351091319e-45), _fraction(x, 3.720474878517739e-53)
    n = rint(a + b + c + d + e + f + g)
    return n, (a - n + b + c + d + e + f + g) * _HALF_PI  # in this order: what cancels does so exactly


@helper
def sin_part(r):
    """sin r for |r| <= pi/4."""
    z = r * r
    p = fma(-2.476111016127484e-08, z, 2.755535044629798e-06)
    p = fma(p, z, -0.00019841263789556457)
    p = fma(p, z, 0.008333333325212819)
    p = fma(p, z, -0.16666666666631283)
    return fma(p * z, r, r)


@helper
def cos_part(r):
    """cos r for |r| <= pi/4."""
    z = r * r
    p = fma(2.064687604745829e-09, z, -2.7555554502977644e-07)
    p = fma(p, z, 2.480158090591663e-05)
    p = fma(p, z, -0.001388888887813016)
    p = fma(p, z, 0.041666666666601127)
    return fma(p * z, z, fma(z, -0.5, 1.0))


@helper
def atan_part(a):
    """atan a for 0 <= a <= 1."""
    far = a > 0.4142135623730951
    t = select(far, (a - 1.0) / (a + 1.0), a)
    z = t * t
    p = fma(0.03089093626057616, z, -0.05890817054672843)
    p = fma(p, z, 0.07568477661006308)
    p = fma(p, z, -0.09079129303346091)
    p = fma(p, z, 0.11110449380080703)
    p = fma(p, z, -0.14285693572834648)
    p = fma(p, z, 0.19999999685204448)
    p = fma(p, z, -0.3333333333169468)
    p = fma(p * z, t, t)
    return select(far, p + 0.25 * _PI, p)


@helper
def asin_part(t):
    """asin t for |t| <= 1/2."""
    z = t * t
    p = fma(0.03197550334421967, z, -0.0028754605841516062)
    p = fma(p, z, 0.018637977750144297)
    p = fma(p, z, 0.016475940067723602)
    p = fma(p, z, 0.02247155504552592)
    p = fma(p, z, 0.030375213333349298)
    p = fma(p, z, 0.04464311333341846)
    p = fma(p, z, 0.0749999952379088)
    p = fma(p, z, 0.16666666669708582)
    return fma(p * z, t, t)


@helper
def asin(x):
    """asin x; nan beyond 1."""
    a = fabs(x)
    far = a > 0.5
    t = select(far, sqrt((1.0 - a) * 0.5), a)
    p = asin_part(t)
    p = select(far, _HALF_PI - 2.0 * p, p)
    return select(x < 0.0, -p, p)


@helper
def acos(x):
    """acos x; nan beyond 1."""
    a = fabs(x)
    far = a > 0.5
    p = asin_part(select(far, sqrt((1.0 - a) * 0.5), x))
    return select(far, select(x < 0.0, _PI - 2.0 * p, 2.0 * p), _HALF_PI - p)


@helper
def erfc_part(a):
    """erfc a for 0 <= a; 0 beyond 10.2, where float32 underflows."""
    a = select(a > 10.2, 10.2, a)
    t = (a - 2.0) / (a + 2.0)
    p = fma(-1.02616667483846e-05, t, -3.3373019815684947e-06)
    p = fma(p, t, 0.00011965894732059383)
    p = fma(p, t, 0.00019615175950298138)
    p = fma(p, t, -0.00043838055598487705)
    p = fma(p, t, -0.0014493810632569897)
    p = fma(p, t, 0.0012672880527338072)
    p = fma(p, t, 0.008720579084346518)
    p = fma(p, t, -0.008033493595349883)
    p = fma(p, t, -0.05421975135881747)
    p = fma(p, t, 0.1640512491303273)
    p = fma(p, t, -0.16603040837045632)
    p = fma(p, t, -0.09276382600049864)
    p = fma(p, t, 1.2769783816260574)
    return p / fma(2.0, a, 1.0) * exp(-a * a)
