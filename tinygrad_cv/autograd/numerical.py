"""gradcheck and gradgradcheck: what backward says against what finite differences (differences.py) say.

The upstream gradient is random and never constant (a rule that ignores or reverses it passes any check with ones); every
element is compared while the input is small, random directions beyond that, and the result says which.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .._tensor import Tensor, wrap
from . import grad as _grad
from .differences import GradcheckError, Settings, compare, random_upstreams
from .modes import enable_grad, no_grad


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
