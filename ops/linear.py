"""Matrix products and what networks build directly on them."""

from __future__ import annotations

import numpy as np

from ..extend import Array, Op, call, op
from .cpu.gemm import gemm


def same_dtype(name: str, **tensors) -> None:
    """TypeError unless all the tensors have one dtype: products do not promote."""
    kinds = {k: t.dtype for k, t in tensors.items() if t is not None}
    if len(set(kinds.values())) > 1:
        raise TypeError(f"{name}: expected one dtype, got {', '.join(f'{k} {d}' for k, d in kinds.items())}; convert with .to(dtype)")


def _matmul_domain(draw):
    n, k, m = (draw.integer(1, 4) for _ in range(3))
    batch = draw.shape((0, 2))
    a, b = draw.choice([((n, k), (k, m)), ((k,), (k, m)), ((n, k), (k,)), ((k,), (k,)), (None, None)])
    if a is None:
        a, b = (*batch, n, k), (*draw.broadcastable(batch), k, m)
    return call(draw.real(a), draw.real(b))


@op("matmul", domain=_matmul_domain, formula="out[..., i, j] = sum_k input[..., i, k] * other[..., k, j]")
class matmul(Op):
    """The matrix product: (..., n, k) @ (..., k, m) -> (..., n, m), with leading axes broadcast; 1-D operands as vectors.

    ValueError if the inner sizes differ or an operand is 0-d; TypeError if the dtypes differ.
    """

    def prepare(input, other):
        same_dtype("matmul", input=input, other=other)
        if not input.ndim or not other.ndim:
            raise ValueError(f"matmul: operands need at least one axis, got shapes {input.shape} and {other.shape}")
        inner = other.shape[-2 if other.ndim > 1 else 0]
        if input.shape[-1] != inner:
            raise ValueError(
                f"matmul: shapes {input.shape} and {other.shape} do not fit: axis -1 of `input` has size {input.shape[-1]}, axis "
                f"{-2 if other.ndim > 1 else 0} of `other` has size {inner}"
            )
        return input, other

    def reference(input: Array, other: Array) -> np.ndarray:
        return gemm(input, other)

    def grad_input(upstream, other, ctx):
        n_in, n_other = (len(s) for s in ctx.input_shapes)
        if n_other == 1:
            grad = upstream.unsqueeze(-1) * other if n_in > 1 else upstream * other
        else:
            g = upstream.unsqueeze(-2) if n_in == 1 else upstream
            grad = g @ other.mT
            grad = grad.squeeze(-2) if n_in == 1 else grad
        return grad.sum_to_size(ctx.input_shapes[0])

    def grad_other(upstream, input, ctx):
        n_in, n_other = (len(s) for s in ctx.input_shapes)
        if n_in == 1:
            grad = input.unsqueeze(-1) * upstream.unsqueeze(-2) if n_other > 1 else upstream * input
        else:
            g = upstream.unsqueeze(-1) if n_other == 1 else upstream
            grad = input.mT @ g
            grad = grad.squeeze(-1) if n_other == 1 else grad
        return grad.sum_to_size(ctx.input_shapes[1])


@op(
    "linear",
    domain=lambda draw: call(draw.real((*draw.shape((0, 2)), 3)), draw.real((2, 3)), draw.choice([None, draw.real((2,))])),
    formula="input @ weight^T + bias",
    method=False,
)
class linear(Op):
    """y = x W^T + b for x of shape (..., in_features), W (out_features, in_features), b (out_features)."""

    def prepare(input, weight, bias=None):
        same_dtype("linear", input=input, weight=weight, bias=bias)
        if input.ndim == 0 or weight.ndim != 2 or input.shape[-1] != weight.shape[1]:
            raise ValueError(
                f"linear: input of shape {input.shape} does not fit weight of shape {weight.shape}: the last axis of the input must "
                f"have the size of axis 1 of the weight (out_features, in_features)"
            )
        if bias is not None and bias.shape != weight.shape[:1]:
            raise ValueError(f"linear: bias has shape {bias.shape}, expected {weight.shape[:1]}")
        return input, weight, bias

    def reference(input: Array, weight: Array, bias: Array | None = None) -> np.ndarray:
        out = gemm(input, weight.T)
        if bias is not None:
            out += bias
        return out

    def grad_input(upstream, weight):
        return upstream @ weight

    def grad_weight(upstream, input, ctx):
        rows = input.reshape(-1, ctx.input_shapes[0][-1])
        return upstream.reshape(-1, ctx.input_shapes[1][0]).mT @ rows

    def grad_bias(upstream, ctx):
        return upstream.sum_to_size(ctx.input_shapes[2])
