"""Dtypes are NumPy's; this module names them as PyTorch does and holds PyTorch's promotion rules.

Promotion (https://pytorch.org/docs/stable/tensor_attributes.html#type-promotion): operands fall into three groups,
tensors with dimensions, 0-d tensors and Python numbers. A group only raises the result of the groups before it when its
category (bool < integer < floating) is higher.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

bool_ = np.dtype(np.bool_)
uint8 = np.dtype(np.uint8)
int8 = np.dtype(np.int8)
int16 = np.dtype(np.int16)
int32 = np.dtype(np.int32)
int64 = np.dtype(np.int64)
float16 = np.dtype(np.float16)
float32 = np.dtype(np.float32)
float64 = np.dtype(np.float64)

SUPPORTED = (bool_, uint8, int8, int16, int32, int64, float16, float32, float64)
NAMES = {
    "bool": bool_, "uint8": uint8, "int8": int8, "int16": int16, "short": int16, "int32": int32, "int": int32,
    "int64": int64, "long": int64, "float16": float16, "half": float16, "float32": float32, "float": float32,
    "float64": float64, "double": float64,
}  # fmt: skip

_default = float32


def get_default_dtype() -> np.dtype[Any]:
    """The floating dtype of new tensors made from Python floats (float32 unless changed)."""
    return _default


def set_default_dtype(dtype: Any) -> None:
    """Sets the floating dtype of new tensors made from Python floats; TypeError for a dtype that is not floating."""
    global _default
    resolved = as_dtype(dtype)
    if resolved.kind != "f":
        raise TypeError(f"set_default_dtype: expected a floating dtype, got {resolved}")
    _default = resolved


def as_dtype(dtype: Any) -> np.dtype[Any]:
    """`dtype` (a NumPy dtype, its name, PyTorch's name, or a Python type) as one of the supported dtypes; else TypeError."""
    if type(dtype) is np.dtype or isinstance(dtype, np.dtype):
        resolved = dtype
    elif dtype is float:
        resolved = _default
    elif dtype is int:
        resolved = int64
    elif dtype is bool:
        resolved = bool_
    elif isinstance(dtype, str) and dtype in NAMES:
        resolved = NAMES[dtype]
    else:
        try:
            resolved = np.dtype(dtype)
        except TypeError:
            raise TypeError(f"expected a dtype such as tg.float32, got {dtype!r}") from None
    if resolved not in SUPPORTED:
        raise TypeError(f"dtype {resolved} is not supported; use one of {', '.join(str(d) for d in SUPPORTED)}")
    return resolved


def unsupported(dtype: np.dtype[Any]) -> str:
    """What to say of an array of a dtype that tensors do not have: the choice among those they have is the user's."""
    native = dtype.newbyteorder("=")
    wider = int32 if native == np.uint16 else float64 if dtype.kind == "f" else int64
    advice = (
        f"; convert it first, as in array.astype(np.{native if native in SUPPORTED else wider})" if dtype.kind in "iuf" else ""
    )
    return f"dtype {dtype} is not supported, only {', '.join(str(d) for d in SUPPORTED)}{advice}"


def scalar_dtype(value: bool | int | float) -> np.dtype[Any]:
    """The dtype that a Python number has when it stands alone."""
    if isinstance(value, (bool, np.bool_)):
        return bool_
    if isinstance(value, (int, np.integer)):
        return int64
    return _default


_CATEGORY = {"b": 0, "i": 1, "u": 1, "f": 2}


def _combine(higher: np.dtype[Any] | None, lower: np.dtype[Any] | None) -> np.dtype[Any] | None:
    if higher is None or lower is None:
        return lower if higher is None else higher
    return lower if _CATEGORY[lower.kind] > _CATEGORY[higher.kind] else higher


def promote_types(a: np.dtype[Any], b: np.dtype[Any]) -> np.dtype[Any]:
    """The smallest dtype that PyTorch's lattice puts above both: an integer never widens a float."""
    a, b = as_dtype(a), as_dtype(b)
    if a == b:
        return a
    if _CATEGORY[a.kind] != _CATEGORY[b.kind]:
        return a if _CATEGORY[a.kind] > _CATEGORY[b.kind] else b
    return np.promote_types(a, b)


def result_type(operands: Iterable[Any]) -> np.dtype[Any]:
    """The dtype an arithmetic operator computes in, for tensors (anything with `dtype` and `ndim`) and Python numbers."""
    dimensioned: np.dtype[Any] | None = None
    zero_dim: np.dtype[Any] | None = None
    number: np.dtype[Any] | None = None
    for operand in operands:
        if operand is None:
            continue
        if isinstance(operand, (bool, int, float, np.generic)):
            this = scalar_dtype(operand)  # type: ignore[arg-type]
            number = this if number is None else promote_types(number, this)
        elif operand.ndim:
            dimensioned = operand.dtype if dimensioned is None else promote_types(dimensioned, operand.dtype)
        else:
            zero_dim = operand.dtype if zero_dim is None else promote_types(zero_dim, operand.dtype)
    result = _combine(_combine(dimensioned, zero_dim), number)
    if result is None:
        raise TypeError("result_type: no operands")
    return result
