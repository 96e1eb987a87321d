"""The transforms of a Winograd convolution (see `winograd`), in vector code: one lane for each tile, or for each weight.

B^T, G and A^T are applied along one axis at a time. Along rows, where neighbouring tiles overlap, inputs are loaded as they lie
in memory and taken apart into even and odd elements in registers; outputs are put together the same way.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .tiles import Writer

POINTS = 4  # along one axis: inputs of a tile, and products of its transform
PLANES = POINTS * POINTS
_TAPS = 9


def _constant(value: int):
    return ir.Constant(ir.IntType(64), value)


def _fetch(builder, pointer) -> None:
    """Asks for what lies at `pointer`, which may be beyond the operand: nothing is read."""
    number = ir.IntType(32)
    arguments = [pointer, number(0), number(3), number(1)]
    kind = ir.FunctionType(ir.VoidType(), [a.type for a in arguments])
    builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0"), arguments)


def _spread_input(builder, d):
    """B^T d."""
    return [builder.fsub(d[0], d[2]), builder.fadd(d[1], d[2]), builder.fsub(d[2], d[1]), builder.fsub(d[1], d[3])]


def _gather_output(builder, m):
    """A^T m."""
    return [builder.fadd(builder.fadd(m[0], m[1]), m[2]), builder.fsub(builder.fsub(m[1], m[2]), m[3])]


def _spread_grad(builder, zero, y):
    """A y."""
    return [y[0], builder.fadd(y[0], y[1]), builder.fsub(y[0], y[1]), builder.fsub(zero, y[1])]


def _gather_weight(builder, half, u):
    """G^T u."""
    sums, differences = (builder.fmul(half, operation(u[1], u[2])) for operation in (builder.fadd, builder.fsub))
    return [builder.fadd(u[0], sums), differences, builder.fadd(sums, u[3])]


def _spread_weight(builder, half, g):
    """G g."""
    ends, middle = builder.fmul(half, builder.fadd(g[0], g[2])), builder.fmul(half, g[1])
    return [g[0], builder.fadd(ends, middle), builder.fsub(ends, middle), g[2]]


@intrinsic
def spread_row(typing_context, x, x_at, first, stop, next_at, out, out_at, distance):
    """One row of the input, along the row: out[out_at + j * distance + t] = (B^T d)[j], d = x[x_at + 2 t + (0, 1, 2, 3)], for a lane
    t each.

    Elements before x_at + first and from x_at + stop on count as zeros and are not read. Those `next_at` further on are fetched, to be
    at hand later.
    """
    whole = types.intp

    def codegen(context, builder, signature, args):
        x_value, x_at, first, stop, next_at, out_value, out_at, distance = args
        writer = Writer(context, builder, x.dtype)
        begin = writer.at(writer.data(x, x_value), x_at)
        end = writer.at(writer.data(out, out_value), out_at)
        for part in (0, writer.lanes):
            _fetch(builder, writer.at(begin, next_at, part))

        def load(offset: int):
            bounds = (builder.sub(bound, _constant(offset)) for bound in (first, stop))
            return writer.load_between(writer.at(begin, offset), *bounds)

        d = [*writer.apart(load(0), load(writer.lanes)), *writer.apart(load(2), load(2 + writer.lanes))]
        for j, value in enumerate(_spread_input(builder, d)):
            writer.store(value, writer.at(end, builder.mul(distance, _constant(j))))
        return context.get_dummy_value()

    return types.void(x, whole, whole, whole, whole, out, whole, whole), codegen


@intrinsic
def spread_columns(typing_context, rows, rows_at, step, distance, out, out_at, plane):
    """What `spread_row` made of four rows, along the columns: out[out_at + (4 i + j) * plane + t] = (B^T d)[i] for a lane t each.

    Row i of column j lies at rows[rows_at + (2 j + i % 2) * distance + i // 2 * step].
    """
    whole = types.intp

    def codegen(context, builder, signature, args):
        rows_value, rows_at, step, distance, out_value, out_at, plane = args
        writer = Writer(context, builder, rows.dtype)
        begin = writer.at(writer.data(rows, rows_value), rows_at)
        end = writer.at(writer.data(out, out_value), out_at)
        for j in range(POINTS):
            column = [writer.at(begin, builder.mul(distance, _constant(2 * j + odd))) for odd in (0, 1)]
            d = [writer.load(p) for p in (*column, *(writer.at(c, step) for c in column))]
            for i, value in enumerate(_spread_input(builder, d)):
                writer.store(value, writer.at(end, builder.mul(plane, _constant(POINTS * i + j))))
        return context.get_dummy_value()

    return types.void(rows, whole, whole, whole, out, whole, whole), codegen


@intrinsic
def gather_tiles(typing_context, products, products_at, plane, bias, out, out_at, distance, watch):
    """Tiles of outputs: out[out_at + i * distance + 2 t + j] = (A^T m A)[i, j] + bias, m = products[products_at + (4 i + j) * plane
    + t], for a lane t each.

    watch[t] becomes NaN, and stays it, when an output of the lane is not finite.
    """
    whole = types.intp
    signature = types.void(products, whole, whole, products.dtype, out, whole, whole, watch)

    def codegen(context, builder, signature, args):
        products_value, products_at, plane, bias, out_value, out_at, distance, watch_value = args
        writer = Writer(context, builder, products.dtype)
        begin = writer.at(writer.data(products, products_value), products_at)
        end = writer.at(writer.data(out, out_value), out_at)
        seen = writer.data(watch, watch_value)
        rows = []
        for i in range(POINTS):
            m = [writer.load(writer.at(begin, builder.mul(plane, _constant(POINTS * i + j)))) for j in range(POINTS)]
            rows.append(_gather_output(builder, m))
        first = builder.insert_element(writer.undefined, bias, ir.Constant(ir.IntType(32), 0))
        shift = writer.shuffle(first, writer.undefined, [0] * writer.lanes)
        columns = [_gather_output(builder, [row[j] for row in rows]) for j in (0, 1)]
        poison = writer.load(seen)
        for i in (0, 1):
            pair = [builder.fadd(column[i], shift) for column in columns]
            for value in pair:
                poison = builder.fadd(poison, builder.fmul(value, writer.zero))
            line = writer.at(end, builder.mul(distance, _constant(i)))
            for part, value in enumerate(writer.together(*pair)):
                writer.store(value, writer.at(line, part * writer.lanes))
        writer.store(poison, seen)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def spread_weights(typing_context, weight, weight_at, step, count, turned, out, out_at, plane):
    """3x3 weights: out[out_at + (4 i + j) * plane + t] = (G g G^T)[i, j] for g at weight[weight_at + t * step], t < count <= lanes.

    turned: g is read backwards, as the gradient in the input wants it. Later lanes of `out` are written too.
    """
    whole = types.intp
    signature = types.void(weight, whole, whole, whole, types.boolean, out, whole, whole)

    def codegen(context, builder, signature, args):
        weight_value, weight_at, step, count, turned, out_value, out_at, plane = args
        writer = Writer(context, builder, weight.dtype)
        begin = writer.at(writer.data(weight, weight_value), weight_at)
        end = writer.at(writer.data(out, out_value), out_at)
        starts = []
        for t in range(writer.lanes):
            inside = builder.icmp_signed("<", _constant(t), count)
            starts.append(writer.at(begin, builder.select(inside, builder.mul(step, _constant(t)), _constant(0))))
        taps = []
        for done in range(0, _TAPS, writer.lanes):
            held = min(writer.lanes, _TAPS - done)
            taps += writer.transpose([writer.load_first(writer.at(s, done), _constant(held)) for s in starts])[:held]
        half = ir.Constant(writer.vector, [0.5] * writer.lanes)
        rows = [_spread_weight(builder, half, taps[3 * i : 3 * i + 3]) for i in range(3)]
        mirror = [3, 1, 2, 0]  # of the rows of G, when g is turned
        for j in range(POINTS):
            for i, value in enumerate(_spread_weight(builder, half, [row[j] for row in rows])):
                straight, back = _constant(POINTS * i + j), _constant(POINTS * mirror[i] + mirror[j])
                writer.store(value, writer.at(end, builder.mul(plane, builder.select(turned, back, straight))))
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def spread_grad_row(typing_context, grad, grad_at, stop, next_at, out, out_at, distance):
    """One row of the output's gradient, along the row: out[out_at + j * distance + t] = (A y)[j], y = grad[grad_at + 2 t + (0, 1)], for
    a lane t each.

    Elements from grad_at + stop on count as zeros and are not read. Those `next_at` further on are fetched, to be at hand later.
    """
    whole = types.intp

    def codegen(context, builder, signature, args):
        grad_value, grad_at, stop, next_at, out_value, out_at, distance = args
        writer = Writer(context, builder, grad.dtype)
        begin = writer.at(writer.data(grad, grad_value), grad_at)
        end = writer.at(writer.data(out, out_value), out_at)
        for part in (0, writer.lanes):
            _fetch(builder, writer.at(begin, next_at, part))
        parts = [writer.load_first(writer.at(begin, at), builder.sub(stop, _constant(at))) for at in (0, writer.lanes)]
        for j, value in enumerate(_spread_grad(builder, writer.zero, writer.apart(*parts))):
            writer.store(value, writer.at(end, builder.mul(distance, _constant(j))))
        return context.get_dummy_value()

    return types.void(grad, whole, whole, whole, out, whole, whole), codegen


@intrinsic
def spread_grad_columns(typing_context, rows, rows_at, distance, out, out_at, plane):
    """What `spread_grad_row` made of two rows, along the columns: out[out_at + (4 i + j) * plane + t] = (A y)[i] for a lane t each.

    Row i of column j lies at rows[rows_at + (2 j + i) * distance].
    """
    whole = types.intp

    def codegen(context, builder, signature, args):
        rows_value, rows_at, distance, out_value, out_at, plane = args
        writer = Writer(context, builder, rows.dtype)
        begin = writer.at(writer.data(rows, rows_value), rows_at)
        end = writer.at(writer.data(out, out_value), out_at)
        for j in range(POINTS):
            y = [writer.load(writer.at(begin, builder.mul(distance, _constant(2 * j + i)))) for i in (0, 1)]
            for i, value in enumerate(_spread_grad(builder, writer.zero, y)):
                writer.store(value, writer.at(end, builder.mul(plane, _constant(POINTS * i + j))))
        return context.get_dummy_value()

    return types.void(rows, whole, whole, out, whole, whole), codegen


@intrinsic
def gather_weights(typing_context, sums, sums_at, plane, parts, part, out, out_at, count):
    """Gradients of 3x3 weights: out[out_at + 9 t ...] = G^T u G for t < count <= lanes, u[i, j] = sum over q < parts of

    sums[sums_at + q * part + (4 i + j) * plane + t].
    """
    whole = types.intp
    signature = types.void(sums, whole, whole, whole, whole, out, whole, whole)

    def codegen(context, builder, signature, args):
        sums_value, sums_at, plane, parts, part, out_value, out_at, count = args
        writer = Writer(context, builder, sums.dtype)
        begin = writer.at(writer.data(sums, sums_value), sums_at)
        end = writer.at(writer.data(out, out_value), out_at)
        places = [builder.mul(plane, _constant(p)) for p in range(PLANES)]
        held = [cgutils.alloca_once(builder, writer.vector) for _ in range(PLANES)]
        for place, variable in zip(places, held, strict=True):
            builder.store(writer.load(writer.at(begin, place)), variable)
        with cgutils.for_range(builder, builder.sub(parts, _constant(1))) as loop:
            later = writer.at(begin, builder.mul(builder.add(loop.index, _constant(1)), part))
            for place, variable in zip(places, held, strict=True):
                builder.store(builder.fadd(builder.load(variable), writer.load(writer.at(later, place))), variable)
        half = ir.Constant(writer.vector, [0.5] * writer.lanes)
        u = [builder.load(variable) for variable in held]
        rows = [_gather_weight(builder, half, u[POINTS * i : POINTS * (i + 1)]) for i in range(POINTS)]
        columns = [_gather_weight(builder, half, [row[j] for row in rows]) for j in range(3)]
        taps = [columns[j][i] for i in range(3) for j in range(3)]
        for done in range(0, _TAPS, writer.lanes):
            some = taps[done : done + writer.lanes]
            lines = writer.transpose(some + [writer.zero] * (writer.lanes - len(some)))
            for t, line in enumerate(lines):
                with builder.if_then(builder.icmp_signed("<", _constant(t), count)):
                    writer.store_first(line, writer.at(end, _TAPS * t + done), _constant(len(some)))
        return context.get_dummy_value()

    return signature, codegen
