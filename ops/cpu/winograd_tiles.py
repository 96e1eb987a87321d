"""The pieces of a Winograd convolution (see `winograd`), in vector code: one lane for each channel or filter.

Images are turned on their way in and out: the positions of a map, which lie side by side in memory, come to stand one below the other,
each with its channels side by side, and every transform is then the same few additions on whole vectors, whatever the map's size.

`tile` is the number of outputs of a tile along an axis, `overlap` how many elements a tile shares with the next along an axis: 2 of the
input, which B^T spreads, or 0 of the output's gradient, which A does (for the gradient in the weight). Both are literals in a call.
"""

from __future__ import annotations

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from tinygrad_cv.kernels.vector import Writer, constant

from .winograd_transforms import TAPS, Emitter, matrices

_KERNEL = TAPS * TAPS


def _literals(*values) -> bool:
    return all(isinstance(value, types.IntegerLiteral) for value in values)


def _matrix(tile: int, overlap: int):
    """What spreads the tile + overlap elements that a tile sees."""
    inputs, _, outputs = matrices(tile)
    return inputs if overlap else outputs


@intrinsic
def turn_in(typing_context, x, x_at, channel_step, channels, count, places, first, out, out_at):
    """out[out_at + places[first + i] + c] = x[x_at + c * channel_step + i] for a lane c each, and i < lanes; 0 for i >= count.

    Lanes from `channels` on get what lane 0 does. What lies `lanes` channels further on is fetched, to be at hand later.
    """

    def codegen(context, builder, signature, args):
        x_value, x_at, channel_step, channels, count, places_value, first, out_value, out_at = args
        writer = Writer(context, builder, x.dtype)
        begin = writer.at(writer.data(x, x_value), x_at)
        end = writer.at(writer.data(out, out_value), out_at)
        table = writer.at(writer.data(places, places_value), first)
        ahead = builder.mul(channel_step, constant(writer.lanes))
        starts = []
        for c in range(writer.lanes):
            inside = builder.icmp_signed("<", constant(c), channels)
            starts.append(writer.at(begin, builder.select(inside, builder.mul(channel_step, constant(c)), constant(0))))
        held = [cgutils.alloca_once(builder, writer.vector) for _ in starts]
        with builder.if_else(builder.icmp_signed(">=", count, constant(writer.lanes))) as (whole_vectors, part):
            with whole_vectors:
                for start, variable in zip(starts, held, strict=True):
                    writer.fetch(writer.at(start, ahead))
                    builder.store(writer.load(start), variable)
            with part:
                for start, variable in zip(starts, held, strict=True):
                    builder.store(writer.load_first(start, count), variable)
        for i, value in enumerate(writer.transpose([builder.load(variable) for variable in held])):
            writer.store(value, writer.at(end, builder.load(writer.at(table, i))))
        return context.get_dummy_value()

    whole = types.intp
    return types.void(x, whole, whole, whole, whole, places, whole, out, whole), codegen


@intrinsic
def turn_out(typing_context, rows, rows_at, places, first, y, y_at, filter_step, filters, count):
    """y[y_at + f * filter_step + i] = rows[rows_at + places[first + i] + f] for f < filters and i < count, both up to lanes.

    All `lanes` places are read.
    """

    def codegen(context, builder, signature, args):
        rows_value, rows_at, places_value, first, y_value, y_at, filter_step, filters, count = args
        writer = Writer(context, builder, rows.dtype)
        begin = writer.at(writer.data(rows, rows_value), rows_at)
        table = writer.at(writer.data(places, places_value), first)
        end = writer.at(writer.data(y, y_value), y_at)
        lanes = constant(writer.lanes)
        read = [writer.load(writer.at(begin, builder.load(writer.at(table, i)))) for i in range(writer.lanes)]
        lines = [(writer.at(end, builder.mul(filter_step, constant(f))), v) for f, v in enumerate(writer.transpose(read))]
        complete = builder.and_(builder.icmp_signed(">=", filters, lanes), builder.icmp_signed(">=", count, lanes))
        with builder.if_else(complete) as (whole_vectors, part):
            with whole_vectors:
                for place, value in lines:
                    writer.store(value, place)
            with part:
                for f, (place, value) in enumerate(lines):
                    with builder.if_then(builder.icmp_signed("<", constant(f), filters)):
                        writer.store_first(value, place, count)
        return context.get_dummy_value()

    whole = types.intp
    return types.void(rows, whole, places, whole, y, whole, whole, whole, whole), codegen


@intrinsic(prefer_literal=True)
def spread_tile(typing_context, tile, overlap, rows, rows_at, pitch, out, out_at, plane):
    """out[out_at + (points i + j) * plane + c] = (B^T d B)[i, j] for a lane c each, d[i, j] = rows[rows_at + i * pitch + j * lanes + c]."""
    if not _literals(tile, overlap):
        return None
    whole, size, more = types.intp, tile.literal_value, overlap.literal_value

    def codegen(context, builder, signature, args):
        _, _, rows_value, rows_at, pitch, out_value, out_at, plane = args
        writer = Writer(context, builder, rows.dtype)
        emitter = Emitter(writer)
        begin = writer.at(writer.data(rows, rows_value), rows_at)
        end = writer.at(writer.data(out, out_value), out_at)
        points, matrix = size + TAPS - 1, _matrix(size, more)
        lines = [writer.at(begin, builder.mul(pitch, constant(i))) for i in range(size + more)]
        columns = []
        for j in range(size + more):
            columns.append(emitter.spread(matrix, [writer.load(writer.at(line, j * writer.lanes)) for line in lines]))
        for i in range(points):
            for j, value in enumerate(emitter.spread(matrix, [column[i] for column in columns])):
                writer.store(value, writer.at(end, builder.mul(plane, constant(points * i + j))))
        return context.get_dummy_value()

    return types.void(tile, overlap, rows, whole, whole, out, whole, whole), codegen


@intrinsic(prefer_literal=True)
def gather_tile(typing_context, tile, products, products_at, plane, ends, ends_at, ends_row, out, out_at, pitch, watch):
    """out[out_at + i * pitch + j * lanes + f] = max(ends[2, f], ends[0, f] * (A^T m A)[i, j] + ends[1, f]) for a lane f each,

    m[i, j] = products[products_at + (points i + j) * plane + f], ends[k, f] at ends[ends_at + k * ends_row + f]. watch[f] becomes NaN, and
    stays it, when an output of the lane is not finite, before it meets ends[2].
    """
    if not _literals(tile):
        return None
    whole, size = types.intp, tile.literal_value
    signature = types.void(tile, products, whole, whole, ends, whole, whole, out, whole, whole, watch)

    def codegen(context, builder, signature, args):
        _, products_value, products_at, plane, ends_value, ends_at, ends_row, out_value, out_at, pitch, watch_value = args
        writer = Writer(context, builder, products.dtype)
        emitter = Emitter(writer)
        begin = writer.at(writer.data(products, products_value), products_at)
        end = writer.at(writer.data(out, out_value), out_at)
        seen = writer.data(watch, watch_value)
        points, outputs = size + TAPS - 1, matrices(size)[2]
        rows = []
        for i in range(points):
            m = [writer.load(writer.at(begin, builder.mul(plane, constant(points * i + j)))) for j in range(points)]
            rows.append(emitter.gather(outputs, m))
        place = writer.at(writer.data(ends, ends_value), ends_at)
        scale, shift, floor = (writer.load(writer.at(place, builder.mul(ends_row, constant(k)))) for k in range(3))
        poison = writer.load(seen)
        for j in range(size):
            for i, value in enumerate(emitter.gather(outputs, [row[j] for row in rows])):
                value = emitter.multiply_add(scale, value, shift)
                poison = builder.fadd(poison, builder.fmul(value, writer.zero))
                value = builder.select(builder.fcmp_ordered(">", value, floor), value, floor)
                writer.store(value, writer.at(end, builder.mul(pitch, constant(i)), j * writer.lanes))
        writer.store(poison, seen)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic(prefer_literal=True)
def spread_weights(typing_context, tile, weight, weight_at, step, count, ahead, turned, out, out_at, plane):
    """3x3 weights: out[out_at + (points i + j) * plane + t] = (G g G^T)[i, j] for g at weight[weight_at + t * step], t < count <= lanes.

    turned: g is read backwards, as the gradient in the input wants it. Later lanes of `out` are written too. Those `ahead` further on are
    fetched, to be at hand later.
    """
    if not _literals(tile):
        return None
    whole, size = types.intp, tile.literal_value
    signature = types.void(tile, weight, whole, whole, whole, whole, types.boolean, out, whole, whole)

    def codegen(context, builder, signature, args):
        _, weight_value, weight_at, step, count, ahead, turned, out_value, out_at, plane = args
        writer = Writer(context, builder, weight.dtype)
        emitter = Emitter(writer)
        begin = writer.at(writer.data(weight, weight_value), weight_at)
        end = writer.at(writer.data(out, out_value), out_at)
        starts = []
        for t in range(writer.lanes):
            inside = builder.icmp_signed("<", constant(t), count)
            starts.append(writer.at(begin, builder.select(inside, builder.mul(step, constant(t)), constant(0))))
        for start in starts:
            writer.fetch(writer.at(start, ahead))
        taps = []
        for done in range(0, _KERNEL, writer.lanes):
            held = min(writer.lanes, _KERNEL - done)
            taps += writer.transpose([writer.load_first(writer.at(s, done), constant(held)) for s in starts])[:held]
        taps = [builder.select(turned, back, tap) for tap, back in zip(taps, taps[::-1], strict=True)]
        points, matrix = size + TAPS - 1, matrices(size)[1]
        rows = [emitter.spread(matrix, taps[TAPS * i : TAPS * (i + 1)]) for i in range(TAPS)]
        for j in range(points):
            for i, value in enumerate(emitter.spread(matrix, [row[j] for row in rows])):
                writer.store(value, writer.at(end, builder.mul(plane, constant(points * i + j))))
        return context.get_dummy_value()

    return signature, codegen


@intrinsic(prefer_literal=True)
def gather_weights(typing_context, tile, sums, sums_at, plane, parts, part, out, out_at, count, watch):
    """Gradients of 3x3 weights: out[out_at + 9 t ...] = G^T u G for t < count <= lanes, u[i, j] = sum over q < parts of

    sums[sums_at + q * part + (points i + j) * plane + t]. watch[t] becomes NaN, and stays it, when a result of the lane is not finite.
    """
    if not _literals(tile):
        return None
    whole, size = types.intp, tile.literal_value
    signature = types.void(tile, sums, whole, whole, whole, whole, out, whole, whole, watch)

    def codegen(context, builder, signature, args):
        _, sums_value, sums_at, plane, parts, part, out_value, out_at, count, watch_value = args
        writer = Writer(context, builder, sums.dtype)
        emitter = Emitter(writer)
        begin = writer.at(writer.data(sums, sums_value), sums_at)
        end = writer.at(writer.data(out, out_value), out_at)
        points, matrix = size + TAPS - 1, matrices(size)[1]
        places = [builder.mul(plane, constant(p)) for p in range(points * points)]
        held = [cgutils.alloca_once(builder, writer.vector) for _ in places]
        for place, variable in zip(places, held, strict=True):
            builder.store(writer.load(writer.at(begin, place)), variable)
        with cgutils.for_range(builder, builder.sub(parts, constant(1))) as loop:
            later = writer.at(begin, builder.mul(builder.add(loop.index, constant(1)), part))
            for place, variable in zip(places, held, strict=True):
                builder.store(builder.fadd(builder.load(variable), writer.load(writer.at(later, place))), variable)
        u = [builder.load(variable) for variable in held]
        rows = [emitter.gather(matrix, u[points * i : points * (i + 1)]) for i in range(points)]
        columns = [emitter.gather(matrix, [row[j] for row in rows]) for j in range(TAPS)]
        taps = [columns[j][i] for i in range(TAPS) for j in range(TAPS)]
        seen = writer.data(watch, watch_value)
        poison = writer.zero
        for tap in taps:
            poison = builder.fadd(poison, builder.fmul(tap, writer.zero))
        writer.store(builder.fadd(writer.load(seen), poison), seen)
        for done in range(0, _KERNEL, writer.lanes):
            some = taps[done : done + writer.lanes]
            lines = writer.transpose(some + [writer.zero] * (writer.lanes - len(some)))
            for t, line in enumerate(lines):
                with builder.if_then(builder.icmp_signed("<", constant(t), count)):
                    writer.store_first(line, writer.at(end, _KERNEL * t + done), constant(len(some)))
        return context.get_dummy_value()

    return signature, codegen
