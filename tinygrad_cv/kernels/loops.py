"""Kernels generated from statements: one flat loop, or a loop over rows where operands broadcast.

The text of a generated kernel is written to the cache folder under a name that is a hash of it, so that it can be read and
found in tracebacks; it runs from memory. Operand layouts, one letter each:

    F  full: an array with an element for every element of the output        S  a number
    M  constant along the rows: element r % middle in row r, as a (1, C, 1, 1) operand of (N, C, H, W), rows of H * W
    T  trailing: element j of every row, as a bias of shape (C,) added to (N, C)
"""

from __future__ import annotations

import hashlib
import linecache
import sys
import types
from collections.abc import Sequence
from typing import Any, NamedTuple

from . import cache


class Program(NamedTuple):
    """What a loop body does, in the texts that `formula.translate` makes; operand `x` is `x_` there.

    statements: (name, text) in order; results: the text of each output; functions: names taken from math32 or math64;
    truths: the operands that are bool.
    """

    name: str
    comment: str
    operands: tuple[str, ...]
    statements: tuple[tuple[str, str], ...]
    results: tuple[str, ...]
    functions: tuple[str, ...]
    truths: frozenset[str] = frozenset()


def text_of(program: Program, layout: str, dtype: str) -> str:
    """The source of the kernel for a layout and a dtype ('float32' or 'float64')."""
    rows = "M" in layout or "T" in layout
    outs = [f"out{i}" if len(program.results) > 1 else "out" for i in range(len(program.results))]
    bits = dtype.removeprefix("float")
    lines = [
        f'"""{program.name}: {program.comment}',
        "",
        f"Generated; layout {layout} ({', '.join(program.operands)}), {dtype}.",
        '"""',
        "",
        "import numpy as np",
        "",
        "from tinygrad_cv.kernels.jit import kernel, prange",
    ]
    if program.functions:
        lines.append(f"from tinygrad_cv.kernels.math{bits} import {', '.join(sorted(program.functions))}")
    arguments = [*outs, *program.operands, *(["middle"] if rows else [])]
    lines += ["", f"F = np.{dtype}", "", "", f'@kernel(name="{program.name}")', f"def run({', '.join(arguments)}):"]
    for name, letter in zip(program.operands, layout, strict=True):
        if letter == "S":
            lines.append(f"    {name}_ = {name} != 0.0" if name in program.truths else f"    {name}_ = F({name})")
    loaded = [(n, c) for n, c in zip(program.operands, layout, strict=True) if c != "S"]
    if not rows:
        lines.append(f"    for i in prange({outs[0]}.size):")
        lines += [f"        {n}_ = {n}[i]" for n, _ in loaded]
        lines += [f"        {target} = {text}" for target, text in program.statements]
        lines += [f"        {out}[i] = {text}" for out, text in zip(outs, program.results, strict=True)]
    else:
        lines.append(f"    for r in prange({outs[0]}.shape[0]):")
        lines += [f"        {out}_row = {out}[r]" for out in outs]
        lines += [f"        {n}_row = {n}[r]" for n, c in loaded if c == "F"]
        lines += [f"        {n}_ = {n}[r % middle]" for n, c in loaded if c == "M"]
        lines.append(f"        for j in range({outs[0]}_row.size):")
        lines += [f"            {n}_ = {n}_row[j]" for n, c in loaded if c == "F"]
        lines += [f"            {n}_ = {n}[j]" for n, c in loaded if c == "T"]
        lines += [f"            {target} = {text}" for target, text in program.statements]
        lines += [f"            {out}_row[j] = {text}" for out, text in zip(outs, program.results, strict=True)]
    return "\n".join(lines) + "\n"


_made: dict[str, Any] = {}


def make(program: Program, layout: str, dtype: str) -> Any:
    """The kernel `run(out, *operands)` (rows: also `middle`) of a program; compiled at its first call."""
    return load(f"{program.name.replace('.', '_')}_{layout}_{dtype}", text_of(program, layout, dtype), program.comment)


def load(name: str, text: str, comment: str) -> Any:
    """The kernel `run` of a generated source, which is written to the cache folder under `name` and its hash.

    Comments at the ends of lines are for readers: they count neither in the hash nor in the key of the compiled code.
    """
    bare = "\n".join(line.partition("  # ")[0] for line in text.split("\n"))
    digest = hashlib.sha256(bare.encode()).hexdigest()[:16]
    found = _made.get(digest)
    if found is not None:
        return found
    name = f"{name}_{digest}"
    folder = cache.directory()
    path = f"<tinygrad_cv generated {name}>"
    if folder is not None:
        file = folder / "source" / f"{name}.py"
        path = str(file)
        if bare != text or not file.exists():
            cache.write(file, text.encode())
    linecache.cache[path] = (len(text), None, text.splitlines(True), path)
    module = types.ModuleType(f"tinygrad_cv.kernels.generated.{name}", comment)
    module.__file__ = path
    sys.modules[module.__name__] = module  # where Numba looks up the globals of code that it loads from disk
    exec(compile(text, path, "exec"), module.__dict__)
    if bare != text:
        from .jit import set_source

        set_source(path, bare)
    _made[digest] = module.__dict__["run"]
    return _made[digest]


def broadcast_layout(shape: Sequence[int], operand: Sequence[int]) -> tuple[str, int, int] | None:
    """How an operand broadcasts to `shape`: (letter, middle, rows), or None where no loop here fits.

    M: `rows` rows, the operand constant on each, repeating every `middle` rows. T: rows of length `middle`.
    """
    padded = (1,) * (len(shape) - len(operand)) + tuple(operand)
    varying = [i for i, (have, want) in enumerate(zip(padded, shape, strict=True)) if want != 1 and have != 1]
    if not varying or any(padded[i] != shape[i] for i in varying):
        return None
    first, last = varying[0], varying[-1]
    if any(padded[i] == 1 and shape[i] != 1 for i in range(first, last + 1)):
        return None
    outer = middle = inner = 1
    for i, size in enumerate(shape):
        if i < first:
            outer *= size
        elif i <= last:
            middle *= size
        else:
            inner *= size
    if inner == 1:
        return "T", middle, outer
    return "M", middle, outer * middle


__all__ = ["Program", "broadcast_layout", "load", "make", "text_of"]
