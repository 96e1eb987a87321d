"""The routines that the kernels of `winograd` and `winograd_weight` are made of, and the numbers they share."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import literally

from tinygrad_cv.kernels.vector import REGISTER_BYTES, VECTORS

from .routines import routine, stay_apart, zero_row
from .winograd_tiles import spread_tile, turn_in

BLOCK = 6  # rows of a register tile: tiles of the map, or filters; the last may hold 4


class Job(NamedTuple):
    """The numbers of a call, which kernels get as one array, because every argument costs compile time."""

    images: int
    channels: int
    filters: int
    height: int  # of the input, then of the output
    width: int
    out_height: int
    out_width: int
    before_h: int  # zeros before the input
    before_w: int
    tiles_h: int  # tiles of one map
    tiles_w: int
    group: int  # rows of tiles that are worked on together
    v_row: int  # distance of tiles in V, the transformed inputs
    v_plane: int  # distance of its elements
    m_row: int  # distance of tiles in M, the products (or of those in W, the transformed gradients)
    m_plane: int
    u_plane: int  # distance of the elements of U, the transformed weights (or of their gradients in a chunk)
    by_filters: int  # parts of the filters
    together: int  # vectors of filters whose products are kept until they are transformed (or chunks of filters)
    filter_step: int = 0  # distances in the weights as they are given
    channel_step: int = 0
    turned: int = 0  # whether each kernel is read backwards
    fresh: int = (
        0  # who makes U: 0 another kernel, 1 a share, for the filters that it works on at the moment, 2 a share, all of it
    )


@lru_cache(maxsize=64)
def places(height: int, width: int, pitch: int, lanes: int) -> np.ndarray:
    """Where position p of a map, counted row by row, begins in rows of `pitch` positions of `lanes` elements; and `lanes` places more."""
    p = np.arange(height * width + lanes)
    return (p // width * pitch + p % width) * lanes


def turned_size(tile: int, overlap: int, lines: int, tiles_w: int, width: int, lanes: int) -> int:
    """Elements of the turned rows of `lines` rows of tiles, and of the rows that the last vector may touch after them."""
    return (tile * lines + overlap + lanes // width + 2) * (tile * tiles_w + overlap) * lanes


@routine
def spread_tiles(tile, overlap, x, low, high, first, stop, job, places, turned, out, row, plane):
    """out[plane, tile, channel - low] = B^T d B for the channels low ... high - 1 of x and the rows of tiles first ... stop - 1, which are
    counted through all images.

    overlap: by how much tiles overlap along an axis, 2 in the input, 0 in the output's gradient (which becomes A d A^T).
    """
    literally(tile)
    literally(overlap)
    stay_apart()
    channels, height, width, before_h, before_w = job[1], job[3], job[4], job[7], job[8]
    if overlap == 0:
        channels, height, width, before_h, before_w = job[2], job[5], job[6], 0, 0
    tiles_h, tiles_w = job[9], job[10]
    lanes = REGISTER_BYTES // x.itemsize
    pitch, area = tile * tiles_w + overlap, height * width
    at = 0
    while first < stop:
        image, top = first // tiles_h, first % tiles_h
        lines = min(tiles_h - top, stop - first)
        begin_h = tile * top - before_h
        first_h, stop_h = max(0, begin_h), min(height, begin_h + tile * lines + overlap)
        to = (before_w - begin_h * pitch) * lanes
        zero_row(turned, 0, (tile * lines + overlap) * pitch * lanes)
        for c in range(low, high, lanes):
            source = (image * channels + c) * area
            for p in range(first_h * width, stop_h * width, lanes):
                turn_in(x, source + p, area, high - c, stop_h * width - p, places, p, turned, to)
            for line in range(lines):
                for t in range(tiles_w):
                    begin, end = (line * pitch + t) * tile * lanes, (at + line * tiles_w + t) * row + c - low
                    spread_tile(tile, overlap, turned, begin, pitch * lanes, out, end, plane)
        first += lines
        at += lines * tiles_w


def odd(count: int, lanes: int) -> int:
    """At least count, an odd number of vectors: rows at such distances spread over all lines of a cache."""
    return (-(-count // lanes) | 1) * lanes


__all__ = ["BLOCK", "VECTORS", "Job", "odd", "places", "spread_tiles", "turned_size"]
