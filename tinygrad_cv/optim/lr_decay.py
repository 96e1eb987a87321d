"""Schedules that decay, or warm up, as a simple function of the step."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from .lr_base import LRScheduler
from .optimizer import Optimizer


class _ByFunction(LRScheduler):
    """A schedule that asks one function for all groups, or one for each."""

    _unsaved = ("optimizer", "lr_lambdas")

    def __init__(
        self, optimizer: Optimizer, lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]], last_epoch: int = -1
    ) -> None:
        count = len(optimizer.param_groups)
        self.lr_lambdas = [lr_lambda] * count if callable(lr_lambda) else list(lr_lambda)
        if len(self.lr_lambdas) != count:
            raise ValueError(
                f"{type(self).__name__}: expected {count} functions, one for each group, got {len(self.lr_lambdas)}"
            )
        super().__init__(optimizer, last_epoch)


class LambdaLR(_ByFunction):
    """base * lr_lambda(t); one function for all groups or a list with one each."""

    def get_lr(self) -> list[float]:
        """base * lr_lambda(t)."""
        return [base * factor(self.last_epoch) for base, factor in zip(self.base_lrs, self.lr_lambdas, strict=True)]

    closed_form = get_lr


class MultiplicativeLR(_ByFunction):
    """The present rate times lr_lambda(t) at every step; one function for all groups or a list with one each."""

    def get_lr(self) -> list[float]:
        """The present rates times lr_lambda(t)."""
        if self.last_epoch == 0:
            return self._present()
        return [lr * factor(self.last_epoch) for lr, factor in zip(self._present(), self.lr_lambdas, strict=True)]


class StepLR(LRScheduler):
    """base * gamma^floor(t / step_size)."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        if step_size < 1:
            raise ValueError(f"StepLR: step_size must be positive, got {step_size}")
        self.step_size = step_size
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The present rates, times gamma at every multiple of step_size."""
        if self.last_epoch == 0 or self.last_epoch % self.step_size:
            return self._present()
        return [lr * self.gamma for lr in self._present()]

    def closed_form(self) -> list[float]:
        """base * gamma^floor(t / step_size)."""
        return [base * self.gamma ** (self.last_epoch // self.step_size) for base in self.base_lrs]


class MultiStepLR(LRScheduler):
    """base * gamma^(how many of `milestones` are <= t)."""

    def __init__(self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1) -> None:
        self.milestones = sorted(milestones)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The present rates, times gamma at every milestone."""
        times = Counter(self.milestones)[self.last_epoch]
        return [lr * self.gamma**times if times else lr for lr in self._present()]

    def closed_form(self) -> list[float]:
        """base * gamma^(milestones passed)."""
        return [base * self.gamma ** bisect_right(self.milestones, self.last_epoch) for base in self.base_lrs]


class ExponentialLR(LRScheduler):
    """base * gamma^t."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The present rates times gamma."""
        return self._present() if self.last_epoch == 0 else [lr * self.gamma for lr in self._present()]

    def closed_form(self) -> list[float]:
        """base * gamma^t."""
        return [base * self.gamma**self.last_epoch for base in self.base_lrs]


class InverseTimeLR(LRScheduler):
    """base / (1 + decay * t), the '1/t' schedule. Robbins & Monro, Ann. Math. Stat. 1951."""

    def __init__(self, optimizer: Optimizer, decay: float, last_epoch: int = -1) -> None:
        if decay < 0:
            raise ValueError(f"InverseTimeLR: decay must not be negative, got {decay}")
        self.decay = decay
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The present rates, times (1 + decay * (t - 1)) / (1 + decay * t)."""
        if self.last_epoch == 0:
            return self._present()
        factor = (1 + self.decay * (self.last_epoch - 1)) / (1 + self.decay * self.last_epoch)
        return [lr * factor for lr in self._present()]

    def closed_form(self) -> list[float]:
        """base / (1 + decay * t)."""
        return [base / (1 + self.decay * self.last_epoch) for base in self.base_lrs]


class LinearLR(LRScheduler):
    """base * (start + (end - start) * min(t, total_iters) / total_iters): linear warm-up by default."""

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        if not 0 < start_factor <= 1:
            raise ValueError(f"LinearLR: start_factor must lie in (0, 1], got {start_factor}")
        if not 0 <= end_factor <= 1:
            raise ValueError(f"LinearLR: end_factor must lie in [0, 1], got {end_factor}")
        self.start_factor = start_factor
        self.end_factor = end_factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def _factor(self, t: int) -> float:
        return self.start_factor + (self.end_factor - self.start_factor) * min(t, self.total_iters) / self.total_iters

    def get_lr(self) -> list[float]:
        """The present rates, times the ratio of the factors at t and t - 1."""
        if self.last_epoch == 0:
            return [lr * self.start_factor for lr in self._present()]
        if self.last_epoch > self.total_iters:
            return self._present()
        ratio = self._factor(self.last_epoch) / self._factor(self.last_epoch - 1)
        return [lr * ratio for lr in self._present()]

    def closed_form(self) -> list[float]:
        """base * factor(t)."""
        return [base * self._factor(self.last_epoch) for base in self.base_lrs]


class WarmupLR(LinearLR):
    """base * min(1, (t + 1) / warmup_steps): linear warm-up from base / warmup_steps. Goyal et al., arXiv:1706.02677, 2.2."""

    def __init__(self, optimizer: Optimizer, warmup_steps: int, last_epoch: int = -1) -> None:
        if warmup_steps < 1:
            raise ValueError(f"WarmupLR: warmup_steps must be positive, got {warmup_steps}")
        self.warmup_steps = warmup_steps
        super().__init__(optimizer, 1.0 / warmup_steps, 1.0, max(warmup_steps - 1, 1), last_epoch)


class ConstantLR(LRScheduler):
    """base * factor while t < total_iters, then base."""

    def __init__(self, optimizer: Optimizer, factor: float = 1.0 / 3, total_iters: int = 5, last_epoch: int = -1) -> None:
        if not 0 <= factor <= 1:
            raise ValueError(f"ConstantLR: factor must lie in [0, 1], got {factor}")
        self.factor = factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The present rates, times factor at the start and divided by it at total_iters."""
        if self.last_epoch == 0:
            return [lr * self.factor for lr in self._present()]
        return [lr / self.factor for lr in self._present()] if self.last_epoch == self.total_iters else self._present()

    def closed_form(self) -> list[float]:
        """base * factor, or base."""
        return [base * (1.0 if self.last_epoch >= self.total_iters else self.factor) for base in self.base_lrs]


class PolynomialLR(LRScheduler):
    """base * (1 - min(t, total_iters) / total_iters)^power."""

    def __init__(self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1) -> None:
        self.total_iters = total_iters
        self.power = power
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The present rates, times the ratio of the factors at t and t - 1."""
        t, total = self.last_epoch, self.total_iters
        if t == 0 or t > total:
            return self._present()
        ratio = ((1.0 - t / total) / (1.0 - (t - 1) / total)) ** self.power
        return [lr * ratio for lr in self._present()]

    def closed_form(self) -> list[float]:
        """base * (1 - t / total_iters)^power."""
        remaining = 1.0 - min(self.last_epoch, self.total_iters) / self.total_iters
        return [base * remaining**self.power for base in self.base_lrs]
