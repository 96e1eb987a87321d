"""`tg.backends.cuda`: CUDA's libraries are not used. The switches may be set and read, and change nothing."""

from __future__ import annotations

from types import SimpleNamespace

matmul = SimpleNamespace(allow_tf32=False, allow_fp16_reduced_precision_reduction=True)


def is_built() -> bool:
    """False: tensors on the GPU are not supported by this version."""
    return False


__all__ = ["is_built", "matmul"]
