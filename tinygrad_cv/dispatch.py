"""Runs operators: checks and promotes operands, calls the kernel or the reference, and records a node for backward."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import CodeType
from typing import TYPE_CHECKING, Any

import numpy as np

from . import dtypes
from ._state import Scope, state
from ._tensor import Tensor, wrap
from .autograd.node import Constant, Node, Storage

if TYPE_CHECKING:
    from .registry import Operator

_NUMBERS = (int, float, np.number, np.bool_)
_HERE = os.path.dirname(os.path.abspath(__file__))
_ROOMS = tuple({_HERE + os.sep, *(os.path.join(os.path.dirname(_HERE), room) + os.sep for room in ("ops", "models", "viz"))})
_own_files: dict[str, bool] = {}


def user_frame() -> tuple[CodeType, int] | None:
    """The innermost calling frame outside this package, as (code, instruction): cheap to keep, resolved to a line later."""
    frame = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        own = _own_files.get(file)
        if own is None:
            own = _own_files[file] = file.startswith((*_ROOMS, "<tinygrad_cv", "<frozen "))
        if not own:
            return frame.f_code, frame.f_lasti
        frame = frame.f_back  # type: ignore[assignment]
    return None


def make_runner(op: Operator) -> Callable[[tuple[Any, ...], tuple[Any, ...]], Any]:
    """The operator on NumPy arrays: the CPU kernel if there is one and it accepts, else the reference.

    References run with floating-point warnings off: log(0) is -inf here as in PyTorch, not a warning.
    """
    bind, reference, kernel = op.bind, op.reference, op.kernel("cpu")
    quiet = np.errstate(all="ignore")(reference) if op.quiet and not op.view else reference

    def run_reference(arrays: tuple[Any, ...], attrs: tuple[Any, ...]) -> Any:
        return bind(reference if state.quiet else quiet, arrays, attrs)

    def run_kernel(arrays: tuple[Any, ...], attrs: tuple[Any, ...]) -> Any:
        try:
            out = bind(kernel, arrays, attrs)
        except Exception as error:
            from .kernels import name_failure

            name_failure(op, "cpu", arrays, error)
            raise
        return run_reference(arrays, attrs) if out is NotImplemented else out

    return run_reference if kernel is None else run_kernel


def _fail_operand(op: Operator, i: int, value: Any) -> TypeError:
    name = op.variadic or op.tensor_params[i]
    return TypeError(f"{op.name}: expected a Tensor for `{name}`, got {type(value).__name__}")


def explain_operands(op: Operator, tensors: tuple[Any, ...]) -> None:
    """Raises the error for an operand that is no Tensor, if there is one: `prepare` stumbled over something."""
    for i, t in enumerate(tensors):
        name = op.variadic or op.tensor_params[i]
        if not isinstance(t, Tensor) and not (t is None and name in op.optional_tensors):
            raise _fail_operand(op, i, t) from None


def _promoted(op: Operator, tensors: tuple[Any, ...]) -> tuple[Any, ...]:
    """The operands brought to PyTorch's common dtype. Python numbers stay numbers while a tensor is there to type them."""
    operands = [tensors[i] for i in op.promotes]
    for i, t in zip(op.promotes, operands, strict=True):
        if not isinstance(t, (Tensor, *_NUMBERS)) and not (t is None and op.tensor_params[i] in op.optional_tensors):
            raise _fail_operand(op, i, t)
    if not any(isinstance(t, Tensor) for t in tensors):
        raise TypeError(f"{op.name}: expected at least one Tensor, got {', '.join(type(t).__name__ for t in tensors)}")
    common = dtypes.result_type(operands)
    if op.int_to_float and common.kind != "f":
        common = dtypes.get_default_dtype()
    typed = any(isinstance(t, Tensor) for t in operands)
    converted = list(tensors)
    for i, t in zip(op.promotes, operands, strict=True):
        if isinstance(t, Tensor):
            if t._data.dtype != common:
                converted[i] = t.to(common)
        elif t is not None:
            number = t.item() if isinstance(t, np.generic) else t
            converted[i] = number if typed else wrap(np.asarray(number, common))
    return tuple(converted)


def _needs_promotion(op: Operator, tensors: tuple[Any, ...]) -> bool:
    """Whether the operands differ in dtype, or hold a number that could raise the dtype. Almost always they do not."""
    common = None
    for i in op.promotes:
        t = tensors[i]
        if isinstance(t, Tensor):
            if common is None:
                common = t._data.dtype
            elif t._data.dtype is not common and t._data.dtype != common:
                return True
        elif type(t) is not float and type(t) is not int:
            return t is not None or op.tensor_params[i] not in op.optional_tensors
    return common is None or common.kind != "f"


def apply(op: Operator, tensors: tuple[Any, ...], attrs: tuple[Any, ...]) -> Any:
    """One operator call: `tensors` in the order of the operator's tensor parameters, `attrs` in that of its attributes."""
    if op.promotes and _needs_promotion(op, tensors):
        tensors = _promoted(op, tensors)
    wants = False
    nondiff = op.nondiff if op.variadic is None else op.nondiff * len(tensors)
    shape: Any = None
    uniform = True
    arrays: list[Any] = []
    for i, t in enumerate(tensors):
        if isinstance(t, Tensor):
            if t._base is not None:
                t._refresh_view()
            if t._requires_grad and not nondiff[i]:
                wants = True
            data = t._data
            arrays.append(data)
            if data.shape != shape:
                uniform = shape is None
                shape = data.shape
        elif t is None:
            if op.variadic or op.tensor_params[i] not in op.optional_tensors:
                raise _fail_operand(op, i, t)
            arrays.append(None)
        elif op.promotes and isinstance(t, _NUMBERS):
            arrays.append(t)
        else:
            raise _fail_operand(op, i, t)
    if not uniform and op.broadcasts:
        _check_broadcast(op, arrays)

    run = op.run
    if run is None:
        run = op.run = make_runner(op)
    out = run(tuple(arrays), attrs)

    if type(out) is tuple:
        outputs = tuple([wrap(o if type(o) is np.ndarray else np.asarray(o)) for o in out])
        first = outputs[0]
    else:
        first = wrap(out if type(out) is np.ndarray else np.asarray(out))
        outputs = (first,)
    if op.view and np.may_share_memory(first._data, arrays[0]):
        first._become_view(tensors[0], op, attrs)
    if wants:
        wants = op.differentiable and state.grad_enabled
    if wants or state.capture is not None:
        record(op, tensors, attrs, outputs, wants)
    if state.inference:
        for o in outputs:
            o._inference = True
    return first if op.result is None else op.result(*outputs)


def _check_broadcast(op: Operator, arrays: list[Any]) -> None:
    """Raises the shape error here, in our words, before NumPy would in its own."""
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
    for t in tensors:
        if not isinstance(t, Tensor):
            parents.append(t)
            slots.append(0)
            needs.append(False)
            continue
        if wants and t._inference:
            raise RuntimeError(
                f"{op.name}: a tensor made under inference_mode cannot be recorded for backward; clone it outside, or use no_grad"
            )
        flows = t._requires_grad
        needs.append(flows)
        parent: Any = t._node
        if parent is not None:
            parents.append(parent)
            slots.append(t._slot)
            continue
        if flows or (capture is not None and capture.keeps_leaves):
            parents.append(t)
        else:
            constant = t._constant
            if constant is None:
                constant = t._constant = Constant(t)
            parents.append(constant)
        slots.append(0)
    if True in op.nondiff:
        nondiff = op.nondiff if op.variadic is None else op.nondiff * len(tensors)
        needs = [n and not without for n, without in zip(needs, nondiff, strict=True)]
    node = Node(op, tuple(parents), tuple(slots), attrs, user_frame())
    if len(outputs) == 1:
        data = outputs[0]._data
        node.shapes = (data.shape,)
        node.dtypes = (data.dtype,)
    else:
        node.shapes = tuple([o._data.shape for o in outputs])
        node.dtypes = tuple([o._data.dtype for o in outputs])
    if wants:
        node.wants = wanted = tuple(needs)
        plan = op.save_plan(wanted)
        if plan:
            node.save(plan, tensors, outputs)
    else:
        node.requires_grad = False
    for i, o in enumerate(outputs):
        o._node = node
        if i:
            o._slot = i
        if wants and node.dtypes[i].kind == "f":
            o._requires_grad = True
    if capture is not None:
        capture.add(node, outputs)
    return node


def compose(op: Operator, tensors: tuple[Any, ...], attrs: tuple[Any, ...]) -> Any:
    """Runs a composite operator inside a scope of its name, so that pictures can fold it into one box."""
    outer = state.scope
    state.scope = scope = Scope(f"{outer}/{op.name}" if outer else f"/{op.name}")
    scope.outer = outer
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
    if state.grad_enabled and target._base is not None and target._base._requires_grad and not target._requires_grad:
        raise RuntimeError(
            f"{name}: this view was made under no_grad of a tensor that requires grad, so it is unclear whether the write should be "
            "recorded; write under no_grad too, or take the view outside of it"
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
    if state.capture is not None:
        state.capture.wrote(target, result)
    if target._requires_grad and not result._requires_grad:
        if not state.grad_enabled:
            return  # under no_grad the values change and the history stays
    elif result._node is None:
        return
    if target._base is not None:
        if not state.grad_enabled and target._base._requires_grad:
            return
        target._rebase(result)
    else:
        target._take_history(result)
        target._generation += 1
