"""AlexNet, in the form that fits one machine."""

from __future__ import annotations

from tinygrad_cv import Tensor, nn

from ._registry import register


class AlexNet(nn.Module):
    """AlexNet: five convolutions, three linear layers; (N, 3, H, W) -> (N, num_classes) scores; made for 224 x 224, at least 63 x 63.

    64, 192, 384, 256 and 256 channels without groups, as in Krizhevsky, "One weird trick for parallelizing convolutional neural
    networks", arXiv:1404.5997, which is the network that PyTorch calls so; the network of 2012 has 96, 256, 384, 384 and 256 in two
    groups, and local response normalisation. Parameters: 61,100,840. Layers start as PyTorch's do. Names of parameters are
    torchvision's, so its weights load.

    Source: A. Krizhevsky, I. Sutskever, G. Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", NIPS 2012.
    """

    def __init__(self, num_classes: int = 1000, dropout: float = 0.5) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, stride=4, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2),
        )
        self.avgpool = nn.AdaptiveAvgPool2d((6, 6))
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(256 * 6 * 6, 4096),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Linear(4096, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, num_classes)."""
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


@register("alexnet", input_shape=(3, 224, 224), source="Krizhevsky et al. 2012, arXiv:1404.5997")
def alexnet(num_classes: int = 1000, dropout: float = 0.5) -> AlexNet:
    """AlexNet, 61,100,840 parameters for 1000 classes; see `AlexNet`."""
    return AlexNet(num_classes, dropout)
