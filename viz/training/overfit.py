"""The first thing to try with a network that does not learn: can it learn ten examples by heart?"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tinygrad_cv as tg
from tinygrad_cv import nn, optim


@dataclass(frozen=True)
class Overfit:
    """What `can_overfit` found; true as a condition if it passed. losses: one a step, in training mode without dropout."""

    passed: bool
    examples: int
    losses: tuple[float, ...]

    def __bool__(self) -> bool:
        return self.passed

    def summary(self) -> dict[str, Any]:
        """What a recording keeps."""
        return {
            "passed": self.passed, "examples": self.examples, "first": self.losses[0], "last": self.losses[-1],
            "steps": len(self.losses) - 1,
        }  # fmt: skip

    def __str__(self) -> str:
        able = "learned by heart" if self.passed else "NOT learned by heart"
        return (
            f"{self.examples} examples were {able}: loss {self.losses[0]:.4g} -> {self.losses[-1]:.4g} in "
            f"{len(self.losses) - 1} steps"
        )


def can_overfit(
    model: nn.Module,
    inputs: tg.Tensor,
    targets: tg.Tensor,
    loss: Callable[[tg.Tensor, tg.Tensor], tg.Tensor] = nn.functional.cross_entropy,
    *,
    examples: int = 10,
    steps: int = 300,
    lr: float | None = None,
) -> Overfit:
    """Trains a copy of `model` on the first `examples` of `inputs` until the loss is 1 % of what it was, or for `steps` steps.

    A network with more parameters than examples and a right training loop gets there; one that does not is broken. The copy is
    trained by Adam, at 1e-3 and, if that does not do, 1e-2 (or at `lr` alone), without weight decay and with dropout off. The model,
    its gradients, mode and buffers and the random stream are left as they were.

    ValueError for fewer than 2 examples, fewer inputs than targets or the other way round, or steps < 1.
    Source: CS231n notes, neural networks 3, sanity checks: "overfit a tiny subset of data".
    """
    if len(inputs) != len(targets):
        raise ValueError(f"can_overfit: {len(inputs)} inputs and {len(targets)} targets; expected as many of each")
    if min(examples, len(inputs)) < 2:
        raise ValueError(f"can_overfit: at least 2 examples are needed, got {min(examples, len(inputs))}")
    if steps < 1:
        raise ValueError(f"can_overfit: steps must be at least 1, got {steps}")
    inputs, targets = inputs[:examples], targets[:examples]
    stream = tg.get_rng_state()
    best: tuple[float, ...] | None = None
    try:
        for rate in (1e-3, 1e-2) if lr is None else (lr,):
            losses = _train(model, inputs, targets, loss, steps, rate)
            if best is None or losses[-1] < best[-1]:
                best = losses
            if best[-1] <= 0.01 * best[0]:
                break
    finally:
        tg.set_rng_state(stream)
    assert best is not None
    return Overfit(best[-1] <= 0.01 * best[0], len(inputs), best)


def _train(model: nn.Module, inputs: Any, targets: Any, loss: Any, steps: int, rate: float) -> tuple[float, ...]:
    trial = copy.deepcopy(model).train()
    for module in trial.modules():
        if "Dropout" in type(module).__name__:
            module.eval()
    optimizer = optim.Adam(trial.parameters(), lr=rate)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss(trial(inputs), targets)
        losses.append(value.item())
        if not losses[-1] > 0.01 * losses[0] and len(losses) > 1:
            return tuple(losses)
        value.backward()
        optimizer.step()
    with tg.no_grad():
        losses.append(loss(trial(inputs), targets).item())
    return tuple(losses)
