"""Penalties on weights, to be added to a loss: differentiable functions of the parameters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .._tensor import Tensor
from ..creation import zeros


def _total(name: str, parameters: Any, term: Any) -> Tensor:
    listed = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    total: Any = None
    for i, p in enumerate(listed):
        if not isinstance(p, Tensor):
            raise TypeError(f"{name}: parameter {i} is a {type(p).__name__}, expected a Tensor")
        total = term(p) if total is None else total + term(p)
    return zeros(()) if total is None else total


def l1_penalty(parameters: Tensor | Iterable[Tensor], weight: float = 1.0) -> Tensor:
    """weight * sum |w|, a scalar. Its derivative at 0 is 0. Tibshirani, JRSS B 1996."""
    return _total("l1_penalty", parameters, lambda p: p.abs().sum()) * weight  # type: ignore[operator, no-any-return]


def l2_penalty(parameters: Tensor | Iterable[Tensor], weight: float = 1.0) -> Tensor:
    """weight * sum w^2, a scalar (no factor 1/2: the gradient is 2 * weight * w). Hoerl & Kennard, Technometrics 1970."""
    return _total("l2_penalty", parameters, lambda p: (p * p).sum()) * weight  # type: ignore[operator, no-any-return]


def elastic_net_penalty(parameters: Tensor | Iterable[Tensor], l1: float = 1.0, l2: float = 1.0) -> Tensor:
    """l1 * sum |w| + l2 * sum w^2, a scalar. Zou & Hastie, JRSS B 2005, eq. 3."""
    listed = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    return l1_penalty(listed, l1) + l2_penalty(listed, l2)  # type: ignore[operator, no-any-return]
