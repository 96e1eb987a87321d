"""The base of learning-rate schedules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..replay import replayable
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

    @replayable
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
