"""A profile as a table of text."""

from __future__ import annotations

import io
from functools import reduce
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .profiler import Profile, Row

_WIDTH = 118


def quantity(amount: float, unit: str = "") -> str:
    """Three digits and a power of 1000, as in "3.63 G"."""
    for size, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if amount >= size:
            return f"{amount / size:.3g} {prefix}{unit}"
    return f"{amount:.3g} {unit}".rstrip()


def milliseconds(seconds: float) -> str:
    """Three digits or thousandths, as in "12.3" or "0.012"."""
    value = 1e3 * seconds
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"


def as_text(profile: Profile, by: str = "operator", depth: int | None = None, limit: int | None = None) -> str:
    """One line for each row of `profile.rows(by, depth)`, the total, and how to read it. ValueError for a limit below 1."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if limit is not None and limit < 1:
        raise ValueError(f"table: limit must be at least 1, got {limit}")
    rows, total = profile.rows(by, depth), profile.total
    if limit is not None and len(rows) > limit + 1:
        kept, rest = (sorted(rows, key=lambda r: -r.total_seconds)[:limit], [])
        names = {id(r) for r in kept}
        rest = [r for r in rows if id(r) not in names]
        rows = [r for r in rows if id(r) in names]
        rows.append(reduce(lambda a, b: a.plus(b), rest[1:], rest[0]))
        rows[-1] = _renamed(rows[-1], f"({len(rest)} more)")
    between = total.total_seconds - sum(r.total_seconds for r in rows)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(by, overflow="fold", max_width=40)
    for title in ("calls", "forward ms", "backward ms", "time", "FLOP", "of FMA peak", "bytes", "of bandwidth"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in (*rows, total):
        table.add_row(*(Text(cell) for cell in _cells(row, profile)), end_section=row is rows[-1])
    out = io.StringIO()
    console = Console(file=out, width=_WIDTH, color_system=None, legacy_windows=False)
    console.print(table)
    lines = [line.rstrip() for line in out.getvalue().rstrip("\n").split("\n")]
    lines += [
        f"median of {profile.runs} runs; the first call took {milliseconds(profile.first_seconds)} ms; "
        f"{milliseconds(max(between, 0.0))} ms of the total are between operators",
        f"peak: {profile.peak}; an FMA counts as two operations; values in caches can pass 100 % of the bandwidth",
    ]
    return "\n".join(lines)


def _renamed(row: Row, name: str) -> Row:
    from dataclasses import replace

    return replace(row, name=name)


def _cells(row: Row, profile: Profile) -> tuple[str, ...]:
    whole = profile.total.total_seconds
    flops, bandwidth = row.of_peak(profile.peak)
    return (
        row.name,
        str(row.calls),
        milliseconds(row.seconds),
        milliseconds(row.backward_seconds),
        f"{100 * row.total_seconds / whole:.1f} %" if whole else "",
        quantity(row.flops + row.backward_flops),
        f"{100 * flops:.1f} %",
        quantity(row.bytes + row.backward_bytes, "B"),
        f"{100 * bandwidth:.1f} %",
    )


__all__ = ["as_text", "milliseconds", "quantity"]
