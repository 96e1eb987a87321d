"""Stochastic gradient descent."""

from __future__ import annotations

from typing import Any

import numpy as np

from .optimizer import Optimizer, Params, require


class SGD(Optimizer):
    """p <- p - lr * d, with d = g + weight_decay * p, or its running sum b <- momentum * b + (1 - dampening) * d.

    The first b is d itself. nesterov: d + momentum * b instead of b. maximize: the sign of g is turned. As PyTorch's; momentum
    after Sutskever et al., ICML 2013.
    """

    counts_steps = False

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
                "maximize": maximize,
            },
            foreach=foreach,
            differentiable=differentiable,
            fused=fused,
        )

    def check(self, group: dict[str, Any]) -> None:
        """lr, momentum and weight_decay must not be negative; nesterov needs momentum and no dampening."""
        require(self, group, lr=group["lr"] >= 0, momentum=group["momentum"] >= 0, weight_decay=group["weight_decay"] >= 0)
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ValueError("SGD: nesterov needs momentum > 0 and dampening = 0")

    def state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        """The running sum, where there is momentum."""
        return ("momentum_buffer",) if group["momentum"] != 0 else ()

    def update(
        self, value: np.ndarray, grad: np.ndarray, states: list[np.ndarray], group: dict[str, Any], step: int, fresh: bool
    ) -> None:
        """The equations of the class, in NumPy."""
        if group["maximize"]:
            np.negative(grad, out=grad)
        if group["weight_decay"] != 0:
            grad += value * group["weight_decay"]
        direction = grad
        if states:
            (buffer,) = states
            momentum = group["momentum"]
            if fresh:
                buffer[...] = grad
            else:
                buffer *= momentum
                buffer += grad * (1 - group["dampening"]) if group["dampening"] != 0 else grad
            if group["nesterov"]:
                grad += buffer * momentum
            else:
                direction = buffer
        np.multiply(direction, group["lr"], out=grad)
        value -= grad

    def kernel_call(self, group: dict[str, Any], step: int, fresh: bool) -> tuple[str, tuple[Any, ...]]:
        """The same in one pass."""
        if group["momentum"] == 0:
            return "sgd_plain_update", (group["lr"], group["weight_decay"], group["maximize"])
        names = ("lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize")
        return "sgd_update", (*[group[name] for name in names], fresh)
