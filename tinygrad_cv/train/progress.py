"""Progress of a run on standard error: a bar with the time left on a terminal, one line an epoch elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any


def describe(record: dict[str, Any]) -> str:
    """One epoch in words: 'loss 0.0412  accuracy 98.71 %  val_loss ...'."""
    parts = []
    for key, value in record.items():
        if key in ("epoch", "seconds", "lr"):
            continue
        name = key.removeprefix("train_")
        parts.append(f"{name} {100 * value:.2f} %" if "accuracy" in name else f"{name} {value:.4f}")
    return "  ".join(parts)


class Progress:
    """`with Progress(epochs, batches) as progress:` then `advance` after every batch and `finish_epoch` after every epoch."""

    def __init__(self, epochs: int, batches: int, enabled: bool = True) -> None:
        self.epochs, self.batches, self.enabled = epochs, batches, enabled
        self._bar: Any = None
        self._task: Any = None
        self._last = 0.0

    def __enter__(self) -> Progress:
        if self.enabled and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TextColumn("left"),
                TimeRemainingColumn(), console=Console(stderr=True), auto_refresh=False, transient=True,
            )  # fmt: skip
            self._bar.start()
            self._task = self._bar.add_task("starting", total=self.epochs * self.batches)
        return self

    def advance(self, epoch: int, batch: int, loss: float, accuracy: float) -> None:
        """Redraws the bar, at most five times a second; epochs and batches count from 0."""
        now = time.monotonic()
        if self._bar is None or now - self._last < 0.2:
            return
        self._last = now
        text = f"epoch {epoch + 1}/{self.epochs}  loss {loss:.4f}" + (
            f"  accuracy {100 * accuracy:.2f} %" if accuracy == accuracy else ""
        )
        self._bar.update(self._task, completed=epoch * self.batches + batch + 1, description=text)
        self._bar.refresh()

    def finish_epoch(self, record: dict[str, Any]) -> None:
        """Leaves one line for the finished epoch."""
        line = f"epoch {record['epoch']}/{self.epochs}  {record['seconds']:.1f} s  {describe(record)}"
        if self._bar is not None:
            self._bar.console.print(line, highlight=False)
        elif self.enabled:
            print(line, file=sys.stderr, flush=True)

    def __exit__(self, *_: Any) -> None:
        if self._bar is not None:
            self._bar.stop()
