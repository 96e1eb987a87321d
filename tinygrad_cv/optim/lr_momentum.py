"""Schedules that move the momentum (or beta1) the opposite way as the rate, batch by batch: cyclical rates and one cycle."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from .lr_base import LRScheduler
from .optimizer import Optimizer


def _each(name: str, optimizer: Optimizer, value: float | Sequence[float]) -> list[float]:
    """A value for each group. ValueError for a list of another length."""
    groups = optimizer.param_groups
    values = [*value] if isinstance(value, Sequence) else [value] * len(groups)
    if len(values) != len(groups):
        raise ValueError(f"{name}: expected {len(groups)} values, one for each group, got {len(values)}")
    return values


def _require_momentum(name: str, optimizer: Optimizer) -> None:
    if not all("momentum" in g or "betas" in g for g in optimizer.param_groups):
        raise ValueError(f"{name}: cycle_momentum needs an optimizer with momentum or betas; pass cycle_momentum=False")


def _set_momenta(optimizer: Optimizer, momenta: Sequence[float]) -> None:
    for group, momentum in zip(optimizer.param_groups, momenta, strict=True):
        if "betas" in group:
            group["betas"] = (momentum, *group["betas"][1:])
        else:
            group["momentum"] = momentum


class CyclicLR(LRScheduler):
    """base_lr up to max_lr in step_size_up steps and down in step_size_down, again and again. Smith, arXiv:1506.01186.

    Call step() after every batch. With c = 1, 2, ... the number of the cycle, the height max_lr - base_lr is scaled in mode
    "triangular" by 1, in "triangular2" by 1 / 2^(c - 1), in "exp_range" by gamma^t; or by scale_fn of c (scale_mode "cycle") or
    of t ("iterations"). The momentum (or beta1) goes down from `max_momentum` as the rate goes up, if `cycle_momentum`.
    """

    _unsaved = ("optimizer", "scale_fn")

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | Sequence[float],
        max_lr: float | Sequence[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.8,
        max_momentum: float | Sequence[float] = 0.9,
        last_epoch: int = -1,
    ) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"CyclicLR: expected an Optimizer, got {type(optimizer).__name__}")
        if mode not in ("triangular", "triangular2", "exp_range") and scale_fn is None:
            raise ValueError(f"CyclicLR: mode must be 'triangular', 'triangular2' or 'exp_range', got {mode!r}")
        if scale_mode not in ("cycle", "iterations"):
            raise ValueError(f"CyclicLR: scale_mode must be 'cycle' or 'iterations', got {scale_mode!r}")
        down = step_size_up if step_size_down is None else step_size_down
        if step_size_up <= 0 or down <= 0:
            raise ValueError(f"CyclicLR: step sizes must be positive, got {step_size_up} up and {down} down")
        if cycle_momentum:
            _require_momentum("CyclicLR", optimizer)
        lowest = _each("CyclicLR: base_lr", optimizer, base_lr)
        self.max_lrs = _each("CyclicLR: max_lr", optimizer, max_lr)
        self.total_size = float(step_size_up) + float(down)
        self.step_ratio = step_size_up / self.total_size
        self.mode, self.gamma, self.scale_fn = mode, gamma, scale_fn
        self.scale_mode = scale_mode if scale_fn is not None else "iterations" if mode == "exp_range" else "cycle"
        self.cycle_momentum = cycle_momentum
        self.base_momentums = _each("CyclicLR: base_momentum", optimizer, base_momentum)
        self.max_momentums = _each("CyclicLR: max_momentum", optimizer, max_momentum)
        if last_epoch == -1:
            for group, low in zip(optimizer.param_groups, lowest, strict=True):
                group["lr"] = group["initial_lr"] = low
        super().__init__(optimizer, last_epoch)

    def _scale(self, x: float) -> float:
        if self.scale_fn is not None:
            return self.scale_fn(x)
        if self.mode == "exp_range":
            return float(self.gamma**x)
        return 1.0 if self.mode == "triangular" else 1 / 2.0 ** (x - 1)

    def get_lr(self) -> list[float]:
        """The rates of the present step; moves the momentum too."""
        turns = self.last_epoch / self.total_size
        cycle = math.floor(1 + turns)
        place = 1.0 + turns - cycle
        rising = place <= self.step_ratio
        height = place / self.step_ratio if rising else (place - 1) / (self.step_ratio - 1)
        height *= self._scale(cycle if self.scale_mode == "cycle" else self.last_epoch)
        if self.cycle_momentum:
            pairs = zip(self.base_momentums, self.max_momentums, strict=True)
            _set_momenta(self.optimizer, [high - (high - low) * height for low, high in pairs])
        return [low + (high - low) * height for low, high in zip(self.base_lrs, self.max_lrs, strict=True)]

    closed_form = get_lr


class OneCycleLR(LRScheduler):
    """From max_lr / div_factor up to max_lr in pct_start of total_steps, then down to that / final_div_factor. arXiv:1708.07120.

    three_phase: down to max_lr / div_factor in as many steps as up, and only then further. Call step() after every batch. The
    momentum (or beta1) moves the opposite way between `max_momentum` and `base_momentum`, if `cycle_momentum`. ValueError for more
    than total_steps steps.
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
        base_momentum: float | Sequence[float] = 0.85,
        max_momentum: float | Sequence[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"OneCycleLR: expected an Optimizer, got {type(optimizer).__name__}")
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError("OneCycleLR: give total_steps, or epochs and steps_per_epoch")
            total_steps = epochs * steps_per_epoch
        if total_steps < 1 or not 0 <= pct_start <= 1:
            raise ValueError(f"OneCycleLR: expected total_steps > 0 and pct_start in [0, 1], got {total_steps} and {pct_start}")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"OneCycleLR: anneal_strategy must be 'cos' or 'linear', got {anneal_strategy!r}")
        highest = _each("OneCycleLR: max_lr", optimizer, max_lr)
        if cycle_momentum:
            _require_momentum("OneCycleLR", optimizer)
        self.total_steps = total_steps
        self.anneal_strategy = anneal_strategy
        self.cycle_momentum = cycle_momentum
        low, high = (
            _each(f"OneCycleLR: {name}", optimizer, value)
            for name, value in (("base_momentum", base_momentum), ("max_momentum", max_momentum))
        )
        peak, last = pct_start * total_steps - 1, total_steps - 1
        # Where each phase ends, and the rate and the momentum of every group there; the first entry is where all begins.
        starts = [top / div_factor for top in highest]
        ends = [start / final_div_factor for start in starts]
        self.turns: list[list[Any]] = [[0.0, starts, high], [peak, highest, low]]
        if three_phase:
            self.turns.append([2 * peak, starts, high])
        self.turns.append([last, ends, high])
        if last_epoch == -1:
            for group, start in zip(optimizer.param_groups, starts, strict=True):
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
        phase = next((i for i in range(1, len(self.turns) - 1) if t <= self.turns[i][0]), len(self.turns) - 1)
        (begin, rates, momenta), (end, next_rates, next_momenta) = self.turns[phase - 1], self.turns[phase]
        fraction = (t - begin) / (end - begin) if end != begin else float(t > begin)
        if self.cycle_momentum:
            _set_momenta(self.optimizer, [self._between(a, b, fraction) for a, b in zip(momenta, next_momenta, strict=True)])
        return [self._between(a, b, fraction) for a, b in zip(rates, next_rates, strict=True)]
