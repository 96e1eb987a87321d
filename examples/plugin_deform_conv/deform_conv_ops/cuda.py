"""CUDA kernels, in Numba's CUDA language: a thread for each reading, in a grid-stride loop. The adjoint adds by atomic operations.

`one` is 1 in the arrays' dtype, which keeps float32 arithmetic float32. No device functions, no int() and no bool(): Numba compiles
those only where there is a GPU, and the tests compile the kernels where there is none.
"""

import numpy as np
from numba import cuda

THREADS = 128  # of a block
BLOCKS = 4096  # at most


@cuda.jit
def sample(x, offset, kernel_width, stride, padding, dilation, derivative, one, out):
    """out[n, c, k, i, j] = sum over four pixels of weight * x[n, c, pixel]."""
    images, channels, taps, rows, columns = out.shape
    height, width, group = x.shape[2], x.shape[3], channels // offset.shape[1]
    for t in range(cuda.grid(1), images * channels * taps * rows * columns, cuda.gridsize(1)):
        j, i, k = t % columns, t // columns % rows, t // (columns * rows) % taps
        c = t // (columns * rows * taps) % channels
        n = t // (columns * rows * taps * channels)
        y = offset[n, c // group, k, 0, i, j] + one * np.float32(i * stride[0] - padding[0] + k // kernel_width * dilation[0])
        z = offset[n, c // group, k, 1, i, j] + one * np.float32(j * stride[1] - padding[1] + k % kernel_width * dilation[1])
        total = one - one
        if -one < y < height and -one < z < width:
            down, across = y % one, z % one
            low, left = np.int64(y - down), np.int64(z - across)
            for corner in range(4):
                upper, right = corner // 2, corner % 2
                h, w = low + upper, left + right
                if 0 <= h < height and 0 <= w < width:
                    vertical = down if upper == 1 else one - down
                    horizontal = across if right == 1 else one - across
                    if derivative[0] == 1:
                        vertical = one if upper == 1 else -one
                    if derivative[1] == 1:
                        horizontal = one if right == 1 else -one
                    total += vertical * horizontal * x[n, c, h, w]
        out[n, c, k, i, j] = total


@cuda.jit
def scatter(columns, offset, kernel_width, stride, padding, dilation, derivative, one, out):
    """out[n, c, pixel] += weight * columns[n, c, k, i, j] for four pixels; out starts as zeros."""
    images, channels, taps, rows, wide = columns.shape
    height, width, group = out.shape[2], out.shape[3], channels // offset.shape[1]
    for t in range(cuda.grid(1), images * channels * taps * rows * wide, cuda.gridsize(1)):
        j, i, k = t % wide, t // wide % rows, t // (wide * rows) % taps
        c = t // (wide * rows * taps) % channels
        n = t // (wide * rows * taps * channels)
        y = offset[n, c // group, k, 0, i, j] + one * np.float32(i * stride[0] - padding[0] + k // kernel_width * dilation[0])
        z = offset[n, c // group, k, 1, i, j] + one * np.float32(j * stride[1] - padding[1] + k % kernel_width * dilation[1])
        if -one < y < height and -one < z < width:
            down, across = y % one, z % one
            low, left = np.int64(y - down), np.int64(z - across)
            for corner in range(4):
                upper, right = corner // 2, corner % 2
                h, w = low + upper, left + right
                if 0 <= h < height and 0 <= w < width:
                    vertical = down if upper == 1 else one - down
                    horizontal = across if right == 1 else one - across
                    if derivative[0] == 1:
                        vertical = one if upper == 1 else -one
                    if derivative[1] == 1:
                        horizontal = one if right == 1 else -one
                    cuda.atomic.add(out, (n, c, h, w), vertical * horizontal * columns[n, c, k, i, j])


def launch(function, count, values, offset, shape, kernel_size, stride, padding, dilation, derivative):
    """One of the two kernels on copies of the arrays; the result as a NumPy array."""
    out = np.zeros(shape, values.dtype)
    if not count:
        return out
    device_out = cuda.to_device(out)
    arrays = cuda.to_device(np.ascontiguousarray(values)), cuda.to_device(np.ascontiguousarray(offset, values.dtype))
    blocks = min(-(-count // THREADS), BLOCKS)
    function[blocks, THREADS](*arrays, kernel_size[1], stride, padding, dilation, derivative, values.dtype.type(1), device_out)
    return device_out.copy_to_host()


def deform_sample(input, offset, kernel_size, stride, padding, dilation, derivative=(0, 0)):
    """Takes what the reference takes, NumPy arrays, and returns one."""
    shape = (*input.shape[:2], offset.shape[2], *offset.shape[4:])
    return launch(sample, int(np.prod(shape)), input, offset, shape, kernel_size, stride, padding, dilation, derivative)


def deform_scatter(columns, offset, size, kernel_size, stride, padding, dilation, derivative=(0, 0)):
    """Takes what the reference takes, NumPy arrays, and returns one."""
    shape = (*columns.shape[:2], *size)
    return launch(scatter, columns.size, columns, offset, shape, kernel_size, stride, padding, dilation, derivative)
