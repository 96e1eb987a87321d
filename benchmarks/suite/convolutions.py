"""Eight convolutions, from LeNet-5's to those of wide residual networks, each in three passes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .libraries import Context, has_jax, jax_call
from .timing import Call, Missing, contest


@dataclass(frozen=True)
class Shape:
    """(batch, inputs, size, size) -> (batch, outputs, ...) with a square kernel."""

    inputs: int
    outputs: int
    kernel: int
    size: int
    batch: int
    stride: int = 1
    padding: int = 0

    def __str__(self) -> str:
        text = f"{self.inputs}-{self.outputs} {self.kernel}x{self.kernel} @{self.size}"
        return text + (f" stride {self.stride}" if self.stride > 1 else "") + f", batch {self.batch}"

    @property
    def output(self) -> int:
        """Rows of the result."""
        return (self.size + 2 * self.padding - self.kernel) // self.stride + 1

    @property
    def flop(self) -> int:
        """Operations of the direct sum, in each of the passes."""
        return 2 * self.batch * self.outputs * self.output**2 * self.inputs * self.kernel**2


CASES = (
    Shape(64, 64, 3, 32, 32, padding=1),
    Shape(128, 128, 3, 16, 32, padding=1),
    Shape(256, 256, 3, 8, 32, padding=1),
    Shape(3, 64, 3, 32, 32, padding=1),
    Shape(1, 6, 5, 28, 64, padding=2),
    Shape(6, 16, 5, 14, 64),
    Shape(64, 256, 1, 56, 8),
    Shape(64, 128, 3, 32, 32, stride=2, padding=1),
)


def _ours(x: np.ndarray, w: np.ndarray, g: np.ndarray, shape: Shape) -> dict[str, Call]:
    import tinygrad_cv as tg

    image, weight, upstream = map(tg.from_numpy, (x, w, g))
    sizes, kernel, how = x.shape[2:], w.shape[2:], (shape.stride, shape.padding)
    return {
        "forward": lambda: tg.conv2d(image, weight, None, *how),
        "input gradient": lambda: tg.conv_input_grad(upstream, weight, sizes, *how),
        "weight gradient": lambda: tg.conv_weight_grad(upstream, image, kernel, *how),
    }


def _theirs(x: np.ndarray, w: np.ndarray, g: np.ndarray, shape: Shape, channels_last: bool = False) -> dict[str, Call]:
    import torch

    layout = torch.channels_last if channels_last else torch.contiguous_format
    image, weight, upstream = (torch.from_numpy(a).contiguous(memory_format=layout) for a in (x, w, g))
    how = (shape.stride,) * 2, (shape.padding,) * 2

    def backward(*wanted: bool) -> Any:
        results = torch.ops.aten.convolution_backward(
            upstream, image, weight, None, *how, (1, 1), False, (0, 0), 1, [*wanted, False]
        )
        return results[wanted.index(True)]

    return {
        "forward": lambda: torch.conv2d(image, weight, None, *how),
        "input gradient": lambda: backward(True, False),
        "weight gradient": lambda: backward(False, True),
    }


def _jax(x: np.ndarray, w: np.ndarray, g: np.ndarray, shape: Shape) -> dict[str, Call]:
    import jax

    strides, pads = (shape.stride,) * 2, [(shape.padding,) * 2] * 2

    def convolve(image: Any, weight: Any) -> Any:
        return jax.lax.conv_general_dilated(image, weight, strides, pads)

    return {
        "forward": jax_call(convolve, x, w),
        "input gradient": jax_call(lambda a, b, c: jax.vjp(lambda image: convolve(image, b), a)[1](c)[0], x, w, g),
        "weight gradient": jax_call(lambda a, b, c: jax.vjp(lambda weight: convolve(a, weight), b)[1](c)[0], x, w, g),
    }


def _with_larger_tiles(call: Call) -> Call:
    """The call with Winograd's F(4x4, 3x3) allowed; see `tinygrad_cv.set_conv_precision` for what it costs in accuracy."""
    import tinygrad_cv as tg

    def run() -> Any:
        with tg.set_conv_precision("medium"):
            return call()

    return run


def group(context: Context) -> Iterator[dict[str, Any]]:
    """Three rows for each shape. The share of peak counts the operations of the direct sum, so a Winograd kernel may pass 100 %."""
    rng = np.random.default_rng(0)
    for shape in CASES[3:6] if context.quick else CASES:
        x = rng.standard_normal((shape.batch, shape.inputs, shape.size, shape.size), np.float32)
        w = rng.standard_normal((shape.outputs, shape.inputs, shape.kernel, shape.kernel), np.float32)
        g = rng.standard_normal((shape.batch, shape.outputs, shape.output, shape.output), np.float32)
        ours, theirs, last = _ours(x, w, g, shape), _theirs(x, w, g, shape), _theirs(x, w, g, shape, channels_last=True)
        jax = _jax(x, w, g, shape) if has_jax() else {}
        for name in ours:
            entrants: dict[str, Call | Missing] = {"ours": ours[name]}
            if shape.kernel == 3 and shape.stride == 1:
                entrants["ours, F(4x4)"] = _with_larger_tiles(ours[name])
            entrants |= {"PyTorch": theirs[name], "PyTorch channels last": last[name]}
            entrants |= {"JAX": jax[name]} if jax else {}
            yield contest(f"{shape}: {name}", entrants, context.plan, tolerance=1e-3, flop=shape.flop)
