"""Dropout layers: random zeros while training, nothing in evaluation. The masks come from `tinygrad_cv.random`."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from .._tensor import Tensor
from . import functional as F
from .module import Module


class _Dropout(Module):
    _function: ClassVar[str]

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"{type(self).__name__}: p must lie in [0, 1], got {p}")
        self.p = p
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """The input itself in evaluation mode."""
        if not self.training:
            return input
        function: Callable[..., Tensor] = getattr(F, self._function)
        return function(input, self.p, True, self.inplace)

    def extra_repr(self) -> str:
        """The settings."""
        return f"p={self.p}, inplace={self.inplace}"


class Dropout(_Dropout):
    """Each element becomes 0 with probability p; the rest is scaled by 1 / (1 - p). Srivastava et al., JMLR 2014."""

    _function = "dropout"


class Dropout1d(_Dropout):
    """Whole channels of (N, C, L) become 0 with probability p. Tompson et al., arXiv:1411.4280."""

    _function = "dropout1d"


class Dropout2d(_Dropout):
    """Whole channels of (N, C, H, W) become 0 with probability p. Tompson et al., arXiv:1411.4280."""

    _function = "dropout2d"


class Dropout3d(_Dropout):
    """Whole channels of (N, C, D, H, W) become 0 with probability p. Tompson et al., arXiv:1411.4280."""

    _function = "dropout3d"


class AlphaDropout(_Dropout):
    """Dropout that keeps mean 0 and variance 1, for SELU networks. Klambauer et al., arXiv:1706.02515."""

    _function = "alpha_dropout"


class FeatureAlphaDropout(_Dropout):
    """`AlphaDropout` of whole channels: (N, C, ...)."""

    _function = "feature_alpha_dropout"
