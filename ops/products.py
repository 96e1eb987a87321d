"""Products of two matrices or vectors of given shapes, alone or added to a tensor. `matmul` and `linear` are in linear.py."""

from __future__ import annotations

import numpy as np

import tinygrad_cv as tg

from ..extend import Array, Batched, Composite, Linear, Op, Symmetric, call, op
from .arithmetic import held_by
from .cpu.gemm import gemm, product
from .linear import fitted, product_cost, same_dtype


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


def _sizes(draw, layout: str, *rest):
    """Arrays with the axes of `layout`, equal letters of equal size."""
    size = {label: draw.integer(1, 4) for label in dict.fromkeys(layout.replace(",", ""))}
    return call(*(draw.real([size[label] for label in labels]) for labels in layout.split(",")), *rest)


@op("mm", domain=lambda draw: _sizes(draw, "nk,km"), formula="out[i, j] = sum_k input[i, k] * mat2[k, j]",
    cost=product_cost, laws=(Linear("input"), Linear("mat2"),))  # fmt: skip
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


@op("bmm", domain=lambda draw: _sizes(draw, "bnk,bkm"), formula="out[b, i, j] = sum_k input[b, i, k] * mat2[b, k, j]",
    cost=product_cost, laws=(Linear("input"), Linear("mat2"), Batched("input", "mat2", core=2),))  # fmt: skip
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


@op(
    "mv",
    domain=lambda draw: _sizes(draw, "nk,k"),
    formula="out[i] = sum_k input[i, k] * vec[k]",
    laws=(
        Linear("input"),
        Linear("vec"),
    ),
)
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


@op(
    "dot",
    domain=lambda draw: _sizes(draw, "k,k"),
    formula="sum of input * tensor",
    laws=(
        Linear("input"),
        Symmetric("input", "tensor"),
    ),
)
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
    """Sums of products over the last axes, for every pair of the other axes; a 0-d operand multiplies.

    ValueError if sizes differ.
    """

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


@op(
    "outer",
    domain=lambda draw: _sizes(draw, "n,m"),
    formula="out[i, j] = input[i] * vec2[j]",
    aliases=("ger",),
    laws=(
        Linear("input"),
        Linear("vec2"),
    ),
)
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


def _check_addend(name: str, beta, alpha, result_shape, **tensors) -> tuple:
    """beta and alpha as the dtype holds them, after the checks of the add-a-product operators: one dtype, an addend that broadcasts."""
    same_dtype(name, **tensors)
    first, addend = next(iter(tensors.items()))
    extra = len(result_shape) - addend.ndim
    if extra < 0 or [1 for have, want in zip(addend.shape, result_shape[extra:], strict=True) if have not in (1, want)]:
        raise ValueError(f"{name}: `{first}` of shape {addend.shape} does not broadcast to the product's shape {result_shape}")
    return held_by(name, "beta", beta, addend.dtype), held_by(name, "alpha", alpha, addend.dtype)


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
    """beta * input + alpha * (mat1 @ mat2) for (n, k) and (k, m).

    `input` broadcasts to (n, m) and is not read where beta is 0.
    """

    def prepare(input, mat1, mat2, *, beta=1, alpha=1):
        check_shapes("addmm", "nk,km", mat1=mat1, mat2=mat2)
        beta, alpha = _check_addend("addmm", beta, alpha, (mat1.shape[0], mat2.shape[1]), input=input, mat1=mat1)
        return input, mat1, mat2, beta, alpha

    def reference(input: Array, mat1: Array, mat2: Array, *, beta: float = 1, alpha: float = 1) -> np.ndarray:
        return product(mat1, mat2, alpha=alpha, beta=beta, residual=input)

    def grad_mat1(upstream, mat2, alpha):
        return _scaled(upstream, alpha) @ mat2.mT

    def grad_mat2(upstream, mat1, alpha):
        return mat1.mT @ _scaled(upstream, alpha)


@op("addmv", domain=lambda draw: _addend(draw, "nk,k", "n"), formula="beta * input + alpha * (mat @ vec)", inplace=True)
class addmv(_AddProduct):
    """beta * input + alpha * (mat @ vec) for (n, k) and (k); `input` broadcasts to (n) and is not read where beta is 0."""

    def prepare(input, mat, vec, *, beta=1, alpha=1):
        check_shapes("addmv", "nk,k", mat=mat, vec=vec)
        beta, alpha = _check_addend("addmv", beta, alpha, (mat.shape[0],), input=input, mat=mat)
        return input, mat, vec, beta, alpha

    def reference(input: Array, mat: Array, vec: Array, *, beta: float = 1, alpha: float = 1) -> np.ndarray:
        return product(mat, vec[:, None], alpha=alpha, beta=beta, residual=input.reshape(-1, 1))[:, 0]

    def grad_mat(upstream, vec, alpha):
        return _scaled(upstream, alpha).unsqueeze(-1) * vec

    def grad_vec(upstream, mat, alpha):
        return _scaled(upstream, alpha) @ mat


@op(
    "baddbmm",
    domain=lambda draw: _addend(draw, "bnk,bkm", "bnm"),
    formula="beta * input + alpha * (batch1 @ batch2)",
    inplace=True,
)
class baddbmm(_AddProduct):
    """beta * input + alpha * (batch1 @ batch2) for (b, n, k) and (b, k, m).

    `input` broadcasts, and is not read where beta is 0.
    """

    def prepare(input, batch1, batch2, *, beta=1, alpha=1):
        check_shapes("baddbmm", "bnk,bkm", batch1=batch1, batch2=batch2)
        beta, alpha = _check_addend("baddbmm", beta, alpha, (*batch1.shape[:2], batch2.shape[2]), input=input, batch1=batch1)
        return input, batch1, batch2, beta, alpha

    def reference(input: Array, batch1: Array, batch2: Array, *, beta: float = 1, alpha: float = 1) -> np.ndarray:
        return product(batch1, batch2, alpha=alpha, beta=beta, residual=input)

    def grad_batch1(upstream, batch2, alpha):
        return _scaled(upstream, alpha) @ batch2.mT

    def grad_batch2(upstream, batch1, alpha):
        return batch1.mT @ _scaled(upstream, alpha)


@op(
    "addbmm",
    domain=lambda draw: _addend(draw, "bnk,bkm", "nm"),
    formula="beta * input + alpha * sum_b batch1[b] @ batch2[b]",
    inplace=True,
)
class addbmm(_AddProduct):
    """beta * input + alpha * sum over b of (batch1 @ batch2)[b].

    `input` broadcasts to (n, m), and is not read where beta is 0.
    """

    def prepare(input, batch1, batch2, *, beta=1, alpha=1):
        check_shapes("addbmm", "bnk,bkm", batch1=batch1, batch2=batch2)
        beta, alpha = _check_addend("addbmm", beta, alpha, (batch1.shape[1], batch2.shape[2]), input=input, batch1=batch1)
        return input, batch1, batch2, beta, alpha

    def reference(input: Array, batch1: Array, batch2: Array, *, beta: float = 1, alpha: float = 1) -> np.ndarray:
        (batches, rows, count), columns = batch1.shape, batch2.shape[2]
        side_by_side = batch1.transpose(1, 0, 2).reshape(rows, batches * count)
        return product(side_by_side, batch2.reshape(batches * count, columns), alpha=alpha, beta=beta, residual=input)

    def grad_batch1(upstream, batch2, alpha):
        return _scaled(upstream, alpha) @ batch2.mT

    def grad_batch2(upstream, batch1, alpha):
        return batch1.mT @ _scaled(upstream, alpha)
