"""Finite differences of a function of arrays, element by element, and their comparison with analytic gradients.

A disagreement is measured again by Ridders' extrapolation (Ridders, Adv. Eng. Software 4, 1982) before it is reported, and a
point where the two one-sided derivatives differ is reported as a likely kink rather than as a wrong gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

Evaluate = Callable[[list[np.ndarray]], list[np.ndarray]]


class GradcheckError(RuntimeError):
    """A gradient disagrees with finite differences, or nothing could be compared.

    kind: 'wrong gradient', 'likely kink', 'not finite', 'not deterministic' or 'nothing compared'. input_index, element,
    analytic and numeric say where and by how much, and are None where they do not apply.
    """

    def __init__(
        self,
        message: str,
        kind: str,
        input_index: int | None = None,
        element: tuple[int, ...] | None = None,
        analytic: float | None = None,
        numeric: float | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.input_index = input_index
        self.element = element
        self.analytic = analytic
        self.numeric = numeric


class Settings(NamedTuple):
    """How finely to differentiate and how closely to agree, from the dtype unless the caller says otherwise."""

    eps: float
    atol: float
    rtol: float
    seed: int
    max_elements: int

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
        """Whether the second differences at h and h/8 tell of a jump in the derivative within h."""
        wide, narrow = self.bend(h), self.bend(h / 8)
        return abs(wide - narrow) > 0.5 * max(abs(wide), abs(narrow)) + 1e-13 * scale / (h / 8) ** 2


def compare(
    name: str,
    evaluate: Evaluate,
    arrays: list[np.ndarray],
    analytic: dict[int, np.ndarray],
    upstreams: list[np.ndarray],
    settings: Settings,
    directional: bool = False,
) -> tuple[int, str]:
    """Compares `analytic` (by input position) with finite differences of `evaluate`; the number compared, and the mode.

    Raises GradcheckError at the worst of the elements of the first input that disagrees.
    """
    here = [np.asarray(v, np.float64) for v in evaluate([a.copy() for a in arrays])]
    weight = float(sum(np.abs(u * v).sum() for u, v in zip(upstreams, here, strict=True)))
    directional = directional or sum(arrays[i].size for i in analytic) > settings.max_elements
    compared = 0
    rng = np.random.default_rng(settings.seed + 1)
    upstreams = [np.asarray(u, np.float64) for u in upstreams]
    for i, gradient in analytic.items():
        gradient = np.asarray(gradient, np.float64)
        directions: Sequence[Any] = range(arrays[i].size)
        if directional:
            directions = [rng.choice([-1.0, 1.0], arrays[i].shape) * rng.uniform(0.5, 1.5, arrays[i].shape) for _ in range(8)]
        failures = []
        for d in directions:
            size = 1.0 if directional else max(1.0, abs(float(arrays[i].flat[d])))
            h = settings.eps * size
            expected = float(np.vdot(gradient, d)) if directional else float(gradient.flat[d])
            line = _Line(evaluate, arrays, i, upstreams, d)
            measured = line.central(h)
            resolution = np.finfo(arrays[i].dtype).eps
            noise = 16 * resolution * weight / h if resolution < 1e-10 else 0.0
            compared += 1
            if abs(expected - measured) <= settings.atol + settings.rtol * abs(measured) + noise:
                continue
            if resolution < 1e-10:
                measured, error = line.ridders(100 * h)
                if abs(expected - measured) <= settings.atol + settings.rtol * abs(measured) + 10 * min(
                    error, 1e-6 * (1 + abs(measured))
                ):
                    continue
            failures.append((abs(expected - measured), d, expected, measured, h, line))
        if failures:
            _report(name, i, arrays[i], failures, len(directions), settings, weight, directional)
    return compared, "directions" if directional else "elements"


def _report(
    name: str, i: int, array: np.ndarray, failures: list[Any], total: int, settings: Settings, weight: float, directional: bool
) -> None:
    kinks = [f for f in failures if f[5].kinked(100 * f[4], weight)]
    wrong = [f for f in failures if f not in kinks] if len(kinks) < len(failures) else []
    error, d, expected, measured, h, _ = max(wrong or kinks, key=lambda f: f[0] if f[0] == f[0] else np.inf)
    element = None if directional else tuple(int(k) for k in np.unravel_index(d, array.shape))
    place = "along a random direction" if directional else f"at element {element} (value {float(array.flat[d])!r})"
    kind = "wrong gradient" if wrong else "likely kink"
    tail = "" if wrong else (
        "; the one-sided derivatives differ there, so it is no point to compare at: move the input away from the kink, or "
        "declare the value chosen"
    )  # fmt: skip
    raise GradcheckError(
        f"{name}: {kind} for input {i} of shape {array.shape} {place}: analytic {expected!r}, numeric {measured!r}, absolute "
        f"error {error:.3g}, relative error {error / max(abs(measured), 1e-300):.3g}; {len(failures)} of {total} "
        f"{'directions' if directional else 'elements'} disagree; step {h:g}, {array.dtype}, seed {settings.seed}{tail}",
        kind, i, element, expected, measured,
    )  # fmt: skip


__all__ = ["GradcheckError", "Settings", "compare", "random_upstreams"]
