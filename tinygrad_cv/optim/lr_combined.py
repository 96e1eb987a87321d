"""The schedule that watches a metric, and schedules made of schedules."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from ..replay import replayable
from .lr_base import LRScheduler
from .optimizer import Optimizer


class ReduceLROnPlateau(LRScheduler):
    """Multiplies the rates by `factor` when a metric has not improved for more than `patience` steps: `step(metric)`.

    mode: 'min' or 'max' is better. Better by `threshold`, relative ('rel') or absolute ('abs'). cooldown: steps to wait after a
    reduction. min_lr: for all groups or one each. eps: smaller changes are not made.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0,
        eps: float = 1e-8,
    ) -> None:
        if factor >= 1.0:
            raise ValueError(f"ReduceLROnPlateau: factor must be below 1, got {factor}")
        if mode not in ("min", "max") or threshold_mode not in ("rel", "abs"):
            raise ValueError(
                f"ReduceLROnPlateau: expected mode 'min' or 'max' and threshold_mode 'rel' or 'abs', got {mode!r}, {threshold_mode!r}"
            )
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"ReduceLROnPlateau: expected an Optimizer, got {type(optimizer).__name__}")
        count = len(optimizer.param_groups)
        self.optimizer = optimizer
        self.min_lrs = [min_lr] * count if isinstance(min_lr, (int, float)) else list(min_lr)
        if len(self.min_lrs) != count:
            raise ValueError(f"ReduceLROnPlateau: expected {count} values of min_lr, got {len(self.min_lrs)}")
        self.mode, self.factor, self.patience, self.eps = mode, factor, patience, eps
        self.threshold, self.threshold_mode, self.cooldown = threshold, threshold_mode, cooldown
        self.last_epoch = 0
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = self.cooldown_counter = 0
        self._last_lr = self._present()

    def _better(self, value: float) -> bool:
        sign = -1 if self.mode == "min" else 1
        if self.threshold_mode == "abs":
            return sign * value > sign * self.best + self.threshold
        return value < self.best * (1 - self.threshold) if self.mode == "min" else value > self.best * (1 + self.threshold)

    @replayable
    def step(self, metrics: Any, epoch: int | None = None) -> None:  # type: ignore[override]
        """Takes the metric's new value (a number or a 0-d Tensor)."""
        value = float(metrics)
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        if self._better(value):
            self.best, self.num_bad_epochs = value, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        rates = self._present()
        if self.num_bad_epochs > self.patience:
            lower = [max(lr * self.factor, least) for lr, least in zip(rates, self.min_lrs, strict=True)]
            rates = [new if lr - new > self.eps else lr for lr, new in zip(rates, lower, strict=True)]
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
        self._set(rates)


class _Combined(LRScheduler):
    """What combinations of schedules share."""

    _unsaved = ("optimizer", "_schedulers")

    def _take(self, optimizer: Optimizer | None, schedulers: Sequence[LRScheduler]) -> None:
        name = type(self).__name__
        self._schedulers = list(schedulers)
        if not self._schedulers:
            raise ValueError(f"{name}: expected at least one scheduler")
        self.optimizer = self._schedulers[0].optimizer if optimizer is None else optimizer
        for i, scheduler in enumerate(self._schedulers):
            if scheduler.optimizer is not self.optimizer:
                raise ValueError(f"{name}: scheduler {i} belongs to another optimizer")

    def state_dict(self) -> dict[str, Any]:
        """This schedule's state and, under '_schedulers', those of its parts."""
        return super().state_dict() | {"_schedulers": [s.state_dict() for s in self._schedulers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        parts = state_dict["_schedulers"]
        if len(parts) != len(self._schedulers):
            raise ValueError(f"{type(self).__name__}.load_state_dict: {len(parts)} schedules for {len(self._schedulers)}")
        super().load_state_dict({name: value for name, value in state_dict.items() if name != "_schedulers"})
        for scheduler, part in zip(self._schedulers, parts, strict=True):
            scheduler.load_state_dict(part)


class ChainedScheduler(_Combined):
    """Several schedules stepped together, each on the rates that the one before has set."""

    def __init__(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None) -> None:
        self._take(optimizer, schedulers)
        self._last_lr = self._present()

    @replayable
    def step(self, epoch: int | None = None) -> None:
        """Steps all schedules."""
        for scheduler in self._schedulers:
            scheduler.step()
        self._last_lr = self._present()


class SequentialLR(_Combined):
    """One schedule after another: the i-th takes over, from its own start, at step `milestones[i - 1]`."""

    def __init__(
        self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], milestones: Sequence[int], last_epoch: int = -1
    ) -> None:
        self._take(optimizer, schedulers)
        if len(milestones) != len(self._schedulers) - 1:
            raise ValueError(
                f"SequentialLR: {len(self._schedulers)} schedulers need {len(self._schedulers) - 1} milestones, got {milestones}"
            )
        if any(isinstance(s, ReduceLROnPlateau) for s in self._schedulers):
            raise ValueError("SequentialLR: ReduceLROnPlateau needs a metric at every step and cannot be a part")
        self.milestones = list(milestones)
        self.last_epoch = last_epoch + 1
        # Making the parts has let each of them act once: back to the base, then only the first one's first step.
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"]
        for scheduler in self._schedulers:
            scheduler.last_epoch -= 1
        self._schedulers[0].step()
        self._last_lr = self._schedulers[0].get_last_lr()

    @replayable
    def step(self, epoch: int | None = None) -> None:
        """Steps the schedule whose turn it is."""
        self.last_epoch += 1
        turn = bisect_right(self.milestones, self.last_epoch)
        scheduler = self._schedulers[turn]
        if turn > 0 and self.milestones[turn - 1] == self.last_epoch:
            scheduler.step(0)
        else:
            scheduler.step()
        self._last_lr = scheduler.get_last_lr()
