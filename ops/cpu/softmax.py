"""Softmax, log-softmax and the cross-entropy of class indices, row by row over contiguous arrays (rows, classes).

A row is read two or three times while it lies in the first-level cache: largest element, powers and their sum, scaling. Rows
are shared out among threads; the sum of one row is made by one thread, in vector lanes (error below 1e-6 relative in float32).

Kernels do one share of the rows (see `kernels.shares`). Functions with an operator's name take its reference's arguments, and return
NotImplemented for what they do not do.
"""

from __future__ import annotations

import numpy as np

from tinygrad_cv.kernels.jit import REDUCTION, helper, kernel
from tinygrad_cv.kernels.mathany import exp, log, row_max, scaled_exp, scaled_exp_row, unscaled
from tinygrad_cv.kernels.memory import empty
from tinygrad_cv.kernels.shares import plain, run_shares, share_count, span

from .sums import row_sum

_PARALLEL_ELEMENTS = 24576  # below: the serial twin. An element costs about 0.5 ns, a parallel region 1.3 us and more
_REDUCTIONS = {"none": 0, "mean": 1, "sum": 2}


@helper
def _difference(a, b):
    return a - b  # here, where sums must not be reordered


@helper(fastmath=REDUCTION)
def _dot(x, y):
    total = x.dtype.type(0)
    for j in range(x.size):
        total += x[j] * y[j]
    return total


@kernel(fastmath=REDUCTION)
def softmax_rows(x, out, shares, share):
    """out[r, j] = e^(x[r, j] - max x[r]) / sum over j."""
    kind = x.dtype.type
    for r in range(*span(x.shape[0], shares, share)):
        row, result = x[r], out[r]
        largest = row_max(row)
        scaled_exp_row(row, largest, result)
        scale = kind(1) / row_sum(result)  # one division for a row: each takes as long as ten products
        for j in range(row.size):
            result[j] = result[j] * scale


@kernel(fastmath=REDUCTION)
def softmax_backward_rows(g, y, grad, shares, share):
    """grad[r, j] = y[r, j] * (g[r, j] - sum over j of g[r, j] * y[r, j])."""
    for r in range(*span(y.shape[0], shares, share)):
        upstream, row, result = g[r], y[r], grad[r]
        total = _dot(upstream, row)
        for j in range(row.size):
            result[j] = row[j] * _difference(upstream[j], total)


@kernel(fastmath=REDUCTION)
def log_softmax_backward_rows(g, y, grad, shares, share):
    """grad[r, j] = g[r, j] - e^y[r, j] * sum over j of g[r, j]."""
    for r in range(*span(y.shape[0], shares, share)):
        upstream, row, result = g[r], y[r], grad[r]
        total = row_sum(upstream)
        for j in range(row.size):
            result[j] = upstream[j] - exp(row[j]) * total


@kernel(fastmath=REDUCTION)
def log_softmax_rows(x, out, shares, share):
    """out[r, j] = x[r, j] - max x[r] - ln(sum over j of e^(x[r, j] - max x[r]))."""
    for r in range(*span(x.shape[0], shares, share)):
        row, result = x[r], out[r]
        largest = row_max(row)
        total = x.dtype.type(0)
        for j in range(row.size):
            total += scaled_exp(_difference(row[j], largest))
        shift = log(unscaled(total))
        for j in range(row.size):
            result[j] = _difference(_difference(row[j], largest), shift)


@kernel(fastmath=REDUCTION)
def cross_entropy_rows(x, labels, weights, weighted, ignored, smoothing, losses, probabilities, shares, share):
    """The loss of every row and the softmax of every row.

    x, probabilities: (rows, classes). labels: int64 (rows), each below `classes` or equal to `ignored`. weights: (classes), read
    if `weighted`. losses: (rows).
    """
    classes = x.shape[1]
    kind = x.dtype.type
    for r in range(*span(x.shape[0], shares, share)):
        row, result, label = x[r], probabilities[r], labels[r]
        largest = row_max(row)
        scaled_exp_row(row, largest, result)
        total = row_sum(result)
        scale = kind(1) / total
        for j in range(classes):
            result[j] = result[j] * scale
        loss = kind(0)
        if label != ignored:
            shift = log(unscaled(total))
            weight = weights[label] if weighted else kind(1)
            if weight != 0:
                loss = weight * _difference(shift, _difference(row[label], largest))
            if smoothing != 0:
                spread = kind(0)
                for j in range(classes):
                    part = _difference(shift, _difference(row[j], largest))
                    spread += part * weights[j] if weighted else part
                loss = kind(1 - smoothing) * loss + kind(smoothing) * (spread / kind(classes))
        losses[r] = loss


@helper
def _total_weight(labels, weights, weighted, ignored):
    """The sum of the weights of the labels that count, in float64."""
    total = 0.0
    for r in range(labels.size):
        if labels[r] != ignored:
            total += weights[labels[r]] if weighted else 1.0
    return total


@kernel
def reduced_loss(losses, labels, weights, weighted, ignored, mean, out):
    """out[0], the sum of the losses, or their mean by the weights of their labels; added up in float64."""
    total = 0.0
    for r in range(losses.size):
        total += losses[r]
    out[0] = total / _total_weight(labels, weights, weighted, ignored) if mean else total


@kernel(fastmath=REDUCTION)
def cross_entropy_grad_rows(
    upstream, probabilities, labels, weights, weighted, ignored, smoothing, reduction, grad, shares, share
):
    """grad[r, j] = upstream * (probabilities[r, j] * sum of a - a[j]), a the target distribution times the weights.

    upstream: (rows), or (1) unless reduction is 0 (none); 1 (mean) divides by the weights of the labels that count.
    """
    classes = probabilities.shape[1]
    kind = probabilities.dtype.type
    scale = 1.0 / _total_weight(labels, weights, weighted, ignored) if reduction == 1 else 1.0
    everywhere = smoothing / classes
    spread = 1.0 * classes
    if weighted:
        spread = 0.0
        for j in range(classes):
            spread += weights[j]
    for r in range(*span(probabilities.shape[0], shares, share)):
        row, result, label = probabilities[r], grad[r], labels[r]
        if label == ignored:
            for j in range(classes):
                result[j] = kind(0)
        else:
            factor = kind(scale * (upstream[r] if reduction == 0 else upstream[0]))
            share = kind((1.0 - smoothing) * (weights[label] if weighted else 1.0))
            total = share + kind(everywhere * spread)
            if smoothing != 0:
                base = kind(everywhere)
                for j in range(classes):
                    result[j] = (row[j] * total - (base * weights[j] if weighted else base)) * factor
            else:
                for j in range(classes):
                    result[j] = row[j] * total * factor
            result[label] -= share * factor


def _as_rows(x: np.ndarray, axis: int) -> np.ndarray:
    """x with `axis` last, contiguous, as (rows, classes); a view where x is so already."""
    moved = x if axis == x.ndim - 1 else np.moveaxis(x, axis, -1)
    return plain(moved, (-1, x.shape[axis]))


def _result(shape: tuple[int, ...], axis: int, dtype) -> tuple[np.ndarray, np.ndarray]:
    """An array for a result and the rows for a kernel to write: the same memory where `axis` is last (see `_finished`)."""
    out = empty(shape[:axis] + shape[axis + 1 :] + shape[axis : axis + 1], dtype)
    return out, out.reshape(-1, shape[axis])


def _finished(out: np.ndarray, axis: int) -> np.ndarray:
    """What `_result` gave, contiguous with the axis in its place."""
    return out if axis == out.ndim - 1 else np.ascontiguousarray(np.moveaxis(out, -1, axis))


def _fits(x: np.ndarray, axis: int) -> bool:
    return x.dtype.kind == "f" and x.dtype.itemsize >= 4 and x.ndim > axis and x.size > 0 and x.shape[axis] > 0


def _normalised(body, input: np.ndarray, dim: int, dtype):
    if not _fits(input, dim) or (dtype is not None and dtype != input.dtype):
        return NotImplemented
    out, rows = _result(input.shape, dim, input.dtype)
    shares = share_count(rows.size, _PARALLEL_ELEMENTS)
    run_shares(body, shares, _as_rows(input, dim), rows, shares)
    return _finished(out, dim)


def softmax(input: np.ndarray, dim: int, *, dtype=None):
    """The operator `softmax`, along any axis (others than the last cost two copies)."""
    return _normalised(softmax_rows, input, dim, dtype)


def log_softmax(input: np.ndarray, dim: int, *, dtype=None):
    """The operator `log_softmax`, along any axis (others than the last cost two copies)."""
    return _normalised(log_softmax_rows, input, dim, dtype)


def _back(body, grad_output: np.ndarray, output: np.ndarray, dim: int):
    if not _fits(output, dim) or grad_output.dtype != output.dtype or grad_output.shape != output.shape:
        return NotImplemented
    grad, rows = _result(output.shape, dim, output.dtype)
    shares = share_count(rows.size, _PARALLEL_ELEMENTS)
    run_shares(body, shares, _as_rows(grad_output, dim), _as_rows(output, dim), rows, shares)
    return _finished(grad, dim)


def softmax_backward(grad_output: np.ndarray, output: np.ndarray, dim: int):
    """The operator `softmax_backward`."""
    return _back(softmax_backward_rows, grad_output, output, dim)


def log_softmax_backward(grad_output: np.ndarray, output: np.ndarray, dim: int):
    """The operator `log_softmax_backward`."""
    return _back(log_softmax_backward_rows, grad_output, output, dim)


def _labels_of(target: np.ndarray) -> np.ndarray:
    return plain(target.astype(np.int64, copy=False))


def softmax_cross_entropy(
    input: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
):
    """(loss, probabilities) of scores (C), (N, C) or (N, C, d1, ...) and checked class indices; float32 or float64."""
    axis = min(input.ndim - 1, 1)
    if axis < 0 or not _fits(input, axis) or (weight is not None and weight.dtype != input.dtype):
        return NotImplemented
    rows = _as_rows(input, axis)
    out, probabilities = _result(input.shape, axis, input.dtype)
    loss = empty(target.shape if reduction == "none" else (), input.dtype)
    losses = loss.reshape(-1) if reduction == "none" else np.empty(rows.shape[0], input.dtype)
    chosen = _labels_of(target), losses if weight is None else plain(weight), weight is not None, int(ignore_index)
    shares = share_count(rows.size, _PARALLEL_ELEMENTS)
    run_shares(cross_entropy_rows, shares, rows, *chosen, float(label_smoothing), losses, probabilities, shares)
    if reduction != "none":
        reduced_loss(losses, *chosen, reduction == "mean", loss.reshape(1))
    return loss, _finished(out, axis)


def softmax_cross_entropy_backward(
    grad_output: np.ndarray,
    probabilities: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
):
    """The gradient for the scores, of the shape of `probabilities`."""
    axis = min(probabilities.ndim - 1, 1)
    dtype = probabilities.dtype
    if (
        axis < 0
        or not _fits(probabilities, axis)
        or grad_output.dtype != dtype
        or (weight is not None and weight.dtype != dtype)
    ):  # fmt: skip
        return NotImplemented
    rows = _as_rows(probabilities, axis)
    out, grad = _result(probabilities.shape, axis, dtype)
    upstream = plain(grad_output)
    shares = share_count(rows.size, _PARALLEL_ELEMENTS)
    run_shares(
        cross_entropy_grad_rows, shares, upstream, rows, _labels_of(target), upstream if weight is None else plain(weight),
        weight is not None, int(ignore_index), float(label_smoothing), _REDUCTIONS[reduction], grad, shares,
    )  # fmt: skip
    return _finished(out, axis)
