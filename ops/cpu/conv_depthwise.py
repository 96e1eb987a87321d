"""The gradient in the weight of a depthwise convolution: one input channel for each group.

There is nothing to multiply as matrices: each tap's gradient is the product, summed over all positions, of one channel of the output's
gradient with what the tap meets in one channel of the input, copied as for the forward pass (`conv_grid.planned`). Four taps at a time
share what they read of the gradient. Work is shared out by channels, so results do not depend on the number of threads.
"""

from __future__ import annotations

import math

import numpy as np

from tinygrad_cv.kernels.jit import REDUCTION, kernel
from tinygrad_cv.kernels.memory import empty
from tinygrad_cv.kernels.shares import plain, run_shares, share_count, span

from .conv_copies import fill_strip
from .conv_grid import forward_phases, planned

FEWEST = 4  # channels for which this is the better way


@kernel(fastmath=REDUCTION)
def depthwise_weight_share(grad_output, x, weight_grad, scratch, job, table, shares, share):
    """A share of the channels, `rows` filters for each."""
    groups, rows, count, line, channel, together = job[0], job[2], job[23], job[18], job[22], job[34]
    out_depth, out_height, out_width, strip_rows = job[6], job[7], job[8], job[17]
    area, out_area = job[3] * job[4] * job[5], out_depth * out_height * out_width
    images = x.size // (groups * area)
    first_tap = job[15] + job[16]
    grid = scratch[share]
    for g in range(*span(groups, shares, share)):
        for t in range(rows * count):
            weight_grad[g * rows * count + t] = 0
        for image in range(0, images, together):
            held = min(together, images - image)
            for strip in range(out_depth * job[19] * job[20]):
                column, row, d = strip % job[20] * line, strip // job[20] % job[19] * strip_rows, strip // job[20] // job[19]
                lines, columns = min(strip_rows, out_height - row), min(line, out_width - column)
                positions = (lines - 1) * line + columns
                origin, source, distance = (image * groups + g) * area, x, groups * area
                if job[21]:
                    fill_strip(x, origin, distance, held, job, table, d, row, column, lines, columns, grid)
                    origin, source, distance = 0, grid, channel
                else:
                    origin += column
                for m in range(held):
                    for r in range(rows):
                        begin = ((image + m) * groups + g) * rows + r
                        begin = begin * out_area + (d * out_height + row) * out_width + column
                        to = (g * rows + r) * count
                        seen = grad_output[begin : begin + positions]
                        for t in range(0, count - count % 4, 4):
                            a, b, c, e = (
                                origin + m * distance + table[first_tap + t], origin + m * distance + table[first_tap + t + 1],
                                origin + m * distance + table[first_tap + t + 2], origin + m * distance + table[first_tap + t + 3],
                            )  # fmt: skip
                            first, second, third, fourth = source[a:], source[b:], source[c:], source[e:]
                            sum_1 = sum_2 = sum_3 = sum_4 = x.dtype.type(0)
                            for p in range(positions):
                                sum_1 += seen[p] * first[p]
                                sum_2 += seen[p] * second[p]
                                sum_3 += seen[p] * third[p]
                                sum_4 += seen[p] * fourth[p]
                            weight_grad[to + t] += sum_1
                            weight_grad[to + t + 1] += sum_2
                            weight_grad[to + t + 2] += sum_3
                            weight_grad[to + t + 3] += sum_4
                        for t in range(count - count % 4, count):
                            first = source[origin + m * distance + table[first_tap + t] :]
                            sum_1 = x.dtype.type(0)
                            for p in range(positions):
                                sum_1 += seen[p] * first[p]
                            weight_grad[to + t] += sum_1


def depthwise_weight_grad(
    grad_output, input, images: int, groups: int, sizes, out, kernel_size, stride, before, dilation, serial_below: int
) -> np.ndarray:
    """(groups, filters, *kernel_size), as `conv_weight.direct_weight_grad`, where input has one channel for each group."""
    taps = math.prod(kernel_size)
    rows = grad_output.size // (images * groups * math.prod(out))
    phases = forward_phases(out, kernel_size, stride, before, dilation)
    plan = planned(input.dtype, groups, 1, rows, sizes, phases, out, (1, 1, 1), images * groups, 1, False)
    shares = min(groups, share_count(grad_output.size * taps, serial_below))
    weight_grad = np.empty((groups, rows, *kernel_size), input.dtype)
    scratch = empty((shares, plan.scratch), input.dtype)
    run_shares(
        depthwise_weight_share, shares, plain(grad_output), plain(input), weight_grad.reshape(-1), scratch, plan.jobs[0], plan.tables[0],
        shares,
    )  # fmt: skip
    return weight_grad
