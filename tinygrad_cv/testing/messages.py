"""What a failure says beyond its first sentence: whose operator it is, its formula, and a program that fails in the same way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .._tensor import Tensor
from ..autograd.differences import GradcheckError
from ..registry import Operator
from .samples import Sample, Written, source, written_call
from .snippets import Unwritable, Writer


def explained(
    error: GradcheckError, fn: Callable[..., Any], inputs: tuple[Any, ...], wanted: list[int], options: dict[str, Any]
) -> str:
    """The message of `check_gradients`: the error's own, the operator it is about, and the program."""
    lines = [str(error)]
    operator = fn if isinstance(fn, Operator) else getattr(fn, "operator", None)
    if operator is not None:
        lines += about(operator)
    return "\n".join([*lines, "", "To repeat it, in an empty file:", "", repeated(fn, inputs, wanted, options)])


def about(operator: Operator) -> list[str]:
    """Operator and package, formula, source."""
    found = [f"operator: {operator.name} ({operator.provider})", f"formula: {operator.formula}"]
    return [*found, f"source: {operator.source}"] if operator.source else found


def repeated(fn: Callable[..., Any], inputs: tuple[Any, ...], wanted: list[int], options: dict[str, Any]) -> str:
    """The call of `check_gradients` as a program."""
    writer = Writer()
    try:
        call, remark = writer.expression(fn), []
    except Unwritable as error:
        writer, call = Writer(), "fn"
        remark = [
            "",
            f"fn = ...  # put {getattr(fn, '__qualname__', type(fn).__name__)} here: it uses {error}, which cannot be written down",
        ]
    names, arrays = [], []
    for k, value in enumerate(inputs):
        names.append(f"x{k}" if isinstance(value, Tensor) else source(value))
        if isinstance(value, Tensor):
            arrays.append(f"x{k} = tg.tensor({source(value._data)}{', requires_grad=True' if k in wanted else ''})")
    given = ", ".join(names) + ("," if len(names) == 1 else "")
    asked = "".join(f", {k}={v!r}" for k, v in options.items())
    lines = [*program_head(writer, "check_gradients"), *remark, "", *arrays, f"check_gradients({call}, ({given}){asked})"]
    return "\n".join(lines)


def call_program(sample: Sample, check: str | None = None) -> str:
    """A call as a program that makes it, prints what it gives and, if asked to, runs `check` ("check_call", "check_once") on it again."""
    operator, writer = sample.operator, Writer()
    remark = []
    try:
        writer.operator(operator)
    except Unwritable as error:
        writer = Writer()
        remark = ["", f"# first import what registers {operator.name!r}, which uses {error}: it cannot be written down here"]
    names = [f"x{i}" for i in range(len(sample.arrays))]
    arrays = [f"{name} = {source(array)}" for name, array in zip(names, sample.arrays, strict=True)]
    call = written_call(sample, [Written(f"tg.tensor({name})") for name in names])
    again = written_call(sample, [Written(name) for name in names])
    if check is not None:
        writer.imports["from tinygrad_cv.extend import call"] = None
    head = program_head(writer, *([check] if check else []))
    seeded = [f"tg.manual_seed({sample.seed})"] if operator.random else []
    lines = [*head, *remark, "", *arrays, *seeded, f"print(tg.ops.get({operator.name!r})({call}))"]
    if check is not None:
        lines.append(f"{check}({operator.name!r}, call({again}), seed={sample.seed})")
    return "\n".join(lines)


def program_head(writer: Writer, *names: str) -> list[str]:
    """The first lines of a program: imports, and what the writer collected."""
    own = ["import numpy as np", "import tinygrad_cv as tg"]
    own += [f"from tinygrad_cv.testing import {', '.join(names)}"] if names else []
    imports = [line for line in writer.imports if line not in own]
    definitions = writer.lines()[len(writer.imports) :]
    future = ["from __future__ import annotations", ""] if definitions else []
    return [*future, *imports, *own, *definitions]


__all__ = ["about", "call_program", "explained", "program_head", "repeated"]
