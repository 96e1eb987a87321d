"""The float32 functions of scalar expressions keep the error that their docstrings state, in units of the last place (`math32`).

Quick: every 1021st of the 2^32 bit patterns, so all exponents, and everything near the numbers where functions change. With
TINYGRAD_CV_PROFILE=thorough: all of them, in half a minute to three minutes of one core for each function, 25 minutes for all. The exact
values are NumPy's and the C library's, in float64.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from tinygrad_cv import kernels
from tinygrad_cv.kernels.loops import Program, make

pytestmark = pytest.mark.skipif(not kernels.numba_available(), reason="needs Numba")

THOROUGH = os.environ.get("TINYGRAD_CV_PROFILE") == "thorough"
STRIDE = 1021
CHUNK = 1 << 21
NEAR = 128  # bit patterns on both sides of a special number
erf, erfc = (np.vectorize(f, otypes=[np.float64]) for f in (math.erf, math.erfc))


def sigmoid(x: np.ndarray) -> np.ndarray:
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


EXACT: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "acos": np.arccos, "acosh": np.arccosh, "asin": np.arcsin, "asinh": np.arcsinh, "atan": np.arctan, "atanh": np.arctanh, "cos": np.cos,
    "cosh": np.cosh, "erf": erf, "erfc": erfc, "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1, "log": np.log, "log10": np.log10,
    "log1p": np.log1p, "log2": np.log2, "normal_cdf": lambda x: 0.5 * erfc(x / -math.sqrt(2)),
    "normal_pdf": lambda x: np.exp(-x * x / 2) / math.sqrt(2 * math.pi), "rsqrt": lambda x: 1 / np.sqrt(x), "sigmoid": sigmoid,
    "sin": np.sin, "sinh": np.sinh, "tan": np.tan, "tanh": np.tanh,
}  # fmt: skip
# Where some function starts, ends, overflows, underflows or changes its formula; multiples of pi/2 up to the largest number.
SPECIAL = [
    0.0, 2.0**-149, 2.0**-126, 1.0, 2.0, 0.5, 1e-3, 0.05, 0.7, 0.94, 4.0, 8.31, 9.01, 10.0, 10.06, 10.2, 13.1, 14.17, 14.5, 16.6, 17.33,
    18.0, 87.34, 88.73, 89.0, 89.42, 103.28, 103.98, 104.0, 126.0, 127.5, 128.0, 129.0, 149.0, 150.0, 151.0, 2.0**22, 2.0**24, 2.0**60,
    3.4028235e38, math.inf, math.sqrt(0.5), math.sqrt(2), 0.35 * math.log(2), math.log(2), *(math.pi / 2 * n for n in range(1, 9)),
    16367173 * 2.0**72, 4.399877e10,
]  # fmt: skip


def loop_of(name: str) -> kernels.Kernel:
    return make(Program(f"test_{name}", "tests", ("x",), (), (f"{name}(x_)",), (name,)), "F", "float32")


def samples() -> Iterator[np.ndarray]:
    """Arrays of float32 that together hold the numbers to be looked at."""
    special = np.array(SPECIAL, np.float32).view(np.uint32).astype(np.int64)[:, None] + np.arange(-NEAR, NEAR + 1)
    near = np.clip(special, 0, 2**31 - 1).astype(np.uint32).ravel()
    yield np.concatenate([near, near | np.uint32(1 << 31)]).view(np.float32)
    for start in range(0, 1 << 32, CHUNK * STRIDE):
        yield np.arange(start, min(start + CHUNK * STRIDE, 1 << 32), STRIDE, dtype=np.uint64).astype(np.uint32).view(np.float32)


def errors_in_ulp(got: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """|got - exact| in units of the last place of `exact` as float32. Infinity stands for 2^128, the first number that rounds to it."""
    with np.errstate(invalid="ignore"):  # signalling NaNs
        got, exact = (np.clip(np.nan_to_num(a.astype(np.float64), nan=0.0), -(2.0**128), 2.0**128) for a in (got, exact))
    exponent = np.frexp(exact)[1]  # |exact| is below 2^exponent
    return np.abs(got - exact) * np.exp2(np.minimum(-(np.clip(exponent, -125, 128) - 24), 149).astype(np.float64))


def stated_bound(name: str) -> float:
    from tinygrad_cv.kernels import math32

    found = re.search(r"at most ([\d.]+) ulp", getattr(math32, name).__doc__ or "")
    assert found, f"math32.{name} does not state its error"
    return float(found[1])


@pytest.mark.parametrize("name", EXACT)
def test_float32_functions_keep_the_error_that_they_state(name: str) -> None:
    bound, run = stated_bound(name), loop_of(name)
    for x in samples():
        got = np.empty_like(x)
        run.serial(got, x)
        with np.errstate(all="ignore"):
            exact = EXACT[name](x.astype(np.float64))
            rounded = exact.astype(np.float32)
        assert np.array_equal(np.isnan(got), np.isnan(exact))
        poles = np.isinf(exact)
        assert np.array_equal(got[poles], rounded[poles])
        zeros = exact == 0
        assert not got[zeros].any() and np.array_equal(np.signbit(got[zeros]), np.signbit(rounded[zeros]))
        wrong = errors_in_ulp(got, exact)
        worst = wrong.argmax()
        assert wrong[worst] <= bound, f"{name}({x[worst]!r}) is {exact[worst]!r}, got {got[worst]!r}: {wrong[worst]:.3f} ulp"


def over_all_numbers(name: str) -> Callable[..., tuple[float, float, int]]:
    """check(first pattern, one after the last), compiled: (worst error in ulp, where, how many NaNs, zeros and poles are wrong)."""
    import numba

    from tinygrad_cv.kernels import math32

    compiled = numba.njit(error_model="numpy")
    texts = {
        "erf": "math.erf(x)", "erfc": "math.erfc(x)", "normal_cdf": "0.5 * math.erfc(x / -math.sqrt(2))",
        "normal_pdf": "math.exp(-x * x / 2) / math.sqrt(2 * math.pi)", "rsqrt": "1 / np.sqrt(x)",
        "sigmoid": "(1 if x >= 0 else math.exp(x)) / (1 + math.exp(-abs(x)))",
    }  # fmt: skip
    scope = {"math": math, "np": np, "exact": EXACT[name]}
    exact_value = compiled(eval(f"lambda x: {texts.get(name, 'exact(x)')}", scope))
    value = getattr(math32, name)

    @compiled
    def fill(x, got, exact):
        for i in range(x.size):
            got[i] = value(x[i])
        for i in range(x.size):
            exact[i] = exact_value(np.float64(x[i]))

    @compiled
    def check(start, stop):
        x, got, exact = np.empty(4096, np.float32), np.empty(4096, np.float32), np.empty(4096)
        bits = x.view(np.uint32)
        worst, place, wrong = 0.0, np.float32(0), 0
        for first in range(start, stop, 4096):
            for i in range(4096):
                bits[i] = np.uint32(first + i)
            fill(x, got, exact)
            for i in range(4096):
                y, e = np.float64(got[i]), exact[i]
                if y != y or e != e:
                    wrong += int(y == y or e == e)
                elif e == 0.0 or abs(e) == np.inf:
                    wrong += int(y != e or math.copysign(1.0, y) != math.copysign(1.0, e))
                else:
                    y = min(max(y, -(2.0**128)), 2.0**128)
                    e = min(max(e, -(2.0**128)), 2.0**128)
                    error = abs(y - e) * math.ldexp(1.0, 24 - min(max(math.frexp(e)[1], -125), 128))
                    if error > worst:
                        worst, place = error, x[i]
        return worst, place, wrong

    return check


@pytest.mark.skipif(not THOROUGH, reason="takes minutes; TINYGRAD_CV_PROFILE=thorough runs it")
@pytest.mark.parametrize("name", EXACT)
def test_all_numbers_keep_the_error_that_is_stated(name: str) -> None:
    check = over_all_numbers(name)
    found = [check(start, start + CHUNK) for start in range(0, 1 << 32, CHUNK)]
    worst, place, _ = max(found)
    print(f"{name}: {worst:.3f} ulp at {place!r}")
    assert not sum(wrong for _, _, wrong in found)
    assert worst <= stated_bound(name)


@pytest.mark.parametrize("name", ["normal_cdf", "sin"])
def test_the_check_of_all_numbers_finds_what_the_other_one_does(name: str) -> None:
    start = int(np.float32(1.25).view(np.uint32))
    worst, _, wrong = over_all_numbers(name)(start, start + 4096)
    x = np.arange(start, start + 4096, dtype=np.uint32).view(np.float32)
    got = np.empty_like(x)
    loop_of(name).serial(got, x)
    with np.errstate(all="ignore"):
        expected = errors_in_ulp(got, EXACT[name](x.astype(np.float64)))
    assert wrong == 0
    assert abs(worst - expected.max()) < 1e-6  # the C library and NumPy may differ in the last bit of a float64


def test_the_error_is_measured_in_the_right_unit() -> None:
    one = np.float32(1)
    assert errors_in_ulp(np.array([np.nextafter(one, one * 2)]), np.array([1.0])) == 1
    assert errors_in_ulp(np.array([np.nextafter(one, one * 0)]), np.array([1 - 2.0**-24])) == 0
    assert errors_in_ulp(np.array([one / 2]), np.array([0.5 + 2.0**-25])) == 0.5
    assert errors_in_ulp(np.array([0], np.float32), np.array([2.0**-149])) == 1
    assert errors_in_ulp(np.array([2.0**-126], np.float32), np.array([2.0**-126 + 2.0**-150])) == 0.5
    assert errors_in_ulp(np.array([np.inf], np.float32), np.array([2.0**128 - 2.0**104])) == 1
    assert errors_in_ulp(np.array([np.inf], np.float32), np.array([1e300])) == 0


def test_every_function_of_one_number_is_measured() -> None:
    from tinygrad_cv.kernels import math32

    exact = "ceil copysign fabs floor fma isfinite isinf isnan maximum minimum rint sign sqrt trunc where".split()
    of_two = "atan2 fmod hypot pow".split()
    assert set(math32.__all__) == {*EXACT, *exact, *of_two}
