"""`tg.backends.mps`: Metal is not used."""

from __future__ import annotations


def is_available() -> bool:
    """False: there are no tensors on Apple's GPUs."""
    return False


def is_built() -> bool:
    """False, as `is_available`."""
    return False


__all__ = ["is_available", "is_built"]
