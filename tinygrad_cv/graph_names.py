"""Names in graphs: of variables, parameters and calls of modules. For `graph` alone, which offers what is public of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Any

from ._tensor import Tensor
from .autograd.node import Node

_PACKAGE = __name__.partition(".")[0]


def variable_names(frame: FrameType | None = None) -> dict[str, Tensor]:
    """The Tensors among the variables that `frame` (default: the caller's) can name or was called with, by name.

    First its local variables in order of definition, then those of the functions that called it, then the global variables of all
    of them; the first of a name counts. Functions of this package and names that begin with an underscore are left out.
    """
    if frame is None:
        caller = inspect.currentframe()
        frame = caller.f_back if caller is not None else None
    frames = []
    while frame is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0] != _PACKAGE:
            frames.append(frame)
        frame = frame.f_back
    found: dict[str, Tensor] = {}
    places = [f.f_locals for f in frames] + [f.f_globals for f in frames]
    for variables in places:
        for name, value in list(variables.items()):
            if isinstance(value, Tensor) and name.isidentifier() and not name.startswith("_"):
                found.setdefault(name, value)
    return found


def bound_names(
    function: Callable[..., Any], inputs: Sequence[Any], names: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """`names`, and the inputs that it does not name under those of the parameters of `function` that they become."""
    target = getattr(function, "forward", function)
    known = dict(names or {})
    try:
        bound = inspect.signature(target).bind(*inputs).arguments
    except (TypeError, ValueError):
        bound = {f"input{i}": value for i, value in enumerate(inputs)}
    for name, value in bound.items():
        if isinstance(value, Tensor) and not any(value is t for t in known.values()):
            known.setdefault(name, value)
    return known


class Calls:
    """Numbers the calls of modules and composite operators, each of which has a scope object of its own."""

    def __init__(self) -> None:
        self.known: dict[int, tuple[int, ...]] = {id(""): ()}
        self.counts: dict[tuple[int, str], int] = {}

    def of(self, scope: str) -> tuple[int, ...]:
        """For each part of `scope`, how many calls of it were met before within the same call of what surrounds it."""
        chain = []
        while scope and id(scope) not in self.known:
            chain.append(scope)
            scope = getattr(scope, "outer", "")
        numbers = self.known[id(scope)] if scope else ()
        outer = scope
        for scope in reversed(chain):
            modules, *composites = scope.split("/")
            parts = (modules.count(".") + 1 if modules else 0) + len(composites)
            key = (id(outer) if outer else 0, scope)
            count = self.counts[key] = self.counts.get(key, -1) + 1
            numbers = self.known[id(scope)] = (*numbers, *(0,) * (parts - len(numbers) - 1), count)
            outer = scope
        return numbers


class Names:
    """The user's names of leaves and of operator results."""

    def __init__(self, variables: Mapping[str, Tensor], module: Any) -> None:
        self.by_leaf: dict[int, str] = {}
        self.by_node: dict[tuple[Node, int], str] = {}
        self.buffers = {id(b) for b in module.buffers()} if module is not None else set()
        named = list(module.named_parameters()) + list(module.named_buffers()) if module is not None else []
        for name, tensor in [*variables.items(), *named]:
            if tensor._node is not None:
                self.by_node.setdefault((tensor._node, tensor._slot), name)
            else:
                self.by_leaf.setdefault(id(tensor), name)

    def of_node(self, node: Node) -> str | None:
        """The name of the first result of an operator."""
        return self.by_node.get((node, 0))

    def of_leaf(self, tensor: Tensor, scope: str) -> str | None:
        """The name of a leaf that is used in `scope`."""
        known = self.by_leaf.get(id(tensor))
        if known is not None or tensor.name is None:
            return known
        place = scope.split("/")[0]
        return f"{place}.{tensor.name}" if place and "." not in tensor.name else tensor.name


__all__ = ["Calls", "Names", "bound_names", "variable_names"]
