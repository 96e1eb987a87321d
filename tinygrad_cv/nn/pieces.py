"""Cutting a tensor into all of its parts at once, for recurrent layers.

One node has all the parts as outputs, so its backward joins their gradients once. (A chain of `select` or `narrow` would fill
an array of the whole tensor's size for each part, which is quadratic in the length of a sequence.)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .._state import state
from .._tensor import Tensor, wrap
from ..creation import zeros
from ..dispatch import record
from ..domain import call
from ..registry import Array, Op, Operator
from . import functional as F


class _Steps(Op):
    """The parts of `input` along its first axis, without that axis."""

    def reference(input: Array) -> tuple[np.ndarray, ...]:  # type: ignore[misc]
        return tuple(input)

    def backward(upstreams: Any, ctx: Any) -> Any:
        return (F.stack(_filled(upstreams, ctx), 0),)


class _Chunks(Op):
    """The `count` equal parts of `input` along its last axis."""

    def reference(input: Array, count: int) -> tuple[np.ndarray, ...]:  # type: ignore[misc]
        return tuple(np.split(input, count, -1))

    def backward(upstreams: Any, ctx: Any) -> Any:
        return (F.cat(_filled(upstreams, ctx), -1),)


def _filled(upstreams: Any, ctx: Any) -> list[Tensor]:
    return [zeros(s, dtype=d) if u is None else u for u, s, d in zip(upstreams, ctx.shapes, ctx.dtypes, strict=True)]


def _operator(declaration: type[Op], name: str, formula: str) -> Operator:
    return Operator(
        declaration, name, domain=lambda draw: call(draw.real((2, 4))), formula=formula, kinks=None, source="", kernels=None,
        cost=None, method=False, inplace=False, tolerance=None, provider="tinygrad_cv", gradgrad=True,
    )  # fmt: skip


_steps = _operator(_Steps, "unbind", "(input[0], input[1], ...)")
_chunks = _operator(_Chunks, "chunk", "parts of input along its last axis")


def _cut(operator: Operator, input: Tensor, attrs: tuple[Any, ...]) -> tuple[Tensor, ...]:
    parts = tuple([wrap(a) for a in operator.bind(operator.reference, (input._data,), attrs)])
    wants = state.grad_enabled and input.requires_grad
    if wants or state.capture is not None:
        record(operator, (input,), attrs, parts, wants)
    return parts


def steps(input: Tensor) -> tuple[Tensor, ...]:
    """(T, ...) -> T tensors of shape (...)."""
    return _cut(_steps, input, ())


def chunks(input: Tensor, count: int) -> tuple[Tensor, ...]:
    """(..., count * n) -> `count` tensors of shape (..., n)."""
    return _cut(_chunks, input, (count,))
