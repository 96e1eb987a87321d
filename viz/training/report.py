"""A run as one HTML page: no network, no framework; a strict policy names the hash of the only script and the only style."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
from collections.abc import Mapping
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

import tinygrad_cv as tg
from tinygrad_cv.files import write_atomically

from .diagnosis import diagnose
from .probe import DECADE_BINS, DECADES
from .recording import Recording, finite

SCRIPTS = ("scale.js", "chart.js", "heatmap.js", "page.js")
POINTS = 1200  # of a curve on the page: longer runs are shown by the mean, smallest and largest loss of as many parts
CELLS = 600_000  # of all histograms together; the samples are thinned to keep to it


def write_report(run: Recording, path: str | Path, example: Mapping[str, Any] | None = None) -> None:
    """Writes the page to `path`, atomically. example: "filters" and "confusion" as `TrainingMonitor.examine` leaves them."""
    write_atomically(Path(path), report_page(run, example).encode())


def report_page(run: Recording, example: Mapping[str, Any] | None = None) -> str:
    """The whole page as text. The same recording gives the same page."""
    static = resources.files(__package__).joinpath("static")
    style = static.joinpath("report.css").read_text("utf-8")
    script = '"use strict";\n{\n' + "\n".join(static.joinpath(name).read_text("utf-8") for name in SCRIPTS) + "}\n"
    policy = f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; base-uri 'none'; form-action 'none'"
    data = json.dumps(finite(page_data(run, example)), separators=(",", ":"), allow_nan=False)
    parts = {
        "policy": policy,
        "title": html.escape(f"Training of {run.title}" if run.title else "A training run"),
        "style": style,
        "script": script,
        "data": data.replace("<", "\\u003c"),
        "footer": html.escape(f"Made by tinygrad_cv {tg.__version__}. This page holds all it shows and asks for nothing."),
    }
    page = static.joinpath("report.html").read_text("utf-8")
    pieces = page.split("@")  # text, name, text, name, ..., text: a part that holds an @ is not looked at again
    return "".join(parts[piece] if i % 2 else piece for i, piece in enumerate(pieces))


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def page_data(run: Recording, example: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What the page's script reads."""
    samples = run.samples
    stride = max(1, math.ceil(len(samples) * len(run.layers) * 80 / CELLS))
    kept = samples[::stride]
    matrices = set(run.matrices())
    return {
        "steps": run.steps,
        "facts": _facts(run),
        "chance": run.chance,
        "checks": [_check(check) for check in diagnose(run)],
        "loss": _curve(run, run.loss),
        "rate": _thin(run.rate),
        "accuracy": _curve(run, run.accuracy) if any(not math.isnan(a) for a in run.accuracy) else None,
        "epochs": run.epochs,
        "samples": [s["step"] for s in samples],
        "grad_norm": [_short(s["grad_norm"]) for s in samples],
        "weights": [
            {
                "name": name,
                "matrix": name in matrices,
                **{key: _column(samples, "parameters", name, key) for key in ("ratio", "grad_norm")},
            }
            for name in run.weights
        ],
        "hist_steps": [s["step"] for s in kept],
        "decades": {"low": DECADES[0], "high": DECADES[1], "bins": DECADE_BINS, **_decades(kept)},
        "layers": [_layer(name, about, samples, kept) for name, about in run.layers.items()],
        **(example or {}),
    }


def _facts(run: Recording) -> list[tuple[str, str]]:
    facts = [(f"{run.steps:,}", "steps")]
    if run.epochs:
        facts.append((str(len(run.epochs)), "epochs"))
    facts.append((f"{sum(w['count'] for w in run.weights.values()):,}", "parameters"))
    facts.append((f"{run.seconds:.1f} s", "altogether"))
    if run.seconds > 0:
        facts.append((f"{100 * run.cost / run.seconds:.1f} %", f"of it for watching, a sample every {run.every} steps"))
    if run.error:
        facts.append((run.error, ""))
    return facts


def _check(check: Any) -> dict[str, Any]:
    keys = ("rule", "verdict", "text", "evidence", "steps", "advice", "threshold", "source")
    return {key: getattr(check, key) for key in keys} | {"step": check.marks.get("step")}


def _short(value: float) -> float | None:
    """Five significant digits, which is more than a screen shows; None for what is not finite."""
    return float(f"{value:.5g}") if math.isfinite(value) else None


def _edges(count: int) -> np.ndarray:
    parts = min(count, POINTS)
    return np.linspace(0, count, parts + 1).astype(np.int64)


def _thin(values: list[float]) -> list[float | None]:
    """The last value of each part."""
    return [_short(values[end - 1]) for end in _edges(len(values))[1:]]


def _curve(run: Recording, values: list[float]) -> dict[str, Any]:
    """steps, low, high and a running mean, in at most POINTS parts."""
    edges = _edges(len(values))
    parts = [values[start:end] for start, end in pairwise(edges)]
    window = max(1, min(100, len(values) // 40))
    trailing = Recording(loss=values + values[-1:] * (window // 2)).smooth_loss(window)
    smooth = trailing[window // 2 :]  # so that the mean stands in the middle of its window
    known = [[v for v in part if math.isfinite(v)] for part in parts]
    return {
        "steps": [int(end) for end in edges[1:]],
        "low": [_short(min(part)) if part else None for part in known],
        "high": [_short(max(part)) if part else None for part in known],
        "smooth": [_short(smooth[end - 1]) if part else None for end, part in zip(edges[1:], known, strict=True)],
        "note": f"line: mean of {window} steps; behind it: every step" if window > 1 else "every step",
    }


def _column(samples: list[dict[str, Any]], part: str, name: str, key: str) -> list[float | None]:
    return [_short(s[part].get(name, {}).get(key, math.nan)) for s in samples]


def _layer(name: str, about: dict[str, Any], samples: list[dict[str, Any]], kept: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name, **about}
    for key in ("mean", "std", "dead", "saturated", "grad_rms"):
        if any(key in s["layers"].get(name, {}) for s in samples):
            found[key] = _column(samples, "layers", name, key)
    hists = [s["layers"].get(name, {}).get("hist") for s in kept]
    known = [h for h in hists if h is not None]
    if known:
        bins = len(known[0][2])
        found["hist"] = {
            "bins": bins,
            "limits": [None if h is None else [_short(h[0]), _short(h[1] if h[1] > h[0] else h[0] + 1)] for h in hists],
            "counts": _levels([[0] * bins if h is None else h[2] for h in hists]),
        }
    gradients = [s["layers"].get(name, {}).get("grad_hist") for s in kept]
    if any(g is not None for g in gradients):
        found["grad_hist"] = _levels([[0] * DECADE_BINS if g is None else g for g in gradients])
    return found


def _levels(rows: list[list[int]]) -> str:
    """Each row by its largest entry as 0..255, all of them as base64."""
    counts = np.asarray(rows, np.float64)
    largest = np.maximum(counts.max(axis=1, keepdims=True), 1)
    return base64.b64encode(np.ceil(255 * counts / largest).astype(np.uint8).tobytes()).decode()


def _decades(samples: list[dict[str, Any]]) -> dict[str, float]:
    """from, to: the whole decades that some gradient lies in."""
    total = np.zeros(DECADE_BINS)
    for sample in samples:
        for layer in sample["layers"].values():
            if "grad_hist" in layer:
                total += np.asarray(layer["grad_hist"])
    used = np.flatnonzero(total > total.sum() * 1e-4)
    width = (DECADES[1] - DECADES[0]) / DECADE_BINS
    if not len(used):
        return {"from": -6.0, "to": 0.0}
    return {
        "from": math.floor(DECADES[0] + used[0] * width),
        "to": math.ceil(DECADES[0] + (used[-1] + 1) * width),
    }
