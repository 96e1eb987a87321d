"""`tg.backends.cudnn`: cuDNN is not used. The switches may be set and read, and change nothing."""

from __future__ import annotations

enabled: bool = True
deterministic: bool = False
benchmark: bool = False
benchmark_limit: int = 10
allow_tf32: bool = True


def is_available() -> bool:
    """False: cuDNN is not used."""
    return False


def version() -> None:
    """None: cuDNN is not used."""


__all__ = ["allow_tf32", "benchmark", "benchmark_limit", "deterministic", "enabled", "is_available", "version"]
