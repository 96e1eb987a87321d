"""What an operator is tested on: a small language for its inputs, without importing a test library.

A domain is a function of a `Draw`, returning the arguments of one call. `Draw` has two makers: Hypothesis (tests, where a
failing example shrinks) and a NumPy generator (benchmarks, examples). `elementwise(...)` writes the domain of the common case.
"""

from __future__ import annotations

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


class Integers(NamedTuple):
    """Values of a tensor parameter: int64 from `low` up to but not including `high`."""

    low: int = -5
    high: int = 6


class Booleans(NamedTuple):
    """Values of a tensor parameter: True and False."""


class OneOf(NamedTuple):
    """Values of an attribute: one of `options`."""

    options: tuple[Any, ...]


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

    domain.parameters = parameters  # type: ignore[attr-defined]
    return domain


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
