"""`tg.memory`: what kernels' results take, now and at most, and what the process takes."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import tinygrad_cv as tg
from tinygrad_cv.kernels import memory as pool

MEGABYTE = 1 << 20


def test_results_are_counted_while_they_live() -> None:
    before = tg.memory.memory_allocated()
    tg.memory.reset_peak_memory_stats()
    first = pool.empty((MEGABYTE,), np.float32)
    second = pool.empty((2, MEGABYTE), np.uint8)
    assert tg.memory.memory_allocated() - before == 6 * MEGABYTE
    view = first[10:20]
    del first, second
    assert tg.memory.memory_allocated() - before == 4 * MEGABYTE  # the view holds its base
    del view
    assert tg.memory.memory_allocated() == before
    assert tg.memory.max_memory_allocated() - before == 6 * MEGABYTE
    tg.memory.reset_peak_memory_stats()
    assert tg.memory.max_memory_allocated() == before


def test_what_is_kept_can_be_given_back() -> None:
    array = pool.empty((MEGABYTE,), np.float32)
    del array
    kept = tg.memory.memory_reserved() - tg.memory.memory_allocated()
    assert kept >= 4 * MEGABYTE
    assert tg.memory.empty_cache() == kept and tg.memory.memory_reserved() == tg.memory.memory_allocated()


def test_small_arrays_are_not_counted() -> None:
    before = tg.memory.memory_allocated()
    kept = pool.empty((100,), np.float32)
    assert tg.memory.memory_allocated() == before and kept.shape == (100,)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_process_is_measured() -> None:
    program = """
import numpy as np, tinygrad_cv as tg
before = tg.memory.resident()
big = np.ones(50_000_000 // 8)
after = tg.memory.resident()
del big
assert 45e6 < after - before < 80e6, (before, after)
at_most = tg.memory.memory_stats()["max_resident"]  # the system counts in lumps
assert abs(at_most - after) < 10e6 and tg.memory.resident() < after - 40e6, (at_most, after)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr


def test_the_end_of_the_process_is_silent() -> None:
    program = "import numpy as np\nfrom tinygrad_cv.kernels import memory\nkept = memory.empty((1 << 20,), np.float32)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0 and done.stderr == ""


def test_memory_waits_for_the_last_view_and_is_used_again_at_its_alignment() -> None:
    pool.release()
    array = pool.empty((130, 131), np.dtype(np.float64))
    address, before = array.ctypes.data, pool.statistics()["leased"]
    assert address % 64 == 0 and type(array) is np.ndarray and pool.owns_memory(array) and array.flags.writeable
    view = array.T[3:, 1:]
    assert not pool.owns_memory(view)
    del array
    assert pool.statistics()["leased"] == before
    del view
    assert pool.statistics()["leased"] == before - 130 * 131 * 8
    again = pool.empty((131, 65, 2, 2), np.dtype(np.float32))
    assert again.ctypes.data == address and again.dtype == np.float32 and pool.statistics()["leased"] == before
