"""Reading an image at learned places: the two linear maps that deformable convolution and all of its derivatives are made of.

For output pixel p and kernel tap k the place is p * stride - padding + k * dilation + offset. A place (y, x) reads

    sum over pixels q of  image[q] hat(y - q_y) hat(x - q_x),        hat(d) = max(0, 1 - |d|),

which is bilinear interpolation with zeros outside. `derivative` = (a, b) has hat differentiated a times along y and b times along x (each
0 or 1; twice gives 0). `deform_sample` reads, `deform_scatter` is its adjoint, and each is the other's gradient for the image; the
gradient for the offsets is a product with a reading whose `derivative` is one higher. So two operators are closed under differentiation.
"""

import numpy as np

import tinygrad_cv as tg
from tinygrad_cv.extend import Array, Op, call, op

KINKS = ("places whose y or x is a whole number",)


def out_size(size, kernel_size, stride, padding, dilation):
    """(H', W') of a convolution."""
    return tuple(
        (s + 2 * p - d * (k - 1) - 1) // t + 1
        for s, k, t, p, d in zip(size, kernel_size, stride, padding, dilation, strict=True)
    )


def hat(distance, order):
    """max(0, 1 - |distance|), or its derivative; at whole numbers that from the right."""
    if order == 0:
        return np.maximum(0.0, 1.0 - np.abs(distance))
    slope = np.where((distance >= 0) & (distance < 1), -1.0, np.where((distance >= -1) & (distance < 0), 1.0, 0.0))
    return np.where(np.isnan(distance), np.nan, slope)


def weights(offset, size, kernel_size, stride, padding, dilation, derivative):
    """The weight of every row, (N, G, K, H', W', H), and of every column, (N, G, K, H', W', W), for every place."""
    found = []
    for axis in (0, 1):
        first = np.arange(offset.shape[4 + axis]) * stride[axis] - padding[axis]
        tap = np.arange(kernel_size[axis]) * dilation[axis]
        tap = np.repeat(tap, kernel_size[1]) if axis == 0 else np.tile(tap, kernel_size[0])
        pixel = first[:, None] if axis == 0 else first[None, :]
        place = offset[:, :, :, axis].astype(np.float64) + tap[:, None, None] + pixel
        found.append(hat(place[..., None] - np.arange(size[axis]), derivative[axis]))
    return found


def geometry(draw):
    """Sizes of a small case and offsets whose places stay 0.2 away from whole numbers."""
    images, groups, channels = draw.integer(1, 2), draw.integer(1, 2), draw.integer(1, 2)
    kernel_size, stride, padding, dilation = (tuple(draw.integer(low, 2) for _ in range(2)) for low in (1, 1, 0, 1))
    size = tuple(
        max(1, d * (k - 1) + 1 - 2 * p) + draw.integer(0, 1) for k, p, d in zip(kernel_size, padding, dilation, strict=True)
    )
    taps = kernel_size[0] * kernel_size[1]
    shape = (images, groups, taps, 2, *out_size(size, kernel_size, stride, padding, dilation))
    offset = draw.integers(shape, -1, 2) + draw.real(shape, 0.2, 0.8)
    return (images, groups * channels, *size), offset, (kernel_size, stride, padding, dilation)


def sample_case(draw):
    """An image, offsets and a derivative."""
    shape, offset, rest = geometry(draw)
    return call(draw.real(shape), offset, *rest, draw.choice([(0, 0), (1, 0), (0, 1), (1, 1)]))


def scatter_case(draw):
    """Columns, offsets, the size of the image and a derivative."""
    shape, offset, rest = geometry(draw)
    columns = (*shape[:2], offset.shape[2], *offset.shape[4:])
    return call(draw.real(columns), offset, shape[2:], *rest, draw.choice([(0, 0), (1, 0), (0, 1), (1, 1)]))


def offset_gradient(columns, read):
    """The sum of columns * read(axis) over the channels of each group of offsets, for both axes; zeros where hat'' is asked for."""
    images, channels, taps, *pixels = columns.shape
    parts = []
    for axis in (0, 1):
        derivative, groups, values = read(axis)
        if derivative > 1:
            parts.append(tg.zeros(images, groups, taps, *pixels, dtype=columns.dtype))
        else:
            parts.append((columns * values()).reshape(images, groups, channels // groups, taps, *pixels).sum(2))
    return tg.stack(parts, 3)


def higher(derivative, axis):
    """`derivative` with one more along `axis`."""
    return tuple(order + (i == axis) for i, order in enumerate(derivative))


@op(
    "deform_sample",
    domain=sample_case,
    formula="out[n, c, k, p] = sum_q input[n, c, q] hat(y - q_y) hat(x - q_x), (y, x) = p stride - padding + k dilation + offset",
    kinks=KINKS,
    source="Dai et al.: Deformable convolutional networks (arXiv:1703.06211), equations 2 to 4",
    kernels={"cpu": "deform_conv_ops.cpu:deform_sample", "cuda": "deform_conv_ops.cuda:deform_sample"},
    method=False,
    internal=True,
)
class deform_sample(Op):
    """input (N, C, H, W) read at offset (N, G, K, 2, H', W'): (N, C, K, H', W'). Channels are cut into G groups, each with its offsets."""

    def reference(
        input: Array,
        offset: Array,
        kernel_size: tuple,
        stride: tuple,
        padding: tuple,
        dilation: tuple,
        derivative: tuple = (0, 0),
    ):
        images, channels, *size = input.shape
        _, groups, taps, _, *pixels = offset.shape
        rows, columns = weights(offset, size, kernel_size, stride, padding, dilation, derivative)
        grouped = input.reshape(images, groups, channels // groups, *size).astype(np.float64)
        out = np.einsum("ngchw,ngkijh,ngkijw->ngckij", grouped, rows, columns, optimize=True)
        return out.reshape(images, channels, taps, *pixels).astype(input.dtype)

    def grad_input(upstream, ctx, offset, kernel_size, stride, padding, dilation, derivative):
        size = ctx.input_shapes[0][2:]
        return tg.deform_scatter(upstream, offset, size, kernel_size, stride, padding, dilation, derivative)

    def grad_offset(upstream, input, offset, kernel_size, stride, padding, dilation, derivative):
        def read(axis):
            one_more = higher(derivative, axis)
            return (
                one_more[axis],
                offset.shape[1],
                lambda: tg.deform_sample(input, offset, kernel_size, stride, padding, dilation, one_more),
            )

        return offset_gradient(upstream, read)


@op(
    "deform_scatter",
    domain=scatter_case,
    formula="out[n, c, q] = sum_{k, p} columns[n, c, k, p] hat(y - q_y) hat(x - q_x), (y, x) = p stride - padding + k dilation + offset",
    kinks=KINKS,
    source="the adjoint of deform_sample",
    kernels={"cpu": "deform_conv_ops.cpu:deform_scatter", "cuda": "deform_conv_ops.cuda:deform_scatter"},
    method=False,
    internal=True,
)
class deform_scatter(Op):
    """columns (N, C, K, H', W') spread over the pixels that `deform_sample` reads: (N, C, H, W) for size = (H, W)."""

    def reference(
        columns: Array, offset: Array, size: tuple, kernel_size: tuple, stride: tuple, padding: tuple, dilation: tuple,
        derivative: tuple = (0, 0),
    ):  # fmt: skip
        images, channels, taps, *pixels = columns.shape
        groups = offset.shape[1]
        rows, across = weights(offset, size, kernel_size, stride, padding, dilation, derivative)
        grouped = columns.reshape(images, groups, channels // groups, taps, *pixels).astype(np.float64)
        out = np.einsum("ngckij,ngkijh,ngkijw->ngchw", grouped, rows, across, optimize=True)
        return out.reshape(images, channels, *size).astype(columns.dtype)

    def grad_columns(upstream, offset, kernel_size, stride, padding, dilation, derivative):
        return tg.deform_sample(upstream, offset, kernel_size, stride, padding, dilation, derivative)

    def grad_offset(upstream, columns, offset, kernel_size, stride, padding, dilation, derivative):
        def read(axis):
            one_more = higher(derivative, axis)
            return (
                one_more[axis],
                offset.shape[1],
                lambda: tg.deform_sample(upstream, offset, kernel_size, stride, padding, dilation, one_more),
            )

        return offset_gradient(columns, read)
