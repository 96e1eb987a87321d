"""The training loop."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import random
from .._tensor import Tensor
from ..autograd import no_grad
from ..files import CheckpointError, save, write_atomically
from ..nn import Module
from ..nn.utils import clip_grad_norm_
from .callbacks import Callback
from .checkpoint import load_state, save_state
from .metrics import accuracy
from .progress import Progress


class TrainingError(RuntimeError):
    """A run that cannot go on, such as a loss that is not a number."""


class History(list[dict[str, Any]]):
    """One record an epoch: epoch, lr, seconds, train_loss, train_accuracy, and val_loss, val_accuracy where there is validation."""

    def series(self, key: str) -> list[float]:
        """The values of `key` over the epochs that have it."""
        return [record[key] for record in self if key in record]

    def save(self, path: Path) -> None:
        """Writes the records as JSON, atomically."""
        write_atomically(path, (json.dumps(list(self), indent=1) + "\n").encode())


class Trainer:
    """Fits `model` with `optimizer` to minimise `loss(model(inputs), targets)`.

    scheduler: stepped after every epoch, or every batch with `schedule_per="batch"`; a ReduceLROnPlateau gets val_loss. directory:
    where checkpoints go; None writes nothing. config: JSON-able settings that a resumed run must share; not the number of epochs,
    which may grow. clip_grad_norm: largest norm of all gradients together. measures: functions of (scores, targets) by name,
    averaged over examples.

    epoch: how many are done. epochs: how many the last `fit` was asked for, in this process or in the one that left the checkpoint.
    """

    checkpoint_name = "checkpoint.safetensors"

    def __init__(
        self,
        model: Module,
        optimizer: Any,
        loss: Callable[[Tensor, Tensor], Tensor],
        *,
        scheduler: Any = None,
        schedule_per: str = "epoch",
        measures: dict[str, Callable[[Tensor, Tensor], float]] | None = None,
        callbacks: Sequence[Callback] = (),
        directory: str | Path | None = None,
        config: dict[str, Any] | None = None,
        clip_grad_norm: float | None = None,
        progress: bool = True,
    ) -> None:
        if schedule_per not in ("epoch", "batch"):
            raise ValueError(f"Trainer: schedule_per must be 'epoch' or 'batch', got {schedule_per!r}")
        self.model, self.optimizer, self.loss, self.scheduler = model, optimizer, loss, scheduler
        self.schedule_per, self.callbacks, self.clip_grad_norm = schedule_per, list(callbacks), clip_grad_norm
        self.measures = {"accuracy": accuracy} if measures is None else measures
        self.directory = None if directory is None else Path(directory)
        self.config = config or {}
        self.progress = progress
        self.history = History()
        self.epoch = self.epochs = 0
        self.should_stop = False

    def fit(self, train: Any, epochs: int, validation: Any = None, *, resume: bool = False) -> History:
        """Trains up to epoch `epochs`, measuring on `validation` after each, and returns the history.

        resume: go on from the checkpoint in `directory`, bit for bit as if never interrupted; start afresh if there is none. With
        more epochs than that run was to last, it equals an uninterrupted run of so many, if its schedule is no function of their
        number (the schedule's state is the checkpoint's). ValueError for fewer epochs than are done, CheckpointError for a
        checkpoint made with another config. TrainingError when the loss stops being a number. Ctrl-C saves the weights as
        interrupted.safetensors and re-raises.
        """
        if len(train) == 0:
            raise ValueError(
                "Trainer.fit: the training loader has no batches (an empty data set, or drop_last with few examples)"
            )
        if resume:
            self.restore()
        if epochs < self.epoch:
            raise ValueError(
                f"Trainer.fit: {self.epoch} epochs are done already, and {epochs} were asked for; ask for at least {self.epoch}, or "
                "start afresh in another folder"
            )
        self.epochs = epochs
        self._each("on_fit_start")
        try:
            with Progress(epochs, len(train), enabled=self.progress) as progress:
                while self.epoch < epochs and not self.should_stop:
                    self._each("on_epoch_start", self.epoch + 1)
                    record = self._train_epoch(train, progress)
                    if validation is not None:
                        record |= {f"val_{k}": v for k, v in self.evaluate(validation).items()}
                    self._schedule("epoch", record)
                    self.epoch += 1
                    self.history.append(record)
                    self._each("on_epoch_end", record)
                    progress.finish_epoch(record)
                    self._save()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and self.directory is not None:
                save(self.model.state_dict(), self.directory / "interrupted.safetensors")
            self._each("on_fit_error", error)
            raise
        self._each("on_fit_end")
        return self.history

    def evaluate(self, loader: Iterable[Any]) -> dict[str, float]:
        """Mean loss and measures over `loader`, in eval mode, without recording; the mode before is put back."""
        was_training = self.model.training
        self.model.eval()
        totals: dict[str, float] = {}
        count = 0
        try:
            with no_grad():
                for inputs, targets in loader:
                    scores = self.model(inputs)
                    n = len(inputs)
                    totals["loss"] = totals.get("loss", 0.0) + n * self.loss(scores, targets).item()
                    for name, measure in self.measures.items():
                        totals[name] = totals.get(name, 0.0) + n * measure(scores, targets)
                    count += n
        finally:
            self.model.train(was_training)
        if not count:
            raise ValueError("Trainer.evaluate: the loader has no examples")
        return {name: total / count for name, total in totals.items()}

    # One epoch ------------------------------------------------------------------------------------------------------

    def _train_epoch(self, train: Any, progress: Progress) -> dict[str, Any]:
        self.model.train()
        started = time.perf_counter()
        lr = self.optimizer.param_groups[0]["lr"]
        totals = dict.fromkeys(("loss", *self.measures), 0.0)
        count = 0
        for batch, (inputs, targets) in enumerate(train):
            self.optimizer.zero_grad()
            scores = self.model(inputs)
            loss = self.loss(scores, targets)
            value = loss.item()
            if not math.isfinite(value):
                raise TrainingError(self._diagnose(value, batch, inputs))
            loss.backward()
            if self.clip_grad_norm is not None:
                clip_grad_norm_(self.model.parameters(), self.clip_grad_norm)
            self.optimizer.step()
            n = len(inputs)
            count += n
            totals["loss"] += n * value
            for name, measure in self.measures.items():
                totals[name] += n * measure(scores, targets)
            self._each("on_batch_end", batch, value)
            self._schedule("batch", {})
            progress.advance(self.epoch, batch, totals["loss"] / count, totals.get("accuracy", math.nan) / count)
        record: dict[str, Any] = {"epoch": self.epoch + 1, "lr": lr, "seconds": time.perf_counter() - started}
        return record | {f"train_{name}": total / count for name, total in totals.items()}

    def _diagnose(self, value: float, batch: int, inputs: Any) -> str:
        where = f"the loss became {value} in epoch {self.epoch + 1}, batch {batch + 1}"
        if isinstance(inputs, Tensor) and not np.isfinite(inputs._data).all():
            rows = np.flatnonzero(~np.isfinite(inputs._data.reshape(len(inputs), -1)).all(axis=1))
            return f"{where}: the input batch holds NaN or infinity (first in its example {rows[0]}); clean the data"
        broken = [n for n, p in self.model.named_parameters() if not np.isfinite(p._data).all()]
        if broken:
            return (
                f"{where}: the weights {', '.join(broken[:3])} are no longer finite; lower the learning rate or clip gradients"
            )
        return f"{where}: the inputs and weights are finite; lower the learning rate, or look with tg.autograd.detect_anomaly()"

    def _schedule(self, moment: str, record: dict[str, Any]) -> None:
        if self.scheduler is None or self.schedule_per != moment:
            return
        if type(self.scheduler).__name__ == "ReduceLROnPlateau":
            self.scheduler.step(record.get("val_loss", record.get("train_loss")))
        else:
            self.scheduler.step()

    def _each(self, event: str, *args: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(self, *args)

    def _participants(self) -> list[Callback]:
        return [callback for callback in self.callbacks if callback.observer is None]

    # Checkpoints ----------------------------------------------------------------------------------------------------

    def _save(self) -> None:
        if self.directory is None:
            return
        save_state(
            {
                "config": self.config,
                "epoch": self.epoch,
                "epochs": self.epochs,
                "should_stop": self.should_stop,
                "history": list(self.history),
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
                "callbacks": [callback.state_dict() for callback in self._participants()],
                "observers": {callback.observer: callback.state_dict() for callback in self.callbacks if callback.observer},
                "random": random.get_rng_state(),
            },
            self.directory / self.checkpoint_name,
        )

    def restore(self) -> bool:
        """Goes back to the checkpoint in `directory`, as `fit(resume=True)` does first. False if there is none.

        CheckpointError, with nothing changed, if it is damaged or was made with another config or other callbacks.
        """
        if self.directory is None or not (self.directory / self.checkpoint_name).exists():
            return False
        path = self.directory / self.checkpoint_name
        state = load_state(path)
        old, new = state["config"], json.loads(json.dumps(self.config))
        differing = {key: (old.get(key), new.get(key)) for key in {**old, **new} if old.get(key) != new.get(key)}
        if differing:
            listed = ", ".join(f"{k} was {old!r}, now {new!r}" for k, (old, new) in differing.items())
            raise CheckpointError(
                f"{path}: made with other settings ({listed}); resume with the same ones, or start in another folder"
            )
        participants, observers = self._participants(), state.get("observers", {})
        if len(state["callbacks"]) != len(participants):
            raise CheckpointError(f"{path}: made with {len(state['callbacks'])} callbacks, this run has {len(participants)}")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        for callback, callback_state in zip(participants, state["callbacks"], strict=True):
            callback.load_state_dict(callback_state)
        for callback in self.callbacks:
            if callback.observer in observers:
                callback.load_state_dict(observers[callback.observer])
        self.history = History(state["history"])
        self.epoch, self.epochs, self.should_stop = state["epoch"], state["epochs"], state["should_stop"]
        random.set_rng_state(state["random"])
        return True
