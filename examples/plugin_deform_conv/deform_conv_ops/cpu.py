"""CPU kernels. What a thread writes belongs to it alone: the reading of one tap of one group, or one plane of the image."""

import numpy as np

from tinygrad_cv.extend import choose, empty, helper, kernel, prange

PARALLEL = 8192  # readings: below, the threads cost more than they save


@helper
def share(fraction, upper, order, one):
    """hat, or its derivative, at the pixel below a place (upper = 0) or above it (1); fraction: how far above the lower one it is."""
    if order == 0:
        return fraction if upper else one - fraction
    return one if upper else -one


@kernel
def sample(x, offset, kernel_width, stride, padding, dilation, derivative, out):
    """out[n, c, k, i, j]: see sampling.py. The triples (n, group, k) are shared out."""
    groups, taps = offset.shape[1], offset.shape[2]
    channels, height, width = x.shape[1] // groups, x.shape[2], x.shape[3]
    zero, one = x.dtype.type(0), x.dtype.type(1)
    for t in prange(x.shape[0] * groups * taps):
        n, g, k = t // (groups * taps), t // taps % groups, t % taps
        first = g * channels
        for i in range(out.shape[3]):
            for j in range(out.shape[4]):
                y = offset[n, g, k, 0, i, j] + (i * stride[0] - padding[0] + k // kernel_width * dilation[0])
                z = offset[n, g, k, 1, i, j] + (j * stride[1] - padding[1] + k % kernel_width * dilation[1])
                for c in range(first, first + channels):
                    out[n, c, k, i, j] = zero
                if not (-1 < y < height and -1 < z < width):
                    continue
                low, left = int(np.floor(y)), int(np.floor(z))
                down, across = x.dtype.type(y - low), x.dtype.type(z - left)
                for corner in range(4):
                    h, w = low + corner // 2, left + corner % 2
                    if 0 <= h < height and 0 <= w < width:
                        weight = share(down, corner // 2, derivative[0], one) * share(across, corner % 2, derivative[1], one)
                        for c in range(first, first + channels):
                            out[n, c, k, i, j] += weight * x[n, c, h, w]


@kernel
def scatter(columns, offset, kernel_width, stride, padding, dilation, derivative, out):
    """The adjoint of `sample`. Planes are shared out."""
    groups, taps = offset.shape[1], offset.shape[2]
    channels, height, width = out.shape[1], out.shape[2], out.shape[3]
    zero, one = out.dtype.type(0), out.dtype.type(1)
    for t in prange(out.shape[0] * channels):
        n, c = t // channels, t % channels
        g = c // (channels // groups)
        plane = out[n, c]
        for h in range(height):
            for w in range(width):
                plane[h, w] = zero
        for k in range(taps):
            for i in range(columns.shape[3]):
                for j in range(columns.shape[4]):
                    y = offset[n, g, k, 0, i, j] + (i * stride[0] - padding[0] + k // kernel_width * dilation[0])
                    z = offset[n, g, k, 1, i, j] + (j * stride[1] - padding[1] + k % kernel_width * dilation[1])
                    if not (-1 < y < height and -1 < z < width):
                        continue
                    low, left = int(np.floor(y)), int(np.floor(z))
                    down, across = out.dtype.type(y - low), out.dtype.type(z - left)
                    for corner in range(4):
                        h, w = low + corner // 2, left + corner % 2
                        if 0 <= h < height and 0 <= w < width:
                            weight = share(down, corner // 2, derivative[0], one) * share(
                                across, corner % 2, derivative[1], one
                            )
                            plane[h, w] += weight * columns[n, c, k, i, j]


def has_nan(offset):
    """Whether a place is not a number, which kernels cannot floor."""
    return np.isnan(offset).any()


def run(function, values, offset, shape, kernel_size, stride, padding, dilation, derivative):
    """One of the two kernels on contiguous arrays; NotImplemented for what the reference must do."""
    if values.dtype not in (np.float32, np.float64) or offset.dtype != values.dtype or choose(has_nan, offset):
        return NotImplemented
    out = empty(shape, values.dtype)
    called = function.serial if offset.size < PARALLEL else function
    arrays = np.require(values, requirements="CW"), np.require(offset, requirements="CW")
    called(*arrays, kernel_size[1], stride, padding, dilation, derivative, out)
    return out


def deform_sample(input, offset, kernel_size, stride, padding, dilation, derivative):
    """Takes what the reference takes."""
    shape = (*input.shape[:2], offset.shape[2], *offset.shape[4:])
    return run(sample, input, offset, shape, kernel_size, stride, padding, dilation, derivative)


def deform_scatter(columns, offset, size, kernel_size, stride, padding, dilation, derivative):
    """Takes what the reference takes."""
    return run(scatter, columns, offset, (*columns.shape[:2], *size), kernel_size, stride, padding, dilation, derivative)
