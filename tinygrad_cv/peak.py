"""The machine's peak, measured: floating-point operations and bytes a second with the threads in use."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

_SPIN_STEPS = 20_000
_SPIN_SECONDS = 0.01  # what one reading lasts: far longer than it takes to wake threads
_TRIAD_ELEMENTS = 1 << 23  # 32 MB an array
_REPETITIONS = 20  # of which the shortest counts: others may be using the machine
_PRODUCT_SIZE = 768


@dataclass(frozen=True)
class Peak:
    """flops: float32 operations a second (an FMA counts two). bandwidth: bytes a second from and to memory. how: what measured it."""

    flops: float
    bandwidth: float
    threads: int
    how: str

    def __str__(self) -> str:
        return f"{self.flops / 1e9:.0f} GFLOP/s and {self.bandwidth / 1e9:.1f} GB/s with {self.threads} threads ({self.how})"


def measure_peak() -> Peak:
    """The peak with the present number of threads; measured once for each number, in about a second.

    With Numba by multiply-adds on registers and by the STREAM triad; without, by NumPy's best matrix product and copy, which stay below.
    """
    from . import kernels

    return _measured(kernels.get_num_threads(), kernels.enabled() and kernels.numba_available())


@cache
def _measured(threads: int, compiled: bool) -> Peak:
    if not compiled:
        return Peak(*_by_numpy(), threads, "NumPy's matrix product and copy")
    from .ops.cpu import peak  # type: ignore[import-not-found]

    out, factor, addend = np.zeros(threads, np.float32), np.float32(0.5), np.float32(1)
    peak.spin(_SPIN_STEPS, factor, addend, out)
    once = _shortest(lambda: peak.spin(_SPIN_STEPS, factor, addend, out))
    steps = max(int(_SPIN_STEPS * _SPIN_SECONDS / once), 1)
    seconds = _shortest(lambda: peak.spin(steps, factor, addend, out))
    a, b, c = (np.ones(_TRIAD_ELEMENTS, np.float32) for _ in range(3))
    peak.triad(a, b, c, factor)
    triad = _shortest(lambda: peak.triad(a, b, c, factor))
    return Peak(2.0 * threads * peak.LANES * peak.SUMS * steps / seconds, 3 * a.nbytes / triad, threads, "FMA and triad")


def _by_numpy() -> tuple[float, float]:
    a = np.ones((_PRODUCT_SIZE, _PRODUCT_SIZE), np.float32)
    out = np.empty_like(a)
    np.matmul(a, a, out=out)
    product = _shortest(lambda: np.matmul(a, a, out=out))
    source = np.ones(_TRIAD_ELEMENTS, np.float32)
    target = np.zeros_like(source)
    return 2.0 * _PRODUCT_SIZE**3 / product, 2 * source.nbytes / _shortest(lambda: np.copyto(target, source))


def _shortest(call: Callable[[], Any]) -> float:
    found = []
    for _ in range(_REPETITIONS):
        started = time.perf_counter()
        call()
        found.append(time.perf_counter() - started)
    return min(found)


__all__ = ["Peak", "measure_peak"]
