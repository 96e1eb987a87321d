"""What may happen during a run: derive from `Callback`, override what you need."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from .._tensor import Tensor

if TYPE_CHECKING:
    from .trainer import Trainer


class Callback:
    """Called by `Trainer.fit`. State that a resumed run needs goes through `state_dict` and `load_state_dict`.

    observer: a name for a callback that only looks on. A checkpoint made without it resumes with it, and the other way round; its
    state is kept under this name. None, the default, for one that takes part: a run must be resumed with as many of those.
    """

    observer: str | None = None

    def on_fit_start(self, trainer: Trainer) -> None:
        """Before the first epoch."""

    def on_epoch_start(self, trainer: Trainer, epoch: int) -> None:
        """Before each epoch (numbered from 1)."""

    def on_batch_end(self, trainer: Trainer, batch: int, loss: float) -> None:
        """After each optimizer step, before a schedule per batch moves the learning rate."""

    def on_epoch_end(self, trainer: Trainer, record: dict[str, Any]) -> None:
        """After each epoch, with its measurements; set `trainer.should_stop` to end the run."""

    def on_fit_end(self, trainer: Trainer) -> None:
        """After the last epoch."""

    def on_fit_error(self, trainer: Trainer, error: BaseException) -> None:
        """When an error (a loss that is no number, Ctrl-C) ends the run, which then raises it; `on_fit_end` is not called."""

    def state_dict(self) -> dict[str, Any]:
        """State to keep in checkpoints."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what `state_dict` gave."""


class EarlyStopping(Callback):
    """Stops when `monitor` has not improved by `min_delta` for `patience` epochs, and puts the best weights back.

    monitor: a key of the epoch's record. mode: "min" or "max" (default: max for accuracies, min otherwise).
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 5,
        min_delta: float = 0.0,
        mode: str | None = None,
        restore_best: bool = True,
    ) -> None:
        if patience < 1:
            raise ValueError(f"EarlyStopping: patience must be at least 1, got {patience}")
        if mode not in (None, "min", "max"):
            raise ValueError(f"EarlyStopping: mode must be 'min' or 'max', got {mode!r}")
        self.monitor, self.patience, self.min_delta, self.restore_best = monitor, patience, min_delta, restore_best
        self.sign = 1.0 if (mode or ("max" if "accuracy" in monitor else "min")) == "max" else -1.0
        self.best, self.waited = -math.inf, 0
        self.best_weights: dict[str, Tensor] | None = None

    def on_epoch_end(self, trainer: Trainer, record: dict[str, Any]) -> None:
        if self.monitor not in record:
            raise ValueError(f"EarlyStopping: no {self.monitor!r} is measured; there are {', '.join(sorted(record))}")
        value = self.sign * record[self.monitor]
        if value > self.best + self.min_delta:
            self.best, self.waited = value, 0
            if self.restore_best:
                self.best_weights = {k: v.detach().clone() for k, v in trainer.model.state_dict().items()}  # type: ignore[attr-defined]
        else:
            self.waited += 1
            if self.waited >= self.patience:
                trainer.should_stop = True

    def on_fit_end(self, trainer: Trainer) -> None:
        if self.restore_best and self.best_weights is not None:
            trainer.model.load_state_dict(self.best_weights)

    def state_dict(self) -> dict[str, Any]:
        return {
            "best": self.best if math.isfinite(self.best) else None,
            "waited": self.waited,
            "best_weights": self.best_weights,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best = -math.inf if state["best"] is None else state["best"]
        self.waited, self.best_weights = state["waited"], state["best_weights"]
