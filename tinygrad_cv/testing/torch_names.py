"""PyTorch's function for a call of a program: the one of the same name, with the same arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from .. import registry
from .program import Step

# Results determined only up to a sign or an order, or gradients that PyTorch defines otherwise where an index occurs twice.
_OTHERWISE = {
    "linalg.eigh", "linalg.svd", "svd", "linalg.qr", "index_copy", "scatter", "index_put", "setitem", "nanmedian", "mode",
}  # fmt: skip


class NoCounterpart(TypeError):
    """PyTorch has no function of that name that promises the same."""


@cache
def counterpart(name: str) -> Callable[..., Any]:
    """The PyTorch function of an operator's name: in torch.nn.functional, torch, torch.linalg, torch.special, or a Tensor method."""
    import torch

    operator = registry.get(name)
    if name in ("getitem", "index"):
        return lambda input, index: input[index]
    if name == "conv2d_matrix":
        return torch.nn.functional.conv2d
    if operator.internal or operator.random or name in _OTHERWISE or operator.provider != "tinygrad_cv" or name == "maxout":
        raise NoCounterpart(f"{name}: nothing in PyTorch promises the same")
    if "." in name:
        room, _, short = name.partition(".")
        found = getattr(getattr(torch, room, None), short, None)
    else:
        places = (torch.nn.functional, torch, torch.special, torch.Tensor)
        found = next((f for p in places if callable(f := getattr(p, name, None)) and not inspect.ismodule(f)), None)
    if found is None or isinstance(found, type):
        raise NoCounterpart(f"{name}: PyTorch has no function of that name")
    if name == "lp_pool1d":
        return lambda *args, **kwargs: found(*map(_single, args), **{k: _single(v) for k, v in kwargs.items()})
    return found


def _single(value: Any) -> Any:
    """A tuple of one integer as the integer: PyTorch's lp_pool1d takes nothing else."""
    return value[0] if isinstance(value, tuple) and len(value) == 1 else value


def made(value: Any) -> Any:
    """Arrays as tensors, dtypes as PyTorch's, tuples and lists element by element, the rest as it is."""
    import torch

    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(value).reshape(value.shape).copy())
    if isinstance(value, np.dtype):
        return getattr(torch, value.name)
    if isinstance(value, (tuple, list)):
        return type(value)(made(v) for v in value)
    return value


def call(step: Step) -> Callable[..., Any]:
    """What makes the call in PyTorch."""
    import torch

    if step.inplace:
        name = step.operator + "_"
        found = getattr(torch.Tensor, name, None) or getattr(torch.nn.functional, name, None)
        if found is None:
            raise NoCounterpart(f"{step.operator}: PyTorch has no {name}")
    else:
        found = counterpart(step.operator)
    return lambda *args, **kwargs: found(*map(made, args), **{k: made(v) for k, v in kwargs.items()})


__all__ = ["NoCounterpart", "call", "counterpart", "made"]
