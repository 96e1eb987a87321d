"""Which classes a network takes for which, and the images it is most wrong about."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import tinygrad_cv as tg
from tinygrad_cv import nn

from .first_layer import packed
from .plotting import Chart, new_figure, quiet


@dataclass(frozen=True)
class Mistake:
    """One wrong example. probability: the softmax share of the predicted class. loss: -ln of that of its own class."""

    index: int
    label: int
    predicted: int
    probability: float
    loss: float
    image: np.ndarray  # uint8 (H, W, 1 or 3), stretched to the whole range


@dataclass(frozen=True)
class Confusion:
    """counts[i, j]: how many examples of class i were taken for class j. worst: mistakes, the highest loss first."""

    counts: np.ndarray
    classes: tuple[str, ...]
    worst: tuple[Mistake, ...]

    @property
    def accuracy(self) -> float:
        """The share of examples on the diagonal."""
        return float(np.trace(self.counts) / self.counts.sum())

    def chart(self) -> Chart:
        """The matrix, and beside it the worst images. ImportError without matplotlib."""
        count = len(self.classes)
        figure = new_figure(max(5.5, 0.48 * count + 1.5) + (4.4 if self.worst else 0), max(4.6, 0.46 * count + 1.2))
        parts = figure.subfigures(1, 2, width_ratios=[max(5.5, 0.48 * count + 1.5), 4.4]) if self.worst else [figure]
        self._draw_matrix(parts[0].add_subplot())
        if self.worst:
            parts[1].suptitle("the worst mistakes", fontsize=10)
            for position, mistake in enumerate(self.worst[:12]):
                axes = parts[1].add_subplot(4, 3, position + 1)
                axes.imshow(mistake.image.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
                is_, says = self.classes[mistake.label], self.classes[mistake.predicted]
                axes.set_title(f"is {is_}, says {says}\n{100 * mistake.probability:.0f} %", fontsize=7.5)
                quiet(axes)
        return Chart(figure)

    def _draw_matrix(self, axes: Any) -> None:
        count = len(self.classes)
        wrong = self.counts.astype(float)
        np.fill_diagonal(wrong, 0)
        axes.imshow(wrong, cmap="Oranges", vmin=0, vmax=max(1.0, wrong.max()) * 1.4)
        for i, j in np.argwhere(self.counts > 0) if count <= 30 else ():
            weight = "bold" if i == j else "normal"
            axes.text(j, i, str(self.counts[i, j]), ha="center", va="center", fontsize=8, fontweight=weight)
        axes.set_xticks(range(count), self.classes, fontsize=8, rotation=0 if max(map(len, self.classes)) < 4 else 60)
        axes.set_yticks(range(count), self.classes, fontsize=8)
        axes.set_xlabel("what the network says")
        axes.set_ylabel("what it is")
        axes.set_title(f"{100 * self.accuracy:.2f} % of {self.counts.sum()} right; colour: mistakes", fontsize=10)

    def packed(self) -> dict[str, Any]:
        """What the report's page shows."""
        return {
            "classes": list(self.classes), "counts": self.counts.tolist(), "accuracy": self.accuracy,
            "examples": int(self.counts.sum()),
            "worst": [
                {
                    "label": self.classes[m.label], "predicted": self.classes[m.predicted], "probability": m.probability,
                    "image": packed(m.image),
                }
                for m in self.worst
            ],
        }  # fmt: skip


def confusion(model: nn.Module, batches: Iterable[Any], classes: Sequence[str] | None = None, worst: int = 12) -> Confusion:
    """Runs `model` (in eval mode, without recording; the mode before is put back) over batches of (images, labels).

    batches: a DataLoader, or a list of such pairs. The model gives scores (N, C). classes: the C names; left out, their numbers.
    worst: how many mistakes to keep, those of the highest cross-entropy loss.

    ValueError for no examples, scores that are no (N, C), a label outside 0..C-1 or another number of names than C.
    """
    was_training = model.training
    model.eval()
    counts: np.ndarray | None = None
    mistakes: list[Mistake] = []
    seen = 0
    try:
        with tg.no_grad():
            for images, labels in batches:
                scores = model(images).detach().numpy().astype(np.float64)
                wanted = labels.numpy()
                counts = _checked(scores, wanted, classes) if counts is None else counts
                mistakes = _worst([*mistakes, *_mistakes(scores, wanted, images.numpy(), seen)], worst)
                np.add.at(counts, (wanted, scores.argmax(axis=1)), 1)
                seen += len(wanted)
    finally:
        model.train(was_training)
    if counts is None or not seen:
        raise ValueError("confusion: there are no examples; give batches of (images, labels)")
    names = tuple(str(i) for i in range(len(counts))) if classes is None else tuple(str(c) for c in classes)
    return Confusion(counts, names, tuple(mistakes))


def _checked(scores: np.ndarray, labels: np.ndarray, classes: Sequence[str] | None) -> np.ndarray:
    if scores.ndim != 2:
        raise ValueError(f"confusion: the model gives {scores.shape}; expected scores (N, C)")
    count = scores.shape[1]
    if classes is not None and len(classes) != count:
        raise ValueError(f"confusion: {len(classes)} class names for {count} scores; expected as many of each")
    if len(labels) and not 0 <= labels.min() <= labels.max() < count:
        raise ValueError(f"confusion: labels lie in {labels.min()}..{labels.max()}; expected 0..{count - 1}")
    return np.zeros((count, count), np.int64)


def _mistakes(scores: np.ndarray, labels: np.ndarray, images: np.ndarray, offset: int) -> Iterable[Mistake]:
    shifted = scores - scores.max(axis=1, keepdims=True)
    logarithms = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    predicted = scores.argmax(axis=1)
    for i in np.flatnonzero(predicted != labels):
        share = float(np.exp(logarithms[i, predicted[i]]))
        yield Mistake(
            offset + int(i), int(labels[i]), int(predicted[i]), share, float(-logarithms[i, labels[i]]), _picture(images[i])
        )


def _worst(mistakes: list[Mistake], count: int) -> list[Mistake]:
    return sorted(mistakes, key=lambda m: (-m.loss, m.index))[:count]


def _picture(image: np.ndarray) -> np.ndarray:
    """(C, H, W) as uint8 (H, W, 1 or 3) from its smallest to its largest value; of other channel counts the mean over channels."""
    if image.ndim != 3:
        image = image.reshape(1, 1, -1) if image.ndim == 1 else image[None]
    if image.shape[0] not in (1, 3):
        image = image.mean(axis=0, keepdims=True)
    low, high = float(image.min()), float(image.max())
    scaled = (image - low) / (high - low) if high > low else np.zeros_like(image)
    return np.rint(255 * scaled).astype(np.uint8).transpose(1, 2, 0)
