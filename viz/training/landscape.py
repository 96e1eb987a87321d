"""The loss around a trained network, along one random direction or over a plane of two."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

import tinygrad_cv as tg
from tinygrad_cv import nn

from .plotting import TRAIN, Chart, new_figure


@dataclass(frozen=True)
class Landscape:
    """losses: (steps,) at `alphas`, or (steps, steps) with the first direction along the rows. centre: at the weights themselves."""

    alphas: np.ndarray
    losses: np.ndarray
    centre: float
    toward: bool = False

    def chart(self) -> Chart:
        """A curve, or contours by the logarithm of the loss. ImportError without matplotlib."""
        figure = new_figure(5.6, 4.4)
        axes = figure.add_subplot()
        if self.losses.ndim == 1:
            axes.plot(self.alphas, self.losses, color=TRAIN, marker="o", ms=3)
            places = ((0.0, "the network"), (1.0, "the other weights")) if self.toward else ((0.0, "the network"),)
            for place, text in places:
                axes.axvline(place, color="#57606a", ls="--", lw=1)
                axes.annotate(
                    text, (place, 1), (3, -10), xycoords=("data", "axes fraction"), textcoords="offset points", fontsize=8
                )
            axes.set_xlabel("share of the way" if self.toward else "along a filter-normalised direction")
            axes.set_ylabel("loss")
            axes.grid(alpha=0.25)
        else:
            self._contours(figure, axes)
        return Chart(figure)

    def _contours(self, figure: Any, axes: Any) -> None:
        finite = self.losses[np.isfinite(self.losses)]
        low, high = max(float(finite.min()), 1e-12), float(finite.max())
        levels = np.geomspace(low, max(high, low * 1.001), 22)
        shown = np.where(np.isfinite(self.losses), np.maximum(self.losses, low), high)
        filled = axes.contourf(self.alphas, self.alphas, shown.T, levels, cmap="viridis", norm="log")
        axes.contour(self.alphas, self.alphas, shown.T, levels[::3], colors="white", linewidths=0.5, alpha=0.6)
        axes.plot(0, 0, marker="x", color="#ff5a36", ms=9, mew=2.5)
        axes.set_aspect("equal")
        axes.set_xlabel("first direction")
        axes.set_ylabel("second direction")
        axes.set_title(f"loss around the network (cross: {self.centre:.3g})", fontsize=10)
        bar = figure.colorbar(filled, ax=axes, format="%.2g")
        bar.ax.set_title("loss", fontsize=8)


def loss_landscape(
    model: nn.Module,
    loss: Callable[[], Any],
    *,
    directions: int = 1,
    span: float = 1.0,
    steps: int = 21,
    seed: int = 0,
    toward: Mapping[str, tg.Tensor] | None = None,
    batch_statistics: bool = False,
) -> Landscape:
    """Evaluates `loss()` at theta + a d1 (+ b d2) for a, b of `steps` places in -span..span, theta being the model's parameters.

    loss: computes the loss with `model` and gives a number or a Tensor of one element, for instance
    `lambda: F.cross_entropy(model(images), labels)`. It runs without recording, always on the same examples, please.
    Directions are Gaussian and filter-normalised: every filter (slice along the first axis) of a weight's direction is scaled to the
    norm of that filter of the weight, so that the picture does not depend on how the network's scale is spread over its layers. Biases
    and the scales of normalisation layers (parameters with one axis) stay where they are. toward: instead, the straight line to these
    weights (a state_dict), from -span to 1 + span of the way (I. Goodfellow et al., 2015, arXiv:1412.6544), all parameters moving.

    The model is in eval mode meanwhile: batch normalisation uses its running statistics, those of the network in the middle, and
    dropout is off. batch_statistics: batch normalisation uses each batch's own statistics instead. Parameters, buffers, modes and
    the random stream are put back bit for bit, also when `loss` raises.

    ValueError for directions other than 1 or 2, steps < 2, a span that is not positive, or weights `toward` of other names or shapes.
    Source: H. Li, Z. Xu, G. Taylor, C. Studer, T. Goldstein, "Visualizing the loss landscape of neural nets", 2018, arXiv:1712.09913,
    section 4.
    """
    if directions not in (1, 2):
        raise ValueError(f"loss_landscape: directions must be 1 or 2, got {directions}")
    if steps < 2:
        raise ValueError(f"loss_landscape: steps must be at least 2, got {steps}")
    if not (span > 0 and math.isfinite(span)):
        raise ValueError(f"loss_landscape: span must be positive, got {span}")
    if toward is not None and directions != 1:
        raise ValueError("loss_landscape: toward other weights there is one direction; leave directions out")
    parameters = {name: p for name, p in model.named_parameters() if p.is_floating_point()}
    theta = {name: p.detach().numpy().copy() for name, p in parameters.items()}
    ways: Sequence[dict[str, np.ndarray]]
    if toward is None:
        generator = np.random.default_rng(seed)
        ways = [_direction(theta, generator) for _ in range(directions)]
        alphas = np.linspace(-span, span, steps)
    else:
        ways = [_way(theta, toward)]
        alphas = np.linspace(-span, 1 + span, steps)
    with _unchanged(model, batch_statistics):

        def at(*shares: float) -> float:
            with tg.no_grad():
                for name, parameter in parameters.items():
                    moved = theta[name].astype(np.float64)
                    for share, way in zip(shares, ways, strict=True):
                        moved = moved + share * way[name]
                    parameter.copy_(tg.from_numpy(moved.astype(theta[name].dtype)))
                value = loss()
            return float(value.item() if hasattr(value, "item") else value)

        centre = at(*[0.0] * len(ways))
        if len(ways) == 1:
            losses = np.array([at(a) for a in alphas])
        else:
            losses = np.array([[at(a, b) for b in alphas] for a in alphas])
    return Landscape(alphas, losses, centre, toward is not None)


def _direction(theta: Mapping[str, np.ndarray], generator: np.random.Generator) -> dict[str, np.ndarray]:
    """One filter-normalised direction: |d_i| = |theta_i| for every filter i of a weight, zero for parameters with fewer than two axes."""
    found = {}
    for name, values in theta.items():
        drawn = generator.standard_normal(values.shape)
        if values.ndim < 2:
            found[name] = np.zeros(values.shape)
            continue
        rows = drawn.reshape(len(drawn), -1)
        norms = np.linalg.norm(values.reshape(len(values), -1).astype(np.float64), axis=1, keepdims=True)
        found[name] = (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-300) * norms).reshape(values.shape)
    return found


def _way(theta: Mapping[str, np.ndarray], toward: Mapping[str, Any]) -> dict[str, np.ndarray]:
    for name, values in theta.items():
        if name not in toward or tuple(toward[name].shape) != values.shape:
            given = f"has shape {tuple(toward[name].shape)}" if name in toward else "is missing"
            raise ValueError(f"loss_landscape: {name} of the weights to go toward {given}; expected shape {values.shape}")
    return {name: toward[name].detach().numpy().astype(np.float64) - values for name, values in theta.items()}


@contextmanager
def _unchanged(model: nn.Module, batch_statistics: bool) -> Iterator[None]:
    """The model in eval mode; afterwards, whatever happened, its parameters, buffers and modes as they were, bit for bit."""
    tensors = [*model.parameters(), *model.buffers()]
    before = [t.detach().numpy().copy() for t in tensors]
    modes = [(module, module.training) for module in model.modules()]
    stream = tg.get_rng_state()
    try:
        model.eval()
        if batch_statistics:
            for module, _ in modes:
                if "BatchNorm" in type(module).__name__:
                    module.train()
        yield
    finally:
        with tg.no_grad():
            for tensor, values in zip(tensors, before, strict=True):
                tensor.detach().copy_(tg.from_numpy(values))
        for module, training in modes:
            module.training = training
        tg.set_rng_state(stream)
