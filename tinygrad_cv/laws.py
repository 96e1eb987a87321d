"""Laws that an operator obeys whatever its arguments, for the tests to check.

    @op("mul", ..., laws=(Linear("input"), Linear("other"), Symmetric("input", "other")))

Each law is checked on every call that the tests draw from the operator's domain, in float64. Parameters are those of the operator;
functions (`when`, `by`) ask for what they need by name, as backward rules do: any parameter of the call, and what the law says.
A law of your own is a subclass of `Law` with a `formula` and a `check`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np


class Trial(Protocol):
    """One call of the operator, as a law sees it. Arrays are float64 where they are floats; a list of arrays is one value."""

    values: dict[str, Any]  # every argument by the name of its parameter, with defaults

    def apply(self, **changed: Any) -> list[np.ndarray]:
        """The operator's results, with some arguments changed."""

    def ask(self, function: Callable[..., Any], **more: Any) -> Any:
        """`function`, called with the arguments it asks for by name."""

    def call(self, operator: str, *args: Any, **kwargs: Any) -> list[np.ndarray]:
        """The results of another operator."""

    def random(self, like: Any) -> Any:
        """Random numbers in (-2, 2) of the shape of `like`; for a list, a list."""

    def agree(self, got: Sequence[Any], expected: Sequence[Any], what: str = "") -> None:
        """Counts a comparison; AssertionError where the values differ."""


def _map(function: Callable[..., Any], *values: Any) -> Any:
    """`function` of arrays, or of the arrays of lists."""
    if isinstance(values[0], (list, tuple)):
        return [_map(function, *each) for each in zip(*values, strict=True)]
    return function(*values)


class Law:
    """What every law has: the parameters it is about, and `when`, which says of a call whether the law holds for it.

    parameters: names of tensor parameters. when: a function that asks for arguments by name; without one the law holds always.
    """

    formula = ""

    def __init__(self, *parameters: str, when: Callable[..., bool] | None = None) -> None:
        if not parameters or not all(isinstance(p, str) for p in parameters):
            raise TypeError(f"{type(self).__name__}: expected names of tensor parameters, got {parameters!r}")
        self.parameters = parameters
        self.when = when

    def check(self, trial: Trial) -> None:
        """Compares, by `trial.agree`. A trial that has None in place of one of the parameters is not handed over."""
        raise NotImplementedError(f"{type(self).__name__} has no `check`")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.parameters))})"


class Linear(Law):
    """f(a x + b y) = a f(x) + b f(y), the named parameters together, all others held.

    Linear("input", "other") says it of the pair, as of a sum; two laws, Linear("input") and Linear("other"), say it of each, as of a
    product. zero: parameters (a bias) that are held at 0, or left out where they may be.
    """

    formula = "f(a x + b y) = a f(x) + b f(y)"

    def __init__(self, *parameters: str, zero: Sequence[str] = (), when: Callable[..., bool] | None = None) -> None:
        super().__init__(*parameters, when=when)
        self.zero = tuple(zero)

    def check(self, trial: Trial) -> None:
        """At the drawn x, a random y, a = 1.5 and b = -0.75."""
        held = {p: _map(np.zeros_like, trial.values[p]) for p in self.zero if trial.values[p] is not None}
        x = {p: trial.values[p] for p in self.parameters}
        y = {p: trial.random(v) for p, v in x.items()}
        mixed = {p: _map(lambda u, v: 1.5 * u - 0.75 * v, x[p], y[p]) for p in x}
        parts = zip(trial.apply(**x, **held), trial.apply(**y, **held), strict=True)
        trial.agree(trial.apply(**mixed, **held), [1.5 * u - 0.75 * v for u, v in parts])


class Homogeneous(Law):
    """f(c x) = c^degree f(x) for c > 0 (and, unless `positive`, for c < 0 with |c|^degree or c^degree for a whole degree)."""

    def __init__(
        self, *parameters: str, degree: float = 1, positive: bool = False, when: Callable[..., bool] | None = None
    ) -> None:
        super().__init__(*parameters, when=when)
        self.degree, self.positive = degree, positive or degree != int(degree)
        self.formula = f"f(c x) = c^{degree:g} f(x)" + (", c > 0" if self.positive else "")

    def check(self, trial: Trial) -> None:
        """At c = 1.75 and, unless `positive`, c = -0.5."""
        expected = trial.apply()
        for c in (1.75,) if self.positive else (1.75, -0.5):
            scaled = {p: _map(functools.partial(np.multiply, c), trial.values[p]) for p in self.parameters}
            trial.agree(trial.apply(**scaled), [c**self.degree * v for v in expected], f"c = {c}")


class Idempotent(Law):
    """f(f(x)) = f(x)."""

    formula = "f(f(x)) = f(x)"

    def check(self, trial: Trial) -> None:
        """Of the first result."""
        once = trial.apply()
        trial.agree(trial.apply(**{self.parameters[0]: once[0]})[:1], once[:1])


class Involution(Law):
    """f(f(x)) = x."""

    formula = "f(f(x)) = x"

    def check(self, trial: Trial) -> None:
        """Of the first result."""
        trial.agree(trial.apply(**{self.parameters[0]: trial.apply()[0]})[:1], [trial.values[self.parameters[0]]])


class Inverse(Law):
    """g(f(x)) = x, where g is the operator `of`.

    by: the arguments of g, as a function that asks for `out` (the result, or all of them as `outs`) and parameters of the call; by
    default g takes the result alone. when: where f is one to one.
    """

    def __init__(
        self, parameter: str, of: str, *, by: Callable[..., Any] | None = None, when: Callable[..., bool] | None = None
    ) -> None:
        super().__init__(parameter, when=when)
        self.of, self.by = of, by
        self.formula = f"{of}(f(x)) = x"

    def check(self, trial: Trial) -> None:
        """At the drawn x."""
        outs = trial.apply()
        given = (outs[0],) if self.by is None else trial.ask(self.by, out=outs[0], outs=outs)
        trial.agree(trial.call(self.of, *given)[:1], [trial.values[self.parameters[0]]])

    def __repr__(self) -> str:
        return f"Inverse({self.parameters[0]!r}, of={self.of!r})"


class Adjoint(Law):
    """<f(x), y> = <x, g(y)> for every y (the dot-product test): the operator `of` is the transpose of f, which is linear in x.

    by: the arguments of g, as a function that asks for `y` (shaped like the result) and parameters of the call. zero: parameters
    of f (a bias) that are left out, or 0.
    Claerbout: Earth Soundings Analysis, 1992, chapter 1.
    """

    def __init__(
        self,
        parameter: str,
        of: str,
        *,
        by: Callable[..., Any],
        zero: Sequence[str] = (),
        when: Callable[..., bool] | None = None,
    ) -> None:
        super().__init__(parameter, when=when)
        self.of, self.by, self.zero = of, by, tuple(zero)
        self.formula = f"<f(x), y> = <x, {of}(y)>"

    def check(self, trial: Trial) -> None:
        """For a random y."""
        held = {p: _map(np.zeros_like, trial.values[p]) for p in self.zero if trial.values[p] is not None}
        x = trial.values[self.parameters[0]]
        out = trial.apply(**held)[0]
        y = trial.random(out)
        back = trial.call(self.of, *trial.ask(self.by, y=y))[0]
        if back.shape != x.shape:
            raise AssertionError(f"{self.of} gives shape {back.shape} for x of shape {x.shape}")
        left, right = np.vdot(out, y), np.vdot(x, back)
        size = max(1.0, float(np.abs(out * y).sum()), float(np.abs(x * back).sum()))
        trial.agree([np.asarray(left / size)], [np.asarray(right / size)], f"<f(x), y> = {left:.12g}, <x, g(y)> = {right:.12g}")

    def __repr__(self) -> str:
        return f"Adjoint({self.parameters[0]!r}, of={self.of!r})"


class Symmetric(Law):
    """f(x, y) = f(y, x) for two parameters; sign=-1: f(x, y) = -f(y, x)."""

    def __init__(self, first: str, second: str, *, sign: int = 1, when: Callable[..., bool] | None = None) -> None:
        super().__init__(first, second, when=when)
        self.sign = sign
        self.formula = f"f(x, y) = {'-' if sign < 0 else ''}f(y, x)"

    def check(self, trial: Trial) -> None:
        """At the drawn arguments."""
        first, second = self.parameters
        swapped = trial.apply(**{first: trial.values[second], second: trial.values[first]})
        trial.agree(swapped, [self.sign * v if self.sign < 0 else v for v in trial.apply()])


class Equivariant(Law):
    """Base of laws about axes. axis: one or several, the name of the attribute that holds them, or a function that asks for
    arguments and gives them. out: the axis of the results that goes with it, in the same order; "same", or None where
    the results do not change at all.
    """

    def __init__(
        self,
        *parameters: str,
        axis: int | Sequence[int] | str | Callable[..., Any] = -1,
        out: int | str | None = "same",
        when: Callable[..., bool] | None = None,
    ) -> None:
        super().__init__(*parameters, when=when)
        self.axis, self.out = axis, out

    def axes(self, trial: Trial) -> list[int]:
        """The axes of the parameters, counted from the end."""
        given: Any = self.axis
        if isinstance(given, str):
            given = trial.values[given]
        elif callable(given):
            given = trial.ask(given)
        ndim = np.ndim(trial.values[self.parameters[0]])
        listed = range(ndim) if given is None else given if isinstance(given, (tuple, list)) else (given,)
        return [a % ndim - ndim for a in listed] if ndim else []

    def moved(self, results: list[np.ndarray], axis: int, move: Callable[[np.ndarray, int], np.ndarray]) -> list[np.ndarray]:
        """The results, moved as the law says they are when the parameters are moved along `axis`."""
        if self.out is None:
            return results
        place = axis if self.out == "same" else self.out
        return [move(v, place) for v in results]  # type: ignore[arg-type]


class PermutationEquivariant(Equivariant):
    """f(P x) = P f(x) for a permutation P of the entries along an axis; with out=None invariant, f(P x) = f(x)."""

    formula = "f(P x) = P f(x)"

    def check(self, trial: Trial) -> None:
        """For one rotation that is no reversal and the reversal."""
        expected = trial.apply()
        for axis in self.axes(trial):
            size = np.shape(trial.values[self.parameters[0]])[axis]
            for order in (np.roll(np.arange(size), 1), np.arange(size)[::-1]):
                permuted = {p: np.take(trial.values[p], order, axis) for p in self.parameters}
                moved = self.moved(expected, axis, functools.partial(_taken, order))
                trial.agree(trial.apply(**permuted), moved, f"axis {axis}, order {order.tolist()}")


class TranslationEquivariant(Equivariant):
    """f(T x) = T f(x), where T moves everything by one entry of the results along an axis.

    T leaves out the first `step` entries of x and the first entry of f(x), for operators whose window moves by `step` (one number, or
    one for each axis; a name or a function as for `axis`) and sees no padding. circular: T rolls x and f(x) by one instead.
    """

    formula = "f(T x) = T f(x)"

    def __init__(
        self,
        *parameters: str,
        axis: int | Sequence[int] | str | Callable[..., Any] = -1,
        out: int | str | None = "same",
        step: int | Sequence[int] | str | Callable[..., Any] = 1,
        circular: bool = False,
        when: Callable[..., bool] | None = None,
    ) -> None:
        super().__init__(*parameters, axis=axis, out=out, when=when)
        self.step, self.circular = step, circular

    def check(self, trial: Trial) -> None:
        """Along each axis in turn, where the results have two entries or more."""
        expected = trial.apply()
        axes = self.axes(trial)
        given: Any = trial.values[self.step] if isinstance(self.step, str) else self.step
        given = trial.ask(given) if callable(given) else given
        steps = given if isinstance(given, (tuple, list)) else [given] * len(axes)
        for axis, step in zip(axes, steps * (len(axes) if len(steps) == 1 else 1), strict=True):
            place = axis if self.out in ("same", None) else self.out
            if self.circular:
                shifted = {p: np.roll(trial.values[p], 1, axis) for p in self.parameters}
                moved = self.moved(expected, axis, lambda v, a: np.roll(v, 1, a))
            elif expected[0].shape[place] < 2:  # type: ignore[index]
                continue
            else:
                after = slice(step, None)
                shifted = {p: _along(trial.values[p], axis, after) for p in self.parameters}
                moved = self.moved(expected, axis, lambda v, a: _along(v, a, slice(1, None)))
            trial.agree(trial.apply(**shifted), moved, f"axis {axis}")


def _taken(order: np.ndarray, array: np.ndarray, axis: int) -> np.ndarray:
    return np.take(array, order, axis)


def _along(array: np.ndarray, axis: int, part: slice) -> np.ndarray:
    return array[(slice(None),) * (axis % array.ndim) + (part,)]


class Batched(Law):
    """f(x)[i] = f(x[i]): an application to a batch is one application for each of its elements.

    core: how many trailing axes one application needs; the axis before them is the batch, which the results have in front too. single:
    the operator takes one element without its batch axis (else it is given batches of one). axis: of the results; by default the
    first. All parameters are cut, those that are None, or have no batch axis, are not.
    """

    formula = "f(x)[i] = f(x[i])"

    def __init__(self, *parameters: str, core: int, single: bool = False, when: Callable[..., bool] | None = None) -> None:
        super().__init__(*parameters, when=when)
        self.core, self.single = core, single

    def check(self, trial: Trial) -> None:
        """Element by element along the first axis."""
        first = trial.values[self.parameters[0]]
        if first.ndim <= self.core:
            return
        whole = trial.apply()
        for i in range(first.shape[0]):
            one: Any = i if self.single else slice(i, i + 1)
            part = trial.apply(**{p: trial.values[p][one] for p in self.parameters if trial.values[p] is not None})
            trial.agree(part, [v[one] for v in whole], f"element {i} of the batch")


__all__ = [
    "Adjoint", "Batched", "Equivariant", "Homogeneous", "Idempotent", "Inverse", "Involution", "Law", "Linear",
    "PermutationEquivariant", "Symmetric", "TranslationEquivariant", "Trial",
]  # fmt: skip
