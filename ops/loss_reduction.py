"""What losses make of their elements: 'mean', 'sum' or 'none', and PyTorch's older arguments for the same choice."""

from __future__ import annotations

import inspect
import warnings

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
    """Gives a loss PyTorch's older arguments `size_average=None, reduce=None`, in PyTorch's places.

    The star in the signature of `reference` marks where `size_average` stands; `reduce` stands before `reduction`. `prepare`
    settles on one reduction, so `reference`, `compose` and the rules are written without them.
    """
    reference, prepare = declaration.reference, declaration.prepare
    compose = getattr(declaration, "compose", None)
    plain = list(inspect.signature(reference).parameters.values())
    first = next(i for i, p in enumerate(plain) if p.kind is p.KEYWORD_ONLY)
    own = [p.name for p in plain]
    parameters = [p.replace(kind=p.POSITIONAL_OR_KEYWORD) for p in plain]
    older = [inspect.Parameter(n, plain[0].POSITIONAL_OR_KEYWORD, default=None) for n in ("size_average", "reduce")]
    parameters.insert(first, older[0])
    parameters.insert(next(i for i, p in enumerate(parameters) if p.name == "reduction"), older[1])
    names = [p.name for p in parameters]
    signature, places = inspect.Signature(parameters), [names.index(n) for n in own]
    by_position, by_name = places[:first], list(zip(own[first:], places[first:], strict=True))
    size_average, reduce, reduction = (names.index(n) for n in ("size_average", "reduce", "reduction"))

    # The functions that the registry generates pass every value by position, in the order of `signature`.
    def call(function, values):
        return function(*[values[i] for i in by_position], **{n: values[i] for n, i in by_name})

    def with_older(function):
        def wider(*values):
            return call(function, values)

        wider.__signature__, wider.__wrapped__, wider.__annotations__ = signature, function, function.__annotations__
        return staticmethod(wider)

    def settle(*values):
        settled = list(values)
        if values[size_average] is not None or values[reduce] is not None:
            older = values[size_average], values[reduce], values[reduction]
            settled[reduction] = chosen_reduction(declaration.__name__, *older, 4)
            settled[size_average] = settled[reduce] = None
        for i, value in zip(places, call(prepare, settled), strict=True):
            settled[i] = value
        return tuple(settled)

    declaration.prepare = staticmethod(settle)
    declaration.reference = with_older(reference)
    if compose is not None:
        declaration.compose = with_older(compose)
    return declaration


def reduce_loss(loss, reduction: str):
    """The mean, the sum or all of `loss`, an array or a Tensor."""
    if isinstance(loss, Tensor):
        return loss.mean() if reduction == "mean" else loss.sum() if reduction == "sum" else loss
    if reduction == "none":
        return loss
    wide = loss.astype(np.float32) if loss.dtype == np.float16 else loss
    return np.asarray(getattr(wide, reduction)(), loss.dtype)
