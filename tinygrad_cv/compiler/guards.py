"""What a plan relies on besides its arguments, checked before every run: settings, modules, plain Python values, tensors from outside."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any

from .. import dtypes, kernels
from .._state import state
from ..kernels import threads
from .plan import Plan
from .trace import Trace

_PLAIN = (int, float, bool, str, bytes, type(None), complex)


def settings() -> tuple[Any, ...]:
    """The switches that change what operators do."""
    return (
        state.grad_enabled, state.inference, state.anomaly, dtypes.get_default_dtype(), kernels.enabled(),
        threads.get_num_threads(), threads.shared.generation,
    )  # fmt: skip


class Surroundings:
    """The modules, tensors and plain values that a function can reach by name: its closure, its globals, `self`, and theirs."""

    def __init__(self, function: Callable[..., Any], arguments: Any = ()) -> None:
        self.modules: dict[int, Any] = {}
        self.cells: list[tuple[Any, Any]] = []  # a closure cell and what it held
        self.names: list[tuple[dict[str, Any], str, Any]] = []  # globals, a name in them and what it meant
        self.outermost: list[Any] = []  # modules that are not part of another that was reached first
        self._seen: set[int] = set()
        self._visit(function)
        for a in arguments:
            self._visit(a)

    def _visit(self, thing: Any) -> None:
        from ..nn import Module

        if id(thing) in self._seen:
            return
        self._seen.add(id(thing))
        if isinstance(thing, Module):
            if id(thing) not in self.modules:
                self.outermost.append(thing)
            self.modules.update({id(m): m for m in thing.modules()})
            return
        if isinstance(thing, MethodType):
            self._visit(thing.__self__)
            thing = thing.__func__
        if not isinstance(thing, FunctionType) or thing.__module__.partition(".")[0] == __name__.partition(".")[0]:
            return
        for cell in thing.__closure__ or ():
            try:
                held = cell.cell_contents
            except ValueError:
                continue
            self.cells.append((cell, held))
            self._visit(held)
        for name in _global_names(thing):
            if name in thing.__globals__:
                meant = thing.__globals__[name]
                if not inspect.ismodule(meant) and not isinstance(meant, type):
                    self.names.append((thing.__globals__, name, meant))
                    self._visit(meant)

    def unchanged(self) -> bool:
        """Whether every name still means what it did."""
        for cell, held in self.cells:
            now = cell.cell_contents
            if now is not held and not (isinstance(held, _PLAIN) and type(now) is type(held) and now == held):
                return False
        for table, name, meant in self.names:
            now = table.get(name, table)
            if now is not meant and not (isinstance(meant, _PLAIN) and type(now) is type(meant) and now == meant):
                return False
        return True


def _global_names(function: FunctionType) -> list[str]:
    names: list[str] = []
    stack: list[Any] = [function.__code__]
    while stack:
        code = stack.pop()
        names += code.co_names
        stack += [c for c in code.co_consts if hasattr(c, "co_names")]
    return names


def _module_facts(module: Any) -> tuple[Any, ...]:
    """What a module's own attributes say: plain values by value, the rest by identity."""
    hooks = tuple(len(getattr(module, name)) for name in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks"))
    facts = []
    for name, value in module.__dict__.items():
        if name in ("_parameters", "_buffers", "_modules"):
            facts.append((name, tuple((k, id(v)) for k, v in value.items())))
        elif not name.startswith("_") and isinstance(value, _PLAIN):
            facts.append((name, value))  # type: ignore[arg-type]
    return (hooks, tuple(facts))


class Guards:
    """Everything outside of the arguments that must be as it was when the program was recorded."""

    def __init__(self, surroundings: Surroundings, trace: Trace, plan: Plan) -> None:
        self.surroundings = surroundings
        self.modules = [(m, _module_facts(m)) for m in surroundings.modules.values()]
        self.changes = changes()
        states = {id(v.tensor): v.tensor for v in trace.values if v.kind == "state" and v.tensor is not None}
        self.tensors = [(t, plan.kept.get(t, t._data), t._requires_grad) for t in states.values()]
        self.none = [leaf for leaf, none in trace.entry.values() if none]
        self.some = [v.tensor for v in trace.values if v.kind == "gradient" and v.tensor is not None]

    def hold(self) -> bool:
        """Whether the plan may run."""
        if not self.surroundings.unchanged():
            return False
        if self.changes != changes():
            if any(_module_facts(m) != facts for m, facts in self.modules):
                return False
            self.changes = changes()
        for tensor, array, requires in self.tensors:
            if tensor._data is not array or tensor._requires_grad is not requires or tensor._hooks:
                return False
        return all([leaf._grad is None for leaf in self.none]) and not any([leaf._grad is None for leaf in self.some])


def changes() -> int:
    """How often any module was changed: while it stays the same, no module needs to be looked at."""
    from ..nn.module import Module

    return Module._changes[0]


__all__ = ["Guards", "Surroundings", "settings"]
