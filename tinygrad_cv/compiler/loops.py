"""A group of elementwise operators as one generated kernel: a loop over rows, with a sum at its end if there is one.

Axes along which all operands step alike are taken together; what is left is `outer` axes, walked by the rows, and one inner axis. In
the text of a kernel every operand has a pattern, one letter for each axis: `s` it steps, `0` it stays (it is broadcast there).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..kernels.fusion import expression_of
from ..kernels.launch import BOOL, FLOAT32, FLOAT64, MEMORY_COST, PARALLEL_WORK
from ..kernels.loops import load
from ..kernels.memory import empty
from .order import Group
from .values import Instruction, Value

_BLOCK = 4096  # elements summed into one partial sum: float32 sums of so few lose nothing that matters
_LONGEST_ROW = 1 << 16  # elements: longer rows are left to the operator, which sums them in blocks
_FLOATS = (FLOAT32, FLOAT64)


class Body(NamedTuple):
    """The statements of a group: text for each value, the functions called, the cost of an element in ns."""

    statements: tuple[tuple[str, str, str], ...]  # variable, expression, note
    names: dict[Value, str]
    functions: tuple[str, ...]
    cost: float
    dtype: np.dtype[Any]


def expression(instruction: Instruction, names: Sequence[Any], truths: Mapping[str, bool]) -> Any:
    """The instruction as text over variables, or None: it is not elementwise, or has no scalar expression."""
    op = instruction.operator
    if instruction.kind != "op" or not op.elementwise or op.composite or op.random or len(instruction.outputs) != 1:
        return None
    return expression_of(op, instruction.attributes, list(names), truths)


def fusible(instruction: Instruction) -> bool:
    """Whether an instruction can be part of a loop: elementwise with a scalar expression, its operands of one floating dtype or bool."""
    if instruction.kind != "op" or not instruction.operator.elementwise or not instruction.outputs[0].size:
        return False
    kinds = {v.dtype for v in instruction.inputs if isinstance(v, Value)} | {instruction.outputs[0].dtype}
    if len(kinds - {BOOL}) > 1 or not kinds <= {*_FLOATS, BOOL}:
        return False
    if any(v is None or isinstance(v, bool) for v in instruction.inputs):
        return False
    names = [f"x{i}" if isinstance(v, Value) else float(v) for i, v in enumerate(instruction.inputs)]
    truths = {f"x{i}": v.dtype == BOOL for i, v in enumerate(instruction.inputs) if isinstance(v, Value)}
    found = expression(instruction, names, truths)
    if found is None or found.truth != (instruction.outputs[0].dtype == BOOL):
        return False
    wide = np.dtype(np.float64) in kinds
    return not (wide and found.calls)  # NumPy's vectorised functions win over the C library's


def summable(instruction: Instruction) -> bool:
    """Whether an instruction is a sum or mean, over all axes or over the last ones, that a loop can end in."""
    if instruction.kind != "op" or instruction.operator.name not in ("sum", "mean"):
        return False
    (value,), dtype = instruction.inputs, instruction.attributes[2]
    if value.dtype not in _FLOATS or instruction.outputs[0].dtype != value.dtype or dtype not in (None, value.dtype):
        return False
    kept = _summed_axes(instruction)
    return value.size > 0 and kept > 0 and (kept == len(value.shape) or math.prod(value.shape[-kept:]) <= _LONGEST_ROW)


def _summed_axes(instruction: Instruction) -> int:
    """How many of the last axes a sum goes over; 0 if it goes over others."""
    rank = len(instruction.inputs[0].shape)
    dim = instruction.attributes[0]
    axes = range(rank) if dim is None else sorted(d % rank for d in dim)
    return len(axes) if list(axes) == list(range(rank - len(axes), rank)) else 0


def body_of(group: Group) -> Body:
    """The statements of a group of fusible instructions."""
    names: dict[Value, str] = {v: f"x{i}" for i, v in enumerate(group.reads())}
    truths = {name: v.dtype == BOOL for v, name in names.items()}
    statements = []
    functions: set[str] = set()
    cost = 0.0
    elementwise = group.instructions[:-1] if group.total is not None else group.instructions
    for number, instruction in enumerate(elementwise):
        operands = [names[v] if isinstance(v, Value) else float(v) for v in instruction.inputs]
        found = expression(instruction, operands, truths)
        target = f"t{number}"
        names[instruction.outputs[0]] = target
        truths[target] = found.truth
        line = instruction.source
        note = instruction.name + ("" if line is None else f", {line[0].rsplit('/', 1)[-1]}:{line[1]} in {line[2]}")
        statements.append((target, found.text, note))
        functions |= found.functions
        cost += found.cost
    dtype = next((v.dtype for v in names if v.dtype != BOOL), _FLOATS[0])
    return Body(tuple(statements), names, tuple(sorted(functions)), cost, dtype)


class Axes(NamedTuple):
    """How operands lie over the collapsed axes of an iteration: sizes, and for each operand its step along each axis."""

    sizes: tuple[int, ...]
    steps: tuple[tuple[int, ...], ...]


def collapse(shape: Sequence[int], arrays: Sequence[np.ndarray], kept: int = 0) -> Axes | None:
    """The axes of `shape` taken together as far as all `arrays` (which broadcast to it) allow; None if one is not row-major.

    kept: the last so many axes are taken together with none before them (a sum goes over them).
    """
    steps = []
    for a in arrays:
        strides = [0] * (len(shape) - a.ndim) + [
            0 if size == 1 else stride // a.itemsize for size, stride in zip(a.shape, a.strides, strict=True)
        ]
        steps.append(strides)
    sizes: list[int] = []
    taken: list[list[int]] = []  # for each collapsed axis, the step of each operand
    barrier = len(shape) - kept
    fresh = True
    for axis, size in enumerate(shape):
        if axis == barrier:
            fresh = True
        if size == 1:
            continue
        here = [s[axis] for s in steps]
        if sizes and not fresh and all(before == now * size for before, now in zip(taken[-1], here, strict=True)):
            sizes[-1] *= size
            taken[-1] = here
        else:
            sizes.append(size)
            taken.append(here)
        fresh = False
    if (kept and all(s == 1 for s in shape[barrier:])) or not sizes:
        sizes.append(1)
        taken.append([0] * len(arrays))
    if any(step not in (0, 1) for step in taken[-1]) or any(step < 0 for axis in taken for step in axis):
        return None
    return Axes(tuple(sizes), tuple(tuple(axis[i] for axis in taken) for i in range(len(arrays))))


def _header(name: str, comment: str, functions: Sequence[str], dtype: np.dtype[Any], reduces: bool) -> list[str]:
    lines = [f'"""{comment}', "", f"Generated by tinygrad_cv.compile; {dtype}.", '"""', "", "import numpy as np", ""]
    lines.append(f"from tinygrad_cv.kernels.jit import {'REDUCTION, kernel' if reduces else 'kernel, prange'}")
    if functions:
        lines.append(f"from tinygrad_cv.kernels.math{dtype.itemsize * 8} import {', '.join(sorted(functions))}")
    if reduces:
        lines.append("from tinygrad_cv.kernels.shares import span")
    options = "fastmath=REDUCTION, " if reduces else ""
    return [*lines, "", f"F = np.{dtype}", "", "", f'@kernel({options}name="{name}")']


class Text(NamedTuple):
    """The source of a kernel, and which outer steps it takes as arguments: (operand number, axis)."""

    source: str
    steps: tuple[tuple[int, int], ...]


def loop_text(
    name: str, comment: str, body: Body, operands: Sequence[str], outs: Mapping[str, str], axes: Axes, total: str = ""
) -> Text:
    """The source of the kernel run(outs..., operands..., sizes..., steps...).

    outs: the variable stored in each output, which are row-major. total: the variable that is summed along the last axis (or, with
    one axis, in blocks) into `sums`, in a share body; then there are no other outputs.
    """
    depth = len(axes.sizes) - 1
    patterns = ["".join("s" if s else "0" for s in steps) for steps in axes.steps]
    stepped = tuple((i, a) for i, p in enumerate(patterns) for a in range(depth) if p[a] == "s")
    sizes = [f"n{a}" for a in range(depth + 1)]
    arguments = [*(["sums"] if total else []), *outs, *operands, *sizes, *(f"{operands[i]}_s{a}" for i, a in stepped)]
    if total:
        arguments += ["shares", "share"]
    lines = _header(name, comment, body.functions, body.dtype, bool(total))
    lines.append(f"def run({', '.join(arguments)}):")
    fixed = [i for i, p in enumerate(patterns) if set(p) <= {"0"}]
    lines += [f"    {operands[i]}_ = {operands[i]}[0]" for i in fixed]
    renamed = {operand: f"{operand}_" for operand in operands}

    def statements(indent: str) -> list[str]:
        found = []
        for target, text, note in body.statements:
            found.append(f"{indent}{target} = {_renamed(text, renamed)}  # {note}")
        return found

    width = "n0" if depth == 0 else f"n{depth}"
    if depth == 0 and not total:
        lines.append("    for i in prange(n0):")
        lines += [f"        {operands[i]}_ = {operands[i]}[i]" for i in range(len(operands)) if i not in fixed]
        lines += statements("        ")
        lines += [f"        {out}[i] = {variable}" for out, variable in outs.items()]
        return Text("\n".join(lines) + "\n", stepped)
    rows = " * ".join(sizes[:-1]) if depth else f"(n0 + {_BLOCK - 1}) // {_BLOCK}"
    loop = f"range(*span({rows}, shares, share))" if total else f"prange({rows})"
    lines.append(f"    for r in {loop}:")
    if depth == 0:
        lines.append(f"        start = r * {_BLOCK}")
        lines.append(f"        length = min({_BLOCK}, n0 - start)")
    else:
        rest = "r"
        for a in range(depth - 1, 0, -1):
            lines.append(f"        i{a} = {rest} % n{a}")
            lines.append(f"        q{a} = {rest} // n{a}")
            rest = f"q{a}"
        lines.append(f"        i0 = {rest}")
    for i, operand in enumerate(operands):
        if i in fixed:
            continue
        if depth == 0:
            lines.append(f"        {operand}_row = {operand}[start : start + length]")
            continue
        terms = [f"i{a} * {operand}_s{a}" for a in range(depth) if patterns[i][a] == "s"]
        offset = " + ".join(terms) or "0"
        if patterns[i][depth] == "s":
            lines.append(f"        {operand}_at = {offset}")
            lines.append(f"        {operand}_row = {operand}[{operand}_at : {operand}_at + {width}]")
        else:
            lines.append(f"        {operand}_ = {operand}[{offset}]")
    lines += [f"        {out}_row = {out}[r * {width} : (r + 1) * {width}]" for out in outs]
    if total:
        lines.append("        total = F(0.0)")
    lines.append(f"        for j in range({'length' if depth == 0 else width}):")
    lines += [
        f"            {operand}_ = {operand}_row[j]"
        for i, operand in enumerate(operands)
        if i not in fixed and patterns[i][depth] == "s"
    ]
    lines += statements("            ")
    if total:
        lines += [f"            total += {total}", "        sums[r] = total"]
    else:
        lines += [f"            {out}_row[j] = {variable}" for out, variable in outs.items()]
    return Text("\n".join(lines) + "\n", stepped)


def _renamed(text: str, names: Mapping[str, str]) -> str:
    return re.sub(r"\b(x\d+)\b", lambda m: names.get(m.group(1), m.group(1)), text)


def flat(array: np.ndarray) -> np.ndarray:
    """The memory that an array with no negative steps spans, as one row."""
    span = 1 + sum((n - 1) * (s // array.itemsize) for n, s in zip(array.shape, array.strides, strict=True))
    return as_strided(array, (span if array.size else 0,), (array.itemsize,))


def _short(names: Sequence[str]) -> str:
    joined = "_".join(names)
    return joined if len(joined) <= 60 else f"{joined[:50]}_and_{len(names)}"


class Loop:
    """A generated kernel with its arguments: making `calls` computes a group into the arrays of `stored`.

    arguments: of the kernel's call, where the array of operands[i] stands at first + i.
    """

    def __init__(self, group: Group, stored: Sequence[Value], arrays: Mapping[Value, np.ndarray], threads: int) -> None:
        body = body_of(group)
        reads = group.reads()
        total = group.total
        shape = group.instructions[0].outputs[0].shape
        summed = 0 if total is None else _summed_axes(total)
        everything = summed == len(shape)
        kept = 0 if everything else summed
        given = [arrays[v] for v in reads]
        self.calls: list[Any] = []
        axes = collapse(shape, given, kept)
        if axes is None:  # an operand is transposed: it is copied first
            for i, operand in enumerate(given):
                if not operand.flags.c_contiguous:
                    given[i] = empty(operand.shape, operand.dtype)
                    self.calls.append((np.copyto, (given[i], operand)))
            axes = collapse(shape, given, kept)
            assert axes is not None
        operands = [body.names[v] for v in reads]
        outs = {} if total is not None else {f"out{k}": body.names[v] for k, v in enumerate(stored)}
        names = [i.name for i in group.instructions]
        name = _short(names)
        variable = "" if total is None else body.names[total.inputs[0]]
        if everything and len(axes.sizes) > 1:
            variable_rows = math.prod(axes.sizes[:-1])
        else:
            variable_rows = -(-axes.sizes[0] // _BLOCK) if everything else math.prod(axes.sizes[:-1])
        text = loop_text(name, f"{', '.join(names)}: one loop", body, operands, outs, axes, variable)
        self.source = text.source
        kernel = load(f"compiled_{name}", text.source, ", ".join(names))
        size = math.prod(shape)
        parallel = threads > 1 and (body.cost + MEMORY_COST) * size >= PARALLEL_WORK
        operand_arguments = [*map(flat, given), *axes.sizes, *(axes.steps[i][a] for i, a in text.steps)]
        self.operands = tuple(reads)
        if total is None:
            run: Any = kernel if parallel else kernel.serial
            self.arguments: list[Any] = [*(arrays[v].reshape(-1) for v in stored), *operand_arguments]
            self.first = len(stored)
            self.calls.append((run, self.arguments))
            return
        from ..kernels.shares import run_shares

        (out,) = stored
        shares = threads if parallel and variable_rows >= threads else 1
        count = size // max(math.prod(out.shape), 1)
        target = arrays[out].reshape(-1)
        sums = target if not everything else np.empty(variable_rows, body.dtype)
        self.arguments = [kernel, shares, sums, *operand_arguments, shares]
        self.first = 3
        self.calls.append((run_shares, self.arguments))
        if everything:
            self.calls.append((_add_up, [sums, target, count if total.operator.name == "mean" else 1]))
        elif total.operator.name == "mean":
            self.calls.append((np.divide, [target, body.dtype.type(count), target]))


def _add_up(sums: np.ndarray, target: np.ndarray, count: int) -> None:
    """target[0] = the sum of `sums`, in double precision, divided by `count`."""
    target[0] = np.add.reduce(sums, dtype=np.float64) / count


__all__ = ["Axes", "Loop", "Text", "body_of", "collapse", "fusible", "loop_text", "summable"]
