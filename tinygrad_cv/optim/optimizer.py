"""Optimizer: parameter groups, per-parameter state, and the step that updates every parameter that has a gradient."""

from __future__ import annotations

import importlib
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import numpy as np

from .. import kernels
from .._tensor import RemovableHandle, Tensor, wrap
from ..autograd import enable_grad
from ..nn.parameter import mark_written
from ..nn.state import clear_grad
from ..replay import replayable
from .flat import FlatPlan, check_state

StepHook = Callable[["Optimizer", tuple[Any, ...], dict[str, Any]], Any]


class Optimizer:
    """Base of all optimizers. A subclass checks its settings (`check`), names its state and writes one update of flat arrays.

    params: parameters, (name, parameter) pairs, or dicts {'params': ..., settings of their own}. Every group's settings can be
    changed at any time in `param_groups`.

    Of PyTorch's choices of implementation, `foreach` and `fused` are taken and change nothing (every step is one fused kernel
    call for all small parameters), `differentiable=True` and `capturable=True` raise ValueError.

    Parameters without a gradient are skipped, as in PyTorch. If no parameter of a group has one, which is nearly always a
    forgotten backward() or a model that is not the one in the loss, one RuntimeWarning names the first of them.
    """

    counts_steps: ClassVar[bool] = True  # the state of every parameter holds the number of its updates as 'step'
    kernel_module: ClassVar[str] = "tinygrad_cv.ops.cpu.optimizer"

    def __init__(self, params: Any, defaults: dict[str, Any], **implementation: Any) -> None:
        self._check_implementation(implementation)
        self.defaults = defaults
        self.state: dict[Tensor, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        self._plans: dict[int, FlatPlan | None] = {}
        self._warned = False
        self._pre_hooks: dict[int, StepHook] = {}
        self._post_hooks: dict[int, StepHook] = {}
        if isinstance(params, (Tensor, dict)):
            raise TypeError(
                f"{type(self).__name__}: params must be an iterable of parameters or of dicts, got one {type(params).__name__}; "
                "put it in a list"
            )
        groups = list(params)
        if not groups:
            raise ValueError(f"{type(self).__name__}: got an empty parameter list")
        for group in groups if isinstance(groups[0], dict) else [{"params": groups}]:
            self.add_param_group(group)

    def _check_implementation(self, given: dict[str, Any]) -> None:
        """PyTorch's choices of implementation. foreach and fused change nothing: a step is one fused kernel call as it is."""
        if given.get("foreach") and given.get("fused"):
            raise RuntimeError(f"{type(self).__name__}: fused and foreach cannot both be True")
        for name, reason in _REFUSED.items():
            if given.get(name):
                raise ValueError(f"{type(self).__name__}: {name}=True is not supported: {reason}")

    # What a subclass writes -------------------------------------------------------------------------------------------

    def check(self, group: dict[str, Any]) -> None:
        """Raises ValueError, naming the setting, for a group whose settings make no sense."""

    def state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        """The arrays kept for each parameter under these settings."""
        return ()

    def state_start(self, name: str, group: dict[str, Any], value: np.ndarray) -> np.ndarray:
        """The initial values of a state for a parameter of values `value`."""
        return np.zeros_like(value)

    def update(
        self, value: np.ndarray, grad: np.ndarray, states: list[np.ndarray], group: dict[str, Any], step: int, fresh: bool
    ) -> None:
        """One update, in place, of `value` and `states`; `grad` is scratch and may be overwritten.

        step counts from 1; fresh: the states were made for this update.
        """
        raise NotImplementedError

    def kernel_call(self, group: dict[str, Any], step: int, fresh: bool) -> tuple[str, tuple[Any, ...]] | None:
        """The function of `kernel_module` for these settings, and its arguments after (value, grad, *states); or None."""
        return None

    # The step ---------------------------------------------------------------------------------------------------------

    @replayable
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Updates every parameter that has a gradient, once. Returns the closure's loss, if there is one.

        closure: computes the loss again (clears gradients, runs forward and backward); called with gradients recorded. Raises
        RuntimeError, before anything is written, for a gradient whose shape or dtype is not its parameter's.
        """
        if not self._pre_hooks and not self._post_hooks:
            return self._step(closure)
        args: tuple[Any, ...] = (self,) if closure is None else (self, closure)
        kwargs: dict[str, Any] = {}
        for hook in list(self._pre_hooks.values()):
            changed = hook(self, args, kwargs)
            if changed is None:
                continue
            if not (isinstance(changed, tuple) and len(changed) == 2):
                raise RuntimeError(
                    f"{type(self).__name__}.step: a pre-hook must return None or a tuple (args, kwargs), got {changed!r}"
                )
            args, kwargs = changed
        loss = self._step(*args[1:], **kwargs)
        for hook in list(self._post_hooks.values()):
            hook(self, args, kwargs)
        return loss

    def register_step_pre_hook(self, hook: StepHook) -> RemovableHandle:
        """Calls `hook(optimizer, args, kwargs)` before every step; args begins with the optimizer, as in PyTorch.

        The hook may return another (args, kwargs). The handle's remove() takes it away.
        """
        return RemovableHandle(self._pre_hooks, hook)

    def register_step_post_hook(self, hook: StepHook) -> RemovableHandle:
        """Calls `hook(optimizer, args, kwargs)` after every step. The handle's remove() takes it away."""
        return RemovableHandle(self._post_hooks, hook)

    def _step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        work = []
        for index, group in enumerate(self.param_groups):
            ready = self._ready(group)
            if ready:
                work.append((index, group, ready))
            elif not self._warned:
                self._warn_idle(index, group)
        for index, group, ready in work:
            self._update_group(index, group, ready)
        return loss

    def gradient_places(self) -> dict[int, np.ndarray]:
        """By id of a parameter, the array from which `step` takes its gradient without a copy: where compiled plans compute it."""
        plans = [plan for plan in self._plans.values() if plan is not None and plan.intact()]
        return {id(p): place for plan in plans for p, place in zip(plan.parameters, plan.places, strict=True)}

    def _ready(self, group: dict[str, Any]) -> list[Tensor]:
        """The parameters that have a gradient, all of which are checked."""
        ready = []
        for p in group["params"]:
            gradient = p.grad
            if gradient is None:
                continue
            ready.append(p)
            data, grad = p._data, gradient._data
            if grad.shape != data.shape or grad.dtype != data.dtype:
                raise RuntimeError(
                    f"{type(self).__name__}.step: {self._describe(group, p)} ({data.dtype}) has a gradient of shape {grad.shape}, "
                    f"{grad.dtype}; it must have the parameter's shape and dtype"
                )
            if not data.flags.writeable:
                raise RuntimeError(f"{type(self).__name__}.step: {self._describe(group, p)} is read-only memory")
        return ready

    def _update_group(self, index: int, group: dict[str, Any], ready: list[Tensor]) -> None:
        names = self.state_names(group)
        # By the size of the whole group, not of a piece: how the pieces lie in memory must not change a single bit.
        large = sum([p._data.size for p in group["params"]]) >= _KERNEL_ELEMENTS
        plan = self._plans.get(index)
        if index not in self._plans or (plan is not None and not plan.intact()):
            plan = self._plans[index] = FlatPlan.build(ready)
        if plan is not None:
            members = plan.parameters
            records = [self.state[p] for p in members]
            steps = {r.get("step", 0) for r in records} if self.counts_steps else {0}
            fresh = {all([n in r for n in names]) for r in records}
            if len(steps) == 1 and len(fresh) == 1 and all([p.grad is not None for p in members]):
                step = steps.pop() + 1
                arrays = [plan.state(n, self.state, lambda v, n=n: self.state_start(n, group, v)) for n in names]  # type: ignore[misc]
                self._run(plan.values, plan.gather(), arrays, group, step, not fresh.pop(), large)
                for p, record in zip(members, records, strict=True):
                    self._finish(p, record, step)
                if len(members) == len(ready):
                    return
                done = {id(p) for p in members}
                ready = [p for p in ready if id(p) not in done]
        for p in ready:
            self._update_one(p, group, names, large)

    def _update_one(self, p: Tensor, group: dict[str, Any], names: tuple[str, ...], large: bool) -> None:
        record = self.state[p]
        value, grad = p._data, np.ascontiguousarray(p.grad._data)  # type: ignore[union-attr]
        fresh = not all(n in record for n in names)
        states = []
        for name in names:
            if name not in record:
                record[name] = wrap(np.ascontiguousarray(self.state_start(name, group, value)).reshape(value.shape))
            else:
                check_state(p, name, record[name])
            if record[name]._data.dtype != value.dtype:
                record[name] = wrap(record[name]._data.astype(value.dtype))
            states.append(record[name]._data)
        step = record.get("step", 0) + 1
        if all([a.flags.c_contiguous for a in (value, *states)]):
            self._run(value.reshape(-1), grad.reshape(-1), [s.reshape(-1) for s in states], group, step, fresh, large)
        else:
            flat = np.ascontiguousarray(value).reshape(-1)
            pieces = [np.ascontiguousarray(s).reshape(-1) for s in states]
            self._run(flat, grad.reshape(-1), pieces, group, step, fresh, large)
            for array, piece in zip((value, *states), (flat, *pieces), strict=True):
                array[...] = piece.reshape(array.shape)
        self._finish(p, record, step)

    def _finish(self, p: Tensor, record: dict[str, Any], step: int) -> None:
        if self.counts_steps:
            record["step"] = step
        mark_written(p)

    def _run(
        self,
        value: np.ndarray,
        grad: np.ndarray,
        states: list[np.ndarray],
        group: dict[str, Any],
        step: int,
        fresh: bool,
        large: bool,
    ) -> None:
        """One update of flat arrays by the kernel or, without one and for small groups, in NumPy. `grad` is only read."""
        if large and value.dtype.itemsize >= 4:
            wanted = self.kernel_call(group, step, fresh)
            kernel = _kernel(self.kernel_module, wanted[0]) if wanted is not None else None
            if kernel is not None:
                kernel(value, grad, *states, *wanted[1])  # type: ignore[index]
                return
        with np.errstate(all="ignore"):
            self.update(value, grad.copy(), states, group, step, fresh)

    def _describe(self, group: dict[str, Any], p: Tensor) -> str:
        position = next(i for i, q in enumerate(group["params"]) if q is p)
        name = group["param_names"][position] if "param_names" in group else p.name
        return f"parameter {name or position} of shape {p.shape}"

    def _warn_idle(self, index: int, group: dict[str, Any]) -> None:
        waiting = [p for p in group["params"] if p.requires_grad]
        if not waiting:
            return
        self._warned = True
        first = ", ".join(self._describe(group, p) for p in waiting[:3])
        rest = f" and {len(waiting) - 3} more" if len(waiting) > 3 else ""
        warnings.warn(
            f"{type(self).__name__}.step: no parameter of group {index} has a gradient, so nothing was updated: {first}{rest}. Was "
            "backward() called, on a loss that depends on them?",
            RuntimeWarning,
            stacklevel=4,
        )

    # Groups and state -------------------------------------------------------------------------------------------------

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group {'params': ..., settings}; settings not given are the defaults.

        TypeError for what is no Tensor, ValueError for a non-leaf, a parameter listed twice or a setting out of range.
        """
        if not isinstance(param_group, dict) or "params" not in param_group:
            raise TypeError(f"{type(self).__name__}: a parameter group must be a dict with 'params', got {param_group!r}")
        group = dict(param_group)
        given = group["params"]
        given = [given] if isinstance(given, Tensor) else given
        if isinstance(given, (set, frozenset)):
            raise TypeError(f"{type(self).__name__}: params must have an order, got a set")
        members: list[Any] = list(given)
        if members and all(isinstance(m, tuple) and len(m) == 2 for m in members):
            group["param_names"] = [name for name, _ in members]
            members = [p for _, p in members]
        known = {id(p) for g in self.param_groups for p in g["params"]}
        for i, p in enumerate(members):
            if not isinstance(p, Tensor):
                raise TypeError(f"{type(self).__name__}: parameter {i} is a {type(p).__name__}, expected a Tensor")
            if not p.is_floating_point():
                raise TypeError(
                    f"{type(self).__name__}: parameter {i} has dtype {p.dtype}; only floating tensors can be optimized"
                )
            if not p.is_leaf:
                raise ValueError(
                    f"{type(self).__name__}: parameter {i} was computed by {p._node!r}; only leaves can be optimized"
                )
            if id(p) in known:
                raise ValueError(f"{type(self).__name__}: parameter {p.name or i} of shape {p.shape} is listed twice")
            known.add(id(p))
        self._check_implementation({name: group.pop(name) for name in ("foreach", "fused", *_REFUSED) if name in group})
        unknown = set(group) - set(self.defaults) - {"params", "param_names", "initial_lr"}
        if unknown:
            raise ValueError(f"{type(self).__name__}: unknown settings {sorted(unknown)}; known are {sorted(self.defaults)}")
        group["params"] = members
        for name, default in self.defaults.items():
            group.setdefault(name, default)
        self.check(group)
        self.param_groups.append(group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drops the gradients of all parameters, or fills them with zeros."""
        for group in self.param_groups:
            for p in group["params"]:
                clear_grad(p, set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """{'state': {parameter number: its state}, 'param_groups': settings with parameter numbers}; Tensors are not copied."""
        numbers = {id(p): i for i, p in enumerate(p for g in self.param_groups for p in g["params"])}
        groups = []
        for group in self.param_groups:
            packed = {name: value for name, value in group.items() if name != "params"}
            packed["params"] = [numbers[id(p)] for p in group["params"]]
            groups.append(packed)
        return {"state": {numbers[id(p)]: dict(s) for p, s in self.state.items() if id(p) in numbers}, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over a state that `state_dict` gave, copied and in the parameters' dtypes.

        ValueError, with nothing loaded, if groups, parameter counts or shapes differ.
        """
        name = f"{type(self).__name__}.load_state_dict"
        saved_groups, saved_state = state_dict["param_groups"], state_dict["state"]
        counts, own = [len(g["params"]) for g in saved_groups], [len(g["params"]) for g in self.param_groups]
        if counts != own:
            raise ValueError(f"{name}: the state has groups of {counts} parameters, this optimizer has groups of {own}")
        parameters = [p for g in self.param_groups for p in g["params"]]
        by_number = dict(zip((i for g in saved_groups for i in g["params"]), parameters, strict=True))
        state: dict[Tensor, dict[str, Any]] = defaultdict(dict)
        for number, record in saved_state.items():
            p = by_number.get(int(number) if isinstance(number, str) else number)
            if p is None:
                raise ValueError(f"{name}: state for parameter {number}, which no group lists")
            for key, value in record.items():
                if not isinstance(value, (Tensor, np.ndarray)):
                    state[p][key] = value
                    continue
                array = value._data if isinstance(value, Tensor) else value
                if key == "step":
                    state[p][key] = int(array)
                    continue
                if array.shape != p.shape:
                    raise ValueError(f"{name}: {key} of parameter {number} has shape {array.shape}, the parameter {p.shape}")
                state[p][key] = wrap(np.array(array, p.dtype, order="C"))
        groups = []
        for group, saved in zip(self.param_groups, saved_groups, strict=True):
            loaded = {k: tuple(v) if isinstance(self.defaults.get(k), tuple) else v for k, v in saved.items() if k != "params"}
            missing = [k for k in self.defaults if k not in loaded]
            if missing:
                raise ValueError(f"{name}: the state has no {', '.join(missing)}; is it from another optimizer?")
            merged = {**group, **loaded}
            self.check(merged)
            groups.append(merged)
        for group, merged in zip(self.param_groups, groups, strict=True):
            group.update(merged)
        self.state = state

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {k}: {v}" for k, v in sorted(group.items()) if k not in ("params", "param_names")]
        return "\n".join([*lines, ")"])


_REFUSED = {
    "differentiable": "a step writes the parameters in place and is not recorded; to differentiate through an update, compute it with "
    "operators, from tg.autograd.grad(..., create_graph=True)",
    "capturable": "it prepares a step for CUDA graphs, which there are none of here; leave it out",
}
_KERNEL_ELEMENTS = 4096  # below, a few NumPy calls take no longer, and nothing needs compiling
_kernels: dict[tuple[str, str], Any] = {}


def _kernel(module: str, name: str) -> Any:
    """A kernel, imported at first use; None where kernels are off or Numba is missing."""
    if not kernels.enabled():
        return None
    found = _kernels.get((module, name))
    if found is None and kernels.numba_available():
        found = _kernels[module, name] = getattr(importlib.import_module(module), name)
    return found


def require(optimizer: Optimizer, group: dict[str, Any], **conditions: bool) -> None:
    """Raises ValueError naming the first setting whose condition is not met."""
    for name, met in conditions.items():
        if not met:
            raise ValueError(f"{type(optimizer).__name__}: invalid {name}: {group[name]!r}")


Params = Iterable[Any]
