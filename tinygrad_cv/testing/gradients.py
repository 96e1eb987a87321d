"""check_gradients: any function's derivatives, to any order, by both modes, against finite differences; failures that repeat themselves.

    check_gradients(tg.nn.functional.gelu, tg.randn(3, 4, requires_grad=True))
    check_gradients(lambda x, w: tg.conv2d(x, w, padding=1), (x, w), order=1, modes=["reverse"])

It is `gradcheck`'s core (autograd/comparison.py and differences.py) with three things more: forward mode, the kinks that operators
declare, and a message whose program, pasted into an empty file, fails in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .._tensor import Tensor, wrap
from ..autograd.comparison import FORWARD_ELEMENTS, Check, double, gradient_function, name_of
from ..autograd.differences import GradcheckError, Settings, random_upstreams
from ..autograd.numerical import GradcheckResult
from ..registry import Operator
from .messages import explained

MODES = ("reverse", "forward")
_AWAY = 0.02  # how far from a declared kink an element is moved, times its size where that is over 1


class GradientsResult(GradcheckResult):
    """What `check_gradients` returns: equal to True, or to False if it failed with `raise_exception=False`. Its repr tells how it went."""

    def __repr__(self) -> str:
        if not self:
            return f"<check_gradients failed: {self.message}>"
        return f"<check_gradients passed: {self.mode} compared in {self.dtype}>"


def check_gradients(
    fn: Callable[..., Any],
    inputs: Any,
    order: int = 2,
    modes: Sequence[str] = MODES,
    *,
    kinks: Mapping[float, float] | Iterable[float] | None = None,
    eps: float | None = None,
    atol: float | None = None,
    rtol: float | None = None,
    nondet_tol: float = 0.0,
    max_elements: int = 2000,
    seed: int = 0,
    raise_exception: bool = True,
) -> GradientsResult:
    """Compares the derivatives of `fn(*inputs)` up to `order` with finite differences, by backward ("reverse") and `jvp` ("forward").

    reverse: J^T u for a random u, at every element; of more than `max_elements` elements, along eight random directions. forward: J v
    for every element v of up to 100, else for eight random directions of each input, and <u, J v> = <J^T u, v>. Order n differentiates
    the gradient of order n - 1, by its inputs and by its upstream gradient.

    fn: an operator, a function or a module that takes the inputs and returns a Tensor or several. inputs: one or a tuple; Tensors that
    require grad and floating NumPy arrays are differentiated (but for operands that an operator has no gradient for), all else is
    passed on. float32 is checked in float64 wherever fn allows it, and the result says so where not.
    kinks: places on the number line where fn is not differentiable in an input. By default those that an operator declares, for its
    first operand; elements nearby are moved away before anything is compared. Where an operator declares conditions ("input == other")
    instead of places, elements at which the derivative jumps are left out. eps, atol, rtol: step and tolerances, by default from
    the dtype; a disagreement is measured again by Ridders' extrapolation. nondet_tol: how far two calls may differ.

    Returns a result equal to True whose repr tells what was compared. Raises GradcheckError (or returns False with
    `raise_exception=False`) for a wrong gradient, a likely kink that was not declared, an output or gradient that is not finite, and where
    nothing was compared; its message holds operator, package, input, element, both values and errors, step, dtype, seed, formula
    and a program that repeats the failure. ValueError for no differentiable input, an order below 1, unknown modes.

        >>> check_gradients(tg.tanh, tg.tensor([0.3, -1.2], requires_grad=True), order=1)
        <check_gradients passed: reverse: 2 elements, forward: 2 elements compared in float64>
    """
    if isinstance(order, bool) or not isinstance(order, int) or order < 1:
        raise ValueError(f"check_gradients: order must be 1 or more, got {order!r}")
    modes = (modes,) if isinstance(modes, str) else tuple(modes)
    if not modes or set(modes) - set(MODES):
        raise ValueError(f"check_gradients: modes must be some of {', '.join(map(repr, MODES))}, got {modes!r}")
    operator = fn if isinstance(fn, Operator) else getattr(fn, "operator", None)
    given, wanted = _inputs(inputs, operator)
    places, conditions = _kinks(operator, kinks)
    moved = 0
    if places:
        given, moved = _moved_away(given, wanted if kinks is not None else wanted[: wanted[:1] == [0]], places)
    options: dict[str, Any] = {"eps": eps, "atol": atol, "rtol": rtol, "nondet_tol": nondet_tol, "max_elements": max_elements}
    name = f"check_gradients of {name_of(fn)}"
    try:
        result = _compare(name, fn, given, wanted, order, modes, conditions, seed, **options)
    except GradcheckError as error:
        defaults: dict[str, Any] = {"eps": None, "atol": None, "rtol": None, "nondet_tol": 0.0, "max_elements": 2000}
        asked = {k: v for k, v in options.items() if v != defaults[k]}
        if kinks is not None:
            asked["kinks"] = tuple(kinks)
        error.args = (explained(error, fn, given, wanted, {"order": order, "modes": modes, **asked, "seed": seed}),)
        if raise_exception:
            raise
        return GradientsResult(False, message=str(error))
    if moved:
        result.mode += f" ({moved} moved away from declared kinks)"
    return result


def _compare(
    name: str,
    fn: Callable[..., Any],
    inputs: tuple[Any, ...],
    wanted: list[int],
    order: int,
    modes: Sequence[str],
    conditions: bool,
    seed: int,
    eps: float | None,
    atol: float | None,
    rtol: float | None,
    nondet_tol: float,
    max_elements: int,
) -> GradientsResult:
    if not any(inputs[k].numel() for k in wanted):
        raise GradcheckError(f"{name}: nothing was compared, all differentiable inputs are empty", "nothing compared")
    check, remark = double(name, fn, inputs, wanted)
    if not check.outputs:
        raise GradcheckError(
            f"{name}: no floating output requires grad, so there is nothing to compare; the function may detach or run under no_grad",
            "nothing compared",
        )
    if not any(t.numel() for t in check.outputs):
        raise GradcheckError(f"{name}: nothing was compared, all outputs are empty", "nothing compared")
    lowest = min((check.arrays[k].dtype for k in wanted), key=lambda d: d.itemsize)
    if remark:
        lowest = min((lowest, *(t.dtype for t in check.outputs)), key=lambda d: d.itemsize)
    total, told = 0, []
    for n in range(1, order + 1):
        if n > 1:
            check = _derived(f"{name}, order {n}", check, seed + n)
            if not check.outputs:  # a linear function: its gradient depends on the upstream gradient alone, or on nothing
                told.append(f"order {n}: the derivatives of order {n - 1} depend on nothing")
                break
        settings = Settings.of(lowest, eps, atol, rtol, seed, max_elements)._replace(kinks_declared=conditions)
        if n > 1 and atol is None and rtol is None and lowest.itemsize == 8:
            settings = settings._replace(atol=1e-6, rtol=1e-5)
        parts = []
        for mode in modes:
            if mode == "reverse":
                count, how = check.run(settings, nondet_tol)
            else:
                check.must_be_finite()
                count, how = check.run_forward(settings)
            if not count:
                raise GradcheckError(f"{name}: nothing was compared, all elements lie at declared kinks", "nothing compared")
            total += count
            parts.append(f"{mode}: {count} {how}")
        told.append((f"order {n} " if n > 1 else "") + ", ".join(parts))
    return GradientsResult(True, total, "; ".join(told) + remark, lowest)


def _derived(name: str, check: Check, seed: int) -> Check:
    """The check of (inputs, upstream gradients) -> gradients of the function of `check`."""
    arrays = random_upstreams([t.shape for t in check.outputs], np.float64, seed)
    upstreams = tuple(wrap(u.astype(t.dtype)) for u, t in zip(arrays, check.outputs, strict=True))
    count = len(check.inputs)
    return Check(
        name,
        gradient_function(check.func, count, check.wanted, check.slots),
        (
            *(wrap(a.copy()) if isinstance(t, Tensor) else t for t, a in zip(check.inputs, check.arrays, strict=True)),
            *upstreams,
        ),
        [*check.wanted, *range(count, count + len(upstreams))],
    )


def _inputs(inputs: Any, operator: Operator | None) -> tuple[tuple[Any, ...], list[int]]:
    """The inputs, arrays as Tensors, and the positions of those that are differentiated."""
    given = tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
    without = set() if operator is None else set(operator.declaration.nondiff)
    names = [] if operator is None or operator.variadic else list(operator.signature.parameters)
    made, wanted = [], []
    for k, value in enumerate(given):
        array = isinstance(value, np.ndarray) and value.dtype.kind == "f" and (k >= len(names) or names[k] not in without)
        made.append(wrap(value.copy()) if isinstance(value, np.ndarray) else value)
        if array or (isinstance(value, Tensor) and value.requires_grad):
            wanted.append(k)
    if not wanted:
        raise ValueError(
            "check_gradients: no input is differentiable, so there is nothing to check; pass tensors with requires_grad=True, or "
            "floating NumPy arrays"
        )
    return tuple(made), wanted


def _kinks(operator: Operator | None, asked: Mapping[float, float] | Iterable[float] | None) -> tuple[list[float], bool]:
    """Where kinks are, and whether there are conditions besides that say so in words."""
    if asked is not None:
        return [float(k) for k in asked], False
    if operator is None or not operator.kinks:
        return [], False
    if isinstance(operator.kinks, Mapping) and operator.elementwise:
        return [float(k) for k in operator.kinks], True
    return [], True


def _moved_away(inputs: tuple[Any, ...], which: list[int], places: list[float]) -> tuple[tuple[Any, ...], int]:
    """The inputs with every element at least `_AWAY` from every place, on the side where it was; how many had to move."""
    changed, count = list(inputs), 0
    for k in which:
        values = inputs[k]._data.copy()
        for place in sorted(places):
            room = _AWAY * max(1.0, abs(place))
            near = np.abs(values - place) < room
            count += int(near.sum())
            values = np.where(near, np.where(values >= place, place + room, place - room), values).astype(values.dtype)
        changed[k] = wrap(np.asarray(values))
    return tuple(changed), count


__all__ = ["FORWARD_ELEMENTS", "MODES", "GradientsResult", "check_gradients"]
