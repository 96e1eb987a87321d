"""How the operands of a convolution are laid out for its kernels (see `conv`): strips of the output, and where taps lie in the copy
of the input that a strip needs."""

from __future__ import annotations

import itertools
import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from tinygrad_cv.kernels.vector import REGISTER_BYTES, VECTORS

from .conv_tiles import RELU, panel_address

SCATTERED = 12  # rows computed at a time where they are not stored in order
STRIP_BYTES = 384 << 10  # of the copy that one strip of the output needs: it stays in the L2 cache beside the weights
MOST_BYTES = 2 * STRIP_BYTES  # where fewer would not do
ENOUGH = 128  # positions of a strip


class Axis(NamedTuple):
    """What taps meet along one axis: output i and tap t meet element i * step + shifts[t]."""

    step: int
    shifts: tuple[int, ...]


class Phase(NamedTuple):
    """Outputs i * stride + start of an input gradient for one start on each axis: how many, which kernel taps they get, from where."""

    start: tuple[int, ...]
    out: tuple[int, ...]
    taps: tuple[tuple[int, ...], ...]
    axes: tuple[Axis, ...]


class Job(NamedTuple):
    """The numbers of a call, which kernels get as one array, because every argument costs compile time."""

    groups: int
    channels: int  # read, of a group
    rows: int  # written, of a group
    depth: int  # of the input
    height: int
    width: int
    out_depth: int
    out_height: int
    out_width: int
    step_d: int  # elements of the input from one output to the next
    step_h: int
    step_w: int
    low_h: int  # the row that the first tap of output row 0 meets
    phases: int  # remainders of input rows modulo the step, which the copy keeps apart
    reach: int  # rows of the copy beyond those of the strip
    taps_d: int
    taps_w: int
    strip_rows: int
    strip_columns: int
    by_height: int  # strips along the height and along the width
    by_width: int
    copy: int  # whether the input is copied
    channel: int  # elements of a channel's copy
    count: int  # taps of one output, over all channels
    parts: int = 1  # into which the rows are cut
    panel: int = 0  # the address of `conv_panel`
    flags: int = 0
    y_area: int = 0  # distances in the output, of rows, depths, lines and columns
    y_depth: int = 0
    y_line: int = 0
    y_column: int = 1
    y_start: int = 0
    weights: int = 0  # where the weights of the phase start
    depths: int = 1  # the most depths that a phase has
    together: int = 1  # planes that are copied at once
    woven: int = 1  # phases that differ only along the width
    room: int = 0  # elements of the results of a phase that are not stored in order
    grid_room: int = 0  # elements of the copy for a phase
    chunk: int = 0  # channels that are copied, and summed over, at a time


class Plan(NamedTuple):
    """What `conv.convolve_share` gets: jobs and tables, one row for each phase, shares of the work, elements of scratch for each."""

    jobs: np.ndarray
    tables: np.ndarray
    shares: int
    scratch: int


def three(values, fill: int) -> tuple[int, ...]:
    return (fill,) * (3 - len(values)) + tuple(values)


@lru_cache(maxsize=512)
def forward_phases(out, kernel_size, stride, before, dilation) -> tuple[Phase]:
    each = zip(kernel_size, stride, before, dilation, strict=True)
    axes = tuple(Axis(s, tuple(t * d - p for t in range(k))) for k, s, p, d in each)
    return (Phase((0, 0, 0), out, tuple(tuple(range(k)) for k in kernel_size), axes),)


@lru_cache(maxsize=512)
def gradient_phases(sizes, kernel_size, stride, before, dilation) -> tuple[Phase, ...]:
    """The input gradient, by the remainder of the input's position modulo the stride, so that each part is a convolution in steps of 1.

    Input i = q * stride + a receives from output q + e by the taps with a + before - tap * dilation = e * stride.
    """
    axes = []
    for n, k, s, p, d in zip(sizes, kernel_size, stride, before, dilation, strict=True):
        parts = []
        for a in range(min(s, n)):
            taps = tuple(t for t in range(k) if (a + p - t * d) % s == 0)
            parts.append((a, -(-(n - a) // s), taps, Axis(1, tuple((a + p - t * d) // s for t in taps))))
        axes.append(parts)
    return tuple(Phase(*zip(*chosen, strict=True)) for chosen in itertools.product(*axes))


@lru_cache(maxsize=512)
def flat_taps(phases: tuple[Phase, ...], kernel_size) -> tuple[np.ndarray, np.ndarray]:
    """The kernel taps of the phases, counted through all axes, one phase after the other; where those of each begin, and where they end."""
    _, height, width = kernel_size
    taps = [[(i * height + j) * width + k for i, j, k in itertools.product(*phase.taps)] for phase in phases]
    return np.array(list(itertools.chain(*taps)), np.int64), np.cumsum([0, *map(len, taps)])


class _Copy(NamedTuple):
    """How one channel is copied for a phase: the first line that output line 0 meets, lines kept apart, lines beyond the strip's."""

    low: int
    phases: int
    reach: int
    copies: int  # of each line


def _copy(phase: Phase) -> _Copy:
    depth, line, column = phase.axes
    low, high = min(line.shifts, default=0), max(line.shifts, default=0)
    remainders = min(line.step, high - low + 1)
    return _Copy(low, remainders, (high - low) // line.step, len(depth.shifts) * len(column.shifts) * remainders)


def _offsets(phase: Phase, copy: _Copy, channels: int, channel: int, area: int, columns: int) -> np.ndarray:
    """Where the taps of a phase lie in the copy, one channel after the other."""
    depth, line, column = phase.axes
    shifts = np.array(line.shifts, np.int64) - copy.low
    c, i, u, j = np.ix_(np.arange(channels), np.arange(len(depth.shifts)), shifts, np.arange(len(column.shifts)))
    of_copy = (i * len(column.shifts) + j) * copy.phases + u % line.step
    return (c * channel + of_copy * area + u // line.step * columns).reshape(-1)


def _lines(fitting: int, most: int, height: int, columns: int, reach: int, line_bytes: int, uses: int, lanes: int) -> int:
    """How many lines, at most `fitting` and `most`, make the least work of a strip: multiplications, each vector of the copy taking part in
    `uses`, and copies, which take about six times as long."""

    def vectors(lines: int) -> float:
        count = -(-lines * columns // lanes)
        return count + 0.3 * (count % VECTORS > 0)  # narrow tiles are somewhat slower

    def work(lines: int) -> float:
        whole, rest = divmod(height, lines)
        copied = (whole * (lines + reach) + (rest + reach) * (rest > 0)) * -(-columns // lanes)
        large = 1.02 if line_bytes * columns * (lines + reach) > STRIP_BYTES else 1.0
        alike = (
            1.1 if (lines + reach) * columns * REGISTER_BYTES // lanes % 2048 == 0 else 1.0
        )  # taps would share lines of the cache
        return (uses * (whole * vectors(lines) + (vectors(rest) if rest else 0)) + 6 * copied) * large * alike

    return min(range(min(fitting, most), 0, -1), key=work)


@lru_cache(maxsize=512)
def planned(
    dtype, groups: int, channels: int, rows: int, sizes, phases, y_sizes, stride, planes: int, shares: int, relu: bool
) -> Plan:
    """How the output is cut into strips, and what the taps of a strip meet.

    A strip is some whole lines of one depth of the output, or a part of one line where lines are very long. Its copy of the input
    holds, for every tap along the depth and along the width, the lines that the strip sees, shifted so that the outputs of all its
    lines follow each other: [channel][tap d][tap w][remainder of the line][line][column]. So one tap's elements for all positions
    of a strip lie in one row, whatever stride, dilation and padding are. Where the only tap meets every element, and results are
    stored side by side, nothing is copied, and the input is one long line.

    A row of tables: shifts along the depth, along the width, offsets of the taps.
    """
    size, only = dtype.itemsize, phases[0]
    in_place = max(stride) == 1 and tuple(sizes) == only.out and all(axis == Axis(1, (0,)) for axis in only.axes)
    if in_place:
        sizes = 1, 1, math.prod(sizes)
        phases = (only._replace(out=sizes),)
    copies = [_copy(phase) for phase in phases]
    woven = len({phase.start[2] for phase in phases})
    out = tuple(max(phase.out[i] for phase in phases) for i in range(3))
    reach, chunk = max(c.reach for c in copies), channels
    channel_bytes = max(1, max(c.copies for c in copies)) * woven * size  # of one line
    if max(stride) == 1 and not in_place:  # results can be added to where they are stored
        area = out[2] * (reach + min(out[1], -(-ENOUGH // out[2])))
        chunk = -(-channels // -(-channels * channel_bytes * area // MOST_BYTES))
    line_bytes = channel_bytes * chunk
    wanted = -(-shares // (planes * out[0]))  # strips of one map
    lines, columns = 1, out[2]
    if in_place:
        columns = min(columns, max(256, STRIP_BYTES // line_bytes // 64 * 64))
        if -(-out[2] // columns) < wanted:
            columns = max(64, -(-out[2] // wanted // 64) * 64)
    elif line_bytes * (1 + reach) * columns > MOST_BYTES:
        columns = min(columns, max(320, (STRIP_BYTES // (line_bytes * (1 + reach)) - 64) // 128 * 128 + 64))
    else:
        fitting = min(out[1], max(1, MOST_BYTES // (line_bytes * columns) - reach))
        taps = max(len(phase.axes[1].shifts) for phase in phases)
        fewest = -(-out[1] // min(wanted, out[1]))
        lines = _lines(fitting, fewest, out[1], columns, reach, line_bytes, taps * rows, REGISTER_BYTES // size)
    by_height, by_width = -(-out[1] // lines), -(-out[2] // columns)
    strips = out[0] * by_height * by_width
    together = 1
    if strips == 1 and not in_place and chunk == channels:
        together = max(1, min(STRIP_BYTES // (2 * line_bytes * (lines + reach) * columns), planes // (4 * shares)))
    tasks = -(-planes // together) * strips
    parts = min(-(-rows // 6), -(-shares // tasks))
    room = 0 if max(stride) == 1 else min(rows, SCATTERED) * lines * columns
    jobs, tables, weights = [], [], 0
    y_depth, y_line = y_sizes[1] * y_sizes[2], y_sizes[2]
    for phase, copy in zip(phases, copies, strict=True):
        depth_axis, _, column_axis = phase.axes
        strip_columns = min(columns, phase.out[2]) if by_width == 1 else columns
        area = (lines + copy.reach) * strip_columns
        channel = copy.copies * area
        offsets = np.arange(channels) * sizes[2] if in_place else _offsets(phase, copy, channels, channel, area, strip_columns)
        d, h, w = phase.start
        jobs.append(Job(
            groups, channels, rows, *sizes, *phase.out, *(axis.step for axis in phase.axes), copy.low, copy.phases, copy.reach,
            len(depth_axis.shifts), len(column_axis.shifts), lines, strip_columns, by_height, by_width, not in_place, channel, offsets.size,
            parts, panel_address(dtype), RELU if relu else 0, math.prod(y_sizes), y_depth * stride[0], y_line * stride[1], stride[2],
            d * y_depth + h * y_line + w, weights, out[0], together, woven, room,
        ))  # fmt: skip
        tables.append(np.concatenate([np.array(depth_axis.shifts + column_axis.shifts, np.int64), offsets.astype(np.int64)]))
        weights += groups * rows * offsets.size
    grid_room = 0 if in_place else together * chunk * max(job.channel for job in jobs)
    table = np.zeros((len(tables), max(map(len, tables))), np.int64)
    for row, values in zip(table, tables, strict=True):
        row[: len(values)] = values
    numbers = np.array([job._replace(grid_room=grid_room, chunk=chunk) for job in jobs], np.int64)
    return Plan(numbers, table, min(shares, tasks * parts), woven * (room + grid_room) + 2 * REGISTER_BYTES)
