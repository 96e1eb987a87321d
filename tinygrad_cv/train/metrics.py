"""Measures of a classifier, on scores (N, C) and labels (N,)."""

from __future__ import annotations

import numpy as np

from .._tensor import Tensor, wrap


def accuracy(scores: Tensor, labels: Tensor) -> float:
    """The share of examples whose highest score is their label's."""
    return float((scores._data.argmax(axis=1) == labels._data).mean()) if len(labels._data) else float("nan")


def top_k_accuracy(scores: Tensor, labels: Tensor, k: int = 5) -> float:
    """The share of examples whose label is among the k highest scores. ValueError for k outside 1..C."""
    classes = scores.shape[1]
    if not 1 <= k <= classes:
        raise ValueError(f"top_k_accuracy: k must lie in 1..{classes}, got {k}")
    best = np.argpartition(-scores._data, k - 1, axis=1)[:, :k]
    return float((best == labels._data[:, None]).any(axis=1).mean())


def confusion_matrix(scores: Tensor, labels: Tensor, num_classes: int | None = None) -> Tensor:
    """int64 (C, C): row = label, column = prediction, entry = number of examples."""
    classes = num_classes or scores.shape[1]
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (labels._data, scores._data.argmax(axis=1)), 1)
    return wrap(counts)
