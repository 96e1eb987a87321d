"""Loss and accuracy over the epochs of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .training.plotting import TRAIN, VALIDATION, Chart, new_figure


def plot_history(history: Sequence[Mapping[str, Any]], path: str | Path, title: str = "") -> None:
    """Draws train and validation loss, and accuracy where it was measured, as PNG, SVG or PDF by the ending of `path`.

    history: records as `Trainer.fit` returns. ValueError if it is empty; ImportError, saying how to get it, without matplotlib.
    """
    if not history:
        raise ValueError("plot_history: the history is empty; there is nothing to draw")
    panels = [name for name in ("loss", "accuracy") if any(f"train_{name}" in r or f"val_{name}" in r for r in history)]
    figure = new_figure(4.8 * max(len(panels), 1), 3.6)
    for position, name in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), position + 1)
        for part, colour, marker in (("train", TRAIN, "o"), ("val", VALIDATION, "s")):
            points = [(r["epoch"], r[f"{part}_{name}"]) for r in history if f"{part}_{name}" in r]
            if points:
                scale = 100 if name == "accuracy" else 1
                label = {"train": "training", "val": "validation"}[part]
                axes.plot(
                    [e for e, _ in points], [scale * v for _, v in points], marker=marker, ms=4, color=colour, label=label
                )
        axes.set_xlabel("epoch")
        axes.set_ylabel("accuracy (%)" if name == "accuracy" else name)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    if title:
        figure.suptitle(title)
    Chart(figure).save(path if Path(path).suffix else f"{path}.png")
