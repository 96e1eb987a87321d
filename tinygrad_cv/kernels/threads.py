"""How many threads kernels use, and when they must use none.

Imports no Numba. A kernel reads `mode(...)` before it runs: the serial twin is used when one thread is asked for, in a forked
child (OpenMP's threads do not survive a fork) and inside `serial()`.

Parallel kernels called by several Python threads take turns (see `jit`), so they neither crowd the cores nor one another.
"""

from __future__ import annotations

import math
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_VARIABLES = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS")


class _Shared:
    """What all Python threads have in common. `generation` grows with every change, which makes each thread look again."""

    generation = 0
    requested: int | None = None
    default: int | None = None  # what the environment says, read once
    forked = False


class _Local(threading.local):
    """What one Python thread knows: whether it runs serial twins, as of which generation, and what it told Numba."""

    generation = -1
    serial = False
    forced = 0
    told: int | None = None


shared = _Shared()
local = _Local()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return max(1, os.cpu_count() or 1)


def cpu_quota() -> float | None:
    """How many cores' worth of time the control group of this process (a container's limit) grants; None for no limit."""
    for path in ("/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us"):
        try:
            with open(path) as file:
                quota, *period = file.read().split()
            if not period:
                with open(path.replace("quota", "period")) as file:
                    period = file.read().split()
            if quota != "max" and int(quota) > 0:
                return int(quota) / int(period[0])
        except (OSError, ValueError, IndexError):
            continue
    return None


def _from_environment(variable: str) -> int | None:
    text = os.environ.get(variable, "").split(",")[0].strip()
    return int(text) if text.isdigit() and int(text) > 0 else None


def limit() -> int:
    """The most threads this process can have: NUMBA_NUM_THREADS, or the cores it may run on."""
    numba = sys.modules.get("numba")
    if numba is not None and hasattr(numba, "config"):
        return int(numba.config.NUMBA_NUM_THREADS)
    return _from_environment("NUMBA_NUM_THREADS") or _cores()


def set_num_threads(n: int) -> None:
    """Sets how many threads CPU kernels use, in all Python threads, from the next call on.

    n: 1 (kernels then run their serial twins, on the calling thread) up to the limit of the process: the environment variable
    NUMBA_NUM_THREADS where it is set when Numba is first imported, else the number of cores the process may use.
    NumPy's BLAS has threads of its own, which this does not change.

    Raises TypeError if `n` is no integer, ValueError if it is outside 1 ... limit.
    """
    if isinstance(n, bool) or not hasattr(n, "__index__"):
        raise TypeError(f"set_num_threads: expected an int, got {type(n).__name__}")
    n = n.__index__()
    most = limit()
    if not 1 <= n <= most:
        hint = "; for more, set the environment variable NUMBA_NUM_THREADS before Python starts" if n > most else ""
        raise ValueError(f"set_num_threads: expected 1 to {most} threads, got {n}{hint}")
    shared.requested = n
    shared.generation += 1


def get_num_threads() -> int:
    """How many threads CPU kernels use: as set, else NUMBA_NUM_THREADS, else OMP_NUM_THREADS, else the number of cores.

    A container's limit of processor time counts as a number of cores, rounded up: more threads would only wait for one another.
    """
    if shared.forked:
        return 1
    if shared.requested is not None:
        return shared.requested
    if shared.default is None:
        named = [n for n in map(_from_environment, _VARIABLES) if n is not None]
        granted = math.ceil(cpu_quota() or limit())
        shared.default = min(named[0] if named else max(1, granted), limit())
    return shared.default


@contextmanager
def serial() -> Iterator[None]:
    """Kernels called by this Python thread inside the block run their serial twins."""
    local.forced += 1
    local.generation = -1
    try:
        yield
    finally:
        local.forced -= 1
        local.generation = -1


def prepare() -> bool:
    """Brings the calling Python thread up to date; returns whether it must run serial twins. Imports Numba if it need not."""
    generation = shared.generation
    n = get_num_threads()
    local.serial = n == 1 or shared.forked or local.forced > 0
    if not local.serial and local.told != n and (local.told is not None or n != limit()):
        import numba

        numba.set_num_threads(n)  # Numba keeps this for each Python thread
        local.told = n
    local.generation = generation
    return local.serial


def _after_fork() -> None:
    shared.forked = True
    shared.generation += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def describe(start: bool = False) -> dict[str, Any]:
    """Thread counts for `tinygrad-cv info`; the threading layer is None until a parallel kernel has run, or with `start`."""
    layer = None
    if start and not shared.forked:
        from . import jit

        jit.start_threads()
    if "numba" in sys.modules:
        import numba

        try:
            layer = numba.threading_layer()
        except ValueError:
            layer = None
    return {
        "threads": get_num_threads(),
        "limit": limit(),
        "cores": _cores(),
        "cores_of_the_machine": os.cpu_count(),
        "cpu_quota": cpu_quota(),
        "layer": layer,
        "forked": shared.forked,
    }
