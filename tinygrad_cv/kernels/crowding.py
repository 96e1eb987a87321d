"""Whether other programs want the cores that parallel kernels run on.

A parallel region ends when its last thread does. If another program takes one of the cores, that thread waits for a turn of some
milliseconds while the others wait for it, and a kernel of 50 microseconds takes 10 milliseconds. Then one thread alone is far
faster than two. Linux tells how long each of our threads has been ready to run without running; when that is a noticeable part
of the time, kernels run their serial twins for a while. Twins give the same bits, so nothing but the time changes.

On other systems, and under `tinygrad_cv.use_deterministic_algorithms(True)`, kernels are never held back.
"""

from __future__ import annotations

import os
import time

from .. import random

_LOOK = 0.02  # seconds between two looks at the clocks of our threads
_REST = 0.3  # seconds of serial twins before the next try
_SHARE = 0.2  # of the time waiting for a core: more is crowded


class Crowding:
    """Watches the waiting time of this process's threads. `crowded(now)` is cheap enough to ask before every kernel."""

    def __init__(self) -> None:
        self.next_look = 0.0
        self.serial_until = 0.0
        self._waited = 0
        self._looked = 0.0

    def crowded(self, now: float) -> bool:
        """Whether parallel kernels should run on one thread at time `now` (of `time.monotonic`)."""
        if now >= self.next_look:
            self._look(now)
        return now < self.serial_until

    def _look(self, now: float) -> None:
        self.next_look = now + _LOOK
        waited = self._waiting_time()
        if waited is None:
            self.next_look = float("inf")
            return
        elapsed = now - self._looked
        share = (waited - self._waited) * 1e-9 / elapsed if elapsed < 5 * _LOOK else 0.0
        self._waited, self._looked = waited, now
        if share > _SHARE and now >= self.serial_until and not random.are_deterministic_algorithms_enabled():
            self.serial_until = now + _REST

    def _waiting_time(self) -> int | None:
        """Nanoseconds that the threads of this process have waited for a core, all together; None where nobody says."""
        total = 0
        try:
            for thread in os.listdir("/proc/self/task"):
                with open(f"/proc/self/task/{thread}/schedstat", "rb") as file:
                    total += int(file.read().split()[1])
        except (OSError, ValueError, IndexError):
            return None
        return total


watch = Crowding()
now = time.monotonic
