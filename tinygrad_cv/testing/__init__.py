"""The test kit for operators, the built-in ones and yours: what the project's own suite runs on every operator it registers.

    from tinygrad_cv.testing import check_op

    def test_my_operator():
        check_op("my_operator")

`check_op` draws calls from the operator's domain with NumPy; `op_test("my_operator")` is the same as a Hypothesis test, whose
failing examples shrink (needs the extra `testing`). `python -m tinygrad_cv.testing NAME ...` runs it from the command line.
`check_gradients(fn, inputs)` checks the derivatives of any function. What is checked of an operator is in

    checks.py         values against the reference in both float dtypes and on every memory layout, kernels against the reference, first
                      and second derivatives against finite differences on every element, declared kinks, in-place forms, errors
    law_checks.py     the laws that it declares (tinygrad_cv/laws.py)
    conduct.py        aliasing, refused calls, same bits twice, memory, dtype rules, batches, forward mode
    kernel_checks.py  parallel kernels against serial ones, compiled plans against eager calls
"""

from __future__ import annotations

import importlib
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..autograd.numerical import GradcheckError, gradcheck, gradgradcheck
from ..domain import Call, NumpyDraw
from ..registry import Operator, get
from .checks import EVERY_CALL, ONCE
from .gradients import check_gradients
from .law_checks import key
from .messages import about, call_program
from .program import Program
from .program_compare import Comparison, compare, minimize
from .samples import Sample, agree

if TYPE_CHECKING:
    from .array_strategies import arrays, broadcastable_shapes, laid_out, shapes, tensors
    from .module_strategies import modules
    from .strategies import HypothesisDraw, op_inputs, op_test, programs


class OpCheckError(AssertionError):
    """An operator does not do what its declaration says. The message holds a program that repeats the call."""


@dataclass
class OpResult:
    """What was run on one operator: drawn calls, single comparisons by kind, and the first failure if there was one."""

    name: str
    provider: str
    seed: int
    examples: int = 0
    checks: Counter[str] = field(default_factory=Counter)
    failure: str | None = None
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return self.failure is None

    def count(self, kind: str, number: int = 1) -> None:
        """Notes `number` comparisons of `kind`."""
        self.checks[kind] += number


_last: dict[str, tuple[Operator, OpResult]] = {}


def last_result(operator: Operator | str) -> OpResult | None:
    """What the last check of the whole operator in this process (`check_op`, `op_test`) found, or None if there was none."""
    operator = get(operator) if isinstance(operator, str) else operator
    checked, result = _last.get(operator.name, (None, None))
    return result if checked is operator else None


def remember(operator: Operator, result: OpResult) -> None:
    """Makes `result` the operator's last one."""
    _last[operator.name] = operator, result


def check_call(operator: Operator | str, call: Call, seed: int = 0, result: OpResult | None = None) -> OpResult:
    """Runs every check on one call, as a domain returns it. Raises OpCheckError at the first that fails."""
    operator = get(operator) if isinstance(operator, str) else operator
    result = result or OpResult(operator.name, operator.provider, seed)
    _run(EVERY_CALL, operator, call, seed, result)
    result.examples += 1
    return result


def check_once(operator: Operator | str, call: Call, seed: int = 0, result: OpResult | None = None) -> OpResult:
    """Runs the checks that need one call only: declaration, edge shapes, kernels on large arrays, kinks, errors."""
    operator = get(operator) if isinstance(operator, str) else operator
    result = result or OpResult(operator.name, operator.provider, seed)
    _run(ONCE, operator, call, seed, result)
    return result


def _run(checks: Any, operator: Operator, call: Call, seed: int, result: OpResult) -> None:
    sample = None
    check: Any = "drawing a call"
    try:
        sample = Sample(operator, call, seed)
        for check in checks:
            check(sample, result)
    except Exception as error:
        name = getattr(check, "__name__", check)
        known = isinstance(error, (AssertionError, GradcheckError))
        reason = str(error) if known else "".join(traceback.format_exception(error, limit=-4)).strip()
        lines = [f"{operator.name} ({operator.provider}), {name}, seed {seed}: {reason}", *about(operator)]
        if sample is not None:
            lines += ["", "To repeat it:", "", call_program(sample, "check_once" if checks is ONCE else "check_call")]
        raise OpCheckError("\n".join(lines)) from (None if known else error)


def check_op(operator: Operator | str, *, examples: int = 20, seed: int = 0, raise_exception: bool = True) -> OpResult:
    """Checks an operator on `examples` calls drawn from its domain by NumPy from `seed`.

    Returns what was run. Raises OpCheckError with a program that repeats the failing call (or, with `raise_exception=False`,
    returns a result whose `failure` holds it); KeyError for a name that no operator has.
    """
    operator = get(operator) if isinstance(operator, str) else operator
    result = OpResult(operator.name, operator.provider, seed)
    start = time.perf_counter()
    remember(operator, result)
    try:
        for i in range(examples):
            call = _drawn(operator, np.random.default_rng([seed, i]), seed + i)
            check_call(operator, call, seed + i, result)
            if i < 2:
                check_once(operator, call, seed + i, result)
        check_compared(operator, result)
    except OpCheckError as error:
        result.failure = f"{error}\n(example {i} of check_op({operator.name!r}, seed={seed}))"
        if raise_exception:
            raise OpCheckError(result.failure) from error.__cause__
    finally:
        result.seconds = time.perf_counter() - start
    return result


def check_compared(operator: Operator | str, result: OpResult) -> None:
    """OpCheckError for a declared law that none of ten calls or more were compared by: it says nothing, or its `when` is never true."""
    operator = get(operator) if isinstance(operator, str) else operator
    for law in operator.laws if result.examples >= 10 else ():
        if not result.checks[key(law)]:
            raise OpCheckError(
                f"{operator.name} ({operator.provider}): the law {law!r} was never compared in {result.examples} calls; is its `when` "
                "ever true for what the domain draws?"
            )


def _drawn(operator: Operator, rng: np.random.Generator, seed: int) -> Call:
    try:
        call: Call = operator.domain(NumpyDraw(rng))
    except Exception as error:
        raise OpCheckError(f"{operator.name} ({operator.provider}): its domain raised\n{traceback.format_exc()}") from error
    return call


_WITH_HYPOTHESIS = {
    **dict.fromkeys(("arrays", "broadcastable_shapes", "laid_out", "shapes", "tensors"), "array_strategies"),
    **dict.fromkeys(("HypothesisDraw", "op_inputs", "op_test", "programs"), "strategies"),
    "modules": "module_strategies",
}


def __getattr__(name: str) -> Any:
    if name in _WITH_HYPOTHESIS:
        try:
            room = importlib.import_module(f".{_WITH_HYPOTHESIS[name]}", __name__)
        except ImportError as error:
            raise ImportError(f"{name} needs Hypothesis ({error}); pip install 'tinygrad_cv[testing]'") from error
        return getattr(room, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "Comparison", "GradcheckError", "HypothesisDraw", "OpCheckError", "OpResult", "Program", "Sample", "agree", "arrays",
    "broadcastable_shapes", "check_call", "check_gradients", "check_once", "check_op", "compare", "gradcheck", "gradgradcheck",
    "laid_out", "last_result", "minimize", "modules", "op_inputs", "op_test", "programs", "shapes", "tensors",
]  # fmt: skip
