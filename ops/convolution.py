"""Convolutions in one to three dimensions, their transposes, and the three linear maps they are all made of.

With x the input, w the weight and y the output, a convolution is linear in x and in w. `conv_input_grad` is its adjoint in x,
`conv_weight_grad` its adjoint in w; the derivative of each of the three maps is made of the other two, so the family is closed.
A transposed convolution is `conv_input_grad` under another name.
"""

from __future__ import annotations

import math

import numpy as np

import tinygrad_cv as tg

from ..extend import Array, Composite, Op, call, op
from .linear import same_dtype
from .sliding import (
    Padding,
    canonical,
    convolve,
    convolve_input_grad,
    convolve_weight_grad,
    output_sizes,
    padding_pairs,
    spatial_tuple,
)


def _check_groups(name: str, groups) -> int:
    if isinstance(groups, bool) or not hasattr(groups, "__index__"):
        raise TypeError(f"{name}: groups must be an integer, got {groups!r}")
    if groups < 1:
        raise ValueError(f"{name}: groups must be at least 1, got {groups}")
    return groups.__index__()


def _check_operands(name: str, rank: int, input, weight, bias, layout: str) -> None:
    same_dtype(name, input=input, weight=weight, bias=bias)
    if input.dtype.kind == "b":
        raise TypeError(f"{name}: expected numbers, got {input.dtype}; convert with .float()")
    axes = ", ".join(("depth", "height", "width")[-rank:] if rank > 1 else ("length",))
    if weight.ndim != rank + 2:
        raise ValueError(f"{name}: weight must have {rank + 2} axes ({layout}, {axes}), got shape {weight.shape}")
    if input.ndim not in (rank + 1, rank + 2):
        raise ValueError(f"{name}: input must have shape (N, C, {axes}) or (C, {axes}), got shape {input.shape}")
    if min(weight.shape) < 1 and weight.shape[1] != 0:
        raise ValueError(f"{name}: weight of shape {weight.shape} has an empty axis")


def _prepare_conv(name: str, rank: int, input, weight, bias, stride, padding, dilation, groups):
    _check_operands(name, rank, input, weight, bias, "out_channels, in_channels / groups")
    groups = _check_groups(name, groups)
    channels, axis = input.shape[-rank - 1], input.ndim - rank - 1
    if weight.shape[1] * groups != channels:
        times = f" x {groups} groups" if groups > 1 else ""
        raise ValueError(
            f"{name}: weight of shape {weight.shape} expects {weight.shape[1]}{times} input channels, input of shape {input.shape} "
            f"has {channels} (axis {axis})"
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
            f"{name}: a kernel of size {kernel[i]} with dilation {dilation[i]} does not fit into axis {i - rank} of the input, which "
            f"has size {input.shape[i - rank]} + padding {before} + {after}"
        )
    return input, weight, bias, stride, padding, dilation, groups


# ---- the rules, in Tensor operators -------------------------------------------------------------------------------------------


def _convolve(input, weight, stride, padding, dilation, groups, sizes):
    """The convolution of Tensors, cut to the spatial `sizes` (a transposed one may leave its last positions unused)."""
    out = (tg.conv1d, tg.conv2d, tg.conv3d)[len(sizes) - 1](input, weight, None, stride, padding, dilation, groups)
    if out.shape[-len(sizes) :] != tuple(sizes):
        out = out[(..., *(slice(0, n) for n in sizes))]
    return out


def _bias_grad(upstream, rank: int):
    return upstream.sum(tuple(i for i in range(upstream.ndim) if i != upstream.ndim - rank - 1))


def conv_cost(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1) -> tuple[float, float]:
    """FLOPs and bytes (float32, every array moved once) of a convolution, from the shapes of its tensors."""
    rank = len(weight) - 2
    strides, paddings, dilations = canonical("cost", weight[2:], stride, padding, dilation)
    sizes = output_sizes(input[-rank:], weight[2:], strides, paddings, dilations)
    outputs = math.prod(input[: -rank - 1]) * weight[0] * math.prod(sizes)
    flops = outputs * (2 * math.prod(weight[1:]) + (bias is not None))
    return float(flops), 4.0 * (math.prod(input) + math.prod(weight) + outputs)


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


def _input_grad_cost(grad_output, weight, input_size, stride, padding, dilation, groups) -> tuple[float, float]:
    grad_input = math.prod(grad_output[: 1 - len(weight)]) * weight[1] * groups * math.prod(input_size)
    return 2.0 * math.prod(grad_output) * math.prod(weight[1:]), 4.0 * (math.prod(grad_output) + math.prod(weight) + grad_input)


def _weight_grad_cost(grad_output, input, kernel_size, stride, padding, dilation, groups) -> tuple[float, float]:
    weights = input[-len(kernel_size) - 1] // groups * math.prod(kernel_size)
    moved = math.prod(grad_output) + math.prod(input) + grad_output[-len(kernel_size) - 1] * weights
    return 2.0 * math.prod(grad_output) * weights, 4.0 * moved


# ---- the operators ------------------------------------------------------------------------------------------------------------


def _conv_example(draw, rank: int):
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
    input, weight, _, stride, padding, dilation, groups = _conv_example(draw, rank)
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
)
class conv_input_grad(Op):
    """The gradient of a convolution in its input, for 1 to 3 spatial axes: the adjoint of x -> conv(x, weight).

    grad_output: (N, F, *out), or without N; weight: (F, C / groups, *kernel); the result: (N, C, *input_size). `grad_output` may be
    smaller than the convolution's output at the end of an axis, as if it were zero there. ValueError for shapes that do not fit.
    """

    def prepare(grad_output, weight, input_size, stride=1, padding=0, dilation=1, groups=1):
        name, rank = "conv_input_grad", weight.ndim - 2
        _check_operands(name, rank, grad_output, weight, None, "out_channels, in_channels / groups")
        stride, padding, dilation = canonical(name, weight.shape[2:], stride, padding, dilation)
        if grad_output.shape[-rank - 1] != weight.shape[0]:
            raise ValueError(
                f"{name}: grad_output of shape {grad_output.shape} has {grad_output.shape[-rank - 1]} channels, axis 0 of weight "
                f"of shape {weight.shape} has {weight.shape[0]}"
            )
        input_size = spatial_tuple(name, "input_size", tuple(input_size), rank, 1)
        _check_adjoint(name, grad_output, input_size, weight.shape[2:], stride, padding, dilation)
        return grad_output, weight, input_size, stride, padding, dilation, _check_groups(name, groups)

    def reference(
        grad_output: Array, weight: Array, input_size, stride=1, padding=0, dilation=1, groups: int = 1
    ) -> np.ndarray:
        return convolve_input_grad(grad_output, weight, input_size, stride, padding, dilation, groups)

    def grad_grad_output(upstream, weight, ctx, stride, padding, dilation, groups):
        sizes = ctx.input_shapes[0][2 - len(ctx.input_shapes[1]) :]
        return _convolve(upstream, weight, stride, padding, dilation, groups, sizes)

    def grad_weight(upstream, grad_output, ctx, stride, padding, dilation, groups):
        return tg.conv_weight_grad(grad_output, upstream, ctx.input_shapes[1][2:], stride, padding, dilation, groups)


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
)
class conv_weight_grad(Op):
    """The gradient of a convolution in its weight, for 1 to 3 spatial axes: the adjoint of w -> conv(input, w).

    grad_output: (N, F, *out) and input: (N, C, *sizes), or both without N; the result: (F, C / groups, *kernel_size). `grad_output`
    may be smaller than the convolution's output at the end of an axis. ValueError for shapes that do not fit.
    """

    def prepare(grad_output, input, kernel_size, stride=1, padding=0, dilation=1, groups=1):
        name, rank = "conv_weight_grad", len(kernel_size)
        same_dtype(name, grad_output=grad_output, input=input)
        groups = _check_groups(name, groups)
        kernel_size = spatial_tuple(name, "kernel_size", tuple(kernel_size), rank, 1)
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
            raise ValueError(
                f"{name}: the channels of {grad_output.shape} and {input.shape} do not divide into {groups} groups"
            )
        _check_adjoint(name, grad_output, input.shape[-rank:], kernel_size, stride, padding, dilation)
        return grad_output, input, kernel_size, stride, padding, dilation, groups

    def reference(
        grad_output: Array, input: Array, kernel_size, stride=1, padding=0, dilation=1, groups: int = 1
    ) -> np.ndarray:
        return convolve_weight_grad(grad_output, input, kernel_size, stride, padding, dilation, groups)

    def grad_grad_output(upstream, input, ctx, kernel_size, stride, padding, dilation, groups):
        sizes = ctx.input_shapes[0][-len(kernel_size) :]
        return _convolve(input, upstream, stride, padding, dilation, groups, sizes)

    def grad_input(upstream, grad_output, ctx, kernel_size, stride, padding, dilation, groups):
        sizes = ctx.input_shapes[1][-len(kernel_size) :]
        return tg.conv_input_grad(grad_output, upstream, sizes, stride, padding, dilation, groups)


class _Convolution(Op):
    """What conv1d, conv2d and conv3d share."""

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
        return _bias_grad(upstream, len(ctx.input_shapes[1]) - 2)


_CONV_KERNEL = {"cpu": "tinygrad_cv.ops.cpu.conv:conv_forward"}
_CONV_FORMULA = "out[n, f, o] = bias[f] + sum_{c, k} weight[f, c, k] * input[n, c, o * stride + k * dilation - padding]"


@op(
    "conv1d",
    domain=lambda draw: call(*_conv_example(draw, 1)),
    formula=_CONV_FORMULA,
    kernels=_CONV_KERNEL,
    cost=conv_cost,
    method=False,
)
class conv1d(_Convolution):
    """The cross-correlation of signals with kernels: as `conv2d`, for one spatial axis.

    input: (N, C, L) or (C, L); weight: (F, C / groups, K); bias: (F); the result: (N, F, L_out) or (F, L_out).
    """

    def prepare(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
        return _prepare_conv("conv1d", 1, input, weight, bias, stride, padding, dilation, groups)


@op(
    "conv2d",
    domain=lambda draw: call(*_conv_example(draw, 2)),
    formula=_CONV_FORMULA,
    kernels=_CONV_KERNEL,
    cost=conv_cost,
    method=False,
)
class conv2d(_Convolution):
    """The cross-correlation of images with kernels, which the field calls convolution.

    out[n, f, i, j] = bias[f] + sum_{c, a, b} weight[f, c, a, b] * input[n, c, i * stride + a * dilation - padding, j * ...], where c
    runs over the channels of the group of f.

    input: (N, C, H, W) or (C, H, W); weight: (F, C / groups, KH, KW); bias: (F); all of one dtype. The result is (N, F, OH, OW) with
    OH = floor((H + 2 * padding - dilation * (KH - 1) - 1) / stride) + 1.
    stride, dilation: one integer or one for each axis. padding: the same, in zeros on both sides; 'valid' for none; 'same' for as
    many as keep the size (stride 1 only; the odd one goes to the end); or a pair (before, after) for each axis.
    groups: input and output channels are split into so many groups that do not see each other; groups=C is a depthwise convolution.

    ValueError for shapes, sizes or groups that do not fit; TypeError for mixed dtypes.
    """

    def prepare(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
        return _prepare_conv("conv2d", 2, input, weight, bias, stride, padding, dilation, groups)


@op(
    "conv3d",
    domain=lambda draw: call(*_conv_example(draw, 3)),
    formula=_CONV_FORMULA,
    kernels=_CONV_KERNEL,
    cost=conv_cost,
    method=False,
)
class conv3d(_Convolution):
    """The cross-correlation of volumes with kernels: as `conv2d`, for three spatial axes.

    input: (N, C, D, H, W) or (C, D, H, W); weight: (F, C / groups, KD, KH, KW); bias: (F).
    """

    def prepare(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
        return _prepare_conv("conv3d", 3, input, weight, bias, stride, padding, dilation, groups)


def _transposed_sizes(sizes, kernel, stride, padding, dilation, output_padding) -> tuple[int, ...]:
    return tuple(
        (n - 1) * s - 2 * p + d * (k - 1) + extra + 1
        for n, k, s, p, d, extra in zip(sizes, kernel, stride, padding, dilation, output_padding, strict=True)
    )


def _prepare_transpose(name: str, rank: int, input, weight, bias, stride, padding, output_padding, groups, dilation):
    _check_operands(name, rank, input, weight, bias, "in_channels, out_channels / groups")
    groups = _check_groups(name, groups)
    kernel, channels = weight.shape[2:], input.shape[-rank - 1]
    if weight.shape[0] != channels:
        raise ValueError(
            f"{name}: weight of shape {weight.shape} expects {weight.shape[0]} input channels, input of shape {input.shape} has "
            f"{channels} (axis {input.ndim - rank - 1})"
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
        return _convolve(upstream, weight, stride, padding, dilation, groups, sizes)

    def grad_weight(upstream, input, ctx, stride, padding, groups, dilation):
        return tg.conv_weight_grad(input, upstream, ctx.input_shapes[1][2:], stride, padding, dilation, groups)

    def grad_bias(upstream, ctx):
        return _bias_grad(upstream, len(ctx.input_shapes[1]) - 2)


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
)
class conv_transpose2d(_Transposed):
    """The transposed (fractionally strided) convolution: the adjoint of `conv2d`, which learns to enlarge.

    input: (N, C, H, W) or (C, H, W); weight: (C, F / groups, KH, KW); bias: (F). The result is (N, F, OH, OW) with
    OH = (H - 1) * stride - 2 * padding + dilation * (KH - 1) + output_padding + 1.
    stride, padding, output_padding, dilation: one integer or one for each axis. A convolution with a stride maps several sizes to one;
    output_padding, smaller than stride or dilation, says which one to return to. It adds no zeros to the result.

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
)
class conv_transpose3d(_Transposed):
    """The transposed convolution of volumes: as `conv_transpose2d`, for three spatial axes."""

    def prepare(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
        return _prepare_transpose("conv_transpose3d", 3, input, weight, bias, stride, padding, output_padding, groups, dilation)


def _matrix_domain(draw):
    input, weight, _, stride, padding, dilation, groups = _conv_example(draw, 2)
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

    weight: (F, C / groups, KH, KW); input_shape: (C, H, W). The result is dense, (F * OH * OW, C * H * W), and mostly zero: every row
    holds one copy of a kernel, moved to where that output's window lies. Each block that joins one channel to another is a doubly
    blocked Toeplitz matrix (without stride). Its transpose is what `conv_transpose2d` and `conv_input_grad` multiply by. For teaching and
    checking: it grows as the square of the image. Differentiable in the weight. ValueError as `conv2d`.

        M = tg.conv2d_matrix(weight, (3, 8, 8), padding=1)
        (M @ x.flatten()).reshape(-1, 8, 8)         # conv2d(x, weight, padding=1) for x of shape (3, 8, 8)
    """

    def prepare(weight, input_shape, stride=1, padding=0, dilation=1, groups=1):
        if len(tuple(input_shape)) != 3:
            raise ValueError(f"conv2d_matrix: input_shape must be (C, H, W), got {tuple(input_shape)}")
        input_shape = spatial_tuple("conv2d_matrix", "input_shape", tuple(input_shape), 3, 1)
        like = tg.zeros((), dtype=weight.dtype).expand(*input_shape)
        _, _, _, stride, padding, dilation, groups = _prepare_conv(
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
