"""Optimizer updates: one pass over flat arrays, whatever the number of parameters that lie in them.

Every function changes `value` and its state in place and only reads `grad`. All arrays are one-dimensional, contiguous, of one
length and one dtype (float32 or float64); settings are numbers, which take that dtype. The equations are PyTorch's.

    sgd_update(value, grad, momentum_buffer, lr, momentum, dampening, weight_decay, nesterov, maximize, first)
    sgd_plain_update(value, grad, lr, weight_decay, maximize)
    adam_update(value, grad, exp_avg, exp_avg_sq, lr, beta1, beta2, eps, weight_decay, decoupled, maximize, step)
    adam_amsgrad_update(value, grad, exp_avg, exp_avg_sq, max_exp_avg_sq, lr, ... as adam_update)
    adagrad_update(value, grad, sum, lr, lr_decay, weight_decay, eps, maximize, step)
    rmsprop_update(value, grad, square_avg, lr, alpha, eps, weight_decay, maximize)
    rmsprop_momentum_update(value, grad, square_avg, momentum_buffer, lr, alpha, eps, weight_decay, momentum, maximize)
    rmsprop_centered_update(value, grad, square_avg, grad_avg, lr, alpha, eps, weight_decay, maximize)
    rmsprop_centered_momentum_update(value, grad, square_avg, momentum_buffer, grad_avg, lr, alpha, eps, weight_decay, momentum,
                                     maximize)
    adadelta_update(value, grad, square_avg, acc_delta, lr, rho, eps, weight_decay, maximize)

step counts from 1. first: the buffer is set to the gradient instead of updated. decoupled: weight decay as AdamW's.
"""

from __future__ import annotations

import math

import numpy as np

from tinygrad_cv.kernels.intrinsics import select, sqrt
from tinygrad_cv.kernels.jit import kernel, prange

_PARALLEL_ELEMENTS = 1 << 16  # an update costs 0.1 to 0.3 ns an element in cache, a parallel region at least 1.3 us


def _chosen(run, value: np.ndarray):
    return run.serial if value.size < _PARALLEL_ELEMENTS else run


@kernel
def _sgd_plain(value, grad, lr, decay, sign):
    kind = value.dtype.type
    lr, decay, sign = kind(lr), kind(decay), kind(sign)
    for i in prange(value.size):
        value[i] = value[i] - lr * (sign * grad[i] + decay * value[i])


@kernel
def _sgd(value, grad, buffer, lr, keep, take, ahead, straight, decay, sign):
    # direction = straight * g + ahead * b with the new b: (0, 1) for plain momentum, (1, momentum) for Nesterov's
    kind = value.dtype.type
    lr, keep, take, decay, sign = kind(lr), kind(keep), kind(take), kind(decay), kind(sign)
    ahead, straight = kind(ahead), kind(straight)
    for i in prange(value.size):
        g = sign * grad[i] + decay * value[i]
        b = keep * buffer[i] + take * g
        buffer[i] = b
        value[i] = value[i] - lr * (straight * g + ahead * b)


@kernel
def _sgd_first(value, grad, buffer, lr, ahead, straight, decay, sign):
    kind = value.dtype.type
    lr, decay, sign, both = kind(lr), kind(decay), kind(sign), kind(ahead + straight)
    for i in prange(value.size):
        g = sign * grad[i] + decay * value[i]
        buffer[i] = g
        value[i] = value[i] - lr * (both * g)


@kernel
def _adam(value, grad, mean, square, rate, beta1, beta2, root, eps, shrink, decay, sign):
    kind = value.dtype.type
    rate, root, eps, shrink, decay, sign = kind(rate), kind(root), kind(eps), kind(shrink), kind(decay), kind(sign)
    rest1, keep2, rest2 = kind(1.0 - beta1), kind(beta2), kind(1.0 - beta2)
    for i in prange(value.size):
        v = value[i] * shrink
        g = sign * grad[i] + decay * v
        m = mean[i] + (g - mean[i]) * rest1
        s = keep2 * square[i] + rest2 * (g * g)
        mean[i] = m
        square[i] = s
        value[i] = v - rate * (m / (sqrt(s) / root + eps))


@kernel
def _adam_amsgrad(value, grad, mean, square, largest, rate, beta1, beta2, root, eps, shrink, decay, sign):
    kind = value.dtype.type
    rate, root, eps, shrink, decay, sign = kind(rate), kind(root), kind(eps), kind(shrink), kind(decay), kind(sign)
    rest1, keep2, rest2 = kind(1.0 - beta1), kind(beta2), kind(1.0 - beta2)
    for i in prange(value.size):
        v = value[i] * shrink
        g = sign * grad[i] + decay * v
        m = mean[i] + (g - mean[i]) * rest1
        s = keep2 * square[i] + rest2 * (g * g)
        mean[i] = m
        square[i] = s
        s = select(s <= largest[i], largest[i], s)  # NaN in s wins
        largest[i] = s
        value[i] = v - rate * (m / (sqrt(s) / root + eps))


@kernel
def _adagrad(value, grad, total, rate, eps, decay, sign):
    kind = value.dtype.type
    rate, eps, decay, sign = kind(rate), kind(eps), kind(decay), kind(sign)
    for i in prange(value.size):
        g = sign * grad[i] + decay * value[i]
        s = total[i] + g * g
        total[i] = s
        value[i] = value[i] - rate * (g / (sqrt(s) + eps))


@kernel
def _rmsprop(value, grad, square, lr, alpha, eps, decay, sign):
    kind = value.dtype.type
    lr, keep, rest, eps, decay, sign = kind(lr), kind(alpha), kind(1.0 - alpha), kind(eps), kind(decay), kind(sign)
    for i in prange(value.size):
        g = sign * grad[i] + decay * value[i]
        s = keep * square[i] + rest * (g * g)
        square[i] = s
        value[i] = value[i] - lr * (g / (sqrt(s) + eps))


@kernel
def _rmsprop_momentum(value, grad, square, buffer, lr, alpha, eps, decay, momentum, sign):
    kind = value.dtype.type
    lr, keep, rest, eps, decay, sign = kind(lr), kind(alpha), kind(1.0 - alpha), kind(eps), kind(decay), kind(sign)
    momentum = kind(momentum)
    for i in prange(value.size):
        g = sign * grad[i] + decay * value[i]
        s = keep * square[i] + rest * (g * g)
        square[i] = s
        b = momentum * buffer[i] + g / (sqrt(s) + eps)
        buffer[i] = b
        value[i] = value[i] - lr * b


@kernel
def _rmsprop_centered(value, grad, square, mean, lr, alpha, eps, decay, sign):
    kind = value.dtype.type
    lr, keep, rest, eps, decay, sign = kind(lr), kind(alpha), kind(1.0 - alpha), kind(eps), kind(decay), kind(sign)
    for i in prange(value.size):
        g = sign * grad[i] + decay * value[i]
        s = keep * square[i] + rest * (g * g)
        m = mean[i] + (g - mean[i]) * rest
        square[i] = s
        mean[i] = m
        value[i] = value[i] - lr * (g / (sqrt(s - m * m) + eps))


@kernel
def _rmsprop_centered_momentum(value, grad, square, buffer, mean, lr, alpha, eps, decay, momentum, sign):
    kind = value.dtype.type
    lr, keep, rest, eps, decay, sign = kind(lr), kind(alpha), kind(1.0 - alpha), kind(eps), kind(decay), kind(sign)
    momentum = kind(momentum)
    for i in prange(value.size):
        g = sign * grad[i] + decay * value[i]
        s = keep * square[i] + rest * (g * g)
        m = mean[i] + (g - mean[i]) * rest
        square[i] = s
        mean[i] = m
        b = momentum * buffer[i] + g / (sqrt(s - m * m) + eps)
        buffer[i] = b
        value[i] = value[i] - lr * b


@kernel
def _adadelta(value, grad, square, deltas, lr, rho, eps, decay, sign):
    kind = value.dtype.type
    lr, keep, rest, eps, decay, sign = kind(lr), kind(rho), kind(1.0 - rho), kind(eps), kind(decay), kind(sign)
    for i in prange(value.size):
        g = sign * grad[i] + decay * value[i]
        s = keep * square[i] + rest * (g * g)
        square[i] = s
        d = sqrt(deltas[i] + eps) / sqrt(s + eps) * g
        deltas[i] = keep * deltas[i] + rest * (d * d)
        value[i] = value[i] - lr * d


def _sign(maximize: bool) -> float:
    return -1.0 if maximize else 1.0


def sgd_plain_update(value, grad, lr, weight_decay, maximize):
    """value -= lr * (grad + weight_decay * value)."""
    _chosen(_sgd_plain, value)(value, grad, float(lr), float(weight_decay), _sign(maximize))


def sgd_update(value, grad, momentum_buffer, lr, momentum, dampening, weight_decay, nesterov, maximize, first):
    """d = grad + weight_decay * value; b = momentum * b + (1 - dampening) * d; value -= lr * (b, or d + momentum * b)."""
    ahead, straight = (float(momentum), 1.0) if nesterov else (1.0, 0.0)
    if first:
        run = _chosen(_sgd_first, value)
        run(value, grad, momentum_buffer, float(lr), ahead, straight, float(weight_decay), _sign(maximize))
    else:
        _chosen(_sgd, value)(
            value, grad, momentum_buffer, float(lr), float(momentum), 1.0 - dampening, ahead, straight, float(weight_decay),
            _sign(maximize),
        )  # fmt: skip


def _adam_settings(lr, beta1, beta2, eps, weight_decay, decoupled, maximize, step):
    shrink, decay = (1.0 - lr * weight_decay, 0.0) if decoupled else (1.0, float(weight_decay))
    rate, root = lr / (1.0 - beta1**step), math.sqrt(1.0 - beta2**step)
    return float(rate), float(beta1), float(beta2), root, float(eps), shrink, decay, _sign(maximize)


def adam_update(value, grad, exp_avg, exp_avg_sq, lr, beta1, beta2, eps, weight_decay, decoupled, maximize, step):
    """Adam, or AdamW if `decoupled`; PyTorch's order of operations."""
    settings = _adam_settings(lr, beta1, beta2, eps, weight_decay, decoupled, maximize, step)
    _chosen(_adam, value)(value, grad, exp_avg, exp_avg_sq, *settings)


def adam_amsgrad_update(
    value, grad, exp_avg, exp_avg_sq, max_exp_avg_sq, lr, beta1, beta2, eps, weight_decay, decoupled, maximize, step
):
    """Adam with the largest second moment so far."""
    settings = _adam_settings(lr, beta1, beta2, eps, weight_decay, decoupled, maximize, step)
    _chosen(_adam_amsgrad, value)(value, grad, exp_avg, exp_avg_sq, max_exp_avg_sq, *settings)


def adagrad_update(value, grad, sum, lr, lr_decay, weight_decay, eps, maximize, step):
    """sum += g^2; value -= lr / (1 + (step - 1) * lr_decay) * g / (sqrt(sum) + eps)."""
    rate = lr / (1.0 + (step - 1) * lr_decay)
    _chosen(_adagrad, value)(value, grad, sum, float(rate), float(eps), float(weight_decay), _sign(maximize))


def rmsprop_update(value, grad, square_avg, lr, alpha, eps, weight_decay, maximize):
    """s = alpha * s + (1 - alpha) * g^2; value -= lr * g / (sqrt(s) + eps)."""
    _chosen(_rmsprop, value)(value, grad, square_avg, float(lr), float(alpha), float(eps), float(weight_decay), _sign(maximize))


def rmsprop_momentum_update(value, grad, square_avg, momentum_buffer, lr, alpha, eps, weight_decay, momentum, maximize):
    """As `rmsprop_update`, through b = momentum * b + g / (sqrt(s) + eps)."""
    _chosen(_rmsprop_momentum, value)(
        value, grad, square_avg, momentum_buffer, float(lr), float(alpha), float(eps), float(weight_decay), float(momentum),
        _sign(maximize),
    )  # fmt: skip


def rmsprop_centered_update(value, grad, square_avg, grad_avg, lr, alpha, eps, weight_decay, maximize):
    """As `rmsprop_update`, with sqrt(s - a^2), a the running mean of g."""
    _chosen(_rmsprop_centered, value)(
        value, grad, square_avg, grad_avg, float(lr), float(alpha), float(eps), float(weight_decay), _sign(maximize)
    )


def rmsprop_centered_momentum_update(
    value, grad, square_avg, momentum_buffer, grad_avg, lr, alpha, eps, weight_decay, momentum, maximize
):
    """Both: centred, and with momentum."""
    _chosen(_rmsprop_centered_momentum, value)(
        value, grad, square_avg, momentum_buffer, grad_avg, float(lr), float(alpha), float(eps), float(weight_decay),
        float(momentum), _sign(maximize),
    )  # fmt: skip


def adadelta_update(value, grad, square_avg, acc_delta, lr, rho, eps, weight_decay, maximize):
    """s = rho * s + (1 - rho) * g^2; d = sqrt(a + eps) / sqrt(s + eps) * g; a = rho * a + (1 - rho) * d^2; value -= lr * d."""
    _chosen(_adadelta, value)(
        value, grad, square_avg, acc_delta, float(lr), float(rho), float(eps), float(weight_decay), _sign(maximize)
    )
