"""Modules and parameters held in lists and dicts."""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Self

from .._tensor import Tensor
from .module import Module
from .parameter import Parameter


class _Indexed(Module):
    """What Sequential and ModuleList share: children by position."""

    def _position(self, index: int) -> int:
        size = len(self._modules)
        index = operator.index(index)
        if not -size <= index < size:
            raise IndexError(f"{type(self).__name__}: index {index} is out of range for {size} modules")
        return index % size

    def _key(self, index: int) -> str:
        return next(islice(self._modules, self._position(index), None))

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._modules.values())

    def __setitem__(self, index: int, module: Module) -> None:
        setattr(self, self._key(index), module)

    def __delitem__(self, index: int | slice) -> None:
        modules = list(self)
        del modules[index if isinstance(index, slice) else self._position(index)]
        self._renumber(modules)

    def _renumber(self, modules: list[Any]) -> None:
        """Holds `modules`, named 0, 1, 2, ..., in place of what it held."""
        for name in list(self._modules):
            delattr(self, name)
        for i, module in enumerate(modules):
            self.add_module(str(i), module)

    def append(self, module: Module) -> Self:
        """Adds a module at the end."""
        self.add_module(str(len(self)), module)
        return self

    def insert(self, index: int, module: Module) -> Self:
        """Puts a module before position `index`."""
        if not isinstance(module, Module):
            raise TypeError(f"{type(self).__name__}.insert: expected a Module, got {type(module).__name__}")
        modules = list(self)
        if not -len(modules) <= index <= len(modules):
            raise IndexError(f"{type(self).__name__}.insert: index {index} is out of range for {len(modules)} modules")
        modules.insert(index, module)
        self._renumber(modules)
        return self

    def extend(self, modules: Iterable[Module]) -> Self:
        """Adds several modules at the end."""
        for module in list(modules):
            self.append(module)
        return self

    def pop(self, key: int | slice = -1) -> Any:
        """Takes a module, or those of a slice, out and returns it."""
        taken = self[key]  # type: ignore[index]
        del self[key]
        return taken


class Sequential(_Indexed):
    """Modules called one after the other: `Sequential(a, b)(x)` is `b(a(x))`.

    Takes modules, or one OrderedDict (any dict) of named modules. Indexing gives a module, slicing a Sequential. Sequentials
    add up, `a + b` and `a += b`, and `a * 3` runs the same modules three times. Whatever takes modules out or puts one between
    others names them all by position.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__()
        if len(args) == 1 and isinstance(args[0], Mapping):
            for name, module in args[0].items():
                self.add_module(name, module)
        else:
            for i, module in enumerate(args):
                self.add_module(str(i), module)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return type(self)(OrderedDict(list(self._modules.items())[index]))
        return self._modules[self._key(index)]

    def __add__(self, other: Any) -> Sequential:
        return Sequential(*self, *self._same_kind(other))

    def __iadd__(self, other: Any) -> Self:
        return self.extend(self._same_kind(other))

    def __mul__(self, times: int) -> Sequential:
        return Sequential(*list(self) * self._times(times))

    __rmul__ = __mul__

    def __imul__(self, times: int) -> Self:
        return self.extend(list(self) * (self._times(times) - 1))

    def _same_kind(self, other: Any) -> Any:
        if not isinstance(other, Sequential):
            raise ValueError(f"Sequential: only a Sequential can be added to one, got {type(other).__name__}; use extend")
        return other

    def _times(self, times: int) -> int:
        if not isinstance(times, int):
            raise TypeError(f"Sequential: expected an integer to multiply with, got {type(times).__name__}")
        if times <= 0:
            raise ValueError(f"Sequential: the factor must be positive, got {times}")
        return times

    def forward(self, input: Any) -> Any:
        """The last module's output."""
        for module in self._modules.values():
            input = module(input)  # type: ignore[misc]
        return input


class _Uncalled(Module):
    """A container that is never called itself: its own name goes to its children, as in 'layers.0'."""

    def _set_name(self, name: str) -> None:
        super()._set_name(name)
        for key, module in self._modules.items():
            if module is not None:
                module._set_name(self._child_name(key))

    def _child_name(self, name: str) -> str:
        return f"{self._name}.{name}" if self._name else name


class ModuleList(_Indexed, _Uncalled):
    """A list of modules that are registered; it has no forward. A slice of it, or a sum, leaves the modules' names alone."""

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        self.extend(modules or ())

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return self._selection(list(self)[index])
        return self._modules[self._key(index)]

    def __add__(self, other: Iterable[Module]) -> Self:
        return self._selection([*self, *other])

    def _selection(self, modules: list[Module]) -> Self:
        names = [module._name for module in modules]
        selection = type(self)(modules)
        for module, name in zip(modules, names, strict=True):
            if name is not None:
                module._set_name(name)
        return selection

    def __iadd__(self, modules: Iterable[Module]) -> Self:
        return self.extend(modules)


def _pairs(values: Any) -> Iterable[tuple[str, Any]]:
    return values.items() if hasattr(values, "items") else values


class ModuleDict(_Uncalled):
    """A dict of modules that are registered; it has no forward."""

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] | None = None) -> None:
        super().__init__()
        self.update(modules or ())

    def __getitem__(self, key: str) -> Any:
        return self._modules[key]

    def __setitem__(self, key: str, module: Module) -> None:
        self.add_module(key, module)

    def __delitem__(self, key: str) -> None:
        if key not in self._modules:
            raise KeyError(key)
        delattr(self, key)

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __contains__(self, key: object) -> bool:
        return key in self._modules

    def keys(self) -> Iterable[str]:
        """The names."""
        return self._modules.keys()

    def values(self) -> Iterable[Any]:
        """The modules."""
        return self._modules.values()

    def items(self) -> Iterable[tuple[str, Any]]:
        """(name, module) pairs."""
        return self._modules.items()

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Adds or replaces modules."""
        for key, module in _pairs(modules):
            self.add_module(key, module)

    def pop(self, key: str) -> Any:
        """Takes a module out and returns it."""
        module = self[key]
        del self[key]
        return module

    def clear(self) -> None:
        """Takes all modules out."""
        for key in list(self._modules):
            del self[key]


def _as_parameter(value: Any) -> Any:
    return Parameter(value) if isinstance(value, Tensor) and not isinstance(value, Parameter) else value


def _describe(name: str, value: Any) -> str:
    if isinstance(value, Tensor):
        return f"({name}): {type(value).__name__} of shape {value.shape}, {value.dtype}"
    return f"({name}): {value!r}"


class ParameterList(Module):
    """A list of parameters that are registered; plain Tensors become Parameters."""

    def __init__(self, values: Iterable[Any] | None = None) -> None:
        super().__init__()
        self.extend(values or ())

    def __len__(self) -> int:
        return len(self._parameters)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return type(self)(list(self._parameters.values())[index])
        return self._parameters[self._key(index)]

    def __setitem__(self, index: int, value: Any) -> None:
        self.register_parameter(self._key(index), _as_parameter(value))

    def _key(self, index: int) -> str:
        size = len(self)
        index = operator.index(index)
        if not -size <= index < size:
            raise IndexError(f"ParameterList: index {index} is out of range for {size} parameters")
        return str(index % size)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._parameters.values())

    def __iadd__(self, values: Iterable[Any]) -> Self:
        return self.extend(values)

    def append(self, value: Any) -> Self:
        """Adds a parameter at the end."""
        self.register_parameter(str(len(self)), _as_parameter(value))
        return self

    def extend(self, values: Iterable[Any]) -> Self:
        """Adds several parameters at the end."""
        for value in list(values):
            self.append(value)
        return self

    def extra_repr(self) -> str:
        """One line for each parameter."""
        return "\n".join(_describe(name, p) for name, p in self._parameters.items())


class ParameterDict(Module):
    """A dict of parameters that are registered; plain Tensors become Parameters."""

    def __init__(self, parameters: Mapping[str, Any] | Iterable[tuple[str, Any]] | None = None) -> None:
        super().__init__()
        self.update(parameters or ())

    def __getitem__(self, key: str) -> Any:
        return self._parameters[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.register_parameter(key, _as_parameter(value))

    def __delitem__(self, key: str) -> None:
        if key not in self._parameters:
            raise KeyError(key)
        delattr(self, key)

    def __len__(self) -> int:
        return len(self._parameters)

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __contains__(self, key: object) -> bool:
        return key in self._parameters

    def keys(self) -> Iterable[str]:
        """The names."""
        return self._parameters.keys()

    def values(self) -> Iterable[Any]:
        """The parameters."""
        return self._parameters.values()

    def items(self) -> Iterable[tuple[str, Any]]:
        """(name, parameter) pairs."""
        return self._parameters.items()

    def update(self, parameters: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> None:
        """Adds or replaces parameters."""
        for key, value in _pairs(parameters):
            self[key] = value

    def pop(self, key: str) -> Any:
        """Takes a parameter out and returns it."""
        value = self[key]
        del self[key]
        return value

    def clear(self) -> None:
        """Takes all parameters out."""
        for key in list(self._parameters):
            del self[key]

    def extra_repr(self) -> str:
        """One line for each parameter."""
        return "\n".join(_describe(name, p) for name, p in self._parameters.items())
