"""VGG networks of 11, 13, 16 and 19 layers, with and without batch normalisation, and VGG-11 for images of 32 x 32."""

from __future__ import annotations

from typing import Any

from tinygrad_cv import Tensor, nn

from ._initial import initialise
from ._registry import register

CHANNELS = {  # of the convolutions of each stage; a 2 x 2 max pooling ends a stage. Table 1 of the paper, columns A, B, D and E.
    11: ((64,), (128,), (256, 256), (512, 512), (512, 512)),
    13: ((64, 64), (128, 128), (256, 256), (512, 512), (512, 512)),
    16: ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)),
    19: ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4),
}


def make_features(depth: int, batch_norm: bool = False) -> nn.Sequential:
    """The convolutional part of VGG-`depth`: (N, 3, H, W) -> (N, 512, H / 32, W / 32)."""
    if depth not in CHANNELS:
        raise ValueError(f"VGG: depth must be one of {', '.join(map(str, CHANNELS))}, got {depth}")
    layers: list[nn.Module] = []
    inputs = 3
    for stage in CHANNELS[depth]:
        for outputs in stage:
            layers.append(nn.Conv2d(inputs, outputs, 3, padding=1))
            if batch_norm:
                layers.append(nn.BatchNorm2d(outputs))
            layers.append(nn.ReLU())
            inputs = outputs
        layers.append(nn.MaxPool2d(2, stride=2))
    return nn.Sequential(*layers)


class VGG(nn.Module):
    """A VGG network: (N, 3, H, W) -> (N, num_classes) scores; made for 224 x 224, any size of at least 32 x 32 works.

    features: 3 x 3 convolutions with ReLU in five stages, each ended by 2 x 2 max pooling; then pooling to 7 x 7 and three linear
    layers of 4096, 4096 and num_classes outputs, with dropout. init_weights: He-normal convolutions by fan out and normal linear
    layers of deviation 0.01, biases 0; otherwise as the layers make them. Parameters, without and with batch normalisation:
    132,863,336 and 132,868,840 (11), 133,047,848 and 133,053,736 (13), 138,357,544 and 138,365,992 (16), 143,667,240 and
    143,678,248 (19). Names of parameters are torchvision's, so its weights load.

    Source: K. Simonyan, A. Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015,
    arXiv:1409.1556.
    """

    def __init__(self, features: nn.Module, num_classes: int = 1000, init_weights: bool = True, dropout: float = 0.5) -> None:
        super().__init__()
        self.features = features
        self.avgpool = nn.AdaptiveAvgPool2d((7, 7))
        self.classifier = nn.Sequential(
            nn.Linear(512 * 7 * 7, 4096),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4096, num_classes),
        )
        if init_weights:
            initialise(self, linear="normal")

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, num_classes)."""
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


class CifarVGG(nn.Module):
    """The convolutional part of a VGG network and one linear layer: (N, 3, 32, 32) -> (N, num_classes) scores.

    What the five poolings leave of 32 x 32 is one position of 512 channels. Parameters of depth 11: 9,225,610, with batch
    normalisation 9,231,114. Source: arXiv:1409.1556; the reduced classifier is common practice on CIFAR.
    """

    def __init__(self, depth: int = 11, num_classes: int = 10, batch_norm: bool = False) -> None:
        super().__init__()
        self.features = make_features(depth, batch_norm)
        self.classifier = nn.Linear(512, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, 32, 32) -> (N, num_classes)."""
        return self.classifier(self.features(x).flatten(1))


def _model(name: str) -> Any:
    return register(name, input_shape=(3, 224, 224), source="Simonyan & Zisserman 2015, arXiv:1409.1556")


@_model("vgg11")
def vgg11(num_classes: int = 1000, **options: Any) -> VGG:
    """VGG-11 (column A), 132,863,336 parameters for 1000 classes; see `VGG`."""
    return VGG(make_features(11), num_classes, **options)


@_model("vgg11_bn")
def vgg11_bn(num_classes: int = 1000, **options: Any) -> VGG:
    """VGG-11 with batch normalisation, 132,868,840 parameters for 1000 classes; see `VGG`."""
    return VGG(make_features(11, batch_norm=True), num_classes, **options)


@_model("vgg13")
def vgg13(num_classes: int = 1000, **options: Any) -> VGG:
    """VGG-13 (column B), 133,047,848 parameters for 1000 classes; see `VGG`."""
    return VGG(make_features(13), num_classes, **options)


@_model("vgg13_bn")
def vgg13_bn(num_classes: int = 1000, **options: Any) -> VGG:
    """VGG-13 with batch normalisation, 133,053,736 parameters for 1000 classes; see `VGG`."""
    return VGG(make_features(13, batch_norm=True), num_classes, **options)


@_model("vgg16")
def vgg16(num_classes: int = 1000, **options: Any) -> VGG:
    """VGG-16 (column D), 138,357,544 parameters for 1000 classes; see `VGG`."""
    return VGG(make_features(16), num_classes, **options)


@_model("vgg16_bn")
def vgg16_bn(num_classes: int = 1000, **options: Any) -> VGG:
    """VGG-16 with batch normalisation, 138,365,992 parameters for 1000 classes; see `VGG`."""
    return VGG(make_features(16, batch_norm=True), num_classes, **options)


@_model("vgg19")
def vgg19(num_classes: int = 1000, **options: Any) -> VGG:
    """VGG-19 (column E), 143,667,240 parameters for 1000 classes; see `VGG`."""
    return VGG(make_features(19), num_classes, **options)


@_model("vgg19_bn")
def vgg19_bn(num_classes: int = 1000, **options: Any) -> VGG:
    """VGG-19 with batch normalisation, 143,678,248 parameters for 1000 classes; see `VGG`."""
    return VGG(make_features(19, batch_norm=True), num_classes, **options)


@register("vgg11_cifar", input_shape=(3, 32, 32), source="Simonyan & Zisserman 2015, arXiv:1409.1556")
def vgg11_cifar(num_classes: int = 10, batch_norm: bool = False) -> CifarVGG:
    """VGG-11 for CIFAR, 9,225,610 parameters; see `CifarVGG`."""
    return CifarVGG(11, num_classes, batch_norm)
