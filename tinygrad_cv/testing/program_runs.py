"""Runs programs: on NumPy references, eager kernels, compiled plans and PyTorch, with first and second derivatives.

How two results are compared. Every program is first run on the references in float64, then again with each value that a call makes
moved at random by a little more than rounding would move it (Parker, Monte Carlo Arithmetic, 1997), the inputs too. What that does
to a result says how much of it rounding can change: results may differ by `SAFETY` times that spread and by rounding at their own
scale. A program whose results move by more than a thousandth of a millionth (float64) or a hundredth (float32), or whose integers
change, sits at a kink, at a tie or in cancellation: there it has no answer to compare, and it is counted as such, not as agreeing.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from .. import autograd, dispatch, kernels, registry
from .._tensor import Tensor, wrap
from ..domain import Call
from ..random import manual_seed
from .program import Program, Step
from .samples import Sample

SAFETY = 16.0
_NOISE = {np.dtype(np.float64): 1e-14, np.dtype(np.float32): 2e-6}
_MOST_SPREAD = {np.dtype(np.float64): 1e-9, np.dtype(np.float32): 1e-2}
_FINEST = {np.dtype(np.float64): 2e-12, np.dtype(np.float32): 5e-5}
_REPEATS = 3


class Results(NamedTuple):
    """What a run gave: the outputs, the first and the second derivatives by every differentiable input."""

    values: list[np.ndarray]
    first: list[np.ndarray]
    second: list[np.ndarray]
    order: int = 2  # the highest order of derivatives that the run took

    def parts(self) -> Iterator[tuple[str, list[np.ndarray]]]:
        """(what, arrays) for values and both orders."""
        yield "value", self.values
        yield "first derivative", self.first
        yield "second derivative", self.second


class Mismatch(AssertionError):
    """Two runs of a program differ by more than rounding explains."""


@contextlib.contextmanager
def references() -> Iterator[None]:
    """Operators inside the block compute with their NumPy references; compiled kernels are kept for afterwards."""
    before = [(o, o.run, o._kernels) for o in registry.operators()]
    was_enabled = kernels._enabled
    kernels._enabled = False
    for operator, _, _ in before:
        operator._kernels = dict.fromkeys(("cpu", *operator.devices()))
        operator.run = None if operator.composite else _reference_runner(operator)
    try:
        yield
    finally:
        kernels._enabled = was_enabled
        for operator, run, own in before:
            operator.run, operator._kernels = run, own


@cache
def _reference_runner(operator: registry.Operator) -> Callable[..., Any]:
    return dispatch.make_runner(operator)


def flat(value: Any) -> list[Any]:
    """One result, or several in a tuple or list, as a list."""
    return list(value) if isinstance(value, (tuple, list)) else [value]


def own_function(step: Step) -> Callable[..., Any]:
    """The operator's public function, or its in-place form."""
    operator = registry.get(step.operator)
    return operator.inplace if step.inplace else operator.function


Change = Callable[[Step, list[Any], list[Any]], list[Any]]


def values_of(
    program: Program,
    inputs: Sequence[Any],
    function: Callable[[Step], Callable[..., Any]] = own_function,
    change: Change | None = None,
) -> list[Any]:
    """Every value of the program: `inputs`, then what each call makes, passed through `change(step, values, made)` if given."""
    values = list(inputs)
    for step in program.steps:
        args, kwargs = step.filled(values)
        made = flat(function(step)(*args, **kwargs))
        values.extend(made if change is None else change(step, values, made))
    return values


def _is_float(value: Any) -> bool:
    return hasattr(value, "is_floating_point") and value.is_floating_point()


def differentiated(
    program: Program, values: Sequence[Any], leaves: Sequence[Any], weights: Iterator[Any], library: Any, order: int
) -> tuple[list[Any], list[Any], list[Any]]:
    """(outputs, first, second) of a run: derivatives of the outputs' weighted sum, and of the weighted sum of those."""
    outputs = [values[i] for i in program.outputs()]
    floats = [o for o in outputs if _is_float(o)]
    weighted = [(o * w).sum() for o, w in zip(floats, weights, strict=False) if o.requires_grad]
    first: list[Any] = []
    second: list[Any] = []
    if order and weighted and leaves:
        first = list(library.autograd.grad(sum(weighted[1:], weighted[0]), leaves, create_graph=order > 1, allow_unused=True))
        again = [(g * w).sum() for g, w in zip(first, weights, strict=False) if g is not None and g.requires_grad]
        if order > 1 and again:
            second = list(library.autograd.grad(sum(again[1:], again[0]), leaves, allow_unused=True))
    return outputs, first, second


def _arrays(found: Sequence[Any], like: Sequence[np.ndarray] | None = None) -> list[np.ndarray]:
    """Tensors, numbers and missing gradients (zeros of the leaf's shape) as arrays of their own memory."""
    made = []
    for i, value in enumerate(found):
        if value is None:
            value = 0.0 if like is None else np.zeros(like[i].shape)
        elif hasattr(value, "detach"):
            value = value.detach().numpy(force=True)
        made.append(np.array(value))
    return made


def snapshots(program: Program) -> list[Any]:
    """Every value of the program as it is when it is made, before later calls write to it; computed on references."""
    found: list[Any] = [wrap(a.copy()) for a in program.inputs]

    def note(step: Step, values: list[Any], made: list[Any]) -> list[Any]:
        found.extend(v.clone() if isinstance(v, Tensor) else v for v in made)
        return made

    manual_seed(program.seed)
    with references(), autograd.no_grad(), _quiet():
        values_of(program, [wrap(a.copy()) for a in program.inputs], change=note)
    return found


class Runner:
    """A program, and the weights that its outputs and gradients are added up with."""

    def __init__(self, program: Program, order: int = 2) -> None:
        self.program = program
        self.order = min([order, *(2 if registry.get(n).gradgrad else 1 for n in program.operators())])
        with references(), _quiet():
            outputs = [self.program_values()[i] for i in program.outputs()]
        leaves = [a for a, wanted in zip(program.inputs, program.differentiable, strict=True) if wanted]
        self.leaves = leaves
        self.weights = program.weights([*(tuple(o.shape) for o in outputs if _is_float(o)), *(a.shape for a in leaves)])
        self.floats = sum(map(_is_float, outputs))

    def program_values(self) -> list[Any]:
        """The values on fresh inputs, without derivatives."""
        manual_seed(self.program.seed)
        with autograd.no_grad():
            return values_of(self.program, [wrap(a.copy()) for a in self.program.inputs])

    def inputs(self, dtype: Any, make: Callable[[np.ndarray, bool], Any]) -> tuple[list[Any], list[Any]]:
        """(inputs, weights) in `dtype`, made by `make(array, differentiable)` of copies."""
        cast = [a.astype(dtype) if a.dtype.kind == "f" else a.copy() for a in self.program.inputs]
        inputs = [make(a, w) for a, w in zip(cast, self.program.differentiable, strict=True)]
        return inputs, [make(w.astype(dtype), False) for w in self.weights]

    def call(
        self,
        inputs: Sequence[Any],
        weights: Sequence[Any],
        library: Any,
        function: Callable[[Step], Callable[..., Any]] = own_function,
        change: Change | None = None,
    ) -> tuple[list[Any], list[Any], list[Any]]:
        """(outputs, first, second) as the library's tensors."""
        leaves = [t for t, wanted in zip(inputs, self.program.differentiable, strict=True) if wanted]
        values = values_of(self.program, inputs, function, change)
        return differentiated(self.program, values, leaves, iter(weights), library, self.order)

    def results(self, found: tuple[list[Any], list[Any], list[Any]]) -> Results:
        """Tensors of a run as arrays."""
        values, first, second = found
        return Results(_arrays(values), _arrays(first, self.leaves), _arrays(second, self.leaves))

    def eager(self, dtype: Any = np.float64, change: Change | None = None) -> Results:
        """One run as written, on whatever kernels are in use; inside `references()`, on none."""
        import tinygrad_cv as tg

        inputs, weights = self.inputs(dtype, lambda a, wanted: wrap(a).requires_grad_(wanted))
        with _quiet():
            manual_seed(self.program.seed)
            return self.results(self.call(inputs, weights, tg, own_function, change))

    def compiled(self, dtype: Any = np.float64, calls: int = 3) -> Results:
        """The last of `calls` calls of the program under `tg.compile`: two are recorded, the third runs the plan."""
        import tinygrad_cv as tg

        count = len(self.program.inputs)

        def function(*given: Tensor) -> Any:
            outputs, first, second = self.call(given[:count], given[count:], tg, own_function)
            return [o.detach() if isinstance(o, Tensor) else o for o in outputs], first, second

        plan = tg.compile(function)
        with _quiet():
            for _ in range(calls):
                inputs, weights = self.inputs(dtype, lambda a, wanted: wrap(a).requires_grad_(wanted))
                manual_seed(self.program.seed)
                found = plan(*inputs, *weights)
        return self.results(found)

    def torch(self, dtype: Any = np.float64) -> Results:
        """The same calls in PyTorch. `torch_names.NoCounterpart` where it has no function of that name and meaning."""
        import torch

        from .torch_names import call, made

        inputs, weights = self.inputs(dtype, lambda a, wanted: made(a).requires_grad_(wanted))
        with _quiet():
            try:
                return self.results(self.call(inputs, weights, torch, call))
            except (RuntimeError, NotImplementedError) as error:
                if self.order < 2 or ("second" not in str(error) and "not implemented" not in str(error)):
                    raise
            once = Runner.__new__(Runner)
            once.__dict__.update(self.__dict__, order=1)
            inputs, weights = self.inputs(dtype, lambda a, wanted: made(a).requires_grad_(wanted))
            return self.results(once.call(inputs, weights, torch, call))._replace(order=1)

    def directly(self) -> list[np.ndarray]:
        """The outputs from the references called on plain arrays: no kernel, no dispatch, no graph.

        ValueError for a program that draws random numbers, whose state lies between the calls.
        """
        if any(registry.get(n).random for n in self.program.operators()):
            raise ValueError("directly: the program draws random numbers")
        values: list[Any] = [a.copy() for a in self.program.inputs]
        for step in self.program.steps:
            sample = Sample(registry.get(step.operator), Call(*step.filled(values)))
            made = [np.asarray(v) if isinstance(v, np.generic) else v for v in flat(sample.call_reference(sample.arrays))]
            if step.inplace:
                np.copyto(values[step.references()[0]], made[0])
                made = [values[step.references()[0]]]
            values.extend(made)
        return _arrays([values[i] for i in self.program.outputs()])

    def noise(self, level: float, seed: int) -> tuple[Change, Callable[[np.ndarray], np.ndarray]]:
        """What moves the values that calls make, and the inputs, by about `level` of their size. Zeros stay zeros."""
        rng = np.random.default_rng([self.program.seed, seed, 3])

        def moved(array: np.ndarray, scale: float) -> np.ndarray:
            shift = level * (np.abs(array) + scale) * rng.standard_normal(array.shape)
            return np.where(array == 0, 0.0, shift)

        def change(step: Step, values: list[Any], results: list[Any]) -> list[Any]:
            if step.inplace:
                return results
            sizes = [np.abs(values[i]._data).max() for i in step.references() if _is_float(values[i]) and values[i].numel()]
            out = []
            for r in results:
                # Views stay views, for later writes to go through; but an expanded one, which nothing may write to, holds ties.
                own = _is_float(r) and r.numel() and (r._base is None or 0 in r._data.strides)
                if own and not any(r is v for v in values):
                    scale = max([*sizes, np.abs(r._data).max()])
                    r = r + wrap(moved(r._data, float(scale)).astype(r._data.dtype))
                out.append(r)
            return out

        return change, lambda a: np.asarray(a + moved(a, 0.0)) if a.dtype.kind == "f" else a


class Expected:
    """What a program gives in exact arithmetic, as nearly as float64 knows, and by how much each result may miss it."""

    def __init__(self, runner: Runner, dtype: Any = np.float64) -> None:
        self.dtype = np.dtype(dtype)
        self.runner = runner
        with references():
            self.results = runner.eager()
            level = _NOISE[self.dtype]
            if self.dtype.itemsize == 4:
                declared = (registry.get(n).tolerance for n in runner.program.operators())
                level = max([level, *(t / 8 for t in declared if t)])
            self.spreads: list[list[np.ndarray]] = [[np.zeros(a.shape) for a in part] for _, part in self.results.parts()]
            self.problem = self._finite()
            for seed in range(_REPEATS):
                if not self.problem:
                    self._move(level, seed)

    def _finite(self) -> str:
        for what, part in self.results.parts():
            for a in part:
                if a.dtype.kind == "f" and not np.all(np.abs(a) < 1e8):
                    return f"a {what} is not finite or is huge"
        return ""

    def _move(self, level: float, seed: int) -> None:
        change, moved = self.runner.noise(level, seed)
        program = self.runner.program
        other = Runner.__new__(Runner)
        other.__dict__.update(self.runner.__dict__)
        other.program = Program(tuple(map(moved, program.inputs)), program.differentiable, program.steps, program.seed)
        try:
            results = other.eager(change=change)
        except Exception as error:  # a domain's edge: the program has no value next to itself
            self.problem = f"raises when its inputs move by rounding: {type(error).__name__}: {error}"
            return
        for (what, here), (_, there), spreads in zip(self.results.parts(), results.parts(), self.spreads, strict=True):
            scale = _scale(here)
            for a, b, spread in zip(here, there, spreads, strict=True):
                if a.shape != b.shape or a.dtype != b.dtype or (a.dtype.kind != "f" and not np.array_equal(a, b)):
                    self.problem = f"a {what} that is no float, or a shape, changes when values move by rounding"
                    return
                if a.dtype.kind == "f":
                    np.maximum(spread, np.abs(a - b), out=spread)
                    if not np.all(spread <= _MOST_SPREAD[self.dtype] * scale):
                        self.problem = f"a {what} changes by {spread.max():.1e} when values move by rounding"
                        return

    def check(self, label: str, got: Results, extra: float = 0.0) -> int:
        """Asserts that `got` agrees; the number of arrays compared. extra: a further error allowed, relative to the scale."""
        compared = 0
        for (what, want), (_, have), spreads, order in zip(
            self.results.parts(), got.parts(), self.spreads, range(3), strict=True
        ):
            if order > got.order:
                continue
            if order and len(have) != len(want) and not any(map(np.any, [*have, *want])):
                continue  # no gradient, and gradients of zeros
            if len(have) != len(want):
                raise Mismatch(f"{label}: {len(have)} {what}s, expected {len(want)}")
            for k, (a, b, spread) in enumerate(zip(have, want, spreads, strict=True)):
                self._compare(f"{label}, {what} {k}", a, b, spread, (_FINEST[self.dtype] + extra) * _scale(want))
                compared += 1
        return compared

    def _compare(self, label: str, got: np.ndarray, want: np.ndarray, spread: np.ndarray, finest: float) -> None:
        if got.shape != want.shape:
            raise Mismatch(f"{label}: shape {got.shape}, expected {want.shape}")
        if (got.dtype.kind == "f") != (want.dtype.kind == "f"):
            raise Mismatch(f"{label}: dtype {got.dtype}, expected {want.dtype}")
        if want.dtype.kind != "f":
            if not np.array_equal(got, want):
                raise Mismatch(f"{label}: {got.tolist()}, expected {want.tolist()}")
            return
        allowed = SAFETY * spread + finest
        wrong = ~(np.abs(got.astype(np.float64) - want) <= allowed)
        if wrong.any():
            place = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise Mismatch(
                f"{label}: element {place} of shape {want.shape} is {got[place]!r}, expected {want[place]!r} within "
                f"{float(np.asarray(allowed)[place] if np.ndim(allowed) else allowed):.1e}; {int(wrong.sum())} of {wrong.size} differ"
            )


def _scale(arrays: Sequence[np.ndarray]) -> float:
    return max([1.0, *(float(np.abs(a).max()) for a in arrays if a.dtype.kind == "f" and a.size)])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


__all__ = ["Expected", "Mismatch", "Results", "Runner", "references", "snapshots", "values_of"]
