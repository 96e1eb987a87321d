"""Random small networks of `tinygrad_cv.nn`, each with an input that it takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from .. import nn
from .._tensor import Tensor, wrap
from ..random import manual_seed

_SMOOTH = (nn.Tanh, nn.Sigmoid, nn.SiLU, nn.GELU, nn.Softplus)
_KINKED = (nn.ReLU, nn.LeakyReLU, nn.ELU)


class ModuleExample(NamedTuple):
    """A network and a batch for it: `module(input)` works."""

    module: nn.Module
    input: Tensor


class _Residual(nn.Module):
    """inner(x) + x."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) + x  # type: ignore[no-any-return]


def modules(
    *, kinds: Sequence[str] = ("features", "images"), most: int = 5, smooth: bool = False, dtype: Any = np.float64
) -> st.SearchStrategy[ModuleExample]:
    """Networks of 1 to `most` layers, in training mode, with seeded weights, and an input of `dtype` that requires grad.

    kinds: 'features' for inputs (N, F) through linear layers, norms, activations and residual blocks; 'images' for (N, C, H, W) through
    convolutions (strided, padded, dilated, in groups), pooling, norms and activations, in the end sometimes flattened into a linear
    layer. smooth: no layer with a kink and no max pooling, for second derivatives by finite differences. Shrinks to one linear layer.

    ValueError for an unknown kind or `most` < 1.
    """
    unknown = [k for k in kinds if k not in ("features", "images")]
    if unknown or not kinds or most < 1:
        raise ValueError(
            f"modules: kinds must be some of 'features', 'images' and most at least 1, got {list(kinds)} and {most}"
        )

    @st.composite
    def draw_module(draw: Any) -> ModuleExample:
        manual_seed(draw(st.integers(0, 99)))
        batch = draw(st.integers(2, 4))
        if draw(st.sampled_from(list(kinds))) == "features":
            shape: tuple[int, ...] = (draw(st.integers(2, 6)),)
            next_layer = _feature_layer
        else:
            shape = (draw(st.integers(1, 4)), draw(st.integers(3, 6)), draw(st.integers(3, 6)))
            next_layer = _image_layer
        start, layers = shape, []
        for _ in range(draw(st.integers(1, most))):
            layer, shape = next_layer(draw, shape, smooth)
            layers.append(layer)
        if len(shape) == 3 and draw(st.booleans()):
            layers += [nn.Flatten(), nn.Linear(int(np.prod(shape)), draw(st.integers(1, 4)))]
        module = nn.Sequential(*layers).to(dtype)
        rng = np.random.default_rng(draw(st.integers(0, 99)))
        return ModuleExample(module, wrap(rng.uniform(-2, 2, (batch, *start)).astype(dtype)).requires_grad_())

    return draw_module()


def _activation(draw: Any, smooth: bool) -> nn.Module:
    made: nn.Module = draw(st.sampled_from(_SMOOTH if smooth else (*_SMOOTH, *_KINKED)))()
    return made


def _feature_layer(draw: Any, shape: tuple[int, ...], smooth: bool) -> tuple[nn.Module, tuple[int, ...]]:
    (features,) = shape
    kind = draw(st.sampled_from(["linear", "activation", "layer norm", "batch norm", "residual"]))
    if kind == "activation":
        return _activation(draw, smooth), shape
    if kind == "layer norm":
        return nn.LayerNorm(features), shape
    if kind == "batch norm":
        return nn.BatchNorm1d(features), shape
    if kind == "residual":
        return _Residual(nn.Sequential(nn.Linear(features, features), _activation(draw, smooth))), shape
    width = draw(st.integers(1, 6))
    return nn.Linear(features, width, bias=draw(st.booleans())), (width,)


def _image_layer(draw: Any, shape: tuple[int, ...], smooth: bool) -> tuple[nn.Module, tuple[int, ...]]:
    channels, height, width = shape
    options = ["convolution", "activation", "batch norm", "group norm", "residual", "average pooling"]
    kind = draw(st.sampled_from(options if smooth else [*options, "max pooling"]))
    if kind == "activation":
        return _activation(draw, smooth), shape
    if kind == "batch norm":
        return nn.BatchNorm2d(channels), shape
    if kind == "group norm":
        return nn.GroupNorm(draw(_divisor(channels)), channels), shape
    if kind == "residual":
        inner = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), _activation(draw, smooth))
        return _Residual(inner), shape
    if kind in ("average pooling", "max pooling") and min(height, width) >= 2:
        stride = draw(st.integers(1, 2))
        pool = nn.AvgPool2d if kind == "average pooling" else nn.MaxPool2d
        return pool(2, stride=stride), (channels, (height - 2) // stride + 1, (width - 2) // stride + 1)
    return _convolution(draw, shape)


def _divisor(number: int) -> st.SearchStrategy[int]:
    return st.sampled_from([d for d in range(1, number + 1) if number % d == 0])


def _convolution(draw: Any, shape: tuple[int, ...]) -> tuple[nn.Module, tuple[int, ...]]:
    channels, height, width = shape
    size, stride, padding = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(0, 1))
    dilation, groups = draw(st.integers(1, 2)), draw(_divisor(channels))
    reach = dilation * (size - 1) + 1
    if min(height, width) + 2 * padding < reach:
        size = reach = 1
    after = groups * draw(st.integers(1, 2))
    layer = nn.Conv2d(channels, after, size, stride, padding, dilation, groups, bias=draw(st.booleans()))
    return layer, (after, *((s + 2 * padding - reach) // stride + 1 for s in (height, width)))


__all__ = ["ModuleExample", "modules"]
