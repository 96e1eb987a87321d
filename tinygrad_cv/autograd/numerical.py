"""gradcheck and gradgradcheck, with PyTorch's signatures, on comparison.py.

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
from .comparison import double, gradient_function, name_of
from .differences import GradcheckError, Settings, random_upstreams
from .function import Function


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


def _checked(
    name: str, func: Callable[..., Any], inputs: tuple[Any, ...], wanted: list[int], first_order: bool, raise_exception: bool,
    eps: float | None, atol: float | None, rtol: float | None, nondet_tol: float, fast_mode: bool, seed: int, max_elements: int,
    undefined: bool, dtypes: bool, batched: bool, forward: bool,
) -> GradcheckResult:  # fmt: skip
    try:
        check, remark = double(name, func, inputs, wanted)
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
        if forward:
            more, how = check.run_forward(settings, fast_mode)
            mode += f" by reverse mode, {more} {how} by forward mode"
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


_NO_BATCHES = "forward mode (tg.autograd.functional.jvp) takes one direction at a time; leave it False"
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
    calls give. check_forward_ad: also J v by `functional.jvp`, against finite differences and against backward. ValueError for
    check_batched_forward_grad and masked=True, which ask for what is not there, and for check_backward_ad=False.

    Returns a result equal to True whose repr tells how many elements or directions were compared, and in which dtype. Raises
    GradcheckError with input, element, both values, both errors, step, dtype and seed (or returns False with
    `raise_exception=False`), also where nothing could be compared; ValueError if no input requires grad.

        >>> x = tg.randn(3, requires_grad=True)
        >>> tg.autograd.gradcheck(tg.exp, x)
        <gradcheck passed: 3 elements compared in float64>
    """
    _refuse(
        "gradcheck", masked=bool(masked) and _NO_SPARSE, check_batched_forward_grad=check_batched_forward_grad and _NO_BATCHES,
    )  # fmt: skip
    _refuse("gradcheck", **{"check_backward_ad=False": not check_backward_ad and _NOTHING_LEFT})
    given, wanted = _as_inputs("gradcheck", inputs)
    name = f"gradcheck of {name_of(func)}"
    return _checked(
        name, func, given, wanted, True, raise_exception, eps, atol, rtol, nondet_tol, fast_mode, seed, max_elements,
        check_undefined_grad, check_grad_dtypes, check_batched_grad, check_forward_ad,
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
    right. check_fwd_over_rev: also by `functional.jvp` of the gradients. ValueError for masked=True and check_rev_over_rev=False.
    """
    _refuse("gradgradcheck", masked=bool(masked) and _NO_SPARSE)
    _refuse("gradgradcheck", **{"check_rev_over_rev=False": not check_rev_over_rev and _NOTHING_LEFT})
    given, wanted = _as_inputs("gradgradcheck", inputs)
    name = f"gradgradcheck of {name_of(func)}"
    probe, _ = double(name, func, given, wanted)
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
        fast_mode, seed, max_elements, check_undefined_grad, check_grad_dtypes, check_batched_grad, check_fwd_over_rev,
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


__all__ = ["GradcheckError", "GradcheckResult", "gradcheck", "gradgradcheck"]
