"""Watches a run: a callback of `Trainer`, or plain calls in a loop of one's own."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_cv import nn, train

from .check import Check
from .diagnosis import diagnose
from .overfit import Overfit, can_overfit
from .probe import Probe
from .recording import Recording

FORMATS = (".html", ".png", ".svg", ".pdf", ".json")


class TrainingMonitor(train.Callback):
    """Records what the "babysitting" chapters look at, says what is wrong and why, and draws it.

    As a callback of the trainer:

        monitor = tg.viz.TrainingMonitor(report="report.html")
        train.Trainer(model, optimizer, loss, callbacks=[monitor]).fit(loader, epochs, validation)

    In a loop of one's own, `step` after every optimizer step and before the next zero_grad, `epoch` where there is something to
    tell, `finish` at the end (or `with monitor:` around the loop):

        monitor = tg.viz.TrainingMonitor(model, optimizer, classes=10)
        ...
            loss.backward(); optimizer.step(); monitor.step(loss)
        monitor.epoch(train_accuracy=0.97, val_accuracy=0.95)
        monitor.finish(); monitor.save("report.html"); print(*monitor.findings(), sep="\\n")

    Every step: loss and learning rate. Every `every` steps: norm of gradients; for every parameter the ratio of its update's norm to
    its own (about 1e-3 is the guide); for every layer a histogram, mean and deviation of its activations, root mean square and
    histogram of their gradients, the share of dead rectifier units and of saturated sigmoids and tanhs. Nothing is changed and no
    random number drawn: the run is bit for bit the one without. No more than `limit` samples are kept: then every second one goes
    and `every` doubles, so a long run costs less and less. What it costs is measured (`recording.cost`) and shown.

    model, optimizer: taken from the trainer where there is one. classes: number of classes of a cross-entropy, whose loss at chance is
    ln C; found by itself with a trainer. activations: False leaves the layers alone, which a step under `tg.compile` needs (a hook
    ends its recording); weights and gradients are recorded all the same. report: file written after every epoch and at the end, by its
    ending .html, .png, .svg, .pdf or .json. live: show the run in the terminal.

    TypeError for a model, an optimizer or numbers that are none. ValueError for every < 1, limit < 10, classes < 2 or another ending.

    Source: CS231n notes, neural networks 3 ("babysitting the learning process"), https://cs231n.github.io/neural-networks-3/.
    """

    observer = "TrainingMonitor"  # a checkpoint made without it resumes with it, and the other way round

    def __init__(
        self,
        model: nn.Module | None = None,
        optimizer: Any = None,
        *,
        every: int = 10,
        limit: int = 200,
        classes: int | None = None,
        activations: bool = True,
        report: str | Path | None = None,
        live: bool = False,
        title: str = "",
    ) -> None:
        if model is not None and not hasattr(model, "named_parameters"):
            raise TypeError(f"TrainingMonitor: model must be an nn.Module, got {type(model).__name__}")
        if optimizer is not None and not hasattr(optimizer, "param_groups"):
            raise TypeError(f"TrainingMonitor: optimizer must be an optimizer of tg.optim, got {type(optimizer).__name__}")
        for name, value in (("every", every), ("limit", limit), ("classes", 2 if classes is None else classes)):
            if not isinstance(value, (int, np.integer)):
                raise TypeError(f"TrainingMonitor: {name} must be a whole number, got {type(value).__name__}")
        if every < 1:
            raise ValueError(f"TrainingMonitor: every must be at least 1 step, got {every}")
        if limit < 10:
            raise ValueError(f"TrainingMonitor: limit must be at least 10 samples, got {limit}")
        if classes is not None and classes < 2:
            raise ValueError(f"TrainingMonitor: classes must be at least 2, got {classes}")
        if report is not None:
            _check_ending("TrainingMonitor", report)
        self.recording = Recording(title=title, every=every, chance=None if classes is None else math.log(classes))
        self.limit, self.activations, self.report, self.live = limit, activations, report, live
        self.optimizer = optimizer
        self.example: dict[str, Any] = {}  # figures to go into the report: filters, confusion
        self._probe: Probe | None = None
        self._view: Any = None
        self._started: float | None = None
        self._earlier = (0.0, 0.0)  # seconds and cost of the run before it was resumed
        self._spent = 0.0
        self._next = 1
        self._criterion: Any = None
        self._idle: dict[str, Any] = {}
        if model is not None:
            self._watch(model)

    # In a loop of one's own -------------------------------------------------------------------------------------------

    def step(self, loss: Any, accuracy: float = math.nan) -> None:
        """Tells of one step that is done: its loss (a number or a Tensor of one element) and, where known, the batch's accuracy.

        TypeError for what is no number, before anything is recorded. RuntimeError without a model, or if a sampled step has no
        gradients any more.
        """
        if self._probe is None:
            raise RuntimeError("TrainingMonitor.step: there is no model; give it to TrainingMonitor(model, optimizer)")
        loss, accuracy = _as_number("loss", loss), _as_number("accuracy", accuracy)
        entered = time.perf_counter()
        recording = self.recording
        recording.loss.append(loss)
        recording.accuracy.append(accuracy)
        recording.rate.append(self._rate())
        if recording.steps >= self._next and self._probe.attached:
            self._sample()
        if recording.steps + 1 >= self._next:
            self._probe.attach()
        if not math.isfinite(recording.loss[-1]) and not recording.broken:
            recording.broken = self._probe.broken()
        if self._view is not None:
            self._view.show(recording)
        self._spend(entered)

    def epoch(self, **measured: float) -> None:
        """Ends an epoch: any of train_loss, train_accuracy, val_loss, val_accuracy. TypeError for another name."""
        names = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
        unknown = sorted(set(measured) - set(names))
        if unknown:
            raise TypeError(f"TrainingMonitor.epoch: {unknown[0]!r} is not recorded; there are {', '.join(names)}")
        entered = time.perf_counter()
        self.recording.epochs.append({"step": self.recording.steps, **{k: float(v) for k, v in measured.items()}})
        if self._view is not None:
            self._view.show(self.recording, epoch=True)
        if self.report is not None:
            self.save(self.report)
        self._spend(entered)

    def finish(self) -> None:
        """Takes everything off the model, and writes the report where one is wanted."""
        if self._probe is not None:
            self._probe.detach()
        if self._view is not None:
            self._view.close(self.recording)
            self._view = None
        if self.report is not None and self.recording.steps:
            self.save(self.report)

    def __enter__(self) -> TrainingMonitor:
        return self

    def __exit__(self, *_: Any) -> None:
        self.finish()

    # What it found ----------------------------------------------------------------------------------------------------

    def checks(self) -> list[Check]:
        """Every rule with what it found, also where all is well or nothing could be measured."""
        return diagnose(self.recording)

    def findings(self) -> list[Check]:
        """The rules that found something wrong, the worst first."""
        return sorted((c for c in self.checks() if c.verdict in ("problem", "warning")), key=lambda c: c.verdict)

    def save(self, path: str | Path) -> None:
        """The report, by the ending of `path`: .html (one page, no network), .png, .svg, .pdf (matplotlib), .json (the numbers).

        ValueError for another ending or when nothing was recorded. A failed write leaves no file.
        """
        ending = _check_ending("TrainingMonitor.save", path)
        if not self.recording.steps:
            raise ValueError("TrainingMonitor.save: nothing was recorded yet; there is nothing to show")
        if ending == ".json":
            self.recording.save(path)
        elif ending == ".html":
            from .report import write_report

            write_report(self.recording, path, self.example)
        else:
            from .figures import plot_recording

            plot_recording(self.recording).save(path)

    def examine(self, batches: Iterable[Any] | None = None, classes: Sequence[str] | None = None) -> None:
        """Adds pictures of the network as it is now to the HTML report: first-layer filters and, from `batches` of (images, labels),
        the confusion matrix with the worst images. classes: their names. Errors as of `confusion`.
        """
        if self._probe is None:
            raise RuntimeError("TrainingMonitor.examine: there is no model yet")
        from .first_layer import filter_images, packed
        from .mistakes import confusion

        if batches is not None:
            self.example["confusion"] = confusion(self._probe.model, batches, classes).packed()
        try:
            images, note = filter_images(self._probe.model)
        except ValueError:  # a first layer whose weights are no pictures
            return
        self.example["filters"] = {"note": note, "images": [packed(image) for image in images]}

    def try_overfit(self, inputs: Any, targets: Any, **options: Any) -> Overfit:
        """`can_overfit` on the model as it is now, kept for the report. With a trainer that has not begun, give `model=`."""
        model = options.pop("model", None)
        if model is None:
            if self._probe is None:
                raise RuntimeError("TrainingMonitor.try_overfit: there is no model yet; give model=")
            model = self._probe.model
        tried = can_overfit(model, inputs, targets, **options)
        self.recording.overfit = tried.summary()
        return tried

    # As a callback ----------------------------------------------------------------------------------------------------

    def on_fit_start(self, trainer: Any) -> None:
        self.optimizer, self._criterion = trainer.optimizer, trainer.loss
        self._watch(trainer.model)

    def on_batch_end(self, trainer: Any, batch: int, loss: float) -> None:
        self.step(loss)

    def on_epoch_end(self, trainer: Any, record: dict[str, Any]) -> None:
        names = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
        self.epoch(**{name: record[name] for name in names if name in record})

    def on_fit_end(self, trainer: Any) -> None:
        self.finish()

    def on_fit_error(self, trainer: Any, error: BaseException) -> None:
        self.recording.error = f"{type(error).__name__}: {error}".removesuffix(": ")
        if isinstance(error, train.TrainingError) and self._probe is not None:
            self.recording.broken = self._probe.broken()
            self.recording.loss.append(math.nan)
            self.recording.accuracy.append(math.nan)
            self.recording.rate.append(self._rate())
        self.finish()

    def state_dict(self) -> dict[str, Any]:
        return {"recording": self.recording.to_dict(), "idle": {} if self._probe is None else dict(self._probe.idle)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.recording = Recording.from_dict(state["recording"])
        self._earlier = (self.recording.seconds, self.recording.cost)
        self._idle = {name: np.asarray(v.numpy() if hasattr(v, "numpy") else v) for name, v in state["idle"].items()}
        if self._probe is not None:
            self._probe.idle = dict(self._idle)

    # Measuring --------------------------------------------------------------------------------------------------------

    def _watch(self, model: nn.Module) -> None:
        self.recording.title = self.recording.title or type(model).__name__
        self._probe = Probe(model, self.activations)
        self._probe.idle = dict(self._idle)
        shapes = {name: {"shape": list(p.shape), "count": p.numel()} for name, p in self._probe.parameters.items()}
        self.recording.weights = shapes
        if self.live and self._view is None:
            from .terminal import LiveView

            self._view = LiveView()
        self._next = self.recording.steps + 1 if not self.recording.samples else self._following()
        self._started, self._spent = time.perf_counter(), 0.0
        if self._next == self.recording.steps + 1:
            self._probe.attach()

    def _following(self) -> int:
        """The next step to sample: step 1, then the multiples of `every`."""
        return (self.recording.steps // self.recording.every + 1) * self.recording.every

    def _sample(self) -> None:
        assert self._probe is not None
        recording = self.recording
        recording.samples.append({"step": recording.steps, **self._probe.read(not math.isfinite(recording.loss[-1]))})
        recording.layers = dict(self._probe.layers) or recording.layers
        if recording.chance is None and self._criterion is not None:
            recording.chance = _loss_at_chance(self._criterion, recording.layers)
        if len(recording.samples) > self.limit:
            recording.samples = recording.samples[::2]
            recording.every *= 2
        self._next = self._following()

    def _rate(self) -> float:
        groups = getattr(self.optimizer, "param_groups", None)
        return float(groups[0]["lr"]) if groups else math.nan

    def _spend(self, entered: float) -> None:
        assert self._started is not None and self._probe is not None
        now = time.perf_counter()
        self._spent += now - entered
        self.recording.seconds = self._earlier[0] + now - self._started
        self.recording.cost = self._earlier[1] + self._spent + self._probe.spent


def _loss_at_chance(criterion: Any, layers: dict[str, dict[str, Any]]) -> float | None:
    """ln C where the loss is a plain cross-entropy over the last layer's C outputs, else None."""
    plain = isinstance(criterion, nn.CrossEntropyLoss) and criterion.weight is None and criterion.label_smoothing == 0
    if not (plain or criterion is nn.functional.cross_entropy) or not layers:
        return None
    shape = list(layers.values())[-1]["shape"]
    return math.log(shape[0]) if len(shape) == 1 and shape[0] > 1 else None


def _as_number(name: str, value: Any) -> float:
    """A number, or the one element of a Tensor or array, as float."""
    if hasattr(value, "item") and getattr(value, "size", 1) != 1 and not hasattr(value, "numel"):
        raise TypeError(f"TrainingMonitor.step: {name} must be one number, got an array of shape {value.shape}")
    if hasattr(value, "numel") and value.numel() != 1:
        raise TypeError(f"TrainingMonitor.step: {name} must be one number, got a Tensor of shape {tuple(value.shape)}")
    plain = value.item() if hasattr(value, "item") else value
    if not isinstance(plain, (int, float)):
        raise TypeError(f"TrainingMonitor.step: {name} must be a number or a Tensor of one element, got {type(value).__name__}")
    return float(plain)


def _check_ending(caller: str, path: str | Path) -> str:
    ending = Path(path).suffix.lower()
    if ending not in FORMATS:
        raise ValueError(f"{caller}: the ending of {str(path)!r} must be one of {', '.join(FORMATS)}")
    return ending
