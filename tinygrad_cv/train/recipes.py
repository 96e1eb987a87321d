"""Optimizers, schedules and data sets by name: what the command line and examples put together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import data, optim
from ..data.datasets import DatasetError, ImageArrays
from ..optim import lr_scheduler

OPTIMIZERS = ("sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw", "adadelta")
SCHEDULES = ("constant", "cosine", "step", "exponential", "1/t", "plateau")
SCHEDULES_BY_LENGTH = ("cosine", "step")  # those that are a function of the number of epochs


def make_optimizer(name: str, parameters: Any, lr: float, weight_decay: float = 0.0) -> Any:
    """The optimizer called `name` (one of OPTIMIZERS) with its usual settings."""
    makers: dict[str, Any] = {
        "sgd": lambda: optim.SGD(parameters, lr=lr, weight_decay=weight_decay),
        "momentum": lambda: optim.SGD(parameters, lr=lr, momentum=0.9, weight_decay=weight_decay),
        "nesterov": lambda: optim.SGD(parameters, lr=lr, momentum=0.9, nesterov=True, weight_decay=weight_decay),
        "adagrad": lambda: optim.Adagrad(parameters, lr=lr, weight_decay=weight_decay),
        "rmsprop": lambda: optim.RMSprop(parameters, lr=lr, weight_decay=weight_decay),
        "adam": lambda: optim.Adam(parameters, lr=lr, weight_decay=weight_decay),
        "adamw": lambda: optim.AdamW(parameters, lr=lr, weight_decay=weight_decay),
        "adadelta": lambda: optim.Adadelta(parameters, lr=lr, weight_decay=weight_decay),
    }
    if name not in makers:
        raise ValueError(f"no optimizer is called {name!r}; use one of {', '.join(OPTIMIZERS)}")
    return makers[name]()


def make_schedule(name: str, optimizer: Any, epochs: int) -> Any:
    """The learning-rate schedule called `name` (one of SCHEDULES) over `epochs`, stepped once an epoch; None for "constant"."""
    makers: dict[str, Any] = {
        "constant": lambda: None,
        "cosine": lambda: lr_scheduler.CosineAnnealingLR(optimizer, T_max=max(epochs, 1)),
        "step": lambda: lr_scheduler.StepLR(optimizer, step_size=max(epochs // 3, 1), gamma=0.1),
        "exponential": lambda: lr_scheduler.ExponentialLR(optimizer, gamma=0.9),
        "1/t": lambda: lr_scheduler.InverseTimeLR(optimizer, decay=0.5),
        "plateau": lambda: lr_scheduler.ReduceLROnPlateau(optimizer, patience=2),
    }
    if name not in makers:
        raise ValueError(f"no schedule is called {name!r}; use one of {', '.join(SCHEDULES)}")
    return makers[name]()


def extend_schedule(name: str, optimizer: Any, epochs: int, rates: Sequence[float]) -> tuple[Any, bool]:
    """The schedule called `name` over `epochs`, moved on by the epochs that had the learning rates `rates`.

    Second: whether it would itself have given these rates, so that going on with it equals having had it from the start.
    """
    for group in optimizer.param_groups:
        group["lr"] = group.get("initial_lr", group["lr"])
    schedule = make_schedule(name, optimizer, epochs)
    own = []
    for _ in rates:
        own.append(optimizer.param_groups[0]["lr"])
        schedule.step()
    return schedule, own == list(rates)


def _idx_folder(root: Path) -> tuple[ImageArrays, ImageArrays]:
    def part(prefix: str) -> ImageArrays:
        def find(kind: str) -> Path:
            names = [f"{prefix}-{kind}{ending}" for ending in ("-ubyte", "-ubyte.gz")]
            for name in names:
                if (root / name).is_file():
                    return root / name
            raise DatasetError(f"{root}: neither {names[0]} nor {names[1]} is there")

        images, labels = data.read_idx(find("images-idx3")), data.read_idx(find("labels-idx1"))
        if images.ndim != 3 or images.dtype != np.uint8:
            raise DatasetError(f"{root}: expected uint8 images of shape (N, H, W), got {images.dtype} {images.shape}")
        return ImageArrays(images, labels, tuple("0123456789"), mean=(0.1307,), std=(0.3081,))

    return part("train"), part("t10k")


def load_data(name: str, size: tuple[int, int], channels: int) -> tuple[Any, Any, tuple[str, ...]]:
    """(training set, test set, class names) for "mnist" or a folder of IDX files, CIFAR binaries, or train/ and test/ images.

    DatasetError, naming what is missing or broken, otherwise.
    """
    train: ImageArrays
    test: ImageArrays
    if name == "mnist":
        train, test = data.MNIST(train=True, normalize=True), data.MNIST(train=False, normalize=True)
        return train, test, train.classes
    root = Path(name)
    if not root.is_dir():
        raise DatasetError(f"{name}: no such data set or folder; use mnist, or a folder of IDX, CIFAR or image files")
    if any(root.glob("*idx3*")):
        train, test = _idx_folder(root)
        return train, test, train.classes
    if (root / "data_batch_1.bin").is_file():
        train, test = data.CIFAR10(root, True, normalize=True), data.CIFAR10(root, False, normalize=True)
        return train, test, train.classes
    if (root / "train.bin").is_file():
        train, test = data.CIFAR100(root, True, normalize=True), data.CIFAR100(root, False, normalize=True)
        return train, test, train.classes
    if (root / "train").is_dir() and (root / "test").is_dir():
        mode = "L" if channels == 1 else "RGB"
        folders = data.ImageFolder(root / "train", size=size, mode=mode), data.ImageFolder(root / "test", size=size, mode=mode)
        if folders[0].classes != folders[1].classes:
            raise DatasetError(f"{root}: train/ has the classes {folders[0].classes}, test/ has {folders[1].classes}")
        return folders[0], folders[1], folders[0].classes
    raise DatasetError(
        f"{root}: no data set recognised; expected train-images-idx3-ubyte[.gz] and its like, data_batch_1.bin, train.bin, or train/ and "
        "test/ with one folder for each class"
    )
