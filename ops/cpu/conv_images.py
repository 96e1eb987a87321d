"""Convolutions of many small images: vectors run over images, one lane for each.

Where maps are small, the strips of `conv_grid` end in vectors that are partly empty, every line is copied once for each tap, and the
gradient in the input multiplies the zeros around a map, which may be most of what a tap meets. Here images are turned first, so
that the same element of many images lies side by side. Then nothing is multiplied in vain: each output takes just those taps that meet the
input, which lie in one rectangle of the kernel, and is one product by `conv_tiles.conv_panel`: filters times images, summed over the
rectangle's lines, and within a line over taps and channels. Weights are put into that order first.

Work is shared out by blocks of images, groups and parts of the lines. Every output is summed by one thread in one order.
"""

from __future__ import annotations

import itertools
import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from tinygrad_cv.kernels.jit import kernel
from tinygrad_cv.kernels.memory import empty
from tinygrad_cv.kernels.shares import call_share, plain, run_shares, span
from tinygrad_cv.kernels.vector import REGISTER_BYTES, VECTORS, address

from .conv_tiles import RELU, panel_address
from .winograd_tiles import turn_in, turn_out

MOST_BYTES = 640 << 10  # of the turned images of a block and their results: they stay in the L2 cache
TOGETHER = 2  # vectors of images in a block
_TURN = 5.0  # what turning a vector costs, in multiplications of vectors
_CALL = 30.0  # what an output costs beside its multiplications
_COPY = 6.0  # what copying a vector costs where strips are copied
_WORTH = 1.0  # of the cost by strips, below which this is chosen


class Job(NamedTuple):
    """The numbers of a call, which the kernel gets as one array."""

    images: int
    groups: int
    channels: int  # read, of a group
    rows: int  # written, of a group
    height: int  # of what is read
    width: int
    out_height: int
    out_width: int
    step_h: int
    step_w: int
    before_h: int  # zeros before what is read
    before_w: int
    dilation_h: int
    dilation_w: int
    taps_h: int
    taps_w: int
    weight_start: int  # where tap (0, 0) of the first group lies in the weights as they are given, and distances from there
    weight_group: int
    weight_row: int
    weight_channel: int
    weight_h: int
    weight_w: int
    parts: int  # of the lines
    panel: int = 0
    flags: int = 0


@kernel
def images_share(x, weight, bias, y, scratch, job, offsets, places, shares, share):
    """A share of the output: tasks are (block of images, group, part of the lines)."""
    images, groups, channels, rows, height, width = job[0], job[1], job[2], job[3], job[4], job[5]
    out_height, out_width, step_h, step_w, before_h, before_w = job[6], job[7], job[8], job[9], job[10], job[11]
    dilation_h, dilation_w, taps_h, taps_w, parts, panel, flags = job[12], job[13], job[14], job[15], job[22], job[23], job[24]
    lanes = REGISTER_BYTES // x.itemsize
    block, area, out_area, taps = TOGETHER * lanes, height * width, out_height * out_width, taps_h * taps_w
    image, out_image = groups * channels * area, groups * rows * out_area
    kind, present, pitch = x.dtype.type(0), -1, channels * block + lanes
    own = scratch[share]
    turned = own[(rows * taps * channels + lanes) // lanes * lanes :]
    results = turned[(area + lanes) * pitch :]
    for task in range(*span((images + block - 1) // block * groups * parts, shares, share)):
        g, begin = task // parts % groups, task // parts // groups * block
        first, stop = span(out_height, parts, task % parts)
        held = min(block, images - begin)
        if g != present:
            present = g
            for r in range(rows):
                for i in range(taps_h):
                    for j in range(taps_w):
                        at = job[16] + g * job[17] + r * job[18] + i * job[20] + j * job[21]
                        to = ((r * taps_h + i) * taps_w + j) * channels
                        for c in range(channels):
                            own[to + c] = weight[at + c * job[19]]
        low = max(0, first * step_h - before_h) * width
        high = min(height, (stop - 1) * step_h - before_h + (taps_h - 1) * dilation_h + 1) * width
        for c in range(channels):
            for v in range(0, held, lanes):
                at = (begin + v) * image + (g * channels + c) * area
                for p in range(low, high, lanes):
                    turn_in(x, at + p, image, held - v, high - p, places, lanes, turned, p * pitch + c * block + v)
        lines = (stop - first) * out_width * block
        for line in range(first, stop):
            top = line * step_h - before_h
            i = max(0, -(top // dilation_h))
            high_taps = max(0, min(taps_h, (height - 1 - top) // dilation_h + 1) - i)
            for column in range(out_width):
                left = column * step_w - before_w
                j = max(0, -(left // dilation_w))
                wide_taps = max(0, min(taps_w, (width - 1 - left) // dilation_w + 1) - j)
                at = (top + i * dilation_h) * width + left + j * dilation_w
                count, runs = wide_taps * channels, high_taps
                if wide_taps == taps_w:  # their lines follow each other in the weights, and are one long sum
                    count, runs = count * runs, 1
                call_share(
                    panel, flags,
                    (
                        kind, address(turned, at * pitch), address(offsets, 0), count, runs, dilation_h * width * pitch,
                        (held + lanes - 1) // lanes * lanes, address(own, (i * taps_w + j) * channels), taps * channels, taps_w * channels,
                        rows, address(results, ((line - first) * out_width + column) * block), lines,
                        address(bias, g * rows) if bias.size else np.int64(0), np.int64(0),
                    ),
                )  # fmt: skip
        for r in range(rows):
            for v in range(0, held, lanes):
                to = (begin + v) * out_image + (g * rows + r) * out_area
                for p in range(first * out_width, stop * out_width, lanes):
                    turn_out(
                        results, r * lines + (p - first * out_width) * block + v, places, 0, y, to + p, out_image, held - v,
                        stop * out_width - p,
                    )  # fmt: skip


class Window(NamedTuple):
    """A correlation along height and width: output i and tap t meet element i * step - before + t * dilation."""

    sizes: tuple[int, int]  # of what is read
    out: tuple[int, int]
    taps: tuple[int, int]
    step: tuple[int, int]
    before: tuple[int, int]
    dilation: tuple[int, int]

    def met(self) -> int:
        """How many pairs of an output and a tap meet an element."""
        return math.prod(
            sum(0 <= i * step - before + t * dilation < size for i, t in itertools.product(range(out), range(taps)))
            for size, out, taps, step, before, dilation in zip(*self, strict=True)
        )


def _parts(channels: int, rows: int, window: Window, element: int) -> int:
    """Into how few parts the lines must be cut for a block to stay in the cache, up to 4; 0 if into more. element: its bytes."""
    read = channels * math.prod(window.sizes)
    fitting = (
        parts
        for parts in range(1, min(4, window.out[0]) + 1)
        if (read + rows * _written(window, parts)) * element <= MOST_BYTES
    )
    return next(fitting, 0)


def _written(window: Window, parts: int) -> int:
    """Positions that a part writes at most."""
    return -(-window.out[0] // parts) * window.out[1]


@lru_cache(maxsize=512)
def worth(images: int, channels: int, rows: int, window: Window, itemsize: int) -> bool:
    """Whether this is the faster way, by an estimate from the shape alone."""
    lanes, taps = REGISTER_BYTES // itemsize, math.prod(window.taps)
    area, out_area = math.prod(window.sizes), math.prod(window.out)
    block = TOGETHER * lanes
    if images < block or not _parts(channels, rows, window, block * itemsize):
        return False
    turned = _TURN * (channels * area + rows * out_area)
    here = -(-images // block) * (TOGETHER * (rows * channels * window.met() + turned) + _CALL * out_area)
    vectors = -(-out_area // lanes)
    copies = channels * window.taps[1] * (window.out[0] + window.taps[0] - 1) * -(-window.out[1] // lanes)
    if window.sizes == window.out and taps == 1:
        copies = 0
    strips = images * (rows * channels * taps * (vectors + 0.5 * (vectors % VECTORS > 0)) + _COPY * copies)
    return here < _WORTH * strips


class Plan(NamedTuple):
    """What `images_share` gets: the job, where taps and channels lie, where the elements of an image do; shares of the work, elements
    of scratch memory for each."""

    job: np.ndarray
    offsets: np.ndarray
    places: np.ndarray
    shares: int
    room: int


@lru_cache(maxsize=512)
def _planned(
    dtype, images: int, groups: int, channels: int, rows: int, window: Window, turned: bool, shares: int, relu: bool
) -> Plan:
    lanes, taps, area = REGISTER_BYTES // dtype.itemsize, math.prod(window.taps), math.prod(window.sizes)
    block, line = TOGETHER * lanes, window.taps[1]
    pitch, tasks = channels * block + lanes, -(-images // block) * groups
    parts = max(_parts(channels, rows, window, block * dtype.itemsize), min(window.out[0], -(-shares // tasks)))
    group = rows * channels * taps
    weights = (taps - 1, group, taps, rows * taps, -line, -1) if turned else (0, group, channels * taps, taps, line, 1)
    job = Job(
        images, groups, channels, rows, *window.sizes, *window.out, *window.step, *window.before, *window.dilation, *window.taps, *weights,
        parts, panel_address(dtype), RELU if relu else 0,
    )  # fmt: skip
    lines, columns = (np.arange(k) * d for k, d in zip(window.taps, window.dilation, strict=True))
    i, j, c = np.ix_(lines * window.sizes[1] * pitch, columns * pitch, np.arange(channels) * block)
    room = -(-group // lanes) * lanes + lanes + (area + lanes) * pitch + (rows * _written(window, parts) + lanes) * block
    places = np.concatenate([np.arange(lanes) * block, np.arange(lanes) * pitch])
    return Plan(np.array(job, np.int64), (i + j + c).reshape(-1), places, min(shares, tasks * parts), room)


def convolve(x, weight, bias, relu: bool, y, images: int, groups: int, window: Window, turned: bool, shares: int) -> None:
    """Writes the correlation of x and weight into y, all flat arrays.

    turned: weight is (groups, channels, rows, taps), each kernel to be read backwards, as the gradient in the input wants it; otherwise
    (groups, rows, channels, taps).
    """
    channels, rows = (a.size // (images * groups * math.prod(n)) for a, n in ((x, window.sizes), (y, window.out)))
    plan = _planned(x.dtype, images, groups, channels, rows, window, turned, shares, relu)
    run_shares(
        images_share, plan.shares, x, weight, np.empty(0, x.dtype) if bias is None else plain(bias), y,
        empty((plan.shares, plan.room), x.dtype), plan.job, plan.offsets, plan.places, plan.shares,
    )  # fmt: skip
