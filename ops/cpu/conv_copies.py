"""The copies that the convolutions work on, and those out of them, as LLVM vector code: rows with zeros around, in steps of one or two
(the usual strides), blocks of rows turned into columns, and two results woven into one."""

from __future__ import annotations

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from tinygrad_cv.kernels.vector import Writer, constant

from .routines import routine, stay_apart, zero_row

STEPS = (1, 2, 4)  # in which rows are read by vectors


def _bounds(writer: Writer, low, high, step: int):
    """Masks of the vectors, as many as the step, of which the elements low ... high - 1 of a row are every step-th."""
    builder, twice = writer.builder, constant(step)
    first, stop = builder.mul(low, twice), builder.sub(builder.mul(high, twice), constant(step - 1))
    starts = [constant(part * writer.lanes) for part in range(step)]
    return [writer.between(builder.sub(first, start), builder.sub(stop, start)) for start in starts]


def _load_row(writer: Writer, place, masks):
    """The elements of a row in one vector."""
    parts = [writer.load_under(writer.at(place, i * writer.lanes), mask) for i, mask in enumerate(masks)]
    while len(parts) > 1:
        parts = [writer.apart(a, b)[0] for a, b in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


@intrinsic
def fill_rows(
    typing_context, x, x_at, x_row, x_channel, step, grid, to, grid_row, grid_channel, rows, channels, count, low, high
):
    """grid[to + c * grid_channel + r * grid_row + j] = x[x_at + c * x_channel + r * x_row + j * step] where low <= j < high, else 0,

    for c < channels, r < rows, j < count. step: one of STEPS. Only elements between those are read.
    """

    def codegen(context, builder, signature, args):
        _, x_at, x_row, x_channel, step, _, to, grid_row, grid_channel, rows, channels, count, low, high = args
        writer = Writer(context, builder, x.dtype)
        begin, end = writer.at(writer.data(x, args[0]), x_at), writer.at(writer.data(grid, args[5]), to)
        lanes = constant(writer.lanes)
        vectors = builder.sdiv(builder.add(count, constant(writer.lanes - 1)), lanes)
        with cgutils.for_range(builder, vectors) as loop:
            p = builder.mul(loop.index, lanes)
            first, stop, left = builder.sub(low, p), builder.sub(high, p), builder.sub(count, p)

            kept = writer.mask(left)

            def copy(stride: int) -> None:
                masks = _bounds(writer, first, stop, stride)
                with cgutils.for_range(builder, channels) as channel:
                    source = writer.at(begin, builder.mul(p, step), builder.mul(channel.index, x_channel))
                    target = writer.at(end, p, builder.mul(channel.index, grid_channel))
                    with cgutils.for_range(builder, rows) as row:
                        value = _load_row(writer, writer.at(source, builder.mul(row.index, x_row)), masks)
                        writer.store_under(value, writer.at(target, builder.mul(row.index, grid_row)), kept)

            for stride in STEPS:
                with builder.if_then(builder.icmp_signed("==", step, constant(stride))):
                    copy(stride)
        return context.get_dummy_value()

    whole = types.intp
    return types.void(x, *(whole,) * 4, grid, *(whole,) * 8), codegen


@intrinsic
def turn_block(typing_context, x, places, first, rows, shift, step, low, high, target, to, target_row):
    """target[to + j * target_row + r] = x[places[first + r] + shift + j * step] where low <= j < high and the place is not negative,

    else 0, for r < rows and as many j as a vector has lanes: a block of rows of x turned into columns. step: 1 or 2.
    As many places as lanes are read.
    """

    def codegen(context, builder, signature, args):
        _, _, first, rows, shift, step, low, high, _, to, target_row = args
        writer = Writer(context, builder, x.dtype)
        begin, end = writer.at(writer.data(x, args[0]), shift), writer.at(writer.data(target, args[8]), to)
        table, none = writer.at(writer.data(places, args[1]), first), constant(0)
        held = [cgutils.alloca_once(builder, writer.vector) for _ in range(writer.lanes)]

        def load_all(stride: int) -> None:
            masks = _bounds(writer, low, high, stride)
            for r, variable in enumerate(held):
                place = builder.load(writer.at(table, r))
                absent = builder.icmp_signed("<", place, none)  # then any place serves, as the masks keep it inside
                value = _load_row(writer, writer.at(begin, builder.select(absent, none, place)), masks)
                builder.store(builder.select(absent, writer.zero, value), variable)

        with builder.if_else(builder.icmp_signed("==", step, constant(1))) as (then, otherwise):
            with then:
                load_all(1)
            with otherwise:
                load_all(2)
        kept = writer.mask(rows)
        for j, column in enumerate(writer.transpose([builder.load(variable) for variable in held])):
            writer.store_under(column, writer.at(end, builder.mul(target_row, constant(j))), kept)
        return context.get_dummy_value()

    whole = types.intp
    return types.void(x, places, *(whole,) * 6, target, whole, whole), codegen


@intrinsic
def weave_rows(typing_context, even, even_at, even_row, odd_at, odd_row, target, to, target_row, rows, even_count, odd_count):
    """target[to + r * target_row + 2 j] = even[even_at + r * even_row + j] and, at 2 j + 1, even[odd_at + r * odd_row + j]."""

    def codegen(context, builder, signature, args):
        _, even_at, even_row, odd_at, odd_row, _, to, target_row, rows, even_count, odd_count = args
        writer = Writer(context, builder, even.dtype)
        data, end = writer.data(even, args[0]), writer.at(writer.data(target, args[5]), to)
        lanes, twice = constant(writer.lanes), constant(2)
        total = builder.add(even_count, odd_count)
        vectors = builder.sdiv(builder.add(even_count, constant(writer.lanes - 1)), lanes)
        with cgutils.for_range(builder, vectors) as loop:
            p = builder.mul(loop.index, lanes)
            left = builder.sub(total, builder.mul(p, twice))
            with cgutils.for_range(builder, rows) as row:
                one = writer.at(data, even_at, builder.mul(row.index, even_row), p)
                two = writer.at(data, odd_at, builder.mul(row.index, odd_row), p)
                low, high = writer.together(
                    writer.load_first(one, builder.sub(even_count, p)), writer.load_first(two, builder.sub(odd_count, p))
                )
                place = writer.at(end, builder.mul(row.index, target_row), builder.mul(p, twice))
                writer.store_first(low, place, left)
                writer.store_first(high, writer.at(place, lanes), builder.sub(left, lanes))
        return context.get_dummy_value()

    whole = types.intp
    return types.void(even, *(whole,) * 4, target, *(whole,) * 5), codegen


@routine
def fill_strip(x, origin, distance, channels, job, table, d, first_row, first_column, lines, columns, grid):
    """Copies what the taps of one strip meet in `channels` channels, from x[origin:] on, `distance` apart; see `conv_grid.strips`."""
    stay_apart()
    depth, height, width = job[3], job[4], job[5]
    step_h, step_w, phases, taps_d, taps_w = job[10], job[11], job[13], job[15], job[16]
    line, channel = job[18], job[22]
    rows = lines + job[14]
    area, plane = (job[17] + job[14]) * line, height * width
    at = 0
    for i in range(taps_d):
        z = d * job[9] + table[i]
        for j in range(taps_w):
            start = first_column * step_w + table[taps_d + j]
            low = max(0, -(start // step_w))
            high = min(columns, (width - 1 - start) // step_w + 1)
            for p in range(phases):
                h = first_row * step_h + job[12] + p
                first = min(rows, max(0, -(h // step_h)))
                stop = max(first, min(rows, (height - 1 - h) // step_h + 1))
                if z < 0 or z >= depth or high <= low:
                    first, stop = rows, rows
                if first > 0 or stop < rows:
                    for c in range(channels):
                        zero_row(grid, at + c * channel, first * line)
                        zero_row(grid, at + c * channel + stop * line, (rows - stop) * line)
                begin, to = origin + z * plane + (h + first * step_h) * width + start, at + first * line
                if step_w in STEPS:
                    fill_rows(
                        x, begin, step_h * width, distance, step_w, grid, to, line, channel, stop - first, channels, columns, low, high
                    )  # fmt: skip
                else:
                    for c in range(channels):
                        for r in range(stop - first):
                            source, target = begin + c * distance + r * step_h * width, to + c * channel + r * line
                            zero_row(grid, target, columns)
                            for k in range(low, high):
                                grid[target + k] = x[source + k * step_w]
                at += area
