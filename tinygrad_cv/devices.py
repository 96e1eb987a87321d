"""Devices by name. CUDA is looked for when first asked for, never at import."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .dtypes import as_dtype


@dataclass(frozen=True)
class Device:
    """`Device("cpu")` or `Device("cuda", 0)`; prints and compares as 'cpu', 'cuda:0'."""

    type: str
    index: int | None = None

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __repr__(self) -> str:
        return f"device({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return str(self) == str(other) if isinstance(other, (Device, str)) else NotImplemented

    def __hash__(self) -> int:
        return hash(str(self))

    def require(self) -> Device:
        """This device if it can be used; RuntimeError with the reason otherwise."""
        if self.type != "cpu":
            reason = unavailable(self.type)
            raise RuntimeError(f"device {self}: {reason or 'tensors on the GPU are not supported by this version'}; use 'cpu'")
        return self


CPU = Device("cpu")


def as_device(device: Any) -> Device:
    """`device` ('cpu', 'cuda', 'cuda:1', a Device or None for the CPU) as a Device; ValueError for anything else."""
    if device is None:
        return CPU
    if isinstance(device, Device):
        return device
    if isinstance(device, str):
        kind, _, index = device.partition(":")
        if kind in ("cpu", "cuda") and (not index or index.isdigit()):
            return CPU if kind == "cpu" else Device(kind, int(index) if index else None)
    raise ValueError(f"unknown device {device!r}; use 'cpu', 'cuda' or 'cuda:0'")


def read_target(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[np.dtype[Any] | None, Device | None]:
    """The dtype and the device that the arguments of `to(...)` ask for, None for what they leave alone.

    They are a dtype, a device (which must be usable), both, or a Tensor to be like; `non_blocking` has no meaning here. TypeError
    for other keywords.
    """
    from ._tensor import Tensor

    dtype, device = kwargs.get("dtype"), kwargs.get("device")
    if unknown := set(kwargs) - {"dtype", "device", "non_blocking"}:
        raise TypeError(f"{name}: unexpected arguments {sorted(unknown)}")
    for value in args:
        if isinstance(value, Tensor):
            dtype, device = value.dtype, value.device
        elif isinstance(value, Device) or (isinstance(value, str) and value.partition(":")[0] in ("cpu", "cuda")):
            device = value
        elif value is not None:
            dtype = value
    return None if dtype is None else as_dtype(dtype), None if device is None else as_device(device).require()


def unavailable(kind: str) -> str | None:
    """Why devices of this kind cannot be used, or None. Never raises."""
    if kind == "cpu":
        return None
    try:
        from numba import cuda

        return None if cuda.is_available() else "no CUDA device or driver was found"
    except Exception as error:
        return f"Numba's CUDA support could not be loaded ({type(error).__name__}: {error})"
