"""Losses on single values: squared and absolute error and their blends.

Each compares `input` with `target` element by element (shapes that broadcast are accepted, with a warning as in PyTorch when they
differ) and reduces: 'mean' over all elements, 'sum', or 'none'.
"""

from __future__ import annotations

import warnings

import numpy as np

import tinygrad_cv as tg

from ..extend import Array, Composite, Elementwise, Homogeneous, Real, Symmetric, Tensor, call, elementwise, op
from .loss import check_floating
from .loss_reduction import REDUCTIONS, check_reduction, older_arguments, reduce_loss


def check_pair(name: str, input, target, reduction: str, stacklevel: int = 6) -> None:
    """Both tensors floating, the reduction known, and a warning when the shapes differ, as broadcasting is rarely meant."""
    check_reduction(name, reduction)
    check_floating(name, input=input, target=target)
    if input.shape != target.shape:
        check_broadcastable(name, input, target)
        warnings.warn(
            f"{name}: target has shape {target.shape} but input has shape {input.shape}; they will be broadcast, which is likely to "
            "give a wrong loss. Make the shapes equal",
            UserWarning,
            stacklevel=stacklevel,
        )


def check_broadcastable(name: str, input, target) -> None:
    try:
        np.broadcast_shapes(input.shape, target.shape)
    except ValueError:
        raise ValueError(
            f"{name}: input of shape {input.shape} and target of shape {target.shape} do not fit together"
        ) from None


def check_same_shape(name: str, input, target, reduction: str) -> None:
    """As `check_pair`, with a ValueError when the shapes differ."""
    check_reduction(name, reduction)
    check_floating(name, input=input, target=target)
    if input.shape != target.shape:
        raise ValueError(f"{name}: target must have the shape {input.shape} of input, got {target.shape}")


def check_weight(name: str, input, weight, label: str = "weight") -> None:
    if weight is None:
        return
    check_floating(name, **{label: weight})
    try:
        fits = np.broadcast_shapes(weight.shape, input.shape) == input.shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"{name}: {label} of shape {weight.shape} does not broadcast to the shape {input.shape} of input")


def _reduce_weighted(losses, weight, reduction: str):
    """The loss with weights: 'mean' divides by their sum over all elements, as PyTorch's mse_loss and l1_loss do."""
    if weight is None:
        return reduce_loss(losses, reduction)
    weighted = losses * weight
    if reduction != "mean":
        return reduce_loss(weighted, reduction)
    if isinstance(weighted, Tensor):
        return weighted.sum() / weight.expand(losses.shape).sum()
    return np.asarray(weighted.sum() / np.broadcast_to(weight, losses.shape).sum(), weighted.dtype)


def pair_domain(low: float = -2.0, high: float = 2.0, gap: tuple[float, ...] = (), **attributes):
    """Input and target of one shape; `input - target` stays away from the values in `gap`. Attributes: lists of options."""

    def domain(draw):
        shape = draw.shape((0, 2))
        target = draw.real(shape, low, high)
        values = target + draw.real(shape, -1.5, 1.5, gap) if gap else draw.real(shape, low, high)
        options = {name: draw.choice(choices) for name, choices in attributes.items()}
        return call(values, target, **options, reduction=draw.choice(REDUCTIONS))

    return domain


def _weighted_domain(gap: tuple[float, ...] = (), **attributes):
    plain = pair_domain(gap=gap, **attributes)

    def domain(draw):
        made = plain(draw)
        shape = made.args[0].shape
        weight = draw.choice([None, draw.real(shape, 0.5, 2.0), draw.real(draw.broadcastable(shape), 0.5, 2.0)])
        return call(*made.args, **made.kwargs, weight=weight)

    return domain


@op(
    "mse_loss",
    domain=_weighted_domain(),
    formula="mean of weight * (input - target)^2",
    method=False,
    laws=(
        Symmetric("input", "target"),
        Homogeneous("input", "target", degree=2),
    ),
)
@older_arguments
class mse_loss(Composite):
    """The squared error (input - target)^2. weight: factors that broadcast to input; 'mean' then divides by their sum."""

    def prepare(input, target, *, reduction="mean", weight=None):
        check_pair("mse_loss", input, target, reduction)
        check_weight("mse_loss", input, weight)
        return input, target, reduction, weight

    def reference(input: Array, target: Array, *, reduction: str = "mean", weight: Array | None = None) -> np.ndarray:
        return _reduce_weighted(np.square(input - target), weight, reduction)

    def compose(input, target, *, reduction="mean", weight=None):
        return _reduce_weighted((input - target).square(), weight, reduction)


@op(
    "l1_loss",
    domain=_weighted_domain(gap=(0.0,)),
    formula="mean of weight * |input - target|",
    kinks=("input = target: derivative 0",),
    method=False,
    laws=(
        Symmetric("input", "target"),
        Homogeneous("input", "target", positive=True),
    ),
)
@older_arguments
class l1_loss(Composite):
    """The absolute error |input - target|, derivative 0 at 0. weight: as in `mse_loss`."""

    def prepare(input, target, *, reduction="mean", weight=None):
        check_pair("l1_loss", input, target, reduction)
        check_weight("l1_loss", input, weight)
        return input, target, reduction, weight

    def reference(input: Array, target: Array, *, reduction: str = "mean", weight: Array | None = None) -> np.ndarray:
        return _reduce_weighted(np.abs(input - target), weight, reduction)

    def compose(input, target, *, reduction="mean", weight=None):
        return _reduce_weighted((input - target).abs(), weight, reduction)


@op(
    "huber_value",
    domain=elementwise(Real(-2, 2, avoid=(-0.5, 0.5, -1.0, 1.0)), delta=1.0),
    formula="input^2 / 2 where |input| < delta, else delta * (|input| - delta / 2)",
    source="Huber 1964, Annals of Mathematical Statistics 35(1)",
    method=False,
    internal=True,
)
class huber_value(Elementwise):
    """Huber's function of one error: a parabola within `delta` of 0, lines of slope delta beyond. The derivative is continuous."""

    scalar = "0.5 * input * input if abs(input) < delta else delta * (abs(input) - 0.5 * delta)"

    def reference(input: Array, delta: float) -> np.ndarray:
        size = np.abs(input)
        return np.where(size < delta, 0.5 * input * input, delta * (size - 0.5 * delta)).astype(input.dtype)

    def grad_input(upstream, input, delta):
        return upstream * input.clamp(-delta, delta)


@op(
    "huber_loss",
    domain=_weighted_domain(gap=(-0.5, 0.5, -1.0, 1.0), delta=[1.0, 0.5]),
    formula="mean of e^2 / 2 where |e| < delta, else delta * (|e| - delta / 2), e = input - target",
    source="Huber 1964, Annals of Mathematical Statistics 35(1)",
    method=False,
)
class huber_loss(Composite):
    """Squared error within `delta` of the target, absolute error beyond, joined smoothly.

    weight: factors that broadcast to input; 'mean' divides by the number of elements (not by their sum, as `mse_loss` does).
    """

    def prepare(input, target, reduction="mean", delta=1.0, weight=None):
        check_pair("huber_loss", input, target, reduction, 4)
        check_weight("huber_loss", input, weight)
        if delta <= 0:
            raise ValueError(f"huber_loss: delta must be above 0, got {delta}")
        return input, target, reduction, float(delta), weight

    def reference(
        input: Array, target: Array, reduction: str = "mean", delta: float = 1.0, weight: Array | None = None
    ) -> np.ndarray:
        error = np.abs(input - target)
        inside = np.minimum(error, delta)
        losses = (inside * (error - inside / 2)).astype(error.dtype)
        return reduce_loss(losses if weight is None else losses * weight, reduction)

    def compose(input, target, reduction="mean", delta=1.0, weight=None):
        losses = tg.huber_value(input - target, delta)
        return reduce_loss(losses if weight is None else losses * weight, reduction)


@op(
    "smooth_l1_loss",
    domain=pair_domain(gap=(-0.5, 0.5, -1.0, 1.0, 0.0), beta=[1.0, 0.5, 0.0]),
    formula="mean of e^2 / (2 beta) where |e| < beta, else |e| - beta / 2, e = input - target",
    source="arXiv:1504.08083, equation 3",
    method=False,
)
@older_arguments
class smooth_l1_loss(Composite):
    """The absolute error with its tip rounded within `beta`: huber_loss with delta = beta, divided by beta; beta = 0 is l1_loss."""

    def prepare(input, target, *, reduction="mean", beta=1.0):
        check_pair("smooth_l1_loss", input, target, reduction)
        if beta < 0:
            raise ValueError(f"smooth_l1_loss: beta must not be negative, got {beta}")
        return input, target, reduction, float(beta)

    def reference(input: Array, target: Array, *, reduction: str = "mean", beta: float = 1.0) -> np.ndarray:
        error = np.abs(input - target)
        small = error < beta
        losses = np.where(small, np.square(error) / (2 * beta if beta else 1), error - beta / 2)
        return reduce_loss(losses.astype(error.dtype), reduction)

    def compose(input, target, *, reduction="mean", beta=1.0):
        error = input - target
        return reduce_loss(tg.huber_value(error, beta) / beta if beta else error.abs(), reduction)
