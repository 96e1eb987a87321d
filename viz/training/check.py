"""One rule's answer, and what the rules measure with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .recording import Recording

NOTES = "CS231n notes, neural networks 3"


@dataclass(frozen=True)
class Check:
    """One rule's answer. verdict: "problem", "warning", "ok" or "unknown" (not enough was measured).

    rule: the trouble that it looks for. text: the answer in words. evidence: (what, number or words) pairs. layers: the names
    concerned. steps: the first and last step looked at. advice: what to try. threshold, source: where the line is drawn, and who
    says so. marks: "step", where a chart should point.
    """

    rule: str
    verdict: str
    text: str
    evidence: tuple[tuple[str, str], ...] = ()
    layers: tuple[str, ...] = ()
    steps: tuple[int, int] | None = None
    advice: str = ""
    threshold: str = ""
    source: str = ""
    marks: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        sign = {"problem": "PROBLEM", "warning": "WARNING", "ok": "not found", "unknown": "not known"}[self.verdict]
        evidence = "; ".join(f"{what} {value}" for what, value in self.evidence)
        return (
            f"{sign}: {self.rule}: {self.text}"
            + (f" [{evidence}]" if evidence else "")
            + (f" {self.advice}" if self.advice else "")
        )


def number(value: float) -> str:
    """Three significant digits, in the shortest usual form."""
    return f"{value:.3g}" if math.isfinite(value) else "not a number" if math.isnan(value) else "infinite"


def percent(share: float) -> str:
    """A share of 0..1 as per cent."""
    return f"{100 * share:.0f} %" if share >= 0.1 or share == 0 else f"{100 * share:.1f} %"


def median(values: Sequence[float]) -> float:
    known = [v for v in values if math.isfinite(v)]
    return float(np.median(known)) if known else math.nan


def medians(run: Recording, part: str, key: str, names: Sequence[str]) -> dict[str, float]:
    """By name, the median of one measurement over the recent samples; names without it are left out."""
    found = {name: median([s[part][name][key] for s in run.recent() if key in s[part].get(name, {})]) for name in names}
    return {name: value for name, value in found.items() if not math.isnan(value)}


def span(run: Recording) -> tuple[int, int] | None:
    recent = run.recent()
    return (recent[0]["step"], recent[-1]["step"]) if recent else None


def relative_gradients(run: Recording) -> dict[str, float]:
    """By weight matrix, the median over recent samples of gradient norm / weight norm."""
    found = {}
    for name in run.matrices():
        pairs = [s["parameters"].get(name, {}) for s in run.recent()]
        value = median([p["grad_norm"] / p["norm"] for p in pairs if "grad_norm" in p and p["norm"] > 0])
        if not math.isnan(value):
            found[name] = value
    return found
