"""Random numbers: one Philox generator (counter-based, Salmon et al., SC 2011) that `manual_seed` fixes.

Everything random in the package (weights, dropout, shuffling) draws from here unless it is given a Generator of its own, so
one seed fixes a whole run. The state is a JSON-able dict, which is what checkpoints store.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .devices import Device, as_device


class Generator:
    """A stream of random numbers of its own: `Generator(seed)`, or as in PyTorch `Generator(device="cpu").manual_seed(seed)`."""

    def __init__(self, seed: int | str | Device | None = None, *, device: Any = None) -> None:
        if isinstance(seed, (str, Device)):
            seed, device = None, seed
        self.device = as_device(device).require()
        self.manual_seed(seed)

    def seed(self) -> int:
        """Restarts the stream from a seed of the operating system's entropy, which is returned."""
        seed = int(np.random.SeedSequence().entropy) & 0x7FFF_FFFF_FFFF_FFFF  # type: ignore[arg-type]
        self.manual_seed(seed)
        return seed

    def manual_seed(self, seed: int | None) -> Generator:
        """Restarts the stream from `seed` (None: from the operating system's entropy)."""
        self.numpy = np.random.Generator(np.random.Philox(seed))
        self._seed = seed
        return self

    def initial_seed(self) -> int | None:
        """The seed the stream was started from."""
        return self._seed

    def get_state(self) -> dict[str, Any]:
        """The exact position of the stream, as plain numbers that JSON can hold."""
        state: Any = self.numpy.bit_generator.state
        return {
            "counter": [int(v) for v in state["state"]["counter"]],
            "key": [int(v) for v in state["state"]["key"]],
            "buffer": [int(v) for v in state["buffer"]],
            "buffer_pos": int(state["buffer_pos"]),
            "has_uint32": int(state["has_uint32"]),
            "uinteger": int(state["uinteger"]),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Moves the stream to a position that `get_state` gave. KeyError or ValueError for anything else."""
        self.numpy.bit_generator.state = {
            "bit_generator": "Philox",
            "state": {
                "counter": np.array(state["counter"], np.uint64),
                "key": np.array(state["key"], np.uint64),
            },
            "buffer": np.array(state["buffer"], np.uint64),
            "buffer_pos": state["buffer_pos"],
            "has_uint32": state["has_uint32"],
            "uinteger": state["uinteger"],
        }


default_generator = Generator()


def manual_seed(seed: int) -> Generator:
    """Restarts the default stream: the same seed gives the same weights, masks and order of examples."""
    return default_generator.manual_seed(seed)


def seed() -> int:
    """Restarts the default stream from the operating system's entropy; returns the seed, which repeats the run."""
    return default_generator.seed()


def initial_seed() -> int | None:
    """The seed of the default stream."""
    return default_generator.initial_seed()


def get_rng_state() -> dict[str, Any]:
    """The position of the default stream."""
    return default_generator.get_state()


def set_rng_state(state: dict[str, Any]) -> None:
    """Moves the default stream to a position that `get_rng_state` gave."""
    default_generator.set_state(state)


class _Override(threading.local):
    generator: Generator | None = None


_override = _Override()


@contextmanager
def using(generator: Generator) -> Iterator[Generator]:
    """Everything random in this thread draws from `generator` inside the block (data loaders give each batch its own)."""
    before, _override.generator = _override.generator, generator
    try:
        yield generator
    finally:
        _override.generator = before


def numpy_generator(generator: Generator | None = None) -> np.random.Generator:
    """NumPy's view of `generator`, or of the stream in use (see `using`), or of the default stream."""
    return (generator or _override.generator or default_generator).numpy


_deterministic = False
_warn_only = False


def use_deterministic_algorithms(mode: bool, *, warn_only: bool = False) -> None:
    """Asks for runs that are bit-identical at a fixed number of threads.

    Every operator of this package is: parallel kernels split their work by the number of threads alone and never add into shared
    memory. The switch therefore changes no result today; what may choose an algorithm by measuring time must obey it, and plugin
    kernels can read it with `are_deterministic_algorithms_enabled`. warn_only: what has no deterministic form would warn where
    it raises otherwise; there is none such among the built-in operators.
    """
    global _deterministic, _warn_only
    for value in (mode, warn_only):
        if not isinstance(value, bool):
            raise TypeError(f"use_deterministic_algorithms: expected True or False, got {value!r}")
    _deterministic, _warn_only = mode, mode and warn_only


def are_deterministic_algorithms_enabled() -> bool:
    """What `use_deterministic_algorithms` was last given."""
    return _deterministic


def is_deterministic_algorithms_warn_only_enabled() -> bool:
    """Whether `use_deterministic_algorithms` was last given True with warn_only=True."""
    return _warn_only
