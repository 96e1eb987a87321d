"""Adam and AdamW."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .optimizer import Optimizer, Params, require


class Adam(Optimizer):
    """p <- p - lr / (1 - beta1^t) * m / (sqrt(v / (1 - beta2^t)) + eps), m and v running means of g and g^2.

    g includes weight_decay * p, or with decoupled_weight_decay p is shrunk by lr * weight_decay * p first, as AdamW does. amsgrad:
    the largest v so far instead of v. maximize: the sign of g is turned. Kingma & Ba, arXiv:1412.6980, algorithm 1; Reddi et
    al., ICLR 2018. As PyTorch's.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": tuple(betas),
                "eps": eps,
                "weight_decay": weight_decay,
                "amsgrad": amsgrad,
                "maximize": maximize,
                "decoupled_weight_decay": decoupled_weight_decay,
            },
            foreach=foreach,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
        )

    def check(self, group: dict[str, Any]) -> None:
        """lr, eps and weight_decay must not be negative, both betas lie in [0, 1)."""
        require(
            self,
            group,
            lr=group["lr"] >= 0,
            betas=len(group["betas"]) == 2 and all(0 <= b < 1 for b in group["betas"]),
            eps=group["eps"] >= 0,
            weight_decay=group["weight_decay"] >= 0,
        )

    def state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        """The running means, and the largest second one under amsgrad."""
        return ("exp_avg", "exp_avg_sq", "max_exp_avg_sq") if group["amsgrad"] else ("exp_avg", "exp_avg_sq")

    def update(
        self, value: np.ndarray, grad: np.ndarray, states: list[np.ndarray], group: dict[str, Any], step: int, fresh: bool
    ) -> None:
        """The equations of the class, in NumPy."""
        beta1, beta2 = group["betas"]
        decay = group["weight_decay"]
        if group["maximize"]:
            np.negative(grad, out=grad)
        if decay != 0:
            if group["decoupled_weight_decay"]:
                value *= 1 - group["lr"] * decay
            else:
                grad += value * decay
        mean, square = states[0], states[1]
        mean += (grad - mean) * (1 - beta1)
        square *= beta2
        np.multiply(grad, grad, out=grad)
        grad *= 1 - beta2
        square += grad
        if group["amsgrad"]:
            square = np.maximum(states[2], square, out=states[2])
        np.sqrt(square, out=grad)
        grad /= math.sqrt(1 - beta2**step)
        grad += group["eps"]
        np.divide(mean, grad, out=grad)
        grad *= group["lr"] / (1 - beta1**step)
        value -= grad

    def kernel_call(self, group: dict[str, Any], step: int, fresh: bool) -> tuple[str, tuple[Any, ...]]:
        """The same in one pass."""
        names = ("eps", "weight_decay", "decoupled_weight_decay", "maximize")
        settings = (*group["betas"], *[group[name] for name in names], step)
        return "adam_amsgrad_update" if group["amsgrad"] else "adam_update", (group["lr"], *settings)


class AdamW(Adam):
    """Adam with weight decay apart from the gradient: p <- p - lr * weight_decay * p first. Loshchilov & Hutter, arXiv:1711.05101."""

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params, lr, betas, eps, weight_decay, amsgrad, foreach=foreach, maximize=maximize, capturable=capturable,
            differentiable=differentiable, fused=fused, decoupled_weight_decay=True,
        )  # fmt: skip
