"""What an operator is tested on: a small language for its inputs, without importing a test library.

A domain is a function of a `Draw`, returning the arguments of one call. `Draw` has two makers: Hypothesis (tests, where a
failing example shrinks) and a NumPy generator (benchmarks, examples). `elementwise(...)` writes the domain of the common case.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np


class Call(NamedTuple):
    """The arguments of one call; arrays stand where tensors go."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Draw(Protocol):
    """Random choices that a domain is written with. Float arrays are float64 here; tests cast them to what they test."""

    def integer(self, low: int, high: int) -> int:
        """An integer between both bounds, which may occur."""

    def choice(self, options: Sequence[Any]) -> Any:
        """One of the options; the first is the simplest."""

    def boolean(self) -> bool:
        """True or False."""

    def number(self, low: float, high: float) -> float:
        """A float between the bounds."""

    def shape(self, ndim: int | tuple[int, int] = (0, 3), low: int = 1, high: int = 4) -> tuple[int, ...]:
        """Sizes between `low` and `high`, for `ndim` axes or for a number of axes in a range."""

    def real(self, shape: Sequence[int], low: float = -2.0, high: float = 2.0, avoid: Sequence[float] = ()) -> np.ndarray:
        """Floats in [low, high], none nearer than 0.05 to a value in `avoid`."""

    def distinct(self, shape: Sequence[int], low: float = -2.0, high: float = 2.0) -> np.ndarray:
        """Floats no two of which are near each other, for operators where order matters."""

    def integers(self, shape: Sequence[int], low: int, high: int) -> np.ndarray:
        """int64 values from `low` up to but not including `high`."""

    def mask(self, shape: Sequence[int]) -> np.ndarray:
        """Booleans."""

    def permutation(self, n: int) -> list[int]:
        """An order of 0 ... n - 1."""

    def broadcastable(self, shape: Sequence[int]) -> tuple[int, ...]:
        """A shape that broadcasts with `shape` to `shape`: some axes 1, some leading axes missing."""


class Real(NamedTuple):
    """Values of a tensor parameter: floats in [low, high] at a distance from `avoid`."""

    low: float = -2.0
    high: float = 2.0
    avoid: tuple[float, ...] = ()

    def __str__(self) -> str:
        kept = f", avoiding {', '.join(f'{a:g}' for a in self.avoid)}" if self.avoid else ""
        return f"real in [{self.low:g}, {self.high:g}]{kept}"


class Integers(NamedTuple):
    """Values of a tensor parameter: int64 from `low` up to but not including `high`."""

    low: int = -5
    high: int = 6

    def __str__(self) -> str:
        return f"integer in [{self.low}, {self.high - 1}]"


class Booleans(NamedTuple):
    """Values of a tensor parameter: True and False."""

    def __str__(self) -> str:
        return "True or False"


class OneOf(NamedTuple):
    """Values of an attribute: one of `options`."""

    options: tuple[Any, ...]

    def __str__(self) -> str:
        return "one of " + ", ".join(map(repr, self.options))


def call(*args: Any, **kwargs: Any) -> Call:
    """The arguments of one call, for domains written as functions."""
    return Call(args, kwargs)


Domain = Callable[[Draw], Call]


def elementwise(*parameters: Any, **attributes: Any) -> Domain:
    """The domain of an elementwise operator: a kind of values for each tensor parameter, whose shapes broadcast together.

    Attributes are passed by keyword, drawn from a `Real` (one number), `Integers` (one integer) or `OneOf`.
    """

    def values(draw: Draw, kind: Any, shape: tuple[int, ...]) -> np.ndarray:
        if isinstance(kind, Integers):
            return draw.integers(shape, kind.low, kind.high)
        if isinstance(kind, Booleans):
            return draw.mask(shape)
        return draw.real(shape, kind.low, kind.high, kind.avoid)

    def attribute(draw: Draw, kind: Any) -> Any:
        if isinstance(kind, OneOf):
            return draw.choice(kind.options)
        if isinstance(kind, Integers):
            return draw.integer(kind.low, kind.high - 1)
        return draw.number(kind.low, kind.high) if isinstance(kind, Real) else kind

    def domain(draw: Draw) -> Call:
        shape = draw.shape((0, 3))
        full = draw.integer(0, len(parameters) - 1)
        shapes = [shape if i == full else draw.broadcastable(shape) for i in range(len(parameters))]
        arrays = tuple(values(draw, k, s) for k, s in zip(parameters, shapes, strict=True))
        return Call(arrays, {name: attribute(draw, kind) for name, kind in attributes.items()})

    domain.parameters, domain.attributes = parameters, attributes  # type: ignore[attr-defined]
    return domain


def describe(domain: Domain, signature: inspect.Signature) -> str:
    """What a domain holds, in words, for an operator of this signature.

    Of `elementwise(...)` it is what was declared, as in "input: real in [-3, 3], avoiding 0". A domain written as a function is told by
    its docstring, if it has one, and by what it gives in twelve draws: "drawn: input: 3 to 4 axes, real in [-2, 2]; dim: -1, 0".
    """
    names = list(signature.parameters)
    parameters = getattr(domain, "parameters", None)
    if parameters is not None:
        attributes = {n: k if isinstance(k, (Real, Integers, OneOf)) else repr(k) for n, k in domain.attributes.items()}  # type: ignore[attr-defined]
        listed = (*zip(names, parameters, strict=False), *attributes.items())
        return "; ".join(f"{name}: {kind}" for name, kind in listed) or "no arguments"
    lines = (inspect.getdoc(domain) or "").split("\n\n")[0].split()
    words = " ".join(lines) + " " if lines else ""
    found: dict[str, list[Any]] = {}
    try:
        for seed in range(12):
            call = domain(NumpyDraw(seed))
            for name, value in signature.bind_partial(*call.args, **call.kwargs).arguments.items():
                found.setdefault(name, []).append(value)
    except Exception as error:  # a listing of all operators must not end at one whose domain is wrong; its test says more
        return f"{words}raises {type(error).__name__}: {error}"
    return f"{words}drawn: " + "; ".join(f"{name}: {_summary(values)}" for name, values in found.items())


def _summary(values: list[Any]) -> str:
    """Drawn values of one parameter in words: axes and range of arrays, the first few different ones of anything else."""
    flat = [v for value in values for v in (value if isinstance(value, (tuple, list)) else [value])]
    arrays = [a for a in flat if isinstance(a, np.ndarray)]
    if not arrays:
        different = list(dict.fromkeys(map(repr, values)))
        return ", ".join(different[:4]) + (", ..." if len(different) > 4 else "")
    axes = sorted({a.ndim for a in arrays})
    count = f"{axes[0]} ax{'is' if axes[0] == 1 else 'es'}" if len(axes) == 1 else f"{axes[0]} to {axes[-1]} axes"
    filled = [a for a in arrays if a.size]
    kind = {"f": "real", "i": "integer", "u": "integer", "b": "True or False"}[arrays[0].dtype.kind]
    text = f"{count}, {kind}"
    if filled and kind != "True or False":
        low, high = min(float(a.min()) for a in filled), max(float(a.max()) for a in filled)
        text += f" in [{low:.3g}, {high:.3g}]"
    several = any(isinstance(v, (tuple, list)) for v in values)
    return ("several of " if several else "") + text + (", or None" if any(v is None for v in flat) else "")


class NumpyDraw:
    """The choices made by a NumPy generator: `NumpyDraw(seed)`."""

    def __init__(self, seed: int | np.random.Generator = 0) -> None:
        self.rng = np.random.default_rng(seed)

    def integer(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def choice(self, options: Sequence[Any]) -> Any:
        return options[self.integer(0, len(options) - 1)]

    def boolean(self) -> bool:
        return bool(self.integer(0, 1))

    def number(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def shape(self, ndim: int | tuple[int, int] = (0, 3), low: int = 1, high: int = 4) -> tuple[int, ...]:
        axes = ndim if isinstance(ndim, int) else self.integer(*ndim)
        return tuple(self.integer(low, high) for _ in range(axes))

    def real(self, shape: Sequence[int], low: float = -2.0, high: float = 2.0, avoid: Sequence[float] = ()) -> np.ndarray:
        values = np.asarray(self.rng.uniform(low, high, tuple(shape)))
        for point in avoid:
            near = np.abs(values - point) < 0.05
            side = np.where((values >= point) & (point + 0.05 <= high) | (point - 0.05 < low), 1.0, -1.0)
            values = np.where(near, point + side * (0.05 + np.abs(values - point)), values)
        return np.asarray(values)

    def distinct(self, shape: Sequence[int], low: float = -2.0, high: float = 2.0) -> np.ndarray:
        size = int(np.prod(tuple(shape), dtype=int))
        steps = (self.rng.permutation(size) + 0.5 + self.rng.uniform(-0.2, 0.2, size)) / max(size, 1)
        return np.asarray(low + (high - low) * steps).reshape(tuple(shape))

    def integers(self, shape: Sequence[int], low: int, high: int) -> np.ndarray:
        return np.asarray(self.rng.integers(low, high, tuple(shape)), np.int64)

    def mask(self, shape: Sequence[int]) -> np.ndarray:
        return np.asarray(self.rng.integers(0, 2, tuple(shape))).astype(bool)

    def permutation(self, n: int) -> list[int]:
        return [int(i) for i in self.rng.permutation(n)]

    def broadcastable(self, shape: Sequence[int]) -> tuple[int, ...]:
        kept = tuple(shape)[self.integer(0, len(shape)) :] if self.integer(0, 2) == 0 else tuple(shape)
        return tuple(1 if self.integer(0, 3) == 0 else s for s in kept)
