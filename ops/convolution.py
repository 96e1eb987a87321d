"""Convolutions in one to three dimensions, their transposes, and the three linear maps they are all made of.

With x the input, w the weight and y the output, a convolution is linear in x and in w. `conv_input_grad` is its adjoint in x,
`conv_weight_grad` its adjoint in w; the derivative of each of the three maps is made of the other two, so the family is closed.
A transposed convolution is `conv_input_grad` under another name.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import ClassVar, NamedTuple

import numpy as np

import tinygrad_cv as tg

from ..extend import Adjoint, Array, Batched, Linear, Op, TranslationEquivariant, call, op
from .linear import same_dtype
from .sliding import (
    Padding,
    canonical,
    convolve,
    convolve_input_grad,
    convolve_weight_grad,
    hashable,
    output_sizes,
    padding_pairs,
    spatial_tuple,
)


def unpadded(padding) -> bool:
    """Whether windows see no padding: then a shifted input gives a shifted output."""
    return padding == "valid" or not np.any(padding)


def transposed_arguments(y, input, weight, stride, padding, dilation, groups):
    """The arguments of the transposed convolution of `y` that is the adjoint of a convolution with these."""
    rank = weight.ndim - 2
    steps, sides, spread = (spatial_tuple("conv", "a size", v, rank, 0) for v in (stride, padding, dilation))
    left = [
        (n + 2 * p - d * (k - 1) - 1) % s
        for n, p, d, k, s in zip(input.shape[-rank:], sides, spread, weight.shape[2:], steps, strict=True)
    ]
    return y, weight, None, steps, sides, tuple(left), groups, spread


def check_groups(name: str, groups) -> int:
    if isinstance(groups, bool) or not hasattr(groups, "__index__"):
        raise TypeError(f"{name}: groups must be an integer, got {groups!r}")
    if groups < 1:
        raise ValueError(f"{name}: groups must be at least 1, got {groups}")
    return groups.__index__()


class Facts(NamedTuple):
    """What the checks look at of a tensor, so that they are made once for all that are alike."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)


def facts(tensor) -> Facts | None:
    return None if tensor is None else Facts(tensor.shape, tensor.dtype)


def check_operands(name: str, rank: int, input, weight, bias, layout: str) -> None:
    same_dtype(name, input=input, weight=weight, bias=bias)
    if input.dtype.kind == "b":
        raise TypeError(f"{name}: expected numbers, got {input.dtype}; convert with .float()")
    axes = ", ".join(("depth", "height", "width")[-rank:] if rank > 1 else ("length",))
    if weight.ndim != rank + 2:
        raise ValueError(f"{name}: weight must have {rank + 2} axes ({layout}, {axes}), got shape {weight.shape}")
    if input.ndim not in (rank + 1, rank + 2):
        raise ValueError(f"{name}: input must have shape (N, C, {axes}) or (C, {axes}), got shape {input.shape}")
    if 0 in weight.shape[2:] or (not weight.shape[0] and weight.shape[1]):
        raise ValueError(f"{name}: weight of shape {weight.shape} has an empty axis")
    if 0 in input.shape[-rank:]:
        raise ValueError(f"{name}: only the batch and the channels may be empty, got input of shape {input.shape}")


def prepare_conv(name: str, rank: int, input, weight, bias, stride, padding, dilation, groups):
    groups = check_groups(name, groups)
    settings = hashable(stride), hashable(padding), hashable(dilation), groups
    return input, weight, bias, *_conv_settings(name, rank, facts(input), facts(weight), facts(bias), *settings), groups


@lru_cache(maxsize=512, typed=True)
def _conv_settings(name: str, rank: int, input: Facts, weight: Facts, bias: Facts | None, stride, padding, dilation, groups):
    """Stride, padding and dilation, checked with all the shapes."""
    check_operands(name, rank, input, weight, bias, "out_channels, in_channels / groups")
    channels, axis = input.shape[-rank - 1], input.ndim - rank - 1
    if weight.shape[1] * groups != channels:
        times = f" x {groups} groups" if groups > 1 else ""
        raise ValueError(
            f"{name}: weight of shape {weight.shape} expects {weight.shape[1]}{times} input channels, input of shape "
            f"{input.shape} has {channels} (axis {axis})"
        )
    if weight.shape[0] % groups:
        raise ValueError(f"{name}: {weight.shape[0]} output channels (axis 0 of weight) do not divide into {groups} groups")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"{name}: bias has shape {bias.shape}, expected {weight.shape[:1]}")
    kernel = weight.shape[2:]
    stride, padding, dilation = canonical(name, kernel, stride, padding, dilation)
    out = output_sizes(input.shape[-rank:], kernel, stride, padding, dilation)
    if min(out) < 1:
        i = next(i for i in range(rank) if out[i] < 1)
        before, after = padding_pairs(padding)[i]
        raise ValueError(
            f"{name}: a kernel of size {kernel[i]} with dilation {dilation[i]} does not fit into axis {i - rank} of the "
            f"input, which has size {input.shape[i - rank]} + padding {before} + {after}"
        )
    return stride, padding, dilation


# ---- the rules, in Tensor operators ---------------------------------------------------------------------------------------


def convolve_like(input, weight, stride, padding, dilation, groups, sizes):
    """The convolution of Tensors, cut to the spatial `sizes` (a transposed one may leave its last positions unused)."""
    out = (tg.conv1d, tg.conv2d, tg.conv3d)[len(sizes) - 1](input, weight, None, stride, padding, dilation, groups)
    if out.shape[-len(sizes) :] != tuple(sizes):
        out = out[(..., *(slice(0, n) for n in sizes))]
    return out


def bias_grad(upstream, rank: int):
    return upstream.sum(tuple(i for i in range(upstream.ndim) if i != upstream.ndim - rank - 1))


def conv_cost(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1) -> tuple[float, float]:
    """FLOPs and bytes (float32, every array moved once) of a convolution, from the shapes of its tensors."""
    rank = len(weight) - 2
    strides, paddings, dilations = canonical("cost", weight[2:], stride, padding, dilation)
    sizes = output_sizes(input[-rank:], weight[2:], strides, paddings, dilations)
    outputs = math.prod(input[: -rank - 1]) * weight[0] * math.prod(sizes)
    flops = outputs * (2 * math.prod(weight[1:]) + (bias is not None))
    return float(flops), 4.0 * (math.prod(input) + math.prod(weight) + outputs)


def _input_grad_cost(grad_output, weight, input_size, stride, padding, dilation, groups) -> tuple[float, float]:
    grad_input = math.prod(grad_output[: 1 - len(weight)]) * weight[1] * groups * math.prod(input_size)
    return 2.0 * math.prod(grad_output) * math.prod(weight[1:]), 4.0 * (math.prod(grad_output) + math.prod(weight) + grad_input)


def _weight_grad_cost(grad_output, input, kernel_size, stride, padding, dilation, groups) -> tuple[float, float]:
    weights = input[-len(kernel_size) - 1] // groups * math.prod(kernel_size)
    moved = math.prod(grad_output) + math.prod(input) + grad_output[-len(kernel_size) - 1] * weights
    return 2.0 * math.prod(grad_output) * weights, 4.0 * moved


# ---- the operators --------------------------------------------------------------------------------------------------------


def conv_example(draw, rank: int):
    """Shapes that fit, with every attribute at work: (input, weight, bias, stride, padding, dilation, groups)."""
    groups = draw.choice([1, 1, 2])
    kernel = tuple(draw.integer(1, 3 if rank < 3 else 2) for _ in range(rank))
    dilation = tuple(draw.integer(1, 2) for _ in range(rank))
    if draw.integer(0, 3) == 0:
        stride, padding, room = (1,) * rank, draw.choice(["same", "valid"]), (0,) * rank
    else:
        stride = tuple(draw.integer(1, 2) for _ in range(rank))
        padding = room = tuple(draw.integer(0, 1) for _ in range(rank))
    sizes = tuple(
        max(1, d * (k - 1) + 1 - 2 * p) + draw.integer(0, 2 if rank < 3 else 1)
        for k, d, p in zip(kernel, dilation, room, strict=True)
    )
    c_in, c_out = groups * draw.integer(1, 2 if rank < 3 else 1), groups * draw.integer(1, 2)
    lead = draw.choice([(1,), (2,), ()])
    input, weight = draw.real((*lead, c_in, *sizes)), draw.real((c_out, c_in // groups, *kernel))
    bias = draw.choice([None, draw.real((c_out,))])
    return input, weight, bias, stride, padding, dilation, groups


def _adjoint_example(draw):
    rank = draw.integer(1, 3)
    input, weight, _, stride, padding, dilation, groups = conv_example(draw, rank)
    stride, padding, dilation = canonical("conv", weight.shape[2:], stride, padding, dilation)
    out = output_sizes(input.shape[-rank:], weight.shape[2:], stride, padding, dilation)
    grad_output = draw.real((*input.shape[: -rank - 1], weight.shape[0], *out))
    return grad_output, input, weight, (stride, padding, dilation, groups)


def _check_adjoint(name: str, grad_output, input_size, kernel, stride, padding, dilation) -> None:
    rank = len(kernel)
    room = output_sizes(input_size, kernel, stride, padding, dilation)
    if any(o > r for o, r in zip(grad_output.shape[-rank:], room, strict=True)):
        raise ValueError(
            f"{name}: grad_output of shape {grad_output.shape} is larger than {room}, the output of a convolution of size "
            f"{tuple(input_size)} with kernel {tuple(kernel)}"
        )


@lru_cache(maxsize=512, typed=True)
def _input_grad_settings(grad_output: Facts, weight: Facts, input_size, stride, padding, dilation):
    """Input size, stride, padding and dilation of `conv_input_grad`, checked with the shapes."""
    name, rank = "conv_input_grad", weight.ndim - 2
    check_operands(name, rank, grad_output, weight, None, "out_channels, in_channels / groups")
    stride, padding, dilation = canonical(name, weight.shape[2:], stride, padding, dilation)
    if grad_output.shape[-rank - 1] != weight.shape[0]:
        raise ValueError(
            f"{name}: grad_output of shape {grad_output.shape} has {grad_output.shape[-rank - 1]} channels, axis 0 of "
            f"weight of shape {weight.shape} has {weight.shape[0]}"
        )
    input_size = spatial_tuple(name, "input_size", input_size, rank, 1)
    _check_adjoint(name, grad_output, input_size, weight.shape[2:], stride, padding, dilation)
    return input_size, stride, padding, dilation


def _input_grad_domain(draw):
    grad_output, input, weight, attributes = _adjoint_example(draw)
    return call(grad_output, weight, input.shape[-(weight.ndim - 2) :], *attributes)


@op(
    "conv_input_grad",
    domain=_input_grad_domain,
    formula="out[n, c, o * stride + k * dilation - padding] = sum_{f, o, k} grad_output[n, f, o] * weight[f, c, k]",
    kernels={"cpu": "tinygrad_cv.ops.cpu.conv:conv_input_grad"},
    cost=_input_grad_cost,
    method=False,
    internal=True,
    laws=(
        Linear("grad_output"),
        Linear("weight"),
        Batched("grad_output", core=3, when=lambda weight: weight.ndim == 4),
    ),
)
class conv_input_grad(Op):
    """The gradient of a convolution in its input, for 1 to 3 spatial axes: the adjoint of x -> conv(x, weight).

    grad_output: (N, F, *out), or without N; weight: (F, C / groups, *kernel); the result: (N, C, *input_size).
    `grad_output` may be smaller than the convolution's output at the end of an axis, as if it were zero there. ValueError
    for shapes that do not fit.
    """

    def prepare(grad_output, weight, input_size, stride=1, padding=0, dilation=1, groups=1):
        groups = check_groups("conv_input_grad", groups)
        settings = tuple(input_size), hashable(stride), hashable(padding), hashable(dilation)
        return grad_output, weight, *_input_grad_settings(facts(grad_output), facts(weight), *settings), groups

    def reference(
        grad_output: Array, weight: Array, input_size, stride=1, padding=0, dilation=1, groups: int = 1
    ) -> np.ndarray:
        return convolve_input_grad(grad_output, weight, input_size, stride, padding, dilation, groups)

    def grad_grad_output(upstream, weight, ctx, stride, padding, dilation, groups):
        sizes = ctx.input_shapes[0][2 - len(ctx.input_shapes[1]) :]
        return convolve_like(upstream, weight, stride, padding, dilation, groups, sizes)

    def grad_weight(upstream, grad_output, ctx, stride, padding, dilation, groups):
        return tg.conv_weight_grad(grad_output, upstream, ctx.input_shapes[1][2:], stride, padding, dilation, groups)


@lru_cache(maxsize=512, typed=True)
def _weight_grad_settings(grad_output: Facts, input: Facts, kernel_size, stride, padding, dilation, groups):
    """Kernel size, stride, padding and dilation of `conv_weight_grad`, checked with the shapes."""
    name, rank = "conv_weight_grad", len(kernel_size)
    same_dtype(name, grad_output=grad_output, input=input)
    kernel_size = spatial_tuple(name, "kernel_size", kernel_size, rank, 1)
    stride, padding, dilation = canonical(name, kernel_size, stride, padding, dilation)
    if (
        grad_output.ndim != input.ndim
        or input.ndim not in (rank + 1, rank + 2)
        or grad_output.shape[: -rank - 1] != input.shape[: -rank - 1]
    ):
        raise ValueError(
            f"{name}: grad_output of shape {grad_output.shape} and input of shape {input.shape} do not fit together"
        )
    if grad_output.shape[-rank - 1] % groups or input.shape[-rank - 1] % groups:
        raise ValueError(f"{name}: the channels of {grad_output.shape} and {input.shape} do not divide into {groups} groups")
    _check_adjoint(name, grad_output, input.shape[-rank:], kernel_size, stride, padding, dilation)
    return kernel_size, stride, padding, dilation


def _weight_grad_domain(draw):
    grad_output, input, weight, attributes = _adjoint_example(draw)
    return call(grad_output, input, weight.shape[2:], *attributes)


@op(
    "conv_weight_grad",
    domain=_weight_grad_domain,
    formula="out[f, c, k] = sum_{n, o} grad_output[n, f, o] * input[n, c, o * stride + k * dilation - padding]",
    kernels={"cpu": "tinygrad_cv.ops.cpu.conv:conv_weight_grad"},
    cost=_weight_grad_cost,
    method=False,
    internal=True,
)
class conv_weight_grad(Op):
    """The gradient of a convolution in its weight, for 1 to 3 spatial axes: the adjoint of w -> conv(input, w).

    grad_output: (N, F, *out) and input: (N, C, *sizes), or both without N; the result: (F, C / groups, *kernel_size).
    `grad_output` may be smaller than the convolution's output at the end of an axis. ValueError for shapes that do not fit.
    """

    def prepare(grad_output, input, kernel_size, stride=1, padding=0, dilation=1, groups=1):
        groups = check_groups("conv_weight_grad", groups)
        settings = tuple(kernel_size), hashable(stride), hashable(padding), hashable(dilation), groups
        return grad_output, input, *_weight_grad_settings(facts(grad_output), facts(input), *settings), groups

    def reference(
        grad_output: Array, input: Array, kernel_size, stride=1, padding=0, dilation=1, groups: int = 1
    ) -> np.ndarray:
        return convolve_weight_grad(grad_output, input, kernel_size, stride, padding, dilation, groups)

    def grad_grad_output(upstream, input, ctx, kernel_size, stride, padding, dilation, groups):
        sizes = ctx.input_shapes[0][-len(kernel_size) :]
        return convolve_like(input, upstream, stride, padding, dilation, groups, sizes)

    def grad_input(upstream, grad_output, ctx, kernel_size, stride, padding, dilation, groups):
        sizes = ctx.input_shapes[1][-len(kernel_size) :]
        return tg.conv_input_grad(grad_output, upstream, sizes, stride, padding, dilation, groups)


class _Convolution(Op):
    """What conv1d, conv2d and conv3d share."""

    followed_by: ClassVar = {"relu": "tinygrad_cv.ops.cpu.conv:conv_relu"}

    def reference(
        input: Array, weight: Array, bias: Array | None = None, stride=1, padding: Padding = 0, dilation=1, groups: int = 1
    ) -> np.ndarray:
        return convolve(input, weight, bias, stride, padding, dilation, groups)

    def grad_input(upstream, weight, ctx, stride, padding, dilation, groups):
        sizes = ctx.input_shapes[0][2 - len(ctx.input_shapes[1]) :]
        return tg.conv_input_grad(upstream, weight, sizes, stride, padding, dilation, groups)

    def grad_weight(upstream, input, ctx, stride, padding, dilation, groups):
        return tg.conv_weight_grad(upstream, input, ctx.input_shapes[1][2:], stride, padding, dilation, groups)

    def grad_bias(upstream, ctx):
        return bias_grad(upstream, len(ctx.input_shapes[1]) - 2)


_CONV_KERNEL = {"cpu": "tinygrad_cv.ops.cpu.conv:conv_forward"}
_CONV_FORMULA = "out[n, f, o] = bias[f] + sum_{c, k} weight[f, c, k] * input[n, c, o * stride + k * dilation - padding]"


@op(
    "conv1d",
    domain=lambda draw: call(*conv_example(draw, 1)),
    formula=_CONV_FORMULA,
    kernels=_CONV_KERNEL,
    cost=conv_cost,
    method=False,
    laws=(
        Linear("input", zero=("bias",)),
        Linear("weight", zero=("bias",)),
        Batched("input", core=2, single=True),
        TranslationEquivariant("input", axis=-1, step="stride", when=unpadded),
        Adjoint(
            "input",
            of="conv_transpose1d",
            by=transposed_arguments,
            zero=("bias",),
            when=lambda padding: not isinstance(padding, str),
        ),
    ),
)
class conv1d(_Convolution):
    """The cross-correlation of signals with kernels: as `conv2d`, for one spatial axis.

    input: (N, C, L) or (C, L); weight: (F, C / groups, K); bias: (F); the result: (N, F, L_out) or (F, L_out).
    """

    def prepare(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
        return prepare_conv("conv1d", 1, input, weight, bias, stride, padding, dilation, groups)


@op(
    "conv2d",
    domain=lambda draw: call(*conv_example(draw, 2)),
    formula=_CONV_FORMULA,
    kernels=_CONV_KERNEL,
    cost=conv_cost,
    method=False,
    laws=(
        Linear("input", zero=("bias",)),
        Linear("weight", zero=("bias",)),
        Batched("input", core=3, single=True),
        TranslationEquivariant("input", axis=(-2, -1), step="stride", when=unpadded),
        Adjoint(
            "input",
            of="conv_transpose2d",
            by=transposed_arguments,
            zero=("bias",),
            when=lambda padding: not isinstance(padding, str),
        ),
    ),
)
class conv2d(_Convolution):
    """The cross-correlation of images with kernels, which the field calls convolution.

    out[n, f, i, j] = bias[f] + sum_{c, a, b} weight[f, c, a, b] * input[n, c, i * stride + a * dilation - padding, ...],
    where c runs over the channels of the group of f, and what lies outside the input is zero.

    input: (N, C, H, W) or (C, H, W); weight: (F, C / groups, KH, KW); bias: (F); all of one dtype.
    The result is (N, F, OH, OW) or (F, OH, OW) with OH = floor((H + 2 * padding - dilation * (KH - 1) - 1) / stride) + 1.

    stride, dilation: one integer or one for each axis. padding: the same, in zeros on both sides; 'valid' for none; 'same'
    for as many as keep the size (stride 1 only; the odd one goes to the end); or a pair (before, after) for each axis.
    groups: input and output channels are split into so many groups that do not see each other; groups=C is a depthwise
    convolution.

    ValueError for shapes, sizes or groups that do not fit; TypeError for mixed dtypes.
    """

    def prepare(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
        return prepare_conv("conv2d", 2, input, weight, bias, stride, padding, dilation, groups)


@op(
    "conv3d",
    domain=lambda draw: call(*conv_example(draw, 3)),
    formula=_CONV_FORMULA,
    kernels=_CONV_KERNEL,
    cost=conv_cost,
    method=False,
    laws=(
        Linear("input", zero=("bias",)),
        Linear("weight", zero=("bias",)),
        Batched("input", core=4, single=True),
        TranslationEquivariant("input", axis=(-3, -2, -1), step="stride", when=unpadded),
        Adjoint(
            "input",
            of="conv_transpose3d",
            by=transposed_arguments,
            zero=("bias",),
            when=lambda padding: not isinstance(padding, str),
        ),
    ),
)
class conv3d(_Convolution):
    """The cross-correlation of volumes with kernels: as `conv2d`, for three spatial axes.

    input: (N, C, D, H, W) or (C, D, H, W); weight: (F, C / groups, KD, KH, KW); bias: (F).
    """

    def prepare(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
        return prepare_conv("conv3d", 3, input, weight, bias, stride, padding, dilation, groups)
