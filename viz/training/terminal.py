"""The run in the terminal: sparklines that move on a terminal, one short block an epoch elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from typing import Any

from .check import Check, number, percent
from .diagnosis import diagnose
from .recording import Recording

BLOCKS = "▁▂▃▄▅▆▇█"
ASCII = "_.-=+*#@"
LAYERS = 16  # rows of the table: of a deeper network the first, the last and those between at equal distances


def sparkline(values: Sequence[float], width: int = 30, *, log: bool = False, blocks: str = BLOCKS) -> str:
    """The values as a row of blocks, lowest to highest; the mean of each part where there are more values than `width`.

    log: by the logarithm, where values are positive. What is not finite (or not positive) is a "?". Equal values give the lowest block.
    ValueError for width < 1.
    """
    if width < 1:
        raise ValueError(f"sparkline: width must be at least 1, got {width}")
    count = len(values)
    parts = (
        [values[i * count // width : (i + 1) * count // width] for i in range(width)]
        if count > width
        else [[v] for v in values]
    )
    shown = []
    for part in parts:
        known = [math.log10(v) if log else v for v in part if math.isfinite(v) and (v > 0 or not log)]
        shown.append(sum(known) / len(known) if known and len(known) == len(part) else math.nan)
    there = [v for v in shown if not math.isnan(v)]
    low = min(there, default=0.0)
    span = max(there, default=0.0) - low
    steps = len(blocks) - 1
    return "".join("?" if math.isnan(v) else blocks[round((v - low) / span * steps) if span > 0 else 0] for v in shown)


class LiveView:
    """Shows a recording on standard error: redrawn in place, four times a second at most, or a block an epoch if it is no terminal."""

    def __init__(self, stream: Any = None) -> None:
        from rich.console import Console

        self.console = Console(file=stream or sys.stderr, highlight=False, markup=False)
        self._live: Any = None
        self._last = 0.0

    def show(self, run: Recording, epoch: bool = False) -> None:
        """Brings the view up to date; `epoch` at the end of one."""
        if not self.console.is_terminal:
            if epoch:
                self.console.print(summary(run), soft_wrap=True)
            return
        now = time.monotonic()
        if now - self._last < 0.25 and not epoch:
            return
        self._last = now
        if self._live is None:
            from rich.live import Live

            self._live = Live(console=self.console, auto_refresh=False)
            self._live.start()
        self._live.update(view(run, self.console.width, self.console.encoding), refresh=True)

    def close(self, run: Recording) -> None:
        """Leaves the last view standing, with what was found."""
        if self._live is not None:
            self._live.update(view(run, self.console.width, self.console.encoding), refresh=True)
            self._live.stop()
            self._live = None
        elif run.steps:
            self.console.print(findings_text(diagnose(run)), soft_wrap=True)


def summary(run: Recording) -> str:
    """One epoch in one line, with a sparkline of the loss."""
    parts = [f"epoch {len(run.epochs)}  step {run.steps}  loss {number(run.loss[-1])} {sparkline(run.loss, 24)}"]
    if run.epochs:
        for key, name in (("train_accuracy", "accuracy"), ("val_accuracy", "val accuracy"), ("val_loss", "val loss")):
            if key in run.epochs[-1]:
                value = run.epochs[-1][key]
                parts.append(f"{name} {100 * value:.2f} %" if "accuracy" in key else f"{name} {number(value)}")
    return "  ".join(parts)


def findings_text(checks: Sequence[Check]) -> str:
    """What the rules found, a line each, or that they found nothing."""
    found = sorted((c for c in checks if c.verdict in ("problem", "warning")), key=lambda c: c.verdict)
    return "\n".join(str(c) for c in found) if found else "the rules found nothing wrong"


def view(run: Recording, width: int = 100, encoding: str = "utf-8") -> Any:
    """The whole view for a terminal of so many columns, as something rich prints."""
    from rich.console import Group
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    blocks = BLOCKS if "utf" in encoding.lower() else ASCII
    room = max(10, min(60, width - 44))
    curves = Table.grid(padding=(0, 2))
    wide = min(run.loss, default=0) > 0 and max(run.loss) > 30 * min(run.loss)
    curves.add_row(*_row("loss", run.loss, number, room, blocks, "bold", wide))
    for key, name, form in (
        ("val_loss", "validation loss", number), ("train_accuracy", "accuracy", _share), ("val_accuracy", "validation accuracy", _share),
    ):  # fmt: skip
        values = [e[key] for e in run.epochs if key in e]
        if values:
            curves.add_row(*_row(name, values, form, room, blocks))
    if run.rate and math.isfinite(run.rate[-1]):
        curves.add_row(*_row("learning rate", run.rate, number, room, blocks))
    norms = [s["grad_norm"] for s in run.samples]
    if norms:
        curves.add_row(*_row("gradient norm", norms, number, room, blocks, log=True))
    share = f", {100 * run.cost / run.seconds:.1f} % of it for watching" if run.seconds > 0 else ""
    head = f"step {run.steps}, epoch {len(run.epochs)} done, {run.seconds:.0f} s{share}"
    parts: list[Any] = [curves]
    if run.samples:
        parts += [Text(), _layer_table(run, width, blocks)]
    checks = [c for c in diagnose(run) if c.verdict in ("problem", "warning")]
    for check in sorted(checks, key=lambda c: c.verdict):
        colour = "bold red" if check.verdict == "problem" else "yellow"
        parts.append(Text.assemble((f"{check.verdict}: ", colour), check.text))
    return Panel(Group(*parts), title=Text.assemble((run.title or "training", "bold"), f": {head}"), title_align="left")


def _share(value: float) -> str:
    return f"{100 * value:.2f} %"


def _row(
    name: str, values: Sequence[float], form: Any, room: int, blocks: str, style: str = "", log: bool = False
) -> tuple[Any, ...]:
    from rich.text import Text

    return name, Text(form(values[-1]), style, justify="right"), Text(sparkline(values, room, log=log, blocks=blocks), "blue")


def _layer_table(run: Recording, width: int, blocks: str) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 1), header_style="dim")
    table.add_column("weights", no_wrap=True, max_width=max(12, width // 3))
    for name in ("update/weight", "", "", "gradient"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    names = run.matrices()
    shown = names if len(names) <= LAYERS else [names[i * (len(names) - 1) // (LAYERS - 1)] for i in range(LAYERS)]
    room = max(6, min(24, width - 62))
    for name in shown:
        _, ratios = run.series("parameters", name, "ratio")
        _, norms = run.series("parameters", name, "grad_norm")
        if not ratios:
            continue
        word, style = _against_guide(ratios[-1])
        table.add_row(
            name, number(ratios[-1]), Text(sparkline(ratios, room, log=True, blocks=blocks), "blue"), Text(word, style),
            number(norms[-1]) if norms else "",
        )  # fmt: skip
    worst = {key: _worst(run, key) for key in ("dead", "saturated")}
    told = [f"most {key}: {percent(share)} in {name}" for key, (name, share) in worst.items() if name]
    if len(shown) < len(names):
        told.insert(0, f"{len(shown)} of {len(names)} shown")
    table.caption = "; ".join(told)
    table.caption_justify = "left"
    return table


def _against_guide(ratio: float) -> tuple[str, str]:
    if not math.isfinite(ratio):
        return "broken", "bold red"
    if ratio > 1e-2:
        return "high", "yellow"
    return ("low", "yellow") if ratio < 1e-4 else ("ok", "green")


def _worst(run: Recording, key: str) -> tuple[str, float]:
    shares = {name: layer[key] for name, layer in run.samples[-1]["layers"].items() if key in layer}
    name = max(shares, key=lambda n: shares[n], default="")
    return name, shares.get(name, 0.0)
