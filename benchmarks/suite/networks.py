"""The networks of the training steps. Each is one text, which either library runs: `build(library)` with `library.nn` as in PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Workload:
    """A network with the batch it is trained on. shape: of one example. images: whether it consists of 2-D convolutions."""

    name: str
    build: Callable[[Any], Any]
    batch: int
    shape: tuple[int, ...]
    classes: int = 10
    images: bool = False

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Inputs (batch, *shape) and labels (batch)."""
        rng = np.random.default_rng(0)
        return rng.standard_normal((self.batch, *self.shape), np.float32), rng.integers(0, self.classes, self.batch)

    def sized(self, batch: int, shape: tuple[int, ...] | None = None) -> Workload:
        """The same network on other batches or images."""
        return replace(self, batch=batch, shape=shape or self.shape)

    def __str__(self) -> str:
        return f"{self.name}, batch {self.batch}"


def mlp(library: Any) -> Any:
    """784-128-10."""
    nn = library.nn
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))


def lenet5(library: Any) -> Any:
    """LeNet-5 with ReLU and max pooling."""
    nn = library.nn
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip


def _residual(library: Any, inputs: int, outputs: int, stride: int, shortcut: Any = None) -> Any:
    """A basic block; shortcut: the module beside it, None for the identity."""
    nn = library.nn

    class Block(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(outputs)
            self.relu = nn.ReLU()
            self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(outputs)
            self.shortcut = nn.Identity() if shortcut is None else shortcut

        def forward(self, x: Any) -> Any:
            out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
            return self.relu(out + self.shortcut(x))

    return Block()


def _padded_identity(library: Any, more: int) -> Any:
    nn = library.nn

    class Shortcut(nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, x: Any) -> Any:
            return nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, more // 2, more // 2))

    return Shortcut()


def resnet20(library: Any) -> Any:
    """ResNet-20 for CIFAR, shortcuts without parameters."""
    nn = library.nn
    layers = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    for inputs, outputs in ((16, 16), (16, 32), (32, 64)):
        down = inputs != outputs
        layers.append(
            _residual(library, inputs, outputs, 1 + down, _padded_identity(library, outputs - inputs) if down else None)
        )
        layers += [_residual(library, outputs, outputs, 1) for _ in range(2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.Linear(64, 10))


def resnet18(library: Any) -> Any:
    """ResNet-18 for 224 x 224."""
    nn = library.nn
    layers = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    for inputs, outputs in ((64, 64), (64, 128), (128, 256), (256, 512)):
        down = None
        if inputs != outputs:
            down = nn.Sequential(nn.Conv2d(inputs, outputs, 1, 2, bias=False), nn.BatchNorm2d(outputs))
        layers += [_residual(library, inputs, outputs, 1 if down is None else 2, down), _residual(library, outputs, outputs, 1)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.Linear(512, 1000))


def vgg11(library: Any) -> Any:
    """VGG-11 for CIFAR: eight convolutions, one linear layer."""
    nn = library.nn
    layers: list[Any] = []
    inputs = 3
    for stage in ((64,), (128,), (256, 256), (512, 512), (512, 512)):
        for outputs in stage:
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
            inputs = outputs
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, 10))


def alexnet(library: Any) -> Any:
    """AlexNet of 61 million parameters, dropout included."""
    nn = library.nn
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(), nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2), nn.AdaptiveAvgPool2d((6, 6)), nn.Flatten(),
        nn.Dropout(0.5), nn.Linear(9216, 4096), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 1000),
    )  # fmt: skip


def depthwise(library: Any) -> Any:
    """A depthwise separable block of MobileNet, and what makes scores of it."""
    nn = library.nn
    return nn.Sequential(
        nn.Conv2d(64, 64, 3, 1, 1, groups=64, bias=False), nn.BatchNorm2d(64), nn.ReLU(),
        nn.Conv2d(64, 128, 1, bias=False), nn.BatchNorm2d(128), nn.ReLU(),
        nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.Linear(128, 10),
    )  # fmt: skip


def lstm(library: Any) -> Any:
    """256 units over the steps of (N, T, 256), and scores from the last output."""
    nn = library.nn

    class Network(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(256, 256, batch_first=True)
            self.output = nn.Linear(256, 10)

        def forward(self, x: Any) -> Any:
            return self.output(self.lstm(x)[0][:, -1])

    return Network()


def norm_gelu(library: Any) -> Any:
    """x + W2 gelu(W1 layer_norm(x)), as in a transformer, and scores from the mean over positions of (N, T, 256)."""
    nn = library.nn

    class Network(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.block = nn.Sequential(nn.LayerNorm(256), nn.Linear(256, 1024), nn.GELU(), nn.Linear(1024, 256))
            self.output = nn.Linear(256, 10)

        def forward(self, x: Any) -> Any:
            return self.output((x + self.block(x)).mean(1))

    return Network()


WORKLOADS = {
    "mlp": Workload("MLP 784-128-10", mlp, 32, (1, 28, 28)),
    "lenet5": Workload("LeNet-5", lenet5, 64, (1, 28, 28), images=True),
    "resnet20": Workload("ResNet-20 CIFAR", resnet20, 128, (3, 32, 32), images=True),
    "vgg11": Workload("VGG-11 CIFAR", vgg11, 64, (3, 32, 32), images=True),
    "alexnet": Workload("AlexNet 224", alexnet, 16, (3, 224, 224), 1000, images=True),
    "resnet18": Workload("ResNet-18 224", resnet18, 8, (3, 224, 224), 1000, images=True),
    "depthwise": Workload("MobileNet block 64-128 @56", depthwise, 32, (64, 56, 56), images=True),
    "lstm": Workload("LSTM 256, 50 steps", lstm, 32, (50, 256)),
    "norm_gelu": Workload("layer norm + GELU block, 64 positions", norm_gelu, 32, (64, 256)),
}
