"""MobileNets: networks of depthwise convolutions, version 1 and 2."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tinygrad_cv import Tensor, nn

from ._initial import initialise
from ._registry import register

Norm = Callable[[int], nn.Module]
WIDTHS_1 = (
    64,
    (128, 2),
    128,
    (256, 2),
    256,
    (512, 2),
    512,
    512,
    512,
    512,
    512,
    (1024, 2),
    1024,
)  # table 1; pairs have a stride
SETTING_2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)  # table 2


def convolution(
    inputs: int,
    outputs: int,
    kernel_size: int = 3,
    stride: int = 1,
    groups: int = 1,
    norm_layer: Norm | None = None,
    activation: type[nn.Module] = nn.ReLU6,
) -> nn.Sequential:
    """Convolution without bias that keeps the size at stride 1, normalisation, activation."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel_size, stride, (kernel_size - 1) // 2, groups=groups, bias=False),
        (norm_layer or nn.BatchNorm2d)(outputs),
        activation(),
    )


def rounded(channels: float, divisor: int = 8) -> int:
    """The multiple of `divisor` nearest to `channels`, at least `divisor`, and the next one if that loses more than a tenth."""
    nearest = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * channels else nearest


class DepthwiseSeparable(nn.Module):
    """3 x 3 depthwise and 1 x 1 convolution, each with batch normalisation and ReLU.

    (N, inputs, H, W) -> (N, outputs, H / stride, W / stride), with 9 inputs + inputs * outputs + 2 inputs + 2 outputs parameters.
    Howard et al., arXiv:1704.04861, figure 3 right.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.depthwise = convolution(inputs, inputs, 3, stride, groups=inputs, activation=nn.ReLU)
        self.pointwise = convolution(inputs, outputs, 1, activation=nn.ReLU)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""
        return self.pointwise(self.depthwise(x))


class MobileNetV1(nn.Module):
    """MobileNet, version 1: (N, 3, H, W) -> (N, num_classes) scores; made for 224 x 224.

    A 3 x 3 convolution of stride 2 to 32 channels, 13 `DepthwiseSeparable` blocks up to 1024 channels, the mean over all
    positions, dropout, one linear layer. width_mult scales all channels. Parameters: 4,231,976 (the paper says 4.2 million).

    Source: A. Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications",
    arXiv:1704.04861, table 1.
    """

    def __init__(self, num_classes: int = 1000, width_mult: float = 1.0, dropout: float = 0.001) -> None:
        super().__init__()
        inputs = rounded(32 * width_mult)
        layers: list[nn.Module] = [convolution(3, inputs, stride=2, activation=nn.ReLU)]
        for width in WIDTHS_1:
            channels, stride = width if isinstance(width, tuple) else (width, 1)
            outputs = rounded(channels * width_mult)
            layers.append(DepthwiseSeparable(inputs, outputs, stride))
            inputs = outputs
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(inputs, num_classes))
        initialise(self, linear="normal")

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, num_classes)."""
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


class InvertedResidual(nn.Module):
    """1 x 1 to inp * expand_ratio channels, 3 x 3 depthwise, 1 x 1 to oup without activation; plus the input where shapes agree.

    (N, inp, H, W) -> (N, oup, H / stride, W / stride), stride 1 or 2; expand_ratio 1 leaves the first convolution out.
    Sandler et al., arXiv:1801.04381, table 1 and figure 4.
    """

    def __init__(self, inp: int, oup: int, stride: int, expand_ratio: int, norm_layer: Norm | None = None) -> None:
        super().__init__()
        if stride not in (1, 2):
            raise ValueError(f"InvertedResidual: stride must be 1 or 2, got {stride}")
        hidden = round(inp * expand_ratio)
        layers: list[nn.Module] = []
        if expand_ratio != 1:
            layers.append(convolution(inp, hidden, 1, norm_layer=norm_layer))
        layers.append(convolution(hidden, hidden, 3, stride, groups=hidden, norm_layer=norm_layer))
        layers += [nn.Conv2d(hidden, oup, 1, bias=False), (norm_layer or nn.BatchNorm2d)(oup)]
        self.conv = nn.Sequential(*layers)
        self.use_res_connect = stride == 1 and inp == oup

    def forward(self, x: Tensor) -> Tensor:
        """(N, inp, H, W) -> (N, oup, H / stride, W / stride)."""
        return x + self.conv(x) if self.use_res_connect else self.conv(x)


class MobileNetV2(nn.Module):
    """MobileNet, version 2: (N, 3, H, W) -> (N, num_classes) scores; made for 224 x 224.

    A 3 x 3 convolution of stride 2, 17 `InvertedResidual` blocks, a 1 x 1 convolution to 1280 channels, the mean over all
    positions, dropout, one linear layer. width_mult scales all channels, to multiples of round_nearest.
    inverted_residual_setting: rows (expansion, channels, repetitions, stride) in place of the paper's table 2. norm_layer: makes a
    normalisation from a number of channels. Parameters: 3,504,872. Names of parameters are torchvision's, so its weights load.

    Source: M. Sandler, A. Howard, M. Zhu, A. Zhmoginov, L.-C. Chen, "MobileNetV2: Inverted Residuals and Linear Bottlenecks",
    CVPR 2018, arXiv:1801.04381.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        width_mult: float = 1.0,
        inverted_residual_setting: Sequence[Sequence[int]] | None = None,
        round_nearest: int = 8,
        norm_layer: Norm | None = None,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        setting = SETTING_2 if inverted_residual_setting is None else inverted_residual_setting
        if not setting or any(len(row) != 4 for row in setting):
            raise ValueError(
                "MobileNetV2: inverted_residual_setting must be rows (expansion, channels, repetitions, stride), "
                f"got {inverted_residual_setting}"
            )
        inputs = rounded(32 * width_mult, round_nearest)
        self.last_channel = rounded(1280 * max(1.0, width_mult), round_nearest)
        layers: list[nn.Module] = [convolution(3, inputs, stride=2, norm_layer=norm_layer)]
        for expansion, channels, repetitions, stride in setting:
            outputs = rounded(channels * width_mult, round_nearest)
            for i in range(repetitions):
                layers.append(InvertedResidual(inputs, outputs, 1 if i else stride, expansion, norm_layer))
                inputs = outputs
        layers.append(convolution(inputs, self.last_channel, 1, norm_layer=norm_layer))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(self.last_channel, num_classes))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        initialise(self, linear="normal")

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, num_classes)."""
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


@register("mobilenet_v1", input_shape=(3, 224, 224), source="Howard et al. 2017, arXiv:1704.04861")
def mobilenet_v1(num_classes: int = 1000, width_mult: float = 1.0, dropout: float = 0.001) -> MobileNetV1:
    """MobileNet version 1, 4,231,976 parameters for 1000 classes; see `MobileNetV1`."""
    return MobileNetV1(num_classes, width_mult, dropout)


@register("mobilenet_v2", input_shape=(3, 224, 224), source="Sandler et al. 2018, arXiv:1801.04381")
def mobilenet_v2(
    num_classes: int = 1000,
    width_mult: float = 1.0,
    inverted_residual_setting: Sequence[Sequence[int]] | None = None,
    round_nearest: int = 8,
    norm_layer: Norm | None = None,
    dropout: float = 0.2,
) -> MobileNetV2:
    """MobileNet version 2, 3,504,872 parameters for 1000 classes; see `MobileNetV2`."""
    return MobileNetV2(num_classes, width_mult, inverted_residual_setting, round_nearest, norm_layer, dropout)
