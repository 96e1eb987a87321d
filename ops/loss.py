"""Losses over classes: negative log-likelihood and cross-entropy.

A loss turns predictions and targets into one number (reduction 'mean' or 'sum') or one number for each example ('none').
Losses on single values live in `value_loss`, those with a margin in `margin_loss`.
"""

from __future__ import annotations

import math

import numpy as np

import tinygrad_cv as tg

from ..dispatch import apply
from ..extend import Array, Composite, Op, Tensor, call, op
from .loss_reduction import REDUCTIONS, check_reduction, older_arguments, reduce_loss


def check_floating(name: str, **tensors) -> None:
    """TypeError unless every tensor given holds floats."""
    for label, t in tensors.items():
        if t is not None and not isinstance(t, Tensor):
            raise TypeError(f"{name}: expected a Tensor for `{label}`, got {type(t).__name__}")
        if t is not None and t.dtype.kind != "f":
            raise TypeError(f"{name}: `{label}` must be a floating tensor, got {t.dtype}; use .float()")


def _may_be_out_of_range(labels: np.ndarray, classes: int) -> bool:
    if labels.dtype == np.int64:  # one pass: a negative number is a very large one without its sign
        return bool(labels.view(np.uint64).max() >= classes)
    return bool(labels.max() >= classes or labels.min() < 0)


def check_labels(name: str, input: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int | None = None) -> None:
    """Checks class indices against the scores they index: shapes, dtypes and every label, before any work.

    input: (N, C, d1, ...) or (C). target: (N, d1, ...) or (). weight: (C). IndexError names the first label out of range.
    """
    if weight is None and isinstance(input, Tensor) and isinstance(target, Tensor):  # the usual case, in few steps
        scores, labels = input._data, target._data
        usual = scores.ndim == 2 and labels.shape == scores.shape[:1] and scores.dtype.kind == "f" and labels.dtype == np.int64
        if usual and labels.size and not _may_be_out_of_range(labels, scores.shape[1]):
            return
    check_floating(name, input=input, weight=weight)
    if not isinstance(target, Tensor):
        raise TypeError(f"{name}: expected a Tensor of class indices for `target`, got {type(target).__name__}")
    if input.ndim == 0:
        raise ValueError(f"{name}: input must have shape (C), (N, C) or (N, C, d1, ...), got a 0-d tensor")
    axis = min(input.ndim - 1, 1)
    shape, classes = input.shape, input.shape[axis]
    expected = shape[:axis] + shape[axis + 1 :]
    if target.dtype.kind not in "iu":
        raise TypeError(f"{name}: class indices must be integers, got {target.dtype} of shape {target.shape}; use .long()")
    if target.shape != expected:
        raise ValueError(
            f"{name}: input of shape {shape} has {classes} classes along axis {axis}, so target must have shape {expected}; got "
            f"{target.shape}"
        )
    if weight is not None:
        if weight.requires_grad:
            raise RuntimeError(f"{name}: no gradient is defined for `weight`, which requires grad; pass weight.detach()")
        if weight.shape != (classes,):
            raise ValueError(f"{name}: weight must have shape ({classes},), one for each class, got {weight.shape}")
        if weight.dtype != input.dtype:
            raise TypeError(f"{name}: weight is {weight.dtype} but input is {input.dtype}; convert with .to(dtype)")
    labels = target._data
    if labels.size and _may_be_out_of_range(labels, classes):
        wrong = (labels < 0) | (labels >= classes)
        if ignore_index is not None:
            wrong &= labels != ignore_index
        if wrong.any():
            where = np.argwhere(wrong)[0].tolist()
            row = f"row {where[0]}" if len(where) == 1 else f"position {tuple(where)}"
            ignored = "" if ignore_index is None else f" or ignore_index={ignore_index}"
            raise IndexError(
                f"{name}: label {int(labels[tuple(where)])} in {row} of target is out of range; labels must lie in 0..{classes - 1} "
                f"({classes} classes){ignored}"
            )


def _as_rows(input: np.ndarray) -> np.ndarray:
    """Scores (N, C, d1, ...) or (C) as (rows, C), in the order of the flattened target."""
    moved = np.moveaxis(input, min(input.ndim - 1, 1), -1)
    return moved.reshape(math.prod(moved.shape[:-1]), moved.shape[-1])


def _wide(dtype):
    """What sums over examples are made in: float32 for float16."""
    return np.dtype(np.float32) if dtype == np.float16 else dtype


def _from_rows(rows: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    axis = min(len(shape) - 1, 1)
    return np.ascontiguousarray(np.moveaxis(rows.reshape(shape[:axis] + shape[axis + 1 :] + shape[axis : axis + 1]), -1, axis))


def _label_weights(target: np.ndarray, weight: np.ndarray | None, ignore_index: int, dtype) -> tuple[np.ndarray, np.ndarray]:
    """For each row its label (0 where ignored) and its weight (0 where ignored)."""
    labels = target.reshape(-1)
    kept = labels != ignore_index
    labels = np.where(kept, labels, 0)
    weights = kept.astype(dtype)
    return labels, weights if weight is None else weights * weight[labels]


def _labels_domain(draw):
    classes, extra = draw.integer(1, 4), draw.choice([(), (2,), (2, 1)])
    batch = draw.integer(1, 4)
    shape, targets = draw.choice([((batch, classes, *extra), (batch, *extra)), ((classes,), ())])
    target = draw.integers(targets, 0, classes)
    ignore = draw.choice([-100, 0])
    if ignore == 0 and target.size:  # at least one row counts: a mean over none is NaN
        target.flat[0] = classes - 1
        ignore = 0 if classes > 1 else -100
    weight = draw.choice([None, draw.real((classes,), 0.5, 2.0)])
    options = {"weight": weight, "ignore_index": ignore, "reduction": draw.choice(REDUCTIONS)}
    return draw.real(shape), target, options


def _nll_domain(draw):
    scores, target, options = _labels_domain(draw)
    return call(scores, target, **options)


@op("nll_loss", domain=_nll_domain, formula="-weight[target] * input[target]", method=False)
@older_arguments
class nll_loss(Op):
    """The negative log-likelihood of class indices: -weight[y] * input[y] for every example with label y.

    input: log-probabilities, (N, C), (C) or (N, C, d1, ...). target: integers (N), () or (N, d1, ...). weight: (C), a factor for
    each class. Examples labelled `ignore_index` count nothing. reduction 'mean' divides by the sum of the weights that count, so
    that it is NaN when none does. IndexError for a label out of range; TypeError, ValueError for wrong dtypes and shapes.
    """

    nondiff = ("target", "weight")

    def prepare(input, target, weight=None, *, ignore_index=-100, reduction="mean"):
        check_reduction("nll_loss", reduction)
        check_labels("nll_loss", input, target, weight, ignore_index)
        return input, target, weight, int(ignore_index), reduction

    def reference(
        input: Array, target: Array, weight: Array | None = None, *, ignore_index: int = -100, reduction: str = "mean"
    ) -> np.ndarray:
        rows = _as_rows(input)
        labels, weights = _label_weights(target, weight, ignore_index, input.dtype)
        losses = np.where(weights != 0, -rows[np.arange(len(rows)), labels] * weights, 0).astype(input.dtype)
        if reduction == "none":
            return losses.reshape(target.shape)
        wide = _wide(input.dtype)
        total = losses.sum(dtype=wide)
        return np.asarray(total / weights.sum(dtype=wide) if reduction == "mean" else total, input.dtype)

    def grad_input(upstream, ctx, target, weight, ignore_index, reduction):
        return tg.nll_loss_backward(upstream, target, weight, ctx.input_shapes[0], ignore_index, reduction)


def _nll_backward_domain(draw):
    scores, target, options = _labels_domain(draw)
    upstream = draw.real(target.shape if options["reduction"] == "none" else ())
    return call(upstream, target, options["weight"], scores.shape, options["ignore_index"], options["reduction"])


@op(
    "nll_loss_backward",
    domain=_nll_backward_domain,
    formula="out[target] = -weight[target] * grad_output",
    method=False,
    internal=True,
)
class nll_loss_backward(Op):
    """The gradient of `nll_loss` for its input of shape `shape`: -weight[y] * grad_output at each label y, 0 elsewhere."""

    nondiff = ("target", "weight")

    def reference(
        grad_output: Array, target: Array, weight: Array | None, shape: tuple[int, ...], ignore_index: int, reduction: str
    ) -> np.ndarray:
        labels, weights = _label_weights(target, weight, ignore_index, grad_output.dtype)
        rows = np.zeros((labels.size, shape[min(len(shape) - 1, 1)]), grad_output.dtype)
        scale = weights / weights.sum(dtype=_wide(weights.dtype)) if reduction == "mean" else weights
        rows[np.arange(labels.size), labels] = np.where(weights != 0, -scale * grad_output.reshape(-1), 0)
        return _from_rows(rows, shape)

    def grad_grad_output(upstream, target, weight, ignore_index, reduction):
        # nll_loss is linear in its input, so the adjoint of its adjoint is itself.
        return tg.nll_loss(upstream, target, weight, ignore_index=ignore_index, reduction=reduction)


def _class_shares(
    target: np.ndarray, weight: np.ndarray | None, classes: int, ignore_index: int, smoothing: float, reduction: str, dtype
) -> tuple[np.ndarray, np.ndarray]:
    """a (rows, C) with loss = -sum_c a_c log p_c for every row, and each row's sum of a; a 'mean' divided by its total already."""
    labels, weights = _label_weights(target, weight, ignore_index, dtype)
    shares = np.zeros((labels.size, classes), dtype)
    shares[np.arange(labels.size), labels] = (1 - smoothing) * weights
    if smoothing:
        kept = (target.reshape(-1, 1) != ignore_index).astype(dtype)
        shares += kept * (smoothing / max(classes, 1)) * (1 if weight is None else weight)
    if reduction == "mean":
        shares = (shares / weights.sum(dtype=_wide(weights.dtype))).astype(dtype, copy=False)
    return shares, shares.sum(1, keepdims=True)


def _softmax_loss_domain(draw):
    scores, target, options = _labels_domain(draw)
    return call(scores, target, **options, label_smoothing=draw.choice([0.0, 0.3]))


@op(
    "softmax_cross_entropy",
    domain=_softmax_loss_domain,
    formula="loss = -weight[target] * log(softmax(input)[target]), probabilities = softmax(input)",
    kernels={"cpu": "tinygrad_cv.ops.cpu.softmax:softmax_cross_entropy"},
    method=False,
    internal=True,
)
class softmax_cross_entropy(Op):
    """`cross_entropy` with class indices together with the softmax it needs anyway, which backward reads.

    Arguments as `cross_entropy`. Gives `loss` (a number, or one for each example) and `probabilities` (input's shape).
    """

    nondiff = ("target", "weight")
    outputs = ("loss", "probabilities")

    def prepare(input, target, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0):
        check_reduction("softmax_cross_entropy", reduction)
        check_labels("softmax_cross_entropy", input, target, weight, ignore_index)
        return input, target, weight, int(ignore_index), reduction, float(label_smoothing)

    def reference(
        input: Array,
        target: Array,
        weight: Array | None = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> tuple[np.ndarray, np.ndarray]:
        wide = _wide(input.dtype)
        rows = _as_rows(input).astype(wide, copy=False)
        shifted = rows - rows.max(1, keepdims=True, initial=-np.inf)
        powers = np.exp(shifted)
        total = powers.sum(1, keepdims=True)
        labels, weights = _label_weights(target, weight, ignore_index, wide)
        log_probabilities = shifted - np.log(total)
        losses = np.where(weights != 0, -log_probabilities[np.arange(len(rows)), labels] * weights, 0)
        if label_smoothing:
            smooth = -(log_probabilities if weight is None else log_probabilities * weight).sum(1) / max(rows.shape[1], 1)
            kept = target.reshape(-1) != ignore_index
            losses = (1 - label_smoothing) * losses + label_smoothing * np.where(kept, smooth, 0)
        if reduction == "none":
            loss = losses.reshape(target.shape).astype(input.dtype, copy=False)
        else:
            loss = np.asarray(losses.sum() / weights.sum() if reduction == "mean" else losses.sum(), input.dtype)
        return loss, _from_rows((powers / total).astype(input.dtype, copy=False), input.shape)

    def backward(upstreams, ctx, probabilities, target, weight, ignore_index, reduction, label_smoothing):
        grad_loss, grad_probabilities = upstreams
        grad = None
        if grad_loss is not None:
            grad = tg.softmax_cross_entropy_backward(
                grad_loss, probabilities, target, weight, ignore_index, reduction, label_smoothing
            )
        if grad_probabilities is not None:
            inner = (grad_probabilities * probabilities).sum(min(probabilities.ndim - 1, 1), keepdim=True)
            through = probabilities * (grad_probabilities - inner)
            grad = through if grad is None else grad + through
        return grad, None, None


def _softmax_backward_domain(draw):
    scores, target, options = _labels_domain(draw)
    upstream = draw.real(target.shape if options["reduction"] == "none" else ())
    smoothing = draw.choice([0.0, 0.3])
    return call(upstream, scores, target, options["weight"], options["ignore_index"], options["reduction"], smoothing)


@op(
    "softmax_cross_entropy_backward",
    domain=_softmax_backward_domain,
    formula="grad_output * weight[target] * (probabilities - one_hot(target))",
    kernels={"cpu": "tinygrad_cv.ops.cpu.softmax:softmax_cross_entropy_backward"},
    method=False,
    internal=True,
)
class softmax_cross_entropy_backward(Op):
    """The gradient of the cross-entropy with class indices for its scores, given their softmax."""

    nondiff = ("target", "weight")

    def prepare(grad_output, probabilities, target, weight, ignore_index, reduction, label_smoothing):
        # Once more: the kernel writes where the labels say, and their memory may have changed since the forward pass.
        check_labels("softmax_cross_entropy_backward", probabilities, target, weight, ignore_index)
        return grad_output, probabilities, target, weight, ignore_index, reduction, label_smoothing

    def reference(
        grad_output: Array,
        probabilities: Array,
        target: Array,
        weight: Array | None,
        ignore_index: int,
        reduction: str,
        label_smoothing: float,
    ) -> np.ndarray:
        rows = _as_rows(probabilities)
        shares, totals = _class_shares(
            target, weight, rows.shape[1], ignore_index, label_smoothing, reduction, probabilities.dtype
        )
        grad = (rows * totals - shares) * grad_output.reshape(-1, 1)
        if ignore_index >= 0 or (target == ignore_index).any():
            grad[target.reshape(-1) == ignore_index] = 0
        return _from_rows(grad.astype(probabilities.dtype, copy=False), probabilities.shape)

    def backward(
        upstream, grad_output, probabilities, target, weight, ignore_index, reduction, label_smoothing
    ):  # the forward pass is shares times two factors: each one's gradient is the rest
        shape = probabilities.shape
        axis = min(len(shape) - 1, 1)
        shares, totals = _class_shares(
            target._data,
            None if weight is None else weight._data,
            shape[axis],
            ignore_index,
            label_smoothing,
            reduction,
            upstream.dtype,
        )
        flat = (*shape[:axis], 1, *shape[axis + 1 :])
        shares, totals = tg.from_numpy(_from_rows(shares, shape)), tg.from_numpy(_from_rows(totals, flat))
        rowwise = (upstream * (probabilities * totals - shares)).sum(axis)
        scale = grad_output if reduction != "none" else grad_output.unsqueeze(axis)
        return rowwise if reduction == "none" else rowwise.sum(), upstream * totals * scale, None, None


def _cross_entropy_domain(draw):
    scores, target, options = _labels_domain(draw)
    if draw.boolean():
        target = draw.real(scores.shape, 0.1, 1.0)
        options["ignore_index"] = -100
    return call(scores, target, **options, label_smoothing=draw.choice([0.0, 0.3]))


@op(
    "cross_entropy",
    domain=_cross_entropy_domain,
    formula="-sum_c target_c * weight_c * log(softmax(input)_c)",
    source="https://pytorch.org/docs/stable/generated/torch.nn.CrossEntropyLoss.html; label smoothing: arXiv:1512.00567",
    method=False,
)
@older_arguments
class cross_entropy(Composite):
    """The cross-entropy between the softmax of `input` and the target, over axis 1 (axis 0 of a 1-D input).

    input: unnormalised scores, (N, C), (C) or (N, C, d1, ...). target: integer class indices (N), () or (N, d1, ...); or floating
    class probabilities of input's shape. weight: (C), a factor for each class. ignore_index: a label that counts nothing (indices
    only). label_smoothing: this share of the target is spread evenly over all classes. reduction 'mean' divides by the sum of the
    weights of the labels that count (by N * d1 * ... for probabilities).

    IndexError for a label out of range, naming it and its row; ValueError, TypeError for shapes and dtypes that do not fit.
    """

    nondiff = ("weight",)

    def prepare(input, target, weight=None, *, ignore_index=-100, reduction="mean", label_smoothing=0.0):
        check_reduction("cross_entropy", reduction)
        if not 0.0 <= label_smoothing <= 1.0:
            raise ValueError(f"cross_entropy: label_smoothing must lie in [0, 1], got {label_smoothing}")
        if (
            isinstance(target, Tensor)
            and target.dtype.kind == "f"
            and isinstance(input, Tensor)
            and target.shape == input.shape
        ):
            check_floating("cross_entropy", input=input, weight=weight)
            if ignore_index >= 0:
                raise ValueError("cross_entropy: ignore_index has no meaning for class probabilities; leave it at its default")
            if input.ndim == 0 or (weight is not None and weight.shape != (input.shape[min(input.ndim - 1, 1)],)):
                raise ValueError(
                    f"cross_entropy: weight must hold one factor for each class of input {input.shape}, got "
                    f"{None if weight is None else weight.shape}"
                )
        else:
            check_labels("cross_entropy", input, target, weight, ignore_index)
        return input, target, weight, int(ignore_index), reduction, float(label_smoothing)

    def reference(
        input: Array,
        target: Array,
        weight: Array | None = None,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> np.ndarray:
        rows = _as_rows(input).astype(np.float64)
        top = rows.max(1, keepdims=True, initial=-np.inf)
        log_probabilities = rows - top - np.log(np.exp(rows - top).sum(1, keepdims=True))
        factors = np.ones(rows.shape[1]) if weight is None else weight
        if target.dtype.kind == "f":
            wanted = _as_rows(target)
            counted = np.ones(len(rows), bool)
            divisor = float(rows.size // max(rows.shape[1], 1))
        else:
            counted = target.reshape(-1) != ignore_index
            labels = np.where(counted, target.reshape(-1), 0)
            wanted = np.eye(rows.shape[1])[labels]
            divisor = factors[labels][counted].sum()
        wanted = wanted * (1 - label_smoothing) + label_smoothing / max(rows.shape[1], 1)
        losses = -(wanted * factors * log_probabilities).sum(1) * counted
        if reduction == "none":
            axis = min(input.ndim - 1, 1)
            return losses.reshape(input.shape[:axis] + input.shape[axis + 1 :]).astype(input.dtype)
        return np.asarray(losses.sum() / divisor if reduction == "mean" else losses.sum(), input.dtype)

    def compose(input, target, weight=None, *, ignore_index=-100, reduction="mean", label_smoothing=0.0):
        if target.dtype.kind != "f":
            # Checked already: straight to the operator.
            return apply(softmax_cross_entropy, (input, target, weight), (ignore_index, reduction, label_smoothing)).loss
        axis = min(input.ndim - 1, 1)
        if label_smoothing:
            target = target * (1 - label_smoothing) + label_smoothing / max(input.shape[axis], 1)
        if weight is not None:
            target = target * weight.detach().reshape((-1,) + (1,) * (input.ndim - axis - 1))
        losses = -(tg.log_softmax(input, axis) * target).sum(axis)
        if reduction == "none":
            return losses
        if reduction == "mean" and not input.numel():
            return losses.sum() / 0
        return reduce_loss(losses, reduction)
