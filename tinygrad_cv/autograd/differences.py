"""Finite differences of a function of arrays, element by element, and their comparison with analytic gradients.

A disagreement is measured again by Ridders' extrapolation (Ridders, Adv. Eng. Software 4, 1982) before it is reported, and a
point where the two one-sided derivatives differ is reported as a likely kink rather than as a wrong gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

Evaluate = Callable[[list[np.ndarray]], list[np.ndarray]]
Slope = Callable[[Any], float]


class GradcheckError(RuntimeError):
    """A gradient disagrees with finite differences, or nothing could be compared.

    kind: 'wrong gradient', 'likely kink', 'not finite', 'not deterministic' or 'nothing compared'. input_index, element,
    analytic, numeric, step and dtype say where and by how much, and are None where they do not apply.
    """

    def __init__(
        self,
        message: str,
        kind: str,
        input_index: int | None = None,
        element: tuple[int, ...] | None = None,
        analytic: float | None = None,
        numeric: float | None = None,
        step: float | None = None,
        dtype: np.dtype[Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.step = step
        self.dtype = dtype
        self.input_index = input_index
        self.element = element
        self.analytic = analytic
        self.numeric = numeric


class Settings(NamedTuple):
    """How finely to differentiate and how closely to agree, from the dtype unless the caller says otherwise.

    kinks_declared: a point where the derivative jumps is left out of the comparison, not reported.
    """

    eps: float
    atol: float
    rtol: float
    seed: int
    max_elements: int
    kinks_declared: bool = False

    @classmethod
    def of(
        cls, dtype: np.dtype[Any], eps: float | None, atol: float | None, rtol: float | None, seed: int, most: int
    ) -> Settings:
        default = (1e-5, 1e-7, 1e-6) if dtype.itemsize == 8 else (5e-3, 1e-2, 1e-2) if dtype.itemsize == 4 else (5e-2, 0.1, 0.1)
        step, absolute, relative = (d if g is None else float(g) for d, g in zip(default, (eps, atol, rtol), strict=True))
        return cls(step, absolute, relative, seed, most)


def random_upstreams(shapes: Sequence[tuple[int, ...]], dtype: Any, seed: int) -> list[np.ndarray]:
    """Upstream gradients with every element between 0.5 and 1.5 in size and of random sign, so that none goes unseen."""
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.uniform(0.5, 1.5, s) * rng.choice([-1.0, 1.0], s), dtype) for s in shapes]


def _weighted(upstreams: list[np.ndarray], values: list[np.ndarray]) -> float:
    return float(sum(np.vdot(u, v) for u, v in zip(upstreams, values, strict=True)))


class _Line:
    """The function along one direction through the point: t -> <upstream, f(x + t * direction)>."""

    def __init__(
        self, evaluate: Evaluate, arrays: list[np.ndarray], which: int, upstreams: list[np.ndarray], direction: Any
    ) -> None:
        self.evaluate, self.arrays, self.which, self.upstreams, self.direction = evaluate, arrays, which, upstreams, direction

    def values(self, t: float) -> list[np.ndarray]:
        moved = [a.copy() for a in self.arrays]
        target = moved[self.which]
        if isinstance(self.direction, np.ndarray):
            target += (t * self.direction).astype(target.dtype)
        else:
            target.reshape(-1)[self.direction] += t  # the copy is contiguous
        return [np.asarray(v, np.float64) for v in self.evaluate(moved)]

    def central(self, h: float) -> float:
        """(f(x + h) - f(x - h)) / 2h. The outputs are subtracted before they are weighed, which loses fewer digits."""
        above, below = self.values(h), self.values(-h)
        return _weighted(self.upstreams, [a - b for a, b in zip(above, below, strict=True)]) / (2 * h)

    def bend(self, h: float) -> float:
        """(f(x + h) - 2 f(x) + f(x - h)) / h^2: equal at two steps where f is smooth, growing as 1/h at a kink."""
        above, here, below = self.values(h), self.values(0.0), self.values(-h)
        return _weighted(self.upstreams, [(a - c) - (c - b) for a, c, b in zip(above, here, below, strict=True)]) / h**2

    def chord(self, h: float) -> float:
        """The steeper of the slopes to f(x + h) and to f(x - h), as a size."""
        above, here, below = self.values(h), self.values(0.0), self.values(-h)
        sides = ([a - c for a, c in zip(p, q, strict=True)] for p, q in ((above, here), (here, below)))
        return max(abs(_weighted(self.upstreams, side)) for side in sides) / h

    def ridders(self, h: float, rows: int = 6) -> tuple[float, float]:
        """The derivative extrapolated to step 0 from steps h, h/2, h/4 ..., and an estimate of its error."""
        table = [[self.central(h)]]
        best, error = table[0][0], np.inf
        for i in range(1, rows):
            row = [self.central(h / 2**i)]
            for j in range(1, i + 1):
                row.append(row[-1] + (row[-1] - table[-1][j - 1]) / (4**j - 1))
                this = max(abs(row[j] - row[j - 1]), abs(row[j] - table[-1][j - 1]))
                if this < error:
                    best, error = row[j], this
            table.append(row)
        return best, error

    def kinked(self, h: float, scale: float) -> bool:
        """Whether differences at h and h/8 tell of a jump within h: of the derivative (second ones grow) or of the value (first)."""
        wide, narrow = self.bend(h), self.bend(h / 8)
        if abs(wide - narrow) > 0.5 * max(abs(wide), abs(narrow)) + 1e-13 * scale / (h / 8) ** 2:
            return True
        slope, steeper = self.central(h), self.central(h / 8)
        return abs(steeper) > 4 * abs(slope) + 1e-12 * scale / h


def compare(
    name: str,
    evaluate: Evaluate,
    arrays: list[np.ndarray],
    analytic: Mapping[int, np.ndarray | Slope],
    upstreams: list[np.ndarray],
    settings: Settings,
    directional: bool = False,
) -> tuple[int, str]:
    """Compares `analytic` (by input position) with finite differences of `evaluate`; the number compared, and the mode.

    analytic: the gradient of an input, or a function that gives the derivative along a direction (an array, or the position of one
    element). Agreement is |analytic - numeric| <= atol * min(1, scale) + rtol * |numeric| + rounding, where scale is the largest
    derivative and rounding what the outputs' last digits make of the step; a function of small values is thus held to small errors.
    Where no derivative is larger than what the last digits of values near 1, on the way to the outputs, make of the step, all are 0.
    Raises GradcheckError at the worst of the elements of the first input that disagrees.
    """
    here = [np.asarray(v, np.float64) for v in evaluate([a.copy() for a in arrays])]
    weight = float(sum(np.abs(u * v).sum() for u, v in zip(upstreams, here, strict=True)))
    directional = directional or sum(arrays[i].size for i in analytic) > settings.max_elements
    compared = left_out = 0
    rng = np.random.default_rng(settings.seed + 1)
    upstreams = [np.asarray(u, np.float64) for u in upstreams]
    largest = max((float(np.abs(u).max(initial=0.0)) for u in upstreams), default=0.0)
    for i, gradient in analytic.items():
        directions: Sequence[Any] = range(arrays[i].size)
        if directional:
            directions = [
                np.asarray(rng.choice([-1.0, 1.0], arrays[i].shape) * rng.uniform(0.5, 1.5, arrays[i].shape))
                for _ in range(8 if arrays[i].size else 0)
            ]
        places = [_measured(evaluate, arrays, i, upstreams, d, gradient, settings.eps) for d in directions]
        fine = np.finfo(arrays[i].dtype).eps < 1e-10
        scale = max((abs(v) for p in places for v in (p.expected, p.measured) if np.isfinite(v)), default=1.0)
        unit = min(1.0, max(scale, 1e-3 * weight)) if fine else 1.0
        failures = []
        for place in places:
            noise = 16 * np.finfo(arrays[i].dtype).eps * weight / place.step if fine else 0.0
            if fine and scale <= np.finfo(arrays[i].dtype).eps * largest / place.step:
                continue
            allowed = settings.atol * unit + settings.rtol * abs(place.measured) + noise
            if abs(place.expected - place.measured) <= allowed:
                continue
            left = _settled(place, settings, unit) if fine else place
            if left is not None:
                failures.append(left)
        if settings.kinks_declared:
            at_kinks = [p for p in failures if p.line.kinked(100 * p.step, weight)]
            left_out += len(at_kinks)
            failures = [p for p in failures if p not in at_kinks]
        compared += len(places)
        if failures:
            _report(name, i, arrays[i], failures, len(places), settings, weight, directional)
    mode = "directions" if directional else "elements"
    return compared - left_out, mode + (f" ({left_out} more at declared kinks left out)" if left_out else "")


class _Place(NamedTuple):
    """One derivative: the line it is along, its two values, and the step."""

    line: _Line
    at: float  # the element's value; 0 for a direction
    expected: float
    measured: float
    step: float


def _measured(
    evaluate: Evaluate, arrays: list[np.ndarray], i: int, upstreams: list[np.ndarray], d: Any, gradient: Any, eps: float
) -> _Place:
    whole = isinstance(d, np.ndarray)
    if callable(gradient):
        expected = float(gradient(d))
    else:
        expected = float(np.vdot(np.asarray(gradient, np.float64), d)) if whole else float(gradient.flat[d])
    at = 0.0 if whole else float(arrays[i].flat[d])
    line = _Line(evaluate, arrays, i, upstreams, d)
    step = eps * max(1.0, abs(at))
    return _Place(line, at, expected, line.central(step), step)


def _settled(place: _Place, settings: Settings, unit: float) -> _Place | None:
    """None where the derivative agrees after all, measured by extrapolation from a wide step. Else the place, with a derivative that is
    a number if any step gave one.

    Where the wide step leaves the function's domain, or straddles a pole (the derivative at the point is steeper than any chord), a
    step that suits a small element decides.
    """
    wide, near = 100 * place.step, 0.05 * abs(place.at)
    for start in (wide, near):
        if start == near and not (0 < near < wide):
            break
        measured, error = place.line.ridders(start)
        if start == near and np.isfinite(place.measured) and not abs(measured) > 3 * place.line.chord(wide):
            break  # a kink between the steps
        slack = 10 * min(error, 1e-6 * (unit + abs(measured)))
        if abs(place.expected - measured) <= settings.atol * unit + settings.rtol * abs(measured) + slack:
            return None
        if not np.isfinite(place.measured) or start == near:
            place = place._replace(measured=measured, step=start)
    return place


def _report(
    name: str,
    i: int,
    array: np.ndarray,
    failures: list[_Place],
    total: int,
    settings: Settings,
    weight: float,
    directional: bool,
) -> None:
    kinks = [p for p in failures if p.line.kinked(100 * p.step, weight)]
    wrong = [p for p in failures if p not in kinks] if len(kinks) < len(failures) else []

    def gap(place: _Place) -> float:
        difference = abs(place.expected - place.measured)
        return difference if difference == difference else np.inf

    worst = max(wrong or kinks, key=gap)
    error, d = abs(worst.expected - worst.measured), worst.line.direction
    element = None if directional else tuple(int(k) for k in np.unravel_index(d, array.shape))
    value = "" if directional else f" (value {worst.at!r})"
    if wrong:
        place = "along a random direction" if directional else f"at index {element}{value}"
        where = f"wrong gradient for input {i} of shape {array.shape} {place}"
    else:
        place = "along a random direction" if directional else f"at index {element}"
        where = f"likely kink {place} of input {i}, shape {array.shape}{value}"
    tail = "" if wrong else (
        "; the one-sided derivatives differ there, so it is no point to compare at: move the input away from the kink, or "
        "declare the value chosen"
    )  # fmt: skip
    raise GradcheckError(
        f"{name}: {where}: analytic {worst.expected!r}, numeric {worst.measured!r}, absolute "
        f"error {error:.3g}, relative error {error / max(abs(worst.measured), 1e-300):.3g}; {len(failures)} of {total} "
        f"{'directions' if directional else 'elements'} disagree; step {worst.step:g}, {array.dtype}, seed {settings.seed}{tail}",
        "wrong gradient" if wrong else "likely kink", i, element, worst.expected, worst.measured, worst.step, array.dtype,
    )  # fmt: skip


__all__ = ["GradcheckError", "Settings", "compare", "random_upstreams"]
