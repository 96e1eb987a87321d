"""The networks of the training steps in JAX: a PyTorch network read layer by layer, with its weights.

JAX has no layers of its own. Each is written here as one would by hand; batch normalisation keeps no running statistics, which spares
JAX a little work. The whole step, update included, is one compiled function that may overwrite its arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from .timing import Call

Weights = dict[str, Any]
Layer = Callable[[Any, Weights, str, Any], Any]  # (PyTorch's layer, all weights, the prefix of its own, input) -> output


def _sequential(layer: Any, weights: Weights, prefix: str, x: Any) -> Any:
    for name, child in layer.named_children():
        x = apply(child, weights, f"{prefix}{name}.", x)
    return x


def _convolution(layer: Any, weights: Weights, prefix: str, x: Any) -> Any:
    padding = [(p, p) for p in layer.padding]
    out = lax.conv_general_dilated(x, weights[prefix + "weight"], layer.stride, padding, feature_group_count=layer.groups)
    return out if layer.bias is None else out + weights[prefix + "bias"][:, None, None]


def _batch_norm(layer: Any, weights: Weights, prefix: str, x: Any) -> Any:
    mean, variance = x.mean((0, 2, 3), keepdims=True), x.var((0, 2, 3), keepdims=True)
    scale, shift = (weights[prefix + name][:, None, None] for name in ("weight", "bias"))
    return (x - mean) * lax.rsqrt(variance + layer.eps) * scale + shift


def _layer_norm(layer: Any, weights: Weights, prefix: str, x: Any) -> Any:
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) * lax.rsqrt(variance + layer.eps) * weights[prefix + "weight"] + weights[prefix + "bias"]


def _linear(layer: Any, weights: Weights, prefix: str, x: Any) -> Any:
    return x @ weights[prefix + "weight"].T + weights[prefix + "bias"]


def _max_pool(layer: Any, weights: Weights, prefix: str, x: Any) -> Any:
    size, stride, padding = (v if isinstance(v, tuple) else (v, v) for v in (layer.kernel_size, layer.stride, layer.padding))
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, *size), (1, 1, *stride), [(0, 0), (0, 0), *((p, p) for p in padding)])


def _adaptive_average(layer: Any, weights: Weights, prefix: str, x: Any) -> Any:
    if layer.output_size == x.shape[2:]:
        return x
    if layer.output_size != (1, 1):
        raise NotImplementedError(f"adaptive average pooling of {x.shape} to {layer.output_size}")
    return x.mean((2, 3), keepdims=True)


def _dropout(layer: Any, weights: Weights, prefix: str, x: Any) -> Any:
    kept = jax.random.bernoulli(jax.random.key(x.size), 1 - layer.p, x.shape)
    return jnp.where(kept, x / (1 - layer.p), 0)


def _block(layer: Any, weights: Weights, prefix: str, x: Any) -> Any:
    out = x
    for name in ("conv1", "bn1", "relu", "conv2", "bn2"):
        out = apply(getattr(layer, name), weights, f"{prefix}{name}.", out)
    return jax.nn.relu(out + apply(layer.shortcut, weights, prefix + "shortcut.", x))


def _shortcut(layer: Any, weights: Weights, prefix: str, x: Any) -> Any:
    half = x.shape[1] // 2
    return jnp.pad(x[:, :, ::2, ::2], ((0, 0), (half, half), (0, 0), (0, 0)))


def _network(layer: Any, weights: Weights, prefix: str, x: Any) -> Any:
    if hasattr(layer, "lstm"):
        last = _last_of_lstm(weights, prefix + "lstm.", x)
    else:
        last = (x + apply(layer.block, weights, prefix + "block.", x)).mean(1)
    return apply(layer.output, weights, prefix + "output.", last)


def _last_of_lstm(weights: Weights, prefix: str, x: Any) -> Any:
    to_gates, from_state, bias, more = (weights[f"{prefix}{n}_l0"] for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    gates_of_inputs = jnp.swapaxes(x, 0, 1) @ to_gates.T + bias

    def step(state: Any, gates: Any) -> Any:
        hidden, cell = state
        i, f, g, o = jnp.split(gates + hidden @ from_state.T + more, 4, -1)
        cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
        return (jax.nn.sigmoid(o) * jnp.tanh(cell), cell), None

    zeros = jnp.zeros((x.shape[0], from_state.shape[1]), x.dtype)
    return lax.scan(step, (zeros, zeros), gates_of_inputs)[0][0]


LAYERS: dict[str, Layer] = {
    "Sequential": _sequential,
    "Conv2d": _convolution,
    "BatchNorm2d": _batch_norm,
    "LayerNorm": _layer_norm,
    "Linear": _linear,
    "MaxPool2d": _max_pool,
    "AdaptiveAvgPool2d": _adaptive_average,
    "Dropout": _dropout,
    "Block": _block,
    "Shortcut": _shortcut,
    "Network": _network,
    "ReLU": lambda layer, weights, prefix, x: jax.nn.relu(x),
    "GELU": lambda layer, weights, prefix, x: jax.nn.gelu(x, approximate=False),
    "Identity": lambda layer, weights, prefix, x: x,
    "Flatten": lambda layer, weights, prefix, x: x.reshape(len(x), -1),
}


def apply(layer: Any, weights: Weights, prefix: str, x: Any) -> Any:
    """What PyTorch's `layer` computes from x, with the weights whose names begin with `prefix`."""
    return LAYERS[type(layer).__name__](layer, weights, prefix, x)


def training_call(model: Any, inputs: np.ndarray, labels: np.ndarray, rate: float, momentum: float) -> Call:
    """A training step of PyTorch's `model` in JAX: cross-entropy, gradients, SGD with momentum; returns the loss."""

    def loss_of(weights: Weights, x: Any, wanted: Any) -> Any:
        scores = apply(model, weights, "", x)
        return (jax.nn.logsumexp(scores, -1) - jnp.take_along_axis(scores, wanted[:, None], 1)[:, 0]).mean()

    def step(weights: Weights, velocities: Weights, x: Any, wanted: Any) -> Any:
        loss, gradients = jax.value_and_grad(loss_of)(weights, x, wanted)
        velocities = {name: momentum * v + gradients[name] for name, v in velocities.items()}
        return {name: w - rate * velocities[name] for name, w in weights.items()}, velocities, loss

    compiled = jax.jit(step, donate_argnums=(0, 1))
    weights = {name: jnp.array(p.detach().numpy()) for name, p in model.named_parameters()}
    state = [weights, {name: jnp.zeros_like(w) for name, w in weights.items()}]
    x, wanted = jnp.array(inputs), jnp.array(labels)

    def call() -> float:
        *state[:], loss = compiled(*state, x, wanted)
        return float(loss)

    return call
