"""The Tensor: a NumPy array that may remember how it was computed.

Operators are not written here. Every registered operator with `method=True` becomes a method by name (`x.exp()`), Python's
operators are bound to operators in `_PYTHON_OPERATORS`, and `tensor.pyi` lists all of it for editors and type checkers.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from . import dtypes
from ._state import state
from .autograd.node import Constant, Node, Storage
from .devices import CPU, Device, as_device
from .registry import find, on_registration
from .tensor_methods import TensorMethods

if TYPE_CHECKING:
    from ._operator_stubs import OperatorMethods
    from .registry import Operator
else:

    class OperatorMethods:
        """What `_attach` adds when operators register; type checkers read it from the generated stub."""


_PYTHON_OPERATORS = {
    "__add__": "add", "__sub__": "sub", "__mul__": "mul", "__truediv__": "div", "__floordiv__": "floor_divide",
    "__mod__": "remainder", "__pow__": "pow", "__matmul__": "matmul", "__and__": "bitwise_and", "__or__": "bitwise_or",
    "__xor__": "bitwise_xor", "__lshift__": "bitwise_left_shift", "__rshift__": "bitwise_right_shift",
    "__eq__": "eq", "__ne__": "ne", "__lt__": "lt", "__le__": "le", "__gt__": "gt", "__ge__": "ge",
}  # fmt: skip
_UNARY_OPERATORS = {"__neg__": "neg", "__pos__": "positive", "__abs__": "abs", "__invert__": "bitwise_not"}


class Tensor(OperatorMethods, TensorMethods):
    """A dense array with an optional history. Make one with `tg.tensor`, not with this class.

    dtype: one of `tg.dtypes.SUPPORTED`; float32 unless asked otherwise. requires_grad: operators applied to it are recorded.
    grad: the accumulated gradient after `backward()`, a Tensor of the same shape and dtype, or None.
    """

    # Defaults live on the class: a new tensor sets only what differs, which is what makes creation cheap.
    _data: np.ndarray
    _requires_grad: bool = False
    _node: Node | None = None
    _slot: int = 0
    _storage: Storage | None = None
    _constant: Constant | None = None
    _base: Tensor | None = None  # the tensor whose memory this one views
    _view_chain: tuple[tuple[Operator, tuple[Any, ...]], ...] = ()  # how to make this view from _base
    _generation: int = 0  # of a base: in-place writes that changed its history; of a view: the one it has seen
    _inference: bool = False
    _hooks: dict[int, Callable[[Any], Any]] | None = None
    _retains_grad: bool = False
    grad: Tensor | None = None
    name: str | None = None

    __array_priority__ = 1000  # NumPy's operators hand over to ours
    __hash__ = object.__hash__

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise TypeError("make a tensor with tg.tensor(data), tg.zeros(...), tg.from_numpy(array) or their like")

    # Description ------------------------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """The size along every axis."""
        return self._data.shape

    def size(self, dim: int | None = None) -> Any:
        """The shape, or the size along `dim`."""
        return self._data.shape if dim is None else self._data.shape[dim]

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self._data.ndim

    def dim(self) -> int:
        """The number of axes."""
        return self._data.ndim

    def numel(self) -> int:
        """The number of elements."""
        return self._data.size

    @property
    def dtype(self) -> np.dtype[Any]:
        """The element type, a `numpy.dtype`."""
        return self._data.dtype

    @property
    def device(self) -> Device:
        """Where the memory is."""
        return CPU

    @property
    def T(self) -> Tensor:
        """A view with the axes reversed."""
        return self.permute(*range(self._data.ndim - 1, -1, -1))  # type: ignore[attr-defined, no-any-return]

    @property
    def mT(self) -> Tensor:
        """A view with the last two axes swapped. ValueError for fewer than two axes."""
        n = self._data.ndim
        if n < 2:
            raise ValueError(f"mT: expected at least two axes, got shape {self.shape}")
        return self.permute(*range(n - 2), n - 1, n - 2)  # type: ignore[attr-defined, no-any-return]

    def element_size(self) -> int:
        """Bytes per element."""
        return self._data.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self._data.nbytes

    def stride(self, dim: int | None = None) -> Any:
        """Strides in elements, or that of `dim`."""
        strides = tuple(s // self._data.itemsize for s in self._data.strides)
        return strides if dim is None else strides[dim]

    def is_contiguous(self) -> bool:
        """Whether the elements lie in row-major order without gaps."""
        return self._data.flags.c_contiguous

    def is_floating_point(self) -> bool:
        """Whether the dtype is float16, float32 or float64."""
        return self._data.dtype.kind == "f"

    def data_ptr(self) -> int:
        """The address of the first element; two tensors that view one memory show it here."""
        return self._data.ctypes.data

    @property
    def _version(self) -> int:
        return 0 if self._storage is None else self._storage.version

    # History ----------------------------------------------------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        """Whether operators on this tensor are recorded for backward."""
        if self._base is not None:
            self._refresh_view()
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Starts or stops recording on a leaf. TypeError for a dtype without gradients, RuntimeError for a non-leaf."""
        if requires_grad and self._data.dtype.kind != "f":
            raise TypeError(
                f"requires_grad: only floating tensors have gradients, this one is {self.dtype}; use .float() first"
            )
        if not self.is_leaf:
            if requires_grad == self._requires_grad:
                return self
            raise RuntimeError("requires_grad can be changed on leaf tensors only; use .detach() for a leaf that shares memory")
        self._requires_grad = bool(requires_grad)
        return self

    @property
    def grad_fn(self) -> Node | None:
        """The node that computed this tensor, or None for a leaf."""
        if self._base is not None:
            self._refresh_view()
        return self._node if self._requires_grad or state.capture is not None else None

    @property
    def is_leaf(self) -> bool:
        """Whether this tensor was made by the user rather than by a recorded operator."""
        if self._base is not None:
            self._refresh_view()
        return self._node is None or not self._requires_grad

    def backward(
        self, gradient: Any = None, retain_graph: bool | None = None, create_graph: bool = False, inputs: Any = None
    ) -> None:
        """Accumulates d(self)/d(leaf) into `.grad` of every leaf that requires it.

        gradient: the upstream gradient, of this tensor's shape; may be left out for a tensor of one element. Frees what the graph
        saved unless `retain_graph` (default: `create_graph`); a second call then raises RuntimeError.
        """
        from .autograd import backward

        backward(self, gradient, retain_graph=retain_graph, create_graph=create_graph, inputs=inputs)

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
        """Calls `hook(grad)` whenever this tensor's gradient is computed; a returned Tensor replaces the gradient."""
        if not self.requires_grad:
            raise RuntimeError("register_hook: this tensor does not require grad, so no gradient is ever computed for it")
        if self._node is None:
            if self._hooks is None:
                self._hooks = {}
            return RemovableHandle(self._hooks, hook)
        if self._node.hooks is None:
            self._node.hooks = {}
        return RemovableHandle(self._node.hooks.setdefault(self._slot, {}), hook)

    def retain_grad(self) -> None:
        """Keeps `.grad` on this non-leaf tensor too."""
        if not self.requires_grad:
            raise RuntimeError("retain_grad: this tensor does not require grad")
        if self._node is not None:
            if self._node.retained is None:
                self._node.retained = {}
            self._node.retained[self._slot] = weakref.ref(self)
            self._retains_grad = True

    @property
    def retains_grad(self) -> bool:
        """Whether `retain_grad` was called on this non-leaf tensor."""
        return self._retains_grad

    def detach(self) -> Tensor:
        """The same memory without history. In-place writes to either are seen by both, and by the version checks."""
        out = wrap(self._data)
        if self._storage is None:
            self._storage = Storage()
        out._storage = self._storage
        return out

    def detach_(self) -> Tensor:
        """Drops this tensor's history."""
        if self._base is not None:
            raise RuntimeError("detach_: a view cannot be detached in place; use .detach()")
        self._node, self._slot, self._requires_grad = None, 0, False
        return self

    @property
    def data(self) -> Tensor:
        """The same memory without history, as `detach()`. Assigning replaces the values' memory."""
        return self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:
        if value.shape != self.shape or value.dtype != self.dtype:
            raise ValueError(
                f"data: expected shape {self.shape} and dtype {self.dtype}, got shape {value.shape} and dtype {value.dtype}"
            )
        if self._storage is not None:
            self._storage.version += 1
        self._data = value._data
        self._storage = value._storage

    # Conversion -------------------------------------------------------------------------------------------------------

    def numpy(self, *, force: bool = False) -> np.ndarray:
        """The memory as a NumPy array, shared. RuntimeError while gradients are recorded, unless `force` (which detaches)."""
        if self.requires_grad and not force:
            raise RuntimeError("numpy(): this tensor requires grad; use .detach().numpy()")
        return self._data

    def item(self) -> Any:
        """The single element as a Python number."""
        if self._data.size != 1:
            raise ValueError(f"item(): expected a tensor with one element, got shape {self.shape}")
        return self._data.item()

    def tolist(self) -> Any:
        """The elements as nested Python lists."""
        return self._data.tolist()

    def to(self, *args: Any, **kwargs: Any) -> Tensor:
        """A tensor of another dtype or device: `to(dtype)`, `to(device)`, `to(device, dtype)`, `to(other)`; itself if nothing changes."""
        dtype, device, copy = kwargs.pop("dtype", None), kwargs.pop("device", None), kwargs.pop("copy", False)
        kwargs.pop("non_blocking", None)
        if kwargs:
            raise TypeError(f"to(): unexpected arguments {sorted(kwargs)}")
        for value in args:
            if isinstance(value, Tensor):
                dtype, device = value.dtype, value.device
            elif isinstance(value, Device) or (isinstance(value, str) and value.split(":")[0] in ("cpu", "cuda")):
                device = value
            elif value is not None:
                dtype = value
        if device is not None:
            as_device(device).require()
        if dtype is not None and dtypes.as_dtype(dtype) != self._data.dtype:
            return _operator("cast")(self, dtypes.as_dtype(dtype))
        return self.clone() if copy else self

    def type(self, dtype: Any = None) -> Any:
        """The dtype, or this tensor in another one."""
        return self.dtype if dtype is None else self.to(dtype)

    def cpu(self) -> Tensor:
        """This tensor in main memory."""
        return self.to("cpu")

    def cuda(self) -> Tensor:
        """This tensor on the GPU; RuntimeError with the reason where there is none."""
        return self.to("cuda")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self._data, dtype=dtype, copy=copy)

    def __dlpack__(self, **kwargs: Any) -> Any:
        if self.requires_grad:
            raise BufferError("__dlpack__: this tensor requires grad; export .detach()")
        return self._data.__dlpack__(**kwargs)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._data.__dlpack_device__()

    def __bool__(self) -> bool:
        if self._data.size != 1:
            raise ValueError(f"the truth of a tensor of shape {self.shape} is ambiguous; use .any() or .all()")
        return bool(self._data.item())

    def __int__(self) -> int:
        return int(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __index__(self) -> int:
        if self._data.dtype.kind not in "iu":
            raise TypeError(f"only integer tensors of one element can be an index, this one is {self.dtype}")
        return int(self.item())

    def __len__(self) -> int:
        if not self._data.ndim:
            raise TypeError("len() of a 0-d tensor")
        return self._data.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        if not self._data.ndim:
            raise TypeError("iteration over a 0-d tensor")
        return iter([self[i] for i in range(self._data.shape[0])])

    def __contains__(self, value: Any) -> bool:
        return bool((self._data == np.asarray(value)).any())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec and self._data.ndim == 0 else format(repr(self), spec)

    def __repr__(self) -> str:
        from .printing import format_tensor

        return format_tensor(self)

    def __copy__(self) -> Tensor:
        out = self.detach()
        out._requires_grad, out._node, out._slot = self.requires_grad, self._node, self._slot
        return out

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if not self.is_leaf:
            raise RuntimeError("deepcopy: only leaf tensors can be copied with their settings; use .detach().clone()")
        out = type(self).__new__(type(self))
        memo[id(self)] = out
        out._data = self._data.copy()
        out._requires_grad, out.name = self._requires_grad, self.name
        if self.grad is not None:
            out.grad = self.grad.__deepcopy__(memo)
        return out

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("tensors are not pickled, since unpickling can run code; use tg.save and tg.load (safetensors)")

    def __getitem__(self, index: Any) -> Tensor:
        from .indexing import get  # once imported, its functions stand here themselves

        return get(self, index)

    def __setitem__(self, index: Any, value: Any) -> None:
        from .indexing import assign

        assign(self, index, value)

    def __getattr__(self, name: str) -> Any:
        """Methods of plugin operators: the plugins are looked for when a name is not known."""
        if not name.startswith("_") and (find(name) or find(name.removesuffix("_"))) and hasattr(Tensor, name):
            return getattr(self, name)
        raise AttributeError(f"'{type(self).__name__}' object has no attribute {name!r}")

    # Views ------------------------------------------------------------------------------------------------------------

    def _become_view(self, source: Tensor, op: Operator, attrs: tuple[Any, ...]) -> None:
        """Marks this new tensor as a view of `source`'s base, and shares its storage."""
        if source._storage is None:
            source._storage = Storage()
        self._storage = source._storage
        self._base = source if source._base is None else source._base
        self._view_chain = (*source._view_chain, (op, attrs))
        self._generation = self._base._generation

    def _refresh_view(self) -> None:
        """After an in-place write to the base or to another view of it, makes this view's history anew from the base's."""
        base = self._base
        if base is None or self._generation == base._generation:
            return
        from .dispatch import record

        self._generation = base._generation
        current = base
        for op, attrs in self._view_chain:
            step = wrap(op.bind(op.reference, (current._data,), attrs))
            if base._requires_grad or state.capture is not None:
                record(op, (current,), attrs, (step,), base._requires_grad)
            current = step
        self._take_history(current)

    def _take_history(self, other: Tensor) -> None:
        """Takes the place of `other` in the graph; a retained gradient follows this tensor to its new value."""
        retained = self._retains_grad and self._node is not None
        if retained and self._node.retained is not None:  # type: ignore[union-attr]
            self._node.retained.pop(self._slot, None)  # type: ignore[union-attr]
        self._node, self._slot, self._requires_grad = other._node, other._slot, other._requires_grad
        if retained:
            self._retains_grad = False
            if self._requires_grad:
                self.retain_grad()

    def _rebase(self, result: Tensor) -> None:
        """This view was overwritten by `result`: the base's history becomes the old base with this region replaced."""
        from .dispatch import record

        base = self._base
        assert base is not None
        updated = wrap(base._data)
        wants = base._requires_grad or result._requires_grad
        record(_operator("view_scatter").operator, (base, result), (self._view_chain,), (updated,), wants)
        base._take_history(updated)
        base._generation += 1
        self._refresh_view()


class RemovableHandle:
    """Returned by hooks: `remove()` takes the hook away; also a context manager."""

    def __init__(self, registry: dict[int, Callable[..., Any]], hook: Callable[..., Any]) -> None:
        self._registry = registry
        self._key = max(registry, default=-1) + 1
        registry[self._key] = hook

    def remove(self) -> None:
        """Takes the hook away; a second call does nothing."""
        self._registry.pop(self._key, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *_: Any) -> None:
        self.remove()


_new = Tensor.__new__


def wrap(array: np.ndarray) -> Tensor:
    """A Tensor around `array`, without a copy and without history."""
    tensor = _new(Tensor)
    tensor._data = array
    return tensor


def _operator(name: str) -> Any:
    found = find(name)
    assert found is not None, name
    return found.function


def _comparison(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Python's == and != must answer for anything; with what is no number they leave the answer to Python."""

    def compare(self: Any, other: Any) -> Any:
        if isinstance(other, (Tensor, int, float, np.number, np.bool_)):
            return function(self, other)
        return function(self, wrap(other)) if isinstance(other, np.ndarray) else NotImplemented

    return compare


def _arithmetic(function: Callable[[Any, Any], Any], reflected: bool = False) -> Callable[[Any, Any], Any]:
    def operate(self: Any, other: Any) -> Any:
        if isinstance(other, np.ndarray):
            other = wrap(other)
        elif not isinstance(other, (Tensor, int, float, np.number, np.bool_)):
            return NotImplemented
        return function(other, self) if reflected else function(self, other)

    return operate


class _LazyMethod:
    """Stands on the Tensor class for an operator until it is first used, then makes way for its function."""

    __slots__ = ("inplace", "operator")

    def __init__(self, operator: Operator, inplace: bool) -> None:
        self.operator, self.inplace = operator, inplace

    def __get__(self, instance: Tensor | None, owner: type[Tensor]) -> Any:
        function = self.operator.inplace if self.inplace else self.operator.function
        setattr(Tensor, self.operator.name + ("_" if self.inplace else ""), function)
        return function.__get__(instance, owner)


def _attach(operator: Operator) -> None:
    """Makes a registered operator a Tensor method, and the Python operator it stands for."""
    existing = inspect.getattr_static(Tensor, operator.name, None)
    if operator.has_method and "." not in operator.name and (existing is None or hasattr(existing, "operator")):
        setattr(Tensor, operator.name, _LazyMethod(operator, False))
    if operator.has_inplace:
        setattr(Tensor, operator.name + "_", _LazyMethod(operator, True))
    for special, name in _UNARY_OPERATORS.items():
        if name == operator.name:
            setattr(Tensor, special, operator.function)
    for special, name in _PYTHON_OPERATORS.items():
        if name != operator.name:
            continue
        if special in ("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__"):
            setattr(Tensor, special, _comparison(operator.function))
            continue
        setattr(Tensor, special, _arithmetic(operator.function))
        setattr(Tensor, f"__r{special[2:]}", _arithmetic(operator.function, reflected=True))
        if operator.has_inplace:
            setattr(Tensor, f"__i{special[2:]}", _arithmetic(operator.inplace))


on_registration(_attach)
