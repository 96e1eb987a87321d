"""Draws programs: calls from the operators' own domains, whose arrays are replaced by values that earlier calls made.

A value made by one operator seldom has the shape that another asks for, nor lies where its derivatives are tame. It is brought
there by a few calls more, which become part of the program: reshaped, cut, repeated or averaged to the shape; squashed into the
range by tanh; or, where an operator asks for values apart from each other or for regular matrices, added in small to what its domain
drew. What an earlier value cannot be made into is a fresh input.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import autograd, registry
from .._tensor import Tensor, wrap
from ..domain import Draw, Real
from ..random import manual_seed
from ..registry import Operator
from .program import Program, Ref, Step
from .program_runs import flat, own_function, references
from .samples import Sample

_LARGEST = 1e4
_NUDGE = 0.02  # what a value adds to what a domain drew: less than half of what domains keep from kinks and from each other
# What is rarely regular by chance, or has no derivative where rows are equal: earlier values come near what the domain drew.
_DELICATE = {"cdist", "logdet", "matrix_power", "pdist", "svd"}
_FAILURES = (ValueError, TypeError, RuntimeError, IndexError, ArithmeticError, np.linalg.LinAlgError)


def usable(operator: Operator) -> bool:
    """Whether programs call the operator: all are, but those whose call means something only inside of another's rule."""
    return operator.name not in _WITHOUT


# view_scatter names other operators; empty memory has no value to compare; a cast to a narrower float is no float64 arithmetic.
_WITHOUT = {"view_scatter", "cast"}


def draw_program(draw: Draw, operators: Sequence[Operator | str] | None = None, most: int = 8, inplace: bool = True) -> Program:
    """A program of 1 to `most` drawn calls, and the few more that bring values from one to the next.

    operators: what to draw the calls from, all that are registered if not given. inplace: whether in-place forms are used too.
    """
    chosen = registry.operators() if operators is None else [registry.get(o) if isinstance(o, str) else o for o in operators]
    check_choice(chosen, most)
    chosen = [o for o in chosen if usable(o)]
    builder = _Builder(draw, inplace)
    with references(), warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for _ in range(draw.integer(1, most)):
            builder.add(draw.choice(chosen))
    return builder.program()


def check_choice(operators: Sequence[Operator] | None, most: int) -> None:
    """Raises ValueError where no program can be drawn from these operators with at most so many calls."""
    if operators is not None and not any(map(usable, operators)):
        raise ValueError(f"programs: none of {[o.name for o in operators]} can be called in a program")
    if most < 1:
        raise ValueError(f"programs: most must be at least 1, got {most}")


class _Builder:
    """A program in the making: its inputs and calls so far, and the tensors they give, made on references."""

    def __init__(self, draw: Draw, inplace: bool) -> None:
        self.draw, self.inplace = draw, inplace
        self.seed = draw.integer(0, 99)
        manual_seed(self.seed)
        self.inputs: list[np.ndarray] = []
        self.differentiable: list[bool] = []
        self.places: list[int] = []  # of inputs among the values
        self.steps: list[Step] = []
        self.values: list[Any] = []
        self.made: list[range] = []

    def program(self) -> Program:
        """What has been built, inputs first."""
        order = [*self.places, *(i for r in self.made for i in r)]
        numbers = {old: new for new, old in enumerate(order)}
        steps = tuple(step.renumbered(numbers) for step in self.steps)
        return Program(tuple(self.inputs), tuple(self.differentiable), steps, self.seed)

    # Values ------------------------------------------------------------------------------------------------------------------

    def fresh(self, array: np.ndarray, differentiable: bool) -> Ref:
        """A new input."""
        array = np.array(array)
        self.inputs.append(array)
        self.differentiable.append(differentiable)
        self.places.append(len(self.values))
        self.values.append(wrap(array.copy()).requires_grad_(differentiable))
        return Ref(len(self.values) - 1)

    def run(self, name: str, *args: Any, inplace: bool = False, **kwargs: Any) -> Ref:
        """Appends a call; the number of its first result."""
        step = Step(name, args, kwargs, inplace=inplace)
        filled, named = step.filled(self.values)
        result = own_function(step)(*filled, **named)
        made = flat(result)
        self.steps.append(Step(name, args, kwargs, len(made), inplace, isinstance(result, (tuple, list))))
        self.made.append(range(len(self.values), len(self.values) + len(made)))
        self.values.extend(made)
        return Ref(len(self.values) - len(made))

    def _mark(self) -> tuple[int, ...]:
        return len(self.inputs), len(self.steps), len(self.values)

    def _back(self, mark: tuple[int, ...]) -> None:
        inputs, steps, values = mark
        for kept, length in ((self.inputs, inputs), (self.differentiable, inputs), (self.places, inputs)):
            del kept[length:]  # type: ignore[attr-defined]
        del self.steps[steps:], self.made[steps:], self.values[values:]

    # Calls -------------------------------------------------------------------------------------------------------------------

    def add(self, operator: Operator) -> None:
        """A call of the operator; without one, if what it gives is no use (not finite, another precision)."""
        sample = Sample(operator, operator.domain(self.draw))
        if any((isinstance(v, np.dtype) and v.kind == "f") or v is float for v in sample.bound.arguments.values()):
            return
        for reuse in (True, False) if self.values else (False,):
            mark = self._mark()
            try:
                self._call(operator, sample, reuse)
                if all(map(_tame, self.values[mark[2] :])):
                    return
            except _FAILURES:
                if not reuse and not operator.internal:
                    raise
            self._back(mark)

    def _call(self, operator: Operator, sample: Sample, reuse: bool) -> None:
        wanted = set(sample.differentiable())
        refs = [
            self._argument(operator, sample, i, i in wanted) if reuse else self.fresh(a, i in wanted)
            for i, a in enumerate(sample.arrays)
        ]
        args, kwargs = sample.arguments(refs)
        if self.inplace and operator.has_inplace and refs and isinstance(args[:1], tuple) and args[0] is refs[0]:
            if self.draw.integer(0, 3) == 3 and self._write(operator, refs, args, kwargs):
                return
        self.run(operator.name, *args, **kwargs)

    def _write(self, operator: Operator, refs: list[Ref], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """The call in place, on a copy, on a view of a copy, or on the value itself. Whether it could be made."""
        target = self.values[refs[0].number]
        with autograd.no_grad():
            filled, named = Step(operator.name, args, kwargs).filled(self.values)
            out = operator.function(*filled, **named)
        if not isinstance(out, Tensor) or out.shape != target.shape or out.dtype != target.dtype or not _tame(out):
            return False
        how = self.draw.integer(0, 2)
        if how < 2 or refs[0].number in self.places:
            copy = self.run("clone", refs[0])
            if how == 1 and target.ndim and target.shape[0] > 1:
                view = self.run("getitem", copy, (slice(None, None, -1),) if self.draw.boolean() else (...,))
                copy = view
            args = (copy, *args[1:])
        mark = self._mark()
        try:
            self.run(operator.name, *args, inplace=True, **kwargs)
        except RuntimeError:  # saved for a backward, or expanded: it says so, and nothing was written
            self._back(mark)
            return False
        return True

    # Arguments ---------------------------------------------------------------------------------------------------------------

    def _argument(self, operator: Operator, sample: Sample, i: int, wanted: bool) -> Ref:
        """What stands for the drawn array `i`: an earlier value brought to its shape and range, or a fresh input."""
        array = sample.arrays[i]
        if array.dtype.kind == "b":
            same = [
                k for k, v in enumerate(self.values) if isinstance(v, Tensor) and v.dtype == bool and v.shape == array.shape
            ]
            return Ref(same[-1]) if same and self.draw.boolean() else self.fresh(array, False)
        candidates = [k for k, v in enumerate(self.values) if _is_float(v) and v.numel() and v.requires_grad]
        if not wanted or not array.size or not candidates or self.draw.integer(0, 3) == 0:
            return self.fresh(array, wanted)
        chosen = candidates[-1 - self.draw.integer(0, min(len(candidates) - 1, 5))]
        return self._in_range(operator, sample, i, self._shaped(Ref(chosen), array.shape))

    def _shaped(self, ref: Ref, shape: tuple[int, ...]) -> Ref:
        """A value brought to a shape."""
        value = self.values[ref.number]
        if value.shape == shape:
            return ref
        size = int(np.prod(shape, dtype=int))
        if value.numel() == size:
            return self.run("reshape", ref, shape)
        if _broadcasts(value.shape, shape):
            return self.run("expand", ref, shape)
        if value.ndim and self.draw.integer(0, 3) == 3:
            return self.run("expand", self.run("mean", ref), shape)
        line = self.run("reshape", ref, (value.numel(),))
        if value.numel() > size:
            cut = self.run("narrow", line, 0, self.draw.integer(0, value.numel() - size), size)
        else:
            cut = self.run("index_select", line, 0, self.fresh(np.arange(size) * 3 % value.numel(), False))
        return self.run("reshape", cut, shape)

    def _in_range(self, operator: Operator, sample: Sample, i: int, ref: Ref) -> Ref:
        """A value of the right shape, brought to where the operator's domain draws."""
        array, value = sample.arrays[i], self.values[ref.number]
        kinds = getattr(operator.domain, "parameters", None)
        kind = kinds[operator.tensor_params.index(sample.owners[i])] if kinds else None
        low, high = (kind.low, kind.high) if isinstance(kind, Real) else (float(array.min()), float(array.max()))
        apart = isinstance(kind, Real) and kind.avoid
        data = value._data
        inside = bool(np.all((data >= low) & (data <= high)))
        near = apart and any(np.any(np.abs(data - a) < _NUDGE) for a in apart)
        delicate = operator.name in _DELICATE or operator.name.startswith("linalg.")
        if inside and not near and not delicate and self.draw.integer(0, 3) != 3:
            return ref
        squashed = self.run("tanh", ref)
        if apart or delicate or high - low < 4 * _NUDGE or self.draw.integer(0, 2) == 2:
            return self.run("add", self.fresh(array, True), self.run("mul", squashed, _NUDGE))
        return self.run("add", self.run("mul", squashed, (high - low) * 0.49), (high + low) / 2)


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype.kind == "f"


def _tame(value: Any) -> bool:
    """Whether a value is float64 of sensible size, or no float."""
    if not _is_float(value):
        return True
    return value.dtype == np.float64 and bool(np.all(np.abs(value._data) < _LARGEST))


def _broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    return len(shape) <= len(to) and all(s in (1, t) for s, t in zip(shape[::-1], to[::-1], strict=False))


__all__ = ["check_choice", "draw_program", "usable"]
