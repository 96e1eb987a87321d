"""Devices by name. CUDA is looked for when first asked for, never at import."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .dtypes import as_dtype


@dataclass(frozen=True, init=False, eq=False, repr=False)
class Device:
    """`tg.device("cpu")`, `tg.device("cuda:0")` or `tg.device("cuda", 0)`; prints and compares as 'cpu', 'cuda:0'.

    There is one CPU, so 'cpu', 'cpu:0' and ('cpu', 0) are equal. A number alone is that CUDA device. Another Device is copied.
    ValueError for a kind that is not known. As a context manager it changes nothing: new tensors are on the CPU anyway
    (RuntimeError on entering a device that cannot be used).
    """

    type: str
    index: int | None = None

    def __init__(self, type: str | int | Device, index: int | None = None) -> None:
        given = type if index is None else f"{type}:{index}"
        text = f"cuda:{type}" if isinstance(type, int) and index is None and not isinstance(type, bool) else str(given)
        kind, colon, number = text.partition(":")
        if kind not in ("cpu", "cuda") or (colon and not number.isdecimal()) or (kind == "cpu" and number.lstrip("0")):
            raise ValueError(f"unknown device {given!r}; use 'cpu', 'cuda' or 'cuda:0'")
        object.__setattr__(self, "type", kind)
        object.__setattr__(self, "index", int(number) if number and kind != "cpu" else None)

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __repr__(self) -> str:
        return f"device({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str):
            return str(self) == ("cpu" if other == "cpu:0" else other)
        return str(self) == str(other) if isinstance(other, Device) else NotImplemented

    def __hash__(self) -> int:
        return hash(str(self))

    def require(self) -> Device:
        """This device if it can be used; RuntimeError with the reason otherwise."""
        if self.type != "cpu":
            reason = unavailable(self.type)
            raise RuntimeError(f"device {self}: {reason or 'tensors on the GPU are not supported by this version'}; use 'cpu'")
        return self

    def __enter__(self) -> Device:
        return self.require()

    def __exit__(self, *_: object) -> None:
        return None


CPU = Device("cpu")


def as_device(device: Any) -> Device:
    """`device` ('cpu', 'cuda', 'cuda:1', a Device or None for the CPU) as a Device; ValueError for anything else."""
    return CPU if device is None else device if isinstance(device, Device) else Device(device)


def get_default_device() -> Device:
    """The device on which new tensors are made: the CPU."""
    return CPU


def set_default_device(device: Any) -> None:
    """Accepts the CPU, on which new tensors are made anyway. RuntimeError for a device that cannot be used."""
    as_device(device).require()


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
        elif isinstance(value, (Device, int)) or (isinstance(value, str) and value.partition(":")[0] in ("cpu", "cuda")):
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
