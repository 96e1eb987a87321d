"""`tg.memory`: how much memory is in use, under the names of `torch.cuda`'s functions. Everything is in bytes.

Counted are the results of kernels from 64 KB on, whose memory is used again (see `kernels.memory`); smaller arrays, the ones that users
make and what NumPy's functions return are not. What the operating system counts for the whole process is `resident` and `max_resident`.

    tg.memory.reset_peak_memory_stats()
    step()
    print(tg.memory.max_memory_allocated(), tg.memory.max_resident())
"""

from __future__ import annotations

from .kernels import memory as _pool


def memory_allocated() -> int:
    """Bytes in results of kernels that are alive."""
    return _pool.statistics()["leased"]


def max_memory_allocated() -> int:
    """The most that `memory_allocated` was since the start of the process or `reset_peak_memory_stats`."""
    return _pool.statistics()["peak"]


def memory_reserved() -> int:
    """`memory_allocated`, and what is kept for results to come."""
    found = _pool.statistics()
    return found["leased"] + found["kept"]


def empty_cache() -> int:
    """Gives the memory that is kept for results to come back to the operating system; returns how many bytes."""
    return _pool.release()


def reset_peak_memory_stats() -> None:
    """Counts `max_memory_allocated` anew from now on and, on Linux where the process may ask for that, `max_resident` too."""
    _pool.reset_peak()
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:  # another system, or a container that does not let: max_resident is then since the start of the process
        return


def resident() -> int | None:
    """Bytes of physical memory that the process has now; None on systems that do not say (it is read from /proc)."""
    return _status("VmRSS")


def max_resident() -> int | None:
    """The most physical memory that the process had; None where nobody says."""
    found = _status("VmHWM")
    if found is not None:
        return found
    try:
        import resource
    except ImportError:
        return None
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def memory_stats() -> dict[str, int | None]:
    """All of these figures by name: allocated, max_allocated, reserved, resident, max_resident."""
    return {
        "allocated": memory_allocated(),
        "max_allocated": max_memory_allocated(),
        "reserved": memory_reserved(),
        "resident": resident(),
        "max_resident": max_resident(),
    }


def _status(field: str) -> int | None:
    try:
        with open("/proc/self/status") as file:
            for line in file:
                if line.startswith(field + ":"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        return None
    return None


__all__ = [
    "empty_cache", "max_memory_allocated", "max_resident", "memory_allocated", "memory_reserved", "memory_stats",
    "reset_peak_memory_stats", "resident",
]  # fmt: skip
