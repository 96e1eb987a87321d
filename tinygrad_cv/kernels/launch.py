"""Calls of generated loops: which layout a call has, whether it is worth a kernel, one thread or many. Imports no Numba itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from . import threads
from .loops import Program, broadcast_layout, make
from .memory import empty

FLOAT32, FLOAT64, BOOL = np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.bool_)
NEVER = 1 << 62
PARALLEL_WORK = 12000.0  # ns of work on one core below which a parallel region does not pay, a crowded machine in mind
_REGION = 2000.0  # ns to enter and leave one
_CALL = 2500.0  # ns a kernel call costs besides the work
MEMORY_COST = 0.1  # ns to read and write one element
_ROW = 16  # rows shorter than this are left to NumPy

smallest: int | None = None  # tests set this: arrays of at least so many elements go to kernels, whatever that costs


class Cost(NamedTuple):
    """What a computation costs: ns a float32 element on one core, here and in NumPy (`formula`), and NumPy's ns a call.

    calls: how many functions of the C library it calls in float64.
    """

    here: float
    numpy: float
    fixed: float
    calls: int


def _numpy_has_avx512() -> bool:
    try:
        from numpy._core._multiarray_umath import __cpu_features__
    except ImportError:
        return False
    return bool(__cpu_features__.get("AVX512_SKX", False))


def smallest_size(cost: Cost) -> int:
    """From how many float32 elements on a kernel beats NumPy, on one core or on all."""
    if smallest is not None:
        return smallest
    numpy = cost.numpy * (3.0 if cost.calls and not _numpy_has_avx512() else 1.0)
    here = cost.here + MEMORY_COST
    sizes = [NEVER]
    for each, fixed in ((here, _CALL), (here / threads.get_num_threads(), _CALL + _REGION)):
        gain = numpy - 1.1 * each
        if gain > 0:
            sizes.append(max(512, int((fixed - cost.fixed) / gain)))
    return min(sizes)


class Loop:
    """A program as a function of arrays and numbers, which declines (NotImplemented) where NumPy does as well or better."""

    def __init__(self, program: Program, arrays: int, truth: bool, cost: Cost) -> None:
        self.program = program
        self.arrays = arrays  # so many of the operands may be arrays; the rest are numbers
        self.truth = truth
        self.cost = cost
        self.truths = tuple(name in program.truths for name in program.operands)
        self.parallel_size = int(PARALLEL_WORK / (cost.here + MEMORY_COST))
        self.smallest = smallest_size(cost)
        self.worth_copying = cost.here > 0.5
        self.kernels: dict[tuple[str, bool], Any] = {}

    def __call__(self, arrays: Sequence[Any], numbers: Sequence[Any]) -> Any:
        """arrays: `numpy.ndarray`s that broadcast, or numbers. All float arrays are float32, or all are float64."""
        full: Any = None
        for a in arrays:
            if type(a) is np.ndarray and (full is None or a.size > full.size):
                full = a
        if full is None or full.size < self.smallest:
            return NotImplemented
        shape = full.shape
        dtype: Any = None
        letters = ""
        arguments: list[Any] = []
        broadcast: tuple[str, int, int] | None = None
        for a, truth in zip(arrays, self.truths, strict=False):
            if type(a) is not np.ndarray:
                if a is None or not isinstance(a, (int, float)):
                    return NotImplemented
                letters += "S"
                arguments.append(float(a))
                continue
            kind = a.dtype
            if truth:
                if kind != BOOL:
                    return NotImplemented
            elif dtype is None:
                dtype = kind
                if kind != FLOAT32 and kind != FLOAT64:
                    return NotImplemented
            elif kind != dtype:
                return NotImplemented
            if a.shape == shape:
                if not a.flags.c_contiguous:
                    if not any(a.strides):  # one number, expanded
                        letters += "S"
                        arguments.append(float(a.flat[0]))
                        continue
                    if not self.worth_copying:
                        return NotImplemented
                    a = np.ascontiguousarray(a)
                letters += "F"
            elif a.size == 1 and a.ndim <= len(shape):
                letters += "S"
                arguments.append(float(a.item()))
                continue
            else:
                layout = broadcast_layout(shape, a.shape) if a.ndim <= len(shape) else None
                if layout is None or (broadcast is not None and layout != broadcast):
                    return NotImplemented
                broadcast = layout
                letters += layout[0]
                a = np.ascontiguousarray(a)
            arguments.append(a)
        if dtype is None or "F" not in letters:
            return NotImplemented
        for value in numbers:
            if not isinstance(value, (int, float)):
                return NotImplemented
            letters += "S"
            arguments.append(float(value))
        return self._run(letters, dtype, shape, arguments, broadcast)

    def _run(
        self, layout: str, dtype: Any, shape: tuple[int, ...], arguments: list[Any], broadcast: tuple[str, int, int] | None
    ) -> Any:
        if broadcast is not None:
            _, middle, rows = broadcast
            size = int(np.prod(shape)) // rows
            if (size < _ROW or rows < threads.get_num_threads()) and smallest is None:
                return NotImplemented
        kernel = self.kernels.get((layout, dtype == FLOAT64)) or self.kernel(layout, dtype)
        if kernel is None:
            return NotImplemented
        out: Any = empty(shape, BOOL if self.truth else dtype)
        if broadcast is not None:
            for position, letter in enumerate(layout):
                if letter == "F":
                    arguments[position] = arguments[position].reshape(rows, size)
                elif letter != "S":
                    arguments[position] = arguments[position].reshape(-1)
            target = out.reshape(rows, size)
            arguments.append(middle)
        elif len(shape) != 1:
            for position, letter in enumerate(layout):
                if letter == "F":
                    arguments[position] = arguments[position].reshape(-1)
            target = out.reshape(-1)
        else:
            target = out
        if out.size < self.parallel_size:
            kernel.serial(target, *arguments)
        else:
            kernel(target, *arguments)
        return out

    def kernel(self, layout: str, dtype: Any) -> Any:
        """The kernel for a layout and dtype; None where there is to be none."""
        from . import numba_available

        wide = dtype == FLOAT64
        if wide and self.cost.calls and smallest is None:
            return None  # NumPy's vectorised functions win over the C library's
        if not numba_available():
            self.smallest = NEVER
            return None
        found = self.kernels[layout, wide] = make(self.program, layout, "float64" if wide else "float32")
        return found

    def example(self) -> tuple[Any, list[Any]]:
        """The float32 kernel for full arrays, and arguments of one element to compile it with."""
        numbers = len(self.program.operands) - self.arrays
        kernel = self.kernel("F" * self.arrays + "S" * numbers, FLOAT32)
        out = np.empty(1, BOOL if self.truth else FLOAT32)
        arrays = [np.ones(1, BOOL if truth else FLOAT32) for truth in self.truths[: self.arrays]]
        return kernel, [out, *arrays, *[1.0] * numbers]
