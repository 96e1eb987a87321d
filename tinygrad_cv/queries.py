"""Questions about tensors that PyTorch answers with functions."""

from __future__ import annotations

from typing import Any

from ._tensor import Tensor


def is_tensor(obj: Any) -> bool:
    """Whether `obj` is a Tensor."""
    return isinstance(obj, Tensor)


def is_floating_point(input: Tensor) -> bool:
    """Whether the elements of `input` are floating-point numbers."""
    return input.is_floating_point()


def numel(input: Tensor) -> int:
    """The number of elements of `input`."""
    return input.numel()


__all__ = ["is_floating_point", "is_tensor", "numel"]
