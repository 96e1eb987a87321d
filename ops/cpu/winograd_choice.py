"""Which convolution kernel is the fastest: an estimate from the shape alone, so that the same call always gives the same bits.

Counted in multiplications of vectors, of which a core does one in a cycle or more. The constants were fitted to the times of 160 shapes
(1 to 32 images, 3 to 512 channels, maps of 4x4 to 56x56) on two cores with vectors of 64 bytes, and are within a fifth of nine in
ten of them.
"""

from __future__ import annotations

from functools import lru_cache

from tinygrad_cv.kernels.vector import REGISTER_BYTES
from tinygrad_cv.precision import get_conv_precision

from .winograd_pieces import BLOCK

TILES = {"highest": (), "high": (2,), "medium": (2, 4)}  # that a level of `set_conv_precision` allows
_START = 45_000.0  # of a forward pass by its two kernels, more than of a direct one
_PRODUCT = 1.15  # of a multiplication of transformed vectors
_TRANSFORM = {2: 6.5, 4: 10.5}  # of a transformed vector of inputs or outputs, for each tile
_WEIGHTS = 4.8  # of a transformed vector of weights
_SUMS = 6.0  # of a vector of sums, of which the gradient in the weight is made
_DIRECT = 1.06  # of a multiplication in a direct sum
_DIRECT_INPUTS = (5.0, 24.0)  # of a vector of inputs there: forward, gradient in the weight
_DIRECT_WEIGHTS = (8.0, 150.0)  # of a vector of weights


def _up(count: int, step: int) -> int:
    return -(-count // step)


def worth(images, channels, filters, out_sizes, itemsize=4, weight_grad=False) -> bool:
    """Whether a 3x3 convolution at stride 1 is faster by `winograd` than directly; the arguments are those of `best_tile`."""
    return best_tile(images, channels, filters, out_sizes, itemsize, weight_grad) > 0


def best_tile(images, channels, filters, out_sizes, itemsize=4, weight_grad=False) -> int:
    """The tile of the fastest convolution from `channels` to `filters` in (images, ..., *out_sizes), 0 for direct sums.

    For the gradient in the input, `channels` are those of the output's gradient, and `out_sizes` those of the input. weight_grad: for
    the gradient in the weight, which has channels and filters as the forward pass.
    """
    return _best(TILES[get_conv_precision()], images, channels, filters, tuple(out_sizes), itemsize, weight_grad)


@lru_cache(maxsize=1024)
def _best(tiles, images, channels, filters, out_sizes, itemsize, weight_grad) -> int:
    costs = {t: winograd_cost(t, images, channels, filters, out_sizes, itemsize, weight_grad) for t in tiles}
    costs[0] = direct_cost(images, channels, filters, out_sizes, itemsize, weight_grad)
    return min(costs, key=lambda t: costs[t])


def winograd_cost(tile, images, channels, filters, out_sizes, itemsize=4, weight_grad=False) -> float:
    """The estimated time of a convolution with this tile."""
    lanes, planes = REGISTER_BYTES // itemsize, (tile + 2) ** 2
    tiles = images * _up(out_sizes[0], tile) * _up(out_sizes[1], tile)
    channel_vectors, filter_vectors = _up(channels, lanes), _up(filters, lanes)
    transforms = _TRANSFORM[tile] * tiles * (channel_vectors + filter_vectors)
    if weight_grad:
        products = tiles * _up(filters, BLOCK) * BLOCK * channel_vectors
        return planes * (_PRODUCT * products + transforms + _SUMS * filters * channel_vectors)
    products = _up(tiles, 2) * 2 * channels * filter_vectors  # the last tiles are multiplied in blocks of 4 or 6
    return _START + planes * (_PRODUCT * products + transforms + _WEIGHTS * channels * filter_vectors)


def direct_cost(images, channels, filters, out_sizes, itemsize=4, weight_grad=False) -> float:
    """The estimated time of the direct convolution, or of its gradient in the weight."""
    lanes = REGISTER_BYTES // itemsize
    positions = images * out_sizes[0] * out_sizes[1]
    products = images * _up(out_sizes[0] * out_sizes[1], lanes) * 9 * channels * _up(filters, BLOCK) * BLOCK
    inputs = _DIRECT_INPUTS[weight_grad] * positions * channels / lanes
    return _DIRECT * products + inputs + _DIRECT_WEIGHTS[weight_grad] * 9 * channels * filters / lanes


__all__ = ["TILES", "best_tile", "direct_cost", "winograd_cost", "worth"]
