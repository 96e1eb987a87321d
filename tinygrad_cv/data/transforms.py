"""Transforms of one image, float32 (C, H, W): plain callables on NumPy arrays, chained by `Compose`.

Random ones draw from `tinygrad_cv.random`, of which a DataLoader gives every batch a stream of its own, so a run is the same
however many threads load it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..random import numpy_generator

Transform = Callable[[np.ndarray], np.ndarray]


class Compose:
    """One transform after the other."""

    def __init__(self, transforms: Sequence[Transform]) -> None:
        self.transforms = list(transforms)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        for transform in self.transforms:
            image = transform(image)
        return image

    def __repr__(self) -> str:
        return f"Compose({self.transforms})"


class Normalize:
    """(image - mean) / std for each channel."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        if any(s <= 0 for s in std):
            raise ValueError(f"Normalize: standard deviations must be positive, got {std}")
        self.mean = np.asarray(mean, np.float32).reshape(-1, 1, 1)
        self.std = np.asarray(std, np.float32).reshape(-1, 1, 1)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        if image.shape[0] != self.mean.shape[0]:
            raise ValueError(f"Normalize: the image has {image.shape[0]} channels, mean and std have {self.mean.shape[0]}")
        return np.asarray((image - self.mean) / self.std)


class RandomHorizontalFlip:
    """Mirrors the image left to right with probability p."""

    def __init__(self, p: float = 0.5) -> None:
        self.p = p

    def __call__(self, image: np.ndarray) -> np.ndarray:
        return image[:, :, ::-1] if numpy_generator().random() < self.p else image


class RandomCrop:
    """A random (height, width) window of the image, padded by `padding` pixels of `fill` on every side first."""

    def __init__(self, size: int | tuple[int, int], padding: int = 0, fill: float = 0.0) -> None:
        self.size = (size, size) if isinstance(size, int) else tuple(size)
        self.padding, self.fill = padding, fill

    def __call__(self, image: np.ndarray) -> np.ndarray:
        p = self.padding
        if p:
            image = np.pad(image, ((0, 0), (p, p), (p, p)), constant_values=self.fill)
        spare = [have - want for have, want in zip(image.shape[1:], self.size, strict=True)]
        if min(spare) < 0:
            raise ValueError(f"RandomCrop: a window of {self.size} does not fit an image of shape {image.shape}")
        top, left = (int(numpy_generator().integers(0, s + 1)) for s in spare)
        return image[:, top : top + self.size[0], left : left + self.size[1]]


class CenterCrop:
    """The central (height, width) window of the image."""

    def __init__(self, size: int | tuple[int, int]) -> None:
        self.size = (size, size) if isinstance(size, int) else tuple(size)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        spare = [have - want for have, want in zip(image.shape[1:], self.size, strict=True)]
        if min(spare) < 0:
            raise ValueError(f"CenterCrop: a window of {self.size} does not fit an image of shape {image.shape}")
        top, left = (s // 2 for s in spare)
        return image[:, top : top + self.size[0], left : left + self.size[1]]


class Pad:
    """`padding` pixels of `fill` on every side."""

    def __init__(self, padding: int, fill: float = 0.0) -> None:
        self.padding, self.fill = padding, fill

    def __call__(self, image: np.ndarray) -> np.ndarray:
        p = self.padding
        return np.pad(image, ((0, 0), (p, p), (p, p)), constant_values=self.fill)
