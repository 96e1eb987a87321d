"""Where in the plane a classifier says what: decision regions of two-dimensional data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np

import tinygrad_cv as tg
from tinygrad_cv import nn

from .plotting import MARKERS, Chart, class_colours, new_figure


def region_grid(
    model: Callable[[tg.Tensor], tg.Tensor], points: Any, resolution: int = 200, margin: float = 0.15
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x (R,), y (R,) and the softmax shares (R, R, C) at (y, x) over the box of `points` and a margin around it.

    model: gives scores (N, C) for points (N, 2), or one column, whose sign tells class 1 from class 0 (its share is the logistic of the
    score). A module is run in eval mode, without recording, and its mode put back.
    ValueError if the points are no (N, 2), for a resolution < 2, or if the model gives something else.
    """
    values = np.asarray(points.detach().numpy() if isinstance(points, tg.Tensor) else points)
    if values.ndim != 2 or values.shape[1] != 2 or not len(values):
        raise ValueError(f"decision_regions: expected points (N, 2), got shape {values.shape}")
    if resolution < 2:
        raise ValueError(f"decision_regions: resolution must be at least 2, got {resolution}")
    low, high = values.min(axis=0), values.max(axis=0)
    air = np.maximum((high - low) * margin, 1e-6)
    x, y = (np.linspace(low[i] - air[i], high[i] + air[i], resolution) for i in (0, 1))
    grid = np.stack([np.tile(x, resolution), np.repeat(y, resolution)], axis=1)
    dtype = values.dtype if values.dtype.kind == "f" else np.float32
    training = model.training if isinstance(model, nn.Module) else None
    try:
        if isinstance(model, nn.Module):
            model.eval()
        with tg.no_grad() if not tg.is_inference_mode_enabled() else nullcontext():
            scores = model(tg.from_numpy(grid.astype(dtype))).detach().numpy().astype(np.float64)
    finally:
        if isinstance(model, nn.Module) and training is not None:
            model.train(training)
    scores = scores[:, None] if scores.ndim == 1 else scores
    if scores.ndim != 2 or len(scores) != len(grid):
        raise ValueError(f"decision_regions: the model gives shape {scores.shape} for {grid.shape}; expected scores (N, C)")
    if scores.shape[1] == 1:
        scores = np.concatenate([np.zeros_like(scores), scores], axis=1)
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    return x, y, shares.reshape(resolution, resolution, -1)


def decision_regions(
    model: Callable[[tg.Tensor], tg.Tensor],
    points: Any,
    labels: Any,
    *,
    classes: Sequence[str] | None = None,
    resolution: int = 200,
    title: str = "",
) -> Chart:
    """The plane coloured by the predicted class (paler where the model is less sure), its borders, and the labelled points upon it.

    Classes differ in colour and in marker. points (N, 2), labels (N,) of class numbers; see `region_grid` for the model and its errors.
    ValueError for as many labels as there are not points; ImportError without matplotlib.
    """
    known = np.asarray(labels.detach().numpy() if isinstance(labels, tg.Tensor) else labels).reshape(-1).astype(np.int64)
    values = np.asarray(points.detach().numpy() if isinstance(points, tg.Tensor) else points)
    if len(known) != len(values):
        raise ValueError(f"decision_regions: {len(values)} points and {len(known)} labels; expected as many of each")
    x, y, shares = region_grid(model, points, resolution)
    count = max(shares.shape[2], int(known.max(initial=0)) + 1)
    predicted = shares.argmax(axis=2)
    figure = new_figure(5.6, 4.8)
    axes = figure.add_subplot()
    colours = class_colours(count)
    paint = np.array([colour[:3] for colour in colours])[predicted]
    sure = (shares.max(axis=2) * shares.shape[2] - 1) / (
        shares.shape[2] - 1
    )  # 0 where all classes are alike, 1 where one has all
    weight = (0.1 + 0.42 * sure)[..., None]
    axes.imshow(
        1 - weight + weight * paint, origin="lower", extent=(x[0], x[-1], y[0], y[-1]), aspect="auto", interpolation="nearest"
    )
    for k in range(count):
        if k < shares.shape[2] and (predicted == k).any() and (predicted != k).any():
            lead = shares[..., k] - np.delete(shares, k, axis=2).max(axis=2)
            axes.contour(x, y, lead, [0.0], colors="#333333", linewidths=0.8)
        chosen = values[known == k]
        name = str(k) if classes is None else classes[k]
        axes.scatter(
            chosen[:, 0], chosen[:, 1], s=22, marker=MARKERS[k % len(MARKERS)], color=colours[k], edgecolors="white",
            linewidths=0.5, label=name, zorder=3,
        )  # fmt: skip
    axes.legend(frameon=True, fontsize=8, title="class", title_fontsize=8)
    if title:
        axes.set_title(title, fontsize=11)
    return Chart(figure)
