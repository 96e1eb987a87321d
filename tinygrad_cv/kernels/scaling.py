"""`times_power_of_two`: the last step of `exp` and `exp2`, whose results may be too small or too large for a normal number.

AVX-512 has an instruction for it (VSCALEFPS), which LLVM from version 22 on makes of its operation `ldexp`, in loops too. Elsewhere two
multiplications by powers of two do the same and round in the same place, so that both give the same bits.
"""

from __future__ import annotations

from llvmlite import binding, ir
from numba import types
from numba.extending import intrinsic

_LLVM = binding.llvm_version_info[0]


def _has_instruction(context) -> bool:
    features = context.codegen().magic_tuple()[2].split(",")
    return _LLVM >= 22 and "+avx512f" in features and "+avx512vl" in features


@intrinsic
def times_power_of_two(typing_context, x, n):
    """x * 2^n for a float32 x from 1/2 to 2 and an int32 n from -252 to 254, rounded once; NaN of NaN, whatever n is."""

    def generate(context, builder, signature, arguments):
        value, power = arguments
        single, word = ir.FloatType(), ir.IntType(32)
        if _has_instruction(context):
            shape = ir.FunctionType(single, [single, word])
            return builder.call(builder.module.declare_intrinsic("llvm.ldexp", [single, word], shape), [value, power])
        first = builder.ashr(power, word(1))
        for half in (first, builder.sub(power, first)):
            factor = builder.bitcast(builder.shl(builder.add(half, word(127)), word(23)), single)
            value = builder.fmul(value, factor)
        return value

    return types.float32(types.float32, types.int32), generate
