"""What a plan relies on besides its arguments, checked before every run: settings, modules, plain Python values, tensors from outside."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import partial
from types import FunctionType, MethodType
from typing import Any

import numpy as np

from .. import dtypes, kernels
from .._state import state
from .._tensor import Tensor
from ..kernels import threads
from ..precision import get_conv_precision
from .plan import Plan
from .trace import Trace

_PLAIN = (int, float, bool, str, bytes, type(None), complex)
_FOREIGN = (__name__.partition(".")[0], "numpy", "torch")
_REGISTERS = (
    "_parameters", "_buffers", "_modules", "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks",
)  # fmt: skip
_MOST_ITEMS = 1000  # of a list or dict: of a longer one only its length is looked at
_MOST_NAMES = 4000  # that one function relies on


def settings() -> tuple[Any, ...]:
    """The switches that change what operators do."""
    return (
        state.grad_enabled, state.inference, state.anomaly, dtypes.get_default_dtype(), kernels.enabled(),
        threads.get_num_threads(), threads.shared.generation, get_conv_precision(),
    )  # fmt: skip


class Surroundings:
    """What a function can reach by name: its closure, its globals, `self` and their attributes that it names, and what those reach.

    Collected before a call, so that what the call itself changes is a change too. Lists and dicts are taken by their items.
    """

    def __init__(self, function: Callable[..., Any], arguments: Any = ()) -> None:
        self.modules: dict[int, Any] = {}
        self.cells: list[tuple[Any, Any]] = []  # a closure cell and what it held
        self.names: list[tuple[Mapping[str, Any], str, Any]] = []  # globals or attributes, a name in them and what it meant
        self.containers: list[tuple[Any, Any]] = []  # a list or dict and a copy of it
        self.tensors: list[Any] = []
        self.outermost: list[Any] = []  # modules that are not part of another that was reached first
        self._seen: set[Any] = set()
        self._alive: list[Any] = []  # bound methods and the like, whose ids were seen
        self._visit(function, frozenset())
        self.tensors += [
            t for m in self.modules.values() for r in (m._parameters, m._buffers) for t in r.values() if t is not None
        ]
        used = _names_used(function)
        for a in arguments:
            if not isinstance(a, Tensor):
                self._visit(a, used)
        self.facts = [(m, _module_facts(m)) for m in self.modules.values()]

    def _visit(self, thing: Any, used: frozenset[str]) -> None:
        """Notes what `thing` is made of; of an object, the attributes with a name that is `used`."""
        from ..nn import Module

        if isinstance(thing, _PLAIN) or len(self.names) > _MOST_NAMES:
            return
        if isinstance(thing, Tensor):
            self.tensors.append(thing)
            return
        key = id(thing) if isinstance(thing, Module) else (id(thing), used)
        if key in self._seen:
            return
        self._seen.add(key)
        self._alive.append(thing)
        if isinstance(thing, Module):
            self._visit_module(thing)
        elif isinstance(thing, np.ndarray):
            if thing.size <= _MOST_ITEMS and thing.dtype.kind in "biufc":
                self.containers.append((thing, thing.copy()))
        elif isinstance(thing, (list, tuple, dict)):
            if type(thing) is not tuple:
                self.containers.append((thing, copy(thing)))
            if len(thing) <= _MOST_ITEMS:
                for item in list(thing.values() if isinstance(thing, dict) else thing):
                    self._visit(item, used)
        elif isinstance(thing, MethodType):
            self._visit(thing.__self__, _names_used(thing))
            self._visit_function(thing.__func__)
        elif isinstance(thing, FunctionType):
            self._visit_function(thing)
        elif isinstance(thing, partial):
            for part in (thing.func, thing.args, thing.keywords):
                self._visit(part, used)
        elif inspect.ismodule(thing):
            if not _foreign(thing.__name__):
                for name in used & thing.__dict__.keys():
                    self._name(thing.__dict__, name, used)
        elif isinstance(thing, type):
            if not _foreign(thing.__module__):
                for name in used:
                    self._class_attribute(thing, name, thing, used)
        else:
            self._visit_object(thing, used)

    def _visit_module(self, module: Any) -> None:
        if id(module) not in self.modules:
            self.outermost.append(module)
        new = [m for m in module.modules() if id(m) not in self.modules]
        self.modules.update({id(m): m for m in new})
        for m in new:
            if isinstance(m.forward, MethodType) and not _foreign(m.forward.__func__.__module__):
                self._visit_object(m, _names_used(m.forward))
                self._visit_function(m.forward.__func__)

    def _visit_object(self, thing: Any, used: frozenset[str]) -> None:
        from ..nn import Module
        from ..optim import Optimizer

        if isinstance(thing, Optimizer):  # the plan calls it, and it reads its options then
            for members in (thing.param_groups, *(g["params"] for g in thing.param_groups)):
                self.containers.append((members, copy(members)))
            self.tensors += [p for g in thing.param_groups for p in g["params"]]
            return
        if _foreign(type(thing).__module__) and not isinstance(thing, Module):
            return
        own = getattr(thing, "__dict__", {})
        for name in used:
            if name not in own:
                self._class_attribute(type(thing), name, thing, used)
            elif isinstance(thing, Module):  # `_module_facts` has its attributes
                self._visit(own[name], used)
            else:
                self._name(own, name, used)

    def _class_attribute(self, kind: type, name: str, owner: Any, used: frozenset[str]) -> None:
        table = next((k.__dict__ for k in kind.__mro__ if name in k.__dict__ and not _foreign(k.__module__)), None)
        if table is None:
            return
        found = table[name]
        found = found.fget if isinstance(found, property) else getattr(found, "__func__", found)
        if not isinstance(found, FunctionType):
            self._name(table, name, used)
        elif (id(found), id(owner)) not in self._seen:
            self._seen.add((id(found), id(owner)))
            if owner is not kind:
                self._visit_object(owner, _names_used(found))
            self._visit_function(found)

    def _name(self, table: Mapping[str, Any], name: str, used: frozenset[str]) -> None:
        self.names.append((table, name, table[name]))
        self._visit(table[name], used)

    def _visit_function(self, function: Any) -> None:
        if id(function) in self._seen or not isinstance(function, FunctionType) or _foreign(function.__module__):
            return
        self._seen.add(id(function))
        used = _names_used(function)
        for cell in function.__closure__ or ():
            try:
                held = cell.cell_contents
            except ValueError:
                continue
            self.cells.append((cell, held))
            self._visit(held, used)
        for name in used & function.__globals__.keys():
            self._name(function.__globals__, name, used)
        self._visit((function.__defaults__, function.__kwdefaults__), used)

    def unchanged(self) -> bool:
        """Whether every name still means what it did."""
        for cell, held in self.cells:
            now = cell.cell_contents
            if now is not held and not _equal(now, held):
                return False
        for table, name, meant in self.names:
            now = table.get(name, table)
            if now is not meant and not _equal(now, meant):
                return False
        return all([_equal_items(now, before) for now, before in self.containers])


def _foreign(name: str | None) -> bool:
    """Whether a Python module is this package's, Python's own or NumPy's: nothing in it is expected to change."""
    top = (name or "").partition(".")[0]
    return top in _FOREIGN or (top in sys.stdlib_module_names and top != "__main__")


def _equal(a: Any, b: Any) -> bool:
    """Whether two plain values, or tuples of them, are the same; 0.0 is not -0.0."""
    if type(a) is not type(b):
        return False
    if type(a) is tuple:
        return len(a) == len(b) and all([u is v or _equal(u, v) for u, v in zip(a, b, strict=True)])
    return isinstance(a, _PLAIN) and (a == b if a else repr(a) == repr(b))


def _equal_items(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()
    if len(a) != len(b):
        return False
    if len(a) > _MOST_ITEMS:
        return True
    if isinstance(a, dict):
        return all([k in a and (a[k] is v or _equal(a[k], v)) for k, v in b.items()])
    return all([u is v or _equal(u, v) for u, v in zip(a, b, strict=True)])


def _names_used(function: Any) -> frozenset[str]:
    """The global names and attributes that a function's code names."""
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    names: set[str] = set()
    stack: list[Any] = [code] if code is not None else []
    while stack:
        code = stack.pop()
        names.update(code.co_names)
        stack += [c for c in code.co_consts if hasattr(c, "co_names")]
    return frozenset(names)


def _module_facts(module: Any) -> dict[Any, Any]:
    """What a module's own attributes are, its parameters, parts and hooks among them."""
    facts: dict[Any, Any] = {}
    for name, value in module.__dict__.items():
        if name in _REGISTERS:
            facts.update({(name, k): v for k, v in value.items()})
        elif name not in ("_hooked", "_name"):
            facts[name] = value
    return facts


class Guards:
    """Everything outside of the arguments that must be as it was when the program was recorded.

    fixed: arguments, by number, that must be the very same tensors: the function reaches them by another way too, or sets their `.grad`.
    """

    def __init__(self, surroundings: Surroundings, trace: Trace, plan: Plan) -> None:
        self.surroundings = surroundings
        self.changes = changes()
        states = {id(v.tensor): v.tensor for v in trace.values if v.kind == "state" and v.tensor is not None}
        self.tensors = [(t, plan.kept.get(t, t._data), t._requires_grad) for t in states.values()]
        self.none = [leaf for leaf, none in trace.entry.values() if none]
        self.some = [v.tensor for v in trace.values if v.kind == "gradient" and v.tensor is not None]
        reached = {id(t._data) for t in surroundings.tensors}
        given = [(v.place, v.tensor) for v in trace.inputs[: trace.arguments]]
        self.fixed = [(i, t) for i, t in given if t is not None and (id(t._data) in reached or id(t) in trace.entry)]
        self.own = {id(array) for _, array, _ in self.tensors}
        stored = {id(i.inputs[0].tensor) for i in trace.instructions if i.kind == "store"}
        self.stored = [array for t, array, _ in self.tensors if id(t) in stored]

    def hold(self, arguments: Sequence[Tensor]) -> bool:
        """Whether the plan may run with these arguments."""
        if not self.surroundings.unchanged():
            return False
        if self.changes != changes():
            if not modules_unchanged(self.surroundings.facts):
                return False
            self.changes = changes()
        for tensor, array, requires in self.tensors:
            if tensor._data is not array or tensor._requires_grad is not requires or tensor._hooks:
                return False
        own = self.own
        for tensor in arguments:
            if id(tensor._data) in own or (self.stored and any([np.may_share_memory(tensor._data, a) for a in self.stored])):
                return False
        for place, tensor in self.fixed:
            if arguments[place] is not tensor:
                return False
        return all([leaf._grad is None for leaf in self.none]) and not any([leaf._grad is None for leaf in self.some])


def modules_unchanged(facts: Sequence[tuple[Any, Any]]) -> bool:
    """Whether modules have the attributes that `facts` has of them."""
    return all([_equal_items(_module_facts(m), known) for m, known in facts])


def changes() -> int:
    """How often any module was changed: while it stays the same, no module needs to be looked at."""
    from ..nn.module import Module

    return Module._changes[0]


__all__ = ["Guards", "Surroundings", "modules_unchanged", "settings"]
