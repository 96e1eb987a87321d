"""Learning-rate schedules: `scheduler.step()` after each epoch (or batch) sets `lr` in the optimizer's groups.

As in PyTorch, most schedules multiply the present rate, so several can act on one optimizer. t counts the calls of step();
base is the rate a group had when the first schedule was made, kept in the group as 'initial_lr'.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .optimizer import Optimizer


class LRScheduler:
    """Base of schedules. A subclass writes `get_lr`, the rates for `last_epoch`, and `closed_form` where there is one.

    last_epoch: -1 starts; another value resumes a schedule whose groups already have 'initial_lr'.
    """

    _unsaved: tuple[str, ...] = ("optimizer",)

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(self).__name__}: expected an Optimizer, got {type(optimizer).__name__}")
        self.optimizer = optimizer
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise KeyError(f"{type(self).__name__}: last_epoch={last_epoch} resumes, but group {i} has no 'initial_lr'")
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self.step()

    def get_lr(self) -> list[float]:
        """The rate of every group at `last_epoch`, from the present rates."""
        raise NotImplementedError

    def closed_form(self) -> list[float] | None:
        """The rates at `last_epoch` as a function of it and the base rates alone, where that is known."""
        return None

    def step(self, epoch: int | None = None) -> None:
        """Advances by one, or jumps to `epoch`, and sets the rates."""
        if epoch is None:
            self.last_epoch += 1
            values = self.get_lr()
        else:
            self.last_epoch = epoch
            closed = self.closed_form()
            values = self.get_lr() if closed is None else closed
        self._set(values)

    def _set(self, values: Sequence[float]) -> None:
        for group, value in zip(self.optimizer.param_groups, values, strict=True):
            group["lr"] = value
        self._last_lr = list(values)

    def get_last_lr(self) -> list[float]:
        """The rates that the last step set."""
        return self._last_lr

    def _present(self) -> list[float]:
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer (and functions), as plain values."""
        return {name: value for name, value in self.__dict__.items() if name not in self._unsaved}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        unknown = [name for name in state_dict if name not in self.__dict__ or name in self._unsaved]
        if unknown:
            raise ValueError(f"{type(self).__name__}.load_state_dict: unknown entries {unknown}; is it from another scheduler?")
        self.__dict__.update(state_dict)


class LambdaLR(LRScheduler):
    """base * lr_lambda(t); one function for all groups or a list with one each."""

    _unsaved = ("optimizer", "lr_lambdas")

    def __init__(
        self, optimizer: Optimizer, lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]], last_epoch: int = -1
    ) -> None:
        count = len(optimizer.param_groups)
        self.lr_lambdas = [lr_lambda] * count if callable(lr_lambda) else list(lr_lambda)
        if len(self.lr_lambdas) != count:
            raise ValueError(f"LambdaLR: expected {count} functions, one for each group, got {len(self.lr_lambdas)}")
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """base * lr_lambda(t)."""
        return [base * factor(self.last_epoch) for base, factor in zip(self.base_lrs, self.lr_lambdas, strict=True)]

    closed_form = get_lr


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
        highest = list(max_lr) if isinstance(max_lr, (list, tuple)) else [max_lr] * len(groups)
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
        self.min_lrs = list(min_lr) if isinstance(min_lr, (list, tuple)) else [min_lr] * count
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
            raise ValueError(f"SequentialLR: {len(self._schedulers)} schedulers need {len(self._schedulers) - 1} milestones, got {milestones}")
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
