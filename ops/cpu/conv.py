"""Convolution kernels: forward and gradient in the input. The one seam through which all convolutions go.

A convolution is a matrix product: weights (filters, taps) times what each tap meets at each position of the output. The right
operand is never built. The input that a strip of the output sees is copied once for every tap along the width, zero-padded (see
`conv_grid.strips`), so that what one tap meets is a row of consecutive elements; taps along the height are such rows too, further
on in the same copy. The product is taken by `conv_tiles.conv_panel`, which finds those rows by a table. 1x1 convolutions in steps
of 1 need no copy: their rows are the channels. Weights are read where they lie.

The gradient in the input is the same computation on the output's gradient, with filters and channels swapped, once for every remainder of
the stride. `conv_weight` has the gradient in the weight, `conv_depthwise` the convolutions that read one channel for each
they write, and `winograd` large 3x3 convolutions in steps of 1, for which it needs fewer multiplications.

Work is shared out by images, groups, strips, and, where those are few, by filters. Every output is summed by one thread in one
order, so results do not depend on the number of threads.
"""

from __future__ import annotations

import math

import numpy as np

from tinygrad_cv.kernels.jit import kernel
from tinygrad_cv.kernels.memory import empty
from tinygrad_cv.kernels.shares import call_share, plain, run_shares, share_count, span
from tinygrad_cv.kernels.vector import address
from tinygrad_cv.replay import choose

from ..sliding import padding_pairs
from . import conv_image_weight, conv_images, winograd, winograd_weight
from .conv_copies import fill_strip, weave_rows
from .conv_depthwise import FEWEST, depthwise_weight_grad
from .conv_grid import SCATTERED, flat_taps, forward_phases, gradient_phases, planned, three
from .conv_images import Window
from .conv_tiles import ADDING
from .conv_weight import direct_weight_grad

_MOVED = 8  # multiplications that moving a weight counts as
_SERIAL_BELOW = 200_000  # multiplications: fewer run on the calling thread


@kernel
def convolve_share(x, weight, bias, scale, y, scratch, jobs, tables, shares, share):
    """A share of the output: tasks are (planes: image and group, depth, strip, part of the rows).

    jobs, tables: one row for each phase (`conv_grid.Phase`); those that differ only along the width follow each other, `woven` of them.
    """
    first_job = jobs[0]
    groups, channels, rows, y_area = first_job[0], first_job[1], first_job[2], first_job[27]
    depths, by_height, by_width, copied = first_job[33], first_job[19], first_job[20], first_job[21]
    parts, together, woven = first_job[24], first_job[34], first_job[35]
    room, grid_room, panel, flags = first_job[36], first_job[37], first_job[25], first_job[26]
    area, chunk = first_job[3] * first_job[4] * first_job[5], first_job[38]
    temporary, kind = scratch[share], x.dtype.type(0)
    grid = temporary[woven * room :]
    planes = y.size // (rows * y_area)
    for task in range(*span((planes + together - 1) // together * depths * by_height * by_width * parts, shares, share)):
        strip, part = task // parts, task % parts
        place, strip_w = strip // by_width, strip % by_width
        first_plane, d = place // by_height // depths * together, place // by_height % depths
        held = min(together, planes - first_plane)
        low, high = span((rows + 5) // 6, parts, part)
        low, high = low * 6, min(rows, high * 6)
        for f in range(0, len(jobs), woven):
            job = jobs[f]
            row = place % by_height * job[17]
            lines = min(job[17], job[7] - row)
            if lines <= 0 or d >= job[6]:
                continue
            linear = woven == 1 and job[30] == 1 and (job[29] == job[18] or lines == 1)
            block = high - low if linear else min(SCATTERED, high - low)
            for begin_channel in range(0, channels, chunk):
                used, last = min(chunk, channels - begin_channel), begin_channel + chunk >= channels
                for v in range(woven if copied else 0):
                    wide = jobs[f + v]
                    column, origin = strip_w * wide[18], (first_plane * channels + begin_channel) * area
                    columns = min(wide[18], wide[8] - column)
                    own = grid[v * grid_room :]
                    fill_strip(x, origin, area, held * used, wide, tables[f + v], d, row, column, lines, columns, own)
                for q in range(held):
                    plane = first_plane + q
                    for r in range(low, high, block):
                        n, g = min(block, high - r), plane % groups * rows + r
                        shift = address(bias, g) if bias.size and last else np.int64(0)
                        factor = address(scale, g) if scale.size and last else np.int64(0)
                        for v in range(woven):
                            wide = jobs[f + v]
                            count, each, line = wide[23], wide[23] // channels, wide[18]
                            column = strip_w * line
                            columns = min(line, wide[8] - column)
                            if columns <= 0:
                                continue
                            positions = (lines - 1) * line + columns
                            to = wide[31] + (plane * rows + r) * y_area + d * wide[28] + row * wide[29] + column * wide[30]
                            source = address(grid, v * grid_room + q * chunk * wide[22])
                            if not copied:
                                source = address(x, plane * channels * area + column)
                            result, distance = address(y, to), y_area
                            if not linear:
                                result, distance = address(temporary, v * room), positions
                            offsets, weights = (
                                address(tables[f + v], wide[15] + wide[16]),
                                address(weight, wide[32] + g * count + begin_channel * each),
                            )
                            call_share(
                                panel, (flags if last else 0) | (ADDING if begin_channel else 0),
                                (
                                    kind, source, offsets, used * each, 1, 0, positions, weights, count, 0, n, result, distance, shift,
                                    factor,
                                ),
                            )  # fmt: skip
                            if not linear and woven != 2:
                                for i in range(n):
                                    for j in range(lines):
                                        begin, end = v * room + i * positions + j * line, to + i * y_area + j * wide[29]
                                        for k in range(columns):
                                            y[end + k * wide[30]] = temporary[begin + k]
                        if woven == 2:
                            odd, column, line = jobs[f + 1], strip_w * job[18], job[18]
                            columns, odd_columns = min(line, job[8] - column), max(0, min(odd[18], odd[8] - column))
                            to = job[31] + (plane * rows + r) * y_area + d * job[28] + row * job[29] + 2 * column
                            for i in range(n):
                                even_at, odd_at = (
                                    i * ((lines - 1) * line + columns),
                                    room + i * ((lines - 1) * odd[18] + odd_columns),
                                )
                                weave_rows(
                                    temporary, even_at, line, odd_at, odd[18], y, to + i * y_area, job[29], lines, columns, odd_columns
                                )  # fmt: skip


@kernel
def turn_weights(weight, turned, groups, filters, rows, count, taken, starts, shares, share):
    """A share of the rows: weights (group, filter, row, tap) as (group, row, filter, tap), once for each phase, with its taps alone.

    taken: the taps of all phases, one phase after the other, from starts[phase] on.
    """
    for line in range(*span(groups * rows, shares, share)):
        g, row = line // rows, line % rows
        for phase in range(starts.size - 1):
            begin, taps = starts[phase], starts[phase + 1] - starts[phase]
            to = groups * rows * filters * begin + line * filters * taps
            for f in range(filters):
                source = ((g * filters + f) * rows + row) * count
                for t in range(taps):
                    turned[to + f * taps + t] = weight[source + taken[begin + t]]


# ---- the seam -------------------------------------------------------------------------------------------------------------


def _by_winograd(dtype, weight_shape: tuple[int, ...], stride, dilation, groups: int) -> bool:
    """Whether `winograd` does it: 3x3 kernels in steps of 1. float64 stays direct: it is what other results are checked with."""
    return dtype == np.float32 and weight_shape[2:] == (3, 3) and stride == dilation == (1, 1, 1) and groups == 1


def _convolve(x, weight, bias, scale, relu, y, images, groups, channels, sizes, phases, stride) -> None:
    """Runs `convolve_share`. x, weight: flat, weight with the rows of one phase after those of another; y: (-1, *sizes)."""
    rows = y.shape[0] // (images * groups)
    work = images * groups * rows * channels * sum(math.prod(map(len, p.taps)) * math.prod(p.out) for p in phases)
    shares = share_count(work, _SERIAL_BELOW)
    plan = planned(x.dtype, groups, channels, rows, sizes, phases, y.shape[1:], stride, images * groups, shares, relu)
    absent = np.empty(0, x.dtype)
    run_shares(
        convolve_share, plan.shares, x, weight, absent if bias is None else plain(bias), absent if scale is None else plain(scale),
        y.reshape(-1), empty((plan.shares, plan.scratch), x.dtype), plan.jobs, plan.tables, plan.shares,
    )  # fmt: skip


def _by_images(x, weight, bias, relu, y, images, groups, axes, turned) -> bool:
    """Whether `conv_images` is the better way; then it has computed y. axes: the fields of its Window, of three spatial axes each."""
    channels, rows = x.shape[1 - weight.ndim] // groups, y.shape[1 - weight.ndim] // groups
    window = Window(*(axis[1:] for axis in axes))
    depthwise = channels == 1 and groups >= FEWEST  # too few sums for what an output costs
    if weight.ndim == 5 or depthwise or not conv_images.worth(images, channels, rows, window, x.itemsize):
        return False
    shares = share_count(y.size * channels * math.prod(window.taps), _SERIAL_BELOW)
    conv_images.convolve(plain(x), plain(weight), bias, relu, y.reshape(-1), images, groups, window, turned, shares)
    return True


def conv_forward(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1, *, scale=None, relu=False):
    """The convolution (see `tinygrad_cv.conv2d`) of float32 or float64 arrays; NotImplemented for others and empty ones.

    scale (filters) and relu: an epilogue, out = max(0, scale * convolution + bias), for whoever fuses operators.
    """
    if winograd.unsupported(input, weight, bias, scale):
        return NotImplemented
    rank, lead = weight.ndim - 2, input.shape[: 1 - weight.ndim]
    before = three([p for p, _ in padding_pairs(padding)], 0)
    sizes, kernel_size = three(input.shape[-rank:], 1), three(weight.shape[2:], 1)
    totals = three([a + b for a, b in padding_pairs(padding)], 0)
    stride, dilation = three(stride, 1), three(dilation, 1)
    out = tuple(
        (n + p - d * (k - 1) - 1) // s + 1 for n, p, d, k, s in zip(sizes, totals, dilation, kernel_size, stride, strict=True)
    )
    rows, channels = weight.shape[0] // groups, weight.shape[1]
    if _by_winograd(input.dtype, weight.shape, stride, dilation, groups):
        if winograd.worth(math.prod(lead), channels, rows, out[1:]):
            y = winograd.forward(input, weight, bias, padding, scale=scale, relu=relu)
            if y is not NotImplemented:
                return y
    y = empty((*lead, weight.shape[0], *out[3 - rank :]), input.dtype)
    axes = sizes, out, kernel_size, stride, before, dilation
    if scale is None and _by_images(input, weight, bias, relu, y, math.prod(lead), groups, axes, False):
        return y
    if scale is not None and bias is None:
        bias = np.zeros_like(scale)
    phases = forward_phases(out, kernel_size, stride, before, dilation)
    _convolve(
        plain(input), plain(weight), bias, scale, relu, y.reshape(-1, *out), math.prod(lead), groups, channels, sizes, phases, (1, 1, 1)
    )  # fmt: skip
    return y


def conv_relu(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """relu(conv_forward(...)), the relu in the store of the convolution."""
    return conv_forward(input, weight, bias, stride, padding, dilation, groups, relu=True)


def _input_grad(grad_output, weight, bias, input_size, stride, padding, dilation, groups):
    rank, lead = weight.ndim - 2, grad_output.shape[: 1 - weight.ndim]
    before = three([p for p, _ in padding_pairs(padding)], 0)
    sizes, kernel_size, out = three(input_size, 1), three(weight.shape[2:], 1), three(grad_output.shape[-rank:], 1)
    stride, dilation = three(stride, 1), three(dilation, 1)
    filters, rows = weight.shape[0] // groups, weight.shape[1]
    if _by_winograd(weight.dtype, weight.shape, stride, dilation, groups):
        if winograd.worth(math.prod(lead), filters, rows, input_size):
            x = winograd.input_grad(grad_output, weight, input_size, padding)
            if x is not NotImplemented:
                return x if bias is None else np.add(x, bias.reshape(-1, *(1,) * rank), out=x)
    x = empty((*lead, rows * groups, *input_size), grad_output.dtype)
    around = tuple(d * (k - 1) - p for d, k, p in zip(dilation, kernel_size, before, strict=True))
    axes = out, sizes, kernel_size, stride, around, dilation
    if stride == (1, 1, 1) and _by_images(grad_output, weight, bias, False, x, math.prod(lead), groups, axes, True):
        return x
    phases = gradient_phases(sizes, kernel_size, stride, before, dilation)
    taken, starts = flat_taps(phases, kernel_size)
    flat_weight, count = empty((weight.size,), weight.dtype), math.prod(kernel_size)
    shares = min(groups * rows, share_count(_MOVED * weight.size, _SERIAL_BELOW))
    run_shares(turn_weights, shares, plain(weight), flat_weight, groups, filters, rows, count, taken, starts, shares)
    _convolve(
        plain(grad_output), flat_weight, bias, None, False, x.reshape(-1, *sizes), math.prod(lead), groups, filters, out, phases, stride
    )  # fmt: skip
    return x


def conv_input_grad(grad_output, weight, input_size, stride=1, padding=0, dilation=1, groups=1):
    """The adjoint of `conv_forward` in the input: an array with spatial sizes `input_size`."""
    if winograd.unsupported(grad_output, weight) or not choose(winograd.all_finite, weight):
        return NotImplemented
    return _input_grad(grad_output, weight, None, input_size, stride, padding, dilation, groups)


def conv_transpose(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """The transposed convolution (see `tinygrad_cv.conv_transpose2d`): `conv_input_grad` with a bias."""
    if winograd.unsupported(input, weight, bias) or not choose(winograd.all_finite, weight):
        return NotImplemented
    each = zip(input.shape[2 - weight.ndim :], stride, padding, output_padding, dilation, weight.shape[2:], strict=True)
    sizes = tuple((n - 1) * s - 2 * p + d * (k - 1) + extra + 1 for n, s, p, extra, d, k in each)
    return _input_grad(input, weight, bias, sizes, stride, padding, dilation, groups)


def conv_weight_grad(grad_output, input, kernel_size, stride=1, padding=0, dilation=1, groups=1):
    """The adjoint of `conv_forward` in the weight: an array (filters, channels / groups, *kernel_size)."""
    if winograd.unsupported(grad_output, input):
        return NotImplemented
    rank, lead = len(kernel_size), input.shape[: -len(kernel_size) - 1]
    rows, channels = grad_output.shape[-rank - 1] // groups, input.shape[-rank - 1] // groups
    if _by_winograd(input.dtype, (rows, channels, *kernel_size), three(stride, 1), three(dilation, 1), groups):
        if winograd.worth(math.prod(lead), channels, rows, grad_output.shape[-2:], weight_grad=True):
            weight_grad = winograd_weight.weight_grad(grad_output, input, padding)
            if weight_grad is not NotImplemented:
                return weight_grad
    before = three([p for p, _ in padding_pairs(padding)], 0)
    sizes, out = three(input.shape[-rank:], 1), three(grad_output.shape[-rank:], 1)
    kernel_size, stride, dilation = three(kernel_size, 1), three(stride, 1), three(dilation, 1)
    flat, images = (plain(grad_output), plain(input)), math.prod(lead)
    window = Window(*(axis[1:] for axis in (sizes, out, kernel_size, stride, before, dilation)))
    one_for_one = channels == 1 and groups >= FEWEST
    if rank < 3 and not one_for_one and conv_image_weight.worth(images, channels, rows, window, input.itemsize):
        weight_grad = conv_image_weight.weight_grad(*flat, images, groups, window, _SERIAL_BELOW)
    else:
        weight_grad = (depthwise_weight_grad if one_for_one else direct_weight_grad)(
            *flat, images, groups, sizes, out, kernel_size, stride, before, dilation, _SERIAL_BELOW
        )
    return weight_grad.reshape(groups * rows, channels, *kernel_size[3 - rank :])
