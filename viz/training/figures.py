"""A run as one figure for a paper or a slide: loss, accuracy, rate, ratios, gradients, shares of dead and saturated units."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .diagnosis import diagnose
from .plotting import GUIDE, TRAIN, VALIDATION, Chart, depth_colours, new_figure
from .recording import Recording


def plot_recording(run: Recording) -> Chart:
    """All curves of a run, the guides beside them, and what the rules found below. ValueError for an empty recording."""
    if not run.steps:
        raise ValueError("plot_recording: the recording is empty; there is nothing to draw")
    panels = [_loss]
    if any("val_accuracy" in e or "train_accuracy" in e for e in run.epochs):
        panels.append(_accuracy)
    panels += [_rate, _ratio, _gradients]
    for key in ("dead", "saturated"):
        if any(key in layer for s in run.samples for layer in s["layers"].values()):
            panels.append(_dead if key == "dead" else _saturated)
    rows = math.ceil(len(panels) / 2)
    found = [check for check in diagnose(run) if check.verdict in ("problem", "warning")]
    notes = [f"{check.verdict}: {check.text}" for check in found] or ["the rules found nothing wrong"]
    figure = new_figure(11, 2.9 * rows + 0.6 + 0.22 * len(notes))
    for position, panel in enumerate(panels):
        axes = figure.add_subplot(rows, 2, position + 1)
        axes.set_xlim(0, run.steps + 1)
        axes.grid(alpha=0.25)
        panel(axes, run)
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=8)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    figure.suptitle(f"Training of {run.title}" if run.title else "A training run", fontsize=13)
    figure.supxlabel("\n".join(_wrapped(note) for note in notes), fontsize=8.5, x=0.02, ha="left")
    return Chart(figure)


def _wrapped(text: str, width: int = 150) -> str:
    return text if len(text) <= width else f"{text[: width - 3]}..."


def _title(axes: Any, text: str, note: str = "") -> None:
    axes.set_title(text, loc="left", fontsize=10, fontweight="bold")
    if note:
        axes.set_title(note, loc="right", fontsize=7.5, color=GUIDE)


def _legend(axes: Any) -> None:
    lines = axes.get_legend_handles_labels()[0]
    if lines:
        axes.legend(frameon=False, fontsize=7, ncols=1 if len(lines) < 4 else 2)


def _loss(axes: Any, run: Recording) -> None:
    steps = np.arange(1, run.steps + 1)
    window = max(1, min(100, run.steps // 40))
    axes.plot(steps, run.loss, color=TRAIN, alpha=0.3, lw=0.7)
    axes.plot(steps, run.smooth_loss(window), color=TRAIN, lw=1.6, label="training")
    _epoch_line(axes, run, "val_loss", VALIDATION, "s--", "validation", 1)
    if run.chance is not None:
        axes.axhline(run.chance, color=GUIDE, ls=":", lw=1, label=f"guessing, ln C = {run.chance:.3g}")
    known = [v for v in run.loss if math.isfinite(v)]
    if known and min(known) > 0 and max(known) > 100 * known[-1] and max(known) > 10 * known[0]:
        axes.set_yscale("log")  # a loss that shot up would flatten all the rest
    _title(axes, "loss", f"line: mean of the last {window} steps" if window > 1 else "")
    _legend(axes)


def _epoch_line(axes: Any, run: Recording, key: str, colour: str, style: str, label: str, factor: float) -> None:
    points = [(e["step"], factor * e[key]) for e in run.epochs if key in e]
    if points:
        axes.plot(*zip(*points, strict=True), style, color=colour, ms=4, label=label)


def _accuracy(axes: Any, run: Recording) -> None:
    _epoch_line(axes, run, "train_accuracy", TRAIN, "o-", "training", 100)
    _epoch_line(axes, run, "val_accuracy", VALIDATION, "s--", "validation", 100)
    _title(axes, "accuracy (%)", "a wide gap is overfitting")
    _legend(axes)


def _rate(axes: Any, run: Recording) -> None:
    axes.plot(np.arange(1, run.steps + 1), run.rate, color=TRAIN, lw=1.6)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
    _title(axes, "learning rate")


def _weights(axes: Any, run: Recording, key: str) -> None:
    names = run.matrices()
    for name, colour in zip(names, depth_colours(len(names)), strict=True):
        steps, values = run.series("parameters", name, key)
        shown = [(s, v) for s, v in zip(steps, values, strict=True) if math.isfinite(v) and v > 0]
        if shown:
            axes.plot(*zip(*shown, strict=True), color=colour, lw=1.3, label=name if len(names) <= 10 else None)
            axes.set_yscale("log")


def _ratio(axes: Any, run: Recording) -> None:
    _weights(axes, run, "ratio")
    axes.axhspan(1e-4, 1e-2, color="#1a6b3c", alpha=0.08)
    axes.axhline(1e-3, color=GUIDE, ls="--", lw=1)
    _title(axes, "update-to-weight ratio", "guide 1e-3; band 1e-4 to 1e-2")
    _legend(axes)


def _gradients(axes: Any, run: Recording) -> None:
    _weights(axes, run, "grad_norm")
    _title(axes, "gradient norm", "of each weight matrix, first layer dark, last light")


def _shares(axes: Any, run: Recording, key: str) -> None:
    names = [name for name in run.layers if run.series("layers", name, key)[0]]
    for name, colour in zip(names, depth_colours(len(names)), strict=True):
        steps, values = run.series("layers", name, key)
        axes.plot(steps, [100 * v for v in values], color=colour, lw=1.3, label=name if len(names) <= 10 else None)
    axes.set_ylim(-2, 102)
    _legend(axes)


def _dead(axes: Any, run: Recording) -> None:
    _shares(axes, run, "dead")
    _title(axes, "dead ReLU units (%)", "zero on every example of 10 samples in a row")


def _saturated(axes: Any, run: Recording) -> None:
    _shares(axes, run, "saturated")
    _title(axes, "saturated outputs (%)", "beyond 97 % of a sigmoid's or tanh's range")
