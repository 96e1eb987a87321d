"""What training loops do to gradients and parameters between backward and step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from .._tensor import Tensor, wrap
from ..replay import replayable
from . import functional as F
from .parameter import mark_written, overwrite


def _listed(parameters: Any) -> list[Tensor]:
    return [parameters] if isinstance(parameters, Tensor) else list(parameters)


def _gradients(parameters: Any) -> list[Tensor]:
    return [p.grad for p in _listed(parameters) if p.grad is not None]


@replayable
def get_total_norm(tensors: Any, norm_type: float = 2.0, error_if_nonfinite: bool = False) -> Tensor:
    """The p-norm of all elements of all tensors together, as a 0-d Tensor; the largest magnitude for norm_type inf."""
    norm_type = float(norm_type)
    arrays = [t._data for t in _listed(tensors)]
    parts = np.array([_norm(a, norm_type) for a in arrays])
    total = _norm(parts, norm_type) if arrays else 0.0
    if error_if_nonfinite and not math.isfinite(total):
        raise RuntimeError(
            f"the total norm of order {norm_type} of the gradients is {total}; find where it comes from, or allow it"
        )
    return wrap(np.asarray(total, arrays[0].dtype if arrays else np.float32))


def _norm(array: np.ndarray, p: float) -> float:
    flat = np.abs(array.ravel().astype(np.float64))
    if math.isinf(p):
        return float(flat.max(initial=0.0) if p > 0 else flat.min(initial=math.inf))
    if p == 0:
        return float(np.count_nonzero(flat))
    return float(np.sqrt(flat @ flat) if p == 2 else (flat**p).sum() ** (1 / p))


@replayable
def clip_grad_norm_(
    parameters: Any, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False, foreach: bool | None = None
) -> Tensor:
    """Scales all gradients by min(1, max_norm / (their total norm + 1e-6)), in place; returns the norm before. arXiv:1211.5063.

    RuntimeError for a norm that is NaN or infinite, if `error_if_nonfinite`; nothing is then changed.
    """
    gradients = _gradients(parameters)
    total = get_total_norm(gradients, norm_type, error_if_nonfinite)
    scale = float(max_norm) / (float(total) + 1e-6)
    if not scale >= 1:  # a NaN norm spreads, as in PyTorch
        for gradient in gradients:
            gradient._data *= gradient._data.dtype.type(scale)
            mark_written(gradient)
    return total


@replayable
def clip_grad_value_(parameters: Any, clip_value: float, foreach: bool | None = None) -> None:
    """Limits every element of every gradient to [-clip_value, clip_value], in place."""
    limit = float(clip_value)
    for gradient in _gradients(parameters):
        np.clip(gradient._data, -limit, limit, out=gradient._data)
        mark_written(gradient)


@replayable
def max_norm_(parameters: Any, max_norm: float, dim: int | None = 0, norm_type: float = 2.0, eps: float = 1e-12) -> None:
    """Scales down, in place, every weight vector longer than `max_norm`. Srivastava et al., JMLR 2014, section 5.1.

    dim: the axis that counts the units (0 for Linear and Conv weights); the norm of a unit's vector is taken over all other axes.
    None: over the whole tensor. Tensors of one axis (biases) are left alone unless dim is None. Call it after `step()`.
    """
    if max_norm < 0:
        raise ValueError(f"max_norm_: max_norm must not be negative, got {max_norm}")
    for parameter in _listed(parameters):
        data = parameter._data
        if dim is not None and data.ndim < 2:
            continue
        if dim is not None and not -data.ndim <= dim < data.ndim:
            raise IndexError(f"max_norm_: dim {dim} is out of range for a parameter of shape {data.shape}")
        axes = tuple(i for i in range(data.ndim) if dim is None or i != dim % data.ndim)
        size = np.abs(data.astype(np.float64))
        if math.isinf(norm_type):
            norms = size.max(axes, keepdims=True, initial=0.0)
        else:
            norms = (size**norm_type).sum(axes, keepdims=True) ** (1 / norm_type)
        if (norms > max_norm).any():
            overwrite(parameter, data * np.where(norms > max_norm, max_norm / np.maximum(norms, eps), 1.0).astype(data.dtype))


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All parameters, each flattened, joined into one vector; differentiable."""
    return F.cat([p.reshape(-1) for p in _listed(parameters)], 0)  # type: ignore[attr-defined]


@replayable
def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Copies the parts of a vector into the parameters, the inverse of `parameters_to_vector`. ValueError for a wrong length."""
    if not isinstance(vec, Tensor):
        raise TypeError(f"vector_to_parameters: expected a Tensor, got {type(vec).__name__}")
    listed = _listed(parameters)
    total = sum(p.numel() for p in listed)
    if vec.shape != (total,):
        raise ValueError(f"vector_to_parameters: expected a vector of {total} elements, got shape {vec.shape}")
    start = 0
    for parameter in listed:
        overwrite(parameter, vec._data[start : start + parameter.numel()].reshape(parameter.shape))
        start += parameter.numel()
