"""Vector registers: how wide they are on this machine, and `Writer`, which writes instructions on them as LLVM code.

What a reader of "Anatomy of High-Performance Matrix Multiplication" (Goto, van de Geijn, 2008) or of the BLIS papers calls a
micro-kernel, we call a tile: the innermost loop of a product, whose sums stay in registers until they are complete. No auto-vectoriser
can be relied on to find it, so tiles are written instruction by instruction, by Python functions that run when Numba compiles
(`numba.extending.intrinsic`). The same function serves every machine, because it asks `Writer` for vectors of the machine's width:

    registers            bytes   number   a tile holds (rows x vectors)   float32 sums
    AVX-512              64      32       6 x 4                           6 x 64
    AVX2                 32      16       6 x 2                           6 x 16
    NEON                 16      32       6 x 4                           6 x 16
    SSE and others       16      16       6 x 2                           6 x 8

24 (12) registers hold sums, 4 (2) a row of B, and one a splat element of A: enough sums that each multiply-add finds its
predecessor done, and few enough that nothing is spilled.

The width is that of the processor that Numba compiles for. The environment variable TINYGRAD_CV_VECTOR, read once, narrows it to 512,
256 or 128 bits, for tests of the narrower tiles.

Its users are in `ops/cpu/`. Tiles: `gemm_micro` (products of any layout, and the copies before them), `gemm_tiles` (of packed operands, for
Winograd), `conv_tiles` (rows found by a table), `conv_image_weight` (dot products). What feeds them: `conv_copies`, `winograd_tiles`.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import llvmlite.binding
import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

Value = Any  # of LLVM: what an instruction gives or takes
_INTEGER, _LANE = ir.IntType(64), ir.IntType(32)


class Registers(NamedTuple):
    """Vector registers: bytes of each, how many a tile may use, and whether loads under a mask are single instructions."""

    size: int
    number: int
    masks: bool


def _processor() -> Registers:
    """The registers of the processor that Numba compiles for."""
    if platform.machine().lower() in ("aarch64", "arm64"):
        return Registers(16, 32, False)
    config: Any = numba.config
    features = config.CPU_FEATURES
    if features is not None:
        found = {f[1:] for f in features.split(",") if f.startswith("+")}
    elif config.CPU_NAME:
        found = set()
    else:
        found = {name for name, present in llvmlite.binding.get_host_cpu_features().items() if present}
    if "avx512f" in found:
        return Registers(64, 32, True)
    return Registers(32, 16, True) if "avx2" in found else Registers(16, 16, False)


def registers() -> Registers:
    """The registers that tiles use: the processor's, or as TINYGRAD_CV_VECTOR = 512, 256 or 128 (bits) says.

    Raises ValueError for other values and for wider registers than the processor has.
    """
    own, text = _processor(), os.environ.get("TINYGRAD_CV_VECTOR", "")
    if not text:
        return own
    known = {"512": Registers(64, 32, True), "256": Registers(32, 16, True), "128": Registers(16, min(own.number, 16), False)}
    if text not in known or known[text].size > own.size:
        raise ValueError(
            f"TINYGRAD_CV_VECTOR: expected 512, 256 or 128, at most {8 * own.size} on this processor, got {text!r}"
        )
    return own if known[text].size == own.size else known[text]


REGISTER_BYTES, _NUMBER, MASKED_LOADS = registers()
VECTORS = 4 if _NUMBER >= 32 else 2  # of B that a tile holds at most
ROWS = 6  # of A that a tile holds at most
LANES_SLACK = VECTORS * REGISTER_BYTES // 4


def constant(value: int) -> Value:
    """An integer of 64 bits."""
    return ir.Constant(_INTEGER, value)


def switch(builder: Any, value: Value, cases: Iterable[int], body: Callable[[int], None]) -> None:
    """Writes body(case) for every case, of which the one that `value` equals runs, if there is one: a tile for each width, say."""
    end = builder.append_basic_block("end")
    table = builder.switch(value, end)
    for case in cases:
        block = builder.append_basic_block(f"case.{case}")
        table.add_case(constant(case), block)
        builder.position_at_end(block)
        body(case)
        builder.branch(end)
    builder.position_at_end(end)


@intrinsic
def address(typing_context, array, index):  # type: ignore[no-untyped-def]
    """The address of array[index] in memory, an integer. It keeps nothing alive."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Value:
        data = context.make_array(array)(context, builder, args[0]).data
        return builder.ptrtoint(builder.gep(data, [args[1]]), _INTEGER)

    return types.int64(array, types.intp), codegen


@intrinsic
def bytes_of(typing_context, number):  # type: ignore[no-untyped-def]
    """The size of a floating number."""
    return types.int64(number), lambda context, builder, signature, args: constant(number.bitwidth // 8)


class Writer:
    """Vector instructions on one element type, appended where `builder` stands."""

    def __init__(self, context: Any, builder: Any, element_type: Any) -> None:
        self.context, self.builder = context, builder
        self.element = context.get_value_type(element_type)
        self.bytes = element_type.bitwidth // 8
        self.lanes = REGISTER_BYTES // self.bytes
        self.vector = ir.VectorType(self.element, self.lanes)
        self.undefined = ir.Constant(self.vector, ir.Undefined)
        self.zero = ir.Constant(self.vector, [0.0] * self.lanes)
        name = f"llvm.fma.v{self.lanes}f{element_type.bitwidth}"
        self._fma = cgutils.get_or_insert_function(builder.module, ir.FunctionType(self.vector, [self.vector] * 3), name)

    # ---- places ----

    def data(self, array_type: Any, value: Value) -> Value:
        """The address of an array's first element."""
        return self.context.make_array(array_type)(self.context, self.builder, value).data

    def at(self, pointer: Value, *offsets: Value | int) -> Value:
        """The place some elements further on."""
        for offset in offsets:
            offset = constant(offset) if isinstance(offset, int) else offset
            pointer = self.builder.gep(pointer, [offset])
        return pointer

    def place(self, address: Value, *distances: Value) -> Value:
        """The place some bytes after an address, which is an integer."""
        for distance in distances:
            address = self.builder.add(address, distance)
        return self.builder.inttoptr(address, self.element.as_pointer())

    # ---- between memory and registers ----

    def load(self, pointer: Value) -> Value:
        loaded = self.builder.load(self.builder.bitcast(pointer, self.vector.as_pointer()))
        loaded.align = self.bytes
        return loaded

    def store(self, value: Value, pointer: Value) -> None:
        self.builder.store(value, self.builder.bitcast(pointer, self.vector.as_pointer())).align = self.bytes

    def mask(self, count: Value) -> Value:
        """Lanes below `count`."""
        wide = ir.VectorType(_INTEGER, self.lanes)
        one = self.builder.insert_element(ir.Constant(wide, ir.Undefined), count, ir.Constant(_LANE, 0))
        zeros = ir.Constant(ir.VectorType(_LANE, self.lanes), [0] * self.lanes)
        counts = self.builder.shuffle_vector(one, ir.Constant(wide, ir.Undefined), zeros)
        return self.builder.icmp_signed("<", ir.Constant(wide, list(range(self.lanes))), counts)

    def between(self, first: Value, stop: Value) -> Value:
        """Lanes `first` up to `stop` - 1."""
        return self.builder.and_(self.mask(stop), self.builder.not_(self.mask(first)))

    def _masked(self, kind: str, result: Any, parameters: list[Any]) -> Value:
        name = f"llvm.masked.{kind}.v{self.lanes}f{8 * self.bytes}.p0"
        return cgutils.get_or_insert_function(self.builder.module, ir.FunctionType(result, parameters), name)

    def load_under(self, pointer: Value, mask: Value) -> Value:
        """The lanes of a mask at `pointer`, zeros elsewhere; nothing else is read."""
        pointer, alignment = self.builder.bitcast(pointer, self.vector.as_pointer()), ir.Constant(_LANE, self.bytes)
        load = self._masked("load", self.vector, [pointer.type, alignment.type, mask.type, self.vector])
        return self.builder.call(load, [pointer, alignment, mask, self.zero])

    def store_under(self, value: Value, pointer: Value, mask: Value) -> None:
        """Writes the lanes of a mask."""
        pointer, alignment = self.builder.bitcast(pointer, self.vector.as_pointer()), ir.Constant(_LANE, self.bytes)
        store = self._masked("store", ir.VoidType(), [self.vector, pointer.type, alignment.type, mask.type])
        self.builder.call(store, [value, pointer, alignment, mask])

    def load_first(self, pointer: Value, count: Value) -> Value:
        """The first `count` lanes at `pointer`, zeros after; nothing beyond is read."""
        return self.load_under(pointer, self.mask(count))

    def store_first(self, value: Value, pointer: Value, count: Value) -> None:
        """Writes the first `count` lanes only."""
        self.store_under(value, pointer, self.mask(count))

    def splat(self, pointer: Value) -> Value:
        """The element at `pointer` in every lane."""
        return self.spread(self.builder.load(pointer))

    def spread(self, value: Value) -> Value:
        """A number in every lane."""
        one = self.builder.insert_element(self.undefined, value, ir.Constant(_LANE, 0))
        return self.shuffle(one, self.undefined, [0] * self.lanes)

    def fetch(self, pointer: Value) -> None:
        """Asks for what lies at `pointer`, which may be beyond the operand: nothing is read."""
        arguments = [pointer, ir.Constant(_LANE, 0), ir.Constant(_LANE, 3), ir.Constant(_LANE, 1)]
        kind = ir.FunctionType(ir.VoidType(), [a.type for a in arguments])
        self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, "llvm.prefetch.p0"), arguments)

    # ---- on registers ----

    def fused(self, a: Value, b: Value, c: Value) -> Value:
        """a * b + c."""
        return self.builder.call(self._fma, [a, b, c])

    def fma(self, a: Value, b: Value, variable: Value) -> None:
        """variable += a * b."""
        self.builder.store(self.fused(a, b, self.builder.load(variable)), variable)

    def shuffle(self, a: Value, b: Value, lanes: Iterable[int]) -> Value:
        """The given lanes of a and b, those of b counted from `self.lanes` on."""
        return self.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_LANE, self.lanes), list(lanes)))

    def apart(self, a: Value, b: Value) -> tuple[Value, ...]:
        """The even and the odd elements of a followed by b."""
        return tuple(self.shuffle(a, b, range(odd, 2 * self.lanes, 2)) for odd in (0, 1))

    def together(self, even: Value, odd: Value) -> tuple[Value, ...]:
        """Two vectors with the elements of `even` and `odd` in turn: the inverse of `apart`."""
        half = self.lanes // 2
        return tuple(
            self.shuffle(even, odd, [i // 2 + start + i % 2 * self.lanes for i in range(self.lanes)]) for start in (0, half)
        )

    def transpose(self, rows: Iterable[Value]) -> list[Value]:
        """The columns of a square block given by its rows: log2 steps, each of which swaps blocks of half the size."""
        rows, half = list(rows), self.lanes // 2
        while half:
            low = [i if not i & half else self.lanes + i - half for i in range(self.lanes)]
            high = [i + half if not i & half else self.lanes + i for i in range(self.lanes)]
            for i in range(self.lanes):
                if not i & half:
                    a, b = rows[i], rows[i + half]
                    rows[i], rows[i + half] = self.shuffle(a, b, low), self.shuffle(a, b, high)
            half //= 2
        return rows

    def total(self, vector: Value) -> Value:
        """The sum of the lanes, in pairs: log2 steps."""
        builder, width = self.builder, self.lanes
        while width > 1:
            width //= 2
            low, high = (ir.Constant(ir.VectorType(_LANE, width), list(range(s, s + width))) for s in (0, width))
            undefined = ir.Constant(vector.type, ir.Undefined)
            vector = builder.fadd(
                builder.shuffle_vector(vector, undefined, low), builder.shuffle_vector(vector, undefined, high)
            )
        return builder.extract_element(vector, ir.Constant(_LANE, 0))
