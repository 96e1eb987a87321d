"""Peak memory of a training step, each library in a process of its own.

Run as a program, `python -m suite.memory LIBRARY eager|compiled BATCH THREADS`, it is that process and prints its figures as JSON.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .libraries import Context
    from .timing import Call

MEGABYTE = 1 << 20
CONTESTANTS = (("tinygrad_cv", "eager", "ours"), ("tinygrad_cv", "compiled", "ours compiled"), ("torch", "eager", "PyTorch"))


def status(field: str) -> int:
    """A field of /proc/self/status in bytes, such as VmHWM, the largest resident set so far."""
    with open("/proc/self/status") as file:
        (line,) = (line for line in file if line.startswith(field + ":"))
    return int(line.split()[1]) * 1024


def forget_peak() -> bool:
    """Makes VmHWM begin anew from what is resident now; False where the system does not allow it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def footprint(library: str, compiled: bool, batch: int, threads: int) -> dict[str, int]:
    """Resident bytes: after the import, after a step of one example, and the largest in a step of `batch` examples and ever.

    What a library loads at its first step, code and compiler, is in none of what a step takes beyond that of one example. Nor is the
    peak of compiling and recording, once, where the system can forget a peak: the step is one of many.
    """
    module = __import__(library)
    module.set_num_threads(threads)
    imported = status("VmRSS")
    from .networks import WORKLOADS
    from .training import Trainer

    workload = WORKLOADS["resnet20"]
    weights = {name: value.numpy().copy() for name, value in workload.build(module).state_dict().items()}

    def step(trainer: Trainer) -> Call:
        return trainer.call(module.compile(trainer.step) if compiled else None)

    step(Trainer(module, workload.sized(1), weights))()
    gc.collect()
    started = status("VmRSS")
    call = step(Trainer(module, workload.sized(batch), weights))
    for _ in range(3):  # a compiler may record more than one
        call()
    before = status("VmHWM")
    forget_peak()
    for _ in range(2):
        call()
    largest = status("VmHWM")
    return {"imported": imported, "started": started, "largest": largest, "ever": max(before, largest)}


def _child(*arguments: str) -> subprocess.CompletedProcess[str]:
    """This program in a process of its own."""
    path = os.pathsep.join([str(Path(__file__).resolve().parent.parent), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "suite.memory", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": path})


def group(context: Context) -> Iterator[dict[str, Any]]:
    """One row for each contestant. torch.compile is none: its C++ compiler works in processes of their own."""
    batch = 2 if context.quick else 128
    for library, how, label in CONTESTANTS:
        if how == "compiled" and not hasattr(__import__(library), "compile"):
            continue
        for _ in range(
            1 if context.quick else 2
        ):  # the first fills the kernel cache: a compiler's leavings would hide the step's memory
            done = _child(library, how, str(batch), str(context.threads))
        found = json.loads(done.stdout.splitlines()[-1])
        figures = {
            "MB of a step beyond a step of one example": found["largest"] - found["started"],
            "beyond the import": found["largest"] - found["imported"],
            "after the import": found["imported"],
            "largest ever": found["ever"],
        }
        yield {
            "case": f"ResNet-20 step, batch {batch}: {label}",
            "figures": {name: round(size / MEGABYTE, 1) for name, size in figures.items()},
        }


if __name__ == "__main__":
    print(json.dumps(footprint(sys.argv[1], sys.argv[2] == "compiled", *map(int, sys.argv[3:]))))
