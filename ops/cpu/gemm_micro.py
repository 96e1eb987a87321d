"""The micro-kernels of matrix products, and the copies ("packing") that feed them, in vector code (see `kernels.vector`).

    micro_panel   a panel of C, up to VECTORS vectors wide and any number of rows high: ROWS rows at a time, whose sums stay in
                  registers for the whole summed axis. Each step loads a row of B's panel and multiplies it by splat elements of A.
    dot_panel     a few rows times many columns that lie along the summed axis: vectors along that axis, added up at the end.
    pack          copies a block into rows of elements side by side, whichever way they lie; columns are turned to rows in registers.

Each is one LLVM function with its loops inside, which Numba does not see: it is neither inlined nor rearranged, and costs its compile
time once. Operands are addresses (int64) and distances in bytes, so that any strides do; the element type is that of the numbers given
last. Vectors that stick out are read and written under a mask. Both micro-kernels end with

    c = max(lowest, alpha * sums + beta * d)            max(x, y) = y where y is NaN; lowest = -inf: no bound; 0: ReLU

in registers, d standing for whatever is to be added: a former block's sums, a bias (rows at a distance of 0), a residual.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from tinygrad_cv.kernels.vector import MASKED_LOADS, ROWS, VECTORS, Writer, constant, switch

DOTS = 4  # columns of a dot_panel at once
_HEIGHTS = (ROWS, 4, 2, 1)  # of the tiles that a panel is cut into
_INTEGER = ir.IntType(64)


def _function(context, builder, name: str, element_type, integers: int, numbers: int, body) -> ir.Function:
    """The function `name` of so many int64 and then so many floating numbers; `body(writer, integers, numbers)` writes it."""
    element = context.get_value_type(element_type)
    name = f"{name}_{element_type}"
    known = builder.module.globals.get(name)
    if known is not None:
        return known
    kind = ir.FunctionType(ir.VoidType(), [_INTEGER] * integers + [element] * numbers)
    function = ir.Function(builder.module, kind, name)
    function.linkage = "internal"
    for attribute in ("noinline", "nounwind"):
        function.attributes.add(attribute)
    inside = ir.IRBuilder(function.append_basic_block("entry"))
    body(Writer(context, inside, element_type), function.args[:integers], function.args[integers:])
    inside.ret_void()
    return function


def _finish(writer, sums, known, alpha, beta, adding, lowest, store) -> None:
    """Ends a tile: each of the variables `sums` becomes max(lowest, alpha * sums + beta * known()) and is stored."""
    builder = writer.builder
    with builder.if_then(adding):
        for variable, load in zip(sums, known, strict=True):
            value = writer.fused(builder.load(variable), alpha, builder.fmul(beta, load()))
            builder.store(value, variable)
    for variable, write in zip(sums, store, strict=True):
        value = builder.load(variable)
        write(builder.select(builder.fcmp_ordered("<", value, lowest), lowest, value))


def _panel(writer, integers, numbers) -> None:
    columns, rows, count, a, a_row, a_step, b, b_step, c, c_row, d, d_row, adding = integers
    builder, lanes = writer.builder, constant(writer.lanes)
    alpha, beta, lowest = (writer.spread(n) for n in numbers)
    adding = builder.icmp_signed("!=", adding, constant(0))
    vectors = builder.sdiv(builder.add(columns, constant(writer.lanes - 1)), lanes)
    mask = writer.mask(builder.sub(columns, builder.mul(builder.sub(vectors, constant(1)), lanes)))

    def tile(first, height: int, width: int, masked: bool, unrolled: int) -> None:
        held = [[cgutils.alloca_once(builder, writer.vector) for _ in range(width)] for _ in range(height)]
        sums = [variable for row in held for variable in row]
        for variable in sums:
            builder.store(writer.zero, variable)
        a_rows = [builder.add(a, builder.mul(a_row, builder.add(first, constant(r)))) for r in range(height)]
        c_rows, d_rows = (
            [builder.add(x, builder.mul(row, builder.add(first, constant(r)))) for r in range(height)]
            for x, row in ((c, c_row), (d, d_row))
        )

        def load(place, v: int):
            return writer.load_under(place, mask) if masked and v == width - 1 else writer.load(place)

        def store(place, v: int):
            return lambda value: (
                writer.store_under(value, place, mask) if masked and v == width - 1 else writer.store(value, place)
            )

        def step(k) -> None:
            line, across = writer.place(b, builder.mul(k, b_step)), builder.mul(k, a_step)
            seen = [load(writer.at(line, v * writer.lanes), v if MASKED_LOADS else -1) for v in range(width)]
            for r in range(height):
                scalar = writer.splat(writer.place(a_rows[r], across))
                for v in range(width):
                    writer.fma(scalar, seen[v], held[r][v])

        results = [(writer.at(writer.place(line), v * writer.lanes), v) for line in c_rows for v in range(width)]
        if unrolled > 1:
            for place, _ in results:
                writer.fetch(place)
        done = constant(0)
        if unrolled > 1:
            turns = builder.sdiv(count, constant(unrolled))
            with cgutils.for_range(builder, turns) as loop:
                k = builder.mul(loop.index, constant(unrolled))
                for u in range(unrolled):
                    step(builder.add(k, constant(u)))
            done = builder.mul(turns, constant(unrolled))
        with cgutils.for_range(builder, builder.sub(count, done)) as loop:
            step(builder.add(done, loop.index))
        known = [
            lambda line=line, v=v: load(writer.at(writer.place(line), v * writer.lanes), v)
            for line in d_rows
            for v in range(width)
        ]
        _finish(writer, sums, known, alpha, beta, adding, lowest, [store(*result) for result in results])

    def panel(width: int, masked: bool) -> None:
        whole = builder.sdiv(rows, constant(_HEIGHTS[0]))
        with cgutils.for_range(builder, whole) as loop:
            first = builder.mul(loop.index, constant(_HEIGHTS[0]))
            tile(first, _HEIGHTS[0], width, masked, 2 if not masked else 1)
        at = cgutils.alloca_once_value(builder, builder.mul(whole, constant(_HEIGHTS[0])))
        builder.store(builder.mul(whole, constant(_HEIGHTS[0])), at)
        for height in _HEIGHTS[1:]:
            first = builder.load(at)
            with builder.if_then(builder.icmp_signed(">=", builder.sub(rows, first), constant(height))):
                tile(first, height, width, masked, 1)
                builder.store(builder.add(first, constant(height)), at)

    full = builder.icmp_signed("==", columns, constant(VECTORS * writer.lanes))
    case = builder.select(full, constant(0), vectors)
    switch(builder, case, range(VECTORS + 1), lambda width: panel(width or VECTORS, masked=width > 0))


@intrinsic
def micro_panel(
    typing_context, columns, rows, count, a, a_row, a_step, b, b_step, c, c_row, d, d_row, adding, alpha, beta, lowest
):
    """c[r, p] = max(lowest, alpha * sum over k < count of a[r, k] b[k, p] + beta * d[r, p]) for r < rows, p < columns.

    columns: at most VECTORS * lanes. a: distances a_row and a_step; b, c and d: distances of rows, columns side by side. adding: whether d
    is read. Without MASKED_LOADS whole vectors of b are read.
    """
    return _typed("micro_panel", 13, (alpha, beta, lowest), _panel)


def _typed(name: str, integers: int, numbers: tuple, body):
    """Signature and code of an intrinsic that calls the function which `body` writes; the last number gives the type."""

    def codegen(context, builder, signature, values):
        function = _function(context, builder, name, numbers[-1], integers, len(numbers), body)
        builder.call(function, values)
        return context.get_dummy_value()

    return types.void(*[types.int64] * integers, *numbers), codegen


def _dots(writer, integers, numbers) -> None:
    columns, rows, count, a, a_row, b, b_column, c, c_row, d, d_row, adding = integers
    builder, lanes, size = writer.builder, constant(writer.lanes), constant(writer.bytes)
    alpha, beta, lowest = numbers
    adding = builder.icmp_signed("!=", adding, constant(0))
    vectors = builder.sdiv(count, lanes)
    whole = builder.mul(vectors, lanes)
    mask = writer.mask(builder.sub(count, whole))

    def tile(row, column, width: int) -> None:
        held = [cgutils.alloca_once(builder, writer.vector) for _ in range(width)]
        for variable in held:
            builder.store(writer.zero, variable)
        left = writer.place(a, builder.mul(row, a_row))
        right = [writer.place(b, builder.mul(builder.add(column, constant(t)), b_column)) for t in range(width)]

        def step(k, load) -> None:
            value = load(writer.at(left, k))
            for line, variable in zip(right, held, strict=True):
                writer.fma(value, load(writer.at(line, k)), variable)

        with cgutils.for_range(builder, vectors) as loop:
            step(builder.mul(loop.index, lanes), writer.load)
        with builder.if_then(builder.icmp_signed("<", whole, count)):
            step(whole, lambda place: writer.load_under(place, mask))
        for t, variable in enumerate(held):
            total = builder.fmul(alpha, writer.total(builder.load(variable)))
            across = builder.mul(builder.add(column, constant(t)), size)
            place = writer.place(c, builder.mul(row, c_row), across)
            result = cgutils.alloca_once(builder, writer.element)
            builder.store(total, result)
            with builder.if_then(adding):
                more = builder.load(writer.place(d, builder.mul(row, d_row), across))
                builder.store(builder.fadd(total, builder.fmul(beta, more)), result)
            value = builder.load(result)
            builder.store(builder.select(builder.fcmp_ordered("<", value, lowest), lowest, value), place)

    groups = builder.sdiv(columns, constant(DOTS))
    done = builder.mul(groups, constant(DOTS))
    with cgutils.for_range(builder, groups) as group:
        column = builder.mul(group.index, constant(DOTS))
        with cgutils.for_range(builder, rows) as row:
            tile(row.index, column, DOTS)
    with cgutils.for_range(builder, builder.sub(columns, done)) as left:
        with cgutils.for_range(builder, rows) as row:
            tile(row.index, builder.add(done, left.index), 1)


@intrinsic
def dot_panel(typing_context, columns, rows, count, a, a_row, b, b_column, c, c_row, d, d_row, adding, alpha, beta, lowest):
    """As `micro_panel` for any number of columns, with a[r, k] and b[k, p] side by side along k, columns of b `b_column` apart."""
    return _typed("dot_panel", 12, (alpha, beta, lowest), _dots)


def _copy_rows(writer, source, source_row, target, target_row, rows, count) -> None:
    """target[r, i] = source[r, i] for r < rows, i < count, the elements of rows side by side: whole vectors and one masked."""
    builder, lanes = writer.builder, constant(writer.lanes)
    vectors = builder.sdiv(count, lanes)
    done = builder.mul(vectors, lanes)
    mask = writer.mask(builder.sub(count, done))
    ragged = builder.icmp_signed("<", done, count)
    with cgutils.for_range(builder, rows) as row:
        read = writer.place(source, builder.mul(row.index, source_row))
        write = writer.place(target, builder.mul(row.index, target_row))
        with cgutils.for_range(builder, vectors) as loop:
            p = builder.mul(loop.index, lanes)
            writer.store(writer.load(writer.at(read, p)), writer.at(write, p))
        with builder.if_then(ragged):
            writer.store_under(writer.load_under(writer.at(read, done), mask), writer.at(write, done), mask)


def _copy_turned(writer, source, source_row, target, target_row, rows, count) -> None:
    """target[k, r] = source[r, k] for r < rows, k < count, the elements of rows side by side: square blocks, turned in registers.

    Whole vectors are written: rows are filled up to whole vectors, and up to lanes - 1 rows of target after the last.
    """
    builder, lanes, size = writer.builder, constant(writer.lanes), constant(writer.bytes)

    def block(first, k, load) -> None:
        begin = builder.add(source, builder.mul(k, size))
        lines = []
        for i in range(writer.lanes):
            row = builder.add(first, constant(i))
            row = builder.select(builder.icmp_signed("<", row, rows), row, first)  # those after the last: some that exist
            lines.append(load(writer.place(begin, builder.mul(row, source_row))))
        end = builder.add(target, builder.mul(first, size))
        for i, column in enumerate(writer.transpose(lines)):
            writer.store(column, writer.place(end, builder.mul(builder.add(k, constant(i)), target_row)))

    vectors = builder.sdiv(count, lanes)
    done = builder.mul(vectors, lanes)
    mask = writer.mask(builder.sub(count, done))
    blocks = builder.sdiv(builder.add(rows, constant(writer.lanes - 1)), lanes)
    with cgutils.for_range(builder, blocks) as across:
        first = builder.mul(across.index, lanes)
        with cgutils.for_range(builder, vectors) as loop:
            block(first, builder.mul(loop.index, lanes), writer.load)
        with builder.if_then(builder.icmp_signed("<", done, count)):
            block(first, done, lambda place: writer.load_under(place, mask))


def _pack(writer, integers, numbers) -> None:
    source, source_row, source_step, target, target_row, rows, count = integers
    builder, size = writer.builder, constant(writer.bytes)
    with builder.if_else(builder.icmp_signed("==", source_step, size)) as (straight, other):
        with straight:
            _copy_rows(writer, source, source_row, target, target_row, rows, count)
        with other, builder.if_else(builder.icmp_signed("==", source_row, size)) as (turned, apart):
            with turned:
                _copy_turned(writer, source, source_step, target, target_row, count, rows)
            with apart, cgutils.for_range(builder, rows) as row:
                read = builder.add(source, builder.mul(row.index, source_row))
                write = writer.place(target, builder.mul(row.index, target_row))
                with cgutils.for_range(builder, count) as loop:
                    element = builder.load(writer.place(read, builder.mul(loop.index, source_step)))
                    builder.store(element, writer.at(write, loop.index))


@intrinsic
def pack(typing_context, source, source_row, source_step, target, target_row, rows, count, kind):
    """target[r, i] = source[r, i] for r < rows, i < count, with target's rows of elements side by side. kind: types the elements.

    Rows may be filled up to whole vectors, and up to lanes - 1 rows of target written after the last.
    """
    return _typed("pack", 7, (kind,), _pack)
