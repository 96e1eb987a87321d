"""How Python reaches the products of `gemm_blocks`: compiled once for a dtype, for operands of every layout, alone or in parallel."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import types

from tinygrad_cv.kernels import shares as region
from tinygrad_cv.kernels.jit import Kernel, alone, kernel, turn
from tinygrad_cv.kernels.shares import enter_address
from tinygrad_cv.kernels.threads import get_num_threads

from .gemm import PARALLEL_FROM, STORING
from .gemm_blocks import batch_share, product_share, small_product, split_rows

_NUMBERS = (
    types.int64,
    *[types.float64] * 3,
    types.int64,
    types.int64,
    types.int64,
)  # adding, alpha, beta, lowest, by_rows, inner, parts


@kernel
def product_shares(region, shares, address, c, a, b, d, adding, alpha, beta, lowest, by_rows, inner, parts):
    """All shares of `product_share` or `batch_share`, compiled at `address`, in the region at that address."""
    enter_address(region, shares, address, (c, a, b, d, adding, alpha, beta, lowest, by_rows, inner, parts, shares))


def _compiled(made: Kernel, signature: tuple[Any, ...]) -> tuple[Any, int]:
    """What calls a kernel from Python, with code for `signature`, and where that code starts.

    It compiles no other by itself, so that arrays of every layout count as arrays of any.
    """
    dispatcher: Any = made._serial or made._make("serial")
    dispatcher.disable_compile(False)
    address = made.address(signature, ())
    dispatcher.disable_compile()
    return dispatcher, address


class Entry:
    """The products of one dtype.

    alone(c, a, b, d, adding, alpha, beta, lowest, 1, 0, 1, 1, 0) computes one on the calling thread, for c, a, b, d of two axes;
    `run` does it in parallel where it is worth it, for stacks of matrices (four axes) too.
    """

    def __init__(self, kind: np.dtype) -> None:
        self.element = numba.from_dtype(kind)
        self.alone, self.address = self._body(2)
        self.small, _ = _compiled(small_product, (*self._arrays(2)[:3], types.int64))
        self._bodies = {2: (self.alone, self.address)}
        self._together: dict[int, Any] = {}

    def _arrays(self, axes: int) -> tuple[Any, ...]:
        read = types.Array(self.element, axes, "A", readonly=True)
        return types.Array(self.element, axes, "A"), read, read, read

    def _body(self, axes: int) -> tuple[Any, int]:
        """product_share (two axes) or batch_share (four)."""
        body = product_share if axes == 2 else batch_share
        return _compiled(body, (*self._arrays(axes), *_NUMBERS, types.int64, types.int64))

    def run(self, c, a, b, d, adding, alpha, beta, lowest, matrices: int) -> None:
        """c = max(lowest, alpha * a @ b + beta * d) for so many matrices."""
        axes = c.ndim
        if axes not in self._bodies:
            self._bodies[axes] = self._body(axes)
        body, address = self._bodies[axes]
        shares = get_num_threads() if c.size * (a.shape[-1] + STORING) >= PARALLEL_FROM and not alone() else 1
        parts = 1 if matrices >= 4 * shares else shares
        by_rows = split_rows(c.shape[-2], c.shape[-1], a.shape[-1], parts if axes == 4 else shares, c.itemsize)
        numbers = adding, alpha, beta, lowest, by_rows, self.address, parts
        if shares == 1:
            body(c, a, b, d, *numbers, 1, 0)
            return
        if axes not in self._together:
            whole = types.int64
            self._together[axes], _ = _compiled(product_shares, (whole, whole, whole, *self._arrays(axes), *_NUMBERS))
        with turn:
            self._together[axes](region.region_address(), shares, address, c, a, b, d, *numbers)
