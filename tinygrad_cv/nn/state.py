"""The values of a module's tensors as a whole: loading them, changing their dtype, clearing their gradients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .._state import state
from .._tensor import Tensor, wrap
from ..creation import zeros_like
from ..devices import read_target
from ..dispatch import finish_inplace
from .parameter import Parameter, mark_written, overwrite

if TYPE_CHECKING:
    from .module import Module


class IncompatibleKeys(NamedTuple):
    """Names that `load_state_dict(strict=False)` did not find, and did not know."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def load(module: Module, state_dict: Mapping[str, Any], strict: bool, assign: bool) -> IncompatibleKeys:
    """`Module.load_state_dict`: everything is checked before anything is written."""
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"load_state_dict: expected a dict of tensors, got {type(state_dict).__name__}")
    own = module.state_dict(keep_vars=True)
    missing = [name for name in own if name not in state_dict]
    unexpected = [name for name in state_dict if name not in own]
    arrays: dict[str, np.ndarray] = {}
    problems = []
    for name, target in own.items():
        if name not in state_dict:
            continue
        value = state_dict[name]
        if not isinstance(value, (Tensor, np.ndarray, np.generic)):
            problems.append(f"not a tensor: {name} is a {type(value).__name__}")
            continue
        array = arrays[name] = value._data if isinstance(value, Tensor) else np.asarray(value)
        if array.shape != target.shape:
            problems.append(f"wrong shape: {name} has {array.shape} in the state, {target.shape} in the module")
        elif array.dtype.kind not in "biuf":
            problems.append(f"wrong dtype: {name} has {array.dtype} in the state, {target.dtype} in the module")
        elif not assign and not target._data.flags.writeable:
            problems.append(f"read-only memory: {name} cannot be written")
    if strict and unexpected:
        problems.insert(0, f"unexpected: {', '.join(unexpected)}")
    if strict and missing:
        problems.insert(0, f"missing: {', '.join(missing)}")
    if problems:
        raise RuntimeError(
            f"load_state_dict: the state does not fit {type(module).__name__}; nothing was loaded\n  " + "\n  ".join(problems)
        )
    if assign:
        _assign(module, state_dict, arrays)
    else:
        for name, array in arrays.items():
            overwrite(own[name], array)
    return IncompatibleKeys(missing, unexpected)


def _assign(module: Module, state_dict: Mapping[str, Any], arrays: dict[str, np.ndarray]) -> None:
    for path, part in module.named_modules(remove_duplicate=False):
        registers: tuple[dict[str, Any], ...] = (part._parameters, part._buffers)
        for register in registers:
            for name, old in list(register.items()):
                key = f"{path}.{name}" if path else name
                if old is None or name in part._transient or key not in arrays:
                    continue
                given = state_dict[key] if isinstance(state_dict[key], Tensor) else wrap(arrays[key])
                if isinstance(old, Parameter) and not isinstance(given, Parameter):
                    given = Parameter(given, old.requires_grad)
                setattr(part, name, given)


def convert(module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """`Module.to`: reads the arguments and casts every floating tensor once, shared ones included."""
    dtype, _ = read_target("to", args, kwargs)
    if dtype is None:
        return
    if dtype.kind != "f":
        raise TypeError(f"to: a module takes floating dtypes, got {dtype}")
    tensors = {id(t): t for t in (*module.parameters(), *module.buffers()) if t.is_floating_point()}
    for tensor in tensors.values():
        _cast_in_place(tensor, dtype)


def _cast_in_place(tensor: Tensor, dtype: np.dtype[Any]) -> None:
    """Gives a leaf new memory of another dtype. Graphs that saved the old memory keep it."""
    if tensor._data.dtype != dtype:
        tensor._data = tensor._data.astype(dtype)
        tensor._storage = tensor._constant = None
    if tensor.grad is not None:
        tensor.grad = tensor.grad.detach().to(dtype)


def clear_grad(tensor: Tensor, set_to_none: bool) -> None:
    """Drops a tensor's gradient, or fills it with zeros."""
    if tensor.grad is None:
        return
    if set_to_none:
        tensor.grad = None
    elif tensor.grad.requires_grad:
        tensor.grad = wrap(np.zeros_like(tensor.grad._data))
    elif state.capture is not None:  # a recording must see it
        zeros = zeros_like(tensor.grad)
        finish_inplace(tensor.grad, zeros, zeros._data)
    else:
        tensor.grad._data.fill(0)
        mark_written(tensor.grad)
