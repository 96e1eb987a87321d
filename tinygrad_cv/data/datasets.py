"""Data sets: anything with a length and examples by index. Array-backed ones also give whole batches at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .._tensor import Tensor, wrap
from ..random import Generator, numpy_generator


class DatasetError(ValueError):
    """A data file or folder that cannot be used; the message names it and what is wrong."""


class Dataset:
    """Base of data sets: define `__len__` and `__getitem__(index)`; `batch(indices)` may be given for speed."""

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} does not define __len__")

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError(f"{type(self).__name__} does not define __getitem__")


class TensorDataset(Dataset):
    """Examples along the first axis of tensors of equal length. ValueError if the lengths differ."""

    def __init__(self, *tensors: Tensor) -> None:
        if not tensors or len({t.shape[0] if t.ndim else -1 for t in tensors}) != 1:
            raise ValueError(
                f"TensorDataset: expected tensors of one length along axis 0, got shapes {[t.shape for t in tensors]}"
            )
        self.tensors = tensors

    def __len__(self) -> int:
        return self.tensors[0].shape[0]

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        return tuple(t[index] for t in self.tensors)

    def batch(self, indices: np.ndarray) -> tuple[Tensor, ...]:
        """The examples at `indices`, stacked."""
        return tuple(wrap(t._data[indices]) for t in self.tensors)


class ImageArrays(Dataset):
    """Images and labels in memory: uint8 (N, H, W) or (N, H, W, C), and int64 (N,).

    An example is (float32 (C, H, W) in [0, 1], or normalised by `mean` and `std` per channel; int label).
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        classes: Sequence[str],
        *,
        transform: Callable[[np.ndarray], np.ndarray] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        if images.ndim not in (3, 4) or images.dtype != np.uint8:
            raise DatasetError(f"images: expected uint8 of shape (N, H, W) or (N, H, W, C), got {images.dtype} {images.shape}")
        if labels.shape != images.shape[:1]:
            raise DatasetError(f"{len(images)} images but {labels.shape} labels; there must be one label for each image")
        bad = np.flatnonzero((labels < 0) | (labels >= len(classes)))
        if bad.size:
            raise DatasetError(
                f"label {labels[bad[0]]} of example {bad[0]} is out of range for {len(classes)} classes (0..{len(classes) - 1})"
            )
        self.images = images
        self.labels = labels.astype(np.int64, copy=False)
        self.classes = tuple(classes)
        self.transform = transform
        channels = 1 if images.ndim == 3 else images.shape[3]
        scale = np.full(channels, 1 / 255, np.float32)
        shift = np.zeros(channels, np.float32)
        if mean is not None and std is not None:
            scale = (scale / np.asarray(std, np.float32)).astype(np.float32)
            shift = (-np.asarray(mean, np.float32) / np.asarray(std, np.float32)).astype(np.float32)
        self._scale = scale.reshape(-1, 1, 1)
        self._shift = shift.reshape(-1, 1, 1)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        images, labels = self.batch(np.asarray([range(len(self))[index]]))
        return wrap(images._data[0]), int(labels._data[0])

    def batch(self, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        """(images float32 (B, C, H, W), labels int64 (B,)) of the examples at `indices`."""
        raw = self.images[indices]
        raw = raw[:, None] if raw.ndim == 3 else raw.transpose(0, 3, 1, 2)
        images = np.multiply(raw, self._scale, dtype=np.float32)
        if self._shift.any():
            images += self._shift
        if self.transform is not None:
            images = np.stack([np.asarray(self.transform(image), np.float32) for image in images])
        return wrap(np.ascontiguousarray(images)), wrap(self.labels[indices])


class Subset(Dataset):
    """The examples of `dataset` at `indices`."""

    def __init__(self, dataset: Dataset, indices: Sequence[int] | np.ndarray) -> None:
        self.dataset = dataset
        self.indices = np.asarray(indices, np.int64)
        if self.indices.size and not (0 <= self.indices.min() and self.indices.max() < len(dataset)):
            raise IndexError(f"Subset: indices must lie in 0..{len(dataset) - 1}")
        if hasattr(dataset, "batch"):
            self.batch = lambda chosen: dataset.batch(self.indices[chosen])

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[int(self.indices[index])]


class ConcatDataset(Dataset):
    """Several data sets one after the other."""

    def __init__(self, datasets: Sequence[Dataset]) -> None:
        self.datasets = list(datasets)
        self._ends = np.cumsum([len(d) for d in self.datasets])

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int) -> Any:
        index = range(len(self))[index]
        which = int(np.searchsorted(self._ends, index, side="right"))
        return self.datasets[which][index - (int(self._ends[which - 1]) if which else 0)]


def random_split(dataset: Dataset, lengths: Sequence[float], generator: Generator | None = None) -> list[Subset]:
    """Disjoint random subsets of the given lengths, or of the given fractions of the whole. ValueError if they do not add up."""
    sizes = list(lengths)
    if all(0 <= s <= 1 for s in sizes) and abs(sum(sizes) - 1) < 1e-6:
        counts = [int(s * len(dataset)) for s in sizes]
        for i in range(len(dataset) - sum(counts)):
            counts[i % len(counts)] += 1
    else:
        counts = [int(s) for s in sizes]
    if sum(counts) != len(dataset):
        raise ValueError(f"random_split: lengths {sizes} add up to {sum(counts)}, the data set has {len(dataset)} examples")
    order = numpy_generator(generator).permutation(len(dataset))
    ends = np.cumsum(counts)
    return [Subset(dataset, order[end - count : end]) for end, count in zip(ends, counts, strict=True)]


class ImageFolder(Dataset):
    """A folder with one sub-folder of images for each class; classes are numbered in alphabetical order.

    An example is (float32 (C, H, W) in [0, 1], label), read with Pillow when asked for. size: (H, W) to resize to. mode: Pillow's,
    "RGB" or "L".
    """

    extensions = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm")

    def __init__(
        self,
        root: str | os.PathLike[str],
        transform: Callable[[np.ndarray], np.ndarray] | None = None,
        size: tuple[int, int] | None = None,
        mode: str = "RGB",
    ) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise DatasetError(f"{self.root}: no such folder")
        self.classes = tuple(sorted(d.name for d in self.root.iterdir() if d.is_dir()))
        self.samples = [
            (path, label)
            for label, name in enumerate(self.classes)
            for path in sorted((self.root / name).rglob("*"))
            if path.suffix.lower() in self.extensions
        ]
        if not self.samples:
            raise DatasetError(
                f"{self.root}: no images found; expected one sub-folder for each class, with files ending in {self.extensions}"
            )
        self.transform, self.size, self.mode = transform, size, mode

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, label = self.samples[index]
        image = read_image(path, self.size, self.mode)
        if self.transform is not None:
            image = np.asarray(self.transform(image), np.float32)
        return wrap(image), label


def read_image(path: str | os.PathLike[str], size: tuple[int, int] | None = None, mode: str = "RGB") -> np.ndarray:
    """An image file as float32 (C, H, W) in [0, 1], resized to `size` (H, W) if given. DatasetError if it cannot be read."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise ImportError("reading image files needs Pillow: pip install 'tinygrad_cv[images]'") from None
    try:
        with Image.open(path) as image:
            converted = image.convert(mode)
            if size is not None and converted.size != (size[1], size[0]):
                converted = converted.resize((size[1], size[0]), Image.Resampling.BILINEAR)
            array = np.asarray(converted, np.float32) / np.float32(255)
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such file") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DatasetError(f"{path}: cannot be read as an image: {error}") from None
    return np.ascontiguousarray(array[None] if array.ndim == 2 else array.transpose(2, 0, 1))
