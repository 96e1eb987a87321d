"""What losses make of their elements: 'mean', 'sum' or 'none', and PyTorch's older arguments for the same choice."""

from __future__ import annotations

import warnings
from functools import partial

import numpy as np

from ..extend import Tensor

REDUCTIONS = ("mean", "sum", "none")


def check_reduction(name: str, reduction: str) -> str:
    """`reduction` itself; ValueError unless it is 'none', 'mean' or 'sum'."""
    if reduction not in REDUCTIONS:
        raise ValueError(f"{name}: reduction must be 'none', 'mean' or 'sum', got {reduction!r}")
    return reduction


def chosen_reduction(name: str, size_average: bool | None, reduce: bool | None, reduction: str, stacklevel: int = 3) -> str:
    """`reduction`, unless one of the older arguments is given: these then decide, with a warning, None counting as True.

    reduce=False is 'none', size_average=False 'sum', and anything else 'mean'.
    """
    if size_average is None and reduce is None:
        return reduction
    each = reduce is not None and not reduce
    total = size_average is not None and not size_average
    reduction = "none" if each else "sum" if total else "mean"
    warnings.warn(
        f"{name}: size_average and reduce are deprecated, please use reduction={reduction!r} instead",
        UserWarning,
        stacklevel=stacklevel,
    )
    return reduction


def older_arguments(declaration: type) -> type:
    """Gives a loss PyTorch's older arguments `size_average=None, reduce=None`, in PyTorch's places (see `Op.older`).

    The star in the signature of `reference` marks where `size_average` stands; `reduce` stands before `reduction`. The public
    functions settle on one reduction, so `reference`, `prepare`, `compose` and the rules are written without them.
    """
    declaration.older = staticmethod(partial(chosen_reduction, declaration.__name__))
    return declaration


def reduce_loss(loss, reduction: str):
    """The mean, the sum or all of `loss`, an array or a Tensor."""
    if isinstance(loss, Tensor):
        return loss.mean() if reduction == "mean" else loss.sum() if reduction == "sum" else loss
    if reduction == "none":
        return loss
    wide = loss.astype(np.float32) if loss.dtype == np.float16 else loss
    return np.asarray(getattr(wide, reduction)(), loss.dtype)
