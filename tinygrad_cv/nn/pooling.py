"""Pooling layers. Every one computes its function of the same name, where shapes, formulas and tie rules are described."""

from __future__ import annotations

from typing import Any, ClassVar

from .._tensor import Tensor
from . import functional as F
from .conv import as_tuple
from .module import Module


class _Pool(Module):
    """Keeps the settings and shows them."""

    _shown: ClassVar[tuple[str, ...]] = ()

    def extra_repr(self) -> str:
        """The settings."""
        return ", ".join(f"{name}={getattr(self, name)}" for name in self._shown)


class _MaxPool(_Pool):
    _shown = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.dilation = dilation
        self.return_indices = return_indices
        self.ceil_mode = ceil_mode

    def _pool(self, function: Any, input: Tensor) -> Any:
        return function(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            ceil_mode=self.ceil_mode,
            return_indices=self.return_indices,
        )


class MaxPool1d(_MaxPool):
    """The largest element of every window: (N, C, L) -> (N, C, L_out); with `return_indices` also where it was."""

    def forward(self, input: Tensor) -> Any:
        """(N, C, L) or (C, L)."""
        return self._pool(F.max_pool1d, input)


class MaxPool2d(_MaxPool):
    """The largest element of every window: (N, C, H, W) -> (N, C, H_out, W_out); with `return_indices` also where it was."""

    def forward(self, input: Tensor) -> Any:
        """(N, C, H, W) or (C, H, W)."""
        return self._pool(F.max_pool2d, input)


class MaxPool3d(_MaxPool):
    """The largest element of every window: (N, C, D, H, W) -> (N, C, D_out, H_out, W_out); with `return_indices` also where."""

    def forward(self, input: Tensor) -> Any:
        """(N, C, D, H, W) or (C, D, H, W)."""
        return self._pool(F.max_pool3d, input)


class _MaxUnpool(_Pool):
    _shown = ("kernel_size", "stride", "padding")

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding


class MaxUnpool1d(_MaxUnpool):
    """Puts the values of a `MaxPool1d` back where its indices say, and zeros elsewhere."""

    def forward(self, input: Tensor, indices: Tensor, output_size: Any = None) -> Tensor:
        """(N, C, L) and indices of that shape."""
        return F.max_unpool1d(input, indices, self.kernel_size, self.stride, self.padding, output_size)


class MaxUnpool2d(_MaxUnpool):
    """Puts the values of a `MaxPool2d` back where its indices say, and zeros elsewhere."""

    def forward(self, input: Tensor, indices: Tensor, output_size: Any = None) -> Tensor:
        """(N, C, H, W) and indices of that shape."""
        return F.max_unpool2d(input, indices, self.kernel_size, self.stride, self.padding, output_size)


class MaxUnpool3d(_MaxUnpool):
    """Puts the values of a `MaxPool3d` back where its indices say, and zeros elsewhere."""

    def forward(self, input: Tensor, indices: Tensor, output_size: Any = None) -> Tensor:
        """(N, C, D, H, W) and indices of that shape."""
        return F.max_unpool3d(input, indices, self.kernel_size, self.stride, self.padding, output_size)


class AvgPool1d(_Pool):
    """The mean of every window: (N, C, L) -> (N, C, L_out)."""

    _shown = ("kernel_size", "stride", "padding")

    def __init__(
        self, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False, count_include_pad: bool = True
    ) -> None:
        super().__init__()
        self.kernel_size = as_tuple("AvgPool1d: kernel_size", kernel_size, 1)
        self.stride = self.kernel_size if stride is None else as_tuple("AvgPool1d: stride", stride, 1)
        self.padding = as_tuple("AvgPool1d: padding", padding, 1)
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, L) or (C, L)."""
        return F.avg_pool1d(input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)


class _AvgPool(_Pool):
    _shown = ("kernel_size", "stride", "padding")

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad
        self.divisor_override = divisor_override

    def _pool(self, function: Any, input: Tensor) -> Tensor:
        pooled: Tensor = function(
            input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad, self.divisor_override
        )
        return pooled


class AvgPool2d(_AvgPool):
    """The mean of every window: (N, C, H, W) -> (N, C, H_out, W_out)."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) or (C, H, W)."""
        return self._pool(F.avg_pool2d, input)


class AvgPool3d(_AvgPool):
    """The mean of every window: (N, C, D, H, W) -> (N, C, D_out, H_out, W_out)."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, D, H, W) or (C, D, H, W)."""
        return self._pool(F.avg_pool3d, input)


class _LPPool(_Pool):
    _shown = ("norm_type", "kernel_size", "stride", "ceil_mode")

    def __init__(self, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> None:
        super().__init__()
        self.norm_type = norm_type
        self.kernel_size = kernel_size
        self.stride = stride
        self.ceil_mode = ceil_mode


class LPPool1d(_LPPool):
    """The p-norm of every window, (sum x^p)^(1/p): (N, C, L) -> (N, C, L_out)."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, L) or (C, L)."""
        return F.lp_pool1d(input, float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode)


class LPPool2d(_LPPool):
    """The p-norm of every window, (sum x^p)^(1/p): (N, C, H, W) -> (N, C, H_out, W_out)."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) or (C, H, W)."""
        return F.lp_pool2d(input, float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode)


class LPPool3d(_LPPool):
    """The p-norm of every window, (sum x^p)^(1/p): (N, C, D, H, W) -> (N, C, D_out, H_out, W_out)."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, D, H, W) or (C, D, H, W)."""
        return F.lp_pool3d(input, float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode)


class _AdaptiveMaxPool(_Pool):
    _shown = ("output_size",)

    def __init__(self, output_size: Any, return_indices: bool = False) -> None:
        super().__init__()
        self.output_size = output_size
        self.return_indices = return_indices


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """The largest elements of `output_size` nearly equal parts: (N, C, L) -> (N, C, L_out)."""

    def forward(self, input: Tensor) -> Any:
        """(N, C, L) or (C, L)."""
        return F.adaptive_max_pool1d(input, self.output_size, self.return_indices)


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """The largest elements of `output_size` nearly equal parts of each axis: (N, C, H, W) -> (N, C, H_out, W_out)."""

    def forward(self, input: Tensor) -> Any:
        """(N, C, H, W) or (C, H, W)."""
        return F.adaptive_max_pool2d(input, self.output_size, self.return_indices)


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """The largest elements of `output_size` nearly equal parts of each axis: (N, C, D, H, W) -> (N, C, D_out, H_out, W_out)."""

    def forward(self, input: Tensor) -> Any:
        """(N, C, D, H, W) or (C, D, H, W)."""
        return F.adaptive_max_pool3d(input, self.output_size, self.return_indices)


class _AdaptiveAvgPool(_Pool):
    _shown = ("output_size",)

    def __init__(self, output_size: Any) -> None:
        super().__init__()
        self.output_size = output_size


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """The means of `output_size` nearly equal parts: (N, C, L) -> (N, C, L_out)."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, L) or (C, L)."""
        return F.adaptive_avg_pool1d(input, self.output_size)


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """The means of `output_size` nearly equal parts of each axis: (N, C, H, W) -> (N, C, H_out, W_out)."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) or (C, H, W)."""
        return F.adaptive_avg_pool2d(input, self.output_size)


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """The means of `output_size` nearly equal parts of each axis: (N, C, D, H, W) -> (N, C, D_out, H_out, W_out)."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, D, H, W) or (C, D, H, W)."""
        return F.adaptive_avg_pool3d(input, self.output_size)


class _FractionalMaxPool(_Pool):
    """What FractionalMaxPool2d and FractionalMaxPool3d share: everything but the function."""

    _shown = ("kernel_size", "output_size", "output_ratio")

    def __init__(
        self,
        kernel_size: Any,
        output_size: Any = None,
        output_ratio: Any = None,
        return_indices: bool = False,
        _random_samples: Tensor | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if (output_size is None) == (output_ratio is None):
            raise ValueError(f"{name}: give exactly one of output_size and output_ratio")
        if output_ratio is not None:
            ratios = output_ratio if isinstance(output_ratio, tuple) else (output_ratio,)
            if not all(0 < r < 1 for r in ratios):
                raise ValueError(f"{name}: output_ratio must lie between 0 and 1, got {output_ratio}")
        self.kernel_size = kernel_size
        self.output_size = output_size
        self.output_ratio = output_ratio
        self.return_indices = return_indices
        self.register_buffer("_random_samples", _random_samples, persistent=False)


class FractionalMaxPool2d(_FractionalMaxPool):
    """Max pooling over regions of random sizes that average a fractional stride. Graham, arXiv:1412.6071.

    Give either `output_size` or `output_ratio`. Each call draws new regions unless `_random_samples` (N, C, 2) fixes them.
    """

    def forward(self, input: Tensor) -> Any:
        """(N, C, H, W) or (C, H, W)."""
        return F.fractional_max_pool2d(
            input, self.kernel_size, self.output_size, self.output_ratio, self.return_indices, self._random_samples
        )


class FractionalMaxPool3d(_FractionalMaxPool):
    """Max pooling over regions of random sizes that average a fractional stride. Graham, arXiv:1412.6071.

    Give either `output_size` or `output_ratio`. Each call draws new regions unless `_random_samples` (N, C, 3) fixes them.
    """

    def forward(self, input: Tensor) -> Any:
        """(N, C, D, H, W) or (C, D, H, W)."""
        return F.fractional_max_pool3d(
            input, self.kernel_size, self.output_size, self.output_ratio, self.return_indices, self._random_samples
        )
