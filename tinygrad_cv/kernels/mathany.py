"""exp and log for hand-written kernels that serve float32 and float64 from one text: the type of the argument decides."""

from __future__ import annotations

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic, overload

from . import math32, math64
from .intrinsics import bits32, float32_of_bits, select
from .jit import helper

_OPTIONS = {"forceinline": True, "error_model": "numpy"}
_SIGN_OFF = np.int32(0x7FFFFFFF)
_LOWEST = np.int32(-(2**31))
_DOWN = np.float32(2.0**-32)
_WIDE = 48  # elements from which on a call pays


def exp(x):
    """e^x in the precision of x."""
    return np.exp(x)


def log(x):
    """ln x in the precision of x."""
    return np.log(x)


def scaled_exp(x):
    """s e^x for x <= 0: s is 2^32 in float32, where that is faster than e^x and never subnormal, and 1 in float64."""
    return np.exp(x)


def unscaled(x):
    """x / s, s that of `scaled_exp`."""
    return x


def row_max(row):
    """The largest element of a one-dimensional array that is not empty. With NaN among them, some element."""
    return row.max()


@overload(exp, jit_options=_OPTIONS)
def _exp(x):
    if x == types.float32:
        return lambda x: math32.exp(x)
    return lambda x: math64.exp(x)


@overload(scaled_exp, jit_options=_OPTIONS)
def _scaled_exp(x):
    if x == types.float32:
        return lambda x: math32.scaled_exp(x)
    return lambda x: math64.exp(x)


@overload(unscaled, jit_options=_OPTIONS)
def _unscaled(x):
    if x == types.float32:
        return lambda x: x * _DOWN
    return lambda x: x


@overload(log, jit_options=_OPTIONS)
def _log(x):
    if x == types.float32:
        return lambda x: math32.log(x)
    return lambda x: math64.log(x)


@helper
def _row_max32(row):
    # As integers in the order of the floats: a maximum of integers vectorises, one of floats with NaN among them does not.
    largest = _LOWEST
    for j in range(row.size):
        b = bits32(row[j])
        key = np.int32(b ^ np.int32(np.int32(b >> np.int32(31)) & _SIGN_OFF))
        largest = select(key > largest, key, largest)
    return float32_of_bits(np.int32(largest ^ np.int32(np.int32(largest >> np.int32(31)) & _SIGN_OFF)))


@helper
def _row_max64(row):
    largest = row[0]
    for j in range(1, row.size):
        largest = select(row[j] > largest, row[j], largest)
    return largest


@overload(row_max, jit_options={"error_model": "numpy"})
def _row_max(row):
    if row.dtype == types.float32:
        return lambda row: _row_max32(row)
    return lambda row: _row_max64(row)


@intrinsic
def _stay_apart(typing_context):
    """Keeps LLVM from copying the function that calls this into its callers."""

    def generate(context, builder, signature, arguments):
        builder.function.attributes.discard("alwaysinline")  # which a helper that calls it would pass on
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.none(), generate


@numba.njit(error_model="numpy")
def _exp_wide(row, centre, out):
    _stay_apart()
    for j in range(row.size):
        out[j] = scaled_exp(row[j] - centre)


@helper
def scaled_exp_row(row, centre, out):
    """out[j] = s e^(row[j] - centre) for a centre that no element exceeds, s as in `scaled_exp`.

    Long rows are done by a function of its own: inside the loop over rows LLVM finds no registers for the constants of `exp` and
    loads each of them for every vector, which takes half as long again.
    """
    if row.size >= _WIDE:
        _exp_wide(row, centre, out)
    else:
        for j in range(row.size):
            out[j] = scaled_exp(row[j] - centre)
