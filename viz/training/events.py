"""A run for TensorBoard, through the library tensorboardX."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from .probe import DECADES
from .recording import Recording


def write_events(run: Recording, directory: str | Path) -> Path:
    """Writes everything recorded as one event file in `directory` (made if it is not there), and returns its path.

    Scalars: loss/train, lr, accuracy/batch by step; loss/validation, accuracy/train, accuracy/validation at the ends of epochs;
    gradient_norm, update_ratio/NAME, gradient/NAME, dead/NAME, saturated/NAME at the sampled steps. Histograms: activations/NAME, and
    log10_gradients/NAME of the decades of activations' gradients. Numbers that are not finite are left out.

    The file appears whole or not at all. ImportError without tensorboardX, saying how to get it; ValueError for an empty recording.
    """
    if not run.steps:
        raise ValueError("write_events: the recording is empty; there is nothing to write")
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise ImportError("event files are written with tensorboardX: pip install 'tinygrad_cv[tensorboard]'") from None
    directory = Path(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory, prefix=".writing") as temporary:
            with SummaryWriter(logdir=temporary) as writer:
                _write(run, writer)
            (written,) = Path(temporary).iterdir()
            path = directory / written.name
            written.replace(path)
    except OSError as error:
        raise OSError(f"write_events: cannot write to {directory}: {error.strerror or error}") from None
    return path


def _write(run: Recording, writer: Any) -> None:
    def scalar(tag: str, value: float, step: int) -> None:
        if math.isfinite(value):
            writer.add_scalar(tag, value, step)

    for i in range(run.steps):
        scalar("loss/train", run.loss[i], i + 1)
        scalar("lr", run.rate[i], i + 1)
        scalar("accuracy/batch", run.accuracy[i], i + 1)
    names = {"val_loss": "loss/validation", "train_accuracy": "accuracy/train", "val_accuracy": "accuracy/validation"}
    for epoch in run.epochs:
        for key, tag in names.items():
            scalar(tag, epoch.get(key, math.nan), int(epoch["step"]))
    for sample in run.samples:
        step = sample["step"]
        scalar("gradient_norm", sample["grad_norm"], step)
        for name, about in sample["parameters"].items():
            scalar(f"update_ratio/{name}", about["ratio"], step)
            scalar(f"gradient/{name}", about.get("grad_norm", math.nan), step)
        for name, about in sample["layers"].items():
            for key in ("dead", "saturated"):
                scalar(f"{key}/{name}", about.get(key, math.nan), step)
            if "hist" in about:
                low, high, counts = about["hist"]
                _histogram(writer, f"activations/{name}", counts, low, high if high > low else low + 1, step)
            if sum(about.get("grad_hist", ())):
                _histogram(writer, f"log10_gradients/{name}", about["grad_hist"], *DECADES, step)


def _histogram(writer: Any, tag: str, counts: list[int], low: float, high: float, step: int) -> None:
    """Counts of equal parts of low..high, as TensorBoard wants them: the mean and squares are those of the parts' middles."""
    edges = np.linspace(low, high, len(counts) + 1)
    middles = (edges[:-1] + edges[1:]) / 2
    weights = np.asarray(counts, np.float64)
    writer.add_histogram_raw(
        tag, min=float(low), max=float(high), num=int(weights.sum()), sum=float(weights @ middles),
        sum_squares=float(weights @ middles**2), bucket_limits=edges[1:].tolist(), bucket_counts=weights.tolist(), global_step=step,
    )  # fmt: skip
