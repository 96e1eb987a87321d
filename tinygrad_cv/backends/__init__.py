"""`tg.backends`: the switches of PyTorch's libraries, so that a script which sets them runs. None of them changes a result.

`cudnn`, `mps` and `cuda` are libraries for GPUs, which this version does not use.
"""

from __future__ import annotations

from . import cuda, cudnn, mps

_precision = "highest"


def set_float32_matmul_precision(precision: str) -> None:
    """Allows float32 products in less than float32. They are in float32 all the same. ValueError for an unknown name."""
    global _precision
    if precision not in ("highest", "high", "medium"):
        raise ValueError(f"set_float32_matmul_precision: expected 'highest', 'high' or 'medium', got {precision!r}")
    _precision = precision


def get_float32_matmul_precision() -> str:
    """What `set_float32_matmul_precision` was last given."""
    return _precision


__all__ = ["cuda", "cudnn", "get_float32_matmul_precision", "mps", "set_float32_matmul_precision"]
