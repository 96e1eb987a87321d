"""Sliding windows: images cut into patches laid out as columns (im2col), columns added back into images (col2im)."""

from __future__ import annotations

import numpy as np

import tinygrad_cv as tg

from ..extend import Adjoint, Array, Batched, Linear, Op, call, op
from .shape import canonical_axis, unpacked


def pair(name: str, value, argument: str, low: int) -> tuple[int, int]:
    """An integer, or one for each of height and width, as two; ValueError below `low` or for another count."""
    values = unpacked(value if isinstance(value, (tuple, list)) else (value, value))
    if len(values) == 1:
        values *= 2
    if len(values) != 2 or min(values) < low:
        raise ValueError(f"{name}: {argument} must be one or two integers of at least {low}, got {value}")
    return values


def window_counts(name: str, size, kernel_size, dilation, padding, stride) -> tuple[int, ...]:
    """How many windows fit along each axis: floor((size + 2 padding - dilation (kernel_size - 1) - 1) / stride) + 1."""
    counts = []
    for n, k, d, p, s in zip(size, kernel_size, dilation, padding, stride, strict=True):
        if n + 2 * p < d * (k - 1) + 1:
            raise ValueError(
                f"{name}: a window of kernel_size {tuple(kernel_size)} and dilation {tuple(dilation)} is larger than the image "
                f"of size {tuple(size)} with padding {tuple(padding)}"
            )
        counts.append((n + 2 * p - d * (k - 1) - 1) // s + 1)
    return tuple(counts)


def _window_domain(draw):
    kernel, dilation = (draw.integer(1, 2), draw.integer(1, 3)), (draw.integer(1, 2), 1)
    padding, stride = (draw.integer(0, 1), draw.integer(0, 1)), (draw.integer(1, 2), draw.integer(1, 3))
    size = tuple(d * (k - 1) + 1 + draw.integer(0, 2) for k, d in zip(kernel, dilation, strict=True))
    return size, kernel, dilation, padding, stride


def _unfold_domain(draw):
    size, *window = _window_domain(draw)
    if draw.boolean():
        return call(draw.real((2, 3, 4)), 2, 1, draw.integer(0, 1), draw.integer(1, 2))
    lead = draw.choice([(2,), (1, 2), (2, 1)])
    return call(draw.real((*lead, *size)), *window)


@op(
    "unfold",
    domain=_unfold_domain,
    formula="out[n, (c, i, j), (y, x)] = input[n, c, y s + i d - p, x s + j d - p]",
    method=False,
    source="im2col: Chellapilla, Puri, Simard 2006, High performance convolutional neural networks for document processing",
    laws=(
        Linear("input"),
        Adjoint(
            "input",
            of="fold",
            by=lambda y, input, kernel_size, dilation, padding, stride: (
                y,
                input.shape[-2:],
                kernel_size,
                dilation,
                padding,
                stride,
            ),
        ),
        Batched("input", core=3, single=True),
    ),
)
class unfold(Op):
    """im2col: the windows of an image as columns. (N, C, H, W) -> (N, C * kh * kw, L), or without N for (C, H, W).

    Row c * kh * kw + i * kw + j holds element (i, j) of the window in channel c; the L columns run over the window positions
    row by row; `padding` zeros surround the image. Each argument is one integer or one for each of height and width.
    A convolution is weight.reshape(C_out, -1) @ unfold(input). ValueError if a window does not fit.
    """

    def prepare(input, kernel_size, dilation=1, padding=0, stride=1):
        if input.ndim not in (3, 4):
            raise ValueError(f"unfold: expected an image of shape (N, C, H, W) or (C, H, W), got {input.shape}")
        if 0 in input.shape[-3:]:
            raise ValueError(f"unfold: only the batch axis may be empty, got an image of shape {input.shape}")
        kernel_size, dilation = pair("unfold", kernel_size, "kernel_size", 1), pair("unfold", dilation, "dilation", 1)
        padding, stride = pair("unfold", padding, "padding", 0), pair("unfold", stride, "stride", 1)
        window_counts("unfold", input.shape[-2:], kernel_size, dilation, padding, stride)
        return input, kernel_size, dilation, padding, stride

    def reference(input: Array, kernel_size, dilation=1, padding=0, stride=1) -> np.ndarray:
        lead, size = input.shape[:-2], input.shape[-2:]
        (kh, kw), (dh, dw), (ph, pw), (sh, sw) = kernel_size, dilation, padding, stride
        rows, columns = window_counts("unfold", size, kernel_size, dilation, padding, stride)
        padded = np.zeros((*lead, size[0] + 2 * ph, size[1] + 2 * pw), input.dtype)
        padded[..., ph : ph + size[0], pw : pw + size[1]] = input
        out = np.empty((*lead, kh, kw, rows, columns), input.dtype)
        for i in range(kh):
            for j in range(kw):
                top, left = i * dh, j * dw
                out[..., i, j, :, :] = padded[
                    ..., top : top + sh * (rows - 1) + 1 : sh, left : left + sw * (columns - 1) + 1 : sw
                ]
        return out.reshape((*lead[:-1], lead[-1] * kh * kw, rows * columns))

    def grad_input(upstream, ctx, kernel_size, dilation, padding, stride):
        return tg.fold(upstream, ctx.input_shapes[0][-2:], kernel_size, dilation, padding, stride)


def _fold_domain(draw):
    size, kernel, *rest = _window_domain(draw)
    counts = window_counts("fold", size, kernel, *rest)
    lead = draw.choice([(), (2,)])
    return call(draw.real((*lead, 2 * kernel[0] * kernel[1], counts[0] * counts[1])), size, kernel, *rest)


@op(
    "fold",
    domain=_fold_domain,
    formula="out[n, c, y s + i d - p, x s + j d - p] += input[n, (c, i, j), (y, x)]",
    method=False,
    laws=(
        Linear("input"),
        Adjoint(
            "input",
            of="unfold",
            by=lambda y, kernel_size, dilation, padding, stride: (y, kernel_size, dilation, padding, stride),
        ),
        Batched("input", core=2, single=True),
    ),
)
class fold(Op):
    """col2im: columns added back where `unfold` took them from, its adjoint. (N, C * kh * kw, L) -> (N, C, H, W), or without N.

    output_size: (H, W) of the result; the other arguments as in `unfold`. Overlapping windows add up.
    ValueError if the rows are no multiple of kh * kw or L is not the number of windows.
    """

    def prepare(input, output_size, kernel_size, dilation=1, padding=0, stride=1):
        if input.ndim not in (2, 3):
            raise ValueError(f"fold: expected columns of shape (N, C * kh * kw, L) or (C * kh * kw, L), got {input.shape}")
        output_size, kernel_size = pair("fold", output_size, "output_size", 1), pair("fold", kernel_size, "kernel_size", 1)
        dilation, padding = pair("fold", dilation, "dilation", 1), pair("fold", padding, "padding", 0)
        stride = pair("fold", stride, "stride", 1)
        rows, columns = window_counts("fold", output_size, kernel_size, dilation, padding, stride)
        if input.shape[-2] % (kernel_size[0] * kernel_size[1]):
            raise ValueError(f"fold: axis -2 of shape {input.shape} is no multiple of {kernel_size[0]} * {kernel_size[1]}")
        if input.shape[-1] != rows * columns:
            raise ValueError(
                f"fold: axis -1 of shape {input.shape} must be {rows} * {columns}, the windows in an image of {output_size}"
            )
        return input, output_size, kernel_size, dilation, padding, stride

    def reference(input: Array, output_size, kernel_size, dilation=1, padding=0, stride=1) -> np.ndarray:
        (kh, kw), (dh, dw), (ph, pw), (sh, sw) = kernel_size, dilation, padding, stride
        height, width = output_size
        rows, columns = window_counts("fold", output_size, kernel_size, dilation, padding, stride)
        lead = (*input.shape[:-2], input.shape[-2] // (kh * kw))
        windows = input.reshape((*lead, kh, kw, rows, columns))
        padded = np.zeros((*lead, height + 2 * ph, width + 2 * pw), input.dtype)
        for i in range(kh):
            for j in range(kw):
                top, left = i * dh, j * dw
                padded[..., top : top + sh * (rows - 1) + 1 : sh, left : left + sw * (columns - 1) + 1 : sw] += windows[
                    ..., i, j, :, :
                ]
        return np.ascontiguousarray(padded[..., ph : ph + height, pw : pw + width])

    def grad_input(upstream, kernel_size, dilation, padding, stride):
        return tg.unfold(upstream, kernel_size, dilation, padding, stride)


def _sliding_domain(draw):
    shape = draw.shape((1, 3), 2, 5)
    dim = draw.integer(0, len(shape) - 1)
    return call(draw.real(shape), draw.choice([dim, dim - len(shape)]), draw.integer(1, shape[dim]), draw.integer(1, 3))


@op(
    "sliding_windows",
    domain=_sliding_domain,
    formula="out[..., i, ..., k] = input[..., i step + k, ...]",
    internal=True,
    laws=(
        Linear("input"),
        Adjoint(
            "input",
            of="sliding_windows_backward",
            by=lambda y, input, dimension, step: (y, input.shape, dimension % input.ndim, step),
        ),
    ),
)
class sliding_windows(Op):
    """A view of all windows of `size` elements along axis `dimension`, `step` apart; their elements lie on a new last axis.

    The public face is `Tensor.unfold(dimension, size, step)`. Axis `dimension` becomes (n - size) // step + 1. Writing to it
    raises RuntimeError where windows overlap (step < size). ValueError if size is larger than the axis.
    """

    view = True

    def prepare(input, dimension, size, step):
        if not input.ndim:
            raise ValueError("unfold: a 0-d tensor has no axis to slide along")
        axis = canonical_axis("unfold", dimension, input.ndim, "dimension")
        size, step = unpacked((size, step))
        if not 0 <= size <= input.shape[axis]:
            raise ValueError(f"unfold: size {size} does not fit axis {axis} of size {input.shape[axis]} in shape {input.shape}")
        if step < 1:
            raise ValueError(f"unfold: step must be at least 1, got {step}")
        return input, axis, size, step

    def reference(input: Array, dimension: int, size: int, step: int) -> np.ndarray:
        writable = input.flags.writeable and step >= size
        windows = np.lib.stride_tricks.sliding_window_view(input, size, dimension, writeable=writable)
        return windows[(slice(None),) * dimension + (slice(None, None, step),)]

    def grad_input(upstream, ctx, dimension, size, step):
        return tg.sliding_windows_backward(upstream, ctx.input_shapes[0], dimension, step)


def _sliding_backward_domain(draw):
    n, size, step = draw.integer(3, 5), draw.integer(1, 3), draw.integer(1, 3)
    return call(draw.real((2, (n - size) // step + 1, size)), (2, n), 1, step)


@op(
    "sliding_windows_backward",
    domain=_sliding_backward_domain,
    formula="out[..., i step + k, ...] += input[..., i, ..., k]",
    method=False,
    internal=True,
)
class sliding_windows_backward(Op):
    """The adjoint of `sliding_windows`: windows added back along axis `dimension` of a tensor of `shape`."""

    def reference(input: Array, shape: tuple[int, ...], dimension: int, step: int) -> np.ndarray:
        out = np.zeros(shape, input.dtype)
        last = step * (input.shape[dimension] - 1) + 1
        for k in range(input.shape[-1]):
            out[(slice(None),) * dimension + (slice(k, k + last, step),)] += input[..., k]
        return out

    def grad_input(upstream, ctx, dimension, step):
        return upstream.sliding_windows(dimension, ctx.input_shapes[0][-1], step)
