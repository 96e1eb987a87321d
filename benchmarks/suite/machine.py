"""What the machine can do: multiply-adds from registers, bytes from memory; and how evenly it does it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .libraries import Context

# (float32 in a vector, sums held at once): a core needs some ten independent sums to be busy, and registers for them; how wide its
# vectors are is found by trying.
FORMS = ((4, 10), (4, 20), (8, 10), (8, 12), (16, 10), (16, 20))
STEPS = 20_000  # to find the best form
SPIN_SECONDS = 0.01  # what one reading lasts: far longer than it takes to wake threads
TRIAD_ELEMENTS = 1 << 24  # 64 MB an array
NOISE_BOUND = 1.15


@intrinsic(prefer_literal=True)
def _multiply_add(typing_context, lanes, sums, steps, factor, addend):
    """`sums` vectors of `lanes` elements, each replaced `steps` times by itself * factor + addend; returns one lane of their total."""
    if not isinstance(lanes, types.IntegerLiteral) or not isinstance(sums, types.IntegerLiteral):
        return None
    width, count = lanes.literal_value, sums.literal_value

    def codegen(context, builder, signature, args):
        vector = ir.VectorType(ir.FloatType(), width)
        fma = cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{width}f32")

        def everywhere(scalar):
            one = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
            zeros = ir.Constant(ir.VectorType(ir.IntType(32), width), [0] * width)
            return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), zeros)

        by, plus = everywhere(args[3]), everywhere(args[4])
        held = [cgutils.alloca_once_value(builder, ir.Constant(vector, [float(i)] * width)) for i in range(count)]
        with cgutils.for_range(builder, args[2]):
            for variable in held:
                builder.store(builder.call(fma, [builder.load(variable), by, plus]), variable)
        total = builder.load(held[0])
        for variable in held[1:]:
            total = builder.fadd(total, builder.load(variable))
        return builder.extract_element(total, ir.Constant(ir.IntType(32), 0))

    return types.float32(lanes, sums, types.intp, types.float32, types.float32), codegen


def _spinner(lanes: int, sums: int) -> Callable[..., float]:
    @numba.njit(nogil=True)
    def spin(steps, factor, addend):
        return _multiply_add(lanes, sums, steps, factor, addend)

    return spin


@numba.njit(nogil=True, error_model="numpy")
def _triad(a, b, c, factor):
    for i in range(a.size):
        a[i] = b[i] + factor * c[i]


@dataclass(frozen=True)
class Machine:
    """10^9 floating-point operations a second (an FMA counts two) and 10^9 bytes a second (STREAM's count: three arrays)."""

    threads: int
    one_core: float
    all_threads: float
    triad: float


class Meter:
    """The kernels that measure, compiled, and the threads they run on."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.pool = ThreadPoolExecutor(threads)
        factor, addend = np.float32(0.5), np.float32(1)
        spinners = {form: _spinner(*form) for form in FORMS}
        rates = {}
        for form, spin in spinners.items():
            spin(1, factor, addend)
            rates[form] = form[0] * form[1] * STEPS / self._shortest(partial(spin, STEPS, factor, addend), 5)
        best = max(FORMS, key=rates.__getitem__)
        steps = int(rates[best] / (best[0] * best[1]) * SPIN_SECONDS)
        self._spin = partial(spinners[best], steps, factor, addend)
        self._flop = 2 * best[0] * best[1] * steps

    @staticmethod
    def _shortest(call: Callable[[], Any], times: int) -> float:
        return min(_seconds(call) for _ in range(times))

    def everywhere(self, works: list[Callable[[], Any]]) -> None:
        """Does each of the works on a thread of its own."""
        for done in [self.pool.submit(work) for work in works]:
            done.result()

    def peak(self, repetitions: int) -> tuple[float, float]:
        """FMA rate of one core and of all threads, in 10^9 operations a second."""
        one = self._shortest(self._spin, repetitions)
        together = self._shortest(lambda: self.everywhere([self._spin] * self.threads), repetitions)
        return self._flop / one / 1e9, self.threads * self._flop / together / 1e9

    def bandwidth(self, repetitions: int, elements: int = TRIAD_ELEMENTS) -> float:
        """a = b + factor * c on all threads, in 10^9 bytes a second."""
        a, b, c = np.zeros(elements, np.float32), np.ones(elements, np.float32), np.ones(elements, np.float32)
        cuts = [elements * i // self.threads for i in range(self.threads + 1)]
        parts = [slice(start, stop) for start, stop in itertools.pairwise(cuts)]
        works: list[Callable[[], Any]] = [partial(_triad, a[p], b[p], c[p], np.float32(2)) for p in parts]
        self.everywhere(works)
        assert (a == 3).all()
        return 3 * a.nbytes / self._shortest(lambda: self.everywhere(works), repetitions) / 1e9

    def noise(self, seconds: float) -> float:
        """How unevenly one and the same work takes: the time that nine of ten repetitions keep within, by the shortest."""
        found = []
        stop = time.perf_counter() + seconds
        while len(found) < 10 or time.perf_counter() < stop:
            found.append(_seconds(lambda: self.everywhere([self._spin] * self.threads)))
        return float(np.quantile(found, 0.9) / min(found))


def _seconds(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def measure(meter: Meter, quick: bool) -> Machine:
    """The machine's figures."""
    one, together = meter.peak(5 if quick else 40)
    triad = meter.bandwidth(2, 1 << 16) if quick else meter.bandwidth(10)
    return Machine(meter.threads, one, together, triad)


def quiet(meter: Meter, patience: float, seconds: float = 0.5) -> tuple[bool, float]:
    """Whether the machine is even enough to measure on, within NOISE_BOUND, and the last noise; tries again for `patience` seconds."""
    stop = time.perf_counter() + patience
    while True:
        noise = meter.noise(seconds)
        if noise <= NOISE_BOUND or time.perf_counter() >= stop:
            return noise <= NOISE_BOUND, noise


def group(context: Context) -> Iterator[dict[str, Any]]:
    """The machine's figures as rows."""
    found = asdict(context.machine)
    threads = f"{context.threads} thread{'s' if context.threads > 1 else ''}"
    for case, key, unit in (
        ("FMA peak from registers, one core", "one_core", "GFLOP/s"),
        (f"FMA peak from registers, {threads}", "all_threads", "GFLOP/s"),
        (f"triad a = b + s * c, {threads}", "triad", "GB/s"),
    ):
        yield {"case": case, "figures": {"measured": found[key], "unit": unit}}
