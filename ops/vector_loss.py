"""Losses on pairs and triplets of vectors: which should be near, which apart. At the kink the hinge has derivative 1, as in PyTorch."""

from __future__ import annotations

import numpy as np

import tinygrad_cv as tg

from ..extend import Array, Composite, Tensor, call, op
from .loss import check_floating
from .loss_reduction import REDUCTIONS, check_reduction, older_arguments, reduce_loss
from .margin_loss import check_fit, random_signs


def _cosine_domain(draw):
    shape = draw.choice([(3, 4), (1, 3), (4,)])
    return call(
        draw.real(shape, 0.5, 2.0), draw.real(shape, 0.5, 2.0), random_signs(draw, shape[:-1]), draw.choice([0.0, 0.25]),
        reduction=draw.choice(REDUCTIONS),
    )  # fmt: skip


@op(
    "cosine_embedding_loss",
    domain=_cosine_domain,
    formula="mean of 1 - cos(input1, input2) where target = 1, max(0, cos(input1, input2) - margin) where target = -1",
    kinks=("cos = margin: derivative that of cos",),
    method=False,
)
@older_arguments
class cosine_embedding_loss(Composite):
    """Turns pairs of vectors towards each other (target 1) or apart until their cosine is below `margin` (target -1).

    input1, input2: (N, D) or (D). target: (N) or (). Squared lengths get 1e-12 added, so a zero vector has cosine 0.
    """

    nondiff = ("target",)

    def prepare(input1, input2, target, margin=0.0, *, reduction="mean"):
        name = "cosine_embedding_loss"
        check_reduction(name, reduction)
        check_floating(name, input1=input1, input2=input2)
        if not isinstance(target, Tensor) or target.ndim not in (0, 1) or not input1.ndim == input2.ndim == target.ndim + 1:
            raise ValueError(
                f"{name}: expected inputs (N, D) with target (N), or inputs (D) with target (); got {input1.shape}, {input2.shape} and "
                f"{getattr(target, 'shape', None)}"
            )
        check_fit(name, input1, input2)
        return input1, input2, target, float(margin), reduction

    def reference(input1: Array, input2: Array, target: Array, margin: float = 0.0, *, reduction: str = "mean") -> np.ndarray:
        lengths = np.sqrt((np.square(input1).sum(-1) + 1e-12) * (np.square(input2).sum(-1) + 1e-12))
        cosine = (input1 * input2).sum(-1) / lengths
        losses = np.where(target == 1, 1 - cosine, 0) + np.where(target == -1, np.maximum(cosine - margin, 0), 0)
        return reduce_loss(np.asarray(losses, np.result_type(input1, input2)), reduction)

    def compose(input1, input2, target, margin=0.0, *, reduction="mean"):
        squares = ((input1 * input1).sum(-1) + 1e-12) * ((input2 * input2).sum(-1) + 1e-12)
        cosine = (input1 * input2).sum(-1) / squares.sqrt()
        zero = tg.zeros((), dtype=cosine.dtype)
        near = tg.where(target == 1, 1 - cosine, zero)
        far = tg.where(target == -1, (cosine - margin).clamp(min=0), zero)
        return reduce_loss(near + far, reduction)


def _triplet_domain(draw):
    shape = draw.choice([(3, 4), (1, 3), (4,)])
    anchor = draw.real(shape)
    return call(
        anchor, anchor + draw.real(shape, 0.3, 1.0), anchor - draw.real(shape, 0.1, 0.8), draw.choice([2.0, 3.0]),
        draw.choice([2.0, 3.0]), swap=draw.boolean(), reduction=draw.choice(REDUCTIONS),
    )  # fmt: skip


def _check_triplet(name: str, anchor, positive, negative, margin: float, reduction: str) -> None:
    check_reduction(name, reduction)
    check_fit(name, anchor, positive, negative)
    if any(t.dtype.kind == "b" for t in (anchor, positive, negative)):
        raise TypeError(f"{name}: expected numbers, got {anchor.dtype}, {positive.dtype} and {negative.dtype}; use .float()")
    if not anchor.ndim == positive.ndim == negative.ndim:
        raise ValueError(
            f"{name}: the tensors must have as many axes, got shapes {anchor.shape}, {positive.shape} and {negative.shape}"
        )
    if margin <= 0:
        raise ValueError(f"{name}: margin must be above 0, got {margin}")


@op(
    "triplet_margin_loss",
    domain=_triplet_domain,
    formula="mean of max(0, d(anchor, positive) - d(anchor, negative) + margin), d the p-norm of the difference plus eps",
    kinks=("hinge = 0: derivative that of the distances",),
    source="arXiv:1503.03832; swap: Balntas et al. 2016",
    method=False,
)
@older_arguments
class triplet_margin_loss(Composite):
    """Wants the positive nearer to the anchor than the negative by `margin`. anchor, positive, negative: (N, D) or (D).

    swap: takes d(positive, negative) where that is the smaller distance to the negative.
    """

    def prepare(anchor, positive, negative, margin=1.0, p=2.0, eps=1e-6, swap=False, *, reduction="mean"):
        _check_triplet("triplet_margin_loss", anchor, positive, negative, margin, reduction)
        return anchor, positive, negative, float(margin), float(p), float(eps), bool(swap), reduction

    def reference(
        anchor: Array, positive: Array, negative: Array, margin: float = 1.0, p: float = 2.0, eps: float = 1e-6,
        swap: bool = False, *, reduction: str = "mean",
    ) -> np.ndarray:  # fmt: skip
        dtype = anchor.dtype if anchor.dtype.kind == "f" else tg.get_default_dtype()

        def distance(a, b):
            return np.linalg.norm((a - b).astype(dtype) + dtype.type(eps), ord=p, axis=-1)

        near, far = distance(anchor, positive), distance(anchor, negative)
        far = np.minimum(far, distance(positive, negative)) if swap else far
        return reduce_loss(np.asarray(np.maximum(0, near - far + margin), dtype), reduction)

    def compose(anchor, positive, negative, margin=1.0, p=2.0, eps=1e-6, swap=False, *, reduction="mean"):
        near, far = tg.pairwise_distance(anchor, positive, p, eps), tg.pairwise_distance(anchor, negative, p, eps)
        if swap:
            far = tg.minimum(far, tg.pairwise_distance(positive, negative, p, eps))
        return reduce_loss((near - far + margin).clamp(min=0), reduction)


def _distance_triplet_domain(draw):
    made = _triplet_domain(draw)
    return call(*made.args[:3], margin=2.0, swap=draw.boolean(), reduction=draw.choice(REDUCTIONS))


@op(
    "triplet_margin_with_distance_loss",
    domain=_distance_triplet_domain,
    formula="mean of max(0, d(anchor, positive) - d(anchor, negative) + margin)",
    kinks=("hinge = 0: derivative that of the distances",),
    method=False,
)
class triplet_margin_with_distance_loss(Composite):
    """`triplet_margin_loss` with a distance of your own: a function of two Tensors; `pairwise_distance` when None."""

    def prepare(anchor, positive, negative, *, distance_function=None, margin=1.0, swap=False, reduction="mean"):
        _check_triplet("triplet_margin_with_distance_loss", anchor, positive, negative, margin, reduction)
        if distance_function is not None and not callable(distance_function):
            raise TypeError("triplet_margin_with_distance_loss: distance_function must be a function of two Tensors, or None")
        return anchor, positive, negative, distance_function, float(margin), bool(swap), reduction

    def reference(
        anchor: Array, positive: Array, negative: Array, *, distance_function=None, margin: float = 1.0, swap: bool = False,
        reduction: str = "mean",
    ) -> np.ndarray:  # fmt: skip
        def distance(a, b):
            if distance_function is not None:
                return distance_function(tg.from_numpy(a), tg.from_numpy(b)).detach().numpy()
            return np.sqrt(np.square(a - b + a.dtype.type(1e-6)).sum(-1))

        near, far = distance(anchor, positive), distance(anchor, negative)
        far = np.minimum(far, distance(positive, negative)) if swap else far
        return reduce_loss(np.asarray(np.maximum(0, near - far + margin), anchor.dtype), reduction)

    def compose(anchor, positive, negative, *, distance_function=None, margin=1.0, swap=False, reduction="mean"):
        distance = distance_function or tg.pairwise_distance
        near, far = distance(anchor, positive), distance(anchor, negative)
        if swap:
            far = tg.minimum(far, distance(positive, negative))
        return reduce_loss((near - far + margin).clamp(min=0), reduction)
