"""Schedules along a cosine, once or again and again, and the one-cycle policy."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .lr_base import LRScheduler
from .optimizer import Optimizer


class CosineAnnealingLR(LRScheduler):
    """eta_min + (base - eta_min) * (1 + cos(pi * t / T_max)) / 2. Loshchilov & Hutter, arXiv:1608.03983, eq. 5, no restarts."""

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        if T_max < 1:
            raise ValueError(f"CosineAnnealingLR: T_max must be positive, got {T_max}")
        self.T_max = T_max
        self.eta_min = eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The present distances from eta_min, times the ratio of the cosine factors at t and t - 1."""
        t, period = self.last_epoch, self.T_max
        if t == 0:
            return self._present()
        if (t - 1 - period) % (2 * period) == 0:  # the factor at t - 1 is 0: start again from the base
            rise = (1 - math.cos(math.pi / period)) / 2
            return [lr + (base - self.eta_min) * rise for base, lr in zip(self.base_lrs, self._present(), strict=True)]
        ratio = (1 + math.cos(math.pi * t / period)) / (1 + math.cos(math.pi * (t - 1) / period))
        return [ratio * (lr - self.eta_min) + self.eta_min for lr in self._present()]

    def closed_form(self) -> list[float]:
        """The formula of the class."""
        factor = (1 + math.cos(math.pi * self.last_epoch / self.T_max)) / 2
        return [self.eta_min + (base - self.eta_min) * factor for base in self.base_lrs]


class CosineAnnealingWarmRestarts(LRScheduler):
    """Cosine from base to eta_min over T_0 steps, then again over T_0 * T_mult, ... Loshchilov & Hutter, arXiv:1608.03983."""

    def __init__(self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        if T_0 < 1 or T_mult < 1:
            raise ValueError(f"CosineAnnealingWarmRestarts: T_0 and T_mult must be positive integers, got {T_0} and {T_mult}")
        self.T_0 = T_0
        self.T_mult = T_mult
        self.eta_min = eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The cosine at the present place within its period."""
        place, period = max(self.last_epoch, 0), self.T_0
        while place >= period:
            place, period = place - period, period * self.T_mult
            if self.T_mult == 1:
                place %= period
        factor = (1 + math.cos(math.pi * place / period)) / 2
        return [self.eta_min + (base - self.eta_min) * factor for base in self.base_lrs]

    closed_form = get_lr


class OneCycleLR(LRScheduler):
    """From max_lr / div_factor up to max_lr in pct_start of total_steps, then down to that / final_div_factor. arXiv:1708.07120.

    Call step() after every batch. The momentum (or beta1) moves the opposite way between `max_momentum` and `base_momentum`, if
    `cycle_momentum`. ValueError for more than total_steps steps.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float = 0.85,
        max_momentum: float = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        last_epoch: int = -1,
    ) -> None:
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError("OneCycleLR: give total_steps, or epochs and steps_per_epoch")
            total_steps = epochs * steps_per_epoch
        if total_steps < 1 or not 0 <= pct_start <= 1:
            raise ValueError(f"OneCycleLR: expected total_steps > 0 and pct_start in [0, 1], got {total_steps} and {pct_start}")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"OneCycleLR: anneal_strategy must be 'cos' or 'linear', got {anneal_strategy!r}")
        groups = optimizer.param_groups
        highest = [max_lr] * len(groups) if isinstance(max_lr, (int, float)) else list(max_lr)
        if len(highest) != len(groups):
            raise ValueError(f"OneCycleLR: expected {len(groups)} values of max_lr, got {len(highest)}")
        if cycle_momentum and not all("momentum" in g or "betas" in g for g in groups):
            raise ValueError("OneCycleLR: cycle_momentum needs an optimizer with momentum or betas")
        self.total_steps = total_steps
        self.anneal_strategy = anneal_strategy
        self.cycle_momentum = cycle_momentum
        self.momenta = (max_momentum, base_momentum)
        self.turn = float(pct_start * total_steps) - 1
        self.rates = [(top / div_factor, top, top / div_factor / final_div_factor) for top in highest]
        if last_epoch == -1:
            for group, (start, _, _) in zip(groups, self.rates, strict=True):
                group["initial_lr"] = start
        super().__init__(optimizer, last_epoch)

    def _between(self, start: float, end: float, fraction: float) -> float:
        if self.anneal_strategy == "cos":
            return end + (start - end) / 2.0 * (1 + math.cos(math.pi * fraction))
        return (end - start) * fraction + start

    def get_lr(self) -> list[float]:
        """The rates of the present step; moves the momentum too."""
        t = self.last_epoch
        if t > self.total_steps:
            raise ValueError(f"OneCycleLR: step {t + 1} of a schedule of {self.total_steps} steps")
        if t <= self.turn:
            fraction, first = (t / self.turn if self.turn else 0.0), 0
        else:
            fraction, first = (t - self.turn) / (self.total_steps - 1 - self.turn), 1
        if self.cycle_momentum:
            ends = self.momenta if first == 0 else self.momenta[::-1]
            momentum = self._between(*ends, fraction)
            for group in self.optimizer.param_groups:
                if "betas" in group:
                    group["betas"] = (momentum, *group["betas"][1:])
                else:
                    group["momentum"] = momentum
        return [self._between(rates[first], rates[first + 1], fraction) for rates in self.rates]
