"""One drawn call of an operator: in other dtypes and memory layouts, through the reference, as a program that repeats it."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import dispatch
from .._tensor import Tensor, wrap
from ..domain import Call
from ..random import manual_seed
from ..registry import Operator

Maker = Callable[[np.ndarray], Any]


def contiguous(array: np.ndarray) -> np.ndarray:
    """A row-major copy."""
    return np.array(array, order="C")


def transposed(array: np.ndarray) -> np.ndarray:
    """The same values, laid out column-major."""
    return np.array(array.T, order="C").T


def sliced(array: np.ndarray) -> np.ndarray:
    """The same values as every second element of a larger array, away from its start."""
    room = np.zeros([2 * s + 3 for s in array.shape], array.dtype)
    every_second: tuple[Any, ...] = tuple(slice(2, 2 + 2 * s, 2) for s in array.shape)
    view = room[(*every_second, ...)]
    view[...] = array
    return view


def reversed_strides(array: np.ndarray) -> np.ndarray:
    """The same values, stored backwards along every axis."""
    back: tuple[Any, ...] = (slice(None, None, -1),) * array.ndim
    return np.array(array[back], order="C")[(*back, ...)]


def broadcast(array: np.ndarray) -> np.ndarray:
    """Values of the first position of the last axis of size > 1, repeated along it with stride 0."""
    long = [i for i, s in enumerate(array.shape) if s > 1]
    if not long:
        return array
    first = np.array(np.take(array, [0], axis=long[-1]), order="C")
    return np.broadcast_to(first, array.shape)


LAYOUTS: dict[str, Maker] = {"transposed": transposed, "sliced": sliced, "negative strides": reversed_strides}


class Sample:
    """A call drawn from an operator's domain."""

    def __init__(self, operator: Operator, call: Call, seed: int = 0) -> None:
        self.operator, self.seed = operator, seed
        self.call = call if isinstance(call, Call) else Call(*call)
        self.bound = operator.signature.bind(*self.call.args, **self.call.kwargs)
        self.arrays: list[np.ndarray] = []
        self.owners: list[str] = []  # the tensor parameter of each array
        self._each(self._note)

    def _note(self, name: str, array: np.ndarray) -> np.ndarray:
        self.arrays.append(array)
        self.owners.append(name)
        return array

    def _each(self, change: Callable[[str, np.ndarray], Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The call as it was written, with `change` applied to the arrays that stand where tensors go."""
        tensors, variadic = self.operator.tensor_params, self.operator.variadic

        def made(name: str, value: Any) -> Any:
            if name not in tensors:
                return value
            if isinstance(value, (np.ndarray, np.generic)):
                return change(name, np.asarray(value))
            if name == variadic and isinstance(value, (tuple, list)):
                return type(value)([made(name, v) for v in value])
            return value

        parameters = list(self.operator.signature.parameters.values())
        star = next((i for i, p in enumerate(parameters) if p.kind is p.VAR_POSITIONAL), len(parameters))
        args = [made(parameters[min(i, star)].name, value) for i, value in enumerate(self.call.args)]
        return tuple(args), {k: made(k, v) for k, v in self.call.kwargs.items()}

    def emptied(self) -> Sample | None:
        """The call with one axis of one array empty, or with all axes of that size: chosen by the arrays' shapes and contents.

        None where there is no axis, and for internal operators, whose callers see to what they are given.
        """
        axes = [(i, axis) for i, a in enumerate(self.arrays) for axis in range(a.ndim) if a.shape[axis]]
        if not axes or self.operator.internal:
            return None
        code = zlib.crc32(b"".join(a.tobytes() for a in self.arrays), len(axes))
        (which, place), alone = axes[code // 2 % len(axes)], bool(code % 2)
        size = self.arrays[which].shape[place]

        def cut(i: int, array: np.ndarray) -> np.ndarray:
            chosen = [(i, axis) == (which, place) or (not alone and s == size) for axis, s in enumerate(array.shape)]
            return (
                np.zeros([0 if gone else s for s, gone in zip(array.shape, chosen, strict=True)], array.dtype)
                if any(chosen)
                else array
            )

        args, kwargs = self.arguments([cut(i, a) for i, a in enumerate(self.arrays)])
        return Sample(self.operator, Call(args, kwargs), self.seed)

    def floating(self) -> list[int]:
        """Positions of the floating arrays."""
        return [i for i, a in enumerate(self.arrays) if a.dtype.kind == "f"]

    def differentiable(self) -> list[int]:
        """Positions of the arrays that the operator has a gradient for."""
        if not self.operator.declaration.differentiable:
            return []
        without = set(self.operator.declaration.nondiff)
        return [i for i in self.floating() if self.owners[i] not in without]

    def attributes_hold_dtype(self) -> bool:
        """Whether an attribute says which dtype results have."""
        return any(isinstance(v, np.dtype) or v is float for v in self.bound.arguments.values())

    def cast(self, dtype: Any) -> list[np.ndarray]:
        """The arrays, the floating ones in `dtype`."""
        return [a.astype(dtype) if a.dtype.kind == "f" else a for a in self.arrays]

    def arguments(self, values: list[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The call with `values` in place of its arrays, in order."""
        queue = iter(values)
        return self._each(lambda name, array: next(queue))

    def call_function(self, values: list[Any], function: Callable[..., Any] | None = None) -> Any:
        """The public function (or another of its signature) on Tensors or arrays; random operators start from the same seed."""
        args, kwargs = self.arguments([wrap(v) if isinstance(v, np.ndarray) else v for v in values])
        if self.operator.random:
            manual_seed(self.seed)
        return (function or self.operator.function)(*args, **kwargs)

    def canonical(self, arrays: list[np.ndarray]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """(arrays, attributes) as kernels and the reference get them: prepared and promoted."""
        operator = self.operator
        args, kwargs = self.arguments([wrap(a) for a in arrays])
        bound = operator.own_signature.bind(*args, **kwargs)
        bound.apply_defaults()
        values: dict[str, Any] = dict(bound.arguments)
        if operator.random:
            manual_seed(self.seed)
        if operator.prepare is not None:
            prepared = operator.prepare(*bound.args, **bound.kwargs)
            if not isinstance(prepared, tuple) or len(prepared) != len(operator.own_signature.parameters):
                raise TypeError(
                    f"prepare must return all {len(operator.own_signature.parameters)} arguments as a tuple, got {prepared!r}"
                )
            values = dict(zip(operator.own_signature.parameters, prepared, strict=True))
        tensors = tuple(values[operator.variadic]) if operator.variadic else tuple(values[p] for p in operator.tensor_params)
        if operator.promotes:
            tensors = dispatch._promoted(operator, tensors)
        plain = tuple(t._data if isinstance(t, Tensor) else t for t in tensors)
        return plain, tuple(values[p] for p in operator.attr_params)

    def call_reference(self, arrays: list[np.ndarray]) -> Any:
        """The NumPy reference on plain arrays."""
        plain, attributes = self.canonical(arrays)
        with np.errstate(all="ignore"):
            return self.operator.bind(self.operator.reference, plain, attributes)

    def program(self) -> str:
        """A program that rebuilds the arrays and makes the call, to paste into a file."""
        from .messages import call_program

        return call_program(self)


def written_call(sample: Sample, names: list[Any]) -> str:
    """The arguments of the call as text, with `names` for its arrays."""
    args, kwargs = sample.arguments(names)
    return ", ".join([source(a) for a in args] + [f"{k}={source(v)}" for k, v in kwargs.items()])


class Written(str):
    """Text that stands for itself in a written program: a variable's name."""


def source(value: Any) -> str:
    """Python text that makes `value`."""
    if isinstance(value, Written):
        return str(value)
    if isinstance(value, Tensor):
        return f"tg.tensor({source(value._data)})"
    if isinstance(value, np.ndarray):
        numbers = repr(value.tolist()).replace("inf", "np.inf").replace("nan", "np.nan")
        shape = f".reshape({value.shape})" if value.size == 0 else ""
        return f"np.array({numbers}, dtype=np.{value.dtype.name}){shape}".replace("np.bool)", "np.bool_)")
    if isinstance(value, np.dtype):
        return f"np.dtype({value.name!r})"
    if isinstance(value, np.generic):
        return source(np.asarray(value)) + "[()]"
    if isinstance(value, Operator):
        return f"tg.ops.get({value.name!r})"
    if isinstance(value, (tuple, list)):
        inner = ", ".join(source(v) for v in value)
        return f"[{inner}]" if isinstance(value, list) else f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, float) and not np.isfinite(value):
        return f"float({str(value)!r})"
    if value is Ellipsis:
        return "..."
    return repr(value)


def results(value: Any) -> list[Any]:
    """One result or a tuple of them as a list of arrays (None stays)."""
    found = list(value) if isinstance(value, (tuple, list)) else [value]
    return [v._data if isinstance(v, Tensor) else v if v is None else np.asarray(v) for v in found]


def agree(what: str, got: Any, expected: Any, tolerance: float) -> None:
    """Asserts equal shapes and values within tolerance * (|expected| + largest |expected|); equal ones for integers and bools."""
    left, right = results(got), results(expected)
    assert len(left) == len(right), f"{what}: {len(left)} results, expected {len(right)}"
    for k, (a, b) in enumerate(zip(left, right, strict=True)):
        which = f"{what}, result {k}" if len(left) > 1 else what
        if a is None or b is None:
            assert a is b, f"{which}: {a!r}, expected {b!r}"
            continue
        assert a.shape == b.shape, f"{which}: shape {a.shape}, expected {b.shape}"
        if b.dtype.kind == "f" and a.dtype.kind == "f":
            x, y = a.astype(np.float64), b.astype(np.float64)
            scale = max(1.0, float(np.max(np.abs(y[np.isfinite(y)]), initial=0.0)))
            wrong = ~np.isclose(x, y, rtol=tolerance, atol=tolerance * scale, equal_nan=True)
        else:
            wrong = np.asarray(a != b)
        if wrong.any():
            place = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise AssertionError(
                f"{which}: element {place} of shape {a.shape} is {a[place]!r}, expected {b[place]!r}; {int(wrong.sum())} of "
                f"{wrong.size} elements differ by more than {tolerance:g}"
            )


def tensors_of(value: Any) -> list[Tensor]:
    """The Tensors of one result or of a tuple of them."""
    return [t for t in (value if isinstance(value, (tuple, list)) else [value]) if isinstance(t, Tensor)]


def as_function(sample: Sample, positions: list[int]) -> Any:
    """The operator as a function of the arrays at `positions` alone."""

    def function(*given: Tensor) -> Any:
        values: list[Any] = [a.copy() for a in sample.arrays]
        for i, t in zip(positions, given, strict=True):
            values[i] = t
        return sample.call_function(values)

    function.__qualname__ = sample.operator.name
    return function
