"""The long way of calling a module: with forward hooks before and after, and with backward hooks at its boundary.

Backward hooks need the gradients of all inputs (and of all outputs) at once. So the tensors that enter a module with such
hooks pass together through one identity node, and those that leave it through another; the nodes' rules run the hooks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._state import state
from .._tensor import Tensor, wrap
from ..dispatch import record
from ..domain import call
from ..registry import Array, Op, Operator

if TYPE_CHECKING:
    from .module import Module


class _Boundary(Op):
    """The tensors unchanged; in backward their gradients pass through `visit`, which may replace them."""

    def reference(*tensors: list[Array], visit: Any) -> Any:
        return tensors

    def backward(upstreams: Any, visit: Any) -> Any:
        return visit(upstreams)


_boundary = Operator(
    _Boundary, "module_boundary", domain=lambda draw: call(draw.real((2,)), visit=tuple), formula="inputs", kinks=None, source="",
    kernels=None, cost=None, method=False, inplace=False, tolerance=None, provider="tinygrad_cv", gradgrad=True,
)  # fmt: skip


def _through_boundary(values: tuple[Any, ...], positions: list[int], visit: Any) -> tuple[Any, ...]:
    """`values` with the tensors at `positions` led through one identity node.

    They come out as copies: a module that writes to its input in place must not change, unseen, what the input was made of.
    """
    tensors = tuple(values[i] for i in positions)
    copies = tuple(wrap(t._data.copy()) for t in tensors)
    record(_boundary, tensors, (visit,), copies)
    result = list(values)
    for i, copied in zip(positions, copies, strict=True):
        result[i] = copied
    return tuple(result)


def _wanting(values: tuple[Any, ...]) -> list[int]:
    return [i for i, v in enumerate(values) if isinstance(v, Tensor) and v.requires_grad and v.is_floating_point()]


def _spread(gradients: Any, positions: list[int], count: int) -> tuple[Any, ...]:
    full: list[Any] = [None] * count
    for i, gradient in zip(positions, gradients, strict=True):
        full[i] = gradient
    return tuple(full)


def _replaced(name: str, returned: Any, gradients: tuple[Any, ...]) -> tuple[Any, ...]:
    if returned is None:
        return gradients
    returned = tuple(returned) if isinstance(returned, (tuple, list)) else (returned,)
    if len(returned) != len(gradients):
        raise RuntimeError(f"a backward hook of {name} returned {len(returned)} gradients, expected {len(gradients)}")
    return returned


class _Backward:
    """One call of a module with backward hooks: remembers the gradients of the outputs until those of the inputs are known."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.grad_output: tuple[Any, ...] = ()
        self.inputs: list[int] = []
        self.input_count = 0

    def enter(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        self.inputs, self.input_count = _wanting(args), len(args)
        return _through_boundary(args, self.inputs, self.at_inputs) if self.inputs else args

    def leave(self, output: Any) -> Any:
        values = output if isinstance(output, tuple) else (output,)
        positions = _wanting(values)
        if not positions:
            return output
        passed = _through_boundary(values, positions, lambda upstreams: self.at_outputs(upstreams, positions, len(values)))
        if not isinstance(output, tuple):
            return passed[0]
        return type(output)(*passed) if hasattr(output, "_fields") else passed

    def at_outputs(self, upstreams: tuple[Any, ...], positions: list[int], count: int) -> tuple[Any, ...]:
        name = type(self.module).__name__
        gradients = _spread(upstreams, positions, count)
        for hook in list(self.module._backward_pre_hooks.values()):
            gradients = _replaced(name, hook(self.module, gradients), gradients)
        if self.inputs:
            self.grad_output = gradients
        else:
            nothing = (None,) * self.input_count
            for hook in list(self.module._backward_hooks.values()):
                returned = hook(self.module, nothing, gradients)
                if returned is not None and any(g is not None for g in _replaced(name, returned, nothing)):
                    raise RuntimeError(f"a backward hook of {name} returned gradients, but no input of this call requires grad")
        return tuple(gradients[i] for i in positions)

    def at_inputs(self, upstreams: tuple[Any, ...]) -> tuple[Any, ...]:
        gradients = _spread(upstreams, self.inputs, self.input_count)
        for hook in list(self.module._backward_hooks.values()):
            gradients = _replaced(type(self.module).__name__, hook(self.module, gradients, self.grad_output), gradients)
        self.grad_output = ()
        return tuple(gradients[i] for i in self.inputs)


def call_with_hooks(module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`module.forward` with all hooks of the module, in PyTorch's order; or the module's compiled form, where one is in use."""
    if state.parts is not None and state.capture is None and id(module) in state.parts:
        return state.parts[id(module)](*args, **kwargs)
    called = set()
    try:
        for hook, with_kwargs in list(module._forward_pre_hooks.values()):
            if with_kwargs:
                returned = hook(module, args, kwargs)
                if returned is not None:
                    if not (isinstance(returned, tuple) and len(returned) == 2):
                        raise RuntimeError(
                            f"a forward pre-hook with kwargs must return None or (args, kwargs), got {returned!r}"
                        )
                    args, kwargs = returned
            else:
                returned = hook(module, args)
                if returned is not None:
                    args = returned if isinstance(returned, tuple) else (returned,)
        backward = None
        if state.grad_enabled and (module._backward_hooks or module._backward_pre_hooks):
            backward = _Backward(module)
            args = backward.enter(args)
        output = module.forward(*args, **kwargs)
        for key, (hook, with_kwargs, _) in list(module._forward_hooks.items()):
            called.add(key)
            returned = hook(module, args, kwargs, output) if with_kwargs else hook(module, args, output)
            if returned is not None:
                output = returned
        return output if backward is None else backward.leave(output)
    except Exception:
        for key, (hook, with_kwargs, always_call) in list(module._forward_hooks.items()):
            if always_call and key not in called:
                hook(module, args, kwargs, None) if with_kwargs else hook(module, args, None)
        raise
