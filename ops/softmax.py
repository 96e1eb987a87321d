"""softmax and its kin, along one axis."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

import tinygrad_cv as tg

from ..extend import Array, Composite, Op, PermutationEquivariant, call, op
from .activation import require_floating


def axis_domain(draw):
    """A tensor of one to three axes and one of them."""
    shape = draw.shape((1, 3))
    return call(draw.real(shape), draw.integer(-len(shape), len(shape) - 1))


def _prepare_axis(name: str, input: Any, dim: int | None, dtype: Any) -> tuple[Any, int, Any]:
    """The input in `dtype`, the axis counted from 0, and the dtype."""
    if dim is None:
        dim = 0 if input.ndim in (0, 1, 3) else 1
        warnings.warn(f"{name}: pass dim; without it axis {dim} of {input.ndim} is chosen, as PyTorch does", stacklevel=4)
    if not -max(input.ndim, 1) <= dim < max(input.ndim, 1):
        raise IndexError(f"{name}: dim {dim} is out of range for shape {input.shape}")
    if dtype is not None:
        dtype = tg.dtypes.as_dtype(dtype)
        input = input.to(dtype)
    require_floating(name, input)
    return input, dim % max(input.ndim, 1), dtype


def _shifted(input: np.ndarray, dim: int, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """input minus its largest element along dim, and the sums of e^that: at least one axis, half precision widened."""
    wide = np.atleast_1d(input).astype(dtype or input.dtype)
    wide = wide.astype(np.float32) if wide.dtype == np.float16 else wide
    shifted = wide - wide.max(axis=dim, keepdims=True, initial=-np.inf)
    return shifted, np.exp(shifted).sum(axis=dim, keepdims=True)


@op(
    "softmax",
    domain=axis_domain,
    formula="e^input / sum of e^input over dim",
    kernels={"cpu": "tinygrad_cv.ops.cpu.softmax:softmax"},
    laws=(PermutationEquivariant("input", axis="dim"),),
)
class softmax(Op):
    """e^input / sum over `dim` of e^input: positive numbers whose sum over dim is 1. Computed without overflow.

    dtype: convert the input first. TypeError for a tensor (after dtype) that is not floating, IndexError for a dim that does
    not exist. Without dim, axis 0 of 0, 1 or 3 axes and else axis 1 is chosen, with a warning.
    """

    def prepare(input, dim=None, *, dtype=None):
        return _prepare_axis("softmax", input, dim, dtype)

    def reference(input: Array, dim: int | None = None, *, dtype: Any = None) -> np.ndarray:
        shifted, total = _shifted(input, dim, dtype)
        return (np.exp(shifted) / total).astype(dtype or input.dtype).reshape(input.shape)

    def grad_input(upstream, out, dim):
        if out.dtype == np.float16:
            return tg.softmax_backward(upstream.float(), out.float(), dim).half()
        return tg.softmax_backward(upstream, out, dim)


@op(
    "log_softmax",
    domain=axis_domain,
    formula="input - ln(sum of e^input over dim)",
    kernels={"cpu": "tinygrad_cv.ops.cpu.softmax:log_softmax"},
    laws=(PermutationEquivariant("input", axis="dim"),),
)
class log_softmax(Op):
    """The logarithm of `softmax`, accurate where that is tiny. Same arguments and errors."""

    def prepare(input, dim=None, *, dtype=None):
        return _prepare_axis("log_softmax", input, dim, dtype)

    def reference(input: Array, dim: int | None = None, *, dtype: Any = None) -> np.ndarray:
        shifted, total = _shifted(input, dim, dtype)
        return (shifted - np.log(total)).astype(dtype or input.dtype).reshape(input.shape)

    def grad_input(upstream, out, dim):
        if out.dtype == np.float16:
            return tg.log_softmax_backward(upstream.float(), out.float(), dim).half()
        return tg.log_softmax_backward(upstream, out, dim)


def _backward_domain(draw):
    shape = draw.shape((1, 3))
    return call(draw.real(shape), draw.real(shape), draw.integer(0, len(shape) - 1))


@op(
    "softmax_backward",
    domain=_backward_domain,
    formula="output * (grad_output - sum of grad_output * output over dim)",
    kernels={"cpu": "tinygrad_cv.ops.cpu.softmax:softmax_backward"},
    method=False,
    internal=True,
)
class softmax_backward(Op):
    """The gradient of `softmax`, from its value `output`."""

    def reference(grad_output: Array, output: Array, dim: int) -> np.ndarray:
        weighted = grad_output * output
        return weighted - output * (weighted.sum(axis=dim, keepdims=True) if output.ndim else weighted)

    def grad_grad_output(upstream, output, dim):
        return tg.softmax_backward(upstream, output, dim)

    def grad_output(upstream, grad_output, output, dim):
        total, cross = ((v * output).sum(dim, keepdim=True) for v in (grad_output, upstream))
        return upstream * (grad_output - total) - grad_output * cross


@op(
    "log_softmax_backward",
    domain=_backward_domain,
    formula="grad_output - e^output * sum of grad_output over dim",
    kernels={"cpu": "tinygrad_cv.ops.cpu.softmax:log_softmax_backward"},
    method=False,
    internal=True,
)
class log_softmax_backward(Op):
    """The gradient of `log_softmax`, from its value `output`."""

    def reference(grad_output: Array, output: Array, dim: int) -> np.ndarray:
        return grad_output - np.exp(output) * (grad_output.sum(axis=dim, keepdims=True) if output.ndim else grad_output)

    def grad_grad_output(upstream, output, dim):
        return upstream - (upstream * output.exp()).sum(dim, keepdim=True)

    def grad_output(upstream, grad_output, output, dim):
        return -upstream * output.exp() * grad_output.sum(dim, keepdim=True)


@op(
    "softmin",
    domain=axis_domain,
    formula="e^-input / sum of e^-input over dim",
    laws=(PermutationEquivariant("input", axis="dim"),),
)
class softmin(Composite):
    """`softmax` of -input. Same arguments and errors."""

    def prepare(input, dim=None, *, dtype=None):
        return _prepare_axis("softmin", input, dim, dtype)

    def compose(input, dim=None, *, dtype=None):
        return tg.softmax(-input, dim)

    def reference(input: Array, dim: int | None = None, *, dtype: Any = None) -> np.ndarray:
        shifted, total = _shifted(np.negative(input), dim, dtype)
        return (np.exp(shifted) / total).astype(dtype or input.dtype).reshape(input.shape)
