"""exp and log for hand-written kernels that serve float32 and float64 from one text: the type of the argument decides."""

from __future__ import annotations

import numpy as np
from numba import types
from numba.extending import overload

from . import math32, math64
from .intrinsics import bits32, float32_of_bits, select
from .jit import helper

_OPTIONS = {"forceinline": True, "error_model": "numpy"}
_SIGN_OFF = np.int32(0x7FFFFFFF)
_LOWEST = np.int32(-(2**31))


def exp(x):
    """e^x in the precision of x."""
    return np.exp(x)


def log(x):
    """ln x in the precision of x."""
    return np.log(x)


def row_max(row):
    """The largest element of a one-dimensional array that is not empty. With NaN among them, some element."""
    return row.max()


@overload(exp, jit_options=_OPTIONS)
def _exp(x):
    if x == types.float32:
        return lambda x: math32.exp(x)
    return lambda x: math64.exp(x)


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
