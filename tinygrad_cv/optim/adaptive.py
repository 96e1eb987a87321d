"""Optimizers that scale every element by its own past gradients: Adagrad, RMSprop, Adadelta."""

from __future__ import annotations

from typing import Any

import numpy as np

from .optimizer import Optimizer, Params, require


def _direction(value: np.ndarray, grad: np.ndarray, group: dict[str, Any]) -> np.ndarray:
    """The gradient, turned for `maximize` and with weight decay added, in its own memory."""
    if group["maximize"]:
        np.negative(grad, out=grad)
    if group["weight_decay"] != 0:
        grad += value * group["weight_decay"]
    return grad


class Adagrad(Optimizer):
    """s <- s + g^2; p <- p - lr / (1 + (t - 1) lr_decay) * g / (sqrt(s) + eps). Duchi et al., JMLR 2011. As PyTorch's."""

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "lr_decay": lr_decay,
                "weight_decay": weight_decay,
                "initial_accumulator_value": initial_accumulator_value,
                "eps": eps,
                "maximize": maximize,
            },
            foreach=foreach,
            differentiable=differentiable,
            fused=fused,
        )

    def check(self, group: dict[str, Any]) -> None:
        """No setting may be negative."""
        names = ("lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps")
        require(self, group, **{name: group[name] >= 0 for name in names})

    def state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        """The sum of squares."""
        return ("sum",)

    def state_start(self, name: str, group: dict[str, Any], value: np.ndarray) -> np.ndarray:
        """The sum starts at initial_accumulator_value."""
        return np.full_like(value, group["initial_accumulator_value"])

    def update(
        self, value: np.ndarray, grad: np.ndarray, states: list[np.ndarray], group: dict[str, Any], step: int, fresh: bool
    ) -> None:
        """The equations of the class, in NumPy."""
        (total,) = states
        grad = _direction(value, grad, group)
        total += grad * grad
        grad *= group["lr"] / (1 + (step - 1) * group["lr_decay"])
        grad /= np.sqrt(total) + group["eps"]
        value -= grad

    def kernel_call(self, group: dict[str, Any], step: int, fresh: bool) -> tuple[str, tuple[Any, ...]]:
        """The same in one pass."""
        names = ("lr", "lr_decay", "weight_decay", "eps", "maximize")
        return "adagrad_update", (*[group[name] for name in names], step)


class RMSprop(Optimizer):
    """v <- alpha v + (1 - alpha) g^2; p <- p - lr * g / (sqrt(v) + eps), with momentum on the scaled gradient.

    centered: v less the square of the running mean of g (Graves, arXiv:1308.0850, eq. 38-45). Tieleman & Hinton, 2012. As
    PyTorch's: eps is added to the root.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "alpha": alpha,
                "eps": eps,
                "weight_decay": weight_decay,
                "momentum": momentum,
                "centered": centered,
                "maximize": maximize,
            },
            foreach=foreach,
            capturable=capturable,
            differentiable=differentiable,
        )

    def check(self, group: dict[str, Any]) -> None:
        """No setting may be negative."""
        require(self, group, **{name: group[name] >= 0 for name in ("lr", "alpha", "eps", "weight_decay", "momentum")})

    def state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        """The running mean of squares; with momentum its buffer; when centered the running mean."""
        momentum, centered = group["momentum"] > 0, group["centered"]
        return ("square_avg", *(["momentum_buffer"] if momentum else []), *(["grad_avg"] if centered else []))

    def update(
        self, value: np.ndarray, grad: np.ndarray, states: list[np.ndarray], group: dict[str, Any], step: int, fresh: bool
    ) -> None:
        """The equations of the class, in NumPy."""
        square, alpha = states[0], group["alpha"]
        grad = _direction(value, grad, group)
        square *= alpha
        square += grad * grad * (1 - alpha)
        if group["centered"]:
            mean = states[-1]
            mean += (grad - mean) * (1 - alpha)
            scale = np.sqrt(square - mean * mean)
        else:
            scale = np.sqrt(square)
        scale += group["eps"]
        grad /= scale
        if group["momentum"] > 0:
            buffer = states[1]
            buffer *= group["momentum"]
            buffer += grad
            np.multiply(buffer, group["lr"], out=grad)
        else:
            grad *= group["lr"]
        value -= grad

    def kernel_call(self, group: dict[str, Any], step: int, fresh: bool) -> tuple[str, tuple[Any, ...]]:
        """The same in one pass."""
        centered, momentum = "_centered" if group["centered"] else "", "_momentum" if group["momentum"] > 0 else ""
        names = ("lr", "alpha", "eps", "weight_decay", *(["momentum"] if momentum else []), "maximize")
        return f"rmsprop{centered}{momentum}_update", tuple(group[name] for name in names)


class Adadelta(Optimizer):
    """p <- p - lr * d, d = sqrt(u + eps) / sqrt(v + eps) * g, u and v running means of d^2 and g^2. Zeiler, arXiv:1212.5701."""

    def __init__(
        self,
        params: Params,
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        super().__init__(
            params,
            {"lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay, "maximize": maximize},
            foreach=foreach,
            capturable=capturable,
            differentiable=differentiable,
        )

    def check(self, group: dict[str, Any]) -> None:
        """lr, eps and weight_decay must not be negative, rho lies in [0, 1]."""
        require(
            self,
            group,
            lr=group["lr"] >= 0,
            rho=0 <= group["rho"] <= 1,
            eps=group["eps"] >= 0,
            weight_decay=group["weight_decay"] >= 0,
        )

    def state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        """The running means of squared gradients and of squared updates."""
        return ("square_avg", "acc_delta")

    def update(
        self, value: np.ndarray, grad: np.ndarray, states: list[np.ndarray], group: dict[str, Any], step: int, fresh: bool
    ) -> None:
        """The equations of the class, in NumPy."""
        square, travelled = states
        rho, eps = group["rho"], group["eps"]
        grad = _direction(value, grad, group)
        square *= rho
        square += grad * grad * (1 - rho)
        grad *= np.sqrt(travelled + eps) / np.sqrt(square + eps)
        travelled *= rho
        travelled += grad * grad * (1 - rho)
        grad *= group["lr"]
        value -= grad

    def kernel_call(self, group: dict[str, Any], step: int, fresh: bool) -> tuple[str, tuple[Any, ...]]:
        """The same in one pass."""
        return "adadelta_update", tuple(group[name] for name in ("lr", "rho", "eps", "weight_decay", "maximize"))
