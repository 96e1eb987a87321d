"""Convolution layers. Weights and biases start uniform on +-1/sqrt(fan_in), fan_in = in_channels / groups * prod(kernel_size)."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from .._tensor import Tensor
from ..creation import empty
from . import functional as F
from . import init
from .module import Module
from .parameter import Parameter

_PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


def as_tuple(name: str, value: Any, n: int) -> tuple[int, ...]:
    """`value` as n integers: one for all axes, or one each. ValueError or TypeError naming the argument otherwise."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * n
    if len(values) != n:
        raise ValueError(f"{name}: expected an integer or {n} of them, got {value!r}")
    if not all(hasattr(v, "__index__") for v in values):
        raise TypeError(f"{name}: expected an integer or {n} of them, got {value!r}")
    return tuple(int(v) for v in values)


class _ConvNd(Module):
    """What all convolution layers share: arguments, parameters and their text."""

    _axes: ClassVar[int]
    _transposed: ClassVar[bool] = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any,
        padding: Any,
        dilation: Any,
        output_padding: Any,
        groups: int,
        bias: bool,
        padding_mode: str,
        device: Any,
        dtype: Any,
    ) -> None:
        super().__init__()
        n, name = self._axes, type(self).__name__
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(
                f"{name}: in_channels={in_channels} and out_channels={out_channels} must both be divisible by groups={groups} > 0"
            )
        if padding_mode not in _PADDING_MODES:
            raise ValueError(f"{name}: padding_mode must be one of {', '.join(_PADDING_MODES)}, got {padding_mode!r}")
        if self._transposed and padding_mode != "zeros":
            raise ValueError(f"{name}: only padding_mode='zeros' is defined for a transposed convolution, got {padding_mode!r}")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = as_tuple(f"{name}: kernel_size", kernel_size, n)
        self.stride = as_tuple(f"{name}: stride", stride, n)
        self.dilation = as_tuple(f"{name}: dilation", dilation, n)
        self.output_padding = as_tuple(f"{name}: output_padding", output_padding, n)
        self.groups = groups
        self.padding_mode = padding_mode
        self.padding: Any = padding
        if isinstance(padding, str):
            if padding not in ("same", "valid"):
                raise ValueError(f"{name}: padding must be 'same', 'valid' or integers, got {padding!r}")
            if padding == "same" and any(s != 1 for s in self.stride):
                raise ValueError(f"{name}: padding='same' is defined for stride 1 only, got stride {self.stride}")
        else:
            self.padding = as_tuple(f"{name}: padding", padding, n)
        for argument in ("kernel_size", "stride", "dilation"):
            if any(v < 1 for v in getattr(self, argument)):
                raise ValueError(f"{name}: {argument} must be positive, got {getattr(self, argument)}")
        channels = (in_channels, out_channels // groups) if self._transposed else (out_channels, in_channels // groups)
        self.weight = Parameter(empty(*channels, *self.kernel_size, device=device, dtype=dtype))
        self.register_parameter("bias", Parameter(empty(out_channels, device=device, dtype=dtype)) if bias else None)
        self._reset_padding()
        self.reset_parameters()

    def _reset_padding(self) -> None:
        """The amounts for `pad`, last axis first, used when the padding is not zeros."""
        amounts: list[int] = []
        for i in reversed(range(self._axes)):
            if self.padding == "same":
                total = self.dilation[i] * (self.kernel_size[i] - 1)
                amounts += [total // 2, total - total // 2]
            else:
                amounts += [0, 0] if self.padding == "valid" else [self.padding[i]] * 2
        self._pad_amounts = tuple(amounts)

    def reset_parameters(self) -> None:
        """Draws the initial values again."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in, _ = init.calculate_fan_in_and_fan_out(self.weight)
            if fan_in:
                init.uniform_(self.bias, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))

    def _padded(self, input: Tensor) -> tuple[Tensor, Any]:
        """The input and the padding that is left to the operator."""
        if self.padding_mode == "zeros":
            return input, self.padding
        return F.pad(input, self._pad_amounts, mode=self.padding_mode), 0

    def extra_repr(self) -> str:
        """The settings that differ from their defaults."""
        n = self._axes
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        if self.padding != (0,) * n:
            text += f", padding={self.padding}"
        if self.dilation != (1,) * n:
            text += f", dilation={self.dilation}"
        if self.output_padding != (0,) * n:
            text += f", output_padding={self.output_padding}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        if self.padding_mode != "zeros":
            text += f", padding_mode={self.padding_mode}"
        return text


class _Convolution(_ConvNd):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, 0, groups, bias, padding_mode, device, dtype
        )


class Conv1d(_Convolution):
    """1-D convolution (cross-correlation): (N, C_in, L) -> (N, C_out, L_out); see `F.conv1d`.

    weight (C_out, C_in / groups, K), bias (C_out). padding may be 'same' or 'valid'; padding_mode: zeros, reflect, replicate, circular.
    """

    _axes = 1

    def forward(self, input: Tensor) -> Tensor:
        """(N, C_in, L) or (C_in, L)."""
        input, padding = self._padded(input)
        return F.conv1d(input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


class Conv2d(_Convolution):
    """2-D convolution (cross-correlation): (N, C_in, H, W) -> (N, C_out, H_out, W_out); see `F.conv2d`.

    weight (C_out, C_in / groups, KH, KW), bias (C_out). padding may be 'same' or 'valid'; padding_mode: zeros, reflect, replicate,
    circular.
    """

    _axes = 2

    def forward(self, input: Tensor) -> Tensor:
        """(N, C_in, H, W) or (C_in, H, W)."""
        input, padding = self._padded(input)
        return F.conv2d(input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


class Conv3d(_Convolution):
    """3-D convolution (cross-correlation): (N, C_in, D, H, W) -> (N, C_out, D_out, H_out, W_out); see `F.conv3d`.

    weight (C_out, C_in / groups, KD, KH, KW), bias (C_out). padding may be 'same' or 'valid'; padding_mode: zeros, reflect,
    replicate, circular.
    """

    _axes = 3

    def forward(self, input: Tensor) -> Tensor:
        """(N, C_in, D, H, W) or (C_in, D, H, W)."""
        input, padding = self._padded(input)
        return F.conv3d(input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


class _ConvTranspose(_ConvNd):
    _transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if isinstance(padding, str):
            raise ValueError(f"{type(self).__name__}: padding must be integers, got {padding!r}")
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            output_padding,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
        )

    def _output_padding(self, input: Tensor, output_size: Any) -> tuple[int, ...]:
        """The output padding that makes the output `output_size`. ValueError with the possible sizes if none does."""
        if output_size is None:
            return self.output_padding
        n = self._axes
        size = tuple(int(s) for s in output_size)[-n:]
        if len(output_size) not in (n, n + 1, n + 2):
            raise ValueError(f"{type(self).__name__}: output_size must have {n} sizes, got {tuple(output_size)}")
        least = [
            (input.shape[i - n] - 1) * self.stride[i] - 2 * self.padding[i] + self.dilation[i] * (self.kernel_size[i] - 1) + 1
            for i in range(n)
        ]
        most = [low + stride - 1 for low, stride in zip(least, self.stride, strict=True)]
        if any(not low <= s <= high for low, s, high in zip(least, size, most, strict=True)):
            raise ValueError(
                f"{type(self).__name__}: an input of shape {input.shape} gives output sizes from {least} to {most}, not {list(size)}"
            )
        return tuple(s - low for s, low in zip(size, least, strict=True))


class ConvTranspose1d(_ConvTranspose):
    """The transpose of `Conv1d` as a linear map: (N, C_in, L) -> (N, C_out, L_out); see `F.conv_transpose1d`.

    weight (C_in, C_out / groups, K), bias (C_out).
    """

    _axes = 1

    def forward(self, input: Tensor, output_size: Any = None) -> Tensor:
        """(N, C_in, L) or (C_in, L); `output_size` picks one of the sizes that a stride makes possible."""
        extra = self._output_padding(input, output_size)
        return F.conv_transpose1d(input, self.weight, self.bias, self.stride, self.padding, extra, self.groups, self.dilation)


class ConvTranspose2d(_ConvTranspose):
    """The transpose of `Conv2d` as a linear map: (N, C_in, H, W) -> (N, C_out, H_out, W_out); see `F.conv_transpose2d`.

    weight (C_in, C_out / groups, KH, KW), bias (C_out).
    """

    _axes = 2

    def forward(self, input: Tensor, output_size: Any = None) -> Tensor:
        """(N, C_in, H, W) or (C_in, H, W); `output_size` picks one of the sizes that a stride makes possible."""
        extra = self._output_padding(input, output_size)
        return F.conv_transpose2d(input, self.weight, self.bias, self.stride, self.padding, extra, self.groups, self.dilation)


class ConvTranspose3d(_ConvTranspose):
    """The transpose of `Conv3d` as a linear map: (N, C_in, D, H, W) -> (N, C_out, D_out, H_out, W_out); see `F.conv_transpose3d`.

    weight (C_in, C_out / groups, KD, KH, KW), bias (C_out).
    """

    _axes = 3

    def forward(self, input: Tensor, output_size: Any = None) -> Tensor:
        """(N, C_in, D, H, W) or (C_in, D, H, W); `output_size` picks one of the sizes that a stride makes possible."""
        extra = self._output_padding(input, output_size)
        return F.conv_transpose3d(input, self.weight, self.bias, self.stride, self.padding, extra, self.groups, self.dilation)
