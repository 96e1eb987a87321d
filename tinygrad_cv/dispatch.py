"""Runs operators: checks and promotes operands, calls the kernel or the reference, and records a node for backward."""

from __future__ import annotations

import os
import sys
from types import CodeType
from typing import TYPE_CHECKING, Any

import numpy as np

from . import dtypes
from ._state import state
from .autograd.node import Constant, Node, Storage
from ._tensor import Tensor, wrap

if TYPE_CHECKING:
    from .registry import Operator

_NUMBERS = (int, float, np.number, np.bool_)
_HERE = os.path.dirname(os.path.abspath(__file__))
_ROOMS = tuple(
    {_HERE + os.sep, *(os.path.join(os.path.dirname(_HERE), room) + os.sep for room in ("ops", "models", "viz"))}
)
_own_code: dict[CodeType, bool] = {}


def user_frame() -> tuple[CodeType, int] | None:
    """The innermost calling frame outside this package, as (code, instruction): cheap to keep, resolved to a line later."""
    frame = sys._getframe(2)
    while frame is not None:
        code = frame.f_code
        own = _own_code.get(code)
        if own is None:
            own = _own_code[code] = code.co_filename.startswith(_ROOMS) or code.co_filename.startswith("<tinygrad_cv")
        if not own:
            return code, frame.f_lasti
        frame = frame.f_back  # type: ignore[assignment]
    return None


def execute(op: Operator, arrays: tuple[Any, ...], attrs: tuple[Any, ...]) -> Any:
    """The operator on NumPy arrays: the kernel if there is one and it accepts, else the reference."""
    kernel = op.kernel("cpu")
    if kernel is not None:
        out = op.bind(kernel, arrays, attrs)
        if out is not NotImplemented:
            return out
    if state.quiet or not op.quiet:
        return op.bind(op.reference, arrays, attrs)
    with np.errstate(all="ignore"):
        return op.bind(op.reference, arrays, attrs)


def _fail_operand(op: Operator, i: int, value: Any) -> TypeError:
    name = op.variadic or op.tensor_params[i]
    return TypeError(f"{op.name}: expected a Tensor for `{name}`, got {type(value).__name__}")


def _promoted(op: Operator, tensors: tuple[Any, ...]) -> tuple[Any, ...]:
    """The operands brought to PyTorch's common dtype. Python numbers stay numbers while a tensor is there to type them."""
    common = None
    uniform = True
    for i in op.promotes:
        t = tensors[i]
        if isinstance(t, Tensor):
            d = t._data.dtype
            if common is None:
                common = d
            elif d is not common and d != common:
                uniform = False
        elif t is None:
            if op.tensor_params[i] not in op.optional_tensors:
                raise _fail_operand(op, i, t)
        elif isinstance(t, _NUMBERS):
            if common is None or common.kind != "f" or isinstance(t, np.generic):
                uniform = False
        else:
            raise _fail_operand(op, i, t)
    if uniform and common is not None and (common.kind == "f" or not op.int_to_float):
        return tensors
    operands = [tensors[i] for i in op.promotes]
    common = dtypes.result_type(operands)
    if op.int_to_float and common.kind != "f":
        common = dtypes.get_default_dtype()
    converted = list(tensors)
    if not any(isinstance(t, Tensor) for t in tensors):
        raise TypeError(f"{op.name}: expected at least one Tensor, got {', '.join(type(t).__name__ for t in tensors)}")
    none_typed = not any(isinstance(t, Tensor) for t in operands)
    for i in op.promotes:
        t = tensors[i]
        if isinstance(t, Tensor):
            if t._data.dtype != common:
                converted[i] = t.to(common)
        elif t is not None:
            if none_typed:
                converted[i] = wrap(np.asarray(t, common))
            else:
                converted[i] = t.item() if isinstance(t, np.generic) else t
    return tuple(converted)


def apply(op: Operator, tensors: tuple[Any, ...], attrs: tuple[Any, ...]) -> Any:
    """One operator call: `tensors` in the order of the operator's tensor parameters, `attrs` in that of its attributes."""
    if op.promotes:
        tensors = _promoted(op, tensors)
    recording = state.capture is not None
    wants = False
    grad_enabled = state.grad_enabled and op.differentiable
    arrays = []
    for i, t in enumerate(tensors):
        if isinstance(t, Tensor):
            if t._base is not None:
                t._refresh_view()
            if t._requires_grad and grad_enabled:
                wants = True
            arrays.append(t._data)
        elif t is None:
            if op.variadic or op.tensor_params[i] not in op.optional_tensors:
                raise _fail_operand(op, i, t)
            arrays.append(None)
        elif isinstance(t, _NUMBERS) and op.promotes:
            arrays.append(t)
        else:
            raise _fail_operand(op, i, t)
    if op.broadcasts and len(arrays) > 1:
        _check_broadcast(op, arrays)

    out = execute(op, tuple(arrays), attrs)

    outputs: tuple[Tensor, ...]
    if type(out) is tuple:
        outputs = tuple([wrap(o if type(o) is np.ndarray else np.asarray(o)) for o in out])
    else:
        outputs = (wrap(out if type(out) is np.ndarray else np.asarray(out)),)
    if op.view:
        source = tensors[0]
        if np.may_share_memory(outputs[0]._data, source._data):
            outputs[0]._become_view(source, op, attrs)
    if wants or recording:
        record(op, tensors, attrs, outputs, wants)
    if state.inference:
        for o in outputs:
            o._inference = True
    return outputs[0] if op.result is None else op.result(*outputs)


def _check_broadcast(op: Operator, arrays: list[Any]) -> None:
    """Raises the shape error here, in our words, before NumPy would in its own."""
    first = None
    for a in arrays:
        if isinstance(a, np.ndarray):
            if first is None:
                first = a.shape
            elif a.shape != first and a.shape:
                break
    else:
        return
    shapes = [a.shape for a in arrays if isinstance(a, np.ndarray)]
    for axis in range(-1, -1 - max(map(len, shapes)), -1):
        sizes = {s[axis] for s in shapes if len(s) >= -axis} - {1}
        if len(sizes) > 1:
            raise ValueError(
                f"{op.name}: shapes {' and '.join(map(str, shapes))} do not broadcast: axis {axis} has sizes "
                f"{' and '.join(map(str, sorted(sizes)))}; they must be equal or 1"
            )


def record(
    op: Operator, tensors: tuple[Any, ...], attrs: tuple[Any, ...], outputs: tuple[Tensor, ...], wants: bool = True
) -> Node:
    """Makes the node of a finished call and hangs it on the outputs."""
    parents: list[Any] = []
    slots = []
    needs = []
    capture = state.capture
    for i, t in enumerate(tensors):
        slot = 0
        need = False
        parent: Any
        if not isinstance(t, Tensor):
            parent = t
        elif t._inference and wants:
            raise RuntimeError(
                f"{op.name}: a tensor made under inference_mode cannot be recorded for backward; clone it outside, or use no_grad"
            )
        elif t._node is not None:
            parent, slot = t._node, t._slot
            need = t._requires_grad
        elif t._requires_grad or capture is not None:
            parent = t
            need = t._requires_grad
        else:
            parent = t._constant
            if parent is None:
                parent = t._constant = Constant(t)
        parents.append(parent)
        slots.append(slot)
        needs.append(need and (op.variadic is not None or not op.nondiff[i]))
    node = Node(op, tuple(parents), tuple(slots), attrs, user_frame())
    node.shapes = tuple([o._data.shape for o in outputs])
    node.dtypes = tuple([o._data.dtype for o in outputs])
    node.requires_grad = wants
    if wants:
        plan = op.save_plan(tuple(needs))
        if plan:
            node.save(plan, tensors, outputs)
    for i, o in enumerate(outputs):
        o._node, o._slot = node, i
        o._requires_grad = wants and o._data.dtype.kind == "f"
    if capture is not None:
        capture.add(node, outputs)
    return node


def compose(op: Operator, tensors: tuple[Any, ...], attrs: tuple[Any, ...]) -> Any:
    """Runs a composite operator inside a scope of its name, so that pictures can fold it into one box."""
    outer = state.scope
    state.scope = f"{outer}/{op.name}" if outer else f"/{op.name}"
    try:
        return op.bind(op.compose, tensors, attrs)  # type: ignore[arg-type]
    finally:
        state.scope = outer


def check_writable(name: str, target: Tensor) -> None:
    """Raises, before anything is written, if `target` may not be changed in place."""
    if target._base is not None:
        target._refresh_view()
    array = target._data
    if state.grad_enabled and target._requires_grad and target.is_leaf:
        raise RuntimeError(
            f"{name}: a leaf tensor that requires grad cannot be changed in place; use no_grad(), or work on a clone"
        )
    if state.grad_enabled and target._base is not None and target._base._requires_grad and target._base.is_leaf:
        raise RuntimeError(
            f"{name}: a view of a leaf tensor that requires grad cannot be changed in place; use no_grad(), or work on a clone"
        )
    if target._storage is not None and target._storage.savers:
        saver = next(iter(target._storage.savers.values()))
        raise RuntimeError(
            f"{name}: this memory ({array.dtype}, shape {array.shape}) was saved by {saver} and is still needed for its "
            f"backward; call backward first, or write to a clone"
        )
    if not array.flags.writeable or (0 in array.strides and array.size > 1 and _overlaps(array)):
        raise RuntimeError(
            f"{name}: this tensor of shape {array.shape} is read-only or expanded (several elements share one place in memory); "
            f"clone it before writing"
        )


def _overlaps(array: np.ndarray) -> bool:
    return any(stride == 0 and size > 1 for size, stride in zip(array.shape, array.strides, strict=True))


def apply_inplace(op: Operator, tensors: tuple[Any, ...], attrs: tuple[Any, ...]) -> Any:
    """The operator computed, then written into its first operand, which takes over the result's place in the graph."""
    target = tensors[0]
    if not isinstance(target, Tensor):
        raise _fail_operand(op, 0, target)
    name = op.name + "_"
    check_writable(name, target)
    if op.composite:  # its inner nodes may save the old value, which is about to be overwritten
        old = target.clone()
        tensors = tuple(old if t is target else t for t in tensors)
    out = (compose if op.composite else apply)(op, tensors, attrs)
    if out.shape != target.shape:
        raise ValueError(f"{name}: the result has shape {out.shape}, which cannot be written into shape {target.shape}")
    have, want = target._data.dtype, out._data.dtype
    if have != want and dtypes._CATEGORY[want.kind] > dtypes._CATEGORY[have.kind]:
        raise TypeError(f"{name}: the result has dtype {want}, which cannot be written into {have}; use the form without _")
    if have != want:
        out = out.to(have)
    finish_inplace(target, out, out._data)
    return target


def finish_inplace(target: Tensor, result: Tensor, array: np.ndarray | None) -> None:
    """Writes `array` (None: already written) into `target` and gives it the graph position of `result`."""
    storage = target._storage
    if storage is None:
        storage = target._storage = Storage()
    if storage.savers and result._node is not None:
        result._node.unshare(storage)
    if array is not None:
        np.copyto(target._data, array)
    storage.version += 1
    if result._node is None:
        return
    if target._base is not None:
        target._rebase(result)
    else:
        target._node, target._slot, target._requires_grad = result._node, result._slot, result._requires_grad
        target._generation += 1
