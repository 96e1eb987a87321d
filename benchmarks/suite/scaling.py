"""How the cost of a training step grows with the batch, the size of images and the number of threads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .libraries import Context, set_threads
from .networks import WORKLOADS
from .training import training_row

BATCHES = (1, 4, 16, 64, 256, 512)
SIZES = (16, 32, 64, 128)


def group(context: Context) -> Iterator[dict[str, Any]]:
    """Eager steps: LeNet-5 by batch, ResNet-20 by batch and by size, both by threads."""
    lenet, resnet = WORKLOADS["lenet5"], WORKLOADS["resnet20"]
    for batch in (1, 4) if context.quick else BATCHES:
        yield training_row(lenet.sized(batch), context, compiled=False)
    for batch in () if context.quick else BATCHES:
        yield training_row(resnet.sized(batch), context, compiled=False)
    for size in SIZES[:1] if context.quick else SIZES:
        workload = resnet.sized(2 if context.quick else 16, (3, size, size))
        yield training_row(workload, context, f"{workload}, {size} x {size}", compiled=False)
    for workload in (lenet.sized(4),) if context.quick else (lenet, resnet.sized(32)):
        for threads in sorted({1, context.threads}):
            set_threads(threads)
            try:
                case = f"{workload}, {threads} thread{'s' if threads > 1 else ''}"
                yield training_row(workload, context, case, compiled=False)
            finally:
                set_threads(context.threads)
