"""How a tensor prints: `tensor([1., 2.], requires_grad=True)`, as PyTorch's does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from . import dtypes

if TYPE_CHECKING:
    from ._tensor import Tensor


def format_tensor(tensor: Tensor) -> str:
    """The `repr` of a tensor; the values are cut to a few at the edges when there are more than 1000."""
    name = "Parameter" if type(tensor).__name__ == "Parameter" else "tensor"
    array = tensor._data
    prefix = f"{name}("
    if array.size == 0:
        body = "[]" if array.ndim == 1 else f"[], size={array.shape}"
    else:
        body = np.array2string(
            array, separator=", ", prefix=prefix, precision=4, threshold=1000, edgeitems=3, max_line_width=100
        )
    notes = []
    shown = () if array.size == 0 else (dtypes.int64, dtypes.bool_)  # whose elements look like no other's
    if array.dtype not in (dtypes.get_default_dtype(), *shown):
        notes.append(f"dtype={array.dtype}")
    if tensor.requires_grad:
        notes.append("requires_grad=True" if tensor.is_leaf else f"grad_fn=<{tensor._node.op.name}>")  # type: ignore[union-attr]
    return prefix + ", ".join([body, *notes]) + ")"
