"""Entrants of one case, timed against each other.

All entrants are called once first: that call is timed apart, and its result compared with PyTorch's, so that nothing wrong is timed.
Then they take turns in blocks, not calls: two thread pools whose workers spin would disturb each other call by call. The time of an
entrant is the median call of its calmest block; its spread is that of the medians of its blocks, largest by smallest.
"""

from __future__ import annotations

import gc
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

CLOCK_SPAN = 2e-4  # seconds that one reading of the clock shall span at least: shorter calls are timed several at a time
REST = 0.02  # seconds before a block, in which the workers of the entrant before go to sleep

Call = Callable[[], Any]


@dataclass(frozen=True)
class Plan:
    """How long to measure: `blocks` blocks for each entrant, of `seconds` each. quick: small cases, to see that all works."""

    blocks: int = 7
    seconds: float = 0.25
    quick: bool = False


QUICK = Plan(blocks=2, seconds=0.005, quick=True)


@dataclass(frozen=True)
class Missing:
    """An entrant that cannot take part, and why."""

    reason: str


def attempt(build: Callable[[], Call]) -> Call | Missing:
    """What `build` returns, or why it could not."""
    try:
        return build()
    except Exception as error:
        return Missing(describe(error))


def describe(error: BaseException) -> str:
    """An exception in one line of a table."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:160]}".replace("|", "/")


def arrays(value: Any) -> list[np.ndarray]:
    """Tensors of any library, alone or in tuples and lists, as float64 arrays."""
    if isinstance(value, (tuple, list)):
        return [array for item in value for array in arrays(item)]
    if hasattr(value, "detach"):
        value = value.detach()
    return [np.array(value.numpy() if hasattr(value, "numpy") else value, np.float64)]


def difference(found: Any, expected: Any) -> float:
    """The largest difference of two results, relative to the largest element of the array it is in; infinite for other shapes."""
    ours, theirs = arrays(found), arrays(expected)
    if [a.shape for a in ours] != [b.shape for b in theirs]:
        return float("inf")
    return max(
        float(np.abs(a - b).max(initial=0)) / max(float(np.abs(b).max(initial=0)), 1e-30)
        for a, b in zip(ours, theirs, strict=True)
    )


def block(call: Call, calls: int, seconds: float) -> float:
    """The median of the seconds that a call takes, over readings of `calls` calls each."""
    times: list[float] = []
    stop = time.perf_counter() + seconds
    while not times or time.perf_counter() < stop:
        started = time.perf_counter()
        for _ in range(calls):
            call()
        times.append((time.perf_counter() - started) / calls)
    return statistics.median(times)


def contest(case: str, entrants: dict[str, Call | Missing], plan: Plan, tolerance: float = 1e-4, **more: Any) -> dict[str, Any]:
    """One row of a table: milliseconds, spread and first call of each entrant; the reasons of those without; what they warned of.

    The results of first calls must equal those of the entrant "PyTorch" within `tolerance` (see `difference`). more: what else the
    row says, such as `flop`, the floating-point operations of a call, or `bytes`, those it must move.
    """
    failed = {name: entrant.reason for name, entrant in entrants.items() if isinstance(entrant, Missing)}
    calls: dict[str, Call] = {name: entrant for name, entrant in entrants.items() if not isinstance(entrant, Missing)}
    first: dict[str, float] = {}
    results: dict[str, Any] = {}
    notes: dict[str, str] = {}
    wrong = []
    for name in list(calls):
        started = time.perf_counter()
        try:
            with _noting(notes, name):
                results[name] = calls[name]()
        except Exception as error:
            if name == "PyTorch":
                raise
            failed[name] = describe(error)
            wrong += ["ours"] if name == "ours" else []
            del calls[name]
            continue
        first[name] = time.perf_counter() - started
    for name in results:
        off = difference(results[name], results["PyTorch"])
        if not off <= tolerance:
            failed[name] = f"its result differs from PyTorch's by {off:.1e}, allowed is {tolerance:.0e}: not timed"
            wrong.append(name)
            del calls[name]
    results.clear()
    gc.collect()
    counts = {}
    for name, call in calls.items():
        with _noting(notes, name):
            counts[name] = _warm(call, plan)
    found: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls)
    for _ in range(plan.blocks):
        for name in order:
            time.sleep(REST)
            calls[name]()
            found[name].append(block(calls[name], counts[name], plan.seconds))
        order.reverse()
    times = {
        name: {"ms": 1e3 * min(blocks), "spread": max(blocks) / min(blocks), "first_ms": 1e3 * first[name]}
        for name, blocks in found.items()
    }
    return {"case": case, "times": times, "failed": failed, "wrong": sorted(wrong), "notes": notes, **more}


@contextmanager
def _noting(notes: dict[str, str], name: str) -> Iterator[None]:
    """Keeps the first RuntimeWarning inside as a note on entrant `name`: that is how a compiler says that it ran something as it was."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    messages = [str(w.message).splitlines()[0] for w in caught if issubclass(w.category, RuntimeWarning)]
    if messages:
        notes.setdefault(name, messages[0].replace("|", "/"))


def _warm(call: Call, plan: Plan) -> int:
    """Calls until times have settled; returns how many calls one reading of the clock shall span."""
    once = block(call, 1, plan.seconds)
    return max(1, int(CLOCK_SPAN / once))
