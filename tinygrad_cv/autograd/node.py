"""The nodes of the autograd graph: what one operator call leaves behind for backward, and nothing more.

A Node refers to the nodes (or leaf tensors) its inputs came from, never to its own output, so a graph holds no reference
cycle and dies with the last tensor that needs it. Sequence numbers grow with time: every node is younger than its inputs,
so descending order is a topological order.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterable
from functools import cached_property
from operator import attrgetter
from types import CodeType
from typing import TYPE_CHECKING, Any

import numpy as np

from .._state import state

if TYPE_CHECKING:
    from .._tensor import Tensor
    from ..registry import Operator

_sequence = itertools.count()


class Storage:
    """The identity of one block of memory, shared by all tensors that view it.

    version counts in-place writes. savers holds, by node, the name of the operator that still needs the memory for backward.
    """

    __slots__ = ("savers", "version")

    def __init__(self) -> None:
        self.version = 0
        self.savers: dict[int, str] = {}


class Constant:
    """A graph input that wants no gradient: described, not kept alive."""

    __slots__ = ("dtype", "name", "shape", "tensor")

    def __init__(self, tensor: Tensor) -> None:
        self.shape = tensor._data.shape
        self.dtype = tensor._data.dtype
        self.name = tensor.name
        self.tensor: weakref.ref[Tensor] | None = weakref.ref(tensor)


class Node:
    """One recorded operator call. Tensors know it as `grad_fn`.

    parents: for each tensor input, the Node it came from, the leaf Tensor itself, a Constant, a Python number or None.
    slots: which output of the parent each input is. shapes, dtypes: of the outputs.
    """

    # Defaults live on the class, so that making a node sets only what differs.
    saved: tuple[tuple[Any, Storage | None, int], ...] = ()
    plan: tuple[tuple[str, int], ...] = ()
    wants: tuple[bool, ...] = ()  # for each input, whether a gradient flows into it
    requires_grad: bool = True
    freed: bool = False
    hooks: dict[int, dict[int, Callable[[Any], Any]]] | None = None
    retained: dict[int, weakref.ref[Tensor]] | None = None
    values: tuple[np.ndarray, ...] | None = None  # of the outputs, kept by a capture only
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[np.dtype[Any], ...]

    def __init__(
        self,
        op: Operator,
        parents: tuple[Any, ...],
        slots: tuple[int, ...],
        attrs: tuple[Any, ...],
        source: tuple[CodeType, int] | None,
    ) -> None:
        self.op = op
        self.parents = parents
        self.slots = slots
        self.attrs = attrs
        self.source = source
        self.id = next(_sequence)
        self.scope = state.scope

    # What a backward rule sees as `ctx` ------------------------------------------------------------------------------

    def name(self) -> str:
        """The operator's name, as PyTorch's `grad_fn.name()`."""
        return self.op.name

    @property
    def needs(self) -> tuple[bool, ...]:
        """For each tensor input, whether a gradient is wanted."""
        return self.wants

    @cached_property
    def input_shapes(self) -> tuple[tuple[int, ...] | None, ...]:
        """Shape of each tensor input (None for an absent one, () for a Python number)."""
        return tuple(
            [
                p.shapes[s] if isinstance(p, Node) else _parent_meta(p, s)[0]
                for p, s in zip(self.parents, self.slots, strict=True)
            ]
        )

    @property
    def input_dtypes(self) -> tuple[np.dtype[Any] | None, ...]:
        """Dtype of each tensor input (None for an absent one or a Python number)."""
        return tuple([_parent_meta(p, s)[1] for p, s in zip(self.parents, self.slots, strict=True)])

    @property
    def next_functions(self) -> tuple[tuple[Any, int], ...]:
        """The parents with the output each input is, as in PyTorch."""
        return tuple(zip(self.parents, self.slots, strict=True))

    # Saved values ----------------------------------------------------------------------------------------------------

    def save(self, plan: tuple[tuple[str, int], ...], tensors: tuple[Any, ...], outputs: tuple[Any, ...]) -> None:
        """Keeps what `plan` asks for and pins its memory against in-place writes until `release`."""
        entries = []
        key = id(self)
        for kind, position in plan:
            value = tensors[position] if kind == "in" else outputs[position]
            if value is None or isinstance(value, (int, float, np.generic)):
                entries.append((value, None, 0))
                continue
            storage = value._storage
            if storage is None:
                storage = value._storage = Storage()
            storage.savers[key] = self.op.name
            entries.append((value._data, storage, storage.version))
        self.plan = plan
        self.saved = tuple(entries)

    def unshare(self, storage: Storage) -> None:
        """Copies what was saved out of `storage`, which is about to be written."""
        if storage.savers.pop(id(self), None) is not None:
            self.saved = tuple((a.copy(), None, 0) if s is storage else (a, s, v) for a, s, v in self.saved)

    def release(self) -> None:
        """Drops what was saved. The structure stays, for pictures."""
        key = id(self)
        for _, storage, _ in self.saved:
            if storage is not None:
                storage.savers.pop(key, None)
        self.saved = ()
        self.freed = True

    def __del__(self) -> None:
        if self.saved:
            self.release()

    def __repr__(self) -> str:
        return f"<{self.op.name} backward>"


def wants_grad(parent: Any) -> bool:
    """Whether a gradient flows into `parent` of a node."""
    return parent is not None and not isinstance(parent, (Constant, int, float)) and parent.requires_grad


def reachable(roots: Iterable[Node], wanting: bool = False) -> list[Node]:
    """The nodes that `roots` were computed by, and `roots`, oldest first; with `wanting` along the ways that gradients flow."""
    seen = set(roots)
    stack = list(seen)
    while stack:
        for parent in stack.pop().parents:
            if isinstance(parent, Node) and parent not in seen and (parent.requires_grad or not wanting):
                seen.add(parent)
                stack.append(parent)
    return sorted(seen, key=_age)


_age = attrgetter("id")


def _parent_meta(parent: Any, slot: int) -> tuple[Any, Any]:
    if isinstance(parent, Node):
        return parent.shapes[slot], parent.dtypes[slot]
    if parent is None:
        return None, None
    if isinstance(parent, (int, float)):
        return (), None
    return parent.shape, parent.dtype


def source_line(code: CodeType, instruction: int) -> tuple[str, int, str]:
    """(file, line number, function) of an instruction, as `dispatch.user_frame` gives it."""
    line = code.co_firstlineno
    for start, stop, number in code.co_lines():
        if start <= instruction < stop and number is not None:
            line = number
            break
    return code.co_filename, line, code.co_qualname


def source_location(node: Node) -> tuple[str, int, str] | None:
    """(file, line number, function) of the user's call that made the node, or None if it was not recorded."""
    return None if node.source is None else source_line(*node.source)


def describe_source(node: Node) -> str:
    """' (called at file:line in function: text)', or the empty string."""
    import linecache

    found = source_location(node)
    if found is None:
        return ""
    filename, line, function = found
    text = linecache.getline(filename, line).strip()
    return f"\n  called at {filename}:{line}, in {function}" + (f": {text}" if text else "")
