"""Losses that are negative log-likelihoods: of Bernoulli, Poisson and normal variables, and the divergence of distributions."""

from __future__ import annotations

import math

import numpy as np

import tinygrad_cv as tg

from ..extend import Array, Composite, Elementwise, Real, Tensor, call, elementwise, op
from ..replay import replayable
from .loss import check_floating
from .loss_reduction import REDUCTIONS, check_reduction, older_arguments, reduce_loss
from .value_loss import check_broadcastable, check_same_shape, check_weight


@op(
    "binary_cross_entropy_value",
    domain=elementwise(Real(0.1, 0.9), Real(0.1, 0.9)),
    formula="-(target * log(input) + (1 - target) * log(1 - input)), logarithms at least -100",
    method=False,
    internal=True,
)
class binary_cross_entropy_value(Elementwise):
    """The cross-entropy of one probability, with logarithms cut off at -100 so that 0 and 1 stay finite.

    The derivative is (input - target) / max(input * (1 - input), 1e-12).
    """

    scalar = "(target - 1.0) * max(log1p(-input), -100.0) - target * max(log(input), -100.0)"

    def reference(input: Array, target: Array) -> np.ndarray:
        floor = input.dtype.type(-100)
        return (target - 1) * np.maximum(np.log1p(-input), floor) - target * np.maximum(np.log(input), floor)

    def grad_input(upstream, input, target):
        return upstream * (input - target) / (input * (1 - input)).clamp(min=1e-12)

    def grad_target(upstream, input):
        return upstream * ((-input).log1p().clamp(min=-100) - input.log().clamp(min=-100))


def _probability_domain(draw):
    shape = draw.shape((0, 2))
    weight = draw.choice([None, draw.real(draw.broadcastable(shape), 0.5, 2.0)])
    return call(draw.real(shape, 0.1, 0.9), draw.real(shape, 0.1, 0.9), weight, reduction=draw.choice(REDUCTIONS))


@replayable(local=True)
def _check_probabilities(input: Tensor) -> None:
    values = input._data
    if values.size and not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(
            f"binary_cross_entropy: input must hold probabilities in [0, 1], got values from {values.min()} to {values.max()}; "
            "for scores use binary_cross_entropy_with_logits"
        )


@replayable(local=True)
def _check_variance(name: str, var: Tensor) -> None:
    if var.numel() and var._data.min() < 0:
        raise ValueError(f"{name}: var has negative entries")


@op(
    "binary_cross_entropy",
    domain=_probability_domain,
    formula="mean of -weight * (target * log(input) + (1 - target) * log(1 - input))",
    method=False,
)
@older_arguments
class binary_cross_entropy(Composite):
    """The cross-entropy of probabilities `input` in [0, 1] with targets in [0, 1]; logarithms are cut off at -100.

    weight: factors that broadcast to input. ValueError for shapes that differ, or for an input outside [0, 1].
    """

    def prepare(input, target, weight=None, *, reduction="mean"):
        check_same_shape("binary_cross_entropy", input, target, reduction)
        check_weight("binary_cross_entropy", input, weight)
        _check_probabilities(input)
        return input, target, weight, reduction

    def reference(input: Array, target: Array, weight: Array | None = None, *, reduction: str = "mean") -> np.ndarray:
        losses = -(target * np.maximum(np.log(input), -100) + (1 - target) * np.maximum(np.log1p(-input), -100))
        return reduce_loss(np.asarray(losses if weight is None else losses * weight), reduction)

    def compose(input, target, weight=None, *, reduction="mean"):
        losses = tg.binary_cross_entropy_value(input, target)
        return reduce_loss(losses if weight is None else losses * weight, reduction)


def _logits_domain(draw):
    shape = draw.shape((0, 2))
    weight = draw.choice([None, draw.real(draw.broadcastable(shape), 0.5, 2.0)])
    pos_weight = draw.choice([None, draw.real(draw.broadcastable(shape), 0.5, 2.0)])
    target = draw.real(shape, 0.1, 0.9)
    return call(draw.real(shape), target, weight, reduction=draw.choice(REDUCTIONS), pos_weight=pos_weight)


@op(
    "binary_cross_entropy_with_logits",
    domain=_logits_domain,
    formula="mean of -weight * (pos_weight * target * log(sigmoid(input)) + (1 - target) * log(1 - sigmoid(input)))",
    method=False,
)
@older_arguments
class binary_cross_entropy_with_logits(Composite):
    """`binary_cross_entropy` of sigmoid(input), computed from the scores themselves so that no logarithm overflows.

    weight: factors that broadcast to input. pos_weight: factors for the positive part, one for each class of the last axis or
    anything that broadcasts. ValueError for shapes that differ.
    """

    def prepare(input, target, weight=None, *, reduction="mean", pos_weight=None):
        name = "binary_cross_entropy_with_logits"
        check_same_shape(name, input, target, reduction)
        check_weight(name, input, weight)
        check_weight(name, input, pos_weight, "pos_weight")
        return input, target, weight, reduction, pos_weight

    def reference(
        input: Array, target: Array, weight: Array | None = None, *, reduction: str = "mean", pos_weight: Array | None = None
    ) -> np.ndarray:
        minus_log_sigmoid = np.logaddexp(0, -input)
        losses = (1 - target) * (input + minus_log_sigmoid)
        losses = losses + (1 if pos_weight is None else pos_weight) * target * minus_log_sigmoid
        return reduce_loss(np.asarray(losses if weight is None else losses * weight), reduction)

    def compose(input, target, weight=None, *, reduction="mean", pos_weight=None):
        log_sigmoid = tg.logsigmoid(input)
        if pos_weight is None:
            losses = (1 - target) * input - log_sigmoid
        else:
            losses = (1 - target) * input - ((pos_weight - 1) * target + 1) * log_sigmoid
        return reduce_loss(losses if weight is None else losses * weight, reduction)


def _divergence_domain(draw):
    shape = draw.shape((1, 2))
    log_target = draw.boolean()
    target = draw.real(shape, -2.0, -0.1) if log_target else draw.real(shape, 0.1, 0.9)
    return call(draw.real(shape, -2.0, -0.1), target, reduction=draw.choice([*REDUCTIONS, "batchmean"]), log_target=log_target)


@op(
    "kl_div",
    domain=_divergence_domain,
    formula="mean of target * (log(target) - input)",
    source="Kullback, Leibler 1951",
    method=False,
)
@older_arguments
class kl_div(Composite):
    """The Kullback-Leibler divergence of log-probabilities `input` from probabilities `target`, element by element.

    log_target: the target holds log-probabilities too. A target of 0 adds 0. reduction 'batchmean' sums and divides by the size of
    axis 0, which is the divergence itself; 'mean' (the default) divides by the number of elements.
    """

    def prepare(input, target, *, reduction="mean", log_target=False):
        if reduction != "batchmean":
            check_reduction("kl_div", reduction)
        check_floating("kl_div", input=input, target=target)
        check_broadcastable("kl_div", input, target)
        if reduction == "batchmean" and not input.ndim:
            raise ValueError("kl_div: reduction 'batchmean' needs an axis to count the batch by, got a 0-d input")
        return input, target, reduction, bool(log_target)

    def reference(input: Array, target: Array, *, reduction: str = "mean", log_target: bool = False) -> np.ndarray:
        if log_target:
            losses = np.exp(target) * (target - input)
        else:
            losses = target * np.log(np.where(target > 0, target, 1)) - target * input
        if reduction == "batchmean":
            return np.asarray(losses.sum() / input.shape[0], losses.dtype)
        return reduce_loss(np.asarray(losses), reduction)

    def compose(input, target, *, reduction="mean", log_target=False):
        if log_target:
            losses = target.exp() * (target - input)
        else:
            losses = target * (tg.where(target > 0, target, tg.ones((), dtype=target.dtype)).log() - input)
        return losses.sum() / input.shape[0] if reduction == "batchmean" else reduce_loss(losses, reduction)


def _poisson_domain(draw):
    shape = draw.shape((0, 2))
    log_input = draw.boolean()
    target = draw.real(shape, 0.2, 4.0, avoid=(1.0,))
    values = draw.real(shape) if log_input else draw.real(shape, 0.2, 2.0)
    return call(values, target, log_input, draw.boolean(), reduction=draw.choice(REDUCTIONS))


@op(
    "poisson_nll_loss",
    domain=_poisson_domain,
    formula="mean of exp(input) - target * input",
    kinks=("target = 1, with full: the approximation starts above 1",),
    method=False,
)
@older_arguments
class poisson_nll_loss(Composite):
    """The negative log-likelihood of counts `target` under Poisson rates exp(input), or `input` where not `log_input`.

    full: adds Stirling's approximation of log(target!) where target > 1. eps: added to the rate inside the logarithm.
    """

    def prepare(input, target, log_input=True, full=False, *, eps=1e-8, reduction="mean"):
        check_reduction("poisson_nll_loss", reduction)
        check_floating("poisson_nll_loss", input=input, target=target)
        check_broadcastable("poisson_nll_loss", input, target)
        return input, target, bool(log_input), bool(full), float(eps), reduction

    def reference(
        input: Array, target: Array, log_input: bool = True, full: bool = False, *, eps: float = 1e-8, reduction: str = "mean"
    ) -> np.ndarray:
        losses = np.exp(input) - target * input if log_input else input - target * np.log(input + eps)
        if full:
            stirling = target * np.log(target) - target + 0.5 * np.log(2 * math.pi * target)
            losses = losses + np.where(target > 1, stirling, 0)
        return reduce_loss(np.asarray(losses), reduction)

    def compose(input, target, log_input=True, full=False, *, eps=1e-8, reduction="mean"):
        losses = input.exp() - target * input if log_input else input - target * (input + eps).log()
        if full:
            large = target > 1
            count = tg.where(large, target, tg.ones((), dtype=target.dtype))
            stirling = count * count.log() - count + (count * (2 * math.pi)).log() * 0.5
            losses = losses + tg.where(large, stirling, tg.zeros((), dtype=target.dtype))
        return reduce_loss(losses, reduction)


def _gaussian_domain(draw):
    shape = draw.choice([(2, 3), (4,), (2, 1, 2)])
    var = draw.choice([draw.real(shape, 0.5, 2.0), draw.real((*shape[:-1], 1), 0.5, 2.0), draw.real(shape[:-1], 0.5, 2.0)])
    return call(draw.real(shape), draw.real(shape), var, draw.boolean(), reduction=draw.choice(REDUCTIONS))


@op(
    "gaussian_nll_loss",
    domain=_gaussian_domain,
    formula="mean of (log(max(var, eps)) + (input - target)^2 / max(var, eps)) / 2",
    source="Nix, Weigend 1994",
    method=False,
)
class gaussian_nll_loss(Composite):
    """The negative log-likelihood of `target` under normal variables of mean `input` and variance `var`.

    var: a number, a tensor of input's shape, or one without its last axis (or with size 1 there). Below `eps` it counts as `eps`
    while its gradient passes. full: adds log(2 pi) / 2. ValueError for a negative variance or shapes that do not fit.
    """

    def prepare(input, target, var, full=False, eps=1e-6, reduction="mean"):
        name = "gaussian_nll_loss"
        check_reduction(name, reduction)
        check_floating(name, input=input, target=target)
        check_broadcastable(name, input, target)
        if isinstance(var, (int, float)):
            if var < 0:
                raise ValueError(f"{name}: var has negative entries")
            var = tg.full(input.shape, float(var), dtype=input.dtype)
        check_floating(name, var=var)
        if var.shape == input.shape[:-1] and var.ndim < input.ndim:
            var = var.unsqueeze(-1)
        elif var.shape != input.shape and var.shape != (*input.shape[:-1], 1):
            raise ValueError(
                f"{name}: var of shape {var.shape} fits no input of shape {input.shape}; expected that shape, or {input.shape[:-1]}"
            )
        if eps <= 0:
            raise ValueError(f"{name}: eps must be above 0, got {eps}")
        _check_variance(name, var)
        return input, target, var, bool(full), float(eps), reduction

    def reference(
        input: Array, target: Array, var: Array, full: bool = False, eps: float = 1e-6, reduction: str = "mean"
    ) -> np.ndarray:
        variance = np.maximum(var, var.dtype.type(eps))
        losses = 0.5 * (np.log(variance) + np.square(input - target) / variance)
        if full:
            losses = losses + 0.5 * math.log(2 * math.pi)
        return reduce_loss(losses, reduction)

    def compose(input, target, var, full=False, eps=1e-6, reduction="mean"):
        detached = var.detach()
        variance = var + (detached.clamp(min=eps) - detached)
        losses = (variance.log() + (input - target).square() / variance) * 0.5
        if full:
            losses = losses + 0.5 * math.log(2 * math.pi)
        return reduce_loss(losses, reduction)
