"""The loops of batch normalisation over one row, in vector registers.

Rows are short (7 x 7 elements in the last layers of a ResNet), and a loop that LLVM vectorises itself begins with questions: whether its
arrays overlap, whether there are enough elements. Here there are none, and what is left of a row after its last whole vector is
done under a mask. Arrays are contiguous; `at` and `start` count elements from their first.

    sum_row(x, at, n, centre)                       the sums of d = x - centre and of d^2
    product_row(g, start, x, at, n, centre)         the sums of g and of g d
    store_row(out, x, at, n, centre, scale, shift, other, adds, limit)
                                                           out = max(limit, d scale + shift), adds: (+ other)
    mask_row(masked, start, g, other, adds, after, at, n)
                                                           masked = g (+ other) where after > 0 (or is NaN), else 0
    gradient_row(grad, x, at, g, start, n, centre, level, slope, scale)
                                                           grad = scale (g - level - d slope)
"""

from __future__ import annotations

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from tinygrad_cv.kernels.vector import Writer, constant

_SUMS = 4  # of a kind at a time: one waits for its multiply-add while the others go on


def _walk(w, n, together, work):
    """Emits work(k, first element, load, store, kept) for every vector of n elements, k from 0 to `together` - 1 side by side.

    kept: sets the lanes beyond the end to 0.
    """
    builder, lanes = w.builder, constant(w.lanes)
    step = constant(w.lanes * together)
    blocks = builder.sdiv(n, step)
    with cgutils.for_range(builder, blocks) as loop:
        start = builder.mul(loop.index, step)
        for k in range(together):
            work(k, builder.add(start, constant(k * w.lanes)), w.load, w.store, lambda v: v)
    done = builder.mul(blocks, step)
    vectors = builder.sdiv(builder.sub(n, done), lanes)
    with cgutils.for_range(builder, vectors) as loop:
        work(0, builder.add(done, builder.mul(loop.index, lanes)), w.load, w.store, lambda v: v)
    done = builder.add(done, builder.mul(vectors, lanes))
    left = builder.sub(n, done)
    with builder.if_then(builder.icmp_signed(">", left, constant(0))):
        mask = w.mask(left)
        work(
            0, done, lambda place: w.load_under(place, mask), lambda value, place: w.store_under(value, place, mask),
            lambda value: builder.select(mask, value, w.zero),
        )  # fmt: skip


def _add_up(w, n, work):
    """Emits the sums of the two vectors that work(first element, load, kept) gives; returns them as a pair of numbers."""
    builder = w.builder
    sums = [[cgutils.alloca_once_value(builder, w.zero) for _ in range(_SUMS)] for _ in range(2)]
    for variable in (*sums[0], *sums[1]):
        builder.store(w.zero, variable)

    def add(k, first, load, store, kept):
        a, b, c = work(first, load, kept)
        total, products = sums[0][k], sums[1][k]
        builder.store(builder.fadd(builder.load(total), a), total)
        w.fma(b, c, products)

    _walk(w, n, _SUMS, add)
    found = []
    for a, b, c, d in sums:
        a, b, c, d = (builder.load(v) for v in (a, b, c, d))
        found.append(w.total(builder.fadd(builder.fadd(a, b), builder.fadd(c, d))))
    return found


def _pair(context, builder, signature, found):
    return context.make_tuple(builder, signature.return_type, found)


@intrinsic
def sum_row(typing_context, x, at, n, centre):
    kind = x.dtype

    def codegen(context, builder, signature, args):
        w = Writer(context, builder, kind)
        row, middle = w.at(w.data(x, args[0]), args[1]), w.spread(args[3])

        def work(first, load, kept):
            d = kept(builder.fsub(load(w.at(row, first)), middle))
            return d, d, d

        return _pair(context, builder, signature, _add_up(w, args[2], work))

    return types.UniTuple(kind, 2)(x, types.int64, types.int64, kind), codegen


@intrinsic
def product_row(typing_context, g, start, x, at, n, centre):
    kind = x.dtype

    def codegen(context, builder, signature, args):
        w = Writer(context, builder, kind)
        upstream, row, middle = w.at(w.data(g, args[0]), args[1]), w.at(w.data(x, args[2]), args[3]), w.spread(args[5])

        def work(first, load, kept):
            u = load(w.at(upstream, first))
            return u, u, kept(builder.fsub(load(w.at(row, first)), middle))

        return _pair(context, builder, signature, _add_up(w, args[4], work))

    return types.UniTuple(kind, 2)(g, types.int64, x, types.int64, types.int64, kind), codegen


@intrinsic
def store_row(typing_context, out, x, at, n, centre, scale, shift, other, adds, limit):
    kind = x.dtype

    def codegen(context, builder, signature, args):
        w = Writer(context, builder, kind)
        result, row, more = (w.at(w.data(a, args[i]), args[2]) for i, a in ((0, out), (1, x), (7, other)))
        middle, factor, offset, least = (w.spread(args[i]) for i in (4, 5, 6, 9))

        def store_with(adding):
            def work(k, first, load, store, kept):
                value = w.fused(builder.fsub(load(w.at(row, first)), middle), factor, offset)
                if adding:
                    value = builder.fadd(value, load(w.at(more, first)))
                low = builder.fcmp_ordered("<=", value, least)
                store(builder.select(low, least, value), w.at(result, first))

            _walk(w, args[3], 2, work)

        with builder.if_else(args[8]) as (added, alone):
            with added:
                store_with(True)
            with alone:
                store_with(False)
        return context.get_dummy_value()

    return types.void(out, x, types.int64, types.int64, kind, kind, kind, other, types.boolean, kind), codegen


@intrinsic
def mask_row(typing_context, masked, start, g, other, adds, after, at, n):
    kind = g.dtype

    def codegen(context, builder, signature, args):
        w = Writer(context, builder, kind)
        result = w.at(w.data(masked, args[0]), args[1])
        upstream, more, shown = (w.at(w.data(a, args[i]), args[6]) for i, a in ((2, g), (3, other), (5, after)))

        def mask_with(adding):
            def work(k, first, load, store, kept):
                value = load(w.at(upstream, first))
                if adding:
                    value = builder.fadd(value, load(w.at(more, first)))
                low = builder.fcmp_ordered("<=", load(w.at(shown, first)), w.zero)
                store(builder.select(low, w.zero, value), w.at(result, first))

            _walk(w, args[7], 2, work)

        with builder.if_else(args[4]) as (added, alone):
            with added:
                mask_with(True)
            with alone:
                mask_with(False)
        return context.get_dummy_value()

    return types.void(masked, types.int64, g, other, types.boolean, after, types.int64, types.int64), codegen


@intrinsic
def gradient_row(typing_context, grad, x, at, g, start, n, centre, level, slope, scale):
    kind = x.dtype

    def codegen(context, builder, signature, args):
        w = Writer(context, builder, kind)
        result, row = (w.at(w.data(a, args[i]), args[2]) for i, a in ((0, grad), (1, x)))
        upstream = w.at(w.data(g, args[3]), args[4])
        middle, mean, against, factor = (w.spread(v) for v in (args[6], args[7], builder.fneg(args[8]), args[9]))

        def work(k, first, load, store, kept):
            d = builder.fsub(load(w.at(row, first)), middle)
            value = w.fused(d, against, builder.fsub(load(w.at(upstream, first)), mean))
            store(builder.fmul(value, factor), w.at(result, first))

        _walk(w, args[5], 2, work)
        return context.get_dummy_value()

    return types.void(grad, x, types.int64, g, types.int64, types.int64, kind, kind, kind, kind), codegen
