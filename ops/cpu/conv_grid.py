"""How the operands of a convolution are laid out for its kernels (see `conv`): padded grids, and where the kernel taps lie
in them."""

from __future__ import annotations

import itertools
import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np


class Grid(NamedTuple):
    """How an operand is laid out for the kernels, and where its taps lie. All arrays are int64.

    layout: D, H, W, step, padding before, phases and grid sizes, three each, and for each phase of H, then of W, the first grid
    position that an element falls on and the one after the last; copy: whether the operand must be copied at all.
    phases: for each remainder of the output's stride: first tap, taps, sizes (3), first output (3), length of the flat range.
    offsets: of the taps, for one input channel after the other; taps: which kernel tap each is; channel: size of one grid
    channel.
    """

    layout: np.ndarray
    copy: bool
    channel: int
    phases: np.ndarray
    offsets: np.ndarray
    taps: np.ndarray
    padded: np.ndarray  # offsets, the last repeated up to a multiple of 4


def three(values, fill: int) -> tuple[int, ...]:
    return (fill,) * (3 - len(values)) + tuple(values)


def _seen(size: int, step: int, shift: int, places: int) -> tuple[int, int]:
    """The first of `places` positions i whose element i * step + shift lies in 0 ... size - 1, and the one after the last."""
    first = min(places, max(0, -(shift // step)))
    return first, max(first, min(places, (size - 1 - shift) // step + 1))


def _grid(sizes, steps, before, phase_counts, grid_sizes, output_phases, channels: int) -> Grid:
    """Assembles a Grid. output_phases: (sizes, starts, taps) with taps a list of (kernel tap, phase, position), all per
    axis."""
    copy = any(p != 1 for p in phase_counts) or tuple(grid_sizes) != tuple(sizes) or any(before)
    area = math.prod(grid_sizes)
    channel = math.prod(phase_counts) * area
    rows, offsets, taps = [], [], []
    for out, start, found in output_phases:
        length = ((out[0] - 1) * grid_sizes[1] + out[1] - 1) * grid_sizes[2] + out[2]
        rows.append((len(offsets), len(found) * channels, *out, *start, length))
        flat = [
            np.ravel_multi_index(phase, phase_counts) * area + np.ravel_multi_index(at, grid_sizes) for _, phase, at in found
        ]
        for c in range(channels):
            offsets += [c * channel + int(f) for f in flat]
            taps += [(c, tap) for tap, _, _ in found]
    layout = [*sizes, *steps, *before, *phase_counts, *grid_sizes]
    for axis in (1, 2):
        for phase in range(phase_counts[axis]):
            layout += _seen(sizes[axis], steps[axis], phase - before[axis], grid_sizes[axis])
    return Grid(
        np.array(layout, np.int64), copy, channel, np.array(rows, np.int64).reshape(-1, 9), np.array(offsets, np.int64),
        np.array(taps, np.int64).reshape(-1, 2), np.array(offsets + offsets[-1:] * (-len(offsets) % 4), np.int64),
    )  # fmt: skip


@lru_cache(maxsize=512)
def forward_grid(channels: int, sizes, out, kernel_size, stride, before, dilation) -> Grid:
    """The input of a convolution: padded, and de-interleaved by the stride, so that each tap meets consecutive elements."""
    phases = tuple(min(s, d * (k - 1) + 1) for s, d, k in zip(stride, dilation, kernel_size, strict=True))
    grid = tuple(o + d * (k - 1) // s for o, d, k, s in zip(out, dilation, kernel_size, stride, strict=True))
    found = []
    for index, tap in enumerate(itertools.product(*map(range, kernel_size))):
        reach = [t * d for t, d in zip(tap, dilation, strict=True)]
        where = [divmod(r, s) for r, s in zip(reach, stride, strict=True)]
        found.append((index, [remainder for _, remainder in where], [quotient for quotient, _ in where]))
    return _grid(sizes, stride, before, phases, grid, [(out, (0, 0, 0), found)], channels)


def folded_grid(channels: int, sizes, out, kernel_size, stride, before, dilation) -> Grid:
    """As `forward_grid`, but with a copy of the rows for every tap along them, so that outputs follow each other without the
    positions that padding and border would leave between rows. dilation: 1 along rows."""
    phases = (
        *(min(s, d * (k - 1) + 1) for s, d, k in zip(stride[:2], dilation[:2], kernel_size[:2], strict=True)),
        kernel_size[2],
    )
    grid = (
        *(o + d * (k - 1) // s for o, d, k, s in zip(out[:2], dilation[:2], kernel_size[:2], stride[:2], strict=True)),
        out[2],
    )
    found = []
    for index, tap in enumerate(itertools.product(*map(range, kernel_size))):
        where = [divmod(t * d, s) for t, d, s in zip(tap[:2], dilation[:2], stride[:2], strict=True)]
        found.append((index, [*(remainder for _, remainder in where), tap[2]], [*(quotient for quotient, _ in where), 0]))
    return _grid(sizes, stride, before, phases, grid, [(out, (0, 0, 0), found)], channels)


def _work(grid: Grid, rows: int, channels: int, out, lanes: int) -> int:
    """Vector operations for one image: multiplications, about four for each vector copied in, three for one copied out."""
    vectors = -(-int(grid.phases[0, 8]) // lanes)
    copied = grid.channel // int(grid.layout[14]) * -(-int(grid.layout[14]) // lanes) * channels if grid.copy else 0
    stored = vectors if grid.layout[14] == out[2] else math.prod(out[:2]) * -(-out[2] // lanes)
    return rows * grid.offsets.size * vectors + 4 * copied + 3 * rows * stored


@lru_cache(maxsize=512)
def source_grid(rows: int, channels: int, sizes, out, kernel_size, stride, before, dilation, lanes: int) -> Grid:
    """The input of a convolution with `rows` outputs, laid out in the way that is less work for vectors of `lanes` elements."""
    plain = forward_grid(channels, sizes, out, kernel_size, stride, before, dilation)
    if kernel_size[2] == 1 or dilation[2] != 1:
        return plain
    folded = folded_grid(channels, sizes, out, kernel_size, stride, before, dilation)
    return min(plain, folded, key=lambda grid: _work(grid, rows, channels, out, lanes))


@lru_cache(maxsize=512)
def backward_grid(channels: int, sizes, out, kernel_size, stride, before, dilation) -> Grid:
    """The output's gradient, padded so that each input position, by its remainder modulo the stride, finds its taps at one
    distance.

    Input i = q * stride + a receives from output q + e by the taps with a + before - tap * dilation = e * stride.
    """
    axes, margins, grid = [], [], []
    for n, o, k, s, p, d in zip(sizes, out, kernel_size, stride, before, dilation, strict=True):
        phases = []
        for a in range(min(s, n)):
            taps = [(t, (a + p - t * d) // s) for t in range(k) if (a + p - t * d) % s == 0]
            phases.append((a, -(-(n - a) // s), taps))
        reached = [(e, e + count - 1) for _, count, taps in phases for _, e in taps]
        margin = max([0, *(-low for low, _ in reached)])
        axes.append(phases)
        margins.append(margin)
        grid.append(margin + max([o, *(high + 1 for _, high in reached)], default=o))
    output_phases = []
    for combination in itertools.product(*axes):
        found = []
        for chosen in itertools.product(*(taps for _, _, taps in combination)):
            index = int(np.ravel_multi_index([t for t, _ in chosen], kernel_size))
            found.append((index, (0, 0, 0), [e + m for (_, e), m in zip(chosen, margins, strict=True)]))
        output_phases.append((tuple(count for _, count, _ in combination), tuple(a for a, _, _ in combination), found))
    return _grid(out, (1, 1, 1), tuple(margins), (1, 1, 1), tuple(grid), output_phases, channels)


@lru_cache(maxsize=512)
def input_grad_grids(
    filters: int, rows: int, sizes, out, kernel_size, stride, before, dilation, lanes: int
) -> tuple[Grid, Grid | None]:
    """The grid to gather the gradient in the input from, and the one to spread it over where that is less work (or None)."""
    gathering = backward_grid(filters, sizes, out, kernel_size, stride, before, dilation)
    if stride != (1, 1, 1):
        return gathering, None
    spreading = forward_grid(rows, sizes, out, kernel_size, stride, before, dilation)
    gather = int((-(-gathering.phases[:, 8] // lanes) * gathering.phases[:, 1]).sum())
    spread = -(-int(spreading.phases[0, 8]) // lanes) * filters * math.prod(kernel_size)
    inside = all(b + n <= q for b, n, q in zip(before, sizes, spreading.layout[12:15], strict=True))
    return gathering, spreading if inside and 1.2 * spread < gather else None  # adding rows costs about a fifth


@lru_cache(maxsize=512)
def spreading_order(filters: int, taps: int) -> tuple[np.ndarray, np.ndarray]:
    """The order in which `spread_share` wants the weights, tap by tap: phases and taps, as in a Grid."""
    taps_of = np.stack([np.tile(np.arange(filters), taps), np.repeat(np.arange(taps), filters)], axis=1)
    return np.stack([np.arange(taps) * filters, np.full(taps, filters)], axis=1), taps_of
