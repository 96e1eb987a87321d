"""What a run left behind: plain numbers, in the order in which they were measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_cv.files import write_atomically


@dataclass
class Recording:
    """The measurements of one run. Every list is in the order of the steps; steps count from 1.

    loss, rate, accuracy: one number a step (accuracy is NaN where none was given). epochs: one dict an epoch, with "step" (the last
    of the epoch) and what was measured of train_loss, train_accuracy, val_loss, val_accuracy. samples: one dict a sampled step:

        step        its number
        grad_norm   Euclidean norm of the gradients of all parameters together
        parameters  by name: norm, grad_norm, ratio (norm of the update / norm of the values before it)
        layers      by name: mean, std, hist [low, high, counts], and where they apply silent, dead, saturated (shares of 0..1),
                    grad_rms, grad_hist (counts over decades of |gradient|), grad_zero (share that is exactly 0)

    weights, layers: the names of the watched parameters (those with two or more axes first come first) and of the layers in the order
    in which they ran, with their kind and shape. every: how many steps lie between samples now. seconds, cost: time since the first
    step, and the part of it that measuring took. chance: the loss of guessing all classes alike, ln C, where it is known.
    overfit: what `can_overfit` found, where it was tried. broken: names of parameters that are no longer finite.
    """

    title: str = ""
    loss: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    epochs: list[dict[str, float]] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)
    weights: dict[str, dict[str, Any]] = field(default_factory=dict)
    layers: dict[str, dict[str, Any]] = field(default_factory=dict)
    every: int = 1
    seconds: float = 0.0
    cost: float = 0.0
    chance: float | None = None
    overfit: dict[str, Any] | None = None
    broken: list[str] = field(default_factory=list)
    error: str = ""

    @property
    def steps(self) -> int:
        """How many steps were taken."""
        return len(self.loss)

    def matrices(self) -> list[str]:
        """The parameters that the rules look at: those with two or more axes (weights, not biases or scales)."""
        return [name for name, about in self.weights.items() if len(about["shape"]) > 1]

    def recent(self) -> list[dict[str, Any]]:
        """The last third of the samples: at least 3, at most 10 of them."""
        return self.samples[-min(10, max(3, len(self.samples) // 3)) :]

    def series(self, part: str, name: str, key: str) -> tuple[list[int], list[float]]:
        """Steps and values of one measurement: `series("layers", "features.1", "dead")`."""
        found = [(s["step"], s[part][name][key]) for s in self.samples if key in s[part].get(name, {})]
        return [step for step, _ in found], [value for _, value in found]

    def smooth_loss(self, window: int) -> np.ndarray:
        """The mean of the last `window` losses at every step (of fewer at the start); as long as `loss`."""
        values = np.asarray(self.loss, np.float64)
        sums = np.concatenate([[0.0], np.cumsum(np.where(np.isfinite(values), values, 0))])
        counts = np.concatenate([[0], np.cumsum(np.isfinite(values))])
        ends = np.arange(1, len(values) + 1)
        starts = np.maximum(ends - window, 0)
        smoothed: np.ndarray = (sums[ends] - sums[starts]) / np.maximum(counts[ends] - counts[starts], 1)
        return smoothed

    def to_dict(self) -> dict[str, Any]:
        """All fields by name; the long lists as float64 arrays, which checkpoints store as they are."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return values | {name: np.asarray(values[name], np.float64) for name in ("loss", "rate", "accuracy")}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recording:
        """What `to_dict` gave, also after it went through a checkpoint."""
        found = dict(values)
        for name in ("loss", "rate", "accuracy"):
            stored = found[name]
            found[name] = [float(v) for v in (stored.numpy() if hasattr(stored, "numpy") else stored)]
        return cls(**found)

    def save(self, path: str | Path) -> None:
        """Writes everything as JSON; numbers that are not finite become null."""
        write_atomically(Path(path), (json.dumps(finite(self.to_dict()), indent=1) + "\n").encode())


def finite(value: Any) -> Any:
    """The value with arrays as lists and NaN and infinities as None, so that any JSON reader takes it."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return finite(value.tolist())
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if isinstance(value, np.generic):
        return finite(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
