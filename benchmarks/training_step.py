"""Training steps against PyTorch's CPU build, and what starting costs: `python benchmarks/training_step.py [--write]`.

Both libraries get the same threads and data, and are timed in alternating blocks (two thread pools interleaved call by call would
disturb each other); the figure is the median of each library's calmest block, the spread that of its blocks. First calls are apart.
`--write` replaces the table in benchmarks/README.md.
"""

from __future__ import annotations

import os

for _name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):  # settings that pin OpenBLAS to slow kernels; no rival is crippled
    os.environ.pop(_name, None)

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

BLOCKS = 9
BLOCK_SECONDS = 0.4


def ours(name: str, batch: int) -> Callable[[], float]:
    """One training step of model `name`: forward, loss, backward, SGD with momentum."""
    import tinygrad_cv as tg

    tg.manual_seed(0)
    model = tg.models.create(name)
    optimizer = tg.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    images, labels = tg.from_numpy(_images(batch)), tg.from_numpy(_labels(batch))

    def step() -> float:
        optimizer.zero_grad()
        loss = tg.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def theirs(name: str, batch: int) -> Callable[[], float]:
    """The same step in PyTorch."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    lenet = (
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip
    mlp = nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10)
    model = nn.Sequential(*{"lenet5": lenet, "mlp": mlp}[name])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    images, labels = torch.from_numpy(_images(batch)), torch.from_numpy(_labels(batch))

    def step() -> float:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def _images(batch: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((batch, 1, 28, 28)).astype(np.float32)


def _labels(batch: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 10, batch)


def block(step: Callable[[], float]) -> float:
    """Median seconds of one step over a block."""
    times = []
    stop = time.perf_counter() + BLOCK_SECONDS
    while time.perf_counter() < stop:
        started = time.perf_counter()
        step()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def compare(name: str, batch: int) -> dict[str, float]:
    """Milliseconds a step for both, and our time over theirs."""
    mine, other = ours(name, batch), theirs(name, batch)
    for step in (mine, other):
        for _ in range(20):
            step()
    blocks: tuple[list[float], list[float]] = ([], [])
    for _ in range(BLOCKS):
        for found, step in zip(blocks, (mine, other), strict=True):
            time.sleep(0.05)
            step()
            found.append(block(step))
    a, b = (min(found) for found in blocks)
    spread = max(max(found) / min(found) for found in blocks)
    return {"ours_ms": a * 1e3, "torch_ms": b * 1e3, "ratio": a / b, "spread": spread}


FIRST_STEP = """
import time
started = time.perf_counter()
import tinygrad_cv as tg
imported = time.perf_counter()
model = tg.models.lenet5()
optimizer = tg.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
loss = tg.nn.functional.cross_entropy(model(tg.randn(64, 1, 28, 28)), tg.randint(0, 10, (64,)))
loss.backward()
optimizer.step()
print(imported - started, time.perf_counter() - started)
"""


def starting() -> dict[str, float]:
    """Seconds to import, to the first LeNet-5 step with an empty kernel cache, and with a full one."""

    def run(cache: str) -> tuple[float, float]:
        environment = {**os.environ, "TINYGRAD_CV_CACHE": cache}
        done = subprocess.run([sys.executable, "-c", FIRST_STEP], env=environment, capture_output=True, text=True, check=True)
        imported, first = map(float, done.stdout.split())
        return imported, first

    with tempfile.TemporaryDirectory() as cache:
        _, cold = run(cache)
        warm = [run(cache) for _ in range(5)]
    return {
        "import_s": statistics.median(i for i, _ in warm),
        "cold_s": cold,
        "warm_s": statistics.median(f for _, f in warm),
    }


def main() -> None:
    """Measures, prints, and on request keeps the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="replace the table in benchmarks/README.md")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()

    import torch

    import tinygrad_cv as tg

    torch.set_num_threads(options.threads)
    tg.set_num_threads(options.threads)
    start = starting()
    rows = {f"{name}, batch {batch}": compare(name, batch) for name, batch in (("mlp", 32), ("lenet5", 64))}
    lines = [
        f"Python {platform.python_version()}, NumPy {np.__version__}, PyTorch {torch.__version__}, {options.threads} threads, "
        f"{platform.machine()}, {os.cpu_count()} cores.",
        "",
        "| training step, eager | ours (ms) | PyTorch (ms) | ours / PyTorch | spread of blocks |",
        "| --- | --- | --- | --- | --- |",
        *(
            f"| {k} | {r['ours_ms']:.3f} | {r['torch_ms']:.3f} | {r['ratio']:.2f} | {r['spread']:.2f}x |"
            for k, r in rows.items()
        ),
        "",
        "| starting | seconds |",
        "| --- | --- |",
        f"| `import tinygrad_cv`, NumPy included | {start['import_s']:.3f} |",
        f"| process start to first LeNet-5 step, empty kernel cache | {start['cold_s']:.2f} |",
        f"| the same, full kernel cache | {start['warm_s']:.2f} |",
    ]
    print("\n".join(lines))
    print(json.dumps({**rows, **start}))
    if options.write:
        path = Path(__file__).parent / "README.md"
        head = path.read_text().split("<!-- table -->")[0]
        path.write_text(head + "<!-- table -->\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
