"""Normalisation by mean and variance: over a batch, a layer, groups of channels or single images; and by lengths.

The operators of `standardization` do the work of the first four; here are PyTorch's functions, with their checks and running
statistics.
"""

from __future__ import annotations

import math

import numpy as np

import tinygrad_cv as tg

from ..dispatch import check_writable, finish_inplace
from ..extend import Array, Composite, Homogeneous, Idempotent, Tensor, call, no_grad, op
from ..replay import replayable
from .linear import same_dtype
from .standardization import affine_values, batch_case, batch_layout, group_case, layer_case


def _check_affine(name: str, shape: tuple[int, ...], **tensors) -> None:
    for label, t in tensors.items():
        if t is not None and t.shape != shape:
            raise ValueError(f"{name}: {label} must have shape {shape}, got {t.shape}")


def _check_channels(name: str, input: Tensor, least: int, **tensors) -> None:
    given = {k: t for k, t in tensors.items() if t is not None}
    for label, t in {"input": input, **given}.items():
        if not isinstance(t, Tensor):
            raise TypeError(f"{name}: expected a Tensor for `{label}`, got {type(t).__name__}")
    if input.dtype.kind != "f":
        raise TypeError(f"{name}: expected a floating tensor, got {input.dtype}; use .float()")
    if input.ndim < least:
        raise ValueError(f"{name}: input must have shape (N, C{', ...' if least == 2 else ', L, ...'}), got {input.shape}")
    same_dtype(name, input=input, **given)
    _check_affine(name, (input.shape[1],), **given)


@replayable(local=True)
def _update(buffer: Tensor | None, value: Tensor, momentum: float, factor: float = 1.0) -> None:
    """buffer <- (1 - momentum) buffer + momentum factor value, in place and outside the graph."""
    if buffer is not None:
        updated = buffer._data * (1 - momentum) + value._data * factor * momentum
        with no_grad():
            check_writable("batch_norm: running statistics", buffer)
            finish_inplace(buffer, buffer.detach(), updated.astype(buffer.dtype, copy=False))


def _batch_norm_domain(draw):
    shape = batch_case(draw)
    training = draw.boolean()
    running = (None, None) if training else (draw.real((shape[1],)), draw.real((shape[1],), 0.5, 2.0))
    return call(draw.real(shape), *running, *affine_values(draw, (shape[1],)), training, eps=0.1)


@op(
    "batch_norm",
    domain=_batch_norm_domain,
    formula="(input - mean) / sqrt(variance + eps) * weight + bias, per channel",
    source="arXiv:1502.03167",
    tolerance=1e-4,
    method=False,
)
class batch_norm(Composite):
    """Normalises each channel of (N, C, ...): with the statistics of the batch in training, else with the running ones.

    running_mean, running_var: (C), in training also None. weight, bias: (C) or None. In training the running
    statistics move in place by `momentum` towards the batch's mean and unbiased variance. eps: added to the variance.

    ValueError for shapes that do not fit, or for a single value for each channel in training, whose variance is not defined.
    """

    nondiff = ("running_mean", "running_var")
    mutates = ("running_mean", "running_var")

    def prepare(input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
        _check_channels("batch_norm", input, 2, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
        if not training and (running_mean is None or running_var is None):
            raise ValueError("batch_norm: running_mean and running_var must be given unless training=True")
        if training and math.prod(input.shape) == input.shape[1]:
            raise ValueError(
                f"batch_norm: expected more than one value for each channel when training, got input of shape {input.shape}"
            )
        return input, running_mean, running_var, weight, bias, bool(training), float(momentum), float(eps)

    def reference(
        input: Array, running_mean: Array | None, running_var: Array | None, weight: Array | None = None, bias: Array | None = None,
        training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
    ):  # fmt: skip
        shape = tuple(-1 if i == 1 else 1 for i in range(input.ndim))
        over = tuple(i for i in range(input.ndim) if i != 1)
        mean = input.mean(over, dtype=np.float64) if training else running_mean
        variance = input.var(over, dtype=np.float64) if training else running_var
        out = (input - mean.reshape(shape)) / np.sqrt(variance.reshape(shape) + eps)
        out = out if weight is None else out * weight.reshape(shape)
        out = out if bias is None else out + bias.reshape(shape)
        return out.astype(input.dtype)

    def compose(input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
        if training:
            out, mean, variance = tg.batch_norm_with_statistics(input, weight, bias, eps)
            count = input.numel() // max(input.shape[1], 1)
            _update(running_mean, mean, momentum)
            _update(running_var, variance, momentum, count / max(count - 1, 1))
            return out
        dtype = input.dtype
        if dtype == np.float16:
            wide = [None if t is None else t.float() for t in (input, running_mean, running_var, weight, bias)]
            input, running_mean, running_var, weight, bias = wide
        # Copies: a graph that reads the running statistics themselves would keep the next training step from updating them.
        running_mean, running_var = running_mean.clone(), running_var.clone()
        scale = (running_var + eps) ** -0.5
        if weight is not None:
            scale = scale * weight
        shift = -running_mean * scale if bias is None else bias - running_mean * scale
        shape = batch_layout(input.shape).per_weight
        return tg.addcmul(shift.reshape(shape), input, scale.reshape(shape)).to(dtype)


def _layer_norm_domain(draw):
    shape, axes = layer_case(draw)
    return call(draw.real(shape), shape[len(shape) - axes :], *affine_values(draw, shape[len(shape) - axes :]), 0.1)


@op(
    "layer_norm",
    domain=_layer_norm_domain,
    formula="(input - mean) / sqrt(variance + eps) * weight + bias, over the axes of normalized_shape",
    source="arXiv:1607.06450",
    tolerance=1e-4,
    method=False,
)
class layer_norm(Composite):
    """Normalises over the last axes of `input`, whose sizes `normalized_shape` repeats; each leading position for itself.

    input: (..., *normalized_shape). weight, bias: of shape normalized_shape, or None. ValueError for shapes that do not fit.
    """

    def prepare(input, normalized_shape, weight=None, bias=None, eps=1e-5):
        shape = _normalized_shape("layer_norm", input, normalized_shape)
        same_dtype("layer_norm", input=input, weight=weight, bias=bias)
        _check_affine("layer_norm", shape, weight=weight, bias=bias)
        return input, shape, weight, bias, float(eps)

    def reference(
        input: Array,
        normalized_shape: tuple[int, ...],
        weight: Array | None = None,
        bias: Array | None = None,
        eps: float = 1e-5,
    ):
        over = tuple(range(-len(normalized_shape), 0))
        x = input.astype(np.float64)
        out = (x - x.mean(over, keepdims=True)) / np.sqrt(x.var(over, keepdims=True) + eps)
        return (out * (1 if weight is None else weight) + (0 if bias is None else bias)).astype(input.dtype)

    def compose(input, normalized_shape, weight=None, bias=None, eps=1e-5):
        return tg.layer_norm_with_statistics(input, weight, bias, len(normalized_shape), eps).out


def _normalized_shape(name: str, input, normalized_shape) -> tuple[int, ...]:
    if not isinstance(input, Tensor) or input.dtype.kind != "f":
        raise TypeError(
            f"{name}: expected a floating Tensor, got {input.dtype if isinstance(input, Tensor) else type(input).__name__}"
        )
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if not shape or input.shape[max(input.ndim - len(shape), 0) :] != shape:
        raise ValueError(f"{name}: normalized_shape {shape} must be the last sizes of the input, whose shape is {input.shape}")
    return shape


def _rms_norm_domain(draw):
    shape, axes = layer_case(draw)
    return call(
        draw.real(shape),
        shape[len(shape) - axes :],
        affine_values(draw, shape[len(shape) - axes :])[0],
        draw.choice([0.1, 0.01]),
    )


@op(
    "rms_norm",
    domain=_rms_norm_domain,
    formula="input / sqrt(mean(input^2) + eps) * weight",
    source="arXiv:1910.07467",
    tolerance=1e-4,
    method=False,
)
class rms_norm(Composite):
    """Divides by the root of the mean square over the last axes, whose sizes `normalized_shape` repeats.

    input: (..., *normalized_shape). weight: of shape normalized_shape, or None. eps None: the dtype's machine epsilon.
    """

    def prepare(input, normalized_shape, weight=None, eps=None):
        shape = _normalized_shape("rms_norm", input, normalized_shape)
        same_dtype("rms_norm", input=input, weight=weight)
        _check_affine("rms_norm", shape, weight=weight)
        return input, shape, weight, float(np.finfo(input.dtype).eps) if eps is None else float(eps)

    def reference(input: Array, normalized_shape: tuple[int, ...], weight: Array | None = None, eps: float | None = None):
        over = tuple(range(-len(normalized_shape), 0))
        out = input / np.sqrt(np.square(input.astype(np.float64)).mean(over, keepdims=True) + eps)
        return (out if weight is None else out * weight).astype(input.dtype)

    def compose(input, normalized_shape, weight=None, eps=None):
        over = tuple(range(-len(normalized_shape), 0))
        wide = input.float() if input.dtype == np.float16 else input
        out = wide * ((wide * wide).mean(over, keepdim=True) + eps) ** -0.5
        out = out if weight is None else out * weight.to(out.dtype)
        return out.to(input.dtype)


def _group_norm_domain(draw):
    shape, groups = group_case(draw)
    return call(draw.real(shape), groups, *affine_values(draw, (shape[1],)), 0.1)


@op(
    "group_norm",
    domain=_group_norm_domain,
    formula="(input - mean) / sqrt(variance + eps) * weight + bias, over each image's groups of channels",
    source="arXiv:1803.08494",
    tolerance=1e-4,
    method=False,
)
class group_norm(Composite):
    """Normalises each image of (N, C, ...) over each of `num_groups` equal groups of its channels. weight, bias: (C) or None.

    ValueError if num_groups does not divide C, or if a group has a single value.
    """

    def prepare(input, num_groups, weight=None, bias=None, eps=1e-5):
        _check_channels("group_norm", input, 2, weight=weight, bias=bias)
        if num_groups < 1 or input.shape[1] % num_groups:
            raise ValueError(
                f"group_norm: num_groups={num_groups} must divide the {input.shape[1]} channels of input {input.shape}"
            )
        if math.prod(input.shape) == input.shape[0] * num_groups and input.shape[0] == 1:
            raise ValueError(f"group_norm: expected more than one value for each group, got input of shape {input.shape}")
        return input, int(num_groups), weight, bias, float(eps)

    def reference(input: Array, num_groups: int, weight: Array | None = None, bias: Array | None = None, eps: float = 1e-5):
        parts = np.split(input.astype(np.float64), num_groups, axis=1)
        over = tuple(range(1, input.ndim))
        out = np.concatenate(
            [(p - p.mean(over, keepdims=True)) / np.sqrt(p.var(over, keepdims=True) + eps) for p in parts], axis=1
        )
        shape = tuple(-1 if i == 1 else 1 for i in range(input.ndim))
        out = out if weight is None else out * weight.reshape(shape)
        return (out if bias is None else out + bias.reshape(shape)).astype(input.dtype)

    def compose(input, num_groups, weight=None, bias=None, eps=1e-5):
        return tg.group_norm_with_statistics(input, weight, bias, num_groups, eps).out


def _instance_norm_domain(draw):
    shape = draw.choice([(2, 3, 4), (1, 2, 2, 3), (2, 1, 3)])
    use_input_stats = draw.boolean()
    running = (None, None) if use_input_stats else (draw.real((shape[1],)), draw.real((shape[1],), 0.5, 2.0))
    return call(draw.real(shape), *running, *affine_values(draw, (shape[1],)), use_input_stats, eps=0.1)


@op(
    "instance_norm",
    domain=_instance_norm_domain,
    formula="(input - mean) / sqrt(variance + eps) * weight + bias, per image and channel",
    source="arXiv:1607.08022",
    tolerance=1e-4,
    method=False,
)
class instance_norm(Composite):
    """Normalises each channel of each image of (N, C, L, ...) by itself. weight, bias: (C) or None.

    use_input_stats: True normalises with the image's own statistics, and moves `running_mean` and `running_var` (C), where given,
    in place towards their average over the batch; False normalises with the running statistics.
    """

    nondiff = ("running_mean", "running_var")
    mutates = ("running_mean", "running_var")

    def prepare(
        input, running_mean=None, running_var=None, weight=None, bias=None, use_input_stats=True, momentum=0.1, eps=1e-5
    ):
        _check_channels("instance_norm", input, 3, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
        if not use_input_stats and (running_mean is None or running_var is None):
            raise ValueError("instance_norm: use_input_stats=False needs running_mean and running_var")
        if use_input_stats and math.prod(input.shape[2:]) == 1:
            raise ValueError(f"instance_norm: expected more than one spatial element when training, got input {input.shape}")
        return input, running_mean, running_var, weight, bias, bool(use_input_stats), float(momentum), float(eps)

    def reference(
        input: Array, running_mean: Array | None = None, running_var: Array | None = None, weight: Array | None = None,
        bias: Array | None = None, use_input_stats: bool = True, momentum: float = 0.1, eps: float = 1e-5,
    ):  # fmt: skip
        shape = tuple(-1 if i == 1 else 1 for i in range(input.ndim))
        over = tuple(range(2, input.ndim))
        x = input.astype(np.float64)
        mean = x.mean(over, keepdims=True) if use_input_stats else running_mean.reshape(shape)
        variance = x.var(over, keepdims=True) if use_input_stats else running_var.reshape(shape)
        out = (x - mean) / np.sqrt(variance + eps)
        out = out if weight is None else out * weight.reshape(shape)
        return (out if bias is None else out + bias.reshape(shape)).astype(input.dtype)

    def compose(
        input, running_mean=None, running_var=None, weight=None, bias=None, use_input_stats=True, momentum=0.1, eps=1e-5
    ):
        if not use_input_stats:
            return tg.batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
        out, mean, variance = tg.group_norm_with_statistics(input, weight, bias, input.shape[1], eps)
        count = math.prod(input.shape[2:])
        _update(running_mean, mean.mean(0), momentum)
        _update(running_var, variance.mean(0), momentum, count / max(count - 1, 1))
        return out


def _window_domain(draw):
    shape = draw.choice([(2, 5, 2), (1, 4, 2, 2), (2, 3)])
    return call(draw.real(shape), draw.integer(1, 5), draw.number(0.1, 1.0), draw.number(0.5, 1.0), draw.number(0.5, 2.0))


@op(
    "local_response_norm",
    domain=_window_domain,
    formula="input / (k + alpha / size * sum of input^2 over the `size` nearest channels)^beta",
    source="Krizhevsky et al. 2012, section 3.3 (which has alpha, not alpha / size); the window and alpha / size are PyTorch's",
    method=False,
)
class local_response_norm(Composite):
    """Divides every value of (N, C, ...) by a power of the mean square of the `size` neighbouring channels at its place.

    The window of channel c is c - size // 2 ... c + (size - 1) // 2; channels outside the image count as 0. int64 gives the default
    floating dtype, from a mean square that is rounded down, as PyTorch does.
    """

    def prepare(input, size, alpha=1e-4, beta=0.75, k=1.0):
        if not isinstance(input, Tensor) or input.dtype != np.int64:
            _check_channels("local_response_norm", input, 2)
        elif input.ndim < 2:
            raise ValueError(f"local_response_norm: input must have shape (N, C, ...), got {input.shape}")
        if size < 1:
            raise ValueError(f"local_response_norm: size must be at least 1, got {size}")
        return input, int(size), float(alpha), float(beta), float(k)

    def reference(input: Array, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0):
        out = np.empty(input.shape, input.dtype if input.dtype.kind == "f" else tg.get_default_dtype())
        for c in range(input.shape[1]):
            window = input[:, max(c - size // 2, 0) : c + (size - 1) // 2 + 1]
            total = np.square(window).sum(1)
            mean = total / size if input.dtype.kind == "f" else total // size
            out[:, c] = input[:, c] / (k + alpha * mean) ** beta
        return out

    def compose(input, size, alpha=1e-4, beta=0.75, k=1.0):
        channels = input.shape[1]
        before, after = min(size // 2, channels), min((size - 1) // 2, channels)
        rest = input.shape[2:]
        edge = [tg.zeros((input.shape[0], n, *rest), dtype=input.dtype) for n in (before, after)]
        padded = tg.cat([edge[0], input * input, edge[1]], 1)
        total = padded[:, 0:channels]
        for start in range(1, before + after + 1):
            total = total + padded[:, start : start + channels]
        if input.dtype.kind != "f":
            total, alpha = total.div(size, rounding_mode="floor"), alpha * size
        return input * (total * (alpha / size) + k) ** -beta


def _normalize_domain(draw):
    return call(draw.distinct((3, 4), 0.2, 2.0), draw.choice([2.0, 1.0, 3.0, math.inf]), draw.choice([1, 0, -1]))


@op(
    "normalize",
    domain=_normalize_domain,
    formula="input / max(||input||_p, eps) along dim",
    method=False,
    laws=(
        Idempotent("input"),
        Homogeneous("input", degree=0, positive=True),
    ),
)
class normalize(Composite):
    """Scales the vectors along `dim` to p-norm 1; a vector with a norm below `eps` is divided by `eps`."""

    def prepare(input, p=2.0, dim=1, eps=1e-12):
        if not isinstance(input, Tensor) or input.dtype.kind != "f":
            raise TypeError(f"normalize: expected a floating Tensor, got {getattr(input, 'dtype', type(input).__name__)}")
        return input, float(p), dim, float(eps)

    def reference(input: Array, p: float = 2.0, dim: int = 1, eps: float = 1e-12):
        norm = np.maximum.reduce(np.abs(input), axis=dim, keepdims=True) if p == math.inf else None
        norm = (np.abs(input) ** p).sum(dim, keepdims=True) ** (1 / p) if norm is None else norm
        return input / np.maximum(norm, eps).astype(input.dtype)

    def compose(input, p=2.0, dim=1, eps=1e-12):
        return input / tg.norm(input, p, dim, keepdim=True).clamp(min=eps)
