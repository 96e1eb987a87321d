"""Transposed convolutions, and the convolution as the matrix that it is."""

from __future__ import annotations

import math

import numpy as np

import tinygrad_cv as tg

from ..extend import Array, Batched, Composite, Linear, Op, call, op
from .convolution import bias_grad, check_groups, check_operands, conv_example, convolve_like, prepare_conv
from .sliding import Padding, canonical, convolve_input_grad, output_sizes, padding_pairs, spatial_tuple


def _transposed_sizes(sizes, kernel, stride, padding, dilation, output_padding) -> tuple[int, ...]:
    return tuple(
        (n - 1) * s - 2 * p + d * (k - 1) + extra + 1
        for n, k, s, p, d, extra in zip(sizes, kernel, stride, padding, dilation, output_padding, strict=True)
    )


def conv_transpose_cost(
    input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1
) -> tuple[float, float]:
    """FLOPs and bytes (float32, every array moved once) of a transposed convolution, from the shapes of its tensors."""
    rank = len(weight) - 2
    strides, paddings, dilations = canonical("cost", weight[2:], stride, padding, dilation)
    extra = spatial_tuple("cost", "output_padding", output_padding, rank, 0)
    sizes = _transposed_sizes(input[-rank:], weight[2:], strides, paddings, dilations, extra)
    outputs = math.prod(input[: -rank - 1]) * weight[1] * groups * math.prod(sizes)
    flops = 2 * math.prod(input) * math.prod(weight[1:]) + outputs * (bias is not None)
    return float(flops), 4.0 * (math.prod(input) + math.prod(weight) + outputs)


def _prepare_transpose(name: str, rank: int, input, weight, bias, stride, padding, output_padding, groups, dilation):
    check_operands(name, rank, input, weight, bias, "in_channels, out_channels / groups")
    groups = check_groups(name, groups)
    kernel, channels = weight.shape[2:], input.shape[-rank - 1]
    if weight.shape[0] != channels:
        raise ValueError(
            f"{name}: weight of shape {weight.shape} expects {weight.shape[0]} input channels, input of shape "
            f"{input.shape} has {channels} (axis {input.ndim - rank - 1})"
        )
    if channels % groups:
        raise ValueError(f"{name}: {channels} input channels (axis {input.ndim - rank - 1}) do not divide into {groups} groups")
    if bias is not None and bias.shape != (weight.shape[1] * groups,):
        raise ValueError(f"{name}: bias has shape {bias.shape}, expected {(weight.shape[1] * groups,)}")
    stride = spatial_tuple(name, "stride", stride, rank, 1)
    padding = spatial_tuple(name, "padding", padding, rank, 0)
    dilation = spatial_tuple(name, "dilation", dilation, rank, 1)
    output_padding = spatial_tuple(name, "output_padding", output_padding, rank, 0)
    if any(extra >= max(s, d) for extra, s, d in zip(output_padding, stride, dilation, strict=True)):
        raise ValueError(
            f"{name}: output_padding {output_padding} must be smaller than stride {stride} or dilation {dilation} on every axis"
        )
    out = _transposed_sizes(input.shape[-rank:], kernel, stride, padding, dilation, output_padding)
    if min(out) < 1:
        raise ValueError(
            f"{name}: input of shape {input.shape} with padding {padding} gives an output of size {out}; use less padding"
        )
    return input, weight, bias, stride, padding, output_padding, groups, dilation


class _Transposed(Op):
    """What conv_transpose1d, conv_transpose2d and conv_transpose3d share."""

    def reference(
        input: Array,
        weight: Array,
        bias: Array | None = None,
        stride=1,
        padding=0,
        output_padding=0,
        groups: int = 1,
        dilation=1,
    ) -> np.ndarray:
        rank = weight.ndim - 2
        sizes = _transposed_sizes(input.shape[-rank:], weight.shape[2:], stride, padding, dilation, output_padding)
        out = convolve_input_grad(input, weight, sizes, stride, padding, dilation, groups)
        if bias is not None:
            out += bias.reshape(-1, *(1,) * rank)
        return out

    def grad_input(upstream, weight, ctx, stride, padding, groups, dilation):
        sizes = ctx.input_shapes[0][2 - len(ctx.input_shapes[1]) :]
        return convolve_like(upstream, weight, stride, padding, dilation, groups, sizes)

    def grad_weight(upstream, input, ctx, stride, padding, groups, dilation):
        return tg.conv_weight_grad(input, upstream, ctx.input_shapes[1][2:], stride, padding, dilation, groups)

    def grad_bias(upstream, ctx):
        return bias_grad(upstream, len(ctx.input_shapes[1]) - 2)


def _transpose_example(draw, rank: int):
    groups = draw.choice([1, 1, 2])
    kernel, stride, dilation = (tuple(draw.integer(1, 2) for _ in range(rank)) for _ in range(3))
    extra = tuple(draw.integer(0, max(s, d) - 1) for s, d in zip(stride, dilation, strict=True))
    padding = tuple(draw.integer(0, min(1, d * (k - 1))) for d, k in zip(dilation, kernel, strict=True))
    sizes = tuple(draw.integer(1, 3 if rank < 3 else 2) + p for p in padding)
    c_in, c_out = groups * draw.integer(1, 2 if rank < 3 else 1), draw.integer(1, 2)
    lead = draw.choice([(1,), (2,), ()])
    bias = draw.choice([None, draw.real((c_out * groups,))])
    weight = draw.real((c_in, c_out, *kernel))
    return call(draw.real((*lead, c_in, *sizes)), weight, bias, stride, padding, extra, groups, dilation)


_TRANSPOSE_KERNEL = {"cpu": "tinygrad_cv.ops.cpu.conv:conv_transpose"}
_TRANSPOSE_FORMULA = "out[n, c, i * stride + k * dilation - padding] = bias[c] + sum_{f, i, k} input[n, f, i] * weight[f, c, k]"


@op(
    "conv_transpose1d",
    domain=lambda draw: _transpose_example(draw, 1),
    formula=_TRANSPOSE_FORMULA,
    kernels=_TRANSPOSE_KERNEL,
    cost=conv_transpose_cost,
    method=False,
    laws=(
        Linear("input", zero=("bias",)),
        Linear("weight", zero=("bias",)),
        Batched("input", core=2, single=True),
    ),
)
class conv_transpose1d(_Transposed):
    """The transposed convolution of signals: as `conv_transpose2d`, for one spatial axis."""

    def prepare(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
        return _prepare_transpose("conv_transpose1d", 1, input, weight, bias, stride, padding, output_padding, groups, dilation)


@op(
    "conv_transpose2d",
    domain=lambda draw: _transpose_example(draw, 2),
    formula=_TRANSPOSE_FORMULA,
    kernels=_TRANSPOSE_KERNEL,
    cost=conv_transpose_cost,
    method=False,
    laws=(
        Linear("input", zero=("bias",)),
        Linear("weight", zero=("bias",)),
        Batched("input", core=3, single=True),
    ),
)
class conv_transpose2d(_Transposed):
    """The transposed (fractionally strided) convolution: the adjoint of `conv2d`, which learns to enlarge.

    input: (N, C, H, W) or (C, H, W); weight: (C, F / groups, KH, KW); bias: (F). The result is (N, F, OH, OW) with
    OH = (H - 1) * stride - 2 * padding + dilation * (KH - 1) + output_padding + 1.
    stride, padding, output_padding, dilation: one integer or one for each axis. A convolution with a stride maps several
    sizes to one; output_padding, smaller than stride or dilation, says which one to return to. It adds no zeros to the result.

    ValueError for shapes, sizes or groups that do not fit; TypeError for mixed dtypes. Source: Zeiler et al., Deconvolutional
    Networks, CVPR 2010; Dumoulin and Visin, arXiv:1603.07285.
    """

    def prepare(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
        return _prepare_transpose("conv_transpose2d", 2, input, weight, bias, stride, padding, output_padding, groups, dilation)


@op(
    "conv_transpose3d",
    domain=lambda draw: _transpose_example(draw, 3),
    formula=_TRANSPOSE_FORMULA,
    kernels=_TRANSPOSE_KERNEL,
    cost=conv_transpose_cost,
    method=False,
    laws=(
        Linear("input", zero=("bias",)),
        Linear("weight", zero=("bias",)),
        Batched("input", core=4, single=True),
    ),
)
class conv_transpose3d(_Transposed):
    """The transposed convolution of volumes: as `conv_transpose2d`, for three spatial axes."""

    def prepare(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
        return _prepare_transpose("conv_transpose3d", 3, input, weight, bias, stride, padding, output_padding, groups, dilation)


def _matrix_domain(draw):
    input, weight, _, stride, padding, dilation, groups = conv_example(draw, 2)
    return call(weight, input.shape[-3:], stride, padding, dilation, groups)


@op(
    "conv2d_matrix",
    domain=_matrix_domain,
    formula="M with M @ x.flatten() = conv2d(x, weight).flatten()",
    source="arXiv:1603.07285, section 4.1",
    method=False,
)
class conv2d_matrix(Composite):
    """The matrix that a convolution is: conv2d(x, weight, ...).flatten() == conv2d_matrix(weight, x.shape, ...) @ x.flatten().

    weight: (F, C / groups, KH, KW); input_shape: (C, H, W). The result is dense, (F * OH * OW, C * H * W), and mostly
    zero: every row holds one copy of a kernel, moved to where that output's window lies. Each block that joins one channel
    to another is a doubly blocked Toeplitz matrix (without stride). Its transpose is what `conv_transpose2d` and
    `conv_input_grad` multiply by. For teaching and
    checking: it grows as the square of the image. Differentiable in the weight. ValueError as `conv2d`.

        M = tg.conv2d_matrix(weight, (3, 8, 8), padding=1)
        (M @ x.flatten()).reshape(-1, 8, 8)         # conv2d(x, weight, padding=1) for x of shape (3, 8, 8)
    """

    def prepare(weight, input_shape, stride=1, padding=0, dilation=1, groups=1):
        if len(tuple(input_shape)) != 3:
            raise ValueError(f"conv2d_matrix: input_shape must be (C, H, W), got {tuple(input_shape)}")
        input_shape = spatial_tuple("conv2d_matrix", "input_shape", tuple(input_shape), 3, 1)
        like = tg.zeros((), dtype=weight.dtype).expand(*input_shape)
        _, _, _, stride, padding, dilation, groups = prepare_conv(
            "conv2d_matrix", 2, like, weight, None, stride, padding, dilation, groups
        )
        return weight, input_shape, stride, padding, dilation, groups

    def reference(weight: Array, input_shape, stride=1, padding: Padding = 0, dilation=1, groups: int = 1) -> np.ndarray:
        channels, height, width = input_shape
        filters, per_group, kernel_h, kernel_w = weight.shape
        (top, _), (left, _) = padding_pairs(padding)
        out_h, out_w = output_sizes((height, width), (kernel_h, kernel_w), stride, padding, dilation)
        matrix = np.zeros((filters, out_h, out_w, channels, height, width), weight.dtype)
        for f, i, j, c, a, b in np.ndindex(filters, out_h, out_w, per_group, kernel_h, kernel_w):
            row, column = i * stride[0] + a * dilation[0] - top, j * stride[1] + b * dilation[1] - left
            if 0 <= row < height and 0 <= column < width:
                matrix[f, i, j, f // (filters // groups) * per_group + c, row, column] = weight[f, c, a, b]
        return matrix.reshape(filters * out_h * out_w, channels * height * width)

    def compose(weight, input_shape, stride=1, padding=0, dilation=1, groups=1):
        pixels = math.prod(input_shape)
        units = tg.eye(pixels, dtype=weight.dtype).reshape(pixels, *input_shape)
        return tg.conv2d(units, weight, None, stride, padding, dilation, groups).reshape(pixels, -1).mT
