"""MNIST, embedded in the package: 60,000 training and 10,000 test images of handwritten digits, 28 x 28.

Source: Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits". Licence: CC BY-SA 3.0 (see
mnist_files/LICENSE).
"""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import Any

import numpy as np

from .datasets import ImageArrays
from .idx import read_idx


class MNIST(ImageArrays):
    """The embedded digits: `MNIST(train=True)[i]` is (image float32 (1, 28, 28) in [0, 1], label int).

    images: uint8 (N, 28, 28). labels: int64 (N,). transform: applied to each image (see `transforms`). normalize: subtract the
    training mean 0.1307 and divide by the deviation 0.3081.
    """

    classes = tuple("0123456789")

    def __init__(self, train: bool = True, transform: Any = None, normalize: bool = False) -> None:
        prefix = "train" if train else "t10k"
        super().__init__(
            _embedded(f"{prefix}-images-idx3-ubyte.gz"),
            _embedded(f"{prefix}-labels-idx1-ubyte.gz").astype(np.int64),
            self.classes,
            transform=transform,
            mean=(0.1307,) if normalize else None,
            std=(0.3081,) if normalize else None,
        )


def _embedded(name: str) -> np.ndarray:
    with as_file(files("tinygrad_cv.data") / "mnist_files" / name) as path:
        return read_idx(path)
