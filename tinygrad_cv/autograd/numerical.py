"""gradcheck and gradgradcheck: what backward says against what finite differences (differences.py) say.

The upstream gradient is random and never constant (a rule that ignores or reverses it passes any check with ones); every
element is compared while the input is small, random directions beyond that, and the result says which.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from .._tensor import Tensor, wrap
from ..registry import get as get_operator
from . import grad as _grad
from .differences import GradcheckError, Settings, compare, random_upstreams
from .function import Function
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

    def agree_when_some_are_undefined(self, upstreams: list[np.ndarray], total: list[np.ndarray]) -> None:
        """Backward from one output at a time, so that the others send nothing, must add up to backward from all together."""
        again = Check(self.name, self.func, self.inputs, self.wanted)
        leaves = [again.leaves[k] for k in self.wanted]
        sums = [np.zeros_like(a) for a in total]
        for output, u in zip(again.outputs, upstreams, strict=True):
            found = _grad([output], leaves, [wrap(u)], retain_graph=True, allow_unused=True)
            sums = [s if g is None else s + g._data for s, g in zip(sums, found, strict=True)]
        self._compare("the gradients of its outputs taken one by one do not add up to those taken together", sums, total)

    def agree_in_batches(self, settings: Settings) -> None:
        """grad(..., is_grads_batched=True) for three upstream gradients must give what three calls give."""
        again = Check(self.name, self.func, self.inputs, self.wanted)
        if not again.outputs:
            return
        leaves = [again.leaves[k] for k in self.wanted]
        dtype = self.arrays[self.wanted[0]].dtype
        drawn = [random_upstreams([t.shape for t in again.outputs], dtype, settings.seed + 10 + i) for i in range(3)]
        batch = [wrap(np.stack(column)) for column in zip(*drawn, strict=True)]
        together = _grad(again.outputs, leaves, batch, retain_graph=True, allow_unused=True, is_grads_batched=True)
        for i, upstreams in enumerate(drawn):
            one = [np.zeros_like(leaf._data) if g is None else g._data[i] for leaf, g in zip(leaves, together, strict=True)]
            self._compare(
                "a batch of upstream gradients gives other gradients than one at a time", one, self.gradients_again(upstreams)
            )

    def gradients_again(self, upstreams: list[np.ndarray]) -> list[np.ndarray]:
        """`gradients` on a graph of its own."""
        return Check(self.name, self.func, self.inputs, self.wanted).gradients(upstreams)

    def _compare(self, what: str, got: list[np.ndarray], expected: list[np.ndarray]) -> None:
        for k, a, b in zip(self.wanted, got, expected, strict=True):
            scale = float(np.max(np.abs(b), initial=1.0))
            if not np.allclose(a, b, rtol=0, atol=scale * np.finfo(b.dtype).eps ** 0.75):
                worst = float(np.max(np.abs(a - b)))
                raise GradcheckError(f"{self.name}: {what}: those for input {k} differ by {worst:g}", "wrong gradient", k)

    def run(
        self,
        settings: Settings,
        nondet_tol: float = 0.0,
        directional: bool = False,
        undefined: bool = False,
        dtypes: bool = False,
        batched: bool = False,
    ) -> tuple[int, str]:
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
            if dtypes and g.dtype != self.arrays[k].dtype:
                raise GradcheckError(
                    f"{self.name}: the gradient for input {k} has dtype {g.dtype}, the input {self.arrays[k].dtype}",
                    "wrong gradient",
                    k,
                )
            if not np.isfinite(g).all():
                raise GradcheckError(f"{self.name}: the gradient for input {k} is not finite", "not finite", k)
        if undefined and len(self.outputs) > 1:
            self.agree_when_some_are_undefined(upstreams, analytic)
        if batched:
            self.agree_in_batches(settings)
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
    undefined: bool, dtypes: bool, batched: bool,
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
        count, mode = check.run(settings, nondet_tol, fast_mode, undefined, dtypes, batched)
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


def _refuse(name: str, **asked: str | bool) -> None:
    """ValueError for the first option that was asked for; the text says why it is not there."""
    for option, reason in asked.items():
        if reason:
            raise ValueError(f"{name}: {option} is not supported: {reason}")


_NO_FORWARD = "there is no forward mode (tg.autograd.functional.jvp runs backward twice); leave it False"
_NO_SPARSE = "it is about sparse tensors, which there are none of; leave it out"
_NOTHING_LEFT = "there would be nothing to check; leave it True"


def gradcheck(
    func: Callable[..., Any],
    inputs: Any,
    *,
    eps: float | None = None,
    atol: float | None = None,
    rtol: float | None = None,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_batched_forward_grad: bool = False,
    check_forward_ad: bool = False,
    check_backward_ad: bool = True,
    fast_mode: bool = False,
    masked: bool | None = None,
    seed: int = 0,
    max_elements: int = 2000,
) -> GradcheckResult:
    """Compares backward through `func(*inputs)` with finite differences, at every element of every input that requires grad.

    func: takes the inputs, returns a Tensor or a tuple of them. inputs: a Tensor or a tuple; they are copied, contiguous, and
    float32 is checked in float64 wherever func allows it. eps, atol, rtol: step and tolerances, |analytic - numeric| <= atol +
    rtol |numeric|; by default from the dtype (1e-5, 1e-7, 1e-6 in float64). fast_mode, or more than `max_elements` elements:
    eight random directions instead of every element. nondet_tol: how far two calls with the same inputs may differ.
    check_undefined_grad: of several outputs, backward from each alone must add up to backward from all. check_grad_dtypes: a gradient
    has its input's dtype (backward itself insists on that). check_batched_grad: `grad(..., is_grads_batched=True)` gives what single
    calls give. ValueError for check_forward_ad, check_batched_forward_grad and masked=True, which ask for what is not there, and
    for check_backward_ad=False.

    Returns a result equal to True whose repr tells how many elements or directions were compared, and in which dtype. Raises
    GradcheckError with input, element, both values, both errors, step, dtype and seed (or returns False with
    `raise_exception=False`), also where nothing could be compared; ValueError if no input requires grad.

        >>> x = tg.randn(3, requires_grad=True)
        >>> tg.autograd.gradcheck(tg.exp, x)
        <gradcheck passed: 3 elements compared in float64>
    """
    _refuse(
        "gradcheck", check_forward_ad=check_forward_ad and _NO_FORWARD, masked=bool(masked) and _NO_SPARSE,
        check_batched_forward_grad=check_batched_forward_grad and _NO_FORWARD,
    )  # fmt: skip
    _refuse("gradcheck", **{"check_backward_ad=False": not check_backward_ad and _NOTHING_LEFT})
    given, wanted = _as_inputs("gradcheck", inputs)
    name = f"gradcheck of {_name_of(func)}"
    return _checked(
        name, func, given, wanted, True, raise_exception, eps, atol, rtol, nondet_tol, fast_mode, seed, max_elements,
        check_undefined_grad, check_grad_dtypes, check_batched_grad,
    )  # fmt: skip


def gradgradcheck(
    func: Callable[..., Any],
    inputs: Any,
    grad_outputs: Any = None,
    *,
    eps: float | None = None,
    atol: float | None = None,
    rtol: float | None = None,
    gen_non_contig_grad_outputs: bool = False,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_fwd_over_rev: bool = False,
    check_rev_over_rev: bool = True,
    fast_mode: bool = False,
    masked: bool = False,
    seed: int = 0,
    max_elements: int = 2000,
) -> GradcheckResult:
    """Compares the second derivative by backward through backward with finite differences of the first.

    Differentiates (inputs, upstream) -> gradients of `func`, so both what the rule does with the inputs and what it does with
    the upstream gradient are checked. grad_outputs: upstream gradients for func's outputs, random by default;
    gen_non_contig_grad_outputs: their memory has gaps. All else as in `gradcheck`; it does not check that the first derivative is
    right. ValueError for check_fwd_over_rev, masked=True and check_rev_over_rev=False.
    """
    _refuse("gradgradcheck", check_fwd_over_rev=check_fwd_over_rev and _NO_FORWARD, masked=bool(masked) and _NO_SPARSE)
    _refuse("gradgradcheck", **{"check_rev_over_rev=False": not check_rev_over_rev and _NOTHING_LEFT})
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
    if gen_non_contig_grad_outputs:
        func = _with_gaps(func)
    return _checked(
        name, gradient_function(func, len(given), wanted, probe.slots), (*given, *upstreams),
        [*wanted, *range(len(given), len(given) + len(upstreams))], False, raise_exception, eps, atol, rtol, nondet_tol,
        fast_mode, seed, max_elements, check_undefined_grad, check_grad_dtypes, check_batched_grad,
    )  # fmt: skip


class _Gaps(Function):
    """The identity, whose backward hands on the gradient in memory with gaps."""

    @staticmethod
    def forward(ctx: Any, input: Tensor) -> Tensor:
        return input.clone()  # type: ignore[attr-defined, no-any-return]

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        return get_operator("stack").function([upstream, upstream], -1).select(-1, 0)  # type: ignore[no-any-return]


def _with_gaps(func: Callable[..., Any]) -> Callable[..., Any]:
    """`func`, whose backward receives upstream gradients that are not contiguous."""

    @functools.wraps(func)
    def gapped(*values: Any) -> Any:
        result = func(*values)
        if isinstance(result, (tuple, list)):
            return tuple(_Gaps.apply(r) if isinstance(r, Tensor) and r.requires_grad else r for r in result)
        return _Gaps.apply(result)

    return gapped


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
