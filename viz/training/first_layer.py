"""What the first layer looks for: its filters as small pictures."""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np

from tinygrad_cv import Tensor, nn

from .plotting import Chart, new_figure, quiet


def first_layer(model: nn.Module) -> tuple[str, nn.Module]:
    """Name and module of the first layer with a weight of two or four axes. ValueError if there is none."""
    for name, module in model.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            return name, module
    raise ValueError(f"filters: {type(model).__name__} has no Conv2d and no Linear layer, whose weights could be shown")


def filter_images(
    source: nn.Module | Tensor, image_shape: tuple[int, int, int] | None = None, limit: int = 64
) -> tuple[np.ndarray, str]:
    """The first layer's filters as uint8 pictures (K, H, W, 1 or 3), at most `limit` of them, and one sentence about them.

    source: a model (its first Conv2d or Linear layer is shown), a layer, or a weight (K, C, H, W) or (K, features). Three channels
    are shown as red, green and blue; of any other number each channel is a picture of its own. A linear layer is shown as templates
    of the shape `image_shape` = (C, H, W); left out, a square of one or three channels is tried. All filters share one scale:
    grey (128) is zero, white the largest weight or more, black its negative; so their strengths can be compared.

    ValueError for weights that are no pictures; TypeError for another source.
    Source: CS231n notes, convolutional networks and linear classification ("templates").
    """
    name, weight = "the weight", source
    if isinstance(source, nn.Module):
        path, layer = first_layer(source)
        name, weight = path or type(layer).__name__, layer.weight
    if not isinstance(weight, Tensor):
        raise TypeError(f"filters: expected a module or a weight Tensor, got {type(source).__name__}")
    values = weight.detach().numpy().astype(np.float64)
    if values.ndim == 2:
        values = values.reshape(len(values), *(image_shape or _square(values.shape[1])))
    if values.ndim != 4:
        raise ValueError(
            f"filters: a weight of shape {tuple(weight.shape)} is no set of pictures; expected (K, C, H, W) or (K, features)"
        )
    count, channels = values.shape[:2]
    if channels not in (1, 3):
        values = values.reshape(count * channels, 1, *values.shape[2:])
    extent = float(np.abs(values).max()) or 1.0
    levels = np.clip(np.rint(127.5 + 127.5 * values / extent), 0, 255).astype(np.uint8)
    size = f"{channels} x {values.shape[2]} x {values.shape[3]}"
    note = f"{name}: {count} filters of {size}, grey is 0, white {extent:.2g}, black {-extent:.2g}"
    if channels not in (1, 3):
        note += "; every input channel is a picture of its own"
    if len(levels) > limit:
        note += f"; the first {limit} of {len(levels)} are shown"
    return levels[:limit].transpose(0, 2, 3, 1), note


def _square(features: int) -> tuple[int, int, int]:
    for channels in (1, 3):
        side = math.isqrt(features // channels)
        if channels * side * side == features:
            return channels, side, side
    raise ValueError(f"filters: {features} features are no square picture of one or three channels; give image_shape=(C, H, W)")


def filters(source: nn.Module | Tensor, image_shape: tuple[int, int, int] | None = None, limit: int = 64) -> Chart:
    """The pictures of `filter_images` side by side. ImportError without matplotlib."""
    images, note = filter_images(source, image_shape, limit)
    columns = min(len(images), 8 if len(images) <= 32 else 12)
    rows = -(-len(images) // columns)
    figure = new_figure(max(4.5, 0.9 * columns), 0.9 * rows + 0.7)
    for position, image in enumerate(images):
        axes = figure.add_subplot(rows, columns, position + 1)
        axes.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        quiet(axes)
    figure.suptitle(note.replace(", grey is", "\ngrey is"), fontsize=9)
    return Chart(figure)


def packed(image: np.ndarray) -> dict[str, Any]:
    """A uint8 picture (H, W, 1 or 3) as the report's page reads it."""
    height, width, channels = image.shape
    data = base64.b64encode(np.ascontiguousarray(image).tobytes()).decode()
    return {"width": width, "height": height, "channels": channels, "data": data}
