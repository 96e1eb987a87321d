"""Matrix products and what networks build directly on them. Every product goes through `gemm`."""

from __future__ import annotations

import numpy as np

import tinygrad_cv as tg

from ..extend import Array, Composite, Op, call, op
from .cpu.gemm import gemm


def same_dtype(name: str, **tensors) -> None:
    """TypeError unless all the tensors have one dtype: products do not promote."""
    kinds = {k: t.dtype for k, t in tensors.items() if t is not None}
    if len(set(kinds.values())) > 1:
        raise TypeError(f"{name}: expected one dtype, got {', '.join(f'{k} {d}' for k, d in kinds.items())}; convert with .to(dtype)")


def check_shapes(name: str, layout: str, **tensors) -> None:
    """ValueError unless the tensors have the axes that `layout` gives them: 'nk,km' says two 2-D tensors sharing a size."""
    same_dtype(name, **tensors)
    sizes: dict[str, int] = {}
    for labels, tensor in zip(layout.split(","), tensors.values(), strict=True):
        fits = tensor.ndim == len(labels)
        if fits:
            for label, size in zip(labels, tensor.shape, strict=True):
                fits = fits and sizes.setdefault(label, size) == size
        if not fits:
            wanted = ", ".join(f"{k} ({', '.join(axes)})" for k, axes in zip(tensors, layout.split(","), strict=True))
            shapes = ", ".join(f"{k} {t.shape}" for k, t in tensors.items())
            raise ValueError(f"{name}: expected {wanted}, with equal sizes where letters are equal; got {shapes}")


def rows_times(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a @ b for a 2-D `b`, as one product of all rows of `a`."""
    if a.ndim <= 2:
        return gemm(a, b)
    return gemm(a.reshape(-1, b.shape[0]) if a.size else a.reshape(0, b.shape[0]), b).reshape(*a.shape[:-1], b.shape[1])


def fitted(grad, shape):
    """`grad` summed down to `shape` where broadcasting had stretched it."""
    return grad if grad.shape == shape else grad.sum_to_size(shape)


def _matmul_domain(draw):
    n, k, m = (draw.integer(1, 4) for _ in range(3))
    batch = draw.shape((0, 2), high=3)
    form = draw.integer(0, 4)
    if form == 0:
        return call(draw.real((n, k)), draw.real((k, m)))
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


@op("matmul", domain=_matmul_domain, formula="out[..., i, j] = sum_k input[..., i, k] * other[..., k, j]")
class matmul(Op):
    """The matrix product: (..., n, k) @ (..., k, m) -> (..., n, m), with leading axes broadcast; 1-D operands as vectors.

    ValueError if the inner sizes differ, the leading axes do not broadcast or an operand is 0-d; TypeError if the dtypes differ.
    """

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
        return rows_times(input, other) if other.ndim == 2 else gemm(input, other)

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
    batch, n, m = draw.shape((0, 2), high=3), draw.integer(1, 4), draw.integer(1, 4)
    return call(draw.real((*batch, n)), draw.real((m, n)), draw.choice([None, draw.real((m,))]))


@op("linear", domain=_linear_domain, formula="input @ weight^T + bias", method=False)
class linear(Op):
    """y = x W^T + b for x of shape (..., in_features), W (out_features, in_features), b (out_features).

    ValueError if the sizes do not fit, TypeError if the dtypes differ.
    """

    def prepare(input, weight, bias=None):
        if input.dtype != weight.dtype or (bias is not None and bias.dtype != weight.dtype):
            same_dtype("linear", input=input, weight=weight, bias=bias)
        x, w = input.shape, weight.shape
        if not x or len(w) != 2 or x[-1] != w[1]:
            raise ValueError(
                f"linear: input of shape {x} does not fit weight of shape {w}: the last axis of the input must have the size of "
                f"axis 1 of the weight (out_features, in_features)"
            )
        if bias is not None and bias.shape != w[:1]:
            raise ValueError(f"linear: bias has shape {bias.shape}, expected {w[:1]}")
        return input, weight, bias

    def reference(input: Array, weight: Array, bias: Array | None = None) -> np.ndarray:
        out = rows_times(input, weight.T)
        if bias is not None:
            out += bias
        return out

    def grad_input(upstream, weight):
        return tg.matmul(upstream, weight)

    def grad_weight(upstream, input):
        return tg.linear_weight_grad(upstream, input)

    def grad_bias(upstream, ctx):
        return upstream.sum_to_size(ctx.input_shapes[2])


def _weight_grad_domain(draw):
    batch = draw.shape((0, 2), high=3)
    return call(draw.real((*batch, draw.integer(1, 4))), draw.real((*batch, draw.integer(1, 4))))


@op("linear_weight_grad", domain=_weight_grad_domain, formula="out[i, j] = sum input[..., i] * other[..., j]", method=False)
class linear_weight_grad(Op):
    """input^T other for (..., n) and (..., m), all leading axes summed: (n, m). The weight gradient of `linear`, in one product."""

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


def _sizes(draw, layout: str, *rest):
    """Arrays with the axes of `layout`, equal letters of equal size."""
    size = {label: draw.integer(1, 4) for label in dict.fromkeys(layout.replace(",", ""))}
    return call(*(draw.real([size[label] for label in labels]) for labels in layout.split(",")), *rest)


@op("mm", domain=lambda draw: _sizes(draw, "nk,km"), formula="out[i, j] = sum_k input[i, k] * mat2[k, j]")
class mm(Op):
    """The product of two matrices, (n, k) and (k, m), without broadcasting. ValueError for other shapes."""

    def prepare(input, mat2):
        check_shapes("mm", "nk,km", input=input, mat2=mat2)
        return input, mat2

    def reference(input: Array, mat2: Array) -> np.ndarray:
        return gemm(input, mat2)

    def grad_input(upstream, mat2):
        return upstream @ mat2.mT

    def grad_mat2(upstream, input):
        return input.mT @ upstream


@op("bmm", domain=lambda draw: _sizes(draw, "bnk,bkm"), formula="out[b, i, j] = sum_k input[b, i, k] * mat2[b, k, j]")
class bmm(Op):
    """The products of two batches of matrices, (b, n, k) and (b, k, m), without broadcasting. ValueError for other shapes."""

    def prepare(input, mat2):
        check_shapes("bmm", "bnk,bkm", input=input, mat2=mat2)
        return input, mat2

    def reference(input: Array, mat2: Array) -> np.ndarray:
        return gemm(input, mat2)

    def grad_input(upstream, mat2):
        return upstream @ mat2.mT

    def grad_mat2(upstream, input):
        return input.mT @ upstream


@op("mv", domain=lambda draw: _sizes(draw, "nk,k"), formula="out[i] = sum_k input[i, k] * vec[k]")
class mv(Op):
    """The product of a matrix (n, k) and a vector (k). ValueError for other shapes."""

    def prepare(input, vec):
        check_shapes("mv", "nk,k", input=input, vec=vec)
        return input, vec

    def reference(input: Array, vec: Array) -> np.ndarray:
        return gemm(input, vec)

    def grad_input(upstream, vec):
        return upstream.unsqueeze(-1) * vec

    def grad_vec(upstream, input):
        return upstream @ input


@op("dot", domain=lambda draw: _sizes(draw, "k,k"), formula="sum of input * tensor")
class dot(Op):
    """The inner product of two vectors of one size. ValueError for other shapes."""

    def prepare(input, tensor):
        check_shapes("dot", "k,k", input=input, tensor=tensor)
        return input, tensor

    def reference(input: Array, tensor: Array) -> np.ndarray:
        return gemm(input, tensor)

    def grad_input(upstream, tensor):
        return upstream * tensor

    def grad_tensor(upstream, input):
        return upstream * input


@op("vdot", domain=lambda draw: _sizes(draw, "k,k"), formula="sum of input * other")
class vdot(Composite):
    """The inner product of two vectors; for the real tensors of this package, `dot`."""

    def prepare(input, other):
        check_shapes("vdot", "k,k", input=input, other=other)
        return input, other

    def reference(input: Array, other: Array) -> np.ndarray:
        return np.vdot(input, other)

    def compose(input, other):
        return input.dot(other)


def _inner_domain(draw):
    k = draw.integer(1, 4)
    return call(draw.real((*draw.shape((0, 2), high=3), k)), draw.real((*draw.shape((0, 2), high=3), k)))


@op("inner", domain=_inner_domain, formula="out[..., ...] = sum_k input[..., k] * other[..., k]")
class inner(Composite):
    """Sums of products over the last axes, for every pair of the other axes; a 0-d operand multiplies. ValueError if sizes differ."""

    def prepare(input, other):
        same_dtype("inner", input=input, other=other)
        if input.ndim and other.ndim and input.shape[-1] != other.shape[-1]:
            raise ValueError(f"inner: the last axes of shapes {input.shape} and {other.shape} must have one size")
        return input, other

    def reference(input: Array, other: Array) -> np.ndarray:
        return np.inner(input, other)

    def compose(input, other):
        if not input.ndim or not other.ndim:
            return input * other
        return tg.tensordot(input, other, ([-1], [-1]))


@op("outer", domain=lambda draw: _sizes(draw, "n,m"), formula="out[i, j] = input[i] * vec2[j]")
class outer(Composite):
    """The products of all pairs of two vectors: (n), (m) -> (n, m). Operands promote. ValueError unless both are 1-D."""

    def prepare(input, vec2):
        if input.ndim != 1 or vec2.ndim != 1:
            raise ValueError(f"outer: expected two vectors, got shapes {input.shape} and {vec2.shape}")
        return input, vec2

    def reference(input: Array, vec2: Array) -> np.ndarray:
        return np.outer(input, vec2)

    def compose(input, vec2):
        return input.unsqueeze(1) * vec2


def _check_addend(name: str, beta, alpha, result_shape, **tensors) -> None:
    """The checks that the add-a-product operators share: numbers that suit the dtype, an addend that broadcasts."""
    same_dtype(name, **tensors)
    first, addend = next(iter(tensors.items()))
    if addend.dtype.kind != "f" and (isinstance(beta, float) or isinstance(alpha, float)):
        raise TypeError(f"{name}: beta and alpha must be integers for {addend.dtype} tensors, got {beta} and {alpha}")
    extra = len(result_shape) - addend.ndim
    if extra < 0 or [1 for have, want in zip(addend.shape, result_shape[extra:], strict=True) if have not in (1, want)]:
        raise ValueError(f"{name}: `{first}` of shape {addend.shape} does not broadcast to the product's shape {result_shape}")


def _combined(input: np.ndarray, product: np.ndarray, beta, alpha) -> np.ndarray:
    """beta * input + alpha * product; NaN in `input` does not show where beta is 0."""
    if alpha != 1:
        product = product * alpha
    return product if beta == 0 else product + (input if beta == 1 else input * beta)


def _scaled(upstream, alpha):
    return upstream if alpha == 1 else upstream * alpha


class _AddProduct(Op):
    """What the operators beta * input + alpha * product share."""

    def grad_input(upstream, beta, ctx):
        shape = ctx.input_shapes[0]
        if beta == 0:
            return tg.zeros(shape, dtype=upstream.dtype)
        return fitted(upstream if beta == 1 else upstream * beta, shape)


def _addend(draw, layout: str, out: str):
    size = {label: draw.integer(1, 3) for label in dict.fromkeys(layout.replace(",", ""))}
    operands = [draw.real([size[label] for label in labels]) for labels in layout.split(",")]
    shape = draw.broadcastable([size[label] for label in out])
    return call(draw.real(shape), *operands, beta=draw.choice([1, 0, 0.5]), alpha=draw.choice([1, 2.0]))


@op("addmm", domain=lambda draw: _addend(draw, "nk,km", "nm"), formula="beta * input + alpha * (mat1 @ mat2)", inplace=True)
class addmm(_AddProduct):
    """beta * input + alpha * (mat1 @ mat2) for (n, k) and (k, m); `input` broadcasts to (n, m) and is not read where beta is 0."""

    def prepare(input, mat1, mat2, *, beta=1, alpha=1):
        check_shapes("addmm", "nk,km", mat1=mat1, mat2=mat2)
        _check_addend("addmm", beta, alpha, (mat1.shape[0], mat2.shape[1]), input=input, mat1=mat1)
        return input, mat1, mat2, beta, alpha

    def reference(input: Array, mat1: Array, mat2: Array, *, beta: float = 1, alpha: float = 1) -> np.ndarray:
        return _combined(input, gemm(mat1, mat2), beta, alpha)

    def grad_mat1(upstream, mat2, alpha):
        return _scaled(upstream, alpha) @ mat2.mT

    def grad_mat2(upstream, mat1, alpha):
        return mat1.mT @ _scaled(upstream, alpha)


@op("addmv", domain=lambda draw: _addend(draw, "nk,k", "n"), formula="beta * input + alpha * (mat @ vec)", inplace=True)
class addmv(_AddProduct):
    """beta * input + alpha * (mat @ vec) for (n, k) and (k); `input` broadcasts to (n) and is not read where beta is 0."""

    def prepare(input, mat, vec, *, beta=1, alpha=1):
        check_shapes("addmv", "nk,k", mat=mat, vec=vec)
        _check_addend("addmv", beta, alpha, (mat.shape[0],), input=input, mat=mat)
        return input, mat, vec, beta, alpha

    def reference(input: Array, mat: Array, vec: Array, *, beta: float = 1, alpha: float = 1) -> np.ndarray:
        return _combined(input, gemm(mat, vec), beta, alpha)

    def grad_mat(upstream, vec, alpha):
        return _scaled(upstream, alpha).unsqueeze(-1) * vec

    def grad_vec(upstream, mat, alpha):
        return _scaled(upstream, alpha) @ mat


@op("baddbmm", domain=lambda draw: _addend(draw, "bnk,bkm", "bnm"), formula="beta * input + alpha * (batch1 @ batch2)", inplace=True)
class baddbmm(_AddProduct):
    """beta * input + alpha * (batch1 @ batch2) for (b, n, k) and (b, k, m); `input` broadcasts, and is not read where beta is 0."""

    def prepare(input, batch1, batch2, *, beta=1, alpha=1):
        check_shapes("baddbmm", "bnk,bkm", batch1=batch1, batch2=batch2)
        _check_addend("baddbmm", beta, alpha, (*batch1.shape[:2], batch2.shape[2]), input=input, batch1=batch1)
        return input, batch1, batch2, beta, alpha

    def reference(input: Array, batch1: Array, batch2: Array, *, beta: float = 1, alpha: float = 1) -> np.ndarray:
        return _combined(input, gemm(batch1, batch2), beta, alpha)

    def grad_batch1(upstream, batch2, alpha):
        return _scaled(upstream, alpha) @ batch2.mT

    def grad_batch2(upstream, batch1, alpha):
        return batch1.mT @ _scaled(upstream, alpha)


@op("addbmm", domain=lambda draw: _addend(draw, "bnk,bkm", "nm"), formula="beta * input + alpha * sum_b batch1[b] @ batch2[b]", inplace=True)
class addbmm(_AddProduct):
    """beta * input + alpha * sum over b of (batch1 @ batch2)[b]; `input` broadcasts to (n, m), and is not read where beta is 0."""

    def prepare(input, batch1, batch2, *, beta=1, alpha=1):
        check_shapes("addbmm", "bnk,bkm", batch1=batch1, batch2=batch2)
        _check_addend("addbmm", beta, alpha, (batch1.shape[1], batch2.shape[2]), input=input, batch1=batch1)
        return input, batch1, batch2, beta, alpha

    def reference(input: Array, batch1: Array, batch2: Array, *, beta: float = 1, alpha: float = 1) -> np.ndarray:
        return _combined(input, np.add.reduce(gemm(batch1, batch2), axis=0), beta, alpha)

    def grad_batch1(upstream, batch2, alpha):
        return _scaled(upstream, alpha) @ batch2.mT

    def grad_batch2(upstream, batch1, alpha):
        return batch1.mT @ _scaled(upstream, alpha)


def _bilinear_domain(draw):
    batch = draw.shape((0, 2), high=3)
    n, m, o = (draw.integer(1, 3) for _ in range(3))
    return call(draw.real((*batch, n)), draw.real((*batch, m)), draw.real((o, n, m)), draw.choice([None, draw.real((o,))]))


@op("bilinear", domain=_bilinear_domain, formula="out[..., o] = input1^T weight[o] input2 + bias[o]", method=False)
class bilinear(Composite):
    """y_o = x1^T W_o x2 + b_o for x1 (..., in1), x2 (..., in2), W (out, in1, in2), b (out). ValueError if the sizes do not fit."""

    def prepare(input1, input2, weight, bias=None):
        same_dtype("bilinear", input1=input1, input2=input2, weight=weight, bias=bias)
        wanted = (*input1.shape[-1:], *input2.shape[-1:])
        if weight.ndim != 3 or weight.shape[1:] != wanted or input1.shape[:-1] != input2.shape[:-1]:
            raise ValueError(
                f"bilinear: input1 {input1.shape}, input2 {input2.shape} and weight {weight.shape} do not fit; expected (..., in1), "
                f"(..., in2) with equal leading axes, and (out, in1, in2)"
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
