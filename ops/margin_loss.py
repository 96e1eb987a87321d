"""Losses with a margin: hinges on scores, on distances and on the order of two scores.

A hinge max(0, z) has derivative 0 at z = 0 in the multi-class and multi-label losses, and 1 in the others, as in PyTorch.
"""

from __future__ import annotations

import math

import numpy as np

import tinygrad_cv as tg

from ..extend import Array, Composite, Tensor, call, op
from .loss import check_floating, check_labels
from .loss_reduction import REDUCTIONS, check_reduction, older_arguments, reduce_loss
from .value_loss import check_same_shape


def _classes_domain(draw):
    """Scores spread so that no hinge of margin 1 or 0.5 has its kink near."""
    batch, classes = draw.integer(1, 3), draw.integer(2, 4)
    shape, targets = draw.choice([((batch, classes), (batch,)), ((classes,), ())])
    scores = np.zeros(shape)
    for row in scores.reshape(-1, classes):
        row[:] = np.array(draw.permutation(classes)) * 0.7 + draw.real((classes,), -0.04, 0.04)
    target = draw.integers(targets, 0, classes)
    weight = draw.choice([None, draw.real((classes,), 0.5, 2.0)])
    return call(scores, target, draw.choice([1, 2]), draw.choice([1.0, 0.5]), weight, reduction=draw.choice(REDUCTIONS))


@op(
    "multi_margin_loss",
    domain=_classes_domain,
    formula="weight[y] * sum over j != y of max(0, margin - input[y] + input[j])^p / C",
    kinks=("input[y] - input[j] = margin: derivative 0",),
    source="Crammer, Singer 2001, JMLR 2; Weston, Watkins 1999",
    method=False,
)
@older_arguments
class multi_margin_loss(Composite):
    """The multiclass SVM hinge: every wrong class should score lower than the right one by `margin`.

    input: (N, C) or (C). target: integer labels (N) or (). p: 1 or 2, the power of the hinge. weight: (C), a factor by the label.
    IndexError for a label out of range.
    """

    nondiff = ("target", "weight")

    def prepare(input, target, p=1, margin=1.0, weight=None, *, reduction="mean"):
        check_reduction("multi_margin_loss", reduction)
        if p not in (1, 2):
            raise ValueError(f"multi_margin_loss: p must be 1 or 2, got {p}")
        if isinstance(input, Tensor) and input.ndim not in (1, 2):
            raise ValueError(f"multi_margin_loss: input must have shape (N, C) or (C), got {input.shape}")
        if isinstance(input, Tensor) and isinstance(target, Tensor) and input.ndim == 1 and target.shape == (1,):
            target = target.reshape(())  # PyTorch takes both for the label of one example
        check_labels("multi_margin_loss", input, target, weight)
        return input, target, int(p), float(margin), weight, reduction

    def reference(
        input: Array, target: Array, p: int = 1, margin: float = 1.0, weight: Array | None = None, *, reduction: str = "mean"
    ) -> np.ndarray:
        losses = np.zeros(target.shape, input.dtype)
        for i, label in np.ndenumerate(target):
            hinges = [max(0.0, margin - input[(*i, label)] + s) ** p for j, s in enumerate(input[i]) if j != label]
            losses[i] = np.sum(hinges) * (1 if weight is None else weight[label]) / input.shape[-1]
        return reduce_loss(losses, reduction)

    def compose(input, target, p=1, margin=1.0, weight=None, *, reduction="mean"):
        labels = target.long().unsqueeze(-1)
        hinge = tg.relu(input - input.gather(-1, labels) + margin)
        hinge = hinge.square() if p == 2 else hinge
        factor = np.ones(input.shape, input.dtype)
        np.put_along_axis(factor, labels._data, 0, -1)
        if weight is not None:
            factor *= weight._data[labels._data]
        losses = (hinge * tg.from_numpy(factor / input.dtype.type(input.shape[-1]))).sum(-1)
        return reduce_loss(losses, reduction)


def _multilabel_domain(draw):
    batch, classes = draw.integer(1, 3), draw.integer(1, 4)
    shape = draw.choice([(batch, classes), (classes,)])
    scores, target = np.zeros(shape), np.zeros(shape, np.int64)
    for row, labels in zip(scores.reshape(-1, classes), target.reshape(-1, classes), strict=True):
        row[:] = np.array(draw.permutation(classes)) * 0.7 + draw.real((classes,), -0.04, 0.04)
        labels[:] = draw.permutation(classes)
        labels[draw.integer(0, classes) :] = -1
    return call(scores, target, reduction=draw.choice(REDUCTIONS))


@op(
    "multilabel_margin_loss",
    domain=_multilabel_domain,
    formula="sum over labels y and other classes j of max(0, 1 - (input[y] - input[j])) / C",
    kinks=("input[y] - input[j] = 1: derivative 0",),
    method=False,
)
@older_arguments
class multilabel_margin_loss(Composite):
    """The hinge of several labels: each of them should score higher by 1 than every class that is no label.

    input: (N, C) or (C). target: integers of the same shape, the labels first and then -1. IndexError for a label out of range.
    """

    nondiff = ("target",)

    def prepare(input, target, *, reduction="mean"):
        name = "multilabel_margin_loss"
        check_reduction(name, reduction)
        check_floating(name, input=input)
        if input.ndim not in (1, 2) or not isinstance(target, Tensor) or target.shape != input.shape:
            raise ValueError(
                f"{name}: input must have shape (N, C) or (C) and target the same, got {input.shape} and {getattr(target, 'shape', None)}"
            )
        if target.dtype.kind not in "iu":
            raise TypeError(f"{name}: target must hold integers, got {target.dtype}; use .long()")
        labels, classes = target._data, input.shape[-1]
        if labels.size and (labels.max() >= classes or labels.min() < -1):
            where = tuple(np.argwhere((labels >= classes) | (labels < -1))[0].tolist())
            raise IndexError(
                f"{name}: label {labels[where]} at {where} of target is out of range 0..{classes - 1} (-1 ends the list)"
            )
        return input, target, reduction

    def reference(input: Array, target: Array, *, reduction: str = "mean") -> np.ndarray:
        classes = input.shape[-1]
        losses = []
        rows = (math.prod(input.shape[:-1]), classes)
        for scores, labels in zip(input.reshape(rows), target.reshape(rows), strict=True):
            ends = np.flatnonzero(labels == -1)
            chosen = labels[: ends[0]] if len(ends) else labels
            others = np.setdiff1d(np.arange(classes), chosen)
            losses.append(np.maximum(0, 1 - (scores[chosen][:, None] - scores[others][None, :])).sum() / max(classes, 1))
        return reduce_loss(np.array(losses, input.dtype).reshape(input.shape[:-1]), reduction)

    def compose(input, target, *, reduction="mean"):
        labels = target._data.astype(np.int64)
        chosen = np.cumprod(labels != -1, axis=-1).astype(bool)  # before the first -1
        labels = np.where(chosen, labels, 0)
        is_label = (chosen[..., None] & (labels[..., None] == np.arange(labels.shape[-1]))).any(-2)
        pairs = (chosen[..., None] & ~is_label[..., None, :]).astype(input.dtype) / input.dtype.type(input.shape[-1])
        hinge = tg.relu(input.unsqueeze(-2) - input.gather(-1, tg.from_numpy(labels)).unsqueeze(-1) + 1)
        return reduce_loss((hinge * tg.from_numpy(pairs)).sum((-2, -1)), reduction)


def random_signs(draw, shape):
    return np.where(draw.mask(shape), 1.0, -1.0)


@op(
    "multilabel_soft_margin_loss",
    domain=lambda draw: (
        lambda s: call(
            draw.real(s),
            draw.real(s, 0.0, 1.0),
            draw.choice([None, draw.real((s[-1],), 0.5, 2.0)]),
            reduction=draw.choice(REDUCTIONS),
        )
    )(draw.shape((1, 2))),
    formula="-mean over classes of weight * (target * log(sigmoid(input)) + (1 - target) * log(sigmoid(-input)))",
    method=False,
)
@older_arguments
class multilabel_soft_margin_loss(Composite):
    """Binary cross-entropy with logits averaged over the classes, the last axis. input, target: (N, C) or (C). weight: (C)."""

    def prepare(input, target, weight=None, *, reduction="mean"):
        name = "multilabel_soft_margin_loss"
        check_same_shape(name, input, target, reduction)
        if not input.ndim or (weight is not None and weight.shape not in ((input.shape[-1],), input.shape)):
            raise ValueError(
                f"{name}: expected input (N, C) or (C) and weight (C), got {input.shape} and {getattr(weight, 'shape', None)}"
            )
        return input, target, weight, reduction

    def reference(input: Array, target: Array, weight: Array | None = None, *, reduction: str = "mean") -> np.ndarray:
        losses = target * np.logaddexp(0, -input) + (1 - target) * np.logaddexp(0, input)
        losses = losses if weight is None else losses * weight
        return reduce_loss(np.asarray(losses.mean(-1)), reduction)

    def compose(input, target, weight=None, *, reduction="mean"):
        losses = (1 - target) * input - tg.logsigmoid(input)
        losses = losses if weight is None else losses * weight
        return reduce_loss(losses.mean(-1), reduction)


@op(
    "soft_margin_loss",
    domain=lambda draw: (lambda s: call(draw.real(s), random_signs(draw, s), reduction=draw.choice(REDUCTIONS)))(
        draw.shape((0, 2))
    ),
    formula="mean of log(1 + exp(-target * input))",
    method=False,
)
@older_arguments
class soft_margin_loss(Composite):
    """The logistic loss of scores for targets +1 and -1. ValueError for shapes that differ."""

    def prepare(input, target, *, reduction="mean"):
        check_same_shape("soft_margin_loss", input, target, reduction)
        return input, target, reduction

    def reference(input: Array, target: Array, *, reduction: str = "mean") -> np.ndarray:
        return reduce_loss(np.asarray(np.logaddexp(0, -target * input)), reduction)

    def compose(input, target, *, reduction="mean"):
        return reduce_loss(-tg.logsigmoid(target * input), reduction)


@op(
    "hinge_embedding_loss",
    domain=lambda draw: (
        lambda s: call(
            draw.real(s, -2, 2, (0.0, 1.0, 0.5)),
            random_signs(draw, s),
            draw.choice([1.0, 0.5]),
            reduction=draw.choice(REDUCTIONS),
        )
    )(draw.shape((0, 2))),
    formula="mean of input where target = 1, max(0, margin - input) where target = -1",
    kinks=("input = margin: derivative -1, as in PyTorch",),
    method=False,
)
@older_arguments
class hinge_embedding_loss(Composite):
    """Distances `input` of pairs: pulled to 0 where target is 1, pushed beyond `margin` where it is -1."""

    nondiff = ("target",)

    def prepare(input, target, margin=1.0, *, reduction="mean"):
        check_reduction("hinge_embedding_loss", reduction)
        check_floating("hinge_embedding_loss", input=input)
        check_fit("hinge_embedding_loss", input, target)
        return input, target, float(margin), reduction

    def reference(input: Array, target: Array, margin: float = 1.0, *, reduction: str = "mean") -> np.ndarray:
        near = np.where(target != -1, input, 0)
        far = np.where(target != 1, np.maximum(margin - input, 0), 0)
        return reduce_loss(np.asarray(near + far, input.dtype), reduction)

    def compose(input, target, margin=1.0, *, reduction="mean"):
        zero = tg.zeros((), dtype=input.dtype)
        near = tg.where(target != -1, input, zero)
        far = tg.where(target != 1, (margin - input).clamp(min=0), zero)
        return reduce_loss(near + far, reduction)


def check_fit(name: str, *tensors) -> None:
    for t in tensors:
        if not isinstance(t, Tensor):
            raise TypeError(f"{name}: expected Tensors, got {type(t).__name__}")
    try:
        np.broadcast_shapes(*(t.shape for t in tensors))
    except ValueError:
        raise ValueError(f"{name}: shapes {', '.join(str(t.shape) for t in tensors)} do not fit together") from None


def _ranking_domain(draw):
    shape = draw.shape((0, 2))
    second = draw.real(shape)
    return call(
        second + draw.real(shape, -1.5, 1.5, (-0.5, 0.5, 0.0)), second, random_signs(draw, shape), draw.choice([0.0, 0.5]),
        reduction=draw.choice(REDUCTIONS),
    )  # fmt: skip


@op(
    "margin_ranking_loss",
    domain=_ranking_domain,
    formula="mean of max(0, -target * (input1 - input2) + margin)",
    kinks=("target * (input1 - input2) = margin: derivative -target",),
    method=False,
)
@older_arguments
class margin_ranking_loss(Composite):
    """Wants input1 above input2 by `margin` where target is 1, below it where target is -1. Integers give the default float."""

    nondiff = ("target",)

    def prepare(input1, input2, target, margin=0.0, *, reduction="mean"):
        check_reduction("margin_ranking_loss", reduction)
        check_fit("margin_ranking_loss", input1, input2, target)
        if "b" in (input1.dtype.kind, input2.dtype.kind, target.dtype.kind):
            raise TypeError(
                f"margin_ranking_loss: expected numbers, got {input1.dtype}, {input2.dtype} and {target.dtype}; use .float()"
            )
        if not input1.ndim == input2.ndim == target.ndim:
            raise ValueError(
                f"margin_ranking_loss: the tensors must have as many axes, got shapes {input1.shape}, {input2.shape}, {target.shape}"
            )
        return input1, input2, target, float(margin), reduction

    def reference(input1: Array, input2: Array, target: Array, margin: float = 0.0, *, reduction: str = "mean") -> np.ndarray:
        dtype = np.result_type(input1, input2)
        losses = np.maximum(0, -target.astype(dtype) * (input1 - input2) + margin)
        return reduce_loss(np.asarray(losses, dtype if dtype.kind == "f" else tg.get_default_dtype()), reduction)

    def compose(input1, input2, target, margin=0.0, *, reduction="mean"):
        return reduce_loss((-target.to(input1.dtype) * (input1 - input2) + float(margin)).clamp(min=0), reduction)
