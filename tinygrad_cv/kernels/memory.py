"""Memory for the results of kernels, used again.

A training step makes the same large arrays in every step. Asked for afresh, each comes from the operating system page by page, and
touching a page for the first time costs more than computing its contents (on a virtual machine about 0.1 ms for 300 KB). Here
the memory of an array that has died is kept for the next one of its size. The keeper is the array's base object: when the last array
and the last view of it are gone, its memory returns. Nothing waits for the garbage collector.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Any

import numpy as np

_SMALLEST = 1 << 16  # bytes; smaller arrays come cheaply from the allocator
_LIMIT = 1 << 30  # bytes kept at most; what comes back beyond that is given to the operating system
_ALIGNMENT = 64

_free: dict[int, list[Block]] = {}
_kept = 0
_leased = 0  # bytes in arrays that live; a plain += is enough: Python switches threads only at calls and at the ends of loops
_peak = 0


_provider: tuple[int, Callable[[tuple[int, ...], np.dtype[Any]], np.ndarray]] | None = None


@contextmanager
def provided(provider: Callable[[tuple[int, ...], np.dtype[Any]], np.ndarray]) -> Iterator[None]:
    """Inside the block, `empty` in this Python thread returns what provider(shape, dtype) gives: a compiled plan has places ready."""
    global _provider
    before, _provider = _provider, (get_ident(), provider)
    try:
        yield
    finally:
        _provider = before


class Block(np.ndarray):
    """Memory that is used again and again, as bytes. A type of its own, so that NumPy does not shorten base chains past a Lease."""

    __slots__ = ()


class Lease(np.ndarray):
    """A view of a Block, and the base of the array that has it for now. It gives the memory back when it dies."""

    __slots__ = ()

    def __del__(self) -> None:
        global _kept, _leased
        if _free is None:  # Python is shutting down
            return
        size = self.nbytes
        _leased -= size
        if _kept + size <= _LIMIT:
            _kept += size
            _free.setdefault(size, []).append(self.base)  # type: ignore[arg-type]


def empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """As `numpy.empty`; large arrays start at a multiple of 64 bytes."""
    global _kept, _leased, _peak
    if type(dtype) is type:
        dtype = np.dtype(dtype)
    if _provider is not None and _provider[0] == get_ident():
        return _provider[1](shape, dtype)
    size = math.prod(shape) * dtype.itemsize
    if size < _SMALLEST:
        return np.empty(shape, dtype)
    try:
        block = _free[size].pop()
        _kept -= size
    except LookupError:
        block = aligned(size).view(Block)
    _leased += size
    if _leased > _peak:
        _peak = _leased
    return np.ndarray(shape, dtype, block.view(Lease))


def aligned(size: int) -> np.ndarray:
    """`size` bytes, outside of the pool, that start at a multiple of 64: on a cache line of their own."""
    raw = np.empty(size + _ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start : start + size]


def empty_like(array: np.ndarray) -> np.ndarray:
    """An uninitialised row-major array of the shape and dtype of `array`."""
    return empty(array.shape, array.dtype)


def copied(array: np.ndarray) -> np.ndarray:
    """A row-major copy."""
    out = empty_like(array)
    np.copyto(out, array)
    return out


def owns_memory(array: np.ndarray) -> bool:
    """Whether `array` is the whole of its memory and no view of another array."""
    return array.base is None or type(array.base) is Lease


def release() -> int:
    """Gives all kept memory back to the operating system; returns how many bytes."""
    global _kept
    given, _kept = _kept, 0
    _free.clear()
    return given


def statistics() -> dict[str, int]:
    """Bytes of kernels' results from here on: leased (in arrays that live), peak (the most that were leased), kept (free, for the next)."""
    return {"leased": _leased, "peak": _peak, "kept": _kept}


def reset_peak() -> None:
    """Counts the peak anew from what is leased now."""
    global _peak
    _peak = _leased
