"""The small residual networks for images of 32 x 32: ResNet-20, 32, 44, 56 and 110."""

from __future__ import annotations

from typing import Any

from tinygrad_cv import Tensor, nn
from tinygrad_cv.nn import functional as F

from ._initial import initialise
from ._registry import register
from .resnet import BasicBlock, conv1x1, conv3x3

SHORTCUTS = ("identity", "projection")


class PaddedIdentity(nn.Module):
    """The shortcut "A": every stride-th position, and channels of zeros before and after, as many: it has no parameters.

    (N, C, H, W) -> (N, outputs, ceil(H / stride), ceil(W / stride)); an odd number of new channels has the larger half after.
    He et al., arXiv:1512.03385, section 3.3.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        if outputs < inputs:
            raise ValueError(f"PaddedIdentity: cannot pad {inputs} channels to {outputs}")
        before = (outputs - inputs) // 2
        self.stride = stride
        self.channels = (before, outputs - inputs - before)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, outputs, ceil(H / stride), ceil(W / stride))."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, *self.channels))

    def extra_repr(self) -> str:
        """The settings."""
        return f"stride={self.stride}, channels={self.channels}"


class CifarResNet(nn.Module):
    """A residual network of 6n + 2 layers for small images: (N, 3, H, W) -> (N, num_classes) scores; made for 32 x 32.

    A 3 x 3 convolution to 16 channels, three stages of n basic blocks with 16, 32 and 64 channels, the first block of the second
    and third of stride 2, the mean over all positions, one linear layer. shortcut: "identity" is the paper's option A for CIFAR,
    without parameters (see `PaddedIdentity`); "projection" is its option B, 1 x 1 convolutions with normalisation where sizes
    change. Parameters with option A: 269,722 (20), 464,154 (32), 658,586 (44), 853,018 (56), 1,727,962 (110).

    All weights start He-normal, the convolutions by fan out and the last layer by fan in.

    Source: K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv:1512.03385,
    section 4.2 and table 6.
    """

    def __init__(self, depth: int = 20, num_classes: int = 10, shortcut: str = "identity") -> None:
        super().__init__()
        if depth < 8 or depth % 6 != 2:
            raise ValueError(f"CifarResNet: depth must be 6n + 2 with n > 0 (8, 14, 20, 26, 32, ...), got {depth}")
        if shortcut not in SHORTCUTS:
            raise ValueError(f"CifarResNet: shortcut must be one of {', '.join(SHORTCUTS)}, got {shortcut!r}")
        blocks = depth // 6
        self.conv1 = conv3x3(3, 16)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.layer1 = _stage(16, 16, 1, blocks, shortcut)
        self.layer2 = _stage(16, 32, 2, blocks, shortcut)
        self.layer3 = _stage(32, 64, 2, blocks, shortcut)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(64, num_classes)
        initialise(self, linear="he")

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, num_classes)."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(self.avgpool(x).flatten(1))


def _stage(inputs: int, planes: int, stride: int, blocks: int, shortcut: str) -> nn.Sequential:
    downsample: nn.Module | None = None
    if inputs != planes:
        if shortcut == "identity":
            downsample = PaddedIdentity(inputs, planes, stride)
        else:
            downsample = nn.Sequential(conv1x1(inputs, planes, stride), nn.BatchNorm2d(planes))
    first = BasicBlock(inputs, planes, stride, downsample)
    return nn.Sequential(first, *(BasicBlock(planes, planes) for _ in range(1, blocks)))


def _model(name: str) -> Any:
    return register(
        name,
        input_shape=(3, 32, 32),
        source="He et al. 2016, arXiv:1512.03385, section 4.2",
        epochs=164,
        batch_size=128,
        optimizer="momentum",
        lr=0.1,
        schedule="step",
        weight_decay=1e-4,
    )


@_model("resnet20")
def resnet20(num_classes: int = 10, shortcut: str = "identity") -> CifarResNet:
    """ResNet-20 for CIFAR, 269,722 parameters; see `CifarResNet`."""
    return CifarResNet(20, num_classes, shortcut)


@_model("resnet32")
def resnet32(num_classes: int = 10, shortcut: str = "identity") -> CifarResNet:
    """ResNet-32 for CIFAR, 464,154 parameters; see `CifarResNet`."""
    return CifarResNet(32, num_classes, shortcut)


@_model("resnet44")
def resnet44(num_classes: int = 10, shortcut: str = "identity") -> CifarResNet:
    """ResNet-44 for CIFAR, 658,586 parameters; see `CifarResNet`."""
    return CifarResNet(44, num_classes, shortcut)


@_model("resnet56")
def resnet56(num_classes: int = 10, shortcut: str = "identity") -> CifarResNet:
    """ResNet-56 for CIFAR, 853,018 parameters; see `CifarResNet`."""
    return CifarResNet(56, num_classes, shortcut)


@_model("resnet110")
def resnet110(num_classes: int = 10, shortcut: str = "identity") -> CifarResNet:
    """ResNet-110 for CIFAR, 1,727,962 parameters; see `CifarResNet`."""
    return CifarResNet(110, num_classes, shortcut)
