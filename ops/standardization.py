"""Normalisation with its statistics: the operators under batch, layer and group normalisation.

All compute out = (input - mean) / sqrt(variance + eps) * weight + bias, and differ in the axes over which mean and variance are
taken. The statistics are outputs, so that backward reads them and running averages can be kept; each operator has one backward
operator for all its gradients, whose own rule is `_backward_rule`.
"""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

import numpy as np

import tinygrad_cv as tg

from ..extend import Array, Op, call, op


class Layout(NamedTuple):
    """How a normalisation sees its input: as an array of `shape`, with statistics over the axes `over`.

    per_weight: the shape in which weight and bias broadcast. shared: the axes that they are repeated along.
    """

    shape: tuple[int, ...]
    over: tuple[int, ...]
    per_weight: tuple[int, ...]
    shared: tuple[int, ...]


def batch_layout(shape: tuple[int, ...]) -> Layout:
    """Statistics of each channel (axis 1), over all other axes."""
    others = tuple(i for i in range(len(shape)) if i != 1)
    return Layout(shape, others, tuple(s if i == 1 else 1 for i, s in enumerate(shape)), others)


def layer_layout(shape: tuple[int, ...], axes: int) -> Layout:
    """Statistics over the last `axes` axes, which is also what weight and bias extend over."""
    lead = len(shape) - axes
    return Layout(shape, tuple(range(lead, len(shape))), (1,) * lead + shape[lead:], tuple(range(lead)))


def group_layout(shape: tuple[int, ...], groups: int) -> Layout:
    """Statistics of each image over each of `groups` equal groups of channels."""
    channels = shape[1]
    grouped = (shape[0], groups, channels // groups if groups else 0, math.prod(shape[2:]))
    return Layout(grouped, (2, 3), (1, grouped[1], grouped[2], 1), (0, 3))


def _statistics_shape(layout: Layout) -> tuple[int, ...]:
    return tuple(s for i, s in enumerate(layout.shape) if i not in layout.over)


def _keepdim_shape(layout: Layout) -> tuple[int, ...]:
    return tuple(1 if i in layout.over else s for i, s in enumerate(layout.shape))


def _forward(input: np.ndarray, weight: np.ndarray | None, bias: np.ndarray | None, layout: Layout, eps: float):
    """out, mean and variance in NumPy; sums in float64, and the statistics of float16 in float32, as their squares overflow."""
    x = input.reshape(layout.shape)
    mean = x.mean(layout.over, keepdims=True, dtype=np.float64)
    centred = x - mean
    variance = np.square(centred).mean(layout.over, keepdims=True)
    out = centred / np.sqrt(variance + eps)
    if weight is not None:
        out = out * weight.reshape(layout.per_weight)
    if bias is not None:
        out = out + bias.reshape(layout.per_weight)
    kept = _statistics_shape(layout)
    return (
        np.ascontiguousarray(out.reshape(input.shape), input.dtype),
        mean.reshape(kept).astype(np.float32 if input.dtype == np.float16 else input.dtype),
        variance.reshape(kept).astype(np.float32 if input.dtype == np.float16 else input.dtype),
    )


def _backward(
    grad_output: np.ndarray, input: np.ndarray, weight: np.ndarray | None, mean: np.ndarray, variance: np.ndarray,
    layout: Layout, eps: float, parameter_shape: tuple[int, ...],
):  # fmt: skip
    """Gradients for input, weight and bias in NumPy, mean and variance taken as functions of the input."""
    g = grad_output.reshape(layout.shape).astype(np.float64)
    kept = _keepdim_shape(layout)
    inverse_std = 1 / np.sqrt(variance.reshape(kept).astype(np.float64) + eps)
    normal = (input.reshape(layout.shape) - mean.reshape(kept).astype(np.float64)) * inverse_std
    h = g if weight is None else g * weight.reshape(layout.per_weight)
    grad_input = inverse_std * (h - h.mean(layout.over, keepdims=True) - normal * (h * normal).mean(layout.over, keepdims=True))
    grad_weight = (g * normal).sum(layout.shared).reshape(parameter_shape)
    grad_bias = g.sum(layout.shared).reshape(parameter_shape)
    dtype = input.dtype
    return np.ascontiguousarray(grad_input.reshape(input.shape), dtype), grad_weight.astype(dtype), grad_bias.astype(dtype)


def _forward_rule(gradients, upstreams, input, mean, variance, layout: Layout, shape):
    """Adds to the gradients for the output those for the statistics: d mean = 1/n, d variance = 2 (input - mean) / n."""
    _, grad_mean, grad_variance = upstreams
    grad_input, grad_weight, grad_bias = gradients
    if grad_mean is not None or grad_variance is not None:
        kept = _keepdim_shape(layout)
        count = math.prod(layout.shape[i] for i in layout.over)
        total = 0
        if grad_mean is not None:
            total = grad_mean.reshape(kept) / count
        if grad_variance is not None:
            total = total + (input.reshape(layout.shape) - mean.reshape(kept)) * (grad_variance.reshape(kept) * (2 / count))
        total = total.expand(layout.shape).reshape(shape).to(input.dtype)
        grad_input = total if grad_input is None else grad_input + total
    return grad_input, grad_weight, grad_bias


def _backward_rule(upstreams, grad_output, input, weight, mean, variance, layout: Layout, eps: float):
    """Second order. With x the normalised input, h = grad_output * weight, r = 1 / sqrt(variance + eps), A and B the means of h
    and h x, P and Q those of u and u x for u = the upstream of grad_input:

        <u, grad_input> = sum over statistics of r n (mean(u h) - P A - Q B)

    and what follows are its derivatives and those of <v, sum g x> + <s, sum g>.
    """
    u, v, s = upstreams
    shape, kept, dtype = input.shape, _keepdim_shape(layout), input.dtype
    if dtype == np.float16:
        wide = [None if t is None else t.float() for t in (u, v, s, grad_output, input, weight)]
        u, v, s, grad_output, input, weight = wide
    g, x_raw = grad_output.reshape(layout.shape), input.reshape(layout.shape)
    w = None if weight is None else weight.reshape(layout.per_weight)
    centre = mean.reshape(kept)
    r = (variance.reshape(kept) + eps) ** -0.5
    x = (x_raw - centre) * r
    grad_g = grad_w = by_normal = grad_r = None
    if u is not None:
        u = u.reshape(layout.shape)
        h = g if w is None else g * w
        mean_u, mean_ux = u.mean(layout.over, keepdim=True), (u * x).mean(layout.over, keepdim=True)
        mean_hx = (h * x).mean(layout.over, keepdim=True)
        bracket = u - mean_u - x * mean_ux
        through = bracket * r
        grad_g = through if w is None else through * w
        grad_w = _sum_over(g * through, layout.shared)
        by_normal = (u * mean_hx + h * mean_ux) * -r
        grad_r = (h * bracket).sum(layout.over, keepdim=True)
    if v is not None:
        v = v.reshape(layout.per_weight)
        grad_g = v * x if grad_g is None else grad_g + v * x
        by_normal = v * g if by_normal is None else by_normal + v * g
    if s is not None:
        s = s.reshape(layout.per_weight).expand(layout.shape)
        grad_g = s if grad_g is None else grad_g + s
    grad_input = grad_mean = grad_variance = None
    if by_normal is not None:
        grad_x = by_normal * r
        grad_input = grad_x.reshape(shape)
        grad_mean = -_sum_over(grad_x, layout.over).reshape(mean.shape)
        by_r = (by_normal * (x_raw - centre)).sum(layout.over, keepdim=True)
        by_r = by_r if grad_r is None else by_r + grad_r
        grad_variance = (by_r * r**3 * -0.5).reshape(mean.shape)
    return (
        None if grad_g is None else grad_g.reshape(shape).to(dtype),
        None if grad_input is None else grad_input.to(dtype),
        None if grad_w is None or weight is None else grad_w.reshape(weight.shape).to(dtype),
        grad_mean,
        grad_variance,
    )


def _sum_over(tensor, axes: tuple[int, ...]):
    return tensor.sum(axes) if axes else tensor


def affine_values(draw, shape):
    return draw.choice([None, draw.real(shape, 0.5, 1.5)]), draw.choice([None, draw.real(shape)])


def _statistics_call(draw, shape, parameter_shape, *attributes):
    return call(draw.real(shape), *affine_values(draw, parameter_shape), *attributes, 0.1)


def _backward_call(draw, shape, parameter_shape, kept, *attributes):
    weight, _ = affine_values(draw, parameter_shape)
    return call(draw.real(shape), draw.real(shape), weight, draw.real(kept), draw.real(kept, 0.5, 2.0), *attributes, 0.1)


def batch_case(draw):
    return draw.choice([(3, 2), (2, 2, 3), (2, 3, 2, 2), (1, 2, 2, 2), (2, 1, 1, 3)])


_BATCH_FORMULA = "(input - mean) / sqrt(variance + eps) * weight + bias"


@op(
    "batch_norm_with_statistics",
    domain=lambda draw: (lambda s: _statistics_call(draw, s, (s[1],)))(batch_case(draw)),
    formula=_BATCH_FORMULA,
    source="arXiv:1502.03167, algorithm 1",
    tolerance=1e-4,
    kernels={"cpu": "tinygrad_cv.ops.cpu.norm_batch:batch_norm_with_statistics"},
    method=False,
    internal=True,
)
class batch_norm_with_statistics(Op):
    """`batch_norm` in training: `out`, and the `mean` and (biased) `variance` of each channel, shape (C).

    input: (N, C, ...). weight, bias: (C) or None.
    """

    outputs = ("out", "mean", "variance")
    followed_by: ClassVar = {
        "relu": "tinygrad_cv.ops.cpu.norm_batch:batch_norm_relu",
        "add": "tinygrad_cv.ops.cpu.norm_batch:batch_norm_add",
        "add relu": "tinygrad_cv.ops.cpu.norm_batch:batch_norm_add_relu",
    }

    def reference(input: Array, weight: Array | None = None, bias: Array | None = None, eps: float = 1e-5):
        return _forward(input, weight, bias, batch_layout(input.shape), eps)

    def backward(upstreams, input, weight, mean, variance, eps):
        gradients = (None, None, None)
        if upstreams[0] is not None:
            gradients = tg.batch_norm_backward(upstreams[0], input, weight, mean, variance, eps)
        return _forward_rule(gradients, upstreams, input, mean, variance, batch_layout(input.shape), input.shape)


@op(
    "batch_norm_backward",
    domain=lambda draw: (lambda s: _backward_call(draw, s, (s[1],), (s[1],)))(batch_case(draw)),
    formula="grad_input = weight * r * (g - mean(g) - x * mean(g * x)), x = (input - mean) * r, r = 1 / sqrt(variance + eps)",
    tolerance=1e-4,
    kernels={"cpu": "tinygrad_cv.ops.cpu.norm_batch:batch_norm_backward"},
    method=False,
    internal=True,
)
class batch_norm_backward(Op):
    """The gradients of batch normalisation for input, weight and bias, given the statistics of the forward pass."""

    outputs = ("grad_input", "grad_weight", "grad_bias")
    preceded_by: ClassVar = {
        "threshold_backward": "tinygrad_cv.ops.cpu.norm_batch:relu_batch_norm_backward",
        "add threshold_backward": "tinygrad_cv.ops.cpu.norm_batch:add_relu_batch_norm_backward",
    }

    def reference(grad_output: Array, input: Array, weight: Array | None, mean: Array, variance: Array, eps: float):
        return _backward(grad_output, input, weight, mean, variance, batch_layout(input.shape), eps, mean.shape)

    def backward(upstreams, grad_output, input, weight, mean, variance, eps):
        return _backward_rule(upstreams, grad_output, input, weight, mean, variance, batch_layout(input.shape), eps)


def layer_case(draw):
    return draw.choice([((3, 4), 1), ((2, 3, 2), 2), ((2, 2, 3), 1), ((4,), 1), ((2, 1, 2, 2), 3)])


@op(
    "layer_norm_with_statistics",
    domain=lambda draw: (lambda s, k: _statistics_call(draw, s, s[len(s) - k :], k))(*layer_case(draw)),
    formula=_BATCH_FORMULA,
    source="arXiv:1607.06450",
    tolerance=1e-4,
    kernels={"cpu": "tinygrad_cv.ops.cpu.norm:layer_norm_with_statistics"},
    method=False,
    internal=True,
)
class layer_norm_with_statistics(Op):
    """`layer_norm` over the last `axes` axes: `out`, and `mean` and (biased) `variance` with those axes gone."""

    outputs = ("out", "mean", "variance")

    def reference(input: Array, weight: Array | None = None, bias: Array | None = None, axes: int = 1, eps: float = 1e-5):
        return _forward(input, weight, bias, layer_layout(input.shape, axes), eps)

    def backward(upstreams, input, weight, mean, variance, axes, eps):
        gradients = (None, None, None)
        if upstreams[0] is not None:
            gradients = tg.layer_norm_backward(upstreams[0], input, weight, mean, variance, axes, eps)
        return _forward_rule(gradients, upstreams, input, mean, variance, layer_layout(input.shape, axes), input.shape)


@op(
    "layer_norm_backward",
    domain=lambda draw: (lambda s, k: _backward_call(draw, s, s[len(s) - k :], s[: len(s) - k], k))(*layer_case(draw)),
    formula="grad_input = r * (h - mean(h) - x * mean(h * x)), h = g * weight, x = (input - mean) * r, r = 1 / sqrt(variance + eps)",
    tolerance=1e-4,
    kernels={"cpu": "tinygrad_cv.ops.cpu.norm:layer_norm_backward"},
    method=False,
    internal=True,
)
class layer_norm_backward(Op):
    """The gradients of layer normalisation for input, weight and bias, given the statistics of the forward pass."""

    outputs = ("grad_input", "grad_weight", "grad_bias")

    def reference(grad_output: Array, input: Array, weight: Array | None, mean: Array, variance: Array, axes: int, eps: float):
        layout = layer_layout(input.shape, axes)
        return _backward(grad_output, input, weight, mean, variance, layout, eps, input.shape[input.ndim - axes :])

    def backward(upstreams, grad_output, input, weight, mean, variance, axes, eps):
        layout = layer_layout(input.shape, axes)
        return _backward_rule(upstreams, grad_output, input, weight, mean, variance, layout, eps)


def group_case(draw):
    return draw.choice([((2, 4, 3), 2), ((2, 2, 2, 2), 1), ((1, 3, 2, 2), 3), ((2, 4), 2)])


@op(
    "group_norm_with_statistics",
    domain=lambda draw: (lambda s, k: _statistics_call(draw, s, (s[1],), k))(*group_case(draw)),
    formula=_BATCH_FORMULA,
    source="arXiv:1803.08494",
    tolerance=1e-4,
    kernels={"cpu": "tinygrad_cv.ops.cpu.norm:group_norm_with_statistics"},
    method=False,
    internal=True,
)
class group_norm_with_statistics(Op):
    """`group_norm` over `groups` groups of channels: `out`, and `mean` and (biased) `variance` of shape (N, groups)."""

    outputs = ("out", "mean", "variance")

    def reference(input: Array, weight: Array | None = None, bias: Array | None = None, groups: int = 1, eps: float = 1e-5):
        return _forward(input, weight, bias, group_layout(input.shape, groups), eps)

    def backward(upstreams, input, weight, mean, variance, groups, eps):
        gradients = (None, None, None)
        if upstreams[0] is not None:
            gradients = tg.group_norm_backward(upstreams[0], input, weight, mean, variance, groups, eps)
        return _forward_rule(gradients, upstreams, input, mean, variance, group_layout(input.shape, groups), input.shape)


@op(
    "group_norm_backward",
    domain=lambda draw: (lambda s, k: _backward_call(draw, s, (s[1],), (s[0], k), k))(*group_case(draw)),
    formula="grad_input = r * (h - mean(h) - x * mean(h * x)), h = g * weight, x = (input - mean) * r, r = 1 / sqrt(variance + eps)",
    tolerance=1e-4,
    kernels={"cpu": "tinygrad_cv.ops.cpu.norm:group_norm_backward"},
    method=False,
    internal=True,
)
class group_norm_backward(Op):
    """The gradients of group normalisation for input, weight and bias, given the statistics of the forward pass."""

    outputs = ("grad_input", "grad_weight", "grad_bias")

    def reference(
        grad_output: Array, input: Array, weight: Array | None, mean: Array, variance: Array, groups: int, eps: float
    ):
        layout = group_layout(input.shape, groups)
        return _backward(grad_output, input, weight, mean, variance, layout, eps, (input.shape[1],))

    def backward(upstreams, grad_output, input, weight, mean, variance, groups, eps):
        layout = group_layout(input.shape, groups)
        return _backward_rule(upstreams, grad_output, input, weight, mean, variance, layout, eps)
