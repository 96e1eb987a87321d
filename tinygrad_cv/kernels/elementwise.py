"""CPU kernels of elementwise operators, derived from their scalar expressions.

`derive` gives a function with the signature of the operator's reference. It takes arrays that are large enough to gain, float32
or float64, with numbers, one-element arrays and simply broadcast operands among them, and returns NotImplemented for all else.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from . import launch
from .formula import Expression, translate
from .launch import NEVER, Cost, Loop
from .loops import Program

if TYPE_CHECKING:
    from ..registry import Operator

_PASS = 500.0  # ns a NumPy call costs besides the work


def truth_parameters(operator: Operator) -> tuple[str, ...]:
    """The tensor parameters that are bool: neither promoted nor differentiable."""
    promoted = {operator.tensor_params[i] for i in operator.promotes}
    return tuple(p for p, n in zip(operator.tensor_params, operator.nondiff, strict=True) if n and p not in promoted)


def scalar_text(operator: Operator, attributes: tuple[Any, ...]) -> str | None:
    """The operator's scalar expression for these attribute values, or None."""
    scalar: Any = operator.scalar
    if not callable(scalar):
        return scalar  # type: ignore[no-any-return]
    wanted = inspect.signature(scalar).parameters
    text: str | None = scalar(*(attributes[operator.attr_params.index(p)] for p in wanted))
    return text


class DerivedKernel:
    """The kernels of one elementwise operator: a plan for every scalar expression that its attributes lead to."""

    def __init__(self, operator: Operator) -> None:
        self.operator = operator
        self.truths = truth_parameters(operator)
        self.asks: tuple[int, ...] = ()
        if callable(operator.scalar):
            self.asks = tuple(operator.attr_params.index(p) for p in inspect.signature(operator.scalar).parameters)
        self._plans: dict[Any, Plan | None] = {}
        self.smallest = (launch.smallest or 512) if self.asks else NEVER
        if not self.asks and (plan := self.plan(())) is not None:
            self.smallest = plan.loop.smallest

    def plan(self, attributes: tuple[Any, ...]) -> Plan | None:
        """What to run for these attribute values; None where no expression says."""
        key = tuple(attributes[i] for i in self.asks)
        try:
            return self._plans[key]
        except KeyError:
            pass
        except TypeError:  # an attribute that cannot be a key
            return None
        plan = None
        text = scalar_text(self.operator, attributes)
        if text is not None:
            try:
                plan = Plan(self.operator, text, self.truths)
            except ValueError as error:
                warnings.warn(
                    f"operator {self.operator.name!r}: no kernel can be derived from its scalar expression {text!r} (package "
                    f"{self.operator.provider}): {error}",
                    RuntimeWarning,
                    stacklevel=3,
                )
        self._plans[key] = plan
        return plan

    def __call__(self, operands: tuple[Any, ...], attributes: tuple[Any, ...]) -> Any:
        plan = self.plan(attributes)
        if plan is None:
            return NotImplemented
        for i in plan.unused:
            if operands[i] is not None:
                return NotImplemented
        return plan.loop([operands[i] for i in plan.tensors], [attributes[i] for i in plan.attributes])


class Plan:
    """One scalar expression as a loop, and which operands and attributes it takes."""

    def __init__(self, operator: Operator, text: str, truths: tuple[str, ...]) -> None:
        tensors, attributes = operator.tensor_params, operator.attr_params
        names = {p: f"p_{p}_" for p in (*tensors, *attributes)}
        self.expression: Expression = translate(text, names, truths, attributes)
        used = self.expression.names
        self.tensors = tuple(i for i, p in enumerate(tensors) if p in used)
        self.unused = tuple(i for i, p in enumerate(tensors) if p not in used)
        self.attributes = tuple(i for i, p in enumerate(attributes) if p in used)
        operands = (*(f"p_{tensors[i]}" for i in self.tensors), *(f"p_{attributes[i]}" for i in self.attributes))
        e = self.expression
        program = Program(
            operator.name, text, operands, (), (e.text,), tuple(sorted(e.functions)), frozenset(f"p_{p}" for p in truths)
        )
        self.loop = Loop(program, len(self.tensors), e.truth, Cost(e.cost, e.numpy_cost, _PASS * e.steps, e.calls))


_WRAPPER = """\
def {identifier}({declared}):
    if {small}:
        return NotImplemented
    return _derived(({operands}), ({attributes}))
"""


def derive(operator: Operator) -> Callable[..., Any]:
    """The kernel of an elementwise operator: a function with its reference's signature that may return NotImplemented."""
    derived = DerivedKernel(operator)
    parameters = list(operator.signature.parameters.values())
    declared, star = [], False
    for p in parameters:
        if p.kind is p.KEYWORD_ONLY and not star:
            declared.append("*")
            star = True
        declared.append(p.name if p.default is p.empty else f"{p.name}=_default_{p.name}")
    small = " and ".join(f"(_type({p}) is not _ndarray or {p}.size < _derived.smallest)" for p in operator.tensor_params)
    identifier = operator.name.rsplit(".", 1)[-1]
    text = _WRAPPER.format(
        identifier=identifier,
        declared=", ".join(declared),
        small=small,
        operands="".join(f"{p}, " for p in operator.tensor_params),
        attributes="".join(f"{p}, " for p in operator.attr_params),
    )
    scope: dict[str, Any] = {"_derived": derived, "_ndarray": np.ndarray, "_type": type}
    scope.update({f"_default_{p.name}": p.default for p in parameters if p.default is not p.empty})
    exec(compile(text, f"<tinygrad_cv kernel {operator.name}>", "exec"), scope)
    function: Callable[..., Any] = scope[identifier]
    function.derived = derived  # type: ignore[attr-defined]
    return function
