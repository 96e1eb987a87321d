"""What starting costs: importing, the first training step ever, the first step of a process."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from .libraries import Context

OURS = """
import time
started = time.perf_counter()
import tinygrad_cv as tg
imported = time.perf_counter()
model = tg.models.{model}()
optimizer = tg.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
loss = tg.nn.functional.cross_entropy(model(tg.randn({batch}, 1, 28, 28)), tg.randint(0, 10, ({batch},)))
loss.backward()
optimizer.step()
print(imported - started, time.perf_counter() - started)
"""
THEIRS = """
import time
started = time.perf_counter()
import torch
from torch import nn
imported = time.perf_counter()
model = nn.Sequential(
    nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
    nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
loss = nn.functional.cross_entropy(model(torch.randn(64, 1, 28, 28)), torch.randint(0, 10, (64,)))
loss.backward()
optimizer.step()
print(imported - started, time.perf_counter() - started)
"""


def run(program: str, cache: str) -> tuple[float, float]:
    """Seconds to import and to the first step of a program in a process of its own, with its kernel cache in a folder."""
    environment = {**os.environ, "TINYGRAD_CV_CACHE": cache}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    imported, first = map(float, done.stdout.split())
    return imported, first


def group(context: Context) -> Iterator[dict[str, Any]]:
    """Seconds; the first step ever compiles its kernels, later processes find them on disk. Quick: a linear network."""
    model = "linear_softmax" if context.quick else "lenet5"
    program = OURS.format(model=model, batch=4 if context.quick else 64)
    times = 1 if context.quick else 5
    with tempfile.TemporaryDirectory() as cache:
        _, cold = run(program, cache)
        warm = [run(program, cache) for _ in range(times)]
        theirs = [run(THEIRS, cache) for _ in range(times)]
    for case, seconds in (
        ("`import tinygrad_cv`, NumPy included", statistics.median(i for i, _ in warm)),
        (f"process start to first {model} step, empty kernel cache", cold),
        ("the same, full kernel cache", statistics.median(f for _, f in warm)),
        ("`import torch`", statistics.median(i for i, _ in theirs)),
        ("process start to first LeNet-5 step, PyTorch", statistics.median(f for _, f in theirs)),
    ):
        yield {"case": case, "figures": {"seconds": round(seconds, 3)}}
