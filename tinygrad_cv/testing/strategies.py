"""Hypothesis draws an operator's calls: structure (shapes, choices, numbers) shrinks, array contents come from a drawn seed.

A failing example therefore ends up with few axes, small sizes and the first of each list of options, while array contents stay
generic: drawing them element by element costs a hundred times as much and finds the kinks that domains are written to avoid.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ..domain import Call, NumpyDraw
from ..registry import Operator, get
from . import OpResult, check_call, check_once, remember
from .program import Program
from .program_draw import check_choice, draw_program


class HypothesisDraw:
    """`tinygrad_cv.domain.Draw` on top of Hypothesis: `HypothesisDraw(draw)` inside a composite strategy."""

    def __init__(self, draw: Callable[[Any], Any]) -> None:
        self._draw = draw
        self._contents: NumpyDraw | None = None

    @property
    def contents(self) -> NumpyDraw:
        """What fills the arrays: seeded once for each call."""
        if self._contents is None:
            self._contents = NumpyDraw(self._draw(st.integers(0, 2**32 - 1)))
        return self._contents

    def integer(self, low: int, high: int) -> int:
        """An integer between both bounds; the smallest is the simplest."""
        return int(self._draw(st.integers(low, high)))

    def choice(self, options: Sequence[Any]) -> Any:
        """One of the options; the first is the simplest."""
        return options[self.integer(0, len(options) - 1)]

    def boolean(self) -> bool:
        """True or False; False is simpler."""
        return bool(self._draw(st.booleans()))

    def number(self, low: float, high: float) -> float:
        """A float in steps of a hundredth of the range, so that failing ones read well."""
        return low + (high - low) * self.integer(0, 100) / 100

    def shape(self, ndim: int | tuple[int, int] = (0, 3), low: int = 1, high: int = 4) -> tuple[int, ...]:
        """Sizes between `low` and `high`, for `ndim` axes or for a number of axes in a range."""
        axes = ndim if isinstance(ndim, int) else self.integer(*ndim)
        return tuple(self.integer(low, high) for _ in range(axes))

    def real(self, shape: Sequence[int], low: float = -2.0, high: float = 2.0, avoid: Sequence[float] = ()) -> np.ndarray:
        """Floats in [low, high], none nearer than 0.05 to a value in `avoid`."""
        return self.contents.real(shape, low, high, avoid)

    def distinct(self, shape: Sequence[int], low: float = -2.0, high: float = 2.0) -> np.ndarray:
        """Floats no two of which are near each other."""
        return self.contents.distinct(shape, low, high)

    def integers(self, shape: Sequence[int], low: int, high: int) -> np.ndarray:
        """int64 values from `low` up to but not including `high`."""
        return self.contents.integers(shape, low, high)

    def mask(self, shape: Sequence[int]) -> np.ndarray:
        """Booleans."""
        return self.contents.mask(shape)

    def permutation(self, n: int) -> list[int]:
        """An order of 0 ... n - 1; the sorted one is the simplest."""
        return list(self._draw(st.permutations(range(n))))

    def broadcastable(self, shape: Sequence[int]) -> tuple[int, ...]:
        """A shape that broadcasts to `shape`: some axes 1, some leading axes missing; `shape` itself is the simplest."""
        dropped = self.integer(0, len(shape)) if self.boolean() else 0
        return tuple(1 if self.integer(0, 3) == 3 else s for s in tuple(shape)[dropped:])


def op_inputs(operator: Operator | str) -> st.SearchStrategy[Call]:
    """The calls of an operator: `Call(args, kwargs)` with arrays where tensors go, drawn from its domain.

    Floating arrays are float64. KeyError for a name that no operator has.
    """
    domain = (get(operator) if isinstance(operator, str) else operator).domain

    @st.composite
    def calls(draw: Any) -> Call:
        found: Call = domain(HypothesisDraw(draw))
        return found

    return calls()


def programs(
    operators: Sequence[Operator | str] | None = None, *, most: int = 8, inplace: bool = True
) -> st.SearchStrategy[Program]:
    """Random well-typed graphs of operator calls: `Program`s of 1 to `most` calls, and the few more that join them.

    operators: what to draw the calls from; every registered operator, plugins too, if not given. inplace: whether in-place forms are
    among them. A program prints as Python that runs; `compare` in tinygrad_cv.testing runs it in every way there is. Shrinks to
    one call of the first operator by name. KeyError for an unknown name, ValueError for no operator or `most` < 1.
    """
    chosen = None if operators is None else [get(o) if isinstance(o, str) else o for o in operators]
    check_choice(chosen, most)

    @st.composite
    def graphs(draw: Any) -> Program:
        return draw_program(HypothesisDraw(draw), chosen, most, inplace)

    return graphs()


def op_test(operator: Operator | str, result: OpResult | None = None, **options: Any) -> Callable[[], None]:
    """All checks of one operator as a Hypothesis test without arguments: call it, or let pytest collect it.

    Kernels are compiled before the clock of any example starts, and there is no deadline. options: for `hypothesis.settings`.
    result: collects counts of what was run.

        test_my_operator = op_test("my_operator")
    """
    operator = get(operator) if isinstance(operator, str) else operator
    counts = result or OpResult(operator.name, operator.provider, 0)

    name = f"test_{operator.name.replace('.', '_')}"

    def every_call(call: Call) -> None:
        check_call(operator, call, result=counts)

    # Hypothesis stores failing examples under a key made from a test's source, or its name where there is no source: without a
    # source, the tests of two operators do not share a key though they share the code.
    every_call.__code__ = every_call.__code__.replace(co_name=name, co_filename=f"<test of operator {operator.name}>")
    every_call.__name__ = every_call.__qualname__ = name
    chosen = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow], **options}
    checked = settings(**chosen)(given(op_inputs(operator))(every_call))

    def test() -> None:
        remember(operator, counts)
        counts.failure = None
        start = time.perf_counter()
        try:
            for seed in range(2):
                check_once(operator, operator.domain(NumpyDraw(seed)), seed, counts)
            checked()
        except BaseException as error:
            counts.failure = str(error)
            raise
        finally:
            counts.seconds = time.perf_counter() - start

    test.__name__ = test.__qualname__ = name
    test.__doc__ = f"Values, layouts and derivatives of `{operator.name}` on calls drawn from its domain."
    return test


__all__ = ["HypothesisDraw", "op_inputs", "op_test", "programs"]
