"""CPU kernels of elementwise operators, derived from their scalar expressions. Imports Numba at the first array worth it.

`derive` gives a function with the signature of the operator's reference. It takes float32 arrays (or float64 ones) that are large
enough to gain, with numbers, one-element arrays and simply broadcast operands among them, and returns NotImplemented for all else.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from . import threads
from .formula import Expression, translate
from .loops import Program, broadcast_layout, make

if TYPE_CHECKING:
    from ..registry import Operator

_FLOAT32, _FLOAT64, _BOOL = np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.bool_)
NEVER = 1 << 62
_PARALLEL_WORK = 6000.0  # ns of work on one core below which a parallel region does not pay
_REGION = 2000.0  # ns to enter and leave one
_CALL = 2500.0  # ns a kernel call costs besides the work
_PASS = 500.0  # ns a NumPy call costs besides the work
_MEMORY_COST = 0.1  # ns to read and write one element

smallest: int | None = None  # tests set this: arrays of at least so many elements go to kernels, whatever they cost


def _numpy_has_avx512() -> bool:
    try:
        from numpy._core._multiarray_umath import __cpu_features__
    except ImportError:
        return False
    return bool(__cpu_features__.get("AVX512_SKX", False))


def smallest_size(expression: Expression) -> int:
    """From how many float32 elements on a kernel beats NumPy, by what both cost (see `formula`): on one core, or on all."""
    if smallest is not None:
        return smallest
    numpy = expression.numpy_cost * (3.0 if expression.calls and not _numpy_has_avx512() else 1.0)
    here = expression.cost + _MEMORY_COST
    passes = _PASS * expression.steps
    sizes = [NEVER]
    for cost, fixed in ((here, _CALL), (here / threads.get_num_threads(), _CALL + _REGION)):
        gain = numpy - 1.1 * cost
        if gain > 0:
            sizes.append(max(512, int((fixed - passes) / gain)))
    return min(sizes)


class DerivedKernel:
    """The kernels of one elementwise operator: chosen by attributes, dtype and layout, made at first use."""

    def __init__(self, operator: Operator) -> None:
        declaration = operator.declaration
        self.name = operator.name
        self.scalar: Any = operator.scalar
        self.tensors = operator.tensor_params
        self.attributes = operator.attr_params
        promoted = {operator.tensor_params[i] for i in operator.promotes}
        nondiff = set(declaration.nondiff)
        self.truths = tuple(p for p in self.tensors if p not in promoted and p in nondiff)
        self.names = {p: f"p_{p}_" for p in (*self.tensors, *self.attributes)}
        self.asks: tuple[int, ...] | None = None
        if callable(self.scalar):
            wanted = inspect.signature(self.scalar).parameters
            self.asks = tuple(self.attributes.index(p) for p in wanted)
        self._plans: dict[Any, _Plan | None] = {}
        self.smallest = 0
        if self.asks is None:
            plan = self.plan(())
            self.smallest = plan.smallest if plan is not None else NEVER
        else:
            self.smallest = 1024

    def plan(self, attributes: tuple[Any, ...]) -> _Plan | None:
        """What to run for these attribute values; None where the scalar expression says nothing."""
        key = () if self.asks is None else tuple(attributes[i] for i in self.asks)
        try:
            return self._plans[key]
        except KeyError:
            pass
        except TypeError:  # an attribute that cannot be a key
            return None
        plan = None
        text = self.scalar if self.asks is None else self.scalar(*key)
        if text is not None:
            try:
                plan = _Plan(self, translate(text, self.names, self.truths, self.attributes))
            except ValueError as error:
                warnings.warn(
                    f"operator {self.name!r}: no kernel can be derived from its scalar expression {text!r}: {error}",
                    RuntimeWarning,
                    stacklevel=3,
                )
        self._plans[key] = plan
        return plan

    def __call__(self, operands: tuple[Any, ...], attributes: tuple[Any, ...]) -> Any:
        plan = self.plan(attributes)
        return NotImplemented if plan is None else plan(operands, attributes)


class _Plan:
    """The kernels for one scalar expression."""

    def __init__(self, owner: DerivedKernel, expression: Expression) -> None:
        self.expression = expression
        self.owner = owner
        self.tensor_positions = tuple(i for i, p in enumerate(owner.tensors) if p in expression.names)
        self.truth_positions = frozenset(i for i in self.tensor_positions if owner.tensors[i] in owner.truths)
        used = tuple(i for i, p in enumerate(owner.attributes) if p in expression.names)
        self.attribute_positions = used
        operands = tuple(f"p_{owner.tensors[i]}" for i in self.tensor_positions) + tuple(f"p_{owner.attributes[i]}" for i in used)
        self.program = Program(
            owner.name, expression.text, operands, (), (expression.text,), tuple(sorted(expression.functions)),
            frozenset(f"p_{p}" for p in owner.truths),
        )  # fmt: skip
        self.parallel_size = int(_PARALLEL_WORK / (expression.cost + _MEMORY_COST))
        self.smallest = smallest_size(expression)
        self.worth_copying = expression.cost > 0.5
        self.kernels: dict[tuple[str, bool], Any] = {}

    def __call__(self, operands: tuple[Any, ...], attributes: tuple[Any, ...]) -> Any:
        full: Any = None
        for i in self.tensor_positions:
            a = operands[i]
            if type(a) is np.ndarray and (full is None or a.size > full.size):
                full = a
        if full is None or full.size < self.smallest:
            return NotImplemented
        shape = full.shape
        dtype: Any = None
        letters: list[str] = []
        arguments: list[Any] = []
        broadcast: tuple[str, int, int] | None = None
        for i in self.tensor_positions:
            a = operands[i]
            if type(a) is not np.ndarray:
                if a is None or not isinstance(a, (int, float)):
                    return NotImplemented
                letters.append("S")
                arguments.append(float(a))
                continue
            kind = a.dtype
            if i in self.truth_positions:
                if kind != _BOOL:
                    return NotImplemented
            elif dtype is None:
                dtype = kind
                if kind != _FLOAT32 and kind != _FLOAT64:
                    return NotImplemented
            elif kind != dtype:
                return NotImplemented
            if a.shape == shape:
                letters.append("F")
            elif a.size == 1 and a.ndim <= len(shape):
                letters.append("S")
                arguments.append(float(a.item()))
                continue
            else:
                layout = broadcast_layout(shape, a.shape) if a.ndim <= len(shape) else None
                if layout is None or (broadcast is not None and layout != broadcast):
                    return NotImplemented
                broadcast = layout
                letters.append(layout[0])
            if not a.flags.c_contiguous:
                if not self.worth_copying:
                    return NotImplemented
                a = np.ascontiguousarray(a)
            arguments.append(a)
        if dtype is None:
            return NotImplemented
        for i in self.attribute_positions:
            value = attributes[i]
            if not isinstance(value, (int, float)):
                return NotImplemented
            letters.append("S")
            arguments.append(float(value))
        return self.run("".join(letters), dtype, shape, arguments, broadcast)

    def run(
        self, layout: str, dtype: Any, shape: tuple[int, ...], arguments: list[Any], broadcast: tuple[str, int, int] | None
    ) -> Any:
        kernel = self.kernels.get((layout, dtype is _FLOAT64 or dtype == _FLOAT64))
        if kernel is None:
            kernel = self._make(layout, dtype)
            if kernel is None:
                return NotImplemented
        out = np.empty(shape, _BOOL if self.expression.truth else dtype)
        if broadcast is not None:
            _, middle, rows = broadcast
            size = out.size // rows
            if size < 16 or rows < threads.get_num_threads():
                return NotImplemented
            for position, letter in enumerate(layout):
                if letter == "F":
                    arguments[position] = arguments[position].reshape(rows, size)
                elif letter != "S":
                    arguments[position] = arguments[position].reshape(-1)
            target = out.reshape(rows, size)
            arguments.append(middle)
        else:
            for position, letter in enumerate(layout):
                if letter == "F":
                    arguments[position] = arguments[position].reshape(-1)
            target = out.reshape(-1)
        if out.size < self.parallel_size:
            kernel.serial(target, *arguments)
        else:
            kernel(target, *arguments)
        return out

    def example(self) -> tuple[Any, list[Any]]:
        """The float32 kernel for full arrays, and arguments of one element to compile it with."""
        layout = "F" * len(self.tensor_positions) + "S" * len(self.attribute_positions)
        kernel = self.kernels.get((layout, False)) or self._make(layout, _FLOAT32)
        out = np.empty(1, _BOOL if self.expression.truth else _FLOAT32)
        arrays = [np.ones(1, _BOOL if i in self.truth_positions else _FLOAT32) for i in self.tensor_positions]
        return kernel, [out, *arrays, *[1.0] * len(self.attribute_positions)]

    def _make(self, layout: str, dtype: Any) -> Any:
        from . import numba_available

        wide = dtype == _FLOAT64
        if wide and self.expression.calls and smallest is None:
            return None  # NumPy's vectorised functions win over the C library's
        if not numba_available():
            self.smallest = self.owner.smallest = NEVER
            return None
        kernel = make(self.program, layout, "float64" if wide else "float32")
        self.kernels[layout, wide] = kernel
        return kernel


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
