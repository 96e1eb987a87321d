"""Dropout in one pass: the mask is made from the generator's counter where it is used.

NumPy's Philox (4 x 64 bits, 10 rounds; Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3, SC 2011) turns block
number i of a stream into four words of 64 bits, whatever came before, so that shares of the elements need nothing of each other. The
kernel computes the very words that NumPy would draw, and then moves the generator on by as many: reference and kernel drop the same.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from tinygrad_cv.kernels.jit import helper, kernel
from tinygrad_cv.kernels.memory import empty
from tinygrad_cv.kernels.shares import plain, run_shares, share_count, span
from tinygrad_cv.random import numpy_generator

SMALLEST = 4096  # elements below which NumPy draws
_PARALLEL_ELEMENTS = 16384
_CHUNK = 64  # blocks of four words made before they are used: 2 KB
_u = np.uint64
_M0, _M1 = _u(0xD2E7470EE14C6C93), _u(0xCA5A826395121157)
_W0, _W1 = _u(0x9E3779B97F4A7C15), _u(0xBB67AE8584CAA73B)
_ZERO, _ONE = _u(0), _u(1)


@intrinsic
def _product(typing_context, x, y):
    """The product of two uint64, 128 bits: its upper and its lower half."""
    pair = types.UniTuple(types.uint64, 2)

    def generate(context, builder, signature, arguments):
        wide, word = ir.IntType(128), ir.IntType(64)
        product = builder.mul(*(builder.zext(a, wide) for a in arguments))
        halves = [builder.trunc(builder.lshr(product, wide(64)), word), builder.trunc(product, word)]
        return context.make_tuple(builder, pair, halves)

    return pair(types.uint64, types.uint64), generate


@helper
def _block(counter, key, ahead):
    """The four words of the block `ahead` of the counter, a number of 256 bits."""
    a = counter[0] + ahead
    carry = _ONE if a < ahead else _ZERO
    b = counter[1] + carry
    carry = carry if b == _ZERO else _ZERO
    c = counter[2] + carry
    d = counter[3] + (carry if c == _ZERO else _ZERO)
    k, m = key[0], key[1]
    for _ in range(10):
        high0, low0 = _product(_M0, a)
        high1, low1 = _product(_M1, c)
        a, b, c, d = high1 ^ b ^ k, low1, high0 ^ d ^ m, low0
        k, m = k + _W0, m + _W1
    return a, b, c, d


@helper
def _apply(x, words, threshold, scale, out, mask):
    """Drops where a word of 32 bits lies below the threshold."""
    zero = x.dtype.type(0)
    for j in range(x.size):
        keep = words[j] >= threshold
        mask[j] = keep
        out[j] = x[j] * scale if keep else zero


@kernel
def drop(x, scale, threshold, key, counter, drawn, out, mask, shares, share):
    """Dropout of x, in one axis: element i looks at half i of the stream, which begins with the words `drawn` and goes on with the blocks
    after the counter. Chunks are shared out."""
    kind = x.dtype.type
    limit = np.uint32(threshold)
    head = min(2 * drawn.size, x.size)
    if share == 0:
        _apply(x[:head], drawn.view(np.uint32), limit, kind(scale), out[:head], mask[:head])
    words = np.empty(4 * _CHUNK, np.uint64)
    chunks = (x.size - head + 8 * _CHUNK - 1) // (8 * _CHUNK)
    for t in range(*span(chunks, shares, share)):
        for b in range(_CHUNK):
            words[4 * b], words[4 * b + 1], words[4 * b + 2], words[4 * b + 3] = _block(counter, key, _u(t * _CHUNK + b + 1))
        start = head + 8 * _CHUNK * t
        stop = min(start + 8 * _CHUNK, x.size)
        _apply(x[start:stop], words.view(np.uint32), limit, kind(scale), out[start:stop], mask[start:stop])


@kernel
def one_block(counter, key, ahead, words):
    """The block `ahead` of the counter."""
    words[0], words[1], words[2], words[3] = _block(counter, key, _u(ahead))


def _move_on(generator: np.random.Generator, state: dict, count: int) -> None:
    """Leaves the generator as if `count` words of 64 bits had been drawn from the state it had."""
    left = 4 - state["buffer_pos"]
    if count <= left:
        state["buffer_pos"] += count
    else:
        blocks = -(-(count - left) // 4)
        counter = state["state"]["counter"]
        one_block.serial(counter, state["state"]["key"], blocks, state["buffer"])
        value = sum(int(word) << 64 * i for i, word in enumerate(counter)) + blocks
        counter[:] = [value >> 64 * i & 0xFFFF_FFFF_FFFF_FFFF for i in range(4)]
        state["buffer_pos"] = count - left - 4 * (blocks - 1)
    generator.bit_generator.state = state


def dropout_with_mask(input: np.ndarray, p: float):
    """(out, mask); float32 or float64, not too small."""
    generator = numpy_generator()
    if (
        input.size < SMALLEST
        or input.dtype.kind != "f"
        or input.itemsize < 4
        or not 0.0 < p < 1.0
        or type(generator.bit_generator) is not np.random.Philox
    ):
        return NotImplemented
    state = generator.bit_generator.state
    x = plain(input)
    out, mask = empty(input.shape, input.dtype), empty(input.shape, np.bool_)
    shares = share_count(x.size, _PARALLEL_ELEMENTS)
    run_shares(
        drop, shares, x, 1.0 / (1.0 - p), int(p * 2**32), state["state"]["key"], state["state"]["counter"],
        state["buffer"][state["buffer_pos"] :].copy(), out.reshape(-1), mask.reshape(-1), shares,
    )  # fmt: skip
    _move_on(generator, state, (x.size + 1) // 2)
    return out, mask
