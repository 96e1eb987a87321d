"""Matrix products and what networks build directly on them. Every product goes through `gemm`."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

import tinygrad_cv as tg

from ..extend import Array, Batched, Composite, Linear, Op, call, op
from .cpu.gemm import gemm, product, rows_product


def same_dtype(name: str, **tensors) -> None:
    """TypeError unless all the tensors have one dtype: products do not promote."""
    kinds = {k: t.dtype for k, t in tensors.items() if t is not None}
    if len(set(kinds.values())) > 1:
        raise TypeError(
            f"{name}: expected one dtype, got {', '.join(f'{k} {d}' for k, d in kinds.items())}; convert with .to(dtype)"
        )


def fitted(grad, shape):
    """`grad` summed down to `shape` where broadcasting had stretched it."""
    return grad if grad.shape == shape else grad.sum_to_size(shape)


def product_cost(input, other) -> tuple[float, float]:
    """FLOPs and bytes (float32, every array moved once) of a product, from the shapes of its operands."""
    rows = input[:-1]
    columns = other[-1:] if len(other) > 1 else ()
    batch = np.broadcast_shapes(rows[:-1], other[:-2])
    out = math.prod(batch) * math.prod(rows[-1:]) * math.prod(columns)
    return 2.0 * out * input[-1], 4.0 * (math.prod(input) + math.prod(other) + out)


def _linear_cost(input, weight, bias=None) -> tuple[float, float]:
    features = math.prod(weight[:-1])
    out = math.prod(input[:-1]) * features
    flops = 2.0 * out * weight[-1] + (0 if bias is None else out)
    return flops, 4.0 * (math.prod(input) + math.prod(weight) + out + (0 if bias is None else features))


def _weight_grad_cost(input, other) -> tuple[float, float]:
    out = input[-1] * other[-1]
    return 2.0 * out * math.prod(input[:-1]), 4.0 * (math.prod(input) + math.prod(other) + out)


def _matmul_domain(draw):
    n, k, m = draw.integer(1, 4), draw.integer(0, 4), draw.integer(1, 4)
    batch = draw.shape((0, 2), high=3)
    form = draw.integer(0, 5)
    if form == 0:
        return call(draw.real((n, k)), draw.real((k, m)))
    if form == 5:  # one matrix and a stack, of sizes that do not broadcast by chance
        stacks = [(n, k), (n + 1, k, m)]
        return call(*map(draw.real, stacks if draw.boolean() else [(m + 1, n, k), (k, m)]))
    if form == 1:
        return call(draw.real((k,)), draw.real((k,)))
    if form == 2:
        return call(draw.real((k,)), draw.real((*batch, k, m)))
    if form == 3:
        return call(draw.real((*batch, n, k)), draw.real((k,)))
    a, b = (*batch, n, k), (*draw.broadcastable(batch), k, m)
    if draw.boolean():
        a, b = (*b[:-2], n, k), (*batch, k, m)
    return call(draw.real(a), draw.real(b))


def matmul_into(input: np.ndarray, other: np.ndarray, *, out: np.ndarray):
    """`matmul` of matrices or of stacks of them, written into `out`; NotImplemented for other shapes."""
    if input.ndim < 2 or other.ndim < 2 or input.shape[-2] == 1 or other.shape[-1] == 1 or (other.ndim == 2 and input.ndim > 2):
        return NotImplemented
    return product(input, other, out)


@op(
    "matmul",
    domain=_matmul_domain,
    formula="out[..., i, j] = sum_k input[..., i, k] * other[..., k, j]",
    cost=product_cost,
    laws=(
        Linear("input"),
        Linear("other"),
    ),
)
class matmul(Op):
    """The matrix product: (..., n, k) @ (..., k, m) -> (..., n, m), with leading axes broadcast; 1-D operands as vectors.

    ValueError if the inner sizes differ, the leading axes do not broadcast or an operand is 0-d; TypeError if the dtypes
    differ.
    """

    into = "tinygrad_cv.ops.linear:matmul_into"

    def prepare(input, other):
        if input.dtype != other.dtype:
            same_dtype("matmul", input=input, other=other)
        a, b = input.shape, other.shape
        if not a or not b:
            raise ValueError(f"matmul: operands need at least one axis, got shapes {a} and {b}")
        axis = -2 if len(b) > 1 else 0
        if a[-1] != b[axis]:
            raise ValueError(
                f"matmul: shapes {a} and {b} do not fit: axis -1 of `input` has size {a[-1]}, axis {axis} of `other` has size "
                f"{b[axis]}; they must be equal"
            )
        if len(a) > 2 and len(b) > 2:
            for m, n in zip(a[-3::-1], b[-3::-1], strict=False):
                if m != n and m != 1 and n != 1:
                    raise ValueError(f"matmul: the leading axes of shapes {a} and {b} do not broadcast: {m} and {n}")
        return input, other

    def reference(input: Array, other: Array) -> np.ndarray:
        return rows_product(input, other) if other.ndim == 2 and input.ndim > 2 else gemm(input, other)

    def grad_input(upstream, other, ctx):
        shape = ctx.input_shapes[0]
        if other.ndim == 1:
            return upstream.unsqueeze(-1) * other if len(shape) > 1 else upstream * other
        if len(shape) > 1:
            return fitted(upstream @ other.mT, shape)
        grad = upstream.unsqueeze(-2) @ other.mT
        return fitted(grad.squeeze(-2), shape)

    def grad_other(upstream, input, ctx):
        shape = ctx.input_shapes[1]
        if len(shape) == 1:
            return tg.linear_weight_grad(input, upstream.unsqueeze(-1)).reshape(shape) if input.ndim > 1 else upstream * input
        if input.ndim == 1:
            return fitted(input.unsqueeze(-1) * upstream.unsqueeze(-2), shape)
        if len(shape) == 2:
            return tg.linear_weight_grad(input, upstream)
        return fitted(input.mT @ upstream, shape)


def _linear_domain(draw):
    batch, n, out = draw.shape((0, 2), high=3), draw.integer(0, 4), draw.choice([(draw.integer(1, 4),), ()])
    return call(draw.real((*batch, n)), draw.real((*out, n)), draw.choice([None, draw.real(out)]))


def linear_into(input: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None, *, out: np.ndarray, activation=None):
    """linear(...) and an activation, in the store of the product, written into `out`; NotImplemented for other shapes than matrices."""
    if weight.ndim != 2 or input.ndim != 2:
        return NotImplemented
    return product(input, weight.T, out, bias=bias, activation=activation)


def linear_relu(input: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None, *, out: np.ndarray):
    """relu(linear(...)), as `linear_into`."""
    return linear_into(input, weight, bias, out=out, activation="relu")


def weight_grad_into(input: np.ndarray, other: np.ndarray, *, out: np.ndarray):
    """`linear_weight_grad` of matrices, written into `out`; NotImplemented for others."""
    return product(input.T, other, out) if input.ndim == 2 else NotImplemented


@op(
    "linear",
    domain=_linear_domain,
    formula="input @ weight^T + bias",
    cost=_linear_cost,
    method=False,
    laws=(
        Linear("input", zero=("bias",)),
        Linear("weight", zero=("bias",)),
        Batched("input", core=1, single=True),
    ),
)
class linear(Op):
    """y = x W^T + b for x of shape (..., in_features), W (out_features, in_features), b (out_features).

    A weight of shape (in_features), with a 0-d bias, gives one number for each row: shape (...). ValueError if the sizes do not
    fit, TypeError if the dtypes differ.
    """

    into = "tinygrad_cv.ops.linear:linear_into"
    followed_by: ClassVar = {"relu": "tinygrad_cv.ops.linear:linear_relu"}

    def prepare(input, weight, bias=None):
        if input.dtype != weight.dtype or (bias is not None and bias.dtype != weight.dtype):
            same_dtype("linear", input=input, weight=weight, bias=bias)
        x, w = input.shape, weight.shape
        if not x or not 1 <= len(w) <= 2 or x[-1] != w[-1]:
            raise ValueError(
                f"linear: input of shape {x} does not fit weight of shape {w}: the last axis of the input must have the size "
                f"of the last axis of the weight (out_features, in_features) or (in_features)"
            )
        if bias is not None and bias.shape != w[:-1]:
            raise ValueError(f"linear: bias has shape {bias.shape}, expected {w[:-1]}")
        return input, weight, bias

    def reference(input: Array, weight: Array, bias: Array | None = None) -> np.ndarray:
        if weight.ndim == 2:
            if input.ndim == 1:
                return rows_product(input[None], weight.T, bias)[0]
            return rows_product(input, weight.T, bias)
        out = gemm(input, weight)
        return out if bias is None else out + bias

    def grad_input(upstream, weight):
        return tg.matmul(upstream, weight) if weight.ndim == 2 else upstream.unsqueeze(-1) * weight

    def grad_weight(upstream, input, ctx):
        if len(ctx.input_shapes[1]) == 2:
            return tg.linear_weight_grad(upstream, input)
        return tg.linear_weight_grad(upstream.unsqueeze(-1), input).squeeze(0)

    def grad_bias(upstream, ctx):
        return upstream.sum_to_size(ctx.input_shapes[2])


def _weight_grad_domain(draw):
    batch = draw.shape((0, 2), high=3)
    return call(draw.real((*batch, draw.integer(0, 4))), draw.real((*batch, draw.integer(1, 4))))


@op(
    "linear_weight_grad",
    domain=_weight_grad_domain,
    formula="out[i, j] = sum input[..., i] * other[..., j]",
    cost=_weight_grad_cost,
    method=False,
    internal=True,
)
class linear_weight_grad(Op):
    """input^T other for (..., n) and (..., m), all leading axes summed: (n, m).

    The weight gradient of `linear`, in one product.
    """

    into = "tinygrad_cv.ops.linear:weight_grad_into"

    def reference(input: Array, other: Array) -> np.ndarray:
        if input.ndim == 2:
            return gemm(input.T, other)
        if input.ndim == 1:
            return np.multiply.outer(input, other)
        n, m = input.shape[-1], other.shape[-1]
        count = input.size // n if n else 0
        if not count or not m:
            return np.zeros((n, m), input.dtype)
        return gemm(input.reshape(count, n).T, other.reshape(count, m))

    def grad_input(upstream, other):
        return tg.linear(other, upstream)

    def grad_other(upstream, input):
        return tg.matmul(input, upstream)


def _bilinear_domain(draw):
    batch = draw.shape((0, 2), high=3)
    n, m, o = draw.integer(0, 3), draw.integer(0, 3), draw.integer(1, 3)
    return call(draw.real((*batch, n)), draw.real((*batch, m)), draw.real((o, n, m)), draw.choice([None, draw.real((o,))]))


@op(
    "bilinear",
    domain=_bilinear_domain,
    formula="out[..., o] = input1^T weight[o] input2 + bias[o]",
    method=False,
    laws=(
        Linear("input1", zero=("bias",)),
        Linear("input2", zero=("bias",)),
        Linear("weight", zero=("bias",)),
    ),
)
class bilinear(Composite):
    """y_o = x1^T W_o x2 + b_o for x1 (..., in1), x2 (..., in2), W (out, in1, in2), b (out).

    ValueError if the sizes do not fit.
    """

    def prepare(input1, input2, weight, bias=None):
        same_dtype("bilinear", input1=input1, input2=input2, weight=weight, bias=bias)
        wanted = (*input1.shape[-1:], *input2.shape[-1:])
        if weight.ndim != 3 or weight.shape[1:] != wanted or input1.shape[:-1] != input2.shape[:-1]:
            raise ValueError(
                f"bilinear: input1 {input1.shape}, input2 {input2.shape} and weight {weight.shape} do not fit; expected "
                f"(..., in1), (..., in2) with equal leading axes, and (out, in1, in2)"
            )
        if bias is not None and bias.shape != weight.shape[:1]:
            raise ValueError(f"bilinear: bias has shape {bias.shape}, expected {weight.shape[:1]}")
        return input1, input2, weight, bias

    def reference(input1: Array, input2: Array, weight: Array, bias: Array | None = None) -> np.ndarray:
        out = np.einsum("...i,oij,...j->...o", input1, weight, input2)
        return out if bias is None else out + bias

    def compose(input1, input2, weight, bias=None):
        out, n, m = weight.shape
        half = input1 @ weight.permute(1, 0, 2).reshape(n, out * m)
        y = (half.reshape(*input1.shape[:-1], out, m) @ input2.unsqueeze(-1)).squeeze(-1)
        return y if bias is None else y + bias
