"""CIFAR-10 and CIFAR-100 in their binary version: records of 1 (or 2) label bytes and 3072 pixel bytes, channel first.

Source: A. Krizhevsky, "Learning multiple layers of features from tiny images", 2009; https://www.cs.toronto.edu/~kriz/cifar.html.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from .datasets import DatasetError, ImageArrays

_PIXELS = 3 * 32 * 32


def read_cifar(path: str | os.PathLike[str], label_bytes: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """(images uint8 (N, 32, 32, 3), labels int64 (N,)) of one binary batch file; the last label byte counts (fine labels).

    label_bytes: 1 for CIFAR-10, 2 for CIFAR-100 (ValueError for another). DatasetError for a missing file, one that is no whole
    number of records, or a label outside 0..9 (CIFAR-100: 0..99).
    """
    if label_bytes not in (1, 2):
        raise ValueError(f"read_cifar: label_bytes must be 1 (CIFAR-10) or 2 (CIFAR-100), got {label_bytes!r}")
    path = Path(path)
    try:
        raw = np.fromfile(path, np.uint8)
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such file") from None
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror or error}") from None
    record = label_bytes + _PIXELS
    if raw.size == 0 or raw.size % record:
        whole, rest = divmod(raw.size, record)
        raise DatasetError(
            f"{path}: {raw.size} bytes are not a whole number of {record}-byte records ({whole} records and {rest} bytes)"
        )
    records = raw.reshape(-1, record)
    images = records[:, label_bytes:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    labels = records[:, label_bytes - 1].astype(np.int64)
    classes = 10 if label_bytes == 1 else 100
    bad = np.flatnonzero(labels >= classes)
    if bad.size:
        others = f" (and {bad.size - 1} more)" if bad.size > 1 else ""
        raise DatasetError(
            f"{path}: record {bad[0]} of {len(records)} has label {labels[bad[0]]}{others}; labels must lie in 0..{classes - 1}. Is this "
            f"a CIFAR-{classes} file in the binary version?"
        )
    return np.ascontiguousarray(images), labels


class CIFAR10(ImageArrays):
    """CIFAR-10 from a folder with the binary files (data_batch_1.bin ... test_batch.bin)."""

    names: tuple[str, ...] = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    label_bytes = 1
    train_files: tuple[str, ...] = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
    test_files: tuple[str, ...] = ("test_batch.bin",)
    mean = (0.4914, 0.4822, 0.4465)
    std = (0.2470, 0.2435, 0.2616)

    def __init__(
        self, root: str | os.PathLike[str], train: bool = True, transform: Any = None, normalize: bool = False
    ) -> None:
        parts = [read_cifar(Path(root) / name, self.label_bytes) for name in (self.train_files if train else self.test_files)]
        super().__init__(
            np.concatenate([images for images, _ in parts]),
            np.concatenate([labels for _, labels in parts]),
            self.names,
            transform=transform,
            mean=self.mean if normalize else None,
            std=self.std if normalize else None,
        )


class CIFAR100(CIFAR10):
    """CIFAR-100 (fine labels) from a folder with train.bin and test.bin."""

    names = tuple(f"class {i}" for i in range(100))
    label_bytes = 2
    train_files = ("train.bin",)
    test_files = ("test.bin",)
    mean = (0.5071, 0.4865, 0.4409)
    std = (0.2673, 0.2564, 0.2762)

    def __init__(
        self, root: str | os.PathLike[str], train: bool = True, transform: Any = None, normalize: bool = False
    ) -> None:
        listed = Path(root) / "fine_label_names.txt"
        if listed.is_file():
            found = tuple(listed.read_text().split())
            if len(found) != 100:
                raise DatasetError(f"{listed}: expected 100 class names, found {len(found)}")
            self.names = found
        super().__init__(root, train, transform, normalize)
