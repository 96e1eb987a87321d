"""Numerical checks of gradients: what backward says against what finite differences say, element by element.

The upstream gradient is random and never constant (a rule that ignores or reverses it passes any check with ones); every
element is compared while the input is small, random directions beyond that, and the result says which. A disagreement is
measured again by Ridders' extrapolation (Ridders, Adv. Eng. Software 4, 1982) before it is reported, and a point where the two
one-sided derivatives differ is reported as a likely kink rather than as a wrong gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .._tensor import Tensor, wrap
from . import grad as _grad
from .modes import enable_grad, no_grad

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


class GradcheckResult(int):
    """What a check returns: equal to True, or to False if it failed with `raise_exception=False`. Its repr tells how it went."""

    compared: int
    mode: str
    dtype: np.dtype[Any]
    message: str

    def __new__(
        cls, passed: bool, compared: int = 0, mode: str = "", dtype: Any = "float64", message: str = ""
    ) -> GradcheckResult:
        self = super().__new__(cls, passed)
        self.compared, self.mode, self.dtype, self.message = compared, mode, np.dtype(dtype), message
        return self

    def __repr__(self) -> str:
        if not self:
            return f"<gradcheck failed: {self.message}>"
        return f"<gradcheck passed: {self.compared} {self.mode} compared in {self.dtype}>"


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
        chosen = (d if given is None else float(given) for d, given in zip(default, (eps, atol, rtol), strict=True))
        return cls(*chosen, seed, most)


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


def _name_of(func: Any) -> str:
    operator, owner = getattr(func, "operator", None), getattr(func, "__self__", None)
    if isinstance(owner, type):
        return f"{owner.__name__}.{func.__name__}"
    return operator.name if operator is not None else getattr(func, "__qualname__", None) or type(func).__name__


def _outputs(result: Any) -> list[Tensor]:
    found = list(result) if isinstance(result, (tuple, list)) else [result]
    return [t for t in found if isinstance(t, Tensor) and t.dtype.kind == "f"]


class Check:
    """One function at one point: its outputs and its analytic gradients, ready to be compared with finite differences."""

    def __init__(self, name: str, func: Callable[..., Any], inputs: tuple[Any, ...], wanted: list[int]) -> None:
        self.name, self.func, self.inputs, self.wanted = name, func, inputs, wanted
        self.arrays = [np.array(t._data, order="C") if isinstance(t, Tensor) else t for t in inputs]
        self.leaves = [
            (wrap(a.copy()).requires_grad_() if k in wanted else wrap(a)) if isinstance(t, Tensor) else t
            for k, (t, a) in enumerate(zip(inputs, self.arrays, strict=True))
        ]
        with enable_grad():
            everything = _outputs(func(*self.leaves))
        self.slots = [k for k, t in enumerate(everything) if t.requires_grad]
        self.outputs = [everything[k] for k in self.slots]

    def evaluate(self, moved: list[Any]) -> list[np.ndarray]:
        """The differentiable outputs as arrays, at another point (positions that are no tensors are as they were)."""
        with no_grad():
            everything = _outputs(
                self.func(*[wrap(m) if isinstance(t, Tensor) else t for t, m in zip(self.inputs, moved, strict=True)])
            )
        return [everything[k]._data for k in self.slots]

    def point(self) -> list[np.ndarray]:
        """The arrays of the inputs that are differentiated."""
        return [self.arrays[k] for k in self.wanted]

    def along(self, moved: list[np.ndarray]) -> list[np.ndarray]:
        """`evaluate` as a function of the differentiated inputs alone."""
        full = [a.copy() if isinstance(a, np.ndarray) else a for a in self.arrays]
        for k, m in zip(self.wanted, moved, strict=True):
            full[k] = m
        return self.evaluate(full)

    def gradients(self, upstreams: list[np.ndarray]) -> list[np.ndarray]:
        """The gradients by backward; zeros where no gradient arrives."""
        if not self.outputs:
            return [np.zeros_like(a) for a in self.point()]
        found = _grad(self.outputs, [self.leaves[k] for k in self.wanted], [wrap(u) for u in upstreams], allow_unused=True)
        return [np.zeros_like(a) if g is None else g._data for a, g in zip(self.point(), found, strict=True)]

    def run(self, settings: Settings, nondet_tol: float = 0.0, directional: bool = False) -> tuple[int, str]:
        """Compares; raises GradcheckError. The number compared, and the mode."""
        dtype = self.arrays[self.wanted[0]].dtype
        for t in self.outputs:
            if not np.isfinite(t._data).all():
                raise GradcheckError(
                    f"{self.name}: an output is not finite here, so there is no derivative to compare", "not finite"
                )
        again = self.along([a.copy() for a in self.point()])
        for t, a in zip(self.outputs, again, strict=True):
            worst = float(np.max(np.abs(t._data - a), initial=0.0))
            if worst > nondet_tol:
                raise GradcheckError(
                    f"{self.name}: two calls with the same inputs differ by {worst:g}; fix the random numbers inside the "
                    "function with tg.manual_seed, or pass nondet_tol",
                    "not deterministic",
                )
        upstreams = random_upstreams([t.shape for t in self.outputs], dtype, settings.seed)
        analytic = self.gradients(upstreams)
        for k, g in zip(self.wanted, analytic, strict=True):
            if not np.isfinite(g).all():
                raise GradcheckError(f"{self.name}: the gradient for input {k} is not finite", "not finite", k)
        point = [a.copy() for a in self.point()]
        count, mode = compare(self.name, self.along, point, dict(enumerate(analytic)), upstreams, settings, directional)
        if not count:
            raise GradcheckError(f"{self.name}: nothing was compared, all differentiable inputs are empty", "nothing compared")
        return count, mode


def _double(name: str, func: Callable[..., Any], inputs: tuple[Any, ...], wanted: list[int]) -> tuple[Check, str]:
    """The check in float64 where the function allows it, else in the inputs' own dtype, and a word on which."""
    lower = [k for k in wanted if inputs[k].dtype.itemsize < 8]
    if not lower:
        return Check(name, func, inputs, wanted), ""
    raised = tuple(wrap(t._data.astype(np.float64)) if isinstance(t, Tensor) and t.dtype.kind == "f" else t for t in inputs)
    try:
        check = Check(name, func, raised, wanted)
    except (TypeError, ValueError, RuntimeError):
        check = Check(name, func, inputs, wanted)
        return check, f" (the function does not take float64, so this ran in {inputs[lower[0]].dtype} with wide tolerances)"
    if all(t.dtype.itemsize == 8 for t in check.outputs):
        return check, ""
    return Check(name, func, inputs, wanted), " (the function rounds to a lower precision, so the tolerances are wide)"


def _checked(
    name: str, func: Callable[..., Any], inputs: tuple[Any, ...], wanted: list[int], first_order: bool, raise_exception: bool,
    eps: float | None, atol: float | None, rtol: float | None, nondet_tol: float, fast_mode: bool, seed: int, max_elements: int,
) -> GradcheckResult:  # fmt: skip
    try:
        check, remark = _double(name, func, inputs, wanted)
        if first_order and not check.outputs:
            raise GradcheckError(
                f"{name}: no floating output requires grad, so there is nothing to compare; the function may detach or run "
                "under no_grad", "nothing compared",
            )  # fmt: skip
        lowest = min((check.arrays[k].dtype for k in wanted), key=lambda d: d.itemsize)
        if remark:
            lowest = min((lowest, *(t.dtype for t in check.outputs)), key=lambda d: d.itemsize)
        settings = Settings.of(lowest, eps, atol, rtol, seed, max_elements)
        count, mode = check.run(settings, nondet_tol, fast_mode)
    except GradcheckError as error:
        if raise_exception:
            raise
        return GradcheckResult(False, message=str(error))
    return GradcheckResult(True, count, mode + remark, lowest)


def _as_inputs(name: str, inputs: Any) -> tuple[tuple[Any, ...], list[int]]:
    given = tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
    wanted = [k for k, t in enumerate(given) if isinstance(t, Tensor) and t.requires_grad]
    if not wanted:
        raise ValueError(f"{name}: no input requires grad, so there is nothing to check; pass tensors with requires_grad=True")
    return given, wanted


def gradcheck(
    func: Callable[..., Any],
    inputs: Any,
    *,
    eps: float | None = None,
    atol: float | None = None,
    rtol: float | None = None,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    fast_mode: bool = False,
    seed: int = 0,
    max_elements: int = 2000,
) -> GradcheckResult:
    """Compares backward through `func(*inputs)` with finite differences, at every element of every input that requires grad.

    func: takes the inputs, returns a Tensor or a tuple of them. inputs: a Tensor or a tuple; they are copied, contiguous, and
    float32 is checked in float64 wherever func allows it. eps, atol, rtol: step and tolerances, |analytic - numeric| <= atol +
    rtol |numeric|; by default from the dtype (1e-5, 1e-7, 1e-6 in float64). fast_mode, or more than `max_elements` elements:
    eight random directions instead of every element. nondet_tol: how far two calls with the same inputs may differ.

    Returns a result equal to True whose repr tells how many elements or directions were compared, and in which dtype. Raises
    GradcheckError with input, element, both values, both errors, step, dtype and seed (or returns False with
    `raise_exception=False`), also where nothing could be compared; ValueError if no input requires grad.

        >>> x = tg.randn(3, requires_grad=True)
        >>> tg.autograd.gradcheck(tg.exp, x)
        <gradcheck passed: 3 elements compared in float64>
    """
    given, wanted = _as_inputs("gradcheck", inputs)
    name = f"gradcheck of {_name_of(func)}"
    return _checked(
        name, func, given, wanted, True, raise_exception, eps, atol, rtol, nondet_tol, fast_mode, seed, max_elements
    )  # fmt: skip


def gradgradcheck(
    func: Callable[..., Any],
    inputs: Any,
    grad_outputs: Any = None,
    *,
    eps: float | None = None,
    atol: float | None = None,
    rtol: float | None = None,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    fast_mode: bool = False,
    seed: int = 0,
    max_elements: int = 2000,
) -> GradcheckResult:
    """Compares the second derivative by backward through backward with finite differences of the first.

    Differentiates (inputs, upstream) -> gradients of `func`, so both what the rule does with the inputs and what it does with
    the upstream gradient are checked. grad_outputs: upstream gradients for func's outputs, random by default. All else as in
    `gradcheck`; it does not check that the first derivative is right.
    """
    given, wanted = _as_inputs("gradgradcheck", inputs)
    name = f"gradgradcheck of {_name_of(func)}"
    probe, _ = _double(name, func, given, wanted)
    if not probe.outputs:
        raise GradcheckError(f"{name}: no floating output requires grad, so there is nothing to compare", "nothing compared")
    if grad_outputs is None:
        arrays = random_upstreams([t.shape for t in probe.outputs], np.float64, seed + 2)
        upstreams = [wrap(u.astype(t.dtype)) for u, t in zip(arrays, probe.outputs, strict=True)]
    else:
        upstreams = list(grad_outputs) if isinstance(grad_outputs, (tuple, list)) else [grad_outputs]
    return _checked(
        name, gradient_function(func, len(given), wanted, probe.slots), (*given, *upstreams),
        [*wanted, *range(len(given), len(given) + len(upstreams))], False, raise_exception, eps, atol, rtol, nondet_tol,
        fast_mode, seed, max_elements,
    )  # fmt: skip


def gradient_function(func: Callable[..., Any], inputs: int, wanted: list[int], slots: list[int]) -> Callable[..., Any]:
    """The function (inputs, upstreams) -> gradients of `func` for the `wanted` inputs, itself differentiable."""

    def gradients(*values: Any) -> tuple[Tensor, ...]:
        given, upstreams = list(values[:inputs]), values[inputs:]
        recorded = any(isinstance(t, Tensor) and t.requires_grad for t in values)
        if not recorded:
            for k in wanted:
                given[k] = given[k].detach().requires_grad_()
        with enable_grad():
            everything = _outputs(func(*given))
            found = _grad(
                [everything[k] for k in slots], [given[k] for k in wanted], upstreams, create_graph=recorded, allow_unused=True
            )
        return tuple(wrap(np.zeros_like(given[k]._data)) if g is None else g for k, g in zip(wanted, found, strict=True))

    gradients.__qualname__ = f"the gradient of {_name_of(func)}"
    return gradients


__all__ = ["GradcheckError", "GradcheckResult", "gradcheck", "gradgradcheck"]
