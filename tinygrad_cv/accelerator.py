"""`tg.accelerator`: there is none in this version, and scripts that ask are told so. Everything runs on the CPU."""

from __future__ import annotations


def is_available() -> bool:
    """False: there are no tensors elsewhere than on the CPU."""
    return False


def device_count() -> int:
    """0, as `is_available`."""
    return 0


def current_accelerator(check_available: bool = False) -> None:
    """None, as `is_available`."""


__all__ = ["current_accelerator", "device_count", "is_available"]
