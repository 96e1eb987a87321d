"""A tensor and the world outside: NumPy, Python numbers and lists, other dtypes and devices, copies, DLPack, printing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ._state import state
from .devices import read_target
from .registry import get
from .replay import left

if TYPE_CHECKING:
    from ._tensor import Tensor


class Conversion:
    """Mixed into Tensor. `self` is always a Tensor."""

    def numpy(self: Any, *, force: bool = False) -> np.ndarray:
        """The memory as a NumPy array, shared. RuntimeError while gradients are recorded, unless `force` (which detaches)."""
        if self.requires_grad and not force:
            raise RuntimeError("numpy(): this tensor requires grad; use .detach().numpy()")
        left(self, "numpy()")
        return self._data  # type: ignore[no-any-return]

    def item(self: Any) -> Any:
        """The single element as a Python number; ValueError for a tensor of several or none."""
        if state.capture is None or self._data.size != 1:
            return self._single("item()")
        return state.capture.item(self, self._data.item())

    def _single(self: Any, name: str) -> Any:
        if self._data.size != 1:
            raise ValueError(
                f"{name}: expected a tensor with one element, got shape {self.shape}; use .tolist() or .numpy() for several"
            )
        left(self, name)
        return self._data.item()

    def tolist(self: Any) -> Any:
        """The elements as nested Python lists."""
        left(self, "tolist()")
        return self._data.tolist()

    def to(self: Any, *args: Any, **kwargs: Any) -> Tensor:
        """A tensor of another dtype or device: `to(dtype)`, `to(device)`, `to(device, dtype)`, `to(other)`; itself if nothing changes."""
        copy = kwargs.pop("copy", False)
        dtype, _ = read_target("to()", args, kwargs)
        if dtype is not None and dtype != self._data.dtype:
            return get("cast").function(self, dtype)  # type: ignore[no-any-return]
        return self.clone() if copy else self  # type: ignore[no-any-return]

    def type(self: Any, dtype: Any = None) -> Any:
        """The dtype, or this tensor in another one."""
        return self.dtype if dtype is None else self.to(dtype)

    def cpu(self: Any) -> Tensor:
        """This tensor in main memory."""
        return self.to("cpu")

    def cuda(self: Any) -> Tensor:
        """This tensor on the GPU; RuntimeError with the reason where there is none."""
        return self.to("cuda")

    def __array__(self: Any, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if self.requires_grad:
            raise RuntimeError(
                "__array__: NumPy was given a tensor that requires grad; use .detach().numpy(), or .numpy(force=True)"
            )
        left(self, "a NumPy function")
        return np.array(self._data, dtype=dtype, copy=copy)

    def __dlpack__(self: Any, **kwargs: Any) -> Any:
        if self.requires_grad:
            raise BufferError("__dlpack__: this tensor requires grad; export .detach()")
        left(self, "DLPack")
        return self._data.__dlpack__(**kwargs)

    def __dlpack_device__(self: Any) -> tuple[int, int]:
        return self._data.__dlpack_device__()

    def __bool__(self: Any) -> bool:
        if self._data.size != 1:
            raise ValueError(f"the truth of a tensor of shape {self.shape} is ambiguous; use .any() or .all()")
        left(self, "a Python condition")
        return bool(self._data.item())

    def __int__(self: Any) -> int:
        return int(self._single("int()"))

    def __float__(self: Any) -> float:
        return float(self._single("float()"))

    def __index__(self: Any) -> int:
        if self._data.dtype.kind not in "iu" or self._data.size != 1:
            raise TypeError(
                f"only integer tensors of one element can be an index, this one is {self.dtype} of shape {self.shape}"
            )
        left(self, "a Python index")
        return int(self._data.item())

    def __len__(self: Any) -> int:
        if not self._data.ndim:
            raise TypeError("len() of a 0-d tensor")
        return self._data.shape[0]

    def __iter__(self: Any) -> Iterator[Tensor]:
        if not self._data.ndim:
            raise TypeError("iteration over a 0-d tensor")
        return iter(self.unbind(0))

    def __contains__(self: Any, value: Any) -> bool:
        left(self, "the operator `in`")
        return bool((self._data == (value._data if hasattr(value, "_data") else np.asarray(value))).any())

    def __format__(self: Any, spec: str) -> str:
        return format(self.item(), spec) if spec and self._data.ndim == 0 else format(repr(self), spec)

    def __repr__(self: Any) -> str:
        from .printing import format_tensor

        left(self, "printing")
        return format_tensor(self)

    def __copy__(self: Any) -> Tensor:
        out = self.detach()
        out._requires_grad, out._node, out._slot = self.requires_grad, self._node, self._slot
        return out

    def __deepcopy__(self: Any, memo: dict[int, Any]) -> Tensor:
        if not self.is_leaf:
            raise RuntimeError("deepcopy: only leaf tensors can be copied with their settings; use .detach().clone()")
        out = object.__new__(self.__class__)
        memo[id(self)] = out
        out._data = self._data.copy()
        out._requires_grad, out.name = self._requires_grad, self.name
        if self.grad is not None:
            out.grad = self.grad.__deepcopy__(memo)
        return out

    def __reduce_ex__(self: Any, protocol: Any) -> Any:
        raise TypeError("tensors are not pickled, since unpickling can run code; use tg.save and tg.load (safetensors)")
