"""Heavy operators without their Python: the kernel calls that one run of an operator makes, on arrays that stay where they are.

An operator's CPU kernel is Python that checks, allocates, and calls compiled functions. In a plan its inputs, output and scratch memory
have fixed places, so those calls are the same every time: they are recorded once and then made directly. That holds if nothing
but the compiled functions touches the data. It is not assumed but tried: the recorded calls run on other data, and what they give must
equal what the operator gives, bit for bit; an operator for which it does not goes on being called as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import get_ident
from typing import Any

import numpy as np

from .._state import state
from ..kernels import memory
from ..replay import choose

Launch = tuple[Callable[..., Any], tuple[Any, ...]]


class Scratch:
    """Memory that operators use one after the other for what none of them keeps."""

    def __init__(self) -> None:
        self._blocks: list[np.ndarray] = []
        self._used: list[int] = []

    def reset(self) -> None:
        """All of it is free again."""
        self._used = [0] * len(self._blocks)

    def take(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
        """An array that lasts until `reset`, at a multiple of 64 bytes."""
        size = int(np.prod(shape)) * dtype.itemsize
        padded = -(-size // 64) * 64
        for i, block in enumerate(self._blocks):
            if block.nbytes - self._used[i] >= padded:
                break
        else:
            i = len(self._blocks)
            self._blocks.append(memory.aligned(max(padded, 1 << 20)))
            self._used.append(0)
        start = self._used[i]
        self._used[i] += padded
        return self._blocks[i][start : start + size].view(dtype).reshape(shape)

    def spoil(self) -> None:
        """Fills it with nonsense: whoever relies on what was left there is found out."""
        for block in self._blocks:
            block.fill(0xA5)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(b.nbytes for b in self._blocks)


@contextmanager
def _recording() -> Iterator[list[Launch]]:
    """Lists the kernel calls made in the block."""
    from ..kernels import shares
    from ..kernels.jit import Kernel

    calls: list[Launch] = []
    plain_call, plain_serial, plain_enter = Kernel.__call__, Kernel.serial, shares.enter
    depth = [0]
    thread = get_ident()

    def noted(plain: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(self: Any, *arguments: Any) -> Any:
            if depth[0] == 0 and get_ident() == thread:
                calls.append((self if name == "__call__" else plain.__get__(self), arguments))
            depth[0] += 1
            try:
                return plain(self, *arguments)
            finally:
                depth[0] -= 1

        return call

    def enter(*arguments: Any) -> None:
        if depth[0] == 0 and get_ident() == thread:
            calls.append((plain_enter, arguments))
        depth[0] += 1
        try:
            plain_enter(*arguments)
        finally:
            depth[0] -= 1

    shares.enter = enter  # type: ignore[assignment]
    Kernel.__call__ = noted(plain_call, "__call__")  # type: ignore[method-assign]
    Kernel.serial = noted(plain_serial, "serial")  # type: ignore[method-assign]
    state.launches = calls
    try:
        yield calls
    finally:
        state.launches = None
        Kernel.__call__, Kernel.serial, shares.enter = plain_call, plain_serial, plain_enter  # type: ignore[method-assign]


def _same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and np.array_equal(_bytes(a), _bytes(b))


def _bytes(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _launches(run: Callable[[], Any], places: Sequence[np.ndarray], scratch: Scratch, skipped: int) -> list[Launch] | None:
    """The kernel calls of one run, to which `places` are given as memory: each to the first request of its size after `skipped`."""
    scratch.reset()
    waiting = list(places)

    def provide(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
        nonlocal skipped
        size = int(np.prod(shape)) * dtype.itemsize
        fitting = next((k for k, p in enumerate(waiting) if p.nbytes == size and p.dtype == dtype), None)
        if fitting is None:
            return scratch.take(shape, dtype)
        if skipped:
            skipped -= 1
            return scratch.take(shape, dtype)
        return waiting.pop(fitting).reshape(shape)

    with memory.provided(provide), _recording() as calls:
        out = run()
    outs = out if isinstance(out, tuple) else (out,)
    if len(outs) != len(places) or not calls:
        return None
    launches: list[Launch] = list(calls)
    for o, place in zip(outs, places, strict=True):
        if not isinstance(o, np.ndarray) or o.shape != place.shape or o.dtype != place.dtype:
            return None
        if o.ctypes.data != place.ctypes.data or o.strides != place.strides:
            launches.append((np.copyto, (place, o)))
    return launches


def record(
    run: Callable[[], Any], places: Sequence[np.ndarray], shake: Callable[[], Callable[[], None]], scratch: Scratch
) -> list[Launch] | None:
    """The kernel calls of `run`, which computes new arrays from arrays that stay in place; they write its results to `places`.

    shake: changes the contents of what `run` reads, and returns how to undo that. None where the calls alone do not do it.
    """
    launches = _launches(run, places, scratch, 0)
    if launches is not None and launches[-1][0] is np.copyto:  # the first array of the result's size was not the result
        launches = _launches(run, places, scratch, 1)
    if launches is None:
        return None
    undo = shake()
    try:
        state.launches = []  # kernels look at it to take the way they take when recorded
        try:
            expected = run()
        finally:
            state.launches = None
        expected = [e.copy() for e in (expected if isinstance(expected, tuple) else (expected,))]
        for _ in range(2):
            for place in places:
                place.reshape(-1).view(np.uint8)[...] = 0xA5
            scratch.spoil()
            if not run_calls(launches) or not all(map(_same_bits, expected, places)):
                return None
    finally:
        undo()
    return launches


def run_calls(launches: Sequence[Launch]) -> bool:
    """Makes recorded calls; False, midway, where a choice by values now falls otherwise."""
    for function, arguments in launches:
        if function is choose:
            predicate, arrays, answer = arguments
            if bool(predicate(*arrays)) is not answer:
                return False
        else:
            function(*arguments)
    return True


__all__ = ["Launch", "Scratch", "record", "run_calls"]
