"""`tg.cuda`: what PyTorch scripts ask of CUDA before they settle for the CPU. There are no tensors on the GPU in this version."""

from __future__ import annotations

from typing import Any


def is_available() -> bool:
    """False: tensors on the GPU are not supported by this version, whatever the machine has."""
    return False


def is_initialized() -> bool:
    """False, as `is_available`."""
    return False


def is_bf16_supported(including_emulation: bool = True) -> bool:
    """False, as `is_available`."""
    return False


def device_count() -> int:
    """0, as `is_available`."""
    return 0


def manual_seed(seed: int) -> None:
    """Nothing: there is no generator on a GPU to seed. `tg.manual_seed` seeds the package's."""


def manual_seed_all(seed: int) -> None:
    """Nothing, as `manual_seed`."""


def empty_cache() -> None:
    """Nothing: no memory of a GPU is held."""


def memory_allocated(device: Any = None) -> int:
    """0: no memory of a GPU is held."""
    return 0


def max_memory_allocated(device: Any = None) -> int:
    """0: no memory of a GPU was ever held."""
    return 0


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    raise AttributeError(
        f"tinygrad_cv.cuda has no {name!r}: tensors on the GPU are not supported by this version; ask tg.cuda.is_available() first"
    )


__all__ = [
    "device_count", "empty_cache", "is_available", "is_bf16_supported", "is_initialized", "manual_seed", "manual_seed_all",
    "max_memory_allocated", "memory_allocated",
]  # fmt: skip
