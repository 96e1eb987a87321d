"""Residual networks for images of 224 x 224: ResNet-18, 34, 50, 101 and 152."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from tinygrad_cv import Tensor, nn

from ._initial import initialise
from ._registry import register

Norm = Callable[[int], nn.Module]


def conv3x3(inputs: int, outputs: int, stride: int = 1, groups: int = 1, dilation: int = 1) -> nn.Conv2d:
    """A 3 x 3 convolution that keeps the size at stride 1, without bias."""
    return nn.Conv2d(inputs, outputs, 3, stride, padding=dilation, dilation=dilation, groups=groups, bias=False)


def conv1x1(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """A 1 x 1 convolution without bias."""
    return nn.Conv2d(inputs, outputs, 1, stride, bias=False)


class BasicBlock(nn.Module):
    """relu(shortcut(x) + bn(conv3x3(relu(bn(conv3x3(x)))))): (N, inplanes, H, W) -> (N, planes, H / stride, W / stride).

    downsample: the module on the shortcut, None for the identity. He et al., arXiv:1512.03385, figure 5 left.
    """

    expansion: ClassVar[int] = 1

    def __init__(
        self,
        inplanes: int,
        planes: int,
        stride: int = 1,
        downsample: nn.Module | None = None,
        groups: int = 1,
        base_width: int = 64,
        dilation: int = 1,
        norm_layer: Norm | None = None,
    ) -> None:
        super().__init__()
        if groups != 1 or base_width != 64 or dilation != 1:
            raise ValueError(
                f"BasicBlock: defined for groups=1, base_width=64 and dilation=1 only, got {groups}, {base_width} and {dilation}"
            )
        norm = norm_layer or nn.BatchNorm2d
        self.conv1 = conv3x3(inplanes, planes, stride)
        self.bn1 = norm(planes)
        self.relu = nn.ReLU()
        self.conv2 = conv3x3(planes, planes)
        self.bn2 = norm(planes)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """(N, inplanes, H, W) -> (N, planes, H / stride, W / stride)."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1 x 1 to `planes`, 3 x 3, 1 x 1 to 4 * planes, plus the shortcut: (N, inplanes, H, W) -> (N, 4 planes, H / stride, W / stride).

    The stride is that of the 3 x 3 convolution, as in PyTorch's networks ("v1.5"); the paper has it in the first 1 x 1.
    He et al., arXiv:1512.03385, figure 5 right; groups: Xie et al., arXiv:1611.05431; base_width: Zagoruyko & Komodakis,
    arXiv:1605.07146.
    """

    expansion: ClassVar[int] = 4

    def __init__(
        self,
        inplanes: int,
        planes: int,
        stride: int = 1,
        downsample: nn.Module | None = None,
        groups: int = 1,
        base_width: int = 64,
        dilation: int = 1,
        norm_layer: Norm | None = None,
    ) -> None:
        super().__init__()
        norm = norm_layer or nn.BatchNorm2d
        width = planes * base_width // 64 * groups
        self.conv1 = conv1x1(inplanes, width)
        self.bn1 = norm(width)
        self.conv2 = conv3x3(width, width, stride, groups, dilation)
        self.bn2 = norm(width)
        self.conv3 = conv1x1(width, planes * self.expansion)
        self.bn3 = norm(planes * self.expansion)
        self.relu = nn.ReLU()
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """(N, inplanes, H, W) -> (N, 4 planes, H / stride, W / stride)."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """A residual network: (N, 3, H, W) -> (N, num_classes) scores; made for 224 x 224, any size of at least 32 x 32 works.

    7 x 7 convolution of stride 2, 3 x 3 max pooling of stride 2, four stages of `layers[i]` blocks with 64, 128, 256 and 512
    planes, the mean over all positions, one linear layer. Parameters: 11,689,512 (18), 21,797,672 (34), 25,557,032 (50),
    44,549,160 (101), 60,192,808 (152).

    zero_init_residual: the last normalisation of every block starts with scale 0, so that blocks start as their shortcut
    (Goyal et al., arXiv:1706.02677). groups, width_per_group: of the 3 x 3 convolutions of bottlenecks.
    replace_stride_with_dilation: for stages 2 to 4, whether to dilate in place of striding. norm_layer: makes a normalisation
    from a number of channels. Names of parameters are torchvision's, so its weights load.

    Source: K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv:1512.03385, table 1.
    """

    def __init__(
        self,
        block: Any,
        layers: Sequence[int],
        num_classes: int = 1000,
        zero_init_residual: bool = False,
        groups: int = 1,
        width_per_group: int = 64,
        replace_stride_with_dilation: Sequence[bool] | None = None,
        norm_layer: Norm | None = None,
    ) -> None:
        super().__init__()
        dilate = (False, False, False) if replace_stride_with_dilation is None else tuple(replace_stride_with_dilation)
        if len(dilate) != 3:
            raise ValueError(
                f"ResNet: replace_stride_with_dilation must be None or 3 booleans, got {replace_stride_with_dilation}"
            )
        if len(layers) != 4:
            raise ValueError(f"ResNet: layers must be the numbers of blocks of 4 stages, got {layers}")
        self._norm: Norm = norm_layer or nn.BatchNorm2d
        self._planes, self._dilation, self._groups, self._width = 64, 1, groups, width_per_group
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = self._norm(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = self._stage(block, 64, layers[0])
        self.layer2 = self._stage(block, 128, layers[1], 2, dilate[0])
        self.layer3 = self._stage(block, 256, layers[2], 2, dilate[1])
        self.layer4 = self._stage(block, 512, layers[3], 2, dilate[2])
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(512 * block.expansion, num_classes)
        initialise(self)
        if zero_init_residual:
            for module in self.modules():
                if isinstance(module, (BasicBlock, Bottleneck)):
                    last = module.bn3 if isinstance(module, Bottleneck) else module.bn2
                    nn.init.zeros_(last.weight)

    def _stage(self, block: Any, planes: int, blocks: int, stride: int = 1, dilate: bool = False) -> nn.Sequential:
        """`blocks` blocks, of which the first changes size and channels; with `dilate`, dilation takes over its stride."""
        before = self._dilation
        if dilate:
            self._dilation, stride = self._dilation * stride, 1
        outputs = planes * block.expansion
        downsample = None
        if stride != 1 or self._planes != outputs:
            downsample = nn.Sequential(conv1x1(self._planes, outputs, stride), self._norm(outputs))
        shared = {"groups": self._groups, "base_width": self._width, "norm_layer": self._norm}
        stage = [block(self._planes, planes, stride, downsample, dilation=before, **shared)]
        self._planes = outputs
        stage += [block(outputs, planes, dilation=self._dilation, **shared) for _ in range(1, blocks)]
        return nn.Sequential(*stage)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, num_classes)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


def _model(name: str) -> Any:
    return register(name, input_shape=(3, 224, 224), source="He et al. 2016, arXiv:1512.03385")


@_model("resnet18")
def resnet18(num_classes: int = 1000, **options: Any) -> ResNet:
    """ResNet-18, 11,689,512 parameters for 1000 classes; see `ResNet`."""
    return ResNet(BasicBlock, [2, 2, 2, 2], num_classes, **options)


@_model("resnet34")
def resnet34(num_classes: int = 1000, **options: Any) -> ResNet:
    """ResNet-34, 21,797,672 parameters for 1000 classes; see `ResNet`."""
    return ResNet(BasicBlock, [3, 4, 6, 3], num_classes, **options)


@_model("resnet50")
def resnet50(num_classes: int = 1000, **options: Any) -> ResNet:
    """ResNet-50, 25,557,032 parameters for 1000 classes; see `ResNet`."""
    return ResNet(Bottleneck, [3, 4, 6, 3], num_classes, **options)


@_model("resnet101")
def resnet101(num_classes: int = 1000, **options: Any) -> ResNet:
    """ResNet-101, 44,549,160 parameters for 1000 classes; see `ResNet`."""
    return ResNet(Bottleneck, [3, 4, 23, 3], num_classes, **options)


@_model("resnet152")
def resnet152(num_classes: int = 1000, **options: Any) -> ResNet:
    """ResNet-152, 60,192,808 parameters for 1000 classes; see `ResNet`."""
    return ResNet(Bottleneck, [3, 8, 36, 3], num_classes, **options)
