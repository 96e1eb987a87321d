"""Compares the ways to run a program, and makes a program that fails small."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from .._tensor import Tensor
from .program import Program, pruned
from .program_runs import Expected, Mismatch, Results, Runner, references, snapshots

BACKENDS = ("direct", "eager", "compiled", "eager float32", "compiled float32", "torch")


@dataclass
class Comparison:
    """What running a program in several ways found: for each way, arrays compared, why not, or how it differs."""

    program: Program
    compared: dict[str, int] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    order: int = 2

    @property
    def passed(self) -> bool:
        """Whether nothing differed."""
        return not self.failed


def compare(program: Program, backends: Sequence[str] = BACKENDS, *, order: int = 2, plan_kernels: bool = True) -> Comparison:
    """Runs a program on NumPy references in float64, with derivatives up to `order`, and in the ways named in `backends` against that.

    direct: references on plain arrays, no Tensor. eager: as written, on kernels. compiled: under `tg.compile`. torch: the same calls
    in PyTorch. In float32 the same results are expected, as nearly as float32 can give them. plan_kernels: whether compiled plans use
    kernels, which compiles the loops that a plan joins calls into (seconds for a program); without, its steps run on references.

    ValueError for another name in `backends`.
    """
    unknown = set(backends) - set(BACKENDS)
    if unknown:
        raise ValueError(
            f"compare: no way to run a program is called {', '.join(sorted(unknown))}; there are {', '.join(BACKENDS)}"
        )
    found = Comparison(program)
    try:
        runner = Runner(program, order)
        for dtype in (np.float64, np.float32):
            mine = [b for b in backends if b.endswith("float32") == (dtype is np.float32)]
            expected = Expected(runner, dtype) if mine else None
            if expected is not None and expected.problem:
                found.refused[f"reference in {np.dtype(dtype)}"] = expected.problem
            elif expected is not None:
                for backend in mine:
                    _compare(found, runner, expected, backend, plan_kernels)
        found.order = runner.order
    except np.linalg.LinAlgError as error:
        found.refused["reference"] = str(error)
    except Exception as error:
        found.failed["reference"] = f"raised {type(error).__name__}: {error}"
    return found


def _compare(found: Comparison, runner: Runner, expected: Expected, backend: str, plan_kernels: bool) -> None:
    try:
        got = _run(runner, expected, backend, plan_kernels)
    except Exception as error:
        singular = isinstance(error, np.linalg.LinAlgError)  # in float32 sooner than in float64
        refuses = backend == "torch" or singular or (backend == "direct" and isinstance(error, ValueError))
        (found.refused if refuses else found.failed)[backend] = f"raised {type(error).__name__}: {error}"
        return
    try:
        found.compared[backend] = expected.check(backend, got, extra=1e-6 if backend == "torch" else 0.0)
    except Mismatch as error:
        found.failed[backend] = str(error)


def _run(runner: Runner, expected: Expected, backend: str, plan_kernels: bool) -> Results:
    if backend == "torch":  # some constants of its rules are float32: `extra` above
        return runner.torch()
    if backend == "direct":
        return Results(runner.directly(), [], [], order=0)
    if backend.startswith("eager"):
        return runner.eager(expected.dtype)
    if plan_kernels:
        return runner.compiled(expected.dtype)
    with references():
        return runner.compiled(expected.dtype)


def minimize(program: Program, fails: Callable[[Program], bool]) -> Program:
    """The smallest program found that still `fails`: calls are taken out, what they made becomes an input, numbers are rounded.

    Raises ValueError if the program does not fail as it is.
    """
    if not fails(program):
        raise ValueError("minimize: the program does not fail")
    size = max(1, len(program.steps) // 2)
    while True:
        smaller = _without(program, size, fails)
        if smaller is not None:
            program = smaller
            size = min(size, max(1, len(program.steps) // 2))
        elif size > 1:
            size //= 2
        else:
            break
    return _simpler_inputs(program, fails)


def _without(program: Program, size: int, fails: Callable[[Program], bool]) -> Program | None:
    """The program without `size` neighbouring calls, where that still fails."""
    count = len(program.steps)
    if size >= count:
        return None
    recorded = [t.numpy() if isinstance(t, Tensor) else t for t in snapshots(program)]
    for start in range(count - size, -1, -1):
        try:
            candidate = pruned(program, [k for k in range(count) if not start <= k < start + size], recorded)
            if fails(candidate):
                return candidate
        except Exception:
            continue
    return None


def _simpler_inputs(program: Program, fails: Callable[[Program], bool]) -> Program:
    for i, array in enumerate(program.inputs):
        if array.dtype.kind != "f":
            continue
        for change in (_constant, lambda a: np.round(a, 1), lambda a: np.round(a, 2)):
            candidate = _with_input(program, i, change(array))
            if fails(candidate):
                program = candidate
                break
        if program.differentiable[i]:
            flags = tuple(wanted and k != i for k, wanted in enumerate(program.differentiable))
            if fails(replace(program, differentiable=flags)):
                program = replace(program, differentiable=flags)
    return program


def _constant(array: np.ndarray) -> np.ndarray:
    return np.full(array.shape, 0.5)


def _with_input(program: Program, i: int, array: Any) -> Program:
    inputs = list(program.inputs)
    inputs[i] = np.asarray(array)
    return replace(program, inputs=tuple(inputs))


__all__ = ["BACKENDS", "Comparison", "compare", "minimize"]
