"""The Tensor: a NumPy array that may remember how it was computed.

Operators are not written here. Every registered operator with `method=True` becomes a method by name (`x.exp()`), Python's
operators are bound to operators in `_PYTHON_OPERATORS`, and `tensor.pyi` lists all of it for editors and type checkers.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ._state import state
from .autograd.node import Node, Storage
from .conversion import Conversion
from .devices import CPU, Device
from .registry import find, on_registration
from .replay import left
from .tensor_methods import TensorMethods
from .views import Views

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


class Tensor(OperatorMethods, TensorMethods, Conversion, Views):
    """A dense array with an optional history. Make one with `tg.tensor`, not with this class.

    dtype: one of `tg.dtypes.SUPPORTED`; float32 unless asked otherwise. requires_grad: operators applied to it are recorded.
    grad: the accumulated gradient after `backward()`, a Tensor of the same shape and dtype, or None.
    """

    # Defaults live on the class: a new tensor sets only what differs, which is what makes creation cheap.
    _requires_grad: bool = False
    _node: Node | None = None
    _slot: int = 0
    _inference: bool = False
    _hooks: dict[int, Callable[[Any], Any]] | None = None
    _retains_grad: bool = False
    _grad: Any = None
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
        _layout_asked("stride()")
        strides = tuple(s // self._data.itemsize for s in self._data.strides)
        return strides if dim is None else strides[dim]

    def is_contiguous(self) -> bool:
        """Whether the elements lie in row-major order without gaps."""
        _layout_asked("is_contiguous()")
        return self._data.flags.c_contiguous

    def is_floating_point(self) -> bool:
        """Whether the dtype is float16, float32 or float64."""
        return self._data.dtype.kind == "f"

    def data_ptr(self) -> int:
        """The address of the first element; two tensors that view one memory show it here."""
        _layout_asked("data_ptr()")
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

    @property
    def grad(self) -> Tensor | None:
        """The gradient that `backward()` accumulated, of this tensor's shape and dtype, or None.

        Assigning anything else raises TypeError (no Tensor, another dtype) or ValueError (another shape).
        """
        grad = self._grad
        if type(grad) is Lent:
            grad = self._grad = wrap(grad.array.copy())
        return grad

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None:
            if not isinstance(value, Tensor):
                raise TypeError(f"grad: expected a Tensor or None, got {type(value).__name__}")
            array, own = value._data, self._data
            if array.shape != own.shape:
                raise ValueError(f"grad: expected the tensor's shape {own.shape}, got {array.shape}")
            if array.dtype != own.dtype:
                raise TypeError(f"grad: expected the tensor's dtype {own.dtype}, got {array.dtype}; use .to({own.dtype})")
            if value is self:
                raise ValueError("grad: a tensor cannot be its own gradient; use .clone()")
        if state.capture is not None:
            state.capture.gradient(self, value)
        self._grad = value

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

    def is_inference(self) -> bool:
        """Whether this tensor was made under `inference_mode`, and so can take no part in a recorded operator."""
        return self._inference

    def detach(self) -> Tensor:
        """The same memory without history. In-place writes to either are seen by both, and by the version checks."""
        out = wrap(self._data)
        if self._storage is None:
            self._storage = Storage()
        out._storage = self._storage
        if self._inference:
            out._inference = True
        return out

    def detach_(self) -> Tensor:
        """Drops this tensor's history."""
        if self._base is not None:
            raise RuntimeError("detach_: a view cannot be detached in place; use .detach()")
        self._node, self._slot, self._requires_grad = None, 0, False
        return self

    @property
    def data(self) -> Tensor:
        """The same memory without history, as `detach()`. Assigning a Tensor makes its memory this tensor's.

        A leaf may so change its shape and dtype: TypeError for integers where it requires grad, RuntimeError while it has a `.grad`
        (which would not fit). A tensor with a history keeps it, and with it its shape and dtype (else ValueError). Views taken
        before stay with the old memory. RuntimeError at the backward of a graph that saved the old values.
        """
        return self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:
        if not isinstance(value, Tensor):
            raise TypeError(f"data: expected a Tensor, got {type(value).__name__}")
        requires, array, own = self.requires_grad, value._data, self._data
        if array is own:
            return
        if array.shape != own.shape or array.dtype != own.dtype:
            given = f"shape {array.shape} and dtype {array.dtype}"
            if not self.is_leaf:
                raise ValueError(
                    f"data: this tensor was computed with shape {own.shape} and dtype {own.dtype}, so its gradient cannot have {given}; "
                    "only a leaf may change them, see detach()"
                )
            if requires and array.dtype.kind != "f":
                raise TypeError(f"data: this tensor requires grad, which {array.dtype} cannot have; expected a floating dtype")
            if self.grad is not None:
                raise RuntimeError(
                    f"data: this tensor has a .grad of shape {own.shape}, {own.dtype}; set .grad = None before {given}"
                )
        left(self, "assignment to .data")
        if value._storage is None:
            value._storage = Storage()
        self._replace_memory(array, value._storage)

    # Elements --------------------------------------------------------------------------------------------------------

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


def _layout_asked(how: str) -> None:
    """Tells a recording that Python asks how a tensor lies in memory, which may differ in a plan and from call to call."""
    if state.capture is not None:
        state.capture.left(None, f"Python asks how a tensor lies in memory: {how}")


class Lent:
    """Stands for the `.grad` that a compiled plan left in memory of its own: asked for, it becomes a Tensor with a copy."""

    __slots__ = ("array",)

    def __init__(self, array: np.ndarray) -> None:
        self.array = array


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

    __slots__ = ("inplace", "name", "operator")

    def __init__(self, operator: Operator, name: str, inplace: bool) -> None:
        self.operator, self.name, self.inplace = operator, name, inplace

    def __get__(self, instance: Tensor | None, owner: type[Tensor]) -> Any:
        function = self.operator.inplace if self.inplace else self.operator.function
        setattr(Tensor, self.name, function)
        return function.__get__(instance, owner)


def _attach(operator: Operator) -> None:
    """Makes a registered operator a Tensor method, and the Python operator it stands for."""
    for name in (operator.name, *operator.aliases):
        existing = inspect.getattr_static(Tensor, name, None)
        if operator.has_method and "." not in name and (existing is None or hasattr(existing, "operator")):
            setattr(Tensor, name, _LazyMethod(operator, name, False))
        if operator.has_inplace:
            setattr(Tensor, name + "_", _LazyMethod(operator, name + "_", True))
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
