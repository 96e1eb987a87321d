"""Deformable convolution, versions 1 and 2, by the names of torchvision.ops.deform_conv2d."""

import numpy as np

import tinygrad_cv as tg
from tinygrad_cv.extend import Array, Composite, Tensor, call, op

from .sampling import KINKS, geometry, out_size, weights


def convolution_case(draw):
    """Small images, offsets away from whole numbers, with and without a mask and a bias, one and several groups."""
    shape, offset, (kernel_size, stride, padding, dilation) = geometry(draw)
    images, groups, taps, _, *pixels = offset.shape
    cuts = draw.choice([n for n in (1, 2) if shape[1] % n == 0])
    weight = draw.real((cuts * draw.integer(1, 2), shape[1] // cuts, *kernel_size))
    bias = draw.real(weight.shape[:1]) if draw.boolean() else None
    mask = draw.real((images, groups * taps, *pixels), 0.2, 1.5) if draw.boolean() else None
    return call(
        draw.real(shape), offset.reshape(images, -1, *pixels), weight, bias, stride, padding, dilation, mask
    )  # fmt: skip


def pair(value, label, least):
    """An integer, or two of them, as two."""
    found = (value, value) if isinstance(value, int) else tuple(value)
    if len(found) != 2 or not all(isinstance(v, int) and v >= least for v in found):
        raise ValueError(f"deform_conv2d: {label} must be one or two integers of at least {least}, got {value}")
    return found


@op(
    "deform_conv2d",
    domain=convolution_case,
    formula="out[n, o, p] = bias[o] + sum_{c, k} weight[o, c, k] mask[n, k, p] input[n, c, p + k + offset[n, k, p]]",
    kinks=KINKS,
    source="Dai et al. (arXiv:1703.06211); with a mask Zhu et al. (arXiv:1811.11168), equation 1; torchvision.ops.deform_conv2d",
)
class deform_conv2d(Composite):
    """Convolution that reads its input at learned places, by bilinear interpolation with zeros outside.

    input (N, C, H, W); offset (N, 2 G kh kw, H', W'), for each of G groups of channels and each tap (y, x) in pixels; weight
    (O, C / groups, kh, kw); bias (O,); mask (N, G kh kw, H', W') multiplies what a tap reads (version 2). All of one floating dtype.
    Result (N, O, H', W'). The derivative at a place with a whole-numbered coordinate is that from the right.

    TypeError and ValueError for operands of other dtypes and shapes.
    """

    def prepare(input, offset, weight, bias=None, stride=(1, 1), padding=(0, 0), dilation=(1, 1), mask=None):
        given = {"input": input, "offset": offset, "weight": weight, "bias": bias, "mask": mask}
        for label, tensor in given.items():
            if tensor is None and label in ("bias", "mask"):
                continue
            if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
                kind = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
                raise TypeError(f"deform_conv2d: {label} must be a floating Tensor, got {kind}")
            if tensor.dtype != input.dtype:
                raise TypeError(f"deform_conv2d: {label} is {tensor.dtype} and input {input.dtype}; they must be equal")
            axes = 1 if label == "bias" else 4
            if tensor.ndim != axes:
                raise ValueError(f"deform_conv2d: {label} must have {axes} axes, got shape {tensor.shape}")
        stride, padding, dilation = pair(stride, "stride", 1), pair(padding, "padding", 0), pair(dilation, "dilation", 1)
        images, channels, *size = input.shape
        outputs, per_group, *kernel_size = weight.shape
        if 0 in (channels, *weight.shape) or channels % per_group or outputs % (channels // per_group):
            raise ValueError(
                f"deform_conv2d: weight {weight.shape} does not fit {channels} channels: axis 1 must divide them into groups, and "
                "axis 0 must be a multiple of the number of groups"
            )
        pixels = out_size(size, kernel_size, stride, padding, dilation)
        if min(pixels) < 1:
            raise ValueError(f"deform_conv2d: the kernel {tuple(kernel_size)} is larger than the padded input {input.shape}")
        taps = kernel_size[0] * kernel_size[1]
        groups = offset.shape[1] // (2 * taps)
        if offset.shape != (images, 2 * taps * groups, *pixels) or groups < 1 or channels % groups:
            raise ValueError(
                f"deform_conv2d: offset must have shape ({images}, 2 * G * {taps}, {pixels[0]}, {pixels[1]}) with G a divisor of "
                f"{channels}, got {offset.shape}"
            )
        if mask is not None and mask.shape != (images, taps * groups, *pixels):
            raise ValueError(f"deform_conv2d: mask must have shape {(images, taps * groups, *pixels)}, got {mask.shape}")
        if bias is not None and bias.shape != (outputs,):
            raise ValueError(f"deform_conv2d: bias must have shape ({outputs},), got {bias.shape}")
        return input, offset, weight, bias, stride, padding, dilation, mask

    def reference(
        input: Array, offset: Array, weight: Array, bias: Array | None = None, stride: tuple = (1, 1), padding: tuple = (0, 0),
        dilation: tuple = (1, 1), mask: Array | None = None,
    ):  # fmt: skip
        images, channels, *size = input.shape
        outputs, per_group, *kernel_size = weight.shape
        pixels, taps, cuts = offset.shape[2:], kernel_size[0] * kernel_size[1], channels // per_group
        groups = offset.shape[1] // (2 * taps)
        places = offset.reshape(images, groups, taps, 2, *pixels)
        rows, columns = weights(places, size, kernel_size, stride, padding, dilation, (0, 0))
        grouped = input.reshape(images, groups, channels // groups, *size).astype(np.float64)
        strength = np.ones((images, groups, taps, *pixels)) if mask is None else mask.reshape(images, groups, taps, *pixels)
        read = np.einsum("ngchw,ngkijh,ngkijw,ngkij->ngckij", grouped, rows, columns, strength, optimize=True)
        read = read.reshape(images, cuts, per_group, taps, *pixels)
        out = np.einsum("nackij,aock->naoij", read, weight.reshape(cuts, outputs // cuts, per_group, taps).astype(np.float64))
        out = out.reshape(images, outputs, *pixels) + (0 if bias is None else bias[:, None, None])
        return out.astype(input.dtype)

    def compose(input, offset, weight, bias=None, stride=(1, 1), padding=(0, 0), dilation=(1, 1), mask=None):
        images, channels = input.shape[:2]
        outputs, per_group, *kernel_size = weight.shape
        pixels, taps, cuts = offset.shape[2:], kernel_size[0] * kernel_size[1], channels // per_group
        groups = offset.shape[1] // (2 * taps)
        places = offset.reshape(images, groups, taps, 2, *pixels)
        read = tg.deform_sample(input, places, tuple(kernel_size), stride, padding, dilation)
        if mask is not None:
            grouped = read.reshape(images, groups, channels // groups, taps, *pixels)
            read = grouped * mask.reshape(images, groups, 1, taps, *pixels)
        columns = read.reshape(images, cuts, per_group * taps, pixels[0] * pixels[1])
        out = weight.reshape(cuts, outputs // cuts, per_group * taps) @ columns
        out = out.reshape(images, outputs, *pixels)
        return out if bias is None else out + bias.reshape(outputs, 1, 1)
