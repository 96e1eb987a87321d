"""Operators that move pixels between channels and space."""

from __future__ import annotations

import math

import numpy as np

from ..extend import Array, Composite, Inverse, Linear, Tensor, call, op


def _check_image(name: str, input, factor: int, label: str) -> None:
    if not isinstance(input, Tensor):
        raise TypeError(f"{name}: expected a Tensor, got {type(input).__name__}")
    if isinstance(factor, bool) or not isinstance(factor, int) or factor < 1:
        raise ValueError(f"{name}: {label} must be an integer of at least 1, got {factor}")
    if input.ndim < 3:
        raise ValueError(f"{name}: expected an input of shape (..., C, H, W), got {input.shape}")


def _shuffle_domain(draw):
    factor = draw.integer(1, 2)
    channels, height, width = draw.integer(1, 2), draw.integer(1, 2), draw.integer(1, 3)
    return call(draw.real((*draw.shape((0, 1), 1, 2), channels * factor**2, height, width)), factor)


@op(
    "pixel_shuffle",
    domain=_shuffle_domain,
    formula="out[..., c, h * r + i, w * r + j] = input[..., (c * r + i) * r + j, h, w]",
    source="arXiv:1609.05158",
    method=False,
    laws=(
        Linear("input"),
        Inverse("input", of="pixel_unshuffle", by=lambda out, upscale_factor: (out, upscale_factor)),
    ),
)
class pixel_shuffle(Composite):
    """(..., C * r^2, H, W) -> (..., C, H * r, W * r) for r = `upscale_factor`: groups of r^2 channels become r by r blocks."""

    def prepare(input, upscale_factor):
        _check_image("pixel_shuffle", input, upscale_factor, "upscale_factor")
        if input.shape[-3] % upscale_factor**2:
            raise ValueError(
                f"pixel_shuffle: the {input.shape[-3]} channels (axis -3) of input {input.shape} must be divisible by "
                f"upscale_factor^2 = {upscale_factor**2}"
            )
        return input, upscale_factor

    def reference(input: Array, upscale_factor: int) -> np.ndarray:
        *lead, channels, height, width = input.shape
        r = upscale_factor
        out = np.empty((*lead, channels // r**2, height * r, width * r), input.dtype)
        for i in range(r):
            for j in range(r):
                out[..., i::r, j::r] = input[..., i * r + j :: r * r, :, :]
        return out

    def compose(input, upscale_factor):
        *lead, channels, height, width = input.shape
        r, n = upscale_factor, len(lead)
        blocks = input.reshape(*lead, channels // r**2, r, r, height, width)
        ordered = blocks.permute(*range(n), n, n + 3, n + 1, n + 4, n + 2)
        return ordered.reshape(*lead, channels // r**2, height * r, width * r)


def _unshuffle_domain(draw):
    factor = draw.integer(1, 2)
    channels, height, width = draw.integer(1, 2), draw.integer(1, 2), draw.integer(1, 2)
    return call(draw.real((*draw.shape((0, 1), 1, 2), channels, height * factor, width * factor)), factor)


@op(
    "pixel_unshuffle",
    domain=_unshuffle_domain,
    formula="out[..., (c * r + i) * r + j, h, w] = input[..., c, h * r + i, w * r + j]",
    source="arXiv:1609.05158",
    method=False,
    laws=(
        Linear("input"),
        Inverse("input", of="pixel_shuffle", by=lambda out, downscale_factor: (out, downscale_factor)),
    ),
)
class pixel_unshuffle(Composite):
    """(..., C, H * r, W * r) -> (..., C * r^2, H, W) for r = `downscale_factor`: the inverse of `pixel_shuffle`."""

    def prepare(input, downscale_factor):
        _check_image("pixel_unshuffle", input, downscale_factor, "downscale_factor")
        if input.shape[-2] % downscale_factor or input.shape[-1] % downscale_factor:
            raise ValueError(
                f"pixel_unshuffle: height and width of input {input.shape} must be divisible by downscale_factor={downscale_factor}"
            )
        return input, downscale_factor

    def reference(input: Array, downscale_factor: int) -> np.ndarray:
        *lead, channels, height, width = input.shape
        r = downscale_factor
        out = np.empty((*lead, channels * r**2, height // r, width // r), input.dtype)
        for i in range(r):
            for j in range(r):
                out[..., i * r + j :: r * r, :, :] = input[..., i::r, j::r]
        return out

    def compose(input, downscale_factor):
        *lead, channels, height, width = input.shape
        r, n = downscale_factor, len(lead)
        blocks = input.reshape(*lead, channels, height // r, r, width // r, r)
        ordered = blocks.permute(*range(n), n, n + 2, n + 4, n + 1, n + 3)
        return ordered.reshape(*lead, channels * r**2, height // r, width // r)


def _channel_domain(draw):
    groups = draw.integer(1, 3)
    return call(draw.real((draw.integer(1, 2), groups * draw.integer(1, 3), *draw.shape((0, 2), 1, 2))), groups)


@op(
    "channel_shuffle",
    domain=_channel_domain,
    formula="out[:, i * groups + g] = input[:, g * (C / groups) + i]",
    source="arXiv:1707.01083",
    method=False,
)
class channel_shuffle(Composite):
    """Interleaves `groups` equal groups of the channels of (N, C, ...), so that group convolutions exchange information."""

    def prepare(input, groups):
        if not isinstance(input, Tensor):
            raise TypeError(f"channel_shuffle: expected a Tensor, got {type(input).__name__}")
        if input.ndim < 2 or groups < 1 or input.shape[1] % groups:
            raise ValueError(
                f"channel_shuffle: groups={groups} must divide the channels, axis 1 of an input (N, C, ...); got {input.shape}"
            )
        return input, int(groups)

    def reference(input: Array, groups: int) -> np.ndarray:
        channels = np.arange(input.shape[1]).reshape(groups, -1).T.reshape(-1)
        return input[:, channels]

    def compose(input, groups):
        images, channels, *rest = input.shape
        split = input.reshape(images, groups, channels // groups, math.prod(rest))
        return split.permute(0, 2, 1, 3).reshape(images, channels, *rest)
