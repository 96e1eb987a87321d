"""Padding layers. `padding`: one amount for every side, or (left, right, top, bottom, front, back) as far as there are axes.

Negative amounts crop, where the mode allows them.
"""

from __future__ import annotations

from typing import Any, ClassVar

from .._tensor import Tensor
from . import functional as F
from .conv import as_tuple
from .module import Module


class _Pad(Module):
    _axes: ClassVar[int]
    _mode: ClassVar[str] = "constant"
    value: float

    def __init__(self, padding: Any) -> None:
        super().__init__()
        self.padding = as_tuple(f"{type(self).__name__}: padding", padding, 2 * self._axes)

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, ...) or (C, ...), larger by the padding along its last axes."""
        if self._mode == "constant":
            return F.pad(input, self.padding, "constant", self.value)
        return F.pad(input, self.padding, self._mode)

    def extra_repr(self) -> str:
        """The amounts."""
        return f"{self.padding}"


class _ConstantPad(_Pad):
    def __init__(self, padding: Any, value: float) -> None:
        super().__init__(padding)
        self.value = value

    def extra_repr(self) -> str:
        """The amounts and the value."""
        return f"padding={self.padding}, value={self.value}"


class ConstantPad1d(_ConstantPad):
    """`value` added at both ends of L: (N, C, L) or (C, L)."""

    _axes = 1


class ConstantPad2d(_ConstantPad):
    """`value` added round (H, W): (N, C, H, W) or (C, H, W)."""

    _axes = 2


class ConstantPad3d(_ConstantPad):
    """`value` added round (D, H, W): (N, C, D, H, W) or (C, D, H, W)."""

    _axes = 3


class _ZeroPad(_Pad):
    value = 0.0


class ZeroPad1d(_ZeroPad):
    """Zeros added at both ends of L: (N, C, L) or (C, L)."""

    _axes = 1


class ZeroPad2d(_ZeroPad):
    """Zeros added round (H, W): (N, C, H, W) or (C, H, W)."""

    _axes = 2


class ZeroPad3d(_ZeroPad):
    """Zeros added round (D, H, W): (N, C, D, H, W) or (C, D, H, W)."""

    _axes = 3


class ReflectionPad1d(_Pad):
    """Mirrored at the border elements, which are not repeated: (N, C, L) or (C, L)."""

    _axes, _mode = 1, "reflect"


class ReflectionPad2d(_Pad):
    """Mirrored at the border elements, which are not repeated: (N, C, H, W) or (C, H, W)."""

    _axes, _mode = 2, "reflect"


class ReflectionPad3d(_Pad):
    """Mirrored at the border elements, which are not repeated: (N, C, D, H, W) or (C, D, H, W)."""

    _axes, _mode = 3, "reflect"


class ReplicationPad1d(_Pad):
    """Filled with the nearest element: (N, C, L) or (C, L)."""

    _axes, _mode = 1, "replicate"


class ReplicationPad2d(_Pad):
    """Filled with the nearest element: (N, C, H, W) or (C, H, W)."""

    _axes, _mode = 2, "replicate"


class ReplicationPad3d(_Pad):
    """Filled with the nearest element: (N, C, D, H, W) or (C, D, H, W)."""

    _axes, _mode = 3, "replicate"


class CircularPad1d(_Pad):
    """Continued from the opposite end: (N, C, L) or (C, L)."""

    _axes, _mode = 1, "circular"


class CircularPad2d(_Pad):
    """Continued from the opposite end: (N, C, H, W) or (C, H, W)."""

    _axes, _mode = 2, "circular"


class CircularPad3d(_Pad):
    """Continued from the opposite end: (N, C, D, H, W) or (C, D, H, W)."""

    _axes, _mode = 3, "circular"
