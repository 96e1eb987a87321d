"""Sums by NumPy whose error does not grow with the size.

NumPy adds in pairs along the axis that is fastest in memory (error about 20 u sum |x|, u = 2^-24 for float32), and one after the other
along all others, where the error of n terms is up to n u sum |x|. There float32 is summed in float64.
"""

from __future__ import annotations

import math

import numpy as np

_FEW = 64  # terms that may be added one after the other


def terms_in_turn(x: np.ndarray, axes) -> int:
    """How many terms of a sum over `axes` NumPy adds one after the other."""
    folded = [x.shape[i] for i in axes]
    used = [i for i in range(x.ndim) if x.shape[i] > 1]
    fastest = min(used, key=lambda i: abs(x.strides[i]), default=None)
    return math.prod(folded) // (x.shape[fastest] if fastest is not None and fastest in axes else 1)


def bounded_sum(x: np.ndarray, dim=None, keepdims: bool = False) -> np.ndarray:
    """The sum over `dim` (None: all axes) in x's dtype; the error is at most 96 u sum |x| + u |sum|."""
    axes = range(x.ndim) if dim is None else dim
    if x.dtype != np.float32 or terms_in_turn(x, axes) <= _FEW:
        return np.asarray(np.add.reduce(x, axis=None if dim is None else tuple(dim), keepdims=keepdims))
    return np.asarray(np.add.reduce(x, axis=tuple(axes), keepdims=keepdims, dtype=np.float64)).astype(np.float32)
